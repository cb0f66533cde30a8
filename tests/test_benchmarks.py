"""What the benchmarks share: usable and unusable data, reports, and the training of the baselines."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import seisbench.data as sbd
import torch

from seisbench_cdiffsd import metrics
from seisbench_cdiffsd.data.pairs import Mixtures
from seisbench_cdiffsd.picking import load_picker, pick_windows
from seisbench_cdiffsd.training.config import TrainingConfig

FOLDER = Path(__file__).parents[1] / "benchmarks"
report, suite, testdata, train_baselines, simulation = (
    pytest.importorskip(name, reason="the benchmarks are not here")
    for name in ("report", "suite", "testdata", "train_baselines", "simulation")
)
import evaluation  # noqa: E402
import plots  # noqa: E402
from baselines import NetworkDenoiser, band_pass, load_network, oracle_mask  # noqa: E402


@pytest.fixture
def example_data(tmp_path):
    """The embedded default: folders of earthquakes and noise."""
    testdata.write_example(tmp_path)
    return tmp_path


def write(folder, records, rate=100.0, seed=0):
    """A dataset of (samples, metadata)."""
    folder.mkdir()
    random = np.random.default_rng(seed)
    with sbd.WaveformDataWriter(folder / "metadata.csv", folder / "waveforms.hdf5") as writer:
        writer.data_format = {"dimension_order": "CW", "component_order": "ZNE", "sampling_rate": rate}
        for samples, metadata in records:
            row = {"trace_sampling_rate_hz": rate, "split": "test", **metadata}
            writer.add_trace(row, random.standard_normal((3, samples)).astype(np.float32))
    return str(folder)


def load(example_data, tmp_path, **options):
    options = {"events": (str(example_data / "events"),), "noise": (str(example_data / "noise"),), **options}
    return testdata.load_data(testdata.Options(**options), tmp_path)


def test_the_embedded_default_always_runs(monkeypatch, tmp_path):
    monkeypatch.setattr(testdata, "SHARED", tmp_path / "nowhere")
    data, again, other = (
        testdata.load_data(testdata.Options(seed=seed), tmp_path / name)
        for seed, name in ((0, "a"), (0, "b"), (1, "c"))
    )
    assert data.mixtures["window"].clean.shape == (15, 3, 3000) and data.noise.shape[1:] == (3, 6000)
    for protocol, mixtures in data.mixtures.items():
        assert (mixtures.noisy == again.mixtures[protocol].noisy).all()
        assert (mixtures.noisy != other.mixtures[protocol].noisy).any()


def test_mixtures_of_the_paper_have_noise_of_a_share_of_the_maximum(example_data, tmp_path):
    mixtures = load(example_data, tmp_path, draws=3).mixtures["paper"]
    shares = np.abs(mixtures.noise).max((1, 2)) / np.abs(mixtures.clean).max((1, 2))
    assert len(shares) == 9 and shares.min() >= 0.4 and shares.max() <= 0.65 and np.ptp(shares) > 0.05
    assert len({noise.tobytes() for noise in mixtures.noise}) == 9, "each draw has noise of its own"


def test_mixtures_by_the_snr_of_the_window(example_data, tmp_path):
    mixtures = load(example_data, tmp_path).mixtures["window"]
    power, noise_power = (np.square(x).mean((1, 2)) for x in (mixtures.clean, mixtures.noise))
    assert 10 * np.log10(power / noise_power) == pytest.approx(mixtures.labels["input_snr_db"].to_numpy(), abs=0.01)


@pytest.mark.parametrize("protocol", ["paper", "window"])
def test_full_band_mixtures_are_the_same_in_band(protocol, shared_data, tmp_path):
    data = testdata.load_data(testdata.Options(limit=2), tmp_path)
    middle = (..., slice(500, -500))
    for part in ("clean", "noise"):
        inside, whole = (getattr(x[protocol], part) for x in (data.mixtures, data.full_band))
        filtered = band_pass(whole, 1, 45)
        assert metrics.sdr_db(inside[middle], filtered[middle], axis=(-2, -1)).min() > 20


def test_noise_is_reversed_or_loses_its_phases(example_data, tmp_path):
    data = load(example_data, tmp_path)
    forward = testdata.open_dataset(str(example_data / "noise"))
    kinds = data.noise_metadata["kind"].to_numpy()
    assert set(kinds) == {"reversed, calm", "random phases"} and len(forward) == 4
    calm, random = (data.noise[kinds == kind] for kind in ("reversed, calm", "random phases"))
    spectra = [np.abs(np.fft.rfft(x.reshape(len(x), 3, 2, 3000))) for x in (calm, random)]
    assert spectra[0][..., 1:-1] == pytest.approx(spectra[1][..., 1:-1], rel=1e-2, abs=1e-3 * float(spectra[0].max()))
    assert np.abs(calm - random).max() > 0.1
    phases = [np.angle(np.fft.rfft(x.reshape(len(x), 3, 2, 3000)))[..., 100:1000] for x in (calm, random)]
    turned = np.exp(1j * (phases[1] + phases[0]))  # reversal changes the sign of phases
    assert np.abs(turned - turned[:, :1]).max() < 0.1, "components of a window are turned alike"


def test_icequakes_and_narrow_noise_are_left_out(shared_data):
    noise = testdata.open_dataset(str(shared_data / "data" / "noise"))
    excluded = set(pd.read_csv(shared_data / "data" / testdata.EXCLUDED)["trace_name"])
    for split in ("train", "test"):
        assert not excluded & set(testdata.usable(noise, split).metadata["trace_name"])
    more = testdata.open_dataset(str(shared_data / "data" / "noise2"))
    left = testdata.usable(more, "train").metadata
    assert 0 < len(left) < (more.metadata["split"] == "train").sum() and left["trace_band_hz"].min() >= 40


@pytest.mark.parametrize(
    ("option", "records", "message"),
    [
        ("events", [(6000, {})], "no P labels"),
        ("events", [(6000, {"trace_p_arrival_sample": 3000})], "No usable record"),
        ("events", [(6000, {"trace_p_arrival_sample": 3000, "split": "train"})], "no test split"),
        ("noise", [(2000, {})], "No usable record .* shorter than 30 s"),
        ("noise", [(6000, {"trace_p_arrival_sample": 3000})], "holds no noise: all of its records have a P label"),
        ("noise", [(6000, {"trace_category": "noise_ambient"})], "holds no noise: none of its trace_category"),
    ],
)
def test_unusable_data_are_reported_in_one_line(example_data, tmp_path, option, records, message):
    with pytest.raises(testdata.DataError, match=message):
        load(example_data, tmp_path, **{option: (write(tmp_path / "bad", records),)})


@pytest.mark.parametrize("name", ["nothing", "WaveformDataset2", "/nowhere"])
def test_unknown_datasets_are_reported_in_one_line(example_data, tmp_path, name):
    with pytest.raises(testdata.DataError, match=r"neither a folder nor a name|is not a dataset in SeisBench's format"):
        load(example_data, tmp_path, events=(name,))


def test_a_folder_without_a_dataset_is_reported_in_one_line(example_data, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(testdata.DataError, match="is not a dataset in SeisBench's format"):
        load(example_data, tmp_path, noise=(str(tmp_path / "empty"),))


def test_other_sampling_rates_are_resampled(example_data, tmp_path):
    noise = write(tmp_path / "slow", [(2000, {"station_code": "A"})] * 4, rate=50.0)
    assert load(example_data, tmp_path, noise=(noise,)).noise.shape == (4, 3, 6000)


def test_no_station_dominates_the_noise(example_data, tmp_path, monkeypatch):
    monkeypatch.setattr(testdata, "STATION_MINUTES", 5)
    stations = ["A"] * 8 + ["B"] * 3
    records = [(6000, {"station_network_code": "XX", "station_code": station}) for station in stations]
    windows = load(example_data, tmp_path, noise=(write(tmp_path / "many", records),))
    calm = windows.noise_metadata.query("kind == 'reversed, calm'")
    assert calm["source_id"].value_counts().to_dict() == {"XX.A": 5, "XX.B": 3}


def test_data_without_s_labels_or_regions_are_evaluated(example_data, tmp_path):
    few = load(example_data, tmp_path).mixtures["window"]
    mixtures = Mixtures(few.clean, few.noise, few.labels.drop(columns=testdata.S_KEY).assign(s_sample=np.nan))
    table = report.grouped(evaluation.evaluate(mixtures, {}, {}))
    assert set(table["group"]) == {"all", "input_snr_db", "p_snr_class"} and table["records"].max() == 15


def test_noise_comes_from_the_dataset_of_the_events_where_it_has_some(tmp_path):
    quake = {"trace_category": "earthquake_local", testdata.P_KEY: 3000}
    both = write(tmp_path / "both", [(6000, {"trace_category": "noise"}), (6000, quake), (6000, quake)])
    data = testdata.load_data(testdata.Options((both,), clean_snr=-np.inf), tmp_path)
    assert len(data.noise) == 2 and len(data.mixtures["window"].clean) == 10


def test_noise_that_overlaps_an_earthquake_of_another_split_is_left_out(example_data, tmp_path):
    times = [f"2020-01-0{day}T00:00:00Z" for day in (1, 2, 3)]
    noise = write(tmp_path / "some", [(6000, {"station_code": "A", "trace_start_time": time}) for time in times])
    label = {testdata.P_KEY: 3000, "station_code": "A"}
    splits = zip(("train", "test", "dev"), times, strict=True)
    rows = [(6000, {**label, "split": split, "trace_start_time": time}) for split, time in splits]
    quakes = (write(tmp_path / "quakes", rows),)
    data = load(example_data, tmp_path, events=quakes, noise=(noise,), clean_snr=-np.inf)
    assert set(data.mixtures["paper"].labels["station_code"]) == {"A"} and len(data.noise) == 2  # 1 minute, twice


def test_unknown_models_and_pickers_are_reported_and_missing_weights_are_rows():
    with pytest.raises(testdata.DataError, match="knows no nonsense"):
        suite.load_denoisers(testdata.Options(models=("nonsense",)))
    with pytest.raises(testdata.DataError, match="no model 'Nonsense'"):
        suite.load_pickers(testdata.Options(picker=("Nonsense",)))
    items, missing = suite.load_denoisers(testdata.Options(models=("wiener", "own weights")))
    assert list(items) == ["Wiener"] and len(missing) == 2
    assert all("\n" not in reason for reason in missing.values())
    assert suite.load_pickers(testdata.Options(picker=("PhaseNet:nothing",)))[1]


@pytest.fixture(scope="module")
def small_run():
    """Rows of random mixtures of 12 earthquakes, and of noise, with a picker that finds what it is told to."""
    random = np.random.default_rng(0)
    clean, noise = random.standard_normal((2, 12, 3, 3000)).astype(np.float32)
    labels = {"p_sample": 1000.0, "s_sample": 1500.0, "input_snr_db": np.tile([-10.0, 5.0], 6)}
    rows = evaluation.evaluate(Mixtures(clean, noise, pd.DataFrame(labels)), {suite.PICKING: lambda x: 0.5 * x}, {})
    metadata = pd.DataFrame({"source_id": list("abcdefghijkl"), "kind": "reversed, calm"})
    alone = evaluation.evaluate_noise(np.tile(noise, 2), metadata, {suite.PICKING: lambda x: 0.5 * x}, {})
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
    assert all(f"| {name} " in text for name in ("noisy", suite.PICKING, "oracle mask"))
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1  # aligned
    written = (tmp_path / "results.md").read_text()
    assert "| DeepDenoiser | no weights |" in written and "| 75% recovered " in written
    names = {path.name for path in tmp_path.iterdir()}
    assert {"paper.csv", "environment.json", "quality_by_snr.png", "recall_by_false_picks.png"} <= names

    again = report.Report.read(tmp_path)
    assert again.headline() == made.headline()
    again.write_documents()
    assert (tmp_path / "results.md").read_text() == written


def test_tables_say_where_there_are_too_few_earthquakes_for_an_interval(small_run):
    rows, _ = small_run
    tables = report.Report(tables={"paper": report.grouped(rows), "window": report.grouped(rows)}).markdown()
    assert "(only" not in tables[f"{suite.PICKING}, minus the other rows"]
    assert tables["SDR (dB) by the SNR of the window (dB)"].count("(only 6)") == 2 * 3
    assert [head.strip() for head in tables["SDR (dB) by the SNR of the window (dB)"].split("|")[2:4]] == [
        "-10.0",
        "5.0",
    ]


def test_figures_have_six_curves_at_most_and_the_default_first(small_run):
    rows, noise = small_run
    assert len(plots.CURVES) <= 6 and len(plots.AT_EQUAL) <= 6
    for figure in plots.figures(
        {"window": report.grouped(rows), "equal": rows}, {"paper": rows, "noise": noise}
    ).values():
        assert figure.legends[0].get_texts()[0].get_text() == suite.PICKING


def test_the_committed_results_are_made_with_the_committed_options():
    command = [sys.executable, "-m", "pytest", FOLDER, "--collect-only", "-q", "--full"]
    options = ["--seed", "1", "--clean-snr", "10", "--split", "dev", "--draws", "2"]
    ended = subprocess.run([*command, *options], cwd=FOLDER.parent, capture_output=True, text=True)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert "not made with --draws, --split, --seed, --clean-snr: choose a folder" in ended.stderr


def test_the_committed_results_can_be_read():
    assert len((FOLDER / "results" / "results.md").read_text("utf-8").splitlines()) <= 200


@pytest.fixture
def train(small_datasets, tmp_path, monkeypatch):
    """Trains a mask network for some updates."""
    (tmp_path / "like.toml").write_text(
        "steps = 1\nbatch_size = 2\nvalidation_events = 1\nvalidate_every = 1\nwarmup = 1"
    )
    folders = {"like": "like.toml", "out": "run", "weights": "weights"}
    names = [word for name, path in folders.items() for word in (f"--{name}", str(tmp_path / path))]
    events, noise = (str(dataset.path) for dataset in small_datasets)

    def run(name, *more):
        data = "--events", events, "--noise", noise
        monkeypatch.setattr(sys, "argv", ["train_baselines.py", name, *names, *data, *more])
        train_baselines.main()

    return run


@pytest.mark.parametrize("name", train_baselines.MASKS)
def test_a_mask_network_learns(name, train, tmp_path):
    train(name, "--steps", "16", "--validate-every", "16")
    losses = pd.read_csv(tmp_path / "run" / "losses.csv")["loss"]
    assert losses[12:].mean() < losses[:4].mean() and np.isfinite(losses).all()


def test_a_mask_network_goes_on_from_weights_and_is_averaged_with_them(train, tmp_path, capsys):
    first = train_baselines.MASKS["deepdenoiser"].new_model(TrainingConfig(), resumed=False)
    first.save(tmp_path / "first")
    start = "--init-from", str(tmp_path / "first")
    train("deepdenoiser", *start, "--mean")
    mean, after = (torch.load(tmp_path / name) for name in ("weights/deepdenoiser.pt", "run/model.pt"))
    for name, before in first.named_parameters():
        assert torch.allclose(mean[name].float(), (before.float() + after[name].float()) / 2, atol=1e-3)
    log = pd.read_csv(tmp_path / "run" / "log.csv")
    assert log["step"].tolist() == [0, 1]
    for other in ([], ["--init-from", str(tmp_path / "run" / "model")]):  # what it began with is a setting
        with pytest.raises(SystemExit):
            train("deepdenoiser", *other)
        assert "init_from" in capsys.readouterr().err
    weights = (tmp_path / "weights" / "deepdenoiser.pt").read_bytes()
    train("deepdenoiser", *start, "--mean")
    assert (tmp_path / "weights" / "deepdenoiser.pt").read_bytes() == weights


def test_masks_are_those_of_the_oracle():
    clean, noise = torch.randn(2, 3, 3000).unbind()
    mask = train_baselines.masks(clean, noise)
    assert mask.shape == (3, 2, 31, 201) and torch.allclose(mask.sum(1), torch.ones(3, 31, 201))

    model = train_baselines.MaskTraining.kind()
    model.forward = lambda x: mask
    expected = oracle_mask(clean.numpy()[None], noise.numpy()[None])
    assert np.abs(NetworkDenoiser(model)((clean + noise).numpy()[None]) - expected).max() < 1e-4


def test_published_weights_come_back_nearly_alike_and_half_as_large(tmp_path):
    model = train_baselines.MaskTraining.kind().eval()
    model.save(tmp_path / "model")
    train_baselines.publish(tmp_path / "model", tmp_path / "weights" / "deepdenoiser")
    sizes = [
        (folder / name).stat().st_size
        for folder, name in ((tmp_path, "model.pt"), (tmp_path / "weights", "deepdenoiser.pt"))
    ]
    assert sizes[1] < 0.55 * sizes[0]
    loaded = load_network("DeepDenoiser", tmp_path / "weights" / "deepdenoiser")
    for name, value in model.state_dict().items():
        assert torch.allclose(loaded.state_dict()[name].float(), value.float(), rtol=1e-3, atol=1e-6)


def test_settings_are_taken_from_another_training(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"steps": 7, "snr": [-5, 5], "factor": None, "loss": {"l1": 1}}))
    config = train_baselines.read_config(tmp_path / "config.json", validate_every=3)
    assert (config.steps, config.snr, config.validate_every) == (7, (-5, 5), 3)


def test_the_published_row_has_what_is_published_and_else_the_recipe_of_the_others():
    like = train_baselines.read_config(FOLDER / "base.json", steps=1300, validate_every=325, batch_size=8)
    config, recipe = train_baselines.published(like), train_baselines.read_config("published")
    for name in ("network", "schedule", "norm", "loss", "unfolded", "top", "factor"):
        assert getattr(config, name) == getattr(recipe, name) != getattr(like, name)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A folder with 40 simulated earthquakes."""
    folder = tmp_path_factory.mktemp("simulated")
    simulation.write_simulated(folder, 40, seed=3)
    return folder


