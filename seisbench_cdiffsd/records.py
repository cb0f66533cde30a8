"""ObsPy streams to arrays of one instrument each, and back, without losing or inventing a sample.

A record is the common time axis of the components of one instrument: network, station, location, band and instrument
code (so HH and HN at one location are two) and sampling rate. It is split only where every component is missing for
longer than a window; shorter gaps are filled for the network and left out of every output. Samples are counted
from 1970 on, so that a record and any longer one that holds it are cut into the same windows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime

from seisbench_cdiffsd import filtering, gaps
from seisbench_cdiffsd.axis import Axis, Segment
from seisbench_cdiffsd.gaps import Mask, Samples
from seisbench_cdiffsd.pieces import Piece, cut, divided, instruments, listed, stretches

logger = logging.getLogger("seisbench")

#: A stretch of samples, the time of the first of them, and their channel code.
Anchor = tuple[slice, UTCDateTime, str]


@dataclass(frozen=True, eq=False)
class Record:
    """
    One instrument over one stretch of time, as the network sees it.

    :param stats: Network, station and location code
    :param channels: Channel code of each component, the first where it has several one after the other, "" for none
    :param rate: Sampling rate of `data` in Hz
    :param origin: Number of the first sample among all samples of this rate since 1970
    :param data: Samples (component, samples); in gaps, what :py:func:`.gaps.fill` makes of those beside them
    :param present: Where the stream has samples, (component, samples)
    :param alive: Where they are a signal and not one constant, (component, samples)
    :param anchors: For each component, its stretches of `data`; later ones have priority
    :param pieces: The pieces of the stream it was made of, and where they lie at the rate of the stream
    :param segments: What was filtered by itself
    :param covered: `present` at the rate of the stream
    :param ratio: `rate` over the rate of the stream
    """

    stats: dict[str, str]
    channels: tuple[str, ...]
    rate: float
    origin: int
    data: NDArray[np.float32]
    present: Mask
    alive: Mask
    anchors: tuple[tuple[Anchor, ...], ...]
    pieces: tuple[tuple[Piece, slice], ...]
    segments: tuple[Segment, ...]
    covered: Mask
    ratio: Fraction

    def traces(self, values: NDArray[np.float32], prefix: str = "") -> Stream:
        """
        Arrays to traces, one for every contiguous stretch that the stream had.

        :param values: Samples in the shape of `data`
        :param prefix: Put before the channel codes
        :return: Traces at the rate of the record, with their own start times
        """
        stream = Stream()
        for row, anchors in enumerate(self.anchors):
            anchor = np.zeros(values.shape[-1], dtype=np.int32)
            for i, (span, *_) in enumerate(anchors):
                anchor[span] = i
            for channel in sorted({code for *_, code in anchors}):
                its = np.array([code == channel for *_, code in anchors])
                for first, stop in gaps.runs(self.present[row] & its[anchor]):
                    span, start, _ = anchors[anchor[first]]
                    time = start + (first - span.start) / self.rate
                    header = {"starttime": time, "sampling_rate": self.rate, "channel": prefix + channel}
                    stream.append(Trace(values[row, first:stop].copy(), {**self.stats, **header}))
        return stream

    def original(self, values: NDArray[np.float32]) -> Iterator[tuple[Piece, Samples]]:
        """
        Arrays back to the rate, and the sample times, of the pieces of the stream.

        :param values: Samples in the shape of `data`
        :return: Pieces and the samples that belong to them, NaN where the stream had none
        """
        for row in range(len(self.channels)):  # one row at a time: a day of them is long
            members = [(piece, place) for piece, place in self.pieces if piece.row == row]
            samples = self._original_row(row, values) if members else values[row]
            for piece, place in members:
                yield piece, np.where(piece.missing, np.nan, samples[place])

    def _original_row(self, row: int, values: NDArray[np.float32]) -> Samples:
        covered = self.covered[row]
        if self.ratio == 1:
            samples = values[row].astype(np.float64)
        else:
            samples = np.zeros(len(covered))
            for segment in (x for x in self.segments if x.row == row):
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
) -> Iterator[Record]:
    """
    Records of a stream, one at a time, in the order of their ids and times. The stream stays as it is.

    Masked, NaN and infinite samples are gaps. Traces of one channel that touch or overlap are joined; where they
    contradict each other their mean is taken. What a sample becomes depends on nothing that is further away than a
    few windows, and not on the order of the traces.

    :param stream: Traces of any number of instruments, rates and stretches of time
    :param sampling_rate: Rate of the model in Hz; data at other rates are resampled, zero-phase
    :param window: Window of the model in samples
    :param order: Components of the model
    :param flexible: Whether components 1 and 2 stand for N and E, and the other way round
    :param strict: Whether only samples count that all components have
    :param sos: Filter in second-order sections, see :py:func:`design_filter`
    :param zerophase: Whether the filter runs forward and backward
    :param min_rate: Traces at this rate in Hz, or a lower one, are skipped
    :raises TypeError: If `stream` is not a stream
    """
    if not isinstance(stream, Stream):
        hint = "obspy.read(path) opens a file, obspy.Stream([trace]) holds a trace"
        raise TypeError(f"Give an ObsPy Stream, not {type(stream).__name__}: {hint}.")
    limit = window / sampling_rate
    doubled, contradicting = set[str](), set[str]()
    for (*names, band, _), members in instruments(stream, order, flexible, min_rate):
        pieces = [piece for source, trace, row in members for piece in cut(source, trace, row, limit)]
        rate = max(trace.stats.sampling_rate for _, trace, _ in members)
        stats = dict(zip(("network", "station", "location"), names, strict=True))
        ratio = filtering.simple_ratio(rate, sampling_rate)
        together, alone = divided(pieces, rate, limit)
        if alone:
            doubled.add(".".join([*names, band]))
        for stretch in chain(stretches(together, rate, limit), stretches(alone, rate, limit)):
            axis = Axis(stretch, rate, ratio, len(order))
            codes = tuple(next((x.channel for x, _ in axis.placed if x.row == i), "") for i in range(len(order)))
            anchors: list[tuple[Anchor, ...]] = []
            segments: list[Segment] = []
            for row in range(len(order)):
                values, contradiction = axis.joined(row)
                if contradiction:
                    contradicting.add(".".join([*names, codes[row]]))
                segments += (found := list(axis.segments(row, values, sos, zerophase)))
                placed = [(place, piece.start, piece.channel) for piece, place in axis.placed if piece.row == row]
                # backwards, as a segment may begin with samples of the one before it
                anchors.append(tuple(placed if ratio == 1 else ((x.span, x.start, x.channel) for x in found[::-1])))
            gaps.fill(axis.data, axis.alive, window)
            covered, present = axis.covered, axis.present
            if strict:
                covered, present = (x & x.all(axis=0) for x in (covered, present))
            yield Record(
                stats=stats,
                channels=codes,
                rate=rate * float(ratio) if ratio != 1 else rate,
                origin=int(axis.start * ratio),
                data=axis.data,
                present=present,
                alive=axis.alive,
                anchors=tuple(anchors),
                pieces=axis.placed,
                segments=tuple(segments),
                covered=covered,
                ratio=ratio,
            )
    if doubled:
        logger.warning(f"Channels with horizontal components 12 beside NE: 12 stand alone: {listed(doubled)}")
    if contradicting:
        logger.warning(f"Traces overlap and disagree, and their mean is taken: {listed(contradicting)}")


def joined(stream: Stream, limit: float) -> Stream:
    """
    The samples that records are made of, neither filtered nor resampled: those that are missing are masked, and where
    traces of a channel overlap they are one, with the mean of what contradicts.

    :param stream: Traces, unchanged
    :param limit: Seconds; where samples are missing for longer, a trace ends
    :return: Traces in double precision, with the times of the first trace of each stretch
    """
    channels: dict[tuple[str, str], list[Piece]] = {}
    for source, trace in enumerate(stream):
        if trace.stats.npts and 0 < trace.stats.sampling_rate < np.inf and trace.data.dtype.kind in "iufb":
            key = trace.id, f"{trace.stats.sampling_rate:.6g}"
            channels.setdefault(key, []).extend(cut(source, trace, 0, limit))
    result = Stream()
    for (_, rate), pieces in sorted(channels.items()):
        for stretch in stretches(pieces, float(rate), limit):
            axis = Axis(stretch, float(rate), Fraction(1), 1)
            first, _ = axis.placed[0]
            trace = with_samples(stream[first.source], axis.joined(0)[0])
            trace.stats.starttime = first.start
            result.append(trace)
    return result


def with_samples(trace: Trace, values: Samples) -> Trace:
    """A trace with other samples; the NaN among them are masked."""
    stats = trace.stats.copy()
    if "mseed" in stats:
        stats.mseed.pop("encoding", None)  # of the samples that were there
    missing = np.isnan(values)
    return Trace(np.ma.masked_array(values, missing) if missing.any() else values, stats)
