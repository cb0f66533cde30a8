"""From datasets to the batches of a training.

Each example has a seed of its own, made of the seed of the training, the update and its place in the batch. So a batch
is the same in a resumed training, with any number of workers, and in several processes that share it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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
from seisbench_cdiffsd.data.augmentations import P_KEY, RATE_KEY, S_KEY, draw
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
    held = SPARE * config.validation_events
    clean = _earthquakes(events, train, config, pairs.target(band, config.min_snr, config.augmentations.mute))
    quiet = _noise(noise, events, train, config, band)
    held_clean = _earthquakes(_with(events, dev), dev, config, pairs.target(band, pairs.CLEAN_SNR, mute=False), held)
    held_quiet = _noise(_with(noise, dev), events, dev, config, band, held)
    generator = pairs.training_pairs(
        clean.records,
        quiet.records,
        band,
        config.window,
        config.augmentations,
        quiet.chances,
        snr=config.snr,
        factor=config.factor,
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


def _with(chosen: Sequence[ChosenDataset], split: str) -> Sequence[ChosenDataset]:
    """The datasets that have a split; all of them if none has, for the error that says so."""
    return [pair for pair in chosen if (pair[0].metadata.reindex(columns=["split"]) == split).any(axis=None)] or chosen


def _earthquakes(
    chosen: Sequence[ChosenDataset], split: str, config: TrainingConfig, how: dict[str, Any], count: int | None = None
) -> Part:
    def take(whole: WaveformDataset, choice: DatasetChoice) -> WaveformDataset:
        return earthquakes_of(whole, choice.category, config.augmentations.clipped)

    source = "trace_source" if config.balance else None
    return _part(
        "earthquakes", chosen, split, config, take, lambda _: how, "clipped or without a P label", source, count
    )


def _noise(
    chosen: Sequence[ChosenDataset],
    events: Sequence[ChosenDataset],
    split: str,
    config: TrainingConfig,
    band: sbg.Filter,
    count: int | None = None,
) -> Part:
    def take(whole: WaveformDataset, choice: DatasetChoice) -> WaveformDataset:
        earthquakes = [dataset for dataset, _ in events]
        return noise_apart(noise_of(whole, choice.category, choice.reversed), earthquakes, split)

    def how(choice: DatasetChoice) -> dict[str, Any]:
        return pairs.background(band, config.window, choice.reversed)

    why, source = "no noise, or with an earthquake of another split", "station_code" if config.balance else None
    return _part("noise", chosen, split, config, take, how, why, source, count)


def _part(
    kind: str,
    chosen: Sequence[ChosenDataset],
    split: str,
    config: TrainingConfig,
    take: Callable[[WaveformDataset, DatasetChoice], WaveformDataset],
    how: Callable[[DatasetChoice], dict[str, Any]],
    why: str,
    source: str | None,
    count: int | None,
) -> Part:
    """
    Records of one kind and one split.

    :param take: Takes records of this kind from a dataset
    :param how: Arguments of :py:class:`~.stores.Reader`
    :param why: Why others are not taken
    :param source: Column of the sources that are balanced
    :param count: Most records to read of each dataset, which are then held in memory; by default all
    """
    stores: list[Store] = []
    report = []
    for dataset, choice in chosen:
        whole = take_split(dataset, split)
        taken = take(whole, choice)
        reader = Reader(taken, **how(choice), damaged=config.damaged)
        large = count is None and reader.gigabytes() > config.memory
        read = InMemory(some(taken, count), **how(choice), damaged=config.damaged) if not large else OnDisk(reader)
        left_out = Counter({why: len(whole) - len(taken)}) + read.left_out
        left_out["more than are needed"] = len(taken) - len(read) - read.left_out.total()
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in left_out.items() if number)
        report.append(
            f"{kind}{', reversed' * choice.reversed}, {split}: {len(read):,} of {len(whole):,} records of {whole.name}"
            + ", on disk, where unusable ones are replaced when they are met" * large
            + f"; left out: {reasons}" * bool(reasons)
        )
        stores.append(read)
    weights = [pairs.source_weights(store.metadata, source) for store in stores]
    chances = shares(weights, [choice.weight for _, choice in chosen])
    return Part(stores[0] if len(stores) == 1 else Joined(stores), chances, tuple(report))


def _fingerprint(parts: Sequence[Part]) -> str:
    """A hash of all that makes the data, but of nothing computed that another machine rounds otherwise."""
    digest = hashlib.sha256()
    for part in parts:
        metadata = part.records.metadata
        digest.update("\n".join(metadata["trace_name"].astype(str) + metadata[ORDER_KEY].astype(str)).encode())
        numbers = metadata.reindex(columns=[P_KEY, S_KEY, RATE_KEY, "trace_npts"]).to_numpy(dtype=float).ravel()
        digest.update(" ".join(f"{number:.6g}" for number in (*numbers, *part.chances)).encode())
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
