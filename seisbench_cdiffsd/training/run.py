"""Train a model on pairs of earthquakes and noise: resumable, with fixed validation mixtures and averaged weights."""

from __future__ import annotations

import json
import logging
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from seisbench.data import MultiWaveformDataset, WaveformDataset

from seisbench_cdiffsd.data import pairs
from seisbench_cdiffsd.data.datasets import open_chosen
from seisbench_cdiffsd.files.writing import folder_for, only_run, replacing
from seisbench_cdiffsd.training.config import DatasetChoice, TrainingConfig
from seisbench_cdiffsd.training.configfile import read_table
from seisbench_cdiffsd.training.feeding import ChosenDataset, Data, load_data
from seisbench_cdiffsd.training.loop import Batches, CheckpointCallback, Training, validated_steps
from seisbench_cdiffsd.training.losses import make_loss
from seisbench_cdiffsd.weights import CDiffSD, load

#: Settings that may differ when a training resumes: the machine, and the datasets, which are compared by their traces.
FREE = ("machine", "events", "noise")


def train(config: TrainingConfig, out: str | Path) -> CDiffSD:
    """
    Train a model on the datasets that the settings name, or resume an unfinished training. See :py:func:`fit`.

    :param config: Settings
    :param out: Folder for the results
    :return: The best model
    :raises ValueError: If a dataset is not available or lacks what is needed
    """
    for name in ("events", "noise"):
        if not getattr(config, name):
            raise ValueError(f"The settings name no datasets of {name}.")
    _check(Path(out), config)
    events, noise = ([(open_chosen(choice), choice) for choice in x] for x in (config.events, config.noise))
    return _fit(events, noise, Path(out), config)


def fit(
    events: WaveformDataset | MultiWaveformDataset,
    noise: WaveformDataset | MultiWaveformDataset,
    out: str | Path,
    config: TrainingConfig | None = None,
    device: str | None = None,
) -> CDiffSD:
    """
    Train a model, or resume the unfinished training in `out`.

    Writes to `out`: ``config.json``, ``log.csv`` (one line per validation), ``losses.csv`` (one line per update),
    ``last.ckpt`` (to resume), ``tensorboard``, and ``model.pt`` / ``model.json``, the best weights so far by the
    in-band SDR of the validation mixtures.

    :param events: SeisBench dataset of labelled earthquakes with train and dev splits
    :param noise: SeisBench dataset of noise with the same splits, which may be the same one, such as STEAD; both must
        be opened with components ZNE. Sums of several datasets are allowed; equal shares are drawn from each
    :param out: Folder for the results
    :param config: Settings; the datasets that they name are ignored
    :param device: Device to train on, instead of that in the settings
    :return: The best model
    :raises ValueError: If a dataset lacks what is needed, there is no such device, or `out` holds a training with other
        settings
    :raises FloatingPointError: If data or the loss are NaN or infinite
    :raises ReportedElsewhere: If that is so in a training on several devices, in all processes but the first
    :raises KeyboardInterrupt: If it was interrupted; the last model and checkpoint are usable
    """
    config = config or TrainingConfig()
    if device is not None:
        config = replace(config, machine=replace(config.machine, device=device))
    _check(Path(out), config)
    return _fit(_parts(events), _parts(noise), Path(out), config)


def _parts(dataset: WaveformDataset | MultiWaveformDataset) -> list[ChosenDataset]:
    """The datasets of a sum, or the only one, all with the same weight."""
    return [(part, DatasetChoice(part.name)) for part in getattr(dataset, "datasets", [dataset])]


def _fit(events: Sequence[ChosenDataset], noise: Sequence[ChosenDataset], out: Path, config: TrainingConfig) -> CDiffSD:
    model = _new_model(config, resumed=(out / "last.ckpt").is_file())
    band = pairs.band_pass(model.filter_kwargs)
    data = load_data(events, noise, config, band)
    with _claimed(out, config):
        return _run(model, data, out, config)


def _run(model: CDiffSD, data: Data, out: Path, config: TrainingConfig) -> CDiffSD:
    trainer = _trainer(out, config, CheckpointCallback(out, config, data))
    last, handler = out / "last.ckpt", signal.getsignal(signal.SIGINT)
    with warnings.catch_warnings():
        for harmless in (".*does not have many workers.*", ".*LeafSpec.*", ".*lr_scheduler.step.*"):
            warnings.filterwarnings("ignore", harmless)
        try:
            trainer.fit(
                Training(model, config),
                datamodule=Batches(data, config),
                ckpt_path=last if last.is_file() else None,
                weights_only=True,
            )
        except SystemExit:  # raised by Lightning after an interrupt, with the handler of the next one removed
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None
    return CDiffSD.load(out / "model")


