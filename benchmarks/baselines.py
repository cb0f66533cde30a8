"""The denoisers that are compared, behind one signature: windows in, windows out; a stream in, a stream out.

Windows are (batch, 3, samples) at the model's rate, already in its band; streams are raw, and what lies outside that
band counts as noise. All are zero-phase and keep the amplitude of what they let pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import seisbench.models as sbm
import torch
from numpy.typing import NDArray
from obspy import Stream
from scipy import ndimage, signal
from seisbench.models import WaveformModel
from torch import Tensor

from seisbench_cdiffsd.picking import WeightsUnavailable, load_seisbench_model
from seisbench_cdiffsd.streams.filtering import BAND, SAMPLING_RATE, design_filter, filtered
from seisbench_cdiffsd.training.losses import MASK_FRAME, MASK_TRANSFORM
from seisbench_cdiffsd.weights import DEFAULT, UNREADABLE, CDiffSD

Array = NDArray[np.float32]

#: Windows of :py:class:`MaskDenoiser` and :py:class:`CDiffSDDenoiser` that are evaluated together.
BATCH = 64
#: Default number of steps of CDiffSD.
DEFAULT_STEPS: int = CDiffSD._annotate_args["steps"][1]


class Denoiser(ABC):
    """One way of removing noise."""

    @abstractmethod
    def __call__(self, windows: Array) -> Array:
        """
        Denoise windows.

        :param windows: In-band windows (batch, 3, samples) at the model's rate, components ZNE; left unchanged
        :return: Estimates of the earthquakes in them, in the same shape
        """

    @abstractmethod
    def stream(self, stream: Stream) -> Stream:
        """
        Denoise a stream.

        :param stream: Raw records without masked samples; left unchanged
        :return: The estimates under the ids of the input
        """


@dataclass(frozen=True)
class BandPass(Denoiser):
    """
    A zero-phase Butterworth band-pass. The default, the band of the model, leaves in-band windows as they are.

    :param freqmin: Lower corner in Hz
    :param freqmax: Upper corner in Hz
    """

    freqmin: float = BAND["freqmin"]
    freqmax: float = BAND["freqmax"]

    def __call__(self, windows: Array) -> Array:
        if self == BandPass():
            return windows.copy()
        return self.filter(windows, SAMPLING_RATE).astype(windows.dtype)

    def filter(self, samples: NDArray[Any], rate: float) -> NDArray[np.float64]:
        """Samples (..., samples) at `rate` Hz in the band, without their mean."""
        band = {**BAND, "freqmin": self.freqmin, "freqmax": self.freqmax}
        sos, zerophase = design_filter(("bandpass",), band, rate)
        flat = samples.reshape(-1, samples.shape[-1]).astype(np.float64)
        return np.stack([filtered(x - x.mean(), sos, zerophase) for x in flat]).reshape(samples.shape)

    def stream(self, stream: Stream) -> Stream:
        stream = stream.copy()
        for trace in stream:
            trace.data = self.filter(trace.data, trace.stats.sampling_rate)
        return stream


@dataclass(frozen=True)
class Wiener(Denoiser):
    """
    Spectral subtraction with a Wiener gain, ``1 - strength * noise / power``, in the short-time Fourier transform.

    The power of a cell is smoothed over its neighbours; the noise of a frequency is a low quantile of it over half a
    minute, as an estimate of the quiet part of the record, wherever that is: no onset is needed. In longer records it
    is interpolated between half minutes. The defaults are the best of ``benchmarks/train_baselines.py wiener`` on the
    dev split.

    :param frame: Samples of a frame at 100 Hz; frames overlap by three quarters
    :param quantile: Quantile of the power that counts as noise
    :param strength: Factor on the noise: above 1 since a quantile is below the mean, and since noise varies
    :param smooth: Number of frames that the power is averaged over, and a third of it, at least 1, of frequencies
    :param floor: Smallest gain
    """

    frame: int = 200
    quantile: float = 0.1
    strength: float = 4.0
    smooth: int = 9
    floor: float = 0.05

    def __call__(self, windows: Array) -> Array:
        return self.filter(windows, SAMPLING_RATE).astype(windows.dtype)

    def filter(self, samples: NDArray[Any], rate: float) -> NDArray[np.float64]:
        """Denoise samples (..., samples) at `rate` Hz."""
        length, frame = samples.shape[-1], round(self.frame * rate / SAMPLING_RATE)
        hop = frame // 4
        options = {"fs": rate, "nperseg": frame, "noverlap": frame - hop}
        _, _, bins = signal.stft(samples, **options)
        size = (1,) * (samples.ndim - 1) + (max(1, self.smooth // 3), self.smooth)
        power = ndimage.uniform_filter(np.abs(bins) ** 2, size, mode="nearest")
        blocks = max(1, round(length / rate / 30))
        pieces = np.array_split(np.arange(power.shape[-1]), blocks)
        levels = np.stack([np.quantile(power[..., piece], self.quantile, axis=-1) for piece in pieces], -1)
        noise = _interpolated(levels, [piece.mean() for piece in pieces], power.shape[-1])
        with np.errstate(invalid="ignore", divide="ignore"):
            gain = np.nan_to_num(1 - self.strength * noise / power, nan=0, neginf=0)
        _, estimate = signal.istft(bins * np.maximum(gain, self.floor), **options)
        return estimate[..., :length]

    def stream(self, stream: Stream) -> Stream:
        stream = BandPass().stream(stream)
        for trace in stream:
            if len(trace) > self.frame * trace.stats.sampling_rate / SAMPLING_RATE:
                trace.data = self.filter(trace.data, trace.stats.sampling_rate)
        return stream


def _interpolated(values: NDArray[np.float64], positions: list[float], length: int) -> NDArray[np.float64]:
    """Values (..., position) interpolated linearly at 0 ... length - 1."""
    place = np.interp(np.arange(length), positions, np.arange(len(positions)))
    below = place.astype(int)
    above = np.minimum(below + 1, len(positions) - 1)
    return values[..., below] + (place - below) * (values[..., above] - values[..., below])


class MaskDenoiser(Denoiser):
    """
    SeisBench's DeepDenoiser or SeisDAE: a mask on the short-time spectrum, one component at a time.

    SeisBench's SeisDAE divides the spectra of a batch by their common maximum, but is trained on traces divided by
    their own. Windows are prepared one by one here, as in training, so that they do not depend on each other; streams
    go through SeisBench's ``annotate`` as it is.

    :param model: The model, in SeisBench's own class
    """

    def __init__(self, model: WaveformModel) -> None:
        self.model = model.eval()

    @torch.no_grad()
    def __call__(self, windows: Array) -> Array:
        traces = torch.from_numpy(windows.reshape(-1, windows.shape[-1])).to(self.model.device)
        estimates = []
        for batch in traces.split(3 * BATCH):
            scale = batch.abs().amax(-1, keepdim=True)
            prepared, keep = prepare(self.model, batch / torch.where(scale > 0, scale, 1))
            masked = self.model.annotate_batch_post(self.model(prepared), keep, {})
            estimates.append(torch.nan_to_num(masked * scale))
        return torch.cat(estimates).cpu().numpy().reshape(windows.shape)

    def stream(self, stream: Stream) -> Stream:
        output = self.model.annotate(BandPass().stream(stream))
        for trace in output:
            trace.stats.channel = trace.stats.channel.removeprefix(f"{self.model.name}_")
        return output


def prepare(model: WaveformModel, traces: Tensor) -> tuple[Tensor, Any]:
    """
    Input of DeepDenoiser or SeisDAE, and what they need to undo it, by their own ``annotate_batch_pre``.

    :param model: The model
    :param traces: Traces (batch, samples)
    """
    if isinstance(model, sbm.SeisDAE):
        parts = [model.annotate_batch_pre(trace[None], {}) for trace in traces]
        spectra, factors = zip(*[keep for _, keep in parts], strict=True)
        return torch.cat([seen for seen, _ in parts]), (torch.cat(spectra), torch.cat(factors))
    return model.annotate_batch_pre(traces, {})


class CDiffSDDenoiser(Denoiser):
    """
    CDiffSD at a number of steps.

    :param model: The model
    :param steps: Number of steps; 1 is direct denoising
    :param noise_floor: See :py:func:`~seisbench_cdiffsd.noise_left.leave_noise`; by default no noise is left in
    :param noise_margin: Likewise
    """

    def __init__(
        self, model: CDiffSD, steps: int, noise_floor: float = 0.0, noise_margin: float = float("inf")
    ) -> None:
        self.model = model.eval()
        self.options: dict[str, Any] = {"steps": steps, "noise_floor": noise_floor, "noise_margin": noise_margin}

    def __call__(self, windows: Array) -> Array:
        batches = torch.from_numpy(windows).split(BATCH)
        return torch.cat([self.model.restore(batch, **self.options).cpu() for batch in batches]).numpy()

    def stream(self, stream: Stream) -> Stream:
        return self.model.denoise(stream, **self.options)


def oracle_mask(clean: Array, noise: Array) -> Array:
    """
    The ratio mask ``|clean| / (|clean| + |noise|)`` that DeepDenoiser and SeisDAE are trained to find (Zhu et al.,
    2019), made from the parts and applied to their sum: what they would return if they had learnt it exactly.

    :param clean: Earthquakes, (..., samples)
    :param noise: Noise in the same shape
    :return: Estimates in the same shape
    """
    options = {"nperseg": MASK_FRAME, "nfft": MASK_TRANSFORM}
    (_, _, s), (_, _, n) = (signal.stft(x, **options) for x in (clean, noise))
    a, b = np.abs(s), np.abs(n)
    mask = np.divide(a, a + b, out=np.zeros_like(a), where=a + b > 0)
    return signal.istft((s + n) * mask, **options)[1][..., : clean.shape[-1]].astype(clean.dtype)


def load_mask_denoiser(name: str, weights: str | Path, download: bool = False, device: str = "cpu") -> MaskDenoiser:
    """
    DeepDenoiser or SeisDAE.

    :param name: "DeepDenoiser" or "SeisDAE"
    :param weights: Name of weights in SeisBench's cache, or path of a saved model without suffix
    :param download: Ask SeisBench's remote repository for weights that are not in the cache
    :raises WeightsUnavailable: If there are no such weights, or they cannot be read
    """
    if name not in ("DeepDenoiser", "SeisDAE"):
        raise ValueError(f"name must be DeepDenoiser or SeisDAE, not {name!r}.")
    if isinstance(weights, str):
        return MaskDenoiser(load_seisbench_model(name, weights, download).to(device))
    return MaskDenoiser(_load(getattr(sbm, name), weights).to(device))


def load_cdiffsd_denoiser(
    weights: str | Path = DEFAULT, steps: int = DEFAULT_STEPS, device: str = "cpu", **noise: float
) -> CDiffSDDenoiser:
    """
    CDiffSD; nothing is downloaded.

    :param weights: Name of weights that are on this machine, or path of a saved model without suffix
    :param steps: Number of steps
    :param noise: How much noise to leave in, see :py:class:`CDiffSDDenoiser`
    :raises WeightsUnavailable: If there are no such weights, or they cannot be read
    """
    if isinstance(weights, Path):
        return CDiffSDDenoiser(_load(CDiffSD, weights).to(device), steps, **noise)
    known = CDiffSD.list_pretrained(remote=False)
    if weights not in known:
        names = ", ".join(known) or "none"
        raise WeightsUnavailable(f"There are no CDiffSD weights {weights!r} here. Available: {names}.")
    return CDiffSDDenoiser(CDiffSD.from_pretrained(weights).to(device), steps, **noise)


def _load(model: Any, path: Path) -> Any:
    if not path.with_name(path.name + ".json").is_file():
        where = f"{path.name} in {path.parent.name}"
        raise WeightsUnavailable(f"There is no model {where}: see benchmarks/train_baselines.py.")
    try:
        return model.load(path)
    except UNREADABLE as error:
        raise WeightsUnavailable(f"The model {path.name} cannot be read: {' '.join(str(error).split())}") from error
