"""Splits share no samples, whatever the metadata tell of the times and lengths of records."""

import numpy as np
import pandas as pd
import pytest
from written import written

from seisbench_cdiffsd.data import datasets, splits
from seisbench_cdiffsd.training.config import DatasetChoice


def test_records_that_share_samples_with_an_earlier_split_are_left_out():
    starts = ["2020-01-01T00:00:00Z", "2020-01-01T00:01:30Z", "2020-01-01 00:02:00", "2020-01-01T00:01:30Z", "", "1"]
    metadata = pd.DataFrame(
        {
            "split": ["train", "dev", "test", "test", "test", "dev"],
            "trace_start_time": starts,
            "station_network_code": ["XX", "XX", "XX", "XX", "XX", "XX"],
            "station_code": ["A", "A", "A", "B", "A", "A"],
        }
    )
    # the second starts while the first continues, the third while the second does; the fourth is of another station
    assert splits.in_split(metadata, "train").tolist() == [True, False, False, False, False, False]
    assert splits.in_split(metadata, "dev").tolist() == [False, False, False, False, False, True]
    assert splits.in_split(metadata, "test").tolist() == [False, False, False, True, True, False]
    del metadata["trace_start_time"]
    assert splits.in_split(metadata, "dev").sum() == 2


def test_the_length_of_a_record_decides_what_it_shares():
    random, count = np.random.default_rng(0), 300
    start, samples = random.integers(0, 40_000, count), random.integers(50, 30_000, count)
    names = pd.Series(range(count)).astype(str) + "$0,:3,:" + pd.Series(samples).astype(str)
    metadata = pd.DataFrame(
        {
            "split": random.choice(splits.SPLITS, count),
            "station_code": random.choice(["A", "B"], count),
            "trace_start_time": pd.to_datetime(start, unit="s").astype(str),
            "trace_sampling_rate_hz": 50.0,
            "trace_name": names,
            "trace_npts": np.where(random.random(count) < 0.5, samples, np.nan),
        }
    )
    end, station = start + np.maximum(samples / 50, 100), metadata["station_code"].to_numpy()
    for number, split in enumerate(splits.SPLITS):
        earlier = metadata["split"].isin(splits.SPLITS[:number]).to_numpy()
        shared = (start[:, None] <= end) & (end[:, None] >= start) & (station[:, None] == station) & earlier[:, None]
        expected = (metadata["split"] == split) & ~shared.any(axis=0)
        assert expected.sum() > 5 or number == 2
        np.testing.assert_array_equal(splits.in_split(metadata, split), expected)


def test_records_that_do_not_tell_their_length_count_as_long_as_others(tmp_path):
    times = {"train": "2020-01-01T00:00:00Z", "dev": "2020-01-01T00:01:50Z", "test": "2020-01-01T00:10:00Z"}
    records = [({"trace_name": x, "split": x, "station_code": "A", "trace_start_time": times[x]}) for x in times]
    dataset = written(tmp_path / "x", [(metadata, np.ones((3, 18_000))) for metadata in records])
    assert not dataset["trace_name"].str.contains("18000").any()
    assert len(splits.take_split(dataset, "test")) == 1
    with pytest.raises(ValueError, match="no dev split"):
        splits.take_split(dataset, "dev")


def test_records_share_samples_with_those_that_are_not_chosen_too(tmp_path):
    times = {"station_code": "A", "trace_p_arrival_sample": 1.0}
    records = [
        ({**times, "split": split, "trace_start_time": time, "trace_category": category}, np.eye(3))
        for split, time, category in (
            ("train", "2020-01-01T00:00:00Z", "earthquake_local"),
            ("train", "2021-01-01T00:00:00Z", "noise"),
            ("dev", "2020-01-01T00:00:30Z", "noise"),
            ("dev", "2022-01-01T00:00:30Z", "noise"),
        )
    ]
    written(tmp_path / "x", records)
    noise = datasets.open_chosen(DatasetChoice(str(tmp_path / "x"), category=("noise",)))
    assert splits.take_split(noise, "dev")["trace_start_time"].tolist() == ["2022-01-01T00:00:30Z"]


def test_splits_of_the_shared_data_share_no_samples(shared_data):
    events = datasets.open_chosen(DatasetChoice(str(shared_data / "data" / "events")))
    assert [splits.in_split(events.metadata, split).sum() for split in splits.SPLITS] == [1795, 228, 282]
