"""The default network: a 1-D U-Net over the frames of a short-time spectrum, for three components at once."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seisbench_cdiffsd.published import PublishedUNet


class SpectralUNet(nn.Module):
    def __init__(
        self,
        components: int = 3,
        frame: int = 64,
        hop: int = 16,
        widths: tuple[int, ...] = (128, 128, 160, 192),
        compression: float = 0.3,
        embedding: int = 64,
    ) -> None:
        super().__init__()
        self.frame, self.hop, self.compression = frame, hop, compression
        self.multiple = 2 ** (len(widths) - 1)
        window = torch.hann_window(frame, dtype=torch.float64).sqrt()
        time = torch.arange(frame, dtype=torch.float64)
        bins = torch.arange(frame // 2 + 1, dtype=torch.float64)
        phase = 2 * math.pi * bins[:, None] * time / frame
        analysis = torch.cat([phase.cos(), -phase.sin()]) * window
        weight = torch.full((len(bins),), 2.0, dtype=torch.float64)
        weight[0] = weight[-1] = 1
        synthesis = torch.cat([phase.cos() * weight[:, None], -phase.sin() * weight[:, None]]) * window
        synthesis = synthesis / frame * (2 * hop / frame)
        self.register_buffer("analysis", analysis[:, None].float(), persistent=False)
        self.register_buffer("synthesis", synthesis[:, None].float(), persistent=False)
        self.bins = len(bins)
        features = components * self.bins * 3
        self.embedding = nn.Sequential(nn.Linear(embedding, embedding), nn.SiLU())
        self.embed_width = embedding
        self.stem = nn.Conv1d(features, widths[0], 1)
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        self.shrink = nn.ModuleList()
        self.grow = nn.ModuleList()
        for narrow, wide in zip(widths[:-1], widths[1:]):
            self.down.append(Block(narrow, embedding))
            self.shrink.append(nn.Conv1d(narrow, wide, 2, 2))
            self.grow.insert(0, nn.ConvTranspose1d(wide, narrow, 2, 2))
            self.up.insert(0, Block(narrow, embedding))
        self.middle = nn.ModuleList([Block(widths[-1], embedding, 1), Block(widths[-1], embedding, 2), Block(widths[-1], embedding, 4)])
        self.head = nn.Conv1d(widths[0], components * self.bins * 2, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        batch, components, samples = x.shape
        left = self.frame - self.hop
        frames = -(-(samples + left) // self.hop)
        frames = -(-frames // self.multiple) * self.multiple
        total = (frames - 1) * self.hop + self.frame
        x_pad = F.pad(x, (left, total - samples - left)).reshape(batch * components, 1, total)
        spec = F.conv1d(x_pad, self.analysis, stride=self.hop).view(batch, components, 2, self.bins, frames)
        real, imag = spec[:, :, 0], spec[:, :, 1]
        power = real**2 + imag**2 + 1e-4
        gain = power ** ((self.compression - 1) / 2)
        feats = torch.cat([real * gain, imag * gain, 0.1 * power.log()], dim=1).flatten(1, 2)
        emb = self.embedding(embed(level, self.embed_width))
        h = self.stem(feats)
        skips = []
        for block, shrink in zip(self.down, self.shrink):
            h = block(h, emb)
            skips.append(h)
            h = shrink(h)
        for block in self.middle:
            h = block(h, emb)
        for grow, block in zip(self.grow, self.up):
            h = block(grow(h) + skips.pop(), emb)
        mask = self.head(h).view(batch, components, 2, self.bins, frames)
        # complex mask of the noise: noise = mask * spectrum
        mr, mi = mask[:, :, 0], mask[:, :, 1]
        noise = torch.stack([real * mr - imag * mi, real * mi + imag * mr], dim=2)
        noise = noise.view(batch * components, 2 * self.bins, frames)
        out = F.conv_transpose1d(noise, self.synthesis, stride=self.hop)
        out = out.view(batch, components, total)[..., left : left + samples]
        return x - out


def embed(level: Tensor, width: int) -> Tensor:
    rates = torch.exp(torch.linspace(0, math.log(30), width // 2, device=level.device, dtype=level.dtype))
    phase = level[:, None] * rates
    return torch.cat([phase.sin(), phase.cos()], dim=1)


class Block(nn.Module):
    def __init__(self, channels: int, embedding: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.norm1 = nn.GroupNorm(1, channels)
        self.norm2 = nn.GroupNorm(1, channels)
        self.level = nn.Linear(embedding, 2 * channels)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.level(emb)[..., None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.norm2(h) * (1 + scale) + shift
        return x + self.conv2(F.silu(h))


#: Networks by the name under which a model stores them.
NETWORKS: dict[str, type[nn.Module]] = {"default": SpectralUNet, "published": PublishedUNet}


def build_network(name: str) -> nn.Module:
    """
    A three-component network by name, with fresh weights: ``network(x, level)``.

    :param name: "default" or "published"
    :raises ValueError: If there is no such network
    """
    if name not in NETWORKS:
        raise ValueError(f"Unknown network {name!r}. Available: {', '.join(NETWORKS)}.")
    return NETWORKS[name]()
