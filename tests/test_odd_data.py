"""Data as they really are, in random combinations: every sample comes back, and nothing is invented."""

import logging
import warnings

import numpy as np
import pytest
from conftest import randomised
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from obspy import Stream, Trace, UTCDateTime

from seisbench_cdiffsd import CDiffSD
from seisbench_cdiffsd.denoising import margin
from seisbench_cdiffsd.files.reading import between
from seisbench_cdiffsd.streams.components import assign

START = UTCDateTime(2020, 1, 1)
#: Seconds of a window of the model of these tests, which is short to be quick.
WINDOW = 6.0
#: How far the surroundings of a sample reach, in seconds.
REACH = margin(CDiffSD(in_samples=int(WINDOW * 100)))

settings.register_profile("odd", max_examples=15, suppress_health_check=list(HealthCheck))
RATES = [20, 40, 50, 62.5, 80, 99.999, 100, 100, 100, 120, 200, 250, 500]


@pytest.fixture(scope="module")
def small():
    """A model with a short window and random parameters."""
    return randomised(CDiffSD(in_samples=int(WINDOW * 100), default_args={"steps": 1, "batch_size": 16}))


def put(data, first, stop, value):
    """A record with other samples in a stretch."""
    data = data.copy()
    data[first:stop] = value
    return data


#: The faults that real records have: of a record, a random stretch of it, and a generator.
FAULTS = {
    "none": lambda x, first, stop, random: x,
    "integers": lambda x, first, stop, random: (x * 1000).astype(np.int32),
    "small integers": lambda x, first, stop, random: (x * 10).astype(np.int16),
    "single precision": lambda x, first, stop, random: x.astype(np.float32),
    "constant": lambda x, first, stop, random: np.full(len(x), 12345.0),
    "dead": lambda x, first, stop, random: np.zeros(len(x), dtype=np.int32),
    "masked": lambda x, first, stop, random: np.ma.masked_array(x, put(np.zeros(len(x), bool), first, stop, True)),
    "masked integers": lambda x, first, stop, random: np.ma.masked_array(
        (x * 1000).astype(np.int32), random.random(len(x)) < 0.1
    ),
    "nan": lambda x, first, stop, random: put(x, first, stop, np.nan),
    "scattered nan": lambda x, first, stop, random: np.where(random.random(len(x)) < 0.05, np.nan, x),
    "infinite": lambda x, first, stop, random: put(x, first, first + 3, [np.inf, -np.inf, np.nan][: len(x) - first]),
    "zeros": lambda x, first, stop, random: put(x + 1e4, first, stop, 0),
    "step": lambda x, first, stop, random: x + put(np.zeros(len(x)), first, None, 1e5),
    "spike": lambda x, first, stop, random: put(x, first, first + 1, -1e4),
    "clipped": lambda x, first, stop, random: x.clip(-0.3, 0.3),
    "offset": lambda x, first, stop, random: x + 1e7,
    "drift": lambda x, first, stop, random: x + np.linspace(0, 1e4, len(x)),
}


COMPONENTS = ("Z", "N", "ZN", "ZNE", "Z12", "1", "Z1E", "ZN2", "ZNE12", "ZNEH")


@st.composite
def instruments(draw, station="STA", longest=60.0, components=COMPONENTS):
    """The traces of one instrument: components, gaps, fragments, overlaps and faults."""
    rate = draw(st.sampled_from(RATES))
    header = {
        "network": draw(st.sampled_from(["XX", ""])),
        "station": station,
        "location": draw(st.sampled_from(["", "00", "10"])),
        "sampling_rate": rate,
    }
    band = draw(st.sampled_from(["HH", "HN", "BH", ""]))
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    traces = []
    for component in draw(st.sampled_from(components)):
        offset = draw(st.sampled_from([0, 0, 0, 0.005, 0.0033, 0.5, 7.1]))
        for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
            seconds = draw(st.sampled_from([0, 0.02, 1, 5.9, 6, 6.5, 20, longest]))
            data = generator.standard_normal(1 + int(seconds * rate))
            first = int(generator.integers(len(data)))
            stop = first + int(generator.integers(1, len(data) + 1))
            data = FAULTS[draw(st.sampled_from([*FAULTS]))](data, first, stop, generator)
            traces.append(Trace(data, {**header, "channel": band + component, "starttime": START + offset}))
            again = draw(st.sampled_from(["no", "no", "no", "equal", "contradicting"]))
            if again != "no":
                part = traces[-1].slice(START + offset + seconds / 3, START + offset + seconds / 2).copy()
                if again == "contradicting" and len(part):
                    part.data = part.data + 1
                traces.append(part)
            # touching, a short gap, a long one, or an overlap
            step = draw(st.sampled_from([1 / rate, 0.5, 3, 8, 40, -2]))
            offset = max(offset + (len(data) - 1) / rate + step, 0)
    return traces


