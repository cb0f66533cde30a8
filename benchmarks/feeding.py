"""Does the data pipeline keep up with the network?

``python benchmarks/feeding.py`` measures, for the settings of a training, the time of an update whose batch is ready,
and how long the next update waits for its batch (medians): without workers, that is the time to prepare it; workers
prepare it meanwhile, on cores of their own. From disk, the datasets are read as they are and, if they are compressed,
also without compression, as SeisBench itself writes datasets such as STEAD.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import torch
from seisbench.data import WaveformDataset, WaveformDataWriter

from seisbench_cdiffsd.data import pairs
from seisbench_cdiffsd.diffusion import training_loss
from seisbench_cdiffsd.model import CDiffSD
from seisbench_cdiffsd.schedule import get_schedule
from seisbench_cdiffsd.streams.amplitudes import normalize
from seisbench_cdiffsd.training.config import DatasetChoice, TrainingConfig
from seisbench_cdiffsd.training.configfile import read_config
from seisbench_cdiffsd.training.feeding import load_data, loader
from seisbench_cdiffsd.training.losses import make_loss
from seisbench_cdiffsd.training.optimizers import make_optimizer

DATA = Path(__file__).parents[2] / "shared" / "data"


def uncompressed(source: str, folder: Path) -> str:
    """A copy of a dataset as SeisBench writes it, or the dataset itself if it is not compressed."""
    dataset = WaveformDataset(Path(source), component_order="ZNE", dimension_order="NCW")
    with h5py.File(Path(source) / "waveforms.hdf5") as file:
        first = next(iter(file["data"].values()))
        if first.compression is None:
            return source
    folder.mkdir()
    with WaveformDataWriter(folder / "metadata.csv", folder / "waveforms.hdf5") as writer:
        writer.data_format = {"dimension_order": "CW", "component_order": "ZNE", "sampling_rate": 100}
        for index in range(len(dataset)):
            waveform, metadata = dataset.get_sample(index)
            writer.add_trace({**metadata, "trace_sampling_rate_hz": 100}, waveform)
    return str(folder)


def waiting_seconds(config: TrainingConfig, batches: int, update: float) -> list[float]:
    """Time that a training waits for each batch, when an update takes so many seconds."""
    parts = [[(WaveformDataset(x[0].dataset, component_order="ZNE"), x[0])] for x in (config.events, config.noise)]
    data = load_data(*parts, config, pairs.band_pass())
    seconds, start = [], time.perf_counter()
    for _ in itertools.islice(loader(data, config), batches + 1):
        seconds.append(time.perf_counter() - start)
        time.sleep(update)
        start = time.perf_counter()
    return seconds[1:]


def update_seconds(config: TrainingConfig, updates: int) -> list[float]:
    """Time of an update of the weights when its batch is ready."""
    device = config.machine.device
    torch.manual_seed(0)
    model = CDiffSD(network=config.network, schedule=config.schedule, norm=config.norm).to(device)
    optimizer = make_optimizer(model, config.learning_rate, config.kernel_rate)
    clean, noise = (torch.randn(config.batch_size, 3, config.window, device=device) for _ in range(2))
    noisy, factor = normalize(clean + noise, config.norm)
    level = torch.rand(config.batch_size, device=device) * 0.9 + 0.1
    lower = 0.5 * level[: config.unfolded_count]
    schedule, error, seconds = get_schedule(config.schedule), make_loss(config.loss, device), []
    for _ in range(updates + 1):
        start = time.perf_counter()
        with config.autocast(device):
            loss = training_loss(model, clean / factor, noisy, level, lower, schedule, error, config.unfolded)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="default")
    parser.add_argument("--events", default=str(DATA / "events"))
    parser.add_argument("--noise", default=str(DATA / "noise"))
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    datasets = {"events": (DatasetChoice(args.events),), "noise": (DatasetChoice(args.noise),)}
    config = read_config(args.config, [f"machine.device={args.device}"], **datasets)
    update = float(np.median(update_seconds(config, max(3, args.batches // 4))))
    print(f"update of {config.batch_size} windows, {args.threads} threads, {args.device}: {1000 * update:.0f} ms")
    with tempfile.TemporaryDirectory() as folder:
        plain = {
            name: (DatasetChoice(uncompressed(choice.dataset, Path(folder) / name)),)
            for name, (choice,) in datasets.items()
        }
        for memory, place, where in (
            (config.memory, "in memory", datasets),
            (0.0, "from disk, as it is", datasets),
            (0.0, "from disk, not compressed", plain),
        ):
            for workers in args.workers:
                settings = replace(config, memory=memory, machine=replace(config.machine, workers=workers), **where)
                wait = float(np.median(waiting_seconds(settings, args.batches, update)))
                print(f"{place}, {workers} workers: waits {1000 * wait:.1f} ms, {wait / update:.1%} of an update")


if __name__ == "__main__":
    main()
