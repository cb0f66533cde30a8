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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import obspy
import pandas as pd
from obspy import Stream, UTCDateTime
from seisbench.models import WaveformModel

from seisbench_cdiffsd.denoising import fingerprint, margin
from seisbench_cdiffsd.files import ledger
from seisbench_cdiffsd.files.console import one_line
from seisbench_cdiffsd.files.continuous import between, denoised_pieces
from seisbench_cdiffsd.files.ledger import Entry, Outcome
from seisbench_cdiffsd.files.picklists import Picks, describe, write_csv, write_quakeml
from seisbench_cdiffsd.files.reading import LONG_GAP, Held, Readable, ReadError, Source, Unavailable, index, state
from seisbench_cdiffsd.files.sds import DAY, InstrumentDay, channel_day
from seisbench_cdiffsd.files.writing import MseedWriter, Unwritable, replacing, replacing_file, written_as
from seisbench_cdiffsd.picking import NOT_PICKED, pick_stream
from seisbench_cdiffsd.plotting import plot_denoised
from seisbench_cdiffsd.streams.components import COMPONENTS, Component, assign
from seisbench_cdiffsd.streams.pieces import LARGEST
from seisbench_cdiffsd.streams.records import joined
from seisbench_cdiffsd.weights import CDiffSD

#: Longest record, in seconds, that gets a figure, and picks before and after.
SHORT = 3600.0
#: Longest record of an instrument, in seconds, that becomes one file; longer ones become a file for each day.
LONGEST = 90000.0
#: Errors after which no other job can write its files either.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
#: Modules of this folder that decide what becomes of a file; those that denoise are in the fingerprint of the model.
CODE = ("continuous.py", "reading.py", "writing.py")
#: At most so many ids and files are named in a message.
NAMED = 6


class Changed(OSError):
    """A file changed while it was read."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    What to write.

    :param out: Folder of the outputs, and of the ledger
    :param model: :py:func:`fingerprint` of the model; `least`, the rate in Hz up to which channels are too slow for it;
        and `reach`, how far a denoised sample depends on its surroundings, in seconds
    :param noise: Folder of the removed noise, or None
    :param picks: Write the picks on records in single files as CSV and QuakeML; and `figures` of those up to an hour
    :param options: Arguments of :py:func:`seisbench_cdiffsd.denoise`; `components` by name, see :py:func:`assign`
    :param encoding: See :py:class:`MseedWriter`, as for `scale` and `location`
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
        return ledger.key(_code(), [getattr(self, name) for name in names], *parts)

    @property
    def roots(self) -> dict[str, Path]:
        """Folders by kind of file."""
        return {"outputs": self.out, "noise": self.noise or self.out, "picks": self.out, "figures": self.out}


@cache
def _code() -> str:
    return sha256(b"".join((Path(__file__).parent / name).read_bytes() for name in CODE)).hexdigest()


@dataclass(frozen=True)
class Target:
    """
    Outputs that share an entry of the ledger.

    :param name: Name of the entry
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


# -- single files


@dataclass(frozen=True)
class Record:
    """
    A record of an instrument in single files.

    :param before: States of the files when the command began, by their names in the ledger
    :param identities: Of all inputs of the command
    """

    name: str
    instrument: str
    targets: tuple[Target, ...]
    source: Source
    start: UTCDateTime
    end: UTCDateTime
    before: Mapping[str, tuple[Any, ...]]
    identities: frozenset[tuple[int, int]]

    @property
    def short(self) -> bool:
        """Whether the record gets a figure; a job ends up to a second after its last sample."""
        return self.end - self.start <= SHORT + 1

    def inputs(self, settings: Settings) -> dict[str, Path]:
        """Files that the outputs depend on, by their names in the ledger."""
        return {str(path.absolute()): path for path in self.targets[0].paths.values()}

    def is_input(self, path: Path, settings: Settings) -> bool:
        """Whether a path leads to an input of the command, by whatever links."""
        return _identity(path) in self.identities

    def open(self, work: Work) -> None:
        """Say where its samples are."""
        work.sources[self.targets[0]] = self.source
        work.limits[self.targets[0]] = self.start, self.end


