"""Files of seismograms in, files of denoised ones out: what is done stays done, what fails is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import obspy
import pandas as pd
from obspy import Stream, UTCDateTime
from obspy.core.event import Catalog, Comment, Event, Pick, ResourceIdentifier, WaveformStreamID
from seisbench.models import WaveformModel

from seisbench_cdiffsd import manifest
from seisbench_cdiffsd.continuous import MARGIN, between, denoised_pieces, fingerprint
from seisbench_cdiffsd.jobs import Job, jobs
from seisbench_cdiffsd.manifest import Outcome
from seisbench_cdiffsd.model import CDiffSD
from seisbench_cdiffsd.picking import pick_stream
from seisbench_cdiffsd.pieces import LARGEST
from seisbench_cdiffsd.plotting import plot_denoised
from seisbench_cdiffsd.reading import Held, Part, ReadError, index, state
from seisbench_cdiffsd.records import joined
from seisbench_cdiffsd.writing import MseedWriter, Unwritable, replacing

#: Seconds up to which a record gets a figure, and picks before and after.
SHORT = 3600.0
#: Seconds of a piece that are picked again with the next.
OVERLAP = 60.0
#: More picks than these are counted, not listed.
MAX_LISTED_PICKS = 8
#: Name of the file that says what is done.
DONE = ".cdiffsd.json"


@dataclass(frozen=True)
class Settings:
    """
    What to write.

    :param options: Arguments of :py:meth:`CDiffSD.denoise`
    :param noise: Write what was removed as well
    :param picks: Write the picks on the denoised records, as CSV and QuakeML
    :param encoding: See :py:class:`MseedWriter`
    :param scale: Likewise
    :param location: Likewise
    """

    options: dict[str, Any] = field(default_factory=dict)
    noise: bool = False
    picks: bool = False
    encoding: str = "float32"
    scale: float = 1.0
    location: str | None = None


def denoise_files(
    model: CDiffSD,
    inputs: Iterable[str],
    out: Path,
    settings: Settings,
    picker: WaveformModel | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Iterator[Outcome]:
    """
    Denoise files, one instrument after the other.

    :param model: The model
    :param inputs: Paths, or "example"
    :param out: Folder, which is made
    :param settings: What to write
    :param picker: A SeisBench picker, for short records and for `settings.picks`
    :param report: Is told what was made, line by line
    :return: What became of the inputs that failed, and of each output
    :raises OSError: If the folder cannot be written
    """
    parts: list[Part] = []
    for name in {name if name == "example" else os.path.realpath(name): name for name in inputs}.values():
        try:
            parts += [Held(obspy.read(), Path("example"))] if name == "example" else index(Path(name))
        except ReadError as error:
            yield Outcome(name, "failed", str(error))
    rates: dict[str, float] = {}
    for span in (span for part in parts for span in part.spans):
        rates[span.id] = max(rates.get(span.id, 0.0), span.rate)
    components = {x for x in rates if x[-1:] in {*model.component_order, *"ZNE12"}}
    usable = {x for x in components if rates[x] > model.min_sampling_rate}
    wanted = f"{model.component_order} at more than {model.min_sampling_rate:g} Hz"
    if parts and not usable:
        for path in sorted({part.path for part in parts}):
            yield Outcome(str(path), "failed", f"has no samples of the components {wanted}.")
    if not usable:
        return
    out.mkdir(parents=True, exist_ok=True)
    for channel in sorted(rates.keys() - usable):
        report(f"{channel}: passed over, not of the components {wanted}")
    what = fingerprint(model), asdict(settings)
    done = manifest.load(out / DONE)
    for job in jobs(parts, usable):
        reach = MARGIN * model.in_samples / model.sampling_rate
        files = {p.path for p in job.source.parts if _near(p, job.start - reach, job.end + reach)}
        key = manifest.key(*what, job.name, sorted((str(path.absolute()), *state(path)) for path in files))
        entry = done.get(job.name, {})
        picked = picker is not None and (_is_short(job) or settings.picks)
        # what was made with a picker is not made again without one
        if manifest.is_done(entry, key, out) and (entry.get("picked") or not picked):
            yield from _parts_that_failed(entry)
            yield Outcome(job.name, "skipped", "")
            continue
        try:
            written = _denoise(model, job, out, settings, picker, report)
        except (ValueError, Unwritable) as error:
            yield Outcome(job.name, "failed", _reason(error, _problems(job, files)))
            continue
        problems = _problems(job, files)
        entry = {"key": key, "outputs": manifest.described(written, out), "problems": problems, "picked": picked}
        if files & job.source.unavailable:
            entry["key"] = ""  # the next run may fare better
        # read again, as another process may write to the same folder
        done = manifest.load(out / DONE)
        done[job.name] = entry
        manifest.save(out / DONE, done)
        yield from _parts_that_failed(entry)
        yield Outcome(job.name, "done")


def _is_short(job: Job) -> bool:
    return job.end - job.start <= SHORT + 1  # a job ends up to a second after its last sample


def _problems(job: Job, files: set[Path]) -> dict[str, str]:
    """Files of a job that were not read in full, and why."""
    # only of the files in the key, or else what is mended in another one would be told for ever
    return {str(path): reason for path, reason in sorted(job.source.problems.items()) if path in files}


def _reason(error: Exception, problems: dict[str, str]) -> str:
    """Why a job failed, in one line, with what was wrong with its files."""
    files = "; ".join(f"{path}: {reason}" for path, reason in problems.items())
    return " ".join(f"{error} ({files})".split()) if files else " ".join(str(error).split())


def _parts_that_failed(entry: dict[str, Any]) -> Iterator[Outcome]:
    for name, reason in sorted(entry.get("problems", {}).items()):
        yield Outcome(name, "partly", reason)


def _near(part: Part, start: UTCDateTime, end: UTCDateTime) -> bool:
    return any(span.start <= end and span.end >= start for span in part.spans)


def _denoise(
    model: CDiffSD,
    job: Job,
    out: Path,
    settings: Settings,
    picker: WaveformModel | None,
    report: Callable[[str], None],
) -> list[Path]:
    """Write the files of one job."""
    short, window = _is_short(job), model.in_samples / model.sampling_rate
    pieces = denoised_pieces(model, job.source.read, job.start, job.end, **settings.options)
    written: list[Path] = []
    clean, noise = Stream(), Stream()
    kinds = ["denoised", "noise"] if settings.noise else ["denoised"]
    with ExitStack() as stack:
        writers = []
        for kind in kinds:
            scaled = f".x{settings.scale:g}" if settings.scale != 1 else ""
            path = out / f"{job.name}.{kind}{scaled}.mseed"
            if path.resolve() in {part.path.resolve() for part in job.source.parts}:
                raise ValueError(f"{path} is its own input: choose another folder by --out")
            file = stack.enter_context(stack.enter_context(replacing(path)).open("wb"))
            writers.append((path, MseedWriter(file, settings.encoding, settings.scale, settings.location)))
        picks = _Picks(picker) if settings.picks and picker is not None else None
        empty = True
        for signal, removed in pieces:
            if not signal:
                continue
            empty = False
            for (_, writer), stream in zip(writers, (signal, removed), strict=False):
                writer.write(stream)
            if short:
                clean, noise = clean + signal, noise + removed
            if picks is not None:
                picks.add(joined(signal, window))
        if empty:
            none = "no samples could be read" if job.source.problems else f"has no finite samples below {LARGEST:g}"
            raise ValueError(none)
        for _, writer in writers:
            writer.check()
    report(f"{job.instrument}*  {job.start.strftime('%Y-%m-%d %H:%M:%S')}")
    for path, writer in writers:
        written.append(path)
        report(f"  {path}  ({writer.loss})")
        for channel in sorted(writer.cut):
            report(f"  {channel}: miniSEED has no room for its codes, which were cut")
    if picks is not None:
        found = picks.all()
        for suffix, write in (("csv", _write_csv), ("xml", _write_quakeml)):
            path = out / f"{job.name}.picks.{suffix}"
            with replacing(path) as temporary:
                write(found, temporary)
            written.append(path)
            report(f"  {path}")
    if short:
        # as the model takes them: SeisBench's pickers pass over traces with NaN, and over those that overlap
        noisy, single = (joined(stream, window) for stream in (job.source.read(job.start, job.end), clean))
        before, after = (None if picker is None else pick_stream(picker, stream) for stream in (noisy, single))
        if picker is not None:
            report(f"  PhaseNet, noisy:    {describe(before)}\n  PhaseNet, denoised: {describe(after)}")
        path = out / f"{job.name}.png"
        with replacing(path) as temporary:
            plot_denoised(noisy, clean, noise, before, after, path=temporary)
        written.append(path)
        report(f"  {path}")
    return written


class _Picks:
    """Picks on the pieces of a record, which share some time so that nothing is lost where they meet."""

    def __init__(self, picker: WaveformModel) -> None:
        self._picker = picker
        self._tail = Stream()
        self._since = UTCDateTime(-(10**10))
        self._found: list[pd.DataFrame] = []
        self._pending: pd.DataFrame | None = None

    def add(self, piece: Stream) -> None:
        """Pick on the next piece."""
        stream = self._tail + piece
        picks = pick_stream(self._picker, stream)
        # arrays of truth values, as pandas takes an empty list for a choice of no columns
        picks = picks[np.array([time >= self._since for time in picks["time"]], dtype=bool)]
        end = max(trace.stats.endtime for trace in piece)
        until = end - OVERLAP
        sure = np.array([time < until for time in picks["time"]], dtype=bool)
        self._found.append(picks[sure])
        self._pending = picks[~sure]
        self._since = until
        tail = (between(trace, until - OVERLAP, end + 1) for trace in stream)
        self._tail = Stream([trace for trace in tail if len(trace)])

    def all(self) -> pd.DataFrame:
        """All picks."""
        return pd.concat([*self._found, self._pending], ignore_index=True)


def describe(picks: pd.DataFrame) -> str:
    """Picks in one line; many are counted."""
    if len(picks) > MAX_LISTED_PICKS:
        return ", ".join(f"{count} {phase}" for phase, count in picks["phase"].value_counts().sort_index().items())
    found = (f"{p.phase} {p.time.strftime('%H:%M:%S.%f')[:-4]} ({p.probability:.2f})" for p in picks.itertuples())
    return "  ".join(found) or "none"


def _write_csv(picks: pd.DataFrame, path: Path) -> None:
    picks.rename(columns={"record": "instrument"}).to_csv(path, index=False, float_format="%.4f")


def _write_quakeml(picks: pd.DataFrame, path: Path) -> None:
    """Picks as one event, as QuakeML has no place for them outside of events; the ids tell nothing but their place."""
    event = Event(resource_id=ResourceIdentifier("smi:local/cdiffsd/picks"))
    for i, pick in enumerate(picks.itertuples()):
        network, rest = pick.record.split(".", 1)
        station, location, channel = rest.rsplit(".", 2)  # codes from SAC may have a point in that of the station
        event.picks.append(
            Pick(
                resource_id=ResourceIdentifier(f"smi:local/cdiffsd/pick/{i}"),
                time=pick.time,
                waveform_id=WaveformStreamID(network, station, location, channel),
                phase_hint=pick.phase,
                evaluation_mode="automatic",
                comments=[_comment(f"probability {pick.probability:.4f}", i)],
            )
        )
    catalog = Catalog([event], resource_id=ResourceIdentifier("smi:local/cdiffsd"))
    catalog.write(str(path), format="QUAKEML")


def _comment(text: str, number: int) -> Comment:
    return Comment(text=text, resource_id=ResourceIdentifier(f"smi:local/cdiffsd/comment/{number}"))
