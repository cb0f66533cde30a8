"""The careful way to denoise a stream: any SeisBench denoiser, any stream, no sample lost or invented.

SeisBench's own ``annotate`` is made for characteristic functions. It skips fragments shorter than a window, rings at
gaps and at the ends of records, fills missing samples with zeros, and returns traces at the rate of the model. Here an
instrument becomes a record without gaps, by :py:mod:`.streams`; the model sees windows of it, by its own
``annotate_batch_pre``, ``forward`` and ``annotate_batch_post``; and each trace of the input gets its samples back.
"""

import hashlib
import itertools
import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from obspy import Stream, UTCDateTime
from scipy.special import expit
from seisbench.models import WaveformModel
from torch import Tensor

import seisbench_cdiffsd
from seisbench_cdiffsd.streams import filtering
from seisbench_cdiffsd.streams.amplitudes import parted, rejoined
from seisbench_cdiffsd.streams.records import FILLED, Record, records, samples_of_traces, with_samples
from seisbench_cdiffsd.streams.windows import Windows

#: The share of the removed noise that stays, by purpose: pickers take for a phase what emerges from silence.
DRY = {"picking": 0.2, "waveforms": 0.0}
#: How far a sample depends on its surroundings, in windows: a window, the filling of a gap in it, the samples mirrored
#: for that, and the memory of the filter.
WINDOWS_AROUND = 2 + 2 * FILLED
#: By how many dB a second the noise that stays fades away from possible earthquakes, and how many seconds it reaches.
FADE, REACH = 0.2, 300.0
#: Times of the first and the last sample of a stretch, and how probable an earthquake is there.
Span = tuple[UTCDateTime, UTCDateTime, float]
#: Modules, beside those of :py:mod:`.streams`, that what a model returns depends on.
CODE = ("cdiffsd.py", "published.py", "denoising.py")
#: Arguments of :py:func:`denoise` beside those of the model, and what they are by default.
OPTIONS = dict(overlap=0.5, batch_size=32, strict=False, flexible_horizontal_components=True, components=None)


def denoise(
    stream: Stream,
    model: WaveformModel | None = None,
    purpose: str = "picking",
    dry: float | None = None,
    return_noise: bool = False,
    **options: Any,
) -> Stream | tuple[Stream, Stream]:
    """
    Denoise a stream: the same traces, with the same ids, sampling rates, start times and lengths.

    Components of one instrument are denoised together; any of them may be missing. What lies outside the band of the
    model counts as noise. Gaps stay gaps. Stretches of a second or more in which a channel is constant, such as gaps
    filled with zeros, become zeros. Where no window takes a record for an earthquake, see the argument ``silence`` of
    CDiffSD, only the share of the noise is left, and it fades to silence over five minutes. A component, a spike or a
    step that is far louder than the rest of a window is denoised apart.

    :param stream: Traces of any number of instruments and rates; unchanged
    :param model: CDiffSD, DeepDenoiser or SeisDAE; CDiffSD with its default weights if None
    :param purpose: "picking" leaves a fifth of the removed noise in, "waveforms" none
    :param dry: This share, at least 0 and below 1, instead of that of the purpose
    :param return_noise: Return what was removed as well: both together are the input
    :param options: Arguments of the model, such as ``steps``; and ``overlap`` of windows (0.5), ``batch_size`` (32),
        ``strict`` (return only samples that all components have), ``flexible_horizontal_components`` (take components
        1 and 2 for N and E), and ``components``, names of unusual ones: ``{"UD": "Z", "NS": "N", "EW": "E"}``
    :return: One trace for each of the stream, in order, in double precision; masked, NaN and infinite samples are
        masked. Traces without others, and of other components, are left out, and SeisBench's logger names them. If the
        weights tell where there may be an earthquake, ``stats.earthquakes`` has stretches of it: the times of the first
        and the last sample, and the probability, from the mean of the log odds of all windows that cover the stretch
    :raises TypeError: If `stream` is not a stream
    :raises ValueError: If an argument is out of its range, or the model is not in single precision
    :raises FloatingPointError: If the model returns NaN or infinite samples
    """
    if model is None:
        model = default_model()
    arguments = _arguments(model, purpose, dry, options)
    spans: dict[int, list[Span]] = {}
    with _evaluating(model):
        estimates = samples_of_traces(stream, _estimates(model, stream, arguments, spans))
    note = {"model": model.name, **{key: arguments[key] for key in sorted({"steps", "dry", *options} & {*arguments})}}
    kept = [(i, stream[i], x) for i, x in sorted(estimates.items()) if not np.isnan(x).all()]
    clean = Stream([with_samples(trace, x, note) for _, trace, x in kept])
    for trace, (i, _, _) in zip(clean, kept, strict=True):
        if i in spans:
            trace.stats.earthquakes = spans[i]
    if not return_noise:
        return clean
    return clean, Stream([with_samples(trace, np.ma.getdata(trace.data) - x, note) for _, trace, x in kept])


