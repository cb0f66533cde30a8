"""Pairs and mixtures from small SeisBench datasets, written here in SeisBench's own format."""

import copy

import numpy as np
import pytest
from mixtures import mixture_snr_db
from seisbench.data import WaveformDataset

from seisbench_cdiffsd.data import pairs
from seisbench_cdiffsd.data.augmentations import P_KEY, S_KEY, SNR_KEY, RandomOnset, in_band
from seisbench_cdiffsd.data.datasets import earthquakes_of, take_split
from seisbench_cdiffsd.data.settings import Augmentations
from seisbench_cdiffsd.data.stores import InMemory
from seisbench_cdiffsd.picking import load_picker


@pytest.fixture(scope="module")
def earthquakes(small_datasets):
    return InMemory(earthquakes_of(small_datasets[0]), pairs.target(10, mute=True))


@pytest.fixture(scope="module")
def noise(small_datasets):
    return InMemory(small_datasets[1], pairs.background(3000))


def test_targets_are_clear_and_not_clipped(small_datasets, earthquakes):
    assert 0 < len(earthquakes) < len(small_datasets[0])
    assert (earthquakes.metadata[SNR_KEY] >= 10).all() and not earthquakes.metadata["trace_clipped"].astype(bool).any()


@pytest.mark.parametrize("settings", [{"rotate": True}, {"rotate": False, "glitches": 1.0}])
def test_earthquakes_are_silent_where_the_noise_is(earthquakes, noise, settings):
    silent = copy.copy(noise)
    silent.samples = [(waveform * np.float32([[1], [1], [0]]), metadata) for waveform, metadata in noise.samples]
    on = Augmentations(mixed_noise=0, drop_components=0, narrow=0, noise_only=0, **settings)
    generator = pairs.training_pairs(earthquakes, silent, settings=on)
    with pairs.seeded(0):
        for index in range(20):
            pair = generator[index % len(earthquakes)]
            assert not pair["clean"][2].any() and not pair["noise"][2].any() and pair["noise"][1].any()


def test_earthquakes_are_silent_in_noise_that_has_stopped(earthquakes, noise):
    stopped = copy.copy(noise)
    waveform = np.random.default_rng(0).normal(size=(3, 6000))
    waveform[2, 500:] = 0
    state = {"X": (waveform, {"trace_sampling_rate_hz": 100.0})}
    in_band(state)
    stopped.samples = [(state["X"][0][:, 1500:].astype(np.float32), noise.samples[0][1])]
    mixtures = pairs.mixtures(earthquakes, stopped, limit=2)
    assert not mixtures.clean[:, 2].any() and mixtures.clean[:, 1].any()


def test_training_pairs_never_repeat_but_follow_the_seed(earthquakes, noise):
    generator = pairs.training_pairs(earthquakes, noise, windowlen=2000, settings=Augmentations(noise_only=0))
    np.random.seed(0)
    with pairs.seeded(5):
        first, second = generator[0], generator[0]
    with pairs.seeded(5):
        again = generator[0]
    assert np.random.random() == np.random.RandomState(0).random_sample()  # as if nothing else had been drawn
    for part in ("clean", "noise"):
        assert first[part].shape == (3, 2000) and first[part].dtype == np.float32
        np.testing.assert_array_equal(first[part], again[part])
    assert not np.array_equal(first["noise"], second["noise"])


def test_mixtures_are_fixed_and_have_the_input_snr_they_say(earthquakes, noise):
    first, second = (pairs.mixtures(earthquakes, noise, limit=3, windowlen=2000, seed=4) for _ in range(2))
    assert first.noisy.shape == (15, 3, 2000)
    np.testing.assert_array_equal(first.noisy, second.noisy)
    snr = mixture_snr_db(first.clean, first.noise, first.labels["p_sample"].astype(int), 100)
    np.testing.assert_allclose(snr, first.labels["input_snr_db"], atol=1e-2)
    assert first.labels["input_snr_db"].tolist() == [*pairs.MIXTURE_SNRS] * 3
    unit = [x / np.abs(x).max() for x in first.noise[:5]]  # of one earthquake
    np.testing.assert_allclose(unit, [unit[0]] * 5, atol=1e-6)


def test_other_seeds_draw_other_noise(earthquakes, noise):
    """With seeds that were added to an index, another seed gave each earthquake the noise of its neighbour."""
    windows = [
        np.round(window / np.abs(window).max(), 3).tobytes()  # whatever it is scaled to
        for seed in range(4)
        for window in pairs.mixtures(earthquakes, noise, snrs=(0,), windowlen=2000, seed=seed).noise
    ]
    # of some 32,000 windows, 48 of which are drawn: by chance none is drawn twice
    assert len(windows) > 30 and len(set(windows)) == len(windows)


@pytest.mark.parametrize(("window", "first", "last"), [(3000, 400, 1200), (750, 100, 300), (300, 40, 120)])
def test_every_mixture_holds_its_p_onset_and_s_outside_is_no_label(earthquakes, noise, window, first, last):
    labels = pairs.mixtures(earthquakes, noise, snrs=(0,), windowlen=window).labels
    onsets, late = labels["p_sample"], labels[S_KEY] >= window
    assert onsets.between(first - 1, last).all() and onsets.nunique() > 3 and (labels[P_KEY] == onsets).all()
    assert (labels["s_sample"].isna() == late).all() and late.any() == (window < 3000)  # S outside is no label


def test_pickers_pick_the_targets_of_a_training_where_they_pick_the_records(shared_data, pickers):
    """A fade that began a second before P made a quarter of the targets begin early, for pickers and the network."""
    evaluation = pytest.importorskip("evaluation", reason="the benchmarks are not here")
    train = take_split(WaveformDataset(shared_data / "data" / "events"), "train")
    few = train.filter(np.arange(len(train)) % 15 == 0, inplace=False)
    right = []
    for mute in (False, True):
        records = InMemory(earthquakes_of(few), pairs.target(10, mute))
        states = [{"X": sample} for sample in records.samples]
        for i, state in enumerate(states):
            with pairs.seeded(i):
                RandomOnset(300, 1500)(state)
        windows, onsets = zip(*((state["X"][0], state["X"][1][P_KEY] / 100) for state in states), strict=True)
        picks = evaluation.pick_windows(load_picker("PhaseNet"), np.stack(windows), [0.3])[0]
        right.append((np.abs(evaluation.residuals(picks, "P", np.array(onsets))) <= 0.1).mean())
    assert len(onsets) > 50
    assert right[1] > right[0] - 0.03
