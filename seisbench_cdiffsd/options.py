"""The run-time arguments of the model: what they mean, their defaults, and what they may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from seisbench_cdiffsd.noise_left import NOISE_FLOOR, NOISE_MARGIN

#: How the estimates of overlapping windows are combined.
STACKING = ("crossfade", "avg", "max")

#: Arguments of :py:meth:`CDiffSD.annotate`, as SeisBench documents them: name -> (meaning, default).
ARGUMENTS: dict[str, tuple[str, Any]] = {
    "steps": ("Number of steps from the noisy to the clean record; 1 is direct denoising", 2),
    "leave_noise": (
        "Leave some noise in, as pickers need it, and attenuate estimates with it where an earthquake is improbable; "
        "False for waveforms and amplitudes",
        True,
    ),
    "noise_floor": ("If noise is left: smallest share of its amplitude to leave in", NOISE_FLOOR),
    "noise_margin": ("If noise is left: decibels below the earthquake to reduce it to; inf for no limit", NOISE_MARGIN),
    "batch_size": ("Batch size for the model", 32),
    "overlap": ("Overlap between windows: a fraction of their length below 1, or a number of samples", 0.3),
    "blinding": (
        "Number of samples to discard on each side of a window where a neighbour covers them, or a tuple for left "
        "and right; their sum is at most the overlap",
        (0, 0),
    ),
    "stacking": ("Stacking of windows: 'crossfade', 'avg' or 'max' (the largest absolute value)", "crossfade"),
    "strict": (
        "Only return samples that all components have; otherwise missing components are zeros, never returned",
        False,
    ),
    "flexible_horizontal_components": ("If true, accepts traces with Z12 components as ZNE and vice versa.", True),
}


@dataclass(frozen=True)
class Options:
    """The run-time arguments: those of ``ARGUMENTS``."""

    steps: int
    leave_noise: bool
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
