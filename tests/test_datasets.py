"""Datasets by name and path, their records, chosen by metadata, and splits that share no samples."""

import time
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import seisbench
import seisbench.data as sbd
import seisbench.generate as sbg
from written import written

from seisbench_cdiffsd.data import augmentations as aug
from seisbench_cdiffsd.data import datasets, pairs
from seisbench_cdiffsd.data.settings import DatasetChoice
from seisbench_cdiffsd.data.stores import InMemory, Joined, OnDisk, with_columns


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Earthquakes and noise in one dataset, with metadata to choose by; record 3 has a NaN."""
    random, records = np.random.default_rng(0), []
    for number in range(8):
        waveform = random.normal(size=(3, 3000)) * [[1], [2], [3]]
        waveform[1, 7] = np.nan if number == 3 else 0
        metadata = {
            "trace_category": "noise" if number % 2 else "earthquake_local",
            "trace_p_arrival_sample": np.nan if number % 2 else 1000.0,
            "trace_channel": "HH" if number < 4 else "EH",
            "trace_snr_db": f"[{number}.0 {number + 1}.0 {number + 2}.0]",
            "source_magnitude": np.nan if number % 2 else number / 2,
            "source_distance_km": 10.0 * number,
            "trace_clipped": number == 6,
            "split": "dev" if number > 5 else "train",
        }
        records.append(({"trace_name": f"t{number}", **metadata}, waveform))
    return written(tmp_path_factory.mktemp("x") / "mixed", records, "ENZ").path


@pytest.fixture(scope="module")
def mixed(folder):
    return datasets.open_chosen(DatasetChoice(str(folder)))


def numbers(dataset):
    return (dataset.metadata["source_distance_km"] / 10).astype(int).tolist()


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"category": ("noise",)}, [1, 3, 5, 7]),
        ({"instrument": ("H",)}, [0, 1, 2, 3]),
        ({"snr": (4, 6)}, [3, 4, 5]),
        ({"magnitude": (1, 2.5)}, [2, 4]),
        ({"distance": (10, 30), "category": ("noise",)}, [1, 3]),
        ({"where": {"trace_channel": ("EH",), "source_distance_km": (0, 50)}}, [4, 5]),
    ],
)
def test_records_are_chosen_by_their_metadata(folder, wanted, left):
    assert numbers(datasets.open_chosen(DatasetChoice(str(folder), **wanted))) == left


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"magnitude": (8, 9)}, "No record .* is left with magnitude from 8 to 9"),
        ({"where": {"trace_moon": (1,)}}, "no column 'trace_moon'"),
        ({"exclude": "nowhere.csv"}, r"nowhere\.csv: No such file"),
    ],
)
def test_selections_that_leave_nothing_are_reported(folder, wanted, message):
    with pytest.raises(ValueError, match=message):
        datasets.open_chosen(DatasetChoice(str(folder), **wanted))


def test_records_are_left_out_by_name_and_a_list_of_none_of_them_is_the_wrong_one(folder, mixed, tmp_path):
    choice = DatasetChoice(str(folder), exclude=str(tmp_path / "exclude.csv"))
    for content, message in (("trace_name\nelsewhere\n", "None of the names"), ("name\nx\n", "a column trace_name")):
        (tmp_path / "exclude.csv").write_text(content)
        with pytest.raises(ValueError, match=message):
            datasets.open_chosen(choice)
    mixed["trace_name"][[1, 4]].to_csv(tmp_path / "exclude.csv")
    assert numbers(datasets.open_chosen(choice)) == [0, 2, 3, 5, 6, 7]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("trace_sampling_rate_hz", 1e9, "its trace_sampling_rate_hz is 1000000000.0"),
        ("trace_sampling_rate_hz", 1e-9, "its trace_sampling_rate_hz is 1e-09"),
        ("trace_p_arrival_sample", np.inf, "cannot be used"),
        ("trace_p_arrival_sample", "early", "of dataset x has 'early' for trace_p_arrival_sample.* remove its row"),
        ("trace_start_time", "9999-12-31", None),
        ("trace_npts", 1e300, None),
        (None, None, "metadata.csv has no rows"),
    ],
)
def test_odd_rows_of_metadata_are_named_or_do_no_harm(tmp_path, column, value, message):
    waveform = np.random.default_rng(0).normal(size=(3, 3500))
    usual = {"trace_start_time": "2020-01-01", "trace_p_arrival_sample": 10.0}
    written(tmp_path / "x", [({**usual, "station_code": s, "split": s}, waveform) for s in ("train", "dev")])
    table = pd.read_csv(tmp_path / "x" / "metadata.csv").assign(trace_sampling_rate_hz=100.0, trace_npts=3500.0)
    table = table.astype({column: object} if column else {})
    if column:
        table.loc[1, column] = value
    (table if column else table.iloc[:0]).to_csv(tmp_path / "x" / "metadata.csv", index=False)
    with pytest.raises(ValueError, match=message) if message else nullcontext():
        dataset = datasets.take_split(datasets.open_chosen(DatasetChoice(str(tmp_path / "x"))), "dev")
        assert len(InMemory(datasets.earthquakes_of(dataset), pairs.target(-np.inf, mute=True), "stop")) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("STEAD", "not in SeisBench's cache.*download = true"),
        ("Moonquakes", "neither a folder nor a name"),
        ("EQSDenoiserCombined", "several in one: name each"),
        (".", "not a dataset in SeisBench's format"),
    ],
)
def test_missing_datasets_are_named(tmp_path, monkeypatch, name, message):
    monkeypatch.setattr(seisbench, "cache_data_root", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        datasets.open_chosen(DatasetChoice(name))


def test_one_dataset_gives_earthquakes_and_noise_of_one_split(mixed):
    train, dev = (datasets.take_split(mixed, split) for split in ("train", "dev"))
    assert numbers(datasets.earthquakes_of(train)) == [0, 2, 4] and numbers(datasets.noise_of(train)) == [1, 3, 5]
    with pytest.raises(ValueError, match=r"no earthquakes .* not clipped"):
        datasets.earthquakes_of(dev)
    assert numbers(datasets.earthquakes_of(dev, clipped=True)) == [6]
    with pytest.raises(ValueError, match="no test split"):
        datasets.take_split(mixed, "test")


def test_damaged_records_are_skipped_or_named(mixed):
    assert len(InMemory(mixed, [])) == 7
    unknown = with_columns(mixed, {aug.RATE_KEY: mixed.metadata[aug.RATE_KEY].where(np.arange(8) > 1)})
    assert len(InMemory(unknown, [])) == 5 and OnDisk(unknown, []).ready().gigabytes() > 0
    with pytest.raises(ValueError, match=r"Trace \S+ of dataset mixed.* with NaN or infinite samples"):
        InMemory(mixed, [], damaged="stop")
    with pytest.raises(ValueError, match="Trace"):
        OnDisk(mixed, [], damaged="stop").get_sample(3)


def test_records_from_disk_are_those_in_memory_and_replaced_alike_where_unusable(mixed):
    noise = datasets.noise_of(mixed)
    memory, disk = InMemory(noise, pairs.background(3000)), OnDisk(noise, pairs.background(3000))
    assert (len(memory), len(disk)) == (3, 4)
    np.testing.assert_array_equal(disk.get_sample(0)[0], memory.get_sample(0)[0])
    (first, metadata), (again, _) = disk.get_sample(1), disk.get_sample(1)
    assert np.isfinite(first).all() and metadata["source_distance_km"] != 30
    np.testing.assert_array_equal(first, again)
    assert metadata["trace_component_order"] == "ZNE"
    assert disk.gigabytes() == pytest.approx(4 * 3 * 3000 * 4e-9)
    for store in (memory, disk):  # samples can be changed without harm
        waveform, metadata = store.get_sample(0)
        waveform[:] = 0
        metadata.clear()
        assert store.get_sample(0)[0].any() and store.get_sample(0)[1]


def test_records_in_memory_are_in_band_and_of_unit_peak(mixed):
    waveform, _ = InMemory(mixed, pairs.background(3000)).get_sample(0)
    spectrum, frequency = abs(np.fft.rfft(waveform)) ** 2, np.fft.rfftfreq(3000, 0.01)
    assert spectrum[:, frequency < 0.5].sum() < 5e-3 * spectrum.sum()
    assert abs(waveform).max() == pytest.approx(1, rel=1e-5)
    record = np.random.default_rng(0).normal(size=(3, 2000))
    ours, theirs = ({"X": (record, {"trace_sampling_rate_hz": 100.0})} for _ in range(2))
    aug.in_band(ours)
    sbg.Filter(4, [1, 45], "bandpass", forward_backward=True)(theirs)
    np.testing.assert_array_equal(ours["X"][0], theirs["X"][0])


def test_what_has_no_usable_record_is_refused_with_the_reasons(mixed, tmp_path):
    def nowhere(state):
        raise aug.Unusable("without the moon")

    for store in (lambda steps: OnDisk(mixed, steps).ready(), lambda steps: InMemory(mixed, steps)):
        with pytest.raises(ValueError, match=r"No usable record.*without the moon"):
            store([nowhere])
        with pytest.raises(ValueError, match=r"No usable record.*: [78] shorter than 30.01 s, 1 with NaN"):
            store(pairs.background(3001))
    with pytest.raises(ValueError, match="without an SNR of at least 1000 dB"):
        InMemory(datasets.earthquakes_of(mixed), pairs.target(1000, mute=True))
    with pytest.raises(ValueError, match="No usable record"):
        InMemory(
            written(tmp_path / "x", [({"trace_p_arrival_sample": 10.0}, np.eye(3, 20))]), pairs.target(10, mute=True)
        )


def test_joined_stores_follow_one_another(mixed):
    stores = [InMemory(mixed, []), InMemory(datasets.noise_of(mixed), [])]
    samples = [sample for store in stores for sample, _ in store.samples]
    joined = Joined(stores)
    assert len(joined) == len(joined.metadata) == len(samples) == 10
    assert all(np.array_equal(joined.get_sample(index)[0], sample) for index, sample in enumerate(samples))


def test_labelled_records_without_a_category_are_no_noise(tmp_path):
    dataset = written(tmp_path / "x", [({"trace_p_arrival_sample": p}, np.eye(3)) for p in (1.0, np.nan, 2.0)])
    noise = datasets.noise_of(dataset)
    assert len(noise) == 1 and noise["trace_p_arrival_sample"].isna().all()
    assert len(datasets.noise_of(dataset, ("any",))) == 3
    with pytest.raises(ValueError, match="holds no noise: all of its records have a P label"):
        datasets.noise_of(datasets.earthquakes_of(dataset))


@pytest.mark.parametrize("names", [("P", "S", "p1"), ("Pg", "Sg", "Pn")])
def test_labels_are_found_under_the_names_that_seisbench_has(tmp_path, names):
    p, s, other = (f"trace_{name}_arrival_sample" for name in names)
    records = [({p: 1.0, s: 2.0}, np.eye(3)), ({p: np.nan, other: 3.0}, np.eye(3)), ({}, np.eye(3))]
    dataset = written(tmp_path / "x", records, metadata_cache=True)
    labelled = datasets.earthquakes_of(dataset)
    assert labelled["trace_p_arrival_sample"].tolist() == [1, 3]
    assert labelled.get_sample(0)[1]["trace_s_arrival_sample"] == 2
    assert "trace_p_arrival_sample" in datasets.open_dataset(str(tmp_path / "x")).metadata
    assert "trace_p_arrival_sample" not in dataset.metadata


@pytest.mark.parametrize("rate", [50, 125, 1000])
def test_records_at_other_rates_neither_ring_nor_shift(tmp_path, rate):
    random, samples = np.random.default_rng(0), 60 * rate
    noise = 100 * random.normal(size=(3, samples))
    stuck, spike = noise.copy(), 0.001 * noise
    stuck[:, samples // 3 : samples // 2] = 12345.678
    spike[:, samples // 2] = 1e4
    label = {"trace_p_arrival_sample": samples / 2}
    drifting = noise + 1e5 + np.linspace(0, 1e4, samples)
    dataset = written(tmp_path / "x", [({}, drifting), (label, spike), ({}, stuck)], rate=rate)
    store = OnDisk(dataset, pairs.background(3000))
    first, _ = store.read(0)
    middle = first[:, 1000:-1000].std()
    assert 0.7 * middle < first[:, :50].std() < 1.4 * middle and 0.7 * middle < first[:, -50:].std() < 1.4 * middle
    waveform, metadata = store.read(1)
    assert metadata["trace_p_arrival_sample"] == 3000 == np.abs(waveform[0]).argmax()
    assert metadata["trace_sampling_rate_hz"] == 100 and metadata["trace_npts"] == waveform.shape[1]
    assert store.read(2) is None  # it is stuck for ten seconds
    assert store.gigabytes() == pytest.approx(3 * 4 * 3 * 6000e-9)


def test_silent_components_are_zero(tmp_path):
    waveform = 100 * np.random.default_rng(0).normal(size=(3, 6000)).astype(np.float32)
    waveform[2] = 12345.678
    store = InMemory(written(tmp_path / "x", [({}, waveform)]), pairs.background(3000))
    assert store.get_sample(0)[0].any(axis=1).tolist() == [True, True, False]


def test_rare_usable_records_are_found_on_disk_too(tmp_path):
    def only(state):
        if state["X"][1]["trace_number"] != 150:
            raise aug.Unusable("rare")

    dataset = written(tmp_path / "x", [({"trace_number": i}, np.arange(9.0).reshape(3, 3)) for i in range(300)])
    store = OnDisk(dataset, [only]).ready()
    assert all(store.get_sample(i)[1]["trace_number"] == 150 for i in range(0, 300, 50))


@pytest.mark.parametrize("order", ["Z12", "Z1E"])
@pytest.mark.parametrize("metadata_cache", [True, False])
def test_components_1_and_2_are_taken_for_n_and_e(tmp_path, order, metadata_cache):
    waveform = np.arange(1, 10, dtype=np.float32).reshape(3, 3)
    dataset = written(tmp_path / "x", [({}, waveform)], order, metadata_cache=metadata_cache)
    np.testing.assert_array_equal(InMemory(dataset, []).get_sample(0)[0], waveform)


def test_some_records_are_the_same_ones_each_time_and_others_with_another_seed(mixed):
    first, again, other = (numbers(datasets.some(mixed, 3, seed)) for seed in (0, 0, 1))
    assert len(set(first)) == 3 and first == again != other and first == sorted(first)
    assert datasets.some(mixed, None) is datasets.some(mixed, 8) is mixed
    with pytest.raises(ValueError, match="dimension_order='NCW'"):
        OnDisk(sbd.WaveformDataset(mixed.path, component_order="ZNE", dimension_order="NWC"), [])


def table(times, split="train", **columns):
    """Metadata of records of 60 s of station A that start so many seconds after an hour."""
    start = (pd.Timestamp("2020-01-01T00:00:00Z") + pd.to_timedelta(times, unit="s")).map(str)
    known = {"station_code": "A", "trace_npts": 6000, "trace_sampling_rate_hz": 100.0}
    return pd.DataFrame({"split": split, "trace_start_time": start, **known, **columns})


def stored(path, *tables):
    rows = [row.dropna().to_dict() for table in tables for _, row in table.iterrows()]
    return written(path, [(row, np.eye(3)) for row in rows])


def test_whatever_shares_samples_is_found_by_comparing_all_with_all():
    random, count = np.random.default_rng(0), 300
    start, samples = random.integers(0, 40_000, count), random.integers(50, 60_000, count)
    names = pd.Series(range(count)).astype(str) + "$0,:3,:" + pd.Series(samples).astype(str)
    told = np.where(random.random(count) < 0.5, samples, np.nan)
    split, station = random.choice(datasets.SPLITS, count), random.choice(["A", "B"], count)
    metadata = table(start, split, station_code=station, trace_name=names, trace_npts=told)
    assert datasets.in_split(metadata.drop(columns="trace_start_time"), "dev").sum() == (split == "dev").sum()
    odd = random.random(count) < 0.2  # which cannot be compared, and count as apart
    metadata.loc[odd, "trace_start_time"] = random.choice(["", "1", "unknown"], odd.sum())
    place = np.where(odd, np.arange(count).astype(str), station)
    metadata.loc[::7, "trace_start_time"] = metadata.loc[::7, "trace_start_time"].str.replace(" ", "T")

    def shared(least, records, others):
        end = start + np.maximum(samples / 100, least)
        both = (start[:, None] <= end) & (end[:, None] >= start) & (place[:, None] == place)
        return both[np.ix_(others, records)].any(axis=0)

    for number, name in enumerate(datasets.SPLITS):
        own, earlier = split == name, np.isin(split, datasets.SPLITS[:number])
        left = datasets.in_split(metadata, name)
        np.testing.assert_array_equal(left[own], ~shared(100, own, earlier))
        assert not left[~own].any()
        np.testing.assert_array_equal(
            datasets.share_samples(metadata[own], metadata[~own]), found := shared(0, own, ~own)
        )
        assert 0 < found.sum() < own.sum()


def test_records_that_do_not_tell_their_length_count_as_long_as_others(tmp_path):
    times = {"train": "2020-01-01T00:00:00Z", "dev": "2020-01-01T00:01:50Z", "test": "2020-01-01T00:10:00Z"}
    records = [({"trace_name": x, "split": x, "station_code": "A", "trace_start_time": times[x]}) for x in times]
    dataset = written(tmp_path / "x", [(metadata, np.ones((3, 18_000))) for metadata in records])
    assert not dataset["trace_name"].str.contains("18000").any()
    assert len(datasets.take_split(dataset, "test")) == 1
    with pytest.raises(ValueError, match="no dev split"):
        datasets.take_split(dataset, "dev")


def test_records_share_samples_with_those_that_are_not_chosen_too(tmp_path):
    noise = {"trace_category": "noise", "trace_p_arrival_sample": 1.0}
    quake = table([0], **{**noise, "trace_category": "earthquake_local"})
    stored(tmp_path / "x", quake, table([9000], **noise), table([30, 18_000], "dev", **noise))
    noise = datasets.open_chosen(DatasetChoice(str(tmp_path / "x"), category=("noise",)))
    assert datasets.take_split(noise, "dev")["trace_start_time"].str[11:16].tolist() == ["05:00"]


def test_records_of_two_datasets_share_samples_at_one_station_and_one_time():
    noise, event, times = table([-70, -50, 0, 50, 70]), table([0], "dev"), ["trace_start_time", "station_code"]
    assert datasets.share_samples(noise, event).tolist() == [False, True, True, True, False]
    for other in (noise.assign(station_code="B"), noise.assign(station_network_code="XX"), noise.drop(columns=times)):
        assert not datasets.share_samples(other, event).any()
    # those that do not tell their length have that of others
    assert datasets.share_samples(noise, event.drop(columns="trace_npts"), (0, 80)).tolist() == [False] + 4 * [True]
    assert datasets.share_samples(noise.drop(columns="trace_npts"), event, (80, 0)).tolist() == 4 * [True] + [False]


def test_noise_keeps_apart_from_earthquakes_of_other_splits_but_not_of_its_own(tmp_path):
    quake = {"trace_Pg_arrival_sample": 10.0}

    noise = stored(tmp_path / "noise", table([0, 1000, 2000, 3000], "test"))
    events = stored(
        tmp_path / "events", table([30], "train", **quake), table([1030], "dev", **quake), table([2030], "test")
    )
    both = stored(tmp_path / "both", table([30], "train"), table([1030], "dev", trace_category="noise", **quake))
    more = stored(tmp_path / "more", table([3030], "train", **quake))
    assert datasets.noise_apart(noise, [both], "test") is noise  # what is no earthquake does no harm

    def left(*events, split="test"):
        return (datasets.noise_apart(noise, events, split)["trace_start_time"].str[11:16]).tolist()

    assert left(events) == ["00:33", "00:50"] and left(events, more) == ["00:33"]
    assert left(events, split="train") == ["00:00", "00:33", "00:50"]
    events.metadata["split"] = None
    assert left(events) == ["00:00", "00:16", "00:33", "00:50"]
    whole = stored(tmp_path / "whole", table([0, 1000, 2000, 3000], "dev", **quake))
    with pytest.raises(ValueError, match=r"All test noise of dataset .* overlaps earthquake records"):
        left(whole)


def test_many_records_are_compared_in_seconds():
    random, count = np.random.default_rng(0), 200_000
    metadata = table(random.integers(0, 10**8, count), station_code=random.integers(0, 400, count).astype(str))
    begin = time.perf_counter()
    shared = datasets.share_samples(metadata[: count // 2], metadata[count // 2 :])
    assert 0 < shared.sum() < count // 20 and time.perf_counter() - begin < 12


def test_the_shared_noise_keeps_apart_from_the_shared_earthquakes(shared_data):
    events, noise = (datasets.open_dataset(str(shared_data / "data" / name)) for name in ("events", "noise"))
    assert [datasets.in_split(events.metadata, split).sum() for split in datasets.SPLITS] == [1795, 228, 282]
    left_out = {}
    for split in datasets.SPLITS:
        whole = datasets.take_split(noise, split)
        apart = datasets.noise_apart(whole, [events], split)
        gone = whole.metadata[~whole["trace_name"].isin(apart["trace_name"])]
        left_out[split] = sorted(gone["station_code"])
        others = events.metadata[events["split"] != split]
        assert datasets.share_samples(gone, others).all() and not datasets.share_samples(apart.metadata, others).any()
    assert left_out == {"train": ["KLEF", "KLEF", "MRON"], "dev": [], "test": ["SHAI"] * 3}
