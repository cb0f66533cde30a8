"""Tables, figures and the README's table, from the rows of a run.

``python benchmarks/report.py`` rewrites ``results/results.md`` and the README's table from the committed CSV files.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from baselines import CONTROLS, DRY, PICKING, SHOWN, WAVEFORMS, read_by_people
from evaluation import FEWEST, GROUPS, RECOVERED, recall_at, reversed_in_time, summarize
from matplotlib.figure import Figure
from options import Options
from testdata import Data

FOLDER = Path(__file__).parent
RESULTS, README = FOLDER / "results", FOLDER.parent / "README.md"
MARKS = "<!-- results:begin -->", "<!-- results:end -->"
PACKAGES = ("seisbench", "torch", "numpy", "scipy", "pandas", "obspy")
#: Minutes of noise with a false pick, per hour, at which recalls are compared: a network works at 1 or 2.
RATES = (1.0, 2.0, 5.0, 10.0)
#: A column: heading -> table, metric and how to write it.
Columns = Mapping[str, tuple[str, str, Callable[[float], str]]]

HEADLINE: Columns = {
    "SDR (dB)": ("paper", "sdr_db", "{:.1f}".format),
    "correlation": ("paper", "correlation", "{:.2f}".format),
    "amplitude": ("paper", "amplitude", "{:.2f}".format),
    "P": ("paper", "PhaseNet_P_recall_0.5", "{:.2f}".format),
    "S": ("paper", "PhaseNet_S_recall_0.5", "{:.2f}".format),
    "P mean (ms)": ("paper", "PhaseNet_P_mean", lambda seconds: f"{1000 * seconds:+.0f}"),
    "P std (ms)": ("paper", "PhaseNet_P_std", lambda seconds: f"{1000 * seconds:.0f}"),
    "EQTransformer P": ("paper", "EQTransformer_P_recall_0.5", "{:.2f}".format),
    "EQTransformer S": ("paper", "EQTransformer_S_recall_0.5", "{:.2f}".format),
    "false P an hour": ("noise", "PhaseNet_P_per_hour", "{:.0f}".format),
    "P at 2 false an hour": ("equal", "PhaseNet_P_found_2", "{:.2f}".format),
    "P at 10": ("equal", "PhaseNet_P_found_10", "{:.2f}".format),
}
#: Columns of the headline that the README has.
IN_README = ("SDR (dB)", "correlation", "P", "S", "false P an hour", "P at 2 false an hour", "P at 10")
CONTROL: Columns = {
    name: HEADLINE[name] for name in ("SDR (dB)", "correlation", "P", "S", "P at 2 false an hour", "P at 10")
} | {
    "P angle (°)": ("paper", "p_angle_deg", "{:.0f}".format),
    "P rectilinearity": ("paper", "p_rectilinearity", "{:+.2f}".format),
    "noise removed (dB)": ("noise", "suppression_db", "{:.0f}".format),
}
#: Metrics of the tables by groups, of which the CSV files hold no others.
BY_GROUP = ("sdr_db", "sdr_gain_db", "correlation", "amplitude")
#: Tables by the keys of a group: table, group, metric and title.
BROKEN_DOWN = (
    ("paper", "sp_class", "PhaseNet_P_recall_0.5", "P recall by S - P time"),
    ("paper", "p_snr_class", "PhaseNet_P_recall_0.5", "P recall by the SNR of P"),
    ("paper", "station_seen", "PhaseNet_P_recall_0.5", "P recall by whether the station is in the training split"),
    ("paper", "region_seen", "PhaseNet_P_recall_0.5", "P recall by whether the region is in the training split"),
    ("window", "input_snr_db", "sdr_db", "SDR (dB) by the SNR of the window (dB)"),
    ("noise", "kind", "PhaseNet_P_per_hour", "Minutes of noise an hour with a false P pick, by kind of noise"),
)
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
AT_EQUAL = ("noisy", "band-pass 2-20 Hz", "DeepDenoiser", WAVEFORMS, PICKING)
#: Minutes of noise an hour with a false pick, along the axis of the figure.
AXIS = tuple(np.geomspace(0.5, 50, 25).round(2))
#: Of continuous records: the rate of picks, and the noise added, of which tables and figures show events.
AT_RATE, SHOWN_NOISE = 50, ("as recorded", "noise at -5 dB")
CONTINUOUS = {
    "networks": f"Networks: events above chance at {AT_RATE} P picks an hour of a station (± the root of those found)",
    "located": "Networks: earthquakes located (by chance), and at uturuncu: right, over 20 km off, false",
    "day": "A day of one station",
}
#: Tables of other columns than statistics.
COSTS = {
    "damage": "Damaged streams of ten minutes, without noise left in: denoise, and SeisBench's annotate",
    "speed": "Speed on a stream",
    "growth": "How the cost grows (s)",
}


def grouped(rows: pd.DataFrame, groups: Sequence[str] = GROUPS, summarize: Callable = summarize) -> pd.DataFrame:
    """
    Statistics of all rows, of the default minus each other row, and a few by each of some columns: before what
    `summarize` makes are the columns ``group`` ("all", "difference" or one of `groups`) and ``key``.
    """
    tables = [summarize(rows).assign(group="all", key="all")]
    if (rows["denoiser"] == PICKING).any():
        tables.append(summarize(rows, reference=PICKING).assign(group="difference", key="all"))
    for group in groups:
        if rows[group].nunique() > 1:
            table = summarize(rows, by=("denoiser", group)).rename(columns={group: "key"})
            few = table["metric"].isin(BY_GROUP) | table["metric"].str.contains("recall_0.5|found|per_hour|suppression")
            tables.append(table[few].assign(group=group, key=table["key"].astype(str)))
    table = pd.concat(tables, ignore_index=True)
    first = ["group", "key", "denoiser", "metric"]
    return table[first + [column for column in table if column not in first]]


def false_picks(noise: pd.DataFrame) -> pd.DataFrame:
    """Statistics of reversed noise, and by kind of all noise."""
    kinds = grouped(noise, ("kind",))
    return pd.concat([grouped(reversed_in_time(noise), ()), kinds[kinds["group"] == "kind"]], ignore_index=True)


def equal(rows: pd.DataFrame, noise: pd.DataFrame) -> pd.DataFrame:
    """Recalls where reversed noise, calm and busy, gives equally many false picks."""
    recall = partial(recall_at, noise=reversed_in_time(noise), per_hour=RATES)
    return grouped(rows, ("sp_class",), recall)


@dataclass
class Report:
    """The results of a run, which go to a folder, and into a README: tables, and the rows that some are made of."""

    folder: Path | None = None
    readme: Path | None = None
    command: str = ""
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    rows: dict[str, pd.DataFrame] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # denoisers and pickers, and why
    about: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, readme: Path | None = None) -> Report:
        """The tables of an earlier run, without its rows."""
        about = json.loads((folder / "environment.json").read_text())
        tables = {path.stem: read_table(path) for path in sorted(folder.glob("*.csv"))}
        return cls(folder, readme, tables=tables, missing=about["missing"], about=about)

    def describe(self, data: Data, options: Options) -> None:
        """Describe the data of the run."""
        labels = data.mixtures["paper"].labels
        self.about |= {
            "data": data.source,
            "split": options.split,
            "mixtures": {name: len(mixtures.clean) for name, mixtures in data.mixtures.items()},
            "earthquakes": int(labels.get("source_id", labels.index.to_series()).nunique()),
            "minutes of noise": data.noise_metadata["kind"].value_counts().to_dict(),
            "naturally noisy records": len(data.natural),
            "seeds": list(range(options.seed, options.seed + options.draws)),
        }

    def value(self, name: str) -> pd.Series:
        """Values of a table over all its records, by denoiser and metric."""
        table = self.tables[name]
        return table[table["group"] == "all"].set_index(["denoiser", "metric"])["value"]

    def markdown(self) -> dict[str, str]:
        """All tables that there are, by title."""
        more, parts = self.shown(True), {}
        title = "The paper's protocol: noise of 0.40 to 0.65 of the record's maximum"
        parts[title] = self._columns(HEADLINE, more)
        heads = ("SDR (dB)", "correlation", "P", "S", "EQTransformer P", "EQTransformer S")
        columns = {HEADLINE[head][1]: head for head in heads}
        parts[f"{PICKING}, minus the other rows"] = self._intervals("paper", "difference", columns, more)
        metrics = self.tables["equal"]["metric"] if "equal" in self.tables else ()
        for picker in dict.fromkeys(metric.split("_P_")[0] for metric in metrics if "_P_" in metric):
            columns = {f"{picker}_{phase}_found_{rate:g}": f"{phase} at {rate:g}" for phase in "PS" for rate in RATES}
            title = f"{picker}: recall where so many minutes of reversed noise an hour hold a false pick"
            parts[title] = self._intervals("equal", "all", columns, more)
        for name, group, metric, title in BROKEN_DOWN:
            parts[title] = self._intervals(name, group, {metric: ""})
        parts |= self._continuous()
        ladder = ["noisy", *(f"{share:.0%} recovered" for share in RECOVERED), "clean"]
        parts["Controls, and records that are recovered in part"] = self._columns(CONTROL, [*CONTROLS, *ladder])
        for name, title in (("natural", "Naturally noisy records"), ("left_alone", "Clean records, nothing mixed")):
            alike = {head: (name, *column[1:]) for head, column in HEADLINE.items() if column[0] == "paper"}
            parts[title] = self._columns(alike)
        for name, title in COSTS.items():
            if (
                name in self.tables and "paper" not in self.tables
            ):  # speed needs an idle machine, damage is a question apart
                parts[title] = markdown(self.tables[name])
        if self.missing:
            parts["Not available"] = " ".join(f"{name}: {why}" for name, why in self.missing.items())
        return {title: table for title, table in parts.items() if table}

    def shown(self, more: bool = False) -> list[str]:
        """Rows of a table: a few, and models of users; with `more`, also others for picking."""
        tables = (table for table in self.tables.values() if "metric" in table)
        known = list(dict.fromkeys(name for table in tables for name in table["denoiser"]))
        own = [name for name in read_by_people(known) if name not in SHOWN]
        others = [name for name in known if name.endswith(DRY)] if more else []
        return [*SHOWN[:-1], *others, *own, SHOWN[-1]]

    def write(self) -> None:
        """
        Write CSV, Markdown, figures and environment; in full, the README too. Tables of other runs in the folder stay;
        the environment has the command of each.
        """
        if self.folder is None or not self.tables:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, table in self.tables.items():
            form = "%.4g" if "metric" in table else None  # costs are rounded already
            table.to_csv(self.folder / f"{name}.csv", index=False, float_format=form)
        path, now = self.folder / "environment.json", {**environment(), "command": self.command}
        before = json.loads(path.read_text()) if path.is_file() else {}
        made = {name: {key: now[key] for key in ("command", "commit")} for name in self.tables}
        is_first = "paper" in self.tables or "mixtures" not in before
        self.about = {**now, **self.about, "missing": self.missing} if is_first else before
        self.about["tables"] = before.get("tables", {}) | made
        path.write_text(json.dumps(self.about, indent=2) + "\n")
        for name, figure in (self.figures | figures(self.tables, self.rows)).items():
            figure.savefig(self.folder / f"{name}.png", dpi=110)
        self.tables = Report.read(self.folder).tables
        self.write_documents()

    def write_documents(self) -> None:
        """Write ``results.md`` with all tables and figures and, in full, the table of the README."""
        about = self.about
        lines = [
            "# Results",
            "",
            f"Written by `{about['command']}` at commit {str(about['commit'])[:10]}. Intervals are 95 % intervals, the "
            "wider of those of a bootstrap over earthquakes and over stations. A figure with (only N) stands on N "
            f"independent earthquakes or stations, fewer than {FEWEST}, from which no interval can be had.",
            "",
        ]
        for title, table in self.markdown().items():
            lines += [f"## {title}", "", *self._made_by(title), table, ""]
        lines.append(" ".join(f"![{figure.stem}]({figure.name})" for figure in sorted(self.folder.glob("*.png"))))
        (self.folder / "results.md").write_text("\n".join(lines) + "\n")
        if self.readme is None or not {"paper", "noise", "equal"} <= set(self.tables):
            return
        before, rest = self.readme.read_text().split(MARKS[0])
        text = (
            f"{about['mixtures']['paper']} mixtures of {about['earthquakes']} earthquakes with recorded noise of 0.40 "
            "to 0.65 of their maximum; recalls of PhaseNet.\n"
            f"By `{about['command']}` at commit {about['commit'][:10]};\n"
            "all tables are in [benchmarks/results](benchmarks/results/results.md)."
        )
        table = self._columns({head: HEADLINE[head] for head in IN_README})
        after = rest.split(MARKS[1])[1]
        self.readme.write_text(f"{before}{MARKS[0]}\n{text}\n\n{table}\n{MARKS[1]}{after}")

    def _made_by(self, title: str) -> list[str]:
        """The command of a table that is not that of the first one."""
        name = next((name for name, known in CONTINUOUS.items() if known == title), None)
        made = self.about.get("tables", {}).get(name)
        return [f"By `{made['command']}` at commit {made['commit'][:10]}.", ""] if made else []

    def _continuous(self) -> dict[str, str]:
        """Tables of networks and of a day, by title; those of networks have a column for each input of the picker."""
        parts = {}
        if "networks" in self.tables:
            table = self.tables["networks"].astype({"picks an hour": float, "found": float, "true": float})
            table = table[(table["picks an hour"] == AT_RATE) & table["noise"].isin(SHOWN_NOISE)]
            text = [f"{true:.0f} ± {found**0.5:.0f}" for true, found in zip(table["true"], table["found"], strict=True)]
            parts[CONTINUOUS["networks"]] = _by_input(table.assign(text=text), ["network", "noise"])
        if "located" in self.tables:
            columns = ["network", "noise", "input", "picks an hour", "located", "chance", "mislocated", "false"]
            table = self.tables["located"].reindex(columns=columns).replace("", np.nan)
            some = table["picks an hour"].astype(float) == AT_RATE
            table = table[some | table["mislocated"].notna()]  # at a lower rate, four icequakes at most
            text = [
                f"{row.located} ({row.chance})"
                if pd.notna(row.chance)
                else f"{row.located}, {float(row.mislocated):.0f}, {float(row.false):.0f}"
                for row in table.itertuples()
            ]
            parts[CONTINUOUS["located"]] = _by_input(table.assign(text=text), ["network", "noise", "picks an hour"])
        if "day" in self.tables:
            parts[CONTINUOUS["day"]] = markdown(self.tables["day"])
        return parts

    def _columns(self, columns: Columns, rows: Sequence[str] = ()) -> str:
        """Values of several tables over all records, if there is the first one; a row for each denoiser."""
        if next(iter(columns.values()))[0] not in self.tables:
            return ""
        shown: dict[str, pd.Series] = {}
        for head, (name, metric, form) in columns.items():
            if name in self.tables and metric in set(self.tables[name]["metric"]):
                shown[head] = self.value(name).xs(metric, level="metric").map(form, na_action="ignore")
        return self._table(pd.DataFrame(shown), rows)

    def _intervals(self, name: str, group: str, metrics: Mapping[str, str], rows: Sequence[str] = ()) -> str:
        """Metrics by their heading, over all records or differences; or one by the keys of a group; with intervals."""
        if name not in self.tables:
            return ""
        table = self.tables[name]
        table = table[(table["group"] == group) & table["metric"].isin(metrics)]
        if group in ("all", "difference"):
            table = table.assign(key=table["metric"].map(metrics))
            table, order = table[(group == "all") | (table["denoiser"] != PICKING)], list(metrics.values())
        else:
            order = sorted(table["key"].unique(), key=lambda key: (np.nan_to_num(place(key), nan=np.inf), key))
        text = [with_interval(row.value, row.low, row.high, row.independent) for row in table.itertuples()]
        wide = table.assign(text=text).pivot(index="denoiser", columns="key", values="text")
        return self._table(wide[[key for key in order if key in wide]], rows)

    def _table(self, wide: pd.DataFrame, rows: Sequence[str]) -> str:
        order = [name for name in (rows or self.shown()) if name in wide.index]
        wide = wide.loc[order].astype(object).fillna("-")
        return markdown(wide.rename_axis("").reset_index()) if order else ""


def _by_input(table: pd.DataFrame, keys: list[str]) -> str:
    """Texts with a row for each kind of record, and a column for each input, in the order in which they come."""
    names, order = table["input"].unique(), table[keys].drop_duplicates()
    wide = table.pivot(index=keys, columns="input", values="text")[names].reset_index()
    return markdown(order.merge(wide, on=keys))


def with_interval(value: float, low: float, high: float, independent: float) -> str:
    """A value and its interval, or the number of independent earthquakes where they are too few for one."""
    if pd.isna(value):
        return "-"
    form = "{:.2f}" if abs(value) < 2 else "{:.1f}"
    if independent < FEWEST:
        return f"{form.format(value)} (only {independent:g})"
    return form.format(value) + (f" [{form.format(low)}, {form.format(high)}]" if pd.notna(low) else "")


def read_table(path: Path) -> pd.DataFrame:
    """A table of statistics; one of costs as text, as it was written."""
    table = pd.read_csv(path, dtype={"key": str})
    return table if "metric" in table else pd.read_csv(path, dtype=str, keep_default_na=False)


def markdown(table: pd.DataFrame) -> str:
    """A data frame as a Markdown table, with its columns aligned."""
    cells = [[str(cell) for cell in row] for row in (table.columns, *table.to_numpy())]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def environment() -> dict[str, object]:
    """Commit, versions and machine."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=FOLDER, capture_output=True, text=True, check=False)
    processors = Path("/proc/cpuinfo")
    model = re.search("model name.*: (.*)", processors.read_text()) if processors.is_file() else None
    processor = model[1].strip() if model else platform.machine()
    machine = {"system": platform.system(), "processor": processor, "cores": os.cpu_count()}
    versions = {name: version(name) for name in PACKAGES}
    commit = git.stdout.strip() or "unknown"
    return {"commit": commit, "python": platform.python_version(), "versions": versions, "machine": machine}


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
    if "networks" in tables:
        result["network_events"] = by_pick_rate(tables["networks"])
    return {name: figure for name, figure in result.items() if figure.axes[0].lines}


