"""Picks of a network of stations: which fit those of other stations, beyond chance, and which earthquakes they locate.

No labels are needed: a pick is true if it fits picks of other stations. Inputs are compared at equal numbers of picks,
each with a threshold of its own, so that none gains by being more confident.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime
from scipy.signal import find_peaks
from seisbench.models import WaveformModel

from seisbench_cdiffsd.picking import joint_curves

Floats = NDArray[np.float64]
#: Earthquakes, and the picks that each is made of.
Located = tuple[pd.DataFrame, pd.DataFrame]

#: Least probability of a pick, so low that each input has more picks than are compared.
LEAST = 0.001
#: Seconds by which two picks of one wave may be further apart than their stations.
SLACK = 0.3
#: Random shifts of the stations against each other whose coincidences are chance.
SHIFTS = 20
#: An earthquake is known by so many P picks within so many seconds of its labels, and right within so many kilometres.
SAME_STATIONS, SAME_WAVE, NEAR = 3, 1.0, 20.0


def peaks(picker: WaveformModel, stream: Stream, start: UTCDateTime) -> pd.DataFrame:
    """
    All picks on a stream, however improbable, by the characteristic functions of SeisBench's ``annotate``.

    :return: As of :py:func:`peaks_of`
    """
    curves = ((x.stats.station, x.stats.channel.rpartition("_")[2], x) for x in picker.annotate(stream))
    return _table([peaks_of(*x, start) for x in curves if x[1] in ("P", "S")])


def together(picker: WaveformModel, raw: Stream, denoised: Stream, start: UTCDateTime) -> pd.DataFrame:
    """The same on raw and denoised records together, as ``pick`` has them."""
    parts = []
    for curve in joint_curves(picker, raw, denoised):
        picks = peaks_of(curve.instrument.split(".")[1], curve.phase, curve.joint, start)
        parts.append(picks.assign(time=[curve.at(start + time)[0] - start for time in picks["time"]]))
    return _table(parts)


def peaks_of(station: str, phase: str, trace: Trace, start: UTCDateTime) -> pd.DataFrame:
    """
    Peaks of the probability of a phase. As with a threshold, two arrivals are one pick unless the probability falls
    below half of the lower one between them.

    :return: ``station``, ``phase``, ``time`` in seconds from `start`, and ``probability``
    """
    values = np.nan_to_num(trace.data)
    place, found = find_peaks(values, height=LEAST, prominence=LEAST / 2)
    place = place[found["prominences"] >= values[place] / 2]
    seconds = trace.stats.starttime - start + place * trace.stats.delta
    return pd.DataFrame({"station": station, "phase": phase, "time": seconds, "probability": values[place]})


def _table(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The parts in one, with the columns of :py:func:`peaks_of` even if there are none."""
    columns = pd.DataFrame(columns=["station", "phase", "time", "probability"])
    return pd.concat(parts, ignore_index=True) if parts else columns


def most_probable(picks: pd.DataFrame, per_hour: float, hours: float) -> pd.DataFrame:
    """So many picks of each phase in an hour of a station, the most probable of all stations, which have `hours`."""
    order = picks.sort_values("probability", ascending=False)
    return order.groupby("phase").head(round(per_hour * hours))


def coincident(
    times: Sequence[Floats], apart: Floats, fewest: int, slack: float = SLACK
) -> list[list[tuple[int, float]]]:
    """
    Events: picks of at least so many stations, each pair no further apart than a wave takes from one to the other. Each
    pick belongs to one event at most, the earliest that it fits.

    :param times: Sorted picks of each station in seconds
    :param apart: Seconds of a wave from station to station, (station, station)
    :return: Stations and times of the picks of each event
    """
    order = sorted((time, station) for station, picks in enumerate(times) for time in picks)
    used, events = np.zeros(len(order), bool), []
    widest = apart.max() + slack
    for first, (start, station) in enumerate(order):
        if used[first]:
            continue
        members, places = [(station, start)], [first]
        for place in range(first + 1, len(order)):
            time, other = order[place]
            if time - start > widest:
                break
            fits = (other != s and abs(time - t) <= apart[other, s] + slack for s, t in members)
            if not used[place] and all(fits):
                members.append((other, time))
                places.append(place)
        if len(members) >= fewest:
            used[places] = True
            events.append(members)
    return events


