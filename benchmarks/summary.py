"""Statistics of rows, one for each record and denoiser, with intervals by a bootstrap of earthquakes and stations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: Statistics of each group, by metric: of all its rows first, and then of resamples, those of each unit in turn.
Drawn = dict[tuple, dict[str, Floats]]

#: Largest residuals in seconds of correct picks. Rows hold residuals up to the largest.
TOLERANCES = (0.1, 0.5)
#: Percentiles of the resampled statistics that an interval lies between.
ENDS = (2.5, 97.5)
#: What is resampled: columns, each with draws of its own.
UNITS = ("event", "station")
#: Fewest earthquakes, and stations, from which an interval can be had.
FEWEST = 10
#: Metrics that are means over records, and medians, since they are infinite where silence is left.
MEANS = ("sdr_db", "sdr_gain_db", "correlation", "sdr_full_db", "correlation_full", "p_angle_deg", "p_rectilinearity")
MEDIANS = ("snr_gain_db", "log10_amplitude", "suppression_db")


def summarize(
    rows: pd.DataFrame,
    by: Sequence[str] = ("denoiser",),
    reference: str | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """
    Statistics of rows with 95 % intervals: the wider of those of two bootstraps, over earthquakes and over stations.
    All records of an earthquake, or of a station, whatever their noise, are drawn together.

    :param by: Columns to group by, "denoiser" first
    :param reference: A denoiser; statistics, and their intervals, become those of its own minus each other one's, as
        the same earthquakes and stations are drawn for both
    :param resamples: Number of resampled sets of either
    :return: One row per group and metric: the columns of `by`, ``metric``, ``value``, ``low``, ``high`` (NaN below ten
        independent records), ``events``, ``stations``, ``independent`` (the lower of the two) and ``records``
    """
    groups = rows.groupby(list(by), sort=False)
    drawn = {key: _statistics(group, resampled(group, resamples, seed)) for key, group in groups}
    return _with_intervals(rows, by, drawn, reference)


def recall_at(
    records: pd.DataFrame,
    noise: pd.DataFrame,
    per_hour: Sequence[float],
    by: Sequence[str] = ("denoiser",),
    reference: str | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """
    Recall at equal rates of false picks. Pickers are more confident on the output of some denoisers than of others, so
    each denoiser has its own threshold: the lowest at which at most so many windows of noise per hour have a pick.
    For the intervals the stations of the noise are drawn too, and the threshold is found again for each draw.

    :param records: Rows of records with labels
    :param noise: Rows of noise alone; denoisers that are not in both are left out
    :return: As of :py:func:`summarize`; the metrics are ``<picker>_<phase>_found_<per hour>``
    """
    records = records[records["denoiser"].isin(noise["denoiser"])]
    stems = [name.removesuffix("_highest") for name in records if name.endswith("_highest")]
    units = len([unit for unit in UNITS if unit in records])
    thresholds: dict[tuple[str, str, float], Floats] = {}
    for name, rows in noise.groupby("denoiser", sort=False):
        weights = resampled(rows, units * resamples, seed, ("event",), first=len(UNITS))
        for stem in (stem for stem in stems if f"{stem}_highest" in rows):
            highest, hours = (rows[column].to_numpy(dtype=float) for column in (f"{stem}_highest", "hours"))
            for rate in per_hour:
                thresholds[name, stem, rate] = _threshold(highest, weights, rate * (weights @ hours))
    drawn: Drawn = {}
    for key, group in records.groupby(list(by), sort=False):
        weights, drawn[key] = resampled(group, resamples, seed), {}
        for stem in stems:
            highest, label = (group[f"{stem}_{column}"].to_numpy(dtype=float) for column in ("highest", "label"))
            for rate in per_hour if np.isfinite(highest).all() and label.any() else ():
                if (key[0], stem, rate) in thresholds:
                    hits = (highest > thresholds[key[0], stem, rate][:, None]) * label
                    drawn[key][f"{stem}_found_{rate:g}"] = _ratio((weights * hits).sum(1), weights @ label)
    return _with_intervals(records, by, drawn, reference, noise["event"].nunique())


def reversed_in_time(noise: pd.DataFrame) -> pd.DataFrame:
    """Rows of noise reversed in time, calm or busy, of which false picks are counted."""
    return noise[noise["kind"].str.startswith("reversed")]


def resampled(rows: pd.DataFrame, resamples: int, seed: int, units: Sequence[str] = UNITS, first: int = 0) -> Floats:
    """
    Weights (1 + units x resamples, row): 1 for each row, then how often the earthquake of each row is drawn, then how
    often its station is. What is drawn hangs on the number of the unit, from `first` on, so that equally many
    earthquakes and stations are not drawn alike.
    """
    weights = [np.ones((1, len(rows)))]
    for number, unit in enumerate((unit for unit in units if unit in rows), first):
        names, member = np.unique(rows[unit].astype(str), return_inverse=True)
        random = np.random.default_rng(np.random.SeedSequence((seed, number)))
        draws = random.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
        weights.append(draws[:, member])
    return np.concatenate(weights)


def _threshold(highest: Floats, weights: Floats, allowed: Floats) -> Floats:
    """For each resample, the lowest threshold that at most so many windows exceed; 0 if no more than those do."""
    order = np.argsort(-highest, kind="stable")
    windows = weights[:, order].cumsum(1)
    first_not_allowed = (windows <= allowed[:, None] + 1e-9).sum(1)
    return np.append(highest[order], 0.0)[first_not_allowed]


def _with_intervals(
    rows: pd.DataFrame, by: Sequence[str], drawn: Drawn, reference: str | None, least: float = np.inf
) -> pd.DataFrame:
    """A row for each group and metric: value, interval, and numbers of earthquakes, stations and records."""
    table, groups = [], rows.groupby(list(by))
    for key, statistics in drawn.items():
        group = groups.get_group(key)
        counts = {f"{unit}s": group[unit].nunique() for unit in UNITS if unit in group}
        units, counts["independent"] = len(counts), min(*counts.values(), least)
        if reference is not None:
            other = drawn.get((reference, *key[1:]), {})
            statistics = {name: other[name] - values for name, values in statistics.items() if name in other}
        for metric, values in statistics.items():
            draws = [x[np.isfinite(x)] for x in values[1:].reshape(units, -1)]
            intervals = [np.percentile(x, ENDS) for x in draws if len(x)]
            enough = counts["independent"] >= FEWEST and intervals
            low, high = max(intervals, key=np.ptp) if enough else (np.nan, np.nan)
            numbers = {"metric": metric, "value": values[0], "low": low, "high": high}
            table.append({**dict(zip(by, key, strict=True)), **numbers, **counts, "records": len(group)})
    return pd.DataFrame(table)


def _statistics(rows: pd.DataFrame, weights: Floats) -> dict[str, Floats]:
    """Statistics under each set of weights (resample, row): name -> (resample,)."""
    result: dict[str, Floats] = {}
    for name in (name for name in (*MEANS, *MEDIANS) if name in rows and rows[name].notna().any()):
        average = _mean if name in MEANS else _quantile
        result[name] = average(rows[name].to_numpy(dtype=float), weights)
    if "log10_amplitude" in result:
        result["magnitude_error"] = _quantile(rows["log10_amplitude"].abs().to_numpy(), weights)
        for name, share in (("amplitude_lower", 0.25), ("amplitude", 0.5), ("amplitude_upper", 0.75)):
            result[name] = 10 ** _quantile(rows["log10_amplitude"].to_numpy(), weights, share)
    for column in rows:
        stem, _, kind = column.rpartition("_")
        if kind == "false" and rows[column].notna().all():
            result[f"{stem}_per_hour"] = _ratio(weights @ rows[column].to_numpy(float), weights @ rows["hours"])
        elif kind == "picks" and rows[f"{stem}_label"].notna().all():
            columns = (rows[f"{stem}_{name}"].to_numpy(dtype=float) for name in ("picks", "label", "residual"))
            result |= {f"{stem}_{name}": value for name, value in _pick_statistics(*columns, weights).items()}
    return result


def _pick_statistics(picks: Floats, label: Floats, residual: Floats, weights: Floats) -> dict[str, Floats]:
    result = {}
    labels, found = weights @ label, weights @ picks
    for tolerance in TOLERANCES:
        hits = weights @ (np.abs(residual) <= tolerance + 1e-6)  # to a microsecond, as when matching; NaN is a miss
        result[f"recall_{tolerance}"] = _ratio(hits, labels)
        if np.isfinite(picks).all():
            result[f"precision_{tolerance}"] = _ratio(hits, found)
            result[f"f1_{tolerance}"] = _ratio(2 * hits, labels + found)
    mean, square = _mean(residual, weights), _mean(residual**2, weights)
    result |= {"mean": mean, "median": _quantile(residual, weights), "std": np.sqrt(np.maximum(square - mean**2, 0))}
    return result | {"early": _mean(np.where(np.isnan(residual), np.nan, residual < 0), weights)}


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _mean(values: Floats, weights: Floats) -> Floats:
    """Weighted mean over the finite values."""
    there = np.isfinite(values)
    return _ratio(weights @ np.where(there, values, 0), weights @ there.astype(float))


def _quantile(values: Floats, weights: Floats, share: float = 0.5) -> Floats:
    """Weighted quantile, by default the median, without NaN; the mean of two values if it lies between them."""
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]
    if not len(order):
        return np.full(len(weights), np.nan)
    below = weights[:, order].cumsum(1)
    part = share * below[:, -1:]
    lower, upper = ((below >= part - 1e-9).argmax(1), (below > part + 1e-9).argmax(1))
    middle = (values[order][lower] + values[order][upper]) / 2
    return np.where(part[:, 0] > 0, middle, np.nan)
