"""Files: read in part, read despite damage, written completely or not at all, and in constant memory."""

import hashlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import obspy
import pandas as pd
import pytest
import seisbench.models as sbm
from conftest import randomised
from hypothesis import given, settings
from hypothesis import strategies as st
from obspy import Stream, Trace, UTCDateTime

from seisbench_cdiffsd import CDiffSD, denoising
from seisbench_cdiffsd.cli import main
from seisbench_cdiffsd.denoising import fingerprint
from seisbench_cdiffsd.files import extras, jobs, reading, work
from seisbench_cdiffsd.files.extras import describe
from seisbench_cdiffsd.files.jobs import Settings
from seisbench_cdiffsd.files.ledger import Outcome, report
from seisbench_cdiffsd.files.reading import Source, between, index
from seisbench_cdiffsd.files.work import denoise_files, denoised_pieces

START = UTCDateTime(2020, 1, 1)


@pytest.fixture(scope="module")
def small():
    """A model with a short window, at a low rate, with random parameters."""
    band = {"freqmin": 1.0, "freqmax": 9.0, "corners": 4, "zerophase": True}
    arguments = {"sampling_rate": 20, "in_samples": 200, "filter_args": ("bandpass",), "filter_kwargs": band}
    return randomised(CDiffSD(**arguments, default_args={"steps": 1}))


def stream(seconds=600, rate=20, components="ZNE", seed=0, start=START, **header):
    generator = np.random.default_rng(seed)
    header = {"network": "XX", "station": "STA", "sampling_rate": rate, "starttime": start, **header}
    samples = int(seconds * rate)
    return Stream(
        [Trace((1000 * generator.standard_normal(samples)).astype(np.int32), {**header, "channel": f"HH{c}"})
         for c in components]
    )  # fmt: skip


def write(path, data, **kwargs):
    data.write(str(path), format="MSEED", **{"encoding": "STEIM2", "reclen": 512, **kwargs})
    return path


def test_a_denoised_file_of_zeros_is_not_written(small, tmp_path):
    data = stream(seconds=60)
    for trace in data:
        trace.data = trace.data * 1e-9
    path = write(tmp_path / "a.mseed", data, encoding="FLOAT64")
    (outcome,) = run(small, [path], tmp_path / "out", encoding="int32")
    assert outcome.state == "failed" and "--scale" in outcome.reason
    assert not list((tmp_path / "out").rglob("*.mseed"))


# -- pieces


@given(start=st.floats(0, 50), seconds=st.floats(0, 50), rate=st.sampled_from([20, 99.999, 100, 62.5]))
@settings(deadline=None)
def test_neighbouring_stretches_share_no_sample_and_lack_none(start, seconds, rate):
    trace = Trace(np.arange(int(60 * rate)), {"sampling_rate": rate, "starttime": START + 0.0031})
    edges = [START - 1, START + start, START + start + seconds, START + 100]
    parts = [between(trace, *edges[i : i + 2]).data for i in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts), trace.data)


@pytest.mark.parametrize("offset", [0.0, 0.005])
def test_times_that_jitter_cost_no_sample_where_pieces_meet(tmp_path, offset):
    random, file = np.random.default_rng(0), io.BytesIO()
    for i in range(300):
        start = START + offset + 4 * i + (random.integers(-1, 2) * 1e-4 if i else 0)
        header = {"network": "XX", "station": "A", "channel": "HHZ", "sampling_rate": 100, "starttime": start}
        record = io.BytesIO()
        Trace(np.arange(400 * i, 400 * (i + 1), dtype="i4"), header).write(record, format="MSEED", reclen=4096)
        file.write(record.getvalue())
    (tmp_path / "a.mseed").write_bytes(file.getvalue())
    read = Source(index(tmp_path / "a.mseed"), ["XX.A..HHZ"]).read
    band = {"filter_args": ("bandpass",), "filter_kwargs": {"freqmin": 1, "freqmax": 45}}
    window = {"in_samples": 3000, "sampling_rate": 100, **band}
    same = SimpleNamespace(**window, denoise=lambda stream, return_noise: (stream, stream))
    pieces = [clean[0].data for clean, _ in denoised_pieces(same, read, START, START + 1201, piece=100)]
    assert len(pieces) > 10
    np.testing.assert_array_equal(np.concatenate(pieces), np.arange(120_000))


