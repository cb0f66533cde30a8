"""What the commands print."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def tell(text: str, file: TextIO | None = None) -> None:
    """
    Print, unless nobody reads any more, as after ``| head``: what there is to do is done all the same.

    :param text: What to print
    :param file: Where to print it, standard output by default
    """
    file = file or sys.stdout
    try:
        print(text, file=file, flush=True)
    except BrokenPipeError:
        # whatever else is written there, and what Python flushes at its end, is dropped
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)
