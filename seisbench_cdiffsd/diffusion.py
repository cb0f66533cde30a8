"""Cold diffusion: degrade, restore, and step back, for any callable ``denoise(x, level)``.

Shapes: records are (batch, component, samples), levels are (batch,).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

from seisbench_cdiffsd.schedule import Schedule, levels

#: Restores clean records (batch, component, samples) from records at the levels (batch,).
Restore = Callable[[Tensor, Tensor], Tensor]

#: Error of an estimate, ``error(clean, estimate, noise)``: one number for a batch of records.
Error = Callable[[Tensor, Tensor, Tensor], Tensor]

#: Defaults of :py:func:`leave_noise`: smallest share of the noise to leave, decibels, largest share; and the rms of an
#: estimate, relative to that of the noise, below which it is doubted.
NOISE_FLOOR, NOISE_MARGIN, NOISE_CEILING, DOUBT = 0.1, 10.0, 0.4, 0.2
#: The rms of the noise is that of the quietest of so many parts of a record.
QUIET, PARTS = 27, 30


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


def leave_noise(
    noisy: Tensor,
    clean: Tensor,
    floor: float = NOISE_FLOOR,
    margin: float = NOISE_MARGIN,
    ceiling: float = NOISE_CEILING,
    doubt: float = DOUBT,
) -> Tensor:
    """
    Put back a share of what was removed: pickers see phases in silence, and miss weak ones that were taken for noise.

    Noise is attenuated to `margin` below the earthquake, in rms over the components of a record, and not further; but
    never by more than the factor `floor`, and never by less than the factor `ceiling`. An estimate far below the noise
    is more often a burst of noise than an earthquake: the further below `doubt`, the more it is attenuated with the
    noise, so what little is taken for an earthquake in mere noise does not stand out.

    :param noisy: Noisy records
    :param clean: Estimates of the clean records
    :param floor: Smallest share of the amplitude of the noise that stays
    :param margin: Decibels from the earthquake down to the noise that stays; inf for no more than `floor`
    :param ceiling: Largest share of the amplitude of the noise that stays, unless `floor` is larger
    :param doubt: Ratio of the rms of earthquake and noise below which an estimate is attenuated, by the factor `floor`
        at most; not if `floor` is 0. The loudest tenth of the noise does not count here: a spike says nothing about
        the rest of the record
    :return: Estimates with the noise that stays
    """
    noise = noisy - clean
    # 1e-24, since the square root has no gradient at zero
    earthquake, rest = ((x.square().mean((-2, -1), keepdim=True) + 1e-24).sqrt() for x in (clean, noise))
    ratio = earthquake / rest
    share = (10 ** (-margin / 20) * ratio).clamp(floor, max(floor, ceiling))
    trust = (earthquake / _steady_rms(noise) / doubt).clamp(floor, 1) if floor else 1
    return trust * clean + share * noise


def _steady_rms(noise: Tensor) -> Tensor:
    """Rms over components and samples, (batch, 1, 1), of the QUIET quietest of PARTS parts of records."""
    parts = F.adaptive_avg_pool1d(noise.square().mean(-2), PARTS).sort(-1).values[..., :QUIET]
    return (parts.mean(-1) + 1e-24).sqrt()[..., None, None]


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
