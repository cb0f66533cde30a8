"""Windows without components or moments that would drown the rest: those are denoised apart."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

#: A component whose rms is this many times that of any other is broken, or the others are: no ground moves like that.
BROKEN_RATIO = 15.0
#: A moment whose rms is LOUD_RATIO times the median of its component would drown the rest of the window: a glitch, a
#: step, or an earthquake next to a far smaller one. It is reduced to LEFT_RATIO times the median, and with it all that
#: would not drown beside it.
LOUD_RATIO, LEFT_RATIO = 60.0, 10.0
#: So often, what is left is split again: beside a moment a million times louder, one 60 times louder drowns too.
PASSES = 3


def parted(batch: Tensor, second: int) -> tuple[Tensor, Tensor]:
    """
    Split windows of which a part would drown the rest in two: most of what is loud for a moment is denoised apart, and
    so is a component that is loud all the time.

    :param batch: Windows (batch, component, samples)
    :param second: Samples of a second
    :return: Windows, the additional ones last, and the indices of the windows that those were split from
    """
    rest, parts, origins = batch, [], [torch.arange(len(batch), device=batch.device)]
    for _ in range(PASSES):
        rest, alone, found = _split(rest, _loud_moments(_scaled(rest), second))
        if not len(found):
            break
        parts.append(alone)
        origins.append(found)
    # components last, so a spike does not part its component from the others
    rest, origin = torch.cat([rest, *parts]), torch.cat(origins)
    rest, alone, found = _split(rest, _loud_component(_scaled(rest)))
    return torch.cat([rest, alone]), torch.cat([origin[len(batch) :], origin[found]])


def _scaled(batch: Tensor) -> Tensor:
    """Windows divided by their peaks, so that no square leaves the range of single precision."""
    peak = batch.abs().amax(dim=(-2, -1), keepdim=True)
    return batch / torch.where(peak > 0, peak, 1)


def _split(batch: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Windows less a share of each sample, these shares where there are any, and the indices of their windows."""
    which = torch.nonzero(share.flatten(1).any(1))[:, 0]
    alone = share[which] * batch[which]
    return batch.index_add(0, which, -alone), alone, which


def _loud_moments(batch: Tensor, second: int) -> Tensor:
    """The share of each sample to denoise apart, (batch, component, samples); next to 1 in the loudest moments."""
    samples = batch.shape[-1]
    rms = F.adaptive_avg_pool1d(batch.square(), min(max(round(4 * samples / second), 1), samples)).sqrt()
    usual = torch.where(rms > 0, rms, torch.nan).nanmedian(-1, keepdim=True).values  # of what is not silent
    # the neighbours too, so the ramps between them lie beside a spike, not on it
    ratio = F.max_pool1d(torch.where(usual > 0, rms / usual, 0), 3, 1, 1)
    loudest = ratio.amax(-1, keepdim=True)
    loud = (loudest > LOUD_RATIO).any(1, keepdim=True)
    # from 0 for what would drown beside the loudest moment to 1 for what would not at all
    beside = ((ratio * LOUD_RATIO / loudest.clamp(min=LOUD_RATIO)).log() / math.log(LEFT_RATIO)).clamp(0, 1)
    reduction = F.interpolate(beside * (ratio / LEFT_RATIO).clamp(min=1).log(), samples, mode="linear")
    return loud * (1 - (-reduction).exp())


def _loud_component(batch: Tensor) -> Tensor:
    """1 for a component that would drown the others, (batch, component, 1)."""
    rms = batch.square().mean(dim=-1, keepdim=True).sqrt()
    loudest, others = rms.topk(2, dim=1).values.split(1, dim=1)
    return ((rms == loudest) & (others > 0) & (loudest > BROKEN_RATIO * others)).to(batch)


def rejoined(batch: Tensor, which: Tensor) -> Tensor:
    """Undo :py:func:`parted`: add the additional windows to those that they were split from."""
    count = len(batch) - len(which)
    return batch[:count].index_add(0, which, batch[count:])
