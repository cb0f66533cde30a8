"""
From an archive of day files (SDS) to located earthquakes, with PyOcto (``pip install pyocto``).

    python examples/catalogue.py SDS stations.csv 2020-01-01 2020-01-02 --speeds 6.0 3.5

``stations.csv`` has the columns network, station, latitude, longitude and elevation_m. The picks are those of ``cdiffsd
pick``, which can be killed and continues; the catalogue is ``events.csv``. Speeds of P and S are in km/s, and one for
all depths: layers, the limits of depth and area and the numbers of picks are a matter of the region.
"""

import argparse

import pandas as pd
import pyocto

from seisbench_cdiffsd import cli


def associate(picks, stations, speeds=(6.0, 3.5), depth=30.0, tolerance=0.5):
    """Located events that four P and six picks or more agree on, and the picks of each."""
    codes = picks["station"].str.extract(r"(?P<network>[^.]*)\.(?P<station>.*)\.").assign(id=picks["station"])
    stations = stations.rename(columns={"elevation_m": "elevation"}).merge(codes.drop_duplicates())
    area = [(stations[x].min() - 0.5, stations[x].max() + 0.5) for x in ("latitude", "longitude")]
    model = pyocto.VelocityModel0D(*speeds, tolerance=tolerance)
    numbers = {"n_picks": 6, "n_p_picks": 4, "n_s_picks": 0, "n_p_and_s_picks": 0}
    associator = pyocto.OctoAssociator.from_area(*area, (0, depth), model, time_before=60, **numbers)
    associator.transform_stations(stations)
    events, assignments = associator.associate(picks, stations)
    return (associator.transform_events(events) if len(events) else events), assignments


def catalogue(sds, stations, start, end, rate=5, out="picks", **options):
    """Picks of an archive, at so many false ones an hour, and the events that they belong to."""
    cli.main(
        ["pick", "--sds", sds, "--start", start, "--end", end, "--rate", str(rate), "--out", out, "--workers", "0"]
    )
    return associate(pd.read_csv(f"{out}/picks.csv"), pd.read_csv(stations), **options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("sds", "stations", "start", "end"):
        parser.add_argument(name)
    parser.add_argument("--speeds", nargs=2, type=float, default=(6.0, 3.5), metavar=("P", "S"))
    parser.add_argument("--depth", type=float, default=30.0, help="of the deepest events, in km")
    parser.add_argument("--rate", type=float, default=5, help="false picks of each phase an hour and station, 1 to 10")
    parser.add_argument("--out", default="picks", help="folder of the picks")
    events, _ = catalogue(**vars(parser.parse_args()))
    events.to_csv("events.csv", index=False)
    print(events)
