"""Resampling and filters: ratios are simple, no sample is lost, and filters are ObsPy's."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from obspy import Trace
from scipy import signal

from seisbench_cdiffsd.streams.filtering import (
    BAND,
    RATE_TOLERANCE,
    design_filter,
    filtered,
    resampled,
    restored,
    simple_ratio,
)


@given(rate=st.floats(1, 5000))
@example(rate=201.0)
@example(rate=3374.8289)  # 0.74 %, the largest deviation found
def test_ratios_are_simple_and_near_the_rate_of_the_model(rate):
    ratio = simple_ratio(rate, 100)
    assert ratio == Fraction(1) or ratio.denominator <= max(100, rate / 50)
    assert rate * float(ratio) == pytest.approx(100, rel=RATE_TOLERANCE)


@given(samples=st.integers(1, 500), rate=st.sampled_from([20, 31.25, 50, 128, 200, 500]))
def test_resampling_there_and_back_loses_no_sample(samples, rate):
    ratio = simple_ratio(rate, 100)
    there = resampled(np.ones(samples), ratio)
    assert (len(there) - 1) / 100 <= (samples - 1) / rate < len(there) / 100 + 1e-12
    assert len(restored(there, ratio)) >= samples


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("bandpass",), {"freqmin": 1.0, "freqmax": 45.0}),
        (("bandpass",), {"freqmin": 1.0, "freqmax": 60.0}),
        (("highpass",), {"freq": 2.0, "corners": 2}),
        (("lowpass",), {"freq": 10.0}),
        (("bandstop",), {"freqmin": 5.0, "freqmax": 8.0}),
    ],
)
def test_filters_are_those_of_obspy(args, kwargs):
    sos, zerophase = design_filter(args, kwargs, 100)
    assert not zerophase
    tr = Trace(np.random.default_rng(0).standard_normal(3000), {"sampling_rate": 100})
    values = signal.sosfilt(sos, tr.data)
    if kwargs.get("freqmax") == 60:  # ObsPy too leaves a pass band beyond Nyquist open above, and warns
        args, kwargs = ("highpass",), {"freq": 1.0}
    np.testing.assert_allclose(values, tr.filter(*args, **kwargs).data, atol=1e-6)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("notch",), {"freq": 1}),
        ((), {}),
        (None, {"freq": 1}),
        (("bandpass",), {"freq": 1}),
        (("highpass",), {"freq": 1, "colour": 2}),
        (("bandpass",), {"freqmin": 5, "freqmax": 1}),
    ],
)
def test_other_filters_are_refused(args, kwargs):
    with pytest.raises(ValueError, match=r"filter_args|filter_kwargs|corner frequencies"):
        design_filter(args, kwargs, 100)


SOS, _ = design_filter(("bandpass",), BAND, 100)


def microseism(samples, seed=0):
    """Waves of 4 to 8 s, of unit rms."""
    band = signal.butter(5, [0.12, 0.28], "bandpass", output="sos", fs=100)
    values = signal.sosfilt(band, np.random.default_rng(seed).standard_normal(samples + 10_000))[10_000:]
    return values / values.std()


@pytest.mark.parametrize("samples", [600, 3000, 9000])
@pytest.mark.parametrize("seed", range(5))
def test_the_ends_of_microseism_do_not_ring(samples, seed):
    values = microseism(24_000, seed)
    place = slice(8000, 8000 + samples)
    expected = filtered(values, SOS)[place]
    np.testing.assert_allclose(filtered(values[place], SOS), expected, atol=3e-3)
    for seconds in (2, 10, 100):  # nor does a decay
        assert abs(filtered(np.exp(-np.arange(9000) / 100 / seconds), SOS)).max() < 1e-3 / seconds


@pytest.mark.parametrize("samples", [1, 2, 3, 100, 126, 127, 500, 5000])
@pytest.mark.parametrize("scale", [1e-310, 1e-30, 1.0, 1e37])
def test_all_records_can_be_filtered(samples, scale):
    random = np.random.default_rng(samples)
    for values in (
        np.ones(samples),
        random.standard_normal(samples),
        np.sign(random.standard_normal(samples)).cumsum(),
    ):
        result = filtered(values * scale, SOS)
        assert len(result) == samples and abs(result).max() <= 10 * abs(values).max() * scale
        if scale > 1e-300:
            np.testing.assert_allclose(result / scale, filtered(values, SOS), atol=1e-6)


def test_the_ends_depend_on_the_last_seconds_alone():
    values = np.random.default_rng(0).standard_normal(20_000).cumsum()
    whole, part = filtered(values, SOS), filtered(values[10_000:], SOS)
    np.testing.assert_allclose(part[2000:], whole[12_000:], atol=1e-6)
