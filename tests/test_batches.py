"""Batches: the same in any process, shared without overlap, and with errors that name what is wrong with a record."""

import re
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
import seisbench.data as sbd
from written import written

from seisbench_cdiffsd.data.settings import DatasetChoice
from seisbench_cdiffsd.training import batches
from seisbench_cdiffsd.training.config import TrainingConfig

CONFIG = TrainingConfig(batch_size=8, steps=4, validation_events=1)


def chosen(*datasets, **choice):
    return [(dataset, DatasetChoice(dataset.name, **choice)) for dataset in datasets]


def load(events, noise, **changes):
    return batches.load_data(events, noise, replace(CONFIG, **changes))


def changeable(dataset):
    return dataset.filter(np.ones(len(dataset), dtype=bool), inplace=False)


@pytest.fixture(scope="module")
def parts(small_datasets):
    return [chosen(dataset) for dataset in small_datasets]


@pytest.fixture(scope="module")
def data(parts):
    return load(*parts)


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 1), (2, 1), (2, 2), (1, 4)])
def test_processes_share_each_batch_without_overlap(processes, accumulate):
    config = TrainingConfig(batch_size=8, steps=4, devices=processes, accumulate=accumulate)
    places = [list(batches.places(config, 1, rank, processes)) for rank in range(processes)]
    assert {len(batch) for rank in places for batch in rank} == {8 // processes // accumulate}
    everything = sorted(place for rank in places for batch in rank for place in batch)
    assert everything == [(step, i) for step in (1, 2, 3) for i in range(8)]
    # every part has its share of the first half, which the second term of the loss is of
    assert all(sum(i < 4 for _, i in batch) == len(batch) / 2 for rank in places for batch in rank)


def test_an_example_is_the_same_at_any_time_and_unlike_all_others(data):
    examples = batches.Examples(data, CONFIG)
    first, again = examples[3, 5], examples[3, 5]
    for key, value in first.items():
        np.testing.assert_array_equal(value, again[key])
    for other in (examples[3, 4], examples[2, 5]):
        assert not np.array_equal(first["noise"], other["noise"])
    batch = next(iter(batches.loader(data, CONFIG)))
    assert batch["clean"].shape == batch["noise"].shape == (8, 3, 3000)
    assert (batch["lower"] < batch["level"]).all() and (batch["level"] <= 1).all()
    assert len(batch["names"]) == 8 and all("bucket" in name and " + " in name for name in batch["names"])


@pytest.mark.parametrize("balance", [True, False])
def test_sources_are_balanced_by_the_root_of_their_records(small_datasets, balance):
    events, noise = map(changeable, small_datasets)
    for dataset, column in ((events, "trace_source"), (noise, "station_code")):
        rare = [number == 1 for number in range(len(dataset))]  # one of those to train on
        dataset.metadata[column] = np.where(rare, "rare", "common")
    single = replace(CONFIG.augmentations, mixed_noise=0.0)
    data = load(chosen(events), chosen(noise), balance=balance, augmentations=single)
    rare = (data.pairs.dataset.metadata["trace_source"] == "rare").to_numpy()
    common = len(rare) - 1
    assert data.chances[rare] / data.chances[~rare].sum() == pytest.approx(common**-0.5 if balance else 1 / common)
    examples = batches.Examples(data, CONFIG)
    names = [str(examples[0, i]["names"]).partition(" + ") for i in range(400)]
    share = np.mean([noise["trace_name"].iloc[1] in name for _, _, name in names])
    assert share == pytest.approx(1 / (1 + 5**0.5) if balance else 1 / 6, abs=0.06)


@pytest.mark.parametrize("balance", [True, False])
def test_validation_draws_its_noise_as_the_training_does(small_datasets, tmp_path, balance):
    waveforms = np.random.default_rng(0).normal(size=(7, 3, 6000))
    waveforms[1, 2] = 0  # the only record of its station is silent on E; the first one is to train on
    rows = [{"split": "dev" if x else "train", "station_code": "rare" if x == 1 else "common"} for x in range(7)]
    noise = written(tmp_path / "noise", zip(rows, waveforms, strict=True))
    swapped = changeable(small_datasets[0])
    swapped.metadata["split"] = swapped.metadata["split"].map({"train": "dev", "dev": "train"})  # more to validate on
    data = load(chosen(swapped) * 10, chosen(noise), balance=balance, validation_events=100)
    rare = ~data.validation.noise[:, 2].any(axis=1)
    assert len(rare) > 350 and rare.mean() == pytest.approx(1 / (1 + 5**0.5) if balance else 1 / 6, abs=0.06)


def test_noise_that_overlaps_an_earthquake_of_another_split_is_left_out(small_datasets):
    events, noise = map(changeable, small_datasets)
    # on the day of noise 1, which is of train, is event 4 of dev; on that of noise 4, of dev, is event 1 of train
    for dataset, days in ((events, range(1, 13)), (noise, (1, 5, 3, 4, 2, 6, 7, 8))):
        dataset.metadata["station_code"] = "A"
        dataset.metadata["trace_start_time"] = [f"2020-01-{day:02d}T00:00:00Z" for day in days]
    data = load(chosen(events), chosen(noise))
    apart = load(chosen(events), chosen(noise.filter(~np.isin(np.arange(8), [1, 4]), inplace=False)))
    assert data.fingerprint == apart.fingerprint
    np.testing.assert_array_equal(data.validation.noise, apart.validation.noise)
    noise.metadata["station_code"] = "B"
    assert load(chosen(events), chosen(noise)).fingerprint != apart.fingerprint


def test_weights_of_datasets_are_their_shares(small_datasets, parts):
    twice = chosen(small_datasets[0], weight=3) + chosen(small_datasets[0])
    chances = load(twice, parts[1] * 2).chances
    assert chances.sum() == pytest.approx(1) and chances[: len(chances) // 2].sum() == pytest.approx(0.75)


def test_a_dataset_without_a_dev_split_is_trained_on_alone(small_datasets, parts, data):
    bare = chosen(small_datasets[0].filter((small_datasets[0]["split"] == "train").to_numpy(), inplace=False))
    more = load([*parts[0], *bare], parts[1])
    assert len(more.chances) == 2 * len(data.chances)
    np.testing.assert_array_equal(more.validation.noisy, data.validation.noisy)
    with pytest.raises(ValueError, match="no dev split"):
        load(bare, parts[1])


def test_data_of_the_same_names_are_told_apart(small_datasets, parts):
    events = small_datasets[0]
    moved, slower = changeable(events), changeable(events)
    moved.metadata.loc[moved.metadata.index[5], "trace_s_arrival_sample"] += 1
    slower.metadata["trace_sampling_rate_hz"] = 99.0

    kinds = [(x, memory) for memory in (4.0, 0.0) for x in (events, moved, slower)]
    seen = [load(chosen(x), parts[1], memory=memory).fingerprint for x, memory in kinds]
    seen += [load(chosen(events) + chosen(events, weight=weight), parts[1]).fingerprint for weight in (1, 2)]
    seen.append(load(chosen(events), parts[1], balance=False).fingerprint)
    assert len(set(seen)) == 9 and load(chosen(events), parts[1]).fingerprint == seen[0]


@pytest.mark.parametrize("memory", [4.0, 0.0])
def test_any_changed_record_is_noticed(small_datasets, parts, tmp_path, memory):
    events, seen = small_datasets[0], []
    path = shutil.copytree(events.path, tmp_path / "x")
    places = [re.match(r"(\w+)\$(\d+)", name).groups() for name in events["trace_name"][events["split"] == "train"]]
    for bucket, number in [*places[::3], (None, 0), (None, 0)]:  # the last two are alike
        seen.append(load(chosen(sbd.WaveformDataset(path, component_order="ZNE")), parts[1], memory=memory).fingerprint)
        if bucket:
            with h5py.File(path / "waveforms.hdf5", "r+") as file:
                file["data"][bucket][int(number), 1, 3000] *= 1.001
    assert len(set(seen)) == len(seen) - 1 == 4 and seen[-1] == seen[-2]


def test_what_is_used_and_left_out_is_told(data):
    earthquakes, noise, held, _ = data.report
    assert "earthquakes, train: 8 of 9 records" in earthquakes and "1 clipped or without a P label" in earthquakes
    assert "noise, train: 6 of 6 records" in noise and "left out" not in noise
    assert held.startswith("earthquakes, dev: 3 of 3")


@pytest.mark.parametrize("order", ["ZRT", "123", "Z"])
def test_records_without_all_components_are_named_or_left_out_but_never_filled_with_zeros(parts, tmp_path, order):
    random = np.random.default_rng(0)
    odd = written(tmp_path / "odd", [({"trace_name": "odd"}, random.normal(size=(len(order), 6000)))], order)
    noise = [*parts[1], *chosen(odd)]
    for memory in (4.0, 0.0):
        with pytest.raises(ValueError, match=rf"1 of 1 records of dataset .* lack .*: \S+ \({order}\)"):
            load(parts[0], noise, memory=memory)
    with pytest.raises(ValueError, match="1 without one of three components"):
        load(parts[0], noise, damaged="skip")


def test_earthquakes_reversed_for_good_are_noise(small_datasets, parts):
    """A decaying earthquake grows when it is reversed, in every window that is drawn of it, mixed or not."""
    off = dict.fromkeys(("untouched", "stretch_noise", "glitches", "drop_components", "narrow"), 0.0)
    settings = replace(CONFIG.augmentations, noise_only=1.0, mixed_noise=0.5, **off)
    config = replace(CONFIG, augmentations=settings, presence=0.0, window=5500)
    data = batches.load_data(parts[0], chosen(small_datasets[0], reversed=True), config)
    assert data.report[1].startswith("noise, reversed, train: 9 of 9")
    for step in range(4):
        for window in next(iter(batches.loader(data, config, step)))["noise"].numpy():
            loudest = np.abs(window).max(axis=0).argmax()
            assert (window[:, loudest - 500 : loudest] ** 2).mean() > 2 * (window[:, loudest + 100 :] ** 2).mean()
