"""Where the samples of a dataset come from: memory, computed once, or the disk, read when they are needed."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from seisbench.data import WaveformDataset
from tqdm.auto import tqdm

from seisbench_cdiffsd.data.augmentations import RATE_KEY, Array, State, Unusable, move_labels
from seisbench_cdiffsd.streams.filtering import MAX_RATIO, SAMPLING_RATE, resampled, simple_ratio

#: Components that the models work with, and the column that says which ones a record has.
COMPONENTS, ORDER_KEY = "ZNE", "trace_component_order"
#: Records that are tried to find a usable one, and records that are read to estimate the size of a dataset.
TRIALS, PROBES = 100, 8

Sample = tuple[Array, dict[str, Any]]
#: Augmentations that give the same result every time, such as the band-pass, or raise :py:class:`.Unusable`.
Steps = Sequence[Callable[[State], None]]


class OnDisk:
    """
    All records of a dataset, through some steps, read when they are needed. An unusable one is replaced by another,
    always the same one; by the first that is known to be usable, if it has to be.

    :param damaged: "stop" at records that cannot be read, with NaN or infinite samples, or without a component, or
        "skip" them
    :raises ValueError: If the components are not ZNE, the dimensions not NCW, or records lack a component, unless these
        are skipped
    """

    def __init__(self, dataset: WaveformDataset, steps: Steps, damaged: str = "skip") -> None:
        for name, wanted in (("component_order", COMPONENTS), ("dimension_order", "NCW")):
            if "".join(getattr(dataset, name)) != wanted:
                raise ValueError(f"Open dataset {dataset.name} with {name}={wanted!r}.")
        self.dataset, self.steps, self.damaged = _lettered(dataset), steps, damaged
        self.metadata, self.usable = self.dataset.metadata, 0
        #: How many of the records that were read are not usable, by reason.
        self.left_out: Counter[str] = Counter()
        #: Hash of all samples that were read, as they were recorded.
        self.seen = ""
        orders = self.metadata[ORDER_KEY].astype(str)
        #: Whether each record has all components: SeisBench fills those that are missing with zeros.
        self.complete = np.logical_and.reduce([orders.str.contains(letter) for letter in COMPONENTS])
        if damaged == "stop" and not self.complete.all():
            rows = self.metadata[~self.complete]
            first = ", ".join(f"{row['trace_name']} ({row[ORDER_KEY]})" for _, row in rows.head(3).iterrows())
            raise ValueError(
                f"{len(rows)} of {len(orders)} records of dataset {dataset.name} lack one of the components Z, N, E "
                f"(or Z, 1, 2): {first}{', …' if len(rows) > 3 else ''}. Correct their {ORDER_KEY}, or rotate them, or "
                "leave them out by damaged = 'skip'."
            )

    def __len__(self) -> int:
        return len(self.metadata)

    def ready(self) -> "OnDisk":
        """Itself; ValueError unless at least one record among many is usable."""
        order = np.random.default_rng(0).permutation(len(self))[: TRIALS**2]
        self.usable = next((int(place) for place in (0, *order) if self.read(int(place)) is not None), -1)
        if self.usable < 0:
            raise self.none_usable(len(order))
        return self

    def get_sample(self, index: int) -> Sample:
        others = (int(np.random.default_rng((index, trial)).integers(len(self))) for trial in range(1, TRIALS))
        return next(sample for place in chain([index], others, [self.usable]) if (sample := self.read(place)))

    @property
    def contents(self) -> str:
        """Hashes of the files, which are read once, whatever they are used for."""
        files = sorted(Path(self.dataset.path).glob("waveforms*"))
        return " ".join(_hash_of(path, path.stat().st_size, path.stat().st_mtime_ns) for path in files)

    def read(self, index: int) -> Sample | None:
        """A record, or None if it is not usable; ValueError if it is damaged, and such records are not skipped."""
        try:
            waveform, metadata = self._recorded(index)
            if not self.complete[index]:
                raise Unusable("without one of three components")
            if not np.isfinite(waveform).all():
                raise (ValueError if self.damaged == "stop" else Unusable)("with NaN or infinite samples")
            # The dataset returns this order, whatever its files have; SeisBench's rotation reads the metadata.
            state: State = {"X": (waveform, {**metadata, ORDER_KEY: COMPONENTS})}
            for step in self.steps:
                step(state)
            waveform, metadata = state["X"]
            if not waveform.any():
                raise Unusable("silent")
        except Unusable as reason:
            self.left_out[str(reason)] += 1
            return None
        except MemoryError:
            raise
        except Exception as error:  # SeisBench, h5py and numpy raise errors of all kinds
            if self.damaged == "stop":
                raise self._damaged(index, error) from error
            self.left_out["that cannot be read"] += 1
            return None
        return np.ascontiguousarray(waveform, dtype=np.float32), metadata

    def _recorded(self, index: int) -> Sample:
        """A record at its own sampling rate, since SeisBench's resampling shifts and rings."""
        rate = float(self.metadata[RATE_KEY].iloc[index])
        if not SAMPLING_RATE / MAX_RATIO <= rate <= SAMPLING_RATE * MAX_RATIO:
            raise ValueError(f"its {RATE_KEY} is {rate}")
        waveform, metadata = self.dataset.get_sample(index, sampling_rate=rate)
        self.seen = hashlib.sha256(self.seen.encode() + waveform.tobytes()).hexdigest()
        return waveform, metadata

    def none_usable(self, tried: int) -> ValueError:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        return ValueError(f"No usable record among the {tried} of dataset {self.dataset.name}: {reasons}.")

    def gigabytes(self) -> float:
        """Memory that all records take at 100 Hz, estimated from a few of them."""
        sizes = []
        for probe in np.unique(np.linspace(0, len(self.dataset) - 1, PROBES).astype(int)):
            with suppress(Exception):  # which is told when the record is needed
                waveform, metadata = self._recorded(probe)
                sizes.append(waveform.size * SAMPLING_RATE / metadata[RATE_KEY])
        return 4e-9 * float(np.mean(sizes or [0])) * len(self.dataset)

    def _damaged(self, index: int, error: Exception) -> ValueError:
        """What is wrong with a record, in one line that names it."""
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if isinstance(error, KeyError):
            reason = f"its waveform, or a column of its metadata, is missing ({error.args[0]})"
        return ValueError(
            f"Trace {self.metadata.iloc[index].get('trace_name', index)} of dataset {self.dataset.name} cannot be "
            f"used: {reason}. Fix it, or remove its row from the metadata."
        )


