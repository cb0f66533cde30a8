"""What replaces missing samples continues what is next to them, and changes nothing else."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seisbench_cdiffsd.streams.gaps import bridged, constant, fill, runs


@given(st.lists(st.booleans(), max_size=30))
def test_runs_are_all_that_is_true(mask):
    found = runs(np.array(mask, dtype=bool))
    again = np.zeros(len(mask), dtype=bool)
    for first, stop in found:
        assert first < stop
        again[first:stop] = True
    assert again.tolist() == mask
    assert all(stop < first for (_, stop), (first, _) in pairwise(found))


def test_constant_stretches_are_found_and_changes_are_not():
    values = np.array([5, 5, 5, 1, 1, 2, np.nan, np.nan, np.nan, 7, 7, 7, 7])
    assert runs(constant(values, 3)) == [(0, 3), (9, 13)]
    assert not constant(np.arange(9.0), 2).any() and constant(np.ones(4), 4).all() and not constant(np.ones(4), 5).any()


def test_a_line_leads_over_a_gap():
    np.testing.assert_allclose(bridged(np.array([1.0, np.nan, np.nan, 4.0])), [-1.5, -0.5, 0.5, 1.5])
    np.testing.assert_array_equal(bridged(np.full(5, 1e12 + 0.1)), np.zeros(5))


@pytest.mark.parametrize("gap", [50, 90])
@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_a_curve_leads_over_a_gap_of_a_wave(gap, offset):
    wave = np.sin(2 * np.pi * np.arange(1000) / 500 + 1)
    values = wave + offset
    values[500 : 500 + gap] = np.nan
    error = np.diff(bridged(values) - wave, 2)
    line = np.where(
        np.isnan(values), np.interp(np.arange(1000), np.flatnonzero(~np.isnan(values)), wave[~np.isnan(values)]), wave
    )
    assert abs(error).max() < 0.5 * abs(np.diff(line - wave, 2)).max()


def filled(values, alive, reach):
    data = np.array([values], dtype=np.float32)
    fill(data, np.array([alive], dtype=bool), reach)
    return data[0]


def test_a_gap_is_filled_from_both_sides():
    values = filled([1, 2, 3, 9, 9, 9, 7, 6, 5], [1, 1, 1, 0, 0, 0, 1, 1, 1], 30)
    fade, rise = np.cos(np.pi / 12 * np.array([[1, 3, 5], [5, 3, 1]]))
    np.testing.assert_allclose(values[3:6], fade * [3, 2, 1] + rise * [5, 6, 7], atol=1e-6)


@pytest.mark.parametrize("gap", [1, 5, 50, 99, 100])
def test_the_quieter_side_fills_the_gap(gap):
    quiet, loud = np.ones(100), 50 * np.ones(100)
    alive = np.repeat([True, False, True], [100, gap, 100])
    values = filled(np.r_[quiet, np.zeros(gap), loud], alive, 100)[100 : 100 + gap]
    fade = min(10, gap)
    np.testing.assert_array_equal(values[: gap - fade], 1)
    assert (values[gap - fade :] > 1).all()
    mirrored = filled(np.r_[loud, np.zeros(gap), quiet], alive, 100)[100 : 100 + gap]
    np.testing.assert_array_equal(mirrored[::-1], values)


def test_what_is_too_short_is_repeated_there_and_back_again():
    fade = np.cos(np.pi / 20)
    np.testing.assert_allclose(filled([1, 2, 9, 9, 9, 9, 9], [1, 1, 0, 0, 0, 0, 0], 9)[:3], [1, 2, 2 * fade])
    np.testing.assert_allclose(
        np.sign(filled([-1, 2, 9, 9, 9, 9, 9], [1, 1, 0, 0, 0, 0, 0], 9)[:6]), [-1, 1, 1, -1, -1, 1]
    )


@pytest.mark.parametrize("place", [slice(0, 40), slice(30, 70), slice(60, 100)])
def test_a_long_gap_is_silent_out_of_reach(place):
    values, alive = np.ones(100), np.ones(100, dtype=bool)
    alive[place] = False
    result = filled(values, alive, 10)
    inner = slice(place.start + 10 * (place.start > 0), place.stop - 10 * (place.stop < 100))
    np.testing.assert_array_equal(result[inner], 0)
    assert (result != 0).sum() >= 100 - (inner.stop - inner.start) - 2  # the fades end at zero
    np.testing.assert_array_equal(result[alive], 1)


@given(st.integers(0, 999), st.integers(1, 60))
@settings(max_examples=60)
def test_filling_is_local_and_leaves_what_is_there(seed, reach):
    generator = np.random.default_rng(seed)
    data, alive = generator.standard_normal((2, 3, 200)).astype(np.float32)
    alive = alive > -0.5
    whole, part = data.copy(), data[:, 50:].copy()
    fill(whole, alive, reach)
    fill(part, alive[:, 50:], reach)
    np.testing.assert_array_equal(whole[alive], data[alive])
    np.testing.assert_array_equal(part[:, 2 * reach :], whole[:, 50 + 2 * reach :])
