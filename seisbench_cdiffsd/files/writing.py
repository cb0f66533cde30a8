"""Files written completely or not at all, and seismograms in miniSEED, with the losses of its encodings."""

import glob
import io
import math
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from obspy import Stream, Trace

from seisbench_cdiffsd.files.console import one_line, printable

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

#: Steim's second scheme holds differences of 30 bits, sign included: samples must be below this.
TOO_LARGE = 2**28
#: Maximum lengths of the codes in miniSEED.
CODE_LENGTHS = {"network": 2, "station": 5, "location": 2, "channel": 3}


class Unwritable(ValueError):
    """Samples that an encoding cannot hold."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    A temporary path in the same folder, renamed to `path` at the end, and removed after a failure. What killed runs
    left for this path is removed too, but not what live runs write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.stem)}.{8 * '[0-9a-f]'}.part{glob.escape(path.suffix)}"):
        with suppress(OSError), left.open("rb") as abandoned:
            _lock(abandoned)
            left.unlink()
    temporary, file = _open_temporary(path)
    try:
        with file:
            yield temporary
            os.fsync(file.fileno())  # otherwise a power cut may leave the name without the content
            if fcntl is None:
                file.close()  # Windows cannot rename an open file
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def folder_for(out: Path, option: str = "with --out") -> Iterator[None]:
    """Create a folder for results; an OSError says how another is chosen if it, or something in it, is not writable."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise OSError(f"The folder {out} cannot be written ({reason}): choose another {option}.") from error


def _open_temporary(path: Path) -> tuple[Path, BinaryIO]:
    while True:
        temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
        file = temporary.open("xb")
        with suppress(OSError):  # some network drives have no locks
            _lock(file, wait=True)
        if temporary.exists():
            return temporary, file
        file.close()  # another run removed it as abandoned before it was locked


def _lock(file: BinaryIO, wait: bool = False) -> None:
    """Lock an open file until it is closed; raises OSError if that is not possible, or would have to wait."""
    if fcntl is None:
        raise OSError("There are no locks on this system.")
    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


@contextmanager
def only_run(out: Path) -> Iterator[None]:
    """Keep other runs out of a folder, if there are locks on it; raises ValueError if another run is using it."""
    with (out / ".lock").open("ab") as file:
        if fcntl is not None:
            try:
                # a lock of this process alone, which ends with it and not with the workers that it forked
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                raise ValueError(f"Another run is writing to {out}: wait for it, or choose another folder.") from None
            except OSError:
                pass
        yield


def written_as(codes: Sequence[str], location: str | None = None) -> tuple[str, ...]:
    """
    The codes of a channel in miniSEED; or raise Unwritable if nothing is left of one. Those that do not fit lose what
    is no letter or digit, then letters before a number at the end: " DS 11" becomes "DS11", STATION12 becomes STA12.
    """
    written = []
    for code, (name, most) in zip(codes, CODE_LENGTHS.items(), strict=True):
        if not re.fullmatch(rf"[!-\-/-~]{{0,{most}}}", code):  # printable ASCII but blanks and points
            letters, digits = re.fullmatch(r"(.*?)(\d*)", re.sub(r"[^A-Za-z0-9]", "", code)).groups()  # type: ignore[union-attr]
            kept = letters[: max(most - len(digits), 0)] + digits[-most:]
            if not kept and code.strip():
                raise Unwritable(f"The {name} {printable(code)!r} cannot be written as miniSEED: rename it.")
            code = kept
        written.append(code)
    return (*written[:2], written[2] if location is None else location, written[3])


