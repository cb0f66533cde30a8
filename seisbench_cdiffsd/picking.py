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
from collections.abc import Callable, Iterable, Mapping, Sequence
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
        "P": {1: 0.808, 2: 0.7, 5: 0.505, 10: 0.28},
        "S": {1: 0.443, 2: 0.349, 5: 0.219, 10: 0.137},
    },
    "EQTransformer original": {
        "P": {1: 0.266, 2: 0.154, 5: 0.045, 10: 0.033},
        "S": {1: 0.064, 2: 0.033, 5: 0.033, 10: 0.033},
    },
}
#: Picks of a phase before and after denoising are one if they are no further apart, in seconds.
SAME_PICK = 0.2
#: How the probabilities of a phase on both records become one. P is often hidden in the noise of one of them. S is less
#: often, and false S are probable on one alone: with the mean, more are found at one false S an hour
#: (``benchmarks/EXPERIMENTS.md``).
JOINED: dict[str, Callable[..., Any]] = {"P": np.nanmax, "S": np.nanmean}
#: A stretch without ends.
EVER = np.array([[-np.inf, np.inf]])
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
    Pick phases on a stream and on what denoising makes of it. Two picks of a phase that are within 0.2 s of each other
    are one: its probability is the larger of both for P, and their mean for S. Nothing is picked where the denoiser
    tells that an earthquake is improbable. What is found at which rate of false picks, against either alone, is in
    ``benchmarks/README.md``.

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
    Picks on a stream and on the same denoised, instrument by instrument; two of a phase within 0.2 s are one. There
    are none where the denoiser tells that there is most probably no earthquake.

    :param picker: A SeisBench picker
    :param stream: Records, left unchanged
    :param denoised: The same traces, denoised
    :param least: Arguments of the picker, such as ``{"P_threshold": 0.3}``; thresholds hold for ``probability`` as well
    :param names: As in :py:func:`pick_stream`
    :return: Picks in order of time, with the columns of :py:func:`pick_stream`, and

        - ``raw`` and ``denoised``, the highest probability within 0.2 s on either record, NaN if it was not picked;
        - ``probability``, the larger of both for P, their mean for S, or the one that there is;
        - ``source``, on which record it is above the threshold: "raw", "denoised" or "both". The time is that of the
          more probable one;
        - ``amplitude``, the largest absolute sample of the denoised record in the 3 s from the pick on, in its units;
        - ``snr``, the mean power of the denoised record in these 3 s over that in the 3 s before, in dB. For P, both
          end at an earlier pick of S;
        - ``channel``, the id of Z for P and of the larger horizontal for S, or of what there is instead
    """
    curves: tuple[dict[str, Stream], dict[str, Stream]] = ({}, {})
    least = least or {}
    tables = [
        pick_stream(picker, records, names, found, **{"batch_size": BATCH_SIZE, **least})
        for records, found in zip((stream, denoised), curves, strict=True)
    ]
    joint, members = _joint(*tables), _instruments(denoised, names)
    spans = {  # first and last samples of stretches in which there may be an earthquake, in seconds since 1970
        name: np.reshape([x.timestamp for _, trace in own for span in trace.stats.earthquakes for x in span], (-1, 2))
        for name, own in members.items()
        if all("earthquakes" in trace.stats for _, trace in own)
    }
    kept, onsets = list[Any](), defaultdict[str, list[UTCDateTime]](list)
    for instrument, phase, time, raw, clean in joint:
        first, last = spans.get(instrument, EVER).T
        if not ((first - SAME_PICK <= time.timestamp) & (time.timestamp <= last + SAME_PICK)).any():
            continue  # most probably no earthquake
        source = "raw" if np.isnan(clean) else "denoised" if np.isnan(raw) else "both"
        raw, clean = (
            _highest(found.get(instrument, ()), phase, time) if np.isnan(value) else value
            for found, value in zip(curves, (raw, clean), strict=True)
        )
        probability = float(JOINED.get(phase, np.nanmax)([raw, clean]))
        if probability >= least.get(f"{phase}_threshold", 0):
            kept.append((instrument, phase, time, probability, raw, clean, source))
            onsets[instrument] += [time] if phase == "S" else []
    rows = []
    for instrument, phase, time, probability, *others in kept:
        end, later = time + PHASE_SECONDS, onsets[instrument]
        if phase == "P":
            end = min([end, *later[bisect_left(later, time) :][:1]])
        amplitude, snr, channel = _measured(members[instrument], phase, time, end)
        rows.append((instrument, phase, time, probability, amplitude, snr, *others, channel))
    picks = pd.DataFrame(rows, columns=JOINT_COLUMNS)
    picks.attrs[NOT_PICKED] = tables[0].attrs[NOT_PICKED]
    return picks


def _joint(raw: pd.DataFrame, denoised: pd.DataFrame) -> list[tuple[str, str, UTCDateTime, float, float]]:
    """
    The picks on a record and on the same denoised, each with its probability on either, NaN where it is no pick; two
    neighbours of which one is on either are one.
    """
    halves = [(row, 0) for row in raw.itertuples()] + [(row, 1) for row in denoised.itertuples()]
    found: dict[tuple[str, str], list[tuple[UTCDateTime, list[float]]]] = defaultdict(list)
    for row, on in sorted(halves, key=lambda x: (x[0].time, -x[1])):
        picks, time, probable = found[row.record, row.phase], row.time, [np.nan, np.nan]
        probable[on] = row.probability
        if picks and time - picks[-1][0] <= SAME_PICK and np.isnan(picks[-1][1][on]):
            before, (*other,) = picks.pop()
            probable[1 - on] = other[1 - on]
            time = time if probable[on] > probable[1 - on] else before
        picks.append((time, probable))
    joint = [(*name, time, *probable) for name, picks in found.items() for time, probable in picks]
    return sorted(joint, key=lambda x: (x[2], x[:2]))


def _highest(curves: Iterable[Trace], phase: str, time: UTCDateTime) -> float:
    """The highest probability of a phase around a time; NaN if there is none."""
    own = (trace for trace in curves if trace.stats.channel.endswith(f"_{phase}"))
    near = (trace.slice(time - SAME_PICK, time + SAME_PICK).data for trace in own)
    return float(np.fmax.reduce([x for values in near for x in values], initial=np.nan))


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
    picker: WaveformModel,
    stream: Stream,
    names: Mapping[str, str] | None = None,
    curves: dict[str, Stream] | None = None,
    **kwargs: float,
) -> pd.DataFrame:
    """
    Picks on a stream, instrument by instrument (channels that differ in their component only).

    :param picker: A SeisBench picker
    :param stream: Records, left unchanged; samples that are masked, NaN or infinite are gaps
    :param names: Names of unusual components, see :py:func:`.components.assign`
    :param curves: Gets the probabilities of all samples, as the picker's ``annotate`` has them, by instrument
    :param kwargs: Passed to the picker, such as ``P_threshold=0.3``
    :return: Picks in order of time; ``record`` is the channel id without the component, ``time`` a UTCDateTime.
        ``attrs["not picked"]`` has the instruments that could not be picked, each with a reason
    """
    rows, reasons = [], {}
    for instrument, members in sorted(_instruments(stream, names).items()):
        if not members[0][0]:
            reasons[instrument] = "it has none of the components Z, N, E, 1 and 2"
            continue
        stretches = _stretches(picker, members)
        long = [x for x in stretches if max(y.stats.endtime for y in x) - x[0].stats.starttime >= SHORTEST]
        if not stretches:
            rates = sorted({trace.stats.sampling_rate for _, trace in members if len(trace.data)})
            odd = ", ".join(f"{rate:g}" for rate in rates if not SLOWEST <= rate <= HIGHEST_RATE)
            reasons[instrument] = f"it is sampled at {odd} Hz" if odd else "it has no samples"
        elif not long:
            reasons[instrument] = f"it is shorter than {SHORTEST:g} s"
        for part in long:
            annotations, (found,) = classify(picker, part, [kwargs])
            if not annotations:
                reasons[instrument] = f"{picker.name} uses none of its components"
            if curves is not None:
                curves[instrument] = curves.get(instrument, Stream()) + annotations
            rows += [(instrument, x.phase, x.peak_time, float(x.peak_value)) for x in found]
    picks = pd.DataFrame(sorted(rows, key=lambda row: row[2]), columns=PICK_COLUMNS)
    picks.attrs[NOT_PICKED] = reasons
    return picks


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
    return annotations, [[pick for pick in picks if start <= pick.peak_time <= end] for picks in found]
