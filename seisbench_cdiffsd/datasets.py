"""SeisBench datasets by name or path, and the records of them that were asked for, chosen by metadata alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seisbench
import seisbench.data as sbd
from numpy.typing import NDArray
from seisbench.data import WaveformDataset

from seisbench_cdiffsd.augmentations import P_KEY, S_KEY
from seisbench_cdiffsd.config import DatasetChoice
from seisbench_cdiffsd.stores import COMPONENTS

#: Splits in order: what is in one of them is to be new to those before it.
SPLITS = ("train", "dev", "test")
#: Records of a station that begin within so many seconds of each other may hold the same samples.
NEAR = 100.0
#: Columns that hold epicentral distances, and the kilometres of their unit.
DISTANCES = {"path_ep_distance_km": 1.0, "source_distance_km": 1.0, "path_ep_distance_deg": 111.19}


def open_source(source: DatasetChoice) -> WaveformDataset:
    """
    Open a dataset, with components ZNE, and take the records that are asked for. No waveform is read.

    :param source: Which dataset, and which of its records
    :raises ValueError: If there is no such dataset, it lacks a column that is asked for, or no record is left
    """
    dataset = _open(source)
    left = pd.Series(True, index=dataset.metadata.index)
    for what, chosen in _masks(dataset.metadata, source).items():
        left &= chosen
        if not left.any():
            raise ValueError(f"No record of dataset {source.dataset} is left with {what}.")
    return dataset if left.all() else dataset.filter(left.to_numpy(), inplace=False)


def take_split(dataset: WaveformDataset, split: str) -> WaveformDataset:
    """
    One split of a dataset, without records that may hold samples of an earlier one, see :py:func:`in_split`.

    :raises ValueError: If it has no such split
    """
    chosen = in_split(dataset.metadata, split)
    if not chosen.any():
        raise ValueError(
            f"Dataset {dataset.name} has no {split} split, among the records that were chosen: "
            "its metadata need a column 'split' with it."
        )
    return dataset.filter(chosen, inplace=False)


def in_split(metadata: pd.DataFrame, split: str) -> NDArray[np.bool_]:
    """
    Which records are in a split. Datasets are split by event, and records of two events that follow each other may hold
    the same samples: those that begin within 100 s of a record of the same station in an earlier split (of train, dev,
    test) are left out.

    :param metadata: Metadata of all splits
    :param split: Name of the split
    """
    names = metadata.get("split", pd.Series(index=metadata.index, dtype=object))
    chosen, earlier = names == split, names.isin(SPLITS[: SPLITS.index(split)] if split in SPLITS else ())
    if not (earlier.any() and {"station_code", "trace_start_time"} <= set(metadata)):
        return chosen.to_numpy()
    network = metadata.get("station_network_code", pd.Series("", index=metadata.index))
    begins = pd.DataFrame(
        {
            "time": pd.to_datetime(metadata["trace_start_time"], utc=True, format="ISO8601", errors="coerce"),
            "station": network.astype(str).str.cat(metadata["station_code"].astype(str), "."),
            "row": np.arange(len(metadata)),
        }
    )
    begins = begins[begins["time"].notna()].sort_values("time")
    late, early = (begins[mask.to_numpy()[begins["row"]]] for mask in (chosen, earlier))
    near = pd.merge_asof(
        late, early, on="time", by="station", direction="nearest", tolerance=pd.Timedelta(seconds=NEAR)
    )
    result = chosen.to_numpy().copy()
    result[near.loc[near["row_y"].notna(), "row_x"]] = False
    return result


def earthquakes_of(dataset: WaveformDataset, category: tuple[str, ...] = (), clipped: bool = False) -> WaveformDataset:
    """
    The labelled earthquakes of a dataset, which may hold noise as well.

    :param category: Values of ``trace_category`` that were asked for; by default all but noise
    :param clipped: Whether to take records that are marked as clipped
    :raises ValueError: If there is none, or a label is no number
    """
    metadata = dataset.metadata
    if P_KEY not in metadata or not metadata[P_KEY].notna().any():
        raise ValueError(f"Dataset {dataset.name} has no P labels in {P_KEY}: earthquakes need them.")
    chosen = metadata[P_KEY].notna()
    if "trace_category" in metadata and not category:
        chosen &= metadata["trace_category"] != "noise"
    if "trace_clipped" in metadata and not clipped:
        chosen &= ~metadata["trace_clipped"].fillna(False).astype(bool)
    if not chosen.any():
        raise ValueError(f"Dataset {dataset.name} has no earthquakes with a P label that are not clipped.")
    left = dataset.filter(chosen.to_numpy(), inplace=False)
    for key in (P_KEY, S_KEY):
        # one text in a column makes text of all that is in it
        if key in left.metadata and not pd.api.types.is_numeric_dtype(left.metadata[key]):
            left.metadata[key] = _labels(left, key)
    return left


def _labels(dataset: WaveformDataset, key: str) -> pd.Series:
    column = dataset.metadata[key]
    labels = _numbers(column)
    wrong = labels.isna() & column.notna()
    if wrong.any():
        row = dataset.metadata[wrong].iloc[0]
        raise ValueError(
            f"Trace {row.get('trace_name', row.name)} of dataset {dataset.name} has {row[key]!r} for {key}, no number. "
            "Mend it, or take its row out of the metadata."
        )
    return labels


def noise_of(dataset: WaveformDataset, category: tuple[str, ...] = ()) -> WaveformDataset:
    """
    The noise of a dataset, which may hold earthquakes as well.

    :param category: Values of ``trace_category`` that were asked for; by default "noise", where there is that column
    :raises ValueError: If there is none
    """
    if category or "trace_category" not in dataset.metadata:
        return dataset
    chosen = dataset.metadata["trace_category"] == "noise"
    if not chosen.any():
        raise ValueError(f"Dataset {dataset.name} holds no noise: none of its trace_category is 'noise'.")
    return dataset.filter(chosen.to_numpy(), inplace=False)


def cache_of(name: str) -> Path:
    """Where SeisBench keeps a dataset of this name."""
    return Path(seisbench.cache_data_root) / name.lower()


def is_cached(name: str) -> bool:
    """Whether a dataset is in SeisBench's cache, and need not be downloaded."""
    return any(cache_of(name).glob("metadata*.csv"))


