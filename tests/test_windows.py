"""Windows are cut and stacked without loss."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seisbench_cdiffsd.streams.windows import Windows


@given(samples=st.integers(1, 300), overlap=st.integers(0, 49), origin=st.integers(0, 99))
@settings(max_examples=200)
def test_windows_that_are_not_changed_give_the_record_back(samples, overlap, origin):
    data = np.random.default_rng(samples).standard_normal((3, samples)).astype(np.float32)
    windows = Windows(data, 50, overlap, origin)
    for offset in windows.offsets:
        assert windows.left
        windows.add(offset, windows.cut(offset))
    assert not windows.left
    np.testing.assert_allclose(windows.stacked(), data, rtol=1e-5)


def test_an_earthquake_may_be_where_any_window_has_found_one():
    windows = Windows(np.ones((1, 100), np.float32), 50, 25)
    for offset, probability in zip(windows.offsets, (0.7, 0.8, 0.1), strict=True):
        windows.add(offset, windows.cut(offset), probability, 0.75)
    assert windows.found.tolist() == [False] * 25 + [True] * 50 + [False] * 25
    assert windows.stacked()[0] == pytest.approx(np.ones(100))


def test_a_stretch_has_the_mean_log_odds_of_the_windows_that_cover_it():
    windows = Windows(np.ones((1, 110), np.float32), 50, 25)
    for offset, probability in zip(windows.offsets, (0.5, 0.9, 1.0, 0.0), strict=True):
        windows.add(offset, windows.cut(offset), probability)
    assert windows.offsets == [0, 25, 50, 60]
    first, last, log_odds = zip(*windows.stretches(), strict=True)
    assert first == (0, 25, 50, 60, 75, 100) and last == (25, 50, 60, 75, 100, 110)
    nine, sure = np.log(9), np.log(1e7)
    expected = [0, nine / 2, (nine + sure) / 2, nine / 3, 0, -sure]
    assert log_odds == pytest.approx(expected, abs=1e-5)
    short = Windows(np.ones((1, 20), np.float32), 50)
    short.add(0, short.cut(0), 0.9)
    assert list(short.stretches()) == [(0, 20, pytest.approx(nine))]
