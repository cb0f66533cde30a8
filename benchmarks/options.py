"""Options of the benchmarks: their names, what they are by default, and what for the committed results."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import pytest
import torch

#: More than any dataset has.
ALL = 10**9
#: Options that the results do not depend on.
HOW = ("threads", "hours", "device", "download", "full")


class DataError(pytest.exit.Exception):
    """Data or options that the benchmarks cannot use: the run ends with one line."""

    def __init__(self, text: str) -> None:
        super().__init__(text, returncode=2)


def words(text: str) -> tuple[str, ...]:
    """The words of a list with commas."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def numbers(text: str, kind: type = float) -> tuple[float, ...]:
    """Positive numbers of a list with commas, in order."""
    try:
        values = sorted({kind(word) for word in words(text)})
    except ValueError:
        values = [0]
    if values and not values[0] > 0:
        raise ArgumentTypeError(f"takes positive numbers with commas between, not {text!r}")
    return tuple(values)


integers = partial(numbers, kind=int)


def limit(text: str) -> int:
    if text != "all" and not (text.isdecimal() and int(text)):
        raise ArgumentTypeError(f"is a positive number, or all, not {text!r}")
    return ALL if text == "all" else int(text)


def usable(device: str) -> str:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ArgumentTypeError(f"{device} cannot be used: {str(error).splitlines()[0]}") from None
    return device


def option(default: Any, help: str, full: Any = None, **how: Any) -> Any:
    """An option, its value in a full run, and how it is read."""
    metadata = {"full": default if full is None else full, "how": {"help": help, **how}}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Options:
    """Options as they are given, or else by default, or in full. Lists have commas between."""

    events: tuple = option((), "datasets of labelled earthquakes: folders, or names such as STEAD", type=words)
    noise: tuple = option((), "datasets with noise, likewise; those of --events where they alone are given", type=words)
    split: str = option("test", "split of both: test to report, dev to choose", choices=("test", "dev"))
    limit: int = option(12, "number of earthquakes, or all (12; in full: all)", ALL, type=limit)
    draws: int = option(1, "mixtures of each earthquake, with other noise (1; in full: 4)", 4, type=int)
    models: tuple = option((), "rows to take: parts of their names, or paths of CDiffSD models", type=words)
    picker: tuple = option(("PhaseNet",), "as PhaseNet:volpick", ("PhaseNet", "EQTransformer"), type=words)
    steps: tuple = option((), "more rows, with so many steps (none; in full: 1,4,8,20)", (1, 4, 8, 20), type=integers)
    dry: tuple = option((), "more rows, with such shares of the removed noise added back", type=numbers)
    seed: int = option(0, "seed of the first draw", type=int)
    clean_snr: float = option(20.0, "lowest SNR in dB of clean records (20)", type=float)
    threads: tuple = option((1,), "of PyTorch; speed is measured for each (1; in full: 1,2)", (1, 2), type=integers)
    hours: tuple = option((0.25,), "lengths of streams that are timed (0.25; in full: 1,24)", (1.0, 24.0), type=numbers)
    device: str = option("cpu", "device of the models", type=usable)
    download: bool = option(False, "download weights that are not in SeisBench's cache", action="store_true")
    full: bool = option(False, "all data, all rows: what the committed results are made with", action="store_true")

    @classmethod
    def of(cls, given: Namespace) -> Options:
        """The options of a command line."""
        usual = {x.name: x.metadata["full"] if given.full else x.default for x in fields(cls)}
        values = {name: getattr(given, name) for name in usual}
        return cls(**{name: usual[name] if value is None else value for name, value in values.items()})

    def changed(self) -> list[str]:
        """Options that are not those of the committed results."""
        names = [x.name for x in fields(self) if x.name not in HOW and getattr(self, x.name) != x.metadata["full"]]
        return [f"--{name.replace('_', '-')}" for name in names]
