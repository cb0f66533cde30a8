"""What replaces missing samples: for the filter a smooth curve, for the network a mirror image.

A network that was trained on whole windows takes silence, in a gap or after a short record, for quiet ground, and what
comes next to it, noise or not, for an arrival. So it gets more of the same instead.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]
Mask = NDArray[np.bool_]


def runs(mask: Mask) -> list[tuple[int, int]]:
    """First and past-the-last index of every run of True."""
    return [(int(first), int(stop)) for first, stop in _edges(mask)]


def _edges(mask: Mask) -> NDArray[np.intp]:
    return np.flatnonzero(np.diff(mask, prepend=False, append=False)).reshape(-1, 2)


def constant(values: Samples, least: int) -> Mask:
    """Where at least this many samples in a row are the same: a dead channel, or a gap filled with zeros."""
    result = np.zeros(len(values), dtype=bool)
    same = _edges(np.diff(values) == 0)
    for first, stop in same[same[:, 1] - same[:, 0] + 1 >= least]:  # few, though small integers repeat often
        result[first : stop + 1] = True
    return result


def bridged(values: Samples) -> Samples:
    """
    Samples without their mean, and with smooth curves over the gaps, so a filter finds no step or kink to ring at.

    :param values: Samples, NaN in the gaps, but neither the first nor the last
    """
    missing = np.isnan(values)
    if missing.any():
        there = np.flatnonzero(~missing)
        values = values.copy()
        values[missing] = np.interp(np.flatnonzero(missing), there, values[there])
        for (left, first), (last, right) in pairwise(runs(~missing)):
            _bend(values, left, first, last, right)
    values = values - values[0]  # before the mean, so a constant becomes exactly zero
    values -= values.mean()
    return values


def _bend(values: Samples, left: int, first: int, last: int, right: int) -> None:
    """Make a cubic of the line over a gap from `first` to `last`, with the slopes of the samples beside it."""
    steps = last - first + 1
    count = steps // 4 + 8
    line = (values[last] - values[first - 1]) / steps
    before, after = (_slope(x, line) - line for x in (values[left:first][-count:], values[last:right][:count]))
    at = np.arange(1, steps) / steps
    values[first:last] += steps * at * (1 - at) * (before * (1 - at) - after * at)


def _slope(values: Samples, otherwise: float) -> float:
    """Slope of the straight line that fits samples best; of a single one, that which is given."""
    at = np.arange(len(values)) - (len(values) - 1) / 2
    return float(at @ values / (at @ at)) if len(values) > 1 else otherwise


def fill(data: NDArray[np.float32], alive: Mask, reach: int) -> None:
    """
    Fill gaps, in place, with the samples on both sides of them, mirrored and faded into one another.

    The louder side fades out within a tenth of the reach: the network would take an earthquake that fills a long gap
    for steady noise, and the earthquake itself with it.

    :param data: Samples (component, samples)
    :param alive: Which of them to keep; the others are gaps
    :param reach: A gap is filled up to this many samples from both ends; in between are zeros
    """
    for row, there in zip(data, alive, strict=True):
        found = runs(there)
        ends = [(0, 0), *found, (len(row), len(row))]
        # samples from left to first, a gap from first to last, samples from last to right
        for (left, first), (last, right) in pairwise(ends) if found else []:
            count = min(last - first, reach)
            short = min(-(-reach // 10), count)
            before, after = row[left:first][::-1][:count], row[last:right][:count]
            # where the sides meet, one fades into the other without loss of power; else into silence
            tail = max(2 * count - (last - first), short)
            full = 2 * [count - tail]
            if tail == count and len(before) and len(after):
                tail, louder = short, int(_power(after[:short]) > _power(before[:short]))
                full[louder], full[1 - louder] = 0, count - short
            row[first:last] = 0
            row[first : first + count] += _faded(before, count, full[0], tail)
            row[last - count : last] += _faded(after, count, full[1], tail)[::-1]


def _power(values: NDArray[np.float32]) -> float:
    return float(np.mean(np.square(values, dtype=np.float64)))


def _faded(values: NDArray[np.float32], count: int, full: int, tail: int) -> NDArray[np.float32]:
    """
    So many samples, there and back again, faded: in full, then by a quarter of a cosine, then silent. With the tail of
    another side reversed, the squares of the weights add up to one.
    """
    fade = np.zeros(count, dtype=np.float32)
    if len(values):
        fade[:full] = 1
        fade[full : full + tail] = np.cos(np.pi / 2 * (np.arange(tail) + 0.5) / tail)
        fade *= np.pad(values, (0, count - len(values)), mode="symmetric")
    return fade
