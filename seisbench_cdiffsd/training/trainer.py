"""Train a model on pairs of earthquakes and noise: resumable, with fixed validation mixtures and averaged weights."""

from __future__ import annotations

import json
import logging
import math
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import asdict, fields
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from seisbench.data import MultiWaveformDataset, WaveformDataset
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from seisbench_cdiffsd.cdiffsd import SCHEDULES, normalize, sample
from seisbench_cdiffsd.data.datasets import open_chosen
from seisbench_cdiffsd.data.settings import DatasetChoice
from seisbench_cdiffsd.files.console import tell
from seisbench_cdiffsd.files.writing import folder_for, only_run, replacing
from seisbench_cdiffsd.metrics import cross_correlation, sdr_db
from seisbench_cdiffsd.training.batches import ChosenDataset, Data, load_data, loader
from seisbench_cdiffsd.training.config import FREE, TrainingConfig, read_table
from seisbench_cdiffsd.training.losses import make_loss, training_loss
from seisbench_cdiffsd.training.optimizer import make_optimizer
from seisbench_cdiffsd.weights import CDiffSD, load


def train(config: TrainingConfig, out: str | Path, training: type[Training] | None = None) -> Any:
    """
    Train a model on the datasets that the settings name, or resume an unfinished training. See :py:func:`fit`.

    :param training: What is trained, and how, if not CDiffSD
    """
    for name in ("events", "noise"):
        if not getattr(config, name):
            raise ValueError(f"There is no dataset of {name}: name a config, or datasets by --events and --noise.")
    return _fit(
        lambda kind: [(open_chosen(choice), choice) for choice in getattr(config, kind)], Path(out), config, training
    )


def fit(
    events: WaveformDataset | MultiWaveformDataset,
    noise: WaveformDataset | MultiWaveformDataset,
    out: str | Path,
    config: TrainingConfig | None = None,
) -> CDiffSD:
    """
    Train a model, or resume the unfinished training in `out`.

    Writes to `out`: ``config.json``, ``log.csv`` (one line per validation), ``losses.csv`` (one line per update),
    ``last.ckpt`` (to resume), ``tensorboard``, and ``model.pt`` / ``model.json``, the best weights so far by the
    in-band SDR of the validation mixtures.

    :param events: SeisBench dataset of labelled earthquakes with train and dev splits and components ZNE
    :param noise: The same of noise, or the same one, such as STEAD. Of sums of datasets equal shares are drawn
    :param config: Settings; the datasets that they name are ignored
    :return: The best model
    :raises ValueError: If data or the device lack what is needed, or `out` holds a training with other settings
    :raises FloatingPointError: If data or the loss are NaN or infinite
    :raises ReportedElsewhere: If that is so in a training on several devices, in all processes but the first
    :raises KeyboardInterrupt: If it was interrupted; the last model and checkpoint are usable
    """
    sets = {"events": getattr(events, "datasets", [events]), "noise": getattr(noise, "datasets", [noise])}
    chosen = {kind: [(dataset, DatasetChoice(dataset.name)) for dataset in x] for kind, x in sets.items()}
    return _fit(chosen.__getitem__, Path(out), config or TrainingConfig())


def _fit(
    opened: Callable[[str], list[ChosenDataset]], out: Path, config: TrainingConfig, kind: type[Training] | None = None
) -> Any:
    checkpoint = out / "last.ckpt" if (out / "last.ckpt").is_file() else None
    _check(out, config, checkpoint)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    model = (kind or Training).new_model(config, resumed=checkpoint is not None)
    data = load_data(opened("events"), opened("noise"), config)
    with ExitStack() as held:
        if is_first():
            for guard in (folder_for(out), only_run(out)):
                held.enter_context(guard)
            with replacing(out / "config.json") as path:
                path.write_text(json.dumps(asdict(config), indent=4))
            trained = sum(x.numel() for x in model.parameters() if x.requires_grad)
            total = sum(x.numel() for x in model.parameters())
            plan = f"in {config.steps:,} updates of {config.batch_size} pairs, on {config.device}"
            tell("\n".join((*data.report, f"{trained:,} of {total:,} parameters are trained, {plan}")), sys.stderr)
        _run((kind or Training)(model, config, data, out), checkpoint)
    return type(model).load(out / "model")


