"""Figures of the results: quality and recall against input SNR, residuals, cost, and a gallery of records."""

from __future__ import annotations

import numpy as np
import pandas as pd
import summary
from matplotlib.figure import Figure

#: Colours by the kind of denoiser; a row has the colour of the longest key that its name starts with.
COLOURS = {
    "noisy": "#888888",
    "clean": "#000000",
    "oracle": "#555555",
    "band-pass 1-45": "#bbbbbb",
    "band-pass 1-20": "#cc79a7",
    "Wiener": "#e69f00",
    "DeepDenoiser": "#d55e00",
    "SeisDAE": "#f0e442",
    "CDiffSD published": "#56b4e9",
    "CDiffSD gaussian": "#009e73",
    "CDiffSD": "#0072b2",
}
#: Rows of the gallery and of the histograms, if a run has them.
SHOWN = (
    "noisy",
    "band-pass 1-20 Hz",
    "Wiener",
    "DeepDenoiser",
    "DeepDenoiser, noise left",
    "CDiffSD, 2 steps",
    "CDiffSD, 2 steps, noise left",
    "clean",
)
#: Windows of noise per hour with a false pick, along the axis of the figure.
RATES = tuple(np.geomspace(4, 100, 25).round(1))


#: Markers of rows of one colour, by a part of their names.
MARKERS = {"direct": "o", "2 steps": "s", "4 steps": "D", "8 steps": "^", "20 steps": "v"}


def colour(name: str) -> str:
    """Colour of a row."""
    known = [start for start in COLOURS if name.startswith(start)]
    return COLOURS[max(known, key=len)] if known else "#000000"


def style(name: str) -> str:
    """Line style of a row."""
    if name in ("noisy", "clean", "oracle mask"):
        return ":"
    return "--" if "direct" in name else "-." if "noise left" in name else "-"


def figures(tables: dict[str, pd.DataFrame], rows: dict[str, pd.DataFrame]) -> dict[str, Figure]:
    """All figures that the tables and rows of a run allow, by name."""
    result = {}
    if "quality" in tables:
        result["quality_by_snr"] = by_snr(tables["quality"], {"sdr_db": "SDR (dB)", "correlation": "correlation"})
    if "picking" in tables:
        for picker in sorted({metric.split("_P_")[0] for metric in tables["picking"]["metric"] if "_P_" in metric}):
            metrics = {f"{picker}_{phase}_recall_0.5": f"{picker}, {phase} recall within 0.5 s" for phase in "PS"}
            result[f"recall_by_snr_{picker.replace(':', '_')}"] = by_snr(tables["picking"], metrics)
            result[f"residuals_{picker.replace(':', '_')}"] = residuals(rows["mixtures"], picker)
    if "equal" in tables:
        for picker in sorted({metric.split("_P_")[0] for metric in tables["equal"]["metric"] if "_P_" in metric}):
            result[f"recall_by_false_picks_{picker.replace(':', '_')}"] = by_false_picks(rows, picker)
    if "quality" in tables and "speed" in tables:
        result["quality_by_cost"] = by_cost(tables["quality"], tables["speed"])
    return result


