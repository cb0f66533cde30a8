"""Augmentations on small records whose answer is known."""

import numpy as np
import pytest
import seisbench.generate as sbg
from mixtures import mixture_snr_db
from scipy.fft import rfft, rfftfreq

from seisbench_cdiffsd.data import augmentations as aug
from seisbench_cdiffsd.data.pairs import band_pass, seeded

ONSET, RATE = 2000, 100


class Windows:
    """Noise windows of one length."""

    def __init__(self, samples=4000, count=5):
        self.windows = np.random.default_rng(1).normal(size=(count, 3, samples)).astype("float32")

    def __len__(self):
        return len(self.windows)

    def __getitem__(self, index):
        return {"X": self.windows[index].copy()}


@pytest.fixture
def state():
    random = np.random.default_rng(0)
    waveform = 0.01 * random.normal(size=(3, 6000))
    decay = np.exp(-np.arange(6000 - ONSET) / 800)
    waveform[:, ONSET:] += random.normal(size=(3, 6000 - ONSET)) * decay
    metadata = {
        aug.P_KEY: float(ONSET),
        aug.S_KEY: float(ONSET + 300),
        aug.RATE_KEY: RATE,
        "trace_component_order": "ZNE",
    }
    return {"X": (waveform.astype("float32"), metadata)}


def test_record_snr_is_the_ratio_of_the_percentiles(state):
    aug.RecordSNR()(state)
    waveform, metadata = state["X"]
    signal = np.percentile(abs(waveform[:, ONSET + 300 : ONSET + 800]), 95, axis=1)
    noise = np.percentile(abs(waveform[:, ONSET - 520 : ONSET - 20]), 95, axis=1)
    assert metadata[aug.SNR_KEY] == pytest.approx(20 * np.log10((signal / noise).max()))


@pytest.mark.parametrize("change", ["onset at the start", "padding before the onset", "onset at the end"])
def test_record_snr_without_noise_or_signal_is_unusable(state, change):
    waveform, metadata = state["X"]
    if change == "onset at the start":
        metadata[aug.P_KEY] = 50.0
    elif change == "padding before the onset":
        waveform[:, :ONSET] = 0
    else:
        metadata[aug.S_KEY] = 5950.0
    aug.RecordSNR()(state)
    assert metadata[aug.SNR_KEY] == -np.inf


