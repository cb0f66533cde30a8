"""Overlapping windows of a record, their estimates faded into one another again, and the run-time options."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]

#: How the estimates of overlapping windows are combined.
STACKING = ("crossfade", "avg", "max")


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
        self._sum = np.zeros(data.shape, dtype=np.float32)
        self._weight = np.zeros(data.shape[-1], dtype=np.float32)

    def cut(self, offset: int) -> Values:
        """The window that starts at `offset`, (component, window)."""
        values = self.data[:, offset : offset + self.window]
        missing = self.window - values.shape[-1]
        return np.pad(values, ((0, 0), (0, missing)), mode="symmetric") if missing else values

    def add(self, offset: int, estimate: Values) -> None:
        """Add the estimate, (component, window), of the window that starts at `offset`."""
        self._left -= 1
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
        """The estimate of the record, (component, samples)."""
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


@dataclass(frozen=True)
class Options:
    """The run-time arguments, documented in ``CDiffSD._annotate_args``."""

    steps: int
    noise_floor: float
    noise_margin: float
    batch_size: int
    overlap: float
    blinding: int | tuple[int, int]
    stacking: str
    strict: bool
    flexible_horizontal_components: bool

    def check(self, window: int) -> None:
        """
        :param window: Length of a window in samples
        :raises ValueError: If an argument is out of its range
        """
        if not is_whole(self.steps) or self.steps < 1:
            raise ValueError(f"steps must be a positive integer, not {self.steps!r}.")
        if not is_number(self.noise_floor) or not 0 <= self.noise_floor < 1:
            raise ValueError(f"noise_floor must be at least 0 and below 1, not {self.noise_floor!r}.")
        if not is_number(self.noise_margin) or not self.noise_margin >= 0:
            raise ValueError(f"noise_margin must be a number of decibels, at least 0, not {self.noise_margin!r}.")
        if not is_whole(self.batch_size) or self.batch_size < 1:
            raise ValueError(f"batch_size must be a positive integer, not {self.batch_size!r}.")
        if not is_number(self.overlap) or not (
            0 <= self.overlap < 1 or (is_whole(self.overlap) and 0 <= self.overlap < window)
        ):
            raise ValueError(
                f"overlap must be a fraction of a window, or less than its {window} samples, not {self.overlap!r}."
            )
        if self.stacking not in STACKING:
            raise ValueError(f"Unknown stacking {self.stacking!r}. Available: {', '.join(STACKING)}.")
        blind = self._blind
        if len(blind) != 2 or not all(is_whole(b) and b >= 0 for b in blind) or sum(blind) > self.samples(window):
            raise ValueError(
                f"blinding must be one or two numbers of samples, together at most the overlap of "
                f"{self.samples(window)} samples, not {self.blinding!r}."
            )

    def samples(self, window: int) -> int:
        """Overlap in samples."""
        return int(self.overlap * window if self.overlap < 1 else self.overlap)

    @property
    def rule(self) -> tuple[float, float]:
        """What noise to leave in: floor and margin."""
        return self.noise_floor, self.noise_margin

    @property
    def sides(self) -> tuple[int, int]:
        """Blinding on the left and on the right."""
        left, right = self._blind
        return int(left), int(right)

    @property
    def _blind(self) -> list[Any]:
        sides = np.asarray(self.blinding, dtype=object)  # takes nested tuples of any lengths, which check refuses
        return 2 * [sides.item()] if sides.ndim == 0 else sides.ravel().tolist()


def is_number(value: Any) -> TypeGuard[float]:
    """Whether something is a real number, of any type of number."""
    return isinstance(value, (int, float, np.integer, np.floating))


def is_whole(number: Any) -> bool:
    """Whether something is a whole number, of any type of number."""
    return is_number(number) and float(number).is_integer()
