"""The configuration of the paper (Trappolini et al., 2024): its degradations, and one U-Net for each component.

It serves to train and compare what was published: ``CDiffSD(network="published", schedule="published-linear",
norm="peak")``. Where the research code of the paper is at fault, this is what the paper says: one schedule for training
and sampling, the observation as the end point, and a sampler that subtracts the estimate once.
"""

import math
from functools import cache, partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seisbench_cdiffsd.cdiffsd import NETWORKS, SCHEDULES

#: Number of levels T, the largest of those in the paper. Level t of 0 ... T - 1 is (t + 1) / T here, and 0 is the clean
#: record.
LEVELS = 300
WIDTHS = (8, 8, 16, 32, 64)
EMBEDDING = 32
HEADS, HEAD_WIDTH = 4, 32
GROUPS = 8
#: Each level but the deepest halves the number of samples.
MULTIPLE = 2 ** (len(WIDTHS) - 2)


def betas(kind: str) -> Tensor:
    """
    The noise schedule β of the paper, for t = 0 ... T - 1, in double precision.

    :param kind: "linear" from 1e-4 to 0.02, both scaled by 1000 / T, or "cosine", a squared cosine between the two
    """
    first, last = 1e-4, 0.02
    if kind == "linear":
        return torch.linspace(first, last, LEVELS, dtype=torch.float64) * 1000 / LEVELS
    time = torch.arange(LEVELS, dtype=torch.float64) / LEVELS
    return first + (last - first) * torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2


@cache
def alpha_bar(kind: str) -> Tensor:
    """The cumulative product of 1 - β, after a 1 for the clean record: (T + 1,)."""
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas(kind), dim=0)])


def index(level: Tensor) -> Tensor:
    """The nearest of the numbers 0 (clean) ... T of levels in [0, 1]; 0 stands for level 0 alone."""
    return (level * LEVELS).round().long().maximum((level > 0).long())


def degradation(kind: str, level: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of the clean and of the noisy record, ``x_t = sqrt(abar_t) x + sqrt(1 - abar_t) y``."""
    signal = alpha_bar(kind)[index(level).cpu()].to(level)
    return signal.sqrt(), (1 - signal).sqrt()


class PublishedUNet(nn.Module):
    """One published network for each component; the components do not see each other."""

    def __init__(self) -> None:
        super().__init__()
        self.components = nn.ModuleList(ComponentUNet() for _ in range(3))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """
        Estimate the clean record.

        :param x: Records, (batch, component, samples)
        :param level: Levels in [0, 1], (batch,)
        :return: Estimates in the shape of `x`
        """
        samples = x.shape[-1]
        x = F.pad(x, (0, -samples % MULTIPLE))
        estimates = [net(x[:, i : i + 1], level) for i, net in enumerate(self.components)]
        return torch.cat(estimates, dim=1)[..., :samples]


class ComponentUNet(nn.Module):
    """The published network for one component: (batch, 1, samples) in and out."""

    def __init__(self) -> None:
        super().__init__()
        width, deep = WIDTHS[0], WIDTHS[-1]
        self.stem = nn.Conv1d(1, width, 7, padding=3)
        self.embedding = nn.Sequential(nn.Linear(width, EMBEDDING), nn.GELU(), nn.Linear(EMBEDDING, EMBEDDING))
        self.down: Any = nn.ModuleList()
        self.up: Any = nn.ModuleList()
        for narrow, wide in pairwise(WIDTHS):
            halve = nn.Conv1d(narrow, wide, 3, 1, 1) if wide == deep else nn.Conv1d(narrow, wide, 4, 2, 1)
            self.down.append(Level(narrow, 0, halve))
        for wide, narrow in pairwise(reversed(WIDTHS)):
            conv: nn.Module = nn.Conv1d(wide, narrow, 3, padding=1)
            outermost = len(self.up) == len(WIDTHS) - 2
            self.up.append(Level(wide, narrow, conv if outermost else nn.Sequential(nn.Upsample(scale_factor=2), conv)))
        self.middle_first, self.middle_second = Residual(deep, deep), Residual(deep, deep)
        self.middle_attention = Attention(deep, linear=False)
        self.last = Residual(2 * width, width)
        self.head = nn.Conv1d(width, 1, 1)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        embedding = self.embedding(sinusoidal((index(level) - 1).clamp(min=0).to(level), WIDTHS[0]))
        stem = x = self.stem(x)
        skips: list[Tensor] = []
        for stage in self.down:
            skips.append(stage.first(x, embedding))
            skips.append(stage.attention(stage.second(skips[-1], embedding)))
            x = stage.resample(skips[-1])
        x = self.middle_attention(self.middle_first(x, embedding))
        x = self.middle_second(x, embedding)
        for stage in self.up:
            x = stage.first(torch.cat([x, skips.pop()], dim=1), embedding)
            x = stage.second(torch.cat([x, skips.pop()], dim=1), embedding)
            x = stage.resample(stage.attention(x))
        return self.head(self.last(torch.cat([x, stem], dim=1), embedding))


class Level(nn.Module):
    """
    One level of the U-Net: two residual blocks, linear attention, and a step to the next level.

    :param channels: Channels that the blocks return
    :param skipped: Channels that each block takes from the way down, in addition to its own
    :param resample: Step to the next level
    """

    def __init__(self, channels: int, skipped: int, resample: nn.Module) -> None:
        super().__init__()
        self.first, self.second = (Residual(channels + skipped, channels) for _ in range(2))
        self.attention, self.resample = Attention(channels, linear=True), resample


def sinusoidal(position: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding of numbers (batch,) as (batch, width), after Vaswani et al. (2017)."""
    half = width // 2
    rates = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half, device=position.device))
    phase = position[:, None] * rates.to(position.dtype)
    return torch.cat([phase.sin(), phase.cos()], dim=1)


