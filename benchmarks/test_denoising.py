"""Is the waveform kept, do pickers find more and in the right place, and what do they pick in noise alone?"""

import baselines
import numpy as np
import pytest
from evaluation import evaluate, evaluate_noise, evaluate_records
from report import CURVES, equal, false_picks, grouped
from testdata import NOISY_SNR

from seisbench_cdiffsd.data.augmentations import SNR_KEY
from seisbench_cdiffsd.data.pairs import Mixtures
from seisbench_cdiffsd.evaluation import gallery

#: SNR in dB above which a record counts as clean without any doubt.
VERY_CLEAN = 30.0


@pytest.fixture(scope="module", params=["paper", "window"])
def protocol(request):
    return request.param


@pytest.fixture(scope="module")
def rows(protocol, data, denoisers, pickers, report):
    """All denoisers and pickers on all mixtures; by the SNR of the window, those alone that people read of."""
    chosen = denoisers if protocol == "paper" else {x: denoisers[x] for x in baselines.read_by_people(denoisers)}
    rows = evaluate(data.mixtures[protocol], chosen, pickers, data.full_band[protocol])
    report.rows[protocol], report.tables[protocol] = rows, grouped(rows)
    return rows


@pytest.fixture(scope="module")
def noise(data, denoisers, pickers, report):
    rows = evaluate_noise(data.noise, data.noise_metadata, denoisers, pickers)
    report.rows["noise"], report.tables["noise"] = rows, false_picks(rows)
    return rows


def test_mixtures_against_the_bounds(protocol, rows, data, pickers, report):
    table = report.value(protocol)
    assert (rows.groupby("denoiser").size() == len(data.mixtures[protocol].clean)).all()
    assert table["noisy", "sdr_gain_db"] == 0
    assert table["clean", "correlation"] == pytest.approx(1)
    assert table["oracle mask", "sdr_db"] > table["noisy", "sdr_db"]
    for picker in pickers:
        for phase in "PS":
            recall = f"{picker}_{phase}_recall_0.5"
            assert table["clean", recall] >= table["noisy", recall]


def test_what_is_recovered_in_part_is_ranked_by_the_part(protocol, rows, report):
    table = report.value(protocol)
    parts = ["noisy", *(name for name in rows["denoiser"].unique() if name.endswith("recovered"))]
    for metric in ("sdr_db", "correlation"):
        values = [table[name, metric] for name in parts]
        assert values == sorted(values) and len(values) > 3


def test_cdiffsd_is_better_than_nothing(protocol, rows, report):
    for name in {baselines.PICKING, baselines.WAVEFORMS} & set(rows["denoiser"]):
        assert report.value(protocol)[name, "sdr_gain_db"] > 0, f"{name} makes the waveforms worse"


def test_gallery(data, denoisers, report):
    """A few mixtures with what the denoisers make of them, as a figure."""
    if report.folder is not None:
        names = ["band-pass 2-20 Hz", "DeepDenoiser", *(x for x in denoisers if x in CURVES or "/" in x)]
        chosen = {name: denoisers[name] for name in dict.fromkeys(names) if name in denoisers}
        colours = {name: look[0] for name, look in CURVES.items()}
        report.figures["gallery"] = gallery(data.mixtures["window"], chosen, colours)


def test_noise_alone(noise, report):
    table = report.value("noise")
    assert table["noisy", "suppression_db"] == 0
    for name in {baselines.PICKING, baselines.WAVEFORMS} & set(noise["denoiser"]):
        assert table[name, "suppression_db"] > 0, f"{name} amplifies noise"


@pytest.mark.parametrize("protocol", ["paper"], indirect=True, scope="module")
def test_recall_where_false_picks_are_equally_rare(rows, noise, pickers, report):
    """A threshold for each denoiser, and the same false picks for all: who finds more?"""
    if not pickers:
        pytest.skip("; ".join(report.missing.values()))
    report.tables["equal"] = table = equal(rows, noise)
    values = report.value("equal")
    assert table["value"].dropna().between(-1, 1).all()
    for picker in pickers:
        found = [values["noisy", f"{picker}_P_found_{rate}"] for rate in (1, 2, 5, 10)]
        assert found == sorted(found)


def test_clean_records_are_left_alone(data, denoisers, pickers, report):
    """Records with hardly any noise, nothing mixed: what is lost of them, and of their picks?"""
    mixtures = data.mixtures["paper"]
    clean = (mixtures.labels[SNR_KEY] > VERY_CLEAN) & ~mixtures.labels.duplicated(["trace_name", "source_id"])
    if not clean.any():
        pytest.skip(f"there are no records with an SNR above {VERY_CLEAN:.0f} dB")
    chosen = mixtures.clean[clean.to_numpy()]
    alone = Mixtures(chosen, np.zeros_like(chosen), mixtures.labels[clean].reset_index(drop=True))
    names = baselines.read_by_people(denoisers)
    rows = evaluate(alone, {name: denoisers[name] for name in names}, pickers)
    report.tables["left_alone"] = grouped(rows[rows["denoiser"].isin(["noisy", *names])], ())
    table = report.value("left_alone")
    for name in {baselines.PICKING, baselines.WAVEFORMS} & set(denoisers):
        assert table[name, "correlation"] > 0.9, f"{name} changes clean records"


def test_naturally_noisy_records(data, denoisers, pickers, report):
    """Records with a low SNR and manual labels, nothing mixed."""
    if not len(data.natural):
        pytest.skip(f"there are no records with manual labels and an SNR below {NOISY_SNR:.0f} dB")
    names = baselines.read_by_people(denoisers)
    chosen = {name: denoisers[name] for name in names}
    rows = evaluate_records(data.natural, data.natural_labels, chosen, pickers)
    report.tables["natural"] = grouped(rows, ())
    assert (rows.groupby("denoiser").size() == len(data.natural)).all()
