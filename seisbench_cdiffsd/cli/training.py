"""The commands of training, ``cdiffsd train`` and ``cdiffsd export``."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from seisbench_cdiffsd.cli import arguments
from seisbench_cdiffsd.cli.arguments import INTERRUPTED
from seisbench_cdiffsd.files.console import tell
from seisbench_cdiffsd.training.config import Machine, TrainingConfig
from seisbench_cdiffsd.training.configfile import parse, read_config
from seisbench_cdiffsd.training.export import export_weights

#: Packages that training needs in addition to those of the package itself.
EXTRA = ("lightning", "tensorboard", "torchmetrics")


def add_train(commands: Any) -> None:
    """Add ``cdiffsd train``, with an option for each setting that is not a table."""
    parser = commands.add_parser("train", help="train a model", description=train.__doc__)
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="TOML file, or 'default' or 'published'")
    for name, what in (("events", "labelled earthquakes"), ("noise", "noise")):
        parser.add_argument(
            f"--{name}",
            nargs="+",
            metavar="DATASET",
            help=f"of {what}: folders in SeisBench's format, or names such as STEAD",
        )
    parser.add_argument(
        "--out", type=arguments.folder, required=True, metavar="DIR", help="folder; an unfinished run is resumed"
    )
    parser.add_argument("--resume", action="store_true", help="resume the run in --out, with its own settings")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="such as augmentations.stretch=0"
    )
    parser.add_argument("--threads", type=arguments.positive, metavar="N", help="threads of PyTorch")
    for kind in (Machine(), TrainingConfig()):
        said = described(type(kind))
        for field in fields(kind):
            value = getattr(kind, field.name)
            option: dict[str, Any] = {"metavar": type(value).__name__.upper() if value is not None else "VALUE"}
            if field.name == "loss":
                option = {"type": arguments.weight, "nargs": "+", "metavar": "TERM=WEIGHT"}
            elif field.name in ("snr", "factor", "splits"):
                option = {"nargs": 2, "metavar": ("TRAIN", "DEV") if field.name == "splits" else ("LOW", "HIGH")}
            elif field.name in ("events", "noise", "machine", "augmentations"):
                continue
            if field.name == "loss":
                value = " ".join(f"{term}={weight:g}" for term, weight in value.items())
            text = said.get(field.name, "") + (f" ({value})" if value not in (None, "") else "")
            parser.add_argument(f"--{field.name.replace('_', '-')}", help=text.replace("%", "%%"), **option)
    parser.set_defaults(run=train, user_errors=(ValueError, FloatingPointError, OSError))


def described(kind: type) -> dict[str, str]:
    """What the docstring of a class says of each parameter, in one line of plain text; nothing under ``python -OO``."""
    said = re.findall(r":param (\w+): (.+?)(?=\n:|\Z)", inspect.getdoc(kind) or "", re.DOTALL)
    return {name: " ".join(re.sub(r":py:\w+:`(.+?)`", r"\1", text).split()) for name, text in said}


def train(args: argparse.Namespace) -> int:
    """Train a model on earthquakes and noise, or resume an unfinished training."""
    config = settings(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        from seisbench_cdiffsd.training import loop, run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        raise ValueError("Training needs Lightning: pip install seisbench-cdiffsd[train]") from error
    try:
        model = run.train(config, args.out)
    except KeyboardInterrupt:
        tell("cdiffsd: interrupted; the same command resumes from the last validation.", sys.stderr)
        return INTERRUPTED
    except loop.ReportedElsewhere:
        return 0  # with another status, Lightning would kill the process that reports
    if run.is_first():
        tell(run.closing_sentence(model, args.out, config))
    return 0


def settings(args: argparse.Namespace) -> TrainingConfig:
    """
    The settings that a command line asks for.

    :param args: Parsed arguments of ``cdiffsd train``
    :raises ValueError: If one is unknown or invalid, or there is nothing to resume
    """
    source = args.config
    if args.resume:
        source = args.out / "config.json"
        if not (args.out / "last.ckpt").is_file():
            raise ValueError(f"There is nothing to resume in {args.out}.")
        if args.config:
            raise ValueError("--resume takes the settings of the run: leave out the config, or leave out --resume.")
    table: dict[str, Any] = {}
    for name in ("events", "noise"):
        if getattr(args, name):
            table[name] = [{"dataset": dataset} for dataset in getattr(args, name)]
        elif source is None:
            raise ValueError(f"Name a config, or datasets by --events and --noise: there is no dataset of {name}.")
    for field in fields(TrainingConfig):
        value = getattr(args, field.name, None)
        if field.name == "loss" and value:
            table["loss"] = dict(value)
        elif value is not None and field.name not in table:
            table[field.name] = [parse(x) for x in value] if isinstance(value, list) else parse(value)
    machine = [(x.name, getattr(args, x.name)) for x in fields(Machine)]
    overrides = [f"machine.{name}={value}" for name, value in machine if value is not None]
    return read_config(source, [*overrides, *args.set], **table)


def add_export(commands: Any) -> None:
    """Add ``cdiffsd export``."""
    parser = commands.add_parser("export", help="write the weights of a training", description=export.__doc__)
    parser.add_argument("run_folder", type=arguments.folder, metavar="RUN", help="folder of a training")
    parser.add_argument("name", metavar="NAME", help="name of the weights")
    parser.add_argument(
        "--out", type=arguments.folder, default=Path("weights"), metavar="DIR", help="folder (%(default)s)"
    )
    parser.add_argument("--version", default="1", metavar="V", help="version of the weights (%(default)s)")
    parser.add_argument("--docstring", metavar="TEXT", help="description of the weights, in a sentence")
    parser.set_defaults(run=export, user_errors=(ValueError, OSError))


def export(args: argparse.Namespace) -> None:
    """Write the best model of a training as SeisBench weights, NAME.pt.vV and NAME.json.vV, with a model card."""
    for path in export_weights(args.run_folder, args.name, args.out, args.version, args.docstring):
        tell(str(path))
