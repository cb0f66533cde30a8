"""What a denoiser makes of one's own earthquakes in one's own noise: waveforms, picks, and picks in noise alone.

Earthquakes with little noise are mixed with recorded noise, at ratios of their mean powers over a window of 30 s. False
picks are counted in noise reversed in time, which keeps its bursts and cannot hold an earthquake.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from obspy import Stream, Trace, UTCDateTime
from seisbench.data import WaveformDataset
from seisbench.models import WaveformModel

from seisbench_cdiffsd.data import pairs
from seisbench_cdiffsd.data.augmentations import Array
from seisbench_cdiffsd.data.datasets import earthquakes_of, noise_apart, noise_of, some, take_split
from seisbench_cdiffsd.data.pairs import CLEAN_SNR, MIXTURE_SNRS, Mixtures
from seisbench_cdiffsd.data.stores import InMemory, Joined
from seisbench_cdiffsd.denoising import dry_of, restore
from seisbench_cdiffsd.metrics import sdr_db
from seisbench_cdiffsd.picking import PICK_COLUMNS, classify
from seisbench_cdiffsd.plotting import PHASES
from seisbench_cdiffsd.streams.filtering import SAMPLING_RATE

Floats = NDArray[np.float64]

#: Samples of a window, windows that are denoised together, and records that are read for each earthquake wanted.
WINDOW, BATCH, SPARE = 3000, 64, 6
#: Largest distance in seconds of a pick from the label that it finds.
TOLERANCE = 0.5
#: Thresholds at which picks are found, to compare denoisers where false picks are equally rare. At a low one, arrivals
#: are one pick if the probability does not fall below half of it between them.
LADDER = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
#: Minutes of noise with a false pick, in an hour, at which recalls are compared: a network works at 1 or 2.
RATES = (1, 2, 5, 10)
#: The record before denoising.
NOISY = "noisy"


def own_records(
    events: Sequence[WaveformDataset],
    noise: Sequence[WaveformDataset] = (),
    split: str = "test",
    limit: int | None = 100,
    min_snr: float = CLEAN_SNR,
) -> tuple[Mixtures, Array]:
    """
    Mixtures of earthquakes with noise, each at -10, -5, 0, 5 and 10 dB, and minutes of noise; the same every time.

    :param events: Datasets with P labels; each without a column ``split`` is taken as a whole
    :param noise: Datasets that hold noise; by default those of `events`
    :param limit: Most earthquakes, chosen at random
    :param min_snr: Lowest SNR in dB of an earthquake's record
    :return: Mixtures, and noise reversed in time, (minute, 3, samples)
    :raises ValueError: If nothing is left of a dataset
    """

    def part(dataset: WaveformDataset) -> WaveformDataset:
        chosen = take_split(dataset, split) if "split" in dataset.metadata else dataset
        return some(chosen, None if limit is None else SPARE * limit)

    earthquakes = [InMemory(earthquakes_of(part(x)), pairs.target(min_snr, mute=False)) for x in events]
    quiet = [noise_apart(part(noise_of(x)), events, split) for x in noise or events]
    store = Joined([InMemory(x, pairs.background(WINDOW)) for x in quiet])
    chances = pairs.source_weights(store.metadata, "station_code")
    mixed = pairs.mixtures(Joined(earthquakes), store, limit, MIXTURE_SNRS, WINDOW, 0, chances)
    scale = window_scale(mixed.clean, mixed.noise, mixed.labels["input_snr_db"])[:, None, None]
    return Mixtures(mixed.clean, (scale * mixed.noise).astype(np.float32), mixed.labels), _minutes(store)


def window_scale(clean: Array, noise: Array, snr_db: ArrayLike) -> Floats:
    """Factors for noise, (batch,), that give an SNR of mean powers over windows (batch, 3, samples)."""
    power, noise_power = (np.square(x, dtype=np.float64).mean((1, 2)) for x in (clean, noise))
    return np.sqrt(power / noise_power * 10 ** (-np.asarray(snr_db, dtype=float) / 10))


def _minutes(noise: Joined) -> Array:
    """Noise reversed in time, two windows of one station after another in each minute, (minute, 3, samples)."""
    windows = defaultdict(list)
    for waveform, metadata in map(noise.get_sample, range(len(noise))):
        for start in range(0, waveform.shape[-1] - WINDOW + 1, WINDOW):
            windows[str(metadata.get("station_code"))].append(waveform[:, start : start + WINDOW][:, ::-1])
    minutes = [np.concatenate(x[i : i + 2], -1) for x in windows.values() for i in range(0, len(x) - 1, 2)]
    if not minutes:
        raise ValueError("No station has a minute of noise, in which false picks are counted.")
    return np.stack(minutes)


def size(mixtures: Mixtures) -> str:
    """How many records, earthquakes and stations mixtures are made of, in words, as far as their metadata tell."""
    columns = {"record": "trace_name", "earthquake": "source_id", "station": "station_code"}
    counts = {what: mixtures.labels[name].nunique() for what, name in columns.items() if name in mixtures.labels}
    return ", ".join(f"{count} {what}{'s' * (count != 1)}" for what, count in counts.items() if count)


def evaluate(
    mixtures: Mixtures,
    noise: Array,
    models: Mapping[str, WaveformModel],
    picker: WaveformModel,
    purpose: str = "picking",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """
    Denoise mixtures and noise, and pick on what comes out.

    :param mixtures: Mixtures, as of :py:func:`own_records`
    :param noise: Minutes of noise, likewise
    :param models: Denoisers by the name of their row
    :param purpose: "picking" or "waveforms", as in :py:func:`.denoising.denoise`
    :return: Rows of mixtures, "noisy" first: ``denoiser``, ``snr_db``, ``sdr_db``, and the probabilities ``P`` and
        ``S`` of the best pick within 0.5 s of the label (0 without a pick, NaN without a label). And rows of minutes of
        noise: ``denoiser``, and the best ``P`` and ``S`` anywhere.
    """
    rows, still = [], []
    halves = np.concatenate(np.split(noise, 2, axis=-1))
    for name, model in {NOISY: None, **models}.items():
        estimate, left = (restored(model, x, purpose) for x in (mixtures.noisy, halves))
        picks, false = (pd.concat(pick_windows(picker, x, LADDER)) for x in (estimate, left))
        sdr = sdr_db(mixtures.clean, estimate, axis=(-2, -1))
        found = {"denoiser": name, "snr_db": mixtures.labels["input_snr_db"].to_numpy(), "sdr_db": sdr}
        worst: dict[str, Any] = {"denoiser": name}
        for phase in "PS":
            times = mixtures.labels[f"{phase.lower()}_sample"].to_numpy(float) / SAMPLING_RATE
            best = best_probability(picks, phase, len(estimate), times)
            found[phase] = np.where(np.isfinite(times), best, np.nan)
            worst[phase] = best_probability(false, phase, len(left)).reshape(2, -1).max(0)
        rows.append(pd.DataFrame(found))
        still.append(pd.DataFrame(worst))
    return pd.concat(rows, ignore_index=True), pd.concat(still, ignore_index=True)


def restored(model: WaveformModel | None, windows: Array, purpose: str) -> Array:
    """What a denoiser makes of windows (batch, 3, samples); without one, they are returned."""
    if model is None:
        return windows
    arguments = {**model.default_args, "dry": dry_of(model, purpose)}
    batches = torch.from_numpy(windows).split(BATCH)
    return torch.cat([restore(model, x, arguments).cpu() for x in batches]).numpy()


def usual_threshold(picker: WaveformModel) -> float:
    """Probability from which on picks of a picker count, whatever it is called."""
    return 0.1 if type(picker).__name__ == "EQTransformer" else 0.3


def pick_windows(picker: WaveformModel, windows: ArrayLike, thresholds: Sequence[float]) -> list[pd.DataFrame]:
    """
    Picks on windows of one length at several thresholds; the picker runs once, on batches of windows.

    :param windows: Windows, (batch, 3, samples), components in ZNE order
    :param thresholds: Lowest probabilities of a pick of P or S
    :return: Picks at each threshold, in order of record (0 ... batch - 1) and time, in s from the start of the window
    :raises ValueError: If the windows are not of this shape
    """
    windows = np.asarray(windows)
    if windows.ndim != 3 or windows.shape[1] != 3:
        raise ValueError(f"Windows must be (batch, 3, samples) in ZNE order, not {windows.shape}.")
    if windows.size == 0:
        return [pd.DataFrame(columns=PICK_COLUMNS) for _ in thresholds]
    start = UTCDateTime(0)
    stream = Stream(
        Trace(data.astype(np.float64), {"station": str(i), "channel": f"XX{code}", "sampling_rate": SAMPLING_RATE})
        for i, window in enumerate(windows)
        for code, data in zip("ZNE", window, strict=True)
    )
    options = [{"P_threshold": least, "S_threshold": least} for least in thresholds]
    tables = []
    for found in classify(picker, stream, options)[1]:
        rows = [(int(x.trace_id.split(".")[1]), x.phase, x.peak_time - start, float(x.peak_value)) for x in found]
        tables.append(pd.DataFrame(sorted(rows, key=lambda row: (row[0], row[2])), columns=PICK_COLUMNS))
    return tables


def best_probability(picks: pd.DataFrame, phase: str, count: int, times: Floats | None = None) -> Floats:
    """
    Probability of the best pick of a phase on each of so many windows, (count,), 0 without one: within 0.5 s of a time
    where that is given, anywhere where it is not, or NaN.
    """
    times = np.full(count, np.nan) if times is None else times
    some = picks[picks["phase"] == phase]
    distance = np.abs(some["time"].to_numpy(float) - times[some["record"].to_numpy(int)])
    near = some[np.isnan(distance) | (distance <= TOLERANCE + 1e-6)]
    return near.groupby("record")["probability"].max().reindex(range(count), fill_value=0.0).to_numpy(float)


def by_snr(rows: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Mean SDR, and P and S found of how many, by the SNR of the window; a column for each denoiser."""
    columns: dict[str, dict[str, str]] = {}
    for name, own in rows.groupby("denoiser", sort=False):
        groups = list(own.groupby("snr_db"))
        column = {f"SDR (dB) at {snr:g} dB": f"{x['sdr_db'].mean():.1f}" for snr, x in groups}
        for phase in "PS":
            column |= {f"{phase} at {snr:g} dB": _share(x[phase].dropna() >= threshold) for snr, x in groups}
        columns[str(name)] = column
    return pd.DataFrame(columns)


