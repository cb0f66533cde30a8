"""The command ``cdiffsd``: one thin command for each capability."""

from __future__ import annotations

import argparse
import glob
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import obspy
import pandas as pd
import torch
from obspy import Stream
from seisbench.data import WaveformDataset

from seisbench_cdiffsd import __version__
from seisbench_cdiffsd.model import CDiffSD
from seisbench_cdiffsd.picking import PickerUnavailable, load_picker, pick_stream
from seisbench_cdiffsd.plotting import plot_denoised
from seisbench_cdiffsd.pretrained import DEFAULT
from seisbench_cdiffsd.training import TrainingConfig, fit

#: More picks than these are counted, not listed.
MAX_LISTED_PICKS = 8


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
    :return: Exit status: 0, or 2 after one line on stderr about what the user can mend
    """
    args = build_parser().parse_args(argv)
    try:
        args.run(args)
    except CommandError as error:
        print(f"cdiffsd: {_line(error)}", file=sys.stderr)
        return 2
    return 0


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
    default = CDiffSD._annotate_args["steps"][1]
    parser.add_argument("--steps", type=_positive, metavar="N", help=f"sampling steps, 1 is direct ({default})")
    parser.add_argument("--weights", default=DEFAULT, metavar="NAME", help="name, or path of a model (%(default)s)")
    parser.add_argument("--noise", action="store_true", help="write the removed noise as well")
    parser.add_argument("--download-picker", action="store_true", help="download PhaseNet if it is not here")
    parser.set_defaults(run=denoise)


def denoise(args: argparse.Namespace) -> None:
    """Denoise seismograms: miniSEED, a figure, and PhaseNet's picks before and after, for each instrument."""
    stream = Stream()
    for name in args.input:
        stream += read_input(name)
    model = load_model(args.weights)
    with _errors_of_files(args.out):
        args.out.mkdir(parents=True, exist_ok=True)
    options = {} if args.steps is None else {"steps": args.steps}
    try:
        clean, noise = model.denoise(stream, return_noise=True, **options)
    except ValueError as error:
        raise CommandError(f"This cannot be denoised: {_line(error)}") from error
    if not clean:
        raise CommandError(f"None of {', '.join(args.input)} has samples of the components {model.component_order}.")
    try:
        picker = load_picker("PhaseNet", download=args.download_picker)
    except PickerUnavailable as error:
        picker = None
        hint = _line(error) if args.download_picker else "add --download-picker to get its weights once"
        print(f"No PhaseNet picks: {hint}")
    for instrument in sorted({trace.id[:-1] for trace in clean}):
        noisy, denoised, removed = (select(part, instrument) for part in (stream, clean, noise))
        before, after = (None if picker is None else pick_stream(picker, part) for part in (noisy, denoised))
        start, end = min(t.stats.starttime for t in noisy), max(t.stats.endtime for t in noisy)
        print(f"{instrument}*  {start.strftime('%Y-%m-%d %H:%M:%S')}  {end - start:.1f} s")
        if picker is not None:
            print(f"  PhaseNet, noisy:    {describe(before)}\n  PhaseNet, denoised: {describe(after)}")
        target = args.out / file_name(instrument, noisy)
        with _errors_of_files(args.out):
            write_mseed(denoised, target.with_name(f"{target.name}.denoised.mseed"))
            if args.noise:
                write_mseed(removed, target.with_name(f"{target.name}.noise.mseed"))
            with replacing(target.with_name(f"{target.name}.png")) as path:
                plot_denoised(noisy, denoised, removed, before, after, path=path)


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


def read_input(name: str) -> Stream:
    """
    Read a file, or ObsPy's example.

    :param name: Path, or "example"
    :return: Stream with at least one sample
    :raises CommandError: If it cannot be read
    """
    if name == "example":
        return obspy.read()
    if not Path(name).exists():
        raise CommandError(f"{name}: no such file. Give files that ObsPy reads, or 'example'.")
    if Path(name).is_dir():
        raise CommandError(f"{name} is a folder. Give the files in it.")
    try:
        stream = obspy.read(glob.escape(name))
    except Exception as error:  # ObsPy's readers raise all kinds
        raise CommandError(f"{name} cannot be read as seismograms: {_line(error)}") from error
    if not sum(len(trace) for trace in stream):
        raise CommandError(f"{name} holds no samples.")
    return stream


def load_model(weights: str) -> CDiffSD:
    """
    Load weights that are on this machine, on the best device there is.

    :param weights: Name of weights, or path of a saved model, with or without ".pt" or ".json"
    :return: The model
    :raises CommandError: If there are none of this name
    """
    base = weights.removesuffix(".pt").removesuffix(".json")
    try:
        if Path(f"{base}.json").is_file():
            model = CDiffSD.load(base)
        else:
            known = CDiffSD.list_pretrained(remote=False)
            if weights not in known:
                names = ", ".join(known) or "none"
                raise CommandError(f"There are no weights {weights!r}. Names: {names}; or give the path of a model.")
            model = CDiffSD.from_pretrained(weights)
    except (OSError, ValueError) as error:
        raise CommandError(f"The weights {weights!r} cannot be loaded: {_line(error)}") from error
    model.to_preferred_device()
    return model


def select(stream: Stream, instrument: str) -> Stream:
    """The traces of one instrument, named by a channel id without its component."""
    return Stream([trace for trace in stream if trace.id[:-1] == instrument])


def file_name(instrument: str, stream: Stream) -> str:
    """Name of the output for an instrument, without suffix: its codes and the time of the first sample."""
    start = min(trace.stats.starttime for trace in stream)
    return re.sub(r"[^\w.-]", "_", f"{instrument.lstrip('.') or 'record'}.{start.strftime('%Y%m%dT%H%M%S')}")


def describe(picks: pd.DataFrame) -> str:
    """Picks in one line; many are counted."""
    if len(picks) > MAX_LISTED_PICKS:
        return ", ".join(f"{count} {phase}" for phase, count in picks["phase"].value_counts().sort_index().items())
    found = (f"{p.phase} {p.time.strftime('%H:%M:%S.%f')[:-4]} ({p.probability:.2f})" for p in picks.itertuples())
    return "  ".join(found) or "none"


def write_mseed(stream: Stream, path: Path) -> None:
    """
    Write miniSEED in single precision, under its name only when it is complete. Gaps are left out.

    :param stream: Stream, unchanged
    :param path: File
    """
    parts = stream.split()  # copies, without masked samples
    for trace in parts:
        trace.data = trace.data.astype("float32")
    with replacing(path) as temporary:
        parts.write(str(temporary), format="MSEED", encoding="FLOAT32")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder, renamed to `path` at the end, and removed after a failure."""
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
        print(f"  {path}")
    finally:
        temporary.unlink(missing_ok=True)


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
