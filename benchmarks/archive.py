"""Archives: are reruns after faults identical, what does a second worker bring, what does a year cost?

    python benchmarks/archive.py faults      # kills, damage, loss and a full disk, then a rerun that must be the same
    python benchmarks/archive.py scaling     # the same archive by one and by two workers
    python benchmarks/archive.py memory      # the largest memory for one and for several days of a station
    python benchmarks/archive.py cost        # what a year of 100 stations costs, from what was measured

Each writes ``results/archive_<name>.json``. The data are noise made on the spot: neither time nor bytes depend on it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import psutil
from obspy import Stream, Trace, UTCDateTime
from report import environment

RESULTS = Path(__file__).parent / "results"
FIRST = date(2020, 12, 30)
RATE = 100


def make_archive(root: Path, stations: int, days: int, minutes: float) -> list[Path]:
    """
    An archive whose records lie around midnight, `minutes` on each side; 720 fill the days. Samples are integers that
    compress about as well as those of a seismometer.
    """
    paths = []
    for station in (f"S{number:02d}" for number in range(stations)):
        for component in "ZNE":
            generator = np.random.default_rng([int(station[1:]), ord(component)])
            for day in (FIRST + timedelta(days=i) for i in range(days)):
                start, count = UTCDateTime(day.isoformat()), int(minutes * 60 * RATE)
                header = {"network": "XX", "station": station, "channel": f"HH{component}", "sampling_rate": RATE}
                stream = Stream()
                for first in (start, start + 86400 - minutes * 60):
                    samples = np.cumsum(generator.integers(-40, 41, count)).astype(np.int32) // 4
                    stream.append(Trace(samples, {**header, "starttime": first}))
                name = f"XX.{station}..HH{component}.D.{day:%Y.%j}"
                path = root / f"{day:%Y}" / "XX" / station / f"HH{component}.D" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                stream.write(str(path), format="MSEED", encoding="STEIM2", reclen=512)
                paths.append(path)
    return paths


def command(args: argparse.Namespace, source: Path, out: Path, days: int, workers: int) -> list[str]:
    """The command that denoises the archive."""
    last = FIRST + timedelta(days=days - 1)
    parts = ["archive", source, out, "--start", FIRST, "--end", last, "--weights", args.weights, "--workers", workers]
    return [sys.executable, "-m", "seisbench_cdiffsd.cli", *map(str, parts), "--steps", str(args.steps)]


def content(out: Path) -> dict[str, bytes]:
    """The day files of an archive."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("[!.]*.D.20*"))}


def written(out: Path, since: float) -> list[Path]:
    """The day files that were made since some time."""
    return [path for path in out.rglob("[!.]*.D.20*") if path.stat().st_mtime >= since]


