"""How probable must picks of ``seisbench_cdiffsd.pick`` be, to be false so many times an hour? What do they find then?

    python benchmarks/thresholds.py

False picks are those of a day of noise, reversed in time, with an earthquake every four minutes: ``continuous.day``.
Thresholds are those of the dev split, which no weights were trained on and no result is reported of: its calm noise,
and its earthquakes, reversed, which stand for bursts, a third of the day. What they give on the day of the test split
is printed first: false picks an hour, and recall; of the noisy record alone and the denoised record alone as well, each
with the threshold of its own for this rate. Then come the lines for ``seisbench_cdiffsd/picking.py``, which hold for
these weights.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import conftest  # noqa: F401  where the weights of pickers are
import numpy as np
import torch
from baselines import NetworkDenoiser, available, pickers
from continuous import START, day, denoised, found_and_false
from networks import peaks, together
from options import ALL, Options
from seisbench.models import WaveformModel
from testdata import open_sources, split_of

from seisbench_cdiffsd.denoising import DRY, default_model, parameters
from seisbench_cdiffsd.evaluation import usual_threshold
from seisbench_cdiffsd.weights import DEFAULT

#: False picks an hour, hours of a day, and the lowest threshold, as a share of the picker's usual one: below it,
#: SeisBench may take two phases for one.
RATES, HOURS, LEAST = (1, 2, 5, 10), 24.0, 1 / 10
OPTIONS = Options(limit=ALL, picker=("PhaseNet", "EQTransformer"))
#: Recalls of a phase, by probability, and false picks of one input.
Counts = dict[tuple[str, str, str], tuple[np.ndarray, np.ndarray]]


def picked(split: str, folder: Path, using: Mapping[str, WaveformModel]) -> tuple[float, Counts]:
    """Hours without an earthquake, and picks by picker, phase and input: noisy, denoised, and both together."""
    options = replace(OPTIONS, split=split)
    sources = open_sources(options, folder)
    if split == "dev":
        bursts = [split_of(dataset, split) for dataset in sources.events]
        sources = replace(sources, noise={**sources.noise, "busy": bursts})
    record, labels = day(sources, HOURS, options)
    streams = {
        name: denoised(record[None], ["DAY"], [0], denoiser)
        for name, denoiser in (("noisy", None), ("denoised", NetworkDenoiser(default_model(), dry=DRY["picking"])))
    }
    counts = {}
    for picker, network in using.items():
        picks = {name: peaks(network, stream, START) for name, stream in streams.items()}
        picks["together"] = together(network, streams["noisy"], streams["denoised"], START)
        for phase in "PS":
            counts |= {(picker, phase, on): found_and_false(table, labels, phase) for on, table in picks.items()}
    return HOURS - (labels["end"] - labels["start"]).sum() / 3600, counts


def least_of(false: np.ndarray, hours: float, lowest: float) -> Iterator[float]:
    """For each rate, the next thousandth above the first probability that is not allowed, and at least `lowest`."""
    ordered = np.append(np.sort(false)[::-1], 0.0)
    for rate in RATES:
        above = np.floor(1000 * ordered[min(int(rate * hours), len(false))] + 1) / 1000
        yield max(round(float(above), 3), round(lowest, 3))


def main() -> None:
    torch.set_num_threads(1)
    using = available(pickers(OPTIONS), {})
    with tempfile.TemporaryDirectory() as folder:
        (hours, chosen), (quiet, reported) = (picked(split, Path(folder), using) for split in ("dev", "test"))
    print(f"{hours:.1f} hours of noise to choose by, {quiet:.1f} to report")
    thresholds: dict[str, dict[str, dict[int, float]]] = {}
    for (picker, phase, on), (_, false) in chosen.items():
        least = [*least_of(false, hours, LEAST * usual_threshold(using[picker]))]
        found, wrong = reported[picker, phase, on]
        rates = [np.sum(wrong >= value) / quiet for value in least]
        recall = [np.mean(found >= value) for value in least]
        shown = (("false", rates, ".1f"), ("found", recall, ".2f"), ("threshold", least, ".3f"))
        told = "  ".join(f"{name} {' '.join(format(x, how) for x in values)}" for name, values, how in shown)
        print(f"{picker:13} {phase} {on:8}  {told}")
        if on == "together":
            thresholds.setdefault(f"{picker} original", {})[phase] = dict(zip(RATES, least, strict=True))
    print(f'CALIBRATED = ("{DEFAULT}, version {default_model().weights_version}", "{parameters(default_model())}")')
    print(f"THRESHOLDS = {thresholds}")


if __name__ == "__main__":
    main()
