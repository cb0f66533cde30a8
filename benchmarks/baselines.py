"""The denoisers that are compared, and controls, behind one signature, windows in, windows out; and the pickers.

Windows are (batch, 3, samples) at 100 Hz, components ZNE, already in the band of the models; they are left unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import seisbench.models as sbm
import torch
from numpy.typing import NDArray
from options import DataError, Options
from scipy import ndimage, signal
from seisbench.models import WaveformModel
from torch import Tensor

from seisbench_cdiffsd import denoising
from seisbench_cdiffsd.picking import WeightsUnavailable, load_picker
from seisbench_cdiffsd.streams.filtering import BAND, SAMPLING_RATE, design_filter, filtered
from seisbench_cdiffsd.training.losses import MASK_FRAME, MASK_TRANSFORM
from seisbench_cdiffsd.weights import UNREADABLE, load

Array = NDArray[np.float32]
Denoiser = Callable[[Array], Array]

WEIGHTS = Path(__file__).parent / "weights"
#: Samples of a window, and windows that a network evaluates together.
WINDOW, BATCH = 3000, 64
#: Rows of CDiffSD with the weights of the package and default steps, for either purpose.
PICKING, WAVEFORMS = "CDiffSD, picking", "CDiffSD, waveforms"
#: What the name of another denoiser ends in where a share of the removed noise is added back.
DRY = ", dry"
#: Rows of the tables that people read.
SHOWN = ("noisy", "band-pass 2-20 Hz", "DeepDenoiser", "SeisDAE", PICKING, WAVEFORMS, "oracle mask")


def band_pass(windows: Array, low: float, high: float) -> Array:
    """A zero-phase Butterworth band-pass from `low` to `high` Hz, as the models' own."""
    sos, zerophase = design_filter(("bandpass",), {**BAND, "freqmin": low, "freqmax": high}, SAMPLING_RATE)
    flat = windows.reshape(-1, windows.shape[-1]).astype(np.float64)
    return np.stack([filtered(x - x.mean(), sos, zerophase) for x in flat]).reshape(windows.shape).astype(windows.dtype)


