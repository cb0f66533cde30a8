"""Resampling and filters: ratios are simple, no sample is lost, and filters are ObsPy's."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obspy import Trace
from scipy import signal

from seisbench_cdiffsd.filtering import design_filter, resampled, restored, simple_ratio


@given(rate=st.floats(0.5, 5000))
def test_ratios_are_simple_and_near_the_rate_of_the_model(rate):
    ratio = simple_ratio(rate, 100)
    assert ratio == Fraction(1) or ratio.denominator <= max(100, rate / 50)
    assert rate * float(ratio) == pytest.approx(100, rel=0.011)


@given(samples=st.integers(1, 500), rate=st.sampled_from([20, 31.25, 50, 128, 200, 500]))
@settings(deadline=None)
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