def silence(state: State) -> None:
    """Set components that are constant to zero: without its mean, a constant would leave rounding errors."""
    waveform, metadata = state["X"]
    if waveform.shape[-1]:
        state["X"] = (np.where(np.ptp(waveform, axis=-1, keepdims=True) > 0, waveform, 0), metadata)


def resample(state: State) -> None:
    """Bring a record to 100 Hz, as ``annotate`` does: zero-phase, and without its mean if that changes it."""
    waveform, metadata = state["X"]
    ratio = simple_ratio(float(metadata[RATE_KEY]), SAMPLING_RATE)
    if ratio != 1 and waveform.shape[-1]:
        waveform = waveform - waveform.mean(axis=-1, keepdims=True, dtype=np.float64)
        waveform = np.stack([resampled(component, ratio) for component in waveform])
        move_labels(metadata, float(ratio))
    metadata |= {RATE_KEY: np.float64(SAMPLING_RATE), "trace_dt_s": 1 / SAMPLING_RATE}
    metadata["trace_npts"] = waveform.shape[-1]
    state["X"] = (waveform, metadata)


def at_least(samples: int, state: State) -> None:
    """Take records of so many samples at 100 Hz only: filters refuse those that are very short."""
    if state["X"][0].shape[-1] < samples:
        raise Unusable(f"shorter than {samples / SAMPLING_RATE:g} s")


def _lettered(dataset: WaveformDataset) -> WaveformDataset:
    """A dataset whose components 1 and 2 beside a Z are called N and E, as in ``annotate``, where there is none."""
    renamed = orders = dataset.metadata[ORDER_KEY].astype(str)
    for number, letter in ("1N", "2E"):
        keep = renamed.str.contains(letter) | ~renamed.str.contains("Z")
        renamed = renamed.where(keep, renamed.str.replace(number, letter))
    return dataset if renamed.equals(orders) else with_columns(dataset, {ORDER_KEY: renamed})


def with_columns(dataset: WaveformDataset, columns: Mapping[str, pd.Series]) -> WaveformDataset:
    """A copy of a dataset with other metadata, of which SeisBench keeps caches."""
    dataset = dataset.filter(np.ones(len(dataset), dtype=bool), inplace=False)
    for name, values in columns.items():
        dataset.metadata[name] = values.to_numpy()
    dataset.component_order = dataset.component_order  # makes SeisBench look up anew where components are in the files
    dataset.metadata_cache = dataset.metadata_cache
    return dataset


class InMemory:
    """The usable records of a dataset, read as by :py:class:`OnDisk` and held in memory; ValueError if none is."""

    def __init__(self, dataset: WaveformDataset, steps: Steps, damaged: str = "skip") -> None:
        disk = OnDisk(dataset, steps, damaged)
        numbers = tqdm(range(len(dataset)), desc=f"Loading {dataset.name}", leave=False, disable=None)
        self.samples = [sample for sample in map(disk.read, numbers) if sample is not None]
        if not self.samples:
            raise disk.none_usable(len(dataset))
        self.metadata = pd.DataFrame([metadata for _, metadata in self.samples])
        self.contents, self.left_out = disk.seen, disk.left_out

    def __len__(self) -> int:
        return len(self.samples)

    def get_sample(self, index: int) -> Sample:
        waveform, metadata = self.samples[index]
        return waveform.copy(), metadata.copy()


@cache
def _hash_of(path: Path, size: int, time: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**24):
            digest.update(block)
    return digest.hexdigest()


class Joined:
    """Several stores, concatenated."""

    def __init__(self, parts: "Sequence[Store]") -> None:
        self.parts = parts
        self.borders = np.cumsum([len(part) for part in parts])
        self.metadata: pd.DataFrame = pd.concat([part.metadata for part in parts], ignore_index=True)
        self.contents: str = " ".join(part.contents for part in parts)

    def __len__(self) -> int:
        return int(self.borders[-1])

    def get_sample(self, index: int) -> Sample:
        part = int(np.searchsorted(self.borders, index, side="right"))
        return self.parts[part].get_sample(int(index - self.borders[part] + len(self.parts[part])))


#: Samples as a SeisBench generator takes them, free to be changed; their metadata; and a hash of what was recorded.
Store = InMemory | OnDisk | Joined