@dataclass(frozen=True)
class Wiener:
    """
    Spectral subtraction with a Wiener gain, ``1 - strength * noise / power``, in the short-time Fourier transform.

    The noise of a frequency is a low quantile of the power over the window, its quiet part wherever that is: no onset
    is needed. The defaults are the best of ``benchmarks/train_baselines.py wiener`` on the dev split.
    """

    frame: int = 200  # samples; frames overlap by three quarters
    quantile: float = 0.1  # of the power, that counts as noise
    strength: float = 4.0  # a factor on it, since a quantile is below the mean, and since noise varies
    smooth: int = 9  # frames that the power is averaged over, and a third of it, at least 1, of frequencies
    floor: float = 0.05  # smallest gain

    def __call__(self, windows: Array) -> Array:
        options = {"fs": SAMPLING_RATE, "nperseg": self.frame, "noverlap": self.frame - self.frame // 4}
        _, _, bins = signal.stft(windows, **options)
        size = (1,) * (windows.ndim - 1) + (max(1, self.smooth // 3), self.smooth)
        power = ndimage.uniform_filter(np.abs(bins) ** 2, size, mode="nearest")
        noise = np.quantile(power, self.quantile, axis=-1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            gain = np.nan_to_num(1 - self.strength * noise / power, nan=0, neginf=0)
        _, estimate = signal.istft(bins * np.maximum(gain, self.floor), **options)
        return estimate[..., : windows.shape[-1]].astype(windows.dtype)


def soft_threshold(windows: Array, deviations: float = 3.0) -> Array:
    """Each sample nearer to zero by so many standard deviations of the component, as its median amplitude tells it."""
    least = deviations * np.median(np.abs(windows), axis=-1, keepdims=True) / 0.6745
    return (np.sign(windows) * np.maximum(np.abs(windows) - least, 0)).astype(windows.dtype)


def sta_lta_gate(windows: Array, short: int = 50, long: int = 1000, trigger: float = 3.0, quiet: float = 0.05) -> Array:
    """The record for 5 s after each trigger of short-term over long-term power, and nearly silence elsewhere."""
    power = np.square(windows, dtype=np.float64).sum(1)
    sta, lta = (ndimage.uniform_filter1d(power, size, origin=(size - 1) // 2, mode="reflect") for size in (short, long))
    on = ndimage.maximum_filter1d(sta > trigger * np.maximum(lta, 1e-30), 500, origin=249)
    return (windows * np.where(on, 1, quiet)[:, None]).astype(windows.dtype)


#: What no metric may reward: it suppresses noise without knowing an earthquake from it. (Identity is the noisy record.)
CONTROLS: dict[str, Denoiser] = {
    "a tenth of the record": partial(np.multiply, np.float32(0.1)),
    "soft threshold": soft_threshold,
    "STA-LTA gate": sta_lta_gate,
}


class NetworkDenoiser:
    """A network, with arguments such as ``steps`` and ``dry``, as :py:func:`seisbench_cdiffsd.denoise` runs it."""

    def __init__(self, model: WaveformModel, **arguments: Any) -> None:
        self.model, self.arguments = model.eval(), {"dry": 0.0, **arguments}

    def __call__(self, windows: Array) -> Array:
        batches = torch.from_numpy(windows).split(BATCH)
        return torch.cat([denoising.restore(self.model, x, self.arguments).cpu() for x in batches]).numpy()


def prepare(model: WaveformModel, traces: Tensor) -> tuple[Tensor, Any]:
    """Input of DeepDenoiser or SeisDAE for traces (batch, samples), and what they need to undo it."""
    if isinstance(model, sbm.SeisDAE):
        parts = [model.annotate_batch_pre(trace[None], {}) for trace in traces]
        spectra, factors = zip(*[keep for _, keep in parts], strict=True)
        return torch.cat([seen for seen, _ in parts]), (torch.cat(spectra), torch.cat(factors))
    return model.annotate_batch_pre(traces, {})


def oracle_mask(clean: Array, noise: Array) -> Array:
    """
    Estimates by the ratio mask ``|clean| / (|clean| + |noise|)`` that DeepDenoiser and SeisDAE are trained to find
    (Zhu et al., 2019), applied to clean + noise, all (..., samples): what they would return if they had learnt it.
    """
    options = {"nperseg": MASK_FRAME, "nfft": MASK_TRANSFORM}
    (_, _, s), (_, _, n) = (signal.stft(x, **options) for x in (clean, noise))
    a, b = np.abs(s), np.abs(n)
    mask = np.divide(a, a + b, out=np.zeros_like(a), where=a + b > 0)
    return signal.istft((s + n) * mask, **options)[1][..., : clean.shape[-1]].astype(clean.dtype)


def load_network(name: str, weights: str | Path, download: bool = False, device: str = "cpu") -> WaveformModel:
    """
    CDiffSD, DeepDenoiser or SeisDAE.

    :param weights: Name of weights, or path of a saved model without suffix
    :param download: Ask SeisBench's remote repository for weights of the other two that are not in the cache
    :raises WeightsUnavailable: If there are no such weights, or they cannot be read
    """
    try:
        if name == "CDiffSD":
            model = load(str(weights))
        elif isinstance(weights, str):
            model = load_picker(name, weights, download)
        else:
            model = getattr(sbm, name).load(weights)
    except (FileNotFoundError, WeightsUnavailable) as error:
        missing = f"There is no model {weights}: see benchmarks/train_baselines.py."
        raise WeightsUnavailable(missing if isinstance(error, OSError) else str(error)) from error
    except UNREADABLE as error:
        raise WeightsUnavailable(f"{name}: {' '.join(str(error).split())}") from error
    return model.to(device)


def denoisers(options: Options) -> dict[str, Callable[[], Denoiser]]:
    """A loader for each row, in their order."""

    def network(name: str, weights: str | Path, **more: float) -> Callable[[], Denoiser]:
        return lambda: NetworkDenoiser(load_network(name, weights, options.download, options.device), **more)

    def purposes(name: str, weights: str | Path) -> dict[str, Callable[[], Denoiser]]:
        shares = {f"{name}, {purpose}": share for purpose, share in denoising.DRY.items()}
        shares |= {f"{name}, dry {share:g}": share for share in options.dry}
        return {row: network("CDiffSD", weights, dry=share) for row, share in shares.items()}

    table: dict[str, Callable] = {"band-pass 2-20 Hz": lambda: partial(band_pass, low=2, high=20), "Wiener": Wiener}
    for name in ("DeepDenoiser", "SeisDAE"):
        path = WEIGHTS / name.lower()
        table |= {name: network(name, path), f"{name}{DRY}": network(name, path, dry=denoising.DRY["picking"])}
        table[f"{name} (its own weights)"] = lambda name=name: network(name, _published(name, options.download))()
    table |= purposes("CDiffSD", "base")
    for steps in options.steps:
        table[f"CDiffSD, {steps} steps" if steps > 1 else "CDiffSD, direct"] = network("CDiffSD", "base", steps=steps)
    table |= {name: lambda control=control: control for name, control in CONTROLS.items()}
    paths = [name for name in options.models if Path(f"{name}.json").is_file()]
    words = [name.lower() for name in options.models if name not in paths]
    if unknown := [word for word in words if not any(word in row.lower() for row in table)]:
        raise DataError(f"--models knows no {', '.join(unknown)}: a part of {', '.join(table)}, or a path.")
    if options.models:
        table = {name: loader for name, loader in table.items() if any(word in name.lower() for word in words)}
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


def available(loaders: Mapping[str, Callable[[], Any]], missing: dict[str, str]) -> dict[str, Any]:
    """What can be loaded; why the rest is missing is added to `missing`."""
    items = {}
    for name, loader in loaders.items():
        try:
            items[name] = loader()
        except WeightsUnavailable as error:
            missing[name] = " ".join(str(error).split())
    return items


def pickers(options: Options) -> dict[str, Callable[[], WaveformModel]]:
    """A loader for each picker, such as "PhaseNet" or "PhaseNet:volpick"."""

    def load(name: str) -> WaveformModel:
        kind, _, weights = name.partition(":")
        try:
            return load_picker(kind, weights or "original", options.download).to(options.device)
        except ValueError as error:
            raise DataError(f"--picker: there is no model {kind!r} in SeisBench.") from error

    return {name: partial(load, name) for name in options.picker}


def read_by_people(denoisers: Iterable[str]) -> list[str]:
    """Rows of the tables that people read: the few that are always there, and what a user has asked for by name."""
    return [x for x in denoisers if x in SHOWN or "/" in x or "CDiffSD, dry" in x]
