"""Which of several denoisers is better, by many draws of noise?

``python benchmarks/draws.py --models "CDiffSD, 2 steps, noise left" DIR/model ...`` mixes the same earthquakes with
other noise for each seed, and reports the statistics of all mixtures together, and what the last row has more than
each other one, with a 95 % interval from a bootstrap over earthquakes (and stations of noise, at equal false picks).
One draw of noise changes a recall by as much as trainings differ by: choose by several, and by the interval.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import suite
import testdata
import torch
from numpy.typing import NDArray
from report import markdown

from seisbench_cdiffsd import evaluation, summary
from seisbench_cdiffsd.evaluation import WindowDenoiser
from seisbench_cdiffsd.picking import WeightsUnavailable, load_picker

#: False picks an hour at which recalls are compared.
PER_HOUR = 10, 20
#: Columns of the table: metrics of the waveforms, and of each picker.
WAVEFORM, PICKER = (
    ("sdr_gain_db", "correlation", "amplitude"),
    ("P_recall_0.1", "P_recall_0.5", "P_found_10", "P_found_20", "P_per_hour", "P_std", "S_recall_0.5"),
)


def mean_of(denoisers: Sequence[WindowDenoiser]) -> WindowDenoiser:
    """A denoiser that returns the mean of what several make of a record."""

    def denoise(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.mean([np.asarray(denoiser(windows)) for denoiser in denoisers], axis=0)

    return denoise


def statistics(rows: pd.DataFrame, noise: pd.DataFrame, reference: str | None = None) -> pd.DataFrame:
    """
    Statistics of all draws, or what `reference` has more than the others.

    :param rows: Rows of the mixtures of all seeds
    :param noise: Rows of noise alone
    :param reference: A denoiser
    :return: As of :py:func:`seisbench_cdiffsd.summary.summarize`
    """
    per_hour = summary.recall_at(rows, noise, PER_HOUR, reference=reference)
    return pd.concat(
        [summary.summarize(rows, reference=reference), summary.summarize(noise, reference=reference), per_hour]
    ).drop_duplicates(["denoiser", "metric"])


def table(found: pd.DataFrame, pickers: Sequence[str], intervals: bool) -> pd.DataFrame:
    """One row for each denoiser, in their order."""
    text = found["value"].map("{:.3f}".format)
    if intervals:
        text += " [" + found["low"].map("{:.3f}".format) + ", " + found["high"].map("{:.3f}".format) + "]"
    wide = found.assign(text=text).pivot(index="denoiser", columns="metric", values="text")
    columns = [*WAVEFORM, *(f"{picker}_{metric}" for picker in pickers for metric in PICKER)]
    columns = [name for name in columns if name in wide]
    return wide.loc[found["denoiser"].unique(), columns].fillna("").reset_index()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    testdata.add_arguments(parser)
    parser.add_argument(
        "--models", nargs="+", default=["CDiffSD, 2 steps, noise left"], help="rows, parts of them, or paths"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3], help="one draw of noise for each")
    parser.add_argument("--mean", action="store_true", help="one more row: the mean of all of these")
    parser.add_argument("--picker", nargs="+", default=["PhaseNet"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        compare(args)
    except (testdata.DataError, WeightsUnavailable) as error:
        parser.error(str(error))


def compare(args: argparse.Namespace) -> None:
    """Draw, denoise, pick and print."""
    pickers, parts, noise = {name: load_picker(name) for name in args.picker}, [], None
    denoisers = suite.load_denoisers(testdata.options_of(args, steps=(2,))).items
    if args.mean:
        denoisers["mean"] = mean_of(list(denoisers.values()))
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            data = testdata.load_data(testdata.options_of(args, seed=seed), Path(folder))
        if noise is None:
            noise = evaluation.evaluate_noise(data.noise, data.noise_metadata, denoisers, pickers)
        parts.append(evaluation.evaluate(data.mixtures, denoisers, pickers))
    rows, last = pd.concat(parts, ignore_index=True), list(denoisers)[-1]
    rows = rows[~rows["denoiser"].isin(["clean", "oracle mask"])]
    lowest = rows["input_snr_db"].min()
    for title, part in ("All mixtures", rows), (f"At {lowest:g} dB", rows[rows["input_snr_db"] == lowest]):
        print(f"{title}, {len(args.seeds)} draws.\n\n{markdown(table(statistics(part, noise), args.picker, False))}\n")
    differences = statistics(rows, noise, last).query("denoiser != @last")
    print(f"What {last} has more than another.\n\n{markdown(table(differences, args.picker, True))}")


if __name__ == "__main__":
    main()
