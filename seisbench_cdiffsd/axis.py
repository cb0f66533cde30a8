"""The common time axis of the components of one instrument: its samples joined, resampled and filtered."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from obspy import UTCDateTime

from seisbench_cdiffsd import filtering, gaps
from seisbench_cdiffsd.gaps import Samples
from seisbench_cdiffsd.pieces import Piece

#: Seconds of a gap up to which it is bridged for the filter. What lies further apart is filtered by itself: a line from
#: one side to the other would carry steps and microseism into the band.
BRIDGED = 1.0
#: Seconds for which samples must stay the same to count as no signal.
CONSTANT = 1.0


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


class Axis:
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
        self.alive = np.zeros(self.data.shape, dtype=bool)

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

    def segments(self, row: int, values: Samples, sos: Samples | None, zerophase: bool) -> Iterator[Segment]:
        """Fill in the samples of one component, in parts of one channel that gaps lie between."""
        there = np.flatnonzero(~np.isnan(values))
        if not len(there):
            return
        self.covered[row, there] = True
        still = gaps.constant(values, max(round(CONSTANT * self.rate), 2))
        pieces = sorted((x for x in self.placed if x[0].row == row), key=lambda x: x[1].start)
        starts = [place.start for _, place in pieces]
        changes = [place.start for (old, _), (new, place) in pairwise(pieces) if old.channel != new.channel]
        breaks = np.flatnonzero(np.diff(there) - 1 > BRIDGED * self.rate)
        breaks = np.union1d(breaks, np.searchsorted(there, changes) - 1).astype(int)
        stop = 0
        for first, last in zip(there[np.r_[0, breaks + 1]], there[np.r_[breaks, -1]], strict=True):
            place = slice(int(first), int(last) + 1)
            covered = self.covered[row, place]
            alive = covered & ~still[place]
            part = values[place]
            if alive.any():
                part[~alive] = np.nan
            part = gaps.bridged(part)
            padding, begin, known = 0, place.start, 0  # known: samples that the segment before has already
            if self.ratio != 1:
                padding = place.start % self.ratio.denominator
                part = filtering.resampled(np.pad(part, (padding, 0), mode="edge"), self.ratio)
                begin = int((place.start - padding) * self.ratio)
                known = max(stop - begin, 0)
                present, alive = (
                    filtering.resampled_mask(np.pad(mask, (padding, 0)), self.ratio) for mask in (covered, alive)
                )
                present[-1] |= not present.any()  # less than one sample of the record: it is served all the same
                self.present[row, begin + known : begin + len(part)] = present[known:]
            stop = begin + len(part)
            self.alive[row, begin + known : stop] = alive[known:]
            self.data[row, begin + known : stop] = filtering.filtered(part, sos, zerophase)[known:]
            piece, at = pieces[bisect_right(starts, place.start) - 1]
            start = piece.start + (place.start - padding - at.start) / self.rate
            yield Segment(row, place, padding, slice(begin, stop), start, piece.channel)