def by_snr(table: pd.DataFrame, metrics: dict[str, str]) -> Figure:
    """Metrics against input SNR, with their intervals as bands."""
    figure = Figure(figsize=(6 * len(metrics), 5), layout="constrained")
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    table = table[(table["group"] == "input_snr_db") & ~table["denoiser"].str.endswith(" + noisy")]
    for ax, (metric, label) in zip(axes, metrics.items(), strict=True):
        for name, line in table[table["metric"] == metric].groupby("denoiser", sort=False):
            line = line.assign(snr=line["key"].astype(float)).sort_values("snr")
            if line["value"].notna().any():
                ax.plot(line["snr"], line["value"], style(name), color=colour(name), label=name, marker=".")
                ax.fill_between(line["snr"], line["low"], line["high"], color=colour(name), alpha=0.1, lw=0)
        ax.set(xlabel="input SNR (dB)", ylabel=label)
        ax.grid(color="#eeeeee")
    axes[-1].legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def by_false_picks(rows: dict[str, pd.DataFrame], picker: str) -> Figure:
    """Recall against the false picks on noise alone, as the threshold of the picker moves."""
    table = summary.recall_at(rows["mixtures"], rows["noise"], RATES, resamples=0).set_index("metric")
    figure = Figure(figsize=(12, 5), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, phase in zip(axes, "PS", strict=True):
        for name, group in table.groupby("denoiser", sort=False):
            recall = group.loc[[f"{picker}_{phase}_found_{rate:g}" for rate in RATES], "value"]
            ax.plot(RATES, recall, style(name), color=colour(name), label=name)
        ax.set(xscale="log", xlabel="windows of noise with a false pick, per hour", ylabel=f"{picker}, {phase} recall")
        ax.grid(color="#eeeeee")
    axes[-1].legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def residuals(rows: pd.DataFrame, picker: str) -> Figure:
    """Histograms of pick residuals, one row of axes a phase."""
    names = [name for name in SHOWN if name in set(rows["denoiser"])]
    figure = Figure(figsize=(2.4 * len(names) + 1, 4.5), layout="constrained")
    axes = figure.subplots(2, len(names), sharex=True, sharey="row", squeeze=False)
    for phase, line in zip("PS", axes, strict=True):
        for name, ax in zip(names, line, strict=True):
            group = rows[rows["denoiser"] == name]
            values = group[f"{picker}_{phase}_residual"].dropna()
            labels = int(group[f"{picker}_{phase}_label"].sum())
            ax.hist(values, np.linspace(-0.5, 0.5, 51), color=colour(name))
            ax.axvline(0, color="#000000", lw=0.5)
            text = f"recall {len(values) / max(labels, 1):.2f}\nmean {1000 * values.mean():+.0f} ms"
            text += f"\nstd {1000 * values.std(ddof=0):.0f} ms"
            ax.text(0.03, 0.97, text, transform=ax.transAxes, va="top", fontsize=7)
            ax.set_title(f"{phase}, {name}", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("pick - label (s)", fontsize=8)
    figure.suptitle(picker, fontsize=10)
    return figure


def by_cost(quality: pd.DataFrame, speed: pd.DataFrame) -> Figure:
    """Quality against the time that a denoiser takes."""
    values = quality[(quality["group"] == "all") & (quality["metric"] == "sdr_db")].set_index("denoiser")
    cost = speed.groupby("denoiser")["seconds per hour"].min()
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    ax = figure.subplots()
    for name in cost.index.intersection(values.index):
        low, value, high = values.loc[name, ["low", "value", "high"]]
        marker = next((shape for word, shape in MARKERS.items() if word in name), "o")
        ax.errorbar(cost[name], value, [[value - low], [high - value]], fmt=marker, color=colour(name), label=name)
    figure.legend(loc="outside right upper", fontsize=8)
    ax.set(xscale="log", xlabel="seconds for an hour of three components", ylabel="SDR (dB), all input SNRs")
    ax.grid(color="#eeeeee")
    return figure


def gallery(mixtures, denoisers, count: int = 4) -> Figure:
    """The vertical component of some mixtures, each of another event and input SNR, and what denoisers make of them."""
    labels = mixtures.labels.reset_index(drop=True)
    snrs = sorted(labels["input_snr_db"].unique())[:count]
    starts = np.flatnonzero(labels["input_snr_db"] == snrs[0])  # the mixtures of an earthquake follow each other
    chosen = [starts[i % len(starts)] + i for i in range(len(snrs))]
    noisy = mixtures.noisy[chosen]
    traces = {"clean": mixtures.clean[chosen], "noisy": noisy}
    traces |= {name: denoisers[name](noisy) for name in SHOWN if name in denoisers}
    figure = Figure(figsize=(4 * len(chosen), 1.1 * len(traces) + 0.6), layout="constrained")
    axes = figure.subplots(len(traces), len(chosen), sharex=True, squeeze=False)
    time = np.arange(noisy.shape[-1]) / 100
    for line, (name, values) in zip(axes, traces.items(), strict=True):
        for column, (ax, value) in enumerate(zip(line, values, strict=True)):
            label = mixtures.labels.iloc[chosen[column]]
            ax.plot(time, value[0], color=colour(name), lw=0.5)
            for phase, shade in (("p", "#0072b2"), ("s", "#d55e00")):
                ax.axvline(label[f"{phase}_sample"] / 100, color=shade, lw=0.8, alpha=0.6)
            ax.set_yticks([])
            if name == "clean":
                ax.set_title(f"input SNR {label['input_snr_db']:+.0f} dB", fontsize=9)
            if not column:
                ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("time (s)", fontsize=8)
    return figure
