"""Simulated earthquakes: how magnitude, distance, depth, kind and site show in a record."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seisbench_cdiffsd.data.simulation import BLAST, Event, distance_of, icequakes, simulate, times


def records(event, rate=100, count=24):
    return [simulate(np.random.default_rng((7, k)), event, rate, 0, 50)[0] for k in range(count)]


def peak(event, rate=100):
    """Typical largest horizontal velocity in m/s."""
    return np.median([np.abs(motion[1:]).max() for motion in records(event, rate)])


@pytest.mark.parametrize(
    ("magnitude", "distance", "known"),
    [(3, 20, 1.8e-4), (4, 50, 4e-4), (5, 30, 1.1e-2), (6, 40, 3.5e-2)],
)
def test_amplitudes_are_those_of_ground_motion_models(magnitude, distance, known):
    # on rock, as Boore, Stewart, Seyhan & Atkinson (2014, Earthquake Spectra 30, 1057) have it, within their spread
    assert peak(Event(magnitude, distance, 8)) == pytest.approx(known, rel=1.2)


def test_larger_is_longer_and_lower_in_frequency():
    def centroid(motion):
        power = np.abs(np.fft.rfft(motion)) ** 2
        return np.average(np.fft.rfftfreq(motion.shape[-1], 0.01), weights=power.sum(0))

    def duration(motion):
        energy = np.cumsum(np.square(motion).sum(0))
        return np.diff(np.searchsorted(energy / energy[-1], [0.05, 0.75]))[0] / 100

    small, large = records(Event(1.5, 20, 8)), records(Event(6, 20, 8))
    assert np.median(list(map(centroid, small))) > 1.5 * np.median(list(map(centroid, large)))
    assert np.median(list(map(duration, large))) > np.median(list(map(duration, small)))


def test_soft_soil_is_louder_than_rock_at_any_rate():
    for rate in (20, 100, 250):
        assert peak(Event(3, 30, 8, site="soft soil"), rate) > 1.3 * peak(Event(3, 30, 8), rate)


def test_blasts_have_less_s_and_a_compressional_p():
    def ratio(motion, s_minus_p):
        # differences leave out surface waves, which have low frequencies
        power, s = np.square(np.diff(motion, 2)).sum(0), round(100 * s_minus_p)
        return np.sqrt(power[s : s + 300].mean() / power[:s].mean())

    event = Event(2, 30, 0)
    of_quakes, of_blasts = [], []
    for k in range(24):
        for kind, ratios in (("earthquake", of_quakes), (BLAST, of_blasts)):
            motion, s_minus_p = simulate(np.random.default_rng((3, k)), event._replace(kind=kind), 100, 0, 50)
            ratios.append(ratio(motion, s_minus_p))
            first = motion[0, np.argmax(np.abs(motion[0]) > 0)]
            assert kind != BLAST or first > 0
    assert np.median(of_blasts) < 0.6 * np.median(of_quakes)


@given(st.floats(0.3, 50), st.floats(0, 40))
def test_distances_and_times_agree(s_minus_p, depth):
    distance = distance_of(s_minus_p, depth)
    first, direct = times(distance, depth)
    assert first <= direct
    assert distance == 0 or 0.74 * first == pytest.approx(s_minus_p, rel=1e-6)


def test_s_comes_when_it_is_asked_for_and_nothing_before_p():
    for k in range(10):
        event = Event(k / 2, 10 * k, 8)
        motion, s_minus_p = simulate(np.random.default_rng(k), event, 100, 2, 30, s_minus_p=3.14)
        assert s_minus_p == 3.14 and motion.shape == (3, 3200) and np.isfinite(motion).all()
        # what the filters let through before P is far below it
        assert np.abs(motion[:, :200]).max() == 0 and np.abs(motion[:, 200:230]).max() > 1e-3 * np.abs(motion).max()


def test_icequakes_are_pulses_of_p_on_z_and_of_s_on_the_horizontals():
    shares, lasting = [], []
    for k in range(40):
        motion, s_minus_p = icequakes(np.random.default_rng((5, k)), 100, 2, 50)
        power, p, s = np.square(motion), 200, 200 + round(100 * s_minus_p)
        assert power[:, : p - 20].max() < 1e-4 * power.max() and 0.3 <= s_minus_p <= 12
        for first, length in ((p - 5, min(100, s - p)), (s - 5, 100)):
            near = power[:, first : first + length].sum(-1)
            shares.append(near[0] / near.sum())
        lasting.append(power[:, p + 15 : max(s - 5, p + 16)].sum(0).max() / power[:, p - 5 : p + 15].sum(0).max())
    assert np.median(shares[::2]) > 0.6 > 0.4 > np.median(shares[1::2])
    assert np.median(lasting) < 0.1
