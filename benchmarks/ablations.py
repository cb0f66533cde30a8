"""Does each augmentation help? Short trainings with one of them changed, evaluated on the records that it is made for.

``python benchmarks/ablations.py --steps 600`` trains the default settings and one arm for each augmentation, switched
off or on, with the same seed and budget, and evaluates all of them on the dev split under conditions such as a missing
component or spikes. A second call resumes an interrupted one. ``--results FILE`` writes the table.
``--held-out STATION ...`` trains without the noise of some stations, and evaluates on it as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import testdata
import torch
from report import markdown
from scipy.signal import butter, sosfiltfilt
from seisbench.data import WaveformDataset
from train_baselines import DATA, GaussianNoise

from seisbench_cdiffsd.data import pairs
from seisbench_cdiffsd.data.augmentations import RATE_KEY, State
from seisbench_cdiffsd.data.datasets import noise_apart, noise_of
from seisbench_cdiffsd.data.disturbances import Glitches
from seisbench_cdiffsd.data.splits import take_split
from seisbench_cdiffsd.metrics import sdr_db, suppression_db
from seisbench_cdiffsd.model import CDiffSD
from seisbench_cdiffsd.training.config import TrainingConfig
from seisbench_cdiffsd.training.configfile import read_config
from seisbench_cdiffsd.training.feeding import CLEAN_SNR
from seisbench_cdiffsd.training.run import fit

#: What each arm changes in the default settings, and the condition that it is made for.
ARMS: dict[str, tuple[dict[str, object], str]] = {
    "default": ({}, "all"),
    "no stretch": ({"stretch": 0.0}, "all"),
    "no rotation": ({"rotate": False}, "all"),
    "no change of sign": ({"flip": False}, "all"),
    "noise not reversed": ({"reverse": False}, "all"),
    "no mixed noise": ({"mixed_noise": 0.0}, "mixed noise"),
    "records as they are": (
        {"stretch": 0.0, "rotate": False, "flip": False, "reverse": False, "mixed_noise": 0.0},
        "all",
    ),
    "noise not stretched": ({"stretch_noise": 0.0}, "unseen noise"),
    "noise by records": ({"balance": False}, "unseen noise"),
    "no mask": ({"loss": {"log-ratio": 1.0, "spectrum": 10.0}}, "all"),
    "all components": ({"drop_components": 0.0}, "Z alone"),
    "no noise-only windows": ({"noise_only": 0.0}, "noise alone"),
    "no clean windows": ({"untouched": 0.0}, "nearly clean"),
    "targets with their noise": ({"mute": False}, "all"),
    "P inside the window": ({"onset": (1.0, 3.0)}, "S alone"),
    "S-only windows": ({"s_only": 0.2}, "S alone"),
    "no windows of the coda": ({"coda": 0.0}, "S alone"),
    "superposed": ({"superpose": 0.3}, "two events"),
    "no narrow bands": ({"narrow": 0.0}, "narrow band"),
    "no glitches": ({"glitches": 0.0}, "glitches"),
    "clipped targets": ({"clipped": True}, "all"),
    "Gaussian noise": ({}, "all"),
    "coloured Gaussian noise": ({}, "all"),
}


def held_mixtures(events: WaveformDataset, noise: WaveformDataset) -> pairs.Mixtures:
    """The mixtures of the benchmarks, of the dev split."""
    band = pairs.band_pass()
    earthquakes = pairs.load_earthquakes(take_split(events, "dev"), band, CLEAN_SNR, mute=False)
    quiet = pairs.load_noise(noise_apart(noise_of(take_split(noise, "dev")), [events], "dev"), band)
    return testdata.mix(earthquakes, quiet, testdata.Options(limit=None))


def conditions(mixtures: pairs.Mixtures, band: Callable[[State], None]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """
    Earthquakes and noise, (mixture, component, samples), by condition.

    :param mixtures: Mixtures of the dev split
    :param band: The band of the model
    """
    clean, noise = mixtures.clean, mixtures.noise
    first = np.array([1, 0, 0], np.float32)[:, None]
    sos = butter(2, (2.0, 12.0), "bandpass", fs=100, output="sos")
    narrow = tuple(sosfiltfilt(sos, x).astype(np.float32) for x in (clean, noise))
    faulty = []
    with pairs.seeded(0):
        for record in noise:
            state: State = {"X": (record, {RATE_KEY: 100.0})}
            Glitches(band, 1.0)(state)
            faulty.append(state["X"][0])
    # the earthquake from 1 s after P on, at the start of the window; and two earthquakes in succession
    late = np.zeros_like(clean)
    for record, p, target in zip(clean, mixtures.labels["p_sample"].astype(int) + 100, late, strict=True):
        target[:, : record.shape[-1] - p] = record[:, p:]
    second = np.zeros_like(clean)
    second[..., 1000:] = np.roll(clean, len(clean) // 2, axis=0)[..., :-1000]
    second *= 0.5 * np.abs(clean).max((1, 2), keepdims=True) / np.abs(second).max((1, 2), keepdims=True)
    other = np.roll(noise, 5, axis=0)
    other *= np.sqrt((noise**2).mean((1, 2), keepdims=True) / (other**2).mean((1, 2), keepdims=True))
    return {
        "all": (clean, noise),
        "mixed noise": (clean, ((noise + other) / np.sqrt(2)).astype(np.float32)),
        "Z alone": (clean * first, noise * first),
        "noise alone": (0 * clean, noise),
        "nearly clean": (clean, 0.01 * noise),
        "S alone": (late, noise),
        "two events": (clean + second, noise),
        "narrow band": narrow,
        "glitches": (clean, np.stack(faulty)),
    }


def evaluate(model: CDiffSD, table: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Mean SDR in dB under each condition, with default steps and no noise left; for noise alone, its suppression."""
    model.eval()
    result = {}
    for name, (clean, noise) in table.items():
        noisy = torch.from_numpy(clean + noise)
        estimate = np.concatenate([model.restore(part).cpu().numpy() for part in noisy.split(64)])
        silent = name == "noise alone"
        value = suppression_db(noise, estimate, axis=(-2, -1)) if silent else sdr_db(clean, estimate, axis=(-2, -1))
        result[name] = float(np.median(value) if silent else value.mean())
    return result