def at_equal_false_picks(rows: pd.DataFrame, noise: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """
    Minutes of noise with a false pick, and P and S found where these are equally rare: each denoiser has the lowest
    threshold at which at most so many minutes an hour have a pick. Rates at which none would be allowed are left out.
    """
    columns: dict[str, dict[str, str]] = {}
    for name, still in noise.groupby("denoiser", sort=False):
        own = rows[rows["denoiser"] == name]
        column = {f"minutes with a false {phase}": _share(still[phase] >= threshold) for phase in "PS"}
        for phase in "PS":
            ordered = np.append(np.sort(still[phase])[::-1], 0.0)
            for rate in (rate for rate in RATES if rate * len(still) >= 60):
                least = ordered[rate * len(still) // 60]
                column[f"{phase} at {rate} an hour"] = _share(own[phase].dropna() > least)
        columns[str(name)] = column
    return pd.DataFrame(columns)


def _share(found: pd.Series) -> str:
    return f"{found.mean():.2f} ({found.sum():,} of {len(found):,})" if len(found) else "-"


def gallery(
    mixtures: Mixtures,
    estimates: Mapping[str, Callable[[Array], Array]],
    colours: Mapping[str, str] | None = None,
    count: int = 4,
) -> Figure:
    """
    The vertical component of some mixtures, each of another earthquake and SNR, with labels of P (blue) and S (red).

    :param estimates: By name, what makes an estimate (batch, 3, samples) of noisy windows
    :param colours: Colours of traces, by name
    :param count: Number of mixtures
    """
    snrs = mixtures.labels["input_snr_db"].to_numpy()
    levels = np.unique(snrs)[:count]
    starts = np.flatnonzero(snrs == levels[0])  # the mixtures of an earthquake follow each other
    chosen = [starts[i % len(starts)] + i for i in range(len(levels))]
    noisy = mixtures.noisy[chosen]
    traces = {"clean": mixtures.clean[chosen], NOISY: noisy, **{name: make(noisy) for name, make in estimates.items()}}
    figure = Figure(figsize=(4 * len(chosen), 1.1 * len(traces) + 0.6), layout="constrained")
    axes = figure.subplots(len(traces), len(chosen), sharex=True, squeeze=False)
    for line, (name, values) in zip(axes, traces.items(), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        for ax, value, (_, label) in zip(line, values, mixtures.labels.iloc[chosen].iterrows(), strict=True):
            time = np.arange(value.shape[-1]) / SAMPLING_RATE
            ax.plot(time, value[0], color=(colours or {}).get(name, "#000000"), lw=0.5)
            for phase, shade in PHASES.items():
                ax.axvline(label[f"{phase.lower()}_sample"] / SAMPLING_RATE, color=shade, lw=0.8, alpha=0.6)
            ax.set_yticks([])
    for top, bottom, level in zip(axes[0], axes[-1], levels, strict=True):
        top.set_title(f"SNR {level:.0f} dB", fontsize=9)
        bottom.set_xlabel("time (s)", fontsize=8)
    return figure
