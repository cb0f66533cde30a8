"""The training loop with Lightning: updates, the moving average of the weights, validations and checkpoints."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, fields
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

from seisbench_cdiffsd.cdiffsd import SCHEDULES, normalize
from seisbench_cdiffsd.data.pairs import Mixtures
from seisbench_cdiffsd.files.writing import replacing
from seisbench_cdiffsd.metrics import cross_correlation, sdr_db
from seisbench_cdiffsd.training.config import TrainingConfig
from seisbench_cdiffsd.training.feeding import Data, loader
from seisbench_cdiffsd.training.losses import make_loss, training_loss
from seisbench_cdiffsd.training.optimizers import make_optimizer
from seisbench_cdiffsd.weights import CDiffSD

#: Parts of the training, after each of which a rate that decays in steps falls to a tenth (Trappolini et al., 2024).
STAGES = 6
#: Windows that are denoised together in a validation.
CHUNK = 64


class Batches(LightningDataModule):
    """The batches of a training, from its current update on."""

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
    A model in training, and the moving average of its weights, which is what is validated and saved.

    :param model: The model
    :param config: Settings
    """

    def __init__(self, model: CDiffSD, config: TrainingConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.average = deepcopy(model).requires_grad_(False)
        self.schedule = SCHEDULES[config.schedule]
        #: Losses of the parts of this update, and of the updates that are not yet written to the log.
        self.parts: list[Tensor] = []
        self.losses: list[tuple[int, float]] = []

    def setup(self, stage: str) -> None:
        """Make the loss, now that the device is known."""
        self.error = make_loss(self.config.loss, str(self.device))

    def configure_optimizers(self) -> Any:
        """The optimiser, and the schedule of its learning rate."""
        config = self.config
        optimizer = (
            torch.optim.Adam(self.model.parameters(), config.learning_rate)
            if config.optimizer == "adam"
            else make_optimizer(self.model, config.learning_rate, config.kernel_rate)
        )
        decay = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(learning_rate_factor, config))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": decay, "interval": "step"}}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss of a batch, or of this process's part of it."""
        loss, error = None, batch.get("error")
        if error is None:
            loss = self._loss(batch)
            if not torch.isfinite(loss):
                step, names = self.trainer.global_step, "; ".join(batch["names"])
                error = FloatingPointError(
                    f"The loss is {loss.item()} at step {step}; the last model is usable. Of: {names}."
                )
        raise_together(error, self.trainer.world_size, self.device)
        assert loss is not None
        self.parts.append(loss.detach())
        self.log("loss", loss, prog_bar=True, logger=False)
        return loss

    def _loss(self, batch: dict[str, Any]) -> Tensor:
        config = self.config
        noisy, factor = normalize(batch["clean"] + batch["noise"], config.norm)
        level, lower = batch["level"], batch["lower"][: batch["unfolded"]]
        # the second term is a mean over the whole batch, of which the parts may hold unequal shares
        weight = config.unfolded * len(lower) * config.machine.parts / max(config.unfolded_count, 1)
        clean = batch["clean"] / factor
        silent = config.augmentations.noise_only
        return training_loss(
            self.model, clean, noisy, level, lower, self.schedule, self.error, weight, config.presence, silent
        )

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """An update of the weights and of their average."""
        super().optimizer_step(*args, **kwargs)
        step = self.trainer.global_step + 1
        update_ema(self.average, self.model, self.config, step)
        loss = self.trainer.strategy.reduce(torch.stack(self.parts).mean(), reduce_op="mean")
        self.losses.append((step, float(loss)))
        self.parts = []


class ReportedElsewhere(Exception):
    """Another of the processes that share a training reports why it ends."""


def raise_together(error: Exception | None, processes: int, device: torch.device) -> None:
    """
    Raise an error that this process or another one has, so that none waits for the others.

    :param error: What went wrong in this process, if anything
    :param processes: Number of processes that share the training
    :param device: Device of this process
    :raises ReportedElsewhere: In all processes but the first
    """
    if processes > 1:
        failed = torch.tensor(float(error is not None), device=device)
        torch.distributed.all_reduce(failed)
        if failed:
            errors: list[Exception | None] = [None] * processes
            torch.distributed.all_gather_object(errors, error)
            error = next(x for x in errors if x is not None)
            if torch.distributed.get_rank() > 0:
                raise ReportedElsewhere(str(error))
    if error is not None:
        raise error