def above_chance(times: Sequence[Floats], apart: Floats, fewest: int, seconds: float) -> dict[str, float]:
    """Coincident events: found, by chance (mean after random circular shifts of each station), and the difference."""
    random = np.random.default_rng(0)
    chance = [
        len(coincident([np.sort((x + random.uniform(0, seconds)) % seconds) for x in times], apart, fewest))
        for _ in range(SHIFTS)
    ]
    found, mean = len(coincident(times, apart, fewest)), round(float(np.mean(chance)), 2)
    return {"found": found, "chance": mean, "true": round(found - mean, 2)}


def shifted(picks: pd.DataFrame, seconds: float, seed: int) -> pd.DataFrame:
    """Picks with all those of a station shifted in time, circularly and at random."""
    names = sorted(picks["station"].unique())
    shift = dict(zip(names, np.random.default_rng(seed).uniform(0, seconds, len(names)), strict=True))
    return picks.assign(time=(picks["time"] + picks["station"].map(shift)) % seconds)


def locate(picks: pd.DataFrame, stations: pd.DataFrame, settings: Mapping[str, Any]) -> Located:
    """
    Earthquakes that PyOcto (Münchmeyer, 2024) makes of picks, in a homogeneous medium.

    :param stations: ``id``, and ``x``, ``y``, ``z`` in km, z downwards
    :param settings: ``speeds`` of P and S in km/s, ``tolerance`` in s, and arguments of ``pyocto.OctoAssociator``
    :return: Earthquakes with ``idx``, ``time`` in s and ``x``, ``y``, ``z``; and their picks, with ``event_idx``
    """
    import pyocto

    settings = dict(settings)
    medium = pyocto.VelocityModel0D(*settings.pop("speeds"), settings.pop("tolerance"))
    associator = pyocto.OctoAssociator(velocity_model=medium, n_threads=1, **settings)
    events, used = associator.associate(picks.sort_values("time").reset_index(drop=True), stations)
    none = {"idx": [], "time": [], "x": [], "y": [], "z": []}
    return (events if len(events) else pd.DataFrame(none)), used


def outcome(found: Located, reference: Located, labels: pd.DataFrame) -> dict[str, int]:
    """
    How many known earthquakes are located, within 20 km of where their labels locate them by the same program, and how
    many further off; and how many others are false. An earthquake is known by three P within a second of its labels.

    :param labels: ``event``, ``station``, ``phase`` and ``time``
    :return: ``located``, ``mislocated``, ``false``, and ``earthquakes``, those that the labels locate
    """
    known, places = _events(reference, labels), _events(found, labels)
    true = known.dropna(subset="event").drop_duplicates("event").set_index("event")[["x", "y"]]
    ours = places[places["event"].isin(true.index)]
    distance = np.linalg.norm(ours[["x", "y"]].to_numpy(float) - true.loc[ours["event"]].to_numpy(float), axis=-1)
    best = ours.assign(distance=distance).groupby("event")["distance"].min()
    counts = {"located": int((best <= NEAR).sum()), "mislocated": int((best > NEAR).sum())}
    return {**counts, "false": int(places["event"].isna().sum()), "earthquakes": len(true)}


def _events(located: Located, labels: pd.DataFrame) -> pd.DataFrame:
    """Earthquakes with the known one, or NaN, that most of their P picks belong to."""
    events, picks = located
    p = picks[picks["phase"] == "P"].merge(labels[labels["phase"] == "P"], on="station", suffixes=("", "_label"))
    p = p[np.abs((p["time"] - p["time_label"]).astype(float)) <= SAME_WAVE]
    counts = p.groupby(["event_idx", "event"]).size()
    counts = counts[counts >= SAME_STATIONS].sort_values().reset_index().drop_duplicates("event_idx", keep="last")
    return events.assign(event=events["idx"].map(counts.set_index("event_idx")["event"]))
