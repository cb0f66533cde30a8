"""The common time axis of the components of one instrument: its samples joined, resampled and filtered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from seisbench_cdiffsd.streams import filtering, gaps
from seisbench_cdiffsd.streams.gaps import Mask, Samples
from seisbench_cdiffsd.streams.pieces import Piece

#: Gaps of up to this many seconds are bridged for the filter. Both sides of a longer one are filtered by themselves: a
#: line from one to the other would carry steps and microseism into the band.
BRIDGED = 1.0
#: Samples that stay the same for this many seconds are not a signal.
CONSTANT = 1.0


@dataclass(frozen=True, eq=False)
class Segment:
    """
    A stretch of one channel without long gaps: what is bridged, resampled and filtered by itself.

    :param place: Where it lies at the rate of the stream, counted from the start of the record
    :param padding: Samples put before it, so its resampled samples lie on the grid of the record
    :param span: Where it lies in the data of the record
    """

    place: slice
    padding: int
    span: slice


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
        first = pieces[0].place(rate).start
        #: The record starts where its samples and those of the stream coincide, in any cut of the stream.
        self.start = first - first % ratio.denominator
        placed = [(piece, piece.place(rate, self.start)) for piece in pieces]
        #: The pieces of each component, in order of time, and where they lie in the record at the rate of the stream.
        self.pieces = tuple(tuple(x for x in placed if x[0].row == row) for row in range(rows))
        self.rate, self.ratio = rate, ratio
        self.length = max(place.stop for _, place in placed)
        self.covered = np.zeros((rows, self.length), dtype=bool)
        self.data = np.zeros((rows, filtering.resampled_length(self.length, ratio)), dtype=np.float32)
        self.alive = np.zeros(self.data.shape, dtype=bool)

    def joined(self, row: int) -> tuple[Samples, bool]:
        """
        One component, NaN where it is missing, and whether some of its pieces contradict each other.

        Where a piece is constant, such as a gap filled with zeros, and another piece has samples, those count alone. Of
        two samples of pieces that do not overlap, the later one counts.
        """
        values = np.full(self.length if self.pieces[row] else 0, np.nan)
        different = np.zeros(len(values), dtype=bool)
        for new, place in self._contents(row):
            before = values[place]
            there = ~np.isnan(before)
            different[place] |= there & ~np.isnan(new) & (before != new)
            values[place] = np.where(there, before, new)
        if not different.any():
            return values, False
        varying, constant = (np.zeros((2, self.length)) for _ in range(2))  # sums and counts
        for new, place in self._contents(row):
            still, there = gaps.constant(new, self._least_constant), ~np.isnan(new)
            for (total, count), mask in ((varying, there & ~still), (constant, there & still)):
                total[place] += np.where(mask, new, 0)
                count[place] += mask
        (total, count), (rest, others) = varying[:, different], constant[:, different]
        values[different] = np.where(count > 0, total, rest) / np.where(count > 0, count, others)
        return values, bool(np.any(count + others * (count == 0) > 1))

    def _contents(self, row: int) -> Iterator[tuple[Samples, slice]]:
        """The samples of each piece of a component, NaN where they are missing, and where they lie."""
        starts = {place.start: piece.start for piece, place in self.pieces[row]}
        for piece, place in self.pieces[row]:
            values = np.where(piece.missing, np.nan, piece.values)
            # where the clock jitters, the last sample may get the place of a later one, the first of the next piece
            if starts.get(place.stop - 1, piece.start) > piece.start + (len(values) - 1) / self.rate:
                values[-1] = np.nan
            yield values, place

    @property
    def _least_constant(self) -> int:
        """From how many equal samples on a channel is constant."""
        return max(round(CONSTANT * self.rate), 2)

    def fill(self, row: int, values: Samples, sos: Samples | None, zerophase: bool) -> tuple[Segment, ...]:
        """
        Bridge, resample and filter one component, segment by segment.

        :param row: Component
        :param values: Its samples, as :py:meth:`joined` returns them
        :param sos: Filter in second-order sections, or None
        :param zerophase: Whether the filter runs forward and backward
        """
        if not len(values):
            return ()
        self.covered[row] = ~np.isnan(values)
        constant = gaps.constant(values, self._least_constant)
        segments: list[Segment] = []
        for place in self._parts(row):
            padding = place.start % self.ratio.denominator
            part, alive = self._conditioned(values[place], constant[place], padding)
            begin = int((place.start - padding) * self.ratio)
            end = begin + len(part)
            # at another rate, two segments may share a sample: the earlier one keeps it
            first = max(begin, segments[-1].span.stop) if segments else begin
            here, new = (row, slice(first, end)), slice(first - begin, None)
            self.data[here] = filtering.filtered(part, sos, zerophase)[new]
            self.alive[here] = alive[new]
            segments.append(Segment(place, padding, slice(begin, end)))
        return tuple(segments)

    def _parts(self, row: int) -> Iterator[slice]:
        """Where a component has one channel code and no long gaps."""
        there = np.flatnonzero(self.covered[row])
        changes = [new.start for (old, _), (piece, new) in pairwise(self.pieces[row]) if old.channel != piece.channel]
        begins = np.diff(there, prepend=-np.inf) - 1 > BRIDGED * self.rate  # true for the first sample
        begins[np.searchsorted(there, changes)] = True
        for part in np.split(there, np.flatnonzero(begins)[1:]):
            yield slice(int(part[0]), int(part[-1]) + 1)

    def _conditioned(self, values: Samples, constant: Mask, padding: int) -> tuple[Samples, Mask]:
        """Samples of a part at the rate of the record, bridged; and where they are alive."""
        alive = ~np.isnan(values) & ~constant
        part = gaps.bridged(np.where(alive, values, np.nan) if alive.any() else values)
        if self.ratio == 1:
            return part, alive
        part = filtering.resampled(np.pad(part, (padding, 0), mode="edge"), self.ratio)
        return part, filtering.resampled_mask(np.pad(alive, (padding, 0)), self.ratio)