@pytest.mark.parametrize("rate", [20, 50])
def test_pieces_are_what_one_call_gives(small, rate):
    data = stream(seconds=1500, rate=rate)
    for trace in data:
        trace.stats.starttime += 0.0021
    data = data.cutout(START + 300, START + 307).cutout(START + 790, START + 1003)
    whole = small.denoise(data)
    pieces = denoised_pieces(small, data.slice, START, START + 1500, piece=100)
    clean = sum((signal for signal, _ in pieces), Stream()).merge()
    for trace in whole.merge():
        (other,) = clean.select(id=trace.id)
        assert other.stats.npts == trace.stats.npts
        np.testing.assert_array_equal(np.ma.getmaskarray(other.data), np.ma.getmaskarray(trace.data))
        np.testing.assert_allclose(other.data, trace.data, atol=1e-3)


OPEN_BELOW = [{"filter_args": None}] + [
    {"filter_args": (kind,), "filter_kwargs": {**corners, "zerophase": True}}
    for kind, corners in (("lowpass", {"freq": 9.0}), ("bandstop", {"freqmin": 4.0, "freqmax": 5.0}))
]


@pytest.mark.parametrize("arguments", OPEN_BELOW)
def test_without_a_lower_corner_samples_far_away_matter_so_pieces_are_refused(arguments, tmp_path, capsys):
    model = randomised(CDiffSD(sampling_rate=20, in_samples=200, **arguments))
    data = stream(seconds=900)
    for trace in data:
        trace.data[-2000:] += 100_000
    options = {"steps": 1, "dry": 0}
    whole, part = (model.denoise(x, **options)[0].data[:2000] for x in (data, data.slice(START, START + 700)))
    assert abs(whole - part).max() > 1000
    with pytest.raises(ValueError, match="bandpass or highpass") as error:
        next(denoised_pieces(model, data.slice, START, START + 900))
    assert "\n" not in str(error.value)
    model.save(tmp_path / "model")
    path = write(tmp_path / "a.mseed", data)
    weights, out = ["--weights", str(tmp_path / "model")], str(tmp_path / "out")
    dates = ["--start", "2020-01-01", "--end", "2020-01-01"]
    for command in (["denoise", str(path), "--out", out], ["archive", str(tmp_path), out, *dates]):
        assert main([*command, *weights]) == 2
        assert "bandpass or highpass" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.mseed"))


def test_the_memory_does_not_grow_with_the_record(small, tmp_path):
    hour = 3600

    def peak(hours):
        path = tmp_path / f"{hours}.mseed"
        with path.open("wb") as file:
            for i in range(hours):
                memory = io.BytesIO()
                data = stream(hour, rate=100, components="Z", start=START + i * hour, seed=i)
                data.write(memory, format="MSEED", encoding="STEIM2", reclen=512)
                file.write(memory.getvalue())
        source = Source(index(path, block=2**17), ["XX.STA..HHZ"])
        tracemalloc.start()
        samples = sum(
            len(trace)
            for signal, _ in denoised_pieces(small, source.read, START, START + hours * hour, piece=600, overlap=0)
            for trace in signal
        )
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert samples == hours * hour * 100
        return most

    assert peak(3) < 1.1 * peak(1)


# -- whole runs


def run(small, inputs, out, picker=None, report=lambda line: None, noise=False, **kwargs):
    settings = Settings.of(small, out=out, noise=out if noise else None, **kwargs)
    return list(denoise_files(small, [str(x) for x in inputs], settings, picker, report))


def content(folder):
    return {x.name: x.read_bytes() for x in folder.iterdir() if x.suffix in (".mseed", ".csv", ".xml")}


