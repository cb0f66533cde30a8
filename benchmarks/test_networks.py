"""Do picks on denoised records fit together in a network, and do they locate earthquakes?

No labels are needed: a pick is true if it fits those of other stations. All inputs have equally many picks.
"""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from baselines import PICKING, NetworkDenoiser
from continuous import (
    NETWORKS,
    START,
    TOGETHER,
    denoised,
    inputs,
    minutes_of_noise,
    read_located,
    read_network,
    to_stream,
)
from continuous import with_noise as noisy
from networks import LEAST, above_chance, locate, most_probable, outcome, peaks, shifted, together
from testdata import SHARED, open_sources

from seisbench_cdiffsd.denoising import fingerprint

#: Where picks are kept.
PICKS = Path(__file__).parents[1] / "runs" / "picks"

#: Picks of each phase in an hour of a station, and those at which earthquakes are located.
RATES, LOCATED_AT = (5, 10, 20, 50, 100, 200), (20, 50)
#: SNRs in dB of the noise added, or none; in a small run a few of them.
LEVELS, FEW = (None, 0.0, -5.0, -10.0), (-5.0,)
#: Random shifts of stations for the earthquakes that chance locates.
SHIFTS = 2


@pytest.fixture(scope="module")
def minutes(options, tmp_path_factory):
    if not (SHARED / "data" / "network").is_dir():
        pytest.skip("there is no ../shared/data/network")
    return minutes_of_noise(open_sources(options, tmp_path_factory.mktemp("example")))


@pytest.fixture(scope="module")
def picker(pickers, report):
    if "PhaseNet" not in pickers:
        pytest.skip("; ".join(report.missing.values()) or "needs PhaseNet")
    return pickers["PhaseNet"]


def picks_by_input(network, denoisers, picker):
    """All picks on a network by the name of the input, those on raw and denoised records together as well."""
    picks = {name: picks_on(network, name, denoiser, picker) for name, denoiser in inputs(denoisers).items()}
    if PICKING in picks:
        picks[TOGETHER] = picks_on(network, TOGETHER, denoisers[PICKING], picker)
    return picks


def picks_on(network, name, denoiser, picker):
    """All picks on one input; they are kept in a file, so that a killed run continues."""
    made_by = ""
    if isinstance(denoiser, NetworkDenoiser):
        options = (f" {option} {value}" for option, value in denoiser.arguments.items())
        made_by = fingerprint(denoiser.model) + "".join(options)
    about = json.dumps([LEAST, name, made_by, network.ids, network.first]).encode()
    path = PICKS / f"{hashlib.sha256(about + network.records.tobytes()).hexdigest()[:16]}.csv"
    if not path.is_file():
        records = network.records, network.ids, network.first
        stream = denoised(*records, denoiser)
        if name == TOGETHER:
            picks = together(picker, to_stream(*records), stream, START)
        else:
            picks = peaks(picker, stream, START)
        PICKS.mkdir(parents=True, exist_ok=True)
        picks.to_csv(path.with_suffix(".part"), index=False)
        path.with_suffix(".part").replace(path)
    return pd.read_csv(path, dtype={"station": str})


def add(report, name, rows):
    report.tables[name] = pd.concat([report.tables.get(name), pd.DataFrame(rows)], ignore_index=True)


def level_name(snr):
    return "as recorded" if snr is None else f"noise at {snr:+g} dB"


@pytest.mark.parametrize("snr", LEVELS, ids=level_name)
@pytest.mark.parametrize("name", NETWORKS)
def test_picks_that_fit_together(name, snr, options, minutes, denoisers, picker, report):
    if not options.full and (snr not in FEW or name == "rutford"):
        pytest.skip("only in a full run")
    network = read_network(name, options.limit)
    if snr is not None:
        network = noisy(network, minutes, snr)
    for what, picks in picks_by_input(network, denoisers, picker).items():
        key = {"network": name, "noise": level_name(snr), "input": what}
        rows = []
        for rate in RATES:
            some = most_probable(picks[picks["phase"] == "P"], rate, network.hours)
            times = [np.sort(some.loc[some["station"] == station, "time"]) for station in network.stations["id"]]
            counts = above_chance(times, network.apart, network.fewest, network.seconds)
            rows.append({**key, "picks an hour": rate, **counts, "least": round(float(some["probability"].min()), 4)})
        add(report, "networks", rows)
        assert all(0 <= row["found"] <= len(picks) for row in rows)
        for rate in LOCATED_AT if network.associate and snr is None and find_spec("pyocto") else ():
            some = most_probable(picks, rate, network.hours)
            found = len(locate(some, network.stations, network.area())[0])
            chance = [
                len(locate(shifted(some, network.seconds, seed), network.stations, network.area())[0])
                for seed in range(SHIFTS)
            ]
            row = {**key, "picks an hour": rate, "located": found, "chance": round(float(np.mean(chance)), 1)}
            add(report, "located", [row])


@pytest.mark.parametrize("snr", LEVELS, ids=level_name)
def test_earthquakes_are_located(snr, options, minutes, denoisers, picker, report):
    """Records of known earthquakes and, with noise added, as much noise alone; by their P."""
    if not options.full and snr not in FEW:
        pytest.skip("only in a full run")
    pytest.importorskip("pyocto", reason="needs PyOcto: pip install pyocto")
    network = read_located(options.limit if options.full else -(-options.limit // 3))
    labels = network.labels[network.labels["phase"] == "P"]
    reference = locate(labels.assign(probability=1.0), network.stations, network.area())
    if snr is not None:
        network = noisy(network, minutes, snr, alone=True)
    for what, picks in picks_by_input(network, denoisers, picker).items():
        for rate in LOCATED_AT:
            some = most_probable(picks[picks["phase"] == "P"], rate, len(network.records) * 120 / 3600)
            counts = outcome(locate(some, network.stations, network.area()), reference, labels)
            key = {"network": network.name, "noise": level_name(snr), "input": what, "picks an hour": rate}
            add(report, "located", [{**key, **counts}])
            assert counts["located"] + counts["mislocated"] <= counts["earthquakes"]
