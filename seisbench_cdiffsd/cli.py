"""The command ``cdiffsd``: one thin command for each capability."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from tqdm import tqdm

from seisbench_cdiffsd import __version__, arguments
from seisbench_cdiffsd.archive import write_manifest
from seisbench_cdiffsd.commands import INTERRUPTED, add_export, add_train
from seisbench_cdiffsd.console import one_line, tell
from seisbench_cdiffsd.continuous import fingerprint, load
from seisbench_cdiffsd.denoising import Settings, denoise_files
from seisbench_cdiffsd.instruments import ArchiveSettings
from seisbench_cdiffsd.manifest import report, status
from seisbench_cdiffsd.model import CDiffSD
from seisbench_cdiffsd.picking import WeightsUnavailable, load_picker
from seisbench_cdiffsd.pretrained import DEFAULT
from seisbench_cdiffsd.sds import scan, shard
from seisbench_cdiffsd.workers import Lost, run_dask, run_here
from seisbench_cdiffsd.writing import ENCODINGS


class CommandError(Exception):
    """An error that the user can fix; its message is one line."""


class Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a command.

    :param argv: Arguments, those of the process by default
    :return: Exit status: 0; 1 if only some of the input failed; 2 if nothing was done, after a line on stderr that says
        what the user can fix; 130 after an interrupt
    """
    args = build_parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except (CommandError, *getattr(args, "user_errors", ())) as error:
        tell(f"cdiffsd: {one_line(error)}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        tell("cdiffsd: interrupted; the same command continues with what is missing.", sys.stderr)
        return INTERRUPTED


def build_parser() -> Parser:
    """The parser of all commands; each sets ``run``, a function of the parsed arguments."""
    parser = Parser(prog="cdiffsd", description="Denoise seismograms by cold diffusion.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add_denoise(commands)
    add_archive(commands)
    add_train(commands)
    add_export(commands)
    return parser


def add_denoise(commands: Any) -> None:
    """Add ``cdiffsd denoise``."""
    parser = commands.add_parser("denoise", help="denoise files of seismograms", description=denoise.__doc__)
    parser.add_argument("input", nargs="+", metavar="INPUT", help="a file that ObsPy reads, or 'example'")
    parser.add_argument("--out", type=Path, default=Path("denoised"), metavar="DIR", help="folder (%(default)s)")
    _add_model(parser)
    parser.add_argument("--noise", action="store_true", help="also write the removed noise")
    parser.add_argument("--picks", action="store_true", help="write picks on the denoised records: CSV and QuakeML")
    parser.add_argument("--download-picker", action="store_true", help="download PhaseNet if it is not on this machine")
    parser.set_defaults(run=denoise)


def denoise(args: argparse.Namespace) -> int:
    """Denoise seismograms; write miniSEED, a figure, and PhaseNet's picks before and after, for each instrument."""
    model = load_model(args.weights)
    model.to_preferred_device()
    try:
        picker, hint = load_picker("PhaseNet", download=args.download_picker), ""
    except WeightsUnavailable as error:
        picker = None
        hint = one_line(error) if args.download_picker else "add --download-picker to get its weights once"
        if args.picks:
            raise CommandError(f"No picks without PhaseNet: {hint}") from error
    settings = Settings(options=_options(args, model), noise=args.noise, picks=args.picks, **_format(args))
    with _write_errors(args.out, "Choose a folder with --out"):
        outcomes = list(denoise_files(model, args.input, args.out, settings, picker, tell))
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if len(outcomes) == 1 and failed:
        raise CommandError(f"{failed[0].name}: {failed[0].reason}")
    if hint:
        tell(f"No PhaseNet picks: {hint}")
    tell(report(outcomes), sys.stderr if failed else sys.stdout)
    return status(outcomes)


def add_archive(commands: Any) -> None:
    """Add ``cdiffsd archive``."""
    parser = commands.add_parser("archive", help="denoise an archive of day files (SDS)", description=archive.__doc__)
    parser.add_argument("source", type=Path, metavar="SDS_IN", help="folder of the archive")
    parser.add_argument("out", type=Path, metavar="SDS_OUT", help="folder of the denoised archive")
    parser.add_argument("--start", type=arguments.day, required=True, metavar="YYYY-MM-DD", help="first day")
    parser.add_argument("--end", type=arguments.day, required=True, metavar="YYYY-MM-DD", help="last day")
    parser.add_argument("--select", nargs="+", default=["*"], metavar="ID", help="channels, such as 'CH.*.*.HH?' (all)")
    parser.add_argument("--noise", type=Path, metavar="DIR", help="folder of an archive of the removed noise")
    _add_model(parser)
    parser.add_argument("--shard", type=arguments.shard, default=(1, 1), metavar="I/N", help="only the I-th of N parts")
    parser.add_argument(
        "--workers",
        type=arguments.count,
        metavar="N",
        help="processes (one for each GPU, or core); 0 for this one, without Dask",
    )
    parser.add_argument(
        "--threads", type=arguments.positive, default=1, metavar="N", help="threads of a worker (%(default)s)"
    )
    parser.add_argument(
        "--retries", type=arguments.count, default=2, metavar="N", help="how often to retry a failed task (%(default)s)"
    )
    parser.add_argument("--scheduler", type=arguments.address, metavar="ADDRESS", help="of a running Dask scheduler")
    parser.add_argument(
        "--cluster",
        type=arguments.python_class,
        metavar="CLASS",
        help="that starts a scheduler, such as dask_jobqueue.SLURMCluster",
    )
    parser.set_defaults(run=archive)


def archive(args: argparse.Namespace) -> int:
    """Denoise an archive, one task for each station and day. A rerun does only what is missing."""
    model = load_model(args.weights)
    number, count = args.shard
    settings = ArchiveSettings(
        source=args.source.absolute(),
        out=args.out.absolute(),
        weights=str(Path(args.weights).absolute()) if "/" in args.weights else args.weights,
        model=fingerprint(model),
        noise=args.noise.absolute() if args.noise else None,
        options=_options(args, model),
        threads=args.threads,
        **_format(args),
    )
    if len({folder and os.path.realpath(folder) for folder in (settings.source, settings.out, settings.noise)}) < 3:
        raise CommandError("SDS_IN, SDS_OUT and --noise must be different folders.")
    try:
        tasks, outcomes = scan(args.source, args.start, args.end, args.select)
    except OSError as error:
        raise CommandError(f"The archive {args.source} cannot be read: {one_line(error)}") from error
    all_tasks, tasks = tasks, shard(tasks, number, count)
    if not all_tasks:
        raise CommandError(f"There is nothing to do in {args.source} from {args.start} to {args.end}.")
    workers = torch.cuda.device_count() or _cores() if args.workers is None else args.workers
    with _write_errors(args.out, "Choose another SDS_OUT"):
        if workers == 0 or not tasks:
            results = run_here(tasks, settings, retries=args.retries)
        else:
            results = run_dask(
                tasks,
                settings,
                workers=workers,
                scheduler=args.scheduler,
                cluster=args.cluster,
                retries=args.retries,
                report=tell,
            )
        try:
            for result in tqdm(results, total=len(tasks), unit="station-day", disable=None):
                outcomes += result
        except ImportError as error:
            raise CommandError(f"{one_line(error)}. Install seisbench-cdiffsd[archive], or add --workers 0.") from error
        except Lost as error:
            raise CommandError(one_line(error)) from error
        name = "manifest.json" if count == 1 else f"manifest.{number}-of-{count}.json"
        tell(str(write_manifest(tasks, settings, name, whole=count == 1)))
    tell(report(outcomes))
    return status(outcomes)


def _add_model(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that both denoising commands have."""
    default = {name: value for name, (_, value) in CDiffSD._annotate_args.items()}
    parser.add_argument(
        "--steps", type=arguments.positive, metavar="N", help=f"sampling steps; 1 is direct ({default['steps']})"
    )
    parser.add_argument(
        "--noise-floor",
        type=arguments.share,
        metavar="X",
        help=f"least share of the noise to leave in; with --noise-margin inf, 0 leaves none ({default['noise_floor']})",
    )
    parser.add_argument(
        "--noise-margin",
        type=arguments.decibels,
        metavar="DB",
        help=f"attenuate noise to DB below the earthquake; inf for no limit ({default['noise_margin']:g})",
    )
    parser.add_argument("--weights", default=DEFAULT, metavar="NAME", help="name, or path of a model (%(default)s)")
    parser.add_argument(
        "--encoding", choices=ENCODINGS, default=ENCODINGS[0], help="sample format in miniSEED (%(default)s)"
    )
    parser.add_argument(
        "--scale", type=arguments.scale, default=1.0, metavar="X", help="factor of samples before they become int32 (1)"
    )
    parser.add_argument("--location", type=arguments.code, metavar="CODE", help="location code to write (the input's)")


def _options(args: argparse.Namespace, model: CDiffSD) -> dict[str, Any]:
    """Arguments of :py:meth:`CDiffSD.denoise`; by default those of the model."""
    names = "steps", "noise_floor", "noise_margin"
    options = model.options(**{name: getattr(args, name) for name in names if getattr(args, name) is not None})
    return {name: getattr(options, name) for name in names}


def _format(args: argparse.Namespace) -> dict[str, Any]:
    """How samples are written, as keywords of the settings."""
    if args.scale != 1 and args.encoding != "int32":
        raise CommandError("--scale is for integers: add --encoding int32.")
    return {"encoding": args.encoding, "scale": args.scale, "location": args.location}


def _cores() -> int:
    """Number of cores that this process may use, which Slurm or a container may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_model(weights: str) -> CDiffSD:
    """
    Load weights from this machine.

    :param weights: Name of weights, or path of a saved model
    :return: The model
    :raises CommandError: If they cannot be loaded
    """
    try:
        return load(weights)
    except ValueError as error:
        raise CommandError(one_line(error)) from error


@contextmanager
def _write_errors(folder: Path, remedy: str) -> Iterator[None]:
    """Report files that cannot be written as an error that the user can fix."""
    try:
        yield
    except OSError as error:
        raise CommandError(f"Cannot write to {folder}: {error.strerror or error}. {remedy}.") from error


if __name__ == "__main__":
    sys.exit(main())
