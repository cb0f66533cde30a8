"""Types of command-line arguments: each converts text to a value, or says what to give instead."""

import argparse
import math
import re
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any


def _checked(convert: Callable[[str], Any], valid: Callable[[Any], Any], said: str) -> Callable[[str], Any]:
    """A type for :py:mod:`argparse`: text is converted, and refused where that fails or the value is not valid."""

    def value(text: str) -> Any:
        try:
            converted = convert(text)
        except ValueError:
            converted = None
        if converted is None or not valid(converted):
            raise argparse.ArgumentTypeError(f"must be {said}, not {text!r}")
        return converted

    return value


def _is_address(text: str) -> bool:
    match = re.fullmatch(r"((tcp|tls)://)?([^\s:/]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})", text, re.ASCII)
    return bool(match) and int(match[4]) < 65536  # type: ignore[index]


positive = _checked(int, lambda x: x >= 1, "a whole number, at least 1")
count = _checked(int, lambda x: x >= 0, "a whole number, at least 0")
scale = _checked(float, lambda x: 0 < x < math.inf, "a positive number")
share = _checked(float, lambda x: 0 <= x < 1, "a number, at least 0 and below 1")
day = _checked(date.fromisoformat, bool, "a day such as 2020-12-31")
time = _checked(datetime.fromisoformat, bool, "a time such as 2020-12-31T23:59:30")
folder = _checked(lambda text: Path(text) if text else None, lambda x: True, "the name of a folder, such as '.'")
code = _checked(str, re.compile(r"[A-Za-z0-9]{1,2}").fullmatch, "one or two letters or digits")
address = _checked(str, _is_address, "a host and a port, such as tcp://localhost:8786")
names = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
python_class = _checked(str, names.fullmatch, "a class such as dask_jobqueue.SLURMCluster")
component = _checked(
    lambda text: tuple(text.split("=")),
    lambda x: len(x) == 2 and x[0] and x[1] in ("Z", "N", "E", "1", "2"),
    "NAME=COMPONENT, such as UD=Z",
)
shard = _checked(
    lambda text: tuple(map(int, text.split("/"))),
    lambda x: len(x) == 2 and 1 <= x[0] <= x[1],
    "a part and the number of parts, such as 1/8",
)