def test_files_of_several_earthquakes_become_records_of_their_own(small, tmp_path):
    times = [START + 100, START + 3 * 3600, START + 10 * 86400 + 5]
    inputs = [write(tmp_path / f"{i}.mseed", stream(seconds=60, start=time)) for i, time in enumerate(times)]
    near = write(tmp_path / "near.mseed", stream(seconds=60, start=START + 300))
    lines = []
    outcomes = run(small, [*inputs, near], tmp_path / "out", report=lines.append)
    assert [o.state for o in outcomes] == ["done"] * 3
    stems = [f"XX.STA..HH.{time.strftime('%Y%m%dT%H%M%S')}" for time in times]
    assert sorted(x.stem for x in (tmp_path / "out").glob("*.mseed")) == [f"{stem}.denoised" for stem in stems]
    assert [line[12:].strip() for line in lines if line.startswith("XX")] == [
        time.strftime("%Y-%m-%d %H:%M:%S") for time in times
    ]


def test_records_without_picks_get_an_empty_table_and_the_next_one_is_done(small, tmp_path, monkeypatch):
    deaf = sbm.PhaseNet(default_args={"P_threshold": 2, "S_threshold": 2})
    monkeypatch.setattr(work, "denoised_pieces", partial(denoised_pieces, piece=600))
    long = stream(seconds=900, rate=4, components="Z", start=START + 7 * 3600)  # two pieces
    inputs = [write(tmp_path / "a.mseed", stream(seconds=60)), write(tmp_path / "b.mseed", long)]
    outcomes = run(small, inputs, tmp_path / "out", deaf, picks=True)
    assert [o.state for o in outcomes] == ["done"] * 2
    tables, catalogs = (sorted((tmp_path / "out").glob(f"*.picks.{suffix}")) for suffix in ("csv", "xml"))
    assert [path.read_text() for path in tables] == ["instrument,phase,time,probability\n"] * 2
    assert [len(obspy.read_events(str(path))[0].picks) for path in catalogs] == [0, 0]


def test_several_earthquakes_in_one_file_are_records_of_their_own(small, tmp_path):
    times = [START + day * 86400 + 3700 for day in (0, 3, 40, 200, 400)]
    data = sum((stream(seconds=60, start=time) for time in times), Stream())
    source = write(tmp_path / "events.mseed", data)
    assert [o.state for o in run(small, [source], tmp_path / "out")] == ["done"] * 5
    stems = [f"XX.STA..HH.{time.strftime('%Y%m%dT%H%M%S')}" for time in times]
    assert sorted(x.stem for x in (tmp_path / "out").glob("*.mseed")) == [f"{stem}.denoised" for stem in stems]
    assert [o.state for o in run(small, [source], tmp_path / "out")] == ["complete"] * 5


def test_a_channel_that_is_too_slow_is_skipped(small, tmp_path):
    slow = stream(seconds=7200, rate=0.1)
    for trace in slow:
        trace.stats.channel = "VM" + trace.stats.channel[-1]
    both, alone = write(tmp_path / "a", stream(seconds=60) + slow), write(tmp_path / "b", slow)
    outcomes = run(small, [both], tmp_path / "out")
    assert [o.state for o in outcomes] == 3 * ["skipped"] + ["done"]
    why = "not one of the components Z, N, E, 1, 2 at more than 2 Hz; it has 0.1 Hz"
    assert [(o.name, o.reason) for o in outcomes if o.reason] == [(f"XX.STA..VM{c}", why) for c in "ENZ"]
    (failed,) = run(small, [alone], tmp_path / "out")
    assert failed.state == "failed" and "2 Hz" in failed.reason


