"""Streams to arrays and back: no sample is lost, invented or moved."""

import logging

import numpy as np
import pytest
from obspy import Stream, Trace, UTCDateTime
from scipy import signal

from seisbench_cdiffsd.streams import gaps
from seisbench_cdiffsd.streams.filtering import BAND, design_filter
from seisbench_cdiffsd.streams.records import joined, records, with_samples

START = UTCDateTime(2020, 1, 1)
SOS, _ = design_filter(("bandpass",), BAND, 100)


def trace(channel="HHZ", samples=1000, start=0.0, rate=100.0, seed=0, **header):
    """A trace of noise that starts `start` seconds after START."""
    data = np.random.default_rng(seed).standard_normal(samples) if np.isscalar(samples) else np.asanyarray(samples)
    stats = {"network": "XX", "station": "STA", "channel": channel, "sampling_rate": rate, **header}
    return Trace(data, {**stats, "starttime": START + start})


def made(*traces, window=300, **kwargs):
    return list(records(Stream(traces), 100, window, **kwargs))


def channels(record):
    """The channel code of each component, the first one if it changes."""
    return tuple(placed[0][0].channel if placed else "" for placed in record.pieces)


def spans(record):
    """Channel, start and length of each stretch that comes back."""
    return [
        (piece.channel, piece.start + first / 100, stop - first)
        for piece, values in record.original(record.data)
        for first, stop in gaps.runs(np.isfinite(values))
    ]


def test_components_become_the_rows_of_one_array():
    traces = [trace("HHE", seed=1), trace("HHZ", seed=2), trace("HHN", seed=3)]
    (record,) = made(*traces)
    assert channels(record) == ("HHZ", "HHN", "HHE")
    assert record.covered.all()
    for row, source in enumerate((1, 2, 0)):
        expected = traces[source].data - traces[source].data.mean()
        np.testing.assert_allclose(record.data[row], expected, atol=1e-6)


def test_the_band_is_that_of_the_training():
    tr = trace(samples=5000)
    (record,) = made(tr, sos=SOS)
    sos = signal.butter(4, [1, 45], "bandpass", output="sos", fs=100)  # what seisbench.generate.Filter does
    expected = signal.sosfiltfilt(sos, tr.data)
    inner = slice(1000, -1000)  # the ends are continued otherwise
    np.testing.assert_allclose(record.data[0, inner], expected[inner], atol=1e-5)


def test_an_offset_leaves_no_trace_in_the_band():
    tr = trace(samples=2000)
    tr.data[500:520] = np.nan
    high = tr.copy()
    high.data += 1e6
    (low_record,), (high_record,) = made(tr, sos=SOS), made(high, sos=SOS)
    np.testing.assert_allclose(high_record.data, low_record.data, atol=1e-5)


def test_a_gap_of_a_smooth_record_is_bridged_smoothly():
    time = np.arange(2000) / 100
    tr = trace(samples=np.sin(2 * np.pi * 2 * time))
    whole = made(tr, sos=SOS)[0].data[0]
    tr.data[1000] = np.nan
    (record,) = made(tr, sos=SOS)
    np.testing.assert_allclose(record.data[0], whole, atol=0.01)
    assert list(np.flatnonzero(~record.covered[0])) == [1000]


def test_a_rate_that_is_wrong_costs_no_more_than_the_samples():
    parts = [trace(rate=1e5, samples=np.ones(400), start=0.06 * i) for i in range(100)]
    assert sum(record.covered.shape[1] for record in made(*parts, window=3000)) == 40_000


def test_only_long_gaps_of_all_components_split_a_record():
    short = made(trace(start=0), trace(start=12.9), trace("HHN", samples=1500, seed=1))
    assert [len(record.data[0]) for record in short] == [2290]
    long = made(trace(start=0), trace(start=13.1))
    assert [len(record.data[0]) for record in long] == [1000, 1000]
    bridged = made(trace(start=0), trace(start=20), trace("HHN", samples=3000, seed=1))
    assert [len(record.data[0]) for record in bridged] == [3000]
    inside = np.ma.masked_array(np.ones(3000), (np.arange(3000) > 999) & (np.arange(3000) < 2000))
    assert [len(record.data[0]) for record in made(trace(samples=inside))] == [1000, 1000]


