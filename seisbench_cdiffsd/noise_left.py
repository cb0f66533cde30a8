"""What is left of the noise: pickers see phases in silence, and miss weak ones that were taken for noise.

Noise is attenuated to `margin` decibels below the earthquake and not further; but never by more than the factor
`floor`, and never by less than the factor `ceiling`. What is taken for an earthquake in noise alone must not stand out
of it: the less probable an earthquake, the more an estimate is attenuated with the noise. A network that does not tell
how probable one is, is doubted where its estimates are far below the noise.

Both gains follow the powers of half a minute around each second, on a grid that starts in 1970: they do not depend on
how a record is cut into windows. The share of the noise changes over a further minute, too slowly for an amplitude
trigger (STA/LTA). In a record of half a minute or less, gains are constant.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from seisbench_cdiffsd.streams.amplitudes import BROKEN_RATIO
from seisbench_cdiffsd.streams.filtering import SAMPLING_RATE

#: What is left by default: smallest share, decibels, largest share; and the rms of an estimate, relative to that of the
#: noise, below which it is doubted.
NOISE_FLOOR, NOISE_MARGIN, NOISE_CEILING, DOUBT = 0.05, 14.0, 0.2, 0.25

#: Frames, of two seconds, one a second, over which powers are averaged.
AROUND = 31
#: The loudest of them do not count in the noise that estimates are compared with: a spike says nothing about the rest.
LOUDEST = 3
#: Frames over which the share of the noise changes.
SLOW = 61
#: An estimate is doubted only where it is weak among all frequencies, and among those from this one in Hz: noise from
#: the sea, far stronger at 1 or 2 Hz, says nothing about a local earthquake above it.
ABOVE = 4.0
#: Frames that are transformed at once.
CHUNK = 600
#: Powers, relative to the peak, that count as nothing in an estimate and in the noise: nothing is far below nothing.
NOTHING = 1e-36, 1e-30

#: How far gains depend on a record, in seconds: :py:func:`_around`, the largest around, and the mean around.
REACH = AROUND // 2 + 2 * (SLOW // 2) + 2


def leave_noise(
    noisy: Tensor,
    clean: Tensor,
    floor: float = NOISE_FLOOR,
    margin: float = NOISE_MARGIN,
    ceiling: float = NOISE_CEILING,
    doubt: float = DOUBT,
    rate: float = SAMPLING_RATE,
    origin: int = 0,
    trust: Tensor | None = None,
) -> Tensor:
    """
    Put back a share of what was removed.

    :param noisy: Noisy records (batch, component, samples)
    :param clean: Estimates of the clean records
    :param floor: Smallest share of the amplitude of the noise that stays
    :param margin: Decibels that the noise that stays lies below the earthquake; inf for no more than `floor`
    :param ceiling: Largest share of the amplitude of the noise that stays, unless `floor` is larger
    :param doubt: Ratio of the rms of earthquake and noise below which an estimate is attenuated, to `floor` at most;
        with a `floor` of 0 it is not
    :param rate: Sampling rate in Hz
    :param origin: Number of the first sample among all samples of this rate since 1970
    :param trust: Gains of the estimates, at each sample, (batch, samples), or (batch, 1), in place of those by `doubt`;
        the largest within a quarter of a minute counts, and `floor` at least
    :return: Estimates with the noise that stays
    """
    if floor == 0 and math.isinf(margin):
        return clean
    hop = max(round(rate), 1)
    lead = origin % hop
    estimate, noise = _powers(noisy, clean, hop, lead, round(ABOVE * 2))
    gain, share = _gains(estimate, noise, floor, margin, max(floor, ceiling), doubt)
    if trust is not None and floor:
        frames = (torch.arange(share.shape[-1], device=trust.device) * hop - lead).clamp(0, trust.shape[-1] - 1)
        gain = _largest(trust[:, frames].clamp(min=floor), AROUND)[:, None].expand_as(share)
    left = torch.empty_like(noisy)
    for row in range(noisy.shape[1]):  # one at a time: a day of them is long
        keep, add = (_at_samples(x[:, row], hop, lead, noisy.shape[-1]) for x in (gain, share))
        left[:, row] = torch.addcmul(keep * clean[:, row], add, noisy[:, row] - clean[:, row])
    return left


def _powers(noisy: Tensor, clean: Tensor, hop: int, lead: int, above: int) -> tuple[Tensor, Tensor]:
    """
    Powers of estimates and noise, each (batch, component, 2, frames): of all frequencies, and from `above` bins on.

    Frame i is centred `i * hop - lead` samples after the first one.
    """
    taper = torch.hann_window(2 * hop, dtype=noisy.dtype, device=noisy.device)
    peak = torch.linalg.vector_norm(noisy, math.inf, dim=(-2, -1), keepdim=True)
    scale = torch.where(peak > 0, peak, 1)
    count = -(-(noisy.shape[-1] + lead) // hop) + 1
    powers: tuple[list[Tensor], list[Tensor]] = [], []
    for first in range(0, count, CHUNK):
        frames = min(CHUNK, count - first)
        start, stop = (first - 1) * hop - lead, (first + frames) * hop - lead
        noisy_part, clean_part = (record[..., max(start, 0) : stop] / scale for record in (noisy, clean))
        before = max(-start, 0)
        missing = before, stop - start - before - noisy_part.shape[-1]
        for part, found in zip((clean_part, noisy_part - clean_part), powers, strict=True):
            spectrum = torch.fft.rfft(F.pad(part, missing).unfold(-1, 2 * hop, hop) * taper).abs().square()
            found.append(torch.stack([spectrum.sum(-1), spectrum[..., above:].sum(-1)], dim=2))
    return torch.cat(powers[0], dim=-1), torch.cat(powers[1], dim=-1)


def _gains(
    estimate: Tensor, noise: Tensor, floor: float, margin: float, ceiling: float, doubt: float
) -> tuple[Tensor, Tensor]:
    """Gains of estimates and of noise, each (batch, component, frames), from the powers of both."""
    estimate = _around(estimate, 0).clamp(min=NOTHING[0])
    steady, noise = (_around(noise, loudest).clamp(min=NOTHING[1]) for loudest in (LOUDEST, 0))
    # a broken component, far louder or quieter than another, has no say about it
    level = steady[:, :, 0]
    alike = level[:, :, None] < BROKEN_RATIO**2 * level[:, None]
    alike = (alike & alike.transpose(1, 2)).unsqueeze(3).to(noise.dtype)
    estimate, steady, noise = ((alike * x[:, None]).sum(2) for x in (estimate, steady, noise))
    share = (10 ** (-margin / 20) * (estimate / noise)[:, :, 0].sqrt()).clamp(floor, ceiling)
    share = _mean(_largest(share, SLOW).log(), SLOW).exp() if floor else _mean(_largest(share, SLOW), SLOW)
    trust = ((estimate / steady).amax(2).sqrt() / doubt).clamp(floor, 1) if floor else torch.ones_like(share)
    return _largest(trust, AROUND), share


def _around(powers: Tensor, loudest: int) -> Tensor:
    """Mean powers of the frames around each one, or of as many at the ends of a record, without the loudest."""
    count = powers.shape[-1]
    near = powers.unfold(-1, min(AROUND, count), 1)
    if loudest := loudest * near.shape[-1] // AROUND:
        near = near.sort(-1).values[..., :-loudest]
    means = near.mean(-1)
    first = torch.arange(count, device=powers.device) - min(AROUND, count) // 2
    return means[..., first.clamp(0, means.shape[-1] - 1)]


def _largest(gains: Tensor, frames: int) -> Tensor:
    return F.max_pool1d(gains, frames, stride=1, padding=frames // 2)


def _mean(gains: Tensor, frames: int) -> Tensor:
    return F.avg_pool1d(gains, frames, stride=1, padding=frames // 2, count_include_pad=False)


def _at_samples(gains: Tensor, hop: int, lead: int, samples: int) -> Tensor:
    """Gains (batch, frames) at each sample, by lines between frames."""
    way = torch.arange(hop, dtype=gains.dtype, device=gains.device) / hop
    lines = torch.addcmul(gains[:, :-1, None], (gains[:, 1:] - gains[:, :-1])[..., None], way)
    return lines.flatten(1)[:, lead : lead + samples]
