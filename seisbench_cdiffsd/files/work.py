"""Jobs done: an instrument is denoised piece by piece, and written with entries in the ledger, or not at all."""

import errno
import json
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from obspy import Stream, UTCDateTime
from seisbench.models import WaveformModel

from seisbench_cdiffsd.denoising import margin
from seisbench_cdiffsd.files import ledger
from seisbench_cdiffsd.files.console import one_line
from seisbench_cdiffsd.files.extras import Extras
from seisbench_cdiffsd.files.jobs import Part, Record, Settings, jobs_of_files
from seisbench_cdiffsd.files.ledger import Entry, File, Outcome
from seisbench_cdiffsd.files.picks import read_csv
from seisbench_cdiffsd.files.reading import ReadError, between, index, state
from seisbench_cdiffsd.files.sds import Day, channel_day
from seisbench_cdiffsd.files.writing import Output, Unwritable, folder_for, replacing
from seisbench_cdiffsd.picking import NOT_PICKED
from seisbench_cdiffsd.streams.pieces import LARGEST, SAME_RATE, listed
from seisbench_cdiffsd.weights import CDiffSD

#: An instrument over a span of time, and the files to write of it.
Job = Record | Day
#: Seconds that are denoised at once.
PIECE_SECONDS = 6 * 3600.0
#: Errors after which no other job can write its files either.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def denoised_pieces(
    model: CDiffSD,
    read: Callable[[UTCDateTime, UTCDateTime], Stream],
    start: UTCDateTime,
    end: UTCDateTime,
    piece: float = PIECE_SECONDS,
    see: Callable[[Stream, Stream, UTCDateTime, UTCDateTime], None] | None = None,
    **options: Any,
) -> Iterator[tuple[Stream, Stream]]:
    """
    Signal and noise from `start` to before `end`, in pieces of so many seconds, and in constant memory: except for
    rounding, that of one call of :py:meth:`CDiffSD.denoise` with all samples that `read` returns. `see` is called for
    each piece with the record, the same denoised, both with what lies around the piece, and its start and end.
    """
    around = margin(model)
    for i in range(math.ceil((end - start) / piece)):
        first, last = start + i * piece, min(start + (i + 1) * piece, end)
        stream = read(first - around, last + around)
        if any(len(between(trace, first, last)) for trace in stream):
            clean, noise = model.denoise(stream, return_noise=True, **options)
            if see is not None:
                see(stream, clean, first, last)
            cut = [[between(trace, first, last) for trace in whole] for whole in (clean, noise)]
            signal, rest = (Stream([x for x in y if not np.ma.getmaskarray(x.data).all()]) for y in cut)
            yield signal, rest


