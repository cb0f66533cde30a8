"""Evaluate denoisers: how well they keep the waveform, what pickers find in it, and what they pick in noise alone.

All results are rows, one for each record and denoiser, which :py:mod:`summary` turns into tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from baselines import oracle_mask
from numpy.typing import NDArray
from seisbench.models import WaveformModel
from summary import TOLERANCES
from tqdm.auto import tqdm

from seisbench_cdiffsd import metrics
from seisbench_cdiffsd.data.augmentations import P_KEY, S_KEY
from seisbench_cdiffsd.data.pairs import Mixtures
from seisbench_cdiffsd.picking import PICK_COLUMNS, match_labels, pick_windows
from seisbench_cdiffsd.streams.filtering import SAMPLING_RATE

Array = NDArray[np.float32]
Floats = NDArray[np.float64]
#: Denoises in-band windows (batch, 3, samples) at the model's rate.
WindowDenoiser = Callable[[Array], Array]

#: Lowest probability of a pick, by class of the picker, and for others.
THRESHOLDS, THRESHOLD = {"PhaseNet": 0.3, "EQTransformer": 0.1}, 0.3
#: Thresholds at which picks are found, to compare denoisers where false picks are equally rare. At a low one, arrivals
#: are one pick if the probability does not fall below half of it between them.
LADDER = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
#: Picks of one phase that are closer than this, in seconds, are one pick.
SAME_PICK = 0.5
#: Bounds of classes of S - P times in seconds; a second corresponds to about 8 km of epicentral distance.
SP_CLASSES = (0, 2, 4, 8, np.inf)


def evaluate(
    mixtures: Mixtures,
    denoisers: Mapping[str, WindowDenoiser],
    pickers: Mapping[str, WaveformModel],
    sampling_rate: float = SAMPLING_RATE,
    unions: Sequence[str] = (),
    full_band: Mixtures | None = None,
) -> pd.DataFrame:
    """
    Run denoisers on mixtures, and pickers on what they return. All see the same mixtures.

    :param mixtures: Fixed mixtures
    :param denoisers: Denoisers by name; "noisy", "clean" and "oracle mask" are added
    :param pickers: SeisBench pickers by name
    :param sampling_rate: Sampling rate in Hz
    :param unions: Denoisers for which the picks on noisy and denoised records together are evaluated as well
    :param full_band: The mixtures before the band-pass: estimates are compared with those as well, in the columns
        ``sdr_full_db`` and ``correlation_full``, where what the band-pass removes counts as lost
    :return: One row per mixture and denoiser: ``denoiser``, ``mixture``, ``input_snr_db``, ``event``, ``region``,
        ``instrument``, ``sp_class``; ``sdr_db``, ``sdr_gain_db``, ``snr_gain_db``, ``correlation`` (mean over
        components), ``log10_amplitude``; and for each picker and phase ``<picker>_<phase>_residual`` in seconds (NaN
        where missed), ``_label`` (whether there is one), ``_picks`` (their number) and ``_highest`` (probability of the
        most probable pick at any threshold, within 0.5 s of the label, or anywhere if there is none; 0 without one)
    """
    estimates: dict[str, WindowDenoiser] = {
        "noisy": lambda noisy: noisy,
        "clean": lambda noisy: mixtures.clean,
        **denoisers,
        "oracle mask": lambda noisy: oracle_mask(mixtures.clean, mixtures.noise),
    }

    def waveforms(name: str, estimate: Array) -> dict[str, Floats]:
        result = _waveforms(mixtures, estimate)
        if full_band is not None:
            wide = {"noisy": full_band.noisy, "clean": full_band.clean}.get(name, estimate)
            result["sdr_full_db"] = metrics.sdr_db(full_band.clean, wide, axis=(-2, -1))
            result["correlation_full"] = _mean_over_live(metrics.cross_correlation(full_band.clean, wide))
        return result

    rows = _evaluate_all(mixtures.noisy, mixtures.labels, estimates, pickers, sampling_rate, waveforms, unions)
    return rows.rename(columns={"record": "mixture"})


def evaluate_records(
    windows: Array,
    labels: pd.DataFrame,
    denoisers: Mapping[str, WindowDenoiser],
    pickers: Mapping[str, WaveformModel],
    sampling_rate: float = SAMPLING_RATE,
    unions: Sequence[str] = (),
) -> pd.DataFrame:
    """
    Run denoisers and pickers on records as they are, whose clean part is unknown.

    :param windows: In-band records (batch, 3, samples)
    :param labels: One row per record, with ``p_sample`` and ``s_sample``
    :return: As :py:func:`evaluate`, without what needs the clean record
    """
    return _evaluate_all(
        windows, labels, {"noisy": lambda noisy: noisy, **denoisers}, pickers, sampling_rate, None, unions
    )


def evaluate_noise(
    windows: Array,
    metadata: pd.DataFrame,
    denoisers: Mapping[str, WindowDenoiser],
    pickers: Mapping[str, WaveformModel],
    sampling_rate: float = SAMPLING_RATE,
    unions: Sequence[str] = (),
) -> pd.DataFrame:
    """
    Run denoisers and pickers on records without an earthquake: all picks are false.

    :param windows: In-band noise (batch, 3, samples)
    :param metadata: One row per record
    :return: One row per record and denoiser: ``suppression_db``, ``hours``, ``<picker>_<phase>_picks``, ``_highest``
    """

    def waveforms(name: str, estimate: Array) -> dict[str, Floats]:
        return {"suppression_db": metrics.suppression_db(windows, estimate, axis=(-2, -1))}

    labels = metadata.assign(p_sample=np.nan, s_sample=np.nan)
    estimates: dict[str, WindowDenoiser] = {"noisy": lambda noisy: noisy, **denoisers}
    rows = _evaluate_all(windows, labels, estimates, pickers, sampling_rate, waveforms, unions)
    return rows.assign(hours=windows.shape[-1] / sampling_rate / 3600)


def _evaluate_all(
    noisy: Array,
    labels: pd.DataFrame,
    estimates: Mapping[str, WindowDenoiser],
    pickers: Mapping[str, WaveformModel],
    rate: float,
    waveforms: Callable[[str, Array], dict[str, Floats]] | None,
    unions: Sequence[str],
) -> pd.DataFrame:
    base = _describe(labels, rate)
    raw: dict[str, pd.DataFrame] = {}
    tables = []
    for name, denoise in tqdm(estimates.items(), desc="Evaluating", leave=False, disable=None):
        estimate = denoise(noisy)
        rows = base.assign(denoiser=name, **(waveforms(name, estimate) if waveforms else {}))
        together = base.assign(denoiser=f"{name} + noisy")
        for picker_name, picker in pickers.items():
            threshold = THRESHOLDS.get(type(picker).__name__, THRESHOLD)
            picks, *others = pick_windows(picker, estimate, (threshold, *LADDER), rate)
            scores = _scores(picker_name, picks, labels, rate), _highest(picker_name, pd.concat(others), labels, rate)
            rows = pd.concat([rows, *scores], axis=1)
            if name == "noisy":
                raw[picker_name] = picks
            if name in unions:
                both = merge_picks(raw[picker_name], picks)
                together = pd.concat([together, _scores(picker_name, both, labels, rate)], axis=1)
        tables += [rows, together] if name in unions and pickers else [rows]
    return pd.concat(tables, ignore_index=True)


def _describe(labels: pd.DataFrame, rate: float) -> pd.DataFrame:
    """Columns to group by. Records without an event in their metadata are events of their own."""
    nothing = pd.Series(np.nan, index=labels.index)
    event = labels.get("source_id", nothing).astype(object).fillna(labels.get("trace_name", nothing))
    region = labels.get("region", labels.get("trace_source", nothing))
    channel = labels.get("trace_channel", nothing).astype("string")
    sp = (labels.get(S_KEY, nothing) - labels.get(P_KEY, nothing)) / rate
    names = [f"{low}-{high} s" for low, high in pairwise(SP_CLASSES[:-1])] + [f"above {SP_CLASSES[-2]} s"]
    return pd.DataFrame(
        {
            "record": np.arange(len(labels)),
            "event": event.where(event.notna(), labels.index.to_series()).astype(str).to_numpy(),
            "region": region.astype(object).fillna("unknown").to_numpy(),
            "instrument": channel.str[:2].fillna("unknown").to_numpy(object),
            "sp_class": pd.cut(sp, SP_CLASSES, labels=names).astype(object).fillna("unknown").to_numpy(),
            "input_snr_db": labels.get("input_snr_db", nothing).to_numpy(),
        }
    )


def _waveforms(mixtures: Mixtures, estimate: Array) -> dict[str, Floats]:
    clean, noisy, onset = mixtures.clean, mixtures.noisy, mixtures.labels["p_sample"].to_numpy()

    def snr(x: Array) -> Floats:
        return metrics.snr_db(x.transpose(0, 2, 1).reshape(len(x), -1), 3 * np.round(onset))

    sdr = metrics.sdr_db(clean, estimate, axis=(-2, -1))
    with np.errstate(divide="ignore"):
        amplitude = np.log10(metrics.amplitude_ratio(clean, estimate, axis=(-2, -1)))
    return {
        "sdr_db": sdr,
        "sdr_gain_db": sdr - metrics.sdr_db(clean, noisy, axis=(-2, -1)),
        "snr_gain_db": snr(estimate) - snr(noisy),
        "correlation": _mean_over_live(metrics.cross_correlation(clean, estimate)),
        "log10_amplitude": amplitude,
    }


def _scores(name: str, picks: pd.DataFrame, labels: pd.DataFrame, rate: float) -> pd.DataFrame:
    records, columns = np.arange(len(labels)), {}
    for phase in "PS":
        times = labels[f"{phase.lower()}_sample"].to_numpy(dtype=float) / rate
        wanted = pd.DataFrame({"record": records, "phase": phase, "time": times}).dropna()
        matched = match_labels(picks, wanted, max(TOLERANCES)).set_index("record")["residual"]
        counts = picks[picks["phase"] == phase].groupby("record").size()
        columns[f"{name}_{phase}_residual"] = matched.reindex(records).to_numpy(dtype=float)
        columns[f"{name}_{phase}_label"] = np.isfinite(times)
        columns[f"{name}_{phase}_picks"] = counts.reindex(records, fill_value=0).to_numpy()
    return pd.DataFrame(columns)


def _highest(name: str, picks: pd.DataFrame, labels: pd.DataFrame, rate: float) -> pd.DataFrame:
    columns = {}
    for phase in "PS":
        time = labels[f"{phase.lower()}_sample"].to_numpy(dtype=float) / rate
        some = picks[picks["phase"] == phase]
        distance = some["time"].to_numpy(dtype=float) - time[some["record"].to_numpy(dtype=int)]
        near = some[np.isnan(distance) | (np.abs(distance) <= max(TOLERANCES) + 1e-6)]
        highest = near.groupby("record")["probability"].max()
        columns[f"{name}_{phase}_highest"] = highest.reindex(np.arange(len(labels)), fill_value=0.0).to_numpy()
    return pd.DataFrame(columns)


def merge_picks(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """
    All picks of two tables; of picks of one phase within half a second, only the most probable is kept.

    :param first: Picks with the columns ``record``, ``phase``, ``time`` (s) and ``probability``
    :param second: Picks on the same records
    """
    picks = pd.concat([first, second]).sort_values("probability", ascending=False, kind="stable")
    kept: list[tuple] = []
    times: dict[Any, list[float]] = {}
    for pick in picks[PICK_COLUMNS].itertuples(index=False, name=None):
        record, phase, time, _ = pick
        group = times.setdefault((record, phase), [])
        if all(abs(time - other) > SAME_PICK for other in group):
            group.append(time)
            kept.append(pick)
    return pd.DataFrame(sorted(kept, key=lambda pick: (pick[0], pick[2])), columns=PICK_COLUMNS)


def _mean_over_live(correlation: Floats) -> Floats:
    """Mean over the components that are not dead in the reference."""
    live = np.isfinite(correlation)
    return np.where(live, correlation, 0).sum(-1) / live.sum(-1)
