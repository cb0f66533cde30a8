"""The command ``cdiffsd``: its parser, and what happens to errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from seisbench_cdiffsd import __version__
from seisbench_cdiffsd.cli.archive import add_archive
from seisbench_cdiffsd.cli.denoise import add_denoise
from seisbench_cdiffsd.cli.shared import INTERRUPTED, CommandError
from seisbench_cdiffsd.cli.training import add_export, add_train
from seisbench_cdiffsd.files.console import one_line, tell


class Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse what is unknown here already, where the command is known whose help lists its options."""
        known, unknown = super().parse_known_args(*args, **kwargs)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown


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
