"""Files of seismograms denoised to other files: a rerun does only what is missing, and failures are reported."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import obspy
from obspy import Stream, UTCDateTime
from seisbench.models import WaveformModel

from seisbench_cdiffsd.denoising import fingerprint, margin
from seisbench_cdiffsd.files import manifest
from seisbench_cdiffsd.files.console import one_line
from seisbench_cdiffsd.files.continuous import denoised_pieces
from seisbench_cdiffsd.files.jobs import Job, jobs
from seisbench_cdiffsd.files.manifest import Outcome
from seisbench_cdiffsd.files.picklists import Picks, describe, write_csv, write_quakeml
from seisbench_cdiffsd.files.reading import Held, Readable, ReadError, index, state
from seisbench_cdiffsd.files.writing import MseedWriter, Unwritable, replacing, replacing_file
from seisbench_cdiffsd.picking import pick_stream
from seisbench_cdiffsd.plotting import plot_denoised
from seisbench_cdiffsd.streams.pieces import LARGEST
from seisbench_cdiffsd.streams.records import joined
from seisbench_cdiffsd.weights import CDiffSD

#: Longest record, in seconds, that gets a figure, and picks before and after.
SHORT = 3600.0
#: Name of the file that lists what is done.
DONE = ".cdiffsd.json"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    What to write.

    :param options: Arguments of :py:meth:`CDiffSD.denoise`
    :param noise: Also write the removed noise
    :param picks: Write the picks on the denoised records as CSV and QuakeML
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
    :param out: Folder; it is created
    :param settings: What to write
    :param picker: A SeisBench picker, for short records and for `settings.picks`
    :param report: Called with what was written, line by line
    :return: Outcomes of the inputs that failed, and of each output
    :raises OSError: If the folder cannot be written to
    """
    parts: list[Readable] = []
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
        report(f"{channel}: skipped, not one of the components {wanted}")
    what = fingerprint(model), asdict(settings)
    done = manifest.load(out / DONE)
    for job in jobs(parts, usable):
        reach = margin(model)
        files = {p.path for p in job.source.parts if _near(p, job.start - reach, job.end + reach)}
        key = manifest.key(*what, job.name, sorted((str(path.absolute()), *state(path)) for path in files))
        entry = done.get(job.name, {})
        picked = picker is not None and (_is_short(job) or settings.picks)
        # outputs made with a picker are not made again without one
        if manifest.is_done(entry, key, out) and (entry.get("picked") or not picked):
            yield from _parts_that_failed(entry)
            yield Outcome(job.name, "skipped", "")
            continue
        former = [] if entry.get("key") == key else _existing(entry, job, out)
        if former:  # a run that is killed from here on leaves nothing that is taken for what was there before
            manifest.save(out / DONE, {**manifest.load(out / DONE), job.name: {**entry, "key": ""}})
        try:
            written = _denoise(model, job, out, settings, picker, report)
        except (ValueError, Unwritable) as error:
            yield Outcome(job.name, "failed", _reason(error, _problems(job, files)))
            continue
        if former:
            report(f"  {_replaced(former, written)}")
        problems = _problems(job, files)
        entry = {"key": key, "outputs": manifest.described(written, out), "problems": problems, "picked": picked}
        if files & job.source.unavailable:
            entry["key"] = ""  # the next run tries again
        # load again, as another process may write to the same folder
        done = manifest.load(out / DONE)
        done[job.name] = entry
        manifest.save(out / DONE, done)
        yield from _parts_that_failed(entry)
        yield Outcome(job.name, "done")


def _existing(entry: dict[str, Any], job: Job, out: Path) -> list[Path]:
    """The outputs of a name that a former command made; those that are input of this one are not replaced."""
    inputs = {part.path.resolve() for part in job.source.parts}
    own = (out / name for name in sorted(entry.get("outputs", {})) if Path(name).name == name)  # others lead elsewhere
    return [x for x in own if x.name.startswith(f"{job.name}.") and x.is_file() and x.resolve() not in inputs]


def _replaced(former: list[Path], written: list[Path]) -> str:
    """Remove what a former command made and this one did not, and say that its outputs are replaced."""
    removed = [path for path in former if path not in written]
    for path in removed:
        path.unlink()
    note = f"; removed {', '.join(path.name for path in removed)}" if removed else ""
    return f"replaces what was made of another input, or with other options or weights{note}"


def _is_short(job: Job) -> bool:
    return job.end - job.start <= SHORT + 1  # a job ends up to a second after its last sample


def _problems(job: Job, files: set[Path]) -> dict[str, str]:
    """Files of a job that were not read completely, and why."""
    # only files in the key: problems of others would be reported even after they are fixed
    return {str(path): reason for path, reason in sorted(job.source.problems.items()) if path in files}


