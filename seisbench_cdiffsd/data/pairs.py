"""Earthquakes coupled with recorded noise: SeisBench datasets in, training pairs and fixed mixtures out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import seisbench.generate as sbg
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt
from seisbench.data import WaveformDataset

from seisbench_cdiffsd.data import augmentations as aug
from seisbench_cdiffsd.data.augmentations import P_KEY, S_KEY, SNR_KEY, Array, State
from seisbench_cdiffsd.data.datasets import earthquakes_of, noise_of
from seisbench_cdiffsd.data.settings import Augmentations
from seisbench_cdiffsd.data.stores import InMemory, Store
from seisbench_cdiffsd.streams.filtering import BAND, SAMPLING_RATE

#: Input SNRs in dB of the fixed mixtures.
MIXTURE_SNRS = (-10.0, -5.0, 0.0, 5.0, 10.0)
#: Lowest SNR in dB of a record that counts as clean in validation.
CLEAN_SNR = 20.0
#: Smallest and largest factor by which noise is resampled.
NOISE_STRETCH = (0.6, 1.6)


class Band(sbg.Filter):
    """SeisBench's filter, designed only once: the design takes longer than filtering a record."""

    def _filter_trace(self, x: Array, sampling_rate: float) -> Array:
        order, corners, kind, _ = self._filt_args
        return sosfiltfilt(_design(order, tuple(corners), kind, float(sampling_rate)), x, axis=self.axis).copy()


@cache
def _design(order: int, corners: tuple[float, ...], kind: str, rate: float) -> NDArray[np.float64]:
    return butter(order, corners, kind, output="sos", fs=rate)


def band_pass(band: Mapping[str, Any] = BAND) -> sbg.Filter:
    """The zero-phase band of a model, its ``filter_kwargs``, as an augmentation."""
    return Band(band["corners"], [band["freqmin"], band["freqmax"]], "bandpass", forward_backward=True)


def load_earthquakes(dataset: WaveformDataset, band: sbg.Filter, min_snr: float, mute: bool) -> InMemory:
    """
    The earthquakes of a dataset that are good enough to be targets, see :py:func:`target`.

    :raises ValueError: If there are no P labels, or no record is good enough
    """
    return InMemory(earthquakes_of(dataset), **target(band, min_snr, mute))


def load_noise(dataset: WaveformDataset, band: sbg.Filter, windowlen: int = 3000) -> InMemory:
    """
    The noise of a dataset, see :py:func:`background`.

    :raises ValueError: If none is left
    """
    return InMemory(noise_of(dataset), **background(band, windowlen))


def target(band: sbg.Filter, min_snr: float, mute: bool) -> dict[str, Any]:
    """
    Arguments of :py:class:`~.stores.Reader` for earthquakes with a P label, which come out in band.

    :param min_snr: Lowest SNR of a record in dB, see :py:class:`~.augmentations.RecordSNR`
    :param mute: Whether to fade out the noise that the records hold before P
    """
    return {
        "augmentations": [*_condition(band), aug.RecordSNR(), *[aug.MuteBeforeOnset()] * mute],
        "keep": partial(_reaches, SNR_KEY, min_snr),
        "wanted": f"an SNR of at least {min_snr:g} dB",
        "shortest": int(SAMPLING_RATE),
    }


def background(band: sbg.Filter, windowlen: int, backwards: bool = False) -> dict[str, Any]:
    """
    Arguments of :py:class:`~.stores.Reader` for noise, which comes out in band. Records with a dead second are left
    out: scaled to an SNR, silence would be amplified.

    :param windowlen: Samples of a window at 100 Hz; shorter records are left out
    :param backwards: Whether the records are reversed in time, for good
    """
    return {
        "raw": [aug.Alive()],
        "augmentations": [*_condition(band), *[aug.ReverseTime(always=True)] * backwards],
        "keep": partial(_reaches, aug.ALIVE_KEY, True),
        "wanted": "motion in each second",
        "shortest": windowlen,
    }


def _reaches(name: str, least: float, metadata: dict[str, Any]) -> bool:
    return metadata[name] >= least


def _condition(band: sbg.Filter) -> list[Any]:
    return [sbg.Normalize(demean_axis=-1), band, sbg.Normalize(amp_norm_axis=(-2, -1), eps=1e-30)]


