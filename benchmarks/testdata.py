"""The records of a run: mixtures, noise alone, and records that are noisy by nature; from any dataset of SeisBench."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import obspy
import pandas as pd
import seisbench.data as sbd
from baselines import WINDOW, Array
from numpy.typing import NDArray
from options import DataError, Options

from seisbench_cdiffsd.data import augmentations as aug
from seisbench_cdiffsd.data import pairs
from seisbench_cdiffsd.data.augmentations import P_KEY, RATE_KEY, S_KEY, SNR_KEY, State
from seisbench_cdiffsd.data.datasets import (
    earthquakes_of,
    in_split,
    noise_apart,
    noise_of,
    open_dataset,
    some,
    take_split,
)
from seisbench_cdiffsd.data.pairs import Mixtures
from seisbench_cdiffsd.data.stores import InMemory, Joined, Steps
from seisbench_cdiffsd.evaluation import window_scale
from seisbench_cdiffsd.streams.filtering import SAMPLING_RATE as RATE

SHARED = Path(__file__).parents[2] / "shared"
#: Datasets in ``../shared/data``, and the noise of which false picks are counted only.
EVENTS, NOISE, BUSY = ("events", "events2"), ("noise", "noise2"), ("busy",)
#: Windows of noise that hold icequakes, by dataset, name, station and time, in ``../shared/data``.
EXCLUDED = "noise_exclude.csv"
#: Highest SNR in dB of records that count as naturally noisy.
NOISY_SNR = 15.0
#: Amplitude of the noise in the paper's protocol: a share of the record's, both of them divided by their maximum.
FACTOR = 0.40, 0.65
#: Lowest upper end in Hz of the band that noise must have, as far as its metadata tell it.
NOISE_BAND = 40.0
#: Most minutes of noise of a station, so that none dominates the noise.
STATION_MINUTES = 60
#: Records that are read for each one wanted, since many are not good enough.
SPARE = 6


@dataclass(frozen=True)
class Data:
    """
    The records of a run: mixtures by protocol ("paper", "window"), the same before the band-pass, minutes of noise
    alone (batch, 3, 6000), and records that are noisy by nature (batch, 3, 3000).
    """

    source: str
    mixtures: dict[str, Mixtures]
    full_band: dict[str, Mixtures]
    noise: Array
    noise_metadata: pd.DataFrame
    natural: Array
    natural_labels: pd.DataFrame


@dataclass(frozen=True)
class Sources:
    """The datasets of a run: all of `events`; and, of its split, earthquakes, and noise, calm and busy."""

    name: str
    events: list[sbd.WaveformDataset]
    earthquakes: list[sbd.WaveformDataset]
    noise: dict[str, list[sbd.WaveformDataset]]


def open_sources(options: Options, folder: Path) -> Sources:
    """
    The datasets of a run. An example is written to a folder if there is nothing else.

    :raises DataError: If a dataset cannot be used
    """
    events, noise, busy = list(options.events), list(options.noise), []
    if not events and not noise and not (SHARED / "data").is_dir():
        write_example(folder)
        events, noise = [str(folder / "events")], [str(folder / "noise")]
    elif not events:
        shared = [[SHARED / "data" / name for name in names] for names in (EVENTS, NOISE, BUSY)]
        events, calm, busy = ([str(path) for path in paths if path.is_dir()] for paths in shared)
        noise = noise or calm
    noise = noise or events
    split = options.split

    def few(dataset: sbd.WaveformDataset) -> sbd.WaveformDataset:
        return some(dataset, SPARE * options.limit, options.seed)

    try:
        sets, calm, unrest = ([open_dataset(x, options.download) for x in part] for part in (events, noise, busy))
        quiet = [noise_apart(few(usable(x, split)), sets, split) for x in calm]
        held = [earthquakes_of(few(split_of(x, split))) for x in sets]
    except ValueError as error:
        raise DataError(str(error)) from error
    restless = [few(split_of(x, split)) for x in unrest if split in set(x.metadata["split"])]
    name = " + ".join(dict.fromkeys(Path(name).name for name in (*events, *noise, *busy)))
    return Sources(name, sets, held, {kind: x for kind, x in (("calm", quiet), ("busy", restless)) if x})


def load_data(options: Options, folder: Path) -> Data:
    """
    The records of a run, always the same for one seed. An example is written to a folder if there is nothing else.

    :raises DataError: If a dataset cannot be used
    """
    sources = open_sources(options, folder)
    sets = sources.events
    try:
        earthquakes = loaded(sources.earthquakes, pairs.target(options.clean_snr, mute=False))
        silence = {kind: loaded(x, pairs.background(WINDOW)) for kind, x in sources.noise.items()}
    except ValueError as error:
        raise DataError(str(error)) from error
    mixed = {name: mix(earthquakes, silence["calm"], options, name) for name in ("paper", "window")}
    seen = {name: x.labels.assign(**_seen(x.labels, sets)) for name, x in mixed.items()}
    mixtures, full_band = (
        {name: Mixtures(x.clean[:, part], x.noise[:, part], seen[name]) for name, x in mixed.items()}
        for part in (slice(3), slice(3, 6))
    )
    return Data(sources.name, mixtures, full_band, *noise_alone(silence, options), *natural_records(sets, options))


def loaded(datasets: Sequence[sbd.WaveformDataset], steps: Steps) -> Joined:
    """
    The usable records of several datasets, some of which may have none: six channels, of which the first three are in
    the band and the others, scaled alike, as they were recorded.
    """
    place = steps.index(aug.in_band)

    def keep(state: State) -> None:
        state["whole"] = state["X"]

    def join(state: State) -> None:
        state["X"] = (np.concatenate([state["X"][0], state["whole"][0]]), state["X"][1])

    steps = [*steps[:place], keep, aug.in_band, *steps[place + 2 :], join, steps[place + 1]]
    parts, problems = [], []
    for dataset in datasets:
        try:
            parts.append(InMemory(dataset, steps))
        except ValueError as error:
            problems.append(error)
    if not parts:
        raise problems[0]
    return Joined(parts)


def split_of(dataset: sbd.WaveformDataset, split: str) -> sbd.WaveformDataset:
    """A split of a dataset, without what earlier splits hold; all of a dataset without splits."""
    return take_split(dataset, split) if "split" in dataset.metadata else dataset


def usable(noise: sbd.WaveformDataset, split: str) -> sbd.WaveformDataset:
    """Noise of a split without what holds icequakes, and without what has nothing in the upper part of the band."""
    left = split_of(noise_of(noise), split)
    metadata, path = left.metadata, SHARED / "data" / EXCLUDED
    wide = metadata.get("trace_band_hz", pd.Series(np.inf, index=metadata.index)).fillna(np.inf) >= NOISE_BAND
    if path.is_file() and Path(noise.path) == SHARED / "data" / NOISE[0]:
        wide &= ~metadata["trace_name"].isin(pd.read_csv(path)["trace_name"])
    return left.filter(wide.to_numpy(), inplace=False)


def mix(earthquakes: Joined, noise: Joined, options: Options, protocol: str) -> Mixtures:
    """
    Mixtures of one earthquake and one window of noise, drawn by station, each station by the root of its records.
    "paper": the noise has 0.40 to 0.65 of the maximum of the record, one mixture per earthquake and draw. "window":
    input SNRs of -10 to 10 dB, of mean powers over the window, in one draw.
    """
    chances, parts = pairs.source_weights(noise.metadata, "station_code"), []
    snrs, draws = ((0.0,), options.draws) if protocol == "paper" else (pairs.MIXTURE_SNRS, 1)
    for seed in range(options.seed, options.seed + draws):
        mixed = pairs.mixtures(earthquakes, noise, options.limit, snrs, WINDOW, seed, chances)
        inside = [np.float64(x[:, :3]) for x in (mixed.clean, mixed.noise)]
        if protocol == "paper":
            peak, noise_peak = (np.abs(x).max((1, 2)) for x in inside)
            random = np.random.default_rng(np.random.SeedSequence((seed, len(peak), 1)))
            scale = random.uniform(*FACTOR, len(peak)) * peak / noise_peak
            mixed.labels["input_snr_db"] = np.nan
        else:
            scale = window_scale(*inside, mixed.labels["input_snr_db"])
        parts.append((mixed.clean, (scale[:, None, None] * mixed.noise).astype(np.float32), mixed.labels))
    clean, noises, labels = zip(*parts, strict=True)
    return Mixtures(np.concatenate(clean), np.concatenate(noises), pd.concat(labels, ignore_index=True))


def _seen(labels: pd.DataFrame, datasets: Sequence[sbd.WaveformDataset]) -> dict[str, Any]:
    """Whether the station, and the region, of each record is in the training split of any of the datasets."""
    tables = [x.metadata[x.metadata["split"] == "train"] for x in datasets if "split" in x.metadata]
    columns = {"station_seen": "station_code", "region_seen": "region"}
    return {
        name: np.where(labels[column].isin(pd.concat([x[column] for x in tables if column in x])), "seen", "unseen")
        for name, column in columns.items()
        if column in labels and any(column in x for x in tables)
    }


def noise_alone(stores: Mapping[str, Joined], options: Options) -> tuple[Array, pd.DataFrame]:
    """
    Minutes of noise, of two windows of a station each, at most 60 of a station; and their metadata. Reversed in time,
    calm and busy, which keeps spectrum and bursts and cannot hold an earthquake; and calm with random phases, which
    keeps the spectrum alone. Intervals resample stations, which are therefore the events.
    """
    records, rows = [], []
    for kind, store in stores.items():
        for index in range(len(store)):
            waveform, metadata = store.get_sample(index)
            station = f"{metadata.get('station_network_code')}.{metadata.get('station_code', metadata['trace_name'])}"
            for start in range(0, waveform.shape[-1] - WINDOW + 1, WINDOW):
                records.append(waveform[:3, start : start + WINDOW])
                rows.append({"source_id": station, "kind": kind})
    table = pd.DataFrame(rows).rename_axis("window").reset_index().sample(frac=1, random_state=options.seed)
    place = table.groupby(["kind", "source_id"]).cumcount()
    table = table.assign(minute=place // 2, half=place % 2)
    table = table.pivot(index=["minute", "kind", "source_id"], columns="half", values="window").reindex(columns=[0, 1])
    table = table.dropna().astype(int).reset_index()
    table = table.groupby("kind").head(2 * options.limit)  # of as many stations as there are
    table = table[table["minute"] < STATION_MINUTES]
    if table.empty:
        raise DataError(f"No station has {2 * WINDOW / RATE:g} s of noise, in which false picks are counted.")
    halves = np.stack([np.stack([records[i] for i in table[half]]) for half in (0, 1)], axis=2)
    still = (table["kind"] == "calm").to_numpy()
    spectrum, random = np.fft.rfft(halves[still]), np.random.default_rng(options.seed)
    shape = (len(spectrum), 1, *spectrum.shape[2:])
    parts = halves[..., ::-1], np.fft.irfft(spectrum * np.exp(2j * np.pi * random.random(shape)), WINDOW)
    kinds = [table.assign(kind="reversed, " + table["kind"]), table[still].assign(kind="random phases")]
    noise = np.concatenate(parts).astype(np.float32)
    return noise.reshape(len(noise), 3, 2 * WINDOW), pd.concat(kinds, ignore_index=True)[["source_id", "kind"]]


def natural_records(datasets: Sequence[sbd.WaveformDataset], options: Options) -> tuple[Array, pd.DataFrame]:
    """
    Records with manual P labels and a low SNR, as they are. Those of dev are added to those of test: dev is
    not trained on either, and only its clean records were used to choose models.
    """

    def noisy(state: State) -> None:
        if not -np.inf < state["X"][1][SNR_KEY] < NOISY_SNR:
            raise aug.Unusable("without a low SNR")

    steps, windows, rows = [*pairs.conditioned(int(RATE))[:-1], aug.record_snr, noisy], [], []
    for events in datasets:
        manual = events.metadata.get("trace_p_status", pd.Series("", index=events.metadata.index)) == "manual"
        if "split" in events.metadata:
            splits = ("test", "dev") if options.split == "test" else (options.split,)
            manual &= np.any([in_split(events.metadata, split) for split in splits], axis=0)
        if not manual.any():
            continue
        chosen = some(events.filter(manual.to_numpy(), inplace=False), SPARE * options.limit, options.seed)
        try:
            records = InMemory(chosen, steps)
        except ValueError:
            continue
        for index in range(len(records)):
            state: State = {"X": records.get_sample(index)}
            with pairs.seeded(np.random.SeedSequence((options.seed, index)).generate_state(4)):
                aug.RandomOnset(400, 1200, WINDOW)(state)
            waveform, metadata = state["X"]
            s = metadata.get(S_KEY, np.nan)
            manual_s = metadata.get("trace_s_status") == "manual" and s < WINDOW
            windows.append(waveform)
            rows.append({**metadata, "p_sample": metadata[P_KEY], "s_sample": s if manual_s else np.nan})
    if not windows:
        return np.zeros((0, 3, WINDOW), np.float32), pd.DataFrame(columns=["p_sample", "s_sample"])
    return np.stack(windows), pd.DataFrame(rows)


def write_example(folder: Path) -> None:
    """
    Datasets made of ObsPy's example: the earthquake at three speeds, and Gaussian noise with the spectrum of the
    seconds before it. They show that the benchmarks run, no more.
    """
    stream = obspy.read()
    record = np.stack([stream.select(component=component)[0].data for component in "ZNE"])
    p, s = 473, 571  # as PhaseNet picks them
    quiet = record[:, : p - 30] - record[:, : p - 30].mean(-1, keepdims=True)
    shape, random, events = np.abs(np.fft.rfft(quiet, 6000)), np.random.default_rng(0), []
    for factor in (0.9, 1.0, 1.1):
        position = np.arange(round(3000 * factor)) / factor
        values = np.stack([np.interp(position, np.arange(3000), trace) for trace in record])
        events.append((values, {P_KEY: p * factor, S_KEY: s * factor, "trace_category": "earthquake_local"}))
    noise = [np.fft.irfft(shape * np.fft.rfft(random.standard_normal((3, 6000))), 6000) for _ in range(4)]
    write_dataset(folder / "events", events)
    write_dataset(folder / "noise", [(x, {"trace_category": "noise"}) for x in noise])


def write_dataset(folder: Path, records: Sequence[tuple[NDArray, dict[str, Any]]]) -> str:
    """Write waveforms (3, samples), with metadata, as a dataset in SeisBench's format, and return its path."""
    folder.mkdir(parents=True)
    with sbd.WaveformDataWriter(folder / "metadata.csv", folder / "waveforms.hdf5") as writer:
        writer.data_format = {"dimension_order": "CW", "component_order": "ZNE", "sampling_rate": RATE}
        for number, (waveform, metadata) in enumerate(records):
            row = {"source_id": f"{folder.name}{number}", "trace_channel": "EH", RATE_KEY: RATE, "split": "test"}
            writer.add_trace({**row, **metadata}, waveform.astype(np.float32))
    return str(folder)
