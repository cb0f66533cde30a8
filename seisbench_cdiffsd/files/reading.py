"""Seismograms in files: what they contain, and how any stretch of it is read, without damaged records."""

import glob
import hashlib
import io
import math
import os
import stat
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import obspy
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime
from obspy.core.util.base import ENTRY_POINTS

from seisbench_cdiffsd.files.console import one_line, printable
from seisbench_cdiffsd.streams.example import noisy_example
from seisbench_cdiffsd.streams.pieces import HIGHEST_RATE, SAME_RATE

#: Stands for :py:func:`noisy_example` in place of a file.
EXAMPLE = Path("example")
#: Bytes of a miniSEED file to read at once.
BLOCK = 2**23
#: miniSEED records begin at multiples of these bytes; their lengths are powers of two.
STEP = 128
#: Seconds without a sample that separate two spans of a channel.
LONG_GAP = 3600.0
#: Rates in Hz, and years, that are believed.
RATES, YEARS = (1e-4, HIGHEST_RATE), (1900, 2100)
#: Fraction of the sampling interval by which the time of a sample may differ between readings, as miniSEED counts in
#: 0.1 ms: below a half, so samples half way between two times are safe too.
JITTER = 0.3
#: The ratio of two rates of which one is an error; and that to the rate which times of records tell, if there are so
#: many with equal steps.
ABSURD_RATIO, WRONG_RATIO, STEPS = 100.0, 1.1, 10
#: What is reported of files with damaged records.
DAMAGED_RECORDS = "damaged records were left out"
#: The most samples that a byte holds, by miniSEED's number of the encoding.
SAMPLES_PER_BYTE = np.full(256, 8.0)
SAMPLES_PER_BYTE[[0, 1, 2, 3, 4, 5, 10, 11]] = 1, 1 / 2, 1 / 3, 1 / 4, 1 / 4, 1 / 8, 60 / 64, 105 / 64


class ReadError(ValueError):
    """A file cannot be read; the message is one line."""


class Unavailable(ReadError):
    """A file cannot be read now, but may be readable later, unchanged."""


@dataclass(frozen=True)
class Span:
    """A stretch of one channel without a long gap: id, times of the first and the last sample, rate in Hz, samples."""

    id: str
    start: UTCDateTime
    end: UTCDateTime
    rate: float
    samples: int = 0
    timed: float = 0.0  # rate that the times of records tell, if it is another one


@dataclass(frozen=True)
class Block:
    """A part of a file that can be read by itself."""

    path: Path
    spans: tuple[Span, ...]
    offset: int = 0  # first byte
    length: int = 0  # bytes, or 0 for a file in another format than miniSEED, which is read as a whole
    problems: tuple[tuple[str, str], ...] = ()  # what is wrong with it: the id of a channel, or "" for any, and a line

    def read(self, start: UTCDateTime | None = None, end: UTCDateTime | None = None) -> tuple[Stream, bool]:
        """Traces between two times, and whether there are damaged records, which are left out; or raise ReadError."""
        damaged = False
        if self.length:
            with _opened(self.path) as file:
                file.seek(self.offset)
                data = file.read(self.length)
            sound, lengths, _, damaged = _records(data)
            stream, failed = _decoded(sound, lengths, starttime=start, endtime=end)
            damaged |= failed or len(data) < self.length
        else:
            stream = _read(self.path, starttime=start, endtime=end)
        known = {(span.id, span.rate) for span in self.spans}
        believed = [x for x in stream if any(x.id == id_ and _same(x.stats.sampling_rate, r) for id_, r in known)]
        return Stream(believed), damaged


