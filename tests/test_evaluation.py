"""Rows of evaluated records, and their statistics."""

import numpy as np
import pandas as pd
import pytest
import seisbench.models as sbm
import torch
from scipy import stats

from seisbench_cdiffsd import metrics, picking
from seisbench_cdiffsd.data.pairs import Mixtures

evaluation = pytest.importorskip("evaluation", reason="the benchmarks are not here")
import summary  # noqa: E402


def make_mixtures(events=4, per_event=2):
    """Decaying wavelets from sample 1000 on, with white noise at 0 and 10 dB in turn."""
    random, count = np.random.default_rng(0), events * per_event
    time = np.arange(3000) / 100 - 10
    wave = np.where(time >= 0, np.exp(-time / 4) * np.sin(2 * np.pi * 6 * time), 0)
    clean = np.tile(wave, (count, 3, 1)).astype(np.float32) + 0.001 * random.standard_normal((count, 3, 3000))
    snr = np.tile([0.0, 10.0], count)[:count]
    scale = np.sqrt((clean[:, :, 1000:2000] ** 2).mean((1, 2)) / 10 ** (snr / 10))
    noise = scale[:, None, None] * random.standard_normal(clean.shape)
    labels = pd.DataFrame(
        {
            "source_id": np.repeat([f"event {i}" for i in range(events)], per_event),
            "trace_channel": "HH",
            "region": "somewhere",
            "trace_p_arrival_sample": 1000.0,
            "trace_s_arrival_sample": 1500.0,
            "p_sample": 1000.0,
            "s_sample": np.where(np.arange(count) % 2, np.nan, 1500.0),
            "input_snr_db": snr,
        }
    )
    return Mixtures(clean.astype(np.float32), noise.astype(np.float32), labels)


@pytest.fixture(scope="module")
def mixtures():
    return make_mixtures()


def picks(*rows):
    return pd.DataFrame(rows, columns=picking.PICK_COLUMNS)


def test_rows_hold_the_metrics_of_each_mixture(mixtures):
    rows = evaluation.evaluate(mixtures, {"half": lambda noisy: 0.5 * noisy}, {})
    assert list(rows["denoiser"].unique())[:4] == ["noisy", "clean", "half", "oracle mask"]
    by_name = {name: group.reset_index(drop=True) for name, group in rows.groupby("denoiser")}
    noisy = by_name["noisy"]
    assert noisy["sdr_db"].to_numpy() == pytest.approx(
        metrics.sdr_db(mixtures.clean, mixtures.noisy, axis=(-2, -1)), rel=1e-6
    )
    assert (noisy["sdr_gain_db"] == 0).all() and (noisy["snr_gain_db"] == 0).all()
    assert (by_name["half"]["snr_gain_db"].abs() < 1e-6).all()  # amplitude is no noise
    assert by_name["half"]["log10_amplitude"].to_numpy() == pytest.approx(
        noisy["log10_amplitude"].to_numpy() + np.log10(0.5), abs=1e-6
    )
    assert np.isinf(by_name["clean"]["sdr_db"]).all() and (by_name["clean"]["log10_amplitude"] == 0).all()
    assert (by_name["oracle mask"]["sdr_gain_db"] > 3).all()
    assert set(rows["sp_class"]) == {"0 to 5 s"} and set(rows["region"]) == {"somewhere"}


def test_all_denoisers_see_the_same_mixtures_and_cannot_change_them(mixtures):
    seen = []

    def spy(noisy):
        seen.append(noisy.copy())
        return np.zeros_like(noisy)

    rows = evaluation.evaluate(mixtures, {"first": spy, "second": spy}, {})
    assert (seen[0] == seen[1]).all() and (seen[0] == mixtures.noisy).all()
    silent = rows[rows["denoiser"] == "first"]
    assert (silent["sdr_db"] == 0).all() and (silent["correlation"] == 0).all()
    assert np.isneginf(silent["log10_amplitude"]).all()


