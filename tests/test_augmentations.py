"""Augmentations on small records whose answer is known."""

import numpy as np
import pytest
from mixtures import mixture_snr_db
from scipy.fft import rfft, rfftfreq

from seisbench_cdiffsd.data import augmentations as aug
from seisbench_cdiffsd.data.pairs import place_of, seeded

P, S, RATE = 2000, 2500, 100
RANDOM = np.random.default_rng(1)
NOISE = RANDOM.normal(size=(3, 6000)).astype("float32")


@pytest.fixture
def state():
    """A record of 60 s with weak noise, P at 20 s and S at 25 s."""
    waveform = 0.01 * NOISE
    waveform[:, P:] += RANDOM.normal(size=(3, 6000 - P)) * np.exp(-np.arange(6000 - P) / 800)
    return made(waveform)


def made(waveform):
    labels = {aug.P_KEY: float(P), aug.S_KEY: float(S), aug.RATE_KEY: RATE, "trace_component_order": "ZNE"}
    return {"X": (waveform.astype("float32"), labels)}


def repeated(augmentation, state, count=20):
    """What an augmentation makes of a record with several seeds."""
    for seed in range(count):
        again = {key: (values.copy(), dict(metadata or {})) for key, (values, metadata) in state.items()}
        with seeded(seed):
            augmentation(again)
        yield again


def wavelet(frequency, place=P, samples=6000):
    """A short oscillation (Hz) about a sample, on three components."""
    time = (np.arange(samples) - place) / RATE
    return (np.exp(-(time**2)) * np.cos(2 * np.pi * frequency * time))[None].repeat(3, axis=0)


def test_record_snr_is_the_ratio_of_the_percentiles(state):
    aug.record_snr(state)
    waveform, metadata = state["X"]
    signal, noise = (np.percentile(abs(waveform[:, a:b]), 95, axis=1) for a, b in ((S, S + 500), (P - 520, P - 20)))
    assert metadata[aug.SNR_KEY] == pytest.approx(20 * np.log10((signal / noise).max()))


@pytest.mark.parametrize("label", [{aug.P_KEY: 50.0}, {}, {aug.S_KEY: 5950.0}])
def test_record_snr_without_noise_or_signal_is_unusable(state, label):
    waveform, metadata = state["X"]
    metadata |= label
    waveform[:, : P * (not label)] = 0
    aug.record_snr(state)
    assert metadata[aug.SNR_KEY] == -np.inf


