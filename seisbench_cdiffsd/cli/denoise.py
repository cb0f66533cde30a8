"""The command ``cdiffsd denoise``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from seisbench_cdiffsd.cli import arguments
from seisbench_cdiffsd.cli.shared import CommandError, add_model, format_of, load_model, options_of, write_errors
from seisbench_cdiffsd.files.console import one_line, tell
from seisbench_cdiffsd.files.denoising import Settings, denoise_files
from seisbench_cdiffsd.files.manifest import report, status
from seisbench_cdiffsd.picking import WeightsMissing, WeightsUnavailable, load_picker


def add_denoise(commands: Any) -> None:
    """Add ``cdiffsd denoise``."""
    parser = commands.add_parser("denoise", help="denoise files of seismograms", description=denoise.__doc__)
    parser.add_argument("input", nargs="+", metavar="INPUT", help="a file that ObsPy reads, or 'example'")
    parser.add_argument(
        "--out", type=arguments.folder, default=Path("denoised"), metavar="DIR", help="folder (%(default)s)"
    )
    add_model(parser)
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
        missing = isinstance(error, WeightsMissing)
        hint = "add --download-picker to get its weights once" if missing else one_line(error)
        if args.picks:
            raise CommandError(f"No picks without PhaseNet: {hint}") from error
    settings = Settings(options=options_of(args, model), noise=args.noise, picks=args.picks, **format_of(args))
    with write_errors(args.out, "Choose a folder with --out"):
        outcomes = list(denoise_files(model, args.input, args.out, settings, picker, tell))
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if len(outcomes) == 1 and failed:
        raise CommandError(f"{failed[0].name}: {failed[0].reason}")
    if hint:
        tell(f"No PhaseNet picks: {hint}")
    tell(report(outcomes), sys.stderr if failed else sys.stdout)
    return status(outcomes)
