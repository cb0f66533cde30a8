"""ObsPy streams to arrays of one instrument each, and back, without losing or inventing a sample.

A record is the common time axis of the components of one instrument: network, station, location, band and instrument
code (so HH and HN at one location are two) and sampling rate. It is split only where every component is missing for
longer than a window; shorter gaps are filled for the network and left out of every output. Samples are counted
from 1970 on, so a record and any longer one that holds it are cut into the same windows.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import chain, groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime

from seisbench_cdiffsd import __version__
from seisbench_cdiffsd.streams import filtering, gaps
from seisbench_cdiffsd.streams.gaps import Samples
from seisbench_cdiffsd.streams.pieces import (
    Member,
    Piece,
    all_pieces,
    divided,
    instruments,
    is_usable,
    listed,
    logger,
    of_one_rate,
    stretches,
)

#: How far gaps are filled from both ends, in windows: silence beside other components looks like a change of ground.
FILLED = 2
#: Gaps of up to this many seconds, and constant stretches, are bridged for the filter. Both sides of a longer one are
#: filtered by themselves: a line from one to the other would carry steps and microseism into the band.
BRIDGED = 1.0
#: Samples that stay the same for this many seconds are not a signal.
CONSTANT = 1.0


class Record:
    """
    One instrument over one stretch of time, as the network sees it: the common time axis of its components.

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
        #: Time of the first sample, as the first piece has it.
        self.begin = pieces[0].start - placed[0][1].start / rate
        #: Number of the first sample of `data` among all samples of its rate since 1970.
        self.origin = int(self.start * ratio)
        self.length = max(place.stop for _, place in placed)
        #: From how many equal samples on a channel is constant.
        self.least_constant = max(round(CONSTANT * rate), 2)
        #: Where the stream has samples; what the network sees, without gaps; and where that is a signal, not constant.
        self.covered = np.zeros((rows, self.length), dtype=bool)
        self.data = np.zeros((rows, filtering.resampled_length(self.length, ratio)), dtype=np.float32)
        self.alive = np.zeros(self.data.shape, dtype=bool)
        #: For each component, the stretches of signal, at the rate of the stream: each is filtered by itself.
        self.parts: list[list[slice]] = [[] for _ in range(rows)]

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
            still, there = gaps.constant(new, self.least_constant), ~np.isnan(new)
            for (total, count), mask in ((varying, there & ~still), (constant, there & still)):
                total[place] += np.where(mask, new, 0)
                count[place] += mask
        (total, count), (rest, others) = varying[:, different], constant[:, different]
        values[different] = np.where(count > 0, total, rest) / np.where(count > 0, count, others)
        return values, bool(np.any(count + others * (count == 0) > 1))

    def _contents(self, row: int) -> Iterator[tuple[Samples, slice]]:
        """The samples of each piece of a component, NaN where they are missing, and where they lie."""
        starts = {place.start: piece for piece, place in self.pieces[row]}
        for piece, place in self.pieces[row]:
            values = np.where(piece.missing, np.nan, piece.values)
            # where the clock jitters, the last sample may get the place of a later one, the first of the next piece
            after = starts.get(place.stop - 1, piece)
            one = after is not piece and after.source == piece.source
            if one or after.start > piece.start + (len(values) - 1) / self.rate:
                values[-1] = np.nan
            yield values, place

    def fill(self, row: int, values: Samples, sos: Samples | None, zerophase: bool) -> None:
        """Bridge, resample and filter one component, as :py:meth:`joined` returns it, part by part."""
        if not len(values):
            return
        self.covered[row] = ~np.isnan(values)
        alive = self.covered[row] & ~gaps.constant(values, self.least_constant)
        self.parts[row], filled = [*self._parts(row, alive)], 0
        for part in self.parts[row]:
            there, padding, span = alive[part], *self._grid(part)
            new = gaps.bridged(np.where(there, values[part], np.nan))
            new = filtering.resampled(np.pad(new, (padding, 0), mode="edge"), self.ratio)
            there = filtering.resampled_mask(np.pad(there, (padding, 0)), self.ratio)
            # at another rate, two parts may share a sample: the earlier one keeps it
            first = max(span.start, filled)
            self.data[row, first : span.stop] = filtering.filtered(new, sos, zerophase)[first - span.start :]
            self.alive[row, first : span.stop] = there[first - span.start :]
            filled = span.stop

    def _parts(self, row: int, alive: NDArray[np.bool_]) -> Iterator[slice]:
        """Where a component has one channel code and a signal, without long gaps or constant stretches."""
        there = np.flatnonzero(alive)
        changes = [new.start for (old, _), (piece, new) in pairwise(self.pieces[row]) if old.channel != piece.channel]
        long = np.flatnonzero(np.diff(there) - 1 > BRIDGED * self.rate) + 1
        for part in np.split(there, np.union1d(long, np.searchsorted(there, changes))):
            if len(part):
                yield slice(int(part[0]), int(part[-1]) + 1)

    def _grid(self, part: slice) -> tuple[int, slice]:
        """How many samples before a part make its resampled ones lie on the grid of the record, and where they lie."""
        padding = part.start % self.ratio.denominator
        begin = int((part.start - padding) * self.ratio)
        length = filtering.resampled_length(padding + part.stop - part.start, self.ratio)
        return padding, slice(begin, begin + length)

    def original(self, values: NDArray[np.float32]) -> Iterator[tuple[Piece, Samples]]:
        """Samples in the shape of `data` back to the pieces of the stream, NaN where that had none."""
        for row, members in enumerate(self.pieces):  # one row at a time: a day of them is long
            if members:
                samples = self._original_row(row, values)
            for piece, place in members:
                yield piece, np.where(piece.missing, np.nan, samples[place])

    def _original_row(self, row: int, values: NDArray[np.float32]) -> Samples:
        samples = np.where(self.covered[row], 0, np.nan)
        for part in self.parts[row]:
            padding, span = self._grid(part)
            back = filtering.restored(values[row, span].astype(np.float64), self.ratio)
            samples[part] = back[padding:][: part.stop - part.start]
        return np.where(self.covered[row], samples, np.nan)


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
        rate, pieces = all_pieces(members, limit)
        ratio = filtering.simple_ratio(rate, sampling_rate)
        together, alone = divided(pieces, rate, limit)
        if alone:
            doubled.add(name)
        for stretch in chain(stretches(together, rate, limit), stretches(alone, rate, limit)):
            record = Record(stretch, rate, ratio, len(order))
            for row, placed in enumerate(record.pieces):
                values, contradiction = record.joined(row)
                if contradiction:
                    start = UTCDateTime(record.start / rate).strftime("%Y-%m-%dT%H:%M:%S")
                    contradicting.setdefault(f"{name}{placed[0][0].channel[-1:]}", start)
                record.fill(row, values, sos, zerophase)
            gaps.fill(record.data, record.alive, FILLED * window)
            if strict:
                record.covered &= record.covered.all(axis=0)
            yield record
    if doubled:
        logger.warning(
            f"Channels with horizontal components 12 as well as NE, 12 denoised apart: {listed(sorted(doubled))}"
        )
    if contradicting:
        where = listed(f"{channel} (record from {start})" for channel, start in sorted(contradicting.items()))
        logger.warning(f"Channels whose traces overlap and disagree, their mean is used: {where}")


