"""The layout of archives of continuous data (SDS): a file for each channel and day, found by its name."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from seisbench_cdiffsd.files.ledger import Outcome
from seisbench_cdiffsd.streams.components import COMPONENTS, Component, assign

#: Letters and digits only, so no code can lead out of the folder of the outputs.
NAME = re.compile(r"([A-Z0-9]{1,2})\.([A-Z0-9]{1,5})\.([A-Z0-9]{0,2})\.([A-Z0-9]{3})\.D\.(\d{4})\.(\d{3})", re.ASCII)
#: The layout in words.
LAYOUT = "YEAR/NET/STA/CHAN.D/NET.STA.LOC.CHAN.D.YEAR.DAY"
#: Folders of a file in the archive: year, network, station, channel.
DEPTH = 4
#: What separates two of them.
DAY = timedelta(days=1)


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
        """Id of the channel."""
        return f"{self.network}.{self.station}.{self.location}.{self.channel}"

    @cached_property
    def path(self) -> Path:
        """Path in the archive."""
        folder = Path(f"{self.day:%Y}", self.network, self.station, f"{self.channel}.D")
        return folder / f"{self.id}.D.{self.day:%Y.%j}"

    def around(self) -> tuple[ChannelDay, ChannelDay, ChannelDay]:
        """The same channel on the day before, on this one and on the next."""
        return replace(self, day=self.day - DAY), self, replace(self, day=self.day + DAY)

    def at(self, location: str | None) -> ChannelDay:
        """The same channel under another location code, or as it is."""
        return self if location is None else replace(self, location=location)


@dataclass(frozen=True)
class InstrumentDay:
    """A day of an instrument."""

    name: str  # network, station, location, what the channels share of their codes, year and day
    channels: tuple[ChannelDay, ...]  # those that are written as this instrument
    missing: tuple[ChannelDay, ...] = ()  # channels of the station that exist only on other days, each with such a day


def scan(
    source: Path,
    start: date,
    end: date,
    select: Sequence[str] = ("*",),
    names: Mapping[str, str] | None = None,
    location: str | None = None,
) -> tuple[list[InstrumentDay], list[Outcome]]:
    """
    The days of instruments in an archive.

    :param select: Patterns of channel ids, such as "CH.*.*.HH?"
    :param names: Components by name, see :py:func:`assign`
    :param location: Location code to write; channels that would then have one id are in one instrument
    :return: Days in order of their names; channels that were skipped, and files that are not where their names belong
    :raises OSError: If the archive cannot be read
    """
    strange: list[Outcome] = []
    stations: dict[tuple[str, str], set[ChannelDay]] = defaultdict(set)

    def unreadable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # a year without data
            path = Path(error.filename).relative_to(source)
            strange.append(Outcome(str(path), "failed", f"cannot be read: {error.strerror}"))

    for year in range(start.year, end.year + 1):
        for folder, folders, files in os.walk(source / str(year), onerror=unreadable, followlinks=True):
            if len(Path(folder).relative_to(source).parts) >= DEPTH:
                folders.clear()  # a link to a parent folder would never end
            for path in (Path(folder, file).relative_to(source) for file in files if not file.startswith(".")):
                channel = channel_day(path)
                if channel is None:
                    strange.append(Outcome(str(path), "failed", "is not where its name belongs in an SDS archive"))
                elif start <= channel.day <= end:
                    stations[channel.network, channel.station].add(channel)
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is not a directory.")
    found: list[InstrumentDay] = []
    others: set[str] = set()
    for everything in stations.values():
        components = assign({channel.id for channel in everything}, names)  # neighbours tell what a code means
        channels = {x for x in everything if any(fnmatchcase(x.id, pattern) for pattern in select)}
        others |= {channel.channel for channel in channels if channel.id not in components}
        found += _days({channel for channel in channels if channel.id in components}, components, location)
    reason = f"not one of the components {', '.join(COMPONENTS)}; --components UD=Z NS=N EW=E names others"
    skipped = [Outcome(f"*.{code}", "skipped", reason) for code in sorted(others)]
    return sorted(found, key=lambda x: x.name), [*skipped, *sorted(strange)]


def _days(channels: set[ChannelDay], components: Mapping[str, Component], location: str | None) -> list[InstrumentDay]:
    """The days of the instruments of a station; the first of each day also tells what the station lacks on it."""
    groups: dict[date, dict[str, list[ChannelDay]]] = defaultdict(lambda: defaultdict(list))
    known: dict[str, ChannelDay] = {}
    for channel in sorted(channels, key=lambda x: (x.day, x.id)):
        known.setdefault(channel.id, channel)  # the first day, to be the same one for all days and shards
        code = components[channel.id].instrument.rpartition(".")[2]
        instrument = f"{channel.at(location).id.rpartition('.')[0]}.{code}.{channel.day:%Y.%j}"
        groups[channel.day][instrument].append(channel)
    days = []
    for instruments in groups.values():
        there = {channel.id for group in instruments.values() for channel in group}
        missing = tuple(channel for name, channel in sorted(known.items()) if name not in there)
        for name, group in sorted(instruments.items()):
            days.append(InstrumentDay(name, tuple(group), missing))
            missing = ()
    return days


def why_nothing(source: Path, start: date, end: date, select: Sequence[str]) -> str:
    """Why :py:func:`scan` found nothing, in one line. Only the years asked for are searched."""
    years = sorted(path.name for path in source.iterdir() if re.fullmatch(r"\d{4}", path.name, re.ASCII))
    if not years:
        return f"{source} is no SDS archive: it has no folders of years with files {LAYOUT}."
    if not any(start.year <= int(year) <= end.year for year in years):
        return f"{source} has nothing from {start} to {end}: its years are {', '.join(years)}."
    days, skipped = scan(source, date(start.year, 1, 1), date(end.year, 12, 31))
    if not days:
        found = f", only such as {skipped[0].name} ({skipped[0].reason})" if skipped else ""
        return f"{source} has no files of channels Z, N, E, 1 or 2 named {LAYOUT} in these years{found}."
    channels = [channel for day in days for channel in day.channels]
    dates = sorted(x.day for x in channels if any(fnmatchcase(x.id, pattern) for pattern in select))
    if not dates:
        wanted = " ".join(select)
        return f"No channel of {source} matches {wanted}: patterns are NET.STA.LOC.CHA, such as {channels[0].id}."
    return f"{source} has nothing from {start} to {end}: in these years it has days from {dates[0]} to {dates[-1]}."


def channel_day(path: Path) -> ChannelDay | None:
    """The channel and day that a file is named after, if it is where such a file belongs; else None."""
    match = NAME.fullmatch(path.name)
    if not match:
        return None
    network, station, location, code, year, number = match.groups()
    try:
        day = date(int(year), 1, 1) + timedelta(days=int(number) - 1)
    except (ValueError, OverflowError):
        return None
    channel = ChannelDay(network, station, location, code, day)
    return channel if channel.path == path else None
