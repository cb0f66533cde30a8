"""Phase picks before and after denoising, by a SeisBench picker.

How one window is picked
    A picker sees a window of fixed length (PhaseNet 3001 samples, EQTransformer 6000) and by default discards its
    predictions near the edges of it ("blinding"), since the next window covers them. A record that fits into one
    window has no next window: its mean is removed, its missing end is filled with zeros, and nothing is discarded. If
    more than a second is missing, it is tapered over a second at both ends, without which EQTransformer misses many
    phases in windows of 30 s. Longer records are cut into overlapping windows, blinded and stacked as SeisBench does by
    default. Gaps of up to a second, and those inside of one window, are bridged by straight lines; what lies on both
    sides of others is picked by itself.

Picks are rows of a data frame with the columns ``record``, ``phase``, ``time`` and ``probability``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import seisbench.models as sbm
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime
from seisbench import logger
from seisbench.models import WaveformModel
from seisbench.util import Pick, PickList

from seisbench_cdiffsd.denoising import denoise
from seisbench_cdiffsd.streams.components import Component, assign
from seisbench_cdiffsd.streams.pieces import LARGEST
from seisbench_cdiffsd.weights import UNREADABLE

#: Longest gap in seconds that is always bridged.
BRIDGED = 1.0
#: A record that is shorter than the window of the picker by more than so many seconds is tapered over as many.
TAPER = 1.0
#: Sampling rates in Hz of records that are picked, and the relative difference of two that are the same.
RATES, SAME_RATE = (1.0, 1e6), 1e-4
#: Columns of a table of picks.
PICK_COLUMNS = ["record", "phase", "time", "probability"]
#: Least probabilities of picks on a record and on the same denoised, by picker and phase, at which both together are
#: false so many times an hour with the default weights: by ``python benchmarks/thresholds.py``.
THRESHOLDS: dict[str, dict[str, dict[float, tuple[float, float]]]] = {
    "PhaseNet": {
        "P": {1: (0.671, 0.887), 2: (0.553, 0.837), 5: (0.45, 0.787), 10: (0.358, 0.735)},
        "S": {1: (0.444, 0.784), 2: (0.38, 0.748), 5: (0.262, 0.669), 10: (0.169, 0.587)},
    },
    "EQTransformer": {
        "P": {1: (0.681, 0.891), 2: (0.45, 0.787), 5: (0.048, 0.403), 10: (0.01, 0.185)},
        "S": {1: (0.437, 0.78), 2: (0.24, 0.652), 5: (0.018, 0.301), 10: (0.01, 0.226)},
    },
}
#: Picks of a phase before and after denoising are one if they are no further apart, in seconds.
SAME_PICK = 0.2
#: Where a table of picks has the instruments that were not picked, and why, in its ``attrs``.
NOT_PICKED = "not picked"


class WeightsUnavailable(RuntimeError):
    """Weights are not on this machine, or could not be downloaded or loaded."""


class WeightsMissing(WeightsUnavailable):
    """Weights that are not on this machine, and may be downloaded."""


def load_picker(name: str = "PhaseNet", weights: str = "original", download: bool = False) -> WaveformModel:
    """
    A pretrained picker of SeisBench, or another model. Without `download`, only SeisBench's cache is searched.

    :param name: Class in ``seisbench.models``, such as "PhaseNet" or "EQTransformer"
    :raises ValueError: If SeisBench has no model of this name
    :raises WeightsMissing: If the weights are not in the cache, and are not to be downloaded
    :raises WeightsUnavailable: If they could not be downloaded, or are damaged
    """
    kind: Any = getattr(sbm, name, None)
    known = isinstance(kind, type) and issubclass(kind, WaveformModel)
    if not known:
        raise ValueError(f"SeisBench has no model {name!r}. Use one such as PhaseNet or EQTransformer.")
    versions = kind.list_versions(weights, remote=False)
    cached = bool(versions) and all(kind._pretrained_path(weights, version)[0].is_file() for version in versions)
    if not (cached or download):
        raise WeightsMissing(
            f"The {name} weights {weights!r} are not in SeisBench's cache. With a network, get them once with "
            f"seisbench.models.{name}.from_pretrained({weights!r})."
        )
    try:
        return kind.from_pretrained(weights)
    except UNREADABLE as error:
        failed = "downloaded (is there a network, and such weights?)"
        failed = "loaded from SeisBench's cache: delete them there" if cached else failed
        raise WeightsUnavailable(f"The {name} weights {weights!r} could not be {failed}.") from error


class JointPick(Pick):
    """
    A SeisBench pick with its probabilities before and after denoising: ``raw`` and ``denoised``, NaN where it is below
    the threshold. Its time is that of the more probable one; ``instrument`` is the channel id without the component.
    """

    def __init__(self, instrument: str, phase: str, time: UTCDateTime, raw: float, denoised: float) -> None:
        probability = float(np.nanmax([raw, denoised]))
        super().__init__(instrument.rpartition(".")[0], time, time, time, peak_value=probability, phase=phase)
        self.instrument, self.raw, self.denoised = instrument, raw, denoised


def pick(
    stream: Stream,
    picker: str | WaveformModel = "PhaseNet",
    weights: str = "original",
    model: WaveformModel | None = None,
    rate: float = 1,
    threshold: float | None = None,
    components: Mapping[str, str] | None = None,
) -> PickList:
    """
    Pick phases on a stream and on what denoising makes of it. Two picks of a phase that are within 0.2 s of each other
    are one. What is found at which rate of false picks, against either alone, is in ``benchmarks/README.md``.

    :param stream: Records, left unchanged
    :param picker: A SeisBench picker, or the name of its class; then its weights are downloaded if need be
    :param weights: Name of its weights
    :param model: Denoiser, CDiffSD with its default weights if None
    :param rate: How many false picks of each phase a station may make in an hour: 1 to 10. It sets the thresholds,
        which are known for the default denoiser and the weights "original" of PhaseNet and EQTransformer
    :param threshold: Least probability, between 0 and 1, instead of the rate
    :param components: Names of unusual components, as ``{"UD": "Z"}``
    :return: Picks in order of time, each a :py:class:`JointPick`
    :raises TypeError: If `stream` is not a stream
    :raises ValueError: If an argument is out of range, or no thresholds are known for the rate
    :raises WeightsUnavailable: If weights of the picker can be neither found nor downloaded
    """
    if threshold is None:
        known = THRESHOLDS.get(picker) if isinstance(picker, str) and weights == "original" and model is None else None
        least = _thresholds(known, rate)
    elif isinstance(threshold, Real) and 0 < threshold < 1:
        least = 2 * [{"P_threshold": threshold, "S_threshold": threshold}]
    else:
        raise ValueError(f"threshold must be a probability, above 0 and below 1, not {threshold!r}.")
    if isinstance(picker, str):
        picker = load_picker(picker, weights, download=True)
    both = stream, denoise(stream, model, components=components)
    raw, denoised = (pick_stream(picker, x, components, **y) for x, y in zip(both, least, strict=True))
    for instrument, reason in raw.attrs[NOT_PICKED].items():
        logger.warning(f"{instrument} is not picked: {reason}")
    return _joint(raw, denoised)


def _thresholds(known: dict[str, dict[float, tuple[float, float]]] | None, rate: float) -> list[dict[str, float]]:
    """Thresholds on a record and on the same denoised, between those of the rates that were measured."""
    if known is None:
        raise ValueError(
            f"How probable picks must be for a rate is known for the default denoiser and the weights 'original' of "
            f"{' and '.join(THRESHOLDS)}: give a threshold, such as threshold=0.5."
        )
    rates = [*known["P"]]
    if not (isinstance(rate, Real) and rates[0] <= rate <= rates[-1]):
        raise ValueError(f"rate must be {rates[0]:g} to {rates[-1]:g} false picks an hour, not {rate!r}.")

    def between(values: Iterable[float]) -> float:
        return float(np.interp(np.log(rate), np.log(rates), [*values]))

    return [{f"{x}_threshold": between(pair[on] for pair in known[x].values()) for x in known} for on in (0, 1)]


def _joint(raw: pd.DataFrame, denoised: pd.DataFrame) -> PickList:
    """The picks on a record and on the same denoised; two neighbours of which one is on either are one pick."""
    halves = [(row, "raw", "denoised") for row in raw.itertuples()]
    halves += [(row, "denoised", "raw") for row in denoised.itertuples()]
    found: dict[tuple[str, str], list[JointPick]] = defaultdict(list)
    for row, on, other in sorted(halves, key=lambda x: (x[0].time, x[1])):
        picks, time, probability = found[row.record, row.phase], row.time, {on: row.probability, other: np.nan}
        last = picks[-1] if picks else None
        if last and time - last.peak_time <= SAME_PICK and np.isnan(getattr(last, on)):
            probability[other] = picks.pop().peak_value
            time = time if probability[on] > probability[other] else last.peak_time
        picks.append(JointPick(row.record, row.phase, time, **probability))
    return PickList(
        sorted((pick for picks in found.values() for pick in picks), key=lambda x: (x.peak_time, x.trace_id))
    )


def pick_stream(
    picker: WaveformModel, stream: Stream, names: Mapping[str, str] | None = None, **kwargs: float
) -> pd.DataFrame:
    """
    Picks on a stream, instrument by instrument (channels that differ in their component only).

    :param picker: A SeisBench picker
    :param stream: Records, left unchanged; samples that are masked, NaN or infinite are gaps
    :param names: Components of channels with other codes, as :py:func:`~seisbench_cdiffsd.streams.components.assign`
        takes them
    :param kwargs: Passed to the picker, such as ``P_threshold=0.3``
    :return: Picks in order of time; ``record`` is the channel id without the component, ``time`` a UTCDateTime.
        ``attrs["not picked"]`` has the instruments that could not be picked, each with a reason
    """
    components = assign((trace.id for trace in stream), names)
    instruments: dict[str, list[tuple[str, Trace, NDArray[np.int64]]]] = defaultdict(list)
    for trace in stream:
        component = components.get(trace.id, Component(trace.id, ""))
        instruments[component.instrument].append((component.letter, trace, _samples(trace)))
    rows, reasons = [], {}
    for instrument, members in sorted(instruments.items()):
        living = [member for member in members if len(member[2])]
        rates = sorted({trace.stats.sampling_rate for _, trace, _ in living})
        usable = [member for member in living if RATES[0] <= member[1].stats.sampling_rate <= RATES[1]]
        if not members[0][0]:
            reasons[instrument] = "it has none of the components Z, N, E, 1 and 2"
        elif not usable:
            at = f"it is sampled at {', '.join(f'{rate:g}' for rate in rates)} Hz"
            reasons[instrument] = at if rates else "it has no samples"
        for part in _stretches(picker, usable) if instrument not in reasons else ():
            found = classify(picker, part, [kwargs])
            if found is None:
                reasons[instrument] = f"{picker.name} uses none of its components"
            else:
                rows += [(instrument, x.phase, x.peak_time, float(x.peak_value)) for x in found[0]]
    picks = pd.DataFrame(sorted(rows, key=lambda row: row[2]), columns=PICK_COLUMNS)
    picks.attrs[NOT_PICKED] = reasons
    return picks


def _samples(trace: Trace) -> NDArray[np.int64]:
    if trace.data.dtype.kind not in "iufb":
        return np.zeros(0, np.int64)
    values = np.abs(np.ma.getdata(trace.data).astype(np.float64))
    return np.flatnonzero((values < LARGEST) & ~np.ma.getmaskarray(trace.data))


def _stretches(picker: WaveformModel, members: Sequence[tuple[str, Trace, NDArray[np.int64]]]) -> list[Stream]:
    """Copies of the components of one instrument without gaps, in stretches that are picked by themselves."""
    pieces, length = [], (picker.in_samples - 1) / picker.sampling_rate
    for letter, trace, there in members:
        # one type and scale, since ObsPy merges no others, and codes that no data can spoil
        rate = trace.stats.sampling_rate
        header = {"channel": f"HH{letter}", "sampling_rate": rate}
        for run in np.split(there, np.flatnonzero(np.diff(there) > BRIDGED * rate + 1) + 1):
            values = np.interp(np.arange(run[0], run[-1] + 1), run, np.ma.getdata(trace.data)[run].astype(np.float64))
            pieces.append(Trace(values, {**header, "starttime": trace.stats.starttime + run[0] / rate}))
    stretches: list[Stream] = []
    end = UTCDateTime(0)
    for piece in sorted(pieces, key=lambda piece: piece.stats.starttime):
        first = (stretches[-1] if stretches else [piece])[0].stats
        same = abs(piece.stats.sampling_rate - first.sampling_rate) <= SAME_RATE * first.sampling_rate
        near = piece.stats.starttime - end <= BRIDGED or piece.stats.endtime - first.starttime <= length
        if stretches and same and near:
            piece.stats.sampling_rate, end = first.sampling_rate, max(end, piece.stats.endtime)
            stretches[-1].append(piece)
        else:
            stretches.append(Stream([piece]))
            end = piece.stats.endtime
    return [stretch.merge(method=1, fill_value="interpolate") for stretch in stretches]


def classify(picker: WaveformModel, stream: Stream, options: Sequence[dict[str, float]]) -> list[list] | None:
    """
    Picks on traces without gaps, which are changed, for each of some options, which must differ in thresholds only:
    as SeisBench's ``classify``, except for records of one window, see the module. None if the picker made nothing of it
    """
    start, end = min(trace.stats.starttime for trace in stream), max(trace.stats.endtime for trace in stream)
    rate, kwargs = picker.sampling_rate, {**picker.default_args, **options[0]}
    alone = (end - start) * rate < picker.in_samples - 1e-6  # at the rate of the picker, it is no longer than a window
    if alone:
        kwargs = {**picker.default_args, "blinding": (0, 0), **options[0]}
        for trace in stream:
            trace.data = trace.data - trace.data.mean()
            if start + (picker.in_samples - 1) / rate - trace.stats.endtime > TAPER:
                trace.taper(max_percentage=0.5, type="hann", max_length=TAPER)
    picker.resample(stream, rate)
    for trace in stream if alone else ():
        missing = picker.in_samples - len(trace) - round((trace.stats.starttime - start) * rate)
        trace.data = np.pad(trace.data, (0, max(missing, 0)))
    annotations = picker.annotate(picker.classify_stream_pre(stream, kwargs), **kwargs)
    if not annotations:
        return None
    found = (picker.classify_aggregate(annotations, {**kwargs, **wanted}).picks for wanted in options)
    return [[pick for pick in picks if start <= pick.peak_time <= end] for picks in found]