def test_sdr_agrees_with_mir_eval(mixtures):
    separation = pytest.importorskip("mir_eval.separation")
    for clean, noisy in zip(mixtures.clean[:2], mixtures.noisy[:2], strict=True):
        with pytest.warns(FutureWarning, match="mir_eval"):  # it is to go in 0.9
            expected = separation.bss_eval_images(clean.T[None], noisy.T[None], compute_permutation=False)[0]
        assert metrics.sdr_db(clean, noisy, axis=(-2, -1)) == pytest.approx(expected[0], abs=1e-3)


def test_full_band_metrics_are_added_to_those_in_band(mixtures):
    hum = 5 * np.sin(2 * np.pi * 0.2 * np.arange(3000) / 100).astype(np.float32)
    wide = Mixtures(mixtures.clean, mixtures.noise + hum, mixtures.labels)
    rows = evaluation.evaluate(mixtures, {"band": lambda noisy: noisy}, {}, full_band=wide).set_index("denoiser")
    assert rows.loc["band", "sdr_full_db"].to_numpy() == pytest.approx(rows.loc["band", "sdr_db"].to_numpy(), rel=1e-6)
    expected = metrics.sdr_db(wide.clean, wide.noisy, axis=(-2, -1))
    assert rows.loc["noisy", "sdr_full_db"].to_numpy() == pytest.approx(expected, rel=1e-6)
    assert (rows.loc["noisy", "sdr_full_db"] < rows.loc["noisy", "sdr_db"]).all()


def test_noise_is_counted_by_the_minute(mixtures):
    metadata = mixtures.labels.iloc[:4][["source_id"]].assign(kind="reversed, calm")
    minutes = np.concatenate([mixtures.noise[:4], mixtures.noise[4:]], axis=-1)
    rows = evaluation.evaluate_noise(minutes, metadata, {"tenth": lambda noise: 0.1 * noise}, {})
    table = summary.summarize(rows).set_index(["denoiser", "metric"])["value"]
    assert table["tenth", "suppression_db"] == pytest.approx(20, abs=1e-4) and table["noisy", "suppression_db"] == 0
    assert len(rows) == 8 and rows["hours"].to_numpy() == pytest.approx(1 / 60)


def test_a_minute_has_a_false_pick_if_either_half_has_one(mixtures, monkeypatch):
    found = picks((0, "P", 3.0, 0.9), (5, "P", 3.0, 0.4), (6, "S", 3.0, 0.2))
    monkeypatch.setattr(evaluation, "pick_windows", lambda picker, windows, thresholds: [found] * len(thresholds))
    metadata = pd.DataFrame({"source_id": list("abcd"), "kind": "reversed, calm"})
    rows = evaluation.evaluate_noise(np.zeros((4, 3, 6000), np.float32), metadata, {}, {"N": None})
    assert rows["N_P_highest"].tolist() == [0.9, 0.4, 0, 0] and rows["N_P_false"].tolist() == [True, True, False, False]
    assert rows["N_S_highest"].tolist() == [0, 0, 0.2, 0] and not rows["N_S_false"].any()


def test_records_without_metadata_are_events_of_their_own(mixtures):
    labels = mixtures.labels[["p_sample", "s_sample"]]
    rows = evaluation.evaluate_records(mixtures.noisy, labels, {}, {})
    assert rows["event"].nunique() == len(labels) and set(rows["region"]) == {"unknown"}


def test_of_picks_on_denoised_and_noisy_records_together_the_more_probable_counts():
    rows = pd.DataFrame(
        {
            "denoiser": ["noisy"] * 3 + ["x"] * 3,
            "event": list("abc") * 2,
            "N_P_label": True,
            "N_P_highest": [0.5, 0.1, 0.4, 0.2, 0.3, 0.9],
            "N_P_residual": [0.1, np.nan, np.nan, 0.2, -0.3, np.nan],
            "N_P_picks": 1,
            "sdr_db": 5.0,
        }
    )
    union = evaluation.with_unions(rows, ["x"]).query("denoiser == 'x + noisy'")
    assert union["N_P_highest"].tolist() == [0.5, 0.3, 0.9]
    assert union["N_P_residual"].fillna(9).tolist() == [0.1, -0.3, 9]
    table = summary.summarize(union, resamples=5).set_index("metric")["value"]
    assert table["N_P_recall_0.5"] == pytest.approx(2 / 3) and "sdr_db" not in table and "N_P_f1_0.5" not in table


