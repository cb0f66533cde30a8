"""Is it as good to train the picker on noise?

``python benchmarks/retrain_picker.py --like benchmarks/base.json`` trains PhaseNet further on the pairs that CDiffSD is
trained on: on the noisy records, and on what CDiffSD makes of them. On the dev split it compares what such a picker
finds with what PhaseNet finds as it is. The labels are what PhaseNet sees in the clean records; the weights that are
trained further are ``volpick``.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import seisbench.models as sbm
import testdata
import torch
from report import markdown
from seisbench.data import WaveformDataset
from torch import Tensor
from tqdm.auto import tqdm
from train_baselines import DATA, Data

from seisbench_cdiffsd import evaluation, summary
from seisbench_cdiffsd.model import CDiffSD
from seisbench_cdiffsd.noise_left import leave_noise
from seisbench_cdiffsd.picking import load_picker
from seisbench_cdiffsd.training.configfile import read_config
from seisbench_cdiffsd.training.losses import picker_probabilities

#: Windows of noise per hour with a false pick, at which recalls are compared.
RATE = 20.0
#: Share of the weights of the last update in the moving average.
AVERAGING = 0.005
LEARNING_RATE = 2e-3


def probabilities(picker: sbm.PhaseNet, windows: Tensor) -> Tensor:
    """
    Probabilities of P, S and neither, (batch, 3, samples).

    :param windows: Records (batch, component, samples) in ZNE order
    """
    found = picker_probabilities(picker, windows, floor=1e-10)
    return found[:, [picker.labels.index(phase) for phase in "PSN"]]


def labels(pickers: list[sbm.PhaseNet], clean: Tensor) -> Tensor:
    """What the most confident of some pickers sees in clean records: probabilities of P, S and neither."""
    with torch.no_grad():
        phases = torch.stack([probabilities(picker, clean)[:, :2] for picker in pickers]).amax(0)
    phases = phases / phases.sum(1, keepdim=True).clamp(min=1)
    return torch.cat([phases, 1 - phases.sum(1, keepdim=True)], dim=1)


def train(
    picker: sbm.PhaseNet, teachers: list[sbm.PhaseNet], data: Data, steps: int, denoise: Callable[[Tensor], Tensor]
) -> sbm.PhaseNet:
    """
    A picker after so many more updates, with the moving average of its weights.

    :param picker: Where to start; left unchanged
    :param teachers: Pickers whose picks on the clean records are the labels
    :param data: Pairs
    :param steps: Updates, with a learning rate that falls linearly to zero
    :param denoise: Applied to the noisy records
    """
    picker = copy.deepcopy(picker).train()
    averaged = copy.deepcopy(picker).eval()
    optimizer = torch.optim.AdamW(picker.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1e-3, steps)
    for step in tqdm(range(steps), desc="Training", disable=None):
        clean, noise = data.batch(step)
        seen = probabilities(picker, denoise(clean + noise))
        loss = -(labels(teachers, clean) * seen.clamp(min=1e-6).log()).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(picker.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        share = max(AVERAGING, 10 / (step + 11))
        for kept, new in zip(averaged.state_dict().values(), picker.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, share)
    return averaged


def scores(data: testdata.Data, denoise: Callable[[Tensor], Tensor], picker: sbm.PhaseNet) -> dict[str, float]:
    """Recall of P and S at the usual threshold and where false picks are equally rare, and false picks per hour."""

    def denoiser(windows: np.ndarray) -> np.ndarray:
        return torch.cat([denoise(part) for part in torch.from_numpy(windows).split(64)]).numpy()

    pickers = {"PhaseNet": picker}
    found = evaluation.evaluate(data.mixtures, {"this": denoiser}, pickers)
    alone = evaluation.evaluate_noise(data.noise, data.noise_metadata, {"this": denoiser}, pickers)
    tables = [summary.summarize(found), summary.summarize(alone), summary.recall_at(found, alone, [RATE])]
    values = pd.concat(tables).query("denoiser == 'this'").drop_duplicates("metric").set_index("metric")["value"]
    row = {}
    for phase in "PS":
        row[phase] = values[f"PhaseNet_{phase}_recall_0.5"]
        row[f"{phase} at {RATE:g}"] = values[f"PhaseNet_{phase}_found_{RATE:g}"]
    return {**row, "false P per hour": values["PhaseNet_P_per_hour"]}


def main() -> None:
    """Train and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=Path, default=DATA / "events", help="dataset of earthquakes")
    parser.add_argument("--noise", type=Path, default=DATA / "noise", help="dataset of noise")
    parser.add_argument("--like", type=Path, help="config.json of a training of CDiffSD, for its pairs")
    parser.add_argument("--steps", type=int, nargs="+", default=[1000], help="updates of each training")
    parser.add_argument("--limit", type=int, help="earthquakes to evaluate on (all)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    config = read_config(args.like or "default", events=(), noise=(), validation_events=1)
    data = Data(*(WaveformDataset(path, component_order="ZNE") for path in (args.events, args.noise)), config)
    options = testdata.Options(str(args.events), str(args.noise), split="dev", limit=args.limit)
    held = testdata.load_data(options, Path())
    start, original = (load_picker("PhaseNet", name).eval() for name in ("volpick", "original"))
    model = CDiffSD.from_pretrained().eval()

    def denoised(windows: Tensor) -> Tensor:
        with torch.no_grad():
            return leave_noise(windows, model.restore(windows))

    rows = {}
    for name, denoise in {"noisy": lambda windows: windows, "CDiffSD": denoised}.items():
        pickers = {"original": original, "volpick": start}
        for steps in args.steps:
            pickers[f"volpick, {steps} updates"] = train(start, [start, original], data, steps, denoise)
        for about, picker in pickers.items():
            rows[f"{name}, {about}"] = scores(held, denoise, picker)
    print(markdown(pd.DataFrame(rows).T.rename_axis("records, PhaseNet").map("{:.2f}".format).reset_index()))


if __name__ == "__main__":
    main()
