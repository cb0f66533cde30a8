"""Which denoised files are made of which files of seismograms."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from obspy import UTCDateTime

from seisbench_cdiffsd.files.reading import LONG_GAP, Readable, Source, Span

#: Longest record of an instrument, in seconds, that becomes one file; longer ones become a file for each day.
LONGEST = 90000.0


@dataclass(frozen=True)
class Job:
    """One instrument, named by a channel id without its component, over the time span of one output."""

    instrument: str
    source: Source
    start: UTCDateTime
    end: UTCDateTime
    name: str


def jobs(parts: list[Readable], usable: set[str]) -> Iterator[Job]:
    """
    The files to write: one for each instrument, or one a day (UTC) for longer records. Long gaps, as between several
    earthquakes in one file, separate records.
    """
    instruments: dict[str, set[str]] = defaultdict(set)
    for channel in usable:
        instruments[channel[:-1]].add(channel)
    names: set[str] = set()
    for instrument, ids in sorted(instruments.items()):
        source = Source(parts, ids)
        there = source.spans
        stretches: list[tuple[UTCDateTime, UTCDateTime]] = []
        for start, end in _records(there):
            if end - start <= LONGEST:
                stretches.append((start, end + 1))
                continue
            days = range(int(start.timestamp // 86400), int(end.timestamp // 86400) + 1)
            stretches += [
                (max(UTCDateTime(day * 86400), start), min(UTCDateTime((day + 1) * 86400), end + 1)) for day in days
            ]
        for first, last in stretches:
            spans = [span for span in there if span.start < last and span.end >= first]
            if not spans:  # the record ends at midnight, within rounding
                continue
            name = base = file_name(instrument, max(first, spans[0].start))
            while name in names:  # codes that differ only in letters replaced in file names
                name = f"{base}-{len(names)}"
            names.add(name)
            yield Job(instrument, source, first, last, name)


def _records(spans: list[Span]) -> list[tuple[UTCDateTime, UTCDateTime]]:
    """Times of the first and the last sample of each record, in order of time; only long gaps separate records."""
    records: list[tuple[UTCDateTime, UTCDateTime]] = []
    for start, end in ((span.start, span.end) for span in spans):
        if records and start - records[-1][1] <= LONG_GAP:
            start, end = records[-1][0], max(records.pop()[1], end)
        records.append((start, end))
    return records


def file_name(instrument: str, start: UTCDateTime) -> str:
    """Name of the output of an instrument, without suffix: its codes and the time of the first sample."""
    return re.sub(r"[^\w.-]", "_", f"{instrument.lstrip('.') or 'record'}.{start.strftime('%Y%m%dT%H%M%S')}")