def _new_model(config: TrainingConfig, resumed: bool) -> CDiffSD:
    torch.manual_seed(config.seed)
    wanted: dict[str, Any] = {"network": config.network, "schedule": config.schedule, "norm": config.norm}
    model = CDiffSD(**wanted, in_samples=config.window, presence=config.tells)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(config.only))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            f"No parameter's name begins with {config.only!r}, the setting only: there is nothing to train."
        )
    if config.init_from is None or resumed:  # a checkpoint has the weights
        return model
    start = load(config.init_from)
    given = start.get_model_args()
    for name, value in wanted.items():
        if given[name] != value:
            raise ValueError(
                f"The weights {config.init_from} have {name} {given[name]!r}: set that instead of {value!r}."
            )
    for name, value in model.get_model_args().items():
        if name not in ("in_samples", "presence") and given[name] != value:
            raise ValueError(f"The weights {config.init_from} have {name} {given[name]!r}; training is for {value!r}.")
    known = model.state_dict()
    model.load_state_dict(known | {name: values for name, values in start.state_dict().items() if name in known})
    return model


def _trainer(out: Path, config: TrainingConfig, callback: CheckpointCallback) -> Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    machine = config.machine
    kind, _, number = machine.device.partition(":")
    return Trainer(
        accelerator="gpu" if kind == "cuda" else kind,
        devices=[int(number)] if number else machine.devices,
        num_nodes=machine.nodes,
        strategy="ddp" if machine.devices * machine.nodes > 1 else "auto",
        precision=config.precision,  # type: ignore[arg-type]
        accumulate_grad_batches=machine.accumulate,
        gradient_clip_val=config.clip or None,
        max_steps=config.steps,
        max_epochs=-1,
        limit_val_batches=0,
        callbacks=[callback],
        enable_progress_bar=sys.stderr.isatty(),
        logger=TensorBoardLogger(out, "", "tensorboard"),
        log_every_n_steps=config.steps,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=out,
    )


def _check(out: Path, config: TrainingConfig) -> None:
    """Check, before data are read, the device, the loss, the folder, and an unfinished training in it."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is not a folder: choose another one.")
    kind, _, number = config.machine.device.partition(":")
    counts = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind in counts and counts[kind] <= int(number or 0):
        raise ValueError(f"There is no device {config.machine.device!r} here: set machine.device to 'cpu' or 'auto'.")
    make_loss(config.loss)
    path = out / "config.json"
    if path.exists():
        stored, wanted = read_table(path), json.loads(json.dumps(asdict(config)))
        differing = [name for name in wanted if name not in FREE and stored.get(name) != wanted[name]]
        if differing:
            raise ValueError(
                f"{out} holds a training with other settings ({path}: {', '.join(differing)}): "
                f"choose another folder or delete it; or go on from it in another: --init-from {out / 'model'}"
            )
    last = out / "last.ckpt"
    if last.is_file():
        try:
            kept = torch.load(last, map_location="cpu", weights_only=True)
            if not {"state_dict", "callbacks"} <= kept.keys():
                raise ValueError("it is not a checkpoint of a training")
        except Exception as error:  # torch raises many kinds
            reason = " ".join(str(error).split()).partition(". ")[0]
            raise ValueError(
                f"{last} is damaged ({reason}): delete it to start again in its folder, or choose another folder."
            ) from error


@contextmanager
def _claimed(out: Path, config: TrainingConfig) -> Iterator[None]:
    """Make the folder of a training, with its settings, and keep other trainings out of it."""
    if not is_first():
        yield
        return
    with ExitStack() as held:
        with folder_for(out):
            held.enter_context(only_run(out))
            with replacing(out / "config.json") as path:
                path.write_text(json.dumps(asdict(config), indent=4))
        yield


def is_first() -> bool:
    """Whether this process is the one that reports, among those that share a training."""
    return getattr(rank_zero_only, "rank", 0) == 0


def closing_sentence(model: CDiffSD, out: Path, config: TrainingConfig) -> str:
    """
    Where the best model of a training is, how good it is, and how it is used, in a line.

    :param model: The model
    :param out: Folder of the training
    :param config: Its settings
    """
    row, path = json.loads(model.weights_docstring)["log"], out / "model"
    scores = (
        f"{row[f'sdr_{n}']:.2f} dB and {row[f'correlation_{n}']:.3f} in {n} step{'s' * (n > 1)}"
        for n in validated_steps(row)
    )
    return (
        f"{path} is the best model, that of update {row['step']:.0f} of {config.steps}, with an SDR and a correlation "
        f"in validation of {', '.join(scores)}. cdiffsd denoise FILE --weights {path} uses it."
    )