@cache
def default_model() -> WaveformModel:
    """CDiffSD with its default weights."""
    return seisbench_cdiffsd.CDiffSD.from_pretrained()


def _arguments(model: WaveformModel, purpose: str, dry: float | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Checked arguments of the model and of this module, those that are given first."""
    if purpose not in [*DRY]:
        raise ValueError(f"purpose must be {' or '.join(DRY)}, not {purpose!r}.")
    model._verify_argdict({key: value for key, value in options.items() if key not in OPTIONS})
    arguments = {**OPTIONS, **model.default_args, "blinding": (0, 0), "stacking": "avg", **options}
    arguments["dry"] = dry = dry_of(model, purpose) if dry is None else dry
    size, overlap = arguments["batch_size"], arguments["overlap"]
    for name in ("strict", "flexible_horizontal_components"):
        if arguments[name] not in (True, False):  # any text would be true
            raise ValueError(f"{name} must be True or False, not {arguments[name]!r}.")
    if hasattr(model, "check"):
        model.check({key: value for key, value in arguments.items() if key != "components"})
    elif not (isinstance(dry, Real) and 0 <= dry < 1):
        raise ValueError(f"dry must be a share, at least 0 and below 1, not {dry!r}.")
    elif not (
        isinstance(size, Integral) and size >= 1 and isinstance(overlap, Real) and 0 <= overlap < model.in_samples
    ):
        raise ValueError(f"overlap must be below a window of {model.in_samples} samples, and batch_size at least 1.")
    return arguments


def dry_of(model: WaveformModel, purpose: str) -> float:
    """The share of the removed noise that stays; for picking, weights may have one of their own."""
    return model.default_args.get("dry", DRY[purpose]) if purpose == "picking" else DRY[purpose]


def resolved(model: WaveformModel, purpose: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The number of steps and the dry share that a call with these arguments has, to note what output was made with."""
    steps = model._argdict_get_with_default(model.default_args, "steps")
    return {"steps": steps, "dry": dry_of(model, purpose), **given}


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _estimates(
    model: WaveformModel, stream: Stream, arguments: dict[str, Any], spans: dict[int, list[Span]]
) -> Iterator[tuple[Record, NDArray[np.float32]]]:
    """
    The records of a stream, and their estimates (component, samples), as batches of windows complete them. By trace,
    `spans` gets the times in which there may be an earthquake, if the model tells.
    """
    rate, window = model.sampling_rate, model.in_samples
    sos, zerophase = filtering.design_filter(model.filter_args, model.filter_kwargs, rate)
    found = records(
        stream,
        rate,
        window,
        order=model.component_order or "ZNE",
        flexible=arguments["flexible_horizontal_components"],
        strict=arguments["strict"],
        sos=sos,
        zerophase=zerophase,
        min_rate=min_sampling_rate(model),
        names=arguments["components"],
    )
    overlap = int(model._get_overlap(window, arguments))

    def cuts() -> Iterator[tuple[Record, Windows, int]]:
        for record in found:
            windows = Windows(record.data, window, overlap, record.origin)
            for offset in windows.offsets:
                yield record, windows, offset

    left, least = cuts(), least_probability(model, arguments)
    while batch := list(itertools.islice(left, int(arguments["batch_size"]))):
        cut = torch.from_numpy(np.stack([windows.cut(offset) for _, windows, offset in batch]))
        estimates, probable = (x.cpu().numpy() for x in estimated(model, cut, arguments))
        for (record, windows, offset), estimate, probability in zip(batch, estimates, probable, strict=True):
            windows.add(offset, estimate, probability, least)
            if not windows.left:
                if tells(model):
                    for source, own in _spans(record, windows):
                        spans[source] = spans.get(source, []) + own
                clean = windows.stacked()
                dry = float(arguments["dry"]) * loudness(windows.found, rate)
                clean = windows.found * clean + dry * (record.data - clean)
                yield record, np.multiply(clean, record.alive, out=clean)  # what was filled in is no signal


def _spans(record: Record, windows: Windows) -> Iterator[tuple[int, list[Span]]]:
    """For each trace of a record, by its position, the stretches of it in which there may be an earthquake."""
    step = 1 / (record.rate * float(record.ratio))
    spans = [
        (record.begin + first * step, record.begin + (stop - 1) * step, float(expit(log_odds)))
        for first, stop, log_odds in windows.stretches()
        if windows.found[first]
    ]
    times = defaultdict[int, list[UTCDateTime]](list)
    for piece, _ in itertools.chain(*record.pieces):
        times[piece.source] += [piece.start, piece.start + (len(piece.values) - 1) / record.rate]
    for source, own in times.items():
        i = bisect_left(spans, min(own), key=lambda span: span[1])
        yield source, spans[i : bisect_right(spans, max(own), key=lambda span: span[0])]


def restore(model: WaveformModel, windows: Tensor, arguments: dict[str, Any]) -> Tensor:
    """
    Denoise windows, each by itself, as :py:func:`denoise` does a record of one window: without an earthquake, silence.

    :param windows: As for :py:func:`estimated`, which has the errors as well
    :param arguments: Arguments of the model; ``dry``, the share of the removed noise that stays, is taken for any model
    :return: Denoised windows in the same shape
    """
    clean, probability = estimated(model, windows, arguments)
    found = probability >= least_probability(model, arguments)
    return found[:, None, None] * (clean + arguments.get("dry", 0.0) * (windows.to(clean) - clean))


def loudness(found: NDArray[np.bool_], rate: float) -> NDArray[np.float32]:
    """
    Gain of the noise that stays, (samples,): 1 where there may be an earthquake, and from there on FADE dB a second
    less, to silence REACH seconds away. Pickers take for a phase what ends silence sooner.

    :param found: Where there may be an earthquake, (samples,)
    :param rate: Sampling rate in Hz
    """
    place, far = np.arange(len(found), dtype=np.int32), np.int32(2**30)
    before = place - np.maximum.accumulate(np.where(found, place, -far // 2))
    after = np.minimum.accumulate(np.where(found, place, far)[::-1])[::-1] - place
    away = np.minimum(before, after) / np.float32(rate)
    return np.where(away < REACH, 10 ** (-FADE / 20 * away.clip(max=REACH)), 0).astype(np.float32)


def tells(model: WaveformModel) -> bool:
    """Whether a model tells where there may be an earthquake."""
    return bool(getattr(model, "presence", False))


def least_probability(model: WaveformModel, arguments: Mapping[str, Any]) -> float:
    """The probability of an earthquake below which none is left."""
    return float(model._argdict_get_with_default(arguments, "silence")) if tells(model) else 0.0


@torch.no_grad()
def estimated(model: WaveformModel, windows: Tensor, arguments: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """
    Estimates of earthquakes in windows, as SeisBench makes those of a batch,
    ``annotate_batch_post(forward(annotate_batch_pre(x)))``.

    :param model: A denoiser of instruments, as CDiffSD, or of channels, as DeepDenoiser and SeisDAE
    :param windows: Windows (batch, 3, samples) at the rate and in the band of the model, of any amplitude
    :param arguments: Arguments of the model
    :return: Estimates in the same shape, with no noise left in, and probabilities of an earthquake, (batch,), 1 if the
        model tells none
    :raises ValueError: If `windows` have another shape, or samples that are NaN or infinite
    :raises FloatingPointError: If the model returns NaN or infinite samples
    """
    if windows.dim() != 3 or windows.shape[1] != 3:
        raise ValueError(f"Windows must be (batch, 3, samples), not {tuple(windows.shape)}.")
    if not windows.isfinite().all():
        raise ValueError("The windows hold samples that are NaN or infinite: fill them, or use denoise.")
    windows = windows.to(model.device, torch.float32)
    parts, which = parted(windows, max(round(model.sampling_rate), 1))
    probability = torch.ones(len(parts), device=parts.device)
    arguments = {**arguments, "dry": 0.0}
    if model._grouping.grouping == "channel":
        clean = _by_channel(model, parts, arguments)
    else:
        least = least_probability(model, arguments)  # a part below it is removed here, a window by the caller
        if tells(model):
            arguments |= {"silence": 0.0, "detection": True}
        seen, piggyback = model.annotate_batch_pre(parts, arguments)
        clean = model.annotate_batch_post(model(seen), piggyback, arguments).transpose(1, 2)
        if tells(model):
            probability = clean[:, 3, 0]
            clean = clean[:, :3]
            clean[len(windows) :] *= (probability[len(windows) :] >= least)[:, None, None]
    if not clean.isfinite().all():  # NaN would pass for missing samples
        raise FloatingPointError("The model returned NaN or infinite samples; its weights may be damaged.")
    count = len(windows)
    return rejoined(clean, which), probability[:count].scatter_reduce(0, which, probability[count:], "amax")


def _by_channel(model: WaveformModel, windows: Tensor, arguments: dict[str, Any]) -> Tensor:
    """Channels that are not silent, one by one where a model mixes those of a batch, as SeisDAE does."""
    channels = windows.reshape(-1, windows.shape[-1])
    clean, living = torch.zeros_like(channels), torch.nonzero(channels.any(-1))[:, 0]
    for batch in living.split(1 if type(model).__name__ == "SeisDAE" else max(len(living), 1)):
        peak = channels[batch].abs().amax(-1, keepdim=True)
        seen, piggyback = model.annotate_batch_pre(channels[batch] / peak, arguments)
        clean[batch] = peak * model.annotate_batch_post(model(seen), piggyback, arguments)[..., : windows.shape[-1]]
    return clean.view(windows.shape)


def min_sampling_rate(model: WaveformModel) -> float:
    """Channels at this sampling rate in Hz, or a lower one, have nothing in the band of a model."""
    return filtering.min_sampling_rate(model.filter_args, model.filter_kwargs, model.sampling_rate)


def margin(model: WaveformModel) -> float:
    """How far a denoised sample depends on its surroundings, in seconds."""
    return WINDOWS_AROUND * model.in_samples / model.sampling_rate + tells(model) * REACH


def check_pieces(model: WaveformModel, **options: Any) -> None:
    """
    Check that a model, with these arguments and else its own, can denoise long records piece by piece.

    :raises ValueError: If an argument is out of its range, or its filter has no lower corner, so that each sample
        depends on the mean of the whole record
    :raises FloatingPointError: If a parameter is NaN or infinite
    """
    _arguments(model, "picking", options.pop("dry", None), options)
    filtering.design_filter(model.filter_args, model.filter_kwargs, model.sampling_rate)
    if not filtering.has_lower_corner(model.filter_args):
        raise ValueError(
            f"A model with filter_args {model.filter_args!r} needs the mean of a whole record, and is not for pieces: "
            "call denoise, or use weights with a bandpass or highpass."
        )


def fingerprint(model: WaveformModel) -> str:
    """A hash of all that the output of a model depends on: its parameters, its arguments, and the code."""
    package = Path(__file__).parent
    total = hashlib.sha256(json.dumps([parameters(model), model.get_model_args()], default=str).encode())
    for file in (*sorted(package.glob("streams/*.py")), *map(package.joinpath, CODE)):
        total.update(file.read_bytes())
    return total.hexdigest()


def parameters(model: WaveformModel) -> str:
    """A hash of the parameters of a model, and of its own arguments of a call."""
    total = hashlib.sha256(json.dumps(model.default_args, default=str, sort_keys=True).encode())
    for name, values in model.state_dict().items():
        total.update(name.encode() + np.ascontiguousarray(values.cpu().numpy()).tobytes())
    return total.hexdigest()[:16]
