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
from seisbench_cdiffsd.continuous import fingerprint, load
from seisbench_cdiffsd.denoising import Settings, denoise_files
from seisbench_cdiffsd.instruments import Settings as ArchiveSettings
from seisbench_cdiffsd.manifest import status, summary
from seisbench_cdiffsd.model import CDiffSD
from seisbench_cdiffsd.picking import WeightsUnavailable, load_picker
from seisbench_cdiffsd.pretrained import DEFAULT
from seisbench_cdiffsd.sds import scan, shard
from seisbench_cdiffsd.telling import tell
from seisbench_cdiffsd.workers import Lost, run_dask, run_here
from seisbench_cdiffsd.writing import ENCODINGS


class CommandError(Exception):
    """What the user can mend: told in one line."""


class Parser(argparse.ArgumentParser):
    """A parser that tells errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a command.

    :param argv: Arguments, those of the process by default
    :return: Exit status: 0; 1 if some of the input failed and the rest went on; 2, after a line on stderr about what
        the user can mend, if nothing was done; 130 after an interrupt
    """
    args = build_parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except (CommandError, *getattr(args, "mendable", ())) as error:
        tell(f"cdiffsd: {_line(error)}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        tell("cdiffsd: interrupted; the same command goes on with what is missing.", sys.stderr)
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
    parser.add_argument("--noise", action="store_true", help="write the removed noise as well")
    parser.add_argument("--picks", action="store_true", help="write picks on the denoised records: CSV and QuakeML")
    parser.add_argument("--download-picker", action="store_true", help="download PhaseNet if it is not here")
    parser.set_defaults(run=denoise)


def denoise(args: argparse.Namespace) -> int:
    """Denoise seismograms: miniSEED, a figure, and PhaseNet's picks before and after, for each instrument."""
    model = load_model(args.weights)
    model.to_preferred_device()
    try:
        picker, hint = load_picker("PhaseNet", download=args.download_picker), ""
    except WeightsUnavailable as error:
        picker = None
        hint = _line(error) if args.download_picker else "add --download-picker to get its weights once"
        if args.picks:
            raise CommandError(f"No picks without PhaseNet: {hint}") from error
    settings = Settings(_options(args, model), args.noise, args.picks, args.encoding, args.scale, args.location)
    with _errors_of_files(args.out, "Choose a folder by --out"):
        outcomes = list(denoise_files(model, args.input, args.out, settings, picker, tell))
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if len(outcomes) == 1 and failed:
        raise CommandError(f"{failed[0].name}: {failed[0].reason}")
    if hint:
        tell(f"No PhaseNet picks: {hint}")
    tell(summary(outcomes), sys.stderr if failed else sys.stdout)
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
        "--retries", type=arguments.count, default=2, metavar="N", help="of a task that fails (%(default)s)"
    )
    parser.add_argument(
        "--scheduler", type=arguments.address, metavar="ADDRESS", help="of a Dask scheduler that is running"
    )
    parser.add_argument(
        "--cluster",
        type=arguments.python_class,
        metavar="CLASS",
        help="that starts one, such as dask_jobqueue.SLURMCluster",
    )
    parser.set_defaults(run=archive)


def archive(args: argparse.Namespace) -> int:
    """Denoise an archive, one task for each station and day. A rerun does only what is missing."""
    model = load_model(args.weights)
    number, count = args.shard
    settings = ArchiveSettings(
        args.source.absolute(),
        args.out.absolute(),
        str(Path(args.weights).absolute()) if "/" in args.weights else args.weights,
        fingerprint(model),
        args.noise.absolute() if args.noise else None,
        _options(args, model),
        args.encoding,
        args.scale,
        args.location,
        args.threads,
    )
    if len({folder and os.path.realpath(folder) for folder in (settings.source, settings.out, settings.noise)}) < 3:
        raise CommandError("SDS_IN, SDS_OUT and --noise must be folders of their own.")
    try:
        tasks, outcomes = scan(args.source, args.start, args.end, args.select)
    except OSError as error:
        raise CommandError(f"The archive {args.source} cannot be read: {_line(error)}") from error
    all_tasks, tasks = tasks, shard(tasks, number, count)
    if not all_tasks:
        raise CommandError(f"There is nothing to do in {args.source} from {args.start} to {args.end}.")
    workers = args.workers if args.workers is not None else max(torch.cuda.device_count(), 0) or os.cpu_count() or 1
    with _errors_of_files(args.out, "Choose another SDS_OUT"):
        if workers == 0 or not tasks:
            results = run_here(tasks, settings, args.retries)
        else:
            results = run_dask(tasks, settings, workers, args.scheduler, args.cluster, args.retries, tell)
        try:
            for result in tqdm(results, total=len(tasks), unit="station-day", disable=None):
                outcomes += result
        except ImportError as error:
            raise CommandError(f"{_line(error)}. Install seisbench-cdiffsd[archive], or add --workers 0.") from error
        except Lost as error:
            raise CommandError(_line(error)) from error
        name = "manifest.json" if count == 1 else f"manifest.{number}-of-{count}.json"
        tell(str(write_manifest(tasks, settings, name, whole=count == 1)))
    tell(summary(outcomes))
    return status(outcomes)


def _add_model(parser: argparse.ArgumentParser) -> None:
    """What the commands that denoise have in common."""
    default = CDiffSD._annotate_args["steps"][1]
    parser.add_argument(
        "--steps", type=arguments.positive, metavar="N", help=f"sampling steps; 1 is direct ({default})"
    )
    parser.add_argument("--weights", default=DEFAULT, metavar="NAME", help="name, or path of a model (%(default)s)")
    parser.add_argument(
        "--encoding", choices=ENCODINGS, default=ENCODINGS[0], help="of the samples in miniSEED (%(default)s)"
    )
    parser.add_argument("--scale", type=arguments.scale, default=1.0, metavar="X", help="int32 are samples times X (1)")
    parser.add_argument("--location", type=arguments.code, metavar="CODE", help="location code to write (the input's)")


def _options(args: argparse.Namespace, model: CDiffSD) -> dict[str, Any]:
    """Arguments of :py:meth:`CDiffSD.denoise`, those of the model where there is no other wish."""
    if args.scale != 1 and args.encoding != "int32":
        raise CommandError("--scale is for integers: add --encoding int32.")
    return {"steps": int(model._argdict_get_with_default({}, "steps") if args.steps is None else args.steps)}


def load_model(weights: str) -> CDiffSD:
    """
    Load weights that are on this machine.

    :param weights: Name of weights, or path of a saved model
    :return: The model
    :raises CommandError: If there are none of this name
    """
    try:
        return load(weights)
    except ValueError as error:
        raise CommandError(_line(error)) from error


@contextmanager
def _errors_of_files(folder: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(f"Cannot write to {folder}: {error.strerror or error}. {remedy}.") from error


def _line(error: Exception) -> str:
    """A message in one line, or the kind of the error where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
