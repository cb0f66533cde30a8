"""The layout of archives of continuous data (SDS): a file for each channel and day, found by its name."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from fnmatch import fnmatchcase
from pathlib import Path

from seisbench_cdiffsd.files.manifest import Outcome

#: Letters and digits only, so no code can lead out of the folder of the outputs.
NAME = re.compile(r"([A-Z0-9]{1,2})\.([A-Z0-9]{1,5})\.([A-Z0-9]{0,2})\.([A-Z0-9]{3})\.D\.(\d{4})\.(\d{3})", re.ASCII)


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

    @property
    def path(self) -> Path:
        """Path in the archive."""
        folder = Path(f"{self.day:%Y}", self.network, self.station, f"{self.channel}.D")
        return folder / f"{self.id}.D.{self.day:%Y.%j}"

    @property
    def task(self) -> str:
        """Name of the station-day."""
        return f"{self.network}.{self.station}.{self.day:%Y.%j}"

    def on(self, day: date) -> ChannelDay:
        """The same channel on another day."""
        return ChannelDay(self.network, self.station, self.location, self.channel, day)


@dataclass(frozen=True)
class Task:
    """
    One day of one station.

    :param name: Network, station, year and day
    :param day: Day
    :param channels: The channels of this day
    :param missing: Channels that exist only on other days, each with one of these days
    """

    name: str
    day: date
    channels: tuple[ChannelDay, ...]
    missing: tuple[ChannelDay, ...] = ()


#: Folders of a file in the archive: year, network, station, channel.
DEPTH = 4


def scan(
    source: Path, start: date, end: date, select: Iterable[str] = ("*",), components: str = "ZNE12"
) -> tuple[list[Task], list[Outcome]]:
    """
    The station-days of an archive.

    :param source: Folder of the archive
    :param start: First day
    :param end: Last day
    :param select: Patterns of channel ids, such as "CH.*.*.HH?"
    :param components: Last letters of the channels; others, such as logs and pressure, are skipped
    :return: Tasks in order of their names; then channels that were skipped, and files that are not where their names
        belong
    :raises OSError: If the archive cannot be read
    """
    patterns = list(select)
    days: dict[tuple[str, str, date], set[ChannelDay]] = defaultdict(set)
    known: dict[tuple[str, str], dict[str, ChannelDay]] = defaultdict(dict)
    strange: list[Outcome] = []
    others: set[str] = set()

    def unreadable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # a year without data
            path = Path(error.filename).relative_to(source)
            strange.append(Outcome(str(path), "failed", f"cannot be read: {error.strerror}"))

    for year in range(start.year, end.year + 1):
        for folder, folders, files in os.walk(source / str(year), onerror=unreadable, followlinks=True):
            if len(Path(folder).relative_to(source).parts) >= DEPTH:
                folders.clear()  # a link to a parent folder would never end
            for file in files:
                path = Path(folder, file).relative_to(source)
                if file.startswith("."):
                    continue
                channel = channel_day(path)
                if channel is None:
                    strange.append(Outcome(str(path), "failed", "is not where its name belongs in an SDS archive"))
                elif not is_asked_for(channel, start, end, patterns):
                    continue
                elif channel.channel[-1] not in components:
                    others.add(channel.channel)
                else:
                    days[channel.network, channel.station, channel.day].add(channel)
                    # the first day, to be the same one for all tasks and shards
                    first = known[channel.network, channel.station].setdefault(channel.id, channel)
                    known[channel.network, channel.station][channel.id] = min(first, channel)
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is not a directory.")
    tasks = []
    for (network, station, day), channels in days.items():
        there = {channel.id for channel in channels}
        missing = sorted(channel for name, channel in known[network, station].items() if name not in there)
        tasks.append(Task(min(channels).task, day, tuple(sorted(channels)), tuple(missing)))
    skipped = [Outcome(f"*.{code}", "skipped", f"not one of the components {components}") for code in sorted(others)]
    return sorted(tasks, key=lambda task: task.name), [*skipped, *sorted(strange)]


def why_nothing(source: Path, start: date, end: date, select: Iterable[str]) -> str:
    """
    Why :py:func:`scan` found no tasks, in one line. Only the years asked for are searched.

    :param source: Folder of the archive
    :param start: First day
    :param end: Last day
    :param select: Patterns of channel ids
    """
    patterns, layout = list(select), "YEAR/NET/STA/CHAN.D/NET.STA.LOC.CHAN.D.YEAR.DAY"
    years = sorted(path.name for path in source.iterdir() if re.fullmatch(r"\d{4}", path.name, re.ASCII))
    if not years:
        return f"{source} is no SDS archive: it has no folders of years with files {layout}."
    if not any(start.year <= int(year) <= end.year for year in years):
        return f"{source} has nothing from {start} to {end}: its years are {', '.join(years)}."
    tasks, skipped = scan(source, date(start.year, 1, 1), date(end.year, 12, 31))
    if not tasks:
        found = f", only such as {skipped[0].name} ({skipped[0].reason})" if skipped else ""
        return f"{source} has no files of channels Z, N, E, 1 or 2 named {layout} in these years{found}."
    channels = [channel for task in tasks for channel in task.channels]
    days = sorted(x.day for x in channels if any(fnmatchcase(x.id, pattern) for pattern in patterns))
    if not days:
        wanted = " ".join(patterns)
        return f"No channel of {source} matches {wanted}: patterns are NET.STA.LOC.CHA, such as {channels[0].id}."
    return f"{source} has nothing from {start} to {end}: in these years it has days from {days[0]} to {days[-1]}."


def is_asked_for(channel: ChannelDay, start: date, end: date, select: Iterable[str]) -> bool:
    """Whether a day of a channel is from `start` to `end`, and its id matches one of the patterns."""
    return start <= channel.day <= end and any(fnmatchcase(channel.id, pattern) for pattern in select)


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


def shard(tasks: list[Task], number: int, count: int) -> list[Task]:
    """One of `count` parts of the tasks, of nearly equal size; `number` counts from one."""
    return tasks[number - 1 :: count]
