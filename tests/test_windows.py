"""Windows are cut and stacked without loss, and blinded samples do not count."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from seisbench_cdiffsd.options import STACKING
from seisbench_cdiffsd.streams.windows import Windows


@given(
    samples=st.integers(1, 300),
    overlap=st.integers(0, 49),
    share=st.floats(0, 1),
    stacking=st.sampled_from(STACKING),
)
@settings(max_examples=200, deadline=None)
def test_windows_that_are_not_changed_give_the_record_back(samples, overlap, share, stacking):
    data = np.random.default_rng(samples).standard_normal((3, samples)).astype(np.float32)
    blinding = int(share * overlap), overlap - int(share * overlap)
    windows = Windows(data, 50, overlap, blinding if share < 0.5 else (0, 0), stacking)
    for offset in windows.offsets:
        assert not windows.complete
        windows.add(offset, windows.cut(offset))
    assert windows.complete
    np.testing.assert_allclose(windows.stacked(), data, rtol=1e-5)


def test_blinded_samples_are_left_to_the_neighbour():
    windows = Windows(np.zeros((1, 18), dtype=np.float32), 10, 2, (1, 1))
    first, second = np.full((1, 10), 1, dtype=np.float32), np.full((1, 10), 2, dtype=np.float32)
    first[0, -1] = second[0, 0] = np.float32(1e9)
    windows.add(0, first)
    windows.add(8, second)
    np.testing.assert_array_equal(windows.stacked()[0], [1] * 9 + [2] * 9)
