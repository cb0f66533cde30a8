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

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import seisbench.models as sbm
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime
from scipy.ndimage import maximum_filter1d
from scipy.special import logit
from seisbench import logger
from seisbench.models import WaveformModel
from seisbench.util import Pick, PickList

from seisbench_cdiffsd.denoising import default_model, denoise, parameters
from seisbench_cdiffsd.streams.components import Component, assign
from seisbench_cdiffsd.streams.pieces import HIGHEST_RATE, SAME_RATE, cut, is_usable
from seisbench_cdiffsd.weights import UNREADABLE

#: Longest gap in seconds that is always bridged.
BRIDGED = 1.0
#: A record that is shorter than the window of the picker by more than so many seconds is tapered over as many.
TAPER = 1.0
#: Records at a lower sampling rate in Hz are not picked.
SLOWEST = 1.0
#: Records that are shorter, in seconds, are not picked: pickers take their ends for phases.
SHORTEST = 5.0
#: The lowest rate in Hz at which thresholds hold: records at 20 Hz lack the high frequencies that P is known by.
LEAST_RATE = 40.0
#: Columns of a table of picks.
PICK_COLUMNS = ["record", "phase", "time", "probability"]
#: The denoiser of the thresholds: its name, and the hash of its parameters.
CALIBRATED = ("base, version 11", "324c0f951c3d6591")
#: Least probabilities of picks on a record and the same denoised, by picker, weights and phase, at which both together
#: are false so many times an hour, with this denoiser: by ``python benchmarks/thresholds.py``, as the line above.
THRESHOLDS: dict[str, dict[str, dict[float, float]]] = {
    "PhaseNet original": {
        "P": {1: 0.657, 2: 0.455, 5: 0.182, 10: 0.062},
        "S": {1: 0.243, 2: 0.13, 5: 0.053, 10: 0.03},
    },
    "EQTransformer original": {
        "P": {1: 0.143, 2: 0.046, 5: 0.011, 10: 0.01},
        "S": {1: 0.021, 2: 0.01, 5: 0.01, 10: 0.01},
    },
}
#: Picks of a phase before and after denoising are one if they are no further apart, in seconds.
SAME_PICK = 0.2
#: The phase whose probability is the mean of those on both records; that of others is the larger one, since they are
#: often hidden in the noise of one of them. S is less often, and false S are probable on one alone.
BY_MEAN = "S"
#: The odds of a pick are multiplied by those of an earthquake, relative to certain ones, to this power. The power is
#: that with most picks at 1 to 10 false ones an hour; what is certain, in log odds, is a matter of convenience
#: (``benchmarks/EXPERIMENTS.md``).
POWER, SURE = 0.3, 8.0
#: Between which probabilities those on both records weigh where the time of a pick is sought.
LOWEST, HIGHEST = 1e-3, 1 - 1e-6
#: What pickers tell beside phases.
NO_PHASE = ("N", "Noise", "Detection")
#: Seconds from a pick on in which its amplitude and its signal are taken, and before it its noise.
PHASE_SECONDS = 3.0
#: Windows that a picker sees at once: a third less time and memory than with SeisBench's 256, on a CPU.
BATCH_SIZE = 32
#: Columns of a table of picks on a record and on the same denoised, see :py:func:`pick_both`.
JOINT_COLUMNS = [*PICK_COLUMNS, "amplitude", "snr", "raw", "denoised", "source", "channel"]
#: Where a table of picks has the instruments that were not picked, and why, in its ``attrs``.
NOT_PICKED = "not picked"

#: The channels of an instrument, each with its component, which is empty if it has none.
Members = list[tuple[str, Trace]]


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
    """A SeisBench pick with the columns of :py:func:`pick_both` as attributes; `peak_value` is the probability."""

    def __init__(self, row: Any) -> None:
        time, station = row.time, row.record.rpartition(".")[0]
        super().__init__(station, time, time, time, peak_value=row.probability, phase=row.phase)
        self.instrument, self.raw, self.denoised, self.source = row.record, row.raw, row.denoised, row.source
        self.amplitude, self.snr, self.channel = row.amplitude, row.snr, row.channel


