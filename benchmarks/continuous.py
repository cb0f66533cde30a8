"""Continuous records: networks of stations, a day of one station, and the minutes of noise that both are mixed with.

Noise comes from windows of at least a minute, all reversed in time, so that it holds no earthquake: minutes of one
station in random order, over and over, of one level, each faded into the next in two seconds such that the power stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import obspy
import pandas as pd
from baselines import PICKING, WAVEFORMS, Array, Denoiser, NetworkDenoiser, band_pass
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime
from options import Options
from testdata import SHARED, Sources, loaded

from seisbench_cdiffsd.data import augmentations as aug
from seisbench_cdiffsd.data import pairs
from seisbench_cdiffsd.data.augmentations import P_KEY, S_KEY
from seisbench_cdiffsd.data.datasets import open_dataset
from seisbench_cdiffsd.data.stores import InMemory, at_least, resample, silence
from seisbench_cdiffsd.denoising import denoise
from seisbench_cdiffsd.evaluation import TOLERANCE
from seisbench_cdiffsd.streams.filtering import BAND
from seisbench_cdiffsd.streams.filtering import SAMPLING_RATE as RATE

START = UTCDateTime(2020, 1, 1)
#: Samples of a minute, over which minutes fade into each other, and before P in the window that an SNR is of.
MINUTE, FADE, BEFORE, WINDOW = 6000, 200, 500, 3000
#: Samples in which an earthquake rises from silence, and falls to it.
RISE, FALL = 100, 300
#: Least minutes of noise of a station, as long as there are such stations.
FEWEST_MINUTES = 10
#: Degrees to kilometres.
DEGREE = 111.19
#: Inputs of pickers, from denoisers of the same name; the first is the record as it is.
INPUTS = ("raw", "band-pass 2-20 Hz", "DeepDenoiser", PICKING, WAVEFORMS)
TOGETHER = "raw with CDiffSD"
#: Least stations of a coincidence; slowest P and then speeds of P and S in km/s; and how PyOcto associates.
ICE: dict[str, Any] = {"n_picks": 6, "n_p_picks": 3, "n_s_picks": 0, "n_p_and_s_picks": 0, "zlim": (0.0, 3.0)}
ICE |= {"min_node_size": 0.3, "min_node_size_location": 0.05, "beyond": 2.0}
NETWORKS: dict[str, dict[str, Any]] = {
    "ghana": {"fewest": 3, "slowest": 5.0},
    "rutford": {
        "fewest": 4,
        "slowest": 3.0,
        "leave": ("AS13", "AS23", "AS33"),  # one array with A000
        "associate": ICE | {"speeds": (3.8, 1.95), "tolerance": 0.2, "time_before": 3.0, "min_interevent_time": 0.5},
    },
    "rutford_slow": {
        "fewest": 4,
        "slowest": 0.6,
        "associate": ICE | {"speeds": (0.76, 0.39), "tolerance": 1.0, "time_before": 15.0, "min_interevent_time": 2.5},
    },
}
#: The crust of the Altiplano. P alone locates there: most S have no label, and come too late for near earthquakes.
CRUST: dict[str, Any] = {"n_picks": 6, "n_p_picks": 6, "n_s_picks": 0, "n_p_and_s_picks": 0, "zlim": (-5.0, 80.0)}
CRUST |= {"speeds": (6.0, 3.45), "tolerance": 1.5, "time_before": 60.0, "min_interevent_time": 10.0, "beyond": 80.0}
CRUST |= {"min_node_size": 10.0, "min_node_size_location": 1.5}
#: Records of earthquakes that were located: dataset, source, and samples from record to record.
LOCATED, SLOT = ("events2", "seissrcmoment_uturuncu"), 18_000


@dataclass(frozen=True)
class Network:
    """
    Records of stations, (station, 3, samples), their ids, first samples and places (``id``, ``x``, ``y``, ``z`` in km,
    z downwards); the fewest stations of an event, the slowest P in km/s, and how PyOcto associates.
    """

    name: str
    records: Array
    ids: Sequence[str]
    first: Sequence[int]
    stations: pd.DataFrame
    fewest: int = 4
    slowest: float = 5.0
    associate: Mapping[str, Any] = field(default_factory=dict)
    labels: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def seconds(self) -> float:
        return self.records.shape[-1] / RATE

    @property
    def hours(self) -> float:
        """Hours of all stations together."""
        return len(self.records) * self.seconds / 3600

    @property
    def apart(self) -> Array:
        """Seconds that the slowest P takes from station to station."""
        place = self.stations[["x", "y"]].to_numpy()
        return np.linalg.norm(place[:, None] - place, axis=-1) / self.slowest

    def area(self) -> dict[str, Any]:
        """How PyOcto associates, and where."""
        settings = dict(self.associate)
        beyond = settings.pop("beyond")
        limits = {f"{x}lim": (self.stations[x].min() - beyond, self.stations[x].max() + beyond) for x in "xy"}
        return {**settings, **limits, "pick_match_tolerance": settings["tolerance"]}


def read_network(name: str, minutes: int) -> Network:
    """The first minutes of a network in ``../shared/data/network``."""
    folder, settings = SHARED / "data" / "network" / name, dict(NETWORKS[name])
    stations = pd.read_csv(folder / "stations.csv")
    leave, records, ids = settings.pop("leave", ()), [], []
    for path in sorted(folder.glob("*.mseed")):
        stream = obspy.read(str(path))
        if stream[0].stats.station not in leave:
            traces = sorted(stream, key=lambda trace: "ZN1E2".index(trace.stats.channel[-1]))
            records.append(np.stack([trace.data[: minutes * MINUTE] for trace in traces]).astype(np.float32))
            ids.append(stream[0].stats.station)
    places = _places(stations.set_index("station").loc[ids].reset_index())
    return Network(name, np.stack(records), ids, [0] * len(ids), places, **settings)


def _places(stations: pd.DataFrame) -> pd.DataFrame:
    middle = stations[["latitude", "longitude"]].mean()
    north, east = (DEGREE * (stations[name] - middle[name]) for name in ("latitude", "longitude"))
    east *= np.cos(np.radians(middle["latitude"]))
    z = -stations["elevation_m"] / 1000
    return pd.DataFrame({"id": stations["station"], "x": east, "y": north, "z": z - z.mean()})


def read_located(earthquakes: int) -> Network:
    """
    Records of a minute of earthquakes with P labels, at the stations that recorded each; one earthquake after another,
    three minutes apart. ``labels``: ``event``, ``station``, ``phase`` and ``time`` in seconds.
    """
    dataset = open_dataset(str(SHARED / "data" / LOCATED[0]))
    dataset = dataset.filter((dataset.metadata["trace_source"] == LOCATED[1]).to_numpy(), inplace=False)
    names = {"station_code": "station"} | {f"station_{x}_deg": x for x in ("latitude", "longitude")}
    store = InMemory(dataset, [silence, resample, at_least_a_minute, demean])
    table = store.metadata.rename(columns={**names, "station_elevation_m": "elevation_m"})
    events = {name: number for number, name in enumerate(sorted(table["source_id"].unique())[:earthquakes])}
    records, ids, first, labels = [], [], [], []
    for index, row in table.iterrows():
        if row["source_id"] in events:
            number = events[row["source_id"]]
            records.append(store.get_sample(index)[0][:, :MINUTE])
            ids.append(row["station"])
            first.append(number * SLOT)
            for phase, key in (("P", P_KEY), ("S", S_KEY)):
                if np.isfinite(row[key]):
                    labels.append((number, row["station"], phase, (first[-1] + row[key]) / RATE))
    stations = _places(table.drop_duplicates("station"))
    labels = pd.DataFrame(labels, columns=["event", "station", "phase", "time"])
    return Network("uturuncu", np.stack(records), ids, first, stations, associate=CRUST, labels=labels)


def at_least_a_minute(state: aug.State) -> None:
    at_least(MINUTE, state)


def demean(state: aug.State) -> None:
    waveform, metadata = state["X"]
    state["X"] = (waveform - waveform.mean(-1, keepdims=True), metadata)


def minutes_of_noise(sources: Sources) -> dict[str, Array]:
    """
    Minutes of recorded noise by station, (minute, 3, 6000), reversed in time, and scaled alike, such that the median
    power in band of a second is 1: noise does not change its level from one minute to the next.
    """
    minutes = defaultdict(list)
    for dataset in (x for kind in sources.noise.values() for x in kind):
        try:
            store = InMemory(dataset, [silence, resample, at_least_a_minute, demean, aug.always_moving])
        except ValueError:
            continue  # shorter windows only
        for waveform, metadata in store.samples:
            station = f"{metadata.get('station_network_code')}.{metadata.get('station_code')}"
            minutes[station].append(waveform[:, MINUTE - 1 :: -1])
    least = min(FEWEST_MINUTES, max(map(len, minutes.values())))
    return {name: _level(np.stack(x)) for name, x in sorted(minutes.items()) if len(x) >= least}


def _level(minutes: Array) -> Array:
    seconds = np.square(in_band(minutes)).reshape(len(minutes), 3, -1, round(RATE)).mean((1, 3))
    return minutes / np.sqrt(np.median(seconds, axis=1))[:, None, None]


def joined(minutes: Array, samples: int, random: np.random.Generator) -> Array:
    """Noise of a station, (3, samples), from minutes of it."""
    hop = MINUTE - FADE
    rise = np.sin(np.linspace(0, np.pi / 2, FADE))
    noise = np.zeros((3, -(-samples // hop) * hop + FADE), np.float32)
    order: list[int] = []
    for start in range(0, noise.shape[-1] - FADE, hop):
        order = order or list(random.permutation(len(minutes)))
        minute = minutes[order.pop()].copy()
        minute[:, :FADE] *= rise
        minute[:, -FADE:] *= rise[::-1]
        noise[:, start : start + MINUTE] += minute
    return noise[:, FADE // 2 : FADE // 2 + samples]


def in_band(records: Array) -> Array:
    """Records in the band of the models."""
    return band_pass(records, BAND["freqmin"], BAND["freqmax"])


def power(records: Array) -> Array:
    """Mean power in the band of the models over samples and components, (...)."""
    return np.square(in_band(records), dtype=np.float64).mean((-2, -1))


def with_noise(network: Network, minutes: Mapping[str, Array], snr_db: float, alone: bool = False) -> Network:
    """
    A network with noise of another station added to each, the same one to a station throughout. The SNR is that of the
    mean power of a whole record and of the median power of the noise, in band.

    :param alone: Let as much noise follow each record, to count what is found in noise alone
    """
    stations = sorted(set(network.ids))
    sources = [name for name in minutes if name.partition(".")[2] not in stations] or list(minutes)
    random = np.random.default_rng(0)
    size, mixed = network.records.shape[-1], []
    for record, own in zip(network.records, network.ids, strict=True):
        source = sources[stations.index(own) % len(sources)]
        noise = np.sqrt(power(record) * 10 ** (-snr_db / 10)) * joined(
            minutes[source], size * (2 if alone else 1), random
        )
        noise[:, :size] += record
        mixed.append(noise.astype(np.float32))
    return Network(**{**vars(network), "records": np.stack(mixed)})


def found_and_false(picks: pd.DataFrame, labels: pd.DataFrame, phase: str) -> tuple[NDArray, NDArray]:
    """
    The highest probability near each label of a day, 0 without a pick, and the probabilities of false picks, those
    outside of all earthquakes' records.
    """
    own = picks[picks["phase"] == phase]
    time, probability = (own[name].to_numpy(float) for name in ("time", "probability"))
    wanted = labels[phase.lower()].dropna().to_numpy()
    near = np.abs(time - wanted[:, None]) <= TOLERANCE
    inside = (time >= labels["start"].to_numpy()[:, None]) & (time <= labels["end"].to_numpy()[:, None])
    return (near * probability).max(1, initial=0.0), probability[~inside.any(0)]


def to_stream(records: Array, ids: Sequence[str], first: Sequence[int]) -> Stream:
    """Records (record, 3, samples) as traces; `first` are the samples from the start at which they begin."""
    return Stream(
        Trace(x.copy(), {"station": id_, "channel": f"HH{c}", "sampling_rate": RATE, "starttime": START + start / RATE})
        for record, id_, start in zip(records, ids, first, strict=True)
        for c, x in zip("ZNE", record, strict=True)
    )


def denoised(records: Array, ids: Sequence[str], first: Sequence[int], denoiser: Denoiser | None) -> Stream:
    """What pickers get: records as they are, filtered, or through the package's ``denoise``."""
    if isinstance(denoiser, NetworkDenoiser):
        return denoise(to_stream(records, ids, first), denoiser.model, **denoiser.arguments)
    return to_stream(records if denoiser is None else denoiser(records), ids, first)


