"""The default network: a U-Net over the frames of a short-time spectrum that estimates, bin by bin, what is noise.

A filter bank of fixed sines replaces the first layers of a waveform U-Net: it shortens the record sixteenfold at once,
so all convolutions run on few, wide frames, and a gain for each bin is easier to learn than a waveform. All three
components of a record are seen together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from threading import Lock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seisbench_cdiffsd.published import COMPONENTS, PublishedUNet

#: Width of the level embedding, and the highest of its frequencies.
LEVEL_WIDTH, FASTEST = 64, 30.0
#: Samples of a frame of the default network, and samples from one frame to the next.
BANK_FRAME, BANK_HOP = 64, 16
#: Exponent of the amplitudes that the network sees: compressed, so weak arrivals count.
COMPRESSION = 0.3
#: Width of the layer that tells whether there is an earthquake.
PRESENCE_WIDTH = 64


class SpectralUNet(nn.Module):
    """
    A complex mask for each bin of the spectrum, from a U-Net whose channels are bins and whose samples are frames.

    The mask selects the noise, which is subtracted: an untrained network leaves the record as it is. It sees the
    compressed spectrum, its logarithm, and how far that is above its mean over the window: what rises above a steady
    noise looks alike at all stations, whatever the spectrum of that noise.

    :param widths: Channels at each depth; each depth has half as many frames as the one above
    :param presence: Whether to tell, too, if there is an earthquake; see :py:meth:`with_log_odds`
    """

    def __init__(self, widths: tuple[int, ...] = (96, 96, 128, 160), presence: bool = False) -> None:
        super().__init__()
        self.multiple = 2 ** (len(widths) - 1)
        self.bank = FilterBank(BANK_FRAME, BANK_HOP)
        bins = COMPONENTS * self.bank.bins
        self.embedding = nn.Sequential(nn.Linear(LEVEL_WIDTH, LEVEL_WIDTH), nn.SiLU())
        self.stem = nn.Conv1d(4 * bins, widths[0], 1)
        self.down = nn.ModuleList(Block(width) for width in widths[:-1])
        self.shrink = nn.ModuleList(nn.Conv1d(narrow, wide, 2, 2) for narrow, wide in pairwise(widths))
        self.middle = nn.ModuleList(Block(widths[-1], dilation) for dilation in (1, 2, 4))
        self.grow = nn.ModuleList(nn.ConvTranspose1d(wide, narrow, 2, 2) for wide, narrow in pairwise(widths[::-1]))
        self.up = nn.ModuleList(Block(width) for width in widths[-2::-1])
        self.head = nn.Conv1d(widths[0], 2 * bins, 1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)
        self.presence = _presence_head(2 * sum(widths)) if presence else None

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """
        Estimate the clean record.

        :param x: Records of unit power, (batch, component, samples), of any length
        :param level: Levels in [0, 1], (batch,)
        :return: Estimates in the shape of `x`
        """
        return self.with_log_odds(x, level)[0]

    def with_log_odds(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor | None]:
        """
        Estimate the clean record, and how probable it is that there is an earthquake.

        :param x: As for :py:meth:`forward`
        :param level: Likewise
        :return: Estimates, and the natural logarithm of the odds, (batch,); None from a network that does not tell
        """
        full_precision = torch.autocast(x.device.type, enabled=False)
        # The layers may be in half precision, the spectrum that the mask is applied to must not. On NVIDIA's Ampere and
        # newer, its convolution is in TF32 all the same, where torch.backends.cudnn.allow_tf32 is set, as by default.
        with full_precision:
            spectrum = self.bank.analyse(x, self.multiple)
            real, imaginary = spectrum.unbind(2)
            # 1e-4 keeps silence finite: a bin of white noise of unit power has half a frame, 32
            power = real.square() + imaginary.square() + 1e-4
            gain = power ** ((COMPRESSION - 1) / 2)
            log_power = 0.1 * power.log()  # about -1 to 1
            above = log_power - log_power.mean(-1, keepdim=True)
            seen = torch.cat([real * gain, imaginary * gain, log_power, above], dim=1)
        mask, depths = self._unet(seen.flatten(1, 2), embed(level))
        mask = mask.view_as(spectrum)
        log_odds = None
        if self.presence is not None:  # wherever in the window the earthquake is
            features = torch.cat([x.mean(-1) for x in depths] + [x.amax(-1) for x in depths], dim=1)
            log_odds = self.presence(features)[:, 0]
        with full_precision:
            mask_real, mask_imaginary = mask.to(x.dtype).unbind(2)
            noise = torch.stack(
                [real * mask_real - imaginary * mask_imaginary, real * mask_imaginary + imaginary * mask_real], dim=2
            )
            return x - self.bank.synthesise(noise, x.shape[-1]), log_odds

    def _unet(self, x: Tensor, level: Tensor) -> tuple[Tensor, list[Tensor]]:
        level = self.embedding(level)
        x = self.stem(x)
        skips = []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            x = block(x, level)
            skips.append(x)
            x = shrink(x)
        for block in self.middle:
            x = block(x, level)
        depths = [x]
        for grow, block in zip(self.grow, self.up, strict=True):
            x = block(grow(x) + skips.pop(), level)
            depths.append(x)
        return self.head(x), depths


def _presence_head(features: int) -> nn.Sequential:
    """From the means and maxima over the frames of all depths to the logarithm of odds."""
    return nn.Sequential(
        nn.LayerNorm(features), nn.Linear(features, PRESENCE_WIDTH), nn.SiLU(), nn.Linear(PRESENCE_WIDTH, 1)
    )


class FilterBank(nn.Module):
    """
    Short-time spectra by convolution with windowed sines, and back: a tight frame, so nothing is lost.

    :param frame: Samples of a frame
    :param hop: Samples from one frame to the next; `frame` is a multiple of it, at least twice as large
    """

    analysis: Tensor
    synthesis: Tensor

    def __init__(self, frame: int, hop: int) -> None:
        super().__init__()
        self.frame, self.hop, self.bins = frame, hop, frame // 2 + 1
        window = torch.hann_window(frame, dtype=torch.float64).sqrt()
        phase = 2 * math.pi / frame * torch.outer(torch.arange(self.bins), torch.arange(frame)).double()
        analysis = torch.cat([phase.cos(), -phase.sin()]) * window
        # All bins but the lowest and the highest stand for two frequencies, the negative one included.
        twice = torch.full((self.bins,), 2.0, dtype=torch.float64)
        twice[[0, -1]] = 1
        synthesis = analysis * twice.repeat(2)[:, None] * 2 * hop / frame**2
        self.register_buffer("analysis", analysis[:, None].float(), persistent=False)
        self.register_buffer("synthesis", synthesis.T.contiguous().float(), persistent=False)

    def analyse(self, x: Tensor, multiple: int = 1) -> Tensor:
        """
        Spectra of records, as precise as convolutions are on the device: TF32 on some GPUs.

        :param x: Records, (batch, component, samples)
        :param multiple: Pad to a number of frames that is a multiple of this
        :return: Spectra, (batch, component, 2, bins, frames): real and imaginary part
        """
        batch, components, samples = x.shape
        before = self.frame - self.hop
        frames = -(-(samples + before) // (self.hop * multiple)) * multiple
        after = (frames - 1) * self.hop + self.frame - before - samples
        padded = F.pad(x, (before, after)).view(batch * components, 1, -1)
        return F.conv1d(padded, self.analysis, stride=self.hop).view(batch, components, 2, self.bins, frames)

    def synthesise(self, spectrum: Tensor, samples: int) -> Tensor:
        """
        Records from their spectra.

        :param spectrum: Spectra as :py:meth:`analyse` returns them
        :param samples: Samples of the records
        :return: Records, (batch, component, samples)
        """
        batch, components, _, bins, frames = spectrum.shape
        pieces = (self.synthesis @ spectrum.reshape(batch * components, 2 * bins, frames)).split(self.hop, dim=1)
        # Overlap and add: piece k of a frame lies k hops after the first. (A transposed convolution takes ten times as
        # long.)
        shifts = len(pieces) - 1
        hops = torch.stack([F.pad(piece, (k, shifts - k)) for k, piece in enumerate(pieces)]).sum(0)
        x = hops.transpose(1, 2).reshape(batch, components, -1)
        return x[..., self.frame - self.hop :][..., :samples]


class Block(nn.Module):
    """Two convolutions over the frames, plus the input; the level scales and shifts what passes between them."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(1, channels), nn.GroupNorm(1, channels)
        self.conv1, self.conv2 = (
            nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation) for _ in range(2)
        )
        self.level = nn.Linear(LEVEL_WIDTH, 2 * channels)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        scale, shift = self.level(level)[..., None].chunk(2, dim=1)
        y = self.norm2(self.conv1(F.silu(self.norm1(x))))
        return x + self.conv2(F.silu(y * (1 + scale) + shift))


