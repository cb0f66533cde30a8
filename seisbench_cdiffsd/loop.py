"""The training loop, as Lightning has it: an update, the average of the weights, and what is kept when."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from seisbench_cdiffsd.amplitudes import normalize
from seisbench_cdiffsd.config import TrainingConfig
from seisbench_cdiffsd.diffusion import training_loss
from seisbench_cdiffsd.feeding import Data, checked, loader
from seisbench_cdiffsd.losses import make_loss
from seisbench_cdiffsd.metrics import cross_correlation, sdr_db
from seisbench_cdiffsd.model import CDiffSD
from seisbench_cdiffsd.optimizers import make_optimizer
from seisbench_cdiffsd.pairs import Mixtures
from seisbench_cdiffsd.schedule import get_schedule

#: Parts of the training, after each of which a rate that decays by steps falls to a tenth (Trappolini et al., 2024).
STAGES = 6
#: Windows in one evaluation of the validation.
CHUNK = 64


class Batches(LightningDataModule):
    """The batches of a training, from the update on at which it stands."""

    def __init__(self, data: Data, config: TrainingConfig) -> None:
        super().__init__()
        self.data, self.config = data, config

    def train_dataloader(self) -> DataLoader:
        """Batches for this process."""
        trainer = self.trainer
        assert trainer is not None
        return loader(self.data, self.config, trainer.global_step, trainer.global_rank, trainer.world_size)


class Training(LightningModule):
    """
    A model in training, and the running average of its weights, which is what is validated and kept.

    :param model: The model
    :param config: Settings
    """

    def __init__(self, model: CDiffSD, config: TrainingConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.average = deepcopy(model).requires_grad_(False)
        self.path = get_schedule(config.schedule)
        #: Losses of the parts of this update, and of the updates since they were last written.
        self.parts: list[Tensor] = []
        self.losses: list[tuple[int, float]] = []

    def setup(self, stage: str) -> None:
        """Load what the loss needs, now that the device is known."""
        self.error = make_loss(self.config.loss, str(self.device))

    def configure_optimizers(self) -> Any:
        """The optimiser, and the course of its learning rate."""
        config = self.config
        optimizer = (
            torch.optim.Adam(self.model.parameters(), config.learning_rate)
            if config.optimizer == "adam"
            else make_optimizer(self.model, config.learning_rate, config.kernel_rate)
        )
        course = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(rate, config))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": course, "interval": "step"}}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss of a batch, or of this process's part of it."""
        config, batch = self.config, checked(batch)
        noisy, factor = normalize(batch["clean"] + batch["noise"], config.norm)
        level, lower = batch["level"], batch["lower"][: batch["unfolded"]]
        # the second term is a mean over the whole batch, of which the parts may hold unequal shares
        weight = config.unfolded * len(lower) * config.machine.parts / max(config.unfolded_count, 1)
        clean = batch["clean"] / factor
        loss = training_loss(self.model, clean, noisy, level, lower, self.path, self.error, weight)
        if not torch.isfinite(loss):
            step, names = self.trainer.global_step, "; ".join(batch["names"])
            raise FloatingPointError(f"The loss is {loss.item()} at step {step}; what was kept is usable. Of: {names}.")
        self.parts.append(loss.detach())
        self.log("loss", loss, prog_bar=True, logger=False)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """An update of the weights and of their average."""
        super().optimizer_step(*args, **kwargs)
        step = self.trainer.global_step + 1
        follow(self.average, self.model, self.config, step)
        loss = self.trainer.strategy.reduce(torch.stack(self.parts).mean(), reduce_op="mean")
        self.losses.append((step, float(loss)))
        self.parts = []


def rate(config: TrainingConfig, step: int) -> float:
    """Learning rate of an update, relative to the highest one."""
    warm = min(1.0, (step + 1) / config.warmup)
    if config.decay == "steps":
        return warm * 0.1 ** (STAGES * step // config.steps)
    return warm * 0.5 * (1 + math.cos(math.pi * min(step / config.steps, 1)))


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, config: TrainingConfig, step: int) -> None:
    """Update the running average of the weights of a model, after so many updates of the model."""
    # It follows closely at first, when the weights still move far.
    decay = min(config.averaging, step / (step + 20))
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        mean.lerp_(value, 1 - decay) if value.is_floating_point() else mean.copy_(value)


