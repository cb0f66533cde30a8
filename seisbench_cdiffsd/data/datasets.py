"""SeisBench datasets by name or path, the choice of their records, and splits that share no samples, by metadata."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seisbench
import seisbench.data as sbd
from numpy.typing import NDArray
from seisbench.data import WaveformDataset

from seisbench_cdiffsd.data.augmentations import P_KEY, RATE_KEY, S_KEY
from seisbench_cdiffsd.data.settings import DatasetChoice
from seisbench_cdiffsd.data.stores import COMPONENTS, PROBES, with_columns

#: Names of the first arrivals of P and of S in the metadata of SeisBench's datasets.
PHASES = {P_KEY: ("p", "pg", "pn", "p1"), S_KEY: ("s", "sg", "sn", "s1")}
#: Columns with epicentral distances, and their unit in kilometres.
DISTANCES = {"path_ep_distance_km": 1.0, "source_distance_km": 1.0, "path_ep_distance_deg": 111.19}
#: Splits in order: none may share samples with an earlier one.
SPLITS = ("train", "dev", "test")
#: Least and most seconds that a record counts as, for the question whether it shares samples with another.
OVERLAP_SECONDS, MOST_SECONDS = 100.0, 1e7


def open_chosen(choice: DatasetChoice) -> WaveformDataset:
    """The chosen records of a dataset; ValueError if there is none, or no such dataset or column to choose by."""
    dataset = open_dataset(choice.dataset, choice.download)
    metadata, left = dataset.metadata, pd.Series(True, index=dataset.metadata.index)
    if "split" in metadata:  # without records that may share samples with an earlier one, even if that is not chosen
        unknown = usual_seconds(dataset)
        kept = np.any([in_split(metadata, split, unknown) for split in SPLITS], axis=0)
        metadata.loc[metadata["split"].isin(SPLITS) & ~kept, "split"] = None
    for what, chosen in _masks(metadata, choice).items():
        left &= chosen
        if not left.any():
            raise ValueError(f"No record of dataset {choice.dataset} is left with {what}.")
    return dataset if left.all() else dataset.filter(left.to_numpy(), inplace=False)


def open_dataset(name: str, download: bool = False) -> WaveformDataset:
    """
    Open a dataset, a folder or a name in ``seisbench.data``, with components ZNE.

    :raises ValueError: If there is no such dataset, it is not here and not to be downloaded, or it cannot be read
    """
    if Path(name).is_dir() or "/" in name:
        try:
            return _labelled(WaveformDataset(name, component_order=COMPONENTS, name=Path(name).name))
        except (OSError, ValueError, KeyError, IndexError) as error:
            reason = "metadata.csv has no rows" if isinstance(error, IndexError) else " ".join(str(error).split())
            raise ValueError(f"{name} is not a dataset in SeisBench's format: {reason}") from error
    kind: Any = getattr(sbd, name, None)
    if not isinstance(kind, type) or not issubclass(kind, sbd.WaveformBenchmarkDataset):
        several = isinstance(kind, type) and issubclass(kind, sbd.MultiWaveformDataset)
        problem = "several in one: name each of them" if several else "neither a folder nor a name in seisbench.data"
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
    The labelled earthquakes of a dataset, which may hold noise as well; ValueError if there is none, or a wrong label.

    :param category: Values of ``trace_category`` that the records were chosen by; by default all but noise is taken
    :param clipped: Whether to take records that are marked as clipped
    """
    dataset = _labelled(dataset)
    metadata = dataset.metadata
    if P_KEY not in metadata or not metadata[P_KEY].notna().any():
        raise ValueError(f"Dataset {dataset.name} has no P labels in {P_KEY}: earthquakes need them.")
    chosen = metadata[P_KEY].notna() if category else _are_earthquakes(metadata)
    if "trace_clipped" in metadata and not clipped:
        chosen &= ~metadata["trace_clipped"].fillna(False).astype(bool)
    left = _taken(dataset, chosen, f"Dataset {dataset.name} has no earthquakes with a P label that are not clipped.")
    # a single text makes pandas read the whole column as text
    labels = {key: _numbers(left.metadata[key]) for key in (P_KEY, S_KEY) if key in left.metadata}
    for key, numbers in labels.items():
        wrong = numbers.isna() & left.metadata[key].notna()
        if wrong.any():
            row = left.metadata[wrong].iloc[0]
            raise ValueError(
                f"Trace {row.get('trace_name', row.name)} of dataset {dataset.name} has {row[key]!r} for {key}, which "
                "is not a number. Fix it, or remove its row from the metadata."
            )
    return with_columns(left, labels)


def _are_earthquakes(metadata: pd.DataFrame) -> pd.Series:
    columns = metadata.reindex(columns=[P_KEY, "trace_category"])
    return columns[P_KEY].notna() & (columns["trace_category"] != "noise")


