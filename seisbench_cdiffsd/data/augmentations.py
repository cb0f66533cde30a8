"""Augmentations in SeisBench's style: of single records, of pairs of earthquake and noise, and faults of stations.

SeisBench's :py:class:`~seisbench.generate.RealNoise` adds recorded noise and forgets the parts; a denoiser needs them,
so :py:class:`CoupleNoise` keeps both. All draw from numpy's global generator, as SeisBench's own do, and what has a
probability of 0 draws nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import seisbench.generate as sbg
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import butter, sosfiltfilt

from seisbench_cdiffsd.metrics import SIGNAL_SECONDS
from seisbench_cdiffsd.streams.filtering import SAMPLING_RATE

Array = NDArray[np.float32]
#: What SeisBench's generators hand from one augmentation to the next: key -> (data, metadata).
State = dict[str, tuple[Any, Any]]

P_KEY, S_KEY = "trace_p_arrival_sample", "trace_s_arrival_sample"
RATE_KEY, SNR_KEY, ALIVE_KEY = "trace_sampling_rate_hz", "trace_record_snr_db", "trace_alive"
REVERSED_KEY = "trace_reversed"
#: Latest start of a window in the coda, in seconds after P, and the lowest SNR in dB there.
CODA_LATEST, CODA_SNR = 30.0, 15.0
#: Components are silent if they are below this share of the others.
SILENCE = 1e-6


def happens(probability: float) -> bool:
    """Draw whether something of this probability happens."""
    return probability > 0 and np.random.rand() < probability


def living(waveform: Array) -> NDArray[np.bool_]:
    """Which components of a record have motion; what a filter leaves of times before a window does not count."""
    peaks = np.abs(waveform).max(axis=-1)
    return peaks > SILENCE * peaks.max()


def draw(cumulative: NDArray[np.float64], u: float) -> int:
    """Number of the record, by cumulative probabilities, that a random number in [0, 1) stands for."""
    return min(int(np.searchsorted(cumulative, u, side="right")), len(cumulative) - 1)


def draw_window(noise: Any, cumulative: NDArray[np.float64] | None) -> dict[str, Any]:
    """A random noise window, by cumulative probabilities if there are any."""
    return noise[np.random.randint(len(noise)) if cumulative is None else draw(cumulative, np.random.rand())]


class NameTrace:
    """Writes the name of the trace under "names", to report what a pair is made of."""

    def __call__(self, state: State) -> None:
        state["names"] = (str(state["X"][1].get("trace_name", "")), None)


def add_name(state: State, other: dict[str, Any]) -> None:
    """Add to the names of a record those of what was added to it."""
    if "names" in state and "names" in other:
        state["names"] = (f"{state['names'][0]} + {other['names']}", None)


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
        onset, end = int(p if np.isnan(s) else s), max(0, int(p - self.guard * rate))
        before = waveform[:, max(0, end - int(5 * rate)) : end]
        after = waveform[:, onset : onset + int(5 * rate)]
        # Constant padding before an early onset is not noise.
        before = before[:, np.abs(before).max(axis=0) > 0] if before.size else before
        snr = -np.inf
        if min(before.shape[1], after.shape[1]) > rate:
            noise, signal = (np.percentile(np.abs(part), 95, axis=1) for part in (before, after))
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
    A window with the P onset at a random place, zeros where the record has no data; for some records, a window that
    starts between P and S, or in the coda.

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
        super().__init__(windowlen=windowlen, strategy="pad", **kwargs)
        self.low, self.high, self.s_only, self.coda = low, high, s_only, coda

    def __call__(self, state: State, p0: int | None = None, windowlen: int | None = None) -> None:
        waveform, metadata = state[self.key[0]]
        delay = metadata.get(S_KEY, np.nan) - metadata[P_KEY]
        start = None
        if happens(self.s_only) and delay > 1:
            start = metadata[P_KEY] + np.random.uniform(1, delay)
        elif happens(self.coda):
            start = self._in_the_coda(waveform, metadata)
        if start is None:
            start = metadata[P_KEY] - np.random.uniform(self.low, self.high)
        super().__call__(state, p0=int(start), windowlen=windowlen)

    def _in_the_coda(self, waveform: Array, metadata: dict[str, Any]) -> float | None:
        rate, p, s = metadata[RATE_KEY], metadata[P_KEY], metadata.get(S_KEY, np.nan)
        start = p + np.random.uniform(max(-self.low, 0), CODA_LATEST * rate)
        first, strong = waveform[:, int(start) :], waveform[:, max(int(p if np.isnan(s) else s), 0) :]
        samples = int(SIGNAL_SECONDS * rate)
        if first.shape[1] < samples or not strong[:, :samples].any():
            return None
        ratio = np.mean(first[:, :samples] ** 2) / np.mean(strong[:, :samples] ** 2)
        clear = metadata.get(SNR_KEY, np.inf) + 10 * np.log10(ratio + 1e-30) > CODA_SNR
        return start if clear else None


class Stretch:
    """
    Resamples by a random factor, as if a record were of a larger or smaller earthquake, or of another source of noise.

    Done in the spectrum, without aliasing. Earthquakes should fade out at both ends (:py:class:`MuteBeforeOnset`).

    :param band: Zero-phase band-pass that the result goes through, since a stretched record leaves its band
    :param low: Smallest factor, below 1 for shorter and higher-pitched records
    :param high: Largest factor
    :param probability: Share of the records that are stretched
    :param shortest: Fewest samples that longer records keep
    """

    def __init__(
        self,
        band: Callable[[State], None],
        low: float = 0.75,
        high: float = 1.33,
        probability: float = 0.5,
        shortest: int = 0,
    ) -> None:
        self.range, self.probability, self.shortest = np.log([low, high]), probability, shortest
        impulse: State = {"X": (np.eye(1, 8192, 4096, dtype=np.float32), {RATE_KEY: SAMPLING_RATE})}
        band(impulse)
        #: Gain of the band-pass, at frequencies from 0 to half the sampling rate.
        self.gain = np.abs(rfft(impulse["X"][0][0]))

    def __call__(self, state: State) -> None:
        if not happens(self.probability):
            return
        waveform, metadata = state["X"]
        before = next_fast_len(samples := waveform.shape[-1], real=True)
        factor = max(np.exp(np.random.uniform(*self.range)), min(1.0, self.shortest / samples))
        after = next_fast_len(math.ceil(before * factor), real=True)
        spectrum = rfft(waveform, before)[..., : after // 2 + 1]
        bins = np.arange(spectrum.shape[-1]) * (len(self.gain) - 1) / (after / 2)
        spectrum *= np.interp(bins, np.arange(len(self.gain)), self.gain) * after / before
        move_labels(metadata, after / before)
        state["X"] = (irfft(spectrum, after)[..., : samples * after // before].astype(waveform.dtype), metadata)


def move_labels(metadata: dict[str, Any], ratio: float) -> None:
    """Move all samples of a record that its metadata name, by the ratio of the new sampling rate to the old."""
    for name in metadata:
        # STEAD's end of the coda is text: "[[2789.]]".
        if name.endswith("_sample") and not isinstance(metadata[name], str):
            metadata[name] = metadata[name] * ratio


class FlipPolarity:
    """Changes the sign of all components together, in half of the cases."""

    def __call__(self, state: State) -> None:
        if happens(0.5):
            state["X"] = (-state["X"][0], state["X"][1])


class ReverseTime:
    """
    Reverses noise in time. Not for earthquakes.

    :param always: Whether all records are reversed, and marked to stay so; by default half of those without the mark
    """

    def __init__(self, always: bool = False) -> None:
        self.always = always

    def __call__(self, state: State) -> None:
        waveform, metadata = state["X"]
        if self.always or (not metadata.get(REVERSED_KEY, False) and happens(0.5)):
            state["X"] = (waveform[:, ::-1].copy(), {**metadata, REVERSED_KEY: True} if self.always else metadata)


class Rotate(sbg.RotateHorizontalComponents):
    """Rotates the horizontal components by a random angle, unless one of the two is silent and would get the other."""

    def __call__(self, state: State) -> None:
        waveform, metadata = state["X"]
        order = metadata["trace_component_order"]
        if living(waveform)[[order.index(component) for component in self.components]].sum() != 1:
            super().__call__(state)


class Superpose:
    """
    Adds a second earthquake at a random place after P, as in a sequence of aftershocks.

    :param earthquakes: Records that fade out at both ends, as a generator
    :param probability: Share of the records that get one
    :param low: Smallest amplitude of the second, relative to the first
    :param high: Largest amplitude
    """

    def __init__(self, earthquakes: Any, probability: float, low: float = 0.05, high: float = 1.0) -> None:
        self.earthquakes, self.probability, self.low, self.high = earthquakes, probability, low, high

    def __call__(self, state: State) -> None:
        if not happens(self.probability):
            return
        waveform, metadata = state["X"]
        other = self.earthquakes[np.random.randint(len(self.earthquakes))]
        start = np.random.randint(int(np.clip(metadata[P_KEY], 0, waveform.shape[-1] - 1)), waveform.shape[-1])
        # from where the second one rises, so that it arrives within the record
        first = int(np.argmax(np.abs(other["X"]).max(axis=0) > 0))
        second = other["X"][:, first : first + waveform.shape[-1] - start]
        if (peak := np.abs(second).max()) == 0:
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

    def __init__(self, noise: Any, probability: float, cumulative: NDArray[np.float64] | None = None) -> None:
        self.noise, self.probability, self.cumulative = noise, probability, cumulative

    def __call__(self, state: State) -> None:
        if not happens(self.probability):
            return
        first, metadata = state["X"]
        other = draw_window(self.noise, self.cumulative)
        samples = min(first.shape[-1], other["X"].shape[-1])
        gain = np.random.uniform(0.1, 1) * first.std() / other["X"].std()
        state["X"] = (first[:, :samples] + gain * other["X"][:, :samples], metadata)
        add_name(state, other)


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
        if not happens(self.probability):
            return
        waveform, metadata = state["X"]
        peak, samples = np.abs(waveform).max(), waveform.shape[-1]
        fault = np.zeros(waveform.shape)
        for _ in range(np.random.randint(1, self.count + 1)):
            components = slice(None) if happens(0.5) else np.random.randint(len(waveform))
            start = np.random.randint(samples)
            end = min(start + np.random.randint(1, 4), samples) if happens(0.5) else samples
            size = peak * np.exp(np.random.uniform(*np.log(self.amplitude)))
            fault[components, start:end] += np.random.choice([-1, 1]) * size
        filtered: State = {"X": (fault * living(waveform)[:, None], {RATE_KEY: metadata[RATE_KEY]})}
        self.band(filtered)
        state["X"] = ((waveform + filtered["X"][0]).astype(waveform.dtype), metadata)


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
    :raises ValueError: If a noise window is too short
    """

    def __init__(
        self,
        noise: Any,
        snr: tuple[float, float] = (-15.0, 15.0),
        factor: tuple[float, float] | None = None,
        noise_only: float = 0.1,
        untouched: float = 0.05,
        headroom: float = 10.0,
        cumulative: NDArray[np.float64] | None = None,
    ) -> None:
        self.noise, self.snr, self.factor, self.cumulative = noise, snr, factor, cumulative
        self.noise_only, self.untouched, self.headroom = noise_only, untouched, headroom

    def __call__(self, state: State) -> None:
        clean, metadata = state["X"]
        noise = self._noise_window(clean.shape[-1], state)
        clean = clean * living(noise)[:, None]  # a component without noise would give the earthquake away
        if self.factor:
            scale = np.random.uniform(*self.factor) * np.abs(clean).max() / np.abs(noise).max()
        else:
            scale = self._snr_scale(clean, noise, metadata)
        clean = clean * (np.random.rand() >= self.noise_only)
        noise = (float(scale) or 1.0) * noise
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
        return np.sqrt(signal / 10 ** (np.random.uniform(low, high) / 10) / np.mean(noise**2))


