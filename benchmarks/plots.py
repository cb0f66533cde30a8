"""Figures of the results, each of six curves at most: by input SNR, by the SNR of P, by false picks; and a gallery."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import summary
from baselines import PICKING, WAVEFORMS, Denoiser
from matplotlib.figure import Figure

from seisbench_cdiffsd.data.pairs import Mixtures

#: Curves, from back to front: colour, line style and width.
CURVES = {
    "noisy": ("#888888", ":", 1.5),
    "band-pass 2-20 Hz": ("#cc79a7", "-", 1.2),
    "DeepDenoiser": ("#d55e00", "-", 1.2),
    "oracle mask": ("#555555", "--", 1.2),
    WAVEFORMS: ("#56b4e9", "-", 1.5),
    PICKING: ("#0072b2", "-", 2.5),
}
#: Curves where false picks are on the axis, which the oracle mask has none of.
AT_EQUAL = ("noisy", "band-pass 2-20 Hz", "DeepDenoiser", WAVEFORMS, f"{PICKING} + noisy", PICKING)
#: Minutes of noise an hour with a false pick, along the axis of the figure.
RATES = tuple(np.geomspace(0.5, 50, 25).round(2))


def figures(tables: Mapping[str, pd.DataFrame], rows: Mapping[str, pd.DataFrame]) -> dict[str, Figure]:
    """All figures that the tables and rows of a run allow, by name."""
    result = {}
    if "window" in tables:
        metrics = {"sdr_db": "SDR (dB)", "correlation": "correlation"}
        result["quality_by_snr"] = by_class(tables["window"], "input_snr_db", "SNR of the window (dB)", metrics)
    if "paper" in tables:
        metrics = {f"PhaseNet_{phase}_recall_0.5": f"PhaseNet, {phase} recall within 0.5 s" for phase in "PS"}
        result["recall_by_p_snr"] = by_class(tables["paper"], "p_snr_class", "SNR of P (dB)", metrics)
    if "equal" in tables and {"paper", "noise"} <= set(rows):
        result["recall_by_false_picks"] = by_false_picks(rows["paper"], rows["noise"])
    return {name: figure for name, figure in result.items() if figure.axes[0].lines}


def by_class(table: pd.DataFrame, group: str, what: str, metrics: Mapping[str, str]) -> Figure:
    """Metrics by the classes of a group, with their intervals as bands."""
    figure = Figure(figsize=(5 * len(metrics) + 2, 4.5), layout="constrained")
    table = table[table["group"] == group]
    for ax, (metric, label) in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics.items(), strict=True):
        for name, (colour, style, width) in CURVES.items():
            line = table[(table["metric"] == metric) & (table["denoiser"] == name)]
            line = line.assign(place=line["key"].map(place)).sort_values("place")
            if line["value"].notna().any():
                ax.plot(line["place"], line["value"], style, color=colour, lw=width, label=name, marker=".")
                ax.fill_between(line["place"], line["low"], line["high"], color=colour, alpha=0.12, lw=0)
        ax.set(xlabel=what, ylabel=label)
    return finish(figure)


def place(key: str) -> float:
    """Where a class stands on the axis: "-5 to 0 dB" at -2.5, "above 5 dB" at 7.5."""
    numbers = [float(word) for word in key.split() if word.lstrip("-").replace(".", "").isdigit()]
    beyond = {"below": -2.5, "above": 2.5}.get(key.split()[0], 0.0)
    return float(np.mean(numbers)) + beyond if numbers else np.nan


def by_false_picks(rows: pd.DataFrame, noise: pd.DataFrame) -> Figure:
    """Recall of PhaseNet against the false picks on reversed noise, as its threshold moves."""
    table = summary.recall_at(rows, summary.reversed_in_time(noise), RATES, resamples=0)
    values = table.set_index(["denoiser", "metric"])["value"]
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    for ax, phase in zip(figure.subplots(1, 2), "PS", strict=True):
        for name in AT_EQUAL:
            recall = [values.get((name, f"PhaseNet_{phase}_found_{rate:g}"), np.nan) for rate in RATES]
            if not np.isnan(recall).all():
                colour, style, width = CURVES.get(name, ("#009e73", "-", 1.5))
                ax.plot(RATES, recall, style, color=colour, lw=width, label=name)
        ax.set(xscale="log", xlabel="minutes of reversed noise an hour with a pick", ylabel=f"PhaseNet, {phase} recall")
    return finish(figure)


def finish(figure: Figure) -> Figure:
    """Grids, and a legend beside the axes, with the default first."""
    for ax in figure.axes:
        ax.grid(color="#eeeeee")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right upper", fontsize=8, frameon=False)
    return figure


def gallery(mixtures: Mixtures, denoisers: Mapping[str, Denoiser], count: int = 4) -> Figure:
    """The vertical component of some mixtures, each of another event and input SNR, and what denoisers make of them."""
    snrs = mixtures.labels["input_snr_db"].to_numpy()
    levels = np.unique(snrs)[:count]
    starts = np.flatnonzero(snrs == levels[0])  # the mixtures of an earthquake follow each other
    chosen = [starts[i % len(starts)] + i for i in range(len(levels))]
    noisy = mixtures.noisy[chosen]
    traces = {"clean": mixtures.clean[chosen], "noisy": noisy}
    names = ("band-pass 2-20 Hz", "DeepDenoiser", PICKING, WAVEFORMS)
    traces |= {name: denoisers[name](noisy) for name in names if name in denoisers}
    figure = Figure(figsize=(4 * len(chosen), 1.1 * len(traces) + 0.6), layout="constrained")
    axes = figure.subplots(len(traces), len(chosen), sharex=True, squeeze=False)
    for line, (name, values) in zip(axes, traces.items(), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        for ax, value, (_, label) in zip(line, values, mixtures.labels.iloc[chosen].iterrows(), strict=True):
            ax.plot(np.arange(len(value[0])) / 100, value[0], color=CURVES.get(name, ("#000000",))[0], lw=0.5)
            for phase, shade in (("p", "#0072b2"), ("s", "#d55e00")):
                ax.axvline(label[f"{phase}_sample"] / 100, color=shade, lw=0.8, alpha=0.6)
            ax.set_yticks([])
    for top, bottom, level in zip(axes[0], axes[-1], levels, strict=True):
        top.set_title(f"SNR {level:+.0f} dB", fontsize=9)
        bottom.set_xlabel("time (s)", fontsize=8)
    return figure
