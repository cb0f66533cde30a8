"""Statistics of rows, one for each record and denoiser, with intervals from a bootstrap over events and stations."""

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


#: What is drawn for an interval: statistics of a group, the value and then those of the resamples, by metric.
Drawn = dict[str, Floats]


def summarize(
    rows: pd.DataFrame,
    by: Sequence[str] = ("denoiser",),
    reference: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """
    Statistics of rows, each with a 95 % interval from a bootstrap over events: the mixtures of an event, whatever
    their noise, are drawn together.

    :param rows: Rows of :py:mod:`evaluation`
    :param by: Columns to group by, in order, "denoiser" among them
    :param reference: A denoiser; statistics become its own minus those of each other one, and intervals those of the
        differences, as the same events are drawn for both
    :param resamples: Number of resampled sets of events
    :param seed: Seed of the resampling
    :return: One row per group and metric, with the columns of `by`, ``metric``, ``value``, ``low``, ``high``,
        ``events`` and ``records``
    """
    drawn = {
        key: _statistics(group, _resampled(group["event"], resamples, seed))
        for key, group in rows.groupby(list(by), sort=False)
    }
    return _with_intervals(rows, by, drawn, reference)


def recall_at(
    records: pd.DataFrame,
    noise: pd.DataFrame,
    per_hour: Sequence[float],
    by: Sequence[str] = ("denoiser",),
    reference: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """
    Recall at equal rates of false picks. Pickers are more confident on the output of some denoisers than of others, so
    each denoiser has its own threshold: the lowest at which at most so many windows of noise per hour have a pick.
    That hangs on a few windows of noise, so for the intervals stations are drawn as well as events, and the threshold
    is found again for each draw.

    :param records: Rows of records with labels, of :py:mod:`evaluation`
    :param noise: Rows of noise alone; denoisers that are not in both are left out
    :param per_hour: Windows of noise with a pick, per hour
    :param by: Columns of `records` to group by, "denoiser" first; thresholds are those of the denoiser
    :param reference: As for :py:func:`summarize`
    :param resamples: Number of resampled sets of events and stations
    :param seed: Seed of the resampling
    :return: As of :py:func:`summarize`; the metrics are ``<picker>_<phase>_found_<per hour>``
    """
    both = [name for name in records["denoiser"].unique() if (noise["denoiser"] == name).any()]
    records = records[records["denoiser"].isin(both)]
    stems = [name.removesuffix("_highest") for name in records if name.endswith("_highest")]
    thresholds: dict[tuple[str, str, float], Floats] = {}
    for name, rows in noise.groupby("denoiser", sort=False):
        weights = _resampled(rows["event"], resamples, seed)
        for stem in (stem for stem in stems if f"{stem}_highest" in rows):
            highest, hours = (rows[column].to_numpy(dtype=float) for column in (f"{stem}_highest", "hours"))
            for rate in per_hour:
                thresholds[name, stem, rate] = _threshold(highest, weights, rate * (weights @ hours))
    drawn: dict[tuple, Drawn] = {}
    for key, group in records.groupby(list(by), sort=False):
        weights, drawn[key] = _resampled(group["event"], resamples, seed), {}
        for stem in stems:
            highest, label = (group[f"{stem}_{column}"].to_numpy(dtype=float) for column in ("highest", "label"))
            for rate in per_hour if np.isfinite(highest).all() and label.any() else ():
                threshold = thresholds.get((key[0], stem, rate))
                if threshold is not None:
                    hits = (highest > threshold[:, None]) * label
                    drawn[key][f"{stem}_found_{rate:g}"] = _ratio((weights * hits).sum(1), weights @ label)
    return _with_intervals(records, by, drawn, reference)


def _threshold(highest: Floats, weights: Floats, allowed: Floats) -> Floats:
    """For each resample, the lowest threshold that at most so many windows exceed; 0 if no more than those do."""
    order = np.argsort(-highest, kind="stable")
    windows = weights[:, order].cumsum(1)
    first_not_allowed = (windows <= allowed[:, None] + 1e-9).sum(1)
    return np.append(highest[order], 0.0)[first_not_allowed]


def _resampled(events: pd.Series, resamples: int, seed: int) -> Floats:
    """Weights (1 + resamples, row): 1 for each row, then how often the event of each row is drawn."""
    names, member = np.unique(events, return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    return np.concatenate([np.ones((1, len(events))), draws[:, member]])


def _with_intervals(
    rows: pd.DataFrame, by: Sequence[str], drawn: dict[tuple, Drawn], reference: str | None
) -> pd.DataFrame:
    """A row for each group and metric: value, interval, and numbers of events and records."""
    table, place = [], list(by).index("denoiser")
    ends = 50 * (1 - INTERVAL), 50 * (1 + INTERVAL)
    counts = {key: {"events": x.nunique(), "records": len(x)} for key, x in rows.groupby(list(by))["event"]}
    for key, statistics in drawn.items():
        if reference is not None:
            first = drawn.get((*key[:place], reference, *key[place + 1 :]), {})
            statistics = {name: first[name] - values for name, values in statistics.items() if name in first}
        for metric, values in statistics.items():
            finite = values[1:][np.isfinite(values[1:])]
            low, high = np.percentile(finite, ends) if len(finite) else (np.nan, np.nan)
            numbers = {"metric": metric, "value": values[0], "low": low, "high": high}
            table.append({**dict(zip(by, key, strict=True)), **numbers, **counts[key]})
    return pd.DataFrame(table)


def _statistics(rows: pd.DataFrame, weights: Floats) -> dict[str, Floats]:
    """Statistics under each set of weights (resample, row): name -> (resample,)."""
    result: dict[str, Floats] = {}
    means = ["sdr_db", "sdr_gain_db", "correlation", "sdr_full_db", "correlation_full"]
    for name in means:
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
