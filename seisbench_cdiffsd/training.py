"""Fit a model on pairs of earthquakes and noise: resumable, with fixed validation mixtures and averaged weights."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from seisbench.data import WaveformDataset
from torch import Tensor
from tqdm.auto import tqdm

from seisbench_cdiffsd import pairs
from seisbench_cdiffsd.diffusion import training_loss
from seisbench_cdiffsd.losses import check_loss, make_loss
from seisbench_cdiffsd.metrics import cross_correlation, sdr_db
from seisbench_cdiffsd.model import CDiffSD, normalize
from seisbench_cdiffsd.optimizers import make_optimizer
from seisbench_cdiffsd.schedule import get_schedule

#: Precisions of the layers in training, as Lightning names them.
PRECISIONS = ("32-true", "bf16-mixed")


@dataclass(frozen=True)
class TrainingConfig:
    """
    Everything that decides how a training turns out.

    :param network: Network preset, "default" or "published"
    :param schedule: Degradation, see :py:mod:`seisbench_cdiffsd.schedule`
    :param norm: Normalisation of a window, "std" or "peak"
    :param loss: Weights of the terms of the error of an estimate, see :py:func:`seisbench_cdiffsd.losses.make_loss`
    :param unfolded: Weight of the second term of the loss
    :param unfolded_share: Share of a batch that the second term is computed for
    :param top: Share of examples at level 1, where sampling starts; the others are between 0.05 and 1
    :param steps: Number of updates
    :param batch_size: Pairs in a batch
    :param learning_rate: Highest learning rate; it rises at first and then falls to zero along a cosine
    :param kernel_rate: Highest learning rate of the convolutions, under Muon; without it AdamW has all parameters
    :param warmup: Updates over which the learning rate rises
    :param averaging: Decay of the running average of the weights, which is what is validated and kept
    :param snr: Range of input SNRs in dB
    :param factor: Published range of noise factors, in place of `snr`
    :param min_snr: Lowest SNR in dB of a record that serves as a target
    :param validate_every: Updates between validations
    :param validation_events: Earthquakes in the validation mixtures, each at five input SNRs
    :param precision: "32-true", or "bf16-mixed" for layers in half precision, on hardware that is faster at it
    :param seed: Seed of the weights and of all random draws
    """

    network: str = "default"
    schedule: str = "straight"
    norm: str = "std"
    loss: Mapping[str, float] = field(default_factory=lambda: {"log-ratio": 1.0, "spectrum": 10.0})
    unfolded: float = 1.0
    unfolded_share: float = 0.5
    top: float = 0.5
    steps: int = 10_000
    batch_size: int = 24
    learning_rate: float = 1e-3
    kernel_rate: float | None = 0.01
    warmup: int = 200
    averaging: float = 0.998
    snr: tuple[float, float] = (-15.0, 15.0)
    factor: tuple[float, float] | None = None
    min_snr: float = 10.0
    validate_every: int = 1000
    validation_events: int = 60
    precision: str = "32-true"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "warmup", "validate_every", "validation_events"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if not (0 <= self.top <= 1 and 0 <= self.unfolded_share <= 1 and 0 <= self.averaging < 1):
            raise ValueError("top and unfolded_share lie in [0, 1], averaging in [0, 1).")
        if min(self.learning_rate, self.kernel_rate or 1) <= 0 or self.unfolded < 0:
            raise ValueError("learning_rate and kernel_rate are positive, unfolded is not negative.")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, not {self.precision!r}.")
        check_loss(self.loss)

    def autocast(self, device: str) -> torch.autocast:
        """The context of an update in this precision, on a device."""
        return torch.autocast(torch.device(device).type, torch.bfloat16, self.precision == "bf16-mixed")


def fit(
    events: WaveformDataset,
    noise: WaveformDataset,
    out: str | Path,
    config: TrainingConfig | None = None,
    device: str = "cpu",
) -> CDiffSD:
    """
    Train a model; if `out` holds an unfinished training, go on with it.

    Writes to `out`: ``config.json``, ``log.csv`` (one line a validation), ``last.ckpt`` (to resume) and
    ``model.pt`` / ``model.json``, the best weights so far by the in-band SDR of the validation mixtures.

    :param events: SeisBench dataset of labelled earthquakes with train and dev splits
    :param noise: SeisBench dataset of noise with the same splits; both are opened with components ZNE
    :param out: Folder for the results
    :param config: Settings
    :param device: Device to train on
    :return: The best model
    :raises ValueError: If a dataset lacks what is needed, or `out` holds a training with other settings
    """
    return Trainer(events, noise, Path(out), config or TrainingConfig(), device).run()


class Trainer:
    """One training: data, model, optimiser and where it stands. See :py:func:`fit`."""

    def __init__(
        self, events: WaveformDataset, noise: WaveformDataset, out: Path, config: TrainingConfig, device: str
    ) -> None:
        self.config, self.out, self.device = config, out, device
        _claim(out, config)
        torch.manual_seed(config.seed)
        self.model = CDiffSD(network=config.network, schedule=config.schedule, norm=config.norm).to(device)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.optimizer = make_optimizer(self.model, config.learning_rate, config.kernel_rate)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.path, self.error = get_schedule(config.schedule), make_loss(config.loss, device)
        self.sampling_steps: int = self.model._annotate_args["steps"][1]
        self.step, self.best = 0, -math.inf
        self.log: list[dict[str, float]] = []
        self._load_data(events, noise)
        if (out / "last.ckpt").is_file():
            self._restore()

    def _load_data(self, events: WaveformDataset, noise: WaveformDataset) -> None:
        config, model = self.config, self.model
        band = pairs.band_pass(**{key: model.filter_kwargs[key] for key in ("freqmin", "freqmax", "corners")})
        train = pairs.load_earthquakes(_split(events, "train"), band, config.min_snr, mute=True)
        self.weights = pairs.source_weights(train.metadata)
        train_noise = pairs.load_noise(_split(noise, "train"), band)
        windowlen = model.in_samples
        self.pairs = pairs.training_pairs(train, train_noise, band, windowlen, snr=config.snr, factor=config.factor)
        dev = pairs.load_earthquakes(_split(events, "dev"), band, min_snr=20, mute=False)
        dev_noise = pairs.load_noise(_split(noise, "dev"), band)
        names = [str(name) for part in (train, train_noise, dev, dev_noise) for name in part.metadata["trace_name"]]
        self.data = hashlib.sha256("\n".join(names).encode()).hexdigest()
        self.validation = pairs.mixtures(dev, dev_noise, config.validation_events, windowlen=windowlen)

    def run(self) -> CDiffSD:
        """Train to the last step and return the best model."""
        start, since, losses = time.monotonic(), self.step, []
        with tqdm(total=self.config.steps, initial=self.step, desc="Training", disable=None) as bar:
            while self.step < self.config.steps:
                losses.append(self._update())
                bar.update()
                if self.step % self.config.validate_every and self.step < self.config.steps:
                    continue
                row = {"step": self.step, "loss": float(np.mean(losses)), **self.validate()}
                row["seconds_per_step"] = (time.monotonic() - start) / (self.step - since)
                bar.set_postfix({name: f"{value:.3g}" for name, value in row.items() if name != "step"})
                self._keep(row)
                start, since, losses = time.monotonic(), self.step, []
        return CDiffSD.load(self.out / "model")

    def _update(self) -> float:
        for group, highest in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = highest * self._rate()
        clean, noisy, level, lower = self._batch()
        with self.config.autocast(self.device):
            loss = training_loss(self.model, clean, noisy, level, lower, self.path, self.error, self.config.unfolded)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"The loss is {loss.item()} at step {self.step}; what was kept is usable.")
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        # A running average follows closely at first, when the weights still move far.
        decay = min(self.config.averaging, self.step / (self.step + 20))
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, 1 - decay) if value.is_floating_point() else self.average[name].copy_(value)
        return loss.item()

    def _rate(self) -> float:
        warm = min(1.0, (self.step + 1) / self.config.warmup)
        return warm * 0.5 * (1 + math.cos(math.pi * self.step / self.config.steps))

    def _batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # Each batch has a seed of its own, so that a resumed training goes on exactly.
        random = np.random.default_rng((self.config.seed, self.step))
        with pairs.seeded(int(random.integers(2**32))):
            batch = [self.pairs[i] for i in random.choice(len(self.weights), self.config.batch_size, p=self.weights)]
        clean, noise = (torch.from_numpy(np.stack([pair[key] for pair in batch])) for key in ("clean", "noise"))
        noisy, factor = normalize((clean + noise).to(self.device), self.config.norm)
        anywhere = random.uniform(0.05, 1, self.config.batch_size)
        level = np.where(random.random(self.config.batch_size) < self.config.top, 1, anywhere)
        second = round(self.config.unfolded_share * self.config.batch_size)
        lower = level[:second] * random.uniform(0.05, 0.95, second)
        return clean.to(noisy) / factor, noisy, torch.from_numpy(level).to(noisy), torch.from_numpy(lower).to(noisy)

    def validate(self) -> dict[str, float]:
        """Mean in-band SDR (dB) and correlation of the averaged weights on the validation mixtures."""
        weights = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        self.model.eval()
        clean, noisy = self.validation.clean, torch.from_numpy(self.validation.noisy)
        result: dict[str, float] = {}
        for steps in (1, self.sampling_steps):
            estimates = []
            for batch in noisy.split(64):
                estimates.append(self.model.restore(batch, steps).cpu().numpy())
            estimate = np.concatenate(estimates)
            result[f"sdr_{steps}"] = float(sdr_db(clean, estimate, axis=(-2, -1)).mean())
            result[f"correlation_{steps}"] = float(np.nanmean(cross_correlation(clean, estimate)))
        self.model.load_state_dict(weights)
        self.model.train()
        return result

    def _keep(self, row: dict[str, float]) -> None:
        """Append to the log, keep the weights if they are the best so far, and write a checkpoint to go on from."""
        score = row[f"sdr_{self.sampling_steps}"]
        if score > self.best:
            self.best = score
            model = CDiffSD(**self.model.get_model_args())
            model.load_state_dict(self.average)
            model.save(self.out / "model", weights_docstring=json.dumps({"config": asdict(self.config), "log": row}))
        self.log.append(row)
        state: dict[str, Any] = {
            "data": self.data,
            "log": self.log,
            "step": self.step,
            "best": self.best,
            "weights": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        _write(self.out / "last.ckpt", lambda path: torch.save(state, path))
        _write(self.out / "log.csv", lambda path: pd.DataFrame(self.log).to_csv(path, index=False))

    def _restore(self) -> None:
        state = torch.load(self.out / "last.ckpt", map_location=self.device, weights_only=True)
        if state["data"] != self.data:
            raise ValueError(f"{self.out} holds a training on other data: choose another folder or delete it.")
        self.step, self.best, self.average, self.log = (state[key] for key in ("step", "best", "average", "log"))
        self.model.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])


def _split(dataset: WaveformDataset, split: str) -> WaveformDataset:
    if "split" not in dataset.metadata or not (dataset.metadata["split"] == split).any():
        raise ValueError(f"Dataset {dataset.name} has no {split} split: its metadata need a column 'split' with it.")
    return dataset.get_split(split)


def _claim(out: Path, config: TrainingConfig) -> None:
    """Make the folder of a training, or check that it holds one with the same settings."""
    out.mkdir(parents=True, exist_ok=True)
    path, text = out / "config.json", json.dumps(asdict(config), indent=4)
    if not path.exists():
        _write(path, lambda temporary: temporary.write_text(text))
    elif json.loads(path.read_text()) != json.loads(text):
        raise ValueError(f"{out} holds a training with other settings ({path}): choose another folder or delete it.")


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name and rename it, so that it is never half there."""
    temporary = path.with_name(path.name + ".part")
    write(temporary)
    os.replace(temporary, path)