def test_mute_leaves_the_earthquake_and_nothing_before_it(state):
    before = state["X"][0].copy()
    aug.MuteBeforeOnset(silent=0.1, full=0.0, end=3.0)(state)
    after = state["X"][0]
    assert not after[:, : ONSET - RATE // 10].any()
    np.testing.assert_array_equal(after[:, ONSET:-300], before[:, ONSET:-300])
    assert not after[:, -1].any()
    assert (abs(after) <= abs(before)).all()


def test_random_onset_keeps_the_label_on_the_onset(state):
    peak = np.zeros((3, 6000), dtype="float32")
    peak[:, ONSET] = 1
    positions = set()
    for seed in range(20):
        moved = {"X": (peak.copy(), dict(state["X"][1]))}
        with seeded(seed):
            aug.RandomOnset(100, 900, windowlen=1000)(moved)
        waveform, metadata = moved["X"]
        assert waveform.shape == (3, 1000)
        assert waveform[0].argmax() == metadata[aug.P_KEY]
        assert 100 <= metadata[aug.P_KEY] <= 901
        positions.add(metadata[aug.P_KEY])
    assert len(positions) > 10


def wavelet(frequency, place, samples=6000):
    """A short oscillation (Hz) about a sample, on three components."""
    time = (np.arange(samples) - place) / RATE
    return (np.exp(-(time**2)) * np.cos(2 * np.pi * frequency * time)).astype("float32")[None].repeat(3, axis=0)


def test_stretch_moves_the_labels_along(state):
    state["X"] = (wavelet(10, ONSET), state["X"][1])
    aug.Stretch(lambda state: None, 1.2, 1.2, probability=1)(state)
    stretched, metadata = state["X"]
    assert stretched.shape[1] == pytest.approx(1.2 * 6000, rel=0.01)
    assert np.abs(stretched[0]).argmax() == pytest.approx(metadata[aug.P_KEY], abs=1)
    spectrum = np.abs(np.fft.rfft(stretched[0]))
    assert spectrum.argmax() * RATE / stretched.shape[1] == pytest.approx(10 / 1.2, abs=0.1)


def test_stretch_does_not_alias_and_stays_in_the_band(state):
    state["X"] = (wavelet(42, 3000), state["X"][1])
    aug.Stretch(lambda state: None, 0.7, 0.7, probability=1)(state)
    assert np.abs(state["X"][0]).max() < 1e-3  # 60 Hz are beyond what 100 samples a second can show
    state["X"] = (wavelet(1.2, 3000), state["X"][1])
    band = sbg.Filter(4, [2.0, 45.0], "bandpass", forward_backward=True)
    aug.Stretch(band, 1.3, 1.3, probability=1)(state)
    assert np.abs(state["X"][0]).max() < 0.1


@pytest.mark.parametrize("samples, kept", [(6000, 4200), (3001, 3000), (3407, 3000), (2500, 2500)])
def test_stretch_leaves_records_as_long_as_windows_and_without_padding(samples, kept):
    noise = np.random.default_rng(0).standard_normal((3, samples)).astype("float32")
    state = {"X": (noise, {aug.RATE_KEY: RATE})}
    aug.Stretch(lambda state: None, 0.7, 0.7, probability=1, shortest=3000)(state)
    stretched = state["X"][0]
    assert kept <= stretched.shape[1] <= 1.03 * kept
    assert np.abs(stretched[:, -20:]).max() > 0.1


def test_couple_noise_gives_the_input_snr_it_was_asked_for(state):
    couple = aug.CoupleNoise(Windows(6000), snr=(-7, -7), noise_only=0, untouched=0)
    couple(state)
    clean, noise = state["clean"][0], state["noise"][0]
    assert mixture_snr_db(clean, noise, ONSET, RATE) == pytest.approx(-7, abs=1e-3)
    assert max(abs(clean).max(), abs(noise).max()) == pytest.approx(1)


def test_couple_noise_keeps_below_the_snr_of_the_record(state):
    state["X"][1][aug.SNR_KEY] = 12.0
    for seed in range(20):
        with seeded(seed):
            aug.CoupleNoise(Windows(6000), snr=(-15, 15), noise_only=0, untouched=0, headroom=10)(state)
        assert mixture_snr_db(state["clean"][0], state["noise"][0], ONSET, RATE) <= 2.001


def test_couple_noise_by_the_published_factor(state):
    aug.CoupleNoise(Windows(6000), factor=(0.4, 0.65), noise_only=0, untouched=0)(state)
    ratio = abs(state["noise"][0]).max() / abs(state["clean"][0]).max()
    assert 0.4 <= ratio <= 0.65


def test_couple_noise_shares(state):
    kinds = {"noise only": 0, "nearly clean": 0}
    couple = aug.CoupleNoise(Windows(6000), snr=(0, 0), noise_only=0.2, untouched=0.3)
    with seeded(3):
        for _ in range(400):
            couple(state)
            clean, noise = state["clean"][0], state["noise"][0]
            kinds["noise only"] += not clean.any()
            kinds["nearly clean"] += bool(clean.any() and mixture_snr_db(clean, noise, ONSET, RATE) > 15)
    assert kinds["noise only"] == pytest.approx(80, abs=25)
    assert kinds["nearly clean"] == pytest.approx(120, abs=30)


def test_records_are_drawn_by_their_cumulative_probabilities():
    cumulative = np.array([0.25, 0.25, 0.999])  # rounding can leave the last one below 1
    assert [aug.draw(cumulative, u) for u in (0, 0.2499, 0.25, 0.9, 0.9995)] == [0, 0, 2, 2, 2]


def test_noise_that_is_too_short_is_refused(state):
    with pytest.raises(ValueError, match="samples"):
        aug.CoupleNoise(Windows(5000))(state)


def test_polarity_and_time_are_reversed_in_half_of_the_cases(state):
    original = state["X"][0].copy()
    for augmentation, reversed_ in ((aug.FlipPolarity(), -original), (aug.ReverseTime(), original[:, ::-1])):
        seen = set()
        for seed in range(20):
            copy = {"X": (original.copy(), {})}
            with seeded(seed):
                augmentation(copy)
            same, other = np.array_equal(copy["X"][0], original), np.array_equal(copy["X"][0], reversed_)
            assert same or other
            seen.add(same)
        assert seen == {True, False}


def test_a_dead_second_is_found(state):
    aug.Alive()(state)
    assert state["X"][1][aug.ALIVE_KEY]
    state["X"][0][:2, 3000:3200] = 7  # one component still moves
    aug.Alive()(state)
    assert state["X"][1][aug.ALIVE_KEY]
    state["X"][0][:, 3000:3200] = 7
    aug.Alive()(state)
    assert not state["X"][1][aug.ALIVE_KEY]


@pytest.fixture
def shaken():
    """A record that starts with P at 20 s, S at 25 s."""
    waveform = np.zeros((3, 6000), np.float32)
    waveform[:, 2000:] = np.random.default_rng(0).normal(size=(3, 4000))
    return {"X": (waveform, {aug.P_KEY: 2000.0, aug.S_KEY: 2500.0, aug.RATE_KEY: 100.0}), "names": ("first", None)}


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


@pytest.mark.parametrize("augmentation", [aug.Superpose(Others(), 0), aug.NarrowBand(0), aug.Glitches(band_pass(), 0)])
def test_at_a_probability_of_zero_nothing_is_drawn_or_done(shaken, augmentation):
    before = shaken["X"][0].copy()
    with seeded(1):
        augmentation(shaken)
        drawn = np.random.random()  # noqa: NPY002
    with seeded(1):
        assert np.random.random() == drawn  # noqa: NPY002
    np.testing.assert_array_equal(shaken["X"][0], before)


def test_a_second_earthquake_comes_after_p_and_is_named(shaken):
    before, starts = shaken["X"][0].copy(), set()
    for seed in range(20):
        copy = {"X": (before.copy(), dict(shaken["X"][1])), "names": ("first", None)}
        with seeded(seed):
            aug.Superpose(Others(), 1, low=0.5, high=0.5)(copy)
        added = copy["X"][0] - before
        (place,) = np.unique(np.nonzero(added)[1])
        starts.add(int(place))
        assert place >= 2000 and added[0, place] == pytest.approx(0.5 * abs(before).max(), rel=1e-4)
        assert copy["names"][0].startswith("first + other")
    assert len(starts) > 10


def test_a_window_with_s_only_starts_between_p_and_s(shaken):
    for seed in range(20):
        copy = {"X": (shaken["X"][0].copy(), dict(shaken["X"][1]))}
        with seeded(seed):
            aug.RandomOnset(0, 2000, 3000, s_only=1)(copy)
        waveform, metadata = copy["X"]
        assert waveform.shape == (3, 3000) and -500 < metadata[aug.P_KEY] < 0 < metadata[aug.S_KEY] <= 500


def test_a_window_of_the_coda_starts_after_the_others(shaken):
    starts = []
    for seed in range(40):
        copy = {"X": (shaken["X"][0].copy(), dict(shaken["X"][1]))}
        with seeded(seed):
            aug.RandomOnset(-600, 2700, 3000, coda=1)(copy)
        waveform, metadata = copy["X"]
        assert waveform.shape == (3, 3000)
        starts.append(-metadata[aug.P_KEY])
    late = [start for start in starts if start > 600]
    assert len(late) > 20 and max(late) <= 3000  # the record has 40 s after P, of which the first 10 are looked at


@pytest.mark.parametrize(("snr", "decay", "expected"), [(40, 0.1, True), (30, 0.1, False), (40, 0.01, False)])
def test_a_coda_near_the_noise_is_not_taken(shaken, snr, decay, expected):
    shaken["X"][0][:, 3400:] *= decay
    shaken["X"][1][aug.SNR_KEY] = snr
    with seeded(0):
        aug.RandomOnset(-1400, 2700, 3000, coda=1)(shaken)
    assert (shaken["X"][1][aug.P_KEY] < -1400) == expected


def test_a_narrow_band_takes_the_edges_from_both_parts_alike(shaken):
    white = np.random.default_rng(2).normal(size=(3, 6000)).astype(np.float32)
    frequency, gains = rfftfreq(6000, 0.01), set()
    for seed in range(12):
        copy = {key: (gain * white, None) for key, gain in (("clean", 1), ("noise", 2))}
        with seeded(seed):
            aug.NarrowBand(1, highpass=(4, 4), lowpass=(12, 12))(copy)
        np.testing.assert_allclose(2 * copy["clean"][0], copy["noise"][0], rtol=1e-3, atol=1e-4)
        kept = np.abs(rfft(copy["clean"][0])).mean(0) / np.abs(rfft(white)).mean(0)
        low, middle, high = (kept[(frequency > a) & (frequency < b)].mean() for a, b in ((0.3, 1), (6, 8), (30, 45)))
        assert middle > 0.7 and min(low, high) < 0.1
        gains.add((low < 0.1, high < 0.1))
    assert gains == {(True, False), (False, True), (True, True)}


def test_spikes_and_steps_stand_out_and_stay_in_the_band(shaken):
    shaken["X"][0][:] = 0.01 * np.random.default_rng(3).normal(size=(3, 6000))
    before = shaken["X"][0].copy()
    with seeded(4):
        aug.Glitches(band_pass(), 1, amplitude=(20, 20))(shaken)
    added = shaken["X"][0] - before
    assert abs(added).max() > 5 * abs(before).max() and shaken["X"][0].dtype == np.float32
    spectrum, frequency = np.abs(rfft(added)) ** 2, rfftfreq(6000, 0.01)
    assert spectrum[:, frequency < 0.3].sum() < 0.01 * spectrum.sum()


def test_second_noise_adds_a_weaker_record():
    first = Noise.windows[0]
    state = {"X": (first.copy(), {})}
    with seeded(0):
        aug.SecondNoise(Noise(), probability=1)(state)
    added = state["X"][0] - first
    assert 0 < added.std() <= first.std() * 1.001


def test_drop_components_silences_both_parts_and_keeps_one():
    for seed in range(20):
        parts = {key: (np.ones((3, 10)), None) for key in ("clean", "noise")}
        with seeded(seed):
            aug.DropComponents(probability=1)(parts)
        live = parts["clean"][0].any(axis=1)
        assert 1 <= live.sum() <= 2
        np.testing.assert_array_equal(parts["noise"][0].any(axis=1), live)
