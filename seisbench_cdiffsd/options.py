"""The run-time arguments of ``annotate`` and ``denoise``, checked before any work is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from seisbench_cdiffsd.windows import STACKING


@dataclass(frozen=True)
class Options:
    """The run-time arguments, documented in ``CDiffSD._annotate_args``."""

    steps: int
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
        if not is_whole(self.batch_size) or self.batch_size < 1:
            raise ValueError(f"batch_size must be a positive integer, not {self.batch_size!r}.")
        if not isinstance(self.overlap, (int, float)) or not (
            0 <= self.overlap < 1 or (is_whole(self.overlap) and self.overlap < window)
        ):
            raise ValueError(
                f"overlap must be a fraction of a window, or less than its {window} samples, not {self.overlap!r}."
            )
        if self.stacking not in STACKING:
            raise ValueError(f"Unknown stacking {self.stacking!r}. Available: {', '.join(STACKING)}.")
        blind = self.blinding if isinstance(self.blinding, (tuple, list)) else (self.blinding, self.blinding)
        if len(blind) != 2 or not all(is_whole(b) and b >= 0 for b in blind) or sum(blind) > self.samples(window):
            raise ValueError(
                f"blinding must be one or two numbers of samples, together at most the overlap of "
                f"{self.samples(window)} samples, not {self.blinding!r}."
            )

    def samples(self, window: int) -> int:
        """Overlap in samples."""
        return int(self.overlap * window if self.overlap < 1 else self.overlap)

    @property
    def sides(self) -> tuple[int, int]:
        """Blinding on the left and on the right."""
        left, right = self.blinding if isinstance(self.blinding, (tuple, list)) else (self.blinding, self.blinding)
        return int(left), int(right)


def is_whole(number: Any) -> bool:
    """Whether something is a whole number, of any type of number."""
    return isinstance(number, (int, float, np.integer, np.floating)) and float(number).is_integer()
