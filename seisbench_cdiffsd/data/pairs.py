"""Earthquakes coupled with recorded noise: SeisBench datasets in, training pairs and fixed mixtures out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import seisbench.generate as sbg
from numpy.typing import NDArray

from seisbench_cdiffsd.data import augmentations as aug
from seisbench_cdiffsd.data.augmentations import P_KEY, S_KEY, SNR_KEY, Array, Sometimes, State
from seisbench_cdiffsd.data.settings import Augmentations
from seisbench_cdiffsd.data.stores import Steps, Store, at_least, resample, silence
from seisbench_cdiffsd.streams.filtering import SAMPLING_RATE

#: Input SNRs in dB of the fixed mixtures, and lowest SNR of a record that counts as clean in validation.
MIXTURE_SNRS, CLEAN_SNR = (-10.0, -5.0, 0.0, 5.0, 10.0), 20.0
#: Smallest and largest factor by which noise is resampled.
NOISE_STRETCH = (0.6, 1.6)


def target(min_snr: float, mute: bool) -> Steps:
    """Steps of a :py:class:`~.stores.OnDisk` for earthquakes of some SNR in dB, muted before P or not, in band."""
    return [*conditioned(int(SAMPLING_RATE)), aug.record_snr, partial(_clear, min_snr), *[aug.mute_before_onset] * mute]


def _clear(min_snr: float, state: State) -> None:
    if not state["X"][1][SNR_KEY] >= min_snr:
        raise aug.Unusable(f"without an SNR of at least {min_snr:g} dB")


def background(windowlen: int, backwards: bool = False) -> Steps:
    """Steps of a :py:class:`~.stores.OnDisk` for noise of some length, in band, maybe reversed in time for good."""
    return [aug.always_moving, *conditioned(windowlen), *[aug.reverse_for_good] * backwards]


def conditioned(shortest: int) -> Steps:
    """Steps to records of some length in band at 100 Hz with a peak of 1."""
    mean, peak = sbg.Normalize(demean_axis=-1), sbg.Normalize(amp_norm_axis=(-2, -1), eps=1e-30)
    return [silence, resample, partial(at_least, shortest), mean, aug.in_band, peak]


def training_pairs(
    earthquakes: Store,
    noise: Store,
    windowlen: int = 3000,
    settings: Augmentations | None = None,
    noise_chances: NDArray[np.float64] | None = None,
    snr: tuple[float, float] = (-15.0, 15.0),
    factor: tuple[float, float] | None = None,
) -> sbg.GenericGenerator:
    """
    Generator of random pairs, {"clean", "noise", "names"}: the parts (component, samples), and the names of the
    traces they are made of. Item i has earthquake i.

    :param noise_chances: Probability of each noise record; by default all are equally probable
    :param snr: Lowest and highest input SNR in dB
    :param factor: Published range of noise factors, instead of `snr`
    """
    on = settings or Augmentations()
    flip_and_rotate: list[Any] = [Sometimes(0.5, aug.flip_polarity)] * on.flip + [aug.Rotate()] * on.rotate
    low, high = (int(SAMPLING_RATE * x) for x in on.onset)
    # each record is reversed before another is added to it, since some stay reversed
    reverse = [Sometimes(0.5, aug.reverse_time)] * on.reverse
    second = drawing(noise, [aug.name_trace, *reverse], noise_chances)
    windows = [
        aug.name_trace,
        *reverse,
        Sometimes(on.stretch_noise, aug.Stretch(*NOISE_STRETCH, shortest=windowlen)),
        Sometimes(on.mixed_noise, partial(aug.second_noise, second)),
        *flip_and_rotate,
        Sometimes(on.glitches, aug.glitches),
    ]
    some_noise = drawing(noise, windows, noise_chances)
    pairs = [
        aug.name_trace,
        Sometimes(on.stretch, aug.Stretch(*on.stretch_range)),
        Sometimes(on.impulsive, aug.impulsive),
        aug.RandomOnset(low, windowlen - high, windowlen, on.coda),
        *flip_and_rotate,
        aug.CoupleNoise(some_noise, snr, factor, on.noise_only, on.untouched),
        Sometimes(on.narrow, aug.narrow_band),
        Sometimes(on.drop_components, aug.drop_components),
        sbg.FilterKeys(include=["clean", "noise", "names"]),
    ]
    return _generator(earthquakes, pairs)


def _generator(records: Store, augmentations: list[Any]) -> sbg.GenericGenerator:
    generator = sbg.GenericGenerator(records)
    generator.add_augmentations(augmentations)
    return generator


def drawing(records: Store, augmentations: list[Any], chances: NDArray[np.float64] | None = None) -> aug.Draw:
    return partial(_draw, _generator(records, augmentations), None if chances is None else chances.cumsum())


def _draw(records: sbg.GenericGenerator, cumulative: NDArray[np.float64] | None) -> dict[str, Any]:
    return records[np.random.randint(len(records)) if cumulative is None else place_of(cumulative, np.random.rand())]


def place_of(cumulative: NDArray[np.float64], u: float) -> int:
    """Number of the record, by cumulative probabilities, that a random number in [0, 1) stands for."""
    return min(int(np.searchsorted(cumulative, u, side="right")), len(cumulative) - 1)


def source_weights(metadata: pd.DataFrame, column: str | None) -> NDArray[np.float64]:
    """
    Probability of each record such that a source of N records, named in a column, is drawn in proportion to the square
    root of N: no well-recorded sequence dominates the earthquakes, and no station the noise. Without one all are equal.
    """
    if column not in metadata:
        return np.full(len(metadata), 1 / len(metadata))
    weights = metadata.groupby(column, dropna=False)[column].transform("size").to_numpy(dtype=np.float64) ** -0.5
    return weights / weights.sum()


@dataclass(frozen=True)
class Mixtures:
    """
    Fixed mixtures, the same for every model: earthquakes in band, with their own noise before P, and scaled noise, both
    (mixture, 3, samples), and a row of labels for each: P and S sample, input SNR in dB, metadata of the earthquake.
    """

    clean: Array
    noise: Array
    labels: pd.DataFrame

    @property
    def noisy(self) -> Array:
        return self.clean + self.noise


def mixtures(
    earthquakes: Store,
    noise: Store,
    limit: int | None = None,
    snrs: tuple[float, ...] = MIXTURE_SNRS,
    windowlen: int = 3000,
    seed: int = 0,
    noise_chances: NDArray[np.float64] | None = None,
) -> Mixtures:
    """
    Couple each earthquake with one noise window at several input SNRs, always the same for one seed.

    The P onset lies 4 to 12 s into a window of 30 s, so that most S onsets are in the window as well, and at the same
    share of shorter windows.

    :param limit: Largest number of earthquakes, chosen at random; by default all
    :param snrs: Input SNRs in dB (ratio of mean powers, the earthquake's in the 10 s from P on)
    """
    some_noise = drawing(noise, [], noise_chances)
    clean, noises, rows = [], [], []
    for index in np.random.default_rng(seed).permutation(len(earthquakes))[:limit]:
        for snr in snrs:
            state: State = {"X": earthquakes.get_sample(index)}
            with seeded(np.random.SeedSequence((seed, int(index))).generate_state(4)):
                aug.RandomOnset(min(400, windowlen * 2 // 15), min(1200, windowlen * 2 // 5), windowlen)(state)
                aug.CoupleNoise(some_noise, (snr, snr), headroom=-np.inf)(state)
            metadata = state["X"][1]
            clean.append(state["clean"][0])
            noises.append(state["noise"][0])
            p, s = metadata[P_KEY], metadata.get(S_KEY, np.nan)
            rows.append({**metadata, "p_sample": p, "s_sample": s if s < windowlen else np.nan, "input_snr_db": snr})
    return Mixtures(np.stack(clean), np.stack(noises), pd.DataFrame(rows))


@contextmanager
def seeded(seed: int | NDArray[Any]) -> Iterator[None]:
    """Seed numpy's global generator for a while; its state is restored afterwards."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
