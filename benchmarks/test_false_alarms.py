"""What is left of noise without an earthquake, and what is picked in it."""

from functools import partial

import evaluation
import pytest
import suite
import summary
import testdata
from report import RATES, grouped


@pytest.fixture(scope="module")
def noise_rows(data, denoisers, pickers, report):
    unions = suite.cdiffsd_rows(denoisers)
    rows = evaluation.evaluate_noise(data.noise, data.noise_metadata, denoisers, pickers, testdata.RATE, unions)
    report.rows["noise"] = rows
    return rows


def test_noise_alone(noise_rows, denoisers, report):
    report.tables["noise"] = grouped(noise_rows, ("event",))
    table = report.value("noise")
    assert table["noisy", "suppression_db"] == 0
    for name in suite.own(denoisers):
        assert table[name, "suppression_db"] > 0, f"{name} amplifies noise"


def test_recall_where_false_picks_are_equally_rare(noise_rows, rows, pickers, report):
    """A threshold for each denoiser, and the same false picks for all: who finds more?"""
    if not pickers:
        pytest.skip("; ".join(report.missing_pickers.values()))
    report.tables["equal"] = grouped(
        rows, ("input_snr_db",), partial(summary.recall_at, noise=noise_rows, per_hour=RATES)
    )
    table = report.tables["equal"]
    gains = table[(table["group"] == "difference") & (table["denoiser"] == "noisy")].set_index("metric")
    for picker in pickers if len(gains) else ():
        gain = gains.loc[f"{picker}_P_found_20"]
        assert gain["high"] >= 0, f"{picker} finds fewer P onsets after denoising: {gain['value']:+.2f}"
