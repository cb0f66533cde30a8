"""Figures of records before and after denoising, and of the removed noise."""

from __future__ import annotations

from datetime import timezone
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from numpy.typing import NDArray
from obspy import Stream, Trace

#: Colours of the phases, distinct also to the colour-blind.
PHASES = {"P": "#0072b2", "S": "#d55e00"}
#: Colours of the traces, by column.
COLUMN_COLOURS = {"noisy": "#555555", "denoised": "#000000", "removed noise": "#999999"}
#: Longer traces are drawn as the envelope of their extremes.
MAX_POINTS = 10_000
MAX_NAMED_PICKS = 6


def plot_denoised(
    noisy: Stream,
    denoised: Stream,
    noise: Stream | None = None,
    picks: pd.DataFrame | None = None,
    picks_denoised: pd.DataFrame | None = None,
    path: str | Path | None = None,
    title: str | None = None,
) -> Figure:
    """
    One instrument before and after denoising, and the removed noise, on common scales.

    Each row is a component, in the order Z, N (1), E (2); the traces of a row share their amplitude axis. The mean of
    the noisy trace is subtracted from it and from the noise.

    :param noisy: Recorded traces of one instrument
    :param denoised: Denoised traces with the same ids; missing channels are left empty
    :param noise: The removed noise
    :param picks: Picks on the noisy record, with the columns ``phase``, ``time`` (UTCDateTime) and, optionally,
        ``probability``
    :param picks_denoised: Picks on the denoised record
    :param path: Write the figure to this file
    :param title: Title; the instrument and the date by default
    :return: The figure
    :raises ValueError: If `noisy` has no trace with samples
    """
    ids = sorted({trace.id for trace in noisy if len(trace)}, key=_component_rank)
    if not ids:
        raise ValueError("There is nothing to plot: the stream has no samples.")
    columns = {"noisy": noisy, "denoised": denoised} | ({} if noise is None else {"removed noise": noise})
    marks = {"noisy": picks, "denoised": picks_denoised}
    figure = Figure(figsize=(4.6 * len(columns) + 0.4, 1.75 * len(ids) + 1.3), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(ids), len(columns), sharex=True, sharey="row", squeeze=False)
    for i, (row, channel) in enumerate(zip(axes, ids, strict=True)):
        mean = _mean(noisy.select(id=channel))
        for ax, (name, stream) in zip(row, columns.items(), strict=True):
            for trace in stream.select(id=channel):
                _draw(ax, trace, 0.0 if name == "denoised" else mean, COLUMN_COLOURS[name])
            _mark(ax, marks.get(name), label=i == 0)
            _style(ax)
        reach = max(abs(limit) for limit in row[0].get_ylim())
        row[0].set_ylim(-reach, reach)
        row[0].set_ylabel(channel.rsplit(".", 1)[-1], rotation=0, ha="right", va="center", fontweight="bold")
    for ax, name in zip(axes[0], columns, strict=True):
        ax.set_title(name, loc="left", fontsize=11, pad=16 if _any(picks, picks_denoised) else 6)
    start, end = min(trace.stats.starttime for trace in noisy), max(trace.stats.endtime for trace in noisy)
    axes[0, 0].set_xlim(start.datetime, max(end, start + 1e-3).datetime)
    name = ids[0] if len(ids) == 1 else f"{ids[0][:-1]}*"
    figure.suptitle(title or f"{name}   {start.strftime('%Y-%m-%d')} UTC", x=0.01, ha="left", fontsize=12)
    if _any(picks, picks_denoised):
        lines = [Line2D([], [], color=colour, lw=1.4, label=f"{phase} pick") for phase, colour in PHASES.items()]
        figure.legend(handles=lines, loc="upper right", ncols=2, frameon=False, fontsize=9)
    if path is not None:
        figure.savefig(path, format=Path(path).suffix.removeprefix(".") or "png")
    return figure


def _component_rank(channel: str) -> tuple[int, str]:
    return ("ZN1E2".find(channel[-1]) % 6, channel)


def _mean(stream: Stream) -> float:
    values = np.concatenate([_values(trace) for trace in stream])
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else 0.0


def _values(trace: Trace) -> NDArray[np.float64]:
    """Samples, NaN where they are missing."""
    return np.ma.filled(np.ma.asarray(trace.data).astype(np.float64), np.nan)


def _draw(ax: Axes, trace: Trace, mean: float, colour: str) -> None:
    values, start = _values(trace) - mean, np.datetime64(trace.stats.starttime.datetime, "ns")
    step = trace.stats.delta
    bins = -(-2 * len(values) // MAX_POINTS)
    if bins > 1:
        blocks = np.pad(values, (0, -len(values) % bins), constant_values=np.nan).reshape(-1, bins)
        values, step = np.stack([np.fmin.reduce(blocks, 1), np.fmax.reduce(blocks, 1)], 1).ravel(), step * bins / 2
    time = start + (np.arange(len(values)) * step * 1e9).astype("timedelta64[ns]")
    ax.plot(time, values, color=colour, lw=0.6)


def _mark(ax: Axes, picks: pd.DataFrame | None, label: bool) -> None:
    """Draw picks over the whole height and, if there are few, name them above the axes."""
    few = picks is not None and len(picks) <= MAX_NAMED_PICKS  # many would hide the trace
    for pick in [] if picks is None else picks.itertuples():
        colour = PHASES.get(pick.phase, "#009e73")
        time = pick.time.datetime
        ax.axvline(time, color=colour, lw=1.4 if few else 0.6, alpha=0.9 if few else 0.4, zorder=0)
        if label and few:
            text = f"{pick.phase} {pick.probability:.2f}" if hasattr(pick, "probability") else pick.phase
            ha = "right" if pick.phase == "P" else "left"
            transform = ax.get_xaxis_transform()
            ax.text(time, 1.02, text, transform=transform, color=colour, ha=ha, va="bottom", fontsize=8)


def _style(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", color="#e6e6e6", lw=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8)
    ax.margins(y=0.08)
    locator = AutoDateLocator(minticks=3, maxticks=6, tz=timezone.utc)
    ax.xaxis.set_major_locator(locator)
    clock = ["%Y", "%b %Y", "%b %d", "%H:%M", "%H:%M", "%H:%M:%S"]
    ax.xaxis.set_major_formatter(
        ConciseDateFormatter(locator, tz=timezone.utc, formats=clock, zero_formats=clock, show_offset=False)
    )
    ax.yaxis.set_major_locator(MaxNLocator(3, symmetric=True))
    formatter = ScalarFormatter(useMathText=True)
    formatter.set_powerlimits((-2, 4))
    ax.yaxis.set_major_formatter(formatter)


def _any(*tables: pd.DataFrame | None) -> bool:
    return any(table is not None and len(table) > 0 for table in tables)
