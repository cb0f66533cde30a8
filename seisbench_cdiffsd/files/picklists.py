"""Picks on records of any length, and lists of picks: in one line, as CSV and as QuakeML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from obspy import Stream, UTCDateTime
from obspy.core.event import Catalog, Comment, Event, Pick, ResourceIdentifier, WaveformStreamID
from seisbench.models import WaveformModel

from seisbench_cdiffsd.files.console import printable
from seisbench_cdiffsd.files.continuous import between
from seisbench_cdiffsd.picking import NOT_PICKED, PICK_COLUMNS, pick_stream

#: Seconds of a piece that are picked again with the next one.
OVERLAP = 60.0
#: More picks than these are counted, not listed.
MAX_LISTED_PICKS = 8


class Picks:
    """
    Picks on the pieces of a record; each piece is picked with the end of the one before, so no pick is lost.

    :param picker: A SeisBench picker
    :param names: Components of channels with other codes, see :py:func:`pick_stream`
    """

    def __init__(self, picker: WaveformModel, names: Mapping[str, str] | None = None) -> None:
        self._picker, self._names = picker, names
        self._tail, self._since = Stream(), UTCDateTime(-(10**10))
        self._table = pd.DataFrame(columns=PICK_COLUMNS)
        self._reasons: dict[str, str] | None = None

    def add(self, piece: Stream) -> None:
        """Pick on the next piece."""
        stream = self._tail + piece
        picks = pick_stream(self._picker, stream, self._names)
        reasons, before = picks.attrs[NOT_PICKED], self._reasons
        self._reasons = {name: why for name, why in reasons.items() if before is None or name in before}
        # boolean arrays, as pandas takes an empty list as a selection of no columns
        sure, new = (np.array([time < self._since for time in table["time"]], bool) for table in (self._table, picks))
        self._table = pd.concat([self._table[sure], picks[~new]], ignore_index=True)
        end = max(trace.stats.endtime for trace in piece)
        self._since = end - OVERLAP
        tail = (between(trace, self._since - OVERLAP, end + 1) for trace in stream)
        self._tail = Stream([trace for trace in tail if len(trace)])

    def all(self) -> pd.DataFrame:
        """All picks, and why instruments that were picked on no piece were not, as :py:func:`pick_stream` has them."""
        self._table.attrs[NOT_PICKED] = self._reasons or {}
        return self._table


def describe(picks: pd.DataFrame) -> str:
    """Picks in one line; if there are many, their numbers; if the record was not picked, why."""
    if len(picks) > MAX_LISTED_PICKS:
        return ", ".join(f"{count} {phase}" for phase, count in picks["phase"].value_counts().sort_index().items())
    found = (f"{p.phase} {p.time.strftime('%H:%M:%S.%f')[:-4]} ({p.probability:.2f})" for p in picks.itertuples())
    reasons = picks.attrs.get(NOT_PICKED, {}).values()
    return "  ".join(found) or (f"not picked, because {' and '.join(dict.fromkeys(reasons))}" if reasons else "none")


def write_csv(picks: pd.DataFrame, path: Path) -> None:
    """Write picks as a table."""
    table = picks.assign(record=picks["record"].map(printable)).rename(columns={"record": "instrument"})
    table.to_csv(path, index=False, float_format="%.4f")


def write_quakeml(picks: pd.DataFrame, path: Path) -> None:
    """Write picks as one event, as QuakeML has picks only in events; the ids are just numbers."""
    event = Event(resource_id=ResourceIdentifier("smi:local/cdiffsd/picks"))
    for i, pick in enumerate(picks.itertuples()):
        network, rest = printable(pick.record).split(".", 1)
        station, location, channel = rest.rsplit(".", 2)  # station codes from SAC may contain a point
        probability = Comment(
            text=f"probability {pick.probability:.4f}",
            resource_id=ResourceIdentifier(f"smi:local/cdiffsd/comment/{i}"),
        )
        event.picks.append(
            Pick(
                resource_id=ResourceIdentifier(f"smi:local/cdiffsd/pick/{i}"),
                time=pick.time,
                waveform_id=WaveformStreamID(network, station, location, channel),
                phase_hint=pick.phase,
                evaluation_mode="automatic",
                comments=[probability],
            )
        )
    catalog = Catalog([event], resource_id=ResourceIdentifier("smi:local/cdiffsd"))
    catalog.write(str(path), format="QUAKEML")
