"""Archives: no seam at midnight, nothing lost to faults, and reruns that are equal to the byte."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import obspy
import pytest
from archives import FIRST, LAST, START, content, jobs_of, record, run, run_one, samples, states, store, work
from hypothesis import example, given
from hypothesis import strategies as st
from obspy import Stream, Trace

from seisbench_cdiffsd import CDiffSD
from seisbench_cdiffsd.files import work as doing
from seisbench_cdiffsd.files.ledger import report, status
from seisbench_cdiffsd.files.sds import channel_day, scan
from seisbench_cdiffsd.files.workers import run_here

# -- layout


@given(codes=st.lists(st.sampled_from(["XX", "HHZ", ""]) | st.text("./A1\n", max_size=5), min_size=4, max_size=4))
@example(codes=["XX", "AAA", "00", "HHZ"])
@example(codes=["..", "..", "00", "HHZ"])
@example(codes=["XX", "/A", "", "HHZ"])
def test_no_name_leads_out_of_the_folder(codes):
    network, station, _, code = codes
    path = Path("2020", network, station, f"{code}.D", f"{'.'.join(codes)}.D.2020.001")
    channel, root = channel_day(path), Path.cwd()
    if channel is not None:
        target = (root / channel.path).resolve()
        assert target == root / path and target.is_relative_to(root)
    assert channel is not None or codes != ["XX", "AAA", "00", "HHZ"]


def test_days_are_found_where_they_belong(source):
    (source / "2020" / "XX" / "AAA" / "HHZ.D" / "notes.txt").write_text("hello")
    misplaced = source / "2020" / "XX" / "AAA" / "HHN.D" / "XX.BBB.00.HHN.D.2020.365"
    misplaced.write_bytes(b"")
    tasks, strange = scan(source, FIRST, LAST)
    assert len(tasks) == 8 and all(len(task.channels) == 3 for task in tasks)
    assert tasks[0].name == "XX.AAA.00.HH.2020.365" and tasks[0].channels[2].path.name == "XX.AAA.00.HHZ.D.2020.365"
    assert [Path(x.name).name for x in strange] == ["XX.BBB.00.HHN.D.2020.365", "notes.txt"]
    assert len(scan(source, FIRST, FIRST)[0]) == 2
    assert len(scan(source, FIRST, LAST, ["XX.A*.00.HHZ"])[0]) == 4


# -- what is written


def test_there_is_no_seam_at_midnight(settings, weights):
    outcomes = work(settings)
    assert states(outcomes) == ["done"] and status(outcomes) == 0
    names = {name for name in content(settings.out) if ".D.20" in name}
    assert names == {str(path.relative_to(settings.source)) for path in settings.source.rglob("*.D.*.*")}
    for station in ("AAA", "BBB"):
        raw = obspy.read(str(settings.source / "*" / "XX" / station / "*" / "*")).merge()
        found = obspy.read(str(settings.out / "*" / "XX" / station / "*" / "*")).merge()
        expected = CDiffSD.load(weights).denoise(raw, steps=1)
        for trace in expected:
            (other,) = found.select(id=trace.id)
            assert (other.stats.starttime, other.stats.npts) == (trace.stats.starttime, trace.stats.npts)
            np.testing.assert_array_equal(np.ma.getmaskarray(other.data), np.ma.getmaskarray(trace.data))
            np.testing.assert_allclose(other.data, trace.data, atol=1e-3 * np.abs(trace.data).max())


def test_linked_folders_are_part_of_the_archive(settings, tmp_path):
    expected = scan(settings.source, FIRST, LAST)
    for year in settings.source.iterdir():
        if year.is_dir():
            (tmp_path / "linked" / year.name).mkdir(parents=True)
            for network in year.iterdir():
                (tmp_path / "linked" / year.name / network.name).symlink_to(network)
            (tmp_path / "linked" / year.name / "loop").symlink_to(tmp_path / "linked")
    assert scan(tmp_path / "linked", FIRST, LAST)[0] == expected[0]


def test_a_rerun_does_only_what_is_missing(settings):
    work(settings)
    expected = content(settings.out)
    assert states(work(settings)) == ["complete"]
    gone = sorted(settings.out.rglob("*.D.2021.001"))[0]
    gone.unlink()
    assert sorted(o.state for o in work(settings)) == ["complete"] * 7 + ["done"]
    assert content(settings.out) == expected
    # a changed neighbour matters at midnight
    changed = sorted(settings.source.rglob("XX.AAA.00.HHZ.D.2020.365"))[0]
    os.utime(changed, ns=(0, 0))
    assert sorted(o.state for o in work(settings)) == ["complete"] * 6 + ["done"] * 2
    assert samples(settings.out) == {k: v for k, v in expected.items() if ".D.20" in k}


def test_a_longer_span_and_another_channel_on_it_leave_what_is_done(settings):
    assert {x.state for result in run_here(jobs_of(settings, last=FIRST), settings, retries=0) for x in result} == {
        "done"
    }
    store(settings.source, Stream([x for x in record("AAA", components="H", start=START + 2 * 86400)]))
    for path in settings.source.rglob("*.00.HHH.D.*"):  # another instrument, which the first days lack
        target = settings.source / path.relative_to(settings.source).as_posix().replace("HHH", "HNZ")
        target.parent.mkdir(parents=True, exist_ok=True)
        data = obspy.read(str(path))
        for trace in data:
            trace.stats.channel = "HNZ"
        data.write(str(target), format="MSEED")
    outcomes = work(settings)
    assert [o.state for o in outcomes if o.name.endswith(".2020.365")] == ["complete"] * 2
    assert ("*.HHH", "skipped") in {(o.name, o.state) for o in outcomes}
    assert status(outcomes) == 0 and any("HNZ" in name for name in samples(settings.out))
    assert states(work(settings)) == ["complete", "skipped"]
    without = samples(settings.out)
    settings = replace(settings, noise=settings.out.with_name("noise"))
    assert "done" in states(work(settings))
    settings = replace(settings, noise=None)
    assert states(work(settings)) == ["complete", "skipped"] and samples(settings.out) == without


def test_one_instrument_that_does_not_fit_into_integers_does_not_stop_another(settings):
    for path in sorted(settings.source.rglob("XX.AAA.00.HHZ.D.*")):
        data = obspy.read(str(path))
        for trace in data:
            trace.stats.channel, trace.data = "HNZ", trace.data.astype(np.float64) * 1e7
        target = path.parents[1] / "HNZ.D" / path.name.replace("HHZ", "HNZ")
        target.parent.mkdir(exist_ok=True)
        data.write(str(target), format="MSEED")
    outcomes = work(replace(settings, encoding="int32"), select=["XX.AAA.*.*"])
    assert status(outcomes) == 1 and all("--scale" in o.reason for o in outcomes if o.state == "failed")
    assert {name.split(".")[-4] for name in samples(settings.out)} == {"HHZ", "HHN", "HHE"}


def test_the_noise_and_the_manifest(settings, tmp_path):
    settings = replace(settings, noise=tmp_path / "noise")
    work(settings, select=["XX.AAA.*.*"])
    total = json.loads((settings.out / "manifest.json").read_text())
    assert not total["missing"] and not total["problems"]
    assert sorted(total["outputs"]) == sorted(total["noise"]) == sorted(samples(settings.out))
    for name in total["outputs"]:
        raw, clean, noise = (obspy.read(str(root / name)) for root in (settings.source, settings.out, settings.noise))
        for a, b, c in zip(raw, clean, noise, strict=True):
            np.testing.assert_allclose(b.data + c.data, a.data, atol=0.01)


def test_what_is_wrong_is_reported_and_the_rest_is_done(settings):
    day = "2020.366"
    folder = settings.source / "2020" / "XX"
    (folder / "AAA" / "HHZ.D" / f"XX.AAA.00.HHZ.D.{day}").write_bytes(b"nonsense" * 100)
    (folder / "AAA" / "HHN.D" / f"XX.AAA.00.HHN.D.{day}").unlink()
    other = (folder / "AAA" / "HHE.D" / "XX.AAA.00.HHE.D.2020.365").read_bytes()
    (folder / "BBB" / "HHZ.D" / f"XX.BBB.00.HHZ.D.{day}").write_bytes(other)
    late = store(settings.source.parent / "late", record("BBB", start=START + 86400 * 40, days=1, components="1"))[0]
    (folder / "BBB" / "HH1.D" / f"XX.BBB.00.HH1.D.{day}").write_bytes(late.read_bytes())
    outcomes = work(settings)
    told = report(outcomes)
    assert status(outcomes) == 1
    assert re.search(rf"failed .*HHZ.D.{day} .*cannot be read", told)
    assert re.search(rf"done .*XX.AAA.00.HH.{day} .*no XX.AAA.00.HHN", told)
    assert re.search(rf"failed .*XX.BBB.00.HHZ.D.{day} .*contains XX.AAA.00.HHE", told)
    assert re.search(rf"failed .*XX.BBB.00.HH1.D.{day} .*samples of other days", told)
    names = samples(settings.out)
    assert len(names) == 24 - 4
    assert f"2020/XX/AAA/HHE.D/XX.AAA.00.HHE.D.{day}" in names
    assert f"2020/XX/BBB/HH2.D/XX.BBB.00.HH2.D.{day}" in names


def test_what_is_wrong_is_reported_again_but_what_is_done_is_not_repeated(settings):
    damaged = settings.source / "2020" / "XX" / "AAA" / "HHZ.D" / "XX.AAA.00.HHZ.D.2020.366"
    whole = damaged.read_bytes()
    damaged.write_bytes(b"nonsense" * 100)
    told = [o for o in work(settings) if o.state == "failed"]
    assert len(told) == 1
    written = {path: path.stat().st_mtime_ns for path in settings.out.rglob("*.D.*.*")}
    again = work(settings)
    assert [o for o in again if o.state == "failed"] == told and status(again) == 1
    assert states(again) == ["complete", "failed"]
    assert {path: path.stat().st_mtime_ns for path in settings.out.rglob("*.D.*.*")} == written
    assert (
        str(damaged.relative_to(settings.source))
        in json.loads((settings.out / "manifest.json").read_text())["problems"]
    )
    damaged.write_bytes(whole)
    assert states(work(settings)) == ["complete", "done"]


def test_channels_that_are_too_slow_are_skipped(settings):
    slow = record("AAA", days=1) + record("SLOW", days=1)
    for trace in slow:
        trace.stats.channel, trace.stats.sampling_rate = "VM" + trace.stats.channel[-1], 0.01
        trace.data = trace.data[:100]
        trace.stats.starttime = START + 100
    other = slow.copy()
    for trace in other:
        trace.stats.location = "10"
    store(settings.source, slow + other)
    settings = replace(settings, location="D1")
    for state in ("done", "complete"):
        outcomes = work(settings, select=["XX.AAA.*.*", "XX.SLOW.*.*"])
        assert status(outcomes) == 0
        assert {(o.name, o.state, o.reason) for o in outcomes if "VM" in o.name} == {
            (f"*.VM{c}", "skipped", "at 0.4 Hz or less") for c in "ZNE"
        }
        assert {o.state for o in outcomes if "VM" not in o.name} == {state}
    assert not [name for name in samples(settings.out) if "VM" in name]


def test_samples_beyond_midnight_stay_where_there_is_no_other_file(settings):
    path = settings.source / "2020" / "XX" / "CCC" / "HHZ.D" / "XX.CCC.00.HHZ.D.2020.365"
    path.parent.mkdir(parents=True)
    header = {"network": "XX", "station": "CCC", "location": "00", "channel": "HHZ", "sampling_rate": 4}
    trace = Trace(np.arange(4000, dtype=np.int32), {**header, "starttime": START + 86400 - 950})
    trace.write(str(path), format="MSEED")
    assert states(work(settings, select=["XX.CCC.*.*"])) == ["done"]
    (found,) = obspy.read(str(settings.out / path.relative_to(settings.source)))
    assert (found.stats.starttime, found.stats.npts) == (trace.stats.starttime, 4000)


def test_another_location_is_in_the_names_of_the_files_too(settings):
    settings = replace(settings, location="D1")
    assert set(states(work(settings))) == {"done"}
    names = [path for path in content(settings.out) if ".D.20" in path]
    assert names and all(".D1." in Path(name).name for name in names)
    for name in names:
        assert {trace.id for trace in obspy.read(str(settings.out / name))} == {Path(name).name.split(".D.")[0]}
    assert set(states(work(settings))) == {"complete"}


def test_two_locations_do_not_become_one_file(settings):
    path = next(settings.source.rglob("XX.AAA.00.HHZ.D.*"))
    stream = obspy.read(str(path))
    for trace in stream:
        trace.stats.location = "10"
    stream.write(str(path.with_name(path.name.replace(".00.", ".10."))), format="MSEED")
    outcomes = work(replace(settings, location="D1"), select=["XX.AAA.*.HHZ"])
    (failed,) = [outcome for outcome in outcomes if outcome.state == "failed"]
    assert "XX.AAA.00.HHZ, XX.AAA.10.HHZ" in failed.reason and "--select" in failed.reason


# -- faults


def test_a_full_disk_ends_the_run_and_the_next_one_completes_it(settings):
    import resource

    work(settings)
    expected = content(settings.out)
    settings = replace(settings, out=settings.out.with_name("other"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="large"):
            work(settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not samples(settings.out)
    assert states(work(settings)) == ["done"]
    assert content(settings.out) == expected


def test_damage_and_loss_in_mid_run_are_repaired_by_the_next(settings):
    work(settings)
    expected = content(settings.out)
    other = replace(settings, out=settings.out.with_name("other"))
    todo = jobs_of(other)
    whole = {path: path.read_bytes() for path in sorted(settings.source.rglob("*.D.*.*"))}
    generator = np.random.default_rng(0)
    for path in generator.choice(list(whole), 6, replace=False):
        if generator.random() < 0.5:
            path.unlink()
        else:
            damaged = np.frombuffer(whole[path], dtype=np.uint8).copy()
            damaged[generator.integers(0, len(damaged), 200)] = 0
            path.write_bytes(damaged.tobytes())
    list(run_here(todo, other, retries=0))
    for path, data in whole.items():
        path.write_bytes(data)
    assert "failed" not in states(work(other))
    assert samples(other.out) == {k: v for k, v in expected.items() if ".D.20" in k}


def test_a_task_knows_when_its_files_change_while_it_reads(settings, monkeypatch):
    job = jobs_of(settings)[0]
    path = settings.source / job.channels[0].path
    whole = doing.denoised_pieces

    def touched(*args, **kwargs):
        yield from whole(*args, **kwargs)
        os.utime(path, ns=(0, 0))

    monkeypatch.setattr(doing, "denoised_pieces", touched)
    with pytest.raises(OSError, match="changed"):
        run_one(job, settings)
    assert not content(settings.out)


# -- the command


def test_the_command_in_shards(settings, weights, capsys):
    common = [settings.source, settings.out, "--start", FIRST, "--end", LAST, "--weights", weights, "--steps", 1]
    for i in (1, 2):
        assert run(*common, "--workers", 0, "--shard", f"{i}/2") == 0
        assert (settings.out / f"manifest.{i}-of-2.json").is_file()
        assert "4 done" in capsys.readouterr().out
    assert run(*common, "--workers", 0) == 0
    assert "8 complete already" in capsys.readouterr().out
    assert not json.loads((settings.out / "manifest.json").read_text())["missing"]
    # a part without tasks
    assert run(*common, "--workers", 0, "--shard", "9/9") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (settings.out / "manifest.9-of-9.json").is_file()


def test_mistakes_are_one_line(settings, weights, capsys):
    link = settings.out.with_name("link")
    link.symlink_to(settings.source)
    days = ["--start", FIRST, "--end", LAST, "--weights", weights, "--workers", 0]
    for args, message in (
        ([settings.source, settings.source, *days], "different folders"),
        ([settings.source, link, *days], "different folders"),
        ([settings.source / "none", settings.out, *days], "is not a directory"),
        (
            [settings.source, settings.out, *days[:-1], 1, "--cluster", "nowhere.Cluster"],
            "the package of nowhere",
        ),
        ([settings.source, settings.out, *days[:-1], 1, "--cluster", "json.Cluster"], "has no attribute"),
        ([settings.source, settings.out, *days[:-1], 1, "--cluster", "pathlib.Path"], "cannot be started"),
        ([settings.source, settings.out, "--start", LAST, "--end", FIRST, *days[4:]], "is before --start"),
    ):
        assert run(*args) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    addresses = [("--scheduler", x) for x in ("foo", "foo:bar", "http://foo:8786", "foo:99999", "tcp://:8786")]
    for option, value in (
        ("--start", "tomorrow"),
        ("--shard", "3/2"),
        ("--shard", "x"),
        ("--cluster", "Foo"),
        *addresses,
    ):
        with pytest.raises(SystemExit):
            run(settings.source, settings.out, *days, option, value)
        assert "such as" in capsys.readouterr().err
    for option in ("--workers", "--retries"):
        with pytest.raises(SystemExit):
            run(settings.source, settings.out, *days, option, "-1")
        assert "at least 0" in capsys.readouterr().err


def test_no_workers_are_started_for_what_is_done(settings, weights, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    args = settings.source, settings.out, "--start", FIRST, "--end", LAST, "--weights", weights, "--steps", 1
    printed = []
    for workers in (0, 0, 2):
        assert run(*args, "--workers", workers) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] != printed[1] == printed[2]
    sorted(settings.out.rglob("*.D.20*"))[-1].unlink()
    assert run(*args, "--workers", 2) == 2
    assert "[archive]" in capsys.readouterr().err


def test_where_nothing_is_found_the_mistake_is_named(settings, tmp_path, weights, capsys):
    empty, flat, odd, logs = (tmp_path / name for name in ("empty", "flat", "odd", "logs"))
    empty.mkdir()
    store(flat, record("AAA", days=1))
    for path in list(flat.rglob("*.D.20*")):
        path.rename(flat / path.name)
    shutil.rmtree(flat / "2020")
    for folder, code in ((odd / "2020", "XX.AAA.00.HHZ"), (logs / "2020/XX/AAA/LOG.D", "XX.AAA.00.LOG")):
        folder.mkdir(parents=True)
        (folder / f"{code}.D.2020.365").touch()
    layout, ids = (
        "YEAR/NET/STA/CHAN.D/NET.STA.LOC.CHAN.D.YEAR.DAY",
        "patterns are NET.STA.LOC.CHA, such as XX.AAA.00.HHE",
    )
    for source, start, end, select, message in (
        (empty, FIRST, LAST, "*", f"is no SDS archive: it has no folders of years with files {layout}"),
        (flat, FIRST, LAST, "*", "is no SDS archive"),
        (
            odd,
            FIRST,
            LAST,
            "*",
            f"named {layout} in these years, only such as 2020/XX.AAA.00.HHZ.D.2020.365 (is not where",
        ),
        (logs, FIRST, LAST, "*", "only such as *.LOG (not one of the components"),
        (settings.source, FIRST, LAST, "HH?", f"matches HH?: {ids}"),
        (settings.source, FIRST, LAST, "XX.AAA.HHZ", f"matches XX.AAA.HHZ: {ids}"),
        (settings.source, "2030-01-01", "2030-01-02", "*", "from 2030-01-01 to 2030-01-02: its years are 2020, 2021."),
        (settings.source, "2020-01-01", "2020-01-02", "*", "it has days from 2020-12-30 to 2020-12-31."),
        (settings.source, "2021-06-01", "2021-06-02", "*.HHZ", "it has days from 2021-01-01 to 2021-01-02."),
    ):
        assert run(source, settings.out, "--start", start, "--end", end, "--select", select, "--weights", weights) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_a_scheduler_that_is_not_there_is_one_line(settings, weights):
    pytest.importorskip("distributed")
    command = [sys.executable, "-m", "seisbench_cdiffsd.cli", "archive", str(settings.source), str(settings.out)]
    command += ["--start", str(FIRST), "--end", str(LAST), "--weights", str(weights)]
    # without certificates; anything half made would be reported when the process ends
    done = subprocess.run([*command, "--scheduler", "tls://localhost:1"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Cannot reach the scheduler tls://localhost:1: TLS" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("signal_to", ["worker", "all"])
def test_killed_workers_and_schedulers_cost_nothing_but_time(settings, weights, signal_to):
    pytest.importorskip("distributed")
    psutil = pytest.importorskip("psutil")
    work(settings)
    out = settings.out.with_name("other")
    command = [sys.executable, "-m", "seisbench_cdiffsd.cli", "archive", str(settings.source), str(out)]
    command += ["--start", str(FIRST), "--end", str(LAST), "--weights", str(weights), "--steps", "1", "--workers", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    deadline = time.time() + 120
    while not list(out.rglob("*.D.20*")) and time.time() < deadline and process.poll() is None:
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    if signal_to == "worker":
        for child in children:
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()
        printed, _ = process.communicate(timeout=240)
        assert process.returncode == 0, printed
        assert "done" in printed and ("Dashboard: http" in printed) == bool(find_spec("bokeh"))
    else:
        process.kill()
        process.communicate(timeout=60)
        psutil.wait_procs(children, timeout=60)
        assert states(work(replace(settings, out=out))) in (["done"], ["complete", "done"])
    assert samples(out) == samples(settings.out)
    assert not list(out.rglob("*.part*"))


def test_an_interrupt_while_workers_start_is_one_line(settings, weights):
    pytest.importorskip("distributed")
    psutil = pytest.importorskip("psutil")
    command = [sys.executable, "-m", "seisbench_cdiffsd.cli", "archive", str(settings.source), str(settings.out)]
    command += ["--start", str(FIRST), "--end", str(LAST), "--weights", str(weights), "--workers", "1"]
    # In a group of its own, all of which receives Ctrl-C, as in a terminal; tests in the background may ignore it.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    deadline, starting = time.time() + 120, []
    while not starting and time.time() < deadline and process.poll() is None:
        time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        starting = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    time.sleep(0.5)
    for child in starting:  # first, otherwise the main process may end before their traceback
        child.send_signal(signal.SIGINT)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    # Fast workers may have started by then, and their address has been told.
    lines = [line for line in printed.splitlines() if not line.startswith("Dashboard: ")]
    assert lines == ["cdiffsd: interrupted; the same command continues with what is missing."]
