"""The rows of the tables: which denoisers and pickers there are, and why others are not available."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import seisbench.models as sbm
from baselines import CONTROLS, Denoiser, NetworkDenoiser, Wiener, band_pass, load_network
from testdata import DataError, Options

from seisbench_cdiffsd.denoising import DRY as SHARES
from seisbench_cdiffsd.picking import WeightsUnavailable, load_picker

WEIGHTS = Path(__file__).parent / "weights"
#: Rows of CDiffSD with the weights of the package and default steps, for either purpose.
PICKING, WAVEFORMS = "CDiffSD, picking", "CDiffSD, waveforms"
#: What the name of another denoiser ends in where a share of the removed noise is added back.
DRY = ", dry"
#: Rows of the tables that people read.
SHOWN = ("noisy", "band-pass 2-20 Hz", "DeepDenoiser", "SeisDAE", PICKING, WAVEFORMS, "oracle mask")
#: What is available, by name, and why the rest is not.
Available = tuple[dict[str, Any], dict[str, str]]


def denoiser_table(options: Options) -> dict[str, Callable[[], Denoiser]]:
    """A loader for each row, in their order."""

    def network(name: str, weights: str | Path, **more: float) -> Callable[[], Denoiser]:
        return lambda: NetworkDenoiser(load_network(name, weights, options.download, options.device), **more)

    def purposes(name: str, weights: str | Path) -> dict[str, Callable[[], Denoiser]]:
        shares = {f"{name}, {purpose}": share for purpose, share in SHARES.items()}
        shares |= {f"{name}, dry {share:g}": share for share in options.dry}
        return {row: network("CDiffSD", weights, dry=share) for row, share in shares.items()}

    table: dict[str, Callable[[], Denoiser]] = {
        "band-pass 2-20 Hz": lambda: partial(band_pass, low=2, high=20),
        "Wiener": Wiener,
    }
    for name in ("DeepDenoiser", "SeisDAE"):
        path = WEIGHTS / name.lower()
        table |= {name: network(name, path), f"{name}{DRY}": network(name, path, dry=SHARES["picking"])}
        table[f"{name} (its own weights)"] = lambda name=name: network(name, _published(name, options.download))()
    table |= purposes("CDiffSD", "base")
    for steps in options.steps:
        table[f"CDiffSD, {steps} steps" if steps > 1 else "CDiffSD, direct"] = network("CDiffSD", "base", steps=steps)
    if options.full or options.models:
        table["CDiffSD from-scratch"] = network("CDiffSD", WEIGHTS / "from-scratch")
    table |= {name: lambda control=control: control for name, control in CONTROLS.items()}
    paths = [name for name in options.models if Path(f"{name}.json").is_file()]
    words = [name.lower() for name in options.models if name not in paths]
    if unknown := [word for word in words if not any(word in row.lower() for row in table)]:
        raise DataError(f"--models knows no {', '.join(unknown)}: a part of {', '.join(table)}, or a path.")
    if options.models:
        table = {name: load for name, load in table.items() if any(word in name.lower() for word in words)}
    for path in paths:
        table |= purposes(path if "/" in path else f"./{path}", Path(path))
    return table


def _published(name: str, download: bool) -> str:
    """The first weights of a model that SeisBench's cache, or its repository, lists."""
    try:
        names = getattr(sbm, name).list_pretrained(remote=download)
    except Exception as error:  # SeisBench raises many kinds without a network
        raise WeightsUnavailable(f"SeisBench's repository is out of reach: {type(error).__name__}.") from error
    if not names:
        raise WeightsUnavailable(f"There are no {name} weights in SeisBench's cache; --download asks its repository.")
    return names[0]


def available(loaders: Mapping[str, Callable[[], Any]]) -> Available:
    """What can be loaded."""
    items, missing = {}, {}
    for name, load in loaders.items():
        try:
            items[name] = load()
        except WeightsUnavailable as error:
            missing[name] = " ".join(str(error).split())
    return items, missing


def load_denoisers(options: Options) -> Available:
    """The denoisers of the tables."""
    return available(denoiser_table(options))


def load_pickers(options: Options) -> Available:
    """The pickers, such as "PhaseNet" or "PhaseNet:volpick"."""

    def load(name: str) -> sbm.WaveformModel:
        kind, _, weights = name.partition(":")
        try:
            return load_picker(kind, weights or "original", options.download).to(options.device)
        except ValueError as error:
            raise DataError(f"--picker: there is no model {kind!r} in SeisBench.") from error

    return available({name: partial(load, name) for name in options.picker})


def unions(denoisers: Iterable[str]) -> list[str]:
    """Rows of which the picks are also taken together with those on noisy records: all that are made for picking."""
    return [name for name in denoisers if name.endswith((", picking", DRY))]


def read_by_people(denoisers: Iterable[str]) -> list[str]:
    """Rows of the tables that people read: the few that are always there, and what a user has asked for by name."""
    return [x for x in denoisers if x in SHOWN or (("/" in x or "CDiffSD, dry" in x) and not x.endswith("+ noisy"))]