def test_rates_stay_apart():
    found = made(trace("HHZ", rate=100), trace("HHN", rate=200), trace("HHE", rate=99.9))
    assert [len(record.data[0]) for record in found] == [1000, 1000, 500]
    rounded = 1 / float(np.float32(0.01))  # as from a SAC header
    assert [channels(x) for x in made(trace("HHZ"), trace("HHN", rate=rounded))] == [("HHZ", "HHN", "")]


@pytest.mark.parametrize("rate", [99.995, 100.007])
def test_components_whose_rates_waver_do_not_drift_apart(rate, caplog):
    (record,) = made(trace("HHZ", samples=np.arange(60_000.0)), trace("HHN", rate=rate, samples=np.arange(60_000.0)))
    assert sum(len(piece.values) for piece, _ in record.pieces[1]) == 60_000 and len(record.pieces[1]) > 3
    for piece, place in record.pieces[1]:
        ends = np.array([0, len(piece.values) - 1])
        times = piece.start - START + ends / rate
        np.testing.assert_allclose(times, (place.start + ends) / 100, atol=0.01)
    assert not caplog.text


def test_components_1_and_2_stand_for_n_and_e():
    traces = [trace(f"HH{c}", seed=i) for i, c in enumerate("Z12")]
    (record,) = made(*traces)
    assert channels(record) == ("HHZ", "HH1", "HH2")
    (record,) = made(*traces, flexible=False)
    assert channels(record) == ("HHZ", "", "")
    (record,) = made(trace("HHN"), order="Z12")
    assert channels(record) == ("", "HHN", "")


@pytest.mark.parametrize("letters", ["Z1E", "ZN2"])
def test_a_number_next_to_the_other_letter_is_not_another_instrument(letters, caplog):
    with caplog.at_level(logging.WARNING, "seisbench"):
        (record,) = made(*[trace(f"HH{c}", seed=i) for i, c in enumerate(letters)])
    assert channels(record) == tuple(f"HH{c}" for c in letters)
    assert not caplog.records


@pytest.mark.parametrize("rate", [100, 128, 97, 20])
def test_channels_that_get_other_names_stay_in_their_rows(rate, caplog):
    samples = int(10 * rate)
    numbered = [trace(f"HH{c}", samples, rate=rate, seed=i) for i, c in enumerate("12")]
    named = [trace(f"HH{c}", samples, start=samples / rate, rate=rate, seed=i) for i, c in enumerate("NE", 2)]
    for tr in named:
        tr.data += 1e6  # each is filtered by itself, so the step between them does not ring
    with caplog.at_level(logging.WARNING, "seisbench"):
        (record,) = made(trace("HHZ", 2 * samples, rate=rate, seed=5), *numbered, *named, sos=SOS)
    assert not caplog.records
    assert channels(record) == ("HHZ", "HH1", "HH2")
    (alone,) = made(*numbered, sos=SOS)
    np.testing.assert_array_equal(record.data[1:, : alone.data.shape[1]], alone.data[1:])
    assert abs(record.data).max() < 10
    for piece, values in record.original(record.data):
        assert len(values) == (samples if piece.channel != "HHZ" else 2 * samples) and np.isfinite(values).all()


def test_numbered_ones_stand_alone_only_where_the_others_are(caplog):
    found = made(*[trace(f"HH{c}", seed=i) for i, c in enumerate("1E2ZN")])
    assert [channels(x) for x in found] == [("HHZ", "HHN", "HHE"), ("", "HH1", "HH2")]
    vertical, *numbered = [trace(f"HH{c}", samples=9000, seed=i) for i, c in enumerate("Z12")]
    short = trace("HHN", samples=1000, start=40, seed=7)
    with caplog.at_level(logging.WARNING, "seisbench"):
        together, alone = made(vertical, short, *numbered, sos=SOS)
    assert "XX.STA..HH" in caplog.text
    assert channels(alone) == ("", "HH1", "HH2")
    assert spans(alone) == [(f"HH{c}", START + 39.99, 1002) for c in "12"]
    assert sorted(spans(together)) == [
        *[("HH1", START, 3999), ("HH1", START + 50.01, 3999), ("HH2", START, 3999), ("HH2", START + 50.01, 3999)],
        *[("HHN", START + 40, 1000), ("HHZ", START, 9000)],
    ]
    (before,) = made(vertical, *numbered, sos=SOS)
    np.testing.assert_allclose(together.data[:, :3000], before.data[:, :3000], atol=1e-2)


