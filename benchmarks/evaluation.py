"""Evaluate denoisers: how well they keep the waveform, what pickers find in it, and what they pick in noise alone.

All results are rows, one for each record and denoiser, and statistics of them, with intervals by a bootstrap of
earthquakes and of stations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import seisbench.models as sbm
from baselines import WINDOW, Array, Denoiser, oracle_mask
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from tqdm.auto import tqdm

from seisbench_cdiffsd.data.augmentations import P_KEY, S_KEY
from seisbench_cdiffsd.data.pairs import Mixtures
from seisbench_cdiffsd.evaluation import LADDER, TOLERANCE, best_probability, pick_windows, usual_threshold
from seisbench_cdiffsd.metrics import cross_correlation, sdr_db
from seisbench_cdiffsd.streams.filtering import SAMPLING_RATE

Floats = NDArray[np.float64]
Denoisers, Pickers = Mapping[str, Denoiser], Mapping[str, sbm.WaveformModel]
#: Statistics of each group, by metric: of all its rows first, and then of resamples, those of each unit in turn.
Drawn = dict[tuple, dict[str, Floats]]

#: Largest residuals in seconds of correct picks. Rows hold residuals up to the largest.
TOLERANCES = (0.1, TOLERANCE)
#: Percentiles of the resampled statistics that an interval lies between.
ENDS = (2.5, 97.5)
#: What is resampled: columns, each with draws of its own.
UNITS = ("event", "station")
#: What statistics are grouped by.
BY = ("denoiser",)
#: Fewest earthquakes, and stations, from which an interval can be had.
FEWEST = 10
#: Metrics that are means over records, and medians, since they are infinite where silence is left.
MEANS = ("sdr_db", "sdr_gain_db", "correlation", "sdr_full_db", "correlation_full", "p_angle_deg", "p_rectilinearity")
MEDIANS = ("snr_gain_db", "log10_amplitude", "suppression_db")
#: Classes of S - P times (a second is about 8 km of distance), and of the SNR of P.
SP_CLASSES = {"bins": (0, 5, 10, 20, np.inf), "labels": ("0 to 5 s", "5 to 10 s", "10 to 20 s", "above 20 s")}
P_SNR_CLASSES = {
    "bins": (-np.inf, -15, -10, -5, 0, 5, np.inf),
    "labels": ("below -15 dB", "-15 to -10 dB", "-10 to -5 dB", "-5 to 0 dB", "0 to 5 dB", "above 5 dB"),
}
#: Columns that rows are grouped by.
GROUPS = ("input_snr_db", "sp_class", "p_snr_class", "station_seen", "region_seen", "region")
#: Columns of metadata that tell these, event and station, as far as they are there.
KNOWN = ("source_id", "trace_name", "station_network_code", "station_code", "region", "trace_source", P_KEY, S_KEY)
#: Seconds from P on whose power is that of P, and whose motion has a polarisation.
P_SECONDS, POLARISED_SECONDS = 2.0, 0.5
#: Shares of the clean record in mixtures of it with the noisy one: a metric that is worth something grows with them.
RECOVERED = (0.25, 0.5, 0.75)


def evaluate(
    mixtures: Mixtures, denoisers: Denoisers, pickers: Pickers, full_band: Mixtures | None = None
) -> pd.DataFrame:
    """
    Rows of :py:func:`evaluate_records` for mixtures, and of "clean", "oracle mask" and records recovered in part, with
    ``sdr_db``, ``sdr_gain_db``, ``snr_gain_db``, ``correlation`` (mean over components), ``log10_amplitude``, and the
    differences of polarisation ``p_angle_deg`` and ``p_rectilinearity``.

    :param full_band: The mixtures before the band-pass: estimates are compared with those as well, in the columns
        ``sdr_full_db`` and ``correlation_full``, where what the band-pass removes counts as lost
    """
    clean, noise = mixtures.clean, mixtures.noise

    def waveforms(name: str, estimate: Array) -> dict[str, Floats]:
        result = _waveforms(mixtures, estimate)
        if full_band is not None:
            wide = {"noisy": full_band.noisy, "clean": full_band.clean}.get(name, estimate)
            result["sdr_full_db"] = sdr_db(full_band.clean, wide, axis=(-2, -1))
            result["correlation_full"] = _correlation(full_band.clean, wide)
        return result

    estimates = {"clean": lambda _: clean, **denoisers, "oracle mask": lambda _: oracle_mask(clean, noise)}
    for part in map(np.float32, RECOVERED):
        estimates[f"{part:.0%} recovered"] = lambda noisy, part=part: noisy + part * (clean - noisy)
    labels = mixtures.labels.assign(p_snr_db=_p_snr(mixtures))
    return evaluate_records(mixtures.noisy, labels, estimates, pickers, waveforms)


def evaluate_records(
    windows: Array, labels: pd.DataFrame, denoisers: Denoisers, pickers: Pickers, waveforms: Callable | None = None
) -> pd.DataFrame:
    """
    Run denoisers, and "noisy", which does nothing, on records, and pickers on what they return.

    :param windows: In-band records (batch, 3, samples)
    :param labels: One row per record, with ``p_sample`` and ``s_sample``
    :param waveforms: Metrics of what a denoiser, by name, makes of the records
    :return: One row per record and denoiser: ``denoiser``, ``record``, ``event``,
        ``station`` and those of ``GROUPS``; and for each picker and phase ``<picker>_<phase>_residual`` in seconds (NaN
        where missed), ``_label`` (whether there is one), ``_picks`` (their number) and ``_highest`` (probability of the
        most probable pick at any threshold, within 0.5 s of the label, or anywhere if there is none; 0 without one)
    """
    base, tables = _describe(labels), []
    everything: dict[str, Denoiser] = {"noisy": lambda noisy: noisy, **denoisers}
    for name, denoise in tqdm(everything.items(), desc="Evaluating", leave=False, disable=None):
        estimate = denoise(windows)
        rows = base.assign(denoiser=name, **(waveforms(name, estimate) if waveforms else {}))
        for picker_name, picker in pickers.items():
            picks, *others = pick_windows(picker, estimate, (usual_threshold(picker), *LADDER))
            rows = rows.assign(**_scores(picker_name, picks, pd.concat(others), labels))
        tables.append(rows)
    return pd.concat(tables, ignore_index=True)


def evaluate_noise(records: Array, metadata: pd.DataFrame, denoisers: Denoisers, pickers: Pickers) -> pd.DataFrame:
    """
    Run denoisers and pickers on noise, (batch, 3, samples): all picks are false. It is cut into windows, of which a
    record has a pick if any has one.

    :param metadata: One row per record; the column ``kind`` says which noise
    :return: One row per record and denoiser: ``suppression_db``, ``hours``, ``kind``; ``<picker>_<phase>_highest``, and
        ``_false``, whether it is above the picker's usual threshold
    """
    parts = records.shape[-1] // WINDOW
    windows = np.concatenate(np.split(records[..., : parts * WINDOW], parts, axis=-1))

    def waveforms(name: str, estimate: Array) -> dict[str, Floats]:
        whole = (np.concatenate(np.split(x, parts), axis=-1) for x in (windows, estimate))
        return {"suppression_db": np.tile(suppression_db(*whole), parts)}

    labels = pd.concat([metadata] * parts, ignore_index=True).assign(p_sample=np.nan, s_sample=np.nan)
    rows = evaluate_records(windows, labels, denoisers, pickers, waveforms)
    rows["record"] %= len(records)
    keys = ["denoiser", "record", "kind", "event", "suppression_db"]
    highest = [name for name in rows if name.endswith("_highest")]
    rows = rows[keys + highest].groupby(keys, sort=False, dropna=False).max().reset_index()
    for name in highest:
        least = usual_threshold(pickers[name.rsplit("_", 2)[0]])
        rows[name.replace("_highest", "_false")] = rows[name] >= least
    return rows.assign(hours=parts * WINDOW / SAMPLING_RATE / 3600)


def _describe(labels: pd.DataFrame) -> pd.DataFrame:
    """Columns to group by. Records without an event, or a station, in their metadata are one of their own."""
    known = labels.reindex(columns=[*KNOWN, "station_seen", "region_seen", "kind", "input_snr_db", "p_snr_db"])
    texts = known.astype(object)
    number = labels.index.to_series().astype(str)
    station = texts["station_network_code"].fillna("").astype(str) + "." + texts["station_code"].astype(str)
    sp = (known[S_KEY] - known[P_KEY]) / SAMPLING_RATE
    columns = {
        "record": np.arange(len(labels)),
        "event": texts["source_id"].fillna(texts["trace_name"]).fillna(number).astype(str),
        "station": station.where(texts["station_code"].notna(), number),
        "region": texts["region" if "region" in labels else "trace_source"],
        "sp_class": pd.cut(sp.astype(float), **SP_CLASSES).astype(object),
        "p_snr_class": pd.cut(known["p_snr_db"].astype(float), **P_SNR_CLASSES).astype(object),
        **texts[["kind", "station_seen", "region_seen"]],
    }
    described = pd.DataFrame({name: np.asarray(values) for name, values in columns.items()}).fillna("unknown")
    return described.assign(input_snr_db=known["input_snr_db"].to_numpy())


def _p_snr(mixtures: Mixtures) -> Floats:
    """SNR of P in dB: mean power of the earthquake in the 2 s from P on, over that of the noise."""
    onset = mixtures.labels["p_sample"].to_numpy(dtype=float)[:, None]
    time = np.arange(mixtures.clean.shape[-1]) - np.floor(onset)
    power, noise = (np.square(x, dtype=np.float64).mean(1) for x in (mixtures.clean, mixtures.noise))
    inside = (time >= 0) & (time < P_SECONDS * SAMPLING_RATE)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 10 * np.log10((power * inside).sum(-1) / inside.sum(-1) / noise.mean(-1))


def _waveforms(mixtures: Mixtures, estimate: Array) -> dict[str, Floats]:
    clean, noisy, onset = mixtures.clean, mixtures.noisy, mixtures.labels["p_sample"].to_numpy()

    sdr = sdr_db(clean, estimate, axis=(-2, -1))
    with np.errstate(divide="ignore"):
        amplitude = np.log10(np.abs(estimate).max((-2, -1)) / np.abs(clean).max((-2, -1)))
    (axis, straight), (found, found_straight) = (polarisation(x, onset) for x in (clean, estimate))
    return {
        "sdr_db": sdr,
        "sdr_gain_db": sdr - sdr_db(clean, noisy, axis=(-2, -1)),
        "snr_gain_db": snr_db(estimate, onset) - snr_db(noisy, onset),
        "correlation": _correlation(clean, estimate),
        "log10_amplitude": amplitude,
        "p_angle_deg": np.degrees(np.arccos(np.abs((axis * found).sum(-1)).clip(0, 1))),
        "p_rectilinearity": found_straight - straight,
    }


def snr_db(windows: Array, onset: ArrayLike) -> Floats:
    """
    Signal-to-noise ratio in dB of windows (batch, component, samples): mean power of all components from the onsets
    (batch,), in samples, over that before them; NaN where one of the two parts is empty.
    """
    power = np.square(windows, dtype=np.float64).mean(1)
    after = np.arange(power.shape[-1]) >= np.round(onset)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        signal, noise = ((power * part).sum(-1) / part.sum(-1) for part in (after, ~after))
        return 10 * np.log10(signal / noise)


def suppression_db(noise: Array, left: Array) -> Floats:
    """How much weaker noise without an earthquake is, ``20 log10(rms in / rms out)``, (batch,); inf for silence."""
    return sdr_db(noise, np.subtract(noise, left, dtype=np.float64), axis=(-2, -1))


def _correlation(clean: Array, estimate: Array) -> Floats:
    """Mean correlation over the components that are not dead in the reference, (batch,)."""
    return np.nanmean(cross_correlation(clean, estimate), axis=-1)


def polarisation(windows: Array, onset: Floats) -> tuple[Floats, Floats]:
    """
    Direction of motion of P, a unit vector (batch, 3) of any sign, and rectilinearity, (batch,), from 0 to 1: of the
    largest eigenvalue of the covariance of the components in the half second from P on (Jurkevics, 1988).
    """
    count, first = int(POLARISED_SECONDS * SAMPLING_RATE), np.floor(onset).astype(int)
    place = (first[:, None] + np.arange(count)).clip(0, windows.shape[-1] - 1)
    motion = np.take_along_axis(windows.astype(np.float64), place[:, None], axis=-1)
    values, vectors = np.linalg.eigh(motion @ motion.transpose(0, 2, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return vectors[..., -1], 1 - (values[:, 0] + values[:, 1]) / (2 * values[:, 2])


def _scores(name: str, picks: pd.DataFrame, ladder: pd.DataFrame, labels: pd.DataFrame) -> dict[str, np.ndarray]:
    """Columns of a picker: from its picks, and from those at any threshold, `ladder`."""
    records, columns = np.arange(len(labels)), {}
    for phase in "PS":
        times = labels[f"{phase.lower()}_sample"].to_numpy(dtype=float) / SAMPLING_RATE
        counts = picks[picks["phase"] == phase].groupby("record").size()
        columns[f"{name}_{phase}_residual"] = residuals(picks, phase, times)
        columns[f"{name}_{phase}_label"] = np.isfinite(times)
        columns[f"{name}_{phase}_picks"] = counts.reindex(records, fill_value=0).to_numpy()
        columns[f"{name}_{phase}_highest"] = best_probability(ladder, phase, len(records), times)
    return columns


def residuals(picks: pd.DataFrame, phase: str, times: Floats) -> Floats:
    """
    Seconds from the label of each record to the nearest pick of its phase, (record,): NaN where there is none within
    half a second, itself included (to a microsecond).

    :param picks: Picks of records 0, 1 ...
    :param times: Time of the label of each record, NaN without one
    """
    own = picks[picks["phase"] == phase]
    record = own["record"].to_numpy(int)
    distance = pd.Series(own["time"].to_numpy(float) - times[record], record)
    near = distance[distance.abs() <= max(TOLERANCES) + 1e-6]
    near = near.iloc[near.abs().argsort()]
    return near[~near.index.duplicated()].reindex(range(len(times))).to_numpy(float)


def match_picks(picks: Floats, labels: Floats, tolerance: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """
    Pair picks with labels, each pick with at most one label: as many pairs as possible and, among these, those with the
    smallest sum of absolute residuals.

    :param picks: Times of the picks of one phase on one record, in seconds, in any order
    :param labels: Times of the labels
    :param tolerance: Largest absolute residual of a pair in seconds, itself included (to a microsecond)
    :return: Indices into `picks` and into `labels`, pair by pair
    """
    error = np.abs(picks[:, None] - labels)
    near = error <= tolerance + 1e-6
    missed = (tolerance + 1) * (min(error.shape) + 1)  # costs more than all pairs together
    i, j = linear_sum_assignment(np.where(near, error, missed))
    return i[near[i, j]], j[near[i, j]]


def summarize(
    rows: pd.DataFrame, by: Sequence[str] = BY, reference: str | None = None, resamples: int = 500
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
    drawn = {key: _statistics(group, resampled(group, resamples)) for key, group in groups}
    return _with_intervals(rows, by, drawn, reference)


def recall_at(
    records: pd.DataFrame,
    noise: pd.DataFrame,
    per_hour: Sequence[float],
    by: Sequence[str] = BY,
    reference: str | None = None,
    resamples: int = 500,
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
        weights = resampled(rows, units * resamples, ("event",), first=len(UNITS))
        for stem in (stem for stem in stems if f"{stem}_highest" in rows):
            highest, hours = (rows[column].to_numpy(dtype=float) for column in (f"{stem}_highest", "hours"))
            for rate in per_hour:
                thresholds[name, stem, rate] = _threshold(highest, weights, rate * (weights @ hours))
    drawn: Drawn = {}
    for key, group in records.groupby(list(by), sort=False):
        weights, drawn[key] = resampled(group, resamples), {}
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


def resampled(rows: pd.DataFrame, resamples: int, units: Sequence[str] = UNITS, first: int = 0) -> Floats:
    """
    Weights (1 + units x resamples, row): 1 for each row, then how often the earthquake of each row is drawn, then how
    often its station is. What is drawn hangs on the number of the unit, from `first` on, so that equally many
    earthquakes and stations are not drawn alike.
    """
    weights = [np.ones((1, len(rows)))]
    for number, unit in enumerate((unit for unit in units if unit in rows), first):
        names, member = np.unique(rows[unit].astype(str), return_inverse=True)
        random = np.random.default_rng(np.random.SeedSequence((0, number)))
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
        units = len([unit for unit in UNITS if unit in group])
        if reference is not None:
            other = drawn.get((reference, *key[1:]), {})
            statistics = {name: other[name] - values for name, values in statistics.items() if name in other}
        for metric, values in statistics.items():
            draws = [x[np.isfinite(x)] for x in values[1:].reshape(units, -1)]
            intervals = [np.percentile(x, ENDS) for x in draws if len(x)]
            own = group[_counted(group, metric)]
            counts = {f"{unit}s": own[unit].nunique() for unit in UNITS if unit in group}
            counts["independent"] = min(*counts.values(), least)
            enough = counts["independent"] >= FEWEST and intervals
            low, high = max(intervals, key=np.ptp) if enough else (np.nan, np.nan)
            numbers = {"metric": metric, "value": values[0], "low": low, "high": high}
            table.append({**dict(zip(by, key, strict=True)), **numbers, **counts, "records": len(own)})
    return pd.DataFrame(table)


def _counted(rows: pd.DataFrame, metric: str) -> pd.Series:
    """Which rows a metric is made of: those with a value, a label, or a pick that matches one."""
    stem = next((x[:-5] for x in rows if x.endswith("_label") and metric.startswith(x[:-5])), None)
    if stem is None:
        column = "log10_amplitude" if metric.startswith(("amplitude", "magnitude")) else metric
        return rows[column].notna() if column in rows else rows["denoiser"].notna()
    residuals = metric.removeprefix(stem) in ("mean", "median", "std", "early")
    return rows[f"{stem}residual"].notna() if residuals else rows[f"{stem}label"].astype(bool)


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
