"""The amplitudes of windows: a common one for the network, without components that would drown the others."""

from __future__ import annotations

import torch
from torch import Tensor

#: Measures of the amplitude of a window, by the name under which a model stores them.
NORMS = ("std", "peak")
#: A component whose rms is this many times that of any other is broken, or the others are: no ground moves like that.
BROKEN_RATIO = 15.0


def check_norm(name: str) -> None:
    """
    :param name: Name of a norm
    :raises ValueError: If there is no such norm
    """
    if name not in NORMS:
        raise ValueError(f"Unknown norm {name!r}. Available: {', '.join(NORMS)}.")


def normalize(batch: Tensor, norm: str = "std") -> tuple[Tensor, Tensor]:
    """
    Bring windows to a common amplitude, with one factor for all components: ``batch = normalised * factor``.

    A window scaled by a power of two gives the very same normalised window; silent windows have the factor 1.

    :param batch: Windows (..., component, samples)
    :param norm: "std", the joint standard deviation (about zero), or "peak", the joint absolute maximum
    :return: Normalised windows, and factors (..., 1, 1)
    :raises ValueError: If there is no such norm
    """
    check_norm(norm)
    peak = batch.abs().amax(dim=(-2, -1), keepdim=True)
    factor = torch.where(peak > 0, peak, 1)
    batch = batch / factor  # first, so no square leaves the range of single precision
    if norm == "peak":
        return batch, factor
    rms = batch.square().mean(dim=(-2, -1), keepdim=True).sqrt()
    rms = torch.where(peak > 0, rms, 1)
    return batch / rms, factor * rms


def parted(batch: Tensor) -> tuple[Tensor, Tensor]:
    """
    Split windows whose loudest component would drown the others in two: one without it, one with nothing else.

    :param batch: Windows (batch, component, samples)
    :return: Windows, the additional ones last, and the indices of the windows that those were split from
    """
    rms = normalize(batch)[0].square().mean(dim=-1).sqrt()
    loudest, others = rms.topk(2, dim=1).values.T
    which = torch.nonzero((others > 0) & (loudest > BROKEN_RATIO * others))[:, 0]
    if not len(which):
        return batch, which
    alone = (rms == loudest[:, None])[which, :, None] * batch[which]
    rest = batch.clone()
    rest[which] -= alone
    return torch.cat([rest, alone]), which


def rejoined(batch: Tensor, which: Tensor) -> Tensor:
    """Undo :py:func:`parted`: add the additional windows to those that they were split from."""
    count = len(batch) - len(which)
    return batch[:count].index_add(0, which, batch[count:])