def train(
    arm: str, config: TrainingConfig, out: Path, events: WaveformDataset, noise: str, held_out: list[str]
) -> CDiffSD:
    """The model of an arm."""
    dataset = (GaussianNoise if "Gaussian" in arm else WaveformDataset)(noise, component_order="ZNE")
    if isinstance(dataset, GaussianNoise):
        dataset.coloured = "coloured" in arm
    dataset.filter(~dataset["station_code"].isin(held_out))
    changes = ARMS[arm][0]
    settings = {name: changes[name] for name in changes if hasattr(config.augmentations, name)}
    others: dict[str, Any] = {name: changes[name] for name in changes if name not in settings}
    augmentations = replace(config.augmentations, **settings)  # type: ignore[arg-type]
    return fit(events, dataset, out / arm.replace(" ", "-"), replace(config, augmentations=augmentations, **others))


def noise_of_stations(dataset: WaveformDataset, stations: list[str], like: pairs.Mixtures) -> np.ndarray:
    """Noise of some stations, (mixture, component, samples), as strong as that of other mixtures."""
    store = pairs.load_noise(dataset.filter(dataset["station_code"].isin(stations), inplace=False), pairs.band_pass())
    records = np.random.default_rng(0).integers(len(store), size=len(like.noise))
    noise = np.stack([store.get_sample(index)[0][:, : like.noise.shape[-1]] for index in records])
    power = [(x**2).mean((1, 2), keepdims=True) for x in (like.noise, noise)]
    return (noise * np.sqrt(power[0] / power[1])).astype(np.float32)


def main() -> None:
    """Train and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", default=str(DATA / "events"))
    parser.add_argument("--noise", default=str(DATA / "noise"))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM")
    parser.add_argument("--held-out", nargs="+", default=[], metavar="STATION", help="noise to evaluate on")
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = read_config(
        "default",
        steps=args.steps,
        validate_every=args.steps,
        validation_events=1,
        precision="bf16-mixed",
        events=(),
        noise=(),
    )
    band = pairs.band_pass()
    events, noise = (WaveformDataset(x, component_order="ZNE") for x in (args.events, args.noise))
    held = held_mixtures(events, noise)
    table, rows = conditions(held, band), {}
    if args.held_out:
        table["unseen noise"] = (held.clean, noise_of_stations(noise, args.held_out, held))
    for arm in args.arms:
        rows[arm] = evaluate(train(arm, config, args.out, events, args.noise, args.held_out), table)
        shown = pd.DataFrame(rows).T.rename_axis("arm")
        marked = shown.map("{:.1f}".format)
        for name in {name for name in rows if ARMS[name][1] in table}:
            marked.loc[name, ARMS[name][1]] = f"**{marked.loc[name, ARMS[name][1]]}**"
        if args.results:
            args.results.write_text(markdown(marked.reset_index()) + "\n")
    print(markdown(marked.reset_index()))


if __name__ == "__main__":
    main()
