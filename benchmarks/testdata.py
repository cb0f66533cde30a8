"""The records of a run: mixtures, noise alone, and records that are noisy by nature; from any dataset of SeisBench."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import obspy
import pandas as pd
import seisbench.data as sbd
import seisbench.generate as sbg
from baselines import BandPass

from seisbench_cdiffsd.data import augmentations as aug
from seisbench_cdiffsd.data import pairs
from seisbench_cdiffsd.data.augmentations import P_KEY, RATE_KEY, S_KEY, SNR_KEY, State
from seisbench_cdiffsd.data.datasets import noise_apart, noise_of, open_dataset, some
from seisbench_cdiffsd.data.splits import in_split, take_split
from seisbench_cdiffsd.streams.filtering import SAMPLING_RATE as RATE
from seisbench_cdiffsd.training.feeding import CLEAN_SNR

SHARED = Path(__file__).parents[2] / "shared"
#: Samples of a window.
WINDOW = 3000
#: Highest SNR in dB of records that count as naturally noisy.
NOISY_SNR = 15.0
#: Most windows of noise of a station, so that no station dominates the noise.
STATION_WINDOWS = 40
#: Records that are read for each one wanted, if their number is limited, since many are not good enough.
SPARE = 6


class DataError(Exception):
    """Data that the benchmarks cannot use, reported in one line."""


@dataclass(frozen=True)
class Options:
    """Options of the command line; see conftest.py."""

    events: str | None = None
    noise: str | None = None
    split: str = "test"
    limit: int | None = 8
    models: tuple[str, ...] = ()
    pickers: tuple[str, ...] = ("PhaseNet",)
    steps: tuple[int, ...] = (1, 2)
    noise_left: tuple[tuple[float, float], ...] = ()
    seed: int = 0
    clean_snr: float = CLEAN_SNR
    window_snr: bool = False
    device: str = "cpu"
    download: bool = False


def add_arguments(parser: ArgumentParser) -> None:
    """Options that scripts share, for :py:func:`options_of`."""
    parser.add_argument("--events", help="dataset of earthquakes")
    parser.add_argument("--noise", help="dataset of noise")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--window-snr", action="store_true", help="input SNR over the window, not over 10 s from P on")
    parser.add_argument("--limit", type=int, help="number of earthquakes")
    parser.add_argument("--threads", type=int, default=1)


def options_of(args: Namespace, **more: Any) -> Options:
    """Options of a script, from its command line and by name."""
    shared = {name: getattr(args, name) for name in ("events", "noise", "split", "window_snr", "limit")}
    return Options(**shared, models=tuple(args.models), **more)


@dataclass(frozen=True)
class Data:
    """The records of a run: mixtures, noise alone, and records that are noisy by nature."""

    source: str
    mixtures: pairs.Mixtures
    full_band: pairs.Mixtures
    noise: np.ndarray
    noise_metadata: pd.DataFrame
    natural: np.ndarray
    natural_labels: pd.DataFrame


def load_data(options: Options, folder: Path) -> Data:
    """
    The records of a run, always the same for one seed.

    :param folder: Where the embedded example is written
    :raises DataError: If a dataset cannot be used
    """
    events_name, noise_name = options.events, options.noise
    if events_name is None and noise_name is None and not (SHARED / "data").is_dir():
        write_example(folder)
        events_name, noise_name, source = str(folder / "events"), str(folder / "noise"), "ObsPy's example"
    else:
        events_name = events_name or str(SHARED / "data" / "events")
        noise_name = noise_name or (events_name if options.events else str(SHARED / "data" / "noise"))
        source = f"{Path(events_name).name} and {Path(noise_name).name}"
    band, few = pairs.band_pass(), None if options.limit is None else SPARE * options.limit
    try:
        events, noise = (open_dataset(name, options.download) for name in (events_name, noise_name))
        test, quiet = split_of(events, options.split), noise_of(split_of(noise, options.split))
        earthquakes = pairs.load_earthquakes(some(test, few, options.seed), band, options.clean_snr, mute=False)
        apart = noise_apart(some(quiet, few, options.seed), [events], options.split)
        silence = pairs.load_noise(apart, band, WINDOW)
    except ValueError as error:
        raise DataError(str(error)) from error
    mixtures = mix(earthquakes, silence, options)
    wide = full_band(mixtures, earthquakes, silence, (test, quiet), options)
    return Data(source, mixtures, wide, *cut_noise(silence), *natural_records(events, options))


def mix(earthquakes: pairs.InMemory, noise: pairs.InMemory, options: Options) -> pairs.Mixtures:
    """
    Mixtures whose noise is drawn by station, as in a training: each by the root of its records. With the SNR of the
    window, noise is scaled once more: earthquakes are weaker over the window than in the 10 s from P on.
    """
    chances = pairs.source_weights(noise.metadata, "station_code")
    mixed = pairs.mixtures(
        earthquakes, noise, options.limit, windowlen=WINDOW, seed=options.seed, noise_chances=chances
    )
    if not options.window_snr:
        return mixed
    power, noise_power = (np.square(x, dtype=np.float64).mean((1, 2)) for x in (mixed.clean, mixed.noise))
    scale = np.sqrt(power / noise_power * 10 ** (-mixed.labels["input_snr_db"].to_numpy() / 10))
    return replace(mixed, noise=(scale[:, None, None] * mixed.noise).astype(np.float32))


def full_band(
    mixtures: pairs.Mixtures,
    earthquakes: pairs.InMemory,
    noise: pairs.InMemory,
    datasets: tuple[sbd.WaveformDataset, sbd.WaveformDataset],
    options: Options,
) -> pairs.Mixtures:
    """
    The same mixtures before the band-pass: the same windows of the same records, scaled as they are in band.

    :param earthquakes: In-band records that the mixtures were made of
    :param noise: In-band noise, likewise
    :param datasets: Where the two come from
    """
    raw = [_raw(part, dataset) for part, dataset in zip((earthquakes, noise), datasets, strict=True)]
    wide = mix(*raw, options)
    band, parts = BandPass(), []
    for inside, whole in ((mixtures.clean, wide.clean), (mixtures.noise, wide.noise)):
        filtered = band.filter(whole, RATE)
        middle = (..., slice(WINDOW // 10, -WINDOW // 10))  # the ends of a window are filtered as ends of a record
        scale = (inside * filtered)[middle].sum((1, 2)) / (filtered[middle] ** 2).sum((1, 2))
        parts.append((scale[:, None, None] * whole).astype(np.float32))
    return pairs.Mixtures(*parts, mixtures.labels)


def _raw(records: pairs.InMemory, dataset: sbd.WaveformDataset) -> pairs.InMemory:
    """The same records in the same order, with their mean removed and nothing else."""
    keys = [key for key in ("trace_chunk", "trace_name") if key in dataset.metadata]  # names repeat between chunks
    place = {tuple(metadata[key] for key in keys): index for index, (_, metadata) in enumerate(records.samples)}
    chosen = [name in place for name in dataset.metadata[keys].itertuples(index=False, name=None)]
    raw = pairs.InMemory(
        dataset.filter(np.array(chosen), inplace=False),
        [sbg.Normalize(demean_axis=-1), sbg.Normalize(amp_norm_axis=(-2, -1), eps=1e-30)],
    )
    raw.samples.sort(key=lambda sample: place[tuple(sample[1][key] for key in keys)])
    return raw


def split_of(dataset: sbd.WaveformDataset, split: str) -> sbd.WaveformDataset:
    """A split of a dataset, without what earlier splits hold; all of a dataset without splits."""
    return take_split(dataset, split) if "split" in dataset.metadata else dataset


def cut_noise(noise: pairs.InMemory) -> tuple[np.ndarray, pd.DataFrame]:
    """
    Whole windows of noise records, at most 40 per station, spread over all of its records; and their metadata.
    Intervals resample stations, which are therefore the events.
    """
    windows, rows = [], []
    for waveform, metadata in noise.samples:
        for start in range(0, waveform.shape[-1] - WINDOW + 1, WINDOW):
            windows.append(waveform[:, start : start + WINDOW])
            station = f"{metadata.get('station_network_code')}.{metadata.get('station_code', metadata['trace_name'])}"
            rows.append({**metadata, "source_id": station})
    table = pd.DataFrame(rows)
    order, size = (table.groupby("source_id")["source_id"].transform(what) for what in ("cumcount", "size"))
    # every (N / 40)-th of N windows: those at which the number of windows that are due increases
    share = np.minimum(1.0, STATION_WINDOWS / size)
    kept = (np.floor((order + 1) * share + 1e-9) > np.floor(order * share + 1e-9)).to_numpy()
    return np.stack(windows)[kept], table[kept].reset_index(drop=True)


def natural_records(events: sbd.WaveformDataset, options: Options) -> tuple[np.ndarray, pd.DataFrame]:
    """
    Records with manual P labels and a low SNR, as they are. Those of dev are added to those of test: dev is
    not trained on either, and only its clean records were used to choose models.
    """
    windows, rows = [], []
    manual = events.metadata.get("trace_p_status", pd.Series("", index=events.metadata.index)) == "manual"
    if "split" in events.metadata:
        splits = ("test", "dev") if options.split == "test" else (options.split,)
        manual &= np.any([in_split(events.metadata, split) for split in splits], axis=0)
    if manual.any():
        limit = None if options.limit is None else SPARE * options.limit
        steps = [sbg.Normalize(demean_axis=-1), pairs.band_pass(), aug.RecordSNR()]
        chosen = some(events.filter(manual, inplace=False), limit, options.seed)
        try:
            records = pairs.InMemory(
                chosen, steps, lambda metadata: -np.inf < metadata[SNR_KEY] < NOISY_SNR, shortest=int(RATE)
            )
        except ValueError:
            records = None
        for index in range(len(records) if records else 0):
            state: State = {"X": records.get_sample(index)}
            with pairs.seeded(options.seed + index):
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
    random = np.random.default_rng(0)
    events, noises = [], []
    for factor in (0.9, 1.0, 1.1):
        position = np.arange(round(3000 * factor)) / factor
        values = np.stack([np.interp(position, np.arange(3000), trace) for trace in record])
        events.append((values, {P_KEY: p * factor, S_KEY: s * factor, "trace_category": "earthquake_local"}))
    quiet = record[:, : p - 30] - record[:, : p - 30].mean(-1, keepdims=True)
    shape = np.abs(np.fft.rfft(quiet, 6000))
    for _ in range(4):
        noise = np.fft.irfft(shape * np.fft.rfft(random.standard_normal((3, 6000))), 6000)
        noises.append((noise, {"trace_category": "noise"}))
    for name, records in (("events", events), ("noise", noises)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        with sbd.WaveformDataWriter(folder / name / "metadata.csv", folder / name / "waveforms.hdf5") as writer:
            writer.data_format = {"dimension_order": "CW", "component_order": "ZNE", "sampling_rate": RATE}
            for i, (values, metadata) in enumerate(records):
                writer.add_trace(
                    {"source_id": f"{name}{i}", "trace_channel": "EH", RATE_KEY: RATE, "split": "test", **metadata},
                    values.astype(np.float32),
                )
