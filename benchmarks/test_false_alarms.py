"""What is left of noise without an earthquake, and what is picked in it."""

import pytest
import suite
import testdata
from report import RATES, grouped

from seisbench_cdiffsd import evaluation, summary


@pytest.fixture(scope="module")
def noise_rows(data, denoisers, pickers, report):
    unions = suite.cdiffsd_rows(denoisers)
    rows = evaluation.evaluate_noise(data.noise, data.noise_metadata, denoisers, pickers, testdata.RATE, unions)
    report.rows["noise"] = rows
    return rows


def test_noise_alone(noise_rows, denoisers, report):
    report.tables["noise"] = grouped(noise_rows, ())
    table = report.value("noise")
    assert table["noisy", "suppression_db"] == 0
    for name in suite.own(denoisers):
        assert table[name, "suppression_db"] > 0, f"{name} amplifies noise"


def test_recall_where_false_picks_are_equally_rare(noise_rows, rows, pickers, report):
    """A threshold for each denoiser, and the same false picks for all: who finds more?"""
    if not pickers:
        pytest.skip("; ".join(report.missing_pickers.values()))
    found = summary.found_at(rows, noise_rows, RATES)
    report.tables["equal"] = grouped(found, ())
    table = report.value("equal")
    for picker in pickers:
        few, many = (table[:, f"{picker}_P_found_{rate:g}"] for rate in (min(RATES), max(RATES)))
        both = few.index.intersection(many.index)  # not all make so many false picks at any threshold
        assert (few[both] <= many[both]).all()
