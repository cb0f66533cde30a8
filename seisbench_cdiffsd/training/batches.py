"""From datasets to the batches of a training.

Each example has a seed of its own, made of the seed of the training, the update and its place in the batch. So a batch
is the same in a resumed training, with any number of workers, and in several processes that share it.
"""

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
from torch.utils.data import DataLoader, Dataset

from seisbench_cdiffsd.data import pairs
from seisbench_cdiffsd.data.augmentations import P_KEY, RATE_KEY, S_KEY
from seisbench_cdiffsd.data.datasets import earthquakes_of, noise_apart, noise_of, some, take_split
from seisbench_cdiffsd.data.settings import DatasetChoice
from seisbench_cdiffsd.data.stores import ORDER_KEY, InMemory, Joined, OnDisk, Store
from seisbench_cdiffsd.training.config import TrainingConfig

#: Dev records that are read for each earthquake of the validation, since many are not clean enough.
SPARE = 20

ChosenDataset = tuple[WaveformDataset, DatasetChoice]
#: Records of one kind and one split, the probability of each, and a line on each dataset.
Part = tuple[Joined, NDArray[np.float64], list[str]]


@dataclass(frozen=True)
class Data:
    """
    The data of a training.

    :param chances: Probability of each earthquake, of which the generator has one pair each
    :param fingerprint: Hash of the names, labels, probabilities and samples of all records
    :param report: What is used, and what is left out and why, a line for each dataset and split
    """

    pairs: sbg.GenericGenerator
    chances: NDArray[np.float64]
    validation: pairs.Mixtures
    fingerprint: str
    report: tuple[str, ...]


def load_data(events: Sequence[ChosenDataset], noise: Sequence[ChosenDataset], config: TrainingConfig) -> Data:
    """
    Read the records of a training: those of one split to train on, those of another to validate on. Datasets without
    the latter, such as simulated earthquakes, are only trained on, beside others that have it.

    :raises ValueError: If a dataset lacks what is needed
    """
    kinds, sets = (("earthquakes", events), ("noise", noise)), [dataset for dataset, _ in events]
    parts = [_part(kind, chosen, split, config, sets) for split in config.splits for kind, chosen in kinds]
    (clean, clean_chances, _), (loud, loud_chances, _), (held_clean, *_), (held_loud, held_chances, _) = parts
    generator = pairs.training_pairs(
        clean, loud, config.window, config.augmentations, loud_chances, config.snr, config.factor
    )
    count = config.validation_events
    validation = pairs.mixtures(held_clean, held_loud, count, windowlen=config.window, noise_chances=held_chances)
    report = tuple(line for *_, lines in parts for line in lines)
    return Data(generator, clean_chances, validation, _fingerprint(parts), report)


def _part(
    kind: str, chosen: Sequence[ChosenDataset], split: str, config: TrainingConfig, events: Sequence[WaveformDataset]
) -> Part:
    """Records of one kind, "earthquakes" or "noise", and one split; a few, held in memory, for the validation."""
    held, stores, report = split == config.splits[1], list[Store](), []
    if held:  # those with this split; all of them if none has it, for the error that says so
        chosen = [pair for pair in chosen if split in set(pair[0].metadata.get("split", ()))] or chosen
    least, mute = (pairs.CLEAN_SNR, False) if held else (config.min_snr, config.augmentations.mute)
    for dataset, choice in chosen:
        whole = take_split(dataset, split)
        if kind == "noise":
            why = "no noise, or with an earthquake of another split"
            steps = pairs.background(config.window, choice.reversed)
            taken = noise_apart(noise_of(whole, choice.category, choice.reversed), events, split)
        else:
            why, steps = "clipped or without a P label", pairs.target(least, mute)
            taken = earthquakes_of(whole, choice.category, config.augmentations.clipped)
        disk = OnDisk(taken, steps, config.damaged)
        left_out = Counter({why: len(whole) - len(taken)})
        large = not held and disk.gigabytes() > config.memory
        if large:
            stores.append(disk.ready())
        else:
            read = InMemory(some(taken, SPARE * config.validation_events if held else None), steps, config.damaged)
            left_out += read.left_out
            left_out["more than are needed"] = len(taken) - len(read) - read.left_out.total()
            stores.append(read)
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in left_out.items() if number)
        reversed_, on_disk = ", reversed" * choice.reversed, ", on disk, unusable ones being replaced" * large
        report.append(
            f"{kind}{reversed_}, {split}: {len(stores[-1]):,} of {len(whole):,} records of {whole.name}{on_disk}"
            + f"; left out: {reasons}" * bool(reasons)
        )
    source = {"earthquakes": "trace_source", "noise": "station_code"}[kind] if config.balance else None
    total = sum(choice.weight for _, choice in chosen)
    weights = [
        pairs.source_weights(store.metadata, source) * choice.weight / total
        for store, (_, choice) in zip(stores, chosen, strict=True)
    ]
    return Joined(stores), np.concatenate(weights), report