def limited() -> None:
    """A disk that is full in the middle of a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))


def faults(args: argparse.Namespace, folder: Path) -> dict:
    """Disturb runs at random moments; then an undisturbed run must write what a single undisturbed run writes."""
    generator = np.random.default_rng(args.seed)
    source, out = folder / "in", folder / "out"
    paths = make_archive(source, args.stations, args.days, minutes=6)
    whole = {path: path.read_bytes() for path in paths}
    subprocess.run(command(args, source, folder / "undisturbed", args.days, args.workers), check=True)
    events = []
    kinds = ["worker", "worker", "scheduler", "scheduler", "damage", "loss"] * args.rounds
    for kind in ["full disk", *generator.permutation(kinds)]:
        begun, full = time.time(), limited if kind == "full disk" else None
        process = subprocess.Popen(command(args, source, out, args.days, args.workers), preexec_fn=full)
        moment = int(generator.uniform(0.1, 0.7) * len(paths))
        while process.poll() is None and len(written(out, begun)) < moment:
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        if kind == "worker":
            for child in children:
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()
        elif kind == "scheduler":
            process.kill()  # it lives in the main process
        elif kind in ("damage", "loss"):
            for path in generator.choice(paths, 5, replace=False):
                if kind == "loss":
                    path.unlink(missing_ok=True)
                    continue
                data = np.frombuffer(whole[path], dtype=np.uint8).copy()
                data[generator.integers(0, len(data), 500)] = generator.integers(0, 256, 500)
                path.write_bytes(data.tobytes())
        process.wait()
        psutil.wait_procs(children, timeout=120)
        count = len(written(out, begun))
        events.append({"kind": kind, "after": moment, "exit status": process.returncode, "written": count})
        half = [name for name, data in content(out).items() if len(data) % 4096 or not data]
        assert not half, half
        for path, data in whole.items():
            if not path.exists() or path.read_bytes() != data:
                path.write_bytes(data)
        # most of the output is removed, or else later runs would have nothing to do
        for path in generator.permutation(sorted(out.rglob("[!.]*.D.20*")))[::-1][len(paths) // 4 :]:
            path.unlink()
    last = subprocess.run(command(args, source, out, args.days, args.workers), check=False).returncode
    expected, found = content(folder / "undisturbed"), content(out)
    return {
        "station-days": args.stations * args.days,
        "day files": len(expected),
        "events": events,
        "exit status of the rerun": last,
        "equal to the byte": found == expected,
        "files left over": len(list(out.rglob("*.part*"))),
    }


def scaling(args: argparse.Namespace, folder: Path) -> dict:
    """Seconds of the same archive by one and by two workers, with and without their start."""
    make_archive(folder / "in", args.stations, args.days, args.minutes)
    rows = {}
    for workers in (1, 2):
        out, started, first = folder / f"out{workers}", time.time(), None
        process = subprocess.Popen(command(args, folder / "in", out, args.days, workers))
        while process.poll() is None:
            time.sleep(0.05)
            if first is None and out.exists():
                first = time.time()
        ended = time.time()
        rows[workers] = {"seconds": ended - started, "seconds from the first output on": ended - (first or 0)}
    assert content(folder / "out1") == content(folder / "out2")
    speed = {key: rows[1][key] / rows[2][key] for key in rows[1]}
    hours = args.minutes * 2 / 60
    return {"station-days": args.stations * args.days, "hours in each": hours, "workers": rows, "two over one": speed}


def memory(args: argparse.Namespace, folder: Path) -> dict:
    """Largest memory and seconds of a process that denoises one, and some, days of a station."""
    make_archive(folder / "in", 1, args.days, minutes=720)
    rows = {}
    for days in (1, args.days):
        started = time.time()
        process = subprocess.Popen(command(args, folder / "in", folder / f"out{days}", days, 0))
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0
        rows[days] = {"seconds": round(time.time() - started, 1), "MiB at most": round(usage.ru_maxrss / 1024)}
    return {"days": rows}


def cost(args: argparse.Namespace, folder: Path) -> dict:
    """One whole station-day, measured, and a year of 100 stations, predicted from it."""
    make_archive(folder / "in", 1, 1, minutes=720)
    started = time.time()
    subprocess.run(command(args, folder / "in", folder / "out", 1, 0), check=True)
    seconds = time.time() - started
    size = {name: sum(p.stat().st_size for p in (folder / name).rglob("*.D.20*")) for name in ("in", "out")}
    days = 365 * 100
    return {
        "measured": {"seconds of a station-day on one core": seconds, **{f"bytes {k}": v for k, v in size.items()}},
        "predicted for a year of 100 stations": {
            "station-days": days,
            "core-hours": days * seconds / 3600,
            "days on 64 cores": days * seconds / 86400 / 64,
            "terabytes out": days * size["out"] / 1e12,
        },
    }


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["faults", "scaling", "memory", "cost"])
    parser.add_argument("--weights", default="base")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--stations", type=int, default=8)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=30, help="on each side of midnight (scaling)")
    parser.add_argument("--workers", type=int, default=2, help="of faults")
    parser.add_argument("--rounds", type=int, default=1, help="of faults")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        result = globals()[args.name](args, Path(folder))
    called = shlex.join(["python", "benchmarks/archive.py", *sys.argv[1:]])
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"command": called, **environment(), "result": result}, indent=1)
    (RESULTS / f"archive_{args.name}.json").write_text(text + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
