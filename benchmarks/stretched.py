"""What becomes of earthquakes of durations that are rare in the data?

``python benchmarks/stretched.py`` resamples clear earthquakes, S - P and all, by factors below 1 (as of a smaller,
closer one, at higher frequencies) and above 1 (a larger, more distant one), mixes them with noise, and reports for each
factor and input SNR how many P onsets PhaseNet finds, what SDR is gained, and how many earthquakes lose more than half
of their amplitude.
"""

from __future__ import annotations

import argparse
from copy import copy

import numpy as np
import pandas as pd
import suite
import testdata
import torch
from report import markdown

from seisbench_cdiffsd import evaluation
from seisbench_cdiffsd.data import pairs
from seisbench_cdiffsd.data.augmentations import State, Stretch
from seisbench_cdiffsd.data.datasets import noise_apart, noise_of, open_dataset
from seisbench_cdiffsd.picking import load_picker
from seisbench_cdiffsd.summary import TOLERANCES

FACTORS, SNRS = (0.3, 0.5, 1.0, 2.0, 3.0, 5.0), (0.0, 10.0)


def stretched(records: pairs.InMemory, factor: float) -> pairs.InMemory:
    """The same records, all of them resampled by a factor."""
    result, stretch = copy(records), Stretch(pairs.band_pass(), factor, factor, probability=1)
    result.samples = []
    for index in range(len(records)):
        state: State = {"X": records.get_sample(index)}
        stretch(state)
        result.samples.append(state["X"])
    return result


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each denoiser and input SNR, of one factor."""
    groups = rows.assign(
        found=rows["PhaseNet_P_residual"].abs() <= max(TOLERANCES),
        lost=rows["log10_amplitude"] < np.log10(0.5),
    ).groupby(["denoiser", "input_snr_db"], sort=False)
    return groups.agg(P=("found", "mean"), gain=("sdr_gain_db", "median"), halved=("lost", "mean"))


def main() -> None:
    """Denoise, pick and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", default=str(testdata.SHARED / "data" / "events"), help="dataset of earthquakes")
    parser.add_argument("--noise", default=str(testdata.SHARED / "data" / "noise"), help="dataset of noise")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--models", nargs="+", default=["CDiffSD, 2 steps, noise left"], help="rows, or parts of them")
    parser.add_argument("--factors", nargs="+", type=float, default=FACTORS)
    parser.add_argument("--limit", type=int, help="number of earthquakes")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    options = testdata.Options(args.events, args.noise, args.split, args.limit, tuple(args.models), steps=(2,))
    denoisers, picker = suite.load_denoisers(options).items, {"PhaseNet": load_picker("PhaseNet")}
    events, noise = (open_dataset(name) for name in (args.events, args.noise))
    band = pairs.band_pass()
    records = pairs.load_earthquakes(testdata.split_of(events, args.split), band, options.clean_snr, mute=True)
    apart = noise_apart(noise_of(testdata.split_of(noise, args.split)), [events], args.split)
    silence = pairs.load_noise(apart, band, testdata.WINDOW)
    chances, tables = pairs.source_weights(silence.metadata, "station_code"), {}
    for factor in args.factors:
        mixed = pairs.mixtures(
            stretched(records, factor), silence, args.limit, SNRS, testdata.WINDOW, noise_chances=chances
        )
        tables[factor] = summarize(evaluation.evaluate(mixed, denoisers, picker))
    table = pd.concat(tables, names=["factor"]).drop(["clean", "oracle mask"], level="denoiser")
    print("P recall of PhaseNet, median SDR gain in dB, and share that keeps less than half of its amplitude.\n")
    print(markdown(table.round(2).reset_index()))


if __name__ == "__main__":
    main()
