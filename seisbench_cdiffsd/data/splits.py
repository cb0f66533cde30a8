"""Splits of datasets that share no samples, by metadata alone: who recorded what, from when to when."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from seisbench.data import WaveformDataset

from seisbench_cdiffsd.data.augmentations import RATE_KEY
from seisbench_cdiffsd.data.stores import PROBES

#: Splits in order: none may share samples with an earlier one.
SPLITS = ("train", "dev", "test")
#: Least length of a record in seconds, for the question whether it shares samples with another.
OVERLAP_SECONDS = 100.0
#: Most seconds that a record is believed to last, whatever its metadata tell.
MOST_SECONDS = 1e7


def take_split(dataset: WaveformDataset, split: str) -> WaveformDataset:
    """
    One split of a dataset, without records that may share samples with an earlier one, see :py:func:`in_split`.

    :raises ValueError: If it has no such split
    """
    chosen = in_split(dataset.metadata, split, usual_seconds(dataset))
    if not chosen.any():
        raise ValueError(
            f"Dataset {dataset.name} has no {split} split among the chosen records: "
            "its metadata need a column 'split' with it."
        )
    return dataset.filter(chosen, inplace=False)


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


def forget_shared(dataset: WaveformDataset) -> None:
    """Take records out of their split that may share samples with an earlier one, whether or not that is chosen."""
    metadata = dataset.metadata
    if "split" in metadata:
        unknown = usual_seconds(dataset)
        kept = np.any([in_split(metadata, split, unknown) for split in SPLITS], axis=0)
        metadata.loc[metadata["split"].isin(SPLITS) & ~kept, "split"] = None


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
    """Lengths of records, NaN where the metadata do not tell."""
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
