"""What the commands print, and messages in one line."""

import os
import sys
from typing import TextIO


def tell(text: str, file: TextIO | None = None) -> None:
    """Print, even if nobody reads any more, or the console lacks letters; what would drive a terminal is escaped."""
    file = file or sys.stdout
    if file is None or file.closed:  # a command started with its standard output closed has none
        return
    encoding = file.encoding or "utf-8"
    lines = "\n".join(map(printable, text.split("\n"))) + "\n"
    try:
        file.write(lines.encode(encoding, "backslashreplace").decode(encoding))
        file.flush()
    except OSError:  # as after ``| head``: drop all further output, including what Python flushes at exit
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)


def printable(text: str) -> str:
    """Text from data in one line: control characters, which could drive a terminal, are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(message: object) -> str:
    """An error, or another message, in one printable line; the name of the type if it is empty."""
    return printable(" ".join(str(message).split())) or type(message).__name__
