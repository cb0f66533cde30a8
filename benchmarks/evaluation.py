"""Evaluate denoisers: how well they keep the waveform, what pickers find in it, and what they pick in noise alone.

All results are rows, one for each record and denoiser, which :py:mod:`summary` turns into tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from baselines import DRY, WINDOW, Array, Denoiser, oracle_mask
from seisbench.models import WaveformModel
from summary import MEANS, MEDIANS, TOLERANCES, Floats
from tqdm.auto import tqdm

from seisbench_cdiffsd import metrics
from seisbench_cdiffsd.data.augmentations import P_KEY, S_KEY
from seisbench_cdiffsd.data.pairs import Mixtures
from seisbench_cdiffsd.picking import match_labels, pick_windows
from seisbench_cdiffsd.streams.filtering import SAMPLING_RATE

#: Lowest probability of a pick, by class of the picker, and for others.
THRESHOLDS, THRESHOLD = {"PhaseNet": 0.3, "EQTransformer": 0.1}, 0.3
#: Thresholds at which picks are found, to compare denoisers where false picks are equally rare. At a low one, arrivals
#: are one pick if the probability does not fall below half of it between them.
LADDER = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
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
    mixtures: Mixtures,
    denoisers: Mapping[str, Denoiser],
    pickers: Mapping[str, WaveformModel],
    full_band: Mixtures | None = None,
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
            result["sdr_full_db"] = metrics.sdr_db(full_band.clean, wide, axis=(-2, -1))
            result["correlation_full"] = _correlation(full_band.clean, wide)
        return result

    estimates = {"clean": lambda _: clean, **denoisers, "oracle mask": lambda _: oracle_mask(clean, noise)}
    for part in map(np.float32, RECOVERED):
        estimates[f"{part:.0%} recovered"] = lambda noisy, part=part: noisy + part * (clean - noisy)
    labels = mixtures.labels.assign(p_snr_db=_p_snr(mixtures))
    return evaluate_records(mixtures.noisy, labels, estimates, pickers, waveforms)


def evaluate_records(
    windows: Array,
    labels: pd.DataFrame,
    denoisers: Mapping[str, Denoiser],
    pickers: Mapping[str, WaveformModel],
    waveforms: Callable[[str, Array], Mapping[str, Floats]] | None = None,
) -> pd.DataFrame:
    """
    Run denoisers, and "noisy", which does nothing, on records, and pickers on what they return.

    :param windows: In-band records (batch, 3, samples)
    :param labels: One row per record, with ``p_sample`` and ``s_sample``
    :param waveforms: Metrics of what a denoiser, by name, makes of the records
    :return: One row per record and denoiser: ``denoiser``, ``record``, ``event``, ``station`` and those of ``GROUPS``;
        and for each picker and phase ``<picker>_<phase>_residual`` in seconds (NaN where missed), ``_label`` (whether
        there is one), ``_picks`` (their number) and ``_highest`` (probability of the most probable pick at any
        threshold, within 0.5 s of the label, or anywhere if there is none; 0 without one)
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


def evaluate_noise(
    records: Array, metadata: pd.DataFrame, denoisers: Mapping[str, Denoiser], pickers: Mapping[str, WaveformModel]
) -> pd.DataFrame:
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
        return {"suppression_db": np.tile(metrics.suppression_db(*whole, axis=(-2, -1)), parts)}

    labels = pd.concat([metadata] * parts, ignore_index=True).assign(p_sample=np.nan, s_sample=np.nan)
    rows = evaluate_records(windows, labels, denoisers, pickers, waveforms)
    rows["record"] %= len(records)
    keys = ["denoiser", "record", "kind", "event", "suppression_db"]
    highest = [name for name in rows if name.endswith("_highest")]
    rows = rows[keys + highest].groupby(keys, sort=False, dropna=False).max().reset_index()
    for name in highest:
        picker = pickers[name.rsplit("_", 2)[0]]
        rows[name.replace("_highest", "_false")] = rows[name] >= usual_threshold(picker)
    return rows.assign(hours=parts * WINDOW / SAMPLING_RATE / 3600)


def usual_threshold(picker: WaveformModel) -> float:
    """Probability from which on picks of a picker count."""
    return THRESHOLDS.get(type(picker).__name__, THRESHOLD)


def with_unions(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows, and those of picks on noisy records, and on those denoised for picking, together: the more probable one."""
    waveforms = (*MEANS, *MEDIANS)
    kept = [name for name in rows if name not in waveforms and not name.endswith("_picks")]
    tables, noisy = [rows], rows[rows["denoiser"] == "noisy"].reset_index(drop=True)
    picked = [name for name in kept if name.endswith(("_highest", "_false", "_residual"))]
    for name in rows["denoiser"].unique() if picked else ():
        if not name.endswith((", picking", DRY)):
            continue
        union = rows.loc[rows["denoiser"] == name, kept].reset_index(drop=True)
        for column in picked:
            if column.endswith("_residual"):
                union[column] = noisy[column].fillna(union[column])
            else:
                union[column] = np.maximum(union[column], noisy[column])
        tables.append(union.assign(denoiser=f"{name} + noisy"))
    return pd.concat(tables, ignore_index=True)


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

    def snr(x: Array) -> Floats:
        return metrics.snr_db(x.transpose(0, 2, 1).reshape(len(x), -1), 3 * np.round(onset))

    sdr = metrics.sdr_db(clean, estimate, axis=(-2, -1))
    with np.errstate(divide="ignore"):
        amplitude = np.log10(metrics.amplitude_ratio(clean, estimate, axis=(-2, -1)))
    (axis, straight), (found, found_straight) = (polarisation(x, onset) for x in (clean, estimate))
    return {
        "sdr_db": sdr,
        "sdr_gain_db": sdr - metrics.sdr_db(clean, noisy, axis=(-2, -1)),
        "snr_gain_db": snr(estimate) - snr(noisy),
        "correlation": _correlation(clean, estimate),
        "log10_amplitude": amplitude,
        "p_angle_deg": np.degrees(np.arccos(np.abs((axis * found).sum(-1)).clip(0, 1))),
        "p_rectilinearity": found_straight - straight,
    }


def _correlation(clean: Array, estimate: Array) -> Floats:
    """Mean correlation over the components that are not dead in the reference, (batch,)."""
    return np.nanmean(metrics.cross_correlation(clean, estimate), axis=-1)


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
        wanted = pd.DataFrame({"record": records, "phase": phase, "time": times}).dropna()
        matched = match_labels(picks, wanted, max(TOLERANCES)).set_index("record")["residual"]
        counts = picks[picks["phase"] == phase].groupby("record").size()
        some = ladder[ladder["phase"] == phase]
        distance = some["time"].to_numpy(dtype=float) - times[some["record"].to_numpy(dtype=int)]
        near = some[np.isnan(distance) | (np.abs(distance) <= max(TOLERANCES) + 1e-6)]
        highest = near.groupby("record")["probability"].max()
        columns[f"{name}_{phase}_residual"] = matched.reindex(records).to_numpy(dtype=float)
        columns[f"{name}_{phase}_label"] = np.isfinite(times)
        columns[f"{name}_{phase}_picks"] = counts.reindex(records, fill_value=0).to_numpy()
        columns[f"{name}_{phase}_highest"] = highest.reindex(records, fill_value=0.0).to_numpy()
    return columns