def test_pick_statistics_are_those_of_a_count_by_hand():
    rows = pd.DataFrame(
        {
            "denoiser": "x",
            "event": list("aabbc"),
            "N_P_residual": [0.05, -0.3, np.nan, 0.1, np.nan],
            "N_P_label": [True, True, True, True, False],
            "N_P_picks": [1, 2, 0, 1, 1],
        }
    )
    value = summary.summarize(rows).set_index("metric")["value"]
    assert value["N_P_recall_0.5"] == 3 / 4 and value["N_P_recall_0.1"] == 2 / 4
    assert value["N_P_precision_0.5"] == 3 / 5 and value["N_P_f1_0.5"] == pytest.approx(6 / 9)
    residuals = rows["N_P_residual"].dropna()
    assert value["N_P_mean"] == pytest.approx(residuals.mean()) and value["N_P_median"] == 0.05
    assert value["N_P_std"] == pytest.approx(residuals.std(ddof=0)) and value["N_P_early"] == pytest.approx(1 / 3)


def test_false_picks_are_counted_per_hour():
    rows = pd.DataFrame({"denoiser": "x", "event": list("ab"), "N_P_false": [True, True], "hours": [0.25, 0.25]})
    assert summary.summarize(rows).set_index("metric")["value"]["N_P_per_hour"] == pytest.approx(4)


def rows_of_picks(denoiser, highest, label=True, hours=None):
    columns = {"denoiser": denoiser, "event": [f"e{i}" for i in range(len(highest))], "N_P_highest": highest}
    return pd.DataFrame({**columns, "N_P_label": label} | ({} if hours is None else {"hours": hours}))


def test_at_equal_false_picks_each_denoiser_has_a_threshold_of_its_own():
    records = pd.concat([rows_of_picks("sure", [0.9, 0.7, 0.2, 0.0]), rows_of_picks("shy", [0.3, 0.2, 0.1, 0.0])])
    noise = pd.concat(
        [
            rows_of_picks("sure", [0.8, 0.6, 0.1, 0.0], hours=0.25),
            rows_of_picks("shy", [0.15, 0.0, 0.0, 0.0], hours=0.25),
        ]
    )
    rates = 0, 1, 2, 3.5, 10
    table = summary.recall_at(records, noise, rates).set_index(["denoiser", "metric"])["value"]
    # at most so many: where no threshold gives as many false picks, the lowest one counts
    assert [table["sure", f"N_P_found_{rate:g}"] for rate in rates] == [0.25, 0.5, 0.75, 0.75, 0.75]
    assert [table["shy", f"N_P_found_{rate:g}"] for rate in rates] == [0.5, 0.75, 0.75, 0.75, 0.75]


def test_what_has_no_noise_rows_or_no_label_is_not_compared():
    records = pd.concat([rows_of_picks("a", [0.9, 0.8], label=[True, False]), rows_of_picks("clean", [0.9, 0.9])])
    table = summary.recall_at(records, rows_of_picks("a", [0.5, 0.0], hours=0.5), (1.0,))
    assert list(table["denoiser"]) == ["a"] and table["value"].tolist() == [1.0]


