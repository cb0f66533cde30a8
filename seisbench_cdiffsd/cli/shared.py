"""What the denoising commands share: the model and its options, how samples are written, and errors of one line."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seisbench_cdiffsd.cli import arguments
from seisbench_cdiffsd.denoising import DRY, check_pieces, resolved
from seisbench_cdiffsd.files.console import one_line
from seisbench_cdiffsd.files.writing import ENCODINGS
from seisbench_cdiffsd.weights import DEFAULT, CDiffSD, load

#: Exit status after an interrupt, as shells have it.
INTERRUPTED = 130


class CommandError(Exception):
    """An error that the user can fix; its message is one line."""


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that both denoising commands have."""
    default = {name: value for name, (_, value) in CDiffSD._annotate_args.items()}
    parser.add_argument(
        "--steps", type=arguments.positive, metavar="N", help=f"sampling steps; 1 is direct ({default['steps']})"
    )
    parser.add_argument(
        "--purpose",
        choices=DRY,
        default="picking",
        help="picking leaves a tenth of the removed noise in, waveforms none (%(default)s)",
    )
    parser.add_argument(
        "--dry", type=arguments.share, metavar="X", help="share of the removed noise that stays (as for the purpose)"
    )
    parser.add_argument("--weights", default=DEFAULT, metavar="NAME", help="name, or path of a model (%(default)s)")
    parser.add_argument(
        "--encoding", choices=ENCODINGS, default=ENCODINGS[0], help="sample format in miniSEED (%(default)s)"
    )
    parser.add_argument(
        "--scale", type=arguments.scale, default=1.0, metavar="X", help="factor of samples before they become int32 (1)"
    )
    parser.add_argument("--location", type=arguments.code, metavar="CODE", help="location code to write (the input's)")


def options_of(args: argparse.Namespace, model: CDiffSD) -> dict[str, Any]:
    """Arguments of :py:func:`~seisbench_cdiffsd.denoise`; by default those of the model and of the purpose."""
    given = {key: getattr(args, key) for key in ("steps", "dry") if getattr(args, key) is not None}
    return resolved(model, args.purpose, given)


def format_of(args: argparse.Namespace) -> dict[str, Any]:
    """How samples are written, as keywords of the settings."""
    if args.scale != 1 and args.encoding != "int32":
        raise CommandError("--scale is for integers: add --encoding int32.")
    return {"encoding": args.encoding, "scale": args.scale, "location": args.location}


def load_model(weights: str) -> CDiffSD:
    """
    Load weights from this machine.

    :param weights: Name of weights, or path of a saved model
    :return: The model
    :raises CommandError: If they cannot be loaded, or not denoise piece by piece
    """
    try:
        model = load(weights)
        check_pieces(model)
    except ValueError as error:
        raise CommandError(one_line(error)) from error
    return model


@contextmanager
def write_errors(folder: Path, remedy: str) -> Iterator[None]:
    """Report files that cannot be written as an error that the user can fix."""
    try:
        yield
    except OSError as error:
        raise CommandError(f"Cannot write to {folder}: {error.strerror or error}. {remedy}.") from error
