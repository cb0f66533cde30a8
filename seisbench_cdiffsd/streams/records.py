"""ObsPy streams to arrays of one instrument each, and back, without losing or inventing a sample.

A record is the common time axis of the components of one instrument: network, station, location, band and instrument
code (so HH and HN at one location are two) and sampling rate. It is split only where every component is missing for
longer than a window; shorter gaps are filled for the network and left out of every output. Samples are counted
from 1970 on, so a record and any longer one that holds it are cut into the same windows.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime

from seisbench_cdiffsd.streams import filtering, gaps
from seisbench_cdiffsd.streams.axis import Axis, Segment
from seisbench_cdiffsd.streams.gaps import Mask, Samples
from seisbench_cdiffsd.streams.pieces import (
    Piece,
    common_rate,
    cut,
    divided,
    instruments,
    is_usable,
    listed,
    of_one_rate,
    stretches,
)

logger = logging.getLogger("seisbench")

#: How far gaps are filled from both ends, in windows: silence beside other components looks like a change of ground.
FILLED = 2


@dataclass(frozen=True, eq=False)
class Record:
    """
    One instrument over one stretch of time, as the network sees it.

    :param origin: Number of the first sample among all samples of this rate since 1970
    :param data: Samples (component, samples); gaps are filled by :py:func:`.gaps.fill`
    :param alive: Where they are a signal and not constant, (component, samples)
    :param pieces: For each component, the pieces of the stream, and where they lie at the rate of the stream
    :param segments: For each component, what was filtered by itself
    :param covered: Where the stream has samples, (component, samples at its own rate)
    :param ratio: Rate of `data` over that of the stream
    """

    origin: int
    data: NDArray[np.float32]
    alive: Mask
    pieces: tuple[tuple[tuple[Piece, slice], ...], ...]
    segments: tuple[tuple[Segment, ...], ...]
    covered: Mask
    ratio: Fraction

    def original(self, values: NDArray[np.float32]) -> Iterator[tuple[Piece, Samples]]:
        """
        Arrays back to the rate, and the sample times, of the pieces of the stream.

        :param values: Samples in the shape of `data`
        :return: Pieces and their samples, NaN where the stream had none
        """
        for row, members in enumerate(self.pieces):  # one row at a time: a day of them is long
            if members:
                samples = self._original_row(row, values)
            for piece, place in members:
                yield piece, np.where(piece.missing, np.nan, samples[place])

    def _original_row(self, row: int, values: NDArray[np.float32]) -> Samples:
        covered = self.covered[row]
        if self.ratio == 1:
            samples = values[row].astype(np.float64)
        else:
            samples = np.zeros(len(covered))
            for segment in self.segments[row]:
                back = filtering.restored(values[row, segment.span].astype(np.float64), self.ratio)
                length = segment.place.stop - segment.place.start
                samples[segment.place] = back[segment.padding :][:length]
        return np.where(covered, samples, np.nan)


def records(
    stream: Stream,
    sampling_rate: float,
    window: int,
    order: str = "ZNE",
    flexible: bool = True,
    strict: bool = False,
    sos: Samples | None = None,
    zerophase: bool = True,
    min_rate: float = 0.0,
    names: Mapping[str, str] | None = None,
) -> Iterator[Record]:
    """
    Records of a stream, one at a time, in the order of their ids and times. The stream stays as it is.

    Masked, NaN and infinite samples are gaps. Traces of one channel that touch or overlap are joined; where they
    contradict each other, their mean is used. The result for a sample depends neither on samples further away than a
    few windows nor on the order of the traces; but without a filter that has a lower corner, it depends on the mean of
    all samples between two gaps of more than a second, which is removed.

    :param stream: Traces of any number of instruments, rates and stretches of time
    :param sampling_rate: Rate of the model in Hz; data at other rates are resampled, zero-phase
    :param window: Window of the model in samples
    :param order: Components of the model
    :param flexible: Whether components 1 and 2 stand for N and E, and the other way round
    :param strict: Whether a sample counts only where all components have one
    :param sos: Filter in second-order sections, see :py:func:`design_filter`
    :param zerophase: Whether the filter runs forward and backward
    :param min_rate: Traces at this rate in Hz, or a lower one, are skipped
    :param names: Names of components, see :py:func:`.components.assign`
    :raises TypeError: If `stream` is not a stream
    """
    if not isinstance(stream, Stream):
        hint = "obspy.read(path) opens a file, obspy.Stream([trace]) holds a trace"
        raise TypeError(f"Give an ObsPy Stream, not {type(stream).__name__}: {hint}.")
    limit = window / sampling_rate
    doubled, contradicting = set[str](), dict[str, str]()
    for name, members in instruments(stream, order, flexible, min_rate, names):
        pieces = [piece for source, trace, row in members for piece in cut(source, trace, row, limit)]
        rate = common_rate(trace for _, trace, _ in members)
        ratio = filtering.simple_ratio(rate, sampling_rate)
        together, alone = divided(pieces, rate, limit)
        if alone:
            doubled.add(name)
        for stretch in chain(stretches(together, rate, limit), stretches(alone, rate, limit)):
            axis = Axis(stretch, rate, ratio, len(order))
            segments: list[tuple[Segment, ...]] = []
            for row, placed in enumerate(axis.pieces):
                values, contradiction = axis.joined(row)
                if contradiction:
                    start = UTCDateTime(axis.start / rate).strftime("%Y-%m-%dT%H:%M:%S")
                    contradicting.setdefault(f"{name}{placed[0][0].channel[-1:]}", start)
                segments.append(axis.fill(row, values, sos, zerophase))
            gaps.fill(axis.data, axis.alive, FILLED * window)
            covered = axis.covered & axis.covered.all(axis=0) if strict else axis.covered
            yield Record(
                origin=int(axis.start * ratio),
                data=axis.data,
                alive=axis.alive,
                pieces=axis.pieces,
                segments=tuple(segments),
                covered=covered,
                ratio=ratio,
            )
    if doubled:
        logger.warning(f"Channels with horizontal components 12 as well as NE, 12 denoised apart: {listed(doubled)}")
    if contradicting:
        where = listed([f"{channel} (record from {start})" for channel, start in contradicting.items()])
        logger.warning(f"Channels whose traces overlap and disagree, their mean is used: {where}")


def samples_of_traces(stream: Stream, estimates: Iterable[tuple[Record, NDArray[np.float32]]]) -> dict[int, Samples]:
    """
    Arrays back to the traces of a stream.

    :param stream: The stream that the records were made of
    :param estimates: Records, and samples in the shape of their data
    :return: Samples of the traces, by position in the stream, NaN where they are missing
    """
    result: dict[int, Samples] = {}
    for record, values in estimates:
        for piece, samples in record.original(values):
            if piece.source not in result:
                result[piece.source] = np.full(len(stream[piece.source]), np.nan)
            result[piece.source][piece.offset : piece.offset + len(samples)] = samples
    return result


def joined(stream: Stream, limit: float) -> Stream:
    """
    The samples that records are made of, neither filtered nor resampled. Missing ones are masked; traces of a channel
    that overlap are merged, with the mean where they contradict each other.

    :param stream: Traces, unchanged
    :param limit: Seconds; a trace ends where samples are missing for longer
    :return: Traces in double precision, with the start time of the first trace of each stretch
    """
    channels: dict[str, list[int]] = defaultdict(list)
    for source, trace in enumerate(stream):
        if len(trace.data) and is_usable(trace):
            channels[trace.id].append(source)
    result = Stream()
    for members in (group for _, x in sorted(channels.items()) for group in of_one_rate(x, lambda i: stream[i])):
        pieces = [piece for source in members for piece in cut(source, stream[source], 0, limit)]
        rate = common_rate(stream[source] for source in members)
        for stretch in stretches(pieces, rate, limit):
            axis = Axis(stretch, rate, Fraction(1), 1)
            first, _ = axis.pieces[0][0]
            trace = with_samples(stream[first.source], axis.joined(0)[0])
            trace.stats.starttime, trace.stats.sampling_rate = first.start, rate
            result.append(trace)
    return result


def with_samples(trace: Trace, values: Samples, note: Mapping[str, Any] | None = None) -> Trace:
    """
    A trace with other samples; the NaN among them are masked.

    :param trace: Trace, unchanged
    :param values: Its new samples
    :param note: What they were denoised with, for the processing of the trace
    """
    stats = trace.stats.copy()
    if "mseed" in stats:
        stats.mseed.pop("encoding", None)  # of the samples before
    if note is not None:
        from seisbench_cdiffsd import __version__

        given = "::".join(f"{name}={value!r}" for name, value in note.items())
        before = stats.get("processing", [])
        stats.processing = [
            *(before if isinstance(before, list) else [str(before)] if before else []),
            f"seisbench_cdiffsd {__version__}: denoise({given})",
        ]
    missing = np.isnan(values)
    result = Trace(header=stats)
    result.data = np.ma.masked_array(values, missing) if missing.any() else values  # which sets their number, too
    return result
