"""One run of one denoiser or picker on a stream: what ``test_speed.py`` times, and runs alone to measure its memory."""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import seisbench.models as sbm
import torch
from baselines import CDiffSDDenoiser, Denoiser, MaskDenoiser, Wiener
from obspy import Stream, Trace, UTCDateTime
from seisbench.models import WaveformModel
from torch.utils.flop_counter import FlopCounterMode

from seisbench_cdiffsd import CDiffSD

RATE = 100
#: Numbers of steps of CDiffSD that are timed.
STEPS = (1, 2, 4, 8, 20)


def runs() -> dict[str, Callable[[], object]]:
    """Makers of what is timed, by name. Weights do not change the cost: untrained models serve."""
    torch.manual_seed(0)
    table: dict[str, Callable[[], object]] = {"Wiener": Wiener}
    table |= {"DeepDenoiser": lambda: MaskDenoiser(sbm.DeepDenoiser()), "SeisDAE": lambda: MaskDenoiser(sbm.SeisDAE())}
    for steps in STEPS:
        table[step_name("CDiffSD", steps)] = lambda steps=steps: CDiffSDDenoiser(CDiffSD(), steps)
    table[step_name("CDiffSD published", 1)] = lambda: CDiffSDDenoiser(
        CDiffSD(network="published", schedule="published-linear"), 1
    )
    return table | {"PhaseNet": sbm.PhaseNet}


def step_name(name: str, steps: int) -> str:
    """Name of a row of a diffusion model."""
    return f"{name}, direct" if steps == 1 else f"{name}, {steps} steps"


def to_device(run: object, device: str) -> object:
    """What is timed, on a device."""
    model = run if isinstance(run, WaveformModel) else getattr(run, "model", None)
    if model is not None:
        model.to(device)
    return run


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


def process(run: object, stream: Stream) -> Stream:
    """Denoise a stream, or annotate it with a picker."""
    return run.stream(stream) if isinstance(run, Denoiser) else run.annotate(stream)


def windows(run: object, stream: Stream) -> int:
    """Windows of a model in a stream with its default overlap; a window of one component is a third of one."""
    model: WaveformModel | None = run if isinstance(run, WaveformModel) else getattr(run, "model", None)
    if model is None:
        return 0
    overlap = model._annotate_args["overlap"][1]
    step = model.in_samples - int(overlap * model.in_samples if overlap < 1 else overlap)
    per_trace = 1 + max(0, -(-(len(stream[0]) - model.in_samples) // step))
    return per_trace * len(stream) // 3


def multiply_adds(model: CDiffSD, windows: int = 1) -> int:
    """Multiplications, with an addition each, of one evaluation of a network on some windows."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(windows, 3, model.in_samples), torch.ones(windows))
    return counter.get_total_flops() // 2


def bytes_moved(model: CDiffSD) -> int:
    """Bytes that the layers of a network read and write in one evaluation on a window, without their weights."""
    sizes: list[int] = []

    def count(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        sizes.extend(x.numel() * x.element_size() for x in (*inputs, output))

    layers = [layer for layer in model.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        model(torch.zeros(1, 3, model.in_samples), torch.ones(1))
    for hook in hooks:
        hook.remove()
    return sum(sizes)


def copy_rate(size: int = 2**26, repeats: int = 5) -> float:
    """Bytes per second, read and written, of a copy that no cache holds, the fastest of some."""
    a, b = torch.ones(size // 4), torch.empty(size // 4)
    return 2 * size / min(timed(b.copy_, a) for _ in range(repeats))


def peak_rate(size: int = 1024, repeats: int = 10) -> float:
    """Multiply-adds per second of a large product of matrices, the fastest of some: what the cores can do."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return size**3 / min(timed(torch.matmul, a, b) for _ in range(repeats))


def run_windows(model: CDiffSD, windows: torch.Tensor, batch: int = 32) -> torch.Tensor:
    """Denoise windows in two steps, in batches."""
    return torch.cat([model.restore(part, 2) for part in windows.split(batch)])


def in_half_precision(model: CDiffSD, windows: torch.Tensor) -> torch.Tensor:
    """The same with the layers in bfloat16."""
    with torch.autocast(model.device.type, torch.bfloat16):
        return run_windows(model, windows).float()


#: Ways to run a network that is as it is.
WAYS: dict[str, Callable[[CDiffSD, torch.Tensor], torch.Tensor]] = {
    "as it is: batches of 32": run_windows,
    "batches of 8": partial(run_windows, batch=8),
    "batches of 128": partial(run_windows, batch=128),
    "bfloat16": in_half_precision,
}


class NetworkTime:
    """Seconds that the network of a model takes, while this is entered."""

    def __init__(self, model: CDiffSD) -> None:
        self.model, self.seconds = model, 0.0

    def __enter__(self) -> NetworkTime:
        network = self.model.network
        self.hooks = [network.register_forward_pre_hook(self.start), network.register_forward_hook(self.stop)]
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def start(self, *call: object) -> None:
        self.begun = time.perf_counter()

    def stop(self, *call: object) -> None:
        self.seconds += time.perf_counter() - self.begun


def timed(function: Callable[..., object], *arguments: object) -> float:
    """Seconds that a function takes."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def main() -> None:
    """Run once; print the seconds and the peak memory in MB, before (with everything loaded) and after."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name")
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--stations", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    run = to_device(runs()[args.name](), args.device)
    stream = noise_stream(args.hours, args.stations)
    process(run, noise_stream(0.02))
    loaded, seconds = peak(), timed(process, run, stream)
    print(json.dumps({"seconds": seconds, "loaded": loaded, "peak": peak()}))


def peak() -> float:
    """Largest resident memory so far, in MB, of this program alone."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what the process was before it became this program
        return float(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


if __name__ == "__main__":
    main()
