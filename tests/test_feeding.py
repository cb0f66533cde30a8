"""Batches: the same in any process, shared without overlap, and with errors that name what is wrong with a record."""

import copy
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
import seisbench.data as sbd
from written import written

from seisbench_cdiffsd.data import pairs
from seisbench_cdiffsd.training import feeding
from seisbench_cdiffsd.training.config import DatasetChoice, Machine, TrainingConfig

CONFIG = TrainingConfig(batch_size=8, steps=4, validation_events=1)


@pytest.fixture(scope="module")
def parts(small_datasets):
    return [[(dataset, DatasetChoice(dataset.name))] for dataset in small_datasets]


@pytest.fixture(scope="module")
def data(parts):
    return feeding.load_data(*parts, CONFIG, pairs.band_pass())


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 1), (2, 1), (2, 2), (1, 4)])
def test_processes_share_each_batch_without_overlap(processes, accumulate):
    config = TrainingConfig(batch_size=8, steps=4, machine=Machine(devices=processes, accumulate=accumulate))
    places = [list(feeding.Places(config, 1, rank, processes)) for rank in range(processes)]
    assert {len(batch) for rank in places for batch in rank} == {8 // processes // accumulate}
    everything = sorted(place for rank in places for batch in rank for place in batch)
    assert everything == [(step, i) for step in (1, 2, 3) for i in range(8)]
    # every part has its share of the first half, which the second term of the loss is of
    assert all(sum(i < 4 for _, i in batch) == len(batch) / 2 for rank in places for batch in rank)


def test_an_example_is_the_same_at_any_time_and_unlike_all_others(data):
    examples = feeding.Examples(data, CONFIG)
    first, again = examples[3, 5], examples[3, 5]
    np.testing.assert_array_equal(first["clean"], again["clean"])
    np.testing.assert_array_equal(first["noise"], again["noise"])
    assert (first["level"], first["lower"], first["names"]) == (again["level"], again["lower"], again["names"])
    for other in (examples[3, 4], examples[2, 5]):
        assert not np.array_equal(first["noise"], other["noise"])


def test_batches_have_what_an_update_needs(data):
    batch = next(iter(feeding.loader(data, CONFIG)))
    assert batch["clean"].shape == batch["noise"].shape == (8, 3, 3000)
    assert (batch["lower"] < batch["level"]).all() and (batch["level"] <= 1).all()
    assert len(batch["names"]) == 8 and all("bucket" in name and " + " in name for name in batch["names"])
    clean, noise = feeding.whole_batch(data, CONFIG, 0)
    assert clean.equal(batch["clean"]) and noise.equal(batch["noise"])


def test_sources_are_balanced_by_the_root_of_their_records(small_datasets, parts):
    events, noise = (dataset.filter(np.ones(len(dataset), dtype=bool), inplace=False) for dataset in small_datasets)
    for dataset, column in ((events, "trace_source"), (noise, "station_code")):
        rare = [number == 1 for number in range(len(dataset))]  # one of those to train on
        dataset.metadata[column] = np.where(rare, "rare", "common")
    chosen = [[(events, DatasetChoice("a"))], [(noise, DatasetChoice("b"))]]
    for balance in (True, False):
        data = feeding.load_data(*chosen, replace(CONFIG, balance=balance), pairs.band_pass())
        store = data.pairs.dataset
        rare = (store.metadata["trace_source"] == "rare").to_numpy()
        assert rare.sum() == 1
        common = len(rare) - 1
        assert data.chances[rare] / data.chances[~rare].sum() == pytest.approx(common**-0.5 if balance else 1 / common)
        single = replace(CONFIG.augmentations, mixed_noise=0.0)
        data = feeding.load_data(*chosen, replace(CONFIG, balance=balance, augmentations=single), pairs.band_pass())
        examples, rare_noise = feeding.Examples(data, CONFIG), noise["trace_name"].iloc[1]
        names = [str(examples[0, i]["names"]).partition(" + ") for i in range(400)]
        share = np.mean([rare_noise in noise_name for _, _, noise_name in names])
        assert share == pytest.approx(1 / (1 + 5**0.5) if balance else 1 / 6, abs=0.06)
        share = np.mean([store.metadata["trace_name"][np.flatnonzero(rare)[0]] in name for name, _, _ in names])
        assert share == pytest.approx(data.chances[rare][0], abs=0.06)


@pytest.mark.parametrize("balance", [True, False])
def test_validation_draws_its_noise_as_the_training_does(small_datasets, tmp_path, balance):
    random, records = np.random.default_rng(0), []
    for number in range(7):  # one to train on, and of one station a single record, which is silent on E
        waveform = random.normal(size=(3, 6000)) * [[1], [1], [number != 1]]
        metadata = {"split": "dev" if number else "train", "station_code": "rare" if number == 1 else "common"}
        records.append((metadata, waveform))
    noise = written(tmp_path / "noise", records)
    config = replace(CONFIG, balance=balance, validation_events=200)
    swapped = small_datasets[0].filter(np.ones(len(small_datasets[0]), dtype=bool), inplace=False)
    swapped.metadata["split"] = swapped.metadata["split"].map({"train": "dev", "dev": "train"})  # more to validate on
    data = feeding.load_data(
        [(swapped, DatasetChoice("a"))] * 20, [(noise, DatasetChoice("b"))], config, pairs.band_pass()
    )
    rare = ~data.validation.noise[:, 2].any(axis=1)
    assert len(rare) > 700 and rare.mean() == pytest.approx(1 / (1 + 5**0.5) if balance else 1 / 6, abs=0.06)


def test_noise_that_overlaps_an_earthquake_of_another_split_is_left_out(small_datasets):
    events, noise = (dataset.filter(np.ones(len(dataset), dtype=bool), inplace=False) for dataset in small_datasets)
    # on the day of noise 1, which is of train, is event 4 of dev; on that of noise 4, of dev, is event 1 of train
    for dataset, days in ((events, range(1, 13)), (noise, (1, 5, 3, 4, 2, 6, 7, 8))):
        dataset.metadata["station_code"] = "A"
        dataset.metadata["trace_start_time"] = [f"2020-01-{day:02d}T00:00:00Z" for day in days]

    def load(noise):
        chosen = [(events, DatasetChoice("a"))], [(noise, DatasetChoice("b"))]
        return feeding.load_data(*chosen, CONFIG, pairs.band_pass())

    data, apart = load(noise), load(noise.filter(~np.isin(np.arange(8), [1, 4]), inplace=False))
    assert data.fingerprint == apart.fingerprint
    np.testing.assert_array_equal(data.validation.noise, apart.validation.noise)
    noise.metadata["station_code"] = "B"
    assert load(noise).fingerprint != apart.fingerprint


def test_weights_of_datasets_are_their_shares(small_datasets, parts):
    (events, _), _ = parts[0][0], parts[1][0]
    twice = [(events, DatasetChoice("a", weight=3)), (events, DatasetChoice("b"))]
    data = feeding.load_data(twice, parts[1] * 2, CONFIG, pairs.band_pass())
    half = len(data.chances) // 2
    assert data.chances.sum() == pytest.approx(1) and data.chances[:half].sum() == pytest.approx(0.75)
    assert feeding.whole_batch(data, CONFIG, 0)[0].isfinite().all()


def test_a_dataset_without_a_dev_split_is_trained_on_alone(small_datasets, parts, data):
    events = small_datasets[0].filter((small_datasets[0]["split"] == "train").to_numpy(), inplace=False)
    more = feeding.load_data([*parts[0], (events, DatasetChoice("b"))], parts[1], CONFIG, pairs.band_pass())
    assert len(more.chances) == 2 * len(data.chances)
    np.testing.assert_array_equal(more.validation.noisy, data.validation.noisy)
    with pytest.raises(ValueError, match="no dev split"):
        feeding.load_data([(events, DatasetChoice("b"))], parts[1], CONFIG, pairs.band_pass())


def test_a_record_that_is_too_short_stops_the_training(data):
    short = copy.copy(data.pairs.dataset)
    short.samples = [(waveform[:, :2000], metadata) for waveform, metadata in short.samples]
    generator = pairs.training_pairs(data.pairs.dataset, short, pairs.band_pass())
    examples = feeding.Examples(replace(data, pairs=generator), CONFIG)
    with pytest.raises(ValueError, match="2000 samples"):
        feeding.checked(feeding.collate([examples[0, i] for i in range(8)]))


def test_other_data_have_another_fingerprint(small_datasets, parts, data):
    events = small_datasets[0].filter(np.arange(len(small_datasets[0])) != 1, inplace=False)
    assert (
        feeding.load_data([(events, DatasetChoice("a"))], parts[1], CONFIG, pairs.band_pass()).fingerprint
        != data.fingerprint
    )
    again = feeding.load_data(*parts, CONFIG, pairs.band_pass())
    assert (again.fingerprint, again.contents) == (data.fingerprint, data.contents)


def test_data_of_the_same_names_are_told_apart(small_datasets, parts, tmp_path):
    def contents(events, noise=parts[1], weight=1.0, **changes):
        chosen = [(events, DatasetChoice("a")), (small_datasets[0], DatasetChoice("b", weight=weight))]
        return feeding.load_data(chosen, noise, replace(CONFIG, **changes), pairs.band_pass()).contents

    events = small_datasets[0]
    moved = events.filter(np.ones(len(events), dtype=bool), inplace=False)
    moved.metadata["trace_s_arrival_sample"] += 50
    shutil.copytree(events.path, tmp_path / "louder")
    with h5py.File(tmp_path / "louder" / "waveforms.hdf5", "r+") as file:
        for bucket in file["data"].values():
            bucket[:] *= 2
    louder = sbd.WaveformDataset(tmp_path / "louder", component_order="ZNE")
    seen = [contents(events), contents(moved), contents(louder), contents(events, weight=2.0)]
    assert len({*seen, contents(events, balance=False)}) == 5
    assert contents(events) == seen[0]