def is_first() -> bool:
    """Whether this process is the one that reports, among those that share a training."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _check(out: Path, config: TrainingConfig, checkpoint: Path | None) -> None:
    """Check, before data are read, the device, the loss, the folder, and an unfinished training in it."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is not a folder: choose another one.")
    kind, _, number = config.device.partition(":")
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(kind, math.inf)
    if there < max(int(number or 0) + 1, config.devices):
        raise ValueError(
            f"There is no device {config.device!r} here, or not {config.devices} of them: choose 'cpu' or 'auto'."
        )
    make_loss(config.loss)
    path = out / "config.json"
    if path.exists():
        stored, wanted = read_table(path), json.loads(json.dumps(asdict(config)))
        if differing := [name for name in wanted if name not in FREE and stored.get(name) != wanted[name]]:
            raise ValueError(
                f"{out} holds a training with other settings ({path}: {', '.join(differing)}): "
                f"choose another folder or delete it; or go on from it in another: --init-from {out / 'model'}"
            )
    if checkpoint:
        try:
            kept = torch.load(checkpoint, map_location="cpu", weights_only=True)
            if not {"state_dict", "log"} <= kept.keys():
                raise ValueError("it is not a checkpoint of a training")
        except Exception as error:  # torch raises many kinds
            reason = " ".join(str(error).split()).partition(". ")[0]
            raise ValueError(
                f"{checkpoint} is damaged ({reason}): delete it to start again in its folder, or choose another folder."
            ) from error


