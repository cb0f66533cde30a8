"""Phase picks before and after denoising: run a SeisBench picker and match its picks to labels.

How one window is picked
    A picker sees a window of fixed length (PhaseNet 3001 samples, EQTransformer 6000) and by default discards its
    predictions near the edges of it ("blinding"), since the next window covers them. A record that fits into one
    window has no next window: its mean is removed, gaps and its missing end are filled with zeros, and nothing is
    discarded. If more than a second is missing, it is tapered over a second at both ends, without which EQTransformer
    misses many phases in windows of 30 s. Longer records are cut into overlapping windows, blinded and stacked as
    SeisBench does by default.

Picks are rows of a data frame with the columns ``record``, ``phase``, ``time`` and ``probability``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seisbench.models as sbm
from numpy.typing import ArrayLike
from obspy import Stream, Trace, UTCDateTime
from seisbench.models import WaveformModel

from seisbench_cdiffsd import metrics
from seisbench_cdiffsd.streams.filtering import SAMPLING_RATE
from seisbench_cdiffsd.weights import UNREADABLE

#: A record that is shorter than the window of the picker by more than so many seconds is tapered over as many.
TAPER = 1.0
#: Columns of a table of picks.
PICK_COLUMNS = ["record", "phase", "time", "probability"]
#: Codes of a trace.
CODES = ("network", "station", "location", "channel")


class WeightsUnavailable(RuntimeError):
    """Weights are not on this machine, or could not be downloaded or loaded."""


class WeightsMissing(WeightsUnavailable):
    """Weights that are not on this machine, and may be downloaded."""


def load_picker(name: str = "PhaseNet", weights: str = "original", download: bool = False) -> WaveformModel:
    """
    A pretrained picker of SeisBench. Without `download`, only SeisBench's cache is searched.

    :param name: Class in ``seisbench.models``, such as "PhaseNet" or "EQTransformer"
    :param weights: Name of the pretrained weights
    :param download: Ask SeisBench's remote repository for weights that are not in the cache
    :return: The picker
    :raises ValueError: If SeisBench has no model of this name
    :raises WeightsMissing: If the weights are not in the cache, and are not to be downloaded
    :raises WeightsUnavailable: If they could not be downloaded, or are damaged
    """
    return load_seisbench_model(name, weights, download)


def load_seisbench_model(name: str, weights: str, download: bool = False) -> WaveformModel:
    """Any pretrained model of SeisBench, picker or not, by the name of its class; see :py:func:`load_picker`."""
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
        reason = (
            "loaded from SeisBench's cache: delete them there"
            if cached
            else "downloaded (is there a network, and such weights?)"
        )
        raise WeightsUnavailable(f"The {name} weights {weights!r} could not be {reason}.") from error


def pick_stream(picker: WaveformModel, stream: Stream, **kwargs: float) -> pd.DataFrame:
    """
    Picks on a stream, instrument by instrument (channels that differ in their component only).

    :param picker: A SeisBench picker
    :param stream: Records, left unchanged; samples that are masked, NaN or infinite are gaps, and traces without
        samples, or with samples that are not numbers, are skipped
    :param kwargs: Passed to the picker, such as ``P_threshold=0.3``
    :return: Picks in order of time; ``record`` is the channel id without the component, ``time`` a UTCDateTime
    """
    rows = []
    for instrument in sorted({trace.id[:-1] for trace in stream}):
        for part in _stretches(picker, Stream([trace for trace in stream if trace.id[:-1] == instrument])):
            start, end = min(trace.stats.starttime for trace in part), max(trace.stats.endtime for trace in part)
            rows += [
                (instrument, pick.phase, pick.peak_time, float(pick.peak_value))
                for pick in _classify(picker, part, start, end, [kwargs])[0]
            ]
    return pd.DataFrame(sorted(rows, key=lambda row: row[2]), columns=PICK_COLUMNS)


def _stretches(picker: WaveformModel, stream: Stream) -> Iterator[Stream]:
    """Copies of the traces of one instrument, split at gaps that are longer than the window of the picker."""
    traces = []
    for trace in stream:
        if len(trace) == 0 or trace.data.dtype.kind not in "iufb":
            continue
        header = {key: trace.stats[key] for key in (*CODES, "starttime", "sampling_rate")}
        # one type and one scale, since ObsPy merges no others; and SeisBench skips a trace with a NaN
        traces.append(Trace(np.ma.masked_invalid(trace.data.astype(np.float64)), header))
    stretch, end = Stream(), UTCDateTime(0)
    for trace in sorted(Stream(traces).split(), key=lambda trace: trace.stats.starttime):
        other_rate = bool(stretch) and trace.stats.sampling_rate != stretch[0].stats.sampling_rate
        gap = trace.stats.starttime - end
        if stretch and (other_rate or gap > picker.in_samples / picker.sampling_rate):
            yield stretch
            stretch = Stream()
        end = max(end, trace.stats.endtime) if stretch else trace.stats.endtime
        stretch.append(trace)
    if stretch:
        yield stretch


def pick_windows(
    picker: WaveformModel, windows: ArrayLike, thresholds: Sequence[float], sampling_rate: float = SAMPLING_RATE
) -> list[pd.DataFrame]:
    """
    Picks on windows of one length at several thresholds; the picker runs once, on batches of windows.

    :param picker: A SeisBench picker; it sorts and resamples the components as it needs them
    :param windows: Windows, (batch, 3, samples), components in ZNE order
    :param thresholds: Lowest probabilities of a pick of P or S
    :param sampling_rate: Sampling rate in Hz
    :return: Picks at each threshold, in order of record (0 ... batch - 1) and time, in s from the start of the window
    :raises ValueError: If the windows are not of this shape
    """
    windows = np.asarray(windows)
    if windows.ndim != 3 or windows.shape[1] != 3:
        raise ValueError(f"Windows must be (batch, 3, samples) in ZNE order, not {windows.shape}.")
    if windows.size == 0:
        return [pd.DataFrame(columns=PICK_COLUMNS) for _ in thresholds]
    start = UTCDateTime(0)
    stream = Stream(
        Trace(data.astype(np.float64), {"station": str(i), "channel": f"XX{code}", "sampling_rate": sampling_rate})
        for i, window in enumerate(windows)
        for code, data in zip("ZNE", window, strict=True)
    )
    end = start + (windows.shape[-1] - 1) / sampling_rate
    options = [{"P_threshold": least, "S_threshold": least} for least in thresholds]
    tables = []
    for found in _classify(picker, stream, start, end, options):
        rows = [
            (int(pick.trace_id.split(".")[1]), pick.phase, pick.peak_time - start, float(pick.peak_value))
            for pick in found
        ]
        tables.append(pd.DataFrame(sorted(rows, key=lambda row: (row[0], row[2])), columns=PICK_COLUMNS))
    return tables


def match_labels(picks: pd.DataFrame, labels: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """
    Each label with the pick that was matched to it: same record, same phase, at most one pick for one label.

    :param picks: Picks
    :param labels: Columns ``record``, ``phase`` and ``time``, with the time origin of the picks
    :param tolerance: Largest absolute residual in seconds
    :return: `labels` with the columns ``residual`` (pick - label in seconds) and ``probability``, NaN where missed
    """
    residual = np.full(len(labels), np.nan)
    probability = np.full(len(labels), np.nan)
    groups = picks.groupby(["record", "phase"]).indices
    for key, rows in labels.groupby(["record", "phase"]).indices.items():
        near, wanted = picks.iloc[groups.get(key, [])], labels.iloc[rows]
        origin = wanted["time"].iloc[0]
        pick_times, label_times = (np.array(times - origin, dtype=float) for times in (near["time"], wanted["time"]))
        i, j = metrics.match_picks(pick_times, label_times, tolerance)
        residual[rows[j]] = pick_times[i] - label_times[j]
        probability[rows[j]] = near["probability"].to_numpy()[i]
    return labels.assign(residual=residual, probability=probability)


def _classify(
    picker: WaveformModel, stream: Stream, start: UTCDateTime, end: UTCDateTime, options: Sequence[dict[str, float]]
) -> list[list]:
    """
    Picks between start and end of a stream, for each of some options; several must differ in thresholds only.

    As SeisBench's ``classify``, with one run of the picker. See the module for records of one window. The stream is
    changed.
    """
    kwargs: dict[str, Any] = {**picker.default_args, **options[0]}
    length = (picker.in_samples - 1) / picker.sampling_rate
    if end - start <= length:
        kwargs = {**picker.default_args, "blinding": (0, 0), **options[0]}
        for trace in stream:
            trace.data = trace.data - trace.data.mean()
        for trace in stream.merge(fill_value=0):
            missing = int(np.ceil(round((start + length - trace.stats.endtime) * trace.stats.sampling_rate, 6)))
            if missing > TAPER * trace.stats.sampling_rate:
                trace.taper(max_percentage=0.5, type="hann", max_length=TAPER)
            trace.data = np.pad(trace.data, (0, missing))
    annotations = picker.annotate(picker.classify_stream_pre(stream, kwargs), **kwargs)
    found = (picker.classify_aggregate(annotations, {**kwargs, **wanted}).picks for wanted in options)
    return [[pick for pick in picks if start <= pick.peak_time <= end] for picks in found]