class NarrowBand:
    """
    Removes low or high frequencies, or both, from both parts of a pair, as another instrument or digitizer does.

    :param probability: Share of the pairs
    :param highpass: Lowest and highest corner of the high-pass in Hz
    :param lowpass: Lowest and highest corner of the low-pass
    """

    def __init__(
        self,
        probability: float,
        highpass: tuple[float, float] = (1.0, 4.0),
        lowpass: tuple[float, float] = (12.0, 45.0),
    ) -> None:
        self.probability, self.highpass, self.lowpass = probability, highpass, lowpass

    def __call__(self, state: State) -> None:
        if not happens(self.probability):
            return
        low, high = (np.exp(np.random.uniform(*np.log(corner))) for corner in (self.highpass, self.lowpass))
        kinds = ((low, "highpass"), (high, "lowpass"), ((low, high), "bandpass"))
        corners, kind = kinds[np.random.randint(len(kinds))]
        sos = butter(2, corners, kind, fs=SAMPLING_RATE, output="sos")
        for key in ("clean", "noise"):
            waveform, metadata = state[key]
            state[key] = (sosfiltfilt(sos, waveform).astype(waveform.dtype), metadata)


class DropComponents:
    """
    Silences components of both parts of a pair, as on stations that lack them; at least one stays.

    :param probability: Share of the pairs that lose one or two components
    """

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def __call__(self, state: State) -> None:
        if happens(self.probability):
            components = len(state["clean"][0])
            dropped = np.random.permutation(components)[: np.random.randint(1, components)]
            for key in ("clean", "noise"):
                state[key][0][dropped] = 0
