"""From datasets to the batches of a training.

Each example has a seed of its own, made of the seed of the training, the update and its place in the batch. So a batch
is the same in a resumed training, with any number of workers, and in several processes that share it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
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
from seisbench_cdiffsd.data.settings import DatasetChoice
from seisbench_cdiffsd.data.splits import take_split
from seisbench_cdiffsd.data.stores import ORDER_KEY, InMemory, Joined, OnDisk, Reader, Store, shares
from seisbench_cdiffsd.training.config import TrainingConfig

#: Dev records that are read for each earthquake of the validation, since many are not clean enough.
SPARE = 20

#: A dataset with the chosen records, and the choice.
ChosenDataset = tuple[WaveformDataset, DatasetChoice]


@dataclass(frozen=True)
class Data:
    """
    The data of a training.

    :param pairs: Generator of pairs, one for each earthquake, see :py:func:`.pairs.training_pairs`
    :param chances: Probability of each earthquake
    :param validation: Fixed mixtures of the other split
    :param fingerprint: Hash of the names, labels, probabilities and samples of all records
    :param report: What is used, and what is left out and why, a line for each dataset and split
    """

    pairs: sbg.GenericGenerator
    chances: NDArray[np.float64]
    validation: pairs.Mixtures
    fingerprint: str
    report: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """Records of one kind and one split: their stores, joined, the probability of each, and a line on each dataset."""

    records: Store
    chances: NDArray[np.float64]
    report: tuple[str, ...]


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
    held_events, held_noise = (_with_split(chosen, dev) for chosen in (events, noise))
    clean = _earthquakes(events, train, config, pairs.target(band, config.min_snr, config.augmentations.mute))
    quiet = _noise(noise, events, train, config, band)
    held = SPARE * config.validation_events
    held_clean = _earthquakes(held_events, dev, config, pairs.target(band, pairs.CLEAN_SNR, mute=False), held)
    held_quiet = _noise(held_noise, events, dev, config, band, held)
    how: dict[str, Any] = {"settings": config.augmentations, "snr": config.snr, "factor": config.factor}
    generator = pairs.training_pairs(
        clean.records, quiet.records, band, config.window, noise_chances=quiet.chances, **how
    )
    validation = pairs.mixtures(
        held_clean.records,
        held_quiet.records,
        config.validation_events,
        windowlen=config.window,
        noise_chances=held_quiet.chances,
    )
    parts = clean, quiet, held_clean, held_quiet
    report = tuple(line for part in parts for line in part.report)
    return Data(generator, clean.chances, validation, _fingerprint(parts), report)


def _with_split(chosen: Sequence[ChosenDataset], split: str) -> Sequence[ChosenDataset]:
    """The datasets that have a split; all of them if none has, for the error that says so."""
    return [pair for pair in chosen if (pair[0].metadata.reindex(columns=["split"]) == split).any(axis=None)] or chosen


def _earthquakes(
    chosen: Sequence[ChosenDataset],
    split: str,
    config: TrainingConfig,
    options: dict[str, Any],
    count: int | None = None,
) -> Part:
    """Earthquakes of a split; with `count`, at most so many of each dataset are read."""
    stores, report = [], []
    for dataset, choice in chosen:
        whole = take_split(dataset, split)
        labelled = earthquakes_of(whole, choice.category, config.augmentations.clipped)
        stores.append(_store(some(labelled, count), options, config, count is not None))
        report.append(_line("earthquakes", split, whole, labelled, "clipped or without a P label", stores[-1]))
    column = "trace_source" if config.balance else None
    return Part(_joined(stores), _chances(stores, chosen, column), tuple(report))


def _noise(
    chosen: Sequence[ChosenDataset],
    events: Sequence[ChosenDataset],
    split: str,
    config: TrainingConfig,
    band: sbg.Filter,
    count: int | None = None,
) -> Part:
    """Noise of a split, likewise, apart from the earthquakes of other splits."""
    stores, report, earthquakes = [], [], [dataset for dataset, _ in events]
    for dataset, choice in chosen:
        whole = take_split(dataset, split)
        apart = noise_apart(noise_of(whole, choice.category, choice.reversed), earthquakes, split)
        options = pairs.background(band, config.window, choice.reversed)
        stores.append(_store(some(apart, count), options, config, count is not None))
        why, kind = (
            "no noise, or recorded with an earthquake of another split",
            "noise" + ", reversed" * choice.reversed,
        )
        report.append(_line(kind, split, whole, apart, why, stores[-1]))
    column = "station_code" if config.balance else None
    return Part(_joined(stores), _chances(stores, chosen, column), tuple(report))


def _store(dataset: WaveformDataset, options: dict[str, Any], config: TrainingConfig, held_out: bool) -> Store:
    """Records in memory, or on disk if they are too large and not held out."""
    reader = Reader(dataset, **options, damaged=config.damaged)
    if not held_out and reader.gigabytes() > config.memory:
        return OnDisk(reader)
    return InMemory(dataset, **options, damaged=config.damaged)


def _line(kind: str, split: str, whole: WaveformDataset, taken: WaveformDataset, why: str, store: Store) -> str:
    """How many records of a dataset are used, and why others are not."""
    left_out = Counter({why: len(whole) - len(taken)}) + store.left_out
    unread = len(taken) - len(store) - store.left_out.total()
    left_out["more than are needed"] = unread
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items() if count)
    place = " (on disk: unusable ones are replaced when they are met)" if isinstance(store, OnDisk) else ""
    return f"{kind}, {split}: {len(store):,} of {len(whole):,} records of {whole.name}{place}" + (
        f"; left out: {reasons}" if reasons else ""
    )


def _chances(stores: Sequence[Store], chosen: Sequence[ChosenDataset], column: str | None) -> NDArray[np.float64]:
    weights = [pairs.source_weights(store.metadata, column) for store in stores]
    return shares(weights, [choice.weight for _, choice in chosen])


def _joined(stores: Sequence[Store]) -> Store:
    return stores[0] if len(stores) == 1 else Joined(stores)


def _fingerprint(parts: Sequence[Part]) -> str:
    """A hash of all that makes the data, but of nothing computed that another machine rounds otherwise."""
    digest = hashlib.sha256()
    for part in parts:
        metadata = part.records.metadata
        digest.update("\n".join(metadata["trace_name"].astype(str) + metadata[ORDER_KEY].astype(str)).encode())
        labels = metadata.reindex(columns=[P_KEY, S_KEY]).to_numpy(dtype=float).ravel()
        digest.update(" ".join(f"{number:.3g}" for number in (*labels, *part.chances)).encode())
        digest.update(part.records.contents.encode())
    return digest.hexdigest()


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
        accumulate, size = self.config.accumulate, self.config.batch_size
        for step in range(self.start, self.config.steps):
            for part in range(accumulate):
                # every n-th one, since the second term is of the first examples, and each part must have its share
                first = part * self.processes + self.rank
                yield [(step, i) for i in range(first, size, self.processes * accumulate)]


def loader(data: Data, config: TrainingConfig, start: int = 0, rank: int = 0, processes: int = 1) -> DataLoader:
    """Batches for one process, prepared by as many workers as the settings say; see :py:class:`Places`."""
    return DataLoader(
        Examples(data, config),
        batch_sampler=Places(config, start, rank, processes),
        num_workers=config.workers,
        persistent_workers=config.workers > 0,
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


def whole_batch(data: Data, config: TrainingConfig, step: int) -> tuple[Tensor, Tensor]:
    """
    Earthquakes and noise of an update, (batch, component, samples), to train something else on.

    :raises ValueError: If a record is damaged, or too short
    :raises FloatingPointError: If it has NaN or infinite samples after the augmentations
    """
    examples = Examples(data, config)
    batch = collate([examples[step, i] for i in range(config.batch_size)])
    if "error" in batch:
        raise batch["error"]
    return batch["clean"], batch["noise"]
