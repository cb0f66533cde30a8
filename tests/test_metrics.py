"""Metrics: closed forms, independent computations, and the laws that hold for all inputs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr

from seisbench_cdiffsd import metrics

TIME = np.arange(1000) / 100
SINE, COSINE = np.sin(2 * np.pi * 5 * TIME), np.cos(2 * np.pi * 5 * TIME)  # orthogonal over whole periods
seeds = st.integers(0, 2**32 - 1)
scales = st.floats(1e-6, 1e6)


def records(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def test_sdr_punishes_a_wrong_amplitude_and_is_defined_at_the_edges():
    zero, counts = np.zeros(10), np.array([30000, -30000], dtype=np.int16)  # whose squares leave their own range
    assert metrics.sdr_db(SINE, 0.5 * SINE) == pytest.approx(20 * np.log10(2))
    assert metrics.sdr_db(SINE, -SINE) == pytest.approx(-20 * np.log10(2))
    assert metrics.sdr_db(SINE, SINE) == np.inf
    assert metrics.sdr_db(SINE, 0 * SINE) == metrics.sdr_db(counts, 0 * counts) == 0
    assert metrics.sdr_db(zero, zero + 1) == -np.inf
    assert np.isnan(metrics.sdr_db(zero, zero)) and np.isnan(metrics.sdr_db(np.full(10, np.nan), zero))


def test_values_keep_leading_axes_and_axes_can_be_combined():
    reference, estimate = records(1, 4, 3, 200), records(2, 4, 3, 200)
    for metric in (metrics.sdr_db, metrics.cross_correlation):
        separate, together = metric(reference, estimate), metric(reference, estimate, axis=(-2, -1))
        assert separate.shape == (4, 3) and together.shape == (4,)
        assert separate[2, 1] == pytest.approx(float(metric(reference[2, 1], estimate[2, 1])), rel=1e-12)
        assert together[2] == pytest.approx(float(metric(reference[2].ravel(), estimate[2].ravel())), rel=1e-12)
        with pytest.raises(ValueError, match="same shape"):  # rather than broadcast
            metric(np.zeros((2, 10)), np.zeros(10))


def test_correlation_agrees_with_scipy_and_is_defined_at_the_edges():
    reference, estimate = records(3, 5, 400), records(4, 5, 400)
    estimate += 0.5 * reference
    expected = [pearsonr(a, b).statistic for a, b in zip(reference, estimate, strict=True)]
    assert metrics.cross_correlation(reference, estimate) == pytest.approx(expected, rel=1e-12)
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