def test_damage_is_reported_again_but_what_is_done_is_not_repeated(small, tmp_path):
    paths = [write(tmp_path / f"{i}.mseed", stream(start=START + i * 86400, components="Z")) for i in range(2)]
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[: 512 * 5] + bytes(512) + whole[512 * 6 :])
    told = run(small, paths, tmp_path / "out")
    assert [(o.state, o.name) for o in told if o.reason] == [("partly", str(paths[0]))]
    written = {x: x.stat().st_mtime_ns for x in (tmp_path / "out").iterdir()}
    again = run(small, paths, tmp_path / "out")
    assert [o for o in again if o.reason] == [o for o in told if o.reason]
    assert [o.state for o in again if not o.reason] == ["complete"] * 2
    assert {x: x.stat().st_mtime_ns for x in (tmp_path / "out").iterdir()} == written
    paths[0].write_bytes(whole)
    assert sorted(o.state for o in run(small, paths, tmp_path / "out")) == ["complete", "done"]


def test_records_are_done_again_when_there_is_a_picker_at_last(small, tmp_path):
    deaf = sbm.PhaseNet(default_args={"P_threshold": 2, "S_threshold": 2})
    long = stream(seconds=3700, rate=4, components="Z", station="LONG")
    inputs = [write(tmp_path / name, data) for name, data in (("a", stream(seconds=60)), ("b", long))]

    def states(**kwargs):
        outcomes = run(small, inputs, tmp_path / "out", deaf, **kwargs)
        return {o.name[3:6]: (o.state, o.reason) for o in outcomes}

    assert states() == {"STA": ("done", ""), "LON": ("done", "")}
    long = "no figure: longer than an hour"
    assert states(figures=True) == {"STA": ("done", ""), "LON": ("complete", long)}
    assert states(picks=True, figures=True) == {"STA": ("done", ""), "LON": ("done", long)}
    assert states(picks=True) == states() == {"STA": ("complete", ""), "LON": ("complete", "")}


def test_what_may_be_read_another_time_is_tried_again(small, tmp_path, monkeypatch):
    paths = [write(tmp_path / f"{c}.mseed", stream(components=c)) for c in "ZN"]
    read = reading.Block.read

    def offline(block, *times):  # as a network drive is now and then
        return read(replace(block, path=tmp_path / "gone") if block.path == paths[1] else block, *times)

    with monkeypatch.context() as patch:
        patch.setattr(reading.Block, "read", offline)
        assert [o.state for o in run(small, paths, tmp_path / "out")] == ["partly", "done"]
    assert [o.state for o in run(small, paths, tmp_path / "out")] == ["done"]


def test_long_records_become_day_files(small, tmp_path):
    # from noon on, a little now and then, as gaps of less than an hour do not end a record
    bits = [START + seconds for seconds in range(43200, 2 * 86400 + 3600, 3000)]
    data = sum((stream(seconds=60, components="Z", start=time, seed=i) for i, time in enumerate(bits)), Stream())
    outcomes = run(small, [write(tmp_path / "a.mseed", data)], tmp_path / "out", noise=True)
    assert [o.state for o in outcomes] == ["done"] * 3
    names = sorted(content(tmp_path / "out"))
    stems = ["20200101T120000", "20200102T000000", "20200103T000000"]
    assert names == sorted(f"XX.STA..HH.{stem}.{kind}.mseed" for stem in stems for kind in ("denoised", "noise"))
    parts = [obspy.read(str(tmp_path / "out" / f"XX.STA..HH.{stem}.{{}}.mseed".format("denoised"))) for stem in stems]
    whole = small.denoise(data).split()
    assert sum(trace.stats.npts for part in parts for trace in part) == sum(trace.stats.npts for trace in whole)
    for trace in sum(parts, Stream()):
        (other,) = whole.slice(trace.stats.starttime, trace.stats.endtime)
        np.testing.assert_allclose(trace.data, other.data, atol=1e-3)