class Residual(nn.Module):
    """Two convolutions with group norm; the level scales and shifts what passes between them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.level = nn.Linear(EMBEDDING, 2 * outputs)
        self.conv1, self.norm1 = nn.Conv1d(inputs, outputs, 3, padding=1), nn.GroupNorm(GROUPS, outputs)
        self.conv2, self.norm2 = nn.Conv1d(outputs, outputs, 3, padding=1), nn.GroupNorm(GROUPS, outputs)
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.level(F.silu(embedding))[:, :, None].chunk(2, dim=1)
        y = F.silu(self.norm1(self.conv1(x)) * (1 + scale) + shift)
        return F.silu(self.norm2(self.conv2(y))) + self.skip(x)


class ChannelNorm(nn.Module):
    """Divides each sample by the rms of its channels, with a learned gain; no mean is removed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * x.shape[1] ** 0.5 * self.gain[:, None]


class Attention(nn.Module):
    """
    Attention between all samples, plus its input.

    :param linear: Whether its cost is linear in the samples (Katharopoulos et al. 2020; Shen et al. 2021)
    """

    def __init__(self, channels: int, linear: bool) -> None:
        super().__init__()
        self.linear, self.norm = linear, ChannelNorm(channels)
        self.project = nn.Conv1d(channels, 3 * HEADS * HEAD_WIDTH, 1, bias=False)
        merge = nn.Conv1d(HEADS * HEAD_WIDTH, channels, 1)
        self.merge = nn.Sequential(merge, ChannelNorm(channels)) if linear else merge

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.project(self.norm(x)).unflatten(1, (3, HEADS, HEAD_WIDTH)).transpose(-1, -2).unbind(1)
        if self.linear:
            context = key.softmax(dim=-2).transpose(-1, -2) @ value
            attended = query.softmax(dim=-1) * HEAD_WIDTH**-0.5 @ context
        else:
            attended = F.scaled_dot_product_attention(query, key, value)
        return x + self.merge(attended.transpose(-1, -2).flatten(1, 2))


NETWORKS["published"] = PublishedUNet
SCHEDULES |= {f"published-{kind}": partial(degradation, kind) for kind in ("linear", "cosine")}