def test_simulated_earthquakes_are_silent_before_p_and_strong_from_s_on(simulated):
    dataset = testdata.open_dataset(str(simulated))
    ratios = []
    for waveform, metadata in map(dataset.get_sample, range(len(dataset))):
        p, s = int(metadata[testdata.P_KEY]), int(metadata[testdata.S_KEY])
        assert np.abs(waveform[:, :p]).max() < 10 * simulation.QUIET
        assert np.abs(waveform).max() == pytest.approx(1, abs=1e-3)
        assert metrics.snr_db(waveform[:, : p + 100], p).max() > 20  # P itself, in its first second
        power = np.square(waveform).sum(0)
        ratios.append(power[s : s + 100].mean() / power[max(p, s - 100) : s].mean())
    assert 2 < np.median(ratios) < 100
    assert {int(x) // 100 for x in dataset[testdata.S_KEY]} >= {28, 29, 30}  # near ones are as frequent as distant ones


def test_each_simulated_earthquake_has_its_own_seed(simulated, tmp_path):
    simulation.write_simulated(tmp_path, 2, seed=3)
    few, many = (testdata.open_dataset(str(folder)) for folder in (tmp_path, simulated))
    np.testing.assert_array_equal(few.get_sample(1)[0], many.get_sample(1)[0])
    assert not np.allclose(many.get_sample(0)[0], many.get_sample(1)[0])
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["metadata.csv", "waveforms.hdf5"]
    with pytest.raises(ValueError, match="positive"):
        simulation.write_simulated(tmp_path, 0)


def test_pickers_find_simulated_p_where_it_is(simulated, pickers):
    dataset = testdata.open_dataset(str(simulated))
    windows, random = [], np.random.default_rng(0)
    for waveform, metadata in map(dataset.get_sample, range(len(dataset))):
        p = int(metadata[testdata.P_KEY])
        windows.append(waveform[:, p - 700 : p + 2300] + 3e-4 * random.standard_normal((3, 3000)))
    (found,) = pick_windows(load_picker("PhaseNet"), windows, [0.3])
    late = found.loc[found["phase"] == "P"].set_index("record")["time"] - 7
    right = late[late.abs() < 0.5]
    assert right.index.nunique() >= 28 and not (late < -0.5).any() and right.abs().median() < 0.05
