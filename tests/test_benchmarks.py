"""What the benchmarks share: usable and unusable data, reports, and the training of the baselines."""

import importlib.util
import json
import sys
from argparse import Namespace
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from seisbench_cdiffsd import metrics
from seisbench_cdiffsd.data.pairs import Mixtures
from seisbench_cdiffsd.picking import load_picker
from seisbench_cdiffsd.training.config import TrainingConfig

FOLDER = Path(__file__).parents[1] / "benchmarks"
baselines, report, testdata, train_baselines, simulation = (
    pytest.importorskip(name, reason="the benchmarks are not here")
    for name in ("baselines", "report", "testdata", "train_baselines", "simulation")
)
import evaluation  # noqa: E402
from options import DataError, Options  # noqa: E402


def write(folder, records):
    """A dataset of white noise, of (samples, metadata)."""
    random = np.random.default_rng(0)
    return testdata.write_dataset(folder, [(random.standard_normal((3, samples)), row) for samples, row in records])


def load(folder, **options):
    """The records of a run on the embedded default, or on other datasets."""
    testdata.write_example(folder / "example")
    usual = {name: (str(folder / "example" / name),) for name in ("events", "noise")}
    return testdata.load_data(Options(**{**usual, **options}), folder)


def test_the_embedded_default_always_runs_and_is_mixed_as_the_protocols_say(monkeypatch, tmp_path):
    monkeypatch.setattr(testdata, "SHARED", tmp_path / "nowhere")
    data, again, other = (testdata.load_data(Options(seed=seed), tmp_path / str(i)) for i, seed in enumerate((0, 0, 1)))
    for protocol, mixtures in data.mixtures.items():
        assert (mixtures.noisy == again.mixtures[protocol].noisy).all()
        assert (mixtures.noisy != other.mixtures[protocol].noisy).any()
    window = data.mixtures["window"]
    assert window.clean.shape == (15, 3, 3000) and data.noise.shape[1:] == (3, 6000)
    power, noise_power = (np.square(x).mean((1, 2)) for x in (window.clean, window.noise))
    assert 10 * np.log10(power / noise_power) == pytest.approx(window.labels["input_snr_db"].to_numpy(), abs=0.01)

    paper = testdata.load_data(Options(draws=3), tmp_path / "draws").mixtures["paper"]
    shares = np.abs(paper.noise).max((1, 2)) / np.abs(paper.clean).max((1, 2))
    assert len(shares) == 9 and shares.min() >= 0.4 and shares.max() <= 0.65 and np.ptp(shares) > 0.05
    assert len({noise.tobytes() for noise in paper.noise}) == 9, "each draw has noise of its own"


def test_full_band_mixtures_are_the_same_in_band(shared_data, tmp_path):
    data = testdata.load_data(Options(limit=2), tmp_path)
    for protocol in data.mixtures:
        for part in ("clean", "noise"):
            inside, whole = (getattr(x[protocol], part) for x in (data.mixtures, data.full_band))
            filtered = baselines.band_pass(whole, 1, 45)
            assert metrics.sdr_db(inside[..., 500:-500], filtered[..., 500:-500], axis=(-2, -1)).min() > 20


def test_noise_is_reversed_or_loses_its_phases(tmp_path):
    data = load(tmp_path)
    minutes = data.noise.reshape(2, -1, 3, 2, 3000)  # reversed ones first
    spectra, powers = np.fft.rfft(minutes), np.abs(np.fft.rfft(minutes))[..., 1:-1]
    assert data.noise_metadata["kind"].drop_duplicates().tolist() == ["reversed, calm", "random phases"]
    assert powers[0] == pytest.approx(powers[1], rel=1e-2, abs=1e-3 * float(powers.max()))
    turned = np.exp(1j * np.angle(spectra).sum(0)[..., 100:1000])  # reversal changes the sign of phases
    assert np.abs(turned - 1).max() > 0.1
    assert np.abs(turned - turned[:, :1]).max() < 0.1, "components of a window are turned alike"


def test_icequakes_and_narrow_noise_are_left_out(shared_data):
    noise, more = (testdata.open_dataset(str(shared_data / "data" / name)) for name in testdata.NOISE)
    excluded = set(pd.read_csv(shared_data / "data" / testdata.EXCLUDED)["trace_name"])
    for split in ("train", "test"):
        assert not excluded & set(testdata.usable(noise, split).metadata["trace_name"])
    left = testdata.usable(more, "train").metadata
    assert 0 < len(left) < (more.metadata["split"] == "train").sum() and left["trace_band_hz"].min() >= 40


