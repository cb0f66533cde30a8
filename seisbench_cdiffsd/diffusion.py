"""Cold diffusion: degrade, restore, and step back, for any callable ``denoise(x, level)``.

Shapes: records are (batch, component, samples), levels are (batch,).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

from seisbench_cdiffsd.schedule import Schedule, levels

#: Restores clean records (batch, component, samples) from records at the levels (batch,).
Restore = Callable[[Tensor, Tensor], Tensor]

#: Error of an estimate, ``error(clean, estimate, noise)``: one number for a batch of records.
Error = Callable[[Tensor, Tensor, Tensor], Tensor]


def mix(schedule: Schedule, clean: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
    """
    The degradation D(x, y, t): the record at some levels between a clean and a noisy one.

    :param schedule: Weights of the two
    :param clean: Clean records x
    :param noisy: Noisy records y = x + n
    :param level: Levels t, one a record
    """
    keep, add = _weights(schedule, level, clean)
    return keep * clean + add * noisy


def endpoint(schedule: Schedule, x: Tensor, clean: Tensor, level: Tensor) -> Tensor:
    """
    The noisy record that, mixed with `clean`, gives `x`: :py:func:`mix` solved for y.

    :param schedule: Weights of the two
    :param x: Records at some levels
    :param clean: Clean records, or estimates of them
    :param level: Levels t > 0 of `x`, one a record
    """
    keep, add = _weights(schedule, level, clean)
    return (x - keep * clean) / add


def sample(denoise: Restore, noisy: Tensor, schedule: Schedule, steps: int = 1) -> Tensor:
    """
    The improved sampler of cold diffusion (Bansal et al. 2022, Algorithm 2), from the observation to the clean record.

    Each step estimates the clean record and the noisy one that belongs to it, and moves from one level to the next:
    ``x_s = x_t - D(x, y, t) + D(x, y, s)``. One step is direct denoising.

    :param denoise: Restores a clean record from one at any level
    :param noisy: Observed records y
    :param schedule: Weights of the levels
    :param steps: Number of evaluations of `denoise`
    :return: Estimates of the clean records
    """
    x = noisy
    for level, lower in pairwise(noisy.new_full((len(noisy),), value) for value in levels(steps)):
        clean = denoise(x, level)
        end = endpoint(schedule, x, clean, level)
        x = x - mix(schedule, clean, end, level) + mix(schedule, clean, end, lower)
    return x


def training_loss(
    denoise: Restore,
    clean: Tensor,
    noisy: Tensor,
    level: Tensor,
    lower: Tensor,
    schedule: Schedule,
    error: Error,
    unfolded: float = 1.0,
) -> Tensor:
    """
    The two-term loss of cold diffusion: restore, step back as the sampler does, and restore again.

    The second, "unfolded" term (Yen et al. 2023; Trappolini et al. 2024, where its weight is 3) shows the network the
    records that it will meet while sampling, which contain its own errors.

    :param denoise: Restores a clean record from one at any level
    :param clean: Clean records x
    :param noisy: Noisy records y = x + n
    :param level: Levels t of the first term, in (0, 1]
    :param lower: Levels s < t of the second term, above 0; if there are fewer of them than records, the second term
        uses only that many records, the first ones
    :param schedule: Weights of the levels
    :param error: Error of an estimate, ``error(clean, estimate, noise)``
    :param unfolded: Weight of the second term; at 0 it is not computed
    :return: The loss, a scalar
    """
    noise = noisy - clean
    x = mix(schedule, clean, noisy, level)
    estimate = denoise(x, level)
    loss = error(clean, estimate, noise)
    if unfolded == 0 or len(lower) == 0:
        return loss
    x, estimate, clean, noise, level = (part[: len(lower)] for part in (x, estimate, clean, noise, level))
    end = endpoint(schedule, x, estimate, level)
    x = mix(schedule, estimate, end, lower)
    return loss + unfolded * error(clean, denoise(x, lower), noise)


def _weights(schedule: Schedule, level: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of the levels, shaped to multiply records of the shape of `like`."""
    keep, add = schedule.weights(level)
    shape = (-1,) + (1,) * (like.dim() - 1)
    return keep.view(shape), add.view(shape)
