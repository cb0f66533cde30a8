"""What the commands print, and messages in one line."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def tell(text: str, file: TextIO | None = None) -> None:
    """
    Print. If nobody reads the output any more, as after ``| head``, the command still does its work.

    :param text: What to print
    :param file: Where to print it, standard output by default
    """
    file = file or sys.stdout
    try:
        file.write(text + "\n")
        file.flush()
    except BrokenPipeError:
        # drop all further output, including what Python flushes at exit
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)


def one_line(message: object) -> str:
    """An error, or another message, in one line; the name of the type if it is empty."""
    return " ".join(str(message).split()) or type(message).__name__
