"""Seismograms in files: what they hold, and any stretch of it; damaged records are left out."""

from __future__ import annotations

import glob
import io
import os
import stat
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import obspy
from numpy.typing import NDArray
from obspy import Stream, UTCDateTime
from obspy.core.util.base import ENTRY_POINTS

#: Bytes of a miniSEED file that are read at once.
BLOCK = 2**24
#: Lengths that miniSEED records have, in bytes.
RECORD_LENGTHS = [2**n for n in range(7, 17)]
#: Seconds without a sample after which a channel's next one belongs to another span.
APART = 3600.0
#: What is said of files that have them.
DAMAGED = "damaged records were left out"
#: Bytes of a record that are looked at to recognise it.
HEADER = 56


class ReadError(ValueError):
    """A file that cannot be read, in one line."""


class Unavailable(ReadError):
    """A file that cannot be read now, but perhaps another time, though it stays as it is."""


@dataclass(frozen=True)
class Span:
    """What a block holds of one channel, up to a long gap: id, times of the first and the last sample, rate in Hz."""

    id: str
    start: UTCDateTime
    end: UTCDateTime
    rate: float


@dataclass(frozen=True)
class Block:
    """
    A part of a file that can be read by itself.

    :param path: File
    :param spans: What it holds
    :param offset: First byte
    :param length: Bytes, or 0 for a file of another format than miniSEED, which is read as a whole
    :param record: Bytes of a record
    :param damaged: How many records are known to be damaged
    """

    path: Path
    spans: tuple[Span, ...]
    offset: int = 0
    length: int = 0
    record: int = 0
    damaged: int = 0

    def read(self, start: UTCDateTime | None = None, end: UTCDateTime | None = None) -> tuple[Stream, int]:
        """
        Samples between two times.

        :return: Traces, and how many records were damaged and left out
        :raises ReadError: If the file cannot be read
        """
        if not self.length:
            return _read(self.path, starttime=start, endtime=end), 0
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.length)
        except OSError as error:
            raise Unavailable(f"cannot be read: {error.strerror}") from error
        return _sound(data, self.record, starttime=start, endtime=end)


@dataclass(frozen=True)
class Held:
    """A stream in memory that is read like a block of a file."""

    stream: Stream
    path: Path
    damaged: int = 0

    @property
    def spans(self) -> tuple[Span, ...]:
        """What it holds."""
        return _spans(self.stream)

    def read(self, start: UTCDateTime | None = None, end: UTCDateTime | None = None) -> tuple[Stream, int]:
        """Samples between two times."""
        return self.stream.slice(start, end), 0


Part = Block | Held