def by_pick_rate(table: pd.DataFrame) -> Figure:
    """
    Coincident events above chance, and the root of those found, against the rate of picks: a column for each network, a
    row for each noise.
    """
    table = table.astype({"picks an hour": float, "true": float, "found": float})
    names, levels = table["network"].unique(), [x for x in SHOWN_NOISE if x in set(table["noise"])]
    figure = Figure(figsize=(4 * len(names) + 2, 3.2 * len(levels)), layout="constrained")
    axes = figure.subplots(len(levels), len(names), squeeze=False, sharex=True)
    for (row, level), (column, name) in product(enumerate(levels), enumerate(names)):
        ax, part = axes[row, column], table[(table["network"] == name) & (table["noise"] == level)]
        for what, line in part.groupby("input", sort=False):
            colour, style, width = CURVES.get("noisy" if what == "raw" else what, ("#009e73", "-", 1.5))
            rate, true, scatter = line["picks an hour"], line["true"], line["found"] ** 0.5
            ax.plot(rate, true, style, color=colour, lw=width, label=what, marker=".")
            ax.fill_between(rate, true - scatter, true + scatter, color=colour, alpha=0.08, lw=0)
        ax.set(xscale="log", yscale="symlog", title=f"{name}, {level}")
        rates = sorted(part["picks an hour"].unique())
        ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
        ax.minorticks_off()
        ax.set_yticks([0, 1, 2, 5, 10, 20, 50, 100, 200], ["0", "1", "2", "5", "10", "20", "50", "100", "200"])
        ax.set_ylim(0, max(10.0, 1.5 * part["true"].max()))
        ax.set_xlabel("P picks an hour of a station" if row == len(levels) - 1 else "")
        ax.set_ylabel("events above chance" if column == 0 else "")
    return finish(figure)


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
    table = recall_at(rows, reversed_in_time(noise), AXIS, resamples=0)
    values = table.set_index(["denoiser", "metric"])["value"]
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    for ax, phase in zip(figure.subplots(1, 2), "PS", strict=True):
        for name in AT_EQUAL:
            recall = [values.get((name, f"PhaseNet_{phase}_found_{rate:g}"), np.nan) for rate in AXIS]
            if not np.isnan(recall).all():
                colour, style, width = CURVES.get(name, ("#009e73", "-", 1.5))
                ax.plot(AXIS, recall, style, color=colour, lw=width, label=name)
        ax.set(xscale="log", xlabel="minutes of reversed noise an hour with a pick", ylabel=f"PhaseNet, {phase} recall")
    return finish(figure)


def finish(figure: Figure) -> Figure:
    """Grids, and a legend beside the axes, with the default first."""
    for ax in figure.axes:
        ax.grid(color="#eeeeee")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right upper", fontsize=8, frameon=False)
    return figure


if __name__ == "__main__":
    Report.read(RESULTS, README).write_documents()
