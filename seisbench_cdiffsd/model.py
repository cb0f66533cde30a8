"""CDiffSD as a SeisBench model: normalise, cut into windows, sample, undo."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, ClassVar, cast

import numpy as np
import obspy
import torch
from numpy.typing import NDArray
from seisbench.models import WaveformModel
from seisbench.util import ClassifyOutput
from torch import Tensor

from seisbench_cdiffsd import diffusion
from seisbench_cdiffsd.network import Evaluation, SpectralUNet, build_network
from seisbench_cdiffsd.noise_left import leave_noise
from seisbench_cdiffsd.options import ARGUMENTS, STACKING, Options
from seisbench_cdiffsd.presence import OddsRecorder
from seisbench_cdiffsd.pretrained import ShippedWeights
from seisbench_cdiffsd.schedule import get_schedule
from seisbench_cdiffsd.streams.amplitudes import check_norm, normalize, parted, rejoined
from seisbench_cdiffsd.streams.filtering import BAND, SAMPLING_RATE, design_filter, min_sampling_rate
from seisbench_cdiffsd.streams.records import Record, records, samples_of_traces, with_samples
from seisbench_cdiffsd.streams.windows import Windows

CITATION = (
    "Trappolini, D., Laurenti, L., Poggiali, G., Tinti, E., Galasso, F., Michelini, A., & Marone, C. (2024). "
    "Cold Diffusion Model for Seismic Denoising. Journal of Geophysical Research: Machine Learning and Computation, "
    "1(2), e2024JH000179. https://doi.org/10.1029/2024JH000179"
)

#: A record and its clean estimate, (component, samples).
Estimate = tuple[Record, NDArray[np.float32]]
#: A window of a record: where it starts.
Cut = tuple[Record, Windows, int]


class CDiffSD(ShippedWeights, WaveformModel):
    """
    .. document_args:: seisbench.models CDiffSD

    Denoises seismograms by cold diffusion (Trappolini et al., 2024): a network that restores the clean record from any
    mixture with noise is applied a few times, on the way from the observation to the clean record.

    :param network: "default" or "published"
    :param schedule: Degradation: "straight", "published-linear" or "published-cosine"
    :param in_samples: Length of a window in samples
    :param sampling_rate: Sampling rate in Hz
    :param component_order: Order of the three components
    :param norm: What a window is divided by, see :py:func:`normalize`
    :param filter_args: Type of the band filter, as for ``obspy.Stream.filter``, or None for no filter
    :param filter_kwargs: Its arguments
    :param presence: Whether the network tells, too, if there is an earthquake; where it is improbable, what is left in
        noise counts as noise (see :py:mod:`.noise_left`)
    :param default_args: Run-time arguments in place of the defaults of :py:meth:`annotate`, such as ``{"steps": 4}``
    :raises ValueError: If one of the names is unknown
    """

    _stack_options: ClassVar[set[str]] = set(STACKING)
    _annotate_args: ClassVar[dict[str, tuple[str, Any]]] = ARGUMENTS

    def __init__(
        self,
        network: str = "default",
        schedule: str = "straight",
        in_samples: int = 3000,
        sampling_rate: float = SAMPLING_RATE,
        component_order: str = "ZNE",
        norm: str = "std",
        filter_args: Sequence[str] | None = ("bandpass",),
        filter_kwargs: dict[str, Any] | None = None,
        presence: bool = False,
        default_args: dict[str, Any] | None = None,
    ) -> None:
        filter_args = None if filter_args is None else tuple(filter_args)
        if filter_args == ("bandpass",) and filter_kwargs is None:
            filter_kwargs = dict(BAND)
        super().__init__(
            citation=CITATION,
            output_type="array",
            in_samples=in_samples,
            pred_sample=(0, in_samples),
            labels=list(component_order),
            sampling_rate=sampling_rate,
            component_order=component_order,
            filter_args=filter_args,
            filter_kwargs=filter_kwargs,
            grouping="instrument",
            default_args=dict(default_args or {}),
        )
        if sorted(component_order) not in (sorted("ZNE"), sorted("Z12")):
            raise ValueError(f"component_order must hold the letters ZNE or Z12, not {component_order!r}.")
        if not isinstance(in_samples, int) or in_samples < 1 or not sampling_rate > 0:
            raise ValueError(
                f"in_samples must be a positive int, sampling_rate > 0, not {in_samples!r}, {sampling_rate!r}."
            )
        design_filter(filter_args, filter_kwargs, sampling_rate)
        get_schedule(schedule)
        check_norm(norm)
        self.network_name, self.schedule, self.norm, self.presence = network, schedule, norm, presence
        self.network, self._evaluation = build_network(network, presence), Evaluation()
        self.float()  # even where double precision is torch's default

    def forward(self, x: Tensor, level: Tensor | float = 1.0) -> Tensor:
        """
        Estimate the clean record in one evaluation of the network.

        :param x: Normalised records (batch, component, samples)
        :param level: Levels in [0, 1], (batch,) or one for all; 1, the observation, by default
        :return: Estimates in the shape of `x`
        """
        return self.network(x, torch.as_tensor(level).to(x).expand(len(x)))

    def with_log_odds(self, x: Tensor, level: Tensor | float) -> tuple[Tensor, Tensor | None]:
        """As :py:meth:`forward`; and the natural logarithm of the odds of an earthquake, (batch,), if it is told."""
        if not self.presence:
            return self(x, level), None
        return cast(SpectralUNet, self.network).with_log_odds(x, torch.as_tensor(level).to(x).expand(len(x)))

    def annotate_batch_pre(self, batch: Tensor, argdict: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Normalise windows; the piggyback is their factors, zero for silent windows, so they stay silent."""
        batch, factor = normalize(batch, self.norm)
        return batch, factor * batch.abs().amax(dim=(-2, -1), keepdim=True).sign()

    def annotate_batch_post(self, batch: Tensor, piggyback: Tensor, argdict: dict[str, Any]) -> Tensor:
        """Undo the normalisation."""
        return batch * piggyback

    async def annotate_async(self, stream: obspy.Stream, copy: bool = True, **kwargs: Any) -> obspy.Stream:
        """
        Denoise a stream, as SeisBench names and samples annotations. See :py:meth:`denoise` for the friendly form.

        Data are resampled by a simple fraction, to within 1 % of the model's rate (unless they are that near), and
        filtered to its band. The output has samples where the channel has (with `strict`, all components), and nowhere
        else: gaps stay gaps, and missing components missing. Where a channel is constant for a second or more, it has
        no signal, and the output is zero. :py:mod:`.records` says why this replaces SeisBench's own pipeline: its
        `annotate_stream_pre`, `annotate_stream_validate`, `group_stream` and `stream_to_array` are not called.

        :param stream: Stream of any number of instruments; it is never modified
        :param copy: Without effect
        :param kwargs: See the arguments of the class
        :return: Traces with the channel codes "CDiffSD_" + channel, one for each contiguous stretch of a channel
        :raises ValueError: If an argument is out of its range, or the model is not in single precision
        :raises FloatingPointError: If the model returns NaN or infinite samples
        """
        self._verify_argdict(kwargs)
        batches = self._batches(stream, options := self.options(**kwargs))
        output = obspy.Stream()
        with self._evaluation(self):
            # a thread keeps the event loop free, for one batch at a time
            while (finished := await asyncio.to_thread(next, batches, None)) is not None:
                for record, estimate in finished:
                    output += record.traces(estimate, f"{self.name}_", options)
        return output

    def classify_aggregate(self, annotations: obspy.Stream, argdict: dict[str, Any]) -> ClassifyOutput:
        """There is nothing to classify: the output has the stream, under its own channel codes, as `denoised`."""
        for trace in annotations:
            trace.stats.channel = trace.stats.channel.removeprefix(f"{self.name}_")
        return ClassifyOutput(self.name, denoised=annotations)

    def denoise(
        self, stream: obspy.Stream, return_noise: bool = False, **kwargs: Any
    ) -> obspy.Stream | tuple[obspy.Stream, obspy.Stream]:
        """
        Denoise a stream: the same traces, with the same ids, sampling rates, start times and lengths.

        :param stream: Stream of any number of instruments; it is not modified
        :param return_noise: Return what was removed too: signal + noise is the input, in the samples that are returned
        :param kwargs: As for :py:meth:`annotate`
        :return: One trace for each of the stream, in order, in double precision. Masked, NaN and infinite samples, with
            `strict` of any component, are masked. Traces without others, or of other components, are left out.
        :raises ValueError: If an argument is out of its range, or the model is not in single precision
        :raises FloatingPointError: If the model returns NaN or infinite samples
        """
        self._verify_argdict(kwargs)
        batches = self._batches(stream, options := self.options(**kwargs))
        with self._evaluation(self):
            estimates = samples_of_traces(stream, itertools.chain.from_iterable(batches))
        pairs = [(stream[i], x) for i, x in sorted(estimates.items()) if not np.isnan(x).all()]
        clean = obspy.Stream([with_samples(trace, x, options) for trace, x in pairs])
        if not return_noise:
            return clean
        return clean, obspy.Stream([with_samples(tr, np.ma.getdata(tr.data) - x, options) for tr, x in pairs])

    def options(self, **given: Any) -> Options:
        """Run-time arguments: those given, else the defaults of the weights, else those of the class; unchecked."""
        known = {**self.default_args, **given}
        return Options(**{x.name: known.get(x.name, self._annotate_args[x.name][1]) for x in fields(Options)})

    def _batches(self, stream: obspy.Stream, options: Options) -> Iterator[list[Estimate]]:
        """Work through a stream; each batch gives the records that it completes, and their estimates."""
        options.check(self.in_samples)
        sos, zerophase = design_filter(self.filter_args, self.filter_kwargs, self.sampling_rate)
        found = records(
            stream,
            self.sampling_rate,
            self.in_samples,
            order=self.component_order,
            flexible=options.flexible_horizontal_components,
            strict=options.strict,
            sos=sos,
            zerophase=zerophase,
            min_rate=self.min_sampling_rate,
        )
        cuts = self._cuts(found, options)
        batches = iter(lambda: list(itertools.islice(cuts, int(options.batch_size))), [])
        return (self._finish(batch, options) for batch in batches)

    def _cuts(self, found: Iterator[Record], options: Options) -> Iterator[Cut]:
        for record in found:
            overlap = options.samples(self.in_samples)
            windows = Windows(record.data, self.in_samples, overlap, options.sides, options.stacking, record.origin)
            for offset in windows.offsets:
                yield record, windows, offset

    def _finish(self, batch: list[Cut], options: Options) -> list[Estimate]:
        """Denoise a batch of windows, and give the records that it completes."""
        cut = torch.from_numpy(np.stack([windows.cut(offset) for _, windows, offset in batch]))
        clean, trust = self._restore(cut, options.steps)
        if trust is not None:  # stacked as another row
            clean = torch.cat([clean, trust[:, None].expand(-1, 1, clean.shape[-1])], dim=1)
        finished = []
        for (record, windows, offset), estimate in zip(batch, clean.cpu().numpy(), strict=True):
            windows.add(offset, estimate)
            if windows.complete:
                left = self._with_noise(record, windows.stacked(), options)
                finished.append((record, np.multiply(left, record.alive, out=left)))  # what was filled in is no signal
        return finished

    def _with_noise(self, record: Record, stacked: NDArray[np.float32], options: Options) -> NDArray[np.float32]:
        """The noise that stays put into an estimate: `stacked`, without the row of trust that it may end with."""
        clean, trust = np.split(stacked, [len(record.data)])
        if not options.leave_noise:
            return clean
        left = leave_noise(
            noisy=torch.from_numpy(record.data)[None],
            clean=torch.from_numpy(clean)[None],
            floor=options.noise_floor,
            margin=options.noise_margin,
            rate=self.sampling_rate,
            origin=record.origin,
            trust=torch.from_numpy(trust) if len(trust) else None,
        )
        return left[0].numpy()

    @torch.no_grad()
    def restore(
        self, batch: Tensor, steps: int | None = None, noise_floor: float = 0.0, noise_margin: float = math.inf
    ) -> Tensor:
        """
        Denoise windows in the band of the model; by default, unlike :py:meth:`denoise`, no noise is left in them.

        :param batch: Windows (batch, 3, samples), filtered, of any amplitude
        :param steps: Number of steps; by default as :py:meth:`denoise`
        :param noise_floor: See :py:func:`.noise_left.leave_noise`
        :param noise_margin: Likewise
        :return: Denoised windows of the same shape
        :raises ValueError: If the model is not in single precision, or `batch` not of finite samples in this shape
        :raises FloatingPointError: If the model returns NaN or infinite samples
        """
        if batch.dim() != 3 or batch.shape[1] != 3:
            raise ValueError(f"Windows must be (batch, 3, samples), not {tuple(batch.shape)}.")
        clean, trust = self._restore(batch, self.options().steps if steps is None else steps)
        return leave_noise(batch.to(clean), clean, noise_floor, noise_margin, rate=self.sampling_rate, trust=trust)

    @torch.no_grad()
    def _restore(self, batch: Tensor, steps: int) -> tuple[Tensor, Tensor | None]:
        """Estimates of windows, and how far to trust them, (batch, 1), if the network tells."""
        if self.dtype != torch.float32:
            raise ValueError(f"The model is in {self.dtype}: call .float() first.")
        batch = batch.to(self.device, torch.float32)
        if not batch.isfinite().all():
            raise ValueError("The windows hold samples that are NaN or infinite: fill them, or use annotate.")
        parts, which = parted(batch, max(round(self.sampling_rate), 1))
        noisy, factor = self.annotate_batch_pre(parts, {})
        denoise = OddsRecorder(self.with_log_odds)
        clean = diffusion.sample(denoise, noisy, get_schedule(self.schedule), steps)
        if not all(x.isfinite().all() for x in (clean, *denoise.log_odds)):  # NaN would pass for missing samples
            raise FloatingPointError("The model returned NaN or infinite samples; its weights may be damaged.")
        clean, trust = rejoined(self.annotate_batch_post(clean, factor, {}), which), denoise.trust()
        if trust is not None:  # of a window that was denoised in parts, the most trusted one counts
            trust = trust[: len(clean)].scatter_reduce(0, which, trust[len(clean) :], "amax")[:, None]
        return clean, trust

    @property
    def min_sampling_rate(self) -> float:
        """Channels at this sampling rate in Hz, or a lower one, are skipped: they have nothing in the band."""
        return min_sampling_rate(self.filter_args, self.filter_kwargs, self.sampling_rate)

    def get_model_args(self) -> dict[str, Any]:
        """All arguments of the constructor."""
        names = ("schedule", "in_samples", "sampling_rate", "component_order", "norm", "filter_args", "filter_kwargs")
        return {"network": self.network_name, **{name: getattr(self, name) for name in (*names, "presence")}}
