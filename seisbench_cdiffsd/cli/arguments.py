"""Types of command-line arguments: each converts text to a value, or says what to give instead."""

from __future__ import annotations

import argparse
import math
import re
from datetime import date
from pathlib import Path

#: Exit status after an interrupt, as shells have it.
INTERRUPTED = 130


class CommandError(Exception):
    """An error that the user can fix; its message is one line."""


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1, not {text!r}")
    return int(text)


def count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 0, not {text!r}")
    return int(text)


def python_class(text: str) -> str:
    if not all(part.isidentifier() for part in text.split(".")) or "." not in text:
        raise argparse.ArgumentTypeError(f"must be a class such as dask_jobqueue.SLURMCluster, not {text!r}")
    return text


def address(text: str) -> str:
    match = re.fullmatch(r"((tcp|tls)://)?([^\s:/]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})", text, re.ASCII)
    if not match or int(match[4]) > 65535:
        raise argparse.ArgumentTypeError(f"must be a host and a port, such as tcp://localhost:8786, not {text!r}")
    return text


def folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("must be the name of a folder, not ''; '.' is the one you are in")
    return Path(text)


def day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a day such as 2020-12-31, not {text!r}") from None


def shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"must be a part and the number of parts, such as 1/8, not {text!r}")
    return int(number), int(count)


def scale(text: str) -> float:
    scale = _number(text)
    if not 0 < scale < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text!r}")
    return scale


def share(text: str) -> float:
    share = _number(text)
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"must be a number, at least 0 and below 1, not {text!r}")
    return share


def code(text: str) -> str:
    if not (text.isascii() and text.isalnum() and len(text) <= 2):
        raise argparse.ArgumentTypeError(f"must be one or two letters or digits, not {text!r}")
    return text


def component(text: str) -> tuple[str, str]:
    name, _, letter = text.partition("=")
    if not name or letter not in {*"ZNE12"}:
        raise argparse.ArgumentTypeError(f"must be NAME=COMPONENT, such as UD=Z, not {text!r}")
    return name, letter


def weight(text: str) -> tuple[str, float]:
    name, _, weight = text.partition("=")
    try:
        return name, float(weight)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be TERM=WEIGHT, such as log-ratio=1, not {text!r}") from None


def _number(text: str) -> float:
    """A number; NaN if it is not one."""
    try:
        return float(text)
    except ValueError:
        return math.nan
