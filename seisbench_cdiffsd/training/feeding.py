"""From datasets to the batches of a training.

Each example has a seed of its own, made of the seed of the training, the update and its place in the batch. So a batch
is the same in a resumed training, with any number of workers, and in several processes that share it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import seisbench.generate as sbg
import torch
from numpy.typing import NDArray
from seisbench.data import WaveformDataset
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from seisbench_cdiffsd.data import pairs
from seisbench_cdiffsd.data.augmentations import P_KEY, S_KEY, draw
from seisbench_cdiffsd.data.datasets import earthquakes_of, noise_apart, noise_of, some
from seisbench_cdiffsd.data.splits import take_split
from seisbench_cdiffsd.data.stores import InMemory, Joined, OnDisk, Reader, Store, shares
from seisbench_cdiffsd.training.config import DatasetChoice, TrainingConfig

#: Dev records that are read for each earthquake of the validation, since many are not clean enough.
SPARE = 20
#: Lowest SNR in dB of a record that counts as clean in validation.
CLEAN_SNR = 20.0

#: A dataset with the chosen records, and the choice.
ChosenDataset = tuple[WaveformDataset, DatasetChoice]


@dataclass(frozen=True)
class Data:
    """
    The data of a training.

    :param pairs: Generator of pairs, one for each earthquake, see :py:func:`.pairs.training_pairs`
    :param chances: Probability of each earthquake
    :param validation: Fixed mixtures of the other split
    :param fingerprint: Hash of the names of all traces
    :param contents: Hash of their labels and probabilities, and of the samples of some
    """

    pairs: sbg.GenericGenerator
    chances: NDArray[np.float64]
    validation: pairs.Mixtures
    fingerprint: str
    contents: str = ""


def load_data(
    events: Sequence[ChosenDataset], noise: Sequence[ChosenDataset], config: TrainingConfig, band: sbg.Filter
) -> Data:
    """
    Read the records of a training: those of one split to train on, those of another to validate on. Datasets without
    the latter, such as simulated earthquakes, are only trained on, beside others that have it.

    :param events: Datasets with earthquakes
    :param noise: Datasets with noise, which may be the same ones
    :param config: Settings
    :param band: The band of the model
    :raises ValueError: If a dataset lacks what is needed
    """
    train, dev = config.splits
    settings, background = config.augmentations, pairs.background(band, config.window)
    target = pairs.target(band, config.min_snr, settings.mute)
    held_target = pairs.target(band, CLEAN_SNR, mute=False)
    held_events, held_noise = (_with_split(chosen, dev) for chosen in (events, noise))
    train_events = _earthquakes(events, train, settings.clipped)
    dev_events = _earthquakes(held_events, dev, settings.clipped)
    train_noise, dev_noise = _noise(noise, events, train), _noise(held_noise, events, dev)
    clean = [_store(dataset, target, config) for dataset in train_events]
    quiet = [_store(dataset, background, config) for dataset in train_noise]
    held_clean = _held_out(dev_events, held_target, config)
    held_quiet = _held_out(dev_noise, background, config)
    by_station = "station_code" if config.balance else None
    chances = _chances(clean, events, "trace_source" if config.balance else None)
    noise_chances = _chances(quiet, noise, by_station)
    held_chances = _chances(held_quiet, held_noise, by_station)
    generator = pairs.training_pairs(
        _joined(clean),
        _joined(quiet),
        band,
        config.window,
        settings,
        noise_chances,
        snr=config.snr,
        factor=config.factor,
    )
    validation = pairs.mixtures(
        _joined(held_clean),
        _joined(held_quiet),
        config.validation_events,
        windowlen=config.window,
        noise_chances=held_chances,
    )
    stores = (*clean, *quiet, *held_clean, *held_quiet)
    names = [name for store in stores for name in store.metadata["trace_name"].astype(str)]
    fingerprint = hashlib.sha256("\n".join(names).encode()).hexdigest()
    datasets = (*train_events, *train_noise, *dev_events, *dev_noise)
    every = (chances, noise_chances, held_chances)
    return Data(generator, chances, validation, fingerprint, _contents(stores, every, datasets))


def _contents(
    stores: Sequence[Store], chances: Sequence[NDArray[np.float64]], datasets: Sequence[WaveformDataset]
) -> str:
    """A hash of what has the same name in other data; of nothing computed that another machine rounds otherwise."""
    digest = hashlib.sha256()
    labels = [store.metadata.reindex(columns=[P_KEY, S_KEY]).to_numpy(dtype=float).ravel() for store in stores]
    for numbers in (*labels, *chances):
        digest.update(" ".join(f"{number:.3g}" for number in numbers).encode())
    for dataset in datasets:
        for waveform in Reader(dataset, []).probes():
            digest.update(waveform.astype("<f4").tobytes())
    return digest.hexdigest()


def _with_split(chosen: Sequence[ChosenDataset], split: str) -> Sequence[ChosenDataset]:
    """The datasets that have a split; all of them if none has, for the error that says so."""
    return [pair for pair in chosen if (pair[0].metadata.reindex(columns=["split"]) == split).any(axis=None)] or chosen


def _earthquakes(chosen: Sequence[ChosenDataset], split: str, clipped: bool) -> list[WaveformDataset]:
    return [earthquakes_of(take_split(dataset, split), choice.category, clipped) for dataset, choice in chosen]


def _noise(chosen: Sequence[ChosenDataset], events: Sequence[ChosenDataset], split: str) -> list[WaveformDataset]:
    earthquakes = [dataset for dataset, _ in events]
    return [
        noise_apart(noise_of(take_split(dataset, split), choice.category), earthquakes, split)
        for dataset, choice in chosen
    ]


def _held_out(datasets: Sequence[WaveformDataset], options: dict[str, Any], config: TrainingConfig) -> list[Store]:
    """Records to validate on, in memory."""
    count = SPARE * config.validation_events
    return [InMemory(some(dataset, count), **options, damaged=config.damaged) for dataset in datasets]


def _store(dataset: WaveformDataset, options: dict[str, Any], config: TrainingConfig) -> Store:
    reader = Reader(dataset, **options, damaged=config.damaged)
    if reader.gigabytes() > config.memory:
        return OnDisk(reader)
    return InMemory(dataset, **options, damaged=config.damaged)


def _chances(stores: Sequence[Store], chosen: Sequence[ChosenDataset], column: str | None) -> NDArray[np.float64]:
    weights = [pairs.source_weights(store.metadata, column) for store in stores]
    return shares(weights, [choice.weight for _, choice in chosen])


def _joined(stores: Sequence[Store]) -> Store:
    return stores[0] if len(stores) == 1 else Joined(stores)


class Examples(Dataset):
    """
    The examples of a training: item (step, i) is the i-th of the batch of update `step`.

    :param data: Pairs and their probabilities
    :param config: Settings
    """

    def __init__(self, data: Data, config: TrainingConfig) -> None:
        self.pairs, self.config = data.pairs, config
        self.cumulative = data.chances.cumsum()

    def __getitem__(self, place: tuple[int, int]) -> dict[str, Any]:
        """
        Parts "clean" and "noise" (component, samples), levels of both terms of the loss, whether the second one is
        computed, and names of the traces; or an "error", for the main process to raise: raised in a worker, it would
        come with a traceback.
        """
        random = np.random.default_rng((self.config.seed, *place))
        index = draw(self.cumulative, random.random())
        try:
            with pairs.seeded(int(random.integers(2**32))):
                pair = self.pairs[index]
        except ValueError as error:
            return {"error": error}
        level = 1.0 if random.random() < self.config.top else random.uniform(0.05, 1)
        lower = level * random.uniform(0.05, 0.95)
        for part in ("clean", "noise"):
            if not np.isfinite(pair[part]).all():
                message = f"The {part} of {pair['names']} has NaN or infinite samples (step {place[0]})."
                return {"error": FloatingPointError(message)}
        unfolded = place[1] < self.config.unfolded_count
        return {**pair, "level": np.float32(level), "lower": np.float32(lower), "unfolded": unfolded}


class Places(Sampler):
    """
    Which examples one process prepares, batch by batch: every n-th of each update's batch, with n processes or parts.

    :param config: Settings
    :param start: First update
    :param rank: Number of the process
    :param processes: Number of processes
    """

    def __init__(self, config: TrainingConfig, start: int = 0, rank: int = 0, processes: int = 1) -> None:
        self.config, self.start, self.rank, self.processes = config, start, rank, processes

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        accumulate, size = self.config.machine.accumulate, self.config.batch_size
        for step in range(self.start, self.config.steps):
            for part in range(accumulate):
                # every n-th one, since the second term is of the first examples, and each part must have its share
                first = part * self.processes + self.rank
                yield [(step, i) for i in range(first, size, self.processes * accumulate)]


def loader(data: Data, config: TrainingConfig, start: int = 0, rank: int = 0, processes: int = 1) -> DataLoader:
    """Batches for one process, prepared by as many workers as the settings say; see :py:class:`Places`."""
    workers = config.machine.workers
    return DataLoader(
        Examples(data, config),
        batch_sampler=Places(config, start, rank, processes),
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
    )


def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch: tensors (batch, ...), names, and how many examples have the second term; or the first error."""
    for example in examples:
        if "error" in example:
            return example
    batch: dict[str, Any] = {"names": [example["names"] for example in examples]}
    batch["unfolded"] = sum(example["unfolded"] for example in examples)
    for key in ("clean", "noise", "level", "lower"):
        batch[key] = torch.from_numpy(np.stack([example[key] for example in examples]))
    return batch


def checked(batch: dict[str, Any]) -> dict[str, Any]:
    """
    The batch, unless it has an error.

    :raises ValueError: If a record is damaged, or too short
    :raises FloatingPointError: If it has NaN or infinite samples after the augmentations
    """
    if "error" in batch:
        raise batch["error"]
    return batch


def whole_batch(data: Data, config: TrainingConfig, step: int) -> tuple[Tensor, Tensor]:
    """Earthquakes and noise of an update, (batch, component, samples), to train something else on."""
    examples = Examples(data, config)
    batch = checked(collate([examples[step, i] for i in range(config.batch_size)]))
    return batch["clean"], batch["noise"]
