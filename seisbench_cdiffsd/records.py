"""ObsPy streams to arrays of one instrument each, and back, without losing or inventing a sample.

A record is the common time axis of the components of one instrument: network, station, location, band and instrument
code (so HH and HN at one location are two) and sampling rate. It is split only where every component is missing for
longer than a window; shorter gaps are bridged for filter and network and left out of every output. Samples are counted
from 1970 on, so that a record and any longer one that holds it are cut into the same windows.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime

from seisbench_cdiffsd import filtering
from seisbench_cdiffsd.filtering import Samples
from seisbench_cdiffsd.pieces import Mask, Piece, cut, divided, instruments, listed, stretches

logger = logging.getLogger("seisbench")

#: Rate of the model over that of a stream, at most: what is sampled more slowly has nothing in its band.
HIGHEST_RATIO = 100

#: A stretch of samples, the time of the first of them, and their channel code.
Anchor = tuple[slice, UTCDateTime, str]


@dataclass(frozen=True, eq=False)
class Segment:
    """
    A stretch of one channel without long gaps: what is bridged, resampled and filtered by itself.

    :param row: Component
    :param place: Where it lies at the rate of the stream, counted from the start of the record
    :param padding: Samples put before it, so that its resampled samples lie on the grid of the record
    :param span: Where it lies in the data of the record
    :param start: Time of the first sample of `span`
    :param channel: Its channel code
    """

    row: int
    place: slice
    padding: int
    span: slice
    start: UTCDateTime
    channel: str


@dataclass(frozen=True, eq=False)
class Record:
    """
    One instrument over one stretch of time, as the network sees it.

    :param stats: Network, station and location code
    :param channels: Channel code of each component, the first where it has several one after the other, "" for none
    :param rate: Sampling rate of `data` in Hz
    :param origin: Number of the first sample among all samples of this rate since 1970
    :param data: Samples (component, samples); zero in long gaps of a component, bridged in short ones
    :param present: Where `data` comes from samples of the stream, (component, samples)
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
                for first, stop in _runs(self.present[row] & its[anchor]):
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
    :raises TypeError: If `stream` is no stream
    """
    if not isinstance(stream, Stream):
        told = f"Give an ObsPy Stream, not {type(stream).__name__}"
        raise TypeError(f"{told}: obspy.read(path) opens a file, obspy.Stream([trace]) holds a trace.")
    limit = window / sampling_rate
    doubled, contradicting = set[str](), set[str]()
    for (*names, band, _), members in instruments(stream, order, flexible, sampling_rate / HIGHEST_RATIO):
        pieces = [piece for source, trace, row in members for piece in cut(source, trace, row, limit)]
        rate = max(trace.stats.sampling_rate for _, trace, _ in members)
        stats = dict(zip(("network", "station", "location"), names, strict=True))
        ratio = filtering.simple_ratio(rate, sampling_rate)
        together, alone = divided(pieces, rate, limit)
        if alone:
            doubled.add(".".join([*names, band]))
        for stretch in chain(stretches(together, rate, limit), stretches(alone, rate, limit)):
            axis = _Axis(stretch, rate, ratio, len(order))
            codes = tuple(next((x.channel for x, _ in axis.placed if x.row == i), "") for i in range(len(order)))
            anchors: list[tuple[Anchor, ...]] = []
            segments: list[Segment] = []
            for row in range(len(order)):
                values, contradiction = axis.joined(row)
                if contradiction:
                    contradicting.add(".".join([*names, codes[row]]))
                segments += (found := list(axis.segments(row, values, limit, sos, zerophase)))
                placed = [(place, piece.start, piece.channel) for piece, place in axis.placed if piece.row == row]
                # backwards, as a segment may begin with samples of the one before it
                anchors.append(tuple(placed if ratio == 1 else ((x.span, x.start, x.channel) for x in found[::-1])))
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


class _Axis:
    """
    The common time axis of a record while it is filled.

    :param pieces: Pieces of one instrument
    :param rate: Their sampling rate in Hz
    :param ratio: Rate of the record over theirs
    :param rows: Number of components
    """

    def __init__(self, pieces: list[Piece], rate: float, ratio: Fraction, rows: int) -> None:
        # the sum makes ties independent of the order of the traces
        pieces = sorted(pieces, key=lambda p: (p.start, len(p.values), float(np.sum(p.values, where=~p.missing))))
        places = [piece.place(rate) for piece in pieces]
        first = min(place.start for place in places)
        #: The record begins where its samples and those of the stream coincide, in any cut of the stream.
        self.start = first - first % ratio.denominator
        self.placed = tuple(
            (piece, slice(place.start - self.start, place.stop - self.start))
            for piece, place in zip(pieces, places, strict=True)
        )
        self.rate, self.ratio = rate, ratio
        self.length = max(place.stop for _, place in self.placed)
        self.covered = np.zeros((rows, self.length), dtype=bool)
        self.data = np.zeros((rows, filtering.resampled_length(self.length, ratio)), dtype=np.float32)
        self.present = self.covered if ratio == 1 else np.zeros(self.data.shape, dtype=bool)

    def joined(self, row: int) -> tuple[Samples, bool]:
        """One component, NaN where it is missing, and whether some of its pieces contradict each other."""
        members = [(piece, place) for piece, place in self.placed if piece.row == row]
        values = np.full(self.length if members else 0, np.nan)
        different = np.zeros(len(values), dtype=bool)
        for piece, place in members:
            before, new = values[place], np.where(piece.missing, np.nan, piece.values)
            there = ~np.isnan(before)
            different[place] |= there & ~np.isnan(new) & (before != new)
            values[place] = np.where(there, before, new)
        if different.any():
            total, count = np.zeros(self.length), np.zeros(self.length)
            for piece, place in members:
                total[place] += np.where(piece.missing, 0, piece.values)
                count[place] += ~piece.missing
            values[different] = total[different] / count[different]
        return values, bool(different.any())

    def segments(
        self, row: int, values: Samples, limit: float, sos: Samples | None, zerophase: bool
    ) -> Iterator[Segment]:
        """Fill in the samples of one component, in parts of one channel, between gaps of more than `limit` seconds."""
        there = np.flatnonzero(~np.isnan(values))
        if not len(there):
            return
        self.covered[row, there] = True
        pieces = sorted((x for x in self.placed if x[0].row == row), key=lambda x: x[1].start)
        starts = [place.start for _, place in pieces]
        changes = [place.start for (old, _), (new, place) in pairwise(pieces) if old.channel != new.channel]
        breaks = np.flatnonzero(np.diff(there) - 1 > limit * self.rate)
        breaks = np.union1d(breaks, np.searchsorted(there, changes) - 1).astype(int)
        stop = 0
        for first, last in zip(there[np.r_[0, breaks + 1]], there[np.r_[breaks, -1]], strict=True):
            place = slice(int(first), int(last) + 1)
            part = filtering.bridged(values[place])
            padding, begin, known = 0, place.start, 0  # known: samples that the segment before has already
            if self.ratio != 1:
                padding = place.start % self.ratio.denominator
                part = filtering.resampled(np.pad(part, (padding, 0), mode="edge"), self.ratio)
                begin = int((place.start - padding) * self.ratio)
                covered = np.pad(self.covered[row, place], (padding, 0))
                present, known = filtering.resampled_mask(covered, self.ratio), max(stop - begin, 0)
                present[-1] |= not present.any()  # less than one sample of the record: it is served all the same
                self.present[row, begin + known : begin + len(part)] = present[known:]
            self.data[row, begin + known : begin + len(part)] = filtering.filtered(part, sos, zerophase)[known:]
            stop = begin + len(part)
            piece, at = pieces[bisect_right(starts, place.start) - 1]
            start = piece.start + (place.start - padding - at.start) / self.rate
            yield Segment(row, place, padding, slice(begin, stop), start, piece.channel)


def _runs(mask: Mask) -> list[tuple[int, int]]:
    """First and past-the-last index of every run of True."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return [(int(first), int(stop)) for first, stop in edges.reshape(-1, 2)]


def with_samples(trace: Trace, values: Samples) -> Trace:
    """A trace with other samples; the NaN among them are masked."""
    stats = trace.stats.copy()
    if "mseed" in stats:
        stats.mseed.pop("encoding", None)  # of the samples that were there
    missing = np.isnan(values)
    return Trace(np.ma.masked_array(values, missing) if missing.any() else values, stats)
