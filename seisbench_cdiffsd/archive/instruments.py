"""An instrument on a day of an archive: its files, what depends on them, and the files that are made of them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from obspy import Stream, UTCDateTime

from seisbench_cdiffsd.archive import ledger
from seisbench_cdiffsd.archive.sds import ChannelDay
from seisbench_cdiffsd.denoising import margin
from seisbench_cdiffsd.files import manifest
from seisbench_cdiffsd.files.continuous import between, denoised_pieces
from seisbench_cdiffsd.files.reading import Readable, ReadError, Source, Unavailable, index, state
from seisbench_cdiffsd.files.writing import MseedWriter, Unwritable, replacing_file
from seisbench_cdiffsd.weights import CDiffSD

DAY = timedelta(days=1)

#: By kind, "outputs" or "noise": paths in their archive, each with the loss in encoding.
Written = dict[str, dict[Path, dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class ArchiveSettings:
    """
    What to make of an archive.

    :param source: Folder of the archive
    :param out: Folder of the denoised archive
    :param weights: Name of weights, or path of a saved model, readable by the workers
    :param model: :py:func:`fingerprint` of the model
    :param noise: Folder of the archive of the removed noise, or None
    :param options: Arguments of :py:meth:`CDiffSD.denoise`
    :param encoding: See :py:class:`MseedWriter`
    :param scale: Likewise
    :param location: Likewise
    :param threads: Threads of PyTorch in a worker; the output depends on them, within rounding
    """

    source: Path
    out: Path
    weights: str
    model: str
    noise: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)
    encoding: str = "float32"
    scale: float = 1.0
    location: str | None = None
    threads: int = 1

    def output(self, channel: ChannelDay) -> Path:
        """Path of the output for a day of a channel, in its archive."""
        return channel.path if self.location is None else replace(channel, location=self.location).path

    @property
    def roots(self) -> dict[str, Path]:
        """Folders of the outputs, by kind."""
        return {"outputs": self.out} | ({} if self.noise is None else {"noise": self.noise})


@dataclass
class Instrument:
    """
    The channels of an instrument on a day, which are denoised together.

    :param channels: Channels
    :param settings: Settings
    :param parts: What their files contain, and those of the days before and after
    :param problems: What is wrong, by the path of the file in the archive
    :param unavailable: Files that may be readable later
    :param slow: Channels that are skipped for their sampling rate, such as mass positions
    """

    channels: list[ChannelDay]
    settings: ArchiveSettings
    parts: dict[ChannelDay, list[Readable]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    unavailable: set[Path] = field(default_factory=set)
    slow: list[ChannelDay] = field(default_factory=list)

    def __post_init__(self) -> None:
        #: Path of the entry in the ledger.
        self.entry = ledger.entry_path(self.settings.out, self.channels, self.settings.location)
        #: The channels on this day, the one before and the one after.
        self.around = [channel.on(channel.day + i * DAY) for channel in self.channels for i in (-1, 0, 1)]

    def key(self) -> str:
        """A hash of all that the outputs depend on, with the neighbouring days, which affect the ends of this one."""
        paths = "source", "out", "noise", "weights"
        kept = {key: value for key, value in asdict(self.settings).items() if key not in paths}
        return manifest.key(kept, [state(self.settings.source / channel.path) for channel in self.around])

    def index(self, min_rate: float) -> None:
        """Look up what the files contain."""
        for channel in self.around:
            path, own = self.settings.source / channel.path, channel in self.channels
            if path.exists() or own:
                try:
                    self.parts[channel] = index(path)
                except ReadError as error:
                    self.unavailable |= {path} if isinstance(error, Unavailable) else set()
                    if own:
                        self.problems[channel.path.as_posix()] = str(error)
        self.slow = [channel for channel in self.channels if is_slow(self.parts.get(channel, []), min_rate)]

    @property
    def names(self) -> dict[str, str]:
        """The files to read, and the names of their outputs."""
        channels = (channel for channel in self.channels if channel not in self.slow)
        return {channel.path.as_posix(): self.settings.output(channel).as_posix() for channel in channels}


def is_slow(parts: list[Readable], min_rate: float) -> bool:
    """Whether there are samples, but only at rates that are too low for the model, as those of mass positions."""
    rates = [span.rate for part in parts for span in part.spans]
    return bool(rates) and max(rates) <= min_rate


def check_readable(instrument: Instrument, made: set[str]) -> None:
    """
    Refuse to replace outputs while a file that they were made of cannot be read: they may be better than new ones.

    :param instrument: The instrument
    :param made: Paths, in the archive, of the files that have outputs
    :raises Unavailable: If one of these files cannot be read now
    """
    lost = {path for path in made if instrument.settings.source / path in instrument.unavailable}
    if lost:
        raise Unavailable(", ".join(sorted(lost)))


@dataclass(frozen=True)
class Selected:
    """
    A channel to denoise.

    :param path: Path of its file in the archive
    :param output: Path of its output
    :param source: Its samples, with those of the days before and after
    :param start: Time of the first sample to write
    :param end: Time after the last sample to write
    """

    path: str
    output: Path
    source: Source
    start: UTCDateTime
    end: UTCDateTime


def denoise_instrument(model: CDiffSD, instrument: Instrument, made: set[str]) -> Written:
    """
    Write the files of an instrument, except those that would have no sample.

    :param model: The model
    :param instrument: The instrument; the problems that are found are added to its own
    :param made: See :py:func:`check_readable`
    :return: What was written
    :raises Unavailable: See :py:func:`check_readable`
    """
    channels = _select(instrument, margin(model))
    writers = _write(model, instrument, channels, made) if channels else {}
    kept = _drop_empty(instrument, channels, writers)
    return {
        kind: {channels[name].output: _loss(writers[kind, name]) for name in kept} for kind in instrument.settings.roots
    }


def _select(instrument: Instrument, reach: float) -> dict[str, Selected]:
    """
    The channels that have samples of the day, by id; notes problems of their files.

    :param instrument: The instrument
    :param reach: Seconds outside of the day from which samples are used
    """
    start = UTCDateTime(instrument.channels[0].day.isoformat())
    end = start + 86400
    selected = {}
    for channel in (channel for channel in instrument.channels if channel not in instrument.slow):
        path = channel.path.as_posix()
        before, parts, after = (instrument.parts.get(channel.on(channel.day + i * DAY), []) for i in (-1, 0, 1))
        # samples a little outside of the day belong to the file of that day, but to this one if that is missing
        first, last = start if before else start - reach, end if after else end + reach
        spans = [span for part in parts for span in part.spans]
        own = [span for span in spans if span.id == channel.id]
        others = sorted({span.id for span in spans} - {channel.id})
        outside = [span for span in own if span.start < start - reach or span.end > end + reach]
        if others:
            instrument.problems[path] = f"contains {', '.join(others)}, which was left out"
        elif outside:
            times = f"{min(span.start for span in outside)} to {max(span.end for span in outside)}"
            instrument.problems[path] = f"contains samples of other days, {times}, which were left out"
        if any(span.start < last and span.end >= first for span in own):
            source = Source([*before, *parts, *after], [channel.id])
            selected[channel.id] = Selected(path, instrument.settings.output(channel), source, first, last)
        elif parts:
            instrument.problems.setdefault(path, "has no samples of its day")
    return selected


def _write(
    model: CDiffSD, instrument: Instrument, channels: dict[str, Selected], made: set[str]
) -> dict[tuple[str, str], MseedWriter]:
    """Write the files of the channels, all of them or none; return their writers, by kind and id."""
    settings = instrument.settings

    def read(first: UTCDateTime, last: UTCDateTime) -> Stream:
        return sum((channel.source.read(first, last) for channel in channels.values()), Stream())

    start, end = min(x.start for x in channels.values()), max(x.end for x in channels.values())
    writers = {}
    with ExitStack() as stack:
        for kind, root in settings.roots.items():
            for name, channel in channels.items():
                file = stack.enter_context(replacing_file(root / channel.output))
                writers[kind, name] = MseedWriter(file, settings.encoding, settings.scale, settings.location)
        for pair in denoised_pieces(model, read, start, end, **settings.options):
            for kind, stream in zip(settings.roots, pair, strict=False):
                for trace in stream:
                    limits = channels[trace.id].start, channels[trace.id].end
                    writers[kind, trace.id].write(Stream([between(trace, *limits)]))
        for channel in channels.values():
            instrument.unavailable |= channel.source.unavailable
            reason = channel.source.problems.get(settings.source / channel.path)
            if reason:
                instrument.problems.setdefault(channel.path, reason)
        check_readable(instrument, made)
    return writers


def _drop_empty(
    instrument: Instrument, channels: dict[str, Selected], writers: dict[tuple[str, str], MseedWriter]
) -> list[str]:
    """Remove the files of channels without samples, or with all samples rounded to zero; return the other ids."""
    roots = instrument.settings.roots
    kept = []
    for name, channel in channels.items():
        reason = _emptiness([writers[kind, name] for kind in roots])
        if reason:
            for root in roots.values():
                (root / channel.output).unlink()
            instrument.problems.setdefault(channel.path, reason)
        else:
            kept.append(name)
    return kept


def _emptiness(writers: list[MseedWriter]) -> str:
    """Why the files of a channel are useless; empty if they are not."""
    if any(writer.empty for writer in writers):
        return "has no samples of its day that can be denoised"
    try:
        for writer in writers:
            writer.check()
    except Unwritable as error:
        return str(error)
    return ""


def _loss(writer: MseedWriter) -> dict[str, Any]:
    """The loss in encoding, for the ledger; that of single precision is negligible."""
    return {} if writer.encoding == "float32" or writer.exact else {"ratio": writer.ratio, "loss": writer.loss}