def embed(level: Tensor) -> Tensor:
    """Sines and cosines of levels (batch,), at frequencies from 1 to FASTEST: (batch, LEVEL_WIDTH)."""
    rates = torch.linspace(0, math.log(FASTEST), LEVEL_WIDTH // 2, device=level.device, dtype=level.dtype).exp()
    phase = level[:, None] * rates
    return torch.cat([phase.sin(), phase.cos()], dim=1)


#: Networks by the name under which a model stores them.
NETWORKS: dict[str, type[nn.Module]] = {"default": SpectralUNet, "published": PublishedUNet}


def build_network(name: str, presence: bool = False) -> nn.Module:
    """
    A three-component network by name, with fresh weights: ``network(x, level)``.

    :param name: "default" or "published"
    :param presence: Whether it tells, too, if there is an earthquake, as :py:meth:`SpectralUNet.with_log_odds`
    :raises ValueError: If there is no such network, or the published one is to tell
    """
    if name not in NETWORKS:
        raise ValueError(f"Unknown network {name!r}. Available: {', '.join(NETWORKS)}.")
    if not presence:
        return NETWORKS[name]()
    if name != "default":
        raise ValueError(f"The network {name!r} does not tell whether there is an earthquake: leave out presence.")
    return SpectralUNet(presence=True)


class Evaluation:
    """
    Evaluation mode of a module, for as long as any of several concurrent calls needs it.

    At the end of the last of them, every part of the module returns to its own mode.
    """

    def __init__(self) -> None:
        self._lock, self._calls, self._training = Lock(), 0, list[nn.Module]()

    def __reduce__(self) -> tuple[type[Evaluation], tuple[()]]:
        return Evaluation, ()  # a copy of a module has calls of its own

    @contextmanager
    def __call__(self, module: nn.Module) -> Iterator[None]:
        """
        Evaluation mode during a ``with`` statement.

        :param module: The module, the same in all calls
        """
        with self._lock:
            if self._calls == 0:
                self._training = [part for part in module.modules() if part.training]
                module.eval()
            self._calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1
                if self._calls == 0:
                    for part in self._training:
                        part.training = True
                    self._training = []
