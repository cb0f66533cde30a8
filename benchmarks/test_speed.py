"""What does it cost? Streams of an hour and of a day; memory; and how the cost grows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import speed
import torch
from baselines import load_cdiffsd_denoiser


def add(report, name, row):
    table = report.tables.get(name, pd.DataFrame())
    report.tables[name] = pd.concat([table, pd.DataFrame([row])], ignore_index=True)


def test_stream(timed, hours, threads, options, benchmark, report):
    """A stream of three components in the default settings of each."""
    slow = timed.startswith("CDiffSD published")
    if slow and hours > 1:
        pytest.skip("the published network takes a quarter of an hour or more for a day")
    hours = min(hours, 0.25) if slow else hours
    run, stream = speed.runs()[timed](), speed.noise_stream(hours)
    # each round is a process of its own, whose memory is its own, and which times what it does after the imports
    rounds = 3 if hours <= 1 and not slow else 1
    alone = []
    benchmark.pedantic(
        lambda: alone.append(run_alone(timed, hours, threads, options.device)), rounds=rounds, iterations=1
    )
    seconds, memory = float(np.median([x["seconds"] for x in alone])), alone[0]
    benchmark.extra_info.update(real_time_factor=hours * 3600 / seconds, windows=speed.windows(run, stream))
    add(
        report,
        "speed",
        {
            "denoiser": timed,
            "hours": f"{hours:g}",
            "threads": threads,
            "seconds per hour": round(seconds / hours, 2),
            "times real time": round(hours * 3600 / seconds),
            "windows per second": round(speed.windows(run, stream) / seconds, 1) or "-",
            "peak memory (MB)": round(memory["peak"]),
            "of it for the stream (MB)": round(memory["peak"] - memory["loaded"]),
        },
    )


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
    rows = []
    for what, values in (("hours", (0.25, 0.5, 1.0)), ("stations", (1, 2, 4)), ("steps", (1, 2, 4))):
        seconds = []
        for value in values:
            setting = {"hours": 0.25, "stations": 1, "steps": 2, what: value}
            run = speed.CDiffSDDenoiser(speed.CDiffSD().to(options.device), setting["steps"])
            stream = speed.noise_stream(setting["hours"], setting["stations"])
            speed.process(run, stream)
            seconds.append(min(speed.timed(speed.process, run, stream) for _ in range(2)))
        exponent = np.polyfit(np.log(values), np.log(seconds), 1)[0]
        rows.append({"CDiffSD, cost against": what, "exponent": round(exponent, 2)})
        rows[-1] |= {f"x {times}": round(value, 2) for times, value in zip((1, 2, 4), seconds, strict=True)}
        assert exponent < 1.5, f"the cost grows faster than the {what}"
    report.tables["growth"] = pd.DataFrame(rows)


def test_the_network_against_the_floor(threads, options, report):
    """How close the network comes to the peak rate of the cores, and what a stream costs in addition."""
    if options.device != "cpu":
        pytest.skip("the floor is that of the cores")
    torch.set_num_threads(threads)
    run, stream = speed.CDiffSDDenoiser(speed.CDiffSD(), 2), speed.noise_stream(0.5)
    speed.process(run, speed.noise_stream(0.05))
    with speed.NetworkTime(run.model) as network:
        seconds = speed.timed(speed.process, run, stream)
    evaluation = network.seconds / (2 * speed.windows(run, stream))
    operations, peak = speed.multiply_adds(run.model), speed.peak_rate()
    moved, bandwidth = speed.bytes_moved(run.model), speed.copy_rate()
    row = {
        "threads": str(threads),
        "multiply-adds of a window (M)": round(operations / 1e6, 1),
        "peak (G/s)": round(peak / 1e9, 1),
        "operations, a window (ms)": round(1e3 * operations / peak, 2),
        "bytes of a window (MB)": round(moved / 1e6, 1),
        "copy (GB/s)": round(bandwidth / 1e9, 1),
        "bytes, a window (ms)": round(1e3 * moved / bandwidth, 2),
        "network, a window (ms)": round(1e3 * evaluation, 2),
        "times its operations": round(evaluation * peak / operations, 2),
        "share outside the network": round(1 - network.seconds / seconds, 3),
    }
    add(report, "floor", row)
    assert network.seconds < seconds


def test_ways_to_be_faster(threads, options, report):
    """What other ways to run the same network would give, and how far their output is from that of the default."""
    torch.set_num_threads(threads)
    model = load_cdiffsd_denoiser("base", 2, options.device).model
    windows = torch.randn(128, 3, model.in_samples, generator=torch.Generator().manual_seed(0))
    expected = speed.run_windows(model, windows)
    seconds = {name: [] for name in speed.WAYS}
    found, difference = [], {}
    for _ in range(3):  # in turn, as these machines are noisy
        for name, way in speed.WAYS.items():
            seconds[name].append(speed.timed(lambda way=way: found.append(way(model, windows))))
            difference[name] = float((found.pop() - expected).abs().max() / expected.abs().max())
    for name, times in seconds.items():
        each = np.median(times) / len(windows)
        row = {"threads": str(threads), "way": name, "a window, 2 steps (ms)": round(1e3 * each, 2)}
        add(report, "ways", row | {"largest difference": f"{difference[name]:.0e}"})
    assert difference["as it is: batches of 32"] == 0
