"""Traces grouped by instrument, and cut where samples are missing for long."""

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime

from seisbench_cdiffsd.streams.components import assign
from seisbench_cdiffsd.streams.gaps import Mask

logger = logging.getLogger("seisbench")

#: First and past-the-last of some samples.
Span = tuple[int, int]
#: Position of a trace in a stream, the trace, and its component.
Member = tuple[int, Trace, int]

#: Larger samples do not fit single precision, with room for the overshoot of a filter; they count as missing.
LARGEST = 1e37

#: Rates that differ by no more than this share are one, as in miniSEED.
SAME_RATE = 1e-4
#: Rates in Hz above this one, which no seismometer has, are errors, and would fill the memory.
HIGHEST_RATE = 1e5
#: How far the clock of a trace may drift against its rate, as a share: by 0.2 s in a day.
DRIFT = 2e-6
#: A gap of more than so many samples, and times the pieces beside it, is not filled: where a rate is wrong, it may be
#: thousands of times as long.
SPARSE = 3000, 10

#: A message lists this many channels or files, and counts the rest.
MOST_LISTED = 10


@dataclass(frozen=True, eq=False)
class Piece:
    """
    A stretch of one trace of a stream.

    :param source: Position of the trace in the stream
    :param offset: Where the piece starts in the trace, in samples
    :param start: Time of its first sample
    :param values: Its samples, as in the trace: a view
    :param missing: Which of them are masked, NaN or infinite
    :param row: Component, in the order of the model
    :param channel: Channel code
    """

    source: int
    offset: int
    start: UTCDateTime
    values: NDArray[Any]
    missing: Mask
    row: int
    channel: str

    def place(self, rate: float, origin: int = 0) -> slice:
        """Where the piece lies among all samples since 1970, less `origin`: the same however a stream is cut."""
        first = math.floor(_place(self.start, rate)) - origin
        return slice(first, first + len(self.values))


def _place(time: UTCDateTime, rate: float) -> Fraction:
    """Which sample since 1970 a time falls on, to be rounded down."""
    # no sample time of a usual rate lies where this rounds up, so its jitter decides nothing
    return time.ns * Fraction(rate) / 10**9 + Fraction(51, 100)


def instruments(
    stream: Stream, order: str, flexible: bool, min_rate: float, names: Mapping[str, str] | None = None
) -> list[tuple[str, list[Member]]]:
    """
    Traces by instrument and sampling rate.

    :param stream: Traces
    :param order: Components of the model
    :param flexible: Whether components 1 and 2 stand for N and E, and the other way round
    :param min_rate: Traces at this rate in Hz, or a lower one, are skipped
    :param names: Names of components, see :py:func:`.components.assign`
    :return: Ids without the component, and the traces
    """
    rows = {letter: row for row, letter in enumerate(order)}
    if flexible:
        for one, other in ("1N", "2E", "N1", "E2"):
            if one in order:
                rows.setdefault(other, rows[one])
    found = assign({trace.id for trace in stream}, names)
    members: dict[str, list[Member]] = defaultdict(list)
    skipped = set()
    for source, trace in enumerate(stream):
        component, rate = found.get(trace.id), trace.stats.sampling_rate
        if trace.stats.npts and not len(trace.data):
            skipped.add(f"{trace.id} (without samples: headonly=True)")
        elif component is None or component.letter not in rows or not is_usable(trace) or rate <= min_rate:
            skipped.add(f"{trace.id} ({rate:g} Hz)")
        elif len(trace.data):
            members[component.instrument].append((source, trace, rows[component.letter]))
    groups = [(name, group) for name in sorted(members) for group in of_one_rate(members[name])]
    if skipped:
        kinds = f"not of the components {' '.join(rows)}, not numeric, or not above {min_rate:g} Hz"
        logger.warning(f"Channels skipped: {kinds} and up to {HIGHEST_RATE:g} Hz: {listed(sorted(skipped))}")
    # however close the rates are: else the result would depend on how far they drift, and so on the record's length
    if mixed := {name for (name, _), (other, _) in pairwise(groups) if name == other}:
        logger.warning(f"Channels at different sampling rates, each rate denoised by itself: {listed(sorted(mixed))}")
    return groups


def is_usable(trace: Trace) -> bool:
    """Whether a trace has numbers at a sampling rate that instruments have."""
    return 0 < trace.stats.sampling_rate <= HIGHEST_RATE and trace.data.dtype.kind in "iufb"


def of_one_rate(members: Iterable[Member]) -> list[list[Member]]:
    """Groups of one sampling rate, as far as it is known: SAC keeps seven digits, and clocks waver."""
    groups: list[list[Member]] = []
    last = 0.0
    for member in sorted(members, key=lambda x: x[1].stats.sampling_rate):
        rate = member[1].stats.sampling_rate
        if groups and rate - last <= SAME_RATE * rate:
            groups[-1].append(member)
        else:
            groups.append([member])
        last = rate
    return groups


def all_pieces(members: Iterable[Member], limit: float) -> tuple[float, list[Piece]]:
    """Rate in Hz of a group of one rate (if it wavers, the whole number next to it, or the largest), and its pieces."""
    rates = {trace.stats.sampling_rate for _, trace, _ in members}
    near = float(round(rate := max(rates)))
    if len(rates) > 1 and abs(near - rate) <= SAME_RATE * rate:
        rate = near
    return rate, [piece for source, trace, row in members for piece in cut(source, trace, row, limit, rate)]


