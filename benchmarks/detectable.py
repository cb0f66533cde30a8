"""Which P onsets could be found, and what becomes of those that are not?

``python benchmarks/detectable.py`` sorts mixtures by how far P stands out of the noise, and reports for each denoiser
how many P onsets of each class PhaseNet finds, where its nearest pick lies, and how much of the energy of P is kept.
With ``--repair``, it asks what the picks were lost to: what if the estimate were better in one respect near P?

How far P stands out is the evidence for it of a detector that knows the spectra of P and of the noise: the expected log
of the likelihood ratio of two Gaussian records, the sum of ``r - log(1 + r)`` over all components, frequencies and
frames of the first 1.5 s of P (until S, if that is earlier), where r is the ratio of the powers of P and noise there.
With much evidence and no pick, it is the denoiser or the picker that fails, and not the record.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import suite
import testdata
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from report import markdown
from scipy.ndimage import uniform_filter1d

from seisbench_cdiffsd.data.pairs import Mixtures
from seisbench_cdiffsd.evaluation import THRESHOLDS, WindowDenoiser
from seisbench_cdiffsd.picking import WeightsUnavailable, load_picker, pick_windows

#: Samples of a frame; half of it lies between two frames.
FRAME = 64
#: Samples of P that count, samples beside P whose noise does not, and samples before P that are repaired.
P_SAMPLES, NEAR, BEFORE = 150, 200, 100
#: Samples of a piece of P whose energy is repaired.
PIECE = 50
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


def kept(mixtures: Mixtures, estimate: NDArray[np.float32]) -> NDArray[np.float64]:
    """Energy of P in an estimate, relative to that in the clean record, in dB."""
    energies = [(np.square(x, dtype=np.float64) * _arrival(mixtures)).sum((1, 2)) for x in (estimate, mixtures.clean)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return 10 * np.log10(energies[0] / energies[1])


def repaired(mixtures: Mixtures, estimate: NDArray[np.float32]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """An estimate that is made better in one respect, for several of them, by name."""
    time, p = np.arange(estimate.shape[-1]), mixtures.labels["p_sample"].to_numpy(float)[:, None, None]
    before, arrival = (time >= p - BEFORE) & (time < p), _arrival(mixtures)
    yield "silence in the second before P", np.where(before, 0, estimate)
    gain = np.sqrt(_energies(mixtures.clean) / (_energies(estimate) + 1e-12))
    yield "P as strong as it is", np.where(arrival, gain * estimate, estimate)
    yield "clean before P", np.where(time < p, mixtures.clean, estimate)
    yield "clean near P", np.where(before | arrival, mixtures.clean, estimate)
    yield "clean but for what is near P", np.where(before | arrival, estimate, mixtures.clean)


def _arrival(mixtures: Mixtures) -> NDArray[np.bool_]:
    """Which samples are the first of P, until S, (mixture, 1, sample)."""
    time = np.arange(mixtures.clean.shape[-1])
    p, s = mixtures.labels[["p_sample", "s_sample"]].to_numpy(float).T[..., None, None]
    return (time >= p) & (time < np.fmin(p + P_SAMPLES, s))


def _energies(records: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean powers of pieces around each sample, of all components together, (record, 1, sample)."""
    power = np.square(records, dtype=np.float64).sum(1, keepdims=True)
    return uniform_filter1d(power, PIECE, axis=-1, mode="constant")


def estimates(
    mixtures: Mixtures, denoisers: dict[str, WindowDenoiser], repair: bool
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """What there is to pick on, by name: the estimates, and those repaired before noise was left in them."""
    yield "noisy", mixtures.noisy
    yield "clean", mixtures.clean
    for name, denoise in denoisers.items():
        estimate = denoise(mixtures.noisy)
        yield name, estimate
        silent = name.removesuffix(", noise left")
        if repair and silent != name and silent in denoisers:
            alone = denoisers[silent](mixtures.noisy)
            for what, better in repaired(mixtures, alone):
                yield f"{name}: {what}", (estimate + better - alone).astype(np.float32)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    testdata.add_arguments(parser)
    parser.add_argument(
        "--models", nargs="+", default=["noise left", "CDiffSD, 2 steps"], help="rows, or parts of them"
    )
    parser.add_argument("--repair", action="store_true", help="repair estimates with the clean record, in several ways")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        sort_out(args)
    except (testdata.DataError, WeightsUnavailable) as error:
        parser.error(str(error))


def sort_out(args: argparse.Namespace) -> None:
    """Denoise, pick and print."""
    options = testdata.options_of(args)
    with tempfile.TemporaryDirectory() as folder:
        mixtures = testdata.load_data(options, Path(folder)).mixtures
    onsets = mixtures.labels["p_sample"].to_numpy(float) / testdata.RATE
    classes = pd.cut(evidence(mixtures), list(CLASSES))
    picker, found, places, energies = load_picker("PhaseNet"), {}, {}, {}
    denoisers = suite.load_denoisers(options).items
    for name, estimate in estimates(mixtures, denoisers, args.repair):
        residual = nearest(pick_windows(picker, estimate, [THRESHOLDS["PhaseNet"]])[0], onsets)
        right = pd.Series(abs(residual) <= PLACES["right"][1])
        found[name] = [*right.groupby(classes, observed=False).mean(), right.mean()]
        if name in denoisers:
            energies[name] = pd.Series(kept(mixtures, estimate)).groupby(classes, observed=False).median()
        places[name] = {place: int(((residual > a) & (residual <= b)).sum()) for place, (a, b) in PLACES.items()}
        places[name]["none or elsewhere"] = len(onsets) - sum(places[name].values())
    counts = classes.value_counts()
    names = [f"{part.left:g} to {part.right:g} ({counts[part]})" for part in counts.sort_index().index]
    print("P recall of PhaseNet by the evidence for P (number of mixtures).\n")
    print(markdown(table(found, [*names, "all"]).round(2)))
    print("\nEnergy of P that is kept, in dB, median; noise that is left there counts too.\n")
    print(markdown(table(energies, names).round(1)))
    print("\nWhere the pick nearest to P lies, of all mixtures.\n")
    print(markdown(table(places)))


def table(rows: dict[str, Any], columns: list[str] | None = None) -> pd.DataFrame:
    """A table with a row for each input."""
    result = pd.DataFrame(rows).T
    return (result.set_axis(columns, axis=1) if columns else result).rename_axis("input").reset_index()


if __name__ == "__main__":
    main()
