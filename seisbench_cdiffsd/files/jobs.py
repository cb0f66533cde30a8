"""
One kind of job: an instrument over a span of time becomes files. What there is to do in single files.

They become a file for each record, named by id and start time.
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from obspy import UTCDateTime

from seisbench_cdiffsd.denoising import fingerprint, margin, min_sampling_rate
from seisbench_cdiffsd.files.console import one_line
from seisbench_cdiffsd.files.ledger import Entry, Outcome
from seisbench_cdiffsd.files.reading import EXAMPLE, LONG_GAP, Block, Source, index, state
from seisbench_cdiffsd.files.writing import Output, Unwritable, written_as
from seisbench_cdiffsd.streams.components import COMPONENTS, Component, assign
from seisbench_cdiffsd.streams.pieces import listed
from seisbench_cdiffsd.weights import CDiffSD

#: Longest record, in seconds, of which the figure is not that of a day.
SHORT = 3600.0
#: Longest record of an instrument, in seconds, that becomes one file; longer ones become a file for each day.
LONGEST = 90000.0
#: Modules that decide what becomes of a file, from this folder; those that denoise are in the model's fingerprint.
CODE = ["extras.py", "jobs.py", "picks.py", "reading.py", "sds.py", "work.py", "writing.py"]
CODE += ["../picking.py", "../plotting.py"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to write."""

    out: Path  # folder of the outputs, and of the ledger
    model: str  # its fingerprint
    least: float  # rate in Hz up to which channels are too slow for the model
    reach: float  # how far a denoised sample depends on its surroundings, in seconds
    entries: str = ""  # folder of the entries in the ledger
    outputs: bool = True  # write denoised records
    waveforms: Path | None = None  # their folder, if it is another one
    noise: Path | None = None  # folder of the removed noise
    picks: bool = False  # write picks as a table, and as QuakeML for records in single files
    picking: Mapping[str, Any] = field(default_factory=dict)  # see Extras
    figures: bool = False  # and figures
    options: dict[str, Any] = field(default_factory=dict)  # arguments of `denoise`
    encoding: str = "float32"  # see MseedWriter, as for scale and location
    scale: float = 1.0
    location: str | None = None
    components: Mapping[str, str] = field(default_factory=dict)  # by name, see assign
    verify: bool = False  # compare files by their contents, not only by size and time
    source: Path = Path()  # folder of the archive
    weights: str = ""  # name, or path of a saved model, readable by the workers
    threads: int = 1  # of PyTorch in a worker; the output depends on them, within rounding

    @classmethod
    def of(cls, model: CDiffSD, out: Path, **kwargs: Any) -> "Settings":
        least, reach = min_sampling_rate(model), margin(model)
        return cls(out=out, model=fingerprint(model), least=least, reach=reach, **kwargs)

    def key(self, *parts: Any) -> str:
        """A hash of all of this that the samples depend on, and of more."""
        names = "model", "options", "encoding", "scale", "location", "components", "threads"
        picking = self.picking if self.entries else {}  # without a folder of its own, it follows from code and model
        known = _code(), [getattr(self, name) for name in names], picking, parts
        return sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def roots(self) -> dict[str, Path]:
        """Folders by kind of file."""
        outputs, noise = self.waveforms or self.out, self.noise or self.out
        return {"outputs": outputs, "noise": noise, "picks": self.out, "figures": self.out}

    @property
    def kinds(self) -> list[str]:
        """Kinds of files to write."""
        return [kind for kind in self.roots if getattr(self, kind)]


@cache
def _code() -> str:
    return sha256(b"".join((Path(__file__).parent / name).read_bytes() for name in CODE)).hexdigest()


@dataclass(frozen=True)
class Target:
    """Outputs that share an entry of the ledger."""

    name: str  # of the entry
    label: str  # what problems are about, if not about a file: the record, or the path in the archive
    ids: tuple[str, ...]  # channels
    paths: tuple[str, ...]  # files that are read for these channels alone, as they are called in reports
    files: Mapping[str, tuple[str, ...]]  # paths of the outputs by kind
    owned: str  # pattern of the paths of all outputs that such a target ever has


@dataclass
class Part:
    """A target while its job is done: where its samples are, and what becomes of it."""

    target: Target
    former: Entry | None  # of the run before
    entry: Entry = field(default_factory=Entry)  # of this one
    source: Source = field(default_factory=lambda: Source([], []))
    limits: tuple[UTCDateTime, UTCDateTime] | None = None  # times of what to write; None for nothing
    unread: bool = False  # its own file is damaged
    outputs: dict[str, Output] = field(default_factory=dict)  # by kind

    def problem(self, reason: str, about: str = "") -> None:
        """Note what is wrong with the outputs, or with a file."""
        about = about or self.target.label
        known = self.entry.problems.get(about)
        self.entry.problems[about] = f"{known}; {reason}" if known else reason


