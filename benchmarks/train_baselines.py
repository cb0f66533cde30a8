"""Train what CDiffSD is compared with, on the same pairs, for the same number of windows, with the same care.

``python benchmarks/train_baselines.py NAME --like benchmarks/base.json`` takes the number of updates, the batch size,
the input SNRs, the seed and the validation of a training of CDiffSD, sees the very same pairs in the same order, keeps
a moving average of the weights, validates on the same mixtures and keeps the best. A second call resumes an interrupted
one. The result goes to ``benchmarks/weights``, with matrices in half precision. With ``--init-from WEIGHTS``, a mask
network or CDiffSD from scratch goes on from weights that it has; with ``--mean``, the result is the mean of the two.

deepdenoiser, seisdae
    SeisBench's classes with their own preprocessing, their masks as labels and cross-entropy as loss (Zhu et al., 2019;
    Heuel and Friederich, 2022). They work on one component at a time and get all three of each window.
published
    CDiffSD with network, degradation, normalisation, noise factor and loss as published, and the recipe of the others:
    optimiser, learning rate, averaging, augmentations, budget. An update takes some 3 s for 8 windows on one core.
gaussian, gaussian-coloured
    CDiffSD with Gaussian instead of recorded noise: white, or with the spectrum of a recorded one. Validation and test
    are on recorded noise, as for all.
from-scratch
    CDiffSD as it is, in one training with no more updates than the others: the weights of the package have had more.
wiener
    No training: the best parameters of a grid on the validation mixtures.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import seisbench.models as sbm
import torch
from baselines import NetworkDenoiser as MaskDenoiser
from baselines import Wiener, prepare
from seisbench.data import WaveformDataset
from torch import Tensor
from tqdm.auto import tqdm

from seisbench_cdiffsd.data import pairs
from seisbench_cdiffsd.data.settings import DatasetChoice
from seisbench_cdiffsd.files.writing import replacing
from seisbench_cdiffsd.metrics import cross_correlation, sdr_db
from seisbench_cdiffsd.training.batches import load_data, whole_batch
from seisbench_cdiffsd.training.config import TrainingConfig, read_config
from seisbench_cdiffsd.training.losses import mask_spectrum
from seisbench_cdiffsd.training.optimizer import make_optimizer
from seisbench_cdiffsd.training.trainer import fit, learning_rate_factor, update_ema

FOLDER = Path(__file__).parent
DATA = FOLDER.parents[1] / "shared" / "data"
MASKS = {"deepdenoiser": sbm.DeepDenoiser, "seisdae": sbm.SeisDAE}
GRID = {
    "frame": (50, 100, 200),
    "quantile": (0.1, 0.2, 0.3),
    "strength": (2.0, 4.0, 8.0),
    "smooth": (5, 9, 15),
    "floor": (0.0, 0.05),
}


class GaussianNoise(WaveformDataset):
    """A dataset of noise whose training split is replaced by Gaussian noise, always the same."""

    coloured = False

    def get_sample(self, idx: int, sampling_rate: float | None = None) -> tuple[np.ndarray, dict]:
        waveform, metadata = super().get_sample(idx, sampling_rate)
        if metadata["split"] != "train":
            return waveform, metadata
        gaussian = np.random.default_rng((1, idx)).standard_normal(waveform.shape)
        if self.coloured:
            gaussian = coloured(gaussian, waveform)
        return gaussian.astype(waveform.dtype), metadata


def coloured(gaussian: np.ndarray, like: np.ndarray, smooth: int = 25) -> np.ndarray:
    """Gaussian noise (component, samples) with the smoothed amplitude spectrum of another record."""
    power = np.abs(np.fft.rfft(like - like.mean(-1, keepdims=True))) ** 2
    kernel = np.ones(smooth) / smooth
    shape = np.sqrt([np.convolve(component, kernel, mode="same") for component in power])
    return np.fft.irfft(np.fft.rfft(gaussian) * shape, like.shape[-1])


class Data:
    """The pairs of a training of CDiffSD, drawn as in its own batches, and its validation mixtures."""

    def __init__(self, events: WaveformDataset, noise: WaveformDataset, config: TrainingConfig) -> None:
        parts = [[(dataset, DatasetChoice(dataset.name))] for dataset in (events, noise)]
        self.config, self.data = config, load_data(*parts, config, pairs.band_pass())
        self.validation = self.data.validation

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Earthquakes and noise of a step, (batch, 3, samples)."""
        return whole_batch(self.data, self.config, step)


def published(like: TrainingConfig) -> TrainingConfig:
    """The settings of another training, with what is published from the config of that name in the package."""
    settings, names = read_config("published"), ("network", "schedule", "norm", "loss", "unfolded", "top", "factor")
    return replace(like, **{name: getattr(settings, name) for name in names})