def denoise_files(
    model: CDiffSD,
    inputs: Iterable[str],
    settings: Settings,
    picker: WaveformModel | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Iterator[Outcome]:
    """
    Outcomes of files, or "example", of which one instrument is denoised after the other; `report` is called with lines
    on what was written. Raises OSError if nothing can be written to the folder.
    """
    jobs, outcomes = jobs_of_files(inputs, settings)
    yield from [*outcomes]
    if jobs:
        with folder_for(settings.out):
            for job in jobs:
                done = attempt(job, settings, lambda: model, picker=picker, report=report)
                outcomes += done
                yield from done
    yield from gone(jobs, outcomes, settings)


def attempt(
    job: Job, settings: Settings, model: Callable[[], CDiffSD], retries: int = 0, **kwargs: Any
) -> list[Outcome]:
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
    about = f" ({listed(files)})" if files and not isinstance(error, OSError) else ""
    return [Outcome(job.name, "failed", one_line(error) + about)]


def run(
    job: Job,
    settings: Settings,
    model: Callable[[], CDiffSD] | None,
    picker: WaveformModel | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[Outcome]:
    """
    Do a job, unless it is done; return outcomes, none if there is something to do but no `model`, which returns one.
    No file is left incomplete; entries in the ledger are written last.

    :raises OSError: If the outputs cannot be written, or a file changed while it was read; nothing is written then
    """
    states = job.before or _states(job, settings)
    key, former = settings.key(job.name, states), _entries(job, settings)
    if _is_done(job, former, settings, key):
        return _outcomes(job, former, "complete", settings)
    if model is None:
        return []
    paths = [settings.roots[kind] / name for x in job.targets for kind in settings.kinds for name in x.files[kind]]
    for path in (*paths, *(ledger.entry_path(settings.out, target.name) for target in job.targets)):
        if job.is_input(path, settings):
            raise ValueError(f"{path} is its own input, or among inputs: choose another folder for the outputs")
    if len({os.path.realpath(path) for path in paths}) < len({*paths}):
        raise ValueError(f"{paths[0]} and other outputs are one file by a link: choose another folder for the noise")
    parts = [Part(target, entry) for target, entry in zip(job.targets, former, strict=True)]
    unavailable = job.open(parts, settings)
    count = Counter(part.target.name for part in parts if not part.entry.skipped)
    alike = sorted(x for target in job.targets if count[target.name] > 1 for x in target.ids)
    if alike:
        return [Outcome(job.name, "failed", f"{', '.join(alike)} would be one channel: choose one with --select")]
    work = Work(job, settings, parts, unavailable)
    work.write(model(), states, picker)
    if lost := work.lost():
        left = "the output of its instrument is left as it is"
        return [Outcome(name, "failed", f"{why.rstrip('.')}; {left}") for name, why in sorted(lost.items())]
    removed = work.commit(key)
    with suppress(ValueError, OSError):  # what is written is done, even if the console cannot print its name
        for line in work.lines:
            report(line)
    return [*removed, *_outcomes(job, [part.entry for part in parts], "done", settings)]


def _states(job: Job, settings: Settings) -> dict[str, tuple[Any, ...]]:
    return {name: state(path) for name, path in job.inputs(settings).items()}


def _entries(job: Job, settings: Settings) -> list[Entry | None]:
    return [ledger.read(ledger.entry_path(settings.out, target.name)) for target in job.targets]


def _is_done(job: Job, entries: Iterable[Entry | None], settings: Settings, key: str) -> bool:
    """Whether entries have this key, and their files exist. A rerun would have the same problems."""
    now = job.inputs(settings) if settings.verify else {}
    for target, entry in zip(job.targets, entries, strict=True):
        if entry is None or entry.key != key:
            return False
        for kind in settings.kinds if entry.made else []:
            moved = entry.folders.get(kind) != ledger.place(settings.roots[kind], settings.out)
            if moved or not entry.files.get(kind, {}).keys() >= {*target.files[kind]}:
                return False
        if any(ledger.digest(now[x]) != known for x, known in entry.inputs.items() if x in now):
            return False
    return _all_there(entries, settings, settings.verify)


def _all_there(entries: Iterable[Entry | None], settings: Settings, verify: bool = False) -> bool:
    files = [(kind, entry.files.get(kind, {})) for entry in entries if entry for kind in settings.kinds]
    there = (ledger.is_there(settings.roots[kind] / x, y, verify) for kind, known in files for x, y in known.items())
    return all(entries) and all(there)


def gone(jobs: Iterable[Job], outcomes: Iterable[Outcome], settings: Settings) -> list[Outcome]:
    """What was done, or was complete, and is there no more at the end of a run."""
    done = {x.name for x in outcomes if x.state in ("done", "complete")}
    lost = (x.name for x in jobs if x.name in done and not _all_there(_entries(x, settings), settings))
    return [Outcome(name, "failed", f"its output is gone again from {settings.out}") for name in lost]


def _outcomes(job: Job, entries: Iterable[Any], state: str, settings: Settings) -> list[Outcome]:
    rows, losses = [], [(math.inf, "")]
    # channels of the station that exist only on other days, except those that are too slow for the model
    missing = [x for x, path in job.missing.items() if not _is_slow_file(settings.source / path, settings.least)]
    notes = [f"no {', '.join(missing)}"] if missing else []
    for target, entry in zip(job.targets, entries, strict=True):
        problems = dict(entry.problems)
        if entry.skipped:
            rows += [Outcome(f"*.{x.rpartition('.')[2]}", "skipped", entry.skipped) for x in target.ids]
        if not entry.made and len(problems) > 1 and target.label in problems:
            files = "; ".join(f"{name}: {why}" for name, why in sorted(problems.items()) if name != target.label)
            problems = {target.label: f"{problems[target.label]} ({files})"}
        rows += [Outcome(name, "partly" if entry.made else "failed", why) for name, why in sorted(problems.items())]
        notes += entry.notes if entry.made else []
        known = (x for kind in entry.files.values() for x in kind.values())
        losses += [(x.get("ratio") or 0.0, x["loss"]) for x in known if x.get("loss")]
    if not any(entry.made for entry in entries):
        return rows or [Outcome(job.name, "failed", "no samples")]
    return [*rows, Outcome(job.name, state, "; ".join(notes), *min(losses))]


@lru_cache(maxsize=1024)  # as this holds for all days that lack the channel
def _is_slow_file(path: Path, least: float) -> bool:
    try:
        return max(span.rate for part in index(path) for span in part.spans) <= least
    except ReadError:
        return False


class Work:
    """What a job does: `write` makes files, all of them or none, `commit` the entries in the ledger."""

    def __init__(self, job: Job, settings: Settings, parts: list[Part], unavailable: dict[Path, str]) -> None:
        self.job, self.settings, self.parts, self.kinds = job, settings, parts, settings.kinds
        self.unavailable = unavailable
        self.lines = [job.title] if job.title else []
        self._broken: set[str] = set()

    def write(self, model: CDiffSD, states: Mapping[str, Any], picker: WaveformModel | None) -> None:
        job, settings, chosen = self.job, self.settings, [part for part in self.parts if part.limits]
        extras = Extras(model, self.kinds, picker, settings.picking, settings.components, job.short)
        with ExitStack() as stack:
            for kind in ("outputs", "noise") if "noise" in self.kinds else ("outputs",):
                for part in chosen:
                    try:
                        path = settings.roots[kind] / part.target.files[kind][0] if kind in self.kinds else None
                        part.outputs[kind] = Output(path, settings.encoding, settings.scale, settings.location)
                        stack.callback(part.outputs[kind].drop)
                    except OSError as error:
                        self._refused(kind, part, error)
            if chosen and not self.lost():
                times = [part.limits for part in chosen if part.limits]
                start, end = self.times = min(first for first, _ in times), max(last for _, last in times)
                spans = {(x.rate, x.id) for y in chosen for x in y.source.spans if x.start < end and x.end >= start}
                if any(rate - before > SAME_RATE * rate for (before, _), (rate, _) in pairwise(sorted(spans))):
                    chosen[0].problem(f"denoised apart: {listed(f'{x} at {rate:g} Hz' for rate, x in sorted(spans))}")
                for signal, noise in self.denoised(model, extras, start, end):
                    self._append("outputs", signal)
                    self._append("noise", noise)
            if self.lost():
                return
            hashes = {name: x for name, path in job.inputs(settings).items() if (x := ledger.digest(path))}
            changed = [name for name, now in _states(job, settings).items() if now != states[name]]
            if changed:
                raise OSError(f"{listed(changed)} changed while it was read: run the command again.")
            for part in self.parts:
                part.entry.inputs = hashes
                if part.former:  # a run that is killed from here on leaves nothing to rely on
                    ledger.write(ledger.entry_path(settings.out, part.target.name), replace(part.former, key=""))
            for part in chosen:
                self._keep(part)
        if any(part.entry.made for part in self.parts):
            self._add(extras)

    def denoised(
        self, model: CDiffSD, extras: Extras, start: UTCDateTime, end: UTCDateTime
    ) -> Iterator[tuple[Stream, Stream]]:
        """Signal and noise, piece by piece, which the extras see as well."""
        options = {**self.settings.options, "components": self.settings.components}
        for signal, noise in denoised_pieces(model, self.read, start, end, see=extras.see, **options):
            extras.add(signal, noise)
            yield signal, noise

    def read(self, start: UTCDateTime, end: UTCDateTime) -> Stream:
        stream = sum((part.source.read(start, end) for part in self.parts), Stream())
        self._broken.update(x.id for x in stream if x.data.dtype.kind == "f" and not (np.abs(x.data) < LARGEST).all())
        return stream

    def lost(self) -> dict[str, str]:
        """Files that are unavailable now, of which there are outputs, which may be better than new ones; and why."""
        for part in self.parts:
            self.unavailable |= {path: part.source.problems[path] for path in part.source.unavailable}
        names = [name for part in self.parts if part.former and part.former.made for name in part.target.paths]
        paths = ((name, self.settings.source / name) for name in names)
        return {name: self.unavailable[path] for name, path in paths if path in self.unavailable}

    def _refused(self, kind: str, part: Part, error: Exception) -> None:
        """Note that an output cannot be written; the noise takes nothing else down."""
        part.outputs.pop(kind, None)
        if kind == "outputs" and isinstance(error, OSError):
            raise error
        reason = (isinstance(error, OSError) and error.strerror) or one_line(error)
        where = f"no noise, which cannot be written to {self.settings.roots['noise']}: " if kind == "noise" else ""
        part.problem(where + reason)

    def _append(self, kind: str, stream: Stream) -> None:
        of = {channel: part for part in self.parts for channel in part.target.ids}
        for trace in stream:
            part = of[trace.id]
            output = part.outputs.get(kind)
            if output and part.limits:
                try:
                    output.write(Stream([between(trace, *part.limits)]))
                except (OSError, Unwritable) as error:
                    output.drop()
                    self._refused(kind, part, error)

    def _keep(self, part: Part) -> None:
        """Keep the files of a target, if they are of use, and note what is wrong with them."""
        entry = part.entry
        for name in part.target.paths:
            if reason := part.source.problems.get(self.settings.source / name):
                part.problem(reason, about=name)
        for kind, output in [*part.outputs.items()]:
            if kind == "noise" and not entry.made:
                continue
            try:
                output.check()
                if not output.largest:
                    if part.target.label not in entry.problems:
                        none = "no samples could be read" if part.source.problems else "has no finite samples"
                        part.problem(f"{none} below {LARGEST:g}")
                    continue
                entry.made = True
                if output.path:
                    output.keep()
                    self._take(kind, part, output.path, output)
            except (OSError, Unwritable) as error:
                self._refused(kind, part, error)
        if entry.made:
            output, broken = part.outputs["outputs"], sorted(self._broken & {*part.target.ids})
            if broken:
                part.problem(f"NaN, infinite or vast samples of {listed(broken)} were left out")
            for channel, cut in sorted(output.cut.items()) if output.path else ():
                part.problem(f"{channel} does not fit into miniSEED: it is {cut} there")
            silent = sorted(channel for channel, (given, _) in output.largest.items() if not given)
            entry.notes += [f"{listed(silent)}: constant, became zeros"] if silent else []

    def _take(self, kind: str, part: Part, path: Path, output: Output | None = None) -> None:
        """Note a file that is there."""
        name = path.relative_to(self.settings.roots[kind]).as_posix()
        known: File = {"size": path.stat().st_size, "sha256": ledger.digest(path)}
        # the loss of single precision is negligible
        if output and output.encoding != "float32" and math.isfinite(output.ratio):
            known |= {"ratio": output.ratio, "loss": output.loss}
        part.entry.files.setdefault(kind, {})[name] = known
        self.lines.append(f"  {path}" + (f"  ({output.loss})" if output else ""))

    def _add(self, extras: Extras) -> None:
        part = self.parts[0]
        for kind in (kind for kind in ("picks", "figures") if kind in self.kinds):
            paths = [self.settings.roots[kind] / name for name in part.target.files[kind]]
            try:
                if kind == "picks":
                    self.lines.append(extras.write_picks(*paths))
                    for instrument, reason in extras.picks.attrs.get(NOT_PICKED, {}).items():
                        part.problem(f"{instrument}* was not picked, because {reason}")
                else:
                    known = extras.picks if "picks" in {*self.kinds} - {*extras.failures} else None
                    extras.draw(paths[0], self.read(*self.times), known)
                for path in paths:
                    self._take(kind, part, path)
            except Exception as error:  # of a library, which leaves the samples as they are
                part.problem(f"no {kind}: {one_line(error)}")

    def commit(self, key: str) -> list[Outcome]:
        """Remove what is no longer valid, and write the entries; return what was removed."""
        settings, job, removed = self.settings, self.job, set()
        places = {kind: ledger.place(root, settings.out) for kind, root in settings.roots.items()}
        if any(settings.source / name in self.unavailable for target in job.targets for name in target.paths):
            key = ""  # the next run tries again
        for part in self.parts:
            entry, former = part.entry, part.former or Entry()
            before = {
                kind: known for kind, known in former.files.items() if former.folders.get(kind) == places.get(kind)
            }
            if part.unread and before.keys() - entry.files.keys():  # there may be no other copy
                entry.files, entry.made = before | entry.files, True
                part.problem("its output is left as it is")
            elif former.key == key:  # still valid, though not asked for now
                entry.files |= {kind: known for kind, known in before.items() if kind not in self.kinds}
            kept = {settings.roots[kind] / name for kind, known in entry.files.items() for name in known}
            for kind, root in settings.roots.items():
                for name, known in before.get(kind, {}).items():
                    path = root / name
                    own = re.fullmatch(part.target.owned, name) and path not in kept
                    if own and not job.is_input(path, settings) and ledger.removed(root, name, known):
                        removed.add(path.name.partition(".D.")[0])
            entry.key, entry.model, entry.folders = key, settings.model, places
            ledger.write(ledger.entry_path(settings.out, part.target.name), entry)
            if before:
                self.lines.append("  replaces what was made of another input, or with other options or weights")
        why = f"{listed(sorted(removed))}, which is no longer valid"
        return [Outcome(job.name, "removed", why)] if removed else []


def picked(jobs: Iterable[Job], settings: Settings) -> Iterator[Path]:
    """The tables of picks that there are of jobs, in order."""
    for job in jobs:
        (name, *_), entry = job.targets[0].files["picks"], _entries(job, settings)[0]
        known = entry.files.get("picks", {}) if entry else {}
        if name in known and ledger.is_there(settings.out / name, known[name]):
            yield settings.out / name


def drawn(jobs: Iterable[Job], settings: Settings, model: CDiffSD, start: datetime, end: datetime) -> Iterator[Path]:
    """Figures of all instruments between two times, with the picks that are in their tables."""
    first, last = UTCDateTime(start), UTCDateTime(end)
    instruments: dict[Any, list[Job]] = defaultdict(list)
    for job in (x for x in jobs if x.limits[0] < last and x.limits[1] > first):
        instruments[tuple(target.ids for target in job.targets)].append(job)
    for own in instruments.values():
        job, extras = own[0], Extras(model, ["figures"], None, {}, settings.components)
        work = Work(job, settings, [Part(target, None) for target in job.targets], {})
        job.open(work.parts, settings)
        for _ in work.denoised(model, extras, first, last):
            pass
        if extras.clean:
            picks = pd.concat([read_csv(path) for path in picked(own, settings)] or [extras.picks])
            path = settings.out / f"{job.name}.{first.strftime('%Y%m%dT%H%M%S')}.png"
            extras.draw(path, work.read(first, last), picks)
            yield path


def write_manifest(jobs: Iterable[Job], settings: Settings, name: str = "manifest.json", whole: bool = True) -> Path:
    """List the outputs that an archive has now, with size and SHA-256, and problems, of all commands or these jobs."""
    out, roots = settings.out, settings.roots
    total: dict[str, Any] = {"problems": {}, "outputs": {}} | ({} if settings.noise is None else {"noise": {}})
    own = {ledger.entry_path(out, target.name): job.name for job in jobs for target in job.targets}
    paths = {*own, *((out / ledger.FOLDER).glob("*/*/*/*/*.json") if whole else ())}
    entries = {path: ledger.read(path) for path in sorted(paths)}
    models = set()
    for entry in filter(None, entries.values()):
        total["problems"] |= entry.problems
        for kind in total.keys() & entry.files.keys():
            if entry.folders.get(kind) == ledger.place(roots[kind], out):
                files = entry.files[kind].items()
                there = {x: y for x, y in files if channel_day(Path(x)) and ledger.is_there(roots[kind] / x, y)}
                total[kind] |= there
                models |= {entry.model} if there else set()
    total |= {"missing": sorted({job for path, job in own.items() if not entries[path]}), "models": sorted(models)}
    with replacing(out / name) as temporary:
        temporary.write_text(json.dumps(total, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return out / name
