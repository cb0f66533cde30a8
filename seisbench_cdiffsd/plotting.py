"""Figures of records before and after denoising: of a few minutes with the removed noise, and of a day in lines."""

import warnings
from collections.abc import Mapping, Sequence
from datetime import timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, DateFormatter, MinuteLocator
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime

from seisbench_cdiffsd.streams.filtering import design_filter, filtered, min_sampling_rate
from seisbench_cdiffsd.streams.pieces import LARGEST, is_usable

#: Colours of the phases, distinct also to the colour-blind.
PHASES = {"P": "#0072b2", "S": "#d55e00"}
OTHER = "#009e73"
#: Colour of the bar below a detection.
DETECTED = "#e69f00"
#: Colours of the traces, by column.
COLUMN_COLOURS = {"noisy": "#555555", "denoised": "#000000", "removed noise": "#999999"}
#: A filter as SeisBench has it, its arguments and their names.
Band = tuple[Sequence[Any] | None, Mapping[str, Any] | None]
#: The look of the axes.
STYLE: Any = [
    "default",
    {"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.ymargin": 0.08},
    {"axes.grid": True, "axes.grid.axis": "x", "grid.color": "#e6e6e6", "grid.linewidth": 0.6},
    {"xtick.labelsize": 8, "ytick.labelsize": 8, "axes.formatter.limits": (-2, 4), "axes.formatter.use_mathtext": True},
]
#: Formats of times, without the zeros at the end.
FORMATS = ["%Y", "%b %Y", "%b %d", "%H:%M", "%H:%M", "%H:%M:%S.%f"]
CLOCK: Any = {"formats": FORMATS, "zero_formats": FORMATS, "show_offset": False}
#: Longer traces are drawn as the envelope of their extremes.
MAX_POINTS = 10_000
#: From one line of a day to the next, in medians of the absolute samples.
LINE = 12.0
#: More picks than these are drawn thin, as they would hide the trace, and counted.
MAX_NAMED_PICKS = 4


@style.context(STYLE, after_reset=True)  # whatever the user's matplotlibrc wants, such as LaTeX
def plot_denoised(
    noisy: Stream,
    denoised: Stream,
    noise: Stream | None = None,
    picks: pd.DataFrame | None = None,
    picks_denoised: pd.DataFrame | None = None,
    path: str | Path | None = None,
    filter_args: Sequence[Any] | None = None,
    filter_kwargs: Mapping[str, Any] | None = None,
    detections: Sequence[Any] = (),
) -> Figure:
    """
    One instrument before and after denoising, and the removed noise, on common scales.

    Each row is a component, in the order Z, N (1), E (2); the traces of a row share their amplitude axis. The mean of
    the noisy trace is subtracted from it and from the noise. With a filter, both are drawn in its band, that of the
    denoised trace, which is no more than a line beside the microseism of a broadband record.

    :param noisy: Recorded traces of one instrument
    :param denoised: Denoised traces with the same ids; missing channels are left empty
    :param picks: Picks on the noisy record, with the columns ``phase``, ``time`` (UTCDateTime) and, optionally,
        ``probability``
    :param picks_denoised: Those on the denoised record; if they have a ``source``, it tells that of "raw" ones apart
    :param path: Write the figure to this file
    :param filter_args: The model's filter, as SeisBench has it; none by default
    :param filter_kwargs: Likewise
    :param detections: SeisBench's detections of earthquakes, bars below the denoised record
    :return: The figure
    :raises ValueError: If `noisy` has no trace with samples
    """
    ids, start, end = _recorded(noisy)
    end = max(end, start + 1e-3)
    columns = {"noisy": noisy, "denoised": denoised} | ({} if noise is None else {"removed noise": noise})
    # pickers extend short records, so there may be picks outside
    found = {"noisy": _within(picks, start, end), "denoised": _within(picks_denoised, start, end)}
    figure = Figure(figsize=(4.6 * len(columns) + 0.4, 1.75 * len(ids) + 1.3), layout="constrained", dpi=150)
    axes = figure.subplots(len(ids), len(columns), sharex=True, sharey="row", squeeze=False)
    for row, id_ in zip(axes, ids, strict=True):
        mean = 0.0
        for ax, (name, stream) in zip(row, columns.items(), strict=True):
            curves = _curves(stream, id_, (None, None) if name == "denoised" else (filter_args, filter_kwargs))
            if name == "noisy":
                known = _known(curves)
                mean = float(known.mean()) if len(known) else 0.0
            for trace, values in curves:
                _draw(ax, trace, values - (0.0 if name == "denoised" else mean), COLUMN_COLOURS[name])
            for pick in found.get(name, []):
                few = len(found[name]) <= MAX_NAMED_PICKS and (name == "noisy" or getattr(pick, "source", "") != "raw")
                look = {"lw": 1.4, "alpha": 0.9} if few else {"lw": 0.8, "alpha": 0.5}
                ax.axvline(pick.time.datetime, color=PHASES.get(pick.phase, OTHER), zorder=0, **look)
            for detection in detections if name == "denoised" else ():
                times = detection.start_time.datetime, detection.end_time.datetime
                ax.axvspan(*times, ymax=0.03, color=DETECTED, lw=0)
            # 7 is the least that suits spans of all lengths
            locator = AutoDateLocator(minticks=3, maxticks=7, tz=timezone.utc)
            ax.xaxis.set_major_locator(locator)
            ax.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=timezone.utc, **CLOCK))
            ax.yaxis.set_major_locator(MaxNLocator(3, symmetric=True))
            ax.yaxis.get_offset_text().set(ha="right", x=-0.01)  # beside the axes, clear of titles
        reach = max(abs(limit) for limit in row[0].get_ylim())
        row[0].set_ylim(-reach, reach)
        label = id_.rsplit(".", 1)[-1]
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontweight="bold", parse_math=False)
    band = "" if filter_args is None else f", {filter_args[0]} {_corners(filter_kwargs)}"
    for ax, name in zip(axes[0], columns, strict=True):
        ax.set_title(name if name == "denoised" else name + band, loc="left", fontsize=11)
        ax.set_title(_names(found.get(name, [])), loc="right", fontsize=8)
    axes[0, 0].set_xlim(start.datetime, end.datetime)
    figure.supylabel("units of the input", fontsize=8)
    instrument = ids[0] if len(ids) == 1 else f"{ids[0][:-1]}*"
    title = f"{instrument}   {start.strftime('%Y-%m-%d')} UTC"
    return _finished(figure, title, any(found.values()), bool(detections), path)


