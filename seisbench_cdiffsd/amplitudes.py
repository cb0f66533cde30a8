"""The amplitudes of windows: brought to a common one for the network, and components that do not belong together."""

from __future__ import annotations

import torch
from torch import Tensor

#: Measures of the amplitude of a window, by the name under which a model stores them.
NORMS = ("std", "peak")
#: A component whose rms is so many times that of any other is broken, or the others are: no ground moves like that.
APART = 15.0


def normalize(batch: Tensor, norm: str = "std") -> tuple[Tensor, Tensor]:
    """
    Bring windows to a common amplitude, with one factor for all components: ``batch = normalised * factor``.

    A window scaled by a power of two gives the very same normalised window; silent windows have the factor 1.

    :param batch: Windows (..., component, samples)
    :param norm: "std", the joint standard deviation (about zero), or "peak", the joint absolute maximum
    :return: Normalised windows, and factors (..., 1, 1)
    :raises ValueError: If there is no such norm
    """
    if norm not in NORMS:
        raise ValueError(f"Unknown norm {norm!r}. Available: {', '.join(NORMS)}.")
    peak = batch.abs().amax(dim=(-2, -1), keepdim=True)
    factor = torch.where(peak > 0, peak, 1)
    batch = batch / factor  # first, so that no square leaves the range of single precision
    if norm == "peak":
        return batch, factor
    rms = batch.square().mean(dim=(-2, -1), keepdim=True).sqrt()
    rms = torch.where(peak > 0, rms, 1)
    return batch / rms, factor * rms


def parted(batch: Tensor) -> tuple[Tensor, Tensor]:
    """
    Windows whose loudest component would drown the others, as two windows: without it, and with nothing else.

    :param batch: Windows (batch, component, samples)
    :return: Windows, of which the additional ones come last, and the numbers of the windows that those belong to: the
        sum of the parts is what was parted
    """
    rms = normalize(batch)[0].square().mean(dim=-1).sqrt()
    loudest, others = rms.topk(2, dim=1).values.T
    parted = torch.nonzero((others > 0) & (loudest > APART * others))[:, 0]
    if not len(parted):
        return batch, parted
    alone = (rms == loudest[:, None])[parted, :, None] * batch[parted]
    rest = batch.clone()
    rest[parted] -= alone
    return torch.cat([rest, alone]), parted
