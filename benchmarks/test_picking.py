"""Do pickers find more, and where it is? Picks on noisy, denoised and clean records, and on naturally noisy ones."""

import evaluation
import numpy as np
import pytest
import suite
import testdata
from report import grouped

from seisbench_cdiffsd.data.augmentations import SNR_KEY
from seisbench_cdiffsd.data.pairs import Mixtures

#: SNR in dB above which a record counts as clean without any doubt.
VERY_CLEAN = 30.0
GROUPS = ("input_snr_db", "region", "instrument", "sp_class")


@pytest.fixture(scope="module")
def table(rows, pickers, report):
    if not pickers:
        pytest.skip("; ".join(report.missing_pickers.values()))
    keys = ["denoiser", "event", *GROUPS]
    picks = rows[keys + [column for column in rows if column.endswith(("_picks", "_label", "_residual"))]]
    report.tables["picking"] = grouped(picks, GROUPS)
    return report.value("picking")


def test_picks_against_the_bounds(table, pickers):
    for picker in pickers:
        for phase in "PS":
            recall = f"{picker}_{phase}_recall_0.5"
            assert table["clean", recall] >= table["noisy", recall]


def test_a_union_finds_what_either_finds(table, pickers):
    unions = {name for name, _ in table.index if name.endswith(" + noisy")}
    for name in unions:
        for picker in pickers:
            recall = f"{picker}_P_recall_0.5"
            # a more probable false pick nearby can displace a right one, but hardly ever does
            assert table[name, recall] >= table["noisy", recall] - 0.02


def test_clean_records_are_left_alone(data, denoisers, pickers, report):
    """Records with hardly any noise, nothing mixed: what is lost of them, and of their picks?"""
    mixtures = data.mixtures
    names = [key for key in ("trace_chunk", "trace_name") if key in mixtures.labels]
    clean = (mixtures.labels[SNR_KEY] > VERY_CLEAN) & ~mixtures.labels.duplicated(names)
    if not clean.any():
        pytest.skip(f"there are no records with an SNR above {VERY_CLEAN:.0f} dB")
    chosen = mixtures.clean[clean.to_numpy()]
    alone = Mixtures(chosen, np.zeros_like(chosen), mixtures.labels[clean].reset_index(drop=True))
    rows = evaluation.evaluate(alone, denoisers, pickers, testdata.RATE)
    report.tables["left_alone"] = grouped(rows[rows["denoiser"] != "oracle mask"], ())
    table = report.value("left_alone")
    assert table["noisy", "correlation"] == pytest.approx(1)
    for name in suite.own(denoisers):
        assert table[name, "correlation"] > 0.9, f"{name} changes clean records"


def test_naturally_noisy_records(data, denoisers, pickers, report):
    """Records with a low SNR and manual labels, nothing mixed."""
    if not len(data.natural):
        pytest.skip(f"there are no records with manual labels and an SNR below {testdata.NOISY_SNR:.0f} dB")
    unions = suite.cdiffsd_rows(denoisers)
    rows = evaluation.evaluate_records(data.natural, data.natural_labels, denoisers, pickers, testdata.RATE, unions)
    report.rows["natural"] = rows
    report.tables["natural"] = grouped(rows, ())
    assert (rows.groupby("denoiser").size() == len(data.natural)).all()