def _labelled(dataset: WaveformDataset) -> WaveformDataset:
    """A dataset with its labels of P and S where STEAD has them; the earliest of those such as Pg and Pn."""
    metadata, labels = dataset.metadata, {}
    for key, phases in PHASES.items():
        wanted = [f"trace_{phase}_arrival_sample" for phase in phases]
        columns = [name for name in metadata if name.lower() in wanted]
        if key not in metadata and columns:
            labels[key] = metadata[columns[0]] if len(columns) == 1 else metadata[columns].apply(_numbers).min(axis=1)
    return with_columns(dataset, labels) if labels else dataset


def noise_of(dataset: WaveformDataset, category: tuple[str, ...] = (), backwards: bool = False) -> WaveformDataset:
    """
    The noise of a dataset, which may hold earthquakes as well; ValueError if there is none.

    :param category: Values of ``trace_category`` that the records were chosen by; by default "noise", or without that
        column all records without a P label
    :param backwards: Whether the records will be reversed in time, which makes noise of all of them
    """
    dataset = _labelled(dataset)
    metadata = dataset.metadata
    if category or backwards or not {"trace_category", P_KEY} & set(metadata):
        return dataset
    if "trace_category" in metadata:
        chosen, reason = metadata["trace_category"] == "noise", "none of its trace_category is 'noise'"
    else:
        chosen, reason = metadata[P_KEY].isna(), "all of its records have a P label, and there is no trace_category"
    return _taken(dataset, chosen, f"Dataset {dataset.name} holds no noise: {reason}.")


def noise_apart(noise: WaveformDataset, events: Sequence[WaveformDataset], split: str) -> WaveformDataset:
    """
    The noise for a split, without what overlaps an earthquake record of its station in another split: earthquakes are
    split by event and noise by station, so that both may hold the same samples. ValueError if none is left.
    """
    shared = np.zeros(len(noise), dtype=bool)
    for dataset in map(_labelled, events):
        names = dataset.metadata.reindex(columns=["split"])["split"]
        others = dataset.metadata[names.notna() & (names != split) & _are_earthquakes(dataset.metadata)]
        shared |= share_samples(noise.metadata, others, (usual_seconds(noise), usual_seconds(dataset)))
    none = f"All {split} noise of dataset {noise.name} overlaps earthquake records of other splits."
    return _taken(noise, ~shared, none)


def _taken(dataset: WaveformDataset, chosen: Any, none: str) -> WaveformDataset:
    """The chosen records of a dataset; ValueError, with what to say, if there is none."""
    if not chosen.any():
        raise ValueError(none)
    return dataset if chosen.all() else dataset.filter(np.asarray(chosen), inplace=False)


def some(dataset: WaveformDataset, count: int | None, seed: int = 0) -> WaveformDataset:
    """At most so many records of a dataset, at random but always the same; all of them if `count` is None."""
    if count is None or len(dataset) <= count:
        return dataset
    return dataset.filter(np.random.default_rng(seed).permutation(len(dataset)).argsort() < count, inplace=False)


def _masks(metadata: pd.DataFrame, choice: DatasetChoice) -> dict[str, pd.Series]:

    def column(*names: str) -> pd.Series:
        name = next(filter(metadata.__contains__, names), None)
        if name is None:
            raise ValueError(f"Dataset {choice.dataset} has no column {names[0]!r} to choose records by.")
        return metadata[name]

    masks: dict[str, pd.Series] = {}
    if choice.exclude:
        masks[f"what {choice.exclude} leaves"] = ~column("trace_name").isin(_excluded(choice, metadata))
    if choice.category:
        masks[f"category {', '.join(choice.category)}"] = column("trace_category").isin(choice.category)
    if choice.instrument:
        chosen = column("trace_channel").astype(str).str.startswith(choice.instrument)
        masks[f"instrument {', '.join(choice.instrument)}"] = chosen
    ranges: dict[str, pd.Series] = {}
    if choice.snr:
        each = [name for name in (f"trace_{component}_snr_db" for component in COMPONENTS) if name in metadata]
        whole = "trace_snr_db" in metadata or not each
        ranges["snr"] = column("trace_snr_db").map(_mean) if whole else metadata[each].mean(axis=1)
    if choice.magnitude:
        ranges["magnitude"] = _numbers(column("source_magnitude"))
    if choice.distance:
        distance = column(*DISTANCES)
        ranges["distance"] = DISTANCES[distance.name] * _numbers(distance)
    for name, values in ranges.items():
        low, high = getattr(choice, name)
        masks[f"{name} from {low:g} to {high:g}"] = values.between(low, high)
    for name, wanted in choice.where.items():
        is_range = len(wanted) == 2 and all(isinstance(x, int | float) and not isinstance(x, bool) for x in wanted)
        values = column(name)
        masks[f"{name} {list(wanted)}"] = _numbers(values).between(*wanted) if is_range else values.isin(wanted)
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
    return pd.to_numeric(column, errors="coerce")