@pytest.mark.parametrize(
    ("option", "records", "message"),
    [
        ("events", [(6000, {})], "no P labels"),
        ("events", [(6000, {"trace_p_arrival_sample": 3000})], "No usable record"),
        ("noise", [(2000, {})], "No usable record .* shorter than 30 s"),
        ("noise", [(6000, {"trace_category": "noise_ambient"})], "holds no noise: none of its trace_category"),
        ("events", "WaveformDataset2", "neither a folder nor a name"),
    ],
)
def test_unusable_data_are_reported_in_one_line(tmp_path, option, records, message):
    name = records if isinstance(records, str) else write(tmp_path / "bad", records)
    with pytest.raises(DataError, match=message) as error:
        load(tmp_path, **{option: (name,)})
    assert "\n" not in str(error.value)


def test_no_station_dominates_the_noise(tmp_path, monkeypatch):
    monkeypatch.setattr(testdata, "STATION_MINUTES", 5)
    records = [(6000, {"station_network_code": "XX", "station_code": station}) for station in "AAAAAAAABBB"]
    windows = load(tmp_path, noise=(write(tmp_path / "many", records),))
    calm = windows.noise_metadata.query("kind == 'reversed, calm'")
    assert calm["source_id"].value_counts().to_dict() == {"XX.A": 5, "XX.B": 3}


def test_noise_comes_from_the_dataset_of_the_events_where_it_has_some(tmp_path):
    quake = {"trace_category": "earthquake_local", testdata.P_KEY: 3000}
    both = write(tmp_path / "both", [(6000, {"trace_category": "noise"}), (6000, quake), (6000, quake)])
    data = testdata.load_data(Options((both,), clean_snr=-np.inf), tmp_path)
    assert len(data.noise) == 2 and len(data.mixtures["window"].clean) == 10
    rows = evaluation.evaluate(data.mixtures["window"], {}, {})  # without S labels and regions
    assert set(report.grouped(rows)["group"]) == {"all", "input_snr_db", "p_snr_class"}


def test_noise_that_overlaps_an_earthquake_of_another_split_is_left_out(tmp_path):
    rows = [(6000, {"station_code": "A", "trace_start_time": f"2020-01-0{day}T00:00:00Z"}) for day in (1, 2, 3)]
    noise = write(tmp_path / "some", rows)
    for (_, metadata), split in zip(rows, ("train", "test", "dev"), strict=True):
        metadata |= {testdata.P_KEY: 3000, "split": split}
    data = load(tmp_path, events=(write(tmp_path / "quakes", rows),), noise=(noise,), clean_snr=-np.inf)
    assert set(data.mixtures["paper"].labels["station_code"]) == {"A"} and len(data.noise) == 2  # 1 minute, twice


def test_unknown_models_and_pickers_are_reported_and_missing_weights_are_rows():
    missing = {}
    with pytest.raises(DataError, match="knows no nonsense"):
        baselines.denoisers(Options(models=("nonsense",)))
    with pytest.raises(DataError, match="no model 'Nonsense'"):
        baselines.available(baselines.pickers(Options(picker=("Nonsense",))), missing)
    rows = baselines.denoisers(Options(models=("wiener", "own weights")))
    pickers = baselines.pickers(Options(picker=("PhaseNet:nothing",)))
    assert list(baselines.available(rows | pickers, missing)) == ["Wiener"] and len(missing) == 3
    assert all("\n" not in reason for reason in missing.values())


@pytest.fixture(scope="module")
def small_run():
    """Rows of random mixtures of 12 earthquakes, and of noise, with a picker that finds what it is told to."""
    random = np.random.default_rng(0)
    clean, noise = random.standard_normal((2, 12, 3, 3000)).astype(np.float32)
    labels = {"p_sample": 1000.0, "s_sample": 1500.0, "input_snr_db": np.tile([-10.0, 5.0], 6)}
    half = {baselines.PICKING: lambda x: 0.5 * x}
    rows = evaluation.evaluate(Mixtures(clean, noise, pd.DataFrame(labels)), half, {})
    metadata = pd.DataFrame({"source_id": list("abcdefghijkl"), "kind": "reversed, calm"})
    alone = evaluation.evaluate_noise(np.tile(noise, 2), metadata, half, {})
    for table in (rows, alone):
        table["PhaseNet_P_highest"] = random.random(len(table))
    alone["PhaseNet_P_false"] = alone["PhaseNet_P_highest"] > 0.3
    picked = {"PhaseNet_P_label": True, "PhaseNet_P_picks": 1, "PhaseNet_P_residual": random.normal(0, 0.1, len(rows))}
    return rows.assign(**picked), alone


