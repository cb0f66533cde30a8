"""The command ``cdiffsd``: its parser, and what happens to errors."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from seisbench_cdiffsd import __version__
from seisbench_cdiffsd.files.console import one_line, tell

#: By command, the module that adds its arguments, and what it is for. Only the module of the command is imported.
COMMANDS = {
    "denoise": ("denoise", "denoise files of seismograms"),
    "archive": ("denoise", "denoise an archive of day files (SDS)"),
    "pick": ("pick", "pick phases on files or an archive, before and after denoising"),
    "train": ("training", "train a model"),
    "export": ("training", "write the weights of a training"),
    "generate": ("generation", "generate seismograms from a sentence"),
    "evaluate": ("evaluate", "compare denoisers on records of your own"),
}


class Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {one_line(message)} (see {self.prog} --help)\n")

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse what is unknown here already, where the command is known whose help lists its options."""
        known, unknown = super().parse_known_args(*args, **kwargs)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a command; return the exit status: 0; 1 if only some of the input failed, or was left out; 2 if nothing was
    done, after a line on stderr that says what the user can fix; 130 after an interrupt.
    """
    os.environ["MPLBACKEND"] = "agg"  # figures are files; with a name that Matplotlib lacks, it cannot be imported
    argv = sys.argv[1:] if argv is None else argv
    args = build_parser(argv).parse_args(argv)
    try:
        return args.run(args) or 0
    except (ValueError, FloatingPointError, OSError) as error:  # which say what the user can fix
        tell(f"cdiffsd: {one_line(error)}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        tell("cdiffsd: interrupted; the same command continues with what is missing.", sys.stderr)
        return 130  # as shells have it


def build_parser(argv: Sequence[str] = tuple(COMMANDS)) -> Parser:
    """The parser of commands, each of which sets ``run``; those that are not in `argv` have no arguments in it."""
    parser = Parser(prog="cdiffsd", description="Denoise seismograms by cold diffusion.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (module, purpose) in COMMANDS.items():
        if name in argv:
            getattr(import_module(f"seisbench_cdiffsd.cli.{module}"), f"add_{name}")(commands)
        else:
            commands.add_parser(name, help=purpose)
    return parser
