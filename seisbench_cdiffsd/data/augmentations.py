"""Augmentations in SeisBench's style: of single records, of pairs of earthquake and noise, and faults of stations.

All draw from numpy's global generator, as SeisBench's own do, and what has a probability of 0 draws nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import seisbench.generate as sbg
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import butter, sosfiltfilt

from seisbench_cdiffsd.streams.filtering import BAND, SAMPLING_RATE

Array = NDArray[np.float32]
#: What SeisBench's generators hand from one augmentation to the next: key -> (data, metadata).
State = dict[str, tuple[Any, Any]]
Draw = Callable[[], dict[str, Any]]

P_KEY, S_KEY = "trace_p_arrival_sample", "trace_s_arrival_sample"
RATE_KEY, SNR_KEY, REVERSED_KEY = "trace_sampling_rate_hz", "trace_record_snr_db", "trace_reversed"
#: Seconds after P over which the power of an earthquake is taken.
SIGNAL_SECONDS = 10.0
#: Seconds over which a target rises before P and fades out at its end. If the rise takes longer than a tenth of a
#: second, pickers, and what is trained on such records, take it for the onset.
RISE, FALL = 0.1, 3.0
#: Most spikes and steps of a record, and their smallest and largest amplitude, relative to its peak.
GLITCHES, GLITCH_SIZE = 3, (1.0, 20.0)
#: Lowest and highest corners in Hz of the high-pass and of the low-pass of other instruments.
HIGHPASS, LOWPASS = (1.0, 4.0), (12.0, 45.0)
#: Shortest and longest time in seconds in which P and S of impulsive earthquakes fade to a third.
FADES = 0.05, 1.0


class Unusable(Exception):
    """Why a record cannot be used, as raised by some augmentations: "without ..."."""


@dataclass
class Sometimes:
    """Does something to a share of the records."""

    probability: float
    augmentation: Callable[[State], None]

    def __call__(self, state: State) -> None:
        if happens(self.probability):
            self.augmentation(state)


def happens(probability: float) -> bool:
    """Draw whether something of this probability happens."""
    return probability > 0 and np.random.rand() < probability


def log_uniform(low: float, high: float) -> float:
    """Draw a number, each ratio of two being as likely as any other."""
    return np.exp(np.random.uniform(np.log(low), np.log(high)))


def living(waveform: Array) -> NDArray[np.bool_]:
    """Which components of a record have motion; what a filter leaves of times before a window does not count."""
    peaks = np.abs(waveform).max(axis=-1)
    return peaks > 1e-6 * peaks.max()


@cache
def _band_pass(rate: float) -> NDArray[np.float64]:
    return butter(BAND["corners"], [BAND["freqmin"], BAND["freqmax"]], "bandpass", output="sos", fs=rate)


def in_band(state: State) -> None:
    """The model's zero-phase band, as SeisBench's filter, which would take longer for its design than for a record."""
    waveform, metadata = state["X"]
    state["X"] = (sosfiltfilt(_band_pass(float(metadata[RATE_KEY])), waveform).copy(), metadata)


def name_trace(state: State) -> None:
    state["names"] = (str(state["X"][1].get("trace_name", "")), None)


def add_name(state: State, other: dict[str, Any]) -> None:
    """Add to the names of a record those of what was added to it, if it has names."""
    if "names" in state:
        state["names"] = (f"{state['names'][0]} + {other['names']}", None)


def record_snr(state: State) -> None:
    """
    Write a record's own SNR in dB to its metadata: 95th percentiles of the amplitudes, 5 s from S (or P) on against
    5 s before P, on the best component. It is -inf if one of the two is missing.
    """
    waveform, metadata = state["X"]
    rate, p, s = metadata[RATE_KEY], metadata[P_KEY], metadata.get(S_KEY, np.nan)
    onset, end = int(p if np.isnan(s) else s), max(0, int(p - 0.2 * rate))  # labels are not exact
    before = waveform[:, max(0, end - int(5 * rate)) : end]
    after = waveform[:, onset : onset + int(5 * rate)]
    before = before[:, before.any(axis=0)]  # constant padding before an early onset is not noise
    snr = -np.inf
    if min(before.shape[1], after.shape[1]) > rate:
        noise, signal = (np.percentile(np.abs(part), 95, axis=1) for part in (before, after))
        alive = (noise > 0) & (signal > 0)
        if alive.any():
            snr = float(20 * np.log10(signal[alive] / noise[alive]).max())
    metadata[SNR_KEY] = snr


def always_moving(state: State) -> None:
    """Refuse records without motion in some second as Unusable: scaled to an SNR, silence would be amplified."""
    waveform, metadata = state["X"]
    second = int(metadata[RATE_KEY])
    blocks = waveform[:, : waveform.shape[1] // second * second].reshape(len(waveform), -1, second)
    if not (np.ptp(blocks, axis=-1) > 0).any(axis=0).all():
        raise Unusable("without motion in each second")


def mute_before_onset(state: State) -> None:
    """Fade a record to zero before its P onset, where it is noise and not the earthquake, and at its end."""
    waveform, metadata = state["X"]
    rate, samples = metadata[RATE_KEY], np.arange(waveform.shape[-1])
    rise = 1 - (metadata[P_KEY] - samples) / rate / RISE
    fall = (len(samples) - 1 - samples) / rate / FALL
    gain = np.sin(np.pi / 2 * np.clip(np.minimum(rise, fall), 0, 1)) ** 2
    state["X"] = ((waveform * gain).astype(waveform.dtype), metadata)


def impulsive(state: State) -> None:
    """Let P and S fade fast, until little but a few cycles of each are left, as of icequakes and of rock near by."""
    waveform, metadata = state["X"]
    rate, p, s = metadata[RATE_KEY], metadata[P_KEY], metadata.get(S_KEY, np.nan)
    fade, seconds = log_uniform(*FADES), np.arange(waveform.shape[-1]) / rate
    gain = np.exp(-np.clip(seconds - p / rate, 0, None) / fade)
    if not np.isnan(s):
        late = seconds - s / rate
        gain = np.maximum(gain, np.clip(1 + late / RISE, 0, 1) * np.exp(-np.clip(late, 0, None) / fade))
    state["X"] = ((waveform * gain).astype(waveform.dtype), metadata)


class RandomOnset(sbg.FixedWindow):
    """
    A window with the P onset at a random place, zeros where the record has no data; for some records in the coda.

    :param low: Earliest sample of the onset in the window, negative for windows that start after P; `high`, the latest
    :param coda: Share of the records whose window starts in the coda, up to 30 s after P, if it is still 15 dB above
        the noise of the record there
    """

    def __init__(self, low: int, high: int, windowlen: int = 3000, coda: float = 0.0) -> None:
        super().__init__(windowlen=windowlen, strategy="pad")
        self.low, self.high, self.coda = low, high, coda

    def __call__(self, state: State) -> None:
        start = self._in_the_coda(*state["X"]) if happens(self.coda) else None
        if start is None:
            start = state["X"][1][P_KEY] - np.random.uniform(self.low, self.high)
        super().__call__(state, p0=int(start))

    def _in_the_coda(self, waveform: Array, metadata: dict[str, Any]) -> float | None:
        rate, p, s = metadata[RATE_KEY], metadata[P_KEY], metadata.get(S_KEY, np.nan)
        start = p + np.random.uniform(max(-self.low, 0), 30 * rate)
        first, strong = waveform[:, int(start) :], waveform[:, max(int(p if np.isnan(s) else s), 0) :]
        samples = int(SIGNAL_SECONDS * rate)
        if first.shape[1] < samples or not strong[:, :samples].any():
            return None
        ratio = np.mean(first[:, :samples] ** 2) / np.mean(strong[:, :samples] ** 2)
        clear = metadata.get(SNR_KEY, np.inf) + 10 * np.log10(ratio + 1e-30) > 15
        return start if clear else None


@dataclass
class Stretch:
    """
    Resamples by a random factor, as if a record were of a larger or smaller earthquake, or of another source of noise:
    in the spectrum, without aliasing, and again in the band, which a stretched record leaves. Earthquakes should fade
    out at both ends. Records that are longer keep `shortest` samples.
    """

    low: float
    high: float
    shortest: int = 0

    def __call__(self, state: State) -> None:
        waveform, metadata = state["X"]
        before = next_fast_len(samples := waveform.shape[-1], real=True)
        factor = max(log_uniform(self.low, self.high), min(1.0, self.shortest / samples))
        after = next_fast_len(math.ceil(before * factor), real=True)
        spectrum, gain = rfft(waveform, before)[..., : after // 2 + 1], _band_gain()
        bins = np.arange(spectrum.shape[-1]) * (len(gain) - 1) / (after / 2)
        spectrum *= np.interp(bins, np.arange(len(gain)), gain) * after / before
        move_labels(metadata, after / before)
        state["X"] = (irfft(spectrum, after)[..., : samples * after // before].astype(waveform.dtype), metadata)


@cache
def _band_gain() -> NDArray[np.float64]:
    return np.abs(rfft(sosfiltfilt(_band_pass(SAMPLING_RATE), np.eye(1, 8192, 4096, dtype=np.float32)))[0])


def move_labels(metadata: dict[str, Any], ratio: float) -> None:
    """Move all samples of a record that its metadata name, by the ratio of the new sampling rate to the old."""
    for name in metadata:
        # STEAD's end of the coda is text: "[[2789.]]".
        if name.endswith("_sample") and not isinstance(metadata[name], str):
            metadata[name] = metadata[name] * ratio


def flip_polarity(state: State) -> None:
    state["X"] = (-state["X"][0], state["X"][1])


def reverse_time(state: State) -> None:
    """Reverse noise, but not earthquakes, in time, unless it is reversed for good."""
    waveform, metadata = state["X"]
    if not metadata.get(REVERSED_KEY, False):
        state["X"] = (waveform[:, ::-1].copy(), metadata)


def reverse_for_good(state: State) -> None:
    """Reverse a record in time, and mark it to stay so."""
    reverse_time(state)
    state["X"][1][REVERSED_KEY] = True


class Rotate(sbg.RotateHorizontalComponents):
    """Rotates the horizontal components by a random angle, unless one of the two is silent and would get the other."""

    def __call__(self, state: State) -> None:
        waveform, metadata = state["X"]
        order = metadata["trace_component_order"]
        if living(waveform)[[order.index(component) for component in self.components]].sum() != 1:
            super().__call__(state)


def second_noise(draw: Draw, state: State) -> None:
    """Add a second, weaker noise record to a noise record: two sources at once."""
    first, metadata = state["X"]
    other = draw()
    samples = min(first.shape[-1], other["X"].shape[-1])
    gain = np.random.uniform(0.1, 1) * first.std() / other["X"].std()
    state["X"] = (first[:, :samples] + gain * other["X"][:, :samples], metadata)
    add_name(state, other)


def glitches(state: State) -> None:
    """Add spikes or steps, in the model's band, to one or all components with motion, as faulty electronics do."""
    waveform, metadata = state["X"]
    peak, samples = np.abs(waveform).max(), waveform.shape[-1]
    fault = np.zeros(waveform.shape)
    for _ in range(np.random.randint(1, GLITCHES + 1)):
        components = slice(None) if happens(0.5) else np.random.randint(len(waveform))
        start = np.random.randint(samples)
        end = min(start + np.random.randint(1, 4), samples) if happens(0.5) else samples
        size = peak * log_uniform(*GLITCH_SIZE)
        fault[components, start:end] += np.random.choice([-1, 1]) * size
    filtered: State = {"X": (fault * living(waveform)[:, None], metadata)}
    in_band(filtered)
    state["X"] = ((waveform + filtered["X"][0]).astype(waveform.dtype), metadata)


