"""The commands around training, run as a user runs them: killed and resumed, on two processes, on STEAD."""

import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
import seisbench
import seisbench.data as sbd
import torch
from archives import until

import seisbench_cdiffsd
from seisbench_cdiffsd import CDiffSD, cli
from seisbench_cdiffsd.data import stores
from seisbench_cdiffsd.training import trainer
from seisbench_cdiffsd.weights import load

ROOT = Path(__file__).parents[1]
SMALL = ["--batch-size=4", "--validate-every=3", "--validation_events=1", "--warmup=2", "--threads=1", "--window=1000"]


def command(folders, out, *more, steps=9):
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
    assert run(*command(small_datasets, out)[3:]) == 0
    return out


def test_a_killed_training_is_resumed_to_the_byte_but_not_while_it_lives(unbroken, small_datasets, tmp_path, capsys):
    process = multiprocessing.get_context("fork").Process(target=run, args=command(small_datasets, tmp_path)[3:])
    process.start()
    try:
        assert until((tmp_path / "last.ckpt").exists)
        os.kill(process.pid, signal.SIGSTOP)
        assert run("train", "--resume", "--out", tmp_path) == 2 and "Another run is writing to" in one_line(capsys)
    finally:
        process.kill()
        process.join()
    assert CDiffSD.load(tmp_path / "model")
    assert run("train", "--resume", "--out", tmp_path) == 0
    for name in ("losses.csv", "log.csv"):
        assert (tmp_path / name).read_bytes() == (unbroken / name).read_bytes()
    whole, resumed = (torch.load(out / "last.ckpt", weights_only=True)["state_dict"] for out in (unbroken, tmp_path))
    assert all(whole[name].equal(resumed[name]) for name in whole)


def test_two_processes_train_as_one_and_report_a_damaged_record_once(small_datasets, tmp_path, capsys):
    events, noise = small_datasets
    odd = shutil.copytree(noise.path, tmp_path / "odd")
    bucket, number = re.match(r"(\w+)\$(\d+)", noise["trace_name"].iloc[3]).groups()
    with h5py.File(odd / "waveforms.hdf5", "r+") as file:
        file["data"][bucket][int(number), 1, 100] = np.nan

    def arguments(out, *more):
        every = "--validate-every", "1", "--memory", "0", "--seed", "47"
        return command((events, SimpleNamespace(path=odd)), tmp_path / out, *every, *more)[3:]

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CDIFFSD_WITNESS": str(tmp_path)}
    script = [sys.executable, Path(__file__).parent / "two_processes.py", *arguments("two", "--devices", "2")]
    done = subprocess.run(script, env=environment, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if "cdiffsd" in line or "Traceback" in line]
    assert done.returncode == 2 and len(lines) == 1, done.stderr
    assert "of dataset odd cannot be used: with NaN or infinite samples" in lines[0]
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(first["weights"][name].equal(second["weights"][name]) for name in first["weights"])
    count = len(losses(tmp_path / "two"))
    assert sorted(first["places"] + second["places"]) == [[step, i] for step in range(count + 1) for i in range(4)]
    assert run(*arguments("one")) == 2 and one_line(capsys) == lines[0]
    assert count > 2 and losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)


