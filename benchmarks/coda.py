"""Is the coda left alone?

``python benchmarks/coda.py`` denoises long records of clear earthquakes in successive windows, as in a continuous
record, and reports how much of their amplitude is left, by the time after P.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import testdata
import torch
from obspy import Stream, Trace
from report import markdown

from seisbench_cdiffsd.data import pairs
from seisbench_cdiffsd.data.augmentations import P_KEY
from seisbench_cdiffsd.data.datasets import open_dataset
from seisbench_cdiffsd.files.continuous import load
from seisbench_cdiffsd.model import CDiffSD
from seisbench_cdiffsd.training.feeding import CLEAN_SNR

#: Seconds of a piece, and its lowest SNR in dB against the noise before P.
PIECE_SECONDS, CLEAR = 5.0, 15.0
#: Seconds after P at which groups of pieces start.
TIMES = (0.0, 10.0, 20.0, 30.0, 40.0, 60.0)


def kept(model: CDiffSD, record: np.ndarray, p: int, **options: float) -> pd.DataFrame:
    """
    Share of the amplitude that is left of each clear piece of a record.

    :param record: Record in band, (component, samples)
    :param p: Sample of the P onset
    :param options: Arguments of :py:meth:`CDiffSD.denoise`
    """
    header = {"sampling_rate": testdata.RATE}
    stream = Stream([Trace(x, {**header, "channel": f"HH{c}"}) for x, c in zip(record, "ZNE", strict=True)])
    estimate = np.stack([trace.data for trace in model.denoise(stream, **options)])
    noise = np.mean(record[:, : p - int(testdata.RATE / 5)] ** 2)
    size = int(PIECE_SECONDS * testdata.RATE)
    rows = []
    for first in range(p, record.shape[1] - size, size):
        truth, found = record[:, first : first + size], estimate[:, first : first + size]
        if 10 * np.log10(np.mean(truth**2) / noise) >= CLEAR:
            rows.append(((first - p) / testdata.RATE, np.sum(truth * found) / np.sum(truth**2)))
    return pd.DataFrame(rows, columns=["time", "kept"])


def main() -> None:
    """Denoise and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", default=str(testdata.SHARED / "data" / "events"), help="dataset of earthquakes")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--models", nargs="+", default=["base"], help="names or paths of weights")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    events = testdata.split_of(open_dataset(args.events), args.split)
    records = pairs.load_earthquakes(events, pairs.band_pass(), CLEAN_SNR, mute=False)
    table = {}
    for name in args.models:
        model = load(name)
        for how, options in {"noise left": {}, "no noise left": {"leave_noise": False}}.items():
            parts = []
            for record, metadata in records.samples:
                if metadata[P_KEY] > testdata.RATE:
                    parts.append(kept(model, np.asarray(record, np.float64), int(metadata[P_KEY]), **options))
            pieces = pd.concat(parts)
            groups = pieces.groupby(pd.cut(pieces["time"], [*TIMES, np.inf], right=False), observed=True)["kept"]
            table[f"{Path(name).name}, {how}"] = groups.agg(
                lambda x: f"{x.quantile(0.1):.2f}, {x.median():.2f} ({len(x)})"
            )
    result = pd.DataFrame(table).T
    result.columns = [f"{part.left:g} s" for part in result.columns]
    print("Amplitude that is left, by seconds after P: lowest tenth, median, and number of pieces.\n")
    print(markdown(result.rename_axis("weights").reset_index()))


if __name__ == "__main__":
    main()
