"""Earthquakes coupled with recorded noise: SeisBench datasets in, training pairs and fixed mixtures out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import seisbench.generate as sbg
from numpy.typing import NDArray
from seisbench.data import WaveformDataset
from tqdm.auto import tqdm

from seisbench_cdiffsd import augmentations as aug
from seisbench_cdiffsd.augmentations import P_KEY, S_KEY, SNR_KEY, Array, State

#: What the models work with; SeisBench brings other rates (Hz) to this one.
COMPONENTS, SAMPLING_RATE = "ZNE", 100.0
#: Input SNRs in dB of the fixed mixtures.
MIXTURE_SNRS = (-10.0, -5.0, 0.0, 5.0, 10.0)


class InMemory:
    """
    The samples of a dataset after some augmentations, computed once and held in memory: what a generator reads from.

    :param dataset: SeisBench dataset
    :param augmentations: Augmentations that give the same result every time, such as the band-pass
    :param keep: Whether to keep a sample, judged by its metadata after the augmentations
    :param wanted: What `keep` looks for, in words
    :raises ValueError: If nothing is kept, or the components are not ZNE
    """

    def __init__(
        self,
        dataset: WaveformDataset,
        augmentations: list[Callable[[State], None]],
        keep: Callable[[dict[str, Any]], bool] = lambda metadata: True,
        wanted: str = "finite samples that are not all zero",
    ) -> None:
        self.samples: list[tuple[Array, dict[str, Any]]] = []
        if "".join(dataset.component_order) != COMPONENTS:
            raise ValueError(f"Open dataset {dataset.name} with component_order={COMPONENTS!r}.")
        for index in tqdm(range(len(dataset)), desc=f"Loading {dataset.name}", leave=False, disable=None):
            state: State = {"X": dataset.get_sample(index, sampling_rate=SAMPLING_RATE)}
            if not np.isfinite(state["X"][0]).all():
                continue
            for augmentation in augmentations:
                augmentation(state)
            waveform, metadata = state["X"]
            if waveform.any() and keep(metadata):
                self.samples.append((np.ascontiguousarray(waveform, dtype=np.float32), metadata))
        if not self.samples:
            raise ValueError(f"No usable record among the {len(dataset)} of dataset {dataset.name}. Wanted: {wanted}.")
        self.metadata = pd.DataFrame([metadata for _, metadata in self.samples])

    def __len__(self) -> int:
        return len(self.samples)

    def get_sample(self, index: int) -> tuple[Array, dict[str, Any]]:
        """A waveform (component, samples) and its metadata, both free to be changed."""
        waveform, metadata = self.samples[index]
        return waveform.copy(), metadata.copy()


def band_pass(freqmin: float = 1.0, freqmax: float = 45.0, corners: int = 4) -> sbg.Filter:
    """The zero-phase band of the model as an augmentation; frequencies in Hz."""
    return sbg.Filter(corners, [freqmin, freqmax], "bandpass", forward_backward=True)


def load_earthquakes(dataset: WaveformDataset, band: sbg.Filter, min_snr: float, mute: bool) -> InMemory:
    """
    Earthquake records with a P label, in band, that are good enough to be targets.

    :param dataset: SeisBench dataset with P labels; records marked as clipped are left out
    :param band: The band, see :py:func:`band_pass`
    :param min_snr: Lowest SNR of a record in dB, see :py:class:`~seisbench_cdiffsd.augmentations.RecordSNR`
    :param mute: Whether to fade out the noise that the records hold before P
    :raises ValueError: If there are no P labels, or no record is good enough
    """
    labelled = dataset.metadata[P_KEY].notna() if P_KEY in dataset.metadata else np.zeros(len(dataset), bool)
    if "trace_clipped" in dataset.metadata:
        labelled = labelled & ~dataset.metadata["trace_clipped"].fillna(False).astype(bool)
    if not labelled.any():
        raise ValueError(f"Dataset {dataset.name} has no P labels in {P_KEY}: earthquakes need them.")
    steps: list[Callable[[State], None]] = [*_condition(band), aug.RecordSNR()]
    if mute:
        steps.append(aug.MuteBeforeOnset())
    chosen, wanted = dataset.filter(labelled, inplace=False), f"an SNR of at least {min_snr:g} dB"
    return InMemory(chosen, steps, lambda metadata: metadata[SNR_KEY] >= min_snr, wanted)


def load_noise(dataset: WaveformDataset, band: sbg.Filter) -> InMemory:
    """
    Noise records, in band. Those with dead stretches are left out: scaled to an SNR, silence would be amplified.

    :raises ValueError: If none is left
    """
    return InMemory(
        dataset, [aug.Alive(), *_condition(band)], lambda metadata: metadata[aug.ALIVE_KEY], "motion in each second"
    )


def _condition(band: sbg.Filter) -> list[Callable[[State], None]]:
    return [sbg.Normalize(demean_axis=-1), band, sbg.Normalize(amp_norm_axis=(-2, -1), eps=1e-30)]


def training_pairs(
    earthquakes: InMemory,
    noise: InMemory,
    band: sbg.Filter,
    windowlen: int = 3000,
    stretch: float = 0.5,
    second_noise: float = 0.3,
    drop_components: float = 0.1,
    **couple: Any,
) -> sbg.GenericGenerator:
    """
    Generator of random pairs, {"clean", "noise"} of (component, samples) each; item i has earthquake i.

    The P onset lies anywhere from 6 s before the window to 3 s before its end.

    :param earthquakes: Records that fade out at both ends, see :py:func:`load_earthquakes`
    :param noise: Noise records
    :param band: The band that both are in
    :param windowlen: Samples of a window
    :param stretch: Share of stretched earthquakes
    :param second_noise: Share of noise windows with a second noise
    :param drop_components: Share of pairs with missing components
    :param couple: See :py:class:`~seisbench_cdiffsd.augmentations.CoupleNoise`
    """
    plain, noise_windows = sbg.GenericGenerator(noise), sbg.GenericGenerator(noise)
    turn = [aug.FlipPolarity(), sbg.RotateHorizontalComponents()]
    noise_windows.add_augmentations([aug.SecondNoise(plain, second_noise), aug.ReverseTime(), *turn])
    pairs = sbg.GenericGenerator(earthquakes)
    pairs.add_augmentations(
        [
            aug.Stretch(band, probability=stretch),
            aug.RandomOnset(-600, windowlen - 300, windowlen),
            *turn,
            aug.CoupleNoise(noise_windows, **couple),
            aug.DropComponents(drop_components),
            sbg.FilterKeys(include=["clean", "noise"]),
        ]
    )
    return pairs


def source_weights(metadata: pd.DataFrame, column: str = "trace_source") -> NDArray[np.float64]:
    """
    Probability of each record such that a source of N records is drawn in proportion to the root of N: no sequence that
    happens to be well recorded decides what an earthquake looks like.

    :param metadata: Metadata of the records
    :param column: Column that names the source; without it all records are alike
    """
    if column not in metadata:
        return np.full(len(metadata), 1 / len(metadata))
    weights = metadata.groupby(column)[column].transform("size").to_numpy(dtype=np.float64) ** -0.5
    return weights / weights.sum()


@dataclass(frozen=True)
class Mixtures:
    """
    Fixed mixtures, the same for every model: M mixtures of three components.

    :param clean: Earthquakes, (M, 3, samples), in band, with their own noise before P
    :param noise: Noise, scaled to the input SNR, in the same shape
    :param labels: One row a mixture: P and S sample in the window, input SNR in dB, metadata of the earthquake
    """

    clean: Array
    noise: Array
    labels: pd.DataFrame

    @property
    def noisy(self) -> Array:
        """The mixtures."""
        return self.clean + self.noise


def mixtures(
    earthquakes: InMemory,
    noise: InMemory,
    limit: int | None = None,
    snrs: tuple[float, ...] = MIXTURE_SNRS,
    windowlen: int = 3000,
    seed: int = 0,
) -> Mixtures:
    """
    Couple each earthquake with one noise window at several input SNRs, always alike for one seed.

    The P onset lies 4 to 12 s into the window of 30 s, so that most S onsets are in the window as well.

    :param earthquakes: Clean records, see :py:func:`load_earthquakes`; at most `limit` of them, at random
    :param noise: Noise records
    :param snrs: Input SNRs in dB (ratio of mean powers, the earthquake's in the 10 s from P on)
    :param windowlen: Samples of a window
    :param seed: Seed of the choice of records, onsets and noise windows
    """
    order = np.random.default_rng(seed).permutation(len(earthquakes))[:limit]
    noise_windows = sbg.GenericGenerator(noise)
    clean, noises, rows = [], [], []
    for index in order:
        for snr in snrs:
            couple = aug.CoupleNoise(noise_windows, (snr, snr), noise_only=0, untouched=0, headroom=-np.inf)
            state: State = {"X": earthquakes.get_sample(index)}
            with seeded(seed + int(index)):
                aug.RandomOnset(400, 1200, windowlen)(state)
                couple(state)
            metadata = state["X"][1]
            clean.append(state["clean"][0])
            noises.append(state["noise"][0])
            p, s = metadata[P_KEY], metadata.get(S_KEY, np.nan)
            rows.append({**metadata, "p_sample": p, "s_sample": s if s < windowlen else np.nan, "input_snr_db": snr})
    return Mixtures(np.stack(clean), np.stack(noises), pd.DataFrame(rows))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Numpy's global generator, seeded for a while and then put back as it was."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
