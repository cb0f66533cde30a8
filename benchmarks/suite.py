"""The denoisers and pickers that are available, and why others are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import seisbench.models as sbm
import torch
from baselines import (
    DEFAULT_STEPS,
    BandPass,
    CDiffSDDenoiser,
    Denoiser,
    Wiener,
    load_cdiffsd_denoiser,
    load_mask_denoiser,
)
from evaluation import WindowDenoiser
from numpy.typing import NDArray
from seisbench.models import WaveformModel
from seisbench_cdiffsd.model import CDiffSD
from seisbench_cdiffsd.noise_left import leave_noise
from speed import step_name
from testdata import DataError, Options

from seisbench_cdiffsd.picking import WeightsUnavailable, load_picker

Array = NDArray[np.float32]

WEIGHTS = Path(__file__).parent / "weights"
#: SeisBench's names of published weights; of SeisDAE, the first that its repository lists.
PUBLISHED = {"DeepDenoiser": "original", "SeisDAE": None}


@dataclass
class Available:
    """What is available, by name, and why the rest is not."""

    items: dict = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def noise_left(denoise: Denoiser) -> WindowDenoiser:
    """Another denoiser, with as much noise left in as CDiffSD leaves by default, to compare the denoisers alone."""

    def attenuated(windows: Array) -> Array:
        return leave_noise(torch.from_numpy(windows), torch.from_numpy(denoise(windows))).numpy()

    return attenuated


def denoiser_table(options: Options) -> dict[str, Callable[[], WindowDenoiser]]:
    """A loader for each row of the tables, in their order."""

    def mask_denoiser(name: str) -> Callable[[], Denoiser]:
        return lambda: load_mask_denoiser(name, WEIGHTS / name.lower(), device=options.device)

    def published(name: str) -> Callable[[], Denoiser]:
        download = options.download
        return lambda: load_mask_denoiser(name, _published_weights(name, download), download, options.device)

    def cdiffsd(weights: str | Path, steps: int, **noise: float) -> Callable[[], Denoiser]:
        return lambda: load_cdiffsd_denoiser(weights, steps, options.device, **noise)

    def noisy_rows(name: str, weights: str | Path, steps: int) -> dict[str, Callable[[], Denoiser]]:
        floor, margin = (CDiffSD._annotate_args[x][1] for x in ("noise_floor", "noise_margin"))
        rules = {
            "": (floor, margin),
            **{f" {floor:g}:{margin:g}": (floor, margin) for floor, margin in options.noise_left},
        }
        return {
            f"{step_name(name, steps)}, noise left{rule}": cdiffsd(
                weights, steps, noise_floor=floor, noise_margin=margin
            )
            for rule, (floor, margin) in rules.items()
        }

    table: dict[str, Callable[[], WindowDenoiser]] = {
        "band-pass 1-45 Hz": lambda: BandPass(1, 45),
        "band-pass 1-20 Hz": lambda: BandPass(1, 20),
        "Wiener": Wiener,
        **{name: mask_denoiser(name) for name in PUBLISHED},
        **{f"{name}, noise left": lambda name=name: noise_left(mask_denoiser(name)()) for name in PUBLISHED},
        **{f"{name} (its own weights)": published(name) for name in PUBLISHED},
    }
    some = DEFAULT_STEPS if DEFAULT_STEPS in options.steps else max(options.steps)
    for steps in options.steps:
        table[step_name("CDiffSD", steps)] = cdiffsd("base", steps)
    few = sorted({min(options.steps), some})
    for steps in few:
        table |= noisy_rows("CDiffSD", "base", steps)
    for steps in few:
        table[step_name("CDiffSD published", steps)] = cdiffsd(WEIGHTS / "published", steps)
    for kind in ("gaussian", "gaussian-coloured"):
        table[step_name(f"CDiffSD {kind}", some)] = cdiffsd(WEIGHTS / kind, some)
    table[step_name("CDiffSD from scratch", some)] = cdiffsd(WEIGHTS / "from-scratch", some)
    table |= noisy_rows("CDiffSD from scratch", WEIGHTS / "from-scratch", some)
    paths = [name for name in options.models if Path(f"{name}.json").is_file()]
    words = [name.lower() for name in options.models if name not in paths]
    if words or paths:
        unknown = [word for word in words if not any(word in row.lower() for row in table)]
        if unknown:
            raise DataError(f"--models knows no {', '.join(unknown)}: a part of {', '.join(table)}, or a path.")
        table = {name: load for name, load in table.items() if any(word in name.lower() for word in words)}
    for path in paths:
        table |= {step_name(path, steps): cdiffsd(Path(path), steps) for steps in options.steps}
        for steps in few:
            table |= noisy_rows(path, Path(path), steps)
    return table


def _published_weights(name: str, download: bool) -> str:
    if PUBLISHED[name] is not None:
        return PUBLISHED[name]
    try:
        names = getattr(sbm, name).list_pretrained(remote=download)
    except Exception as error:  # SeisBench raises many kinds without a network
        raise WeightsUnavailable(f"SeisBench's repository is out of reach: {type(error).__name__}.") from error
    if not names:
        raise WeightsUnavailable(f"There are no {name} weights in SeisBench's cache; --download asks its repository.")
    return names[0]


def load_denoisers(options: Options) -> Available:
    """The denoisers of the tables."""
    result = Available()
    for name, load in denoiser_table(options).items():
        try:
            result.items[name] = load()
        except WeightsUnavailable as error:
            result.missing[name] = " ".join(str(error).split())
    return result


def cdiffsd_rows(denoisers: dict[str, WindowDenoiser]) -> list[str]:
    """The rows of CDiffSD, for which the picks on noisy and denoised records together are evaluated as well."""
    return [name for name, denoiser in denoisers.items() if isinstance(denoiser, CDiffSDDenoiser)]


def own(denoisers: dict[str, WindowDenoiser]) -> list[str]:
    """The rows of CDiffSD with the weights of the package, which must be better than doing nothing."""
    return [name for name in denoisers if name.startswith("CDiffSD, ")]


def load_pickers(options: Options) -> Available:
    """The pickers of the options, as "PhaseNet" or "PhaseNet:volpick"."""
    result = Available()
    for name in options.pickers:
        model, _, weights = name.partition(":")
        try:
            picker: WaveformModel = load_picker(model, weights or "original", options.download)
            result.items[name] = picker.to(options.device)
        except WeightsUnavailable as error:
            result.missing[name] = " ".join(str(error).split())
        except ValueError as error:
            raise DataError(str(error)) from error
    return result