def test_stead_is_trained_on_by_its_name(tmp_path, monkeypatch):
    """On a miniature of STEAD as published, of which SeisBench's class makes its own format."""
    random, rows, quake = np.random.default_rng(1), [], np.exp(-np.arange(5000) / 500)[:, None]
    with h5py.File(tmp_path / "merged.hdf5", "w") as file:
        for number in range(24):
            name, waveform = f"B{number:03d}.TA_2010", random.normal(size=(6000, 3))
            rows.append({"network_code": "TA", "receiver_code": f"B{number:03d}", "receiver_type": "BH"})
            rows[-1] |= {"trace_name": name, "trace_start_time": "2010-01-01 00:00:00", "trace_category": "noise"}
            if number % 4 in (0, 3):
                waveform[:1000] *= 0.01
                waveform[1000:] *= quake
                rows[-1] |= {
                    "p_arrival_sample": 1000.0, "s_arrival_sample": 1400.0, "trace_category": "earthquake_local",
                    "source_id": str(number), "source_origin_time": "2010-01-01 00:00:00", "source_magnitude": 2.0,
                    "source_distance_km": 40.0, "snr_db": "[40.0 41.0 42.0]", "coda_end_sample": "[[4000.]]",
                }  # fmt: skip
            file[f"data/{name}"] = (1000 * waveform).astype(np.float32)
    pd.DataFrame(rows).to_csv(tmp_path / "merged.csv", index=False)

    def no_network(url, target, **_):
        if not str(url).endswith("test.npy"):
            raise ValueError("no network")
        np.save(target, np.array([row["trace_name"] for row in rows[:4]]))

    monkeypatch.setattr(seisbench.util, "download_http", no_network)
    monkeypatch.setattr(seisbench, "cache_data_root", tmp_path / "cache")
    sbd.STEAD(download_kwargs={"basepath": tmp_path}, compile_from_source=True)
    (tmp_path / "mine.toml").write_text(
        "steps = 3\nbatch_size = 4\nvalidate_every = 3\nvalidation_events = 1\nwarmup = 1\nmemory = 0.0\nworkers = 1\n"
        '[[events]]\ndataset = "STEAD"\ncategory = ["earthquake_local"]\nsnr = [20, 100]\nmagnitude = [1, 9]\n'
        '[[noise]]\ndataset = "STEAD"\ncategory = ["noise"]\n'
    )
    assert run("train", tmp_path / "mine.toml", "--out", tmp_path / "run") == 0
    assert len(losses(tmp_path / "run")) == 3 and np.isfinite(losses(tmp_path / "run")).all()
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["events"][0]["dataset"] == "STEAD" and stored["memory"] == 0


def test_weights_are_exported_for_seisbench(unbroken, tmp_path, capsys, monkeypatch):
    cache = tmp_path / "cache" / "cdiffsd"
    assert run("export", unbroken, "mine", "--out", cache, "--docstring", "For testing.") == 0
    assert sorted(path.name for path in cache.iterdir()) == ["mine.json.v1", "mine.pt.v1", "mine.v1.md"]
    description = json.loads((cache / "mine.json.v1").read_text())
    assert description["version"] == "1" and "Trappolini" in description["citation"]
    assert description["docstring"].startswith("For testing.") and '"steps": 9' in description["docstring"]
    card = (cache / "mine.v1.md").read_text()
    assert "sdr_2" in card and "Trappolini" in card and "events" in card
    monkeypatch.setattr(seisbench, "cache_model_root", tmp_path / "cache")
    trained = CDiffSD.load(unbroken / "model")
    for other in (CDiffSD.from_pretrained("mine"), load(str(cache / "mine.pt.v1"))):
        assert all(a.equal(b) for a, b in zip(other.parameters(), trained.parameters(), strict=True))
    assert run("export", unbroken, "mine", "--out", cache) == 2 and "choose another --version" in one_line(capsys)
    other = shutil.copytree(unbroken, tmp_path / "run", ignore=shutil.ignore_patterns("model.json"))
    assert run("export", other, "other", "--out", tmp_path / "other") == 2
    assert "has no model.json" in one_line(capsys) and not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--out", ""], "Name a folder for the results: --out DIR"),
        (["--events", '{"dataset": "STEAD", "exclude": "nowhere.csv"}'], "STEAD is not in SeisBench's cache"),
        (["--device", "cuda:99"], "There is no device 'cuda:99' here"),
        (["--init-from", "nowhere"], "nowhere"),
        (["--resume"], "nothing to resume"),
    ],
)
def test_user_errors_are_reported_in_one_line(small_datasets, tmp_path, capsys, more, message):
    assert run(*command(small_datasets, tmp_path / "run")[3:], *more) == 2
    error = capsys.readouterr().err
    assert error.startswith("cdiffsd: ") and error.count("\n") == 1 and message in error
    assert not (tmp_path / "run").exists()


