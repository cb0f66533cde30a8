"""Picks on records of any length, and lists of picks: in one line, as CSV and as QuakeML."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from obspy import Stream, UTCDateTime
from obspy.core.event import Catalog, Comment, Event, Pick, ResourceIdentifier, WaveformStreamID
from seisbench.models import WaveformModel

from seisbench_cdiffsd.files.continuous import between
from seisbench_cdiffsd.picking import pick_stream

#: Seconds of a piece that are picked again with the next one.
OVERLAP = 60.0
#: More picks than these are counted, not listed.
MAX_LISTED_PICKS = 8


class Picks:
    """Picks on the pieces of a record; each piece is picked with the end of the one before, so no pick is lost."""

    def __init__(self, picker: WaveformModel) -> None:
        self._picker = picker
        self._tail = Stream()
        self._since = UTCDateTime(-(10**10))
        self._found: list[pd.DataFrame] = []
        self._pending: pd.DataFrame | None = None

    def add(self, piece: Stream) -> None:
        """Pick on the next piece."""
        stream = self._tail + piece
        picks = pick_stream(self._picker, stream)
        # boolean arrays, as pandas takes an empty list as a selection of no columns
        picks = picks[np.array([time >= self._since for time in picks["time"]], dtype=bool)]
        end = max(trace.stats.endtime for trace in piece)
        until = end - OVERLAP
        sure = np.array([time < until for time in picks["time"]], dtype=bool)
        self._found.append(picks[sure])
        self._pending = picks[~sure]
        self._since = until
        tail = (between(trace, until - OVERLAP, end + 1) for trace in stream)
        self._tail = Stream([trace for trace in tail if len(trace)])

    def all(self) -> pd.DataFrame:
        """All picks."""
        return pd.concat([*self._found, self._pending], ignore_index=True)


def describe(picks: pd.DataFrame) -> str:
    """Picks in one line; if there are many, their numbers."""
    if len(picks) > MAX_LISTED_PICKS:
        return ", ".join(f"{count} {phase}" for phase, count in picks["phase"].value_counts().sort_index().items())
    found = (f"{p.phase} {p.time.strftime('%H:%M:%S.%f')[:-4]} ({p.probability:.2f})" for p in picks.itertuples())
    return "  ".join(found) or "none"


def write_csv(picks: pd.DataFrame, path: Path) -> None:
    """Write picks as a table."""
    picks.rename(columns={"record": "instrument"}).to_csv(path, index=False, float_format="%.4f")


def write_quakeml(picks: pd.DataFrame, path: Path) -> None:
    """Write picks as one event, as QuakeML has picks only in events; the ids are just numbers."""
    event = Event(resource_id=ResourceIdentifier("smi:local/cdiffsd/picks"))
    for i, pick in enumerate(picks.itertuples()):
        network, rest = pick.record.split(".", 1)
        station, location, channel = rest.rsplit(".", 2)  # station codes from SAC may contain a point
        event.picks.append(
            Pick(
                resource_id=ResourceIdentifier(f"smi:local/cdiffsd/pick/{i}"),
                time=pick.time,
                waveform_id=WaveformStreamID(network, station, location, channel),
                phase_hint=pick.phase,
                evaluation_mode="automatic",
                comments=[_comment(f"probability {pick.probability:.4f}", i)],
            )
        )
    catalog = Catalog([event], resource_id=ResourceIdentifier("smi:local/cdiffsd"))
    catalog.write(str(path), format="QUAKEML")


def _comment(text: str, number: int) -> Comment:
    return Comment(text=text, resource_id=ResourceIdentifier(f"smi:local/cdiffsd/comment/{number}"))