@st.composite
def streams(draw):
    """Streams of one or two instruments, in any order."""
    stations = draw(st.sampled_from([["STA"], ["STA", "STA"], ["STA", "OTHER"]]))
    traces = [trace for station in stations for trace in draw(instruments(station))]
    return Stream(draw(st.permutations(traces)))


def missing(trace):
    """Samples of a trace that cannot be denoised."""
    data = np.ma.getdata(trace.data)
    return np.ma.getmaskarray(trace.data) | ~np.isfinite(data.astype(float))


def served_of(data):
    """The traces that have samples for the model."""
    components = assign({trace.id for trace in data})
    return [trace for trace in data if trace.id in components and not missing(trace).all()]


def same_samples(one, other, amplitude=None):
    """The same samples, but for rounding, in relation to the largest of them."""
    np.testing.assert_array_equal(np.ma.getmaskarray(one), np.ma.getmaskarray(other))
    one, other = np.ma.filled(one, 0), np.ma.filled(other, 0)
    if len(one):
        amplitude = np.abs(other).max() if amplitude is None else amplitude
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * amplitude + 1e-9)


@given(data=streams())
@settings(settings.get_profile("odd"))
def test_every_sample_is_served_once_and_quietly(small, caplog, data):
    before = data.copy()
    caplog.clear()
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.WARNING, "seisbench"):
        warnings.simplefilter("always")
        clean, noise = small.denoise(data, return_noise=True)
    # one of each kind: skipped, of different rates, 12 as well as NE, contradicting
    assert len(caplog.records) <= 4 and not [x for x in caught if "Deprecat" not in str(x.category)]
    expected = served_of(data)
    assert [t.id for t in clean] == [t.id for t in noise] == [t.id for t in expected]
    for signal, rest, trace in zip(clean, noise, expected, strict=True):
        for key in ("starttime", "sampling_rate", "npts"):
            assert signal.stats[key] == trace.stats[key] == rest.stats[key]
        np.testing.assert_array_equal(np.ma.getmaskarray(signal.data), missing(trace))
        np.testing.assert_array_equal(np.ma.getmaskarray(rest.data), missing(trace))
        there = ~missing(trace)
        samples = np.ma.getdata(signal.data)[there]
        assert np.isfinite(samples).all()
        total = samples + np.ma.getdata(rest.data)[there]
        np.testing.assert_allclose(total, np.ma.getdata(trace.data)[there].astype(float), rtol=1e-9, atol=1e-9)
    for old, new in zip(before, data, strict=True):
        assert old.stats == new.stats and np.ma.isMaskedArray(old.data) == np.ma.isMaskedArray(new.data)
        np.testing.assert_array_equal(np.ma.getmaskarray(old.data), np.ma.getmaskarray(new.data))
        np.testing.assert_array_equal(np.ma.getdata(old.data), np.ma.getdata(new.data))


@given(data=streams(), seed=st.integers(0, 99))
@settings(settings.get_profile("odd"))
def test_neither_order_nor_company_matters(small, data, seed):
    order = np.random.default_rng(seed).permutation(len(data))
    clean = small.denoise(data)
    shuffled = small.denoise(Stream([data[i] for i in order]))
    served = served_of(data)
    place = {id(data[i]): k for k, i in enumerate(i for i in order if any(data[i] is trace for trace in served))}
    for signal, trace in zip(clean, served, strict=True):
        same_samples(shuffled[place[id(trace)]].data, signal.data)
    for station in {trace.stats.station for trace in data}:
        alone = small.denoise(data.select(station=station))
        for one, other in zip(alone, clean.select(station=station), strict=True):
            assert one.id == other.id
            same_samples(one.data, other.data)