def index(path: Path, block: int = BLOCK) -> list[Block]:
    """
    The parts of a file in any format that ObsPy reads, except Python's pickle, which could run code; or of `EXAMPLE`.
    Any block of a miniSEED file can be read alone. What headers say against reason, or against the bytes that are
    there, is left out and listed. Files without samples raise ReadError.
    """
    if path == EXAMPLE:
        return [Block(path, _spans(_read(path)))]
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise ReadError("is empty (0 bytes).")
        parts = list(_blocks(path, file, size, block))
    if not parts:
        stream = _read(path, headonly=True)
        if sum(trace.stats.npts for trace in stream) > SAMPLES_PER_BYTE.max() * size:
            stream = _read(path)  # more samples than bytes can hold: believe only those that are there
        parts = [Block(path, _spans(stream))]
    parts = _believed(parts)
    if not any(part.spans for part in parts):
        reasons = sorted({line for part in parts for _, line in part.problems})
        raise ReadError(f"contains no samples{''.join(f'; {reason}' for reason in reasons)}.")
    return parts


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, but no folder, nor what could block or have no end, as a pipe or a device."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ReadError("is a folder. Name the files in it.")
        if not stat.S_ISREG(mode):
            raise ReadError("is a pipe or a device. Copy what it gives into a file.")
        with path.open("rb") as file:
            yield file
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unavailable("no such file.") from error
    except OSError as error:
        raise Unavailable(f"cannot be read: {error.strerror or one_line(error)}.") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without ObsPy's warnings, nor the tracebacks that Python prints where libmseed says what is no text."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = hook


def _blocks(path: Path, file: BinaryIO, size: int, step: int) -> Iterator[Block]:
    """The blocks of a miniSEED file; none for files of which less than half is records."""
    blocks, offset, covered, length = [], 0, 0, step
    while offset < size:
        file.seek(offset)
        data = file.read(length)
        if not data:  # it was cut meanwhile
            break
        sound, lengths, used, damaged = _records(data, last=offset + length >= size)
        if not used:  # a record is longer
            length *= 2
            continue
        stream, failed = _decoded(sound, lengths, headonly=True)
        problems = (("", DAMAGED_RECORDS),) if damaged or failed else ()
        blocks.append(Block(path, _spans(stream, _timed(stream, sound, lengths)), offset, used, problems))
        offset, covered, length = offset + used, covered + len(sound), step
    if 2 * covered >= size:
        yield from blocks


