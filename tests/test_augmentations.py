"""Augmentations on small records whose answer is known."""

import numpy as np
import pytest
import seisbench.generate as sbg
from mixtures import mixture_snr_db

from seisbench_cdiffsd.data import augmentations as aug
from seisbench_cdiffsd.data.pairs import seeded

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


def test_a_component_without_noise_has_no_earthquake_either(state):
    class OnZ(Windows):
        def __getitem__(self, index):
            found = super().__getitem__(index)
            return {**found, "X": found["X"] * np.array([[1], [0], [0]], np.float32)}

    aug.CoupleNoise(OnZ(6000), snr=(0, 0), noise_only=0, untouched=0)(state)
    for part in ("clean", "noise"):
        assert state[part][0][0].any() and not state[part][0][1:].any()


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


def test_couple_noise_refuses_invalid_settings(state):
    with pytest.raises(ValueError, match="samples"):
        aug.CoupleNoise(Windows(5000))(state)
    with pytest.raises(ValueError, match="snr is"):
        aug.CoupleNoise(Windows(), snr=(5, -5))
    with pytest.raises(ValueError, match="factor is"):
        aug.CoupleNoise(Windows(), factor=(0, 0.5))
    with pytest.raises(ValueError, match="shares"):
        aug.CoupleNoise(Windows(), noise_only=0.7, untouched=0.4)


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


def test_augmentations_work_in_a_seisbench_generator(state):
    class Dataset:
        def get_sample(self, index):
            return state["X"][0].copy(), dict(state["X"][1])

        def __len__(self):
            return 1

    generator = sbg.GenericGenerator(Dataset())
    generator.add_augmentations([aug.RandomOnset(100, 900, 3000), aug.CoupleNoise(Windows())])
    generator.add_augmentations([sbg.FilterKeys(include=["clean", "noise"])])
    assert {key: value.shape for key, value in generator[0].items()} == {"clean": (3, 3000), "noise": (3, 3000)}


def test_a_dead_second_is_found(state):
    aug.Alive()(state)
    assert state["X"][1][aug.ALIVE_KEY]
    state["X"][0][:2, 3000:3200] = 7  # one component still moves
    aug.Alive()(state)
    assert state["X"][1][aug.ALIVE_KEY]
    state["X"][0][:, 3000:3200] = 7
    aug.Alive()(state)
    assert not state["X"][1][aug.ALIVE_KEY]
