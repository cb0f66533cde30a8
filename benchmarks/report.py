"""Tables, figures and the README's table, from the rows of a run.

``python benchmarks/report.py`` rewrites ``results/results.md`` and the README's table from the committed CSV files.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import summary
from baselines import DEFAULT_STEPS
from speed import step_name

FOLDER = Path(__file__).parent
MARKS = "<!-- results:begin -->", "<!-- results:end -->"
PACKAGES = ("seisbench-cdiffsd", "seisbench", "torch", "numpy", "scipy", "pandas", "obspy")

#: Columns of the Markdown tables: heading -> metric and how to write it.
WAVEFORMS = {
    "SDR gain (dB)": ("sdr_gain_db", "{:+.1f}"),
    "SNR gain (dB)": ("snr_gain_db", "{:+.1f}"),
    "correlation": ("correlation", "{:.3f}"),
    "log10 amplitude": ("log10_amplitude", "{:+.2f}"),
    "magnitude error": ("magnitude_error", "{:.2f}"),
    "full-band SDR (dB)": ("sdr_full_db", "{:.1f}"),
    "full-band correlation": ("correlation_full", "{:.3f}"),
}
PICKS = {
    "recall ±0.5 s": ("recall_0.5", "{:.2f}"),
    "recall ±0.1 s": ("recall_0.1", "{:.2f}"),
    "precision ±0.5 s": ("precision_0.5", "{:.2f}"),
    "F1 ±0.5 s": ("f1_0.5", "{:.2f}"),
    "F1 ±0.1 s": ("f1_0.1", "{:.2f}"),
    "mean (ms)": ("mean", "{:+.0f}"),
    "median (ms)": ("median", "{:+.0f}"),
    "std (ms)": ("std", "{:.0f}"),
    "early": ("early", "{:.2f}"),
}
#: Windows of noise per hour with a false pick, at which recalls are compared.
RATES = (10.0, 20.0, 50.0)


class Column(NamedTuple):
    """A column of the summary: where its values are, how to write them, and whether the README has it."""

    head: str
    table: str
    metric: str
    form: str
    in_readme: bool = True


SUMMARY = (
    Column("SDR (dB)", "quality", "sdr_db", "{:.1f}"),
    Column("correlation", "quality", "correlation", "{:.2f}"),
    Column("P recall", "picking", "PhaseNet_P_recall_0.5", "{:.2f}"),
    Column("P recall at 20 false per hour", "equal", "PhaseNet_P_found_20", "{:.2f}"),
    Column("P precision", "picking", "PhaseNet_P_precision_0.5", "{:.2f}", False),
    Column("P mean (ms)", "picking", "PhaseNet_P_mean", "{:+.0f}", False),
    Column("P std (ms)", "picking", "PhaseNet_P_std", "{:.0f}", False),
    Column("S recall", "picking", "PhaseNet_S_recall_0.5", "{:.2f}"),
    Column("false P per hour", "noise", "PhaseNet_P_per_hour", "{:.0f}"),
    Column("EQTransformer P recall", "picking", "EQTransformer_P_recall_0.5", "{:.2f}"),
    Column("EQTransformer P recall at 20 false per hour", "equal", "EQTransformer_P_found_20", "{:.2f}", False),
    Column("noise removed (dB)", "noise", "suppression_db", "{:.1f}", False),
)
DIFFERENCES = (
    Column("SDR (dB)", "quality", "sdr_db", "{:+.1f}"),
    Column("correlation", "quality", "correlation", "{:+.2f}"),
    *(
        Column(f"{picker} P recall at {rate:g} false per hour", "equal", f"{picker}_P_found_{rate:g}", "{:+.2f}")
        for picker in ("PhaseNet", "EQTransformer")
        for rate in RATES[:2]
    ),
    Column("PhaseNet S recall at 20 false per hour", "equal", "PhaseNet_S_found_20", "{:+.2f}"),
    Column("false P per hour", "noise", "PhaseNet_P_per_hour", "{:+.0f}"),
)
#: The row of the shipped weights and default options.
DEFAULT_ROW = f"{step_name('CDiffSD', DEFAULT_STEPS)}, noise left"
#: Rows that are compared with each other station by station, and the title of that.
COMPARED = ("noisy", "DeepDenoiser, noise left", "SeisDAE, noise left", DEFAULT_ROW)
STATIONS = "false P picks per hour at the stations that give most"
#: Rows of the README's table, and their names there.
README_ROWS = {
    "noisy": "noisy record",
    "band-pass 1-20 Hz": "band-pass 1-20 Hz",
    "Wiener": "Wiener filter",
    "DeepDenoiser": "DeepDenoiser, no noise left",
    "DeepDenoiser, noise left": "DeepDenoiser, noise left",
    "SeisDAE": "SeisDAE, no noise left",
    "SeisDAE, noise left": "SeisDAE, noise left",
    DEFAULT_ROW: "**CDiffSD (default)**",
    step_name("CDiffSD", DEFAULT_STEPS): "CDiffSD, no noise left",
    f"{step_name('CDiffSD from scratch', DEFAULT_STEPS)}, noise left": "CDiffSD with the others' budget, noise left",
    step_name("CDiffSD published", DEFAULT_STEPS): "published network, 10,400 windows, no noise left",
    "oracle mask": "oracle mask (knows the earthquake)",
}


def grouped(
    rows: pd.DataFrame, groups: tuple[str, ...], summarize: Callable[..., pd.DataFrame] = summary.summarize
) -> pd.DataFrame:
    """
    Statistics of all rows, by each of some columns, and of CDiffSD's default minus each other row.

    :param rows: Rows of records
    :param groups: Columns to group by
    :param summarize: What makes statistics of the rows, as :py:func:`summary.summarize`
    :return: Statistics, with the columns ``group`` ("all", "difference" or one of `groups`) and ``key`` before the rest
    """
    tables = [summarize(rows).assign(group="all", key="all")]
    if (rows["denoiser"] == DEFAULT_ROW).any():
        tables.append(summarize(rows, reference=DEFAULT_ROW).assign(group="difference", key="all"))
    for group in groups:
        table = summarize(rows, by=("denoiser", group)).rename(columns={group: "key"})
        tables.append(table.assign(group=group, key=table["key"].astype(str)))
    table = pd.concat(tables, ignore_index=True)
    first = ["group", "key", "denoiser", "metric"]
    return table[first + [column for column in table if column not in first]]


class Report:
    """
    The results of a run.

    :param folder: Folder to write to; by default nothing is written
    :param full: Whether this is the run that the committed results come from
    :param command: Arguments of pytest
    """

    def __init__(self, folder: Path | None, full: bool, command: tuple[str, ...]) -> None:
        self.folder = folder or (FOLDER / "results" if full else None)
        self.readme = FOLDER.parent / "README.md" if full and folder is None else None
        self.command = shlex.join(["pytest", *map(str, command)])
        self.tables: dict[str, pd.DataFrame] = {}
        self.rows: dict[str, pd.DataFrame] = {}
        self.missing: dict[str, str] = {}  # denoisers, and why
        self.missing_pickers: dict[str, str] = {}
        self.about: dict[str, object] = {}
        self.figures: dict[str, object] = {}

    @classmethod
    def read(cls, folder: Path) -> Report:
        """The tables of an earlier run, without its rows."""
        report = cls(folder, False, ())
        report.about = json.loads((folder / "environment.json").read_text())
        report.missing = dict(report.about["missing"])
        report.missing_pickers = dict(report.about.get("missing_pickers", {}))
        report.tables = {path.stem: read_table(path) for path in sorted(folder.glob("*.csv"))}
        return report

    def describe(self, data, options) -> None:
        """Describe the data of the run."""
        self.about |= {
            "data": data.source,
            "mixtures": len(data.mixtures.clean),
            "events": int(data.mixtures.labels.get("source_id", data.mixtures.labels.index.to_series()).nunique()),
            "noise_windows": len(data.noise),
            "naturally_noisy_records": len(data.natural),
            "seed": options.seed,
            "device": options.device,
        }

    def value(self, name: str) -> pd.Series:
        """Values of a table over all its records, by denoiser and metric."""
        table = self.tables[name]
        return table[table["group"] == "all"].set_index(["denoiser", "metric"])["value"]

    def gallery(self, mixtures, denoisers) -> None:
        """Keep a figure of a few mixtures."""
        if self.folder is not None:
            import plots

            self.figures["gallery"] = plots.gallery(mixtures, denoisers)

    def markdown(self) -> list[tuple[str, str]]:
        """All tables: title and Markdown."""
        parts = []
        if self._summarised():
            parts.append(("Summary", self.summary()))
            if any((table["group"] == "difference").any() for table in self.tables.values() if "group" in table):
                parts.append((f"{DEFAULT_ROW} minus the other rows, with 95 % intervals", self.differences()))
        if "quality" in self.tables:
            parts.append(
                ("Waveforms: SDR (dB) by input SNR, with 95 % intervals", self._by_snr("quality", "sdr_db", "{:.1f}"))
            )
            parts.append(("Waveforms, all input SNRs", self._wide("quality", WAVEFORMS)))
            parts.append(("Waveforms: amplitude ratio by input SNR, median and quartiles", self._amplitudes()))
            parts.append(("Waveforms: SDR gain (dB)", self._by_others("quality", "sdr_gain_db", "{:+.1f}")))
        if "left_alone" in self.tables:
            columns = {head: WAVEFORMS[head] for head in ("correlation", "log10 amplitude")}
            columns = {"SDR (dB)": ("sdr_db", "{:.1f}"), **columns}
            for picker in self._pickers("left_alone"):
                columns |= {f"{picker}, {phase} recall": (f"{picker}_{phase}_recall_0.5", "{:.2f}") for phase in "PS"}
            parts.append(("Clean records (SNR above 30 dB), nothing mixed", self._wide("left_alone", columns)))
        for name, title in (("picking", "mixtures"), ("natural", "naturally noisy records")):
            for picker in self._pickers(name):
                for phase in "PS":
                    what = f"{picker}, {phase} on {title}"
                    if name == "picking":
                        metric = f"{picker}_{phase}_recall_0.5"
                        parts.append(
                            (f"{what}: recall within 0.5 s by input SNR", self._by_snr(name, metric, "{:.2f}"))
                        )
                        parts.append((f"{what}: recall within 0.5 s", self._by_others(name, metric, "{:.2f}")))
                    columns = {head: (f"{picker}_{phase}_{metric}", form) for head, (metric, form) in PICKS.items()}
                    parts.append((what, self._wide(name, columns)))
        if "noise" in self.tables:
            columns = {"suppression (dB)": ("suppression_db", "{:.1f}")}
            for picker in self._pickers("noise"):
                columns |= {f"{picker} {phase} per hour": (f"{picker}_{phase}_per_hour", "{:.0f}") for phase in "PS"}
            parts.append(("Noise alone", self._wide("noise", columns)))
            parts += [
                (f"Noise alone, {picker}: {STATIONS}", self._stations(picker)) for picker in self._pickers("noise")
            ]
        for picker in self._pickers("equal"):
            columns = {
                f"{phase}, {rate:g} per hour": (f"{picker}_{phase}_found_{rate:g}", "{:.2f}")
                for phase in "PS"
                for rate in RATES
            }
            title = f"{picker}, recall within 0.5 s where noise alone gives so many false picks per hour"
            parts.append((title, self._wide("equal", columns)))
            for rate in RATES[:2]:
                title = f"{picker}, P recall where noise alone gives {rate:g} false picks per hour, by input SNR"
                parts.append((title, self._by_snr("equal", f"{picker}_P_found_{rate:g}", "{:.2f}")))
        costs = {
            "speed": "Speed on a stream",
            "growth": "How the cost grows (s)",
            "floor": "The network against the floor",
            "ways": "Ways to be faster",
        }
        for name, title in costs.items():
            if name in self.tables:
                parts.append((title, markdown(self.tables[name])))
        absent = {**self.missing, **self.missing_pickers}
        if absent:
            parts.append(("Not available", markdown(pd.DataFrame({"": list(absent), "why": list(absent.values())}))))
        return parts

    def summary(self) -> str:
        """A few columns of each benchmark."""
        wide = self._columns(SUMMARY)
        order = [name for name in self._order() if name in wide.index and not name.endswith(" + noisy")]
        return self._table(wide.loc[order].rename_axis("input to the picker").reset_index())

    def differences(self) -> str:
        """How far CDiffSD's default is ahead of, or behind, the other rows."""
        shown: dict[str, pd.Series] = {}
        for head, name, metric, form, _ in DIFFERENCES:
            table = self.tables.get(name, pd.DataFrame(columns=["group", "metric"]))
            table = table[(table["group"] == "difference") & (table["metric"] == metric)].set_index("denoiser")
            if not table.empty:
                spans = zip(table["value"], table["low"], table["high"], strict=True)
                texts = ["-" if pd.isna(span[0]) else f"{form} [{form}, {form}]".format(*span) for span in spans]
                shown[head] = pd.Series(texts, index=table.index)
        wide = pd.DataFrame(shown).fillna("-")
        order = [name for name in self._order() if name in wide.index and not name.endswith(" + noisy")]
        return markdown(wide.loc[order].drop(index=DEFAULT_ROW).rename_axis("minus").reset_index())

    def headline(self) -> str:
        """The table of the README: some rows and columns of the summary."""
        wide = self._columns([column for column in SUMMARY if column.in_readme])
        for name in self.missing:
            wide.loc[name] = ["not available", *[""] * (len(wide.columns) - 1)]
        rows = wide.loc[[name for name in README_ROWS if name in wide.index]].rename(README_ROWS)
        return markdown(rows.rename_axis("input to the picker").reset_index())

    def _columns(self, columns: Iterable[Column]) -> pd.DataFrame:
        """Columns of the summary, as text; a row for each denoiser."""
        shown: dict[str, pd.Series] = {}
        for head, table, metric, form, _ in columns:
            if table in self.tables and metric in set(self.tables[table]["metric"]):
                values = self.value(table).xs(metric, level="metric")
                shown[head] = values.map(lambda x, form=form, head=head: _number(x, form, "(ms)" in head))
        return pd.DataFrame(shown).fillna("-")

    def _summarised(self) -> bool:
        return {"quality", "picking", "noise"} <= set(self.tables)

    def write(self) -> None:
        """Write CSV, Markdown, figures and environment; in full, the README too."""
        if self.folder is None or not self.tables:
            return
        import plots

        self.folder.mkdir(parents=True, exist_ok=True)
        for name, table in self.tables.items():
            form = "%.6g" if "metric" in table else None  # costs are rounded already
            table.to_csv(self.folder / f"{name}.csv", index=False, float_format=form)
        self.about = {**environment(), "command": self.command, **self.about, "missing": self.missing}
        self.about |= {"missing_pickers": self.missing_pickers} if self.missing_pickers else {}
        (self.folder / "environment.json").write_text(json.dumps(self.about, indent=2) + "\n")
        # speed is measured in runs of its own, on an idle machine, and stored in a folder of its own
        timed = self.folder / "speed" / "speed.csv"
        speed = {"speed": pd.read_csv(timed)} if timed.is_file() else {}
        self.figures |= plots.figures({**speed, **self.tables}, self.rows)
        for name, figure in self.figures.items():
            figure.savefig(self.folder / f"{name}.png", dpi=110)
        self.write_documents()

    def write_documents(self) -> None:
        """Write ``results.md`` with all tables and figures and, in full, the table of the README."""
        command = self.about["command"]
        lines = ["# Results", "", f"Written by `{command}`; see `environment.json` for versions and machine.", ""]
        for title, table in self.markdown():
            lines += [f"## {title}", "", table, ""]
        for figure in sorted(self.folder.glob("*.png")):
            lines += [f"![{figure.stem}]({figure.name})", ""]
        (self.folder / "results.md").write_text("\n".join(lines))
        if self.readme is not None and self._summarised():
            self._write_readme()

    def _write_readme(self) -> None:
        before, rest = self.readme.read_text().split(MARKS[0])
        _, after = rest.split(MARKS[1])
        about = self.about
        lines = [
            f"{about['mixtures']} mixtures of {about['events']} earthquakes with recorded noise, input SNR -10 to 10",
            f"dB, and {about['noise_windows']} windows of noise alone; picks of PhaseNet within 0.5 s.",
            f"By `{about['command']}` at commit {about['commit'][:10]}; all tables and figures are in",
            "[benchmarks/results](benchmarks/results/results.md).",
        ]
        text = "\n".join(lines)
        self.readme.write_text(f"{before}{MARKS[0]}\n{text}\n\n{self.headline()}\n{MARKS[1]}{after}")

    def _order(self) -> list[str]:
        """Denoisers in the order of the picks, which have all of them, and of the other tables."""
        tables = [table for table in self.tables.values() if "metric" in table]
        tables.sort(key=lambda table: -table["denoiser"].nunique())
        return list(dict.fromkeys(name for table in tables for name in table["denoiser"]))

    def _pickers(self, name: str) -> list[str]:
        names = self.tables[name]["metric"].unique() if name in self.tables else []
        return list(dict.fromkeys(name.split("_P_")[0] for name in names if "_P_" in name))

    def _table(self, table: pd.DataFrame) -> str:
        """Markdown, with a row for each denoiser that is not available."""
        width = len(table.columns)
        rows = [[name, "not available", *[""] * width][:width] for name in self.missing]
        return markdown(pd.concat([table, pd.DataFrame(rows, columns=table.columns)]))

    def _wide(self, name: str, columns: dict[str, tuple[str, str]]) -> str:
        values = self.value(name).unstack("metric")
        order = [row for row in self._order() if row in values.index]
        shown = {
            head: [_number(x, form, "(ms)" in head) for x in values.loc[order, metric]]
            for head, (metric, form) in columns.items()
            if metric in values
        }
        return self._table(pd.DataFrame({"": order, **shown}))

    def _by_snr(self, name: str, metric: str, form: str) -> str:
        table = self.tables[name]
        table = table[(table["metric"] == metric) & table["group"].isin(["input_snr_db", "all"])]
        text = [
            _number(row.value, form) + (f" [{form}, {form}]".format(row.low, row.high) if pd.notna(row.low) else "")
            for row in table.itertuples()
        ]
        return self._table_by_snr(table.assign(text=text).pivot(index="denoiser", columns="key", values="text"))

    def _amplitudes(self) -> str:
        table = self.tables["quality"]
        names = ("amplitude", "amplitude_lower", "amplitude_upper")
        table = table[table["metric"].isin(names) & table["group"].isin(["input_snr_db", "all"])]
        wide = table.pivot(index=["denoiser", "key"], columns="metric", values="value").dropna()
        text = wide.apply(lambda row: "{:.2f} [{:.2f}, {:.2f}]".format(*(row[name] for name in names)), axis=1)
        return self._table_by_snr(text.unstack("key"))

    def _table_by_snr(self, wide: pd.DataFrame) -> str:
        """A column for each input SNR, in order, and one for all."""
        heads = sorted((key for key in wide if key != "all"), key=float)
        order = [row for row in self._order() if row in wide.index]
        wide = wide.loc[order, [*heads, "all"]].rename(columns={key: f"{float(key):+.0f} dB" for key in heads})
        return self._table(wide.rename_axis("").reset_index())

    def _stations(self, picker: str, count: int = 6) -> str:
        """False P picks by station, of the rows that are compared, where there are most."""
        table = self.tables["noise"]
        table = table[(table["group"] == "event") & (table["metric"] == f"{picker}_P_per_hour")]
        wide = table.pivot(index=["key", "records"], columns="denoiser", values="value")
        wide = wide[[row for row in self._order() if row in COMPARED and row in wide]]
        worst = (wide.max(axis=1) * wide.index.get_level_values("records")).nlargest(count).index
        return markdown(wide.loc[worst].map("{:.0f}".format).rename_axis(["station", "windows"]).reset_index())

    def _by_others(self, name: str, metric: str, form: str) -> str:
        """A metric by region, instrument and S - P time, one row each, with the numbers of events."""
        table = self.tables[name]
        table = table[(table["metric"] == metric) & ~table["group"].isin(["input_snr_db", "all", "difference"])]
        text = table["value"].map(lambda value: _number(value, form))
        key = table["key"] + " (" + table["events"].astype(str) + ")"
        wide = table.assign(text=text, key=key).pivot(index=["group", "key"], columns="denoiser", values="text")
        wide = wide[[row for row in self._order() if row in wide and not row.endswith(" + noisy")]].fillna("-")
        names = {"region": "region", "instrument": "instrument", "sp_class": "S - P"}
        wide = wide.reset_index().rename(columns={"group": "by", "key": "(events)"})
        return markdown(wide.replace({"by": names}))


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
    return {
        "commit": git.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES if _installed(name)},
        "machine": {"system": platform.system(), "processor": model or platform.machine(), "cores": os.cpu_count()},
    }


def _installed(name: str) -> bool:
    try:
        version(name)
    except ModuleNotFoundError:
        return False
    return True


def main() -> None:
    """Rewrite the documents of the committed results."""
    report = Report.read(FOLDER / "results")
    report.readme = FOLDER.parent / "README.md"
    report.write_documents()


if __name__ == "__main__":
    main()
