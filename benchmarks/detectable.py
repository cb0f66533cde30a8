"""Which P onsets could be found, and what becomes of those that are not?

``python benchmarks/detectable.py`` sorts mixtures by how far P stands out of the noise, and reports for each denoiser
how many P onsets of each class PhaseNet finds, and where its nearest pick lies.

How far P stands out is the evidence for it of a detector that knows the spectra of P and of the noise: the expected log
of the likelihood ratio of two Gaussian records, the sum of ``r - log(1 + r)`` over all components, frequencies and
frames of the first 1.5 s of P (until S, if that is earlier), where r is the ratio of the powers of P and noise there.
With much evidence and no pick, it is the denoiser or the picker that fails, and not the record.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import suite
import testdata
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from report import markdown

from seisbench_cdiffsd.data.pairs import Mixtures
from seisbench_cdiffsd.evaluation import THRESHOLDS
from seisbench_cdiffsd.picking import load_picker, pick_windows

#: Samples of a frame; half of it lies between two frames.
FRAME = 64
#: Samples of P that count, and samples beside P whose noise does not.
P_SAMPLES, NEAR = 150, 200
#: Limits of classes of evidence, and of residuals in s with their names.
CLASSES = (-1.0, 5.0, 20.0, 80.0, 320.0, np.inf)
PLACES = {"2 to 5 s early": (-5, -2), "0.5 to 2 s early": (-2, -0.5), "right": (-0.5, 0.5), "to 5 s late": (0.5, 5)}


def evidence(mixtures: Mixtures) -> NDArray[np.float64]:
    """How far P stands out of the noise of each mixture; NaN where P is not in the window."""
    result = np.full(len(mixtures.clean), np.nan)
    for i, (p, s) in enumerate(mixtures.labels[["p_sample", "s_sample"]].to_numpy(float)):
        clean, noise = (_powers(x[i]) for x in (mixtures.clean, mixtures.noise))
        time = np.arange(clean.shape[1]) * FRAME / 2 + FRAME / 2
        arrival = (time >= p) & (time <= np.nanmin([p + P_SAMPLES, s]))
        if arrival.any():
            ratio = clean[:, arrival].mean(1) / (noise[:, abs(time - p) > NEAR].mean(1) + 1e-12)
            result[i] = (ratio - np.log1p(ratio)).sum() * arrival.sum() / 2  # frames overlap by half
    return result


def _powers(record: NDArray[np.float32]) -> NDArray[np.float64]:
    """Powers (component, frame, frequency) of the frames of a record."""
    frames = sliding_window_view(record, FRAME, axis=-1)[:, :: FRAME // 2]
    return np.abs(np.fft.rfft(frames * np.hanning(FRAME + 2)[1:-1])) ** 2


def nearest(picks: pd.DataFrame, onsets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Residual in s of the P pick that is nearest to the onset of each record; inf without one."""
    p = picks[picks["phase"] == "P"]
    residual = pd.Series(p["time"].to_numpy(float) - onsets[p["record"].to_numpy(int)], p["record"].to_numpy(int))
    first = residual.iloc[np.argsort(residual.abs().to_numpy())].groupby(level=0).first()
    return first.reindex(range(len(onsets)), fill_value=np.inf).to_numpy()


def main() -> None:
    """Denoise, pick and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", help="dataset of earthquakes")
    parser.add_argument("--noise", help="dataset of noise")
    parser.add_argument("--split", default="dev")
    parser.add_argument(
        "--models", nargs="+", default=["noise left", "CDiffSD, 2 steps"], help="rows, or parts of them"
    )
    parser.add_argument("--limit", type=int, help="number of earthquakes")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    options = testdata.Options(args.events, args.noise, args.split, args.limit, tuple(args.models))
    with tempfile.TemporaryDirectory() as folder:
        mixtures = testdata.load_data(options, Path(folder)).mixtures
    onsets = mixtures.labels["p_sample"].to_numpy(float) / testdata.RATE
    classes = pd.cut(evidence(mixtures), list(CLASSES))
    picker, found, places = load_picker("PhaseNet"), {}, {}
    denoisers = {"noisy": mixtures.noisy, "clean": mixtures.clean, **suite.load_denoisers(options).items}
    for name, denoise in denoisers.items():
        estimate = denoise(mixtures.noisy) if callable(denoise) else denoise
        residual = nearest(pick_windows(picker, estimate, [THRESHOLDS["PhaseNet"]])[0], onsets)
        right = pd.Series(abs(residual) <= PLACES["right"][1])
        found[name] = right.groupby(classes, observed=False).mean().round(2)
        places[name] = {place: int(((residual > a) & (residual <= b)).sum()) for place, (a, b) in PLACES.items()}
        places[name]["none or elsewhere"] = len(onsets) - sum(places[name].values())
    table = pd.DataFrame(found).T
    counts = classes.value_counts()
    table.columns = [f"{part.left:g} to {part.right:g} ({counts[part]})" for part in table.columns]
    print("P recall of PhaseNet by the evidence for P (number of mixtures).\n")
    print(markdown(table.rename_axis("input").reset_index()))
    print("\nWhere the pick nearest to P lies, of all mixtures.\n")
    print(markdown(pd.DataFrame(places).T.rename_axis("input").reset_index()))


if __name__ == "__main__":
    main()
