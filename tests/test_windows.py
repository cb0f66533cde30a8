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


def test_beside_a_silent_window_its_neighbour_keeps_its_amplitude():
    windows = Windows(np.ones((1, 100), np.float32), 50, 25)
    for offset, gain in zip(windows.offsets, (0, 1, 1), strict=True):
        windows.add(offset, gain * windows.cut(offset))
    assert windows.stacked()[0] == pytest.approx([0] * 25 + [1] * 75)
