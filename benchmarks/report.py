"""Tables, figures and the README's table, from the rows of a run.

``python benchmarks/report.py`` rewrites ``results/results.md`` and the README's table from the committed CSV files.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
import summary
from baselines import CONTROLS
from evaluation import GROUPS, RECOVERED
from suite import DRY, PICKING, SHOWN, read_by_people
from testdata import Data, Options

FOLDER = Path(__file__).parent
MARKS = "<!-- results:begin -->", "<!-- results:end -->"
PACKAGES = ("seisbench-cdiffsd", "seisbench", "torch", "numpy", "scipy", "pandas", "obspy")
#: Minutes of noise with a false pick, per hour, at which recalls are compared: a network works at 1 or 2.
RATES = (1.0, 2.0, 5.0, 10.0)
#: A column: heading -> table, metric and how to write it.
Columns = dict[str, tuple[str, str, str]]

HEADLINE: Columns = {
    "SDR (dB)": ("paper", "sdr_db", "{:.1f}"),
    "correlation": ("paper", "correlation", "{:.2f}"),
    "amplitude": ("paper", "amplitude", "{:.2f}"),
    "P": ("paper", "PhaseNet_P_recall_0.5", "{:.2f}"),
    "S": ("paper", "PhaseNet_S_recall_0.5", "{:.2f}"),
    "P mean (ms)": ("paper", "PhaseNet_P_mean", "{:+.0f}"),
    "P std (ms)": ("paper", "PhaseNet_P_std", "{:.0f}"),
    "EQTransformer P": ("paper", "EQTransformer_P_recall_0.5", "{:.2f}"),
    "EQTransformer S": ("paper", "EQTransformer_S_recall_0.5", "{:.2f}"),
    "false P an hour": ("noise", "PhaseNet_P_per_hour", "{:.0f}"),
    "P at 2 false an hour": ("equal", "PhaseNet_P_found_2", "{:.2f}"),
    "P at 10": ("equal", "PhaseNet_P_found_10", "{:.2f}"),
}
#: Columns of the headline that the README has.
IN_README = ("SDR (dB)", "correlation", "P", "S", "false P an hour", "P at 2 false an hour", "P at 10")
CONTROL: Columns = {
    name: HEADLINE[name] for name in ("SDR (dB)", "correlation", "P", "S", "P at 2 false an hour", "P at 10")
} | {
    "P angle (°)": ("paper", "p_angle_deg", "{:.0f}"),
    "P rectilinearity": ("paper", "p_rectilinearity", "{:+.2f}"),
    "noise removed (dB)": ("noise", "suppression_db", "{:.0f}"),
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
    ("window", "input_snr_db", "PhaseNet_P_recall_0.5", "P recall by the SNR of the window (dB)"),
    ("noise", "kind", "PhaseNet_P_per_hour", "Minutes of noise an hour with a false P pick, by kind of noise"),
)


def grouped(
    rows: pd.DataFrame,
    groups: Sequence[str] = GROUPS,
    summarize: Callable[..., pd.DataFrame] = summary.summarize,
    reference: str = PICKING,
) -> pd.DataFrame:
    """
    Statistics of all rows, of `reference` minus each other row, and a few by each of some columns.

    :param rows: Rows of records
    :param groups: Columns to group by
    :param summarize: What makes statistics of the rows, as :py:func:`summary.summarize`
    :param reference: The denoiser that others are compared with
    :return: Statistics, with the columns ``group`` ("all", "difference" or one of `groups`) and ``key`` before the rest
    """
    tables = [summarize(rows).assign(group="all", key="all")]
    if (rows["denoiser"] == reference).any():
        tables.append(summarize(rows, reference=reference).assign(group="difference", key="all"))
    for group in groups:
        if rows[group].nunique() > 1:
            table = summarize(rows, by=("denoiser", group)).rename(columns={group: "key"})
            few = table["metric"].isin(BY_GROUP) | table["metric"].str.contains("recall_0.5|found|per_hour|suppression")
            tables.append(table[few].assign(group=group, key=table["key"].astype(str)))
    table = pd.concat(tables, ignore_index=True)
    first = ["group", "key", "denoiser", "metric"]
    return table[first + [column for column in table if column not in first]]


def is_reversed(noise: pd.DataFrame) -> pd.Series:
    """Which rows of noise are of noise reversed in time, calm or busy, of which false picks are counted."""
    return noise["kind"].str.startswith("reversed")


def false_picks(noise: pd.DataFrame) -> pd.DataFrame:
    """Statistics of reversed noise, and by kind of all noise."""
    kinds = grouped(noise, ("kind",))
    return pd.concat([grouped(noise[is_reversed(noise)], ()), kinds[kinds["group"] == "kind"]], ignore_index=True)


def equal(rows: pd.DataFrame, noise: pd.DataFrame) -> pd.DataFrame:
    """Recalls where reversed noise, calm and busy, gives equally many false picks."""
    return grouped(rows, ("sp_class",), partial(summary.recall_at, noise=noise[is_reversed(noise)], per_hour=RATES))


class Report:
    """
    The results of a run.

    :param folder: Folder to write to; by default nothing is written
    :param full: Whether this is the run that the committed results come from
    :param command: Arguments of pytest
    """

    def __init__(self, folder: Path | None, full: bool, command: Sequence[object]) -> None:
        self.folder = folder or (FOLDER / "results" if full else None)
        self.readme = FOLDER.parent / "README.md" if full and folder is None else None
        self.command = shlex.join(["pytest", *map(str, command)])
        self.tables: dict[str, pd.DataFrame] = {}
        self.rows: dict[str, pd.DataFrame] = {}
        self.missing: dict[str, str] = {}  # denoisers and pickers, and why
        self.about: dict[str, object] = {}
        self.figures: dict[str, object] = {}

    @classmethod
    def read(cls, folder: Path) -> Report:
        """The tables of an earlier run, without its rows."""
        report = cls(folder, False, ())
        report.about = json.loads((folder / "environment.json").read_text())
        report.missing = dict(report.about["missing"])  # type: ignore[arg-type]
        report.tables = {path.stem: read_table(path) for path in sorted(folder.glob("*.csv"))}
        return report

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

    def markdown(self) -> list[tuple[str, str]]:
        """All tables: title and Markdown."""
        names, more = set(self.tables), self.shown(True)
        parts: list[tuple[str, str]] = []
        if "paper" in names:
            title = "The paper's protocol: noise of 0.40 to 0.65 of the record's maximum"
            parts.append((title, self._columns(HEADLINE, more)))
            heads = ("SDR (dB)", "correlation", "P", "S", "EQTransformer P", "EQTransformer S")
            columns = {HEADLINE[head][1]: head for head in heads}
            parts.append((f"{PICKING}, minus the other rows", self._intervals("paper", columns, "difference", more)))
        for picker in self._pickers("equal"):
            columns = {f"{picker}_{phase}_found_{rate:g}": f"{phase} at {rate:g}" for phase in "PS" for rate in RATES}
            title = f"{picker}: recall where so many minutes of reversed noise an hour hold a false pick"
            parts.append((title, self._intervals("equal", columns, "all", more)))
        for name, group, metric, title in BROKEN_DOWN:
            rows = more if name == "noise" else ()
            parts.append((title, self._by_group(name, group, metric, rows) if name in names else ""))
        if "paper" in names:
            ladder = ["noisy", *(f"{share:.0%} recovered" for share in RECOVERED), "clean"]
            title = "Controls, and records that are recovered in part"
            parts.append((title, self._columns(CONTROL, [*CONTROLS, *ladder])))
        for name, title in (("natural", "Naturally noisy records"), ("left_alone", "Clean records, nothing mixed")):
            heads = (head for head, (table, _, _) in HEADLINE.items() if table == "paper")
            parts.append((title, self._columns({head: (name, *HEADLINE[head][1:]) for head in heads})))
        streams = "Damaged streams of ten minutes, without noise left in: denoise, and SeisBench's annotate"
        for name, title in (("damage", streams), ("speed", "Speed on a stream"), ("growth", "How the cost grows (s)")):
            if name in names and (name == "damage" or "paper" not in names):  # speed is measured on an idle machine
                parts.append((title, markdown(self.tables[name])))
        if self.missing:
            why = pd.DataFrame({"": list(self.missing), "why": list(self.missing.values())})
            parts.append(("Not available", markdown(why)))
        return [(title, table) for title, table in parts if table]

    def headline(self) -> str:
        """The table of the README: some columns of the main one."""
        return self._columns({name: HEADLINE[name] for name in IN_README})

    def shown(self, more: bool = False) -> list[str]:
        """Rows of a table: a few, and models of users; with `more`, also others for picking, and ours with noisy."""
        known = [name for table in self.tables.values() if "metric" in table for name in table["denoiser"].unique()]
        own = [name for name in read_by_people(dict.fromkeys(known)) if name not in SHOWN]
        others = [name for name in dict.fromkeys(known) if name.endswith(DRY)] if more else []
        return [*SHOWN[:-1], *([f"{PICKING} + noisy"] if more else []), *others, *own, SHOWN[-1]]

    def write(self) -> None:
        """Write CSV, Markdown, figures and environment; in full, the README too."""
        if self.folder is None or not self.tables:
            return
        import plots

        self.folder.mkdir(parents=True, exist_ok=True)
        for name, table in self.tables.items():
            form = "%.4g" if "metric" in table else None  # costs are rounded already
            table.to_csv(self.folder / f"{name}.csv", index=False, float_format=form)
        self.about = {**environment(), "command": self.command, **self.about, "missing": self.missing}
        (self.folder / "environment.json").write_text(json.dumps(self.about, indent=2) + "\n")
        self.figures |= plots.figures(self.tables, self.rows)
        for name, figure in self.figures.items():
            figure.savefig(self.folder / f"{name}.png", dpi=110)
        self.write_documents()

    def write_documents(self) -> None:
        """Write ``results.md`` with all tables and figures and, in full, the table of the README."""
        about = self.about
        lines = [
            "# Results",
            "",
            f"Written by `{about['command']}` at commit {str(about['commit'])[:10]}. Intervals are 95 % intervals, the "
            "wider of those of a bootstrap over earthquakes and over stations. A figure with (only N) stands on N "
            f"independent earthquakes or stations, fewer than {summary.FEWEST}, from which no interval can be had.",
            "",
        ]
        for title, table in self.markdown():
            lines += [f"## {title}", "", table, ""]
        lines += [f"![{figure.stem}]({figure.name})" for figure in sorted(self.folder.glob("*.png"))]
        (self.folder / "results.md").write_text("\n".join(lines) + "\n")
        if self.readme is not None and {"paper", "noise", "equal"} <= set(self.tables):
            self._write_readme()

    def _write_readme(self) -> None:
        before, rest = self.readme.read_text().split(MARKS[0])
        _, after = rest.split(MARKS[1])
        about = self.about
        text = (
            f"{about['mixtures']['paper']} mixtures of {about['earthquakes']} earthquakes with recorded noise of 0.40 "
            "to 0.65 of their maximum; recalls of PhaseNet.\n"
            f"By `{about['command']}` at commit {about['commit'][:10]};\n"
            "all tables are in [benchmarks/results](benchmarks/results/results.md)."
        )
        table = self.headline()
        self.readme.write_text(f"{before}{MARKS[0]}\n{text}\n\n{table}\n{MARKS[1]}{after}")

    def _pickers(self, name: str) -> list[str]:
        names = self.tables[name]["metric"].unique() if name in self.tables else []
        return list(dict.fromkeys(name.split("_P_")[0] for name in names if "_P_" in name))

    def _columns(self, columns: Columns, rows: Sequence[str] = ()) -> str:
        """Values of several tables over all records; a row for each denoiser."""
        shown: dict[str, pd.Series] = {}
        for head, (name, metric, form) in columns.items():
            if name in self.tables and metric in set(self.tables[name]["metric"]):
                values = self.value(name).xs(metric, level="metric")
                shown[head] = values.map(lambda x, form=form, head=head: _number(x, form, "(ms)" in head))
        return self._table(pd.DataFrame(shown).fillna("-"), rows)

    def _intervals(self, name: str, columns: Mapping[str, str], group: str, rows: Sequence[str] = ()) -> str:
        """Metrics with their intervals, over all records, or differences."""
        table = self.tables[name]
        table = table[(table["group"] == group) & table["metric"].isin(list(columns))]
        if group == "difference":
            table = table[table["denoiser"] != PICKING]
        return self._pivot(table.assign(metric=table["metric"].map(columns)), "metric", list(columns.values()), rows)

    def _by_group(self, name: str, group: str, metric: str, rows: Sequence[str] = ()) -> str:
        """A metric by the keys of a group."""
        table = self.tables[name]
        table = table[(table["group"] == group) & (table["metric"] == metric)]
        return self._pivot(table, "key", sorted(table["key"].unique(), key=_order), rows)

    def _pivot(self, table: pd.DataFrame, columns: str, order: Sequence[str], rows: Sequence[str]) -> str:
        text = [with_interval(row.value, row.low, row.high, row.independent) for row in table.itertuples()]
        wide = table.assign(text=text).pivot(index="denoiser", columns=columns, values="text")
        return self._table(wide[[name for name in order if name in wide]].fillna("-"), rows)

    def _table(self, wide: pd.DataFrame, rows: Sequence[str] = ()) -> str:
        order = [name for name in (rows or self.shown()) if name in wide.index]
        return markdown(wide.loc[order].rename_axis("").reset_index()) if order else ""


def with_interval(value: float, low: float, high: float, independent: float) -> str:
    """A value and its interval, or the number of independent earthquakes where they are too few for one."""
    if pd.isna(value):
        return "-"
    form = "{:.2f}" if abs(value) < 2 else "{:.1f}"
    if independent < summary.FEWEST:
        return f"{form.format(value)} (only {independent:g})"
    return form.format(value) + (f" [{form.format(low)}, {form.format(high)}]" if pd.notna(low) else "")


def _order(key: str) -> tuple[int, float, str]:
    """Sorts -10.0 before 5.0, and "below 0 dB" before "0 to 5 dB" before "above 5 dB"."""
    first = {"below": -1, "above": 1}.get(key.split()[0], 0)
    try:
        return first, float(key.split()[0] if not first else 0), key
    except ValueError:
        return 2, 0.0, key


def read_table(path: Path) -> pd.DataFrame:
    """A table of statistics; one of costs as text, as it was written."""
    table = pd.read_csv(path, dtype={"key": str})
    return table if "metric" in table else pd.read_csv(path, dtype=str, keep_default_na=False)


def _number(value: float, form: str, milliseconds: bool = False) -> str:
    return "-" if pd.isna(value) else form.format(1000 * value if milliseconds else value)


def markdown(table: pd.DataFrame) -> str:
    """A data frame as a Markdown table, with its columns aligned."""
    cells = [[str(name) for name in table.columns], *[[str(cell) for cell in row] for row in table.to_numpy()]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def environment() -> dict[str, object]:
    """Commit, versions and machine."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=FOLDER, capture_output=True, text=True, check=False)
    model = ""
    if Path("/proc/cpuinfo").is_file():
        names = [line.split(":")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
        model = names[0].strip() if names else ""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    machine = {"system": platform.system(), "processor": model or platform.machine(), "cores": os.cpu_count()}
    commit = git.stdout.strip() or "unknown"
    return {"commit": commit, "python": platform.python_version(), "versions": versions, "machine": machine}


if __name__ == "__main__":
    committed = Report.read(FOLDER / "results")
    committed.readme = FOLDER.parent / "README.md"
    committed.write_documents()
