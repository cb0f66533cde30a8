"""The commands ``cdiffsd denoise`` and ``cdiffsd archive``. What they compute with is imported when they run."""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from seisbench_cdiffsd.cli import arguments
from seisbench_cdiffsd.files.console import one_line, tell


def shared() -> argparse.ArgumentParser:
    """The arguments of both commands."""
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument
    purpose = "picking leaves a fifth of the removed noise in, waveforms none (%(default)s)"
    add("--purpose", choices=["picking", "waveforms"], default="picking", help=purpose)
    add("--dry", type=arguments.share, metavar="X", help="share of the removed noise that stays (as for the purpose)")
    add_silence(add)
    add("--steps", type=arguments.positive, metavar="N", help="sampling steps; 1 is direct (2)")
    add("--weights", metavar="NAME", help="name, or path of a model (the package's own)")
    add("--encoding", choices=["float32", "int32"], default="float32", help="sample format in miniSEED (%(default)s)")
    add("--scale", type=arguments.scale, default=1.0, metavar="X", help="factor of samples before they are int32 (1)")
    add("--location", type=arguments.code, metavar="CODE", help="location code to write (the input's)")
    add_reading(add)
    return parser


def add_silence(add: Any) -> None:
    """Add below which probability no earthquake is left, and none picked."""
    silence = "probability of an earthquake below which none is left (0.8, for which rates hold)"
    add("--silence", type=arguments.share, metavar="P", help=silence)


def add_reading(add: Any) -> None:
    """Add how files are read, to any command."""
    names = "names of components, or beginnings or ends of channel codes, such as UD=Z NS=N EW=E"
    add("--components", nargs="+", type=arguments.component, default=[], metavar="NAME=COMPONENT", help=names)
    add("--verify", action="store_true", help="compare files by contents, to find what is damaged or exchanged")


def add_days(add: Any, required: bool) -> None:
    """Add what of an archive is read, and by whom."""
    add("--start", type=arguments.day, required=required, metavar="YYYY-MM-DD", help="first day")
    add("--end", type=arguments.day, required=required, metavar="YYYY-MM-DD", help="last day")
    add("--select", nargs="+", default=["*"], metavar="ID", help="channels, such as 'CH.*.*.HH?' (all)")
    add("--shard", type=arguments.shard, default=(1, 1), metavar="I/N", help="only the I-th of N parts")
    workers = "processes (one for each GPU, or core); 0 for this one, without Dask"
    add("--workers", type=arguments.count, metavar="N", help=workers)
    add("--threads", type=arguments.positive, default=1, metavar="N", help="threads of a worker (%(default)s)")
    add("--retries", type=arguments.count, default=2, metavar="N", help="how often to retry a failed job (%(default)s)")
    add("--scheduler", type=arguments.address, metavar="ADDRESS", help="of a running Dask scheduler")
    cluster = "that starts a scheduler, such as dask_jobqueue.SLURMCluster"
    add("--cluster", type=arguments.python_class, metavar="CLASS", help=cluster)


def add_denoise(commands: Any) -> None:
    """Add ``cdiffsd denoise``."""
    about = "Denoise seismograms: miniSEED for each instrument. A rerun does only what is missing."
    parser = commands.add_parser("denoise", help=about, description=about, parents=[shared()])
    add, out = parser.add_argument, Path("denoised")
    add("input", nargs="+", metavar="INPUT", help="a file that ObsPy reads, or 'example'")
    add("--out", type=arguments.folder, default=out, metavar="DIR", help="folder (%(default)s)")
    add("--noise", action="store_true", help="also write the removed noise")
    add("--figures", action="store_true", help="also draw records, and longer ones hour by hour")
    add("--picks", action="store_true", help="also write picks as 'cdiffsd pick' does: CSV and QuakeML")
    add("--download-picker", action="store_true", help="download PhaseNet if it is not on this machine")
    parser.set_defaults(run=denoise)


def add_archive(commands: Any) -> None:
    """Add ``cdiffsd archive``."""
    about = "Denoise an archive of day files (SDS), day by day. A rerun does only what is missing."
    parser = commands.add_parser("archive", help=about, description=about, parents=[shared()])
    add = parser.add_argument
    add("source", type=arguments.folder, metavar="SDS_IN", help="folder of the archive")
    add("out", type=arguments.folder, metavar="SDS_OUT", help="folder of the denoised archive")
    add("--noise", type=arguments.folder, metavar="DIR", help="folder of an archive of the removed noise")
    add_days(add, required=True)
    parser.set_defaults(run=archive)


def prepared(args: argparse.Namespace, **more: Any) -> tuple[Any, Any]:
    """The model and the settings that a command line asks for; what it does not mention is the model's."""
    from seisbench_cdiffsd.denoising import check_pieces, resolved
    from seisbench_cdiffsd.files.jobs import Settings
    from seisbench_cdiffsd.weights import DEFAULT, load

    if args.scale != 1 and args.encoding != "int32":
        raise ValueError("--scale is for integers: add --encoding int32.")
    weights = args.weights or DEFAULT
    try:
        model = load(weights)
        check_pieces(model)
    except (ValueError, FloatingPointError) as error:
        about = "" if weights in str(error) else f"The weights {weights!r} cannot be used: "
        raise ValueError(about + one_line(error)) from error
    asked = {name: getattr(args, name) for name in ("steps", "dry", "silence") if getattr(args, name) is not None}
    check_pieces(model, **asked)
    options = resolved(model, args.purpose, asked)
    more["weights"] = str(Path(weights).absolute()) if "/" in weights else weights
    more |= {name: getattr(args, name) for name in ("encoding", "scale", "location", "verify")}
    return model, Settings.of(model, options=options, components=dict(args.components), **more)


