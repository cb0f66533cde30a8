"""
CDiffSD, a cold-diffusion denoiser of seismograms (Trappolini et al., 2024).

A level is a number in [0, 1]: at 0 a record is the clean earthquake, at 1 it is the
observation. Records are (batch, component, samples), levels are (batch,).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from numbers import Real
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from obspy import Stream, Trace
from seisbench.models import GroupingHelper, WaveformModel
from seisbench.util import ClassifyOutput
from torch import Tensor, nn

# -- Cold diffusion -------------------------------------------------------------------

#: Weights of the clean and of the noisy record at some levels, each in their shape.
Schedule = Callable[[Tensor], tuple[Tensor, Tensor]]
#: Estimates of clean records; of networks with `presence`, also the natural logarithm
#: of the odds that a window holds an earthquake, (batch,).
Answer = Tensor | tuple[Tensor, Tensor]


def straight(level: Tensor) -> tuple[Tensor, Tensor]:
    """
    The straight path from the clean to the noisy record, ``x_t = x + t n``.

    The amplitude of the earthquake is the same at every level, level 1 is exactly the
    observation, and the step of the sampler is exact between any two levels.
    """
    return 1 - level, level


#: Degradations by the name under which a model stores them.
SCHEDULES: dict[str, Schedule] = {"straight": straight}


def mix(
    clean: Tensor, noisy: Tensor, level: Tensor, schedule: Schedule = straight
) -> Tensor:
    """The degradation D(x, y, t): records between clean ones x and noisy ones y."""
    keep, add = (weight[:, None, None] for weight in schedule(level))
    return keep * clean + add * noisy


def endpoint(
    x: Tensor, clean: Tensor, level: Tensor, schedule: Schedule = straight
) -> Tensor:
    """The noisy records that, mixed with `clean`, give `x` at levels above 0."""
    keep, add = (weight[:, None, None] for weight in schedule(level))
    return (x - keep * clean) / add


def levels(steps: int) -> list[float]:
    """
    The `steps` + 1 levels that a sampler visits, evenly spaced from 1 down to 0.

    :raises ValueError: If `steps` is not a positive integer
    """
    if not _is_count(steps, 1):
        raise ValueError(f"steps must be a positive integer, not {steps!r}.")
    return [1 - step / int(steps) for step in range(int(steps) + 1)]


def sample(
    denoise: Callable[[Tensor, Tensor], Tensor],
    noisy: Tensor,
    steps: int = 1,
    schedule: Schedule = straight,
) -> Tensor:
    """
    The improved sampler of cold diffusion (Bansal et al. 2022, Algorithm 2): from the
    observation to the clean record in a few steps. One step is direct denoising.

    In words, for two steps on the straight path: denoise; average the result with the
    observation; denoise that.

    :param denoise: Estimates clean records from records at any levels
    :param noisy: Observed records
    :param steps: Number of evaluations of `denoise`
    :return: Estimates of the clean records
    """
    x = noisy
    for level, lower in pairwise(noisy.new_full((len(x),), t) for t in levels(steps)):
        clean = denoise(x, level)
        end = endpoint(x, clean, level, schedule)
        x = mix(clean, end, lower, schedule)
    return x


# -- The network ----------------------------------------------------------------------

#: Width of the level embedding, and the highest of its frequencies.
LEVEL_WIDTH, FASTEST = 64, 30.0
#: Samples of a frame of the short-time spectrum, and from one frame to the next.
FRAME, HOP = 64, 16
#: Exponent of the amplitudes that the network sees: compressed, weak arrivals count.
COMPRESSION = 0.3


class SpectralUNet(nn.Module):
    """
    A complex mask for each bin of the short-time spectrum, by a U-Net over its frames.

    The channels of the U-Net are the bins of all three components. Its mask selects the
    noise, which is subtracted: an untrained network leaves the record as it is. It sees
    the compressed spectrum, its logarithm, and how far that is above its mean over the
    window: what rises above a steady noise looks alike at all stations.

    :param presence: Whether the network returns the odds of an earthquake as well
    :param widths: Channels at each depth; each has half the frames of the one above
    """

    def __init__(
        self, presence: bool = False, widths: tuple[int, ...] = (96, 96, 128, 160)
    ) -> None:
        super().__init__()
        self.multiple = 2 ** (len(widths) - 1)
        bins, up = 3 * (FRAME // 2 + 1), widths[::-1]
        self.embedding = nn.Sequential(nn.Linear(LEVEL_WIDTH, LEVEL_WIDTH), nn.SiLU())
        self.stem = nn.Conv1d(4 * bins, widths[0], 1)
        self.down = nn.ModuleList(Block(width) for width in widths[:-1])
        self.shrink = nn.ModuleList(nn.Conv1d(a, b, 2, 2) for a, b in pairwise(widths))
        self.middle = nn.ModuleList(Block(widths[-1], d) for d in (1, 2, 4))
        grow = (nn.ConvTranspose1d(a, b, 2, 2) for a, b in pairwise(up))
        self.grow = nn.ModuleList(grow)
        self.up = nn.ModuleList(Block(width) for width in up[1:])
        self.head = nn.Conv1d(widths[0], 2 * bins, 1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)
        self.presence = None
        if presence:  # from means and maxima over the frames of all depths
            norm, hidden = nn.LayerNorm(2 * sum(widths)), nn.Linear(2 * sum(widths), 64)
            self.presence = nn.Sequential(norm, hidden, nn.SiLU(), nn.Linear(64, 1))

    def forward(self, x: Tensor, level: Tensor) -> Answer:
        """
        Estimate the clean records.

        :param x: Records of unit power (batch, 3, samples), of any length
        :param level: Levels (batch,)
        """
        spectrum = analyse(x, self.multiple)
        # 1e-4 keeps silence finite: white noise of unit power has 32 in a bin
        power = spectrum.real.square() + spectrum.imag.square() + 1e-4
        compressed = power ** ((COMPRESSION - 1) / 2) * spectrum
        log_power = 0.1 * power.log()
        above = log_power - log_power.mean(-1, keepdim=True)
        seen = torch.cat([compressed.real, compressed.imag, log_power, above], 1)
        mask, depths = self._unet(seen.flatten(1, 2), self.embedding(embed(level)))
        # layers may be in half precision; the spectrum that is masked is not
        real, imaginary = mask.unflatten(1, (3, 2, -1)).to(x.dtype).unbind(2)
        noise = torch.complex(real, imaginary) * spectrum
        estimate = x - synthesise(noise, x.shape[-1])
        if self.presence is None:
            return estimate
        features = [y.mean(-1) for y in depths] + [y.amax(-1) for y in depths]
        return estimate, self.presence(torch.cat(features, 1))[:, 0]

    def _unet(self, x: Tensor, level: Tensor) -> tuple[Tensor, list[Tensor]]:
        x, skips = self.stem(x), []
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


def analyse(x: Tensor, multiple: int = 1) -> Tensor:
    """
    Short-time spectra of records, complex (batch, component, bins, frames).

    :param x: Records (batch, component, samples)
    :param multiple: Pad to a number of frames that is a multiple of this
    """
    samples = x.shape[-1]
    frames = -(-(samples + FRAME - HOP) // (HOP * multiple)) * multiple
    x = F.pad(x, (FRAME - HOP, frames * HOP - samples)).unfold(-1, FRAME, HOP)
    bins = torch.fft.rfft(x * _window(x)).transpose(-1, -2)
    return bins.contiguous()  # which is faster for what follows


def synthesise(spectrum: Tensor, samples: int) -> Tensor:
    """Records (batch, component, samples) from their spectra, without loss."""
    frames = torch.fft.irfft(spectrum.transpose(-1, -2))
    frames = frames * _window(frames) * (2 * HOP / FRAME)
    hops = frames.unflatten(-1, (-1, HOP)).unbind(-2)
    last = len(hops) - 1  # hop k of a frame lies k hops after the first one
    x = torch.stack([F.pad(y, (0, 0, k, last - k)) for k, y in enumerate(hops)])
    return x.sum(0).flatten(-2)[..., FRAME - HOP :][..., :samples]


def _window(like: Tensor) -> Tensor:
    return torch.hann_window(FRAME, dtype=like.dtype, device=like.device).sqrt()


class Block(nn.Module):
    """Two convolutions, plus the input; the level scales and shifts in between."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        shape = channels, channels, 3, 1, dilation, dilation
        self.norm1, self.norm2 = (nn.GroupNorm(1, channels) for _ in range(2))
        self.conv1, self.conv2 = (nn.Conv1d(*shape) for _ in range(2))
        self.level = nn.Linear(LEVEL_WIDTH, 2 * channels)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        scale, shift = self.level(level)[..., None].chunk(2, dim=1)
        y = self.norm2(self.conv1(F.silu(self.norm1(x))))
        return x + self.conv2(F.silu(y * (1 + scale) + shift))


