"""Lists of picks of files and archives: no seam, the same to the byte after faults, and read by others as they are."""

import csv
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import obspy
import pandas as pd
import psutil
import pytest
import seisbench
import seisbench.models as sbm
import torch
from archives import FIRST, START, content, jobs_of, record, samples, spawned, started, store, until
from archives import run as archive
from obspy.io.quakeml.core import _validate
from test_picking import PeakPicker

from seisbench_cdiffsd import CDiffSD, cli
from seisbench_cdiffsd.files import work as doing
from seisbench_cdiffsd.files.jobs import Settings
from seisbench_cdiffsd.files.picks import COLUMNS

DAYS = ["--start", FIRST, "--end", FIRST + timedelta(days=1)]


@pytest.fixture
def picker(tmp_path, monkeypatch):
    """Options for an untrained PhaseNet, which picks anything."""
    folder = tmp_path / "cache" / "models" / "v3"
    (folder / "phasenet").mkdir(parents=True)
    torch.manual_seed(0)
    model = sbm.PhaseNet()
    model.out.weight.data *= 20
    model.save(folder / "phasenet" / "untrained", version_str="1")
    monkeypatch.setattr(seisbench, "cache_model_root", folder)
    monkeypatch.setenv("SEISBENCH_CACHE_ROOT", str(tmp_path / "cache"))
    return ["--weights", "untrained", "--threshold", 0.55]


@pytest.fixture
def command(source, weights, picker, tmp_path):
    """Exit status of ``cdiffsd pick`` on an archive."""

    def command(*args, out=tmp_path / "out", run=lambda args: cli.main(args)):
        given = "--sds", source, *DAYS, "--out", out, "--model", weights, *picker, *args
        return run([str(x) for x in ("pick", *given, *([] if "--workers" in args else ["--workers", 0]))])

    return command


class Spikes(PeakPicker):
    """Finds P on every spike of the vertical component that is high enough."""

    def forward(self, x):
        return (x / 1e4).clamp(0, 1)


def test_each_pick_is_in_the_list_of_its_day_whatever_lies_at_midnight(weights, tmp_path):
    data = record("AAA")
    seconds = [-300, -61, -59, -2.5, 0.0, 2, 60, 100, 86400 - 1.5, 86400 + 1.5]
    for trace in data.select(channel="HHZ"):
        for x in seconds:
            place = round((START + 86400 + x - trace.stats.starttime) * 4)
            trace.data[place : place + 1 if place >= 0 else 0] = 20000
    store(tmp_path / "in", data)
    settings = {"source": tmp_path / "in", "picks": True, "outputs": False, "entries": "picks/"}
    settings = Settings.of(CDiffSD.load(weights), out=tmp_path / "out", options={"steps": 1}, **settings)
    found, jobs = [], jobs_of(settings)
    for job in jobs:
        doing.run(job, settings, lambda: CDiffSD.load(weights), picker=Spikes())
    for path in doing.picked(jobs, settings):
        table = pd.read_csv(path)
        assert set(pd.to_datetime(table["timestamp"]).dt.strftime("%Y.%j")) <= {path.stem[-8:]}
        found += [x - (START.timestamp + 86400) for x in table[table["source"] != "denoised"]["time"]]
    assert np.round(found, 1).tolist() == seconds and not samples(tmp_path / "out")


def test_an_archive_is_picked_as_its_denoised_records_are_written(command, source, weights, tmp_path, capsys):
    assert archive(source, tmp_path / "sds", *DAYS, "--weights", weights, "--workers", 0) == 0
    assert command("--waveforms", tmp_path / "waveforms") == 0
    assert samples(tmp_path / "waveforms") == samples(tmp_path / "sds") and not samples(tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "picks.csv")
    assert f"{(table.phase == 'P').sum()} P" in capsys.readouterr().out and list(table.columns) == COLUMNS
    assert set(table.station) == {"XX.AAA.00", "XX.BBB.00"} and (table.id == table.station).all()
    assert table.groupby("station")["time"].apply(lambda x: x.is_monotonic_increasing).all()
    whole = content(tmp_path / "out")
    assert command("--waveforms", tmp_path / "waveforms") == 0 and "4 complete already" in capsys.readouterr().out
    assert content(tmp_path / "out") == whole
    # without waveforms, in the folder of an archive, whose records stay; and with other thresholds
    assert command("--threshold", 0.6, out=tmp_path / "sds") == 0 and "removed" not in capsys.readouterr().out
    assert samples(tmp_path / "sds") == samples(tmp_path / "waveforms")
    fewer = pd.read_csv(tmp_path / "sds" / "picks.csv")
    assert len(fewer) < len(table) and fewer[["raw", "denoised"]].max(axis=1).min() >= 0.6


