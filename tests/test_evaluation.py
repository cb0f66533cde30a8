"""Rows of evaluated records, and their statistics."""

import numpy as np
import pandas as pd
import pytest
import seisbench.models as sbm
from scipy import stats

from seisbench_cdiffsd import metrics, picking
from seisbench_cdiffsd.data.pairs import Mixtures

evaluation = pytest.importorskip("evaluation", reason="the benchmarks are not here")


@pytest.fixture(scope="module")
def mixtures():
    """Decaying wavelets from sample 1000 on, of 4 earthquakes, each with white noise at 0 and 10 dB."""
    random, snr = np.random.default_rng(0), np.tile([0.0, 10.0], 4)
    time = np.arange(3000) / 100 - 10
    wave = np.where(time >= 0, np.exp(-time / 4) * np.sin(2 * np.pi * 6 * time), 0)
    clean = np.tile(wave, (8, 3, 1)).astype(np.float32) + 0.001 * random.standard_normal((8, 3, 3000))
    scale = np.sqrt((clean[:, :, 1000:2000] ** 2).mean((1, 2)) / 10 ** (snr / 10))
    noise = scale[:, None, None] * random.standard_normal(clean.shape)
    labels = pd.DataFrame(
        {
            **{"source_id": np.repeat(list("abcd"), 2), "region": "somewhere", "input_snr_db": snr},
            **{"trace_p_arrival_sample": 1000.0, "trace_s_arrival_sample": 1500.0},
            **{"p_sample": 1000.0, "s_sample": np.tile([1500.0, np.nan], 4)},
        }
    )
    return Mixtures(clean.astype(np.float32), noise.astype(np.float32), labels)


def picks(*rows):
    return pd.DataFrame(rows, columns=picking.PICK_COLUMNS)


def values(rows, **options):
    """Statistics by denoiser and metric."""
    return evaluation.summarize(rows, **options).set_index(["denoiser", "metric"])["value"]


def sdr(mixtures):
    return pytest.approx(metrics.sdr_db(mixtures.clean, mixtures.noisy, axis=(-2, -1)), rel=1e-6)


def test_rows_hold_the_metrics_of_each_mixture_of_which_all_denoisers_see_the_same(mixtures):
    seen = []

    def silence(noisy):
        seen.append(noisy.copy())
        return np.zeros_like(noisy)

    hum = 5 * np.sin(2 * np.pi * 0.2 * np.arange(3000) / 100).astype(np.float32)
    wide = Mixtures(mixtures.clean, mixtures.noise + hum, mixtures.labels)
    denoisers = {"half": lambda noisy: 0.5 * noisy, "silence": silence, "again": silence}
    rows = evaluation.evaluate(mixtures, denoisers, {}, full_band=wide)
    assert all((noisy == mixtures.noisy).all() for noisy in seen) and len(seen) == 2
    assert list(rows["denoiser"].unique())[:6] == ["noisy", "clean", *denoisers, "oracle mask"]
    assert set(rows["sp_class"]) == {"0 to 5 s"} and set(rows["region"]) == {"somewhere"}
    noisy, clean, half, silent, oracle = (
        rows[rows["denoiser"] == name].reset_index() for name in ("noisy", "clean", "half", "silence", "oracle mask")
    )
    assert noisy["sdr_db"].to_numpy() == sdr(mixtures) and noisy["sdr_full_db"].to_numpy() == sdr(wide)
    assert (noisy["sdr_gain_db"] == 0).all() and (noisy["snr_gain_db"] == 0).all()
    assert half["sdr_full_db"].to_numpy() == pytest.approx(half["sdr_db"].to_numpy(), rel=1e-6)
    assert half["snr_gain_db"].abs().max() < 1e-6  # amplitude is no noise
    assert (half["log10_amplitude"] - noisy["log10_amplitude"] - np.log10(0.5)).abs().max() < 1e-6
    assert np.isinf(clean["sdr_db"]).all() and (clean["log10_amplitude"] == 0).all()
    assert (silent["sdr_db"] == 0).all() and (silent["correlation"] == 0).all()
    assert (oracle["sdr_gain_db"] > 3).all()

    value = values(rows, resamples=20)  # finite, or they say so
    assert np.isneginf(value["silence", "log10_amplitude"]) and np.isnan(value["clean", "sdr_db"])
    assert value["silence", "sdr_db"] == 0 and value["clean", "correlation"] == pytest.approx(1)
    parts = value.unstack("denoiser")[["noisy", *(f"{share:.0%} recovered" for share in evaluation.RECOVERED)]]
    assert all(parts.loc[metric].is_monotonic_increasing for metric in ("sdr_db", "correlation", "snr_gain_db"))
    assert parts.loc["p_angle_deg"].is_monotonic_decreasing and value["clean", "p_angle_deg"] < 1e-3


