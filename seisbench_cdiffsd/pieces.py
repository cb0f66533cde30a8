"""Traces sorted by instrument, and cut where samples are missing for long."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime

logger = logging.getLogger("seisbench")

#: Larger samples do not fit single precision, with room for the overshoot of a filter; they count as missing.
LARGEST = 1e37

#: Of more channels than these, a warning counts the rest.
MOST_LISTED = 20

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Piece:
    """
    A stretch of one trace of a stream.

    :param source: Position of the trace in the stream
    :param offset: Where the piece begins in the trace, in samples
    :param start: Time of its first sample
    :param values: Its samples, as in the trace: a view
    :param missing: Which of them are masked, NaN or infinite
    :param row: Component, in the order of the model
    """

    source: int
    offset: int
    start: UTCDateTime
    values: NDArray[Any]
    missing: Mask
    row: int

    def place(self, rate: float) -> slice:
        """
        Where the piece lies among all samples since 1970, to the nearest one: the same however a stream is cut.

        :param rate: Sampling rate of the axis in Hz
        """
        # no sample time of a usual rate lies where this rounds up, so that its jitter decides nothing
        first = math.floor(self.start.ns * Fraction(rate) / 10**9 + Fraction(51, 100))
        return slice(first, first + len(self.values))


def instruments(
    stream: Stream, order: str, flexible: bool, slowest: float
) -> list[tuple[tuple[Any, ...], list[tuple[int, Trace, int]]]]:
    """
    Traces by instrument.

    :param stream: Traces
    :param order: Components of the model
    :param flexible: Whether components 1 and 2 stand for N and E, and the other way round
    :param slowest: Traces of a lower rate, in Hz, are passed over
    :return: (network, station, location, ...) and (position, trace, component) of each trace
    """
    rows = {letter: row for row, letter in enumerate(order)}
    if flexible:
        for one, other in ("1N", "2E", "N1", "E2"):
            if one in order:
                rows.setdefault(other, rows[one])
    groups: dict[tuple[Any, ...], list[tuple[int, Trace]]] = defaultdict(list)
    passed_over, doubled = set(), set()
    for source, trace in enumerate(stream):
        stats = trace.stats
        fits = slowest <= stats.sampling_rate < np.inf and trace.data.dtype.kind in "iufb"
        if stats.channel[-1:] not in rows or not fits:
            passed_over.add(trace.id)
        elif stats.npts > 0:
            # six digits: SAC keeps the sample interval in single precision
            rate = float(f"{stats.sampling_rate:.6g}")
            groups[stats.network, stats.station, stats.location, stats.channel[:-1], rate].append((source, trace))
    members: dict[tuple[Any, ...], list[tuple[int, Trace, int]]] = defaultdict(list)
    for key, traces in groups.items():
        letters = {trace.stats.channel[-1] for _, trace in traces}
        both = bool(letters & set("NE") and letters & set("12"))
        if both:
            doubled.add(".".join(key[:4]))
        for source, trace in traces:
            letter = trace.stats.channel[-1]
            members[(*key, both and letter in "12")].append((source, trace, rows[letter]))
    for names, what in (
        (passed_over, f"passed over, not of the components {' '.join(rows)}, no numbers, or below {slowest:g} Hz"),
        (doubled, "with horizontal components 12 beside NE: 12 stand alone"),
    ):
        if names:
            logger.warning(f"Channels {what}: {listed(names)}")
    return sorted(members.items())


def listed(names: Iterable[str]) -> str:
    """Names in order, the first few of many."""
    first, rest = sorted(names)[:MOST_LISTED], len(set(names)) - MOST_LISTED
    return ", ".join(first) + (f" and {rest} more" if rest > 0 else "")


def cut(source: int, trace: Trace, row: int, limit: float) -> Iterator[Piece]:
    """Pieces of a trace, cut where samples are missing for longer than `limit` seconds."""
    values = np.ma.getdata(trace.data)
    missing = np.ma.getmaskarray(trace.data).copy()
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            missing |= ~(np.abs(values) < LARGEST)
    if not missing.any():
        yield Piece(source, 0, trace.stats.starttime, values, missing, row)
        return
    there = np.flatnonzero(~missing)
    breaks = np.flatnonzero(np.diff(there) - 1 > limit * trace.stats.sampling_rate)
    for part in np.split(there, breaks + 1) if len(there) else []:
        first, stop = int(part[0]), int(part[-1]) + 1
        start = trace.stats.starttime + first / trace.stats.sampling_rate
        yield Piece(source, first, start, values[first:stop], missing[first:stop], row)


def stretches(pieces: Iterable[Piece], rate: float, limit: float) -> Iterator[list[Piece]]:
    """Pieces of one instrument, cut where all components are missing for longer than `limit` seconds."""
    stretch: list[Piece] = []
    end = UTCDateTime(0)
    for piece in sorted(pieces, key=lambda p: p.start):
        if stretch and piece.start - end > limit:
            yield stretch
            stretch = []
        stop = piece.start + len(piece.values) / rate
        end = max(end, stop) if stretch else stop
        stretch.append(piece)
    if stretch:
        yield stretch