def jobs_of_files(inputs: Iterable[str], settings: Settings) -> tuple[list[Record], list[Outcome]]:
    """
    The files to write, and what failed or is skipped: a file for each instrument, or for each day (UTC) of longer
    records. Long gaps, as between several earthquakes in one file, separate records.
    """
    names = {name if name == "example" else os.path.realpath(name): name for name in inputs}.values()
    before = {path: state(path) for path in map(Path, names)}  # before anything is read: a file may be growing
    identities = frozenset(filter(None, map(_identity, before)))
    parts: list[Readable] = []
    outcomes: list[Outcome] = []
    for path in before:
        try:
            parts += [Held(obspy.read(), path)] if str(path) == "example" else index(path)
        except Exception as error:  # a file takes no other one down
            outcomes.append(Outcome(str(path), "failed", one_line(error)))
    rates: dict[str, float] = {}
    found: dict[Path, set[str]] = defaultdict(set)
    for path, span in ((part.path, span) for part in parts for span in part.spans):
        rates[span.id] = max(rates.get(span.id, 0.0), span.rate)
        found[path].add(span.id)
    components = assign(rates, settings.components)
    usable = {x for x in components if rates[x] > settings.least}
    wanted = f"{', '.join(COMPONENTS)} at more than {settings.least:g} Hz"
    for path, ids in found.items():
        if not ids & usable:
            there = _listed(f"{x} at {rates[x]:g} Hz" for x in sorted(ids))
            why = f"has no component {wanted}, but {there}: name components as in --components UD=Z NS=N EW=E"
            outcomes.append(Outcome(str(path), "failed", why))
            continue
        for x in sorted(ids - usable):
            # a number may be that of a sensor, whose components have to be named; pressure and the like are no loss
            left_out = "partly" if rates[x] > settings.least and x[-1:].isdigit() else "skipped"
            outcomes.append(Outcome(x, left_out, f"not one of the components {wanted}; it has {rates[x]:g} Hz"))
    clashes = _clashes(usable, components, settings)
    outcomes += [Outcome(x, "failed", why) for x, why in clashes.items()]
    instruments: dict[str, set[str]] = defaultdict(set)
    for channel in usable - clashes.keys():
        instruments[components[channel].instrument].add(channel)
    jobs = []
    for instrument, ids in sorted(instruments.items()):
        source = Source(parts, ids, settings.least)
        spans = np.array([(span.start.ns, span.end.ns) for span in source.spans])
        own = [[span for span in part.spans if span.id in ids] for part in source.parts]
        limits = np.array([(min(x.start.ns for x in part), max(x.end.ns for x in part)) for part in own])
        for start, end in _stretches(spans):
            first = spans[_within(spans, start, end), 0]
            if not len(first):  # the record ends at midnight, within rounding
                continue
            near = np.flatnonzero(_within(limits, start - settings.reach, end + settings.reach))
            read = sorted({source.parts[i].path for i in near})
            name = file_name(instrument, max(start, UTCDateTime(ns=int(first.min()))))
            target = _target(name, ids, read, settings)
            known = {str(path.absolute()): before[path] for path in read}
            jobs.append(Record(name, instrument, (target,), source, start, end, known, identities))
    return jobs, outcomes


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        known = path.stat()
        return known.st_dev, known.st_ino
    return None


def _listed(names: Iterable[str]) -> str:
    first = [*names]
    return ", ".join(first[:NAMED]) + (f" and {len(first) - NAMED} more" if len(first) > NAMED else "")


def _clashes(ids: Iterable[str], components: Mapping[str, Component], settings: Settings) -> dict[str, str]:
    """Why channels cannot be told apart, in miniSEED or as components, by id."""
    alike: dict[Any, list[str]] = defaultdict(list)
    why = {}
    for channel in sorted(ids):
        alike[components[channel]].append(channel)
        try:
            alike[_written_id(channel, settings)].append(channel)
        except Unwritable as error:
            why[channel] = str(error)
    for name, group in alike.items():
        new = f"component {name.letter} of {name.instrument}" if isinstance(name, Component) else name
        reason = f"{_listed(group)} would both be {new}: rename one, or denoise them separately"
        why |= {channel: reason for channel in group} if len(group) > 1 else {}
    return why