def inputs(denoisers: Mapping[str, Denoiser]) -> dict[str, Denoiser | None]:
    """Denoisers that are compared, by the names of inputs, and models of users."""
    return {name: denoisers.get(name) for name in INPUTS if name == "raw" or name in denoisers} | {
        name: denoiser for name, denoiser in denoisers.items() if "/" in name
    }


def day(sources: Sources, hours: float, options: Options, every: float = 240.0) -> tuple[Array, pd.DataFrame]:
    """
    Continuous noise of one station after another, (3, samples), with an earthquake every so many seconds, of SNRs from
    -10 to 10 dB in turn: ratio of mean powers in band in the 30 s from 5 s before P. Earthquakes are clean records in
    band, with rising and falling ends.

    :return: The record, and for each earthquake ``p``, ``s`` (NaN without one), ``start`` and ``end`` in seconds, and
        ``snr_db``
    """
    earthquakes = loaded(sources.earthquakes, pairs.target(options.clean_snr, mute=False))
    minutes, random = minutes_of_noise(sources), np.random.default_rng(options.seed)
    samples, total = round(hours * 3600 * RATE), sum(map(len, minutes.values()))
    borders = np.cumsum([0, *(round(samples * len(x) / total) for x in minutes.values())])
    borders[-1] = samples
    parts = [joined(x, size, random) for x, size in zip(minutes.values(), np.diff(borders), strict=True)]
    record = np.concatenate(parts, axis=-1)
    quiet = in_band(record[None])[0]
    rows, order = [], []
    for number in range(int(samples / RATE / every)):
        order = order or list(random.permutation(len(earthquakes)))
        waveform, metadata = earthquakes.get_sample(order.pop())
        waveform, p = waveform[:3].astype(np.float64), metadata[P_KEY]
        length = waveform.shape[-1]
        waveform *= np.interp(np.arange(length), [0, RISE, length - FALL, length], [0, 1, 1, 0])
        start = round((number + random.uniform(0.1, 0.5)) * every * RATE)
        end = min(start + length, samples)
        window = slice(max(round(p) - BEFORE, 0), round(p) - BEFORE + WINDOW)
        around = slice(start + window.start, start + window.stop)
        snr = pairs.MIXTURE_SNRS[number % len(pairs.MIXTURE_SNRS)]
        ratio = np.square(quiet[:, around]).mean() / np.square(waveform[:, window]).mean()
        record[:, start:end] += (waveform * np.sqrt(ratio * 10 ** (snr / 10)))[:, : end - start]
        seconds = {name: (start + metadata.get(key, np.nan)) / RATE for name, key in (("p", P_KEY), ("s", S_KEY))}
        rows.append({**seconds, "start": start / RATE, "end": end / RATE, "snr_db": snr})
    return record.astype(np.float32), pd.DataFrame(rows)