def _run(training: Training, checkpoint: Path | None) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    config, out = training.config, training.out
    kind, _, number = config.device.partition(":")
    trainer = Trainer(
        accelerator="gpu" if kind == "cuda" else kind,
        devices=[int(number)] if number else config.devices,
        num_nodes=config.nodes,
        strategy="ddp" if config.devices * config.nodes > 1 else "auto",
        precision=config.precision,
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=config.clip or None,
        max_steps=config.steps,
        max_epochs=-1,
        enable_progress_bar=False,
        logger=TensorBoardLogger(out, "", "tensorboard"),
        log_every_n_steps=config.steps,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=out,
    )
    handler = signal.getsignal(signal.SIGINT)
    with warnings.catch_warnings():
        for harmless in (".*does not have many workers.*", ".*LeafSpec.*", ".*lr_scheduler.step.*"):
            warnings.filterwarnings("ignore", harmless)
        try:
            trainer.fit(training, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:  # raised by Lightning after an interrupt, with the handler of the next one removed
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None


class Training(LightningModule):
    """
    A model in training, and the moving average of its weights, which is what is validated and saved. All is one long
    epoch, at whose end Lightning's own callbacks would act; a kill between any two of the files must lose nothing.
    """

    def __init__(self, model: Any, config: TrainingConfig, data: Data, out: Path) -> None:
        super().__init__()
        self.model, self.config, self.data, self.out = model, config, data, out
        self.average = deepcopy(model).requires_grad_(False)
        #: Losses of the parts of this update, and of updates that are not yet in the log; a row for each validation.
        self.parts, self.losses, self.rows = list[Tensor](), list[tuple[int, float]](), list[dict[str, float]]()

    @staticmethod
    def new_model(config: TrainingConfig, resumed: bool) -> Any:
        """The model to train, with the weights to start from unless a checkpoint has them."""
        wanted: dict[str, Any] = {"network": config.network, "schedule": config.schedule, "norm": config.norm}
        model = CDiffSD(**wanted, in_samples=config.window, presence=config.tells)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(config.only))
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ValueError(f"No parameter's name begins with {config.only!r}, the setting only: nothing to train.")
        if not config.init_from or resumed:
            return model
        start = load(config.init_from)
        given = start.get_model_args()
        for name, value in model.get_model_args().items():
            if name not in ("in_samples", "presence") and given[name] != value:
                remedy = f"set that instead of {value!r}" if name in wanted else f"training is for {value!r}"
                raise ValueError(f"The weights {config.init_from} have {name} {given[name]!r}: {remedy}.")
        known = model.state_dict()
        model.load_state_dict(known | {name: values for name, values in start.state_dict().items() if name in known})
        return model

    def train_dataloader(self) -> DataLoader:
        trainer = self.trainer
        return loader(self.data, self.config, trainer.global_step, trainer.global_rank, trainer.world_size)

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.model, self.config)
        decay = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(learning_rate_factor, self.config))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": decay, "interval": "step"}}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        error = batch.get("error")
        loss = self.loss(batch) if error is None else torch.zeros(())
        if not torch.isfinite(loss):
            step, names = self.trainer.global_step, "; ".join(batch["names"])
            told = f"The loss is {loss.item()} at step {step}; the last model is usable. Of: {names}."
            error = FloatingPointError(told)
        raise_together(error, self.trainer.world_size)
        self.parts.append(loss.detach())
        return loss

    def loss(self, batch: dict[str, Any]) -> Tensor:
        noisy, factor = normalize(batch["clean"] + batch["noise"], self.config.norm)
        levels = batch["level"], batch["lower"][: batch["unfolded"]]
        return training_loss(self.model, batch["clean"] / factor, noisy, *levels, self.config, self.error)

    def scores(self) -> dict[str, float]:
        """
        Mean in-band SDR (dB) and correlation on the validation mixtures, in one step and by default, by steps. They are
        those of the estimates themselves: the odds, which may be untrained yet, fade none.
        """
        clean, noisy = self.data.validation.clean, torch.from_numpy(self.data.validation.noisy)
        model, result = self.average.eval(), dict[str, float]()
        with torch.autocast(self.device.type, enabled=False):
            for steps in (1, int(model._argdict_get_with_default(model.default_args, "steps"))):
                estimate = np.concatenate([estimated(model, x, steps) for x in noisy.split(64)])
                result[f"sdr_{steps}"] = float(sdr_db(clean, estimate, axis=(-2, -1)).mean())
                result[f"correlation_{steps}"] = float(np.nanmean(cross_correlation(clean, estimate)))
        return result

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        step = self.trainer.global_step + 1
        update_ema(self.average, self.model, self.config, step)
        loss = self.trainer.strategy.reduce(torch.stack(self.parts).mean(), reduce_op="mean")
        self.losses.append((step, float(loss)))
        self.parts = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["log"] = {"data": self.data.fingerprint, "rows": self.rows}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Resume from a checkpoint, unless that training was on other data (ValueError)."""
        if checkpoint["log"]["data"] != self.data.fingerprint:
            raise ValueError(f"{self.out} holds a training on other data: choose another folder or delete it.")
        self.rows = checkpoint["log"]["rows"]

    def on_fit_start(self) -> None:
        """Make the loss on its device, and write the log that the checkpoint has: a kill may have come between both."""
        self.error = make_loss(self.config.loss, str(self.device))
        if self.trainer.is_global_zero and self.rows:
            self._write("log.csv", pd.DataFrame(self.rows))

    def on_train_start(self) -> None:
        trainer = self.trainer
        self.first = trainer.global_step
        # Lightning ends an update at every multiple of `accumulate` parts: count in parts of their present size
        done = trainer.fit_loop.epoch_loop.batch_progress.current
        other = trainer.global_step * trainer.accumulate_grad_batches - done.ready
        for count in fields(done):
            setattr(done, count.name, getattr(done, count.name) + other)
        path, hidden = self.out / "losses.csv", None if trainer.is_global_zero else True
        self.bar = tqdm(total=self.config.steps, initial=self.first, desc="Training", unit="update", disable=hidden)
        if trainer.is_global_zero:
            kept = pd.read_csv(path).query("step <= @self.first") if path.exists() else pd.DataFrame()
            self._write(path.name, kept.reindex(columns=["step", "loss"]).dropna())  # without a line that was cut off
        if self.config.init_from and not self.rows:
            self._keep(0)
        trainer.should_stop, self.began = self._stopped(), time.monotonic()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        step, config, losses = self.trainer.global_step, self.config, self.losses
        if not losses or losses[-1][0] != step:
            return  # a part of an update
        self.bar.update()
        self.bar.set_postfix(loss=losses[-1][1], refresh=False)
        if self.trainer.is_global_zero and step == self.first + 1:
            self._say({"loss": losses[-1][1]}, step)
        if step % config.validate_every == 0 or step == config.steps:
            self._keep(step)
            self.trainer.should_stop = self._stopped()

    def on_train_end(self) -> None:
        self.bar.close()

    def _keep(self, step: int) -> None:
        trainer, row = self.trainer, dict[str, float]()
        if trainer.is_global_zero:
            row = {"step": step, **self.scores()}
            if self.losses:
                row["loss"] = float(np.mean([loss for _, loss in self.losses]))
            with (self.out / "losses.csv").open("a", encoding="utf-8") as file:
                file.writelines(f"{number},{loss!r}\n" for number, loss in self.losses)
            for number, values in [*((x, {"training loss": loss}) for x, loss in self.losses), (step, row)]:
                trainer.loggers[0].log_metrics(values, number)
            trainer.loggers[0].save()
            if score(row) >= max(map(score, self.rows), default=-math.inf):  # of equal ones the last
                docstring = json.dumps({"config": asdict(self.config), "log": row})
                try:
                    deepcopy(self.average).cpu().save(self.out / "model", weights_docstring=docstring)
                except RuntimeError as error:  # which is what torch raises if the disk is full
                    raise OSError(str(error)) from error
            self._say(row, step)
        self.rows.append(trainer.strategy.broadcast(row))
        temporary = self.out / "last.ckpt.part"  # one name in all processes, which write a checkpoint together
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            temporary.replace(self.out / "last.ckpt")
            self._write("log.csv", pd.DataFrame(self.rows))
        self.losses = []

    def _stopped(self) -> bool:
        scores = list(map(score, self.rows))
        return bool(scores) and 0 < self.config.patience <= len(scores) - 1 - int(np.argmax(scores))

    def _say(self, row: Mapping[str, float], step: int) -> None:
        text = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "step")
        if self.first < step < self.config.steps:
            seconds = (time.monotonic() - self.began) / (step - self.first) * (self.config.steps - step)
            text += f"; {timedelta(seconds=round(seconds))} left"
        tqdm.write(f"update {step:,} of {self.config.steps:,}: {text}", file=sys.stderr)

    def _write(self, name: str, table: pd.DataFrame) -> None:
        with replacing(self.out / name) as path:
            table.to_csv(path, index=False)


def learning_rate_factor(config: TrainingConfig, step: int) -> float:
    """Learning rate of an update, relative to the highest one."""
    warm = min(1.0, (step + 1) / config.warmup)
    if config.decay == "steps":
        return warm * 0.1 ** (6 * step // config.steps)  # as published
    return warm * 0.5 * (1 + math.cos(math.pi * min(step / config.steps, 1)))


@torch.no_grad()
def estimated(model: CDiffSD, windows: Tensor, steps: int) -> Any:
    """What the sampler makes of windows (batch, 3, samples), as an array of the same shape."""

    def clean(x: Tensor, level: Tensor) -> Tensor:
        answer = model(x, level)
        return answer[0] if isinstance(answer, tuple) else answer

    seen, factor = normalize(windows.to(model.device), model.norm)
    return (factor * sample(clean, seen, steps, SCHEDULES[model.schedule])).cpu().numpy()


def update_ema(average: nn.Module, model: nn.Module, config: TrainingConfig, step: int) -> None:
    """Update the exponential moving average of the weights of a model, after its update number `step`."""
    # a short average at first, while the weights change fast
    decay = min(config.averaging, step / (step + 20))
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        mean.lerp_(value, 1 - decay) if value.is_floating_point() else mean.copy_(value)


class ReportedElsewhere(Exception):
    """Another of the processes that share a training reports why it ends."""


def raise_together(error: Exception | None, processes: int) -> None:
    """Raise an error of any of the processes in all, so that none waits; but the first, as ReportedElsewhere."""
    if processes > 1:
        errors: list[Exception | None] = [None] * processes
        torch.distributed.all_gather_object(errors, error)
        error = next((x for x in errors if x is not None), None)
        if error and torch.distributed.get_rank() > 0:
            raise ReportedElsewhere(str(error))
    if error is not None:
        raise error


def score(row: Mapping[str, float]) -> float:
    """What decides which model is the best: the SDR in dB with the default number of steps, the last in a row."""
    return [value for name, value in row.items() if name.startswith("sdr_")][-1]