def _reason(error: Exception, problems: dict[str, str]) -> str:
    """Why a job failed, in one line, with the problems of its files."""
    files = "; ".join(f"{path}: {reason}" for path, reason in problems.items())
    return one_line(f"{error} ({files})" if files else error)


def _parts_that_failed(entry: dict[str, Any]) -> Iterator[Outcome]:
    for name, reason in sorted(entry.get("problems", {}).items()):
        yield Outcome(name, "partly", reason)


def _near(part: Readable, start: UTCDateTime, end: UTCDateTime) -> bool:
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
    picks = Picks(picker) if settings.picks and picker is not None else None
    clean, noise = Stream(), Stream()
    broken: set[str] = set()

    def read(start: UTCDateTime, end: UTCDateTime) -> Stream:
        stream = job.source.read(start, end)
        broken.update(x.id for x in stream if x.data.dtype.kind == "f" and not np.isfinite(x.data).all())
        return stream

    with ExitStack() as stack:
        writers = {
            path: MseedWriter(
                stack.enter_context(replacing_file(path)), settings.encoding, settings.scale, settings.location
            )
            for path in _mseed_paths(job, out, settings)
        }
        for signal, removed in denoised_pieces(model, read, job.start, job.end, **settings.options):
            for writer, stream in zip(writers.values(), (signal, removed), strict=False):
                writer.write(stream)
            if short:
                clean, noise = clean + signal, noise + removed
            if picks is not None and signal:
                picks.add(joined(signal, window))
        if any(writer.empty for writer in writers.values()):
            none = "no samples could be read" if job.source.problems else f"has no finite samples below {LARGEST:g}"
            raise ValueError(none)
        for writer in writers.values():
            writer.check()
    report(f"{job.instrument}*  {job.start.strftime('%Y-%m-%d %H:%M:%S')}")
    for path, writer in writers.items():
        report(f"  {path}  ({writer.loss})")
        for channel, cut in sorted(writer.cut.items()):
            report(f"  {channel}: does not fit into miniSEED, written as {cut}")
    for channel in sorted(broken):
        report(f"  {channel}: NaN and infinite samples were left out")
    for channel in sorted(next(iter(writers.values())).silent):
        report(f"  {channel}: constant, became zeros")
    written = [*writers]
    if picks is not None:
        written += _write_picks(picks, out / job.name, report)
        if not short:
            report(f"  PhaseNet, denoised: {describe(picks.all())}")
    if not short:
        report("  no figure: longer than an hour")
    else:
        noisy = job.source.read(job.start, job.end)
        written.append(_write_figure(model, noisy, clean, noise, out / f"{job.name}.png", picker, report))
    return written


def _mseed_paths(job: Job, out: Path, settings: Settings) -> list[Path]:
    """Paths of the denoised samples and, if wanted, of the noise."""
    scaled = f".x{settings.scale:g}" if settings.scale != 1 else ""
    kinds = ["denoised", "noise"] if settings.noise else ["denoised"]
    paths = [out / f"{job.name}.{kind}{scaled}.mseed" for kind in kinds]
    inputs = {part.path.resolve() for part in job.source.parts}
    for path in paths:
        if path.resolve() in inputs:
            raise ValueError(f"{path} is its own input: choose another folder with --out")
    return paths


def _write_picks(picks: Picks, stem: Path, report: Callable[[str], None]) -> list[Path]:
    written = []
    for suffix, write in (("csv", write_csv), ("xml", write_quakeml)):
        path = stem.with_name(f"{stem.name}.picks.{suffix}")
        with replacing(path) as temporary:
            write(picks.all(), temporary)
        written.append(path)
        report(f"  {path}")
    return written


def _write_figure(
    model: CDiffSD,
    noisy: Stream,
    clean: Stream,
    noise: Stream,
    path: Path,
    picker: WaveformModel | None,
    report: Callable[[str], None],
) -> Path:
    """Write the figure of a short record, with picks before and after if there is a picker."""
    # as the model sees them: SeisBench's pickers skip traces with NaN, and traces that overlap
    noisy, single = (joined(stream, model.in_samples / model.sampling_rate) for stream in (noisy, clean))
    before, after = (None if picker is None else pick_stream(picker, stream) for stream in (noisy, single))
    if picker is not None:
        report(f"  PhaseNet, noisy:    {describe(before)}\n  PhaseNet, denoised: {describe(after)}")
    with replacing(path) as temporary:
        band = {"filter_args": model.filter_args, "filter_kwargs": model.filter_kwargs}
        plot_denoised(noisy, clean, noise, before, after, path=temporary, **band)
    report(f"  {path}")
    return path