def learning_rate_factor(config: TrainingConfig, step: int) -> float:
    """Learning rate of an update, relative to the highest one."""
    warm = min(1.0, (step + 1) / config.warmup)
    if config.decay == "steps":
        return warm * 0.1 ** (STAGES * step // config.steps)
    return warm * 0.5 * (1 + math.cos(math.pi * min(step / config.steps, 1)))


@torch.no_grad()
def update_ema(average: nn.Module, model: nn.Module, config: TrainingConfig, step: int) -> None:
    """Update the exponential moving average of the weights of a model, after its update number `step`."""
    # a short average at first, while the weights change fast
    decay = min(config.averaging, step / (step + 20))
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        mean.lerp_(value, 1 - decay) if value.is_floating_point() else mean.copy_(value)


def validate(model: CDiffSD, mixtures: Mixtures) -> dict[str, float]:
    """
    Mean in-band SDR (dB) and correlation of a model on mixtures, with one step and with its default number.

    :param model: The model
    :param mixtures: Mixtures in the band of the model
    :return: ``sdr_N`` and ``correlation_N`` for each number N of steps
    """
    clean, noisy = mixtures.clean, torch.from_numpy(mixtures.noisy)
    result: dict[str, float] = {}
    model.eval()
    with torch.autocast(model.device.type, enabled=False):
        for steps in (1, sampling_steps(model)):
            estimate = np.concatenate([model.restore(x, steps=steps).cpu().numpy() for x in noisy.split(CHUNK)])
            result[f"sdr_{steps}"] = float(sdr_db(clean, estimate, axis=(-2, -1)).mean())
            result[f"correlation_{steps}"] = float(np.nanmean(cross_correlation(clean, estimate)))
    return result


def sampling_steps(model: CDiffSD) -> int:
    """Default number of steps of a model."""
    return int(model._argdict_get_with_default(model.default_args, "steps"))


def validated_steps(row: Mapping[str, float]) -> list[int]:
    """Numbers of steps that a row of the log has scores for, in order: the N of its columns ``sdr_N``."""
    return sorted(int(name.removeprefix("sdr_")) for name in row if name.startswith("sdr_"))


def score(row: Mapping[str, float]) -> float:
    """What decides which model is the best: the SDR in dB with the default number of steps, the largest in a row."""
    return row[f"sdr_{validated_steps(row)[-1]}"]


class CheckpointCallback(Callback):
    """
    Validates, writes the logs, saves the best weights, and writes checkpoints to resume from.

    :param out: Folder of the training
    :param config: Settings
    :param data: Data of the training
    """

    #: Under which Lightning stores the state in checkpoints; older ones are to stay readable.
    state_key = "Keeper"

    def __init__(self, out: Path, config: TrainingConfig, data: Data) -> None:
        self.out, self.config, self.data = out, config, data
        self.rows: list[dict[str, float]] = []
        self.stopped = False

    def state_dict(self) -> dict[str, Any]:
        """The state that a checkpoint stores."""
        data = {"data": self.data.fingerprint, "contents": self.data.contents}
        return {**data, "rows": self.rows, "stopped": self.stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """
        Resume from a checkpoint.

        :raises ValueError: If that training was on other data
        """
        found = state_dict["data"], state_dict.get("contents", self.data.contents)  # older ones have the names alone
        if found != (self.data.fingerprint, self.data.contents):
            raise ValueError(f"{self.out} holds a training on other data: choose another folder or delete it.")
        self.rows, self.stopped = state_dict["rows"], state_dict["stopped"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the log that the checkpoint has: a kill may have come between the two."""
        if trainer.is_global_zero and self.rows:
            self._write("log.csv", pd.DataFrame(self.rows))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the losses of updates that are repeated, and stop a training that had stopped early."""
        trainer.should_stop = self.stopped
        # Lightning ends an update at every multiple of `accumulate` parts: count in parts of their present size
        done = trainer.fit_loop.epoch_loop.batch_progress.current
        other = trainer.global_step * trainer.accumulate_grad_batches - done.ready
        for count in fields(done):
            setattr(done, count.name, getattr(done, count.name) + other)
        path = self.out / "losses.csv"
        if trainer.is_global_zero:
            kept = pd.read_csv(path).query("step <= @trainer.global_step") if path.exists() else pd.DataFrame()
            self._write(path.name, kept.reindex(columns=["step", "loss"]).dropna())  # without a line that was cut off

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Validate and write, every so many updates."""
        step, config, losses = trainer.global_step, self.config, pl_module.losses
        if not losses or losses[-1][0] != step or (step % config.validate_every and step < config.steps):
            return
        row: dict[str, float] = {}
        if trainer.is_global_zero:
            row = {"step": step, "loss": float(np.mean([loss for _, loss in losses]))}
            row |= validate(pl_module.average, self.data.validation)
            self._show(trainer, row, losses)
            self._save_if_best(pl_module.average, row)
        self.rows.append(trainer.strategy.broadcast(row))
        scores = list(map(score, self.rows))
        self.stopped = 0 < config.patience <= len(scores) - 1 - int(np.argmax(scores))
        temporary = self.out / "last.ckpt.part"  # one name in all processes, which write a checkpoint together
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            temporary.replace(self.out / "last.ckpt")
            self._write("log.csv", pd.DataFrame(self.rows))
        pl_module.losses = []
        trainer.should_stop = self.stopped

    def _write(self, name: str, table: pd.DataFrame) -> None:
        with replacing(self.out / name) as path:
            table.to_csv(path, index=False)

    def _show(self, trainer: Trainer, row: dict[str, float], losses: list[tuple[int, float]]) -> None:
        with (self.out / "losses.csv").open("a", encoding="utf-8") as file:
            file.writelines(f"{step},{loss!r}\n" for step, loss in losses)
        for logger in trainer.loggers:
            for step, loss in losses:
                logger.log_metrics({"training loss": loss}, step)
            logger.log_metrics(row, int(row["step"]))
            logger.save()
        tqdm.write(", ".join(f"{name} {value:.4g}" for name, value in row.items()), file=sys.stderr)

    def _save_if_best(self, average: CDiffSD, row: dict[str, float]) -> None:
        if self.rows and score(row) < max(map(score, self.rows)):  # of equal ones the last: `only` may change no score
            return
        model = CDiffSD(**average.get_model_args())
        model.load_state_dict(average.state_dict())
        docstring = json.dumps({"config": asdict(self.config), "log": row})
        try:
            model.save(self.out / "model", weights_docstring=docstring)
        except RuntimeError as error:  # which is what torch raises if the disk is full
            raise OSError(f"{self.out} cannot be written to: {error}") from error