@dataclass
class CoupleNoise:
    """
    Couples an earthquake window with a random noise window and writes both parts, "clean" and "noise".

    The noise is scaled either to an input SNR (ratio of mean powers, the earthquake's in the 10 s after P or after the
    start of the window) or, as published, to a random factor of the record's maximum. ValueError if it is too short.

    :param snr: Lowest and highest input SNR in dB
    :param factor: Lowest and highest published noise factor; replaces `snr`, `untouched` and `headroom`
    :param untouched: Share of examples that are nearly clean: the input SNR is 20 to 40 dB
    :param headroom: The input SNR stays so many dB below the record's own: the target's noise must not count
    """

    draw: Draw
    snr: tuple[float, float]
    factor: tuple[float, float] | None = None
    noise_only: float = 0.0
    untouched: float = 0.0
    headroom: float = 10.0

    def __call__(self, state: State) -> None:
        clean, metadata = state["X"]
        found, samples = self.draw(), clean.shape[-1]
        add_name(state, found)
        spare = found["X"].shape[-1] - samples
        if spare < 0:
            raise ValueError(f"Noise of {spare + samples} samples is too short: set a window of less than {samples}.")
        start = np.random.randint(spare + 1)
        noise: Array = found["X"][:, start : start + samples]
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


def narrow_band(state: State) -> None:
    """Remove low or high frequencies, or both, from both parts of a pair, as another instrument or digitizer does."""
    low, high = log_uniform(*HIGHPASS), log_uniform(*LOWPASS)
    kinds = ((low, "highpass"), (high, "lowpass"), ((low, high), "bandpass"))
    corners, kind = kinds[np.random.randint(len(kinds))]
    sos = butter(2, corners, kind, fs=SAMPLING_RATE, output="sos")
    for key in ("clean", "noise"):
        waveform, metadata = state[key]
        state[key] = (sosfiltfilt(sos, waveform).astype(waveform.dtype), metadata)


def drop_components(state: State) -> None:
    """Silence one or two components of both parts of a pair, as on stations that lack them."""
    components = len(state["clean"][0])
    dropped = np.random.permutation(components)[: np.random.randint(1, components)]
    for key in ("clean", "noise"):
        state[key][0][dropped] = 0