def _fingerprint(parts: Sequence[Part]) -> str:
    """A hash of all that makes the data, but of nothing computed that another machine rounds otherwise."""
    digest = hashlib.sha256()
    for records, chances, _ in parts:
        metadata = records.metadata
        digest.update("\n".join(metadata["trace_name"].astype(str) + metadata[ORDER_KEY].astype(str)).encode())
        numbers = metadata.reindex(columns=[P_KEY, S_KEY, RATE_KEY, "trace_npts"]).to_numpy(dtype=float).ravel()
        digest.update(" ".join(f"{number:.6g}" for number in (*numbers, *chances)).encode())
        digest.update(records.contents.encode())
    return digest.hexdigest()


class Examples(Dataset):
    """The examples of a training: item (step, i) is the i-th of the batch of update `step`."""

    def __init__(self, data: Data, config: TrainingConfig) -> None:
        self.pairs, self.config = data.pairs, config
        self.cumulative = data.chances.cumsum()

    def __getitem__(self, place: tuple[int, int]) -> dict[str, Any]:
        """
        Both parts (component, samples), levels of both terms of the loss, whether the second one is computed, and names
        of the traces; or an "error", for the main process to raise: raised in a worker, it would come with a traceback.
        """
        random = np.random.default_rng((self.config.seed, *place))
        index = pairs.place_of(self.cumulative, random.random())
        try:
            with pairs.seeded(int(random.integers(2**32))):
                pair = self.pairs[index]
            for part in ("clean", "noise"):
                if not np.isfinite(pair[part]).all():
                    names, step = pair["names"], place[0]
                    raise FloatingPointError(f"The {part} of {names} has NaN or infinite samples (step {step}).")
        except (ValueError, FloatingPointError) as error:
            return {"error": error}
        level = 1.0 if random.random() < self.config.top else random.uniform(0.05, 1)
        lower = level * random.uniform(0.05, 0.95)
        unfolded = place[1] < self.config.unfolded_count
        return {**pair, "level": np.float32(level), "lower": np.float32(lower), "unfolded": unfolded}


def places(
    config: TrainingConfig, start: int = 0, rank: int = 0, processes: int = 1
) -> Iterator[list[tuple[int, int]]]:
    """Which examples one process of several prepares, from update `start` on: every n-th of each update's batch."""
    for step in range(start, config.steps):
        for part in range(config.accumulate):
            # every n-th one, since the second term is of the first examples, and each part must have its share
            first = part * processes + rank
            yield [(step, i) for i in range(first, config.batch_size, processes * config.accumulate)]


def loader(data: Data, config: TrainingConfig, start: int = 0, rank: int = 0, processes: int = 1) -> DataLoader:
    """Batches for one process, see :py:func:`places`."""
    return DataLoader(
        Examples(data, config),
        batch_sampler=places(config, start, rank, processes),
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
