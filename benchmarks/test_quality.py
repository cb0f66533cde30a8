"""Is the waveform kept? Estimates against clean records, on mixtures of earthquakes with recorded noise."""

import numpy as np
import pytest
import suite
from report import grouped

#: By what the mixtures are broken down.
GROUPS = ("input_snr_db", "region", "instrument", "sp_class")


@pytest.fixture(scope="module")
def table(rows, report):
    waveforms = rows[rows["sdr_db"].notna() | (rows["denoiser"] == "clean")]
    waveforms = waveforms[[column for column in rows if not column.endswith(("_picks", "_label", "_residual"))]]
    report.tables["quality"] = grouped(waveforms, GROUPS)
    return report.value("quality")


def test_waveforms_against_the_bounds(rows, table, data):
    assert (rows.groupby("denoiser").size() == len(data.mixtures.clean)).all()
    assert table["noisy", "sdr_gain_db"] == 0
    assert table["clean", "correlation"] == pytest.approx(1)
    assert table["oracle mask", "sdr_db"] > table["noisy", "sdr_db"]


def test_the_band_alone_changes_nothing_in_its_band(rows):
    for name in {"band-pass 1-45 Hz"} & set(rows["denoiser"]):
        alike = rows[rows["denoiser"] == name]["sdr_gain_db"]
        assert np.abs(alike).max() < 1e-6


def test_cdiffsd_is_better_than_nothing(table, denoisers):
    for name in suite.own(denoisers):
        assert table[name, "sdr_gain_db"] > 0, f"{name} makes the waveforms worse"


def test_gallery(data, denoisers, report):
    """A few mixtures with what the denoisers make of them, as a figure."""
    report.gallery(data.mixtures, denoisers)
