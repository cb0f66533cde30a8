"""What there is to do in archives of continuous data (SDS): a file for each channel and day, found by its name."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from obspy import UTCDateTime

from seisbench_cdiffsd.files.console import one_line
from seisbench_cdiffsd.files.jobs import Job, Part, Settings, Target, identity
from seisbench_cdiffsd.files.ledger import Outcome
from seisbench_cdiffsd.files.reading import Block, Source, Unavailable, index
from seisbench_cdiffsd.streams.components import COMPONENTS, Component, assign
from seisbench_cdiffsd.streams.pieces import listed

#: Letters and digits only, so no code can lead out of the folder of the outputs.
NAME = re.compile(r"([A-Z0-9]{1,2})\.([A-Z0-9]{1,5})\.([A-Z0-9]{0,2})\.([A-Z0-9]{3})\.D\.(\d{4}\.\d{3})", re.ASCII)
#: The layout in words.
LAYOUT = "YEAR/NET/STA/CHAN.D/NET.STA.LOC.CHAN.D.YEAR.DAY"


@dataclass(frozen=True, order=True)
class ChannelDay:
    """A day of a channel, and its place in an archive: ``YEAR/NET/STA/CHAN.D/NET.STA.LOC.CHAN.D.YEAR.DAY``."""

    network: str
    station: str
    location: str
    channel: str
    day: date

    @property
    def id(self) -> str:
        return f"{self.network}.{self.station}.{self.location}.{self.channel}"

    @cached_property
    def path(self) -> Path:
        return Path(f"{self.day:%Y}/{self.network}/{self.station}/{self.channel}.D/{self.id}.D.{self.day:%Y.%j}")

    def around(self) -> list["ChannelDay"]:
        """The same channel on the day before, on this one and on the next."""
        return [replace(self, day=self.day + timedelta(days)) for days in (-1, 0, 1)]

    def at(self, location: str | None) -> "ChannelDay":
        """The same channel under another location code, or as it is."""
        return self if location is None else replace(self, location=location)


@dataclass(frozen=True, kw_only=True)
class Day(Job):
    """A day of an instrument in an archive, each channel with an output of its own."""

    channels: tuple[ChannelDay, ...]
    places: tuple[str, ...] = field(compare=False)  # of inputs: the archive, and where links in it lead to

    @property
    def limits(self) -> tuple[UTCDateTime, UTCDateTime]:
        start = UTCDateTime(self.channels[0].day.isoformat())
        return start, start + 86400

    def inputs(self, settings: Settings) -> dict[str, Path]:
        paths = (x.path for channel in self.channels for x in channel.around())
        return {path.as_posix(): settings.source / path for path in paths}

    def is_input(self, path: Path, settings: Settings) -> bool:
        """Whether a path leads to an input or, by links, to where inputs are."""
        real, *roots = (Path(os.path.realpath(x)) for x in (path, *settings.roots.values()))
        for place in filter(real.is_relative_to, self.places):
            inside = any(root.is_relative_to(place) and real.is_relative_to(root) for root in roots)
            if not inside or channel_day(real.relative_to(place)):  # outputs may have a folder of their own there
                return True
        own = identity(path)
        return own is not None and own in map(identity, self.inputs(settings).values())

    def open(self, parts: Iterable[Part], settings: Settings) -> dict[Path, str]:
        (start, end), reach, unavailable = self.limits, settings.reach, {}
        for channel, part in zip(self.channels, parts, strict=True):
            blocks: dict[date, list[Block]] = {}
            for x in channel.around():
                path, own = settings.source / x.path, x == channel
                try:
                    blocks[x.day] = index(path) if own or path.exists() else []
                except Exception as error:  # a file takes no other one down
                    blocks[x.day] = []
                    if isinstance(error, Unavailable):
                        unavailable[path] = str(error)
                    if own:
                        part.problem(one_line(error))
                        part.unread = True
            before, there, after = blocks.values()
            spans = [span for block in there for span in block.spans]
            if spans and max(span.rate for span in spans) <= settings.least:  # as those of mass positions
                part.entry.skipped = f"at {settings.least:g} Hz or less"
                continue
            # samples a little outside of the day belong to the file of that day, but to this one if that is missing
            first, last = start if before else start - reach, end if after else end + reach
            others = sorted({span.id for span in spans} - {channel.id})
            spans = [span for span in spans if span.id == channel.id]
            outside = [span for span in spans if span.start < start - reach or span.end > end + reach]
            if others:
                part.problem(f"contains {listed(others)}, which was left out")
            elif outside:
                times = f"{min(span.start for span in outside)} to {max(span.end for span in outside)}"
                part.problem(f"contains samples of other days, {times}, which were left out")
            if any(span.start < last and span.end >= first for span in spans):
                part.source, part.limits = Source([*before, *there, *after], [channel.id]), (first, last)
            elif there and not part.entry.problems:
                part.problem("has no samples of its day")
        return unavailable


def scan(settings: Settings, start: date, end: date, select: Sequence[str] = ("*",)) -> tuple[list[Day], list[Outcome]]:
    """
    The days of instruments in an archive, in order of their names; channels that were skipped, and files that are not
    where their names belong. `select` are patterns of ids, such as "CH.*.*.HH?"; channels of one new id are together.
    """
    source = settings.source
    places = {os.path.realpath(source)}
    strange: list[Outcome] = []
    stations: dict[tuple[str, str], set[ChannelDay]] = defaultdict(set)

    def unreadable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # a year without data
            path = Path(error.filename).relative_to(source)
            strange.append(Outcome(str(path), "failed", f"cannot be read: {error.strerror}"))

    for year in range(start.year, end.year + 1):
        for folder, folders, files in os.walk(source / str(year), onerror=unreadable, followlinks=True):
            places |= {os.path.realpath(folder)} if os.path.islink(folder) else set()
            if len(Path(folder).relative_to(source).parts) >= 4:
                files += filter(NAME.fullmatch, folders)  # to be told of
                folders.clear()  # below year, network, station, channel; a link to a parent folder would never end
            for path in (Path(folder, file).relative_to(source) for file in files if not file.startswith(".")):
                channel = channel_day(path)
                if channel is None:
                    strange.append(Outcome(str(path), "failed", "is not where its name belongs in an SDS archive"))
                elif start <= channel.day <= end:
                    stations[channel.network, channel.station].add(channel)
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is not a directory.")
    found: list[Day] = []
    others: set[str] = set()
    for everything in stations.values():  # neighbours tell what a code means
        components = assign({channel.id for channel in everything}, settings.components)
        channels = {x for x in everything if any(fnmatchcase(x.id, pattern) for pattern in select)}
        others |= {channel.channel for channel in channels if channel.id not in components}
        found += _days({channel for channel in channels if channel.id in components}, components, settings, (*places,))
    reason = f"not one of the components {', '.join(COMPONENTS)}; --components UD=Z NS=N EW=E names others"
    skipped = [Outcome(f"*.{code}", "skipped", reason) for code in sorted(others)]
    return sorted(found, key=lambda x: x.name), [*skipped, *sorted(strange)]


def _days(
    channels: set[ChannelDay], components: Mapping[str, Component], settings: Settings, places: tuple[str, ...]
) -> Iterator[Day]:
    """The days of the instruments of a station; the first of each day also tells what the station lacks on it."""
    groups: dict[date, dict[str, list[ChannelDay]]] = defaultdict(lambda: defaultdict(list))
    known: dict[str, Path] = {}
    for channel in sorted(channels, key=lambda x: (x.day, x.id)):
        known.setdefault(channel.id, channel.path)  # the first day, to be the same one for all days and shards
        code = components[channel.id].instrument.rpartition(".")[2]
        instrument = f"{channel.at(settings.location).id.rpartition('.')[0]}.{code}.{channel.day:%Y.%j}"
        groups[channel.day][instrument].append(channel)
    for instruments in groups.values():
        there = {channel.id for group in instruments.values() for channel in group}
        missing = {name: path for name, path in sorted(known.items()) if name not in there}
        for name, group in sorted(instruments.items()):
            # the first channel has the picks on all of them
            targets = tuple(_target(x, settings, name if x is group[0] else "") for x in group)
            yield Day(name=name, targets=targets, missing=missing, channels=tuple(group), places=places)
            missing = {}


def _target(channel: ChannelDay, settings: Settings, instrument: str) -> Target:
    path, output = (x.path.as_posix() for x in (channel, channel.at(settings.location)))
    name = ".".join(output.rsplit(".D.", 1))  # an entry is no day file
    files: dict[str, tuple[str, ...]] = {"outputs": (output,), "noise": (output,), "picks": (), "figures": ()}
    owned = re.escape(output)
    if instrument:
        folder = f"{channel.day:%Y}/{channel.network}/{channel.station}"
        files |= {"picks": (f"{folder}/{instrument}.csv",), "figures": (f"{folder}/{instrument}.png",)}
        owned += rf"|{re.escape(f'{folder}/{instrument}')}\.(csv|png)"
    return Target(f"{settings.entries}{name}", path, (channel.id,), (path,), files, owned)


def why_nothing(settings: Settings, start: date, end: date, select: Sequence[str]) -> str:
    """Why :py:func:`scan` found nothing, in one line. Only the years asked for are searched."""
    source = settings.source
    years = sorted(path.name for path in source.iterdir() if re.fullmatch(r"\d{4}", path.name, re.ASCII))
    if not any(start.year <= int(year) <= end.year for year in years):
        has = f"its years are {', '.join(years)}" if years else f"it has no folders of years with files {LAYOUT}"
        return f"{source} has nothing from {start} to {end}: {has}."
    days, skipped = scan(settings, date(start.year, 1, 1), date(end.year, 12, 31))
    channels = [channel for day in days for channel in day.channels]
    dates = sorted(x.day for x in channels if any(fnmatchcase(x.id, pattern) for pattern in select))
    if dates:
        return f"{source} has nothing from {start} to {end}: in these years it has days from {dates[0]} to {dates[-1]}."
    if channels:
        wanted = " ".join(select)
        return f"No channel of {source} matches {wanted}: patterns are NET.STA.LOC.CHA, such as {channels[0].id}."
    found = f", only such as {skipped[0].name} ({skipped[0].reason})" if skipped else ""
    return f"{source} has no files of channels Z, N, E, 1 or 2 named {LAYOUT} in these years{found}."


def channel_day(path: Path) -> ChannelDay | None:
    """The channel and day that a file is named after, if it is where such a file belongs; else None."""
    if match := NAME.fullmatch(path.name):
        network, station, location, code, day = match.groups()
        with suppress(ValueError):  # there is no such day
            channel = ChannelDay(network, station, location, code, datetime.strptime(day, "%Y.%j").date())
            return channel if channel.path == path else None
    return None