def test_noise_is_counted_by_the_minute_which_has_a_false_pick_if_either_half_has_one(mixtures, monkeypatch):
    found = picks((0, "P", 3.0, 0.9), (5, "P", 3.0, 0.4), (6, "S", 3.0, 0.2))
    monkeypatch.setattr(evaluation, "pick_windows", lambda picker, windows, thresholds: [found] * len(thresholds))
    metadata = pd.DataFrame({"source_id": list("abcd"), "kind": "reversed, calm"})
    minutes = np.concatenate([mixtures.noise[:4], mixtures.noise[4:]], axis=-1)
    rows = evaluation.evaluate_noise(minutes, metadata, {"tenth": lambda noise: 0.1 * noise}, {"N": None})
    value, noisy = values(rows), rows[rows["denoiser"] == "noisy"]
    assert value["tenth", "suppression_db"] == pytest.approx(20, abs=1e-4) and value["noisy", "suppression_db"] == 0
    assert len(rows) == 8 and rows["hours"].to_numpy() == pytest.approx(1 / 60)
    assert noisy["N_P_highest"].tolist() == [0.9, 0.4, 0, 0] and noisy["N_S_highest"].tolist() == [0, 0, 0.2, 0]
    assert value["noisy", "N_P_per_hour"] == pytest.approx(30) and value["noisy", "N_S_per_hour"] == 0
    assert len(evaluation.evaluate_noise(minutes, metadata, {}, {})) == 4  # without a picker


def test_records_without_metadata_are_events_of_their_own(mixtures):
    labels = mixtures.labels[["p_sample", "s_sample"]]
    rows = evaluation.evaluate_records(mixtures.noisy, labels, {}, {})
    assert rows["event"].nunique() == rows["station"].nunique() == len(labels) and set(rows["region"]) == {"unknown"}


def rows_of_picks(denoiser, highest, label=True, **columns):
    events = [f"e{i}" for i in range(len(highest))]
    return pd.DataFrame({"denoiser": denoiser, "event": events, "N_P_highest": highest, "N_P_label": label, **columns})


def test_pick_statistics_are_those_of_a_count_by_hand():
    residuals, labels = [0.05, -0.3, np.nan, 0.1, np.nan], [True, True, True, True, False]
    rows = {"event": list("aabbc"), "N_P_residual": residuals, "N_P_label": labels, "N_P_picks": [1, 2, 0, 1, 1]}
    value = values(pd.DataFrame({"denoiser": "x", **rows}))["x"]
    assert value["N_P_recall_0.5"] == 3 / 4 and value["N_P_recall_0.1"] == 2 / 4
    assert value["N_P_precision_0.5"] == 3 / 5 and value["N_P_f1_0.5"] == pytest.approx(6 / 9)
    assert value["N_P_mean"] == pytest.approx(np.nanmean(residuals)) and value["N_P_median"] == 0.05
    assert value["N_P_std"] == pytest.approx(np.nanstd(residuals)) and value["N_P_early"] == pytest.approx(1 / 3)


def test_at_equal_false_picks_each_denoiser_has_a_threshold_of_its_own():
    records = pd.concat([rows_of_picks("sure", [0.9, 0.7, 0.2, 0.0]), rows_of_picks("shy", [0.3, 0.2, 0.1, 0.0])])
    sure, shy = rows_of_picks("sure", [0.8, 0.6, 0.1, 0.0]), rows_of_picks("shy", [0.15, 0.0, 0.0, 0.0])
    noise, rates = pd.concat([sure, shy]).assign(hours=0.25), (0, 1, 2, 3.5, 10)
    table = evaluation.recall_at(records, noise, rates).set_index(["denoiser", "metric"])["value"]
    # at most so many: where no threshold gives as many false picks, the lowest one counts
    assert [table["sure", f"N_P_found_{rate:g}"] for rate in rates] == [0.25, 0.5, 0.75, 0.75, 0.75]
    assert [table["shy", f"N_P_found_{rate:g}"] for rate in rates] == [0.5, 0.75, 0.75, 0.75, 0.75]


