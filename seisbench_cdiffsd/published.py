"""The published one-component U-Net (Trappolini et al., 2024): 347,937 parameters for one component.

Base width 8, multipliers 1, 2, 4 and 8, two residual blocks a level, linear attention at every level, full attention in
the middle, a sinusoidal level embedding and group norm. It is here so that the paper's configuration can be trained and
compared; the default network is in :py:mod:`seisbench_cdiffsd.network`.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (8, 8, 16, 32, 64)
EMBEDDING = 32
HEADS, HEAD_WIDTH = 4, 32
#: The paper counts levels 0 ... T; the embedding sees the largest of its T.
LEVEL_SCALE = 300


class PublishedUNet(nn.Module):
    """
    One published network for each component; the components do not see each other.

    :param components: Number of components
    """

    def __init__(self, components: int = 3) -> None:
        super().__init__()
        self.components = nn.ModuleList(ComponentUNet() for _ in range(components))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """
        Estimate the clean record.

        :param x: Records, (batch, component, samples), samples a multiple of 8
        :param level: Levels in [0, 1], (batch,)
        :return: Estimates in the shape of `x`
        """
        return torch.cat([net(x[:, i : i + 1], level) for i, net in enumerate(self.components)], dim=1)


class ComponentUNet(nn.Module):
    """The published network for one component: (batch, 1, samples) in and out."""

    def __init__(self) -> None:
        super().__init__()
        width = WIDTHS[0]
        self.stem = nn.Conv1d(1, width, 7, padding=3)
        self.embedding = nn.Sequential(nn.Linear(width, EMBEDDING), nn.GELU(), nn.Linear(EMBEDDING, EMBEDDING))
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for narrow, wide in pairwise(WIDTHS):
            deepest = wide == WIDTHS[-1]
            resample = nn.Conv1d(narrow, wide, 3, padding=1) if deepest else nn.Conv1d(narrow, wide, 4, 2, padding=1)
            self.down.append(
                nn.ModuleList([Residual(narrow, narrow), Residual(narrow, narrow), LinearAttention(narrow), resample])
            )
        for wide, narrow in pairwise(reversed(WIDTHS)):
            outermost = len(self.up) == len(WIDTHS) - 2
            conv = nn.Conv1d(wide, narrow, 3, padding=1)
            resample_up = conv if outermost else nn.Sequential(nn.Upsample(scale_factor=2), conv)
            self.up.append(
                nn.ModuleList(
                    [Residual(wide + narrow, wide), Residual(wide + narrow, wide), LinearAttention(wide), resample_up]
                )
            )
        deep = WIDTHS[-1]
        self.middle = nn.ModuleList([Residual(deep, deep), Attention(deep), Residual(deep, deep)])
        self.last = Residual(2 * width, width)
        self.head = nn.Conv1d(width, 1, 1)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        embedding = self.embedding(sinusoidal(level * LEVEL_SCALE, WIDTHS[0]))
        x = self.stem(x)
        stem, skips = x, []
        for first, second, attention, resample in self.down:
            x = first(x, embedding)
            skips.append(x)
            x = attention(second(x, embedding))
            skips.append(x)
            x = resample(x)
        first, attention, second = self.middle
        x = second(attention(first(x, embedding)), embedding)
        for first, second, attention, resample in self.up:
            x = first(torch.cat([x, skips.pop()], dim=1), embedding)
            x = attention(second(torch.cat([x, skips.pop()], dim=1), embedding))
            x = resample(x)
        return self.head(self.last(torch.cat([x, stem], dim=1), embedding))


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
        self.conv1, self.norm1 = nn.Conv1d(inputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs)
        self.conv2, self.norm2 = nn.Conv1d(outputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs)
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.level(F.silu(embedding))[:, :, None].chunk(2, dim=1)
        y = F.silu(self.norm1(self.conv1(x)) * (1 + scale) + shift)
        return F.silu(self.norm2(self.conv2(y))) + self.skip(x)


class ChannelNorm(nn.Module):
    """Normalises each sample over its channels, with a learned gain."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.transpose(1, 2), x.shape[1:2], self.gain).transpose(1, 2)


class LinearAttention(nn.Module):
    """Attention whose cost is linear in the samples (Katharopoulos et al. 2020; Shen et al. 2021), plus its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.project = nn.Conv1d(channels, 3 * HEADS * HEAD_WIDTH, 1, bias=False)
        self.merge = nn.Sequential(nn.Conv1d(HEADS * HEAD_WIDTH, channels, 1), ChannelNorm(channels))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.project(self.norm(x)).unflatten(1, (3, HEADS, HEAD_WIDTH)).unbind(1)
        query = query.softmax(dim=-2) * HEAD_WIDTH**-0.5
        context = key.softmax(dim=-1) @ value.transpose(-1, -2)
        return x + self.merge((context.transpose(-1, -2) @ query).flatten(1, 2))


class Attention(nn.Module):
    """Full attention between all samples, plus its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.project = nn.Conv1d(channels, 3 * HEADS * HEAD_WIDTH, 1, bias=False)
        self.merge = nn.Conv1d(HEADS * HEAD_WIDTH, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.project(self.norm(x)).unflatten(1, (3, HEADS, HEAD_WIDTH)).transpose(-1, -2)
        query, key, value = qkv.unbind(1)
        attended = F.scaled_dot_product_attention(query, key, value)
        return x + self.merge(attended.transpose(-1, -2).flatten(1, 2))
