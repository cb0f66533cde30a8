"""Train what CDiffSD is compared with, on the same pairs, for the same number of windows, with the same care.

``python benchmarks/train_baselines.py NAME --like benchmarks/base.json`` takes the number of updates, the batch size,
the input SNRs, the seed and the validation of a training of CDiffSD, and the datasets if its config names them. It sees
the very same pairs in the same order, keeps a moving average of the weights, validates on the same mixtures and keeps
the best. A second call resumes an interrupted one. The result goes to ``benchmarks/weights``, with matrices in half
precision. With ``--init-from WEIGHTS``, a mask network goes on from weights that it has; with ``--mean``, the result is
the mean of the two.

deepdenoiser, seisdae
    SeisBench's classes with their own preprocessing, their masks as labels and cross-entropy as loss (Zhu et al., 2019;
    Heuel and Friederich, 2022). They work on one component at a time and get all three of each window.
wiener
    No training: the best parameters of a grid on the validation mixtures.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import seisbench.models as sbm
import torch
from baselines import NetworkDenoiser as MaskDenoiser
from baselines import Wiener, prepare
from torch import Tensor
from tqdm.auto import tqdm

from seisbench_cdiffsd.data import pairs
from seisbench_cdiffsd.data.datasets import open_chosen
from seisbench_cdiffsd.data.settings import DatasetChoice
from seisbench_cdiffsd.metrics import cross_correlation, sdr_db
from seisbench_cdiffsd.training.batches import load_data
from seisbench_cdiffsd.training.config import Loss, TrainingConfig, read_config
from seisbench_cdiffsd.training.losses import mask_spectrum
from seisbench_cdiffsd.training.trainer import Training, train

FOLDER = Path(__file__).parent
DATA = FOLDER.parents[1] / "shared" / "data"
GRID = {
    "frame": (50, 100, 200),
    "quantile": (0.1, 0.2, 0.3),
    "strength": (2.0, 4.0, 8.0),
    "smooth": (5, 9, 15),
    "floor": (0.0, 0.05),
}


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


class MaskTraining(Training):
    """A training of DeepDenoiser or SeisDAE, else as one of CDiffSD."""

    kind = sbm.DeepDenoiser

    @classmethod
    def new_model(cls, config: TrainingConfig, resumed: bool) -> torch.nn.Module:
        """The network, with the weights to start from unless a checkpoint has them."""
        model = cls.kind.load(config.init_from) if config.init_from and not resumed else cls.kind()
        return model.float().to(memory_format=torch.channels_last)

    def loss(self, batch: dict[str, Any]) -> Tensor:
        """Cross-entropy of the masks of all components."""
        return mask_loss(self.model, *(batch[part].flatten(0, 1) for part in ("clean", "noise")))

    def scores(self) -> dict[str, float]:
        """Mean in-band SDR (dB) and correlation on the validation mixtures."""
        mixtures = self.data.validation
        estimate = MaskDenoiser(self.average)(mixtures.noisy)
        return {
            "sdr_1": float(sdr_db(mixtures.clean, estimate, axis=(-2, -1)).mean()),
            "correlation_1": float(np.nanmean(cross_correlation(mixtures.clean, estimate))),
        }


MASKS = {"deepdenoiser": MaskTraining, "seisdae": type("SeisDAETraining", (MaskTraining,), {"kind": sbm.SeisDAE})}


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
    kinds = [*MASKS, "wiener"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=kinds)
    parser.add_argument("--events", type=Path, default=DATA / "events", help="earthquakes, if --like names none")
    parser.add_argument("--noise", type=Path, default=DATA / "noise", help="noise, likewise")
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
    if args.init_from and args.name not in MASKS:
        parser.error(f"--init-from is for {', '.join(MASKS)}.")
    if args.mean and not args.init_from:
        parser.error("--mean is of the result and of --init-from.")
    changes = {"steps": args.steps, "validate_every": args.validate_every, "batch_size": args.batch_size}
    changes = {name: value for name, value in changes.items() if value is not None}
    init_from = str(args.init_from or "")  # a setting like others: to resume, it must be the same
    try:
        config = read_config(args.like or "default", **changes, init_from=init_from, device=args.device)
        own = {name: (DatasetChoice(str(getattr(args, name))),) for name in ("events", "noise")}
        config = replace(config, **{name: getattr(config, name) or choice for name, choice in own.items()})
        if args.name == "wiener":
            data = load_data(
                *([(open_chosen(x), x) for x in chosen] for chosen in (config.events, config.noise)), config
            )
            print(json.dumps(choose_wiener(data.validation)))
            return
        config = replace(config, loss=Loss())  # which is not theirs, and may want a picker
        out = args.out or Path("runs") / args.name
        train(config, out, MASKS[args.name])
    except ValueError as error:
        parser.error(str(error))
    publish(out / "model", args.weights / args.name, args.init_from if args.mean else None)


if __name__ == "__main__":
    main()
