"""Overlapping windows of a record, and their estimates faded into one another again."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]


class Windows:
    """
    The windows of one record, and the record that their estimates make up.

    :param data: Samples, (component, samples); shorter ones than a window are repeated, there and back again
    :param window: Length of a window in samples
    :param overlap: Samples that neighbours share at least, less than `window`
    :param blinding: Samples at the left and right of a window that are left to its neighbour, their sum at most
        `overlap`; the ends of the record are always used
    :param stacking: "crossfade" fades neighbours into one another, "avg" averages them, "max" takes the sample with
        the largest absolute value
    :param origin: Number of the first sample of the record on an axis whose windows start at multiples of their
        distance: records that overlap share their windows, except the first and the last one
    """

    def __init__(
        self,
        data: Values,
        window: int,
        overlap: int = 0,
        blinding: tuple[int, int] = (0, 0),
        stacking: str = "crossfade",
        origin: int = 0,
    ) -> None:
        self.data, self.window, self.blinding, self.stacking = data, window, blinding, stacking
        self.ramp = overlap - sum(blinding) if stacking == "crossfade" else 0
        self.last = max(data.shape[-1] - window, 0)
        step = window - overlap
        #: First samples of the windows; the first window starts, and the last one ends, with the record.
        self.offsets = sorted({0, *range(-origin % step, self.last, step), self.last})
        self._left = len(self.offsets)
        self._sum = np.zeros((0, data.shape[-1]), dtype=np.float32)
        self._weight = np.zeros(data.shape[-1], dtype=np.float32)

    def cut(self, offset: int) -> Values:
        """The window that starts at `offset`, (component, window)."""
        values = self.data[:, offset : offset + self.window]
        missing = self.window - values.shape[-1]
        return np.pad(values, ((0, 0), (0, missing)), mode="symmetric") if missing else values

    def add(self, offset: int, estimate: Values) -> None:
        """Add the estimate, (row, window), of the window that starts at `offset`: components, or anything like them."""
        self._left -= 1
        if len(self._sum) == 0:
            self._sum = np.zeros((len(estimate), self.data.shape[-1]), dtype=np.float32)
        place = slice(offset, offset + self.window)
        total, weight = self._sum[:, place], self._weight[place]
        estimate = estimate[:, : total.shape[-1]]
        taper = _taper(self.window, self.ramp, self.blinding, offset == 0, offset == self.last)[: len(weight)]
        if self.stacking == "max":
            np.copyto(total, estimate, where=(np.abs(estimate) > np.abs(total)) & (taper > 0))
        else:
            total += taper * estimate
            weight += taper

    @property
    def complete(self) -> bool:
        """Whether the estimates of all windows are there."""
        return self._left == 0

    def stacked(self) -> Values:
        """The estimate of the record, (row, samples)."""
        return self._sum if self.stacking == "max" else np.divide(self._sum, self._weight, out=self._sum)


@lru_cache
def _taper(window: int, ramp: int, blinding: tuple[int, int], first: bool, last: bool) -> Values:
    """Weights of the samples of a window: one, with sine-squared ramps towards its neighbours; ramps add up to one."""
    ones = np.ones(window)
    rise = ones if first else _rise(window, ramp, blinding[0])
    fall = ones if last else _rise(window, ramp, blinding[1])[::-1]
    taper = np.minimum(rise, fall).astype(np.float32)
    taper.flags.writeable = False
    return taper


def _rise(window: int, ramp: int, blind: int) -> NDArray[np.float64]:
    inside = np.arange(window) + 0.5 - blind
    if ramp == 0:
        return (inside > 0).astype(np.float64)
    return np.sin(np.pi / 2 * np.clip(inside / ramp, 0, 1)) ** 2