def _written_id(channel: str, settings: Settings) -> str:
    network, rest = channel.split(".", 1)
    return ".".join(written_as((network, *rest.rsplit(".", 2)), settings.location))


def _within(limits: Any, start: UTCDateTime, end: UTCDateTime) -> Any:
    return (limits[:, 0] < end.ns) & (limits[:, 1] >= start.ns)


def _stretches(limits: Any) -> Iterator[tuple[UTCDateTime, UTCDateTime]]:
    """Spans of time, each a record or a day of one, from times of first and last samples in ns, in order."""
    records: list[list[int]] = []
    for first, last in limits.tolist():
        if records and first - records[-1][1] <= LONG_GAP * 1e9:
            records[-1][1] = max(records[-1][1], last)
        else:
            records.append([first, last])
    for start, end in ((UTCDateTime(ns=first), UTCDateTime(ns=last)) for first, last in records):
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


def _target(name: str, ids: Iterable[str], paths: Iterable[Path], settings: Settings) -> Target:
    scaled = f".x{settings.scale:g}" if settings.scale != 1 else ""
    files: dict[str, tuple[str, ...]] = {
        "outputs": (f"{name}.denoised{scaled}.mseed",),
        "noise": (f"{name}.noise{scaled}.mseed",),
        "picks": (f"{name}.picks.csv", f"{name}.picks.xml"),
        "figures": (f"{name}.png",),
    }
    owned = re.escape(name) + r"\.(?:(?:denoised|noise)(?:\.x[0-9.e+-]+)?\.mseed|picks\.(?:csv|xml)|png)"
    return Target(name, name, tuple(sorted(ids)), {str(x): x for x in paths}, files, owned)


