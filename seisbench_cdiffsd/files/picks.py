"""Lists of picks: one table that PyOcto and GaMMA read as it is, as CSV and Parquet, and the same as QuakeML."""

import csv
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import pandas as pd
from obspy import UTCDateTime

from seisbench_cdiffsd.files.console import one_line, printable
from seisbench_cdiffsd.files.writing import replacing
from seisbench_cdiffsd.picking import NOT_PICKED

#: Columns of the table: those of PyOcto and of this package, as :py:func:`.picking.pick_both` describes them, with the
#: station as NET.STA.LOC and the time in seconds since 1970; and, from `id` on, the first ones as GaMMA calls them.
COLUMNS = [
    *("station", "phase", "time", "probability", "amplitude", "snr", "raw", "denoised", "source", "channel"),
    *("id", "timestamp", "type", "prob", "amp"),
]
#: Those of them that are text; `timestamp` is a time, and all others are numbers.
TEXTS = ("station", "phase", "source", "channel", "id", "type")
#: Standard deviation in seconds of PhaseNet's picks on denoised records, from ``benchmarks/results/paper.csv``.
UNCERTAINTY = {"P": 0.17, "S": 0.10}
HEAD = """<?xml version="1.0" encoding="utf-8"?>
<q:quakeml xmlns="http://quakeml.org/xmlns/bed/1.2" xmlns:q="http://quakeml.org/xmlns/quakeml/1.2">
<eventParameters publicID="smi:local/cdiffsd">
<event publicID="smi:local/cdiffsd/picks"><type>not existing</type>
<description><text>Picks that are not associated with events yet</text></description>
"""
PICK = """<pick publicID={id}>
<time><value>{timestamp}Z</value>{uncertainty}</time>
<waveformID networkCode={network} stationCode={station}{location}{channel}/>
<methodID>{method}</methodID><phaseHint>{phase}</phaseHint><evaluationMode>automatic</evaluationMode>
<comment><text>{text}</text></comment>
</pick>
"""
FOOT = "</event>\n</eventParameters>\n</q:quakeml>\n"


def write_csv(picks: pd.DataFrame, path: Path) -> None:
    """Write picks as a table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(COLUMNS)
        for x in picks.itertuples():
            station, amplitude = printable(x.record.rpartition(".")[0]), f"{x.amplitude:.6g}"
            values = f"{x.probability:.4f}", amplitude, f"{x.snr:.2f}", f"{x.raw:.4f}", f"{x.denoised:.4f}"
            numbers = ["" if value == "nan" else value for value in values]
            time = f"{x.time.ns // 10**9}.{x.time.ns % 10**9 // 1000:06d}"
            row = station, x.phase, time, *numbers, x.source, printable(x.channel or x.record)
            lines.writerow((*row, station, x.time.strftime("%Y-%m-%dT%H:%M:%S.%f"), x.phase.lower(), *numbers[:2]))


def read_csv(path: Path) -> pd.DataFrame:
    """A table of picks, with times as UTCDateTime."""
    table = pd.read_csv(path)
    return table.assign(time=[UTCDateTime(time) for time in table["timestamp"]])


def write_quakeml(table: Path, path: Path, method: str) -> Counter[str]:
    """
    Write the picks of a table as QuakeML, which has picks in events only: that of the type "not existing" holds them.

    :param method: Name of the picker and its weights
    :return: Number of picks, by phase
    """
    counts: Counter[str] = Counter()
    with table.open(encoding="utf-8", newline="") as source, path.open("w", encoding="utf-8") as file:
        file.write(HEAD)
        for row in csv.DictReader(source):
            counts[row["phase"]] += 1
            network, rest = row["station"].split(".", 1)
            station, _, location = rest.rpartition(".")  # station codes from SAC may contain a point
            code = row["channel"].rpartition(".")[2]
            name = "/".join(
                re.sub(r"[^\w.:-]", "_", row[key], flags=re.ASCII) for key in ("channel", "phase", "timestamp")
            )
            told = (
                f"probability {row['probability']}, raw {row['raw']}, denoised {row['denoised']}, SNR {row['snr']} dB"
            )
            known = UNCERTAINTY.get(row["phase"])
            pick = {
                "id": quoteattr(f"smi:local/cdiffsd/pick/{name.replace(':', '')}"),
                "uncertainty": f"<uncertainty>{known}</uncertainty>" if known else "",
                "network": quoteattr(network),
                "station": quoteattr(station),
                "location": f" locationCode={quoteattr(location)}" if location else "",
                "channel": f" channelCode={quoteattr(code)}" if code else "",
                "method": f"smi:local/cdiffsd/{re.sub(r'[^A-Za-z0-9.-]+', '-', method)}",
                "text": escape(f"{told}, found on {row['source']}"),
            }
            file.write(PICK.format(**{**row, **pick}))
        file.write(FOOT)
    return counts


def merge(tables: Iterable[Path], path: Path, method: str) -> list[str]:
    """Put tables together, as CSV and, beside it, QuakeML and Parquet; return lines on what was written."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(COLUMNS) + "\n")
        for table in tables:
            with table.open(encoding="utf-8", newline="") as rows:
                next(rows, None)
                file.writelines(rows)
    with replacing(path.with_suffix(".xml")) as temporary:
        counts = write_quakeml(path, temporary, method)
    lines = [f"{path}: {', '.join(f'{count} {phase}' for phase, count in sorted(counts.items())) or 'no picks'}"]
    try:
        import pyarrow as pa
        from pyarrow.csv import ConvertOptions, open_csv
        from pyarrow.parquet import ParquetWriter
    except ImportError as error:
        return [*lines, f'No Parquet: {one_line(error)}. Try pip install "seisbench-cdiffsd[archive]".']
    types = {
        x: pa.string() if x in TEXTS else pa.timestamp("us") if x == "timestamp" else pa.float64() for x in COLUMNS
    }
    with ExitStack() as stack:
        temporary = stack.enter_context(replacing(path.with_suffix(".parquet")))
        reader = stack.enter_context(open_csv(path, convert_options=ConvertOptions(column_types=types)))
        writer = stack.enter_context(ParquetWriter(temporary, reader.schema))
        for batch in reader:
            writer.write_batch(batch)
    return lines


def describe(picks: pd.DataFrame) -> str:
    """Picks in one line; if there are many, their numbers; if the record was not picked, why."""
    if len(picks) > 8:
        return ", ".join(f"{count} {phase}" for phase, count in picks["phase"].value_counts().sort_index().items())
    found = (f"{x.phase} {_clock(x.time)} ({x.probability:.2f}, {x.source})" for x in picks.itertuples())
    reasons = picks.attrs.get(NOT_PICKED, {}).values()
    return "  ".join(found) or (f"not picked, because {' and '.join(dict.fromkeys(reasons))}" if reasons else "none")


def _clock(time: UTCDateTime) -> str:
    return time.strftime("%H:%M:%S.%f")[:-4]