@given(traces=instruments(longest=90.0, components=("Z", "ZN", "ZNE", "Z12", "Z1E", "ZNE12")), cut=st.integers(10, 90))
@settings(settings.get_profile("odd"))
def test_in_one_call_or_in_pieces(small, traces, cut):
    data = Stream(traces)
    whole = small.denoise(data)
    edge = START + cut
    for part, first, last in (
        (data.slice(edge - REACH), edge, START + 1000),
        (data.slice(endtime=edge + REACH), START - 1000, edge),
    ):
        expected, found = (
            [p for p in (between(t, first, last) for t in x) if not np.ma.getmaskarray(p.data).all()]
            for x in (whole, small.denoise(part))
        )
        assert [(t.id, t.stats.npts) for t in found] == [(t.id, t.stats.npts) for t in expected]
        assert all(abs(a.stats.starttime - b.stats.starttime) < 1e-6 for a, b in zip(found, expected, strict=True))
        largest = max((np.abs(np.ma.filled(t.data, 0)).max() for t in whole), default=0)
        for one, other in zip(found, expected, strict=True):
            same_samples(one.data, other.data, largest)


def test_thousands_of_fragments(small):
    generator = np.random.default_rng(0)
    traces, at = [], {component: START for component in "ZNE"}
    for i in range(1200):
        component = "ZNE"[i % 3]
        samples = int(generator.integers(1, 200))
        header = {"station": "STA", "channel": f"HH{component}", "sampling_rate": 100, "starttime": at[component]}
        traces.append(Trace(generator.standard_normal(samples), header))
        at[component] += samples / 100 + float(generator.choice([0.02, 0.5, 7.0, 30.0]))
    data = Stream([traces[i] for i in generator.permutation(len(traces))])
    clean = small.denoise(data)
    assert [(t.id, t.stats.starttime, t.stats.npts) for t in clean] == [
        (t.id, t.stats.starttime, t.stats.npts) for t in data
    ]
    assert all(np.isfinite(t.data).all() for t in clean)


#: Samples and headers that have nothing for the model; of the fourth only the header was read.
NOTHING = [("|S1", {}), (object, {}), (complex, {}), (float, {"npts": 50})]
NOTHING += [(float, {"sampling_rate": rate}) for rate in (0, 1e-6, 0.5, 1e6, 1e9, np.inf, np.nan)]


@pytest.mark.parametrize(("kind", "odd"), NOTHING, ids=str)
def test_what_is_not_numeric_or_at_an_impossible_rate_is_skipped(small, kind, odd, caplog):
    trace = Trace(np.ones(0 if "npts" in odd else 50, kind), {"station": "STA", "channel": "HHZ"})
    trace.stats.__dict__.update(odd)  # as some files have it
    with caplog.at_level(logging.WARNING, "seisbench"):
        assert not small.denoise(Stream([trace]))
    assert "HHZ" in caplog.text


@pytest.mark.parametrize("rate", [3, 1000, 44100])
def test_slow_and_fast_rates_are_served(small, rate):
    data = Stream([Trace(np.random.default_rng(0).standard_normal(500), {"channel": "HHZ", "sampling_rate": rate})])
    (out,) = small.denoise(data)
    assert out.stats.npts == 500 and np.isfinite(out.data).all()


@pytest.mark.parametrize("samples", [[5], [np.nan], []])
def test_one_sample_or_none(small, samples):
    data = Stream([Trace(np.array(samples, dtype=float), {"channel": "HHZ", "sampling_rate": 100})])
    assert [t.stats.npts for t in small.denoise(data)] == ([1] if samples == [5] else [])


@pytest.mark.parametrize(
    "data", ["day.mseed", Trace(np.zeros(100)), np.zeros((3, 3000))], ids=lambda x: type(x).__name__
)
def test_what_is_not_a_stream_is_refused_with_a_hint(small, data):
    with pytest.raises(TypeError, match=rf"not {type(data).__name__}: obspy.read"):
        small.denoise(data)