def _mean(value: Any) -> float:
    """The mean of numbers in a text, as in STEAD's "[56.7 55.4 47.4]"; NaN if it holds anything else."""
    try:
        numbers = np.array(str(value).strip("[]").replace(",", " ").split(), dtype=float)
    except ValueError:
        return np.nan
    return float(numbers.mean()) if numbers.size else np.nan


def take_split(dataset: WaveformDataset, split: str) -> WaveformDataset:
    """One split of a dataset, as :py:func:`in_split` has it; ValueError if it has no such split."""
    none = f"Dataset {dataset.name} has no {split} split among the chosen records: "
    chosen = in_split(dataset.metadata, split, usual_seconds(dataset))
    return _taken(dataset, chosen, f"{none}its metadata need a column 'split' with it.")


def in_split(metadata: pd.DataFrame, split: str, unknown: float = OVERLAP_SECONDS) -> NDArray[np.bool_]:
    """
    Which records are in a split. Datasets are split by event, and records of successive events may share samples: those
    that overlap with a record of the same station in an earlier split (of train, dev, test) are left out. Records count
    as 100 s long at least, or as `unknown` seconds where their metadata do not tell.
    """
    names = metadata.get("split", pd.Series(index=metadata.index, dtype=object))
    chosen = (names == split).to_numpy(dtype=bool, copy=True)
    earlier = names.isin(SPLITS[: SPLITS.index(split)] if split in SPLITS else ()).to_numpy()
    records = _spans(metadata, unknown, OVERLAP_SECONDS)
    chosen[chosen] = ~_overlapping(records[chosen], records[earlier])
    return chosen


def share_samples(
    metadata: pd.DataFrame, others: pd.DataFrame, unknown: tuple[float, float] = (OVERLAP_SECONDS, OVERLAP_SECONDS)
) -> NDArray[np.bool_]:
    """
    Which records overlap with one of the same station in other metadata. Those without a start time or a station
    cannot be compared and count as apart; those that do not tell their length, in either, have that of `unknown`.
    """
    return _overlapping(_spans(metadata, unknown[0], least=0.0), _spans(others, unknown[1], least=0.0))


def usual_seconds(dataset: WaveformDataset) -> float:
    """Length of the longest of a few records, for those whose metadata do not tell theirs; 100 s at least."""
    seconds = [OVERLAP_SECONDS]
    if {"station_code", "trace_start_time"} <= set(dataset.metadata) and _seconds(dataset.metadata).isna().any():
        for place in np.unique(np.linspace(0, len(dataset) - 1, PROBES).astype(int)):
            with suppress(Exception):  # a record that cannot be read is reported when it is needed
                waveform, metadata = dataset.get_sample(place)
                seconds.append(waveform.shape[-1] / float(metadata[RATE_KEY]))
    return max(seconds)


def _seconds(metadata: pd.DataFrame) -> pd.Series:
    columns = metadata.reindex(columns=["trace_npts", "trace_name", RATE_KEY])
    # SeisBench's own writer has the number of samples in the name: "bucket0$0,:3,:6000"
    written = columns.pop("trace_name").astype(str).str.extract(r":(\d+)$", expand=False)
    samples, rate = (pd.to_numeric(columns[name], errors="coerce") for name in columns)
    seconds = samples.fillna(pd.to_numeric(written, errors="coerce")) / rate
    return seconds.where(seconds < np.inf)


def _spans(metadata: pd.DataFrame, unknown: float, least: float) -> pd.DataFrame:
    """Station, start and end of records; the start is missing where it, or the station, is not known."""
    columns = metadata.reindex(columns=["station_network_code", "station_code", "trace_start_time"])
    start = pd.to_datetime(columns["trace_start_time"], utc=True, format="ISO8601", errors="coerce").dt.as_unit("us")
    length = _seconds(metadata).fillna(unknown).clip(least, MOST_SECONDS)
    network = columns["station_network_code"].astype(object).fillna("")
    return pd.DataFrame(
        {
            "start": start.where(columns["station_code"].notna()),
            "end": start + pd.to_timedelta(length, unit="s").dt.as_unit("us"),
            "station": network.astype(str) + "." + columns["station_code"].astype(str),
        }
    )


def _overlapping(records: pd.DataFrame, others: pd.DataFrame) -> NDArray[np.bool_]:
    """Which records overlap with one of others at their station; both as :py:func:`_spans` returns them."""
    late = records.assign(row=np.arange(len(records))).dropna(subset="start").sort_values("end")
    early = others.dropna(subset="start").sort_values("start")
    # for each record, when the last of those others that start before its end is over
    early["over"] = early.groupby("station")["end"].cummax()
    early = early.drop(columns="end").rename(columns={"start": "end"})
    near = pd.merge_asof(late, early, on="end", by="station")
    result = np.zeros(len(records), dtype=bool)
    result[near.loc[near["over"] >= near["start"], "row"]] = True
    return result