@style.context(STYLE, after_reset=True)
def plot_day(
    noisy: Stream,
    denoised: Stream,
    picks: pd.DataFrame | None = None,
    detections: Sequence[Any] = (),
    path: str | Path | None = None,
    filter_args: Sequence[Any] | None = None,
    filter_kwargs: Mapping[str, Any] | None = None,
) -> Figure:
    """
    A day of one instrument, a line for each hour: the noisy record in grey, the denoised one in black on top of it.

    Of the components there are, the first of Z, N (1), E (2) is drawn. Lines are 12 times the median of the absolute
    samples of the noisy record apart; what is larger is cut off. Picks are long where they are on the denoised record,
    and short where they are on the noisy one alone. Detections are bars.

    :param picks: Picks with the columns ``phase``, ``time`` and ``source``, see :py:func:`.picking.pick_both`

    Other parameters, and what is raised, are those of :py:func:`plot_denoised`.
    """
    (id_, *_), first, last = _recorded(noisy)
    first -= first.timestamp % 3600
    hours = int((last - first) // 3600) + 1
    figure = Figure(figsize=(13, 0.36 * hours + 1.1), layout="constrained", dpi=150)
    ax = figure.subplots()
    scale = 0.0
    looks: Any = (noisy, "#bbbbbb", (filter_args, filter_kwargs)), (denoised, "#000000", (None, None))
    for stream, colour, own in looks:
        curves = _curves(stream, id_, own)
        known = _known(curves)
        middle = float(np.median(known)) if len(known) else 0.0
        scale = scale or LINE * float(np.median(abs(known - middle))) if len(known) else 1.0
        for trace, values in curves:
            rate, start = trace.stats.sampling_rate, trace.stats.starttime - first
            lines = ((start + np.arange(len(values)) / rate) // 3600).astype(int)
            for line in np.unique(lines):
                run = np.flatnonzero(lines == line)
                part = Trace(header={"sampling_rate": rate, "starttime": first + start + run[0] / rate - 3600 * line})
                _draw(ax, part, np.clip((values[run] - middle) / (scale or 1.0), -1, 1) - line, colour)
    for x in () if picks is None else picks.itertuples():
        line, second = divmod(x.time - first, 3600)
        low, high, thick = (-0.2, 0.2, 0.8) if x.source == "raw" else (-0.5, 0.5, 1.6)
        colour, time = PHASES.get(x.phase, OTHER), (first + second).datetime
        ax.vlines(time, low - line, high - line, color=colour, lw=thick, alpha=0.9, zorder=3)
    for x in detections:
        for line in range(int((x.start_time - first) // 3600), int((x.end_time - first) // 3600) + 1):
            start, end = (min(max(time - 3600 * line, first), first + 3600) for time in (x.start_time, x.end_time))
            ax.fill_between([start.datetime, end.datetime], -line - 0.5, -line - 0.4, color=DETECTED, lw=0)
    ax.set(xlim=(first.datetime, (first + 3600).datetime), ylim=(0.8 - hours, 0.8), xlabel="minute")
    ax.set_yticks(-np.arange(hours), [(first + 3600 * line).strftime("%H:%M") for line in range(hours)])
    ax.xaxis.set_major_locator(MinuteLocator(byminute=range(0, 60, 10), tz=timezone.utc))
    ax.xaxis.set_major_formatter(DateFormatter("%M", tz=timezone.utc))
    band = "" if filter_args is None else f", noisy in {_corners(filter_kwargs)}"
    title = f"{id_}   {first.strftime('%Y-%m-%d')} UTC   {0 if picks is None else len(picks)} picks{band}"
    return _finished(figure, title, True, bool(detections), path)


def _finished(figure: Figure, title: str, picked: bool, detected: bool, path: str | Path | None) -> Figure:
    """The figure with a title, with a legend of what there is, and in a file if there is a path."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, parse_math=False)
    phases = PHASES.items() if picked else ()
    lines = [Line2D([], [], color=colour, lw=1.4, label=f"{phase} pick") for phase, colour in phases]
    if detected:
        lines.append(Line2D([], [], color=DETECTED, lw=4, label="detection"))
    if lines:
        figure.legend(handles=lines, loc="upper right", ncols=3, frameon=False, fontsize=9)
    if path is not None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # of codes from data
            figure.savefig(path, format=Path(path).suffix.removeprefix(".") or "png")
    return figure


def _corners(filter_kwargs: Mapping[str, Any] | None) -> str:
    corners = (f"{value:g}" for name, value in (filter_kwargs or {}).items() if name.startswith("freq"))
    return f"{' to '.join(corners)} Hz"


def _recorded(noisy: Stream) -> tuple[list[str], UTCDateTime, UTCDateTime]:
    """Ids of the traces that can be drawn, in the order Z, N (1), E (2), and their first and last time."""
    shown = [trace for trace in noisy if len(trace) and is_usable(trace)]
    if not shown:
        raise ValueError("There is nothing to plot: the stream has no samples.")
    ids = sorted({trace.id for trace in shown}, key=lambda x: ("ZN1E2".find(x[-1]) % 6, x))
    return ids, min(trace.stats.starttime for trace in shown), max(trace.stats.endtime for trace in shown)


def _within(picks: pd.DataFrame | None, start: UTCDateTime, end: UTCDateTime) -> list[Any]:
    rows = [] if picks is None else [pick for pick in picks.itertuples() if start <= pick.time <= end]
    return sorted(rows, key=lambda pick: pick.time)


def _curves(stream: Stream, id_: str, band: Band) -> list[tuple[Trace, NDArray[np.float64]]]:
    """
    The traces of a channel, and their samples, in a band if there is one; NaN where they are missing, and at too low a
    rate for it.
    """
    args, kwargs = band[0], dict(band[1] or {})
    curves = []
    for trace in (trace for trace in stream if trace.id == id_ and len(trace) and is_usable(trace)):
        values, rate = np.ma.filled(np.ma.asarray(trace.data).astype(np.float64), np.nan), trace.stats.sampling_rate
        values[~(np.abs(values) < LARGEST)] = np.nan
        if args is not None and rate <= min_sampling_rate(args, kwargs, rate):
            values[:] = np.nan
        elif args is not None:
            sos, zerophase = design_filter(args, kwargs, rate)
            for run in np.ma.clump_unmasked(np.ma.masked_invalid(values)):
                values[run] = filtered(values[run] - values[run].mean(), sos, zerophase)
        curves.append((trace, values))
    return curves


def _known(curves: list[tuple[Trace, NDArray[np.float64]]]) -> NDArray[np.float64]:
    """The samples of all curves that are not missing."""
    return np.concatenate([values[np.isfinite(values)] for _, values in curves] or [np.zeros(1)])


def _names(picks: list[Any]) -> str:
    if len(picks) > MAX_NAMED_PICKS:
        return f"{len(picks)} picks"
    return "   ".join(f"{x.phase} {x.probability:.2f}" if hasattr(x, "probability") else x.phase for x in picks)


def _draw(ax: Axes, trace: Trace, values: NDArray[np.float64], colour: str) -> None:
    step, bins = trace.stats.delta, -(-2 * len(values) // MAX_POINTS)
    if bins > 1:
        blocks = np.pad(values, (0, -len(values) % bins), constant_values=np.nan).reshape(-1, bins)
        values, step = np.stack([np.fmin.reduce(blocks, 1), np.fmax.reduce(blocks, 1)], 1).ravel(), step * bins / 2
    start = np.datetime64(trace.stats.starttime.datetime, "ns")
    ax.plot(start + (np.arange(len(values)) * step * 1e9).astype("timedelta64[ns]"), values, color=colour, lw=0.6)
