"""Statistics, with bootstrap intervals over events, of rows, one for each record and denoiser."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Largest residuals in seconds of correct picks. Rows hold residuals up to the largest.
TOLERANCES = (0.1, 0.5)
#: Share of the resampled statistics within an interval.
INTERVAL = 0.95


def summarize(
    rows: pd.DataFrame, by: Sequence[str] = ("denoiser",), resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """
    Statistics of rows, each with a 95 % interval from a bootstrap over events: the mixtures of an event, whatever
    their noise, are drawn together.

    :param rows: Rows of :py:mod:`seisbench_cdiffsd.evaluation`
    :param by: Columns to group by, in order
    :param resamples: Number of resampled sets of events
    :param seed: Seed of the resampling
    :return: One row per group and metric, with the columns of `by`, ``metric``, ``value``, ``low``, ``high``,
        ``events`` and ``records``
    """
    table = []
    ends = 50 * (1 - INTERVAL), 50 * (1 + INTERVAL)
    for key, group in rows.groupby(list(by), sort=False):
        events, member = np.unique(group["event"], return_inverse=True)
        draws = np.random.default_rng(seed).multinomial(len(events), np.full(len(events), 1 / len(events)), resamples)
        weights = np.concatenate([np.ones((1, len(group))), draws[:, member]])
        for metric, values in _statistics(group, weights).items():
            drawn = values[1:][np.isfinite(values[1:])]
            low, high = np.percentile(drawn, ends) if len(drawn) else (np.nan, np.nan)
            numbers = {"metric": metric, "value": values[0], "low": low, "high": high}
            counts = {"events": len(events), "records": len(group)}
            table.append({**dict(zip(by, key, strict=True)), **numbers, **counts})
    return pd.DataFrame(table)


def found_at(records: pd.DataFrame, noise: pd.DataFrame, per_hour: Sequence[float]) -> pd.DataFrame:
    """
    Which labels are found at equal rates of false picks: each denoiser has its own threshold, at which so many windows
    of noise per hour have a pick. Pickers are more confident on the output of some denoisers than of others, so recall
    at one threshold for all says little without its false picks.

    :param records: Rows of records with labels, of :py:mod:`seisbench_cdiffsd.evaluation`
    :param noise: Rows of noise alone; denoisers that are not in both are left out
    :param per_hour: Windows of noise with a pick, per hour
    :return: ``denoiser``, ``event``, and ``<picker>_<phase>_found_<per hour>``: 1 if the label was found, 0 if it was
        not, NaN if there is none, and NaN for all labels if no threshold gives so many false picks
    """
    tables = []
    for denoiser, group in records.groupby("denoiser", sort=False):
        noise_rows = noise[noise["denoiser"] == denoiser]
        if noise_rows.empty:
            continue
        columns: dict[str, Floats] = {}
        for column in [name for name in records if name.endswith("_highest") and group[name].notna().all()]:
            stem = column.removesuffix("_highest")
            label, highest = group[f"{stem}_label"].to_numpy(dtype=bool), group[column].to_numpy()
            false = np.append(np.sort(noise_rows[column].to_numpy())[::-1], 0.0)
            for rate in per_hour:
                allowed = int(rate * noise_rows["hours"].sum())
                # even the lowest threshold of the picker may give fewer false picks
                threshold = false[allowed] if allowed <= np.count_nonzero(false) else np.nan
                columns[f"{stem}_found_{rate:g}"] = np.where(
                    label & np.isfinite(threshold), highest > threshold, np.nan
                )
        if columns:
            tables.append(group[["denoiser", "event"]].assign(**columns))
    return pd.concat(tables, ignore_index=True)


def _statistics(rows: pd.DataFrame, weights: Floats) -> dict[str, Floats]:
    """Statistics under each set of weights (resample, row): name -> (resample,)."""
    result: dict[str, Floats] = {}
    means = ["sdr_db", "sdr_gain_db", "correlation", "sdr_full_db", "correlation_full"]
    for name in means + [name for name in rows if "_found_" in name]:
        if name in rows and rows[name].notna().any():
            result[name] = _mean(rows[name].to_numpy(), weights)
    for name in ("snr_gain_db", "log10_amplitude", "suppression_db"):  # infinite if silence is left
        if name in rows and rows[name].notna().any():
            result[name] = _median(rows[name].to_numpy(), weights)
    if "log10_amplitude" in result:
        result["magnitude_error"] = _median(rows["log10_amplitude"].abs().to_numpy(), weights)
        for name, share in (("amplitude_lower", 0.25), ("amplitude", 0.5), ("amplitude_upper", 0.75)):
            result[name] = 10 ** _quantile(rows["log10_amplitude"].to_numpy(), weights, share)
    for column in [name for name in rows if name.endswith("_picks")]:
        stem = column.removesuffix("_picks")
        picks = rows[column].to_numpy(dtype=float)
        if "hours" in rows:
            result[f"{stem}_per_hour"] = _ratio(weights @ picks, weights @ rows["hours"].to_numpy())
        elif np.isfinite(picks).all():
            label = rows[f"{stem}_label"].to_numpy(dtype=float)
            result.update(_pick_statistics(stem, picks, label, rows[f"{stem}_residual"].to_numpy(), weights))
    return result


def _pick_statistics(stem: str, picks: Floats, label: Floats, residual: Floats, weights: Floats) -> dict[str, Floats]:
    result = {}
    labels, found = weights @ label, weights @ picks
    for tolerance in TOLERANCES:
        hits = weights @ (np.abs(residual) <= tolerance + 1e-6)  # to a microsecond, as when matching; NaN is a miss
        result[f"{stem}_recall_{tolerance}"] = _ratio(hits, labels)
        result[f"{stem}_precision_{tolerance}"] = _ratio(hits, found)
        result[f"{stem}_f1_{tolerance}"] = _ratio(2 * hits, labels + found)
    mean, square = _mean(residual, weights), _mean(residual**2, weights)
    result[f"{stem}_mean"], result[f"{stem}_median"] = mean, _median(residual, weights)
    result[f"{stem}_std"] = np.sqrt(np.maximum(square - mean**2, 0))
    result[f"{stem}_early"] = _mean(np.where(np.isnan(residual), np.nan, residual < 0), weights)
    return result


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _mean(values: Floats, weights: Floats) -> Floats:
    """Weighted mean over the finite values."""
    there = np.isfinite(values)
    return _ratio(weights @ np.where(there, values, 0), weights @ there.astype(float))


def _median(values: Floats, weights: Floats) -> Floats:
    """Weighted median without NaN: the mean of the two middle values if they differ."""
    return _quantile(values, weights, 0.5)


def _quantile(values: Floats, weights: Floats, share: float) -> Floats:
    """Weighted quantile without NaN; the mean of two values if it lies between them."""
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]
    if not len(order):
        return np.full(len(weights), np.nan)
    below = weights[:, order].cumsum(1)
    part = share * below[:, -1:]
    lower, upper = ((below >= part - 1e-9).argmax(1), (below > part + 1e-9).argmax(1))
    middle = (values[order][lower] + values[order][upper]) / 2
    return np.where(part[:, 0] > 0, middle, np.nan)
