"""Small archives for tests, and what is made of them."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import date

import numpy as np
import psutil
from obspy import Stream, Trace, UTCDateTime

from seisbench_cdiffsd import CDiffSD, cli
from seisbench_cdiffsd.files import work as doing
from seisbench_cdiffsd.files.reading import between
from seisbench_cdiffsd.files.sds import ChannelDay, scan
from seisbench_cdiffsd.files.workers import run_here

START = UTCDateTime(2020, 12, 30)
FIRST, LAST = date(2020, 12, 30), date(2021, 1, 2)
BAND = {"freqmin": 0.2, "freqmax": 1.8, "corners": 4, "zerophase": True}
#: A model at 4 Hz, for which a day is short: windows of 100 s.
ARGUMENTS = {"sampling_rate": 4, "in_samples": 400, "filter_args": ("bandpass",), "filter_kwargs": BAND}


def record(station, days=2, components="ZNE", seed=0, start=START):
    """Traces of a station; only some minutes around midnight, so that a day is denoised in no time."""
    generator = np.random.default_rng(seed)
    header = {"network": "XX", "station": station, "location": "00", "sampling_rate": 4}
    traces = []
    for component in components:
        for day in range(days):
            first = start + 86400 * (day + 1) - 800
            samples = generator.integers(-1000, 1000, 4 * 1600).astype(np.int32)
            traces.append(Trace(samples, {**header, "channel": f"HH{component}", "starttime": first}))
    return Stream(traces)


def store(root, data):
    """Write a stream as an archive."""
    days: dict = {}
    for trace in data:
        for offset in range(int((trace.stats.endtime - START) // 86400) + 2):
            first = START + 86400 * offset
            part = between(trace, first, first + 86400)
            if len(part):
                codes = (trace.stats[key] for key in ("network", "station", "location", "channel"))
                channel = ChannelDay(*codes, first.date)
                days.setdefault(root / channel.path, Stream()).append(part)
    for path, stream in days.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        stream.write(str(path), format="MSEED", reclen=512)
    return sorted(days)


def jobs_of(settings, first=FIRST, last=LAST, **kwargs):
    """All jobs."""
    return scan(settings, first, last, **kwargs)[0]


def work(settings, **kwargs):
    """Outcomes of all jobs, in this process."""
    todo, strange = scan(settings, FIRST, LAST, **kwargs)
    outcomes = strange + [outcome for result in run_here(todo, settings, retries=0) for outcome in result]
    doing.write_manifest(todo, settings)
    return outcomes


def run_one(job, settings):
    """Outcomes of a job; its errors are raised."""
    return doing.run(job, settings, lambda: CDiffSD.load(settings.weights))


def content(folder):
    """All files of a folder."""
    return {str(x.relative_to(folder)): x.read_bytes() for x in sorted(folder.rglob("*")) if x.is_file()}


def samples(folder):
    """Day files of a folder."""
    return {name: data for name, data in content(folder).items() if ".D.20" in name}


def states(outcomes):
    return sorted({outcome.state for outcome in outcomes})


def run(*args):
    """Exit status of ``cdiffsd archive``."""
    return cli.main(["archive", *map(str, args)])


@contextmanager
def started(*args):
    """A process of ``cdiffsd``, as a user starts it, but in a group of its own, all of which receives Ctrl-C."""

    def begin():
        os.setpgrp()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests in the background may ignore it

    command = [sys.executable, "-m", "seisbench_cdiffsd.cli", *map(str, args)]
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "preexec_fn": begin}
    process = subprocess.Popen(command, **both, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def spawned(pid):
    """The workers of a process."""
    children = psutil.Process(pid).children(recursive=True)
    return [child for child in children if "spawn_main" in str(child.as_dict(["cmdline"]))]


def until(true, process=None, seconds=120):
    """Wait for something, as long as the process lives."""
    deadline = time.time() + seconds
    while not (found := true()) and time.time() < deadline and (process is None or process.poll() is None):
        time.sleep(0.02)
    return found