def loaded_picker(name: str, weights: str, download: bool) -> Any:
    """A picker of SeisBench; ValueError if its weights are not there, or cannot be downloaded."""
    from seisbench_cdiffsd.picking import WeightsMissing, WeightsUnavailable, load_picker

    try:
        return load_picker(name, weights, download=download)
    except WeightsUnavailable as error:
        hint = " Or add --download-picker." if isinstance(error, WeightsMissing) else ""
        raise ValueError(f"{error}{hint}") from error


def picking(settings: Any, model: Any, picker: str = "PhaseNet", weights: str = "original", **rate: Any) -> Any:
    """The settings with a picker and its thresholds; ValueError if there are none for the rate."""
    from seisbench_cdiffsd.picking import thresholds

    least = thresholds(model, picker, weights, **rate)
    return replace(settings, picking={"picker": picker, "weights": weights, "least": least})


def denoise(args: argparse.Namespace) -> int:
    """Denoise files."""
    from seisbench_cdiffsd.files.ledger import Outcome, report, status
    from seisbench_cdiffsd.files.work import denoise_files

    picker, outcomes = None, []
    if args.picks:
        try:
            picker = loaded_picker("PhaseNet", "original", args.download_picker)
        except ValueError as error:
            outcomes.append(Outcome("PhaseNet", "partly", f"no picks: {one_line(error)}"))
    noise = args.out if args.noise else None
    model, settings = prepared(args, out=args.out, noise=noise, picks=picker is not None, figures=args.figures)
    if picker:
        try:
            settings = picking(settings, model)
        except ValueError as error:
            settings = replace(settings, picking={"picker": "PhaseNet", "weights": "original"})
            tell(f"Picks have PhaseNet's usual thresholds: {one_line(error)}", sys.stderr)
    model.to_preferred_device()
    outcomes += denoise_files(model, args.input, settings, picker, tell)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if len(outcomes) == 1 and failed:
        raise ValueError(f"{failed[0].name}: {failed[0].reason}")
    tell(report(outcomes), sys.stderr if status(outcomes) else sys.stdout)
    return status(outcomes)


def archive(args: argparse.Namespace) -> int:
    """Denoise an archive, one job for each instrument and day."""
    from seisbench_cdiffsd.files.ledger import report, status
    from seisbench_cdiffsd.files.work import write_manifest
    from seisbench_cdiffsd.files.writing import folder_for

    noise = args.noise and args.noise.absolute()
    folders = {"source": args.source.absolute(), "out": args.out.absolute(), "noise": noise}
    _, settings = prepared(args, threads=args.threads, **folders)
    if len({folder and os.path.realpath(folder) for folder in folders.values()}) < 3:
        raise ValueError("SDS_IN, SDS_OUT and --noise must be different folders.")
    jobs, outcomes = jobs_of_archive(args, settings)
    with folder_for(args.out, "SDS_OUT"):
        outcomes += finished(jobs, args, settings)
        name, whole = numbered(args, "manifest", ".json"), args.shard[1] == 1
        tell(str(write_manifest(jobs, settings, name, whole)))
    tell(report(outcomes))
    return status(outcomes)


def jobs_of_archive(args: argparse.Namespace, settings: Any) -> tuple[Any, Any]:
    """The days of instruments that are asked for, and what else was found."""
    from seisbench_cdiffsd.files.sds import scan, why_nothing

    if args.end < args.start:
        raise ValueError(f"--end {args.end} is before --start {args.start}: exchange them.")
    found, outcomes = scan(settings, args.start, args.end, args.select)
    if not found:
        raise ValueError(why_nothing(settings, args.start, args.end, args.select))
    number, count = args.shard
    return found[number - 1 :: count], outcomes


def numbered(args: argparse.Namespace, name: str, suffix: str) -> str:
    """The name of a file about all jobs, or of one about the part of them that this command does."""
    number, count = args.shard
    return f"{name}{suffix}" if count == 1 else f"{name}.{number}-of-{count}{suffix}"


def finished(jobs: Any, args: argparse.Namespace, settings: Any, unit: str = "day") -> list[Any]:
    """The outcomes of jobs, which are done one after the other, or through Dask."""
    from tqdm import tqdm

    from seisbench_cdiffsd.files.work import gone
    from seisbench_cdiffsd.files.workers import run_dask, run_here

    outcomes: list[Any] = []
    if args.workers == 0 or not jobs:
        results = run_here(jobs, settings, args.retries)
    else:
        results = run_dask(jobs, settings, args.workers, args.scheduler, args.cluster, args.retries, tell)
    try:
        for result in tqdm(results, total=len(jobs), unit=unit, disable=None):
            outcomes += result
    except ImportError as error:
        raise ValueError(f"{one_line(error)}. Install seisbench-cdiffsd[archive], or add --workers 0.") from error
    return outcomes + gone(jobs, outcomes, settings)
