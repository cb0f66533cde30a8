"""What comes along with a denoised record: picks, in lists of all kinds, and a figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from obspy import Stream, UTCDateTime
from obspy.core.event import Catalog, Comment, Event, Pick, ResourceIdentifier, WaveformStreamID
from seisbench.models import WaveformModel

from seisbench_cdiffsd.files.console import one_line, printable
from seisbench_cdiffsd.files.reading import between
from seisbench_cdiffsd.files.writing import replacing
from seisbench_cdiffsd.picking import NOT_PICKED, PICK_COLUMNS
from seisbench_cdiffsd.plotting import plot_denoised
from seisbench_cdiffsd.streams.records import joined

#: Seconds of a piece that are picked again with the next one.
OVERLAP = 60.0


class Extras:
    """Picks and the figure of a record that comes in pieces, each of which is picked with the end of the one before."""

    def __init__(self, model: WaveformModel, kinds: Iterable[str], pick: Callable[..., pd.DataFrame] | None) -> None:
        self.model, self.kinds = model, kinds
        self.pick: Any = pick
        self.clean, self.noise = Stream(), Stream()
        #: Picks so far, and in its ``attrs`` why instruments were picked on no piece.
        self.picks = pd.DataFrame(columns=PICK_COLUMNS)
        self.before: pd.DataFrame | None = None
        #: Why there are no picks.
        self.failure = "" if pick else "there is no picker"
        self._tail, self._since = Stream(), UTCDateTime(-(10**10))

    def add(self, signal: Stream, noise: Stream) -> None:
        """Take the next piece."""
        if "figures" in self.kinds:
            self.clean, self.noise = self.clean + signal, self.noise + noise
        if "picks" in self.kinds and signal and not self.failure:
            try:
                self._pick(self.joined(signal))
            except Exception as error:  # of a library
                self.failure = one_line(error)

    def joined(self, stream: Stream) -> Stream:
        """A stream as the model sees it: SeisBench's pickers skip traces with NaN, and traces that overlap."""
        return joined(stream, self.model.in_samples / self.model.sampling_rate)

    def _pick(self, piece: Stream) -> None:
        stream = self._tail + piece
        picks = self.pick(stream)
        reasons = picks.attrs[NOT_PICKED].items()
        before = self.picks.attrs.get(NOT_PICKED, dict(reasons))
        # boolean arrays, as pandas takes an empty list as a selection of no columns
        sure, new = (np.array([time < self._since for time in table["time"]], bool) for table in (self.picks, picks))
        self.picks = pd.concat([self.picks[sure], picks[~new]], ignore_index=True)
        self.picks.attrs = {NOT_PICKED: {name: why for name, why in reasons if name in before}}
        end = max(trace.stats.endtime for trace in piece)
        self._since = end - OVERLAP
        tail = (between(trace, self._since - OVERLAP, end + 1) for trace in stream)
        self._tail = Stream([trace for trace in tail if len(trace)])

    def write_picks(self, paths: Iterable[Path], noisy: Callable[[], Stream] | None) -> list[str]:
        """Write picks as CSV and QuakeML, and describe them, and those on the noisy record if it is short."""
        if self.failure:
            raise ValueError(self.failure)
        for path, write in zip(paths, (write_csv, write_quakeml), strict=True):
            with replacing(path) as temporary:
                write(self.picks, temporary)
        lines = [f"  PhaseNet, denoised: {describe(self.picks)}"]
        if noisy:
            self.before = self.pick(self.joined(noisy()))
            lines.insert(0, f"  PhaseNet, noisy:    {describe(self.before)}")
        return lines

    def draw(self, path: Path, noisy: Stream) -> None:
        """Draw the record."""
        after = None if self.failure else self.picks
        band = {"filter_args": self.model.filter_args, "filter_kwargs": self.model.filter_kwargs}
        with replacing(path) as temporary:
            plot_denoised(self.joined(noisy), self.clean, self.noise, self.before, after, path=temporary, **band)


def describe(picks: pd.DataFrame) -> str:
    """Picks in one line; if there are many, their numbers; if the record was not picked, why."""
    if len(picks) > 8:
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

    def numbered(what: str) -> ResourceIdentifier:
        return ResourceIdentifier(f"smi:local/cdiffsd{what}")

    event = Event(resource_id=numbered("/picks"))
    for i, pick in enumerate(picks.itertuples()):
        network, rest = printable(pick.record).split(".", 1)
        station, location, channel = rest.rsplit(".", 2)  # station codes from SAC may contain a point
        said = Comment(text=f"probability {pick.probability:.4f}", resource_id=numbered(f"/comment/{i}"))
        entry = Pick(resource_id=numbered(f"/pick/{i}"), time=pick.time, phase_hint=pick.phase, comments=[said])
        entry.waveform_id = WaveformStreamID(network, station, location, channel)
        entry.evaluation_mode = "automatic"
        event.picks.append(entry)
    Catalog([event], resource_id=numbered("")).write(str(path), format="QUAKEML")
