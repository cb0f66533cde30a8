"""One run of one denoiser or picker on a stream: what ``test_speed.py`` times, and runs alone to measure its memory."""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import seisbench.models as sbm
import torch
from obspy import Stream, Trace, UTCDateTime
from seisbench.models import WaveformModel

from seisbench_cdiffsd import CDiffSD

RATE = 100
#: What is timed: a maker of the model, and arguments of its ``annotate``. Weights do not change the cost.
RUNS: dict[str, tuple[Callable[[], WaveformModel], dict[str, int]]] = {
    "DeepDenoiser": (sbm.DeepDenoiser, {}),
    "SeisDAE": (sbm.SeisDAE, {}),
    "CDiffSD, direct": (CDiffSD, {"steps": 1}),
    "CDiffSD": (CDiffSD, {}),
    "CDiffSD, 8 steps": (CDiffSD, {"steps": 8}),
    "PhaseNet": (sbm.PhaseNet, {}),
}


def noise_stream(hours: float, stations: int = 1) -> Stream:
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


def timed(function: Callable[..., object], *arguments: object, **named: object) -> float:
    """Seconds that a function takes."""
    start = time.perf_counter()
    function(*arguments, **named)
    return time.perf_counter() - start


def main() -> None:
    """Run once; print the seconds and the peak memory in MB, before (with everything loaded) and after."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name", choices=RUNS)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    make, options = RUNS[args.name]
    model, stream = make().to(args.device), noise_stream(args.hours)
    model.annotate(noise_stream(0.02), **options)
    loaded, seconds = peak(), timed(model.annotate, stream, **options)
    print(json.dumps({"seconds": seconds, "loaded": loaded, "peak": peak()}))


def peak() -> float:
    """Largest resident memory so far, in MB, of this program alone."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what the process was before it became this program
        return float(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


if __name__ == "__main__":
    main()
