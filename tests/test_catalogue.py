"""From picks and archives to located events, as in the examples: PyOcto reads the table of picks as it is."""

from pathlib import Path

import numpy as np
import obspy
import pandas as pd
import pytest
from obspy import UTCDateTime

from seisbench_cdiffsd.files.picks import write_csv
from seisbench_cdiffsd.picking import JOINT_COLUMNS

pytest.importorskip("pyocto", reason="needs PyOcto: the extra bench")
catalogue = pytest.importorskip("catalogue", reason="the examples are not here")


def test_an_event_is_where_its_picks_were_made(tmp_path):
    origin, random = UTCDateTime(2020, 1, 1, 0, 1), np.random.default_rng(0)
    places, rows = pd.DataFrame(random.uniform(-30, 30, (8, 2)), columns=["x", "y"]), []
    for i, x in places.iterrows():
        distance = np.hypot(np.hypot(x.x - 5, x.y + 8), 10)
        for phase, speed in (("P", 6.0), ("S", 3.5)):
            time = origin + distance / speed + random.normal(0, 0.03)
            rows.append(
                (f"XX.S{i}..HH", phase, time, 0.9, 1e-6, 10.0, 0.5, 0.9, "both", f"XX.S{i}..HH{'ZN'[phase == 'S']}")
            )
        rows.append((f"XX.S{i}..HH", "P", origin + random.uniform(60, 900), 0.9, 1.0, 1.0, 0.9, np.nan, "raw", ""))
    write_csv(pd.DataFrame(rows, columns=JOINT_COLUMNS), tmp_path / "picks.csv")
    stations = pd.DataFrame({"network": "XX", "station": [f"S{i}" for i in range(8)], "elevation_m": 0.0})
    stations["latitude"], stations["longitude"] = 46 + places.y / 111.2, 8 + places.x / (111.2 * np.cos(np.radians(46)))
    events, assignments = catalogue.associate(pd.read_csv(tmp_path / "picks.csv"), stations)
    ((_, event),) = events.iterrows()
    assert abs(event.time - origin.timestamp) < 1 and len(assignments) == 16
    assert abs(event.latitude - (46 - 8 / 111.2)) < 0.04 and abs(event.longitude - (8 + 5 / 77.2)) < 0.05


def test_an_archive_of_a_network_becomes_a_catalogue(shared_data, pickers, tmp_path):
    folder = shared_data / "data" / "network" / "rutford"
    if not folder.is_dir():
        pytest.skip(f"needs the network in {folder}")
    start = UTCDateTime(2020, 1, 1, 1, 34, 30)
    for trace in (x for path in folder.glob("*.mseed") for x in obspy.read(str(path)).trim(start, start + 130)):
        place = Path(f"sds/2020/{trace.stats.network}/{trace.stats.station}/{trace.stats.channel}.D")
        (tmp_path / place).mkdir(parents=True)
        trace.write(str(tmp_path / place / f"{trace.id}.D.2020.001"), format="MSEED")
    given = str(tmp_path / "sds"), folder / "stations.csv", "2020-01-01", "2020-01-01"
    options = {"speeds": (3.8, 1.9), "depth": 3.0, "rate": 10, "out": str(tmp_path / "picks")}
    events, assignments = catalogue.catalogue(*given, **options)  # of an icequake: speeds are those of ice
    first = events.iloc[0]
    assert abs(first.time - (start + 63.6).timestamp) < 1 and first.picks >= 10
    assert abs(assignments[assignments.event_idx == first.idx].residual).median() < 0.3
