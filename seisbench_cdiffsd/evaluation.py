"""Judge denoisers on fixed mixtures: how well the waveform is kept, and what a picker finds in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from seisbench.models import WaveformModel
from tqdm.auto import tqdm

from seisbench_cdiffsd import metrics
from seisbench_cdiffsd.pairs import Mixtures
from seisbench_cdiffsd.picking import match_labels, pick_windows

#: Denoises in-band windows (batch, 3, samples) at 100 Hz.
WindowDenoiser = Callable[[NDArray[np.float32]], NDArray[np.float32]]

#: Probability from which on a pick counts, by picker.
THRESHOLDS = {"PhaseNet": 0.3, "EQTransformer": 0.1}
#: Largest residual in seconds of a right pick.
TOLERANCE = 0.5


def evaluate(
    mixtures: Mixtures,
    denoisers: Mapping[str, WindowDenoiser],
    pickers: Mapping[str, WaveformModel],
    sampling_rate: float = 100.0,
) -> pd.DataFrame:
    """
    Run denoisers on mixtures and pickers on what they return.

    :param mixtures: Fixed mixtures
    :param denoisers: Denoisers by name; "noisy" and "clean" are added
    :param pickers: SeisBench pickers by name
    :param sampling_rate: Sampling rate in Hz
    :return: One row a mixture and denoiser: ``denoiser``, ``mixture``, ``input_snr_db``, ``sdr_db``, ``correlation``
        (mean over components), ``amplitude_ratio``, and for each picker and phase ``<picker>_<phase>_residual`` in
        seconds (NaN where missed), ``<picker>_<phase>_label`` (whether there is one) and ``<picker>_<phase>_picks``
    """
    estimates: dict[str, WindowDenoiser] = {
        "noisy": lambda noisy: noisy,
        "clean": lambda noisy: mixtures.clean,
        **denoisers,
    }
    return pd.concat(
        [
            _judge(mixtures, denoise(mixtures.noisy), pickers, sampling_rate).assign(denoiser=name)
            for name, denoise in tqdm(estimates.items(), desc="Evaluating", leave=False, disable=None)
        ],
        ignore_index=True,
    )


def _judge(
    mixtures: Mixtures, estimate: NDArray[np.float32], pickers: Mapping[str, WaveformModel], sampling_rate: float
) -> pd.DataFrame:
    clean = mixtures.clean
    rows = pd.DataFrame(
        {
            "mixture": np.arange(len(clean)),
            "input_snr_db": mixtures.labels["input_snr_db"].to_numpy(),
            "sdr_db": metrics.sdr_db(clean, estimate, axis=(-2, -1)),
            "correlation": _mean_over_live(metrics.cross_correlation(clean, estimate)),
            "amplitude_ratio": metrics.amplitude_ratio(clean, estimate, axis=(-2, -1)),
        }
    )
    for name, picker in pickers.items():
        threshold = THRESHOLDS.get(name, 0.3)
        picks = pick_windows(picker, estimate, sampling_rate, P_threshold=threshold, S_threshold=threshold)
        for phase in "PS":
            times = mixtures.labels[f"{phase.lower()}_sample"].to_numpy() / sampling_rate
            labels = pd.DataFrame({"record": np.arange(len(times)), "phase": phase, "time": times}).dropna()
            matched = match_labels(picks, labels, TOLERANCE).set_index("record")["residual"]
            counts = picks[picks["phase"] == phase].groupby("record").size()
            rows[f"{name}_{phase}_residual"] = matched.reindex(rows["mixture"]).to_numpy()
            rows[f"{name}_{phase}_label"] = np.isfinite(times)
            rows[f"{name}_{phase}_picks"] = counts.reindex(rows["mixture"], fill_value=0).to_numpy()
    return rows


def _mean_over_live(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the components that are not dead in the reference."""
    live = np.isfinite(correlation)
    return np.where(live, correlation, 0).sum(-1) / live.sum(-1)


def summarize(rows: pd.DataFrame, by: tuple[str, ...] = ("denoiser",)) -> pd.DataFrame:
    """
    Means of the columns of :py:func:`evaluate`, one row a group.

    :param rows: Rows of :py:func:`evaluate`
    :param by: Columns to group by, in order
    :return: Mean SDR (dB) and correlation, median amplitude ratio, and by picker and phase the recall and the mean and
        standard deviation of the residual in seconds
    """
    result = {}
    for key, group in rows.groupby(list(by), sort=False):
        summary = {
            "sdr_db": group["sdr_db"].replace(np.inf, np.nan).mean(),
            "correlation": group["correlation"].mean(),
            "amplitude_ratio": group["amplitude_ratio"].median(),
        }
        for column in [name for name in rows if name.endswith("_residual")]:
            stem = column.removesuffix("_residual")
            residual = group.loc[group[f"{stem}_label"], column]
            summary[f"{stem}_recall"] = residual.notna().mean()
            summary[f"{stem}_mean"] = residual.mean()
            summary[f"{stem}_std"] = residual.std(ddof=0)
        result[key] = summary
    return pd.DataFrame.from_dict(result, orient="index").rename_axis(list(by))
