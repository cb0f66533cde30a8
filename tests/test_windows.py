"""Windows are cut and stacked without loss."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seisbench_cdiffsd.streams.windows import Windows


@given(samples=st.integers(1, 300), overlap=st.integers(0, 49), origin=st.integers(0, 99))
@settings(max_examples=200, deadline=None)
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
    for offset, found in zip(windows.offsets, (False, True, False), strict=True):
        windows.add(offset, windows.cut(offset), found)
    assert windows.found.tolist() == [False] * 25 + [True] * 50 + [False] * 25
    assert windows.stacked()[0] == pytest.approx(np.ones(100))
