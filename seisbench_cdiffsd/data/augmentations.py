"""Augmentations in SeisBench's style, from single records to pairs of earthquake and noise.

SeisBench's :py:class:`~seisbench.generate.RealNoise` adds recorded noise and forgets the parts; a denoiser needs them,
so :py:class:`CoupleNoise` keeps both. All augmentations draw from numpy's global generator, as SeisBench's own do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import seisbench.generate as sbg
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from seisbench_cdiffsd.metrics import SIGNAL_SECONDS
from seisbench_cdiffsd.streams.filtering import SAMPLING_RATE

Array = NDArray[np.float32]
#: What SeisBench's generators hand from one augmentation to the next: key -> (data, metadata).
State = dict[str, tuple[Any, Any]]

P_KEY, S_KEY = "trace_p_arrival_sample", "trace_s_arrival_sample"
RATE_KEY, SNR_KEY, ALIVE_KEY = "trace_sampling_rate_hz", "trace_record_snr_db", "trace_alive"
#: Components are silent if they are below this share of the others.
SILENCE = 1e-6


class NoiseWindows(Protocol):
    """What :py:class:`CoupleNoise` needs of a SeisBench generator."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


def living(waveform: Array) -> NDArray[np.bool_]:
    """Which components of a record have motion; what a filter leaves of times before a window does not count."""
    peaks = np.abs(waveform).max(axis=-1)
    return peaks > SILENCE * peaks.max()


class RecordSNR:
    """
    Writes a record's own SNR in dB to its metadata: 95th percentiles of the amplitudes, 5 s from S (or P) on against
    5 s before P, on the best component. It is -inf if one of the two is missing.

    :param guard: Seconds before P that are left out, since labels are not exact
    """

    def __init__(self, guard: float = 0.2) -> None:
        self.guard = guard

    def __call__(self, state: State) -> None:
        waveform, metadata = state["X"]
        rate, p, s = metadata[RATE_KEY], metadata[P_KEY], metadata.get(S_KEY, np.nan)
        onset = int(p if np.isnan(s) else s)
        end = max(0, int(p - self.guard * rate))
        before = waveform[:, max(0, end - int(5 * rate)) : end]
        after = waveform[:, onset : onset + int(5 * rate)]
        # Constant padding before an early onset is not noise.
        before = before[:, np.abs(before).max(axis=0) > 0] if before.size else before
        snr = -np.inf
        if min(before.shape[1], after.shape[1]) > rate:
            noise = np.percentile(np.abs(before), 95, axis=1)
            signal = np.percentile(np.abs(after), 95, axis=1)
            alive = (noise > 0) & (signal > 0)
            if alive.any():
                snr = float(20 * np.log10(signal[alive] / noise[alive]).max())
        metadata[SNR_KEY] = snr