def training_pairs(
    earthquakes: Store,
    noise: Store,
    band: sbg.Filter,
    windowlen: int = 3000,
    settings: Augmentations | None = None,
    noise_chances: NDArray[np.float64] | None = None,
    **couple: Any,
) -> sbg.GenericGenerator:
    """
    Generator of random pairs, {"clean", "noise", "names"}: the parts (component, samples), and the names of the
    traces they are made of. Item i has earthquake i.

    :param earthquakes: Records that fade out at both ends
    :param noise: Noise records
    :param band: The band that both are in
    :param settings: How the records are varied
    :param noise_chances: Probability of each noise record; by default all are equally probable
    :param couple: See :py:class:`~seisbench_cdiffsd.data.augmentations.CoupleNoise`
    """
    on = settings or Augmentations()
    flip_and_rotate: list[Any] = [aug.FlipPolarity()] * on.flip + [aug.Rotate()] * on.rotate
    low, high = (int(SAMPLING_RATE * x) for x in on.onset)
    plain, noise_windows = sbg.GenericGenerator(noise), sbg.GenericGenerator(noise)
    others, pairs = sbg.GenericGenerator(earthquakes), sbg.GenericGenerator(earthquakes)
    others.add_augmentations([aug.NameTrace()])
    cumulative = None if noise_chances is None else noise_chances.cumsum()
    # each record is reversed before another is added to it, since some stay reversed
    plain.add_augmentations([aug.NameTrace(), *[aug.ReverseTime()] * on.reverse])
    noise_windows.add_augmentations(
        [
            aug.NameTrace(),
            *[aug.ReverseTime()] * on.reverse,
            aug.Stretch(band, *NOISE_STRETCH, probability=on.stretch_noise, shortest=windowlen),
            aug.SecondNoise(plain, on.mixed_noise, cumulative),
            *flip_and_rotate,
            aug.Glitches(band, on.glitches),
        ]
    )
    pairs.add_augmentations(
        [
            aug.NameTrace(),
            aug.Stretch(band, *on.stretch_range, probability=on.stretch),
            aug.Superpose(others, on.superpose),
            aug.RandomOnset(low, windowlen - high, windowlen, on.s_only, on.coda),
            *flip_and_rotate,
            aug.CoupleNoise(
                noise_windows, noise_only=on.noise_only, untouched=on.untouched, cumulative=cumulative, **couple
            ),
            aug.NarrowBand(on.narrow),
            aug.DropComponents(on.drop_components),
            sbg.FilterKeys(include=["clean", "noise", "names"]),
        ]
    )
    return pairs


def source_weights(metadata: pd.DataFrame, column: str | None) -> NDArray[np.float64]:
    """
    Probability of each record such that a source of N records is drawn in proportion to the square root of N: no
    well-recorded sequence dominates the earthquakes, and no station the noise.

    :param metadata: Metadata of the records
    :param column: Column that names the source; without one all records are equally probable
    """
    if column not in metadata:
        return np.full(len(metadata), 1 / len(metadata))
    weights = metadata.groupby(column, dropna=False)[column].transform("size").to_numpy(dtype=np.float64) ** -0.5
    return weights / weights.sum()


@dataclass(frozen=True)
class Mixtures:
    """
    Fixed mixtures, the same for every model: M mixtures of three components.

    :param clean: Earthquakes, (M, 3, samples), in band, with their own noise before P
    :param noise: Noise, scaled to the input SNR, in the same shape
    :param labels: One row per mixture: P and S sample in the window, input SNR in dB, metadata of the earthquake
    """

    clean: Array
    noise: Array
    labels: pd.DataFrame

    @property
    def noisy(self) -> Array:
        """The mixtures."""
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

    :param earthquakes: Clean records
    :param noise: Noise records
    :param limit: Largest number of earthquakes, chosen at random; by default all
    :param snrs: Input SNRs in dB (ratio of mean powers, the earthquake's in the 10 s from P on)
    :param seed: Seed of the choice of records, onsets and noise windows
    :param noise_chances: Probability of each noise record; by default all are equally probable
    """
    order = np.random.default_rng(seed).permutation(len(earthquakes))[:limit]
    noise_windows = sbg.GenericGenerator(noise)
    cumulative = None if noise_chances is None else noise_chances.cumsum()
    clean, noises, rows = [], [], []
    for index in order:
        for snr in snrs:
            couple = aug.CoupleNoise(
                noise_windows, (snr, snr), noise_only=0, untouched=0, headroom=-np.inf, cumulative=cumulative
            )
            state: State = {"X": earthquakes.get_sample(index)}
            with seeded(np.random.SeedSequence((seed, int(index))).generate_state(4)):
                aug.RandomOnset(min(400, windowlen * 2 // 15), min(1200, windowlen * 2 // 5), windowlen)(state)
                couple(state)
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
