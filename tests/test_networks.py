"""Counting of picks in networks, and records joined from minutes."""

import continuous
import networks
import numpy as np
import pandas as pd
import pytest
from obspy import Stream, Trace, UTCDateTime

from seisbench_cdiffsd.picking import load_picker, pick_both

#: Four stations on a line, a second apart for the slowest wave.
APART = np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))


def picks(times, phase="P", probability=0.5):
    rows = [(f"S{station}", phase, time, probability) for station, own in enumerate(times) for time in own]
    return pd.DataFrame(rows, columns=["station", "phase", "time", "probability"])


@pytest.mark.parametrize(
    ("times", "events"),
    [
        ([[10.0], [11.0], [12.0], [13.0]], 1),  # a wave along the line
        ([[10.0], [10.0], [10.0], [10.0]], 1),  # from below
        ([[10.0], [11.2], [12.3], [13.4]], 0),  # slower than any wave
        ([[10.0], [11.0], [12.0], []], 0),  # three stations
        ([[10.0, 10.1], [11.0, 11.1], [12.0, 12.1], [13.0, 13.1]], 2),  # each pick once
        ([[9.0, 10.0], [11.0], [12.0], [13.0]], 1),  # the first pick fits none
    ],
)
def test_events_are_picks_that_fit(times, events):
    assert len(networks.coincident([np.array(x) for x in times], APART, 4)) == events


def test_what_chance_makes_is_taken_off():
    random = np.random.default_rng(0)
    noise = [np.sort(random.uniform(0, 3600, 900)) for _ in range(4)]
    counts = networks.above_chance(noise, APART, 4, 3600)
    assert counts["found"] > 20 and abs(counts["true"]) < 4 * counts["found"] ** 0.5
    events = [np.sort([*x, *(np.arange(50) * 70 + i)]) for i, x in enumerate(noise)]
    assert networks.above_chance(events, APART, 4, 3600)["true"] > counts["true"] + 25


def test_peaks_are_apart_where_the_probability_falls_below_half():
    values, start = np.full(1000, 0.002), UTCDateTime(5)
    values[[100, 101, 102, 400, 500, 800]] = 0.4, 0.3, 0.35, 0.6, 0.9, 0.0005
    values[401:500] = 0.2
    trace = Trace(values, {"sampling_rate": 100, "starttime": start + 2})
    found = networks.peaks_of("A", "P", trace, start)
    assert found["time"].tolist() == pytest.approx([3, 6, 7]) and found["probability"].tolist() == [0.4, 0.6, 0.9]
    assert set(found["station"]) == {"A"}


def test_picks_on_both_records_together_are_those_of_a_user(example, pickers):
    picker, start = load_picker(), example[0].stats.starttime
    noisy = example.copy()
    for trace in noisy:
        trace.data += np.random.default_rng(0).normal(scale=200, size=len(trace))
        trace.stats.starttime += 0.1  # for S, the peak of the mean is between those of both
    found = networks.together(picker, noisy, example, start)
    theirs = pick_both(picker, noisy, example, {"P_threshold": 0.1, "S_threshold": 0.1})
    expected = [(x.phase, x.time - start, x.probability) for x in theirs.itertuples() if x.time > start + 1]
    rows = [(x.phase, x.time, x.probability) for x in found.sort_values("time").itertuples() if x.probability >= 0.1]
    assert len(rows) == 2 and rows == [(phase, *map(pytest.approx, x)) for phase, *x in expected]
    assert networks.together(picker, Stream(), Stream(), start).empty


def test_minutes_are_joined_at_constant_power():
    random = np.random.default_rng(0)
    minutes = random.normal(size=(7, 3, 6000)).astype(np.float32)
    noise = continuous.joined(minutes, 60_000, random)
    power = np.square(noise).reshape(3, -1, 200).mean((0, 2))
    assert noise.shape == (3, 60_000)
    assert np.allclose(power, 1, atol=0.35)  # at the joints, too


def test_noise_of_other_stations_has_the_snr():
    random = np.random.default_rng(0)
    records, places = random.normal(size=(2, 3, 18_000)).astype(np.float32), pd.DataFrame({"id": ["A", "B"]})
    network = continuous.Network("x", records, ["A", "B"], [0, 0], places)
    loud = np.array([1, 5, 30, 0.2])[:, None, None] * random.normal(size=(4, 3, 6000))
    minutes = {"N.A": np.zeros((1, 3, 6000)), "N.C": continuous._level(loud.astype(np.float32))}
    noise = continuous.with_noise(network, minutes, -10.0).records - records
    ratio = 10 * np.log10(continuous.power(records) / continuous.power(noise))
    assert ratio == pytest.approx([-10, -10], abs=0.5)


def test_known_earthquakes_are_told_from_false_ones():
    labels = picks([[10.0], [11.0], [12.0]]).assign(event=0)
    reference = pd.DataFrame({"idx": [0], "time": [9.0], "x": [0.0], "y": [0.0]}), labels.assign(event_idx=0)
    places = {"idx": [0, 1], "time": [9.0, 50.0], "x": [3.0, 0.0], "y": [4.0, 0.0]}
    used = pd.concat([picks([[10.1], [11.1], [12.1]]).assign(event_idx=0), picks([[51.0], [52.0]]).assign(event_idx=1)])
    expected = {"located": 1, "mislocated": 0, "false": 1, "earthquakes": 1}
    assert networks.outcome((pd.DataFrame(places), used), reference, labels) == expected
    places["x"][0] = 30.0
    expected |= {"located": 0, "mislocated": 1}
    assert networks.outcome((pd.DataFrame(places), used), reference, labels) == expected
