"""SeisBench datasets by name or path, and the choice of their records, by metadata alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seisbench
import seisbench.data as sbd
from seisbench.data import WaveformDataset

from seisbench_cdiffsd.data.augmentations import P_KEY, S_KEY
from seisbench_cdiffsd.data.settings import DatasetChoice
from seisbench_cdiffsd.data.splits import forget_shared, share_samples, usual_seconds
from seisbench_cdiffsd.data.stores import COMPONENTS, with_columns

#: Names of the first arrivals of P and of S in the metadata of SeisBench's datasets.
PHASES = ("p", "pg", "pn", "p1"), ("s", "sg", "sn", "s1")
#: Columns with epicentral distances, and their unit in kilometres.
DISTANCES = {"path_ep_distance_km": 1.0, "source_distance_km": 1.0, "path_ep_distance_deg": 111.19}


def open_chosen(choice: DatasetChoice) -> WaveformDataset:
    """
    Open a dataset, with components ZNE, and take the chosen records. No waveform is read.

    :param choice: Which dataset, and which of its records
    :raises ValueError: If there is no such dataset, it lacks a column to choose by, or no record is left
    """
    dataset = open_dataset(choice.dataset, choice.download)
    forget_shared(dataset)
    left = pd.Series(True, index=dataset.metadata.index)
    for what, chosen in _masks(dataset.metadata, choice).items():
        left &= chosen
        if not left.any():
            raise ValueError(f"No record of dataset {choice.dataset} is left with {what}.")
    return dataset if left.all() else dataset.filter(left.to_numpy(), inplace=False)


def open_dataset(name: str, download: bool = False) -> WaveformDataset:
    """
    Open a dataset, with components ZNE.

    :param name: Folder, or name in ``seisbench.data``
    :param download: Whether to download it if it is not in SeisBench's cache
    :raises ValueError: If there is no such dataset, or it cannot be read
    """
    if Path(name).is_dir() or "/" in name:
        try:
            return _labelled(WaveformDataset(name, component_order=COMPONENTS, name=Path(name).name))
        except (OSError, ValueError, KeyError, IndexError) as error:
            reason = "metadata.csv has no rows" if isinstance(error, IndexError) else " ".join(str(error).split())
            raise ValueError(f"{name} is not a dataset in SeisBench's format: {reason}") from error
    kind: Any = getattr(sbd, name, None)
    if not (isinstance(kind, type) and issubclass(kind, sbd.WaveformBenchmarkDataset)):
        problem = "neither a folder nor a name in seisbench.data"
        if isinstance(kind, type) and issubclass(kind, sbd.MultiWaveformDataset):
            problem = "seisbench.data has several in one under this name: name each of them"
        raise ValueError(f"There is no dataset {name!r}: {problem}.")
    cache = Path(seisbench.cache_data_root) / name.lower()
    if not (download or any(cache.glob("metadata*.csv"))):
        raise ValueError(
            f"Dataset {name} is not in SeisBench's cache ({cache}): set download = true, "
            f"or make it by seisbench.data.{name}(...)."
        )
    return _labelled(kind(component_order=COMPONENTS))


def earthquakes_of(dataset: WaveformDataset, category: tuple[str, ...] = (), clipped: bool = False) -> WaveformDataset:
    """
    The labelled earthquakes of a dataset, which may hold noise as well.

    :param category: Values of ``trace_category`` that the records were chosen by; by default all but noise is taken
    :param clipped: Whether to take records that are marked as clipped
    :raises ValueError: If there is none, or a label is not a number
    """
    dataset = _labelled(dataset)
    metadata = dataset.metadata
    if P_KEY not in metadata or not metadata[P_KEY].notna().any():
        raise ValueError(f"Dataset {dataset.name} has no P labels in {P_KEY}: earthquakes need them.")
    chosen = metadata[P_KEY].notna() if category else _are_earthquakes(metadata)
    if "trace_clipped" in metadata and not clipped:
        chosen &= ~metadata["trace_clipped"].fillna(False).astype(bool)
    if not chosen.any():
        raise ValueError(f"Dataset {dataset.name} has no earthquakes with a P label that are not clipped.")
    left = dataset.filter(chosen.to_numpy(), inplace=False)
    # a single text makes pandas read the whole column as text
    labels = [key for key in (P_KEY, S_KEY) if left.metadata.get(key, pd.Series(dtype=float)).dtype.kind not in "fiu"]
    return with_columns(left, {key: _labels(left, key) for key in labels})


def _are_earthquakes(metadata: pd.DataFrame) -> pd.Series:
    """Which records have a P label and are not marked as noise."""
    labelled = metadata.reindex(columns=[P_KEY])[P_KEY].notna()
    return labelled & (metadata["trace_category"] != "noise") if "trace_category" in metadata else labelled


def _labelled(dataset: WaveformDataset) -> WaveformDataset:
    """A dataset with its labels of P and S where STEAD has them; the earliest of those such as Pg and Pn."""
    metadata, labels = dataset.metadata, {}
    for key, phases in ((P_KEY, PHASES[0]), (S_KEY, PHASES[1])):
        wanted = [f"trace_{phase}_arrival_sample" for phase in phases]
        columns = [name for name in metadata if name.lower() in wanted]
        if key not in metadata and columns:
            labels[key] = metadata[columns[0]] if len(columns) == 1 else metadata[columns].apply(_numbers).min(axis=1)
    return with_columns(dataset, labels) if labels else dataset


def _labels(dataset: WaveformDataset, key: str) -> pd.Series:
    column = dataset.metadata[key]
    labels = _numbers(column)
    wrong = labels.isna() & column.notna()
    if wrong.any():
        row = dataset.metadata[wrong].iloc[0]
        raise ValueError(
            f"Trace {row.get('trace_name', row.name)} of dataset {dataset.name} has {row[key]!r} for {key}, which is "
            "not a number. Fix it, or remove its row from the metadata."
        )
    return labels


def noise_of(dataset: WaveformDataset, category: tuple[str, ...] = (), backwards: bool = False) -> WaveformDataset:
    """
    The noise of a dataset, which may hold earthquakes as well.

    :param category: Values of ``trace_category`` that the records were chosen by; by default "noise", or without that
        column all records without a P label
    :param backwards: Whether the records will be reversed in time, which makes noise of all of them
    :raises ValueError: If there is none
    """
    dataset = _labelled(dataset)
    metadata = dataset.metadata
    if category or backwards:
        return dataset
    if "trace_category" in metadata:
        chosen, reason = metadata["trace_category"] == "noise", "none of its trace_category is 'noise'"
    elif P_KEY in metadata:
        chosen, reason = metadata[P_KEY].isna(), "all of its records have a P label, and there is no trace_category"
    else:
        return dataset
    if not chosen.any():
        raise ValueError(f"Dataset {dataset.name} holds no noise: {reason}.")
    return dataset.filter(chosen.to_numpy(), inplace=False)


def noise_apart(noise: WaveformDataset, events: Sequence[WaveformDataset], split: str) -> WaveformDataset:
    """
    The noise for a split, without what overlaps an earthquake record of its station in another split: earthquakes are
    split by event and noise by station, so that both may hold the same samples on different sides.

    :param noise: Noise of that split
    :param events: Datasets with the earthquakes of all splits, and maybe noise as well
    :param split: Name of the split
    :raises ValueError: If none is left
    """
    shared = np.zeros(len(noise), dtype=bool)
    for dataset in map(_labelled, events):
        metadata = dataset.metadata
        names = metadata.reindex(columns=["split"])["split"]
        others = metadata[names.notna() & (names != split) & _are_earthquakes(metadata)]
        if len(others):
            shared |= share_samples(noise.metadata, others, (usual_seconds(noise), usual_seconds(dataset)))
    if shared.all():
        raise ValueError(f"All {split} noise of dataset {noise.name} overlaps earthquake records of other splits.")
    return noise.filter(~shared, inplace=False) if shared.any() else noise


def some(dataset: WaveformDataset, count: int | None, seed: int = 0) -> WaveformDataset:
    """At most so many records of a dataset, at random but always the same; all of them if `count` is None."""
    if count is None or len(dataset) <= count:
        return dataset
    return dataset.filter(np.random.default_rng(seed).permutation(len(dataset)).argsort() < count, inplace=False)


def _masks(metadata: pd.DataFrame, choice: DatasetChoice) -> dict[str, pd.Series]:
    """Each condition of a choice, in words, and which records meet it."""
    masks: dict[str, pd.Series] = {}
    if choice.exclude:
        masks[f"what {choice.exclude} leaves"] = ~_column(metadata, choice, "trace_name").isin(
            _excluded(choice, metadata)
        )
    if choice.category:
        column = _column(metadata, choice, "trace_category")
        masks[f"category {', '.join(choice.category)}"] = column.isin(choice.category)
    if choice.instrument:
        column = _column(metadata, choice, "trace_channel").astype(str)
        masks[f"instrument {', '.join(choice.instrument)}"] = column.str.startswith(choice.instrument)
    for name, values in (
        ("snr", lambda: _snr(metadata, choice)),
        ("magnitude", lambda: _numbers(_column(metadata, choice, "source_magnitude"))),
        ("distance", lambda: _distance(metadata, choice)),
    ):
        limits = getattr(choice, name)
        if limits is not None:
            masks[f"{name} from {limits[0]:g} to {limits[1]:g}"] = values().between(*limits)
    for name, wanted in choice.where.items():
        column = _column(metadata, choice, name)
        is_range = len(wanted) == 2 and all(isinstance(x, int | float) and not isinstance(x, bool) for x in wanted)
        masks[f"{name} {list(wanted)}"] = _numbers(column).between(*wanted) if is_range else column.isin(wanted)
    return masks


def _excluded(choice: DatasetChoice, metadata: pd.DataFrame) -> pd.Series:
    """Names of the records to leave out; a file that names none of them is the wrong one."""
    try:
        names = pd.read_csv(choice.exclude, usecols=["trace_name"])["trace_name"].astype(str)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ValueError(f"exclude is a CSV file with a column trace_name; {choice.exclude}: {reason}.") from None
    if not metadata["trace_name"].isin(names).any():
        raise ValueError(f"None of the names in {choice.exclude} is that of a record of dataset {choice.dataset}.")
    return names


def _numbers(column: pd.Series) -> pd.Series:
    """Values as numbers; NaN for what is not a number."""
    return pd.to_numeric(column, errors="coerce")


def _column(metadata: pd.DataFrame, choice: DatasetChoice, name: str) -> pd.Series:
    if name not in metadata:
        raise ValueError(f"Dataset {choice.dataset} has no column {name!r} to choose records by.")
    return metadata[name]


def _snr(metadata: pd.DataFrame, choice: DatasetChoice) -> pd.Series:
    """Mean SNR in dB: of STEAD's list of three, "[56.7 55.4 47.4]", or of a column for each component."""
    if "trace_snr_db" in metadata:
        return metadata["trace_snr_db"].map(_mean)
    columns = [name for name in (f"trace_{component}_snr_db" for component in COMPONENTS) if name in metadata]
    if not columns:
        raise ValueError(f"Dataset {choice.dataset} has no column such as 'trace_snr_db' to choose records by.")
    return metadata[columns].mean(axis=1)


def _mean(value: Any) -> float:
    try:
        numbers = np.array(str(value).strip("[]").replace(",", " ").split(), dtype=float)
    except ValueError:
        return np.nan
    return float(numbers.mean()) if numbers.size else np.nan


def _distance(metadata: pd.DataFrame, choice: DatasetChoice) -> pd.Series:
    for name, kilometres in DISTANCES.items():
        if name in metadata:
            return kilometres * pd.to_numeric(metadata[name], errors="coerce")
    raise ValueError(f"Dataset {choice.dataset} has no column such as {next(iter(DISTANCES))!r} to choose records by.")