@pytest.mark.parametrize("rates", [(100, 99.98), (100, 50)])
def test_components_at_different_rates_are_reported_in_one_line(rates, caplog):
    with caplog.at_level(logging.WARNING, "seisbench"):
        assert len(made(trace("HHZ", rate=rates[0]), *[trace(f"HH{c}", rate=rates[1]) for c in "NE"])) == 2
    (line,) = caplog.records
    assert "XX.STA..HH" in line.getMessage() and "rates" in line.getMessage()


def test_of_contradicting_traces_the_mean_is_used(caplog):
    long, short = trace(samples=2000, seed=0), trace(samples=500, start=5, seed=1)
    mean = long.copy()
    mean.data[500:1000] = (mean.data[500:1000] + short.data) / 2
    with caplog.at_level(logging.WARNING, "seisbench"):
        np.testing.assert_array_equal(made(short, long)[0].data, made(mean)[0].data)
    assert "disagree" in caplog.text and f"XX.STA..HHZ (record from {str(long.stats.starttime)[:19]})" in caplog.text
    for shift in (-2.0, -1.4, -1.0):  # which is no jitter
        caplog.clear()
        with caplog.at_level(logging.WARNING, "seisbench"):
            (record,) = made(trace(seed=0), trace(start=10 + shift / 100, seed=1))
        assert "disagree" in caplog.text and len(record.data[0]) == 2000 + round(shift)


@pytest.mark.parametrize("rate", [100, 50, 128])
@pytest.mark.parametrize("jitter", [-0.6, -0.55, 0.0, 0.4])
def test_of_touching_traces_whose_clock_jitters_the_later_sample_counts(rate, jitter, caplog):
    before = trace(samples=10 * rate, rate=rate, seed=0)
    after = trace(samples=10 * rate, rate=rate, start=10 + jitter / rate, seed=1)
    before.data += 1e3  # a mean would stand out
    collide = jitter < -0.5
    expected = np.concatenate([before.data[: len(before) - collide], after.data])
    with caplog.at_level(logging.WARNING, "seisbench"):
        for given in ([before, after], [after, before], [before, after, after.copy(), before.copy()]):
            (whole,) = joined(Stream(given), 3.0)
            np.testing.assert_array_equal(whole.data, expected)
            (record,) = made(*given)
            assert all(np.isfinite(values).all() for _, values in record.original(record.data))
            if rate == 100:
                np.testing.assert_allclose(record.data[0], expected - expected.mean(), rtol=1e-5, atol=1e-4)
    assert not caplog.records


def test_what_lies_on_the_two_sides_of_a_gap_is_filtered_by_itself():
    before, after = trace("HHN", samples=1000, seed=1), trace("HHN", samples=1000, start=20, seed=2)
    after.data += 1e6
    (record,) = made(trace(samples=3000), before, after, sos=SOS)
    alone = made(before, sos=SOS)[0].data[1], made(after, sos=SOS)[0].data[1]
    np.testing.assert_array_equal(record.data[1][record.alive[1]], np.concatenate([x[:1000] for x in alone]))
    assert gaps.runs(~record.alive[1]) == [(1000, 2000)]


@pytest.mark.parametrize("rate", [20, 40, 62.5, 80, 99.999, 100, 128, 200, 250, 500])
@pytest.mark.parametrize("start", [0, 0.0021, 0.005, 0.123456])
def test_a_later_record_has_the_samples_of_an_earlier_one(rate, start):
    whole = trace(samples=int(60 * rate), rate=rate, start=start)
    whole.data += 1e5 + 1e3 * np.arange(len(whole)) / rate
    part = whole.slice(START + start + 17.03)
    (one,), (other,) = made(whole, sos=SOS), made(part, sos=SOS)
    shift = other.origin - one.origin
    np.testing.assert_allclose(other.data[0, 2000:], one.data[0, shift + 2000 :], atol=1e-5)
    ((_, whole_values),), ((_, part_values),) = one.original(one.data), other.original(other.data)
    inner = int(20 * rate)
    np.testing.assert_allclose(part_values[inner:], whole_values[-len(part_values) + inner :], atol=1e-5)


@pytest.mark.parametrize("rate", [20, 40, 50, 80, 200, 250, 500])
def test_resampling_keeps_a_wave_where_it_is(rate):
    frequency = 3.0

    def wave(at):
        return np.sin(2 * np.pi * frequency * np.arange(20 * at) / at)

    (record,) = made(trace(samples=wave(rate), rate=rate))
    inner = slice(200, 1600)
    np.testing.assert_allclose(record.data[0][inner], wave(100)[inner], atol=0.01)
    ((_, values),) = record.original(record.data)
    inner = slice(2 * rate, 16 * rate)
    np.testing.assert_allclose(values[inner], wave(rate)[inner], atol=0.01)


