"""ObsPy streams to arrays of one instrument each, and back, without losing or inventing a sample.

A record is the common time axis of the components of one instrument: network, station, location, band and instrument
code (so HH and HN at one location are two) and sampling rate. It is split only where every component is missing for
longer than a window; shorter gaps are bridged for filter and network and left out of every output.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime

from seisbench_cdiffsd import filtering
from seisbench_cdiffsd.filtering import Samples
from seisbench_cdiffsd.pieces import Mask, Piece, cut, instruments, stretches

logger = logging.getLogger("seisbench")


@dataclass(frozen=True, eq=False)
class Record:
    """
    One instrument over one stretch of time, as the network sees it.

    :param stats: Network, station and location code
    :param channels: Channel code of each component, "" where there is none
    :param rate: Sampling rate of `data` in Hz
    :param data: Samples (component, samples); zero outside the span of a component, bridged in its gaps
    :param present: Where `data` comes from samples of the stream, (component, samples)
    :param anchors: For each component, stretches of `data` and the time of their first sample, the most trusted last
    :param pieces: The pieces of the stream it was made of, and where they lie at the rate of the stream
    :param covered: `present` at the rate of the stream
    :param ratio: `rate` over the rate of the stream
    """

    stats: dict[str, str]
    channels: tuple[str, ...]
    rate: float
    data: NDArray[np.float32]
    present: Mask
    anchors: tuple[tuple[tuple[slice, UTCDateTime], ...], ...]
    pieces: tuple[tuple[Piece, slice], ...]
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
        for row, channel in enumerate(self.channels):
            for first, stop in _runs(self.present[row]):
                header = {"starttime": self._time(row, first), "sampling_rate": self.rate, "channel": prefix + channel}
                stream.append(Trace(values[row, first:stop].copy(), {**self.stats, **header}))
        return stream

    def _time(self, row: int, sample: int) -> UTCDateTime:
        """Time of a sample that is present."""
        span, start = next(x for x in reversed(self.anchors[row]) if x[0].start <= sample < x[0].stop)
        return start + (sample - span.start) / self.rate

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
        samples = values[row].astype(np.float64)
        covered = self.covered[row]
        if self.ratio != 1:
            first = min(place.start for piece, place in self.pieces if piece.row == row)
            span = self.anchors[row][0][0]
            back = filtering.restored(samples[span], self.ratio)[: len(covered) - first]
            samples = np.zeros(len(covered))
            samples[first : first + len(back)] = back
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
    contradict each other the longer trace is believed (of equally long ones the later), whatever their order.

    :param stream: Traces of any number of instruments, rates and stretches of time
    :param sampling_rate: Rate of the model in Hz; data at other rates are resampled, zero-phase
    :param window: Window of the model in samples
    :param order: Components of the model
    :param flexible: Whether components 1 and 2 stand for N and E, and the other way round
    :param strict: Whether only samples count that all components have
    :param sos: Filter in second-order sections, see :py:func:`design_filter`
    :param zerophase: Whether the filter runs forward and backward
    """
    for (network, station, location, *_), members in instruments(stream, order, flexible):
        limit = window / sampling_rate
        pieces = [piece for source, trace, row in members for piece in cut(source, trace, row, limit)]
        rates = {source: trace.stats.sampling_rate for source, trace, _ in members}
        channels = {row: trace.stats.channel for _, trace, row in members}
        stats = {"network": network, "station": station, "location": location}
        for stretch in stretches(pieces, max(rates.values()), limit):
            codes = tuple(channels[i] if any(p.row == i for p in stretch) else "" for i in range(len(order)))
            yield _record(stretch, stats, codes, max(rates.values()), sampling_rate, strict, sos, zerophase)


def _record(
    pieces: list[Piece],
    stats: dict[str, str],
    channels: tuple[str, ...],
    rate: float,
    sampling_rate: float,
    strict: bool,
    sos: Samples | None,
    zerophase: bool,
) -> Record:
    start = min(piece.start for piece in pieces)
    # the most trusted comes last and overwrites; the sum makes ties independent of the order of the traces
    pieces = sorted(pieces, key=lambda p: (len(p.values), p.start, float(np.sum(p.values, where=~p.missing))))
    placed = tuple((piece, piece.place(start, rate)) for piece in pieces)
    length = max(place.stop for _, place in placed)
    ratio = filtering.simple_ratio(rate, sampling_rate)
    samples = filtering.resampled_length(length, ratio)
    covered = np.zeros((len(channels), length), dtype=bool)
    data = np.zeros((len(channels), samples), dtype=np.float32)
    present = covered if ratio == 1 else np.zeros(data.shape, dtype=bool)
    anchors: list[tuple[tuple[slice, UTCDateTime], ...]] = []
    for row, channel in enumerate(channels):
        members = [(piece, place) for piece, place in placed if piece.row == row]
        anchors.append(tuple((place, piece.start) for piece, place in members))
        if not members:
            continue
        values = _joined(members, length, ".".join([*stats.values(), channel]))
        covered[row] = ~np.isnan(values)
        first, stop = (int(i) for i in np.flatnonzero(covered[row])[[0, -1]] + (0, 1))
        values = filtering.bridged(values[first:stop])
        if ratio != 1:
            values = filtering.resampled(values, ratio)
            begin = min(int(first * ratio + Fraction(1, 2)), samples - len(values))
            present[row, begin : begin + len(values)] = filtering.resampled_mask(covered[row, first:stop], ratio)
            anchors[row] = ((slice(begin, begin + len(values)), min(p.start for p, _ in members)),)
            first = begin
        data[row, first : first + len(values)] = filtering.filtered(values, sos, zerophase)
    if strict:
        covered &= covered.all(axis=0)
        present &= present.all(axis=0)
    rate = rate * float(ratio) if ratio != 1 else rate
    return Record(stats, channels, rate, data, present, tuple(anchors), placed, covered, ratio)


def _joined(members: list[tuple[Piece, slice]], length: int, name: str) -> Samples:
    """One component on the axis of its record, NaN where it is missing; later pieces overwrite earlier ones."""
    row = np.full(length, np.nan)
    contradiction = False
    for piece, place in members:
        before, values = row[place], np.where(piece.missing, np.nan, piece.values)
        if len(members) > 1:
            contradiction |= bool(np.any(before != values, where=~(np.isnan(before) | np.isnan(values))))
            values = np.where(np.isnan(values), before, values)
        row[place] = values
    if contradiction:
        logger.warning(f"Traces of {name} overlap and disagree: the longer one is believed.")
    return row


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