class Alive:
    """Writes to the metadata whether each second of a record, as it was recorded, has some motion."""

    def __call__(self, state: State) -> None:
        waveform, metadata = state["X"]
        second = int(metadata[RATE_KEY])
        blocks = waveform[:, : waveform.shape[1] // second * second].reshape(len(waveform), -1, second)
        metadata[ALIVE_KEY] = bool((np.ptp(blocks, axis=-1) > 0).any(axis=0).all())


class MuteBeforeOnset:
    """
    Fades a record to zero before its P onset, where it is noise and not the earthquake, and at its end.

    The noise rises in a tenth of a second: if it takes longer, pickers, and what is trained on such records, take its
    rise for the onset.

    :param silent: Seconds before P up to which the record is zero
    :param full: Seconds before P from where on the record is untouched
    :param end: Seconds over which the end fades out
    """

    def __init__(self, silent: float = 0.1, full: float = 0.0, end: float = 3.0) -> None:
        self.silent, self.full, self.end = silent, full, end

    def __call__(self, state: State) -> None:
        waveform, metadata = state["X"]
        rate, samples = metadata[RATE_KEY], np.arange(waveform.shape[-1])
        rise = (self.silent - (metadata[P_KEY] - samples) / rate) / (self.silent - self.full)
        fall = (len(samples) - 1 - samples) / rate / self.end
        gain = np.sin(np.pi / 2 * np.clip(np.minimum(rise, fall), 0, 1)) ** 2
        state["X"] = ((waveform * gain).astype(waveform.dtype), metadata)


class RandomOnset(sbg.FixedWindow):
    """
    A window with the P onset at a random place; zeros where the record has no data.

    :param low: Earliest sample of the onset in the window; negative for windows that start after P
    :param high: Latest sample of the onset in the window
    :param windowlen: Samples of the window
    """

    def __init__(self, low: int, high: int, windowlen: int = 3000, **kwargs: Any) -> None:
        super().__init__(windowlen=windowlen, strategy="pad", **kwargs)
        self.low, self.high = low, high

    def __call__(self, state: State, p0: int | None = None, windowlen: int | None = None) -> None:
        metadata = state[self.key[0]][1]
        onset = np.random.uniform(self.low, self.high)
        super().__call__(state, p0=int(metadata[P_KEY] - onset), windowlen=windowlen)


class Stretch:
    """
    Resamples by a random factor, as if a record were of a larger or smaller earthquake, or of another source of noise.

    Done in the spectrum, without aliasing. Earthquakes should fade out at both ends (:py:class:`MuteBeforeOnset`).

    :param band: Zero-phase band-pass that the result goes through, since a stretched record leaves its band
    :param low: Smallest factor, below 1 for shorter and higher-pitched records
    :param high: Largest factor
    :param probability: Share of the records that are stretched
    :param rate: Sampling rate of the records in Hz
    :param shortest: Fewest samples that longer records keep
    """

    def __init__(
        self,
        band: Callable[[State], None],
        low: float = 0.75,
        high: float = 1.33,
        probability: float = 0.5,
        rate: float = SAMPLING_RATE,
        shortest: int = 0,
    ) -> None:
        self.range, self.probability, self.shortest = np.log([low, high]), probability, shortest
        impulse: State = {"X": (np.eye(1, 8192, 4096, dtype=np.float32), {RATE_KEY: rate})}
        band(impulse)
        #: Gain of the band-pass, at frequencies from 0 to half the sampling rate.
        self.gain = np.abs(rfft(impulse["X"][0][0]))

    def __call__(self, state: State) -> None:
        if not self.probability or np.random.rand() >= self.probability:
            return
        waveform, metadata = state["X"]
        before = next_fast_len(samples := waveform.shape[-1], real=True)
        factor = max(np.exp(np.random.uniform(*self.range)), min(1.0, self.shortest / samples))
        after = next_fast_len(math.ceil(before * factor), real=True)
        spectrum = rfft(waveform, before)[..., : after // 2 + 1]
        bins = np.arange(spectrum.shape[-1]) * (len(self.gain) - 1) / (after / 2)
        spectrum *= np.interp(bins, np.arange(len(self.gain)), self.gain) * after / before
        for name in metadata:
            # STEAD's end of the coda is text: "[[2789.]]".
            if name.endswith("_sample") and not isinstance(metadata[name], str):
                metadata[name] = metadata[name] * after / before
        state["X"] = (irfft(spectrum, after)[..., : samples * after // before].astype(waveform.dtype), metadata)


class NameTrace:
    """Writes the name of the trace under "names", to report what a pair is made of."""

    def __call__(self, state: State) -> None:
        state["names"] = (str(state["X"][1].get("trace_name", "")), None)


class FlipPolarity:
    """Changes the sign of all components together, in half of the cases."""

    def __call__(self, state: State) -> None:
        waveform, metadata = state["X"]
        if np.random.rand() < 0.5:
            state["X"] = (-waveform, metadata)


class ReverseTime:
    """Reverses noise in time, in half of the cases. Not for earthquakes."""

    def __call__(self, state: State) -> None:
        waveform, metadata = state["X"]
        if np.random.rand() < 0.5:
            state["X"] = (waveform[:, ::-1].copy(), metadata)


def draw(cumulative: NDArray[np.float64], u: float) -> int:
    """
    Number of the record that a random number stands for.

    :param cumulative: Cumulative probabilities of the records
    :param u: Uniform random number in [0, 1)
    """
    return min(int(np.searchsorted(cumulative, u, side="right")), len(cumulative) - 1)


def draw_window(noise: NoiseWindows, cumulative: NDArray[np.float64] | None) -> dict[str, Any]:
    """A random noise window, by cumulative probabilities if there are any."""
    return noise[np.random.randint(len(noise)) if cumulative is None else draw(cumulative, np.random.rand())]


def add_name(state: State, other: dict[str, Any]) -> None:
    """Add to the names of a record those of what was added to it (:py:class:`NameTrace`)."""
    if "names" in state and "names" in other:
        state["names"] = (f"{state['names'][0]} + {other['names']}", None)


class CoupleNoise:
    """
    Couples an earthquake window with a random noise window and writes both parts, "clean" and "noise".

    Their sum is the noisy record. The noise is scaled either to an input SNR (ratio of mean powers, the earthquake's in
    the 10 s after P or after the start of the window) or, as published, to a random factor of the record's maximum,
    with the maximum of the noise taken separately.

    :param noise: Generator of noise windows: ``noise[index]["X"]`` has at least the samples of the earthquake window
    :param snr: Lowest and highest input SNR in dB
    :param factor: Lowest and highest published noise factor; replaces `snr`, `untouched` and `headroom`
    :param noise_only: Share of examples without an earthquake
    :param untouched: Share of examples that are nearly clean: the input SNR is 20 to 40 dB
    :param headroom: The input SNR stays this many dB below the record's own, if that is known
        (:py:class:`RecordSNR`), so that the target's own noise is small compared with the noise added
    :param cumulative: Cumulative probabilities of the noise records; by default all are equally probable
    :raises ValueError: If a range or share is invalid, or a noise window is too short
    """

    def __init__(
        self,
        noise: NoiseWindows,
        snr: tuple[float, float] = (-15.0, 15.0),
        factor: tuple[float, float] | None = None,
        noise_only: float = 0.1,
        untouched: float = 0.05,
        headroom: float = 10.0,
        cumulative: NDArray[np.float64] | None = None,
    ) -> None:
        if snr[0] > snr[1]:
            raise ValueError(f"snr is (lowest, highest), not {snr}.")
        if factor is not None and not 0 < factor[0] <= factor[1]:
            raise ValueError(f"factor is (lowest, highest), both positive, not {factor}.")
        if min(noise_only, untouched) < 0 or noise_only + untouched > 1:
            raise ValueError("noise_only and untouched are shares: not negative, and at most 1 together.")
        self.noise, self.snr, self.factor, self.cumulative = noise, snr, factor, cumulative
        self.noise_only, self.untouched, self.headroom = noise_only, untouched, headroom

    def __call__(self, state: State) -> None:
        clean, metadata = state["X"]
        noise = self._noise_window(clean.shape[-1], state)
        clean = clean * living(noise)[:, None]  # a component without noise would give the earthquake away
        scale = self._published_scale(clean, noise) if self.factor else self._snr_scale(clean, noise, metadata)
        clean = clean * (np.random.rand() >= self.noise_only)
        noise = scale * noise
        peak = max(np.abs(clean).max(), np.abs(noise).max())
        state["clean"] = ((clean / peak).astype(np.float32), None)
        state["noise"] = ((noise / peak).astype(np.float32), None)

    def _noise_window(self, samples: int, state: State) -> Array:
        found = draw_window(self.noise, self.cumulative)
        add_name(state, found)
        noise: Array = found["X"]
        spare = noise.shape[-1] - samples
        if spare < 0:
            raise ValueError(f"Noise of {noise.shape[-1]} samples is too short: set a window of less than {samples}.")
        start = np.random.randint(spare + 1)
        return noise[:, start : start + samples]

    def _snr_scale(self, clean: Array, noise: Array, metadata: dict[str, Any]) -> float:
        low, high = self.snr
        if np.random.rand() < self.untouched / max(1 - self.noise_only, 1e-9):
            low, high = 20.0, 40.0
        else:
            high = max(low, min(high, metadata.get(SNR_KEY, np.inf) - self.headroom))
        rate = int(metadata[RATE_KEY])
        onset = int(np.clip(metadata[P_KEY], 0, clean.shape[-1] - rate))
        signal = np.mean(clean[:, onset : onset + int(SIGNAL_SECONDS * rate)] ** 2)
        ratio = 10 ** (np.random.uniform(low, high) / 10)
        return float(np.sqrt(signal / ratio / np.mean(noise**2))) or 1.0

    def _published_scale(self, clean: Array, noise: Array) -> float:
        factor = np.random.uniform(*self.factor)  # type: ignore[misc]
        return float(factor * np.abs(clean).max() / np.abs(noise).max()) or 1.0
