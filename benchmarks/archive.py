"""Archives: what does a second worker bring? What do picks cost, and do they survive kills?

    python benchmarks/archive.py scaling     # the same archive by one and by two workers
    python benchmarks/archive.py picks       # what picks of a station-day cost, beside denoising and picking it
    python benchmarks/archive.py month --stations 5 --days 30     # picks, killed three times: the same lists?

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
import psutil
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


def command(
    args: argparse.Namespace, source: Path, out: Path, days: int, workers: int, pick: bool = False
) -> list[str]:
    """The command that denoises the archive, or picks it."""
    parts = ["pick", "--sds", source, "--out", out] if pick else ["archive", source, out]
    parts += ["--start", FIRST, "--end", FIRST + DAY * (days - 1), "--workers", workers]
    parts += ["--model", args.weights] if pick else ["--weights", args.weights, "--steps", args.steps]
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


def spent(parts: list[str]) -> dict[str, float]:
    """Seconds, those of the processor, and the largest memory of a process."""
    started = time.time()
    _, status, usage = os.wait4(subprocess.Popen(parts).pid, 0)
    assert status == 0
    used = round(usage.ru_utime + usage.ru_stime, 1)
    memory = round(usage.ru_maxrss / 1024)
    return {"seconds": round(time.time() - started, 1), "processor seconds": used, "MiB at most": memory}


DENOISE_AND_PICK = """
import sys, obspy, seisbench.models as sbm, seisbench_cdiffsd, torch
torch.set_num_threads(1)
clean = seisbench_cdiffsd.denoise(obspy.read(sys.argv[1]))
sbm.PhaseNet.from_pretrained("original").classify(clean)
"""


def picks(args: argparse.Namespace, folder: Path) -> dict:
    """A station-day by ``cdiffsd pick``, and by denoising it and picking the result, each in one process."""
    make_archive(folder / "in", 1, 1, args.minutes)
    plain = spent([sys.executable, "-c", DENOISE_AND_PICK, str(folder / "in" / "*" / "*" / "*" / "*" / "*")])
    pick = spent(command(args, folder / "in", folder / "out", 1, 0, pick=True))
    ratio = pick["processor seconds"] / plain["processor seconds"]
    return {"denoise and pick": plain, "cdiffsd pick": pick, "processor seconds, ratio": round(ratio, 2)}


def month(args: argparse.Namespace, folder: Path) -> dict:
    """Kill runs, the main process or a worker, three times, and compare the lists with those of one run."""
    make_archive(folder / "in", args.stations, args.days, args.minutes)
    low = ["--threshold", "0.05"]  # or nothing would be picked in noise
    subprocess.run(command(args, folder / "in", folder / "whole", args.days, 2, pick=True) + low, check=True)
    runs, generator, out, total = [], np.random.default_rng(0), folder / "out", args.stations * args.days
    for kind in ("main", "worker", "main", "none"):
        process = subprocess.Popen(command(args, folder / "in", out, args.days, 2, pick=True) + low)
        goal = len(list(out.rglob("XX.*.csv"))) + int(generator.uniform(0.1, 0.3) * total)
        while kind != "none" and process.poll() is None and len(list(out.rglob("XX.*.csv"))) < goal:
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        workers = [x for x in children if "spawn_main" in " ".join(x.cmdline())] if kind != "none" else []
        for victim in {"main": [process], "worker": workers[:1], "none": []}[kind]:
            victim.kill()
        status = process.wait()
        psutil.wait_procs(children, timeout=60)
        runs.append({"killed": kind, "exit status": status, "station-days": len(list(out.rglob("XX.*.csv")))})
    lists = ("picks.csv", "picks.xml", "picks.parquet")
    same = {name: (out / name).read_bytes() == (folder / "whole" / name).read_bytes() for name in lists}
    count = len((out / "picks.csv").read_text().splitlines()) - 1
    return {"station-days": total, "runs": runs, "picks": count, "equal to the byte": same}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["scaling", "picks", "month"])
    # minutes are those on each side of midnight
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