@dataclass(frozen=True, kw_only=True)
class Job:
    """What both kinds of jobs have."""

    name: str
    targets: tuple[Target, ...]
    title: str = ""  # line before the names of the outputs
    short: bool = False  # whether its figure is that of a record, not that of a day
    before: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # states of files when the command began
    missing: Mapping[str, Path] = field(default_factory=dict)  # files of channels that lack the day


@dataclass(frozen=True, kw_only=True)
class Record(Job):
    """A record of an instrument in single files."""

    source: Source
    limits: tuple[UTCDateTime, UTCDateTime]
    identities: frozenset[tuple[int, int]]  # of all inputs of the command

    def inputs(self, settings: Settings) -> dict[str, Path]:
        """Files that the outputs depend on, by their names in the ledger."""
        return {name: Path(name) for name in self.before}

    def is_input(self, path: Path, settings: Settings) -> bool:
        """Whether a path leads to an input of the command, or a ledger to its folder, by whatever links."""
        folders = {os.path.realpath(os.path.dirname(name)) for name in self.before}
        linked = path.parent not in settings.roots.values() and os.path.realpath(path.parent) in folders
        return linked or identity(path) in self.identities

    def open(self, parts: Iterable[Part], settings: Settings) -> dict[Path, str]:
        """Say where samples are; return files that cannot be read now, with reasons."""
        for part in parts:
            part.source, part.limits = self.source, self.limits
        return {}


def jobs_of_files(inputs: Iterable[str], settings: Settings) -> tuple[list[Record], list[Outcome]]:
    """
    What to write of files: one for each record of an instrument, which ends at a long gap, or for each day (UTC) of
    longer ones; and what failed or is skipped.
    """
    names = {name if name == str(EXAMPLE) else os.path.realpath(name): name for name in inputs}.values()
    before = {path: state(path) for path in map(Path, names)}  # before anything is read: a file may be growing
    identities = frozenset(filter(None, map(identity, before)))
    blocks: list[Block] = []
    outcomes: list[Outcome] = []
    for path in before:
        try:
            blocks += index(path)
        except Exception as error:  # a file takes no other one down
            outcomes.append(Outcome(str(path), "failed", one_line(error)))
    rates: dict[str, float] = {}
    lost = {(block.path, *problem) for block in blocks for problem in block.problems if problem[0]}
    found: dict[Path, dict[str, float]] = defaultdict(dict)
    for path, span in ((block.path, span) for block in blocks for span in block.spans):
        for known in (rates, found[path]):
            known[span.id] = max(known.get(span.id, 0.0), span.rate)
    outcomes += [Outcome(str(path), "partly", line) for path, channel, line in sorted(lost) if channel not in rates]
    components = assign(rates, settings.components)
    usable = {x for x in components if rates[x] > settings.least}
    outcomes += _left_out(found, rates, components, settings.least)
    clashes = _clashes(usable, components, settings)
    outcomes += [Outcome(x, "failed", why) for x, why in clashes.items()]
    instruments: dict[str, set[str]] = defaultdict(set)
    for channel in usable - clashes.keys():
        network_station, place, code = components[channel].instrument.rsplit(".", 2)
        place = place if settings.location is None else settings.location  # outputs are named as they are written
        instruments[f"{network_station}.{place}.{code}"].add(channel)
    jobs = []
    for instrument, ids in sorted(instruments.items()):
        source = Source(blocks, ids, settings.least)
        spans = np.array([(span.start.ns, span.end.ns) for span in source.spans])
        for start, end in _stretches(spans):
            first = spans[(spans[:, 0] < end.ns) & (spans[:, 1] >= start.ns), 0]
            if not len(first):  # the record ends at midnight, within rounding
                continue
            read = sorted({x.path for x in source.within(start - settings.reach, end + settings.reach)})
            name = file_name(instrument, max(start, UTCDateTime(ns=int(first.min()))))
            record = Record(
                name=name,
                targets=(_target(name, ids, read, settings),),
                title=f"{instrument}*  {start.strftime('%Y-%m-%d %H:%M:%S')}",
                short=end - start <= SHORT + 1,  # it ends up to a second after its last sample
                before={str(path.absolute()): before[path] for path in read},
                source=source,
                limits=(start, end),
                identities=identities,
            )
            jobs.append(record)
    return jobs, outcomes