def test_what_has_no_noise_rows_or_no_label_is_not_compared():
    records = pd.concat([rows_of_picks("a", [0.9, 0.8], label=[True, False]), rows_of_picks("clean", [0.9, 0.9])])
    table = evaluation.recall_at(records, rows_of_picks("a", [0.5, 0.0], hours=0.5), (1.0,))
    assert list(table["denoiser"]) == ["a"] and table["value"].tolist() == [1.0]


def test_thresholds_are_found_again_for_each_draw_of_stations():
    """A threshold that hangs on one station of noise has wide intervals, however many earthquakes there are."""
    highest = np.linspace(0.1, 0.9, 400)
    noise = rows_of_picks("a", [0.8, *np.full(40, 0.01)], hours=0.5)
    row = evaluation.recall_at(rows_of_picks("a", highest), noise, (0.0,)).iloc[0]
    assert row["value"] == pytest.approx(np.mean(highest > 0.8))
    assert row["low"] < 0.2 and row["high"] > 0.95  # without that station, everything counts


def test_equally_many_earthquakes_and_stations_are_not_drawn_alike():
    rows = pd.DataFrame({"event": np.arange(50), "station": np.arange(50)})
    drawn, noise = (evaluation.resampled(rows, 200, *units)[1:].reshape(-1, 10_000) for units in ((), (["event"], 2)))
    assert np.abs(np.corrcoef([*drawn, *noise]) - np.eye(3)).max() < 0.05


def sdr_rows(values, name="x", **columns):
    return pd.DataFrame({"denoiser": name, "event": np.arange(len(values)), "sdr_db": values, **columns})


def interval(rows, **options):
    row = evaluation.summarize(rows, **options).iloc[0]
    return row["low"], row["high"]


def test_an_interval_is_the_wider_of_those_of_earthquakes_and_stations():
    random, station = np.random.default_rng(0), np.repeat(np.arange(20), 20)
    rows = sdr_rows(random.normal(size=20)[station] + 0.1 * random.normal(size=400))  # a record has its station's
    assert np.ptp(interval(rows.assign(station=station))) > 3 * np.ptp(interval(rows))


@pytest.mark.parametrize("few", ["event", "station"])
def test_fewer_than_ten_earthquakes_or_stations_have_no_interval(few):
    rows = sdr_rows(np.arange(40.0), station=np.arange(40))
    row = evaluation.summarize(rows.assign(**{few: rows[few] % 9})).iloc[0]
    assert row["value"] == 19.5 and np.isnan([row["low"], row["high"]]).all() and row["independent"] == 9
    low, high = interval(rows.assign(**{few: rows[few] % 10}))
    assert low < 19.5 < high
    row = evaluation.summarize(rows.assign(sdr_db=rows["sdr_db"].where(rows["event"] < 9))).iloc[0]
    assert np.isnan([row["low"], row["high"]]).all() and row["independent"] == row["records"] == 9


def test_thresholds_are_those_of_all_records_and_recalls_those_of_each_group():
    records = pd.concat([rows_of_picks("a", [0.9, 0.3], snr=5), rows_of_picks("a", [0.6, 0.2], snr=-5)])
    table = evaluation.recall_at(records, rows_of_picks("a", [0.4], hours=1), (0,), by=("denoiser", "snr"))
    assert table.set_index("snr")["value"].to_dict() == {5: 0.5, -5: 0.5}


def test_differences_are_paired():
    """Records vary by 10 dB, but one denoiser is always 1 dB ahead: so are both ends of their difference."""
    random = np.random.default_rng(4).normal(0, 10, 50)
    rows = pd.concat([sdr_rows(random + 1, "good"), sdr_rows(random, "poor")])
    table = evaluation.summarize(rows, reference="good").set_index("denoiser")
    assert table.loc["poor", ["value", "low", "high"]].tolist() == pytest.approx([1, 1, 1])
    assert table.loc["good", ["value", "low", "high"]].tolist() == [0, 0, 0]

    records = pd.concat([rows_of_picks("good", [0.9, 0.8]), rows_of_picks("poor", [0.9, 0.1])])
    noise = pd.concat([rows_of_picks(name, [0.5, 0.0], hours=0.5) for name in ("good", "poor")])
    table = evaluation.recall_at(records, noise, (0,), reference="good").set_index("denoiser")
    assert table.loc["poor", "value"] == 0.5 and table.loc["good", "value"] == 0


