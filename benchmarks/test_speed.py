"""What does it cost? Streams of an hour and of a day; memory; and how the cost grows.

``python benchmarks/test_speed.py NAME HOURS THREADS DEVICE`` is one run, alone in its process to measure its memory.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import seisbench.models as sbm
import torch
from obspy import Stream, Trace, UTCDateTime
from options import Options

from seisbench_cdiffsd import CDiffSD

RATE = 100
#: What is timed: a maker of the model, and arguments of its ``annotate``. Weights do not change the cost.
RUNS = {
    "DeepDenoiser": (sbm.DeepDenoiser, {}),
    "SeisDAE": (sbm.SeisDAE, {}),
    "CDiffSD, direct": (CDiffSD, {"steps": 1}),
    "CDiffSD": (CDiffSD, {}),
    "CDiffSD, 8 steps": (CDiffSD, {"steps": 8}),
    "PhaseNet": (sbm.PhaseNet, {}),
}


def pytest_generate_tests(metafunc):
    options = Options.of(metafunc.config.option)
    if "timed" in metafunc.fixturenames:
        parts = [name.lower() for name in options.models] or [""]
        metafunc.parametrize("threads", options.threads)
        metafunc.parametrize("hours", options.hours)
        metafunc.parametrize("timed", [name for name in RUNS if any(part in name.lower() for part in parts)])


def test_stream(timed, hours, threads, options, benchmark, report):
    """A stream of three components in the default settings of each, each time in a process of its own."""
    command = [sys.executable, __file__, timed, str(hours), str(threads), options.device]
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
    runs = []

    def run_alone():
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        runs.append(json.loads(ended.stdout.splitlines()[-1]))

    benchmark.pedantic(run_alone, rounds=3 if hours == 1 else 1, iterations=1)
    seconds, memory = float(np.median([run["seconds"] for run in runs])), runs[0]
    row = {
        "denoiser": timed,
        "hours": f"{hours:g}",
        "threads": threads,
        "seconds per hour": round(seconds / hours, 2),
        "times real time": round(hours * 3600 / seconds),
        "peak memory (MB)": round(memory["peak"]),
        "of it for the stream (MB)": round(memory["peak"] - memory["loaded"]),
    }
    report.tables["speed"] = pd.concat([report.tables.get("speed"), pd.DataFrame([row])], ignore_index=True)


def test_cost_grows_in_proportion_to_length_stations_and_steps(report, options):
    """Twice the data or twice the steps take at most about twice the time: an exponent near 1."""
    torch.set_num_threads(1)
    model, rows = CDiffSD().to(options.device), []
    for what, values in (("hours", (0.1, 0.2, 0.4)), ("stations", (1, 2, 4)), ("steps", (1, 2, 4))):
        seconds = []
        for value in values:
            setting = {"hours": 0.1, "stations": 1, "steps": 2, what: value}
            stream = noise_stream(setting["hours"], setting["stations"])
            seconds.append(min(seconds_of(model, stream, steps=setting["steps"]) for _ in range(3)))
        exponent = np.polyfit(np.log(values), np.log(seconds), 1)[0]
        rows.append({"CDiffSD, cost against": what, "exponent": round(exponent, 2)})
        rows[-1] |= {f"x {times}": round(value, 2) for times, value in zip((1, 2, 4), seconds, strict=True)}
        assert exponent < 1.5, f"the cost grows faster than the {what}"
    report.tables["growth"] = pd.DataFrame(rows)


def noise_stream(hours, stations=1):
    """White noise of three components: the cost depends on the length alone."""
    random, samples = np.random.default_rng(0), round(hours * 3600 * RATE)
    return Stream(
        Trace(
            random.standard_normal(samples, dtype=np.float32),
            {"station": f"S{i}", "channel": f"HH{component}", "sampling_rate": RATE, "starttime": UTCDateTime(0)},
        )
        for i in range(stations)
        for component in "ZNE"
    )


def seconds_of(model, stream, **options):
    start = time.perf_counter()
    model.annotate(stream, **options)
    return time.perf_counter() - start


def peak():
    """Largest resident memory so far, in MB, of this program alone."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what the process was before it became this program
        return float(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


def main(name, hours, threads, device):
    """Run once; print the seconds and the peak memory in MB, before (with everything loaded) and after."""
    torch.set_num_threads(int(threads))
    make, options = RUNS[name]
    model, stream = make().to(device), noise_stream(float(hours))
    model.annotate(noise_stream(0.02), **options)
    loaded, seconds = peak(), seconds_of(model, stream, **options)
    print(json.dumps({"seconds": seconds, "loaded": loaded, "peak": peak()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
