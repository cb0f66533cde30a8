"""
One kind of job: an instrument over a span of time becomes files. A rerun does only what is missing.

Single files become a file for each record, named by id and start time (:py:func:`jobs_of_files`); archives a file for
each channel and day (:py:func:`jobs_of_archive`).
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import obspy
from obspy import Stream, UTCDateTime
from seisbench.models import WaveformModel

from seisbench_cdiffsd.files import ledger
from seisbench_cdiffsd.files.console import one_line
from seisbench_cdiffsd.files.continuous import between, denoised_pieces, fingerprint, margin
from seisbench_cdiffsd.files.ledger import Entry, Outcome
from seisbench_cdiffsd.files.picklists import Picks, describe, write_csv, write_quakeml
from seisbench_cdiffsd.files.reading import LONG_GAP, Held, Readable, ReadError, Source, Span, Unavailable, index, state
from seisbench_cdiffsd.files.sds import DAY, InstrumentDay, channel_day
from seisbench_cdiffsd.files.writing import CODE_LENGTHS, MseedWriter, Unwritable, replacing, replacing_file
from seisbench_cdiffsd.model import CDiffSD
from seisbench_cdiffsd.picking import pick_stream
from seisbench_cdiffsd.plotting import plot_denoised
from seisbench_cdiffsd.streams.components import COMPONENTS, Component, assign
from seisbench_cdiffsd.streams.pieces import LARGEST
from seisbench_cdiffsd.streams.records import joined

#: Longest record, in seconds, that gets a figure, and picks before and after.
SHORT = 3600.0
#: Longest record of an instrument, in seconds, that becomes one file; longer ones become a file for each day.
LONGEST = 90000.0
#: Relative distance of sampling rates that are told apart.
OTHER_RATE = 1e-3
#: Errors after which no other job can write its files either.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
#: At most so many ids and files are named in a message.
NAMED = 6


class Changed(OSError):
    """A file changed while it was read."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    What to write.

    :param out: Folder of the outputs, and of the ledger
    :param model: :py:func:`fingerprint` of the model
    :param least: Rates up to this one, in Hz, are too slow for the model
    :param reach: How far a denoised sample depends on its surroundings, in seconds
    :param noise: Folder of the removed noise, or None
    :param picks: Write the picks on the denoised records as CSV and QuakeML (single files)
    :param figures: Draw records of up to an hour (single files)
    :param options: Arguments of :py:meth:`CDiffSD.denoise`
    :param encoding: See :py:class:`MseedWriter`
    :param scale: Likewise
    :param location: Likewise
    :param components: Components by name, see :py:func:`assign`
    :param verify: Compare files by their contents, not only by size and time
    :param source: Folder of the archive
    :param weights: Name of weights, or path of a saved model, readable by the workers
    :param threads: Threads of PyTorch in a worker; the output depends on them, within rounding
    """

    out: Path
    model: str
    least: float
    reach: float
    noise: Path | None = None
    picks: bool = False
    figures: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    encoding: str = "float32"
    scale: float = 1.0
    location: str | None = None
    components: Mapping[str, str] = field(default_factory=dict)
    verify: bool = False
    source: Path = Path()
    weights: str = ""
    threads: int = 1

    @classmethod
    def of(cls, model: CDiffSD, out: Path, **kwargs: Any) -> Settings:
        """Settings for a model."""
        least, reach = model.min_sampling_rate, margin(model)
        return cls(out=out, model=fingerprint(model), least=least, reach=reach, **kwargs)

    def key(self, *parts: Any) -> str:
        """A hash of all of this that the samples depend on, and of more."""
        names = "model", "options", "encoding", "scale", "location", "components", "threads"
        return ledger.key({name: value for name, value in asdict(self).items() if name in names}, *parts)

    @property
    def roots(self) -> dict[str, Path]:
        """Folders by kind of file."""
        return {"outputs": self.out, "picks": self.out, "figures": self.out, "noise": self.noise or self.out}


@dataclass(frozen=True)
class Target:
    """
    Outputs that share an entry of the ledger.

    :param name: Name of the entry: that of the record, or the path in the denoised archive
    :param label: What problems are about, if not about a file: the record, or the path in the archive
    :param ids: Channels
    :param paths: Files that are read for these channels alone, by what they are called in reports
    :param files: Paths of the outputs by kind
    :param owned: Pattern of the paths of all outputs that such a target ever has
    """

    name: str
    label: str
    ids: tuple[str, ...]
    paths: Mapping[str, Path]
    files: Mapping[str, tuple[str, ...]]
    owned: str

    def __hash__(self) -> int:
        return hash((self.name, self.label))


@dataclass
class Opened:
    """The samples of a job: where they are, over which time, and what is wrong with them, by target."""

    sources: dict[Target, Source] = field(default_factory=dict)
    limits: dict[Target, tuple[UTCDateTime, UTCDateTime]] = field(default_factory=dict)
    problems: dict[Target, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    skipped: dict[Target, str] = field(default_factory=dict)
    unread: set[Target] = field(default_factory=set)
    unavailable: dict[Path, str] = field(default_factory=dict)


# -- single files


@dataclass(frozen=True)
class Record:
    """A record of an instrument in single files; `before` are their states when the command began."""

    name: str
    targets: tuple[Target, ...]
    components: Mapping[str, Component]
    source: Source
    start: UTCDateTime
    end: UTCDateTime
    before: Mapping[Path, tuple[Any, ...]]
    identities: frozenset[tuple[int, int]]

    @property
    def short(self) -> bool:
        """Whether the record gets a figure; a job ends up to a second after its last sample."""
        return self.end - self.start <= SHORT + 1

    def inputs(self, settings: Settings) -> dict[str, Path]:
        """Files that the outputs depend on, by their names in the ledger."""
        return {str(path.absolute()): path for path in self.targets[0].paths.values()}

    def states(self, settings: Settings) -> list[Any]:
        """Name, size and time of these files as they are now."""
        return [(name, *state(path)) for name, path in self.inputs(settings).items()]

    def known(self, settings: Settings) -> list[Any]:
        """The states that the outputs are made of."""
        return [(name, *self.before[path]) for name, path in self.inputs(settings).items()]

    def is_input(self, path: Path, settings: Settings) -> bool:
        """Whether a path leads to an input of the command, by whatever links."""
        return _identity(path) in self.identities

    def open(self, settings: Settings) -> Opened:
        """Its samples, and what is odd about them."""
        (target,) = self.targets
        opened = Opened({target: self.source}, {target: (self.start, self.end)})
        for name, path in target.paths.items():
            spans = [span for part in self.source.parts if part.path == path for span in part.spans]
            reason = _other_rates([span for span in spans if span.id in target.ids], settings)
            if reason:
                opened.problems[target][name] = reason
        return opened


def jobs_of_files(inputs: Iterable[str], settings: Settings) -> tuple[list[Record], list[Outcome]]:
    """
    The files to write: one for each instrument, or one a day (UTC) for longer records. Long gaps, as between several
    earthquakes in one file, separate records.

    :param inputs: Paths, or "example"
    :param settings: Settings
    :return: Jobs, and what failed or is skipped
    """
    names = {name if name == "example" else os.path.realpath(name): name for name in inputs}.values()
    paths = [Path(name) for name in names]
    before = {path: state(path) for path in paths}  # before anything is read: a file may be growing
    identities = frozenset(filter(None, map(_identity, paths)))
    parts: list[Readable] = []
    outcomes = []
    for path in paths:
        try:
            parts += [Held(obspy.read(), path)] if str(path) == "example" else index(path)
        except Exception as error:  # a file takes no other one down
            outcomes.append(Outcome(str(path), "failed", one_line(error)))
    rates: dict[str, float] = {}
    of: dict[str, list[tuple[Span, Readable]]] = defaultdict(list)
    for part in parts:
        for span in part.spans:
            rates[span.id] = max(rates.get(span.id, 0.0), span.rate)
            of[span.id].append((span, part))
    components = assign(rates, settings.components)
    usable = {x for x in components if rates[x] > settings.least}
    wanted = f"{', '.join(COMPONENTS)} at more than {settings.least:g} Hz"
    for path in sorted({part.path for part in parts}):
        ids = {span.id for part in parts if part.path == path for span in part.spans}
        if not ids & usable:
            found = _listed(f"{x} at {rates[x]:g} Hz" for x in sorted(ids))
            how = "name components as in --components UD=Z NS=N EW=E"
            outcomes.append(Outcome(str(path), "failed", f"has no component {wanted}, but {found}: {how}"))
        else:
            why = f"not one of the components {wanted}"
            outcomes += [Outcome(x, "skipped", f"{why}; it has {rates[x]:g} Hz") for x in sorted(ids - usable)]
    clashes = _clashes(usable, components, settings)
    damaged = defaultdict(list)  # parts of which nothing can be read
    for part in parts:
        if not part.spans:
            damaged[part.path].append(part)
    instruments: dict[str, set[str]] = defaultdict(set)
    for channel in usable:
        instruments[components[channel].instrument].add(channel)
    jobs = []
    for instrument, ids in sorted(instruments.items()):
        wrong = sorted({clashes[x] for x in ids if x in clashes})
        if wrong:
            outcomes.append(Outcome(f"{instrument}*", "failed", "; ".join(wrong)))
            continue
        there = [item for x in sorted(ids) for item in of[x] if item[0].rate > settings.least]
        limits = np.array([(span.start.ns, span.end.ns) for span, _ in there])

        def within(start: UTCDateTime, end: UTCDateTime, there: Any = there, limits: Any = limits) -> list[Any]:
            return [there[i] for i in np.flatnonzero((limits[:, 0] <= end.ns) & (limits[:, 1] >= start.ns))]

        for start, end in _stretches(np.sort(limits, axis=0) if len(ids) == 1 else limits[limits[:, 0].argsort()]):
            spans = [span for span, _ in within(start, end) if span.start < end]
            if not spans:  # the record ends at midnight, within rounding
                continue
            name = file_name(instrument, max(start, min(span.start for span in spans)))
            near = {id(part): part for _, part in within(start - settings.reach, end + settings.reach)}.values()
            read = sorted({part.path for part in near})
            target = Target(
                name, name, tuple(sorted(ids)), {str(x): x for x in read}, _files_of(name, settings), _owned_by(name)
            )
            source = Source([*near, *(part for path in read for part in damaged[path])], ids)
            of_ids = {x: components[x] for x in ids}
            jobs.append(Record(name, (target,), of_ids, source, start, end, before, identities))
    return jobs, outcomes


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        known = path.stat()
    except OSError:
        return None
    return known.st_dev, known.st_ino


def _listed(names: Iterable[str]) -> str:
    first = [*names]
    more = f" and {len(first) - NAMED} more" if len(first) > NAMED else ""
    return ", ".join(first[:NAMED]) + more


def _clashes(ids: Iterable[str], components: Mapping[str, Component], settings: Settings) -> dict[str, str]:
    """What keeps channels from being told apart, in miniSEED or as components, by id."""
    alike: dict[Any, list[str]] = defaultdict(list)
    for channel in sorted(ids):
        alike[written_id(channel, settings.location)].append(channel)
        alike[components[channel]].append(channel)
    return {
        channel: f"{', '.join(group)} would be one channel, {name if isinstance(name, str) else name.letter}: "
        "rename them, or denoise them separately"
        for name, group in alike.items()
        if len(group) > 1
        for channel in group
    }


def written_id(channel: str, location: str | None = None) -> str:
    """The id of a channel in miniSEED, which cuts codes and drops blanks around them."""
    network, rest = channel.split(".", 1)
    station, place, code = rest.rsplit(".", 2)
    codes = zip((network, station, place if location is None else location, code), CODE_LENGTHS.values(), strict=True)
    return ".".join(text[:length].strip() for text, length in codes)


def _stretches(limits: Any) -> Iterator[tuple[UTCDateTime, UTCDateTime]]:
    """Spans of time, each a record or a day of one, from times of first and last samples in ns, in order."""
    records: list[list[int]] = []
    for start, end in limits.tolist():
        if records and start - records[-1][1] <= LONG_GAP * 1e9:
            records[-1][1] = max(records[-1][1], end)
        else:
            records.append([start, end])
    for first, last in records:
        start, end = UTCDateTime(ns=first), UTCDateTime(ns=last)
        if end - start <= LONGEST:
            yield start, end + 1
            continue
        for day in range(int(start.timestamp // 86400), int(end.timestamp // 86400) + 1):
            yield max(UTCDateTime(day * 86400), start), min(UTCDateTime((day + 1) * 86400), end + 1)


def file_name(instrument: str, start: UTCDateTime) -> str:
    """
    Name of the output of an instrument, without suffix: its codes and the time of the first sample.

    Codes that are no file names get a number of their own, so no two instruments have one name.
    """
    text = instrument.lstrip(".") or "record"
    name = re.sub(r"[^\w.-]", "_", text)
    number = "" if name == text and instrument.count(".") == 3 else f"-{sha256(instrument.encode()).hexdigest()[:8]}"
    return f"{name}{number}.{start.strftime('%Y%m%dT%H%M%S')}"


def _files_of(name: str, settings: Settings) -> dict[str, tuple[str, ...]]:
    scaled = f".x{settings.scale:g}" if settings.scale != 1 else ""
    return {
        "outputs": (f"{name}.denoised{scaled}.mseed",),
        "noise": (f"{name}.noise{scaled}.mseed",),
        "picks": (f"{name}.picks.csv", f"{name}.picks.xml"),
        "figures": (f"{name}.png",),
    }


def _owned_by(name: str) -> str:
    return re.escape(name) + r"\.(?:(?:denoised|noise)(?:\.x[0-9.e+-]+)?\.mseed|picks\.(?:csv|xml)|png)"


def denoise_files(
    model: CDiffSD,
    inputs: Iterable[str],
    settings: Settings,
    picker: WaveformModel | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Iterator[Outcome]:
    """
    Denoise files, one instrument after the other.

    :param model: The model
    :param inputs: Paths, or "example"
    :param settings: What to write
    :param picker: A SeisBench picker, for `settings.picks`
    :param report: Called with what was written, line by line
    :return: Outcomes of the inputs that failed, and of each output
    :raises OSError: If nothing can be written to the folder
    """
    jobs, outcomes = jobs_of_files(inputs, settings)
    yield from [*outcomes]
    if jobs:
        settings.out.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        done = attempt(job, settings, lambda: model, 0, picker=picker, report=report)
        outcomes += done
        yield from done
    yield from gone(jobs, outcomes, settings)


# -- archives


@dataclass(frozen=True)
class Day:
    """A day of an instrument in an archive."""

    day: InstrumentDay
    targets: tuple[Target, ...]

    @property
    def name(self) -> str:
        """Name of the instrument and the day."""
        return self.day.name

    @property
    def components(self) -> Mapping[str, Component]:
        """Components by id."""
        return self.day.components

    short = False

    def inputs(self, settings: Settings) -> dict[str, Path]:
        """The files of these channels, and those of the days before and after, by their paths in the archive."""
        around = (channel.on(channel.day + i * DAY).path for channel in self.day.channels for i in (-1, 0, 1))
        return {path.as_posix(): settings.source / path for path in around}

    def states(self, settings: Settings) -> list[Any]:
        """Name, size and time of these files."""
        return [state(path) for path in self.inputs(settings).values()]

    known = states

    def is_input(self, path: Path, settings: Settings) -> bool:
        """Whether a path leads to a file of the archive, by whatever links."""
        real, source = (Path(os.path.realpath(x)) for x in (path, settings.source))
        if real.is_relative_to(source) and channel_day(real.relative_to(source)):
            return True
        own = _identity(path)
        twins = (settings.source / path.relative_to(x) for x in settings.roots.values() if path.is_relative_to(x))
        return own is not None and any(own == _identity(twin) for twin in twins)

    def open(self, settings: Settings) -> Opened:
        """Look up what the files contain."""
        opened = Opened()
        start = UTCDateTime(self.day.channels[0].day.isoformat())
        for channel, target in zip(self.day.channels, self.targets, strict=True):
            problems, parts = opened.problems[target], []
            for i in (-1, 0, 1):
                path = settings.source / channel.on(channel.day + i * DAY).path
                try:
                    parts.append(index(path) if i == 0 or path.exists() else [])
                except Exception as error:  # a file takes no other one down
                    parts.append([])
                    if isinstance(error, Unavailable):
                        opened.unavailable[path] = str(error)
                    if i == 0:
                        problems[target.label] = one_line(error)
                        opened.unread.add(target)
            self._select(opened, target, channel.id, start, parts, settings)
        return opened

    def _select(
        self, opened: Opened, target: Target, name: str, start: UTCDateTime, parts: Any, settings: Settings
    ) -> None:
        """Note the samples of a channel on this day, with those around it, and what is wrong with them."""
        before, own, after = parts
        end, reach, problems = start + 86400, settings.reach, opened.problems[target]
        every = [span for part in own for span in part.spans]
        if every and max(span.rate for span in every) <= settings.least:  # as those of mass positions
            opened.skipped[target] = f"at {settings.least:g} Hz or less"
            return
        # samples a little outside of the day belong to the file of that day, but to this one if that is missing
        first, last = start if before else start - reach, end if after else end + reach
        spans = [span for span in every if span.id == name]
        others = sorted({span.id for span in every} - {name})
        outside = [span for span in spans if span.start < start - reach or span.end > end + reach]
        rates = _other_rates(spans, settings)
        if others:
            problems[target.label] = f"contains {_listed(others)}, which was left out"
        elif outside:
            times = f"{min(span.start for span in outside)} to {max(span.end for span in outside)}"
            problems[target.label] = f"contains samples of other days, {times}, which were left out"
        elif rates:
            problems[target.label] = rates
        if any(span.start < last and span.end >= first for span in spans):
            opened.sources[target] = Source([*before, *own, *after], [name])
            opened.limits[target] = first, last
        elif own:
            problems.setdefault(target.label, "has no samples of its day")


def jobs_of_archive(days: Iterable[InstrumentDay], settings: Settings) -> list[Day]:
    """The jobs of days of instruments, each channel with an output of its own."""
    jobs = []
    for day in days:
        targets = []
        for channel in day.channels:
            output = channel.at(settings.location).path.as_posix()
            files = {"outputs": (output,), "noise": (output,)}
            own = {channel.path.as_posix(): settings.source / channel.path}
            name = ".".join(output.rsplit(".D.", 1))  # an entry is no day file
            targets.append(Target(name, channel.path.as_posix(), (channel.id,), own, files, re.escape(output)))
        jobs.append(Day(day, tuple(targets)))
    return jobs


Job = Record | Day


def _other_rates(spans: Sequence[Span], settings: Settings) -> str:
    """What is odd about the sampling rates of the spans of a file; empty if nothing is."""
    told = []
    for name in sorted({span.id for span in spans}):
        seconds: Counter[float] = Counter()
        for span in spans:
            if span.id == name:
                seconds[span.rate] += span.end - span.start + 1 / span.rate if span.rate else 0
        main = max((x for x in seconds if x > settings.least), key=lambda x: seconds[x], default=0.0)
        odd = [f"{x:g}" for x in sorted(seconds) if main and abs(x / main - 1) > OTHER_RATE]
        if odd:
            told.append(f"{name} has samples at {', '.join(odd)} Hz beside those at {main:g} Hz")
    return "; ".join(told)


# -- both


def if_done(job: Job, settings: Settings) -> list[Outcome]:
    """The outcomes of a job if all of it is done; none if something is left to do."""
    entries = _entries(job, settings)
    done = _is_done(job, entries, settings.key(job.name, job.known(settings)), settings)
    return _outcomes(job, entries, "complete", settings) if done else []


def _entries(job: Job, settings: Settings) -> dict[Target, Entry]:
    return {target: ledger.read(ledger.entry_path(settings.out, target.name)) for target in job.targets}


def _kinds(job: Job, settings: Settings) -> list[str]:
    """Kinds of files that are wanted."""
    wanted = {"noise": settings.noise, "picks": settings.picks, "figures": settings.figures and job.short}
    return ["outputs", *(kind for kind, asked in wanted.items() if asked)]


def _is_done(job: Job, entries: Mapping[Target, Entry], key: str, settings: Settings) -> bool:
    """Whether entries have this key and their files exist. With the same key a rerun would have the same problems."""
    for target, entry in entries.items():
        if entry.get("key") != key:
            return False
        for kind in _kinds(job, settings) if entry["files"].get("outputs") else []:
            known, root = entry["files"].get(kind, {}), settings.roots[kind]
            if kind == "noise" and entry["noise folder"] != ledger.place(root, settings.out):
                return False
            if not all(x in known and ledger.is_there(root / x, known[x], settings.verify) for x in target.files[kind]):
                return False
        if settings.verify:
            now = job.inputs(settings)
            if any(ledger.digest(now[x]) != known for x, known in entry["inputs"].items() if x in now):
                return False
    return True


def gone(jobs: Iterable[Job], outcomes: Iterable[Outcome], settings: Settings) -> list[Outcome]:
    """What was done, or was complete, and is there no more at the end of a run."""
    done = {outcome.name for outcome in outcomes if outcome.state in ("done", "complete")}
    lost = []
    for job in (job for job in jobs if job.name in done):
        for target, entry in _entries(job, settings).items():
            there = (
                ledger.is_there(settings.roots[kind] / name, known)
                for kind in _kinds(job, settings)
                for name, known in (entry["files"].get(kind, {}) if entry else {}).items()
            )
            if not entry or not all(there):
                lost.append(Outcome(job.name, "failed", f"what was made of {target.label} is gone again"))
    return lost


def write_manifest(jobs: Iterable[Job], settings: Settings, name: str = "manifest.json", whole: bool = True) -> Path:
    """
    Write the manifest of an archive: the outputs that exist now with size and SHA-256, and the problems.

    :param jobs: Jobs of this run
    :param settings: Settings
    :param name: Name of the manifest
    :param whole: Include all outputs in the folder, not only those of these jobs
    :return: Path of the manifest, in the folder of the outputs
    :raises OSError: If it cannot be written
    """
    out, noise = settings.out, settings.noise
    total: dict[str, Any] = {"problems": {}, "outputs": {}} | ({} if noise is None else {"noise": {}})
    own = {ledger.entry_path(out, target.name): job.name for job in jobs for target in job.targets}
    entries = {
        path: ledger.read(path) for path in {*own, *((out / ledger.FOLDER).glob("*/*/*/*/*.json") if whole else ())}
    }
    models = set()
    for _, entry in sorted((str(path), entry) for path, entry in entries.items() if entry):
        total["problems"] |= entry["problems"]
        for kind in total.keys() & entry["files"].keys():
            if kind == "noise" and entry["noise folder"] != ledger.place(settings.roots[kind], out):
                continue
            for path, known in entry["files"][kind].items():
                if channel_day(Path(path)) and ledger.is_there(settings.roots[kind] / path, known):
                    total[kind][path] = known
                    models.add(entry["model"])
    total |= {"missing": sorted({job for path, job in own.items() if not entries[path]}), "models": sorted(models)}
    with replacing(out / name) as temporary:
        temporary.write_text(json.dumps(total, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return out / name


def attempt(
    job: Job, settings: Settings, model: Callable[[], CDiffSD], retries: int = 2, **kwargs: Any
) -> list[Outcome]:
    """
    Run a job, again after an error; return its outcomes.

    :raises OSError: If there is no room for outputs, of this or any job
    """
    try:
        return run(job, settings, model, **kwargs)
    except Exception as error:
        if retries:
            return attempt(job, settings, model, retries - 1, **kwargs)
        return failed(job, error)


def failed(job: Job, error: BaseException) -> list[Outcome]:
    """The outcome of a job that raised an error; raises the error again if all other jobs would fail alike."""
    if isinstance(error, OSError) and error.errno in FULL:
        raise error
    files = [] if isinstance(error, OSError) else [target.label for target in job.targets if target.label != job.name]
    about = f" ({_listed(files)})" if files else ""
    return [Outcome(job.name, "failed", one_line(error) + about)]


def run(
    job: Job,
    settings: Settings,
    model: Callable[[], CDiffSD],
    picker: WaveformModel | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[Outcome]:
    """
    Do a job, unless it is done. No file is left incomplete; entries in the ledger are written last.

    :param job: The job
    :param settings: Settings
    :param model: Returns the model, if it is needed
    :param picker: A picker, for `settings.picks`
    :param report: Called with what was written, line by line
    :return: Outcomes of the job, and of files with problems
    :raises OSError: If the outputs cannot be written
    :raises Changed: If a file changed while it was read; nothing is written then
    """
    states = job.known(settings)
    key, former, kinds = settings.key(job.name, states), _entries(job, settings), _kinds(job, settings)
    if _is_done(job, former, key, settings):
        return _outcomes(job, former, "complete", settings)
    paths = [settings.roots[kind] / name for x in job.targets for kind in kinds for name in x.files[kind]]
    paths += [ledger.entry_path(settings.out, target.name) for target in job.targets]
    own = [path for path in paths if job.is_input(path, settings)]
    if own:
        raise ValueError(f"{own[0]} is its own input, or another one: choose another folder for the outputs")
    opened = job.open(settings)
    used = [target for target in job.targets if target not in opened.skipped]
    count = Counter(target.name for target in used)
    alike = sorted(x for target in used if count[target.name] > 1 for x in target.ids)
    if alike:
        return [Outcome(job.name, "failed", f"{', '.join(alike)} would be one channel: choose one with --select")]
    made = _Made(job, settings, opened)
    made.write(model(), states, former, picker)
    if made.left:
        left = "the output of its instrument is left as it is"
        return [Outcome(name, "failed", f"{why.rstrip('.')}; {left}") for name, why in sorted(made.left.items())]
    removed = made.commit(key, former)
    if isinstance(job, Record):
        instrument = next(iter(job.components.values())).instrument
        made.lines.insert(0, f"{instrument}*  {job.start.strftime('%Y-%m-%d %H:%M:%S')}")
    with suppress(ValueError, OSError):  # what is written is done, even if the console cannot print its name
        for line in made.lines:
            report(line)
    return [*removed, *_outcomes(job, _entries(job, settings), "done", settings)]


def _outcomes(job: Job, entries: Mapping[Target, Entry], state: str, settings: Settings) -> list[Outcome]:
    """Outcomes of a job, from its entries."""
    rows, notes, losses = [], _missing(job, settings), [(math.inf, "")]
    if settings.figures and not job.short:
        notes.append("no figure: longer than an hour")
    for target, entry in entries.items():
        problems, made = dict(entry["problems"]), entry["files"].get("outputs")
        if entry["skipped"]:
            rows += [Outcome(f"*.{x.rpartition('.')[2]}", "skipped", entry["skipped"]) for x in target.ids]
        if not made and len(problems) > 1 and target.label in problems:
            files = "; ".join(f"{name}: {why}" for name, why in sorted(problems.items()) if name != target.label)
            problems = {target.label: f"{problems[target.label]} ({files})"}
        rows += [Outcome(name, "partly" if made else "failed", why) for name, why in sorted(problems.items())]
        notes += entry["notes"] if made else []
        losses += [
            (x.get("ratio", math.inf), x.get("loss", "")) for kind in entry["files"].values() for x in kind.values()
        ]
    if not any(entry["files"].get("outputs") for entry in entries.values()):
        return rows or [Outcome(job.name, "failed", "no samples")]
    return [*rows, Outcome(job.name, state, "; ".join(notes), *min(losses, key=lambda x: (x[0], not x[1])))]


def _missing(job: Job, settings: Settings) -> list[str]:
    """Channels of the station that exist only on other days, except those that are too slow for the model."""
    missing = [] if isinstance(job, Record) else job.day.missing
    ids = [x.id for x in missing if not _is_slow_file(settings.source / x.path, settings.least)]
    return [f"no {', '.join(ids)}"] if ids else []


@lru_cache(maxsize=1024)  # as this holds for all days that lack the channel
def _is_slow_file(path: Path, least: float) -> bool:
    try:
        rates = [span.rate for part in index(path) for span in part.spans]
    except ReadError:
        return False
    return bool(rates) and max(rates) <= least


class _Output:
    """A miniSEED file that is written, then kept or dropped."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path, self._file = path, replacing_file(path)
        self.writer = MseedWriter(self._file.__enter__(), settings.encoding, settings.scale, settings.location)
        self._open = True

    def keep(self) -> None:
        """Give it its name."""
        self._open = False
        self._file.__exit__(None, None, None)

    def drop(self) -> None:
        """Remove it, unless it is kept."""
        if self._open:
            self._open = False
            self._file.__exit__(ValueError, ValueError("dropped"), None)