def masks(clean: Tensor, noise: Tensor) -> Tensor:
    """
    Labels of a mask network: the share of the earthquake in the amplitudes, and that of the noise.

    :param clean: Earthquakes, (batch, samples)
    :param noise: Noise
    :return: (batch, 2, frequency, frame)
    """
    s, n = (mask_spectrum(x).abs() for x in (clean, noise))
    signal = torch.where(s + n > 0, s / (s + n).clamp(min=1e-12), 1.0)
    return torch.stack([signal, 1 - signal], dim=1)


def mask_loss(model: torch.nn.Module, clean: Tensor, noise: Tensor) -> Tensor:
    """Cross-entropy of the masks of traces (batch, samples); silent traces are left out."""
    scale = (clean + noise).abs().amax(-1, keepdim=True)
    alive = scale[:, 0] > 0
    clean, noise = (x[alive] / scale[alive] for x in (clean, noise))
    seen, _ = prepare(model, clean + noise)
    found = model(seen.contiguous(memory_format=torch.channels_last)).float()
    return -(masks(clean, noise) * found.clamp(min=1e-7).log()).sum(1).mean()


class MaskTraining:
    """
    A training of DeepDenoiser or SeisDAE, with the recipe of ``seisbench_cdiffsd.training.trainer``.

    :param name: Which of the two
    :param data: Pairs, validation mixtures and settings
    :param out: Folder for ``log.csv``, ``last.ckpt`` and the best ``model``
    :param device: Device to train on
    """

    def __init__(self, name: str, data: Data, out: Path, device: str = "cpu") -> None:
        self.config, self.data, self.out, self.device = data.config, data, out, device
        torch.manual_seed(self.config.seed)
        model = MASKS[name].load(self.config.init_from) if self.config.init_from else MASKS[name]()
        self.model = model.float().to(device, memory_format=torch.channels_last)
        self.averaged = MASKS[name]().to(device)
        self.averaged.load_state_dict(self.model.state_dict())
        self.optimizer = make_optimizer(self.model, self.config.learning_rate, self.config.kernel_rate)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.step, self.best, self.rows = 0, -math.inf, list[dict[str, float]]()
        if (out / "last.ckpt").is_file():
            state = torch.load(out / "last.ckpt", map_location=device, weights_only=True)
            self.step, self.best, self.rows = state["step"], state["best"], state["rows"]
            for part in ("model", "averaged", "optimizer"):
                getattr(self, part).load_state_dict(state[part])
            self.write_log()  # a kill may have come between the checkpoint and the log

    def run(self, until: int | None = None) -> None:
        """Train to the last step, or only to an earlier one."""
        last, every = self.config.steps, self.config.validate_every
        start, since, losses = time.monotonic(), self.step, []
        with tqdm(total=last, initial=self.step, desc="Training", disable=None) as bar:
            while self.step < min(last, until or last):
                losses.append(self.update())
                bar.update()
                if self.step % every and self.step < last:
                    continue
                row = {"step": self.step, "loss": float(np.mean(losses)), **self.validate()}
                row["seconds_per_step"] = (time.monotonic() - start) / (self.step - since)
                self.keep(row)
                start, since, losses = time.monotonic(), self.step, []

    def update(self) -> float:
        """One update of the weights and of their average."""
        config = self.config
        for group, highest in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = highest * learning_rate_factor(config, self.step)
        clean, noise = (x.flatten(0, 1).to(self.device) for x in self.data.batch(self.step))
        self.model.train()
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, self.config.precision == "bf16-mixed"):
            loss = mask_loss(self.model, clean, noise)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        update_ema(self.averaged, self.model, config, self.step)
        return loss.item()

    def validate(self) -> dict[str, float]:
        """Mean in-band SDR (dB) and correlation of the averaged weights on the validation mixtures."""
        mixtures = self.data.validation
        estimate = MaskDenoiser(self.averaged)(mixtures.noisy)
        return {
            "sdr": float(sdr_db(mixtures.clean, estimate, axis=(-2, -1)).mean()),
            "correlation": float(np.nanmean(cross_correlation(mixtures.clean, estimate))),
        }

    def keep(self, row: dict[str, float]) -> None:
        """Save the best weights, and write a checkpoint to resume from and the log."""
        self.rows.append(row)
        if row["sdr"] > self.best:
            self.best = row["sdr"]
            self.averaged.save(self.out / "model", weights_docstring=json.dumps({**asdict(self.config), **row}))
        state = {part: getattr(self, part).state_dict() for part in ("model", "averaged", "optimizer")}
        with replacing(self.out / "last.ckpt") as path:
            torch.save({**state, "step": self.step, "best": self.best, "rows": self.rows}, path)
        self.write_log()

    def write_log(self) -> None:
        """Write the rows of all validations so far."""
        with replacing(self.out / "log.csv") as path:
            pd.DataFrame(self.rows).to_csv(path, index=False)