def test_strict_counts_only_what_all_components_have():
    traces = [trace("HHZ"), trace("HHN", seed=1), trace("HHE", samples=600, start=2, seed=2)]
    (record,) = made(*traces, strict=True)
    assert spans(record) == [(f"HH{c}", START + 2, 600) for c in "ZNE"]
    (record,) = made(*traces[:2], strict=True)
    assert spans(record) == []


def test_traces_that_overlap_are_joined_with_the_mean_of_what_contradicts():
    one, other = trace(samples=np.arange(1000)), trace(samples=np.arange(500.0, 1500.0), start=5.0)
    other.data[:100] += 2
    other.data[[200, 700]] = np.nan, np.inf
    far = trace(samples=[1, 2], start=60.0)
    before = other.data.copy()
    first, second = joined(Stream([other, one, far]), 3.0)
    assert (first.stats.starttime, second.stats.starttime) == (START, START + 60) and first.id == one.id
    expected = np.arange(1500.0)
    expected[500:600] += 1
    assert np.flatnonzero(first.data.mask).tolist() == [1200]
    np.testing.assert_array_equal(first.data.filled(1200), expected)
    assert second.data.tolist() == [1, 2]
    np.testing.assert_array_equal(other.data, before)
    assert (first.stats.npts, first.stats.endtime) == (len(first), START + 14.99)
    assert (second.stats.npts, second.stats.endtime) == (len(second), START + 60.01)


@pytest.mark.parametrize("samples", [1, 999, 1000, 1001])
def test_a_trace_with_other_samples_has_their_number(samples):
    values = np.arange(float(samples))
    values[samples // 2] = np.nan
    given = trace(samples=1000)
    result = with_samples(given, values)
    assert len(result) == result.stats.npts == samples
    assert result.stats.endtime == START + (samples - 1) / 100
    assert np.flatnonzero(result.data.mask).tolist() == [samples // 2]
    assert given.stats.npts == 1000


@pytest.mark.parametrize("rate", [1000 / 3, 99.99876543, 100.0, 199.99995])
def test_traces_of_any_rate_are_joined_without_losing_a_sample(rate):
    count = int(3600 * rate)
    parts = [trace(samples=count, start=i * count / rate, rate=rate, seed=i) for i in range(2)]
    (whole,) = joined(Stream(parts), 3.0)
    np.testing.assert_array_equal(whole.data, np.concatenate([part.data for part in parts]))
    assert whole.stats.sampling_rate == rate
    assert abs(whole.stats.endtime - parts[1].stats.endtime) < 0.01 / rate


@pytest.mark.parametrize("offset", [0, 1e4])
def test_zeros_in_a_gap_do_not_contradict_another_trace(offset, caplog):
    whole = trace(samples=2000)
    whole.data += offset
    zeros = trace(samples=np.zeros(800), start=6.0)
    zeros.data[:100] = whole.data[600:700]
    with caplog.at_level(logging.WARNING, "seisbench"):
        (record,), (alone,) = made(zeros, whole, sos=SOS), made(whole, sos=SOS)
    np.testing.assert_array_equal(record.data, alone.data)
    assert record.alive[0].all() and not caplog.records
    (together,) = joined(Stream([whole, zeros]), 3.0)
    np.testing.assert_array_equal(together.data, whole.data)


@pytest.mark.parametrize("rate", [20, 62.5, 100])
@pytest.mark.parametrize("offset", [0, 1e4])
def test_what_lies_beyond_a_long_constant_stretch_does_not_matter(rate, offset):
    first, stop = int(20 * rate), int(70 * rate)
    whole = trace(samples=int(90 * rate), rate=rate, seed=1)
    whole.data += offset
    whole.data[first:stop] = 0
    (record,) = made(whole, sos=SOS)
    ((_, values),) = record.original(np.where(record.alive, record.data, 0))
    assert not values[first:stop].any()
    middle = (first + stop) // 2
    for part in (slice(middle), slice(middle, None)):
        (alone,) = made(trace(samples=whole.data[part], rate=rate, start=(part.start or 0) / rate), sos=SOS)
        ((_, expected),) = alone.original(np.where(alone.alive, alone.data, 0))
        np.testing.assert_allclose(values[part], expected, atol=1e-5, rtol=0)