def test_thresholds_are_found_again_for_each_draw_of_stations():
    """A threshold that hangs on one station of noise has wide intervals, however many earthquakes there are."""
    highest = np.linspace(0.1, 0.9, 400)
    records = rows_of_picks("a", highest)
    noise = pd.concat([rows_of_picks("a", [0.8], hours=0.5), rows_of_picks("a", np.full(40, 0.01), hours=0.5)])
    row = summary.recall_at(records, noise.assign(event=[f"s{i}" for i in range(len(noise))]), (0.0,)).iloc[0]
    assert row["value"] == pytest.approx(np.mean(highest > 0.8))
    assert row["low"] < 0.2 and row["high"] > 0.95  # without that station, everything counts


def test_equally_many_earthquakes_and_stations_are_not_drawn_alike():
    rows = pd.DataFrame({"event": np.arange(50), "station": np.arange(50)})
    events, stations = summary.resampled(rows, 200, 0)[1:].reshape(2, 200, 50)
    noise = summary.resampled(rows, 200, 0, ("event",), first=2)[1:]
    for one, other in ((events, stations), (events, noise), (stations, noise)):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.05


def test_an_interval_is_the_wider_of_those_of_earthquakes_and_stations():
    random = np.random.default_rng(0)
    station = np.repeat(np.arange(20), 20)
    values = random.normal(size=20)[station] + 0.1 * random.normal(size=400)  # what a record has is its station's
    rows = pd.DataFrame({"denoiser": "x", "event": np.arange(400), "sdr_db": values})
    alone, both = (
        summary.summarize(x, resamples=1000).set_index("metric").loc["sdr_db"]
        for x in (rows, rows.assign(station=station))
    )
    assert both["high"] - both["low"] > 3 * (alone["high"] - alone["low"])


@pytest.mark.parametrize("few", ["event", "station"])
def test_fewer_than_ten_earthquakes_or_stations_have_no_interval(few):
    rows = pd.DataFrame({"denoiser": "x", "event": np.arange(40), "station": np.arange(40), "sdr_db": np.arange(40.0)})
    row = summary.summarize(rows.assign(**{few: rows[few] % 9})).iloc[0]
    assert row["value"] == 19.5 and np.isnan([row["low"], row["high"]]).all() and row["independent"] == 9
    row = summary.summarize(rows.assign(**{few: rows[few] % 10})).iloc[0]
    assert row["low"] < row["value"] < row["high"]


def test_thresholds_are_those_of_all_records_and_recalls_those_of_each_group():
    records = pd.concat([rows_of_picks("a", [0.9, 0.3]).assign(snr=5), rows_of_picks("a", [0.6, 0.2]).assign(snr=-5)])
    table = summary.recall_at(records, rows_of_picks("a", [0.4], hours=1), (0,), by=("denoiser", "snr"))
    assert table.set_index("snr")["value"].to_dict() == {5: 0.5, -5: 0.5}


def test_differences_are_paired():
    """What two denoisers share, however much events differ, does not widen the interval of their difference."""
    values = np.random.default_rng(4).normal(0, 10, 50)
    one, other = (
        pd.DataFrame({"denoiser": name, "event": np.arange(50).astype(str), "sdr_db": values + gain})
        for name, gain in (("good", 1.0), ("poor", 0.0))
    )
    table = summary.summarize(pd.concat([one, other]), reference="good").set_index("denoiser")
    assert table.loc["poor", ["value", "low", "high"]].tolist() == pytest.approx([1, 1, 1])
    assert table.loc["good", ["value", "low", "high"]].tolist() == [0, 0, 0]

    records = pd.concat([rows_of_picks("good", [0.9, 0.8]), rows_of_picks("poor", [0.9, 0.1])])
    noise = pd.concat([rows_of_picks(name, [0.5, 0.0], hours=0.5) for name in ("good", "poor")])
    table = summary.recall_at(records, noise, (0,), reference="good").set_index("denoiser")
    assert table.loc["poor", "value"] == 0.5 and table.loc["good", "value"] == 0