def test_kills_of_the_run_and_of_its_workers_cost_nothing_but_time(command, tmp_path, capsys):
    pytest.importorskip("distributed", reason="needs the extra archive")

    def run(name, *args, **how):
        return command(*args, "--waveforms", tmp_path / name / "waveforms", out=tmp_path / name / "out", **how)

    def lists(name):
        return [*(tmp_path / name / "out").rglob("XX.*.csv")]

    assert run("whole") == 0
    with run("killed", "--workers", 1, run=lambda args: started(*args)) as process:
        assert until(lambda: lists("killed"), process)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        assert process.wait() == -signal.SIGKILL and not (tmp_path / "killed" / "out" / "picks.csv").exists()
        psutil.wait_procs(children, timeout=60)
    before, killed = len(lists("killed")), []

    def kill():
        until(lambda: len(lists("killed")) > before)
        killed.extend(spawned(os.getpid()))
        for worker in killed:
            worker.kill()

    capsys.readouterr()
    with ThreadPoolExecutor(1) as beside:
        beside.submit(kill)
        assert run("killed", "--workers", 1) == 0
    printed = "".join(capsys.readouterr())
    assert killed and "complete already" in printed and "done" in printed
    assert ("Dashboard: " in printed) == bool(find_spec("bokeh"))
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_shards_have_all_picks_between_them(command, tmp_path):
    assert command() == 0
    for i in (1, 2):
        assert command("--shard", f"{i}/2") == 0
    rows = [row for i in (1, 2) for row in (tmp_path / "out" / f"picks.{i}-of-2.csv").read_bytes().splitlines()[1:]]
    assert sorted(rows) == sorted((tmp_path / "out" / "picks.csv").read_bytes().splitlines()[1:])


def test_files_are_picked_and_every_list_has_every_pick(picker, weights, tmp_path, capsys):
    data = record("AAA", days=1) + record("B.B", days=2, seed=1)
    data.select(station="B.B")[0].data[1000:] = 0
    data.write(str(tmp_path / "in.mseed"), format="MSEED")
    out = tmp_path / "out"
    given = ["pick", tmp_path / "in.mseed", "--out", out, "--model", weights, *picker, "--threshold", 0.7, "--figures"]
    given += ["--figure", *((START + 86400 + x).strftime("%Y-%m-%dT%H:%M:%S") for x in (-60, 60))]
    assert cli.main([str(x) for x in given]) == 0, capsys.readouterr()
    rows = list(csv.DictReader((out / "picks.csv").open()))
    assert {x["station"] for x in rows} == {"XX.AAA.00", "XX.B.B.00"}
    assert len(list(out.glob("*.picks.csv"))) == 3 == len(list(out.glob("*.png"))) - 2
    assert len(list(out.glob("*.20201230T235900.png"))) == 2
    (event,) = obspy.read_events(str(out / "picks.xml"))
    assert _validate(str(out / "picks.xml")) and event.event_type == "not existing" and not event.origins
    assert len({x.resource_id.id for x in event.picks}) == len(event.picks) == len(rows) > 10
    for pick, row in zip(event.picks, rows, strict=True):
        assert pick.time == obspy.UTCDateTime(row["timestamp"]) == obspy.UTCDateTime(float(row["time"]))
        assert pick.waveform_id.channel_code == {"P": "HHZ"}.get(row["phase"], pick.waveform_id.channel_code)
        assert row["channel"].endswith(pick.waveform_id.channel_code) and pick.time_errors.uncertainty > 0
        assert (pick.phase_hint, pick.method_id.id) == (row["phase"], "smi:local/cdiffsd/PhaseNet-untrained")
        assert (row["id"], row["type"], row["prob"]) == (row["station"], row["phase"].lower(), row["probability"])
    (tmp_path / "other").mkdir()
    taken = (tmp_path / "in.mseed").rename(tmp_path / "other" / "picks.csv")
    before, given[1] = taken.read_bytes(), taken
    assert cli.main([str(x) for x in (*given, "--out", taken.parent)]) == 2 and taken.read_bytes() == before
    assert "is an input: choose another folder" in capsys.readouterr().err
    pytest.importorskip("pyarrow", reason="needs the extra archive")
    table, other = pd.read_csv(out / "picks.csv"), pd.read_parquet(out / "picks.parquet")
    pd.testing.assert_frame_equal(table.drop(columns="timestamp"), other.drop(columns="timestamp"), check_dtype=False)
    assert (pd.to_datetime(table["timestamp"]) == other["timestamp"]).all()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "Name files, or an archive with --sds"),
        (["a", "--sds", "b"], "one of both"),
        (["--sds", "."], "--sds needs --start and --end"),
        (["a", "--select", "XX.*"], "are for archives"),
        (["a", "--figure", "2020-01-01T00:00", "2020-01-01T02:00"], "up to an hour"),
        (["a", "--picker", "Nothing"], "SeisBench has no model 'Nothing'"),
        (["a"], "PhaseNet weights 'original' are not in SeisBench's cache.*--download-picker"),
        (["a", "--weights", "untrained"], "the picker PhaseNet 'untrained' is not calibrated.*Give a threshold"),
        (["a", "--weights", "untrained", "--threshold", "2"], "threshold must be a probability"),
        (["a", "--weights", "untrained", "--threshold", ".5"], "a: no such file"),
        (["--sds", ".", *DAYS, "--waveforms", ".", "--weights", "untrained"], "must be different folders"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(args, said, picker, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main([str(x) for x in ("pick", *args)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(said, error)
    assert not Path("picks").exists() or not [*Path("picks").iterdir()] or said.startswith("a:")