def pick(
    stream: Stream,
    picker: str | WaveformModel = "PhaseNet",
    weights: str = "original",
    model: WaveformModel | None = None,
    rate: float = 1,
    threshold: float | None = None,
    components: Mapping[str, str] | None = None,
    **options: Any,
) -> PickList:
    """
    Pick phases on a stream and on what denoising makes of it. The probability of a pick is the larger of those on both
    for P, and their mean for S, within 0.2 s; it is the lower, the less probable the denoiser takes an earthquake to be
    there, and where it leaves silence, nothing is picked. What is found at which rate of false picks, against either
    alone, is in ``benchmarks/README.md``.

    :param stream: Records, left unchanged
    :param picker: A SeisBench picker, or the name of its class; then its weights are downloaded if need be
    :param weights: Name of its weights
    :param model: Denoiser, CDiffSD with its default weights if None
    :param rate: How many false picks of each phase a station may make in an hour at most, 1 to 10. It sets the
        thresholds, which are known for the default denoiser and the weights "original" of PhaseNet and EQTransformer
    :param threshold: Least probability of both together, between 0 and 1, instead of the rate
    :param components: Names of unusual components, as ``{"UD": "Z"}``
    :param options: Passed to :py:func:`denoise`, such as ``silence=0``; rates hold without them, so give a threshold
    :return: Picks in order of time, each a :py:class:`JointPick`
    :raises TypeError: If `stream` is not a stream
    :raises ValueError: If an argument is out of range, or no thresholds are known for the rate
    :raises WeightsUnavailable: If weights of the picker can be neither found nor downloaded
    """
    model = model or default_model()
    least = thresholds(model, picker, weights, rate, threshold)
    if isinstance(picker, str):
        picker = load_picker(picker, weights, download=True)
    picks = pick_both(picker, stream, denoise(stream, model, components=components, **options), least, components)
    for instrument, reason in picks.attrs[NOT_PICKED].items():
        logger.warning(f"{instrument} is not picked: {reason}")
    slow = {trace.stats.sampling_rate for trace in stream if trace.stats.sampling_rate < LEAST_RATE}
    if slow and threshold is None:
        logger.warning(f"Records at {max(slow):g} Hz lack what P is known by, and have few picks: give a threshold.")
    return PickList(JointPick(row) for row in picks.itertuples())


def thresholds(
    model: WaveformModel, picker: str | WaveformModel, weights: str, rate: float = 1, threshold: float | None = None
) -> dict[str, float]:
    """
    Arguments of a picker: thresholds between those of the rates that were measured, or the given one. Parameters and
    errors are those of :py:func:`pick`.
    """
    if threshold is not None:
        if not (isinstance(threshold, Real) and 0 < threshold < 1):
            raise ValueError(f"threshold must be a probability, above 0 and below 1, not {threshold!r}.")
        return {"P_threshold": float(threshold), "S_threshold": float(threshold)}
    known = THRESHOLDS.get(f"{picker} {weights}") if isinstance(picker, str) else None
    if known is None or parameters(model) != CALIBRATED[1]:
        what = f"the picker {picker} {weights!r}" if known is None and isinstance(picker, str) else "this picker"
        raise ValueError(
            f"{'These weights of the denoiser are' if known else f'{what} is'} not calibrated: rates are known for "
            f"CDiffSD {CALIBRATED[0]}, with {' and '.join(THRESHOLDS)}. Give a threshold, such as 0.5."
        )
    rates = [*known["P"]]
    if not (isinstance(rate, Real) and rates[0] <= rate <= rates[-1]):
        raise ValueError(f"rate must be {rates[0]:g} to {rates[-1]:g} false picks an hour, not {rate!r}.")
    between = (float(np.interp(np.log(rate), np.log(rates), [*known[phase].values()])) for phase in known)
    return {f"{phase}_threshold": least for phase, least in zip(known, between, strict=True)}