def test_runs_are_equal_to_the_byte_and_a_full_disk_leaves_no_half_file(small, tmp_path):
    source = write(tmp_path / "a.mseed", stream() + stream(station="OTHER", seed=1))
    run(small, [source], tmp_path / "one", noise=True)
    expected = content(tmp_path / "one")
    assert len(expected) == 4
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))  # the disk is full in the middle of a file
    try:
        with pytest.raises(OSError, match="large"):
            run(small, [source], tmp_path / "two", noise=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not content(tmp_path / "two")
    run(small, [source], tmp_path / "two", noise=True)
    assert content(tmp_path / "two") == expected


def test_a_killed_run_continues(small, tmp_path):
    stations = [f"S{i}" for i in range(4)]
    inputs = [write(tmp_path / f"{s}.mseed", stream(1200, station=s, seed=i)) for i, s in enumerate(stations)]
    small.save(tmp_path / "model")
    options = {"steps": 1, "dry": 0.1}
    run(small, inputs, tmp_path / "one", options=options)
    command = [sys.executable, "-m", "seisbench_cdiffsd.cli", "denoise", *map(str, inputs)]
    command += ["--steps", "1", "--weights", str(tmp_path / "model"), "--out", str(tmp_path / "two")]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    deadline = time.time() + 60
    while not list((tmp_path / "two").glob("*S1*.mseed")) and time.time() < deadline and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    complete = {name: data for name, data in content(tmp_path / "two").items() if not name.startswith(".")}
    expected = content(tmp_path / "one")
    assert 0 < len(complete) < 4 and all(expected[name] == data for name, data in complete.items())
    states = {o.state for o in run(small, inputs, tmp_path / "two", options=options)}
    assert states == {"done", "complete"}
    assert content(tmp_path / "two") == expected


def test_models_are_distinguished(small):
    assert fingerprint(small) == fingerprint(small)
    assert fingerprint(small) != fingerprint(randomised(CDiffSD(), seed=1))


@pytest.mark.parametrize("module", ["streams/gaps.py", "cdiffsd.py", "files/reading.py"])
def test_what_was_made_by_other_code_is_not_done(small, tmp_path, monkeypatch, module):
    source = write(tmp_path / "a.mseed", stream(seconds=60))
    code = shutil.copytree(Path(denoising.__file__).parent, tmp_path / "code", ignore=shutil.ignore_patterns("*.pyc"))

    def states():
        jobs._code.cache_clear()
        return [o.state for o in run(small, [source], tmp_path / "out")]

    assert states() == ["done"]
    monkeypatch.setattr(denoising, "__file__", str(code / "denoising.py"))
    monkeypatch.setattr(jobs, "__file__", str(code / "files" / "jobs.py"))
    assert states() == ["complete"]
    for path, expected in ((code / module, "done"), (code / "metrics.py", "complete")):
        path.write_text(path.read_text().replace("1", "2"))
        assert states() == [expected]


def test_nothing_of_a_former_input_or_of_former_options_stays_beside_what_replaces_it(small, tmp_path):
    deaf = sbm.PhaseNet(default_args={"P_threshold": 2, "S_threshold": 2})
    source, out, stem = tmp_path / "a", tmp_path / "out", "XX.STA..HH.20200101T000000"

    def done(data, picker=None, **kwargs):
        lines = []
        write(source, data)
        outcomes = run(small, [source], out, picker, lines.append, **kwargs)
        assert [o.state for o in outcomes if o.state != "removed"] == ["done"]
        lines += [o.reason for o in outcomes if o.state == "removed"]
        made = sorted(x.name.removeprefix(f"{stem}.") for x in out.iterdir() if x.name != ".cdiffsd")
        return made, [line for line in lines if "replace" in line or "no longer" in line]

    (out / "elsewhere").mkdir(parents=True)
    made, told = done(stream(seconds=60), deaf, noise=True, picks=True, figures=True)
    assert made == ["denoised.mseed", "elsewhere", "noise.mseed", "picks.csv", "picks.xml", "png"] and not told
    before = (out / f"{stem}.denoised.mseed").read_bytes()
    (out / f"{stem}.mine").touch()
    made, (_, told) = done(stream(seconds=7200))
    assert made == ["denoised.mseed", "elsewhere", "mine"]
    assert told.startswith(f"{stem}.noise.mseed, {stem}.picks.csv, {stem}.picks.xml, {stem}.png, which is no longer")
    assert (out / f"{stem}.denoised.mseed").read_bytes() != before
    made, (told,) = done(stream(seconds=7200), options={"steps": 2})
    assert made == ["denoised.mseed", "elsewhere", "mine"] and "replaces" in told


def test_a_record_of_outputs_leads_to_no_other_file_and_to_no_input(small, tmp_path):
    out, stem = tmp_path / "out", "XX.STA..HH.20200101T000000"
    source = write(tmp_path / "a", stream(seconds=60))
    run(small, [source], out, noise=True)
    (out / f"{stem}.dir").mkdir()
    others = [tmp_path / f"{stem}.precious", out / f"{stem}.dir" / "a", out / "XX.STA"]
    for path in others:
        path.touch()
    entry = json.loads((out / ".cdiffsd" / f"{stem}.json").read_text())
    names = f"../{stem}.precious", str(others[0]), f"{stem}.dir/a", f"{stem}.dir", "XX.STA"
    entry["files"]["outputs"] |= {name: {"size": 0, "sha256": hashlib.sha256().hexdigest()} for name in names}
    (out / ".cdiffsd" / f"{stem}.json").write_text(json.dumps(entry))
    noise = (out / f"{stem}.noise.mseed").read_bytes()
    run(small, [out / f"{stem}.noise.mseed"], out)
    assert all(path.is_file() for path in others) and (out / f"{stem}.noise.mseed").read_bytes() == noise


def test_a_run_that_dies_while_it_replaces_is_not_taken_for_the_one_before(small, tmp_path, monkeypatch):
    source = write(tmp_path / "a", stream(seconds=60))

    def states(**options):
        return [o.state for o in run(small, [source], tmp_path / "out", figures=True, options=options)]

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    assert states(steps=1) == ["done"]
    with monkeypatch.context() as patch:
        patch.setattr(extras, "plot_denoised", killed)  # the samples are written, and of the same size
        with pytest.raises(KeyboardInterrupt):
            states(steps=2)
    assert states(steps=1) == ["done"]


def test_channels_that_are_broken_or_silent_are_named(small, tmp_path):
    data = stream(seconds=60)
    for trace, value in zip(data, (np.nan, 5, 0), strict=True):
        trace.data = trace.data.astype(np.float32)
        trace.data[500 if value else 0 : 540 if np.isnan(value) else None] = value
    data[1].data[:] = 5
    for i in range(2):
        write(tmp_path / f"{i}.mseed", data[i::2], encoding="FLOAT32")
    outcomes = run(small, [tmp_path / f"{i}.mseed" for i in range(2)], tmp_path / "out")
    assert [(o.state, o.reason) for o in outcomes] == [
        ("partly", "NaN and infinite samples of XX.STA..HHZ were left out"),
        ("done", "XX.STA..HHE, XX.STA..HHN: constant, became zeros"),
    ]


def test_a_record_too_long_for_a_figure_says_so_and_how_many_picks_it_has(small, tmp_path):
    keen = randomised(sbm.PhaseNet(default_args={"P_threshold": 0, "S_threshold": 0}))
    long = write(tmp_path / "a", stream(seconds=3700))
    lines = []
    (outcome,) = run(small, [long], tmp_path / "out", keen, lines.append, picks=True, figures=True)
    (path,) = (tmp_path / "out").glob("*.csv")
    table = pd.read_csv(path, converters={"time": UTCDateTime})
    assert len(table)
    assert f"  PhaseNet, denoised: {describe(table)}" in lines
    assert (outcome.state, outcome.reason) == ("done", "no figure: longer than an hour")


def test_what_is_complete_is_distinguished_from_what_is_not_usable():
    rows = [Outcome("A.B.2020.001", "complete", "no HHZ"), Outcome("A.C.2020.001", "complete")]
    rows += [Outcome("*.LOG", "skipped", "not usable"), Outcome("A.D.2020.001", "done")]
    assert report(rows).splitlines() == [
        "1 done, 2 complete already, 1 skipped",
        "skipped  *.LOG         not usable",
        "complete A.B.2020.001  no HHZ",
    ]
