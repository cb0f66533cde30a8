"""Archives: what does a second worker bring, what does a year cost?

    python benchmarks/archive.py scaling     # the same archive by one and by two workers
    python benchmarks/archive.py memory      # the largest memory for one and for several days of a station
    python benchmarks/archive.py cost        # what a year of 100 stations costs, from what was measured

Each writes ``results/archive_<name>.json``. The data are noise made on the spot: neither time nor bytes depend on it.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from itertools import product
from pathlib import Path

import numpy as np
from obspy import Stream, Trace, UTCDateTime
from report import RESULTS, environment

FIRST, DAY = date(2020, 12, 30), timedelta(days=1)
RATE = 100


def make_archive(root: Path, stations: int, days: int, minutes: float) -> list[Path]:
    """
    An archive whose records lie around midnight, `minutes` on each side; 720 fill the days. Samples are integers that
    compress about as well as those of a seismometer.
    """
    paths = []
    for number, component, day in product(range(stations), "ZNE", range(days)):
        random, station = np.random.default_rng([number, ord(component), day]), f"S{number:02d}"
        midnight = FIRST + DAY * day
        header = {"network": "XX", "station": station, "channel": f"HH{component}", "sampling_rate": RATE}
        stream = Stream()
        for seconds in (0, 86400 - minutes * 60):
            samples = np.cumsum(random.integers(-40, 41, int(minutes * 60 * RATE))).astype(np.int32) // 4
            stream.append(Trace(samples, {**header, "starttime": UTCDateTime(midnight.isoformat()) + seconds}))
        folder = root / f"{midnight:%Y}" / "XX" / station / f"HH{component}.D"
        folder.mkdir(parents=True, exist_ok=True)
        paths.append(folder / f"XX.{station}..HH{component}.D.{midnight:%Y.%j}")
        stream.write(str(paths[-1]), format="MSEED", encoding="STEIM2", reclen=512)
    return paths


def command(args: argparse.Namespace, source: Path, out: Path, days: int, workers: int) -> list[str]:
    """The command that denoises the archive."""
    parts = ["archive", source, out, "--start", FIRST, "--end", FIRST + DAY * (days - 1), "--workers", workers]
    parts += ["--weights", args.weights, "--steps", args.steps]
    return [sys.executable, "-m", "seisbench_cdiffsd.cli", *map(str, parts)]


def day_files(out: Path) -> list[Path]:
    """The day files of an archive."""
    return sorted(out.rglob("[!.]*.D.20*"))


def content(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in day_files(out)}


def scaling(args: argparse.Namespace, folder: Path) -> dict:
    """Seconds of the same archive by one and by two workers, with and without their start."""
    make_archive(folder / "in", args.stations, args.days, args.minutes)
    rows = {}
    for workers in (1, 2):
        started, out = time.time(), folder / f"out{workers}"
        subprocess.run(command(args, folder / "in", out, args.days, workers), check=True)
        ended, first = time.time(), min(path.stat().st_mtime for path in day_files(out))
        rows[workers] = {"seconds": ended - started, "seconds from the first output on": ended - first}
    assert content(folder / "out1") == content(folder / "out2")
    speed = {key: rows[1][key] / rows[2][key] for key in rows[1]}
    hours = args.minutes * 2 / 60
    return {"station-days": args.stations * args.days, "hours in each": hours, "workers": rows, "two over one": speed}


def measure(args: argparse.Namespace, folder: Path, days: int) -> dict[str, float]:
    """Seconds and largest memory of a process that denoises some days of a station."""
    started = time.time()
    process = subprocess.Popen(command(args, folder / "in", folder / f"out{days}", days, 0))
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return {"seconds": round(time.time() - started, 1), "MiB at most": round(usage.ru_maxrss / 1024)}


def memory(args: argparse.Namespace, folder: Path) -> dict:
    """One, and some, days of a station."""
    make_archive(folder / "in", 1, args.days, minutes=720)
    return {"days": {days: measure(args, folder, days) for days in (1, args.days)}}


def cost(args: argparse.Namespace, folder: Path) -> dict:
    """One whole station-day, measured, and a year of 100 stations, predicted from it."""
    make_archive(folder / "in", 1, 1, minutes=720)
    seconds, days = measure(args, folder, 1)["seconds"], 365 * 100
    before, after = (sum(path.stat().st_size for path in day_files(folder / name)) for name in ("in", "out1"))
    hours = days * seconds / 3600
    year = {"station-days": days, "core-hours": hours, "days on 64 cores": hours / 24 / 64}
    return {
        "measured": {"seconds of a station-day on one core": seconds, "bytes in": before, "bytes out": after},
        "predicted for a year of 100 stations": {**year, "terabytes out": days * after / 1e12},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["scaling", "memory", "cost"])
    # minutes are those on each side of midnight of scaling
    numbers = {"steps": 2, "stations": 8, "days": 3, "minutes": 30.0}
    for name, default in {"weights": "base", **numbers}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help="(%(default)s)")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        result = globals()[args.name](args, Path(folder))
    called = shlex.join(["python", "benchmarks/archive.py", *sys.argv[1:]])
    text = json.dumps({"command": called, **environment(), "result": result}, indent=1)
    (RESULTS / f"archive_{args.name}.json").write_text(text + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