def pick_both(
    picker: WaveformModel,
    stream: Stream,
    denoised: Stream,
    least: Mapping[str, float] | None = None,
    names: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """
    Picks on a stream and on the same denoised, instrument by instrument.

    :param picker: A SeisBench picker
    :param stream: Records, left unchanged
    :param denoised: The same traces, denoised
    :param least: Least probabilities, as the picker takes them, such as ``{"P_threshold": 0.3}``
    :param names: As in :py:func:`pick_stream`
    :return: Picks in order of time, with the columns of :py:func:`pick_stream`, of which ``probability`` is that of
        :py:func:`joined`, and

        - ``raw`` and ``denoised``, the highest probability within 0.2 s on either record, NaN if it was not picked;
        - ``source``, on which record it is above the threshold: "raw", "denoised" or "both". The time is that at which
          the product of their odds is largest;
        - ``amplitude``, the largest absolute sample of the denoised record in the 3 s from the pick on, in its units;
        - ``snr``, the mean power of the denoised record in these 3 s over that in the 3 s before, in dB. For P, both
          end at an earlier pick of S;
        - ``channel``, the id of Z for P and of the larger horizontal for S, or of what there is instead
    """
    kept, reasons, members = list[Any](), dict[str, str](), _instruments(denoised, names)
    _, usual = picker._annotate_args.get("*_threshold", ("", 0.3))
    given = {**picker.default_args, **(least or {})}
    for curve in joint_curves(picker, stream, denoised, names, reasons):
        threshold = given.get(f"{curve.phase}_threshold", usual)
        for pick in picker.picks_from_annotations(Stream([curve.joint]), threshold, curve.phase):
            time, raw, clean = curve.at(pick.peak_time)
            above = [name for name, value in (("raw", raw), ("denoised", clean)) if value >= threshold]
            source = above[0] if len(above) == 1 else "both"
            row = curve.instrument, curve.phase, time, float(pick.peak_value), raw, clean, source
            if kept and kept[-1][:2] == row[:2] and time - kept[-1][2] <= SAME_PICK:
                row = max(kept.pop(), row, key=lambda x: x[3])
            kept.append(row)
    kept.sort(key=lambda row: (row[2], row[:2]))
    onsets, rows = defaultdict[str, list[UTCDateTime]](list), []
    for instrument, phase, time, *_ in kept:
        onsets[instrument] += [time] if phase == "S" else []
    for instrument, phase, time, probability, *others in kept:
        end, later = time + PHASE_SECONDS, onsets[instrument]
        if phase == "P":
            end = min([end, *later[bisect_left(later, time) :][:1]])
        amplitude, snr, channel = _measured(members[instrument], phase, time, end)
        rows.append((instrument, phase, time, probability, amplitude, snr, *others, channel))
    picks = pd.DataFrame(rows, columns=JOINT_COLUMNS)
    picks.attrs[NOT_PICKED] = reasons
    return picks


@dataclass
class Curve:
    """Probabilities of a phase on both records of an instrument, (2, samples), and what both together make of it."""

    instrument: str
    phase: str
    both: NDArray[np.float32]
    joint: Trace

    def at(self, time: UTCDateTime) -> tuple[UTCDateTime, float, float]:
        """
        The time within 0.2 s of a time at which both records together have the largest odds, their product, and the
        probabilities within 0.2 s of it, NaN without any.
        """
        start, rate = self.joint.stats.starttime, self.joint.stats.sampling_rate
        near, place = round(SAME_PICK * rate), round((time - start) * rate)
        first = max(place - near, 0)
        probability = np.nan_to_num(self.both[:, first : place + near + 1]).astype(float).clip(LOWEST, HIGHEST)
        place = first + int(np.argmax(logit(probability).sum(axis=0)))
        raw, clean = np.fmax.reduce(self.both[:, max(place - near, 0) : place + near + 1], axis=1).tolist()
        return start + place / rate, raw, clean


def joint_curves(
    picker: WaveformModel,
    stream: Stream,
    denoised: Stream,
    names: Mapping[str, str] | None = None,
    reasons: dict[str, str] | None = None,
) -> Iterator[Curve]:
    """
    Probabilities of phases on a stream and on the same denoised, together; parameters are those of
    :py:func:`pick_both`.

    :param reasons: Gets the instruments of the stream that could not be picked, each with a reason
    :return: For each instrument and phase, a curve for each stretch without gaps
    """
    phases = [phase for phase in picker.labels or () if phase not in NO_PHASE]
    instruments = [_instruments(x, names) for x in (stream, denoised)]
    for instrument in sorted({*instruments[0], *instruments[1]}):
        found = [_picked(picker, x.get(instrument, []), {"batch_size": BATCH_SIZE}) for x in instruments]
        if found[0][2] and reasons is not None:
            reasons[instrument] = found[0][2]
        told = [trace.stats.get("earthquakes") for _, trace in instruments[1].get(instrument, ())]
        spans = None if None in told or not told else {(a.timestamp, b.timestamp, x) for y in told for a, b, x in y}
        for phase in phases:
            both = [(on, x) for on in (0, 1) for x in found[on][0].select(channel=f"*_{phase}")]
            for group in _overlapping(both):
                yield _curve(instrument, phase, group, spans)


def _overlapping(traces: Iterable[tuple[int, Trace]]) -> list[list[tuple[int, Trace]]]:
    """Traces in groups, none of which overlaps another."""
    groups: list[list[tuple[int, Trace]]] = []
    for on, trace in sorted(traces, key=lambda x: x[1].stats.starttime):
        if not groups or trace.stats.starttime > max(x.stats.endtime for _, x in groups[-1]):
            groups.append([])
        groups[-1].append((on, trace))
    return groups


def _curve(instrument: str, phase: str, traces: Sequence[tuple[int, Trace]], spans: Iterable[Any] | None) -> Curve:
    """
    The curve of traces of either record, 0 raw and 1 denoised, which overlap. `spans` are those of ``earthquakes``, in
    seconds since 1970.
    """
    first = traces[0][1].stats
    rate, begin = first.sampling_rate, first.starttime.timestamp
    samples = [round((trace.stats.starttime - first.starttime) * rate) for _, trace in traces]
    length = max(place + len(trace) for place, (_, trace) in zip(samples, traces, strict=True))
    both = np.full((2, length), np.nan, np.float32)
    for place, (on, trace) in zip(samples, traces, strict=True):
        own = both[on, place : place + len(trace)]
        np.fmax(own, trace.data, out=own)
    log_odds = None
    if spans is not None:
        log_odds = np.full(length, -np.inf, np.float32)
        for start, end, probability in spans:
            # without holes between them, nor one sample more where times are inexact
            i, j = floor((start - begin) * rate + 1e-3), ceil((end - begin) * rate - 1e-3) + 1
            if j > 0 and i < length:
                np.fmax(log_odds[max(i, 0) : j], logit(probability), out=log_odds[max(i, 0) : j])
    wide = maximum_filter1d(np.nan_to_num(both, nan=-1), 2 * round(SAME_PICK * rate) + 1, axis=-1)
    raw, clean = np.where(wide < 0, np.nan, wide)
    joint = np.nan_to_num(joined(phase, raw, clean, log_odds))
    return Curve(instrument, phase, both, Trace(joint, {"sampling_rate": rate, "starttime": first.starttime}))


def joined(phase: str, one: Any, other: Any, log_odds: Any = None) -> Any:
    """
    The probability of a phase from those on two records, of which NaN counts for nothing: the larger one, for S the
    mean. Its odds are multiplied by those of an earthquake, relative to e^8 or at most 1, to the power of 0.3.

    :param log_odds: Natural logarithm of the odds of an earthquake, if they are known
    """
    probability = np.fmax(one, other)
    if phase in BY_MEAN:
        probability = (probability + np.fmin(one, other)) / 2
    if log_odds is None:
        return probability
    factor = np.exp(POWER * np.minimum(np.subtract(log_odds, SURE), 0))
    return probability * factor / (1 - probability * (1 - factor)).clip(1e-9)


def _measured(members: Members, phase: str, time: UTCDateTime, end: UTCDateTime) -> tuple[float, float, str]:
    """Amplitude, ratio of signal to noise, and channel of a phase that an instrument has from one time to another."""
    noise, signal = (
        [_samples(trace, *span) for _, trace in members] for span in ((time - PHASE_SECONDS, time), (time, end))
    )
    powers = [float(np.mean(np.concatenate(x) ** 2)) if any(map(len, x)) else 0.0 for x in (noise, signal)]
    snr = 10 * np.log10(powers[1] / powers[0]) if all(powers) else np.nan
    largest = [
        ((letter == "Z") == (phase == "P"), float(abs(values).max()), trace.id)
        for (letter, trace), values in zip(members, signal, strict=True)
        if len(values)
    ]
    amplitude = max((value for _, value, _ in largest), default=np.nan)
    return amplitude, snr, max(largest, default=("",))[-1]


def _samples(trace: Trace, start: UTCDateTime, end: UTCDateTime) -> NDArray[np.float64]:
    """The samples that there are from one time to before another."""
    first, stop = (max(round((time - trace.stats.starttime) * trace.stats.sampling_rate), 0) for time in (start, end))
    return np.ma.compressed(np.ma.asarray(trace.data[first:stop]))


def pick_stream(
    picker: WaveformModel, stream: Stream, names: Mapping[str, str] | None = None, **kwargs: float
) -> pd.DataFrame:
    """
    Picks on a stream, instrument by instrument (channels that differ in their component only).

    :param picker: A SeisBench picker
    :param stream: Records, left unchanged; samples that are masked, NaN or infinite are gaps
    :param names: Names of unusual components, see :py:func:`.components.assign`
    :param kwargs: Passed to the picker, such as ``P_threshold=0.3``
    :return: Picks in order of time; ``record`` is the channel id without the component, ``time`` a UTCDateTime.
        ``attrs["not picked"]`` has the instruments that could not be picked, each with a reason
    """
    rows, reasons = [], dict[str, str]()
    for instrument, members in sorted(_instruments(stream, names).items()):
        _, found, reason = _picked(picker, members, kwargs)
        rows += [(instrument, x.phase, x.peak_time, float(x.peak_value)) for x in found]
        reasons |= {instrument: reason} if reason else {}
    picks = pd.DataFrame(sorted(rows, key=lambda row: row[2]), columns=PICK_COLUMNS)
    picks.attrs[NOT_PICKED] = reasons
    return picks


def _picked(picker: WaveformModel, members: Members, kwargs: dict[str, Any]) -> tuple[Stream, list[Pick], str]:
    """What a picker annotates an instrument with, its picks, and why there are none, if it could not be picked."""
    if members and not members[0][0]:
        return Stream(), [], "it has none of the components Z, N, E, 1 and 2"
    annotations, picks, reason = Stream(), list[Pick](), ""
    stretches = _stretches(picker, members)
    long = [x for x in stretches if max(y.stats.endtime for y in x) - x[0].stats.starttime >= SHORTEST]
    if not stretches:
        rates = sorted({trace.stats.sampling_rate for _, trace in members if len(trace.data)})
        odd = ", ".join(f"{rate:g}" for rate in rates if not SLOWEST <= rate <= HIGHEST_RATE)
        reason = f"it is sampled at {odd} Hz" if odd else "it has no samples"
    elif not long:
        reason = f"it is shorter than {SHORTEST:g} s"
    for part in long:
        curves, (found,) = classify(picker, part, [kwargs])
        reason = reason if curves else f"{picker.name} uses none of its components"
        annotations += curves
        picks += found
    return annotations, picks, reason


def _instruments(stream: Stream, names: Mapping[str, str] | None) -> dict[str, Members]:
    """The channels of each instrument; one without a component is an instrument of its own."""
    components = assign((trace.id for trace in stream), names)
    instruments: dict[str, Members] = defaultdict(list)
    for trace in stream:
        component = components.get(trace.id, Component(trace.id, ""))
        instruments[component.instrument].append((component.letter, trace))
    return instruments


def _stretches(picker: WaveformModel, members: Members) -> list[Stream]:
    """Copies of the components of one instrument without gaps, in stretches that are picked by themselves."""
    pieces, length = [], (picker.in_samples - 1) / picker.sampling_rate
    for letter, trace in members:
        rate = trace.stats.sampling_rate
        if not (len(trace.data) and is_usable(trace) and rate >= SLOWEST):
            continue
        # one type and scale, since ObsPy merges no others, and codes that no data can spoil
        header = {"channel": f"HH{letter}", "sampling_rate": rate}
        for piece in cut(0, trace, 0, BRIDGED, rate):
            there = np.flatnonzero(~piece.missing)
            values = np.interp(np.arange(len(piece.values)), there, piece.values[there].astype(np.float64))
            pieces.append(Trace(values, {**header, "starttime": piece.start}))
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


def classify(
    picker: WaveformModel, stream: Stream, options: Sequence[dict[str, float]]
) -> tuple[Stream, list[list[Pick]]]:
    """
    What the picker's ``annotate`` returns for traces without gaps, which are changed, and its picks for each of some
    options, which must differ in thresholds only: as SeisBench's ``classify``, except for records of one window, see
    the module. Nothing of either if the picker makes nothing of the traces.
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
    found = [picker.classify_aggregate(annotations, {**kwargs, **x}).picks if annotations else [] for x in options]
    annotations.trim(start, end)
    return annotations, [[pick for pick in picks if start <= pick.peak_time <= end] for picks in found]
