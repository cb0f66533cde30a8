"""The commands around training, run as a user runs them: killed and resumed, on two processes, on STEAD."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
import seisbench
import seisbench.data as sbd
import torch

import seisbench_cdiffsd
from seisbench_cdiffsd import CDiffSD, cli
from seisbench_cdiffsd.data import stores
from seisbench_cdiffsd.training import trainer
from seisbench_cdiffsd.weights import load

ROOT = Path(__file__).parents[1]
SMALL = ["--batch-size", "4", "--validate-every", "3", "--validation_events=1", "--warmup", "2", "--threads", "1"]


def command(folders, out, *more, steps=12):
    events, noise = (str(dataset.path) for dataset in folders)
    args = ["train", "--events", events, "--noise", noise, "--out", str(out), "--steps", str(steps), *SMALL, *more]
    return [sys.executable, "-m", "seisbench_cdiffsd.cli", *args]


def run(*args):
    return cli.main([str(arg) for arg in args])


def losses(out):
    return pd.read_csv(Path(out) / "losses.csv")["loss"].tolist()


@pytest.fixture(scope="module")
def unbroken(small_datasets, tmp_path_factory):
    """The folder of a training without interruption."""
    out = tmp_path_factory.mktemp("unbroken")
    assert cli.main(command(small_datasets, out)[3:]) == 0
    return out


def test_a_killed_training_is_resumed_to_the_byte(unbroken, small_datasets, tmp_path):
    process = subprocess.Popen(command(small_datasets, tmp_path), stderr=subprocess.DEVNULL)
    try:
        until(lambda: (tmp_path / "last.ckpt").exists() or process.poll() is not None)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert CDiffSD.load(tmp_path / "model")
    assert run("train", "--resume", "--out", tmp_path) == 0
    for name in ("losses.csv", "log.csv"):
        assert (tmp_path / name).read_bytes() == (unbroken / name).read_bytes()
    whole, resumed = (torch.load(out / "last.ckpt", weights_only=True)["state_dict"] for out in (unbroken, tmp_path))
    assert all(whole[name].equal(resumed[name]) for name in whole)


def until(true, seconds=600):
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < seconds
        time.sleep(0.02)


def test_two_processes_train_as_one(unbroken, small_datasets, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CDIFFSD_WITNESS": str(tmp_path)}
    script = Path(__file__).parent / "two_processes.py"
    arguments = command(small_datasets, tmp_path / "run", "--devices", "2", steps=3)[3:]
    done = subprocess.run([sys.executable, script, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(first["weights"][name].equal(second["weights"][name]) for name in first["weights"])
    assert not set(map(tuple, first["places"])) & set(map(tuple, second["places"]))
    assert sorted(map(tuple, first["places"] + second["places"])) == [(step, i) for step in range(3) for i in range(4)]
    one = command(small_datasets, tmp_path / "one", steps=3)
    assert cli.main(one[3:]) == 0
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)


def test_two_processes_report_a_damaged_record_once(small_datasets, tmp_path):
    events, noise = small_datasets
    odd = SimpleNamespace(path=shutil.copytree(noise.path, tmp_path / "odd"))
    bucket, number = re.match(r"(\w+)\$(\d+)", noise["trace_name"].iloc[3]).groups()
    with h5py.File(odd.path / "waveforms.hdf5", "r+") as file:
        file["data"][bucket][int(number), 1, 100] = np.nan
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    arguments = command((events, odd), tmp_path / "run", "--devices", "2", "--memory", "0")
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if "cdiffsd" in line or "Traceback" in line]
    assert done.returncode == 2 and len(lines) == 1, done.stderr
    assert "of dataset odd has NaN or infinite samples" in lines[0]


def test_a_folder_in_use_is_refused(small_datasets, tmp_path, capsys):
    process = subprocess.Popen(command(small_datasets, tmp_path, steps=10_000), stderr=subprocess.DEVNULL)
    try:
        until(lambda: (tmp_path / "last.ckpt").exists() or process.poll() is not None)
        assert cli.main(command(small_datasets, tmp_path, steps=10_000)[3:]) == 2
        assert "Another run is writing to" in one_line(capsys) and process.poll() is None
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def stead(tmp_path_factory):
    """
    A miniature of STEAD as published, merged.csv and merged.hdf5, and a SeisBench cache with what SeisBench's class
    makes of it. Only the list of test traces, which SeisBench downloads, is made up.
    """
    folder, random = tmp_path_factory.mktemp("stead"), np.random.default_rng(1)
    rows, time_ = [], np.arange(6000) / 100
    with h5py.File(folder / "merged.hdf5", "w") as file:
        group = file.create_group("data")
        for number in range(48):
            earthquake = number % 4 in (0, 3)
            name = f"B{number:03d}.TA_2010_{'EV' if earthquake else 'NO'}"
            waveform = random.normal(size=(6000, 3)) * (0.01 if earthquake else 1)
            if earthquake:
                for onset, gain in ((10, 0.3), (14, 1)):
                    burst = gain * np.exp(-(time_ - onset).clip(0) / 5) * (time_ >= onset)
                    waveform += burst[:, None] * random.normal(size=(6000, 3))
            group.create_dataset(name, data=(1000 * waveform).astype(np.float32))
            always = {
                "network_code": "TA", "receiver_code": f"B{number:03d}", "receiver_type": "BH", "trace_name": name,
                "receiver_latitude": 40.0, "receiver_longitude": -110.0, "receiver_elevation_m": 1000.0,
                "trace_start_time": "2010-01-01 00:00:00",
                "trace_category": "earthquake_local" if earthquake else "noise",
            }  # fmt: skip
            labels = {
                "p_arrival_sample": 1000.0, "p_status": "manual", "p_weight": 0.5, "p_travel_sec": 8.0,
                "s_arrival_sample": 1400.0, "s_status": "manual", "s_weight": 0.5, "source_id": str(number),
                "source_origin_time": "2010-01-01 00:00:00", "source_magnitude": 1 + number / 20,
                "source_distance_km": 40.0, "back_azimuth_deg": 90.0, "snr_db": "[40.0 41.0 42.0]",
                "coda_end_sample": "[[4000.]]",
            }  # fmt: skip
            rows.append({**always, **(labels if earthquake else {})})
    table = pd.DataFrame(rows)
    table.to_csv(folder / "merged.csv", index=False)

    def no_network(url, target, **_):
        if not str(url).endswith("test.npy"):
            raise ValueError("no network")
        np.save(target, table["trace_name"].to_numpy(dtype="U")[[0, 1, 2, 3]])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seisbench.util, "download_http", no_network)
        patch.setattr(seisbench, "cache_data_root", folder / "cache")
        sbd.STEAD(download_kwargs={"basepath": folder}, compile_from_source=True)
    return folder / "cache"


def test_stead_is_trained_on_by_its_name(stead, tmp_path, monkeypatch):
    monkeypatch.setattr(seisbench, "cache_data_root", stead)
    dataset = sbd.STEAD(component_order="ZNE")
    splits = dataset.metadata.groupby("split")["trace_category"].unique()
    assert len(dataset) == 48 and all(set(splits[x]) == {"noise", "earthquake_local"} for x in ("train", "dev", "test"))
    config = tmp_path / "mine.toml"
    config.write_text(
        "steps = 3\nbatch_size = 4\nvalidate_every = 3\nvalidation_events = 1\nwarmup = 1\nmemory = 0.0\nworkers = 1\n"
        '[[events]]\ndataset = "STEAD"\ncategory = ["earthquake_local"]\nsnr = [20, 100]\nmagnitude = [1, 9]\n'
        '[[noise]]\ndataset = "STEAD"\ncategory = ["noise"]\n'
    )
    assert run("train", config, "--out", tmp_path / "run") == 0
    assert len(losses(tmp_path / "run")) == 3 and np.isfinite(losses(tmp_path / "run")).all()
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["events"][0]["dataset"] == "STEAD" and stored["memory"] == 0


def test_weights_are_exported_for_seisbench(unbroken, tmp_path, capsys, monkeypatch):
    assert run("export", unbroken, "mine", "--out", tmp_path, "--docstring", "For testing.") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.json.v1", "mine.pt.v1", "mine.v1.md"]
    description = json.loads((tmp_path / "mine.json.v1").read_text())
    assert description["version"] == "1" and "Trappolini" in description["citation"]
    assert description["docstring"].startswith("For testing.") and '"steps": 12' in description["docstring"]
    cache = tmp_path / "cache" / "cdiffsd"
    cache.mkdir(parents=True)
    for name in ("mine.pt.v1", "mine.json.v1"):
        shutil.copy(tmp_path / name, cache)
    monkeypatch.setattr(seisbench, "cache_model_root", tmp_path / "cache")
    model, trained = CDiffSD.from_pretrained("mine"), CDiffSD.load(unbroken / "model")
    by_path = load(str(tmp_path / "mine.pt.v1"))
    for other in (model, by_path):
        assert all(a.equal(b) for a, b in zip(other.parameters(), trained.parameters(), strict=True))
    card = (tmp_path / "mine.v1.md").read_text()
    assert "sdr_2" in card and "Trappolini" in card and "events" in card
    assert run("export", unbroken, "mine", "--out", tmp_path) == 2
    assert "choose another --version" in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    for name in ("model.pt", "model.json", "config.json"):
        shutil.copy(unbroken / name, tmp_path / "run")
    assert run("export", tmp_path / "run", "other", "--out", tmp_path / "other") == 2
    assert "has no log.csv" in capsys.readouterr().err and not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--step", "3"], "did you mean 'steps'"),
        (["--window", "many"], "window must be a whole number"),
        (["--out", ""], "Name a folder for the results: --out DIR"),
        (["--loss.picks.foo", "1"], "seisbench.models.PhaseNet.from_pretrained('foo')"),
        (["--events", "Moonquakes"], "Moonquakes"),
        (["--events", '{"dataset": "STEAD", "exclude": "nowhere.csv"}'], "STEAD is not in SeisBench's cache"),
        (["--device", "cuda:99"], "There is no device 'cuda:99' here"),
        (["--init-from", "nowhere"], "nowhere"),
        (["--resume"], "nothing to resume"),
    ],
)
def test_user_errors_are_reported_in_one_line(small_datasets, tmp_path, capsys, more, message):
    assert cli.main([*command(small_datasets, tmp_path / "run")[3:], *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith("cdiffsd: ") and error.count("\n") == 1 and message in error
    assert not (tmp_path / "run" / "model.pt").exists()


def missing_waveform(table):
    table.loc[5, "trace_name"] = "nowhere$0,:3,:6000"


def text_as_label(table):
    table["trace_p_arrival_sample"] = table["trace_p_arrival_sample"].astype(object)
    table.loc[5, "trace_p_arrival_sample"] = "early"


def no_rate(table):
    table["trace_sampling_rate_hz"] = 100.0
    table.loc[5, "trace_sampling_rate_hz"] = 0


def with_defect(dataset, folder, edit):
    """A copy of a dataset with other metadata."""
    shutil.copytree(dataset.path, folder)
    table = pd.read_csv(folder / "metadata.csv")
    edit(table)
    table.to_csv(folder / "metadata.csv", index=False)
    return SimpleNamespace(path=folder)


def one_line(capsys):
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("cdiffsd: ") and "Traceback" not in error
    return error


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (missing_waveform, "Trace nowhere$0,:3,:6000 of dataset odd cannot be read: its waveform"),
        (text_as_label, "of dataset odd has 'early' for trace_p_arrival_sample"),
        (no_rate, "of dataset odd cannot be read: its trace_sampling_rate_hz is 0.0"),
    ],
)
def test_a_defect_of_a_dataset_is_reported_with_its_trace(small_datasets, tmp_path, capsys, edit, message):
    events = with_defect(small_datasets[0], tmp_path / "odd", edit)
    for number, more in enumerate(([], ["--memory", "0"])):
        assert cli.main(command((events, small_datasets[1]), tmp_path / str(number), *more)[3:]) == 2
        error = one_line(capsys)
        assert message in error and "remove its row" in error


def test_a_defect_found_by_a_worker_is_reported_alike(small_datasets, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(stores, "PROBES", 1)
    events = with_defect(small_datasets[0], tmp_path / "odd", missing_waveform)
    more = ["--memory", "0", "--workers", "1"]
    assert cli.main(command((events, small_datasets[1]), tmp_path / "run", *more)[3:]) == 2
    assert "Trace nowhere$0,:3,:6000 of dataset odd cannot be read" in one_line(capsys)


@pytest.mark.parametrize(
    ("name", "damaged", "message"),
    [
        ("last.ckpt", lambda content: content[:1000], "last.ckpt is damaged"),
        ("last.ckpt", lambda content: b"", "last.ckpt is damaged"),
        ("config.json", lambda content: content[:100], "config.json is not a valid config"),
    ],
)
def test_damage_of_an_unfinished_training_is_reported_with_the_file(
    unbroken, small_datasets, tmp_path, capsys, name, damaged, message
):
    out = shutil.copytree(unbroken, tmp_path / "run")
    (out / name).write_bytes(damaged((out / name).read_bytes()))
    for args in (["train", "--resume", "--out", out], command(small_datasets, out)[3:]):
        assert run(*args) == 2
        error = one_line(capsys)
        assert f"{out}/{message}" in error and "delete it" in error


def test_a_training_ends_with_a_sentence_and_needs_no_reader(unbroken, tmp_path, capsys, monkeypatch):
    commands = ["train", "--resume", "--out", unbroken], ["export", unbroken, "mine", "--out", tmp_path]
    assert run(*commands[0]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{unbroken / 'model'} is the best model, that of update ") and len(line) < 500
    assert "sdr_2 " in line and f"cdiffsd denoise FILE --weights {unbroken / 'model'}" in line
    for args in commands:
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w") as broken, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", broken)
            assert run(*args) == 0
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_that_cannot_be_made_is_reported_with_what_to_do(unbroken, small_datasets, tmp_path, capsys):
    (tmp_path / "file").touch()
    for args in (
        command(small_datasets, tmp_path / "file" / "run")[3:],
        ["export", unbroken, "mine", "--out", tmp_path / "file"],
    ):
        assert run(*args) == 2
        assert re.match(r"cdiffsd: The folder \S+ cannot be written .*: choose another with --out\.$", one_line(capsys))


def test_a_file_in_place_of_the_folder_is_reported_before_data_are_read(small_datasets, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trainer, "open_chosen", lambda source: pytest.fail("read data"))
    (tmp_path / "file").touch()
    assert cli.main(command(small_datasets, tmp_path / "file")[3:]) == 2
    assert capsys.readouterr().err == f"cdiffsd: {tmp_path / 'file'} is not a folder: choose another one.\n"


def test_without_lightning_the_extra_is_named(small_datasets, tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "seisbench_cdiffsd.training.trainer")
    monkeypatch.delattr(seisbench_cdiffsd.training, "trainer")
    for name in [name for name in sys.modules if name.partition(".")[0] == "lightning"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lightning", None)
    assert cli.main(command(small_datasets, tmp_path / "run")[3:]) == 2
    assert "pip install seisbench-cdiffsd[train]" in capsys.readouterr().err


def test_an_interrupt_and_a_full_disk_leave_the_last_checkpoint_usable(
    unbroken, small_datasets, tmp_path, capsys, monkeypatch
):
    with monkeypatch.context() as patch:
        step = trainer.Training.training_step
        patch.setattr(trainer.Training, "training_step", lambda *args: interrupt_at(5, *args) or step(*args))
        assert cli.main(command(small_datasets, tmp_path)[3:]) == 130
    kept = (tmp_path / "last.ckpt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        capsys.readouterr()
        assert run("train", "--resume", "--out", tmp_path) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cdiffsd: " in capsys.readouterr().err
    assert (tmp_path / "last.ckpt").read_bytes() == kept
    assert CDiffSD.load(tmp_path / "model")
    assert run("train", "--resume", "--out", tmp_path) == 0
    assert losses(tmp_path) == losses(unbroken)


def interrupt_at(step, module, *_):
    if module.trainer.global_step == step:  # after the checkpoint of step 3
        raise KeyboardInterrupt
