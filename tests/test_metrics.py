"""Metrics: closed forms, independent computations, and the laws that hold for all inputs."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr

from seisbench_cdiffsd import metrics

TIME = np.arange(1000) / 100
SINE, COSINE = np.sin(2 * np.pi * 5 * TIME), np.cos(2 * np.pi * 5 * TIME)  # orthogonal over whole periods
seeds = st.integers(0, 2**32 - 1)
scales = st.floats(1e-6, 1e6)
times = st.lists(st.integers(0, 60).map(lambda tenths: tenths / 10), max_size=5)


def records(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def test_sdr_punishes_a_wrong_amplitude():
    assert metrics.sdr_db(SINE, 0.5 * SINE) == pytest.approx(20 * np.log10(2))
    assert metrics.sdr_db(SINE, -SINE) == pytest.approx(-20 * np.log10(2))


def test_sdr_at_the_edges():
    zero = np.zeros(10)
    assert metrics.sdr_db(SINE, SINE) == np.inf
    assert metrics.sdr_db(SINE, 0 * SINE) == 0
    assert metrics.sdr_db(zero, zero + 1) == -np.inf
    assert np.isnan(metrics.sdr_db(zero, zero))
    assert np.isnan(metrics.sdr_db(np.full(10, np.nan), zero))


def test_values_keep_leading_axes_and_axes_can_be_combined():
    reference, estimate = records(1, 4, 3, 200), records(2, 4, 3, 200)
    for metric in (metrics.sdr_db, metrics.cross_correlation, metrics.amplitude_ratio, metrics.suppression_db):
        separate, together = metric(reference, estimate), metric(reference, estimate, axis=(-2, -1))
        assert separate.shape == (4, 3) and together.shape == (4,)
        assert separate[2, 1] == pytest.approx(float(metric(reference[2, 1], estimate[2, 1])), rel=1e-12)
        assert together[2] == pytest.approx(float(metric(reference[2].ravel(), estimate[2].ravel())), rel=1e-12)


@pytest.mark.parametrize("name", ["sdr_db", "cross_correlation", "amplitude_ratio", "suppression_db"])
def test_different_shapes_are_refused_rather_than_broadcast(name):
    with pytest.raises(ValueError, match="same shape"):
        getattr(metrics, name)(np.zeros((2, 10)), np.zeros(10))


def test_snr_is_power_after_over_power_before_the_onset():
    trace = np.concatenate([np.full(300, 0.1), np.full(700, -2.0)])
    assert metrics.snr_db(trace, 300) == pytest.approx(20 * np.log10(20))
    assert metrics.snr_db(trace, 301) < metrics.snr_db(trace, 300)
    stack = np.stack([trace, trace[::-1]])
    assert metrics.snr_db(stack, [300, 700]) == pytest.approx([20 * np.log10(20), -20 * np.log10(20)])


def test_snr_at_the_edges():
    trace = np.concatenate([np.zeros(10), np.ones(10)])
    assert metrics.snr_db(trace, 10) == np.inf
    assert metrics.snr_db(trace[::-1], 10) == -np.inf
    assert np.isnan(metrics.snr_db(np.zeros(20), 10))
    assert np.isnan(metrics.snr_db(trace, [0, 20, 25])).all()


def test_correlation_agrees_with_scipy():
    reference, estimate = records(3, 5, 400), records(4, 5, 400)
    estimate += 0.5 * reference
    expected = [pearsonr(a, b).statistic for a, b in zip(reference, estimate, strict=True)]
    assert metrics.cross_correlation(reference, estimate) == pytest.approx(expected, rel=1e-12)


def test_correlation_at_the_edges():
    assert metrics.cross_correlation(SINE, COSINE) == pytest.approx(0, abs=1e-12)
    assert metrics.cross_correlation(SINE, np.full(1000, 0.1)) == 0
    assert np.isnan(metrics.cross_correlation(np.full(1000, 0.1), SINE))
    assert np.isnan(metrics.cross_correlation(SINE, np.full(1000, np.nan)))


@given(seeds, scales, st.floats(-100, 100))
def test_correlation_ignores_scale_and_shift_and_stays_in_range(seed, scale, shift):
    x, y = records(seed, 300), records(seed + 1, 300)
    value = metrics.cross_correlation(x, y)
    assert -1 <= value <= 1
    assert metrics.cross_correlation(x, scale * (y + shift)) == pytest.approx(value, abs=1e-9)
    assert metrics.cross_correlation(y, x) == pytest.approx(value, abs=1e-12)
    assert metrics.cross_correlation(x, -y) == pytest.approx(-value, abs=1e-12)


@given(seeds, scales)
def test_sdr_is_unchanged_when_both_are_scaled_or_shuffled_alike(seed, scale):
    x, y = records(seed, 300), records(seed + 1, 300)
    order = np.random.default_rng(seed).permutation(300)
    value = metrics.sdr_db(x, y)
    assert metrics.sdr_db(scale * x, scale * y) == pytest.approx(value, abs=1e-9)
    assert metrics.sdr_db(x[order], y[order]) == pytest.approx(value, abs=1e-9)
    assert value == pytest.approx(-20 * np.log10(np.linalg.norm(x - y) / np.linalg.norm(x)), abs=1e-9)


@given(seeds, scales)
def test_amplitude_ratio_and_suppression_follow_the_scale(seed, scale):
    x = records(seed, 300)
    assert metrics.amplitude_ratio(x, -scale * x) == pytest.approx(scale)
    assert metrics.suppression_db(x, scale * x) == pytest.approx(-20 * np.log10(scale), abs=1e-8)


def test_amplitude_ratio_and_suppression_at_the_edges():
    assert metrics.amplitude_ratio(np.zeros(9), np.ones(9)) == np.inf
    assert np.isnan(metrics.amplitude_ratio(np.zeros(9), np.zeros(9)))
    assert metrics.suppression_db(SINE, 0 * SINE) == np.inf
    assert metrics.suppression_db(0 * SINE, SINE) == -np.inf


def test_integers_are_not_squared_in_their_own_range():
    counts = np.array([30000, -30000], dtype=np.int16)
    assert metrics.sdr_db(counts, np.zeros(2, dtype=np.int16)) == 0
    assert metrics.snr_db(counts, 1) == 0


def test_one_pick_matches_one_label_and_the_closest_wins():
    picks, labels = [9.6, 10.05, 20.0], [10.0]
    assert [index.tolist() for index in metrics.match_picks(picks, labels, 0.5)] == [[1], [0]]
    assert [index.tolist() for index in metrics.match_picks([10.0], [9.8, 10.1], 0.5)] == [[0], [1]]
    assert [index.tolist() for index in metrics.match_picks([], labels, 0.5)] == [[], []]


def test_the_tolerance_itself_is_inside():
    assert len(metrics.match_picks([1.1], [1.0], 0.1)[0]) == 1  # 1.1 - 1.0 is a little more than 0.1
    assert len(metrics.match_picks([1.11], [1.0], 0.1)[0]) == 0


@given(times, times, st.sampled_from([0.0, 0.1, 0.5, 3.0]))
@settings(deadline=None)
def test_matching_is_the_best_of_all_assignments(picks, labels, tolerance):
    few, many = sorted((picks, labels), key=len)

    def score(assigned):
        errors = [abs(a - b) for a, b in zip(few, assigned, strict=True)]
        inside = [error for error in errors if error <= tolerance + 1e-6]
        return len(inside), sum(inside)

    best = min((score(p) for p in permutations(many, len(few))), key=lambda s: (-s[0], s[1]))
    i, j = metrics.match_picks(picks, labels, tolerance)
    assert len(set(i)) == len(i) == len(set(j)) == len(j) == best[0]
    assert sum(abs(picks[a] - labels[b]) for a, b in zip(i, j, strict=True)) == pytest.approx(best[1], abs=1e-9)


@pytest.mark.parametrize(("picks", "tolerance"), [([np.nan], 0.1), ([np.inf], 0.1), ([1.0], -1), ([1.0], np.nan)])
def test_matching_refuses_invalid_times_and_tolerances(picks, tolerance):
    with pytest.raises(ValueError, match="must be"):
        metrics.match_picks(picks, [1.0], tolerance)
