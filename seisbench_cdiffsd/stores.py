"""Where the samples of a dataset come from: memory, computed once, or the disk, read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from seisbench.data import WaveformDataset
from tqdm.auto import tqdm

from seisbench_cdiffsd.augmentations import RATE_KEY, Array, State
from seisbench_cdiffsd.filtering import SAMPLING_RATE

#: Components that the models work with.
COMPONENTS = "ZNE"
#: Records that are tried to find a usable one, and records that are read to estimate the size of a dataset.
TRIALS, PROBES = 100, 8

Sample = tuple[Array, dict[str, Any]]


class Damaged(ValueError):
    """A record with NaN or infinite samples."""


class Store(Protocol):
    """Samples, as a SeisBench generator takes them, and their metadata."""

    metadata: pd.DataFrame

    def __len__(self) -> int: ...

    def get_sample(self, index: int) -> Sample: ...


class Reader:
    """
    Reads the records of a dataset, one at a time, through some augmentations.

    :param dataset: SeisBench dataset
    :param augmentations: Augmentations that give the same result every time, such as the band-pass
    :param keep: Whether a record is usable, by its metadata after the augmentations
    :param wanted: What `keep` requires, in words
    :param damaged: "skip" records with NaN or infinite samples, or "stop"
    :param shortest: Fewest samples of a usable record
    :raises ValueError: If the components are not ZNE
    """

    def __init__(
        self,
        dataset: WaveformDataset,
        augmentations: Sequence[Callable[[State], None]],
        keep: Callable[[dict[str, Any]], bool] = lambda metadata: True,
        wanted: str = "finite samples that are not all zero",
        damaged: str = "skip",
        shortest: int = 0,
    ) -> None:
        if "".join(dataset.component_order) != COMPONENTS:
            raise ValueError(f"Open dataset {dataset.name} with component_order={COMPONENTS!r}.")
        self.dataset, self.augmentations = _lettered(dataset), augmentations
        self.keep, self.wanted, self.damaged, self.shortest = keep, wanted, damaged, shortest

    def read(self, index: int) -> Sample | None:
        """
        A record, or None if it is not usable.

        :raises Damaged: If it has NaN or infinite samples, unless these are skipped
        :raises ValueError: If it cannot be read, as its waveform is missing or its metadata are wrong
        """
        with self._naming(index):
            return self._read(index)

    def _read(self, index: int) -> Sample | None:
        state: State = {"X": self.dataset.get_sample(index, sampling_rate=SAMPLING_RATE)}
        if not np.isfinite(state["X"][0]).all():
            if self.damaged == "stop":
                name = state["X"][1]["trace_name"]
                raise Damaged(f"Trace {name} of dataset {self.dataset.name} has NaN or infinite samples.")
            return None
        # The dataset returns this order, whatever its files have; SeisBench's rotation reads the metadata.
        state["X"][1]["trace_component_order"] = COMPONENTS
        for augmentation in self.augmentations:
            augmentation(state)
        waveform, metadata = state["X"]
        if not (waveform.shape[-1] >= self.shortest and waveform.any() and self.keep(metadata)):
            return None
        return np.ascontiguousarray(waveform, dtype=np.float32), metadata

    def none_usable(self, tried: int) -> ValueError:
        """The error if none of so many records is usable."""
        return ValueError(f"No usable record among the {tried} of dataset {self.dataset.name}. Wanted: {self.wanted}.")

    def gigabytes(self) -> float:
        """Memory that all records take, estimated from a few of them."""
        probes = np.unique(np.linspace(0, len(self.dataset) - 1, PROBES).astype(int))
        sizes = []
        for probe in probes:
            with self._naming(probe):
                sizes.append(self.dataset.get_sample(probe, sampling_rate=SAMPLING_RATE)[0].size)
        return 4e-9 * float(np.mean(sizes)) * len(self.dataset)

    @contextmanager
    def _naming(self, index: int) -> Iterator[None]:
        """Turn whatever SeisBench, h5py and numpy raise about a record into one line that names it."""
        try:
            yield
        except (Damaged, MemoryError):
            raise
        except Exception as error:
            row = self.dataset.metadata.iloc[index]
            rate = row.get(RATE_KEY)
            if rate is None or not 0 < rate < np.inf:
                reason = f"its {RATE_KEY} is {rate}"
            elif isinstance(error, KeyError):
                reason = f"its waveform, or a column of its metadata, is missing ({error.args[0]})"
            else:
                reason = str(error) or type(error).__name__
            raise ValueError(
                f"Trace {row.get('trace_name', index)} of dataset {self.dataset.name} cannot be read: "
                f"{' '.join(reason.split()).rstrip('.')}. Fix it, or remove its row from the metadata."
            ) from error


def _lettered(dataset: WaveformDataset) -> WaveformDataset:
    """A dataset whose components 1 and 2 are called N and E, as in ``annotate``, in records without an N or E."""
    renamed = orders = dataset.metadata["trace_component_order"].astype(str)
    for number, letter in ("1N", "2E"):
        renamed = renamed.where(renamed.str.contains(letter), renamed.str.replace(number, letter))
    if renamed.equals(orders):
        return dataset
    dataset = dataset.filter(np.ones(len(dataset), dtype=bool), inplace=False)
    dataset.metadata["trace_component_order"] = renamed
    dataset.component_order = COMPONENTS  # makes SeisBench look up anew where each component is in the files
    return dataset


class InMemory:
    """
    The usable records of a dataset, read once and held in memory.

    :param dataset: SeisBench dataset
    :param options: See :py:class:`Reader`
    :raises ValueError: If no record is usable
    """

    def __init__(self, dataset: WaveformDataset, *options: Any, **named: Any) -> None:
        reader = Reader(dataset, *options, **named)
        numbers = tqdm(range(len(dataset)), desc=f"Loading {dataset.name}", leave=False, disable=None)
        self.samples = [sample for sample in map(reader.read, numbers) if sample is not None]
        if not self.samples:
            raise reader.none_usable(len(dataset))
        self.metadata = pd.DataFrame([metadata for _, metadata in self.samples])

    def __len__(self) -> int:
        return len(self.samples)

    def get_sample(self, index: int) -> Sample:
        """A waveform (component, samples) and its metadata, both of them copies."""
        waveform, metadata = self.samples[index]
        return waveform.copy(), metadata.copy()


class OnDisk:
    """
    All records of a dataset, read when they are needed. An unusable one is replaced by another, always the same one.

    :param reader: Reads a record
    :raises ValueError: If none of the records that were tried is usable
    """

    def __init__(self, reader: Reader) -> None:
        self.reader, self.metadata = reader, reader.dataset.metadata
        self.get_sample(0)

    def __len__(self) -> int:
        return len(self.metadata)

    def get_sample(self, index: int) -> Sample:
        """A waveform (component, samples) and its metadata."""
        for trial in range(TRIALS):
            place = index if trial == 0 else int(np.random.default_rng((index, trial)).integers(len(self)))
            sample = self.reader.read(place)
            if sample is not None:
                return sample
        raise self.reader.none_usable(min(TRIALS, len(self)))


class Joined:
    """
    Several stores, concatenated.

    :param parts: The stores
    """

    def __init__(self, parts: Sequence[Store]) -> None:
        self.parts = parts
        self.borders = np.cumsum([len(part) for part in parts])
        self.metadata = pd.concat([part.metadata for part in parts], ignore_index=True)

    def __len__(self) -> int:
        return int(self.borders[-1])

    def get_sample(self, index: int) -> Sample:
        """A waveform (component, samples) and its metadata."""
        part = int(np.searchsorted(self.borders, index, side="right"))
        return self.parts[part].get_sample(int(index - self.borders[part] + len(self.parts[part])))


def shares(parts: Sequence[NDArray[np.float64]], weights: Sequence[float]) -> NDArray[np.float64]:
    """
    Probability of each record of several stores, concatenated.

    :param parts: Probabilities within each store, which add up to 1
    :param weights: Weights of the stores
    """
    total = sum(weights)
    return np.concatenate([part * weight / total for part, weight in zip(parts, weights, strict=True)])