def _left_out(
    found: Mapping[Path, dict[str, float]],
    rates: Mapping[str, float],
    components: Mapping[str, Component],
    least: float,
) -> Iterator[Outcome]:
    """Files without a usable channel, and channels of others that are not usable; given are rates in Hz by id."""
    wanted = f"{', '.join(COMPONENTS)} at more than {least:g} Hz"
    for path, own in found.items():
        if not any(x in components and rate > least for x, rate in own.items()):
            there = listed(f"{x} at {rate:g} Hz" for x, rate in sorted(own.items()))
            hint = "name components as in --components UD=Z NS=N EW=E"
            if own.keys() & components.keys():
                hint = "what is slower has nothing in the band of the weights"
            elif all(x.endswith(".") for x in own):
                hint = "give the channels codes, such as HHZ, in the file"
            yield Outcome(str(path), "failed", f"has no component {wanted}, but {there}: {hint}")
            continue
        for x in sorted(x for x in own if x not in components or rates[x] <= least):
            # a number may be that of a sensor, whose components have to be named; pressure and the like are no loss
            state = "partly" if rates[x] > least and x[-1:].isdigit() else "skipped"
            yield Outcome(x, state, f"not one of the components {wanted}; it has {rates[x]:g} Hz")


def identity(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        known = path.stat()
        return known.st_dev, known.st_ino
    return None


def _clashes(ids: Iterable[str], components: Mapping[str, Component], settings: Settings) -> dict[str, str]:
    """Why channels cannot be told apart, in miniSEED or as components, by id."""
    alike: dict[Any, list[str]] = defaultdict(list)
    why = {}
    for channel in sorted(ids):
        alike[components[channel]].append(channel)
        network, rest = channel.split(".", 1)
        try:
            alike[".".join(written_as((network, *rest.rsplit(".", 2)), settings.location))].append(channel)
        except Unwritable as error:
            why[channel] = str(error)
    for name, group in alike.items():
        new = f"component {name.letter} of {name.instrument}" if isinstance(name, Component) else name
        reason = f"{listed(group)} would both be {new}: rename one, or denoise them separately"
        why |= {channel: reason for channel in group} if len(group) > 1 else {}
    return why


def _stretches(limits: Any) -> Iterator[tuple[UTCDateTime, UTCDateTime]]:
    """Spans of time, each a record or a day of one, from times of first and last samples in ns, in order."""
    ends = np.maximum.accumulate(limits[:, 1])
    for record in np.split(limits, np.flatnonzero(limits[1:, 0] - ends[:-1] > LONG_GAP * 1e9) + 1):
        start, end = UTCDateTime(ns=int(record[0, 0])), UTCDateTime(ns=int(record[:, 1].max()))
        if end - start <= LONGEST:
            yield start, end + 1
            continue
        for day in range(int(start.timestamp // 86400), int(end.timestamp // 86400) + 1):
            yield max(UTCDateTime(day * 86400), start), min(UTCDateTime((day + 1) * 86400), end + 1)


def file_name(instrument: str, start: UTCDateTime) -> str:
    """Codes and time of the first sample; codes that are no file names get a number, so no two have one name."""
    text = instrument.lstrip(".") or "record"
    name = re.sub(r"[^\w.-]", "_", text)
    number = "" if name == text and instrument.count(".") == 3 else f"-{sha256(instrument.encode()).hexdigest()[:8]}"
    return f"{name}{number}.{start.strftime('%Y%m%dT%H%M%S')}"


def _target(name: str, ids: Iterable[str], paths: Iterable[Path], settings: Settings) -> Target:
    scaled = f".x{settings.scale:g}" if settings.scale != 1 else ""
    endings: dict[str, tuple[str, ...]] = {"outputs": (f"denoised{scaled}.mseed",), "noise": (f"noise{scaled}.mseed",)}
    endings |= {"picks": ("picks.csv", "picks.xml"), "figures": ("png",)}
    files = {kind: tuple(f"{name}.{ending}" for ending in known) for kind, known in endings.items()}
    owned = re.escape(name) + r"\.(?:(?:denoised|noise)(?:\.x[0-9.e+-]+)?\.mseed|picks\.(?:csv|xml)|png)"
    return Target(f"{settings.entries}{name}", name, tuple(sorted(ids)), tuple(map(str, paths)), files, owned)