def test_a_report_is_written_with_the_readme_and_read_again(tmp_path, small_run):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.MARKS[0]}\nold\n{report.MARKS[1]}\nafter\n")
    rows, noise = small_run
    made = report.Report(tmp_path, readme, "pytest benchmarks", missing={"DeepDenoiser": "no weights"})
    made.about |= {"mixtures": {"paper": 12}, "earthquakes": 12}
    made.rows |= {"paper": rows, "noise": noise}
    made.tables |= {"paper": report.grouped(rows), "window": report.grouped(rows)}
    made.write()
    assert "old" in readme.read_text()  # not without all of its columns
    made.tables |= {"noise": report.false_picks(noise), "equal": report.equal(rows, noise)}
    made.write()
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert all(f"| {name} " in text for name in ("noisy", baselines.PICKING, "oracle mask"))
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1  # aligned
    written = (tmp_path / "results.md").read_text()
    assert "DeepDenoiser: no weights" in written and "| 75% recovered " in written
    names = {path.name for path in tmp_path.iterdir()}
    assert {"paper.csv", "environment.json", "quality_by_snr.png", "recall_by_false_picks.png"} <= names

    assert "(only" not in made.markdown()[f"{baselines.PICKING}, minus the other rows"]
    by_snr = made.markdown()["SDR (dB) by the SNR of the window (dB)"]  # of too few earthquakes for an interval
    assert by_snr.count("(only 6)") == 2 * 3 and [x.strip() for x in by_snr.split("|")[2:4]] == ["-10.0", "5.0"]
    for figure in report.figures(made.tables, made.rows).values():
        assert figure.legends[0].get_texts()[0].get_text() == baselines.PICKING
    assert len(report.CURVES) <= 6 and len(report.AT_EQUAL) <= 6

    readme.write_text(text.replace("oracle", "other"))
    report.Report.read(tmp_path, readme).write_documents()
    assert (tmp_path / "results.md").read_text() == written and readme.read_text() == text

    later = report.Report(tmp_path, None, "pytest another")
    rows = [{"network": "ice", "noise": "as recorded", "input": x, "picks an hour": 50, "found": 9} for x in "ab"]
    later.tables["networks"] = pd.DataFrame(rows).assign(chance=[1.0, 0.2], true=[8.0, 8.8], least=0.5)
    later.write()
    added = (tmp_path / "results.md").read_text()
    assert "Written by `pytest benchmarks`" in added and "By `pytest another` at commit" in added
    assert "| ice     | as recorded | 8 ± 3 | 9 ± 3 |" in added
    kept = [line for line in written.splitlines() if line.startswith("|")]
    assert set(kept) <= set(added.splitlines()) and (tmp_path / "network_events.png").is_file()