def samples_of_traces(stream: Stream, estimates: Iterable[tuple[Record, NDArray[np.float32]]]) -> dict[int, Samples]:
    """Arrays of records back to the traces of a stream: samples by position in it, NaN where they are missing."""
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
    :return: Traces in double precision, with the start time of the first trace of each stretch, and the times in which
        there may be an earthquake, if denoising told them
    """
    channels: dict[str, list[Member]] = defaultdict(list)
    for source, trace in enumerate(stream):
        if len(trace.data) and is_usable(trace):
            channels[trace.id].append((source, trace, 0))
    result = Stream()
    for members in (group for _, x in sorted(channels.items()) for group in of_one_rate(x)):
        rate, pieces = all_pieces(members, limit)
        for stretch in stretches(pieces, rate, limit):
            record = Record(stretch, rate, Fraction(1), 1)
            first, _ = record.pieces[0][0]
            trace = with_samples(stream[first.source], record.joined(0)[0])
            trace.stats.starttime, trace.stats.sampling_rate = first.start, rate
            sources = sorted({piece.source for piece, _ in record.pieces[0]})
            if spans := sorted(span for source in sources for span in stream[source].stats.get("earthquakes", ())):
                trace.stats.earthquakes = [span for span, _ in groupby(spans)]
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
        stats.pop("earthquakes", None)  # which an earlier denoising told
        given = "::".join(f"{name}={value!r}" for name, value in note.items())
        before = stats.get("processing", [])
        stats.processing = [
            *(before if isinstance(before, list) else [str(before)] if before else []),
            f"seisbench_cdiffsd {__version__}: denoise({given})",
        ]
    missing = np.isnan(values)
    result = Trace(header=stats)
    result.stats.sampling_rate = stats.sampling_rate  # exactly: ObsPy has set it by its inverse
    result.data = np.ma.masked_array(values, missing) if missing.any() else values  # which sets their number, too
    return result
