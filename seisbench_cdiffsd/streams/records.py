"""ObsPy streams to arrays of one instrument each, and back, without losing or inventing a sample.

A record is the common time axis of the components of one instrument: network, station, location, band and instrument
code (so HH and HN at one location are two) and sampling rate. It is split only where every component is missing for
longer than a window; shorter gaps are filled for the network and left out of every output. Samples are counted
from 1970 on, so a record and any longer one that holds it are cut into the same windows.

This module, with `pieces`, `axis`, `gaps`, `filtering`, `windows` and `amplitudes`, replaces the pipeline behind
SeisBench's `annotate` (`WaveformModel` in version 0.12.6). That one is made for characteristic functions, and cannot
return a stream sample by sample:

- `_cut_fragments_array` drops fragments shorter than a window;
- `trace_id_without_component` lacks the band and instrument code, so HH and HN at one location share an array;
- `_filter_stream` ignores gaps (its own TODO), and `stream_to_array` sets them, and missing components, to zero: the
  network takes them for quiet ground, and the output has samples there;
- `_stack_options` are "avg" and "max", which leave steps at the ends of windows;
- `_predictions_to_stream` returns the rate of the model, one start time for all components, and no channel codes;
- `sanitize_mismatching_overlapping_records` removes overlapping traces that disagree.

Three parts could go upstream on their own: grouping by band and instrument code (:py:func:`.pieces.instruments`), the
cross-fade of :py:class:`.windows.Windows`, and filtering between gaps (:py:meth:`.axis.Axis.fill` and `gaps`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime

from seisbench_cdiffsd.streams import filtering, gaps
from seisbench_cdiffsd.streams.axis import Axis, Segment
from seisbench_cdiffsd.streams.gaps import Mask, Samples
from seisbench_cdiffsd.streams.pieces import Piece, cut, divided, instruments, listed, rounded_rate, stretches

logger = logging.getLogger("seisbench")

#: A stretch of `data`, the time of its first sample, and its channel code.
Anchor = tuple[slice, UTCDateTime, str]


@dataclass(frozen=True, eq=False)
class Record:
    """
    One instrument over one stretch of time, as the network sees it.

    :param stats: Network, station and location code
    :param channels: Channel code of each component, the first one if it changes, "" for a missing component
    :param rate: Sampling rate of `data` in Hz
    :param origin: Number of the first sample among all samples of this rate since 1970
    :param data: Samples (component, samples); gaps are filled by :py:func:`.gaps.fill`
    :param present: Where the stream has samples, (component, samples)
    :param alive: Where they are a signal and not constant, (component, samples)
    :param pieces: For each component, the pieces of the stream, and where they lie at the rate of the stream
    :param segments: For each component, what was filtered by itself
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
    pieces: tuple[tuple[tuple[Piece, slice], ...], ...]
    segments: tuple[tuple[Segment, ...], ...]
    covered: Mask
    ratio: Fraction

    def traces(self, values: NDArray[np.float32], prefix: str = "", options: Any = None) -> Stream:
        """
        Arrays to traces, one for each contiguous stretch of the stream.

        :param values: Samples in the shape of `data`
        :param prefix: Put before the channel codes
        :param options: As for :py:func:`with_samples`
        :return: Traces at the rate of the record, with their own start times
        """
        stream = Stream()
        for row in range(len(self.channels)):
            anchors = self._anchors(row)
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
                    if options is not None:
                        stream[-1].stats.processing = [_note(options)]
        return stream

    def _anchors(self, row: int) -> list[Anchor]:
        """Stretches of a component that have sample times of their own; later ones have priority."""
        if self.ratio == 1:
            return [(place, piece.start, piece.channel) for piece, place in self.pieces[row]]
        # backwards, since a segment may start with samples of the one before it
        return [(x.span, x.start, x.channel) for x in self.segments[row][::-1]]

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
    :raises TypeError: If `stream` is not a stream
    """
    if not isinstance(stream, Stream):
        hint = "obspy.read(path) opens a file, obspy.Stream([trace]) holds a trace"
        raise TypeError(f"Give an ObsPy Stream, not {type(stream).__name__}: {hint}.")
    limit = window / sampling_rate
    doubled, contradicting = set[str](), dict[str, str]()
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
            channels = tuple(placed[0][0].channel if placed else "" for placed in axis.pieces)
            segments: list[tuple[Segment, ...]] = []
            for row, channel in enumerate(channels):
                values, contradiction = axis.joined(row)
                if contradiction:
                    start = UTCDateTime(axis.start / rate).strftime("%Y-%m-%dT%H:%M:%S")
                    contradicting.setdefault(".".join([*names, channel]), start)
                segments.append(axis.fill(row, values, sos, zerophase))
            gaps.fill(axis.data, axis.alive, window)
            covered, present = axis.covered, axis.present
            if strict:
                covered, present = (x & x.all(axis=0) for x in (covered, present))
            yield Record(
                stats=stats,
                channels=channels,
                rate=rate * float(ratio) if ratio != 1 else rate,
                origin=int(axis.start * ratio),
                data=axis.data,
                present=present,
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
    channels: dict[tuple[str, float], list[int]] = {}
    for source, trace in enumerate(stream):
        if trace.stats.npts and 0 < trace.stats.sampling_rate < np.inf and trace.data.dtype.kind in "iufb":
            channels.setdefault((trace.id, rounded_rate(trace)), []).append(source)
    result = Stream()
    for _, members in sorted(channels.items()):
        pieces = [piece for source in members for piece in cut(source, stream[source], 0, limit)]
        rate = max(stream[source].stats.sampling_rate for source in members)  # not rounded: a day has many samples
        for stretch in stretches(pieces, rate, limit):
            axis = Axis(stretch, rate, Fraction(1), 1)
            first, _ = axis.pieces[0][0]
            trace = with_samples(stream[first.source], axis.joined(0)[0])
            trace.stats.starttime, trace.stats.sampling_rate = first.start, rate
            result.append(trace)
    return result


def with_samples(trace: Trace, values: Samples, options: Any = None) -> Trace:
    """
    A trace with other samples; the NaN among them are masked.

    :param trace: Trace, unchanged
    :param values: Its new samples
    :param options: What they were denoised with, a dataclass; noted in the processing of the trace
    """
    stats = trace.stats.copy()
    if "mseed" in stats:
        stats.mseed.pop("encoding", None)  # of the samples before
    if options is not None:
        stats.processing = [*stats.get("processing", []), _note(options)]
    missing = np.isnan(values)
    result = Trace(header=stats)
    result.data = np.ma.masked_array(values, missing) if missing.any() else values  # which sets their number, too
    return result


def _note(options: Any) -> str:
    """Package, version and options, as ObsPy notes its own processing."""
    from seisbench_cdiffsd import __version__  # which the package sets after it has imported this module

    given = "::".join(f"{name}={value!r}" for name, value in asdict(options).items() if name != "batch_size")
    return f"seisbench_cdiffsd {__version__}: denoise({given})"