def choose_wiener(mixtures: pairs.Mixtures) -> dict[str, float]:
    """The parameters of the grid with the largest mean SDR on the validation mixtures."""
    scores = {}
    for values in tqdm(list(itertools.product(*GRID.values())), desc="Wiener", disable=None):
        estimate = Wiener(**dict(zip(GRID, values, strict=True)))(mixtures.noisy)
        scores[values] = float(sdr_db(mixtures.clean, estimate, axis=(-2, -1)).mean())
    best = max(scores, key=scores.__getitem__)
    return {**dict(zip(GRID, best, strict=True)), "sdr": scores[best]}


def publish(source: Path, target: Path, average_with: Path | None = None) -> None:
    """
    Copy a saved model with its matrices in half precision, which keeps the repository small.

    :param average_with: Saved model whose weights are averaged with those of `source`
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    weights, *others = (
        torch.load(path.with_name(path.name + ".pt"), map_location="cpu", weights_only=True)
        for path in (source, average_with)
        if path
    )
    for other in others:
        weights = {
            name: (value.float() + other[name].float()) / 2 if value.is_floating_point() else value
            for name, value in weights.items()
        }
    small = {
        name: value.half() if value.is_floating_point() and value.dim() > 1 else value
        for name, value in weights.items()
    }
    torch.save(small, target.with_name(target.name + ".pt"))
    shutil.copyfile(source.with_name(source.name + ".json"), target.with_name(target.name + ".json"))


def main() -> None:
    """Train one of the baselines."""
    kinds = [*MASKS, "published", "gaussian", "gaussian-coloured", "from-scratch", "wiener"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=kinds)
    parser.add_argument("--events", type=Path, default=DATA / "events", help="dataset of earthquakes")
    parser.add_argument("--noise", type=Path, default=DATA / "noise", help="dataset of noise")
    parser.add_argument("--like", type=Path, help="config.json of the training to compare with")
    parser.add_argument("--out", type=Path, help="folder of the run (runs/NAME)")
    parser.add_argument("--init-from", type=Path, help="weights to go on from, without .pt")
    parser.add_argument("--mean", action="store_true", help="take the mean of the result and of --init-from")
    parser.add_argument("--steps", type=int, help="updates, if not as in --like")
    parser.add_argument("--validate-every", type=int, help="updates between validations, likewise")
    parser.add_argument("--batch-size", type=int, help="windows of an update, likewise")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--weights", type=Path, default=FOLDER / "weights", help="folder for the result")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.init_from and args.name not in (*MASKS, "from-scratch"):
        parser.error(f"--init-from is for {', '.join(MASKS)} and from-scratch.")
    if args.mean and not args.init_from:
        parser.error("--mean is of the result and of --init-from.")
    changes = {"steps": args.steps, "validate_every": args.validate_every, "batch_size": args.batch_size}
    changes = {name: value for name, value in changes.items() if value is not None}
    init_from = str(args.init_from or "")  # a setting like others: to resume, it must be the same
    config = read_config(args.like or "default", **changes, events=(), noise=(), init_from=init_from)
    dataset = GaussianNoise if args.name.startswith("gaussian") else WaveformDataset
    events, noise = WaveformDataset(args.events, component_order="ZNE"), dataset(args.noise, component_order="ZNE")
    if args.name == "wiener":
        print(json.dumps(choose_wiener(Data(events, noise, config).validation)))
        return
    out = args.out or Path("runs") / args.name
    if args.name in MASKS:
        out.mkdir(parents=True, exist_ok=True)
        path, text = out / "config.json", json.dumps(asdict(config), indent=4)
        stored, wanted = json.loads(path.read_text() if path.exists() else text), json.loads(text)
        if differing := [name for name in wanted if name not in stored or stored[name] != wanted[name]]:
            parser.error(f"{out} holds a training with other settings ({', '.join(differing)}): choose another --out.")
        path.write_text(text)
        MaskTraining(args.name, Data(events, noise, config), out, args.device).run()
    else:
        if args.name == "published":
            config = published(config)
        elif args.name != "from-scratch":
            noise.coloured = args.name == "gaussian-coloured"
        fit(events, noise, out, config, args.device)
    publish(out / "model", args.weights / args.name, args.init_from if args.mean else None)


if __name__ == "__main__":
    main()