def index(path: Path, block: int = BLOCK) -> list[Part]:
    """
    What a file holds. Of miniSEED files only the headers are kept, so that any stretch of a long one can be read alone.

    :param path: File in any format that ObsPy reads, but Python's pickle, which could run code
    :param block: Bytes of a miniSEED file that are read at once
    :return: Its parts
    :raises ReadError: If there is no such file, or it cannot be read, or it holds no samples
    """
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            raise ReadError("is a folder. Give the files in it.")
        record = _record_length(path)
        if not record:
            parts: list[Part] = [Block(path, _spans(_read(path, headonly=True)))]
        else:
            parts = list(_blocks(path, record, max(block // record, 1) * record))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unavailable("no such file.") from error
    except OSError as error:
        raise Unavailable(f"cannot be read: {error.strerror}.") from error
    if not any(part.spans for part in parts):
        raise ReadError("holds no samples.")
    return parts


def _record_length(path: Path) -> int:
    """
    Bytes of the records of a miniSEED file; 0 for other formats, and where records differ in length.

    A damaged record here or there does not matter, the first one neither.
    """
    try:
        content = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError):
        return 0
    for record in RECORD_LENGTHS:
        starts = np.arange(0, len(content) - HEADER, record)
        if not len(starts):
            break
        records = content[starts[:, None] + np.arange(HEADER)]
        good = _has_header(records)
        if good.mean() > 0.75:
            # blockette 1000, which is the first of nearly all, says how long its record is
            kinds = records[good][:, 48:50].astype(int)
            stated = records[good][np.isin(kinds @ (256, 1), (1000, 0xE803)), 54]
            return record if not len(stated) or (stated == np.log2(record)).mean() > 0.99 else 0
    return 0


def _blocks(path: Path, record: int, step: int) -> Iterator[Block]:
    with path.open("rb") as file:
        for offset in range(0, path.stat().st_size, step):
            data = file.read(step)
            stream, damaged = _sound(data, record, headonly=True)
            yield Block(path, _spans(stream), offset, len(data), record, damaged)


def _has_header(records: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of the records, (record, byte), begin as the format demands; ObsPy stumbles over others, or skips them."""
    number, codes, hour, minute = records[:, :6], records[:, 8:20], records[:, 24], records[:, 25]
    digits = (((number >= 48) & (number <= 57)) | (number == 32) | (number == 0)).all(axis=1)
    letters = (((codes >= 32) & (codes < 127)) | (codes == 0)).all(axis=1)
    return digits & letters & np.isin(records[:, 6], list(b"DRQM")) & (hour < 24) & (minute < 60)


def _sound(data: bytes, record: int, **kwargs: Any) -> tuple[Stream, int]:
    """
    The records that can be decoded. Halves are read by themselves where the whole cannot.

    :param data: miniSEED records of one length
    :param record: This length
    :return: Traces, and the number of records that were left out
    """
    complete = len(data) // record * record
    records = np.frombuffer(data[:complete], dtype=np.uint8).reshape(-1, record)
    good = _has_header(records)
    damaged = int((~good).sum()) + (complete < len(data))
    if damaged:
        data = records[good].tobytes()
    if not data:
        return Stream(), damaged
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message=".*integrity")  # samples that do not add up are but a warning
            return obspy.read(io.BytesIO(data), format="MSEED", **kwargs), damaged
    except Exception as error:  # ObsPy's reader raises all kinds
        if "No matching data" in str(error) or "nothing to read" in str(error).lower():
            return Stream(), damaged
        if len(data) <= record:
            return Stream(), damaged + 1
    half = len(data) // record // 2 * record
    (first, one), (second, other) = (_sound(part, record, **kwargs) for part in (data[:half], data[half:]))
    return first + second, damaged + one + other


def _read(path: Path, **kwargs: Any) -> Stream:
    try:
        with _no_pickles(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return obspy.read(glob.escape(str(path)), **kwargs)
    except Exception as error:  # ObsPy's readers raise all kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        reason = reason.rstrip(".")
        passing = isinstance(error, OSError) and error.errno  # or else a reader says so of what it found
        raise (Unavailable if passing else ReadError)(
            f"cannot be read as seismograms: {reason}. Give miniSEED, SAC or another format that ObsPy reads."
        ) from error


@contextmanager
def _no_pickles() -> Iterator[None]:
    """Without ObsPy's format PICKLE: to recognise a file as such, ObsPy loads it, which runs the code in it."""
    formats = ENTRY_POINTS["waveform"]
    pickles = formats.pop("PICKLE", None)
    try:
        yield
    finally:
        if pickles is not None:
            formats["PICKLE"] = pickles


def _spans(stream: Stream) -> tuple[Span, ...]:
    spans: dict[tuple[str, float], list[Span]] = defaultdict(list)
    for trace in sorted(stream, key=lambda trace: trace.stats.starttime):
        if trace.stats.npts:
            rate = float(trace.stats.sampling_rate)
            start, end, known = trace.stats.starttime, trace.stats.endtime, spans[trace.id, rate]
            if known and start - known[-1].end <= APART:
                start, end = known[-1].start, max(known.pop().end, end)
            known.append(Span(trace.id, start, end, rate))
    return tuple(span for known in spans.values() for span in known)


class Source:
    """
    The samples of some channels in any number of files, read stretch by stretch.

    :param parts: Parts of files
    :param ids: Ids of the channels
    """

    def __init__(self, parts: Sequence[Part], ids: Iterable[str]) -> None:
        self.ids = set(ids)
        self.parts = [part for part in parts if any(span.id in self.ids for span in part.spans)]
        #: Files that were not read in full, and why.
        self.problems: dict[Path, str] = {}
        #: Those of them that may be read another time.
        self.unavailable: set[Path] = set()
        paths = {part.path for part in self.parts}
        for part in parts:
            if part.path in paths and part.damaged and not part.spans:
                self.problems[part.path] = DAMAGED

    @property
    def spans(self) -> list[Span]:
        """What there is of the channels, in order of time."""
        spans = (span for part in self.parts for span in part.spans if span.id in self.ids)
        return sorted(spans, key=lambda span: span.start)

    def read(self, start: UTCDateTime, end: UTCDateTime) -> Stream:
        """Samples between two times; files that cannot be read are left out, and noted in `problems`."""
        stream = Stream()
        for part in self.parts:
            if not any(span.id in self.ids and span.start <= end and span.end >= start for span in part.spans):
                continue
            try:
                traces, damaged = part.read(start, end)
            except ReadError as error:
                self.problems[part.path] = str(error)
                self.unavailable |= {part.path} if isinstance(error, Unavailable) else set()
                continue
            if damaged or part.damaged:
                self.problems[part.path] = DAMAGED
            stream += Stream([trace for trace in traces if trace.id in self.ids and trace.stats.npts])
        return stream


def state(path: Path) -> tuple[str, int, int]:
    """Name, size in bytes and time of the last change in ns of a file; a missing file has the size -1."""
    try:
        known = os.stat(path)
    except OSError:
        return path.name, -1, 0
    return path.name, known.st_size, known.st_mtime_ns