def _records(data: bytes, last: bool = True) -> tuple[bytes, NDArray[np.int64], int, bool]:
    """
    The sound records in bytes of a miniSEED file, as ObsPy fails on others, or believes them; their lengths; the bytes
    up to the end or, if there are more, to a last record that is not complete; and whether something is damaged.
    """
    rows = np.frombuffer(data, np.uint8, len(data) // STEP * STEP).reshape(-1, STEP)
    digits, kind = rows[:, :6], rows[:, 6]
    numbered = (((digits >= 48) & (digits <= 57)) | (digits == 32) | (digits == 0)).all(axis=1)
    control = numbered & np.isin(kind, list(b"VAST"))  # headers of volumes, as in full SEED
    marked = numbered & np.isin(kind, list(b"DRQM"))
    marks = np.flatnonzero(marked | control)
    start, after = marks[marked[marks]], np.append(marks[1:], len(rows))[marked[marks]]
    valid, length, wanted = _headers(rows[start])
    stop = np.where(length > 0, start + length, after)
    used, complete = len(data) if last else len(rows) * STEP, np.ones(len(start), bool)
    if not last and len(start) and valid[-1] and start[-1] == marks[-1] and (not length[-1] or stop[-1] > len(rows)):
        used, complete[-1] = int(start[-1]) * STEP, False
    good = complete & valid & (stop <= after) & (wanted <= (stop - start) * STEP)
    # what lies between good records is damaged, unless it begins with a control header, or a blank record
    ends = np.append(0, stop[good])
    gaps = ends[ends < np.append(start[good], used // STEP)]
    harmless = control[gaps] | (rows[gaps, 6:48] == 32).all(axis=1)
    damaged = bool((complete & ~good).any() or not harmless.all() or used % STEP)
    edges = np.zeros(len(rows) + 1, np.int8)
    np.add.at(edges, start[good], 1)
    np.add.at(edges, stop[good], -1)
    return rows[edges.cumsum()[:-1] > 0].tobytes(), (stop - start)[good] * STEP, used, damaged


def _headers(heads: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.float64]]:
    """Which headers are valid, lengths of the records in `STEP`, 0 if unknown, and the least bytes for the samples."""
    heads = np.ascontiguousarray(heads)
    words = heads.view(">u2").astype(np.int64)
    swapped = ~_is_date(words)
    words[swapped] = heads.view("<u2")[swapped]
    codes, (hour, minute, second) = heads[:, 8:20], heads[:, 24:27].T
    samples, data, kind = words[:, 15], words[:, 22], words[:, 24]
    stated = (kind == 1000) & (words[:, 23] == 48)  # blockette 1000, the first one of nearly all records
    encoding, exponent = np.where(stated, heads[:, 52], 255), np.where(stated, heads[:, 54], 7)
    letters = (((codes >= 32) & (codes < 127)) | (codes == 0)).all(axis=1)
    valid = letters & _is_date(words) & (hour < 24) & (minute < 60) & (second <= 60) & (exponent >= 7) & (exponent < 21)
    valid &= (samples == 0) | (data >= 48)
    length = np.where(stated & valid, 2 ** np.clip(exponent.astype(np.int64) - 7, 0, 13), 0)
    return valid, length, np.where(samples > 0, data + samples / SAMPLES_PER_BYTE[encoding], 0)


def _is_date(words: NDArray[np.int64]) -> NDArray[np.bool_]:
    year, day = words[:, 10], words[:, 11]
    return (YEARS[0] <= year) & (year <= YEARS[1]) & (day >= 1) & (day <= 366)


def _decoded(data: bytes, lengths: NDArray[np.int64], **kwargs: Any) -> tuple[Stream, bool]:
    """Traces of all records that can be decoded, if need be half by half, and whether records were left out."""
    if not len(lengths):
        return Stream(), False
    try:
        with _quiet():
            warnings.filterwarnings("error", message=".*integrity")  # ObsPy only warns of wrong samples
            return obspy.read(io.BytesIO(data), format="MSEED", **kwargs), False
    except Exception as error:  # ObsPy's reader raises errors of all kinds
        if "No matching data" in str(error) or "nothing to read" in str(error).lower():
            return Stream(), False
    if len(lengths) == 1:
        return Stream(), True
    half = len(lengths) // 2
    byte = int(lengths[:half].sum())
    first, _ = _decoded(data[:byte], lengths[:half], **kwargs)
    second, _ = _decoded(data[byte:], lengths[half:], **kwargs)
    return first + second, True


def _read(path: Path, **kwargs: Any) -> Stream:
    if path == EXAMPLE:
        return noisy_example().slice(kwargs.get("starttime"), kwargs.get("endtime"))
    with _opened(path) as file:  # only what can be read to its end
        # lines of GSE data are up to 82 bytes; beyond them ObsPy writes where it must not, and the process dies
        gse = file.read(4) in (b"WID1", b"WID2", b"XW01") and file.readline()
        if gse and any(len(line) > 82 and not line.startswith((b"WID", b"XW0", b"STA")) for line in file):
            raise ReadError("is damaged: GSE data have lines of up to 82 bytes.")
    # to recognise a file of its format PICKLE, ObsPy loads it, which runs the code in it
    pickles = ENTRY_POINTS["waveform"].pop("PICKLE", None)
    try:
        with _quiet():
            return obspy.read(glob.escape(str(path)), **kwargs)
    except Exception as error:  # ObsPy's readers raise errors of all kinds
        reason = one_line(error).rstrip(".")
        system = isinstance(error, OSError) and error.errno  # without a number, it is a reader's verdict on the content
        raise (Unavailable if system else ReadError)(
            f"cannot be read as seismograms: {reason}. Use miniSEED, SAC or another format that ObsPy reads."
        ) from error
    finally:
        if pickles is not None:
            ENTRY_POINTS["waveform"]["PICKLE"] = pickles


def _same(rate: float, other: float) -> bool:
    return abs(rate - other) <= SAME_RATE * other


def _differ(rate: float, other: float, ratio: float) -> bool:
    return max(rate, other) > ratio * min(rate, other)


def _timed(stream: Stream, data: bytes, lengths: NDArray[np.int64]) -> dict[str, float]:
    """Rates of channels of which no two records touch, but begin in steps as if they did at another rate."""
    found: dict[str, float] = {}
    if len(stream) <= STEPS:
        return found
    heads = Counter(data[i + 8 : i + 20] for i in lengths.cumsum() - lengths)
    channels: dict[tuple[str, bytes], list[tuple[int, int]]] = defaultdict(list)
    for trace in stream:
        x = trace.stats
        code = f"{x.station:5}{x.location:2}{x.channel:3}{x.network:2}".encode()
        channels[trace.id, code].append((x.starttime.ns, x.npts))
    for (name, code), own in channels.items():
        if STEPS < len(own) == heads[code]:
            starts, samples = np.array(sorted(own)).T
            steps = np.diff(starts) / samples[:-1]
            if np.median(steps) > 0 and np.mean(abs(steps / np.median(steps) - 1) < 0.01) > 0.9:
                found[name] = 1e9 / float(np.median(steps))
    return found


def _spans(stream: Stream, timed: Mapping[str, float] | None = None) -> tuple[Span, ...]:
    spans: dict[str, list[Span]] = defaultdict(list)
    samples = [x for x in stream if x.stats.npts and x.stats.get("mseed", {}).get("encoding") != "ASCII"]
    for trace in sorted(samples, key=lambda trace: trace.stats.starttime):
        stats, own = trace.stats, spans[trace.id]
        told = (timed or {}).get(trace.id, 0.0)
        new = Span(trace.id, stats.starttime, stats.endtime, float(stats.sampling_rate), stats.npts, told)
        known = next((x for x in reversed(own) if _same(new.rate, x.rate)), None)
        if known and new.start - known.end <= LONG_GAP:
            own.remove(known)
            new = Span(trace.id, known.start, max(known.end, new.end), known.rate, known.samples + new.samples, told)
        own.append(new)
    return tuple(span for known in spans.values() for span in known)


def _believed(parts: list[Block]) -> list[Block]:
    """Without impossible rates and times, and rates absurd beside the usual one of the channel; with what is odd."""
    spans = [span for part in parts for span in part.spans]
    denied = {(x.id, x.rate): x.timed for x in spans if x.timed and _differ(x.rate, x.timed, WRONG_RATIO)}
    samples: Counter[tuple[str, float]] = Counter()
    for span in spans:
        if RATES[0] <= span.rate <= RATES[1] and (span.id, span.rate) not in denied:
            samples[span.id, span.rate] += span.samples
    usual = {id_: rate for (id_, rate), _ in sorted(samples.items(), key=lambda item: item[1])}

    def oddity(span: Span) -> tuple[bool, str]:
        """Whether a span is to be left out, and what is odd about it, if anything is."""
        rate, best, told = span.rate, usual.get(span.id, span.rate), denied.get((span.id, span.rate))
        first, last = (1970 + time.ns / (365.2425 * 86400e9) for time in (span.start, span.end))
        if not RATES[0] <= rate <= RATES[1]:
            return True, f"at {rate:g} Hz"
        if told:
            return True, f"at {rate:g} Hz, while their times tell {told:.4g} Hz,"
        if first < YEARS[0] or last > YEARS[1]:
            return True, f"of the years {first:.4g} to {last:.4g}"
        return _differ(rate, best, ABSURD_RATIO), "" if _same(rate, best) else f"at {rate:g} Hz beside {best:g} Hz"

    judged = []
    for part in parts:
        kept, problems = [], list(part.problems)
        for span in part.spans:
            wrong, odd = oddity(span)
            kept += [] if wrong else [span]
            if odd:
                problems.append((span.id, f"{printable(span.id)}: samples {odd}{' were left out' if wrong else ''}"))
        judged.append(replace(part, spans=tuple(kept), problems=tuple(dict.fromkeys(problems))))
    return judged


class Source:
    """The samples of some channels in parts of files, at more than `least` Hz."""

    def __init__(self, parts: Sequence[Block], ids: Iterable[str], least: float = 0.0) -> None:
        self.ids, self.least = set(ids), least
        self.parts = [part for part in parts if self._own(part)]
        owned = [self._own(part) for part in self.parts]
        #: Spans of the channels, in order of time.
        self.spans = sorted(chain(*owned), key=lambda span: span.start)
        # times of each part, so a stretch of one of many files is found quickly
        self._starts = np.array([min(span.start.ns for span in own) for own in owned], dtype=np.int64)
        self._ends = np.array([max(span.end.ns for span in own) for own in owned], dtype=np.int64)
        #: Files that were not read completely, or hold something odd, and why.
        self.problems: dict[Path, str] = {}
        #: Those of them that may be readable later.
        self.unavailable: set[Path] = set()
        paths = {part.path for part in self.parts}
        for part in parts:
            if part.path in paths and not part.spans:
                self._note(part, *part.problems)
            for span in part.spans:
                if span.rate <= least:
                    self._note(part, (span.id, f"{printable(span.id)}: samples at {span.rate:g} Hz were left out"))

    def _own(self, part: Block) -> list[Span]:
        return [span for span in part.spans if span.id in self.ids and span.rate > self.least]

    def _note(self, part: Block, *problems: tuple[str, str]) -> None:
        """Add what concerns the channels to the problems of a file."""
        known = [x for x in self.problems.get(part.path, "").split("; ") if x]
        known += [line for id_, line in problems if id_ in self.ids or not id_]
        if known:
            self.problems[part.path] = "; ".join(dict.fromkeys(known))

    def within(self, start: UTCDateTime, end: UTCDateTime) -> list[Block]:
        """The parts with samples between two times."""
        near = np.flatnonzero((self._starts <= end.ns) & (self._ends >= start.ns))
        parts = (self.parts[i] for i in near)
        return [x for x in parts if any(span.start <= end and span.end >= start for span in self._own(x))]

    def read(self, start: UTCDateTime, end: UTCDateTime) -> Stream:
        """Samples between two times; files that cannot be read are left out, and listed in `problems`."""
        stream = Stream()
        for part in self.within(start, end):
            try:
                traces, damaged = part.read(start, end)
            except ReadError as error:
                self._note(part, ("", str(error).rstrip(".")))
                self.unavailable |= {part.path} if isinstance(error, Unavailable) else set()
                continue
            self._note(part, *part.problems, *([("", DAMAGED_RECORDS)] if damaged else []))
            stream += Stream([x for x in traces if x.id in self.ids and len(x) and x.stats.sampling_rate > self.least])
        return stream


def between(trace: Trace, start: UTCDateTime, end: UTCDateTime) -> Trace:
    """A view of a trace from `start` to before `end`: adjacent stretches neither share samples nor lose any."""
    rate, origin = trace.stats.sampling_rate, trace.stats.starttime
    first, stop = (min(max(math.ceil((time - origin) * rate - JITTER), 0), len(trace)) for time in (start, end))
    part = Trace(header=trace.stats.copy())
    part.data = trace.data[first : max(stop, first)]
    part.stats.sampling_rate = rate  # after the interval, of which ObsPy makes another rate
    part.stats.starttime = origin + first / rate
    return part


def state(path: Path) -> tuple[str, int, int]:
    """Name, size in bytes and time of the last change in ns of a file; a missing file has the size -1."""
    with suppress(OSError):
        known = path.stat()
        return path.name, known.st_size, known.st_mtime_ns
    return path.name, -1, 0


def contents(path: Path) -> str:
    """SHA-256 of what is in a file, which :py:func:`state` does not see; raises ReadError if it cannot be read."""
    total = hashlib.sha256()
    with _opened(path) as file:
        while data := file.read(2**20):
            total.update(data)
    return total.hexdigest()