@dataclass
class MseedWriter:
    """
    Writes streams to an open file, one after the other, and measures what the encoding loses. Rates come back as they
    are, if they are ratios of small whole numbers, as 100.02 Hz is; miniSEED holds others to one in 10 million.
    """

    file: BinaryIO
    encoding: str = "float32"  # or "int32", for samples times `scale`, rounded
    scale: float = 1.0
    location: str | None = None  # code to write, if not the own one
    cut: dict[str, str] = field(default_factory=dict)  # ids that do not fit into miniSEED, and how they were written
    largest: dict[str, tuple[float, float]] = field(default_factory=dict)  # samples by id, as given and as written
    _largest_error: float = 0.0
    _error: float = 0.0  # sum of squares, as the next
    _power: float = 0.0

    def write(self, stream: Stream) -> None:
        """Append traces without masked samples; raises Unwritable if others do not fit into the encoding."""
        for trace in stream:
            # not Trace.split, which would take the rate through its inverse
            for run in np.ma.clump_unmasked(np.ma.asarray(trace.data)) if len(trace) else []:
                self._write(trace, run)

    def _write(self, trace: Trace, run: slice) -> None:
        codes = tuple(trace.stats[code] for code in CODE_LENGTHS)
        written = written_as(codes, self.location)
        header: dict[str, Any] = dict(zip(CODE_LENGTHS, written, strict=True))
        if codes != (written if self.location is None else (*written[:2], codes[2], written[3])):
            self.cut[trace.id] = ".".join(written)
        header["starttime"] = trace.stats.starttime + run.start / trace.stats.sampling_rate
        header["sampling_rate"] = trace.stats.sampling_rate
        header["mseed"] = {"dataquality": trace.stats.get("mseed", {}).get("dataquality", "D")}
        samples = np.ma.getdata(trace.data)[run]
        values, encoding = self._encoded(samples)
        given, kept = self.largest.get(trace.id, (0.0, 0.0))
        self.largest[trace.id] = max(given, float(np.abs(samples).max())), max(kept, float(np.abs(values).max()))
        memory = io.BytesIO()  # ObsPy would not report a full disk
        Stream([Trace(values, header)]).write(memory, format="MSEED", encoding=encoding, reclen=4096)
        self.file.write(memory.getbuffer())

    def _encoded(self, samples: Any) -> tuple[Any, str]:
        if self.encoding == "float32":
            values = back = samples.astype(np.float32)
            if not np.isfinite(values).all():
                raise Unwritable("Samples are too large for single precision.")
        else:
            rounded = np.rint(samples * self.scale)
            largest = np.abs(rounded).max(initial=0)
            if largest >= TOO_LARGE:
                raise Unwritable(f"Samples of {largest:.3g} do not fit into integers: choose a smaller --scale.")
            values, back = rounded.astype(np.int32), rounded / self.scale
        error = np.abs(samples - back, dtype=np.float64)
        self._largest_error = max(self._largest_error, float(error.max(initial=0)))
        self._error += float(np.sum(error**2))
        self._power += float(np.sum(np.square(samples, dtype=np.float64)))
        return values, "FLOAT32" if self.encoding == "float32" else "STEIM2"

    def check(self) -> None:
        """After the last stream: raises Unwritable if all samples of a channel that is not zero became zero."""
        lost = {channel: given for channel, (given, written) in self.largest.items() if given and not written}
        if lost:
            raise Unwritable(
                f"As integers, all samples of {', '.join(sorted(lost))}, up to {max(lost.values()):.2g}, are zeros: "
                "choose a larger --scale."
            )

    @property
    def ratio(self) -> float:
        """How far what the encoding lost lies below the signal, in dB; infinite if nothing was lost."""
        return 10 * math.log10(self._power / self._error) if self._error else math.inf

    @property
    def loss(self) -> str:
        if not self._error:
            return f"{self.encoding}, no sample rounded"
        scaled = f" times {self.scale:g}" if self.scale != 1 else ""
        error = f"largest rounding error {self._largest_error:.2g}, {self.ratio:.0f} dB below the signal"
        return f"{self.encoding}{scaled}, {error}"


class Output(MseedWriter):
    """A miniSEED file that gets its name by `keep`, and is removed by `drop`, unless it is kept; none without path."""

    def __init__(self, path: Path | None, *encoding: Any) -> None:
        self.path, self._replacing = path, replacing(path) if path else nullcontext(Path(os.devnull))
        super().__init__(self._replacing.__enter__().open("wb"), *encoding)

    def keep(self) -> None:
        self.file.close()
        self._replacing.__exit__(None, None, None)

    def drop(self) -> None:
        with suppress(OSError):  # of what is left to be written to a full disk
            self.file.close()
        self._replacing.__exit__(Unwritable, Unwritable(), None)
