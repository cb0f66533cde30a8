"""What comes along with a denoised record: picks on it and on the noisy one, and a figure."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from obspy import Stream, UTCDateTime
from seisbench.util import Detection

from seisbench_cdiffsd.files.console import one_line
from seisbench_cdiffsd.files.picks import describe, write_csv, write_quakeml
from seisbench_cdiffsd.files.reading import between
from seisbench_cdiffsd.files.writing import replacing
from seisbench_cdiffsd.picking import JOINT_COLUMNS, NOT_PICKED, pick_both
from seisbench_cdiffsd.plotting import plot_day, plot_denoised
from seisbench_cdiffsd.streams.records import joined

#: Seconds that are picked at once, with so many more on both sides.
PICKED, AROUND = 3600.0, 60.0


@dataclass
class Extras:
    """Picks and the figure of a record that comes in pieces."""

    model: Any
    kinds: Collection[str]  # what is asked for: picks, figures
    picker: Any  # a SeisBench picker, if there is one
    picking: Mapping[str, Any]  # names of the picker and its weights, and its arguments, as `least`
    names: Mapping[str, str] | None = None  # of unusual components
    short: bool = True  # whether the figure is that of a record, or that of a day
    clean: Stream = field(default_factory=Stream)
    noise: Stream = field(default_factory=Stream)
    detections: list[Any] = field(default_factory=list)
    #: Picks so far, and in its ``attrs`` why instruments were picked on no piece.
    picks: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=JOINT_COLUMNS))
    #: Why there are no picks, or no figures.
    failures: dict[str, str] = field(default_factory=dict)

    def see(self, noisy: Stream, clean: Stream, start: UTCDateTime, end: UTCDateTime) -> None:
        """Pick the next piece, with what lies around it, and note where there may be earthquakes, for the figure."""
        for kind, look in (("figures", self._detect), ("picks", self._pick)):
            if kind in self.kinds and kind not in self.failures:
                try:
                    look(noisy, clean, start, end)
                except Exception as error:  # of a library, which leaves the samples as they are
                    self.failures[kind] = one_line(error)

    def _detect(self, noisy: Stream, clean: Stream, start: UTCDateTime, end: UTCDateTime) -> None:
        for trace in clean:
            bars: list[Any] = []
            for first, last, _ in trace.stats.get("earthquakes", ()):
                if bars and first - bars[-1].end_time < 2 / self.model.sampling_rate:
                    bars[-1].end_time = max(bars[-1].end_time, last)
                elif first < end and last > start:
                    bars.append(Detection(trace.id, first, last))
            self.detections += bars

    def _pick(self, noisy: Stream, clean: Stream, start: UTCDateTime, end: UTCDateTime) -> None:
        for i in range(math.ceil((end - start) / PICKED)):
            first, last = start + i * PICKED, min(start + (i + 1) * PICKED, end)
            before, after = (self.joined(cut(stream, first - AROUND, last + AROUND)) for stream in (noisy, clean))
            if not before:
                continue
            picks = pick_both(self.picker, before, after, self.picking.get("least"), self.names)
            reasons = picks.attrs[NOT_PICKED].items()
            known = self.picks.attrs.get(NOT_PICKED, dict(reasons))
            # a boolean array, as pandas takes an empty list as a selection of no columns
            own = picks[np.array([first <= time < last for time in picks["time"]], bool)]
            self.picks = pd.concat([self.picks, own], ignore_index=True) if len(self.picks) else own
            self.picks.attrs = {NOT_PICKED: {name: why for name, why in reasons if name in known}}

    def add(self, signal: Stream, noise: Stream) -> None:
        """Take the next piece of the figure."""
        if "figures" in self.kinds:
            self.clean += signal
            self.noise += noise if self.short else Stream()

    def joined(self, stream: Stream) -> Stream:
        """A stream as the model sees it: SeisBench's pickers skip traces with NaN, and traces that overlap."""
        return joined(stream, self.model.in_samples / self.model.sampling_rate)

    def write_picks(self, table: Path, *quakeml: Path) -> str:
        """Write picks as a table, and as QuakeML if it has a path, and describe them."""
        if "picks" in self.failures:
            raise ValueError(self.failures["picks"])
        method = " ".join(self.picking[x] for x in ("picker", "weights") if x in self.picking) or "picker"
        with replacing(table) as temporary:
            write_csv(self.picks, temporary)
        for path in quakeml:
            with replacing(path) as temporary:
                write_quakeml(table, temporary, method)
        return f"  {method}: {describe(self.picks)}"

    def draw(self, path: Path, noisy: Stream, picks: pd.DataFrame | None) -> None:
        """Draw the record, or the day, with picks if there is a picker."""
        if "figures" in self.failures:
            raise ValueError(self.failures["figures"])
        noisy, model = self.joined(noisy), self.model
        look = {"filter_args": model.filter_args, "filter_kwargs": model.filter_kwargs, "detections": self.detections}
        with replacing(path) as temporary:
            if self.short:
                raw = None if picks is None else picks[picks["source"] != "denoised"]
                before = None if raw is None else raw.assign(probability=raw["raw"])
                plot_denoised(noisy, self.clean, self.noise, before, picks, path=temporary, **look)
            else:
                plot_day(noisy, self.clean, picks, path=temporary, **look)


def cut(stream: Stream, start: UTCDateTime, end: UTCDateTime) -> Stream:
    return Stream([part for trace in stream if len(part := between(trace, start, end))])
