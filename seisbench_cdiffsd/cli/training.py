"""The commands of training, ``cdiffsd train`` and ``cdiffsd export``."""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seisbench_cdiffsd.cli import arguments
from seisbench_cdiffsd.files.console import tell

EXTRA = ("jsonargparse", "lightning", "tensorboard", "torchmetrics")


def add_train(commands: Any) -> None:
    """Add ``cdiffsd train``, whose options jsonargparse makes of the settings once they are needed."""
    parser = commands.add_parser("train", help="train a model", add_help=False)
    parser.parse_known_args = lambda args, _: (argparse.Namespace(run=lambda _: train(args, parser.prog)), [])


def train(args: Sequence[str], prog: str = "cdiffsd train") -> int:
    """Train a model on earthquakes and noise, or resume an unfinished training."""
    try:
        from seisbench_cdiffsd.training.config import built, parsed, settings_parser

        parser = settings_parser(prog=prog, description=train.__doc__)
        parser.add_argument("config", nargs="?", metavar="CONFIG", help="TOML file, or default, finetune or published")
        parser.add_argument("--out", default="", metavar="DIR", help="folder; an unfinished run is resumed")
        parser.add_argument("--resume", action="store_true", help="resume the run in --out, with its own settings")
        # options are named as in files; dashes are read as underscores
        args = [re.sub(r"^--[\w.-]+", lambda name: "--" + name[0][2:].replace("-", "_"), arg) for arg in args]
        out, source = _source(parsed(parser, args))
        config = built(parser, parsed(parser, args, source))
        from seisbench_cdiffsd.training import trainer
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        raise ValueError("Training needs Lightning: pip install seisbench-cdiffsd[train]") from error
    try:
        model = trainer.train(config, out)
    except trainer.ReportedElsewhere:
        return 0  # with another status, Lightning would kill the process that reports
    if trainer.is_first():
        row, path = json.loads(model.weights_docstring)["log"], out / "model"
        scores = ", ".join(f"{name} {value:.3g}" for name, value in row.items() if name not in ("step", "loss"))
        tell(
            f"{path} is the best model, that of update {row['step']:.0f} of {config.steps}, with {scores} (SDR in dB "
            f"and correlation in validation, by steps). cdiffsd denoise FILE --weights {path} uses it."
        )
    return 0


def _source(values: Any) -> tuple[Path, str | Path | None]:
    """The folder of a training, and where its settings are."""
    out = Path(values.out)
    if not values.out:
        raise ValueError("Name a folder for the results: --out DIR.")
    if not values.resume:
        return out, values.config
    if not (out / "last.ckpt").is_file():
        raise ValueError(f"There is nothing to resume in {out}.")
    if values.config:
        raise ValueError("--resume takes the settings of the run: leave out the config, or leave out --resume.")
    return out, out / "config.json"


def add_export(commands: Any) -> None:
    parser = commands.add_parser("export", help="write the weights of a training", description=export.__doc__)
    add, folder = parser.add_argument, arguments.folder
    add("run_folder", type=folder, metavar="RUN", help="folder of a training")
    add("name", metavar="NAME", help="name of the weights")
    add("--out", type=folder, default=Path("weights"), metavar="DIR", help="folder (%(default)s)")
    add("--version", default="1", metavar="V", help="version of the weights (%(default)s)")
    add("--docstring", metavar="TEXT", help="description of the weights, in a sentence")
    parser.set_defaults(run=export)


def export(args: argparse.Namespace) -> None:
    """Write the best model of a training as SeisBench weights, NAME.pt.vV and NAME.json.vV, with a model card."""
    from seisbench_cdiffsd.training.export import export_weights

    for path in export_weights(args.run_folder, args.name, args.out, args.version, args.docstring):
        tell(str(path))
