"""The command ``cdiffsd``: one thin command for each capability."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import torch
from seisbench.data import WaveformDataset

from seisbench_cdiffsd import __version__
from seisbench_cdiffsd.continuous import load
from seisbench_cdiffsd.denoising import Settings, denoise_files
from seisbench_cdiffsd.manifest import status, summary
from seisbench_cdiffsd.model import CDiffSD
from seisbench_cdiffsd.picking import PickerUnavailable, load_picker
from seisbench_cdiffsd.pretrained import DEFAULT
from seisbench_cdiffsd.training import TrainingConfig, fit
from seisbench_cdiffsd.writing import CODE_LENGTHS, ENCODINGS


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
        the user can mend, if nothing was done
    """
    args = build_parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except CommandError as error:
        print(f"cdiffsd: {_line(error)}", file=sys.stderr)
        return 2


def build_parser() -> Parser:
    """The parser of all commands; each sets ``run``, a function of the parsed arguments."""
    parser = Parser(prog="cdiffsd", description="Denoise seismograms by cold diffusion.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add_denoise(commands)
    add_train(commands)
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
        picker = load_picker("PhaseNet", download=args.download_picker)
    except PickerUnavailable as error:
        picker = None
        hint = _line(error) if args.download_picker else "add --download-picker to get its weights once"
        if args.picks:
            raise CommandError(f"No picks without PhaseNet: {hint}") from error
        print(f"No PhaseNet picks: {hint}")
    settings = Settings(_options(args), args.noise, args.picks, args.encoding, args.scale, args.location)
    with _errors_of_files(args.out):
        outcomes = list(denoise_files(model, args.input, args.out, settings, picker, print))
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if len(outcomes) == 1 and failed:
        raise CommandError(f"{failed[0].name}: {failed[0].reason}")
    print(summary(outcomes), file=sys.stderr if failed else sys.stdout)
    return status(outcomes)


def _add_model(parser: argparse.ArgumentParser) -> None:
    """What the commands that denoise have in common."""
    default = CDiffSD._annotate_args["steps"][1]
    parser.add_argument("--steps", type=_positive, metavar="N", help=f"sampling steps, 1 is direct ({default})")
    parser.add_argument("--weights", default=DEFAULT, metavar="NAME", help="name, or path of a model (%(default)s)")
    parser.add_argument(
        "--encoding", choices=ENCODINGS, default=ENCODINGS[0], help="of the samples in miniSEED (%(default)s)"
    )
    parser.add_argument("--scale", type=_scale, default=1.0, metavar="X", help="int32 are samples times X (1)")
    parser.add_argument("--location", type=_code, metavar="CODE", help="location code to write (that of the input)")


def _options(args: argparse.Namespace) -> dict[str, Any]:
    if args.scale != 1 and args.encoding != "int32":
        raise CommandError("--scale is for integers: add --encoding int32.")
    return {} if args.steps is None else {"steps": args.steps}


def add_train(commands: Any) -> None:
    """Add ``cdiffsd train``: an option for each field of the training config."""
    parser = commands.add_parser("train", help="train a model", description=train.__doc__)
    for name, what in (("events", "labelled earthquakes"), ("noise", "noise")):
        parser.add_argument(
            f"--{name}", required=True, metavar="DATASET", help=f"SeisBench dataset of {what}: a folder"
        )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder; an unfinished run goes on")
    parser.add_argument("--device", default="cpu", help="device to train on (%(default)s)")
    parser.add_argument("--threads", type=_positive, metavar="N", help="threads of PyTorch")
    for field in fields(TrainingConfig):
        value = getattr(TrainingConfig(), field.name)
        option: dict[str, Any] = {"type": type(value), "metavar": type(value).__name__.upper()}
        if field.name == "loss":
            option = {"type": _weight, "nargs": "+", "metavar": "TERM=WEIGHT"}
        elif field.name in ("snr", "factor"):
            option = {"type": float, "nargs": 2, "metavar": ("LOW", "HIGH")}
        parser.add_argument(f"--{field.name.replace('_', '-')}", help=f"({value})", **option)
    parser.set_defaults(run=train)


def train(args: argparse.Namespace) -> None:
    """Train a model on earthquakes and noise, or go on with an unfinished training."""
    given = {x.name: getattr(args, x.name) for x in fields(TrainingConfig) if getattr(args, x.name) is not None}
    for name, value in given.items():
        if isinstance(value, list):
            given[name] = dict(value) if name == "loss" else tuple(value)
    if args.threads:
        torch.set_num_threads(args.threads)
    events, noise = (open_dataset(name) for name in (args.events, args.noise))
    try:
        with _errors_of_files(args.out):
            model = fit(events, noise, args.out, TrainingConfig(**given), args.device)
    except (ValueError, FloatingPointError) as error:
        raise CommandError(f"Training failed: {_line(error)}") from error
    print(f"{args.out / 'model'}: {model.weights_docstring}")


def open_dataset(path: str) -> WaveformDataset:
    """
    Open a dataset in SeisBench's format, with components ZNE.

    :param path: Folder with ``metadata.csv`` and ``waveforms.hdf5``
    :raises CommandError: If there is none
    """
    try:
        return WaveformDataset(path, component_order="ZNE")
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} is no dataset in SeisBench's format: {_line(error)}") from error


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
def _errors_of_files(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(f"Cannot write to {folder}: {error.strerror or error}. Choose a folder by --out.") from error


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1, not {text!r}")
    return int(text)


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text!r}")
    return scale


def _code(text: str) -> str:
    if not (text.isascii() and text.isalnum() and len(text) <= CODE_LENGTHS["location"]):
        raise argparse.ArgumentTypeError(f"must be one or two letters or digits, not {text!r}")
    return text


def _weight(text: str) -> tuple[str, float]:
    name, _, weight = text.partition("=")
    try:
        return name, float(weight)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be TERM=WEIGHT, such as log-ratio=1, not {text!r}") from None


def _line(error: Exception) -> str:
    """A message in one line, or the kind of the error where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