def denoise_files(
    model: CDiffSD,
    inputs: Iterable[str],
    settings: Settings,
    picker: WaveformModel | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Iterator[Outcome]:
    """
    Denoise files, one instrument after the other.

    :param inputs: Paths, or "example"
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
    """A day of an instrument in an archive, each channel with an output of its own."""

    day: InstrumentDay
    targets: tuple[Target, ...]
    short = False
    before = None

    @property
    def name(self) -> str:
        """Name of the instrument and the day."""
        return self.day.name

    def inputs(self, settings: Settings) -> dict[str, Path]:
        """The files of these channels, and those of the days before and after, by their paths in the archive."""
        around = (channel.on(channel.day + i * DAY).path for channel in self.day.channels for i in (-1, 0, 1))
        return {path.as_posix(): settings.source / path for path in around}

    def is_input(self, path: Path, settings: Settings) -> bool:
        """Whether a path leads to a file of the archive, by whatever links."""
        real, source = (Path(os.path.realpath(x)) for x in (path, settings.source))
        if real.is_relative_to(source) and channel_day(real.relative_to(source)):
            return True
        own = _identity(path)
        twins = (settings.source / path.relative_to(x) for x in settings.roots.values() if path.is_relative_to(x))
        return own is not None and any(own == _identity(twin) for twin in twins)

    def open(self, work: Work) -> None:
        """Look up what the files contain."""
        start, reach = UTCDateTime(self.day.channels[0].day.isoformat()), work.settings.reach
        end = start + 86400
        for channel, target in zip(self.day.channels, self.targets, strict=True):
            parts: list[list[Readable]] = []
            for i in (-1, 0, 1):
                path = work.settings.source / channel.on(channel.day + i * DAY).path
                try:
                    parts.append(index(path) if i == 0 or path.exists() else [])
                except Exception as error:  # a file takes no other one down
                    parts.append([])
                    if isinstance(error, Unavailable):
                        work.unavailable[path] = str(error)
                    if i == 0:
                        work.problem(target, one_line(error))
                        work.unread.add(target)
            before, own, after = parts
            spans = [span for part in own for span in part.spans]
            if spans and max(span.rate for span in spans) <= work.settings.least:  # as those of mass positions
                work.skipped[target] = f"at {work.settings.least:g} Hz or less"
                continue
            # samples a little outside of the day belong to the file of that day, but to this one if that is missing
            first, last = start if before else start - reach, end if after else end + reach
            others = sorted({span.id for span in spans} - {channel.id})
            spans = [span for span in spans if span.id == channel.id]
            outside = [span for span in spans if span.start < start - reach or span.end > end + reach]
            if others:
                work.problem(target, f"contains {_listed(others)}, which was left out")
            elif outside:
                times = f"{min(span.start for span in outside)} to {max(span.end for span in outside)}"
                work.problem(target, f"contains samples of other days, {times}, which were left out")
            if any(span.start < last and span.end >= first for span in spans):
                work.sources[target] = Source([*before, *own, *after], [channel.id])
                work.limits[target] = first, last
            elif own and not work.problems[target]:
                work.problem(target, "has no samples of its day")


Job = Record | Day


def jobs_of_archive(days: Iterable[InstrumentDay], settings: Settings) -> list[Day]:
    """The jobs of days of instruments."""
    jobs = []
    for day in days:
        targets = []
        for channel in day.channels:
            output = channel.at(settings.location).path.as_posix()
            name = ".".join(output.rsplit(".D.", 1))  # an entry is no day file
            own = {channel.path.as_posix(): settings.source / channel.path}
            files = {"outputs": (output,), "noise": (output,)}
            targets.append(Target(name, channel.path.as_posix(), (channel.id,), own, files, re.escape(output)))
        jobs.append(Day(day, tuple(targets)))
    return jobs


def write_manifest(jobs: Iterable[Job], settings: Settings, name: str = "manifest.json", whole: bool = True) -> Path:
    """
    Write the manifest of an archive: the outputs that exist now with size and SHA-256, and the problems; those of all
    commands, or of these jobs alone. Return its path.
    """
    out, roots = settings.out, settings.roots
    total: dict[str, Any] = {"problems": {}, "outputs": {}} | ({} if settings.noise is None else {"noise": {}})
    own = {ledger.entry_path(out, target.name): job.name for job in jobs for target in job.targets}
    paths = {*own, *((out / ledger.FOLDER).glob("*/*/*/*/*.json") if whole else ())}
    entries = {path: ledger.read(path) for path in sorted(paths)}
    models = set()
    for entry in filter(None, entries.values()):
        total["problems"] |= entry["problems"]
        for kind in total.keys() & entry["files"].keys():
            if kind == "outputs" or entry["noise folder"] == ledger.place(roots[kind], out):
                files = entry["files"][kind].items()
                there = {x: y for x, y in files if channel_day(Path(x)) and ledger.is_there(roots[kind] / x, y)}
                total[kind] |= there
                models |= {entry["model"]} if there else set()
    total |= {"missing": sorted({job for path, job in own.items() if not entries[path]}), "models": sorted(models)}
    with replacing(out / name) as temporary:
        temporary.write_text(json.dumps(total, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return out / name


# -- both


def attempt(job: Job, settings: Settings, model: Callable[[], CDiffSD], retries: int, **kwargs: Any) -> list[Outcome]:
    """Run a job, again after an error; return its outcomes. Raise OSError if there is no room for any outputs."""
    try:
        return run(job, settings, model, **kwargs)
    except Exception as error:
        return attempt(job, settings, model, retries - 1, **kwargs) if retries else failed(job, error)


def failed(job: Job, error: BaseException) -> list[Outcome]:
    """The outcome of a job that raised an error; raises the error again if all other jobs would fail alike."""
    if isinstance(error, OSError) and error.errno in FULL:
        raise error
    files = [name for target in job.targets for name in target.paths if name not in str(error)]
    about = f" ({_listed(files)})" if files and not isinstance(error, OSError) else ""
    return [Outcome(job.name, "failed", one_line(error) + about)]


def run(
    job: Job,
    settings: Settings,
    model: Callable[[], CDiffSD] | None,
    picker: WaveformModel | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[Outcome]:
    """
    Do a job, unless it is done. No file is left incomplete; entries in the ledger are written last.

    :param model: Returns the model, when it is needed; None to do nothing but look
    :param picker: A picker, for `settings.picks`
    :param report: Called with what was written, line by line
    :return: Outcomes of the job, and of files with problems; none if there is something to do, but no model
    :raises OSError: If the outputs cannot be written
    :raises Changed: If a file changed while it was read; nothing is written then
    """
    inputs = job.inputs(settings)
    states = job.before or _states(inputs)
    key, former, kinds = settings.key(job.name, states), _entries(job, settings), _kinds(job, settings)
    if _is_done(job, former, settings, key):
        return _outcomes(job, former, "complete", settings)
    if model is None:
        return []
    paths = [settings.roots[kind] / name for x in job.targets for kind in kinds for name in x.files[kind]]
    for path in (*paths, *(ledger.entry_path(settings.out, target.name) for target in job.targets)):
        if job.is_input(path, settings):
            raise ValueError(f"{path} is its own input, or another one: choose another folder for the outputs")
    work = Work(job, settings, inputs, former)
    job.open(work)
    count = Counter(target.name for target in job.targets if target not in work.skipped)
    alike = sorted(x for target in job.targets if count[target.name] > 1 for x in target.ids)
    if alike:
        return [Outcome(job.name, "failed", f"{', '.join(alike)} would be one channel: choose one with --select")]
    work.write(model(), states, picker)
    if work.left:
        left = "the output of its instrument is left as it is"
        return [Outcome(name, "failed", f"{why.rstrip('.')}; {left}") for name, why in sorted(work.left.items())]
    removed = work.commit(key)
    with suppress(ValueError, OSError):  # what is written is done, even if the console cannot print its name
        for line in work.lines:
            report(line)
    return [*removed, *_outcomes(job, work.entries, "done", settings)]


def _states(inputs: Mapping[str, Path]) -> dict[str, tuple[Any, ...]]:
    """Name, size and time of all files that the outputs depend on, as they are now."""
    return {name: state(path) for name, path in inputs.items()}


def _entries(job: Job, settings: Settings) -> dict[Target, Entry]:
    return {target: ledger.read(ledger.entry_path(settings.out, target.name)) for target in job.targets}


def _kinds(job: Job, settings: Settings) -> list[str]:
    """Kinds of files that are wanted."""
    wanted = {"noise": settings.noise, "picks": settings.picks, "figures": settings.figures and job.short}
    return ["outputs", *(kind for kind, asked in wanted.items() if asked)]


def _is_done(job: Job, entries: Mapping[Target, Entry], settings: Settings, key: str = "") -> bool:
    """Whether entries have this key, or any, and their files exist. A rerun would have the same problems."""
    for target, entry in entries.items():
        if not entry or (key and entry["key"] != key):
            return False
        for kind in _kinds(job, settings) if entry["files"].get("outputs") else []:
            known, root = entry["files"].get(kind, {}), settings.roots[kind]
            moved = kind == "noise" and entry["noise folder"] != ledger.place(root, settings.out)
            names = target.files[kind] if key else known.keys() & {*target.files[kind]}
            if moved or not all(x in known and ledger.is_there(root / x, known[x], settings.verify) for x in names):
                return False
        now = job.inputs(settings) if settings.verify else {}
        if any(ledger.digest(now[x]) != known for x, known in entry["inputs"].items() if x in now):
            return False
    return True


def gone(jobs: Iterable[Job], outcomes: Iterable[Outcome], settings: Settings) -> list[Outcome]:
    """What was done, or was complete, and is there no more at the end of a run."""
    done, plain = {x.name for x in outcomes if x.state in ("done", "complete")}, replace(settings, verify=False)
    lost = (job.name for job in jobs if job.name in done and not _is_done(job, _entries(job, plain), plain))
    return [Outcome(name, "failed", f"its output is gone again from {settings.out}") for name in lost]


def _outcomes(job: Job, entries: Mapping[Target, Entry], state: str, settings: Settings) -> list[Outcome]:
    """Outcomes of a job, from its entries."""
    rows, notes, losses = [], _missing(job, settings), [(math.inf, "")]
    for target, entry in entries.items():
        problems, made = dict(entry["problems"]), entry["files"].get("outputs")
        if entry["skipped"]:
            rows += [Outcome(f"*.{x.rpartition('.')[2]}", "skipped", entry["skipped"]) for x in target.ids]
        if not made and len(problems) > 1 and target.label in problems:
            files = "; ".join(f"{name}: {why}" for name, why in sorted(problems.items()) if name != target.label)
            problems = {target.label: f"{problems[target.label]} ({files})"}
        rows += [Outcome(name, "partly" if made else "failed", why) for name, why in sorted(problems.items())]
        notes += entry["notes"] if made else []
        known = (x for kind in entry["files"].values() for x in kind.values())
        losses += [(x.get("ratio", math.inf), x["loss"]) for x in known if x.get("loss")]
    if settings.figures and not job.short:
        notes.append("no figure: longer than an hour")
    if not any(entry["files"].get("outputs") for entry in entries.values()):
        return rows or [Outcome(job.name, "failed", "no samples")]
    return [*rows, Outcome(job.name, state, "; ".join(notes), *min(losses))]


def _missing(job: Job, settings: Settings) -> list[str]:
    """Channels of the station that exist only on other days, except those that are too slow for the model."""
    missing = () if isinstance(job, Record) else job.day.missing
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


class Work:
    """
    What a job does.

    Jobs fill in, by target: `sources` of samples, `limits` in time of what to write, `problems` by what they are about,
    why it is `skipped`; targets whose own files are `unread`; and files that are `unavailable` now, with reasons.
    """

    def __init__(
        self, job: Job, settings: Settings, inputs: Mapping[str, Path], former: Mapping[Target, Entry]
    ) -> None:
        self.job, self.settings, self.kinds = job, settings, _kinds(job, settings)
        self._inputs, self._former = inputs, former
        self.sources: dict[Target, Source] = {}
        self.limits: dict[Target, tuple[UTCDateTime, UTCDateTime]] = {}
        self.problems: dict[Target, dict[str, str]] = defaultdict(dict)
        self.skipped: dict[Target, str] = {}
        self.unread: set[Target] = set()
        self.unavailable: dict[Path, str] = {}
        #: Those of them of which there are outputs, which may be better than new ones.
        self.left: dict[str, str] = {}
        self.lines: list[str] = []
        self.entries: dict[Target, Entry] = {}
        self._files: dict[Target, dict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
        self._notes: dict[Target, list[str]] = defaultdict(list)
        self._hashes: dict[str, str] = {}
        self._outputs: dict[tuple[str, Target], _Output] = {}
        self._broken: set[str] = set()

    def problem(self, target: Target, reason: str, about: str = "") -> None:
        """Note what is wrong with the outputs of a target, or with a file."""
        name = about or target.label
        known = self.problems[target].get(name)
        self.problems[target][name] = f"{known}; {reason}" if known else reason

    def write(self, model: CDiffSD, states: Mapping[str, Any], picker: WaveformModel | None) -> None:
        """Write the files of all channels, all of them or none."""
        job, settings, limits = self.job, self.settings, self.limits
        extras = _Extras(self, model, picker)
        with ExitStack() as stack:
            for kind, target in ((kind, x) for kind in self.kinds if kind in ("outputs", "noise") for x in limits):
                try:
                    self._outputs[kind, target] = _Output(settings.roots[kind] / target.files[kind][0], settings)
                    stack.callback(self._outputs[kind, target].drop)
                except OSError as error:
                    self._refused(kind, target, error)
            if limits and not self._lost():
                start, end = min(x for x, _ in limits.values()), max(x for _, x in limits.values())
                options = settings.options | ({"components": settings.components} if settings.components else {})
                for signal, noise in denoised_pieces(model, self.read, start, end, **options):
                    self._append("outputs", signal)
                    self._append("noise", noise)
                    extras.add(signal, noise)
            if self._lost():
                return
            self._hashes = {name: x for name, path in self._inputs.items() if (x := ledger.digest(path))}
            changed = [name for name, now in _states(self._inputs).items() if now != states[name]]
            if changed:
                raise Changed(f"{_listed(changed)} changed while it was read: run the command again.")
            for target in job.targets:
                ledger.blank(ledger.entry_path(settings.out, target.name), self._former[target])
            for target in limits:
                self._keep(target)
        if self._files[job.targets[0]]["outputs"]:
            extras.write()

    def read(self, start: UTCDateTime, end: UTCDateTime) -> Stream:
        """Samples of all channels."""
        stream = sum((source.read(start, end) for source in self.sources.values()), Stream())
        self._broken.update(x.id for x in stream if x.data.dtype.kind == "f" and not np.isfinite(x.data).all())
        return stream

    def _lost(self) -> bool:
        for source in self.sources.values():
            self.unavailable |= {path: source.problems[path] for path in source.unavailable}
        for target in (target for target, entry in self._former.items() if entry and entry["files"].get("outputs")):
            lost = {name: path for name, path in target.paths.items() if path in self.unavailable}
            self.left |= {name: self.unavailable[path] for name, path in lost.items()}
        return bool(self.left)

    def _refused(self, kind: str, target: Target, error: Exception) -> None:
        """Note that an output cannot be written; the noise takes nothing else down."""
        self._outputs.pop((kind, target), None)
        if kind == "outputs" and isinstance(error, OSError):
            raise error
        reason = (isinstance(error, OSError) and error.strerror) or one_line(error)
        where = f"no noise, which cannot be written to {self.settings.roots['noise']}: " if kind == "noise" else ""
        self.problem(target, where + reason)

    def _append(self, kind: str, stream: Stream) -> None:
        of = {channel: target for target in self.limits for channel in target.ids}
        for trace in stream:
            target = of[trace.id]
            if output := self._outputs.get((kind, target)):
                try:
                    output.writer.write(Stream([between(trace, *self.limits[target])]))
                except (OSError, Unwritable) as error:
                    output.drop()
                    self._refused(kind, target, error)

    def _keep(self, target: Target) -> None:
        """Keep the files of a target, if they are of use, and note what is wrong with them."""
        source, files = self.sources[target], self._files[target]
        for name, path in target.paths.items():
            if path in source.problems:
                self.problem(target, source.problems[path], about=name)
        for kind in ("outputs", "noise"):
            output = self._outputs.get((kind, target))
            if output is None or (kind == "noise" and not files["outputs"]):
                continue
            try:
                output.writer.check()
                if output.writer.empty:
                    if target.label not in self.problems[target]:
                        none = "no samples could be read" if source.problems else "has no finite samples"
                        self.problem(target, f"{none} below {LARGEST:g}")
                    continue
                output.keep()
                # the loss of single precision is negligible
                lossy = output.writer.encoding != "float32" and not output.writer.exact
                loss = {"ratio": output.writer.ratio, "loss": output.writer.loss} if lossy else {}
                self.take(kind, target, output.path, f"  ({output.writer.loss})", **loss)
            except (OSError, Unwritable) as error:
                self._refused(kind, target, error)
        if files["outputs"]:
            writer = self._outputs["outputs", target].writer
            broken, silent = sorted(self._broken & {*target.ids}), sorted(writer.silent)
            if broken:
                self.problem(target, f"NaN and infinite samples of {_listed(broken)} were left out")
            for channel, cut in sorted(writer.cut.items()):
                self.problem(target, f"{channel} does not fit into miniSEED: it is {cut} there")
            self._notes[target] += [f"{_listed(silent)}: constant, became zeros"] if silent else []

    def take(self, kind: str, target: Target, path: Path, said: str = "", **loss: Any) -> None:
        """Take a file that is written into the entry."""
        name = path.relative_to(self.settings.roots[kind]).as_posix()
        self._files[target][kind][name] = {"size": path.stat().st_size, "sha256": ledger.digest(path), **loss}
        self.lines.append(f"  {path}{said}")

    def commit(self, key: str) -> list[Outcome]:
        """Remove what is no longer valid, and write the entries; return what was removed."""
        settings, job, removed = self.settings, self.job, set()
        place = ledger.place(settings.roots["noise"], settings.out)
        if any(path in self.unavailable for target in job.targets for path in target.paths.values()):
            key = ""  # the next run tries again
        for target in job.targets:
            files = {kind: dict(known) for kind, known in self._files[target].items() if known}
            before = self._former[target].get("files", {})
            if before and self._former[target]["noise folder"] != place:
                before = {kind: known for kind, known in before.items() if kind != "noise"}
            if target in self.unread and before.get("outputs"):  # there may be no other copy
                files = before
                self.problem(target, "its output is left as it is")
            elif before and self._former[target]["key"] == key:  # still valid, though not asked for now
                files |= {kind: known for kind, known in before.items() if kind not in self.kinds}
            kept = {settings.roots[kind] / name for kind, known in files.items() for name in known}
            for kind, root in settings.roots.items():
                for name in before.get(kind, {}):
                    path = root / name
                    own = re.fullmatch(target.owned, name) and path not in kept and not job.is_input(path, settings)
                    if own and ledger.removed(root, name, before[kind][name]):
                        removed.add(path.name.partition(".D.")[0])
            entry = {"key": key, "model": settings.model, "inputs": self._hashes, "files": files, "noise folder": place}
            entry |= {"problems": dict(self.problems[target]), "notes": self._notes[target]}
            entry |= {"skipped": self.skipped.get(target, "")}
            self.entries[target] = entry
            ledger.write(ledger.entry_path(settings.out, target.name), entry)
            if before:
                self.lines.append("  replaces what was made of another input, or with other options or weights")
        if isinstance(job, Record):
            self.lines.insert(0, f"{job.instrument}*  {job.start.strftime('%Y-%m-%d %H:%M:%S')}")
        why = f"{_listed(sorted(removed))}, which is no longer valid"
        return [Outcome(job.name, "removed", why)] if removed else []


class _Extras:
    """Picks and the figure of a record: what goes wrong there leaves the samples as they are."""

    def __init__(self, work: Work, model: CDiffSD, picker: WaveformModel | None) -> None:
        self.work, self.model, self.picker, self.names = work, model, picker, work.settings.components
        self.window = model.in_samples / model.sampling_rate
        self.clean, self.noise = Stream(), Stream()
        self.before: pd.DataFrame | None = None
        self.picks: Picks | None = None
        self.failure = "" if picker is not None and "picks" in work.kinds else "there is no picker"

    def add(self, signal: Stream, noise: Stream) -> None:
        """Take the next piece."""
        if "figures" in self.work.kinds:
            self.clean, self.noise = self.clean + signal, self.noise + noise
        if signal and not self.failure:
            try:
                self.picks = self.picks or Picks(self.picker, self.names)
                self.picks.add(joined(signal, self.window))
            except Exception as error:  # of a library
                self.picks, self.failure = None, one_line(error)

    def write(self) -> None:
        """Write them, and note what went wrong."""
        target = self.work.job.targets[0]
        for kind, write in (("picks", self._write_picks), ("figures", self._draw)):
            try:
                if kind in self.work.kinds:
                    paths = [self.work.settings.out / name for name in target.files[kind]]
                    write(*paths)
                    for path in paths:
                        self.work.take(kind, target, path)
            except Exception as error:  # of a library
                self.work.problem(target, f"no {kind}: {one_line(error)}")

    def _noisy(self) -> Stream:
        # as the model sees it: SeisBench's pickers skip traces with NaN, and traces that overlap
        return joined(self.work.read(*self.work.limits[self.work.job.targets[0]]), self.window)

    def _write_picks(self, *paths: Path) -> None:
        if self.picks is None:
            raise ValueError(self.failure)
        table = self.picks.all()
        for path, write in zip(paths, (write_csv, write_quakeml), strict=True):
            with replacing(path) as temporary:
                write(table, temporary)
        if self.work.job.short:
            self.before = pick_stream(self.picker, self._noisy(), self.names)
            self.work.lines.append(f"  PhaseNet, noisy:    {describe(self.before)}")
        self.work.lines.append(f"  PhaseNet, denoised: {describe(table)}")
        for instrument, reason in table.attrs[NOT_PICKED].items():
            self.work.problem(self.work.job.targets[0], f"{instrument}* was not picked, because {reason}")

    def _draw(self, path: Path) -> None:
        after = None if self.picks is None else self.picks.all()
        band = {"filter_args": self.model.filter_args, "filter_kwargs": self.model.filter_kwargs}
        with replacing(path) as temporary:
            plot_denoised(self._noisy(), self.clean, self.noise, self.before, after, path=temporary, **band)