def listed(names: Iterable[str]) -> str:
    """Names, the first few of many."""
    first = [*names]
    rest = len(first) - MOST_LISTED
    return ", ".join(first[:MOST_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def cut(source: int, trace: Trace, row: int, limit: float, rate: float) -> Iterator[Piece]:
    """
    Pieces of a trace, cut where samples are missing for longer than `limit` seconds and, if the rate of the record is
    another one, where a sample would lie at a time of its neighbour.
    """
    values, stats, own = np.ma.getdata(trace.data), trace.stats, trace.stats.sampling_rate
    missing = np.ma.getmaskarray(trace.data).copy()
    if values.dtype.kind == "f":
        if values.dtype.itemsize == 2:  # half precision overflows at LARGEST, and in sums
            values = values.astype(np.float32)
        with np.errstate(invalid="ignore"):
            missing |= ~(np.abs(values) < LARGEST)
    drift = rate / own - 1
    if not missing.any() and abs(drift) <= DRIFT:
        yield Piece(source, 0, stats.starttime, values, missing, row, stats.channel)
        return
    there = np.flatnonzero(~missing)
    breaks = np.diff(there) - 1 > limit * own
    if abs(drift) > DRIFT:
        breaks |= np.diff(np.floor(drift * there + float(_place(stats.starttime, rate) % 1))) != 0
    for part in np.split(there, np.flatnonzero(breaks) + 1) if len(there) else []:
        first, stop = int(part[0]), int(part[-1]) + 1
        start = stats.starttime + first / own
        yield Piece(source, first, start, values[first:stop], missing[first:stop], row, stats.channel)


def stretches(pieces: Iterable[Piece], rate: float, limit: float) -> Iterator[list[Piece]]:
    """Pieces of one instrument, cut where all components are missing for longer than `limit` seconds."""
    stretch: list[Piece] = []
    end = UTCDateTime(0)
    for piece in sorted(pieces, key=lambda p: p.start):
        if stretch:
            beside = max(len(piece.values), len(stretch[-1].values))
            if piece.start - end > min(limit, max(SPARSE[0], SPARSE[1] * beside) / rate):
                yield stretch
                stretch = []
        stop = piece.start + len(piece.values) / rate
        end = max(end, stop) if stretch else stop
        stretch.append(piece)
    if stretch:
        yield stretch


def divided(pieces: list[Piece], rate: float, limit: float) -> tuple[list[Piece], list[Piece]]:
    """
    Pieces of one instrument that belong together, and those of its components 1 and 2 that stand alone.

    1 and N share a row, as do 2 and E. Where both have samples, the numbered one stands alone::

        HHN          nnnnnnn
        HH1     11111111111111111
        alone        1111111          (one sample more on both sides)

    What is before and after stays with the others, so the result for a sample depends on nothing far away. Gaps of less
    than `limit` seconds count as if samples were there.
    """
    common: list[Span] = []
    placed = [(piece, piece.place(rate)) for piece in pieces]
    for row in {piece.row for piece in pieces}:
        spans = [(place.start, place.stop, _numbered(piece)) for piece, place in placed if piece.row == row]
        named, numbered = (_joined((x[:2] for x in spans if x[2] == kind), limit * rate) for kind in (False, True))
        both = ((max(a, b), min(c, d)) for a, c in named for b, d in numbered)
        common += [(first, stop) for first, stop in both if first < stop]
    if not common:
        return pieces, []
    # one sample more on both sides: the time of a piece that is cut may round otherwise
    edges = np.array(_joined((first - 1, stop + 1) for first, stop in common)).ravel()
    together: list[Piece] = []
    alone: list[Piece] = []
    for piece, place in placed:
        if not _numbered(piece):
            together.append(piece)
            continue
        inner = edges[(edges > place.start) & (edges < place.stop)].tolist()
        for first, stop in pairwise([place.start, *inner, place.stop]):
            there = first - place.start + np.flatnonzero(~piece.missing[first - place.start : stop - place.start])
            if len(there):
                inside = np.count_nonzero(edges <= first) % 2
                (alone if inside else together).append(_part(piece, int(there[0]), int(there[-1]) + 1, rate))
    return together, alone


def _numbered(piece: Piece) -> bool:
    return piece.channel[-1] in "12"


def _part(piece: Piece, first: int, stop: int, rate: float) -> Piece:
    """Some samples of a piece, where they lie on its axis."""
    values, missing = piece.values[first:stop], piece.missing[first:stop]
    return replace(piece, offset=piece.offset + first, start=piece.start + first / rate, values=values, missing=missing)


def _joined(spans: Iterable[Span], gap: float = 0) -> list[Span]:
    """Spans in order, merged where no more than a gap lies between them."""
    joined: list[Span] = []
    for first, stop in sorted(spans):
        if joined and first - joined[-1][1] <= gap:
            joined[-1] = joined[-1][0], max(joined[-1][1], stop)
        else:
            joined.append((first, stop))
    return joined