def embed(level: Tensor) -> Tensor:
    """Sines and cosines of levels (batch,), as (batch, LEVEL_WIDTH)."""
    octaves = torch.linspace(0, math.log(FASTEST), LEVEL_WIDTH // 2).to(level)
    phase = level[:, None] * octaves.exp()
    return torch.cat([phase.sin(), phase.cos()], dim=1)


#: Networks by the name under which a model stores them.
NETWORKS: dict[str, Callable[..., nn.Module]] = {"default": SpectralUNet}


# -- The SeisBench model --------------------------------------------------------------

#: Band of the model, as :py:meth:`obspy.Stream.filter` takes it.
BAND = {"freqmin": 1.0, "freqmax": 45.0, "corners": 4, "zerophase": True}
#: No number of samples in a window, or of windows in a batch, is larger than this.
MOST = 1_000_000


def normalize(batch: Tensor, norm: str = "std") -> tuple[Tensor, Tensor]:
    """
    Divide windows by one factor for all components. Silent windows have the factor 1.

    :param batch: Windows (batch, component, samples)
    :param norm: "std", the joint standard deviation about zero, or "peak", the joint
        absolute maximum
    :return: Normalised windows, and factors (batch, 1, 1)
    """
    peak = batch.abs().amax(dim=(-2, -1), keepdim=True)
    factor = torch.where(peak > 0, peak, 1)
    batch = batch / factor  # first, so that no square leaves the range of single floats
    if norm == "std":
        rms = batch.square().mean(dim=(-2, -1), keepdim=True).sqrt()
        rms = torch.where(peak > 0, rms, 1)
        batch, factor = batch / rms, factor * rms
    return batch, factor


class Instruments(GroupingHelper):
    """Groups traces by instrument: HH and HN at one location stay apart."""

    @staticmethod
    def trace_id_without_component(trace: Trace) -> str:
        return trace.id[:-1]


class CDiffSD(WaveformModel):
    """
    .. document_args:: seisbench.models CDiffSD

    Removes noise from three-component seismograms by cold diffusion: a network that
    restores the earthquake from any mixture with noise is applied a few times, on the
    way from the observation to the clean record.

    For picking, a share of the removed noise stays (`dry`), since pickers take what
    emerges from silence for phases. For waveforms, set `dry` to 0. Of a window that
    most probably holds no earthquake, only this share is left (see `silence`).

    :param network: Name of the network, such as "default"
    :param schedule: Name of the degradation, such as "straight"
    :param in_samples: Samples of a window
    :param sampling_rate: Sampling rate in Hz
    :param component_order: Order of the three components
    :param norm: What windows are divided by, "std" or "peak"
    :param filter_args: Type of the filter, as for :py:meth:`obspy.Stream.filter`, a
        band-pass from 1 to 45 Hz by default; None for no filter
    :param filter_kwargs: Its arguments
    :param presence: Whether the network returns the odds of an earthquake as well.
        Where one is improbable, none is left: see `silence`
    :param kwargs: Passed to :py:class:`~seisbench.models.WaveformModel`
    :raises ValueError: If a name is unknown or a number out of range
    """

    _annotate_args = WaveformModel._annotate_args | {
        "overlap": (WaveformModel._annotate_args["overlap"][0], 1500),
        "blinding": ("Samples to discard on each side of each window", (0, 0)),
        "steps": ("Evaluations of the network; 1 is direct denoising", 2),
        "dry": ("Share of the removed noise that stays, from 0 to below 1", 0.2),
        "silence": ("Probability of an earthquake below which none is left", 0.8),
        "detection": ("Whether to return the probability of an earthquake", False),
        "detection_threshold": ("Least probability of a detection", 0.8),
    }

    def __init__(
        self,
        network: str = "default",
        schedule: str = "straight",
        in_samples: int = 3000,
        sampling_rate: float = 100,
        component_order: str = "ZNE",
        norm: str = "std",
        filter_args: Sequence[str] | None = ("bandpass",),
        filter_kwargs: dict[str, Any] | None = None,
        presence: bool = False,
        **kwargs: Any,
    ) -> None:
        citation = (
            "Trappolini, D., Laurenti, L., Poggiali, G., Tinti, E., Galasso, F., "
            "Michelini, A., & Marone, C. (2024). "
            "Cold Diffusion Model for Seismic Denoising. "
            "Journal of Geophysical Research: Machine Learning and Computation, 1(2), "
            "e2024JH000179. https://doi.org/10.1029/2024JH000179"
        )
        filter_args = None if filter_args is None else tuple(filter_args)
        if filter_args == ("bandpass",) and filter_kwargs is None:
            filter_kwargs = BAND.copy()
        order = "".join(sorted(component_order)), ("ENZ", "12Z")
        named = (network, NETWORKS), (schedule, SCHEDULES), (norm, ("std", "peak"))
        for name, known in (*named, order):
            if name not in known:
                raise ValueError(f"Unknown {name!r}. Available: {', '.join(known)}.")
        if not (isinstance(in_samples, int) and _is_count(in_samples, 1)):
            raise ValueError(f"in_samples must be a positive int, not {in_samples!r}.")
        if not _is_number(sampling_rate, MOST) or sampling_rate == 0:
            raise ValueError(f"sampling_rate must be in Hz, not {sampling_rate!r}.")
        super().__init__(
            citation=citation,
            in_samples=in_samples,
            output_type="array",
            pred_sample=(0, in_samples),
            labels=list(component_order),
            sampling_rate=sampling_rate,
            component_order=component_order,
            filter_args=filter_args,
            filter_kwargs=filter_kwargs,
            grouping=Instruments("instrument"),
            **kwargs,
        )
        self.network_name, self.schedule = network, schedule
        self.norm, self.presence = norm, presence
        self.network = NETWORKS[network](**({"presence": True} if presence else {}))
        self.float()

    def forward(self, x: Tensor, level: Tensor | float = 1.0) -> Answer:
        """
        Estimate the clean records in one evaluation of the network.

        :param x: Normalised windows (batch, component, samples)
        :param level: Levels (batch,), or one for all; 1, the observation, by default
        :return: Estimates in the shape of `x`; with `presence`, log odds (batch,) too
        """
        return self.network(x, torch.as_tensor(level).to(x).expand(len(x)))

    def annotate_stream_pre(self, stream: Stream, argdict: dict[str, Any]) -> Stream:
        """Check the arguments, remove means, filter and resample."""
        self.check(argdict)
        stream.detrend("constant")
        return super().annotate_stream_pre(stream, argdict)

    def annotate_batch_pre(
        self, batch: Tensor, argdict: dict[str, Any]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Normalise windows; the piggyback is these and their factors."""
        batch, factor = normalize(batch, self.norm)
        return batch, (batch, factor * batch.any(-1).any(-1)[:, None, None])

    def annotate_batch_post(
        self,
        batch: Answer,
        piggyback: tuple[Tensor, Tensor],
        argdict: dict[str, Any],
    ) -> Tensor:
        """
        Take the other steps of the sampler, leave a share of the noise in, and undo the
        normalisation.

        :param batch: What :py:meth:`forward` returns for the observation, level 1
        :return: Denoised windows (batch, samples, component); with `detection`, the
            probability of an earthquake in the window follows the components
        """
        noisy, factor = piggyback
        option = partial(self._argdict_get_with_default, argdict)
        steps, dry, (before, after) = map(option, ("steps", "dry", "blinding"))
        answers: list[Any] = [batch]

        def denoise(x: Tensor, level: Tensor) -> Tensor:
            if x is not noisy:
                answers.append(self(x, level))
            return answers[-1][0] if self.presence else answers[-1]

        clean = sample(denoise, noisy, steps, SCHEDULES[self.schedule])
        left = dry * (noisy - clean)
        if self.presence:
            log_odds = torch.stack([odds for _, odds in answers]).mean(0)
            least = torch.logit(log_odds.new_tensor(option("silence")))
            clean = (log_odds >= least)[:, None, None] * clean
        denoised = ((clean + left) * factor).transpose(1, 2)
        if option("detection"):
            probable = log_odds.sigmoid()[:, None, None] * (factor > 0)
            denoised = F.pad(denoised, (0, 1)) + F.pad(probable, (3, 0))
        denoised[:, :before] = torch.nan
        denoised[:, denoised.shape[1] - after :] = torch.nan
        return denoised

    def classify_stream_pre(self, stream: Stream, argdict: dict[str, Any]) -> Stream:
        """Ask for the probability of an earthquake, if the weights tell it."""
        argdict.setdefault("detection", self.presence)
        return super().classify_stream_pre(stream, argdict)

    def stream_to_array(self, traces: Stream, argdict: dict[str, Any]) -> Any:
        """As in SeisBench; the channels of an instrument are noted in its name."""
        group = super().stream_to_array(traces, argdict)
        option = "flexible_horizontal_components"
        flexible = self._argdict_get_with_default(argdict, option)
        rows, _ = self._build_comp_dict(traces, flexible)
        codes = {trace.stats.channel for trace in traces}
        there = [f"{rows[code[-1]]}{code}" for code in codes if code[-1] in rows]
        group.stations[0] += f".{','.join(sorted(there))}"
        return group

    def _predictions_to_stream(self, prediction: Any) -> Stream:
        """Only the channels that there are, as ``CDiffSD_HHZ``."""
        to_stream, channels = super()._predictions_to_stream, prediction.stations[0]
        parts = np.split(prediction.data, [3], axis=-1)  # labels are of components only
        rows, curves = (to_stream(prediction._replace(data=part)) for part in parts)
        output = Stream()
        for channel in filter(None, channels.split(".")[-1].split(",")):
            output.append(rows[int(channel[0])].copy())
            output[-1].stats.channel = f"{self.name}_{channel[1:]}"
        for trace in curves if output else ():
            trace.stats.channel = f"{self.name}_{channel[1:-1]}_Detection"
            output.append(trace)
        return output

    def classify_aggregate(
        self, annotations: Stream, argdict: dict[str, Any]
    ) -> ClassifyOutput:
        """
        The denoised stream, under the channel codes of the input, as `denoised`, and
        when there is an earthquake, if the weights tell, as `detections`.
        """
        curves = annotations.select(channel="*_Detection")
        least = self._argdict_get_with_default(argdict, "detection_threshold")
        detections = self.detections_from_annotations(curves, least)
        for trace in curves:
            annotations.remove(trace)
        for trace in annotations:
            trace.stats.channel = trace.stats.channel.removeprefix(f"{self.name}_")
        return ClassifyOutput(self.name, denoised=annotations, detections=detections)

    def check(self, argdict: dict[str, Any]) -> None:
        """
        Check the model and its run-time arguments, before any work is done.

        :raises ValueError: If an argument is out of range, or the model is not in
            single precision
        :raises FloatingPointError: If a parameter of the model is NaN or infinite
        """
        given = {key: known[1] for key, known in self._annotate_args.items()} | argdict
        overlap, blind = given["overlap"], given["blinding"]
        most = int(0.99 * self.in_samples)  # else windows hardly advance
        overlaps = _is_number(overlap, 0.99) or _is_count(overlap, 1, most)
        pair = isinstance(blind, (tuple, list, np.ndarray)) and len(blind) == 2
        blinded = pair and all(map(_is_count, blind)) and sum(blind) < self.in_samples
        checks = {
            "steps": (_is_count(given["steps"], 1, 1000), "an integer from 1 to 1000"),
            "batch_size": (_is_count(given["batch_size"], 1), "a positive integer"),
            "dry": (_is_number(given["dry"], 1), "a share, at least 0 and below 1"),
            "silence": (_is_number(given["silence"], 1), "a probability below 1"),
            "overlap": (overlaps, f"a share of a window, or up to {most} samples"),
            "blinding": (blinded, "two numbers of samples, together below a window"),
            "detection": (self.presence or not given["detection"], "False here"),
            "stacking": (given["stacking"] in self._stack_options, "avg or max"),
        }
        for key, (valid, wanted) in checks.items():
            if not valid:
                raise ValueError(f"{key} must be {wanted}, not {given[key]!r}.")
        if self.dtype != torch.float32:
            raise ValueError(f"The model is in {self.dtype}: call .float() first.")
        if not all(x.isfinite().all() for x in self.parameters()):
            raise FloatingPointError(
                "NaN or infinite parameters: the weights are damaged."
            )

    def get_model_args(self) -> dict[str, Any]:
        """All arguments of the constructor that define the model."""
        names = ["schedule", "in_samples", "sampling_rate", "component_order", "norm"]
        names += ["filter_args", "filter_kwargs", "presence"]
        return {"network": self.network_name} | {x: getattr(self, x) for x in names}


def _is_number(value: Any, below: float) -> bool:
    return isinstance(value, Real) and 0 <= float(value) < below


def _is_count(value: Any, least: int = 0, most: int = MOST) -> bool:
    return isinstance(value, Real) and float(value) in range(least, most + 1)
