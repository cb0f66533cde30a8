"""What does it cost? Streams of an hour and of a day; memory; and how the cost grows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import speed
import torch


def test_stream(timed, hours, threads, options, benchmark, report):
    """A stream of three components in the default settings of each, each time in a process of its own."""
    alone = []
    benchmark.pedantic(
        lambda: alone.append(run_alone(timed, hours, threads, options.device)),
        rounds=3 if hours == 1 else 1,
        iterations=1,
    )
    seconds, memory = float(np.median([x["seconds"] for x in alone])), alone[0]
    row = {
        "denoiser": timed,
        "hours": f"{hours:g}",
        "threads": threads,
        "seconds per hour": round(seconds / hours, 2),
        "times real time": round(hours * 3600 / seconds),
        "peak memory (MB)": round(memory["peak"]),
        "of it for the stream (MB)": round(memory["peak"] - memory["loaded"]),
    }
    table = report.tables.get("speed", pd.DataFrame())
    report.tables["speed"] = pd.concat([table, pd.DataFrame([row])], ignore_index=True)


def run_alone(name, hours, threads, device):
    """Seconds and memory of a run in a process of its own."""
    command = [sys.executable, speed.__file__, name, "--hours", str(hours)]
    path = os.pathsep.join([str(Path(speed.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    output = subprocess.run(
        [*command, "--threads", str(threads), "--device", device],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(output.stdout.splitlines()[-1])


def test_cost_grows_in_proportion_to_length_stations_and_steps(report, options):
    """Twice the data or twice the steps take at most about twice the time: an exponent near 1."""
    torch.set_num_threads(1)
    model, rows = speed.CDiffSD().to(options.device), []
    for what, values in (("hours", (0.1, 0.2, 0.4)), ("stations", (1, 2, 4)), ("steps", (1, 2, 4))):
        seconds = []
        for value in values:
            setting = {"hours": 0.1, "stations": 1, "steps": 2, what: value}
            stream = speed.noise_stream(setting["hours"], setting["stations"])
            seconds.append(min(speed.timed(model.annotate, stream, steps=setting["steps"]) for _ in range(3)))
        exponent = np.polyfit(np.log(values), np.log(seconds), 1)[0]
        rows.append({"CDiffSD, cost against": what, "exponent": round(exponent, 2)})
        rows[-1] |= {f"x {times}": round(value, 2) for times, value in zip((1, 2, 4), seconds, strict=True)}
        assert exponent < 1.5, f"the cost grows faster than the {what}"
    report.tables["growth"] = pd.DataFrame(rows)
