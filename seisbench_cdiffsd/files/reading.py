"""Seismograms in files: what they contain, and how any stretch of it is read, without damaged records."""

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

from seisbench_cdiffsd.files.console import one_line

#: Bytes of a miniSEED file to read at once.
BLOCK = 2**24
#: Possible lengths of miniSEED records, in bytes.
RECORD_LENGTHS = [2**n for n in range(7, 17)]
#: Seconds without a sample that separate two spans of a channel.
LONG_GAP = 3600.0
#: What is reported of files with damaged records.
DAMAGED_RECORDS = "damaged records were left out"
#: Bytes by which a record is recognised.
HEADER = 56


class ReadError(ValueError):
    """A file cannot be read; the message is one line."""


class Unavailable(ReadError):
    """A file cannot be read now, but may be readable later, unchanged."""


@dataclass(frozen=True)
class Span:
    """A stretch of one channel without a long gap: id, times of the first and the last sample, rate in Hz."""

    id: str
    start: UTCDateTime
    end: UTCDateTime
    rate: float


@dataclass(frozen=True)
class Block:
    """
    A part of a file that can be read by itself.

    :param path: File
    :param spans: What it contains
    :param offset: First byte
    :param length: Bytes, or 0 for a file in another format than miniSEED, which is read as a whole
    :param record: Bytes of a record
    :param damaged: Number of records known to be damaged
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

        :return: Traces, and the number of damaged records, which are left out
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
    """A stream in memory, read like a block of a file."""

    stream: Stream
    path: Path
    damaged: int = 0

    @property
    def spans(self) -> tuple[Span, ...]:
        """What it contains."""
        return _spans(self.stream)

    def read(self, start: UTCDateTime | None = None, end: UTCDateTime | None = None) -> tuple[Stream, int]:
        """Samples between two times."""
        return self.stream.slice(start, end), 0


Readable = Block | Held


def index(path: Path, block: int = BLOCK) -> list[Readable]:
    """
    Look up what a file contains. miniSEED files are indexed by block, so any stretch of a long one can be read alone.

    :param path: File in any format that ObsPy reads, except Python's pickle, which could run code
    :param block: Bytes of a miniSEED file to read at once
    :return: Its parts
    :raises ReadError: If the file does not exist, is empty, cannot be read, or contains no samples
    """
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            raise ReadError("is a folder. Name the files in it.")
        if path.is_file() and not path.stat().st_size:
            raise ReadError("is empty (0 bytes).")
        record = _record_length(path)
        if not record:
            parts: list[Readable] = [Block(path, _spans(_read(path, headonly=True)))]
        else:
            parts = list(_blocks(path, record, max(block // record, 1) * record))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unavailable("no such file.") from error
    except OSError as error:
        raise Unavailable(f"cannot be read: {error.strerror}.") from error
    if not any(part.spans for part in parts):
        raise ReadError("contains no samples.")
    return parts


def _record_length(path: Path) -> int:
    """
    Bytes of the records of a miniSEED file; 0 for other formats, and if the records differ in length.

    A few damaged records do not matter, even if the first one is among them.
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
            # blockette 1000, the first one of nearly all records, has the length of the record
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
    """Which of the records, (record, byte), have a valid header; ObsPy fails on others, or skips them."""
    number, codes, hour, minute = records[:, :6], records[:, 8:20], records[:, 24], records[:, 25]
    digits = (((number >= 48) & (number <= 57)) | (number == 32) | (number == 0)).all(axis=1)
    letters = (((codes >= 32) & (codes < 127)) | (codes == 0)).all(axis=1)
    return digits & letters & np.isin(records[:, 6], list(b"DRQM")) & (hour < 24) & (minute < 60)


def _sound(data: bytes, record: int, **kwargs: Any) -> tuple[Stream, int]:
    """
    Decode all records that can be. If the whole cannot be decoded, its halves are tried separately.

    :param data: miniSEED records of one length
    :param record: This length in bytes
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
            warnings.filterwarnings("error", message=".*integrity")  # ObsPy only warns of wrong samples
            return obspy.read(io.BytesIO(data), format="MSEED", **kwargs), damaged
    except Exception as error:  # ObsPy's reader raises errors of all kinds
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
    except Exception as error:  # ObsPy's readers raise errors of all kinds
        reason = one_line(error).rstrip(".")
        system = isinstance(error, OSError) and error.errno  # without a number, it is a reader's verdict on the content
        raise (Unavailable if system else ReadError)(
            f"cannot be read as seismograms: {reason}. Use miniSEED, SAC or another format that ObsPy reads."
        ) from error


@contextmanager
def _no_pickles() -> Iterator[None]:
    """Disable ObsPy's format PICKLE: to recognise such a file, ObsPy loads it, which runs the code in it."""
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
            if known and start - known[-1].end <= LONG_GAP:
                start, end = known[-1].start, max(known.pop().end, end)
            known.append(Span(trace.id, start, end, rate))
    return tuple(span for known in spans.values() for span in known)


class Source:
    """
    The samples of some channels in any number of files.

    :param parts: Parts of files
    :param ids: Ids of the channels
    """

    def __init__(self, parts: Sequence[Readable], ids: Iterable[str]) -> None:
        self.ids = set(ids)
        self.parts = [part for part in parts if any(span.id in self.ids for span in part.spans)]
        #: Files that were not read completely, and why.
        self.problems: dict[Path, str] = {}
        #: Those of them that may be readable later.
        self.unavailable: set[Path] = set()
        paths = {part.path for part in self.parts}
        for part in parts:
            if part.path in paths and part.damaged and not part.spans:
                self.problems[part.path] = DAMAGED_RECORDS

    @property
    def spans(self) -> list[Span]:
        """Spans of the channels, in order of time."""
        spans = (span for part in self.parts for span in part.spans if span.id in self.ids)
        return sorted(spans, key=lambda span: span.start)

    def read(self, start: UTCDateTime, end: UTCDateTime) -> Stream:
        """Samples between two times; files that cannot be read are left out, and listed in `problems`."""
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
                self.problems[part.path] = DAMAGED_RECORDS
            stream += Stream([trace for trace in traces if trace.id in self.ids and trace.stats.npts])
        return stream


def state(path: Path) -> tuple[str, int, int]:
    """Name, size in bytes and time of the last change in ns of a file; a missing file has the size -1."""
    try:
        known = os.stat(path)
    except OSError:
        return path.name, -1, 0
    return path.name, known.st_size, known.st_mtime_ns
