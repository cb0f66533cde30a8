"""Augmentations for what else happens at stations: other instruments, faults, and two sources at once.

They are in SeisBench's style. At a probability of 0, most of them draw no random number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import seisbench.generate as sbg
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

from seisbench_cdiffsd.data.augmentations import (
    P_KEY,
    RATE_KEY,
    S_KEY,
    SIGNAL_SECONDS,
    SNR_KEY,
    NoiseWindows,
    RandomOnset,
    State,
    add_name,
    draw_window,
    living,
)
from seisbench_cdiffsd.streams.filtering import SAMPLING_RATE

#: Latest start of a window in the coda, in seconds after P, and the lowest SNR in dB there.
CODA_LATEST, CODA_SNR = 30.0, 15.0


class AnyOnset(RandomOnset):
    """
    A window with the P onset at a random place; for some records, one that starts between P and S, or in the coda.

    :param low: Earliest sample of the onset in the window; negative for windows that start after P
    :param high: Latest sample of the onset in the window
    :param windowlen: Samples of the window
    :param s_only: Share of the records with an S label whose window starts between P and S
    :param coda: Share of the records whose window starts in the coda, up to 30 s after P, if the coda is still 15 dB
        above the noise of the record there
    """

    def __init__(
        self, low: int, high: int, windowlen: int = 3000, s_only: float = 0.0, coda: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(low, high, windowlen, **kwargs)
        self.s_only, self.coda = s_only, coda

    def __call__(self, state: State, p0: int | None = None, windowlen: int | None = None) -> None:
        waveform, metadata = state[self.key[0]]
        delay = metadata.get(S_KEY, np.nan) - metadata[P_KEY]
        start = None
        if self.s_only and np.random.rand() < self.s_only and delay > 1:
            start = metadata[P_KEY] + np.random.uniform(1, delay)
        elif self.coda and np.random.rand() < self.coda:
            start = self._in_the_coda(waveform, metadata)
        if start is None:
            super().__call__(state, p0, windowlen)
        else:
            super(RandomOnset, self).__call__(state, p0=int(start), windowlen=windowlen)

    def _in_the_coda(self, waveform: NDArray[np.float32], metadata: dict[str, Any]) -> float | None:
        rate, p, s = metadata[RATE_KEY], metadata[P_KEY], metadata.get(S_KEY, np.nan)
        start = p + np.random.uniform(max(-self.low, 0), CODA_LATEST * rate)
        first, strong = waveform[:, int(start) :], waveform[:, max(int(p if np.isnan(s) else s), 0) :]
        samples = int(SIGNAL_SECONDS * rate)
        if first.shape[1] < samples or not strong[:, :samples].any():
            return None
        ratio = np.mean(first[:, :samples] ** 2) / np.mean(strong[:, :samples] ** 2)
        clear = metadata.get(SNR_KEY, np.inf) + 10 * np.log10(ratio + 1e-30) > CODA_SNR
        return start if clear else None


class Superpose:
    """
    Adds a second earthquake at a random place after P, as in a sequence of aftershocks.

    :param earthquakes: Records that fade out at both ends, as a generator
    :param probability: Share of the records that get one
    :param low: Smallest amplitude of the second, relative to the first
    :param high: Largest amplitude
    """

    def __init__(self, earthquakes: NoiseWindows, probability: float, low: float = 0.05, high: float = 1.0) -> None:
        self.earthquakes, self.probability, self.low, self.high = earthquakes, probability, low, high

    def __call__(self, state: State) -> None:
        if not self.probability or np.random.rand() >= self.probability:
            return
        waveform, metadata = state["X"]
        other = self.earthquakes[np.random.randint(len(self.earthquakes))]
        second = other["X"]
        start = np.random.randint(int(np.clip(metadata[P_KEY], 0, waveform.shape[-1] - 1)), waveform.shape[-1])
        # from where the second one rises, so that it arrives within the record
        first = int(np.argmax(np.abs(second).max(axis=0) > 0))
        second = second[:, first : first + waveform.shape[-1] - start]
        peak = np.abs(second).max()
        if peak == 0:
            return
        gain = np.exp(np.random.uniform(np.log(self.low), np.log(self.high))) * np.abs(waveform).max() / peak
        waveform = waveform.copy()
        waveform[:, start : start + second.shape[-1]] += (gain * second).astype(waveform.dtype)
        state["X"] = (waveform, metadata)
        add_name(state, other)


class SecondNoise:
    """
    Adds a second, weaker noise record to a noise record: two sources at once.

    :param noise: Where the second record comes from
    :param probability: Share of the records that get one
    :param cumulative: As for :py:class:`CoupleNoise`
    """

    def __init__(
        self, noise: NoiseWindows, probability: float = 0.3, cumulative: NDArray[np.float64] | None = None
    ) -> None:
        self.noise, self.probability, self.cumulative = noise, probability, cumulative

    def __call__(self, state: State) -> None:
        if np.random.rand() >= self.probability:
            return
        first, metadata = state["X"]
        other = draw_window(self.noise, self.cumulative)
        second = other["X"]
        samples = min(first.shape[-1], second.shape[-1])
        gain = np.random.uniform(0.1, 1) * first.std() / second.std()
        state["X"] = (first[:, :samples] + gain * second[:, :samples], metadata)
        add_name(state, other)


class Rotate(sbg.RotateHorizontalComponents):
    """Rotates the horizontal components by a random angle, unless one of the two is silent and would get the other."""

    def __call__(self, state: State) -> None:
        waveform, metadata = state["X"]
        order = metadata["trace_component_order"]
        if living(waveform)[[order.index(component) for component in self.components]].sum() != 1:
            super().__call__(state)


class NarrowBand:
    """
    Removes low or high frequencies, or both, from both parts of a pair, as another instrument or digitizer does.

    :param probability: Share of the pairs
    :param highpass: Lowest and highest corner of the high-pass in Hz
    :param lowpass: Lowest and highest corner of the low-pass
    :param rate: Sampling rate in Hz
    """

    def __init__(
        self,
        probability: float,
        highpass: tuple[float, float] = (1.0, 4.0),
        lowpass: tuple[float, float] = (12.0, 45.0),
        rate: float = SAMPLING_RATE,
    ) -> None:
        self.probability, self.highpass, self.lowpass, self.rate = probability, highpass, lowpass, rate

    def __call__(self, state: State) -> None:
        if not self.probability or np.random.rand() >= self.probability:
            return
        low, high = (np.exp(np.random.uniform(*np.log(corner))) for corner in (self.highpass, self.lowpass))
        kinds = ((low, "highpass"), (high, "lowpass"), ((low, high), "bandpass"))
        corners, kind = kinds[np.random.randint(len(kinds))]
        sos = butter(2, corners, kind, fs=self.rate, output="sos")
        for key in ("clean", "noise"):
            waveform, metadata = state[key]
            state[key] = (sosfiltfilt(sos, waveform).astype(waveform.dtype), metadata)


class Glitches:
    """
    Adds spikes or steps, in the model's band, to one or all components of a noise record, as faulty electronics do.
    Silent components stay silent.

    :param band: The band-pass that the result goes through
    :param probability: Share of the records
    :param count: Largest number of spikes and steps
    :param amplitude: Smallest and largest amplitude, relative to the peak of the record
    """

    def __init__(
        self,
        band: Callable[[State], None],
        probability: float,
        count: int = 3,
        amplitude: tuple[float, float] = (1.0, 20.0),
    ) -> None:
        self.band, self.probability, self.count, self.amplitude = band, probability, count, amplitude

    def __call__(self, state: State) -> None:
        if not self.probability or np.random.rand() >= self.probability:
            return
        waveform, metadata = state["X"]
        peak, samples = np.abs(waveform).max(), waveform.shape[-1]
        fault = np.zeros(waveform.shape)
        for _ in range(np.random.randint(1, self.count + 1)):
            components = slice(None) if np.random.rand() < 0.5 else np.random.randint(len(waveform))
            start = np.random.randint(samples)
            end = min(start + np.random.randint(1, 4), samples) if np.random.rand() < 0.5 else samples
            size = peak * np.exp(np.random.uniform(*np.log(self.amplitude)))
            fault[components, start:end] += np.random.choice([-1, 1]) * size
        fault *= living(waveform)[:, None]
        filtered: State = {"X": (fault, {RATE_KEY: metadata[RATE_KEY]})}
        self.band(filtered)
        state["X"] = ((waveform + filtered["X"][0]).astype(waveform.dtype), metadata)


class DropComponents:
    """
    Silences components of both parts of a pair, as on stations that lack them; at least one stays.

    :param probability: Share of the pairs that lose one or two components
    """

    def __init__(self, probability: float = 0.1) -> None:
        self.probability = probability

    def __call__(self, state: State) -> None:
        if np.random.rand() >= self.probability:
            return
        components = len(state["clean"][0])
        dropped = np.random.permutation(components)[: np.random.randint(1, components)]
        for key in ("clean", "noise"):
            state[key][0][dropped] = 0