def test_the_highest_probability_is_that_near_the_label_or_anywhere_without_one():
    labels = pd.DataFrame({"p_sample": [1000.0, 1000.0, np.nan], "s_sample": np.nan})
    near = picks((0, "P", 10.4, 0.2), (0, "P", 9.7, 0.4), (0, "P", 12.0, 0.9), (0, "S", 10.0, 0.8), (2, "P", 3.0, 0.5))
    table = evaluation._highest("N", near, labels)
    assert table["N_P_highest"].tolist() == [0.4, 0.0, 0.5]
    assert table["N_S_highest"].tolist() == [0.8, 0.0, 0.0]


def test_intervals_are_those_of_a_mean_of_independent_events():
    values = np.random.default_rng(1).normal(5, 2, 400)
    rows = pd.DataFrame({"denoiser": "x", "event": np.arange(400).astype(str), "sdr_db": values})
    row = summary.summarize(rows, resamples=4000).set_index("metric").loc["sdr_db"]
    low, high = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    assert row["value"] == pytest.approx(values.mean())
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=0.03)
    expected = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0))
    assert (row["low"], row["high"]) == pytest.approx(expected.confidence_interval, abs=0.03)


def test_copies_of_an_event_do_not_narrow_the_interval():
    values = np.random.default_rng(2).normal(0, 1, 50)
    once = pd.DataFrame({"denoiser": "x", "event": np.arange(50).astype(str), "sdr_db": values})
    often = pd.concat([once] * 10)
    for column in ("value", "low", "high"):
        assert summary.summarize(often)[column].to_numpy() == pytest.approx(summary.summarize(once)[column].to_numpy())


def test_weighted_medians_are_medians_of_repeated_values():
    values = np.array([3.0, np.nan, -np.inf, 1.0, np.inf, 2.0])
    weights = np.random.default_rng(3).integers(0, 4, (50, 6)).astype(float)
    for weight, median in zip(weights, summary._median(values, weights), strict=True):
        repeated = np.repeat(values, weight.astype(int))
        expected = np.median(repeated[~np.isnan(repeated)]) if (~np.isnan(repeated)).any() else np.nan
        assert median == pytest.approx(expected, nan_ok=True)


def test_weighted_quantiles_are_quantiles_of_repeated_values():
    random = np.random.default_rng(4)
    values, weights = random.standard_normal(7), random.integers(0, 4, (50, 7)).astype(float)
    weights[:, 0] += 1
    for share in (0.25, 0.75):
        for weight, quantile in zip(weights, summary._quantile(values, weights, share), strict=True):
            repeated = np.repeat(values, weight.astype(int))
            assert quantile == pytest.approx(np.quantile(repeated, share, method="averaged_inverted_cdf"))


def test_silence_and_perfection_leave_the_statistics_finite_or_say_so(mixtures):
    rows = evaluation.evaluate(mixtures, {"silence": np.zeros_like}, {})
    table = summary.summarize(rows, resamples=20).set_index(["denoiser", "metric"])["value"]
    assert table["silence", "sdr_db"] == 0 and np.isneginf(table["silence", "log10_amplitude"])
    assert np.isnan(table["clean", "sdr_db"]) and table["clean", "correlation"] == pytest.approx(1)


def test_groups_and_seeds(mixtures):
    rows = evaluation.evaluate(mixtures, {}, {})
    table = summary.summarize(rows, by=("denoiser", "input_snr_db"), resamples=50)
    assert set(table["input_snr_db"]) == {0.0, 10.0} and (table["events"] == 4).all() and (table["records"] == 4).all()
    pd.testing.assert_frame_equal(table, summary.summarize(rows, by=("denoiser", "input_snr_db"), resamples=50))


