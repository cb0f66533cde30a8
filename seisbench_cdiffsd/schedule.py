"""Levels of degradation and their weights.

A level is a number in [0, 1]: 0 is the clean earthquake, 1 is the recorded, noisy trace. A schedule defines how much
of each a level in between holds. Tables are computed in double precision and cast once, where they are used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

#: Number of levels T of the published degradation, the largest of those in the paper.
PUBLISHED_LEVELS = 300


class Schedule(Protocol):
    """How much of the clean and of the noisy record a level holds."""

    def weights(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """
        Weights of the clean and of the noisy record at some levels.

        :param level: Levels in [0, 1], any shape
        :return: Weights of the clean and of the noisy record, in the shape and dtype of `level`
        """
        ...


@dataclass(frozen=True)
class Straight:
    """
    The straight path from the clean to the noisy record: ``x_t = (1 - t) x + t y = x + t n``.

    The amplitude of the earthquake is the same at every level, level 1 is exactly the observation, and the step of the
    sampler is exact between any two levels.
    """

    def weights(self, level: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - level, level


@dataclass(frozen=True)
class Published:
    """
    The published degradation ``x_t = sqrt(abar_t) x + sqrt(1 - abar_t) y`` (Trappolini et al., 2024).

    It is defined at PUBLISHED_LEVELS discrete levels; a level in between is rounded to the nearest of them, but never
    to 0.

    :param beta: Noise schedule that abar is the cumulative product of: "linear" from 1e-4 to 0.02, both scaled by
        1000 / PUBLISHED_LEVELS (Ho et al., 2020), or "cosine" (Nichol and Dhariwal, 2021)
    """

    beta: str = "linear"

    def __post_init__(self) -> None:
        if self.beta not in ("linear", "cosine"):
            raise ValueError(f"Unknown noise schedule {self.beta!r}. Use 'linear' or 'cosine'.")

    def weights(self, level: Tensor) -> tuple[Tensor, Tensor]:
        index = (level * PUBLISHED_LEVELS).round().long()
        index = index.maximum((level > 0).long())  # else a small level would hold no noise
        signal = _alpha_bar(self.beta)[index.cpu()].to(level)
        return signal.sqrt(), (1 - signal).sqrt()


@lru_cache
def _alpha_bar(beta: str) -> Tensor:
    """abar at the levels 0 (clean), 1 / T, ..., 1: double precision, shape (T + 1,), with T = PUBLISHED_LEVELS."""
    if beta == "linear":
        scale = 1000 / PUBLISHED_LEVELS
        betas = torch.linspace(1e-4 * scale, 0.02 * scale, PUBLISHED_LEVELS, dtype=torch.float64)
    else:
        time = torch.linspace(0, 1, PUBLISHED_LEVELS + 1, dtype=torch.float64)
        curve = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas, dim=0)])


#: Degradations by the name under which a model stores them.
SCHEDULES: dict[str, Schedule] = {
    "straight": Straight(),
    "published-linear": Published("linear"),
    "published-cosine": Published("cosine"),
}


def get_schedule(name: str) -> Schedule:
    """
    A schedule by name.

    :param name: One of "straight", "published-linear", "published-cosine"
    :raises ValueError: If there is no such schedule
    """
    if name not in SCHEDULES:
        raise ValueError(f"Unknown degradation {name!r}. Available: {', '.join(SCHEDULES)}.")
    return SCHEDULES[name]


def levels(steps: int) -> list[float]:
    """
    The levels that a sampler visits, evenly spaced from 1 (the observation) down to 0 (the clean record).

    :param steps: Number of steps, at least 1
    :return: `steps` + 1 levels
    :raises ValueError: If `steps` is not a positive integer
    """
    if int(steps) != steps or steps < 1:
        raise ValueError(f"steps must be a positive integer, not {steps!r}.")
    return [1 - step / int(steps) for step in range(int(steps) + 1)]
