"""Envelopes of seismograms by cold diffusion from noise alone, learned from recorded earthquakes.

What is learned is how the amplitudes of a record are spread over components, frequencies and times: the logarithm of
the rms of ground velocity in cells, with edges at P and at S wherever these are. On the straight path cold diffusion
from noise is a rectified flow (Liu et al., 2023, https://arxiv.org/abs/2209.03003), which :py:func:`.cdiffsd.sample`
integrates. A simulated record, with its onsets and phases, is shaped to the envelope that is drawn.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.fft import ifft, irfft, next_fast_len, rfft, rfftfreq
from torch import Tensor, nn

from seisbench_cdiffsd.cdiffsd import LEVEL_WIDTH, embed, sample
from seisbench_cdiffsd.data.simulation import BLAST, SITES, Event, simulate, times
from seisbench_cdiffsd.streams.filtering import resampled, simple_ratio
from seisbench_cdiffsd.weights import CDiffSD

Values = NDArray[np.float64]

#: Centres of the bands in Hz; between them weights fall linearly in log(1 + f / 3 Hz), so that responses are short.
CENTRES = 3 * np.expm1(np.linspace(np.log1p(1.2 / 3), np.log1p(42 / 3), 16))
#: Cells between P and S, and after S; seconds of the first one after S, and ratio of one to the one before.
BETWEEN, BEHIND, FIRST, RATIO = 20, 28, 0.1, 1.17
#: Components of the envelope that are drawn, of the network's layers, and steps of the sampler.
PARTS, WIDTH, BLOCKS, STEPS = 96, 256, 3, 32
#: Standard deviation of the noise that is drawn from: more than one, as records of one kind come out too much alike.
SPREAD = 1.15
#: Shortest and longest S - P times in seconds of the records that it was learned from.
S_MINUS_P = 0.3, 30.0
#: Lowest sampling rate in Hz at which all bands are.
LEAST_RATE = 95.0
#: Largest change of a simulated record, as log10 of amplitudes.
MOST = 2.0


def edges(s_minus_p: float) -> Values:
    """Edges of the cells, in seconds after P."""
    before = 1.08 ** np.arange(BETWEEN + 1) - 1
    behind = FIRST * (RATIO ** np.arange(1, BEHIND + 1) - 1) / (RATIO - 1)
    return np.concatenate([s_minus_p * before / before[-1], s_minus_p + behind])


def bands(frequencies: Values) -> Values:
    """Weights of the bands at frequencies in Hz, (band, frequency), with a sum of one."""
    place = np.interp(np.log1p(frequencies / 3), np.log1p(CENTRES / 3), np.arange(len(CENTRES)))
    return np.clip(1 - np.abs(place - np.arange(len(CENTRES))[:, None]), 0, 1)


def powers(records: Values, rate: float, at: Values) -> Values:
    """Mean power of records (component, samples) between times in seconds, (component, band, cell); NaN outside."""
    length = next_fast_len(records.shape[1] + round(2 * rate))
    frequency = rfftfreq(length, 1 / rate)
    inside = np.clip((frequency - 0.7) / 0.3, 0, 1) * np.clip((47 - frequency) / 2, 0, 1)
    spectrum = np.sqrt(2) * rfft(records, length)[:, None] * bands(frequency) * inside
    analytic = ifft(spectrum, length)[..., : records.shape[1]]
    energy = np.cumsum(np.pad(np.abs(analytic) ** 2, ((0, 0), (0, 0), (1, 0))), axis=-1)
    sample = np.asarray(at) * rate
    first = np.floor(np.clip(sample, 0, records.shape[1] - 1)).astype(int)
    until = energy[..., first] + (sample - first) * (energy[..., first + 1] - energy[..., first])
    until[..., (sample < 0) | (sample > records.shape[1])] = np.nan
    return np.diff(until) / np.diff(sample)


def level(envelope: Values) -> Values:
    """log10 of the largest amplitude in a cell after S of envelopes (..., component, band, cell)."""
    return np.log10((10 ** (2 * envelope[..., BETWEEN:])).sum((-3, -2)).max(-1)) / 2


def numbers(about: dict[str, Any]) -> list[float]:
    """What the network is told of a record: what is not known, or None, is 0."""
    known = [float(value is not None and np.isfinite(value)) for value in (about.get("magnitude"), about.get("depth"))]
    size, depth = (about[name] if there else 0.0 for name, there in zip(("magnitude", "depth"), known, strict=True))
    told = [np.log(about["s_minus_p"]) / 1.5 - 0.7, known[0], (size / 2 - 1) * known[0]]
    told += [known[1], (np.log1p(max(depth, 0.0)) / 2 - 1) * known[1], about.get("kind") == BLAST, about["recorded"]]
    return [float(x) for x in told + [about.get("site") == x for x in SITES]]


class Flow(nn.Module):
    """
    Estimates clean parts of envelopes from their mixtures with noise: residual blocks that the level and what is asked
    for scale and shift.
    """

    def __init__(
        self, told: int = 10, parts: int = PARTS, width: int = WIDTH, blocks: int = BLOCKS, drop: float = 0.0
    ) -> None:
        super().__init__()
        self.asked = nn.Sequential(nn.Linear(LEVEL_WIDTH + told, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU())
        self.first, self.last = nn.Linear(parts, width), nn.Linear(width, parts)
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(blocks))
        self.shifts = nn.ModuleList(nn.Linear(128, 2 * width) for _ in range(blocks))
        self.ups, self.downs = (nn.ModuleList(nn.Linear(width, width) for _ in range(blocks)) for _ in range(2))
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor, level: Tensor, told: Tensor) -> Tensor:
        """Clean parts (batch, 1, part) of `x` at levels (batch,)."""
        asked, h = self.asked(torch.cat([embed(level), told], 1)), self.first(x[:, 0])
        for norm, shift, up, down in zip(self.norms, self.shifts, self.ups, self.downs, strict=True):
            scale, add = shift(asked).chunk(2, 1)
            h = h + down(self.drop(F.silu(up(norm(h) * (1 + scale) + add))))
        level = level[:, None]
        straight = (2 * level - 1) / ((1 - level) ** 2 + level**2) * x[:, 0]  # between two Gaussians
        return x - (level * (straight + self.last(h)))[:, None]  # what is estimated is the velocity of the flow


class Generator:
    """A learned distribution of envelopes, and records of it."""

    def __init__(self, saved: dict[str, Any]) -> None:
        self.mean, self.std, self.basis, self.scale = (
            saved[x].double().numpy() for x in ("mean", "std", "basis", "scale")
        )
        self.net = Flow()
        self.net.load_state_dict(saved["net"])
        self.net.eval().double()

    def parts(self, envelopes: Values) -> Values:
        """Parts (..., part) of envelopes (..., component, band, cell)."""
        flat = (envelopes - level(envelopes)[..., None, None, None]).reshape(*envelopes.shape[:-3], -1)
        return (flat - self.mean) / self.std @ self.basis / self.scale

    def draw(self, random: np.random.Generator, about: dict[str, Any]) -> Values:
        """Parts of an envelope that go with what is asked for."""
        told = torch.tensor([numbers(about)], dtype=torch.float64)
        noise = SPREAD * torch.from_numpy(random.standard_normal((1, 1, len(self.scale))))
        with torch.no_grad():
            return sample(lambda x, level: self.net(x, level, told), noise, STEPS)[0, 0].numpy()

    def shape(self, motion: Values, rate: float, s_minus_p: float, parts: Values) -> Values:
        """A simulated record from P on, (3, samples) with at least `edges` of time, with another envelope."""
        at = edges(s_minus_p)
        own = np.log10(powers(motion, rate, at) + 1e-12 * np.square(motion).max()) / 2
        gain = (self.basis @ ((parts - self.parts(own)) * self.scale) * self.std).reshape(own.shape).clip(-MOST, MOST)
        length = next_fast_len(motion.shape[1] + round(2 * rate), real=True)
        spectrum, weights = rfft(motion, length), bands(rfftfreq(length, 1 / rate))
        seconds, out = np.arange(motion.shape[1]) / rate, np.zeros_like(motion)
        centres = (at[1:] + at[:-1]) / 2
        knots = np.concatenate([centres[:BETWEEN], [s_minus_p - 0.5 / rate, s_minus_p], centres[BETWEEN:]])
        first = gain[..., BETWEEN : BETWEEN + 6]  # an onset of S is as sharp as it is simulated, and nothing hides it
        first[:] = first.max(-1, keepdims=True)
        gain[..., BETWEEN // 2 : BETWEEN] = np.minimum(gain[..., BETWEEN // 2 : BETWEEN], first[..., :1])
        gain = gain[..., [*range(BETWEEN), BETWEEN - 1, BETWEEN, *range(BETWEEN, len(centres))]]  # a step at S
        for component, band in np.ndindex(*own.shape[:2]):
            part = irfft(spectrum[component] * weights[band], length)[: motion.shape[1]]
            out[component] += part * 10 ** np.interp(seconds, knots, gain[component, band])
        return out * np.abs(motion[1:]).max() / np.abs(out[1:]).max()


@cache
def load() -> Generator | None:
    """The generator that comes with the package; None where its file is missing."""
    path = CDiffSD.shipped_path() / "generator.pt"
    return Generator(torch.load(path, weights_only=True)) if path.is_file() else None


def simulated_or_learned(
    random: np.random.Generator, event: Event, rate: float, after: float, s_minus_p: float, said: dict[str, Any]
) -> tuple[Values, float, str]:
    """
    A record of an event from P on, as :py:func:`.simulate` makes it, with an envelope that was learned, if there is one
    for such an event. Beside the magnitude, only what is said is asked for.

    :return: Ground velocity in m/s, (3, samples); the S - P time; and "learned" or "simulated"
    """
    learned, fine = load(), rate * np.ceil(LEAST_RATE / rate)
    about = s_minus_p or 0.92 * times(event.distance, event.depth)[0]  # rather too long
    if learned is None or event.kind == BLAST or not S_MINUS_P[0] <= about <= S_MINUS_P[1]:
        motion, s_minus_p = simulate(random, event, rate, 0, after, s_minus_p)
        return motion, s_minus_p, "simulated"
    motion, s_minus_p = simulate(random, event, fine, 0, max(after, edges(about)[-1] + 1), s_minus_p)
    known = {**said, "magnitude": event.magnitude, "s_minus_p": s_minus_p, "recorded": True}
    motion = learned.shape(motion, fine, s_minus_p, learned.draw(random, known))
    if fine != rate:
        motion = np.stack([resampled(component, simple_ratio(fine, rate)) for component in motion])
    return motion[:, : round(after * rate)], s_minus_p, "learned"