def test_the_highest_probability_is_that_near_the_label_or_anywhere_without_one():
    labels = pd.DataFrame({"p_sample": [1000.0, 1000.0, np.nan], "s_sample": np.nan})
    near = picks((0, "P", 10.4, 0.2), (0, "P", 9.7, 0.4), (0, "P", 12.0, 0.9), (0, "S", 10.0, 0.8), (2, "P", 3.0, 0.5))
    table = evaluation._scores("N", near, near, labels)
    assert table["N_P_highest"].tolist() == [0.4, 0.0, 0.5] and table["N_S_highest"].tolist() == [0.8, 0.0, 0.0]


def test_intervals_are_those_of_a_mean_of_independent_events_which_copies_do_not_narrow():
    random = np.random.default_rng(1).normal(5, 2, 400)
    expected = stats.norm.interval(0.95, random.mean(), stats.sem(random))
    assert interval(sdr_rows(random), resamples=4000) == pytest.approx(expected, abs=0.03)
    assert interval(pd.concat([sdr_rows(random)] * 5)) == pytest.approx(interval(sdr_rows(random)))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_weighted_quantiles_are_quantiles_of_repeated_values(share):
    infinity = np.inf if share == 0.5 else 9.0
    numbers = np.array([3.0, np.nan, -infinity, 1.0, infinity, 2.0])
    weights = np.random.default_rng(3).integers(0, 4, (50, 6)) + np.array([1, 0, 0, 0, 0, 0])
    for weight, quantile in zip(weights, evaluation._quantile(numbers, weights, share), strict=True):
        repeated = np.repeat(numbers, weight * ~np.isnan(numbers))
        expected = np.quantile(repeated, share, method="averaged_inverted_cdf") if share != 0.5 else np.median(repeated)
        assert quantile == pytest.approx(expected)


def test_picks_count_from_the_threshold_of_the_class_of_a_picker_on_whatever_it_is_called(mixtures, monkeypatch):
    found = picks((0, "P", 10.0, 0.2), (1, "P", 10.0, 0.4))
    monkeypatch.setattr(
        evaluation,
        "pick_windows",
        lambda picker, windows, thresholds: [found[found["probability"] >= least] for least in thresholds],
    )
    rows = evaluation.evaluate_records(
        mixtures.noisy, mixtures.labels, {}, {"a:b": sbm.PhaseNet(), "c": sbm.EQTransformer()}
    )
    assert rows["a:b_P_picks"].sum() == 1 and rows["c_P_picks"].sum() == 2
    assert rows["a:b_P_highest"].tolist()[:3] == [0.2, 0.4, 0]


def test_a_real_picker_finds_the_example(pickers, example):
    picker = picking.load_picker("PhaseNet")
    clean = np.stack([example.select(component=c)[0].data for c in "ZNE"])[None].astype(np.float32)
    noise = 0.01 * clean.std() * np.random.default_rng(5).standard_normal(clean.shape).astype(np.float32)
    mixtures = Mixtures(clean, noise, pd.DataFrame({"p_sample": [473.0], "s_sample": [571.0], "input_snr_db": [40.0]}))
    denoisers = {"silence, picking": np.zeros_like, "tenth, picking": lambda noisy: 0.1 * noisy}
    value = values(evaluation.evaluate(mixtures, denoisers, {"PhaseNet": picker}), resamples=5)
    for phase in "PS":
        recall = f"PhaseNet_{phase}_recall_0.5"
        assert value["clean", f"PhaseNet_{phase}_recall_0.1"] == 1 and value["silence, picking", recall] == 0
        assert value["tenth, picking", recall] == 1


def test_the_snr_of_p_is_that_of_its_first_two_seconds(mixtures):
    clean = np.zeros((2, 3, 3000), np.float32)
    clean[:, :, 1000:1200], clean[:, :, 1200:] = 0.1, 5
    labels = mixtures.labels.iloc[:2].assign(p_sample=[1000.0, 2999.0])
    found = evaluation._p_snr(Mixtures(clean, np.ones_like(clean), labels))
    assert found == pytest.approx([-20, 10 * np.log10(25)])