def _open(source: DatasetChoice) -> WaveformDataset:
    name = source.dataset
    if Path(name).is_dir() or "/" in name:
        try:
            return WaveformDataset(name, component_order=COMPONENTS, name=Path(name).name)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{name} is no dataset in SeisBench's format: {' '.join(str(error).split())}") from error
    kind: Any = getattr(sbd, name, None)
    if not (isinstance(kind, type) and issubclass(kind, sbd.WaveformBenchmarkDataset)):
        what = "neither a folder nor a name in seisbench.data"
        if isinstance(kind, type) and issubclass(kind, sbd.MultiWaveformDataset):
            what = "seisbench.data has several in one under this name: name each of them"
        raise ValueError(f"There is no dataset {name!r}: {what}.")
    if not source.download and not is_cached(name):
        raise ValueError(
            f"Dataset {name} is not in SeisBench's cache ({cache_of(name)}): set download = true, "
            f"or make it by seisbench.data.{name}(...)."
        )
    return kind(component_order=COMPONENTS)


def _masks(metadata: pd.DataFrame, source: DatasetChoice) -> dict[str, pd.Series]:
    """What is asked for, in words, and which records have it."""
    masks: dict[str, pd.Series] = {}
    if source.category:
        column = _column(metadata, source, "trace_category")
        masks[f"category {', '.join(source.category)}"] = column.isin(source.category)
    if source.instrument:
        column = _column(metadata, source, "trace_channel").astype(str)
        masks[f"instrument {', '.join(source.instrument)}"] = column.str.startswith(source.instrument)
    for name, values in (
        ("snr", lambda: _snr(metadata, source)),
        ("magnitude", lambda: _numbers(_column(metadata, source, "source_magnitude"))),
        ("distance", lambda: _distance(metadata, source)),
    ):
        limits = getattr(source, name)
        if limits is not None:
            masks[f"{name} from {limits[0]:g} to {limits[1]:g}"] = values().between(*limits)
    for name, wanted in source.where.items():
        column = _column(metadata, source, name)
        numbers = len(wanted) == 2 and all(isinstance(x, int | float) and not isinstance(x, bool) for x in wanted)
        masks[f"{name} {list(wanted)}"] = _numbers(column).between(*wanted) if numbers else column.isin(wanted)
    return masks


def _numbers(column: pd.Series) -> pd.Series:
    """Values as numbers; NaN for what is none."""
    return pd.to_numeric(column, errors="coerce")


def _column(metadata: pd.DataFrame, source: DatasetChoice, name: str) -> pd.Series:
    if name not in metadata:
        raise ValueError(f"Dataset {source.dataset} has no column {name!r} to choose records by.")
    return metadata[name]


def _snr(metadata: pd.DataFrame, source: DatasetChoice) -> pd.Series:
    """Mean SNR in dB: of STEAD's list of three, "[56.7 55.4 47.4]", or of a column for each component."""
    if "trace_snr_db" in metadata:
        return metadata["trace_snr_db"].map(_mean)
    columns = [name for name in (f"trace_{component}_snr_db" for component in COMPONENTS) if name in metadata]
    if not columns:
        raise ValueError(f"Dataset {source.dataset} has no column such as 'trace_snr_db' to choose records by.")
    return metadata[columns].mean(axis=1)


def _mean(value: Any) -> float:
    try:
        numbers = np.array(str(value).strip("[]").replace(",", " ").split(), dtype=float)
    except ValueError:
        return np.nan
    return float(numbers.mean()) if numbers.size else np.nan


def _distance(metadata: pd.DataFrame, source: DatasetChoice) -> pd.Series:
    for name, kilometres in DISTANCES.items():
        if name in metadata:
            return kilometres * pd.to_numeric(metadata[name], errors="coerce")
    raise ValueError(f"Dataset {source.dataset} has no column such as {next(iter(DISTANCES))!r} to choose records by.")