def test_the_committed_results_are_made_with_the_committed_options_and_can_be_read():
    spec = importlib.util.spec_from_file_location("benchmarks_conftest", FOLDER / "conftest.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    given = {"full": True, "split": "dev", "draws": 2, "seed": 1, "clean_snr": 10.0, "results": None}
    option = Namespace(**(dict.fromkeys(x.name for x in fields(Options)) | given))
    with pytest.raises(pytest.UsageError, match="not made with --split, --draws, --seed, --clean-snr: choose a folder"):
        hooks.pytest_configure(SimpleNamespace(option=option, stash={}))
    assert len((FOLDER / "results" / "results.md").read_text("utf-8").splitlines()) <= 200


@pytest.fixture
def train(small_datasets, tmp_path, monkeypatch):
    """Trains a mask network for some updates."""
    settings = ("steps", "validation_events", "validate_every", "warmup")
    (tmp_path / "like.toml").write_text("batch_size = 2\n" + "".join(f"{name} = 1\n" for name in settings))
    paths = {name: dataset.path for name, dataset in zip(("events", "noise"), small_datasets, strict=True)}
    paths |= {"like": tmp_path / "like.toml", "out": tmp_path / "run", "weights": tmp_path / "weights"}
    words = [word for name, path in paths.items() for word in (f"--{name}", str(path))]

    def run(name, *more):
        monkeypatch.setattr(sys, "argv", ["train_baselines.py", name, *words, *more])
        train_baselines.main()

    return run


@pytest.mark.parametrize("name", train_baselines.MASKS)
def test_a_mask_network_learns(name, train, tmp_path):
    train(name, "--steps", "10", "--validate-every", "10")
    losses = pd.read_csv(tmp_path / "run" / "losses.csv")["loss"]
    assert losses[7:].mean() < losses[:3].mean() and np.isfinite(losses).all()


def test_a_mask_network_goes_on_from_weights_and_is_averaged_with_them(train, tmp_path, capsys):
    first = train_baselines.MASKS["deepdenoiser"].new_model(TrainingConfig(), resumed=False)
    first.save(tmp_path / "first")
    start, weights = ("--init-from", str(tmp_path / "first")), tmp_path / "weights" / "deepdenoiser.pt"
    train("deepdenoiser", *start, "--mean")
    mean, after, before = torch.load(weights), torch.load(tmp_path / "run" / "model.pt"), weights.read_bytes()
    for name, value in first.named_parameters():
        assert torch.allclose(mean[name].float(), (value.float() + after[name].float()) / 2, rtol=1e-3, atol=1e-3)
    assert len(before) < 0.55 * (tmp_path / "run" / "model.pt").stat().st_size
    assert pd.read_csv(tmp_path / "run" / "log.csv")["step"].tolist() == [0, 1]
    for other in ([], ["--init-from", str(tmp_path / "run" / "model")]):  # what it began with is a setting
        with pytest.raises(SystemExit):
            train("deepdenoiser", *other)
        assert "init_from" in capsys.readouterr().err
    train("deepdenoiser", *start, "--mean")
    assert weights.read_bytes() == before


def test_a_mask_network_learns_from_the_data_of_the_compared_training(train, small_datasets, tmp_path, capsys):
    noise = small_datasets[1].path.as_posix()
    with (tmp_path / "like.toml").open("a") as file:
        file.write(f"noise = [{{ dataset = '{noise}', reversed = true }}]\n")
    train("deepdenoiser", "--noise", str(tmp_path / "nothing"))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["noise"][0]["reversed"] is True
    with pytest.raises(SystemExit):
        train("deepdenoiser", "--like", str(tmp_path / "nothing.toml"))
    assert "error: No config" in capsys.readouterr().err


def test_masks_are_those_of_the_oracle():
    clean, noise = torch.randn(2, 3, 3000).unbind()
    mask = train_baselines.masks(clean, noise)
    assert mask.shape == (3, 2, 31, 201) and torch.allclose(mask.sum(1), torch.ones(3, 31, 201))
    model = train_baselines.MaskTraining.kind()
    model.forward = lambda x: mask
    expected = baselines.oracle_mask(clean.numpy()[None], noise.numpy()[None])
    assert np.abs(baselines.NetworkDenoiser(model)((clean + noise).numpy()[None]) - expected).max() < 1e-4


def test_settings_are_taken_from_another_training(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"steps": 7, "snr": [-5, 5], "factor": None, "loss": {"l1": 1}}))
    config = train_baselines.read_config(tmp_path / "config.json", validate_every=3)
    assert (config.steps, config.snr, config.validate_every) == (7, (-5, 5), 3)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A dataset of 40 simulated earthquakes."""
    folder = tmp_path_factory.mktemp("simulated")
    simulation.write_simulated(folder, 40, seed=3)
    return testdata.open_dataset(str(folder))


def test_simulated_earthquakes_are_silent_before_p_and_strong_from_s_on(simulated):
    ratios = []
    for waveform, metadata in map(simulated.get_sample, range(len(simulated))):
        p, s = int(metadata[testdata.P_KEY]), int(metadata[testdata.S_KEY])
        assert np.abs(waveform[:, :p]).max() < 10 * simulation.QUIET
        assert np.abs(waveform).max() == pytest.approx(1, abs=1e-3)
        assert evaluation.snr_db(waveform[:, None, : p + 100], 3 * [p]).max() > 20  # P itself, in its first second
        power = np.square(waveform).sum(0)
        ratios.append(power[s : s + 100].mean() / power[max(p, s - 100) : s].mean())
    assert 2 < np.median(ratios) < 100
    assert {int(x) // 100 for x in simulated[testdata.S_KEY]} >= {28, 29, 30}  # near ones are frequent


def test_each_simulated_earthquake_has_its_own_seed(simulated, tmp_path):
    simulation.write_simulated(tmp_path, 2, seed=3)
    first, second = (testdata.open_dataset(str(tmp_path)).get_sample(index)[0] for index in (0, 1))
    np.testing.assert_array_equal(second, simulated.get_sample(1)[0])
    assert not np.allclose(first, second)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["metadata.csv", "waveforms.hdf5"]
    simulation.write_simulated(tmp_path, 2, seed=3, icequake=True)
    metadata = testdata.open_dataset(str(tmp_path)).metadata
    assert metadata["source_id"].tolist() == ["icequake0", "icequake1"]
    with pytest.raises(ValueError, match="positive"):
        simulation.write_simulated(tmp_path, 0)


def test_pickers_find_simulated_p_where_it_is(simulated, pickers):
    windows, random = [], np.random.default_rng(0)
    for waveform, metadata in map(simulated.get_sample, range(len(simulated))):
        p = int(metadata[testdata.P_KEY])
        windows.append(waveform[:, p - 700 : p + 2300] + 3e-4 * random.standard_normal((3, 3000)))
    (found,) = evaluation.pick_windows(load_picker("PhaseNet"), windows, [0.3])
    late = found.loc[found["phase"] == "P"].set_index("record")["time"] - 7
    right = late[late.abs() < 0.5]
    assert right.index.nunique() >= 28 and not (late < -0.5).any() and right.abs().median() < 0.05