def one_line(capsys):
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("cdiffsd: ") and "Traceback" not in error
    return error


def test_a_defect_of_a_dataset_is_reported_with_its_trace(small_datasets, tmp_path, capsys, monkeypatch):
    odd = SimpleNamespace(path=shutil.copytree(small_datasets[0].path, tmp_path / "odd"))
    table = pd.read_csv(odd.path / "metadata.csv")
    table.loc[5, "trace_name"] = "nowhere$0,:3,:6000"
    table.to_csv(odd.path / "metadata.csv", index=False)
    for number, more in enumerate(([], ["--memory", "0"], ["--memory", "0", "--workers", "1"])):
        assert run(*command((odd, small_datasets[1]), tmp_path / str(number), *more)[3:]) == 2
        told = "Trace nowhere$0,:3,:6000 of dataset odd cannot be used: its waveform"
        assert re.search(re.escape(told) + ".* remove its row", one_line(capsys))
        monkeypatch.setattr(stores, "PROBES", 1)  # so that a worker meets it first


@pytest.mark.parametrize(("name", "kept"), [("last.ckpt", 1000), ("last.ckpt", 0), ("config.json", 100)])
def test_damage_of_an_unfinished_training_is_reported_with_the_file(
    unbroken, small_datasets, tmp_path, capsys, name, kept
):
    out = shutil.copytree(unbroken, tmp_path / "run")
    (out / name).write_bytes((out / name).read_bytes()[:kept])
    for args in (["train", "--resume", "--out", out], command(small_datasets, out)[3:]):
        assert run(*args) == 2
        assert re.search(rf"{out / name} is (damaged|not a valid config).* delete it", one_line(capsys))


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


def test_a_folder_that_cannot_be_made_is_reported_with_what_to_do(
    unbroken, small_datasets, tmp_path, capsys, monkeypatch
):
    (tmp_path / "file").touch()
    train = command(small_datasets, tmp_path / "file" / "run")[3:]
    for args in (train, ["export", unbroken, "mine", "--out", tmp_path / "file"]):
        assert run(*args) == 2
        assert re.match(r"cdiffsd: The folder \S+ cannot be written .*: choose another with --out\.$", one_line(capsys))
    monkeypatch.setattr(trainer, "open_chosen", lambda source: pytest.fail("read data"))
    assert run(*command(small_datasets, tmp_path / "file")[3:]) == 2
    assert one_line(capsys) == f"cdiffsd: {tmp_path / 'file'} is not a folder: choose another one."


def test_without_lightning_the_extra_is_named(small_datasets, tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "seisbench_cdiffsd.training.trainer")
    monkeypatch.delattr(seisbench_cdiffsd.training, "trainer")
    for name in [name for name in sys.modules if name.partition(".")[0] == "lightning"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lightning", None)
    assert run(*command(small_datasets, tmp_path / "run")[3:]) == 2
    assert "pip install seisbench-cdiffsd[train]" in capsys.readouterr().err


def test_an_interrupt_and_a_full_disk_leave_the_last_checkpoint_usable(
    unbroken, small_datasets, tmp_path, capsys, monkeypatch
):
    step = trainer.Training.training_step

    def broken(self, *args):
        if self.trainer.global_step == 5:  # after the checkpoint of step 3
            raise KeyboardInterrupt
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Training, "training_step", broken)
        assert run(*command(small_datasets, tmp_path)[3:]) == 130
    kept = (tmp_path / "last.ckpt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        assert run("train", "--resume", "--out", tmp_path) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert one_line(capsys) and (tmp_path / "last.ckpt").read_bytes() == kept and CDiffSD.load(tmp_path / "model")
    assert run("train", "--resume", "--out", tmp_path) == 0 and losses(tmp_path) == losses(unbroken)
