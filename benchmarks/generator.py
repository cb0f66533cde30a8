"""Trains the generator of envelopes, ``weights/generator.pt``, on recorded and simulated earthquakes.

    python benchmarks/generator.py EVENTS... --run FOLDER [--minutes 40]

Envelopes and the training go to FOLDER, and the same command continues from there. Noise is subtracted from envelopes;
where a record is no louder than its noise, or has ended, they go on as those of other records do, below the noise.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from generation import RATE, recorded
from numpy.typing import NDArray
from simulation import draw_event
from torch import Tensor, nn

from seisbench_cdiffsd.data.simulation import BLAST, simulate
from seisbench_cdiffsd.generation.learned import (
    CENTRES,
    PARTS,
    S_MINUS_P,
    Flow,
    Generator,
    edges,
    level,
    numbers,
    powers,
)

Values = NDArray[np.float64]
#: Least SNR in dB and least seconds of noise before P; times that a record is turned about; and simulated records.
LEAST_SNR, BEFORE, TURNS, SIMULATED = 10, 2.5, 4, 3000
#: Records in a batch, how many of them are simulated, and how much of what is known of a record is held back.
BATCH, ARTIFICIAL, HIDDEN = 256, 77, 0.2


def real(folders: list[str], split: str) -> tuple[Values, pd.DataFrame]:
    """Envelopes of recorded earthquakes, (record, turn, component, band, cell), and what is known of them."""
    envelopes, noises, rows = [], [], []
    for waveform, p, known in recorded(folders, split, S_MINUS_P[1]):
        start = np.argmax(np.abs(np.diff(waveform, axis=1)).max(0) > 0) / RATE  # of what is not padding
        quiet = np.array([max(start + 0.3, p - 20), p - 0.3])
        if p - start < BEFORE:
            continue
        noise = powers(waveform, RATE, quiet).sum()
        if 10 * np.log10(powers(waveform, RATE, np.array([p, waveform.shape[1] / RATE])).sum() / noise) < LEAST_SNR:
            continue
        at, turned = p + edges(known["sp"]), []
        for turn in range(TURNS):
            angle = np.random.default_rng((len(rows), turn)).uniform(0, 2 * np.pi) * (turn > 0)
            z, n, e = waveform
            n, e = np.cos(angle) * n + np.sin(angle) * e, (-1) ** turn * (np.cos(angle) * e - np.sin(angle) * n)
            x = np.stack([z, n, e])
            power, noise = powers(x, RATE, at), powers(x, RATE, quiet)
            ground = 0.0 if known["sensor"] != "accelerometer" else 2 * np.log10(2 * np.pi * CENTRES)[:, None]
            clear = (power > 2.5 * noise) & (known["band"] > CENTRES[:, None])
            power = np.log10(np.where(clear, power - noise, np.nan)) - ground
            turned.append((power / 2, (np.log10(noise) - ground) / 2))
        envelopes.append([x for x, _ in turned])
        noises.append([x for _, x in turned])
        about = {"magnitude": known["source_magnitude"], "depth": known["source_depth_km"], "s_minus_p": known["sp"]}
        rows.append({**about, "instrument": known["sensor"], "source": known["trace_source"], "band": known["band"]})
    return filled(np.array(envelopes), np.array(noises)), pd.DataFrame(rows)


def filled(envelopes: Values, noise: Values) -> Values:
    """Without gaps: as other records go on in time, else from one band to the next, but not louder than the noise."""
    for axis in (-1, -2):
        rise = np.nanmedian(np.diff(envelopes, axis=axis), axis=(0, 1))
        rise = np.where(np.isfinite(rise), rise, np.nanmedian(rise, axis=-2, keepdims=True))
        values, rise, most = (
            np.moveaxis(x, axis, 0) for x in (envelopes, rise, np.broadcast_to(noise, envelopes.shape))
        )
        for n in range(1, len(values)):
            gap = np.isnan(values[n])
            values[n][gap] = np.fmin(values[n - 1] + rise[n - 1], most[n])[gap]
        for n in range(len(values) - 2, -1, -1):
            gap = np.isnan(values[n])
            values[n][gap] = np.fmin(values[n + 1] - rise[n], most[n])[gap]
    return envelopes


def artificial(count: int) -> tuple[Values, pd.DataFrame]:
    """Envelopes of simulated earthquakes and blasts, (record, component, band, cell), and what is known of them."""
    envelopes, rows = [], []
    for number in range(count):
        random = np.random.default_rng((7, number))
        event = draw_event(random)
        if number % 6 == 0:
            magnitude, depth = float(np.clip(event.magnitude, 0.5, 3)), round(random.uniform(0, 0.5), 2)
            event = event._replace(magnitude=magnitude, depth=depth, kind=BLAST)
        elif number % 6 < 3:
            event = event._replace(magnitude=float(np.clip(random.normal(event.magnitude, 1), -0.5, 6.5)))
        motion, s_minus_p = simulate(random, event, RATE, 0, 90)
        power = np.log10(powers(motion, RATE, edges(s_minus_p)) + 1e-12 * np.square(motion).max()) / 2
        envelopes.append(power)
        rows.append({**event._asdict(), "s_minus_p": s_minus_p})
    return np.stack(envelopes), pd.DataFrame(rows)


def told(about: pd.DataFrame, is_recorded: bool) -> Tensor:
    return torch.tensor([numbers({**row, "recorded": is_recorded}) for row in about.to_dict("records")])


def train(folder: Path, folders: list[str], minutes: float) -> None:
    """Train from where `folder` stands; what is best on the dev split is ``generator.pt`` there."""
    sets = {"train": lambda: real(folders, "train"), "dev": lambda: real(folders, "dev")}
    sets["simulated"] = lambda: artificial(SIMULATED)
    for name, make in sets.items():
        if not (folder / f"{name}.pt").exists():
            torch.save(make(), folder / f"{name}.pt")
        envelopes, about = torch.load(folder / f"{name}.pt", weights_only=False)
        sets[name] = envelopes - level(envelopes)[..., None, None, None], about
    (known, about), (dev, about_dev), (made, about_made) = (sets[x] for x in ("train", "dev", "simulated"))
    flat, weights = known.reshape(*known.shape[:2], -1), np.sqrt(1 / about.groupby("source")["band"].transform("size"))
    weights = (weights / weights.sum()).to_numpy()
    mean = np.einsum("n,nkd->d", weights, flat) / TURNS
    std = np.sqrt(np.einsum("n,nkd->d", weights, (flat - mean) ** 2) / TURNS)
    both = [((flat - mean) / std) * np.sqrt(weights / TURNS)[:, None, None]]
    both += [((made.reshape(len(made), 1, -1) - mean) / std) * np.sqrt(ARTIFICIAL / BATCH / len(made))]
    rows = np.concatenate([x.reshape(-1, len(mean)) for x in both])
    basis = np.linalg.eigh(rows.T @ rows)[1][:, : -PARTS - 1 : -1].copy()
    scale = np.sqrt(np.einsum("n,nkp->p", weights, ((flat - mean) / std @ basis) ** 2) / TURNS)
    saved = {"mean": mean, "std": std, "basis": basis, "scale": scale}
    saved = {name: torch.tensor(value).half() for name, value in saved.items()}
    torch.manual_seed(0)
    net = Flow(drop=0.3)
    nn.init.zeros_(net.last.weight)
    average = {name: value.clone() for name, value in net.state_dict().items()}
    parts_of = Generator(saved | {"net": average}).parts
    x, x_dev, x_made = (torch.tensor(parts_of(values)).float() for values in (known, dev, made))
    asked, asked_dev, asked_made = told(about, True), told(about_dev, True), told(about_made, False)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.1)
    state = {"step": 0, "best": np.inf, "spent": 0.0}
    if (folder / "state.pt").exists():
        state, average, own, own_optimizer, random = torch.load(folder / "state.pt", weights_only=False)
        net.load_state_dict(own)
        optimizer.load_state_dict(own_optimizer)
        torch.set_rng_state(random)
    importance = torch.tensor(np.sqrt(scale)).float()
    levels_dev = torch.arange(x_dev[..., 0].numel()).view(x_dev.shape[:2]) * 0.618 % 1
    noise_dev = torch.randn(x_dev.shape, generator=torch.Generator().manual_seed(5))

    def loss(clean: Tensor, levels: Tensor, noise: Tensor, asked: Tensor) -> Tensor:
        """Squared error of the velocity of the flow."""
        levels = levels.clamp(0.02, 1)[:, None]
        estimate = net(((1 - levels) * clean + levels * noise)[:, None], levels[:, 0], asked)[:, 0]
        return (((estimate - clean) / levels).square() * importance / importance.mean()).mean()

    start = time.time() - state["spent"]
    while time.time() - start < 60 * minutes:
        share = (time.time() - start) / (60 * minutes)
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, state["step"] / 200) * (1 + np.cos(np.pi * share)) / 2
        n, turn = torch.multinomial(torch.tensor(weights), BATCH - ARTIFICIAL, True), torch.randint(TURNS, (BATCH,))
        other = torch.randint(len(x_made), (ARTIFICIAL,))
        clean = torch.cat([x[n, turn[: len(n)]], x_made[other]])
        given, hide = torch.cat([asked[n], asked_made[other]]), torch.rand(3, BATCH) < HIDDEN
        for columns, hidden in zip((slice(1, 3), slice(3, 5), slice(7, None)), hide, strict=True):
            given[hidden, columns] = 0
        error = loss(clean, torch.rand(BATCH), torch.randn(clean.shape), given)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        state["step"] += 1
        for name, value in net.state_dict().items():
            average[name].lerp_(value, max(0.002, 10 / (state["step"] + 10)))
        if state["step"] % 100 == 0:
            own = {name: value.clone() for name, value in net.state_dict().items()}
            net.load_state_dict(average)
            net.eval()
            with torch.no_grad():
                errors = [loss(x_dev[:, k], levels_dev[:, k], noise_dev[:, k], asked_dev).item() for k in range(TURNS)]
            net.train()
            net.load_state_dict(own)
            state["spent"], error_dev = time.time() - start, float(np.mean(errors))
            if error_dev < state["best"]:
                state["best"] = error_dev
                torch.save(saved | {"net": {k: v.half() for k, v in average.items()}}, folder / "generator.pt")
            rest = average, own, optimizer.state_dict(), torch.get_rng_state()
            torch.save((state, *rest), folder / "state.part")
            (folder / "state.part").replace(folder / "state.pt")
            print(f"{state['step']} updates, {state['spent'] / 60:.1f} min: {error.item():.3f}, dev {error_dev:.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("events", nargs="+", metavar="EVENTS", help="datasets in SeisBench's format")
    parser.add_argument("--run", type=Path, required=True, metavar="FOLDER", help="folder of the training")
    parser.add_argument("--minutes", type=float, default=10, metavar="N", help="minutes of training (%(default)s)")
    args = parser.parse_args()
    args.run.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    train(args.run, args.events, args.minutes)
