"""Does a denoiser do better on the earthquakes, or on the noise, that it was trained on?

``python benchmarks/crossed.py`` mixes clear earthquakes of each split, and simulated ones, with noise of each split, as
many of each, and reports for every pair what is gained and what PhaseNet finds; the oracle mask tells how hard a pair
is in itself. Where training earthquakes
are denoised no better than others, it is not for want of earthquakes that no more is gained.
"""

from __future__ import annotations

import argparse
import tempfile

import pandas as pd
import suite
import testdata
import torch
from report import markdown
from simulation import write_simulated

from seisbench_cdiffsd import evaluation, summary
from seisbench_cdiffsd.data import pairs
from seisbench_cdiffsd.data.datasets import earthquakes_of, noise_apart, noise_of, open_dataset, some
from seisbench_cdiffsd.data.splits import SPLITS
from seisbench_cdiffsd.picking import WeightsUnavailable, load_picker

#: Seed of the simulated earthquakes, which is not that of any training.
SIMULATED_SEED = 1_000_003
#: Columns of the table, by metric.
COLUMNS = {
    "sdr_gain_db": "SDR gain (dB)",
    "correlation": "correlation",
    "PhaseNet_P_recall_0.5": "P recall",
    "PhaseNet_S_recall_0.5": "S recall",
}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", default=str(testdata.SHARED / "data" / "events"), help="dataset of earthquakes")
    parser.add_argument("--noise", default=str(testdata.SHARED / "data" / "noise"), help="dataset of noise")
    parser.add_argument("--models", nargs="+", default=["CDiffSD, 2 steps"], help="rows, parts of them, or paths")
    parser.add_argument("--window-snr", action="store_true", help="input SNR over the window, not over 10 s from P on")
    parser.add_argument("--limit", type=int, default=60, help="number of earthquakes of each kind")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        print(table(compare(args)))
    except (testdata.DataError, WeightsUnavailable, ValueError) as error:
        parser.error(" ".join(str(error).split()))


def compare(args: argparse.Namespace) -> pd.DataFrame:
    """Mix, denoise and pick: one row for each mixture and denoiser."""
    options = testdata.Options(models=tuple(args.models), steps=(2,), limit=args.limit, window_snr=args.window_snr)
    denoisers, pickers = suite.load_denoisers(options).items, {"PhaseNet": load_picker("PhaseNet")}
    earthquakes, noise = load_earthquakes(args.events, args.limit), load_noise(args.events, args.noise)
    parts = []
    for kind, records in earthquakes.items():
        for split, silence in noise.items():
            rows = evaluation.evaluate(testdata.mix(records, silence, options), denoisers, pickers)
            parts.append(rows.assign(earthquakes=kind, noise=split))
    return pd.concat(parts, ignore_index=True)


def load_earthquakes(name: str, limit: int) -> dict[str, pairs.InMemory]:
    """Clear earthquakes of each split of a dataset, and simulated ones."""
    band, events = pairs.band_pass(), open_dataset(name)
    with tempfile.TemporaryDirectory() as folder:
        write_simulated(folder, limit, SIMULATED_SEED)
        datasets = {split: testdata.split_of(events, split) for split in SPLITS}
        datasets["simulated"] = open_dataset(folder)
        spare = testdata.SPARE * limit
        return {
            kind: pairs.load_earthquakes(some(earthquakes_of(dataset), spare), band, testdata.CLEAN_SNR, mute=False)
            for kind, dataset in datasets.items()
        }


def load_noise(events_name: str, name: str) -> dict[str, pairs.InMemory]:
    """Noise of each split of a dataset."""
    band, events, noise = pairs.band_pass(), open_dataset(events_name), open_dataset(name)
    return {
        split: pairs.load_noise(
            noise_apart(noise_of(testdata.split_of(noise, split)), [events], split), band, testdata.WINDOW
        )
        for split in SPLITS
    }


def table(rows: pd.DataFrame) -> str:
    """The means of each pair and denoiser, with 95 % intervals."""
    found = summary.summarize(rows[rows["denoiser"] != "clean"], by=("earthquakes", "noise", "denoiser"))
    found = found[found["metric"].isin(COLUMNS)]
    digits = found["metric"].map(lambda name: 1 if name.endswith("_db") else 2)
    found["text"] = [
        f"{value:.{n}f} [{low:.{n}f}, {high:.{n}f}]"
        for value, low, high, n in zip(found["value"], found["low"], found["high"], digits, strict=True)
    ]
    index = ["earthquakes", "noise", "denoiser"]
    wide = found.pivot(index=index, columns="metric", values="text").reindex(columns=list(COLUMNS))
    order = found[index].drop_duplicates()
    return markdown(wide.loc[list(order.itertuples(index=False, name=None))].rename(columns=COLUMNS).reset_index())


if __name__ == "__main__":
    main()