def test_polarisation_of_a_linear_and_of_a_circular_motion():
    phase, still = np.arange(3000) * 2 * np.pi / 25, np.zeros(3000)
    line = np.array([0.8, 0.6, 0.0])
    windows = np.stack([line[:, None] * np.sin(phase), [np.sin(phase), np.cos(phase), still]])
    axis, straight = evaluation.polarisation(windows, np.array([1000.0, 1000.0]))
    assert np.abs(axis[0]) == pytest.approx(line, abs=1e-6) and straight == pytest.approx([1, 0.5], abs=1e-6)


def test_snr_is_power_after_over_power_before_the_onset_and_suppression_a_ratio_of_rms():
    window = np.concatenate([np.full((3, 300), 0.1), np.full((3, 700), -2.0)], axis=-1)
    windows = np.stack([window, window[:, ::-1]])
    assert evaluation.snr_db(windows, [300, 700]) == pytest.approx([20 * np.log10(20), -20 * np.log10(20)])
    assert (evaluation.snr_db(windows, [301, 701]) < evaluation.snr_db(windows, [300, 700])).tolist() == [True, False]
    still = np.repeat([[0, 0, 1, 1]], 3, axis=0)[None]
    assert [evaluation.snr_db(x, [2]).item() for x in (still, still[..., ::-1])] == [np.inf, -np.inf]
    assert all(np.isnan(evaluation.snr_db(x, [n])) for x, n in ((0 * still, 2), (still, 0), (still, 4), (still, 9)))
    shares = (1e-9, 0.1, 1.0, 1e5)
    assert [evaluation.suppression_db(windows, x * windows)[0] for x in shares] == pytest.approx([180, 20, 0, -100])
    assert evaluation.suppression_db(windows, 0 * windows).tolist() == [np.inf, np.inf]


def matched(picks, labels, tolerance):
    return [index.tolist() for index in evaluation.match_picks(np.array(picks), np.array(labels), tolerance)]


def test_one_pick_matches_one_label_the_closest_wins_and_the_tolerance_itself_is_inside():
    assert matched([9.6, 10.05, 20.0], [10.0], 0.5) == [[1], [0]] and matched([], [10.0], 0.5) == [[], []]
    assert matched([10.0], [9.8, 10.1], 0.5) == [[0], [1]]
    assert matched([1.1], [1.0], 0.1) == [[0], [0]]  # 1.1 - 1.0 is a little more than 0.1
    assert matched([1.11], [1.0], 0.1) == [[], []]


def test_the_residual_of_a_label_is_that_of_the_nearest_pick_of_its_record_and_phase():
    found = picks(
        (0, "P", 9.6, 0.9), (0, "P", 10.05, 0.1), (1, "S", 10.1, 0.9), (2, "P", 9.5, 0.9), (3, "P", 10.51, 0.9)
    )
    label = np.full(6, 10.0)
    label[5] = np.nan
    residual = evaluation.residuals(pd.concat([found, picks((5, "P", 3.0, 0.9))]), "P", label)
    np.testing.assert_allclose(residual, [0.05, np.nan, -0.5, np.nan, np.nan, np.nan], atol=1e-9)
    assert np.isnan(evaluation.residuals(found[:0], "P", label)).all()


@pytest.mark.parametrize("name", ["PhaseNet", "EQTransformer"])
def test_windows_are_picked_as_streams_at_each_threshold(name, pickers, example):
    picker = picking.load_picker(name)
    window = np.stack([example.select(component=component)[0].data for component in "ZNE"])
    together = evaluation.pick_windows(picker, np.stack([window, 0.3 * window[:, ::-1]]), (0.3, 0.02))
    assert len(together[1]) >= len(together[0])
    for picks, least in zip(together, (0.3, 0.02), strict=True):
        found = picking.pick_stream(picker, example, P_threshold=least, S_threshold=least)
        picks = picks[picks.record == 0]
        assert list(picks.phase) == list(found.phase)
        seconds = (found.time - example[0].stats.starttime).astype(float)
        np.testing.assert_allclose(picks.time, seconds, atol=1e-6)
        np.testing.assert_allclose(picks.probability, found.probability, atol=1e-5)
