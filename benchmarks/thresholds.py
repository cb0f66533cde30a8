"""How probable must picks of ``seisbench_cdiffsd.pick`` be, to be false so many times an hour? What do they find then?

    python benchmarks/thresholds.py

False picks are those on records reversed in time. Thresholds are those of the dev split, which no weights were trained
on and no result is reported of: calm noise, and half as many minutes of earthquakes, which stand for bursts. What they
give on the test split is printed first: false picks an hour, and recall on mixtures by the paper's protocol; of the
noisy record alone and the denoised record alone as well, each with the threshold of its own for this rate. Then come
the lines for ``seisbench_cdiffsd/picking.py``, which hold for these weights.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import conftest  # noqa: F401  where the weights of pickers are
import numpy as np
import pandas as pd
import testdata
import torch
from baselines import PICKING, WINDOW, available, denoisers, pickers
from evaluation import evaluate, evaluate_noise
from options import ALL, Options

from seisbench_cdiffsd.data.datasets import open_dataset, take_split
from seisbench_cdiffsd.data.pairs import background
from seisbench_cdiffsd.denoising import default_model, parameters
from seisbench_cdiffsd.evaluation import usual_threshold
from seisbench_cdiffsd.weights import DEFAULT

#: False picks an hour, and the lowest threshold, as a share of the picker's usual one: false picks between those of an
#: earthquake are not counted here, and what is silent has none.
RATES, LEAST = (1, 2, 5, 10), 1 / 3
#: Splits of datasets of noise to choose by, and to report.
CHOOSE = {"calm": (("noise", "dev"), ("noise2", "dev")), "busy": (("events", "dev"), ("events2", "dev"))}
REPORT = {"calm": (("noise", "test"), ("noise2", "test")), "busy": (("busy", "test"),)}
OPTIONS = Options(limit=ALL, draws=4, picker=("PhaseNet", "EQTransformer"))


def highest(rows: pd.DataFrame, column: str) -> dict[str, np.ndarray]:
    """The highest probability of a pick on each record: noisy, denoised, and of both together."""
    names = {"noisy": "noisy", "denoised": PICKING, "together": f"{PICKING} + noisy"}
    return {key: rows.loc[rows["denoiser"] == name, column].to_numpy() for key, name in names.items()}


def least_of(probable: np.ndarray, lowest: float) -> list[float]:
    """For each rate, the next thousandth above the first probability that is not allowed, and at least `lowest`."""
    ordered = np.sort(probable)[::-1]
    allowed = (np.floor(1000 * ordered[int(rate * len(ordered) / 60)] + 1) / 1000 for rate in RATES)
    return [max(round(float(value), 3), lowest) for value in allowed]


def main() -> None:
    torch.set_num_threads(1)
    model, using = available({PICKING: denoisers(OPTIONS)[PICKING]}, {}), available(pickers(OPTIONS), {})
    noise = []
    for parts in (CHOOSE, REPORT):
        stores = {}
        for kind, names in parts.items():
            sets = [(open_dataset(str(testdata.SHARED / "data" / name), False), split) for name, split in names]
            taken = take_split if (kind, parts) == ("busy", CHOOSE) else testdata.usable
            stores[kind] = testdata.loaded([taken(dataset, split) for dataset, split in sets], background(WINDOW))
        records, metadata = testdata.noise_alone(stores, OPTIONS)
        places = {kind: np.flatnonzero(metadata["kind"] == f"reversed, {kind}") for kind in parts}
        if parts is CHOOSE:
            places["busy"] = np.random.default_rng(0).permutation(places["busy"])[: len(places["calm"]) // 2]
        backward = np.concatenate([*places.values()])
        noise.append(evaluate_noise(records[backward], metadata.iloc[backward], model, using))
    with tempfile.TemporaryDirectory() as folder:
        mixtures = testdata.load_data(OPTIONS, Path(folder)).mixtures["paper"]
    rows = evaluate(mixtures, model, using)
    size = [int(np.sum(x.loc[x["denoiser"] == "noisy", "hours"] * 60)) for x in noise]
    print(f"{size[0]} minutes of noise to choose by, {size[1]} and {len(mixtures.labels)} mixtures to report")
    lines = [f'CALIBRATED = ("{DEFAULT}, version {default_model().weights_version}", "{parameters(default_model())}")']
    for picker, network in using.items():
        lowest = round(LEAST * usual_threshold(network), 3)
        lines.append(f'    "{picker} original": {{')
        for phase in "PS":
            column = f"{picker}_{phase}_highest"
            chosen, reported = (highest(x, column) for x in noise)
            found = highest(rows[rows[column.replace("highest", "label")]], column)
            for on, probable in chosen.items():
                least = least_of(probable, lowest)
                false = [60 * np.mean(reported[on] >= value) for value in least]
                recall = [np.mean(found[on] >= value) for value in least]
                shown = (("false", false, ".1f"), ("found", recall, ".2f"), ("threshold", least, ".3f"))
                told = "  ".join(f"{name} {' '.join(format(x, how) for x in values)}" for name, values, how in shown)
                print(f"{picker:13} {phase} {on:8}  {told}")
            lines.append(f'        "{phase}": {dict(zip(RATES, least, strict=True))},')
        lines.append("    },")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