class _Made:
    """What becomes of the samples of a job."""

    def __init__(self, job: Job, settings: Settings, opened: Opened) -> None:
        self.job, self.settings, self.opened, self.problems = job, settings, opened, opened.problems
        self.kinds = _kinds(job, settings)
        self.files: dict[Target, dict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
        self.notes: dict[Target, list[str]] = defaultdict(list)
        self.hashes: dict[str, str] = {}
        #: Files that cannot be read now of which there are outputs: these may be better than new ones.
        self.left: dict[str, str] = {}
        self.lines: list[str] = []
        self._outputs: dict[tuple[str, Target], _Output] = {}
        self._of = {channel: target for target in opened.sources for channel in target.ids}
        self._broken: set[str] = set()
        # SeisBench takes the last letter of a code for the component
        self._names = {x: f"{component.instrument}{component.letter}" for x, component in job.components.items()}

    def write(self, model: CDiffSD, states: Any, former: Mapping[Target, Entry], picker: WaveformModel | None) -> None:
        """Write the files of all channels, all of them or none."""
        job, settings, limits = self.job, self.settings, self.opened.limits
        extras = _Extras(model, job, self.kinds, picker)
        with ExitStack() as stack:
            for kind, target in ((kind, x) for kind in ("outputs", "noise") if kind in self.kinds for x in limits):
                try:
                    self._outputs[kind, target] = _Output(settings.roots[kind] / target.files[kind][0], settings)
                    stack.callback(self._outputs[kind, target].drop)
                except OSError as error:
                    self._refused(kind, target, error)
            if limits and not self._lost(former):
                start, end = min(x for x, _ in limits.values()), max(x for _, x in limits.values())
                back = {new: old for old, new in self._names.items()}
                for pair in denoised_pieces(model, self.read, start, end, **settings.options):
                    signal, noise = (_with_ids(stream, back) for stream in pair)
                    self._append("outputs", signal)
                    self._append("noise", noise)
                    extras.add(signal, noise)
            if self._lost(former):
                return
            self.hashes = {name: x for name, path in job.inputs(settings).items() if (x := ledger.digest(path))}
            now = job.states(settings)
            if now != states:
                changed = _listed(x[0] for x, y in zip(now, states, strict=True) if x != y)
                raise Changed(f"{changed} changed while it was read: run the command again.")
            for target in job.targets:
                ledger.blank(ledger.entry_path(settings.out, target.name), former[target])
            for target in limits:
                self._keep(target)
        target = job.targets[0]
        if self.files[target]["outputs"]:
            for reason in extras.write([x for x in ("picks", "figures") if x in self.kinds], self):
                self.problem(target, reason)
            self.lines += extras.lines

    def read(self, start: UTCDateTime, end: UTCDateTime) -> Stream:
        """Samples of all channels, with ids that tell their components."""
        stream = sum((source.read(start, end) for source in self.opened.sources.values()), Stream())
        self._broken.update(x.id for x in stream if x.data.dtype.kind == "f" and not np.isfinite(x.data).all())
        return _with_ids(stream, self._names)

    def problem(self, target: Target, reason: str) -> None:
        """Note something about the outputs of a target."""
        known = self.problems[target].get(target.label)
        self.problems[target][target.label] = f"{known}; {reason}" if known else reason

    def _lost(self, former: Mapping[Target, Entry]) -> bool:
        for source in self.opened.sources.values():
            self.opened.unavailable |= {path: source.problems[path] for path in source.unavailable}
        lost = self.opened.unavailable
        for target in (target for target, entry in former.items() if entry and entry["files"].get("outputs")):
            self.left |= {name: lost[path] for name, path in target.paths.items() if path in lost}
        return bool(self.left)

    def _refused(self, kind: str, target: Target, error: Exception) -> None:
        """Note that an output cannot be written; the noise takes nothing else down, the signal the whole job."""
        self._outputs.pop((kind, target), None)
        if kind == "outputs" and isinstance(error, OSError):
            raise error
        reason = (isinstance(error, OSError) and error.strerror) or one_line(error)
        where = f"no noise, which cannot be written to {self.settings.roots['noise']}: " if kind == "noise" else ""
        self.problem(target, where + reason)

    def _append(self, kind: str, stream: Stream) -> None:
        for trace in stream:
            target = self._of[trace.id]
            if output := self._outputs.get((kind, target)):
                try:
                    output.writer.write(Stream([between(trace, *self.opened.limits[target])]))
                except (OSError, Unwritable) as error:
                    output.drop()
                    self._refused(kind, target, error)

    def _keep(self, target: Target) -> None:
        """Keep the files of a target, if they are of use, and note what is wrong with them."""
        source, problems = self.opened.sources[target], self.problems[target]
        for name, path in target.paths.items():
            if path in source.problems:
                problems.setdefault(name, source.problems[path])
        for kind in ("outputs", "noise"):
            output = self._outputs.get((kind, target))
            if output is None or (kind == "noise" and not self.files[target]["outputs"]):
                continue
            writer = output.writer
            try:
                writer.check()
                if writer.empty and not (problems and target.label in target.paths):
                    none = "no samples could be read" if source.problems else f"has no finite samples below {LARGEST:g}"
                    self.problem(target, none)
                if not writer.empty:
                    output.keep()
                    self._made(kind, target, output)
            except (OSError, Unwritable) as error:
                self._refused(kind, target, error)
        if self.files[target]["outputs"]:
            broken = sorted(self._broken & set(target.ids))
            if broken:
                self.problem(target, f"NaN and infinite samples of {_listed(broken)} were left out")
            for channel in (x for x in target.ids if written_id(x) != x):
                self.problem(target, f"{channel} is {written_id(channel, self.settings.location)} in miniSEED")
            silent = sorted(self._outputs["outputs", target].writer.silent)
            self.notes[target] += [f"{_listed(silent)}: constant, became zeros"] if silent else []

    def _made(self, kind: str, target: Target, output: _Output) -> None:
        writer = output.writer
        # the loss of single precision is negligible
        loss = {} if writer.encoding == "float32" or writer.exact else {"ratio": writer.ratio, "loss": writer.loss}
        self.add(kind, target, output.path, **loss)
        self.lines.append(f"  {output.path}  ({writer.loss})")

    def add(self, kind: str, target: Target, path: Path, **loss: Any) -> None:
        """Take a file into the entry."""
        name = path.relative_to(self.settings.roots[kind]).as_posix()
        self.files[target][kind][name] = {"size": path.stat().st_size, "sha256": ledger.digest(path), **loss}

    def commit(self, key: str, former: Mapping[Target, Entry]) -> list[Outcome]:
        """Remove what is no longer valid, and write the entries; return what was removed."""
        settings, removed = self.settings, set()
        place = ledger.place(settings.roots["noise"], settings.out)
        if any(path in self.opened.unavailable for target in self.job.targets for path in target.paths.values()):
            key = ""  # the next run tries again
        for target in self.job.targets:
            files = {kind: dict(known) for kind, known in self.files[target].items() if known}
            before = former[target].get("files", {})
            if before and former[target]["noise folder"] != place:
                before = {kind: known for kind, known in before.items() if kind != "noise"}
            if target in self.opened.unread and before.get("outputs"):  # there may be no other copy
                files = before
                self.problem(target, "its output is left as it is")
            elif before and former[target]["key"] == key:  # still valid, though not asked for now
                files |= {kind: known for kind, known in before.items() if kind not in self.kinds}
            for kind, known in before.items():
                root = settings.roots.get(kind, settings.out)
                for name in known.keys() - files.get(kind, {}).keys():
                    own = re.fullmatch(target.owned, name) and not self.job.is_input(root / name, settings)
                    if own and ledger.removed(root, name, known[name]):
                        removed.add(Path(name).name.partition(".D.")[0])
            if before and isinstance(self.job, Record):
                self.lines.append("  replaces what was made of another input, or with other options or weights")
            entry = {
                "key": key,
                "model": settings.model,
                "inputs": self.hashes,
                "files": files,
                "noise folder": place,
                "problems": dict(self.problems[target]),
                "notes": self.notes[target],
                "skipped": self.opened.skipped.get(target, ""),
            }
            ledger.write(ledger.entry_path(settings.out, target.name), entry)
        names = _listed(sorted(removed))
        return [Outcome(self.job.name, "removed", f"{names}, which is no longer valid")] if removed else []


def _with_ids(stream: Stream, names: Mapping[str, str]) -> Stream:
    """The same traces under other ids."""
    for trace in stream:
        network, rest = names[trace.id].split(".", 1)
        station, location, channel = rest.rsplit(".", 2)
        trace.stats.update({"network": network, "station": station, "location": location, "channel": channel})
    return stream


class _Extras:
    """Picks and the figure of a record: what goes wrong there leaves the samples as they are."""

    def __init__(self, model: CDiffSD, job: Job, kinds: Sequence[str], picker: WaveformModel | None) -> None:
        self.model, self.job, self.picker, self.lines = model, job, picker, [""][:0]
        self.window = model.in_samples / model.sampling_rate
        self.clean, self.noise = Stream(), Stream()
        self.picks = Picks(picker) if "picks" in kinds and picker is not None else None
        self.keeps = job.short and ("figures" in kinds or "picks" in kinds)
        self.failure = ""

    def add(self, signal: Stream, noise: Stream) -> None:
        """Take the next piece."""
        if self.keeps:
            self.clean, self.noise = self.clean + signal, self.noise + noise
        if self.picks is not None and signal and not self.failure:
            try:
                self.picks.add(joined(signal.copy(), self.window))
            except Exception as error:  # of a library
                self.failure = one_line(error)

    def write(self, kinds: Sequence[str], made: _Made) -> Iterator[str]:
        """Write them; return what went wrong."""
        target = self.job.targets[0]
        for kind in kinds:
            paths = [made.settings.out / name for name in target.files[kind]]
            try:
                self._write_picks(paths, made) if kind == "picks" else self._draw(paths[0], made)
                for path in paths:
                    made.add(kind, target, path)
                    self.lines.append(f"  {path}")
            except Exception as error:  # of a library
                yield f"no {kind}: {one_line(error)}"

    def _write_picks(self, paths: Sequence[Path], made: _Made) -> None:
        if self.picks is None or self.failure:
            raise ValueError(self.failure or "no picker")
        table = self.picks.all()
        for path, write in zip(paths, (write_csv, write_quakeml), strict=True):
            with replacing(path) as temporary:
                write(table, temporary)
        before = self._noisy(made)
        if before is not None:
            self.lines.append(f"  PhaseNet, noisy:    {describe(pick_stream(self.picker, before))}")
        self.lines.append(f"  PhaseNet, denoised: {describe(table)}")

    def _noisy(self, made: _Made) -> Stream | None:
        # as the model sees them: SeisBench's pickers skip traces with NaN, and traces that overlap
        if not isinstance(self.job, Record) or not self.job.short:
            return None
        return joined(self.job.source.read(self.job.start, self.job.end), self.window)

    def _draw(self, path: Path, made: _Made) -> None:
        noisy = self._noisy(made)
        before, after = None, None
        if self.picks is not None and not self.failure:
            before, after = pick_stream(self.picker, noisy), self.picks.all()
        band = {"filter_args": self.model.filter_args, "filter_kwargs": self.model.filter_kwargs}
        with replacing(path) as temporary:
            plot_denoised(noisy, self.clean, self.noise, before, after, path=temporary, **band)