def validate(model: CDiffSD, mixtures: Mixtures) -> dict[str, float]:
    """
    Mean in-band SDR (dB) and correlation of a model on mixtures, by one step and by as many as it takes by default.

    :param model: The model
    :param mixtures: Mixtures in the band of the model
    """
    clean, noisy = mixtures.clean, torch.from_numpy(mixtures.noisy)
    result: dict[str, float] = {}
    model.eval()
    with torch.autocast(model.device.type, enabled=False):
        for steps in (1, sampling_steps(model)):
            estimate = np.concatenate([model.restore(x, steps).cpu().numpy() for x in noisy.split(CHUNK)])
            result[f"sdr_{steps}"] = float(sdr_db(clean, estimate, axis=(-2, -1)).mean())
            result[f"correlation_{steps}"] = float(np.nanmean(cross_correlation(clean, estimate)))
    return result


def sampling_steps(model: CDiffSD) -> int:
    """Steps that a model takes unless it is told otherwise."""
    return int(model.options().steps)


class Keeper(Callback):
    """
    Validates, writes the logs, keeps the best weights, and writes checkpoints to go on from.

    :param out: Folder of the training
    :param config: Settings
    :param data: What it works on
    """

    def __init__(self, out: Path, config: TrainingConfig, data: Data) -> None:
        self.out, self.config, self.data = out, config, data
        self.rows: list[dict[str, float]] = []
        self.stopped = False

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of this."""
        return {"data": self.data.fingerprint, "rows": self.rows, "stopped": self.stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """
        Go on where a checkpoint was written.

        :raises ValueError: If that training was on other data
        """
        if state_dict["data"] != self.data.fingerprint:
            raise ValueError(f"{self.out} holds a training on other data: choose another folder or delete it.")
        self.rows, self.stopped = state_dict["rows"], state_dict["stopped"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the losses of updates that are done again; and end a training that had stopped early."""
        trainer.should_stop = self.stopped
        path = self.out / "losses.csv"
        if trainer.is_global_zero:
            done = pd.read_csv(path).query("step <= @trainer.global_step") if path.exists() else pd.DataFrame()
            done = done.reindex(columns=["step", "loss"]).dropna()  # a line that was being written at the end
            write(path, lambda temporary: done.to_csv(temporary, index=False))

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After each update; what is written here is written at validations."""
        step, config, losses = trainer.global_step, self.config, pl_module.losses
        if not losses or losses[-1][0] != step or (step % config.validate_every and step < config.steps):
            return
        row: dict[str, float] = {}
        if trainer.is_global_zero:
            row = {"step": step, "loss": float(np.mean([loss for _, loss in losses]))}
            row |= validate(pl_module.average, self.data.validation)
            self._show(trainer, row, losses)
            self._keep_best(pl_module.average, row)
        self.rows.append(trainer.strategy.broadcast(row))
        self.stopped = self._worn_out()
        temporary = self.out / "last.ckpt.part"
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            os.replace(temporary, self.out / "last.ckpt")
            write(self.out / "log.csv", lambda path: pd.DataFrame(self.rows).to_csv(path, index=False))
        pl_module.losses = []
        trainer.should_stop = self.stopped

    def _score(self, row: Mapping[str, float]) -> float:
        return row[max((name for name in row if name.startswith("sdr_")), key=lambda name: int(name[4:]))]

    def _worn_out(self) -> bool:
        scores = [self._score(row) for row in self.rows]
        return 0 < self.config.patience <= len(scores) - 1 - int(np.argmax(scores))

    def _show(self, trainer: Trainer, row: dict[str, float], losses: list[tuple[int, float]]) -> None:
        with (self.out / "losses.csv").open("a", encoding="utf-8") as file:
            file.writelines(f"{step},{loss!r}\n" for step, loss in losses)
        for logger in trainer.loggers:
            for step, loss in losses:
                logger.log_metrics({"training loss": loss}, step)
            logger.log_metrics(row, int(row["step"]))
            logger.save()
        tqdm.write(", ".join(f"{name} {value:.4g}" for name, value in row.items()), file=sys.stderr)

    def _keep_best(self, average: CDiffSD, row: dict[str, float]) -> None:
        if self.rows and self._score(row) <= max(map(self._score, self.rows)):
            return
        model = CDiffSD(**average.get_model_args())
        model.load_state_dict(average.state_dict())
        docstring = json.dumps({"config": asdict(self.config), "log": row})
        try:
            model.save(self.out / "best.part", weights_docstring=docstring)
        except RuntimeError as error:  # which is how torch tells of a full disk
            raise OSError(f"{self.out} cannot be written to: {error}") from error
        for suffix in ("pt", "json"):
            os.replace(self.out / f"best.part.{suffix}", self.out / f"model.{suffix}")


def write(path: Path, how: Callable[[Path], object]) -> None:
    """Write a file under a temporary name and rename it, so that it is never half there."""
    temporary = path.with_name(path.name + ".part")
    how(temporary)
    os.replace(temporary, path)
