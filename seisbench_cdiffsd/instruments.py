"""An instrument on a day of an archive: which files it has, what depends on them, and the files that are made."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from obspy import Stream, UTCDateTime

from seisbench_cdiffsd import ledger, manifest
from seisbench_cdiffsd.continuous import MARGIN, between, denoised_pieces
from seisbench_cdiffsd.model import CDiffSD
from seisbench_cdiffsd.reading import Part, ReadError, Source, Unavailable, index, state
from seisbench_cdiffsd.sds import ChannelDay
from seisbench_cdiffsd.writing import MseedWriter, Unwritable, replacing

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Settings:
    """
    What to make of an archive.

    :param source: Folder of the archive
    :param out: Folder of the denoised archive
    :param weights: Name of weights, or path of a saved model, as the workers can read it
    :param model: :py:func:`fingerprint` of the model
    :param noise: Folder of the archive of what was removed, or None
    :param options: Arguments of :py:meth:`CDiffSD.denoise`
    :param encoding: See :py:class:`MseedWriter`
    :param scale: Likewise
    :param location: Likewise
    :param threads: Threads of PyTorch in a worker; the output depends on it within rounding
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
        """Path of what is made of a day of a channel, in the archive of the outputs."""
        return channel.path if self.location is None else replace(channel, location=self.location).path

    @property
    def roots(self) -> dict[str, Path]:
        """Folders of the outputs, by what they hold."""
        return {"outputs": self.out} | ({} if self.noise is None else {"noise": self.noise})


