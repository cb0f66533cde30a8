"""Augmentations for what else happens at stations, on records whose answer is known."""

import numpy as np
import pytest
from scipy.fft import rfft, rfftfreq

from seisbench_cdiffsd.data import disturbances, pairs
from seisbench_cdiffsd.data.augmentations import P_KEY, RATE_KEY, S_KEY, SNR_KEY


@pytest.fixture
def state():
    """A record that starts with P at 20 s, S at 25 s."""
    waveform = np.zeros((3, 6000), np.float32)
    waveform[:, 2000:] = np.random.default_rng(0).normal(size=(3, 4000))
    return {"X": (waveform, {P_KEY: 2000.0, S_KEY: 2500.0, RATE_KEY: 100.0}), "names": ("first", None)}


class Noise:
    """Noise windows."""

    windows = np.random.default_rng(1).normal(size=(5, 3, 3000)).astype("float32")

    def __len__(self):
        return len(self.windows)

    def __getitem__(self, index):
        return {"X": self.windows[index].copy()}


class Others:
    """Spikes, as earthquakes."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        spike = np.zeros((3, 6000), np.float32)
        spike[:, 3000] = 7
        return {"X": spike, "names": f"other{index}"}


@pytest.mark.parametrize(
    "augmentation",
    [
        disturbances.Superpose(Others(), 0),
        disturbances.NarrowBand(0),
        disturbances.Glitches(pairs.band_pass(), 0),
    ],
)
def test_at_a_probability_of_zero_nothing_is_drawn_or_done(state, augmentation):
    before = state["X"][0].copy()
    with pairs.seeded(1):
        augmentation(state)
        drawn = np.random.random()  # noqa: NPY002
    with pairs.seeded(1):
        assert np.random.random() == drawn  # noqa: NPY002
    np.testing.assert_array_equal(state["X"][0], before)


def test_a_second_earthquake_comes_after_p_and_is_named(state):
    before, starts = state["X"][0].copy(), set()
    for seed in range(20):
        copy = {"X": (before.copy(), dict(state["X"][1])), "names": ("first", None)}
        with pairs.seeded(seed):
            disturbances.Superpose(Others(), 1, low=0.5, high=0.5)(copy)
        added = copy["X"][0] - before
        (place,) = np.unique(np.nonzero(added)[1])
        starts.add(int(place))
        assert place >= 2000 and added[0, place] == pytest.approx(0.5 * abs(before).max(), rel=1e-4)
        assert copy["names"][0].startswith("first + other")
    assert len(starts) > 10


def test_a_window_with_s_only_starts_between_p_and_s(state):
    for seed in range(20):
        copy = {"X": (state["X"][0].copy(), dict(state["X"][1]))}
        with pairs.seeded(seed):
            disturbances.AnyOnset(0, 2000, 3000, s_only=1)(copy)
        waveform, metadata = copy["X"]
        assert waveform.shape == (3, 3000) and -500 < metadata[P_KEY] < 0 < metadata[S_KEY] <= 500


def test_a_window_of_the_coda_starts_after_the_others(state):
    starts = []
    for seed in range(40):
        copy = {"X": (state["X"][0].copy(), dict(state["X"][1]))}
        with pairs.seeded(seed):
            disturbances.AnyOnset(-600, 2700, 3000, coda=1)(copy)
        waveform, metadata = copy["X"]
        assert waveform.shape == (3, 3000)
        starts.append(-metadata[P_KEY])
    late = [start for start in starts if start > 600]
    assert len(late) > 20 and max(late) <= 3000  # the record has 40 s after P, of which the first 10 are looked at


@pytest.mark.parametrize(("snr", "decay", "expected"), [(40, 0.1, True), (30, 0.1, False), (40, 0.01, False)])
def test_a_coda_near_the_noise_is_not_taken(state, snr, decay, expected):
    state["X"][0][:, 3400:] *= decay
    state["X"][1][SNR_KEY] = snr
    with pairs.seeded(0):
        disturbances.AnyOnset(-1400, 2700, 3000, coda=1)(state)
    assert (state["X"][1][P_KEY] < -1400) == expected


def test_a_narrow_band_takes_the_edges_from_both_parts_alike(state):
    white = np.random.default_rng(2).normal(size=(3, 6000)).astype(np.float32)
    frequency, gains = rfftfreq(6000, 0.01), set()
    for seed in range(12):
        copy = {key: (gain * white, None) for key, gain in (("clean", 1), ("noise", 2))}
        with pairs.seeded(seed):
            disturbances.NarrowBand(1, highpass=(4, 4), lowpass=(12, 12))(copy)
        np.testing.assert_allclose(2 * copy["clean"][0], copy["noise"][0], rtol=1e-3, atol=1e-4)
        kept = np.abs(rfft(copy["clean"][0])).mean(0) / np.abs(rfft(white)).mean(0)
        low, middle, high = (kept[(frequency > a) & (frequency < b)].mean() for a, b in ((0.3, 1), (6, 8), (30, 45)))
        assert middle > 0.7 and min(low, high) < 0.1
        gains.add((low < 0.1, high < 0.1))
    assert gains == {(True, False), (False, True), (True, True)}


def test_spikes_and_steps_stand_out_and_stay_in_the_band(state):
    state["X"][0][:] = 0.01 * np.random.default_rng(3).normal(size=(3, 6000))
    before = state["X"][0].copy()
    with pairs.seeded(4):
        disturbances.Glitches(pairs.band_pass(), 1, amplitude=(20, 20))(state)
    added = state["X"][0] - before
    assert abs(added).max() > 5 * abs(before).max() and state["X"][0].dtype == np.float32
    spectrum, frequency = np.abs(rfft(added)) ** 2, rfftfreq(6000, 0.01)
    assert spectrum[:, frequency < 0.3].sum() < 0.01 * spectrum.sum()


def test_second_noise_adds_a_weaker_record():
    first = Noise.windows[0]
    state = {"X": (first.copy(), {})}
    with pairs.seeded(0):
        disturbances.SecondNoise(Noise(), probability=1)(state)
    added = state["X"][0] - first
    assert 0 < added.std() <= first.std() * 1.001


def test_drop_components_silences_both_parts_and_keeps_one():
    for seed in range(20):
        parts = {key: (np.ones((3, 10)), None) for key in ("clean", "noise")}
        with pairs.seeded(seed):
            disturbances.DropComponents(probability=1)(parts)
        live = parts["clean"][0].any(axis=1)
        assert 1 <= live.sum() <= 2
        np.testing.assert_array_equal(parts["noise"][0].any(axis=1), live)