@pytest.mark.parametrize(("kind", "counts"), [(sbm.EQTransformer, True), (sbm.PhaseNet, False)])
def test_pick_thresholds_are_those_of_its_class_whatever_a_picker_is_called(mixtures, kind, counts):
    picker = kind().eval()
    bump = 0.2 * torch.exp(-(((torch.arange(picker.in_samples) - 1000) / 20) ** 2))  # picks of probability 0.2

    def forward(x, logits=False):
        phases = bump.expand(len(x), 3, -1)
        return phases if kind is sbm.PhaseNet else tuple(phases.unbind(1))

    picker.forward = forward
    name = f"{kind.__name__}:volpick"
    rows = evaluation.evaluate(mixtures, {}, {name: picker, "other": picker})
    for phase in "PS":
        assert (rows[f"{name}_{phase}_picks"] == counts).all() and (rows[f"other_{phase}_picks"] == counts).all()
        assert rows[f"{name}_{phase}_highest"].max() == pytest.approx(0.2, abs=0.01)


def test_a_real_picker_finds_the_example_and_unions_have_rows(pickers, example):
    picker = picking.load_picker("PhaseNet")
    clean = np.stack([example.select(component=c)[0].data for c in "ZNE"])[None].astype(np.float32)
    (found,) = picking.pick_windows(picker, clean, (0.3,))
    p, s = (100 * found[found["phase"] == phase]["time"].iloc[0] for phase in "PS")
    noise = 0.01 * clean.std() * np.random.default_rng(5).standard_normal(clean.shape).astype(np.float32)
    mixtures = Mixtures(clean, noise, pd.DataFrame({"p_sample": [p], "s_sample": [s], "input_snr_db": [40.0]}))
    rows = evaluation.evaluate(mixtures, {"silence": np.zeros_like}, {"PhaseNet": picker})
    rows = evaluation.with_unions(rows, ["silence"])
    value = summary.summarize(rows, resamples=5).set_index(["denoiser", "metric"])["value"]
    for phase in "PS":
        assert value["clean", f"PhaseNet_{phase}_recall_0.1"] == 1
        assert value["silence", f"PhaseNet_{phase}_recall_0.5"] == 0
        assert (
            value["silence + noisy", f"PhaseNet_{phase}_recall_0.5"] == value["noisy", f"PhaseNet_{phase}_recall_0.5"]
        )
    assert "sdr_db" not in value["silence + noisy"].index


def test_metrics_grow_with_the_part_that_is_recovered(mixtures):
    rows = evaluation.evaluate(mixtures, {}, {})
    parts = ["noisy", *(f"{share:.0%} recovered" for share in evaluation.RECOVERED)]
    table = summary.summarize(rows, resamples=0).set_index(["metric", "denoiser"])["value"]
    for metric in ("sdr_db", "correlation", "snr_gain_db"):
        assert table[metric][parts].is_monotonic_increasing
    assert table["p_angle_deg"][parts].is_monotonic_decreasing and table["p_angle_deg", "clean"] < 1e-3


def test_the_snr_of_p_is_that_of_its_first_two_seconds(mixtures):
    clean = np.zeros((2, 3, 3000), np.float32)
    clean[:, :, 1000:1200] = 0.1
    clean[:, :, 1200:] = 5
    noise = np.ones_like(clean)
    labels = mixtures.labels.iloc[:2].assign(p_sample=[1000.0, 2999.0])
    found = evaluation._p_snr(Mixtures(clean, noise, labels))
    assert found == pytest.approx([-20, 10 * np.log10(25)])


def test_polarisation_of_a_linear_motion():
    motion = np.array([0.8, 0.6, 0.0])
    windows = np.zeros((1, 3, 3000))
    windows[0, :, 1000:] = motion[:, None] * np.sin(np.arange(2000) / 5)
    axis, straight = evaluation.polarisation(windows, np.array([1000.0]))
    assert np.abs(axis[0]) == pytest.approx(motion, abs=1e-6) and straight == pytest.approx(1)
    circle = np.stack(
        [np.sin(np.arange(3000) * 2 * np.pi / 25), np.cos(np.arange(3000) * 2 * np.pi / 25), np.zeros(3000)]
    )
    assert evaluation.polarisation(circle[None], np.array([1000.0]))[1] == pytest.approx(0.5, abs=1e-6)
