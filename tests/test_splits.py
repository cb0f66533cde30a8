"""Splits share no samples, whatever the metadata tell of the times and lengths of records."""

import time

import numpy as np
import pandas as pd
import pytest
from written import written

from seisbench_cdiffsd.data import datasets, splits
from seisbench_cdiffsd.data.settings import DatasetChoice


def table(times, split="train", **columns):
    """Metadata of records of 60 s of station A that start so many seconds after an hour."""
    start = (pd.Timestamp("2020-01-01T00:00:00Z") + pd.to_timedelta(times, unit="s")).map(str)
    known = {"station_code": "A", "trace_npts": 6000, "trace_sampling_rate_hz": 100.0}
    return pd.DataFrame({"split": split, "trace_start_time": start, **known, **columns})


def test_records_that_share_samples_with_an_earlier_split_are_left_out():
    # the second starts while the first continues, the third while the second does; the fourth is of another station
    metadata = table(
        [0, 90, 120, 90, 0, 0], ["train", "dev", "test", "test", "test", "dev"], station_code=list("AAABAA")
    )
    metadata.loc[2:, "trace_start_time"] = ["2020-01-01 00:02:00", "2020-01-01T00:01:30Z", "", "1"]
    assert splits.in_split(metadata, "train").tolist() == [True, False, False, False, False, False]
    assert splits.in_split(metadata, "dev").tolist() == [False, False, False, False, False, True]
    assert splits.in_split(metadata, "test").tolist() == [False, False, False, True, True, False]
    assert splits.in_split(metadata.drop(columns="trace_start_time"), "dev").sum() == 2


def test_whatever_shares_samples_is_found_by_comparing_all_with_all():
    random, count = np.random.default_rng(0), 300
    start, samples = random.integers(0, 40_000, count), random.integers(50, 60_000, count)
    names = pd.Series(range(count)).astype(str) + "$0,:3,:" + pd.Series(samples).astype(str)
    told = np.where(random.random(count) < 0.5, samples, np.nan)
    split, station = random.choice(splits.SPLITS, count), random.choice(["A", "B"], count)
    metadata = table(start, split, station_code=station, trace_name=names, trace_npts=told)

    def shared(least, records, others):
        end = start + np.maximum(samples / 100, least)
        both = (start[:, None] <= end) & (end[:, None] >= start) & (station[:, None] == station)
        return both[np.ix_(others, records)].any(axis=0)

    for number, name in enumerate(splits.SPLITS):
        own, earlier = split == name, np.isin(split, splits.SPLITS[:number])
        left = splits.in_split(metadata, name)
        np.testing.assert_array_equal(left[own], ~shared(100, own, earlier))
        assert not left[~own].any()
        np.testing.assert_array_equal(
            splits.share_samples(metadata[own], metadata[~own]), found := shared(0, own, ~own)
        )
        assert 0 < found.sum() < own.sum()


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


def test_records_of_two_datasets_share_samples_at_one_station_and_one_time():
    noise, event = table([-70, -50, 0, 50, 70]), table([0], "dev")
    assert splits.share_samples(noise, event).tolist() == [False, True, True, True, False]
    assert not splits.share_samples(noise.assign(station_code="B"), event).any()
    assert not splits.share_samples(noise.assign(station_network_code="XX"), event).any()
    assert not splits.share_samples(noise.assign(trace_start_time="unknown"), event).any()
    assert not splits.share_samples(noise.drop(columns=["trace_start_time", "station_code"]), event).any()
    # those that do not tell their length have that of others
    assert splits.share_samples(noise, event.drop(columns="trace_npts"), (0, 80)).tolist() == [False] + 4 * [True]
    assert splits.share_samples(noise.drop(columns="trace_npts"), event, (80, 0)).tolist() == 4 * [True] + [False]


def test_noise_keeps_apart_from_earthquakes_of_other_splits_but_not_of_its_own(tmp_path):
    quake = {"trace_Pg_arrival_sample": 10.0}

    def dataset(name, *tables):
        rows = [row.dropna().to_dict() for table in tables for _, row in table.iterrows()]
        return written(tmp_path / name, [(row, np.eye(3)) for row in rows])

    noise = dataset("noise", table([0, 1000, 2000, 3000], "test"))
    events = dataset("events", table([30], "train", **quake), table([1030], "dev", **quake), table([2030], "test"))
    both = dataset("both", table([30], "train"), table([1030], "dev", trace_category="noise", **quake))
    more = dataset("more", table([3030], "train", **quake))
    assert datasets.noise_apart(noise, [both], "test") is noise  # what is no earthquake does no harm

    def left(*events, split="test"):
        return (datasets.noise_apart(noise, events, split)["trace_start_time"].str[11:16]).tolist()

    assert left(events) == ["00:33", "00:50"] and left(events, more) == ["00:33"]
    assert left(events, split="train") == ["00:00", "00:33", "00:50"]
    events.metadata["split"] = None
    assert left(events) == ["00:00", "00:16", "00:33", "00:50"]
    whole = dataset("whole", table([0, 1000, 2000, 3000], "dev", **quake))
    with pytest.raises(ValueError, match=r"All test noise of dataset .* overlaps earthquake records"):
        left(whole)


def test_a_million_records_are_compared_in_seconds():
    count, random = 1_000_000, np.random.default_rng(0)
    start = random.integers(0, 10**9, count).astype("datetime64[s]").astype(str)
    columns = {"trace_npts": 6000, "trace_sampling_rate_hz": 100.0, "trace_start_time": start}
    stations = random.choice([f"S{i:04d}" for i in range(2000)], count)
    metadata = pd.DataFrame({"station_code": stations, **columns})
    begin = time.perf_counter()
    shared = splits.share_samples(metadata[: count // 2], metadata[count // 2 :])
    assert 0 < shared.sum() < count // 20 and time.perf_counter() - begin < 60


def test_the_shared_noise_keeps_apart_from_the_shared_earthquakes(shared_data):
    events, noise = (datasets.open_dataset(str(shared_data / "data" / name)) for name in ("events", "noise"))
    assert [splits.in_split(events.metadata, split).sum() for split in splits.SPLITS] == [1795, 228, 282]
    left_out = {}
    for split in splits.SPLITS:
        whole = splits.take_split(noise, split)
        apart = datasets.noise_apart(whole, [events], split)
        gone = whole.metadata[~whole["trace_name"].isin(apart["trace_name"])]
        left_out[split] = sorted(gone["station_code"])
        others = events.metadata[events["split"] != split]
        assert splits.share_samples(gone, others).all() and not splits.share_samples(apart.metadata, others).any()
    assert left_out == {"train": ["KLEF", "KLEF", "MRON"], "dev": [], "test": ["SHAI"] * 3}