def test_mute_leaves_the_earthquake_and_nothing_before_it(state):
    before = state["X"][0].copy()
    aug.mute_before_onset(state)
    after = state["X"][0]
    assert not after[:, : P - RATE // 10].any() and not after[:, -1].any()
    np.testing.assert_array_equal(after[:, P:-300], before[:, P:-300])
    assert (abs(after) <= abs(before)).all()


def test_of_impulsive_earthquakes_the_first_cycles_of_p_and_s_are_left(state):
    before = state["X"][0].copy()
    for again in repeated(aug.impulsive, state):
        after, metadata = again["X"]
        np.testing.assert_array_equal(after[:, : P + 1], before[:, : P + 1])  # the noise, which is muted elsewhere
        np.testing.assert_allclose(after[:, S], before[:, S])
        late = abs(after[:, S + 400 :]).max()
        assert late < 0.05 * abs(before[:, S + 400 :]).max()
        assert metadata == state["X"][1]
    without = (state["X"][0].copy(), {**state["X"][1], aug.S_KEY: np.nan})
    aug.impulsive(faded := {"X": without})
    assert abs(faded["X"][0][:, S:]).max() < 0.01 * abs(before[:, S:]).max()


def test_random_onset_keeps_the_label_on_the_onset():
    peak = np.zeros((3, 6000))
    peak[:, P] = 1
    windows = [moved["X"] for moved in repeated(aug.RandomOnset(100, 900, windowlen=1000), made(peak))]
    onsets = [metadata[aug.P_KEY] for _, metadata in windows]
    assert [waveform[0].argmax() for waveform, _ in windows] == onsets and windows[0][0].shape == (3, 1000)
    assert min(onsets) >= 100 and max(onsets) <= 901 and len(set(onsets)) > 10


def test_a_window_of_the_coda_starts_after_the_others_unless_it_is_near_the_noise(state):
    state["X"][0][:, P:] = NOISE[:, P:]

    def late(first=600):
        starts = [-x["X"][1][aug.P_KEY] for x in repeated(aug.RandomOnset(-first, 2700, coda=1), state, 40)]
        return [start for start in starts if start > first]

    assert len(late()) > 20 and max(late()) <= 3000  # the record has 40 s after P, of which 10 are looked at
    state["X"][0][:, 3400:] *= 0.1
    for snr, clear in ((40, True), (30, False)):  # less 20 dB
        state["X"][1][aug.SNR_KEY] = snr
        assert bool(late(1400)) == clear


def test_stretch_moves_the_labels_along_and_neither_aliases_nor_leaves_the_band():
    state = made(wavelet(10))
    aug.Stretch(1.2, 1.2)(state)
    stretched, metadata = state["X"]
    assert stretched.shape[1] == pytest.approx(1.2 * 6000, rel=0.01)
    assert np.abs(stretched[0]).argmax() == pytest.approx(metadata[aug.P_KEY], abs=1)
    spectrum = np.abs(np.fft.rfft(stretched[0]))
    assert spectrum.argmax() * RATE / stretched.shape[1] == pytest.approx(10 / 1.2, abs=0.1)
    for frequency, factor in ((42, 0.7), (1.2, 3)):  # to 60 Hz, which 100 samples a second cannot show, and to 0.4 Hz
        state = made(wavelet(frequency, 3000))
        aug.Stretch(factor, factor)(state)
        assert np.abs(state["X"][0]).max() < 0.02


@pytest.mark.parametrize(("samples", "kept"), [(6000, 4200), (3001, 3000), (3407, 3000), (2500, 2500)])
def test_stretch_leaves_records_as_long_as_windows_and_without_padding(samples, kept):
    state = made(NOISE[:, :samples])
    aug.Stretch(0.7, 0.7, shortest=3000)(state)
    stretched = state["X"][0]
    assert kept <= stretched.shape[1] <= 1.03 * kept and np.abs(stretched[:, -20:]).max() > 0.1


def couple(snr, *more, samples=6000, **options):
    noise = RANDOM.normal(size=(3, samples)).astype("float32")
    return aug.CoupleNoise(lambda: {"X": noise, "names": "n"}, snr, *more, **options)


def test_noise_has_the_input_snr_that_was_asked_for_but_stays_above_that_of_the_record(state):
    couple((-7, -7))(state)
    clean, noise = state["clean"][0], state["noise"][0]
    assert mixture_snr_db(clean, noise, P, RATE) == pytest.approx(-7, abs=1e-3)
    assert max(abs(clean).max(), abs(noise).max()) == pytest.approx(1)
    state["X"][1][aug.SNR_KEY] = 12.0
    for pair in repeated(couple((-15, 15)), {"X": state["X"]}):
        assert mixture_snr_db(pair["clean"][0], pair["noise"][0], P, RATE) <= 2.001


def test_noise_is_scaled_by_the_published_factor_but_not_if_it_is_too_short(state):
    couple((0, 0), (0.4, 0.65))(state)
    assert 0.4 <= abs(state["noise"][0]).max() / abs(state["clean"][0]).max() <= 0.65
    with pytest.raises(ValueError, match="5000 samples"):
        couple((0, 0), samples=5000)(state)


def test_shares_of_pairs_are_noise_only_or_nearly_clean(state):
    pairs = list(repeated(couple((0, 0), noise_only=0.2, untouched=0.3), state, 400))
    silent = [not pair["clean"][0].any() for pair in pairs]
    levels = [mixture_snr_db(x["clean"][0], x["noise"][0], P) for x, no in zip(pairs, silent, strict=True) if not no]
    assert sum(silent) == pytest.approx(80, abs=25)
    assert sum(level > 15 for level in levels) == pytest.approx(120, abs=30)


def test_records_are_drawn_by_their_cumulative_probabilities():
    cumulative = np.array([0.25, 0.25, 0.999])  # rounding can leave the last one below 1
    assert [place_of(cumulative, u) for u in (0, 0.2499, 0.25, 0.9, 0.9995)] == [0, 0, 2, 2, 2]


@pytest.mark.parametrize(("share", "expected"), [(0, {False}), (0.5, {False, True}), (1, {True})])
def test_a_share_of_the_records_is_changed_and_at_0_nothing_is_drawn(state, share, expected):
    before = state["X"][0]
    for augmentation, changed in ((aug.flip_polarity, -before), (aug.reverse_time, before[:, ::-1])):
        seen = [x["X"][0] for x in repeated(aug.Sometimes(share, augmentation), state)]
        assert {np.array_equal(x, changed) for x in seen} == expected == {not np.array_equal(x, before) for x in seen}
    with seeded(1):
        aug.Sometimes(0, aug.glitches)(state)
        assert np.random.random() == np.random.RandomState(1).random_sample()  # noqa: NPY002


def test_a_dead_second_is_found(state):
    aug.always_moving(state)
    state["X"][0][:2, 3000:3200] = 7  # one component still moves
    aug.always_moving(state)
    state["X"][0][:, 3000:3200] = 7
    with pytest.raises(aug.Unusable, match="motion"):
        aug.always_moving(state)


def test_a_narrow_band_takes_the_edges_from_both_parts_alike(monkeypatch):
    monkeypatch.setattr(aug, "HIGHPASS", (4, 4))
    monkeypatch.setattr(aug, "LOWPASS", (12, 12))
    frequency, lost = rfftfreq(6000, 0.01), set()
    for pair in repeated(aug.narrow_band, {"clean": (NOISE, None), "noise": (2 * NOISE, None)}, 12):
        np.testing.assert_allclose(2 * pair["clean"][0], pair["noise"][0], rtol=1e-3, atol=1e-4)
        kept = np.abs(rfft(pair["clean"][0])).mean(0) / np.abs(rfft(NOISE)).mean(0)
        gains = (kept[(frequency > a) & (frequency < b)].mean() for a, b in ((0.3, 1), (6, 8), (30, 45)))
        lost.add(tuple(np.digitize(list(gains), [0.1, 0.7])))
    assert lost == {(0, 2, 2), (2, 2, 0), (0, 2, 0)}


def test_spikes_and_steps_stand_out_and_stay_in_the_band(monkeypatch):
    monkeypatch.setattr(aug, "GLITCH_SIZE", (20, 20))
    (faulty,) = repeated(aug.glitches, made(0.01 * NOISE), 1)
    added = faulty["X"][0] - 0.01 * NOISE
    assert abs(added).max() > 0.05 * abs(NOISE).max() and faulty["X"][0].dtype == np.float32
    spectrum, frequency = np.abs(rfft(added)) ** 2, rfftfreq(6000, 0.01)
    assert spectrum[:, frequency < 0.3].sum() < 0.01 * spectrum.sum()


def test_a_second_noise_is_weaker_and_named():
    state = {**made(NOISE), "names": ("first", None)}
    aug.second_noise(lambda: {"X": NOISE[:, ::-1], "names": "second"}, state)
    assert 0 < (state["X"][0] - NOISE).std() <= NOISE.std() * 1.001 and state["names"][0] == "first + second"


def test_components_are_dropped_from_both_parts_and_one_stays():
    for pair in repeated(aug.drop_components, {key: (np.ones((3, 10)), None) for key in ("clean", "noise")}):
        live = pair["clean"][0].any(axis=1)
        assert 1 <= live.sum() <= 2
        np.testing.assert_array_equal(pair["noise"][0].any(axis=1), live)
