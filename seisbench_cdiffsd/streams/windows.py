"""Overlapping windows of a record, and their estimates faded into one another again."""

from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

Values = NDArray[np.float32]
#: Probabilities beyond which log odds do not grow: those of single precision end there.
CERTAIN = (1e-7, 1 - 1e-7)


class Windows:
    """
    The windows of one record, and the record that their estimates make up.

    :param data: Samples (component, samples); shorter ones than a window are repeated, there and back again
    :param window: Length of a window in samples
    :param overlap: Samples that neighbours share at least, less than `window`
    :param origin: Number of the first sample of the record on an axis whose windows start at multiples of their
        distance: records that overlap share their windows, except the first and the last one
    """

    def __init__(self, data: Values, window: int, overlap: int = 0, origin: int = 0) -> None:
        self.data, self.window, self.overlap = data, window, overlap
        self.last = max(data.shape[-1] - window, 0)
        step = window - overlap
        #: First samples of the windows; the first window starts, and the last one ends, with the record.
        self.offsets = sorted({0, *range(-origin % step, self.last, step), self.last})
        #: How many windows still lack their estimate.
        self.left = len(self.offsets)
        #: Where a window that may hold an earthquake has been added, (samples,), and log odds of windows, by offset.
        self.found, self._log_odds = np.zeros(data.shape[-1], dtype=bool), dict[int, float]()
        self._sum = np.zeros_like(data)
        self._weight = np.zeros(data.shape[-1], dtype=np.float32)

    def cut(self, offset: int) -> Values:
        """The window that starts at `offset`, (component, window)."""
        values = self.data[:, offset : offset + self.window]
        missing = self.window - values.shape[-1]
        return np.pad(values, ((0, 0), (0, missing)), mode="symmetric") if missing else values

    def add(self, offset: int, estimate: Values, probability: float = 1.0, least: float = 0.0) -> None:
        """
        Add the estimate, (component, window), of the window that starts at `offset`.

        :param probability: That of an earthquake in the window
        :param least: The probability from which on there may be one
        """
        place = slice(offset, offset + self.window)
        weight = self._weight[place]
        taper = _taper(self.window, self.overlap, offset == 0, offset == self.last)[: len(weight)]
        self._sum[:, place] += taper * estimate[:, : len(weight)]
        weight += taper
        self.found[place] |= bool(probability >= least)
        self._log_odds[offset] = float(logit(np.clip(np.float64(probability), *CERTAIN)))
        self.left -= 1

    def stretches(self) -> Iterator[tuple[int, int, float]]:
        """First samples, and those after the last, of stretches of the same windows, and the mean of their log odds."""
        length = self.data.shape[-1]
        ends = sorted({min(offset + x, length) for offset in self.offsets for x in (0, self.window)})
        for first, stop in pairwise(ends):
            last, begun = bisect_right(self.offsets, first), bisect_right(self.offsets, first - self.window)
            covering = [self._log_odds[x] for x in self.offsets[begun:last]]
            yield first, stop, float(np.mean(covering))

    def stacked(self) -> Values:
        """The estimate of the record, (component, samples)."""
        return np.divide(self._sum, self._weight, out=self._sum)


@lru_cache
def _taper(window: int, ramp: int, first: bool, last: bool) -> Values:
    """Weights of the samples of a window: one, with sine-squared ramps towards its neighbours; ramps add up to one."""
    rise = np.sin(np.pi / 2 * np.clip((np.arange(window) + 0.5) / max(ramp, 1e-9), 0, 1)) ** 2
    ones = np.ones(window)
    taper = np.minimum(ones if first else rise, ones if last else rise[::-1]).astype(np.float32)
    taper.flags.writeable = False
    return taper