@dataclass
class Instrument:
    """
    The channels of an instrument on a day, which are denoised together.

    :param channels: Channels
    :param settings: Settings
    :param parts: What their files hold, and those of the days before and after
    :param problems: What is wrong, by the path of the file in the archive
    :param unavailable: Files that may be read another time
    :param slow: Channels that are passed over, as the positions of masses
    """

    channels: list[ChannelDay]
    settings: Settings
    parts: dict[ChannelDay, list[Part]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    unavailable: set[Path] = field(default_factory=set)
    slow: list[ChannelDay] = field(default_factory=list)

    def __post_init__(self) -> None:
        #: Path of the record.
        self.record = ledger.record_path(self.settings.out, self.channels, self.settings.location)
        #: The channels on this day and those beside it.
        self.around = [channel.on(channel.day + i * DAY) for channel in self.channels for i in (-1, 0, 1)]

    def key(self) -> str:
        """A hash of all that the outputs depend on; the neighbours are part of it, as the ends of a day hear them."""
        apart = "source", "out", "noise", "weights"
        kept = {key: value for key, value in asdict(self.settings).items() if key not in apart}
        return manifest.key(kept, [state(self.settings.source / channel.path) for channel in self.around])

    def index(self, slowest: float) -> None:
        """Look what there is in the files."""
        for channel in self.around:
            path, own = self.settings.source / channel.path, channel in self.channels
            if path.exists() or own:
                try:
                    self.parts[channel] = index(path)
                except ReadError as error:
                    self.unavailable |= {path} if isinstance(error, Unavailable) else set()
                    if own:
                        self.problems[channel.path.as_posix()] = str(error)
        self.slow = [channel for channel in self.channels if is_slow(self.parts.get(channel, []), slowest)]

    @property
    def names(self) -> dict[str, str]:
        """The files to read, and the names of what they become."""
        channels = (channel for channel in self.channels if channel not in self.slow)
        return {channel.path.as_posix(): self.settings.output(channel).as_posix() for channel in channels}


def is_slow(parts: list[Part], slowest: float) -> bool:
    """Whether there are samples, but all of them at rates that a model passes over, as of the position of a mass."""
    rates = [span.rate for part in parts for span in part.spans]
    return bool(rates) and max(rates) <= slowest


def hold(instrument: Instrument, made: set[str]) -> None:
    """
    Keep what is whole from what lacks files that cannot be read for now.

    :raises Unavailable: If one of them is among those of which there are outputs
    """
    lost = {path for path in made if instrument.settings.source / path in instrument.unavailable}
    if lost:
        raise Unavailable(", ".join(sorted(lost)))


def denoise_instrument(model: CDiffSD, instrument: Instrument, made: set[str]) -> dict[str, dict[Path, dict[str, Any]]]:
    """
    Write the files of an instrument; those without a sample are not there.

    :param model: The model
    :param instrument: The instrument, to whose problems is added what is found
    :param made: Files of which there are outputs, which nothing less than the whole files replaces
    :return: What was written, by kind, and what the encoding lost
    :raises Unavailable: If one of these files cannot be read for now
    """
    settings, parts, problems = instrument.settings, instrument.parts, instrument.problems
    channels = [channel for channel in instrument.channels if channel not in instrument.slow]
    day = instrument.channels[0].day
    start, reach = UTCDateTime(day.isoformat()), MARGIN * model.in_samples / model.sampling_rate
    end = start + 86400
    sources: dict[str, Source] = {}
    # what lies a little outside of the day belongs to the file of that day, but to this one where there is none
    limits: dict[str, tuple[UTCDateTime, UTCDateTime]] = {}
    for channel in channels:
        before, blocks, after = (parts.get(channel.on(day + i * DAY), []) for i in (-1, 0, 1))
        first, last = start if before else start - reach, end if after else end + reach
        spans = [span for block in blocks for span in block.spans]
        own = [span for span in spans if span.id == channel.id]
        others = sorted({span.id for span in spans} - {channel.id})
        outside = [span for span in own if span.start < start - reach or span.end > end + reach]
        if others:
            problems[channel.path.as_posix()] = f"holds {', '.join(others)}, which was left out"
        elif outside:
            times = f"{min(s.start for s in outside)} to {max(s.end for s in outside)}"
            problems[channel.path.as_posix()] = f"holds samples of other days, {times}, which were left out"
        if any(span.start < last and span.end >= first for span in own):
            sources[channel.id] = Source([*before, *blocks, *after], [channel.id])
            limits[channel.id] = first, last
        elif blocks:
            problems.setdefault(channel.path.as_posix(), "has no samples of its day")
    if not sources:
        return {kind: {} for kind in settings.roots}

    def read(first: UTCDateTime, last: UTCDateTime) -> Stream:
        return sum((source.read(first, last) for source in sources.values()), Stream())

    paths = {channel.id: channel.path for channel in channels if channel.id in sources}
    outputs = {channel.id: settings.output(channel) for channel in channels if channel.id in sources}
    span = min(first for first, _ in limits.values()), max(last for _, last in limits.values())
    samples: Counter[str] = Counter()
    with ExitStack() as stack:
        writers = []
        for root in settings.roots.values():
            files = {
                x: stack.enter_context(stack.enter_context(replacing(root / outputs[x])).open("wb")) for x in paths
            }
            encoding = settings.encoding, settings.scale, settings.location
            writers.append({x: MseedWriter(file, *encoding) for x, file in files.items()})
        for pair in denoised_pieces(model, read, *span, **settings.options):
            for by_id, stream in zip(writers, pair, strict=False):
                for trace in stream:
                    part = between(trace, *limits[trace.id])
                    by_id[trace.id].write(Stream([part]))
                    samples[trace.id] += len(part)
        for channel_id, source in sources.items():
            instrument.unavailable |= source.unavailable
            reason = source.problems.get(settings.source / paths[channel_id])
            if reason:
                problems.setdefault(paths[channel_id].as_posix(), reason)
        hold(instrument, made)
    empty = {x: "has no samples of its day that can be denoised" for x in paths if not samples[x]}
    for by_id in writers:
        for channel_id, writer in by_id.items():
            try:
                writer.check()
            except Unwritable as error:
                empty.setdefault(channel_id, str(error))
    for channel_id, reason in empty.items():
        output = outputs.pop(channel_id)
        for root in settings.roots.values():
            (root / output).unlink()
        problems.setdefault(paths[channel_id].as_posix(), reason)
    return {
        kind: {output: _loss(by_id[channel_id]) for channel_id, output in outputs.items()}
        for kind, by_id in zip(settings.roots, writers, strict=True)
    }


def _loss(writer: MseedWriter) -> dict[str, Any]:
    """What the encoding lost, for the record; that of single precision is not worth telling."""
    return {} if writer.encoding == "float32" or writer.exact else {"ratio": writer.ratio, "loss": writer.loss}
