"""Archives: no seam at midnight, nothing lost to faults, and reruns that are equal to the byte."""

import gc
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import obspy
import pytest
from archives import (
    FIRST,
    LAST,
    START,
    content,
    jobs_of,
    record,
    run,
    run_one,
    samples,
    spawned,
    started,
    states,
    store,
    until,
    work,
)
from hypothesis import example, given
from hypothesis import strategies as st
from obspy import Trace
from test_files import full_disk

from seisbench_cdiffsd import CDiffSD
from seisbench_cdiffsd.files import ledger, reading, sds, workers, writing
from seisbench_cdiffsd.files import work as doing
from seisbench_cdiffsd.files.ledger import place, report, status
from seisbench_cdiffsd.files.sds import channel_day, scan

#: The days with samples of one station.
DAYS = FIRST, FIRST + timedelta(days=1)


@pytest.fixture
def one(tmp_path):
    """An archive of one station and two days."""
    store(tmp_path / "one", record("AAA", days=1))
    return tmp_path / "one"


@pytest.fixture
def command(one, weights, tmp_path, capsys):
    """Exit status and what was printed of a run, without processes of its own."""

    def command(*args, source=one, out=tmp_path / "out", days=DAYS):
        fixed = ["--start", days[0], "--end", days[1], "--weights", weights]
        given = [] if "--workers" in args else ["--workers", 0]
        status = run(source, out, *fixed, *given, *([] if "--steps" in args else ["--steps", 1]), *args)
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return command


def total(out):
    return json.loads((out / "manifest.json").read_text())


def is_true(out, noise=None):
    """The manifest has all files, with their true sums."""
    for kind, root in {"outputs": out, "noise": noise}.items():
        if root is not None:
            sums = {name: hashlib.sha256(data).hexdigest() for name, data in samples(root).items()}
            assert {name: known["sha256"] for name, known in total(out)[kind].items()} == sums
    return True


def day_file(root, component="Z", day=FIRST, station="AAA"):
    """Path of a file."""
    return root / f"{day:%Y}/XX/{station}/HH{component}.D/XX.{station}.00.HH{component}.D.{day:%Y.%j}"


def replace_by_another(path, folder):
    """Make a file hold another station."""
    path.write_bytes(store(folder, record("OTHER", days=1, components="Z"))[0].read_bytes())


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


def test_days_are_found_where_they_belong_also_in_linked_folders(settings, source, tmp_path):
    for year in source.iterdir():
        (tmp_path / "linked" / year.name).mkdir(parents=True)
        for network in year.iterdir():
            (tmp_path / "linked" / year.name / network.name).symlink_to(network)
        (tmp_path / "linked" / year.name / "loop").symlink_to(tmp_path / "linked")
    (source / "2020" / "XX" / "AAA" / "HHZ.D" / "notes.txt").write_text("hello")
    (source / "2020" / "XX" / "AAA" / "HHN.D" / "XX.BBB.00.HHN.D.2020.365").write_bytes(b"")
    days, strange = scan(settings, FIRST, LAST)
    assert len(days) == 6 and all(len(day.channels) == 3 for day in days)
    assert days[0].name == "XX.AAA.00.HH.2020.365" and days[0].channels[2].path.name == "XX.AAA.00.HHZ.D.2020.365"
    assert [Path(x.name).name for x in strange] == ["XX.BBB.00.HHN.D.2020.365", "notes.txt"]
    assert len(scan(settings, FIRST, FIRST)[0]) == 2 and len(scan(settings, FIRST, LAST, ["XX.A*.00.HHZ"])[0]) == 3
    assert scan(replace(settings, source=tmp_path / "linked"), FIRST, LAST)[0] == days


# -- what is written


def test_there_is_no_seam_at_midnight_and_the_noise_is_the_rest(settings, weights, tmp_path):
    settings = replace(settings, noise=tmp_path / "noise")
    outcomes = work(settings)
    assert states(outcomes) == ["done"] and status(outcomes) == 0
    names = sorted(samples(settings.source))
    assert sorted(samples(settings.out)) == sorted(samples(settings.noise)) == names
    assert is_true(settings.out, settings.noise)
    assert not total(settings.out)["missing"] and not total(settings.out)["problems"]
    for name in names:
        raw, clean, noise = (obspy.read(str(root / name)) for root in (settings.source, settings.out, settings.noise))
        for a, b, c in zip(raw, clean, noise, strict=True):
            np.testing.assert_allclose(b.data + c.data, a.data, atol=0.01)
    for station in ("AAA", "BBB"):
        raw = obspy.read(str(settings.source / "*" / "XX" / station / "*" / "*")).merge()
        found = obspy.read(str(settings.out / "*" / "XX" / station / "*" / "*")).merge()
        for trace in CDiffSD.load(weights).denoise(raw, steps=1):
            (other,) = found.select(id=trace.id)
            assert (other.stats.starttime, other.stats.npts) == (trace.stats.starttime, trace.stats.npts)
            np.testing.assert_array_equal(np.ma.getmaskarray(other.data), np.ma.getmaskarray(trace.data))
            np.testing.assert_allclose(other.data, trace.data, atol=1e-3 * np.abs(trace.data).max())


def test_a_rerun_does_only_what_is_missing(settings):
    work(settings)
    expected = content(settings.out)
    assert states(work(settings)) == ["complete"]
    sorted(settings.out.rglob("*.D.2021.001"))[0].unlink()
    assert sorted(o.state for o in work(settings)) == ["complete"] * 5 + ["done"]
    assert content(settings.out) == expected
    # a changed neighbour matters at midnight
    os.utime(day_file(settings.source), ns=(0, 0))
    assert sorted(o.state for o in work(settings)) == ["complete"] * 4 + ["done"] * 2
    assert samples(settings.out) == {k: v for k, v in expected.items() if ".D.20" in k}


def test_a_longer_span_and_another_channel_on_it_leave_what_is_done(settings):
    assert states(x for job in jobs_of(settings, last=FIRST) for x in run_one(job, settings)) == ["done"]
    others = record("AAA", components="Z", start=START + 2 * 86400)  # which the first days lack
    for trace in others:
        trace.stats.channel = "HNZ"
    store(settings.source, others + record("AAA", components="H", start=START + 2 * 86400))
    outcomes = work(settings)
    assert [o.state for o in outcomes if o.name.endswith(".2020.365")] == ["complete"] * 2
    assert ("*.HHH", "skipped") in {(o.name, o.state) for o in outcomes}
    assert status(outcomes) == 0 and any("HNZ" in name for name in samples(settings.out))
    assert states(work(settings)) == ["complete", "skipped"]
    without = samples(settings.out)
    assert "done" in states(work(replace(settings, noise=settings.out.with_name("noise"))))
    assert states(work(settings)) == ["complete", "skipped"] and samples(settings.out) == without


def test_what_is_wrong_is_reported_again_and_the_rest_is_done(settings):
    day = FIRST + timedelta(days=1)
    nonsense, missing, foreign, late = (
        day_file(settings.source, code, day, station)
        for code, station in (("Z", "AAA"), ("N", "AAA"), ("Z", "BBB"), ("1", "BBB"))
    )
    whole = nonsense.read_bytes()
    nonsense.write_bytes(b"nonsense" * 100)
    missing.unlink()
    foreign.write_bytes(day_file(settings.source, "E").read_bytes())
    other = store(settings.source.with_name("late"), record("BBB", start=START + 86400 * 40, days=1, components="1"))[0]
    late.write_bytes(other.read_bytes())
    for state in ("done", "complete"):
        outcomes = work(settings)
        told = report(outcomes)
        assert status(outcomes) == 1 and states(outcomes) == [*sorted([state, "failed"])]
        assert re.search(rf"failed .*{nonsense.name} .*cannot be read", told)
        assert re.search(rf"{state} .*XX.AAA.00.HH.2020.366 .*no XX.AAA.00.HHN", told)
        assert re.search(rf"failed .*{foreign.name} .*contains XX.AAA.00.HHE", told)
        assert re.search(rf"failed .*{late.name} .*samples of other days", told)
        names = samples(settings.out)
        assert len(names) == 18 - 4
        assert all(str(day_file(Path(), *x)) in names for x in (("E", day, "AAA"), ("2", day, "BBB")))
    assert str(nonsense.relative_to(settings.source)) in total(settings.out)["problems"]
    nonsense.write_bytes(whole)
    assert states(work(settings)) == ["complete", "done", "failed"]


def test_what_is_no_file_fails_alone_and_empty_files_take_no_time(command, one, tmp_path):
    files = [day_file(one, component) for component in "ZNE"]
    for file in files:
        file.unlink()
    os.mkfifo(files[0])
    files[1].symlink_to("/dev/zero")
    files[2].mkdir()
    for number in range(200):
        for component in "ZNE":
            empty = day_file(one, component, station=f"E{number}")
            empty.parent.mkdir(parents=True)
            empty.touch()
    before = time.process_time()
    status, printed = command()
    assert status == 1 and printed.count("is empty (0 bytes)") == 600 and time.process_time() - before < 5
    assert printed.count("is a pipe or a device") == 2 and printed.count("is a folder") == 1
    assert len(samples(tmp_path / "out")) == 3
    log = tmp_path / "logs" / "2020" / "XX" / "AAA" / "LOG.D" / "XX.AAA.00.LOG.D.2020.365"
    log.parent.mkdir(parents=True)
    Trace(np.frombuffer(b"hello " * 40, "S1")).write(str(log), format="MSEED", encoding="ASCII")
    status, printed = command(source=tmp_path / "logs")
    assert status == 2 and "only such as *.LOG" in printed and printed.count("\n") == 1


def test_channels_that_are_too_slow_are_skipped_and_not_missing(settings):
    slow = record("AAA", days=1) + record("SLOW", days=1)
    for trace in slow:
        trace.stats.channel, trace.stats.sampling_rate = "VM" + trace.stats.channel[-1], 0.01
        trace.data, trace.stats.starttime = trace.data[:100], START + 100
    other = slow.copy()
    for trace in other:
        trace.stats.location = "10"
    store(settings.source, slow + other)
    day_file(settings.source, "N", DAYS[1]).unlink()
    settings = replace(settings, location="D1")
    for state in ("done", "complete"):
        outcomes = work(settings, select=["XX.AAA.*.*", "XX.SLOW.*.*"])
        assert status(outcomes) == 0
        slow = {(o.name, o.state, o.reason) for o in outcomes if "VM" in o.name}
        assert slow == {(f"*.VM{c}", "skipped", "at 0.4 Hz or less") for c in "ZNE"}
        assert {(o.state, o.reason) for o in outcomes if "VM" not in o.name} == {
            (state, ""),
            (state, "no XX.AAA.00.HHN"),
        }
    assert not [name for name in samples(settings.out) if "VM" in name]


def test_samples_beyond_midnight_stay_where_there_is_no_other_file(settings):
    path = day_file(settings.source, station="CCC")
    path.parent.mkdir(parents=True)
    header = {"network": "XX", "station": "CCC", "location": "00", "channel": "HHZ", "sampling_rate": 4}
    trace = Trace(np.arange(4000, dtype=np.int32), {**header, "starttime": START + 86400 - 950})
    trace.write(str(path), format="MSEED")
    assert states(work(settings, select=["XX.CCC.*.*"])) == ["done"]
    (found,) = obspy.read(str(settings.out / path.relative_to(settings.source)))
    assert (found.stats.starttime, found.stats.npts) == (trace.stats.starttime, 4000)


def test_another_location_is_in_the_names_too_and_two_do_not_become_one(settings):
    settings, path = replace(settings, location="D1"), day_file(settings.source)
    for state in ("done", "complete"):
        assert states(work(settings)) == [state]
    for name in samples(settings.out):
        assert ".D1." in Path(name).name
        assert {trace.id for trace in obspy.read(str(settings.out / name))} == {Path(name).name.split(".D.")[0]}
    stream = obspy.read(str(path))
    for trace in stream:
        trace.stats.location = "10"
    stream.write(str(path.with_name(path.name.replace(".00.", ".10."))), format="MSEED")
    (failed,) = [outcome for outcome in work(settings, select=["XX.AAA.*.HHZ"]) if outcome.state == "failed"]
    assert "XX.AAA.00.HHZ, XX.AAA.10.HHZ" in failed.reason and "--select" in failed.reason


# -- losses


def scaled(root, factor, components="ZNE"):
    """The same archive with some components in other units."""
    data = record("CCC", days=1)
    for trace in data:
        trace.data = trace.data * (factor if trace.stats.component in components else 1)
    store(root, data)
    return root


@pytest.mark.parametrize(("factor", "failing"), [(1e7, 2), (0, 0)])
def test_one_channel_that_does_not_fit_fails_alone_and_zeros_are_no_loss(command, tmp_path, factor, failing):
    units = scaled(tmp_path / "units", factor, "Z")
    for _ in range(2):
        status, printed = command("--encoding", "int32", source=units)
        assert status == bool(failing) and printed.count("--scale") == failing
    assert "int32, largest rounding error 0.5" in printed and is_true(tmp_path / "out")
    assert "dB below the signal" in next(iter(total(tmp_path / "out")["outputs"].values()))["loss"]
    made = {name.split(".")[-4] for name in samples(tmp_path / "out")}
    assert made == ({"HHE", "HHN"} if failing else {"HHE", "HHN", "HHZ"})
    assert failing or not np.any(obspy.read(str(day_file(tmp_path / "out", station="CCC")))[0].data)


# -- no input is overwritten or removed


@pytest.mark.parametrize("root", ["out", "noise"])
@pytest.mark.parametrize(
    ("link", "to", "moved"),
    [
        *(3 * (x,) for x in ("2020", "2020/XX/AAA", "2020/XX/AAA/HHZ.D")),
        ("2020/XX/AAA/HHZ.D", "2020/XX/AAA/HHN.D", ""),  # where a misfiled one is
        ("2020/XX/AAA/HHZ.D", "2020/XX/AAA/HHN.D", "2020/XX/AAA"),  # which is on another disk
        ("2020", "2020", "2020"),
        (".cdiffsd", ".", ""),
    ],
)
def test_an_output_that_leads_to_inputs_by_a_link_is_refused(command, one, tmp_path, root, link, to, moved):
    shutil.copy(day_file(one), day_file(one, "N").with_name(day_file(one).name))
    if moved:
        (one / moved).rename(tmp_path / "disk")
        (one / moved).symlink_to(tmp_path / "disk")
    before = content(one / to)
    (tmp_path / root / link).parent.mkdir(parents=True)
    (tmp_path / root / link).symlink_to(one / to)
    location = ["--location", "D1"] if moved else []
    status, printed = command("--noise", tmp_path / "noise", *location)
    if (root, link) != ("noise", ".cdiffsd"):  # which has no ledger
        assert status and "among inputs" in printed
    assert content(one / to) == before


def test_an_archive_inside_of_its_input_and_links_between_outputs(command, one, tmp_path):
    assert command(out=one / "denoised")[0] == 0 and len(samples(one / "denoised")) == 6
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "2020").symlink_to(tmp_path / "out" / "2020")
    status, printed = command("--noise", tmp_path / "noise")
    assert status == 2 and "one file by a link" in printed


def test_a_ledger_of_someone_else_removes_nothing_but_what_was_made(settings, tmp_path):
    job = jobs_of(settings)[0]
    run_one(job, settings)
    target = job.targets[0]
    path = ledger.entry_path(settings.out, target.name)
    entry = json.loads(path.read_text())
    mine = settings.out / target.files["outputs"][0]
    precious = [settings.source / target.label, tmp_path / "precious", settings.out / "mine.D.2020.365"]
    for file in precious[1:]:
        file.write_text("hello")
    files = entry["files"]["outputs"]
    for file in precious:
        claim = {"size": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for name in (str(file), os.path.relpath(file, settings.out), file.name):
            files[name] = claim
    entry["folders"]["noise"] = "../in"
    entry["files"]["noise"] = {target.label: files[str(precious[0])]}
    path.write_text(json.dumps(entry))
    replace_by_another(settings.source / target.label, tmp_path / "other")
    before = [file.read_bytes() for file in precious]
    outcomes = run_one(jobs_of(settings)[0], replace(settings, noise=settings.source.with_name("noise")))
    assert "removed" in states(outcomes) and not mine.exists()
    assert [file.read_bytes() for file in precious] == before


# -- folders, options and channels in the ledger


def test_noise_of_another_folder_is_not_done(command, tmp_path):
    first, second, out, link = (tmp_path / name for name in ("n1", "n2", "out", "link"))
    command("--noise", first)
    command("--noise", second, "--steps", 3)
    old = samples(first)
    assert "2 done" in command("--noise", first, "--steps", 3)[1]
    assert samples(first) == samples(second) and samples(first) != old and is_true(out, first)
    link.symlink_to(first)
    for args in ([], ["--noise", link]):
        assert "2 complete already" in command("--steps", 3, *args)[1]
    # archives may be moved together
    assert place(tmp_path / "a" / "noise", tmp_path / "a" / "out") == place(tmp_path / "noise", tmp_path / "out")
    assert place(tmp_path / "noise", tmp_path / "out") != place(tmp_path / "noise2", tmp_path / "out")


def test_other_channels_leave_the_records_of_each_other(command, tmp_path):
    def selected(components):
        printed = command("--select", f"XX.AAA.*.HH{components}")[1]
        assert is_true(tmp_path / "out")
        return next(count for count in ("2 done", "2 complete already") if count in printed)

    assert selected("Z") == "2 done"
    alone = samples(tmp_path / "out")
    assert [selected(x) for x in "NZN"] == ["2 done", *2 * ["2 complete already"]]
    assert len(total(tmp_path / "out")["outputs"]) == 4
    # what belongs together is done together, and replaces what was made alone
    assert selected("?") == "2 done"
    together = samples(tmp_path / "out")
    assert {name: data for name, data in together.items() if name in alone} != alone
    assert [selected(x) for x in "?Z"] == ["2 complete already", "2 done"]
    assert samples(tmp_path / "out") == {**together, **alone}
    assert selected("?") == "2 done" and samples(tmp_path / "out") == together
    assert len(sorted((tmp_path / "out" / ".cdiffsd").rglob("*.json"))) == 6


def test_the_manifest_is_of_all_commands(command, tmp_path):
    for day in DAYS:
        command("--noise", tmp_path / "noise", days=(day, day))
    assert len(total(tmp_path / "out")["outputs"]) == 6 and is_true(tmp_path / "out", tmp_path / "noise")
    # missing or changed files have no sum
    day_file(tmp_path / "out").unlink()
    day_file(tmp_path / "out", "N").write_bytes(b"")
    command(days=(DAYS[1], DAYS[1]))
    assert len(total(tmp_path / "out")["outputs"]) == 4


def test_verify_finds_what_has_the_same_size_and_time(command, one, tmp_path):
    assert command()[0] == 0
    expected = samples(tmp_path / "out")
    damaged = day_file(tmp_path / "out")
    damaged.write_bytes(damaged.read_bytes()[::-1])
    assert command()[0] == 0 and samples(tmp_path / "out") != expected
    assert command("--verify")[0] == 0 and samples(tmp_path / "out") == expected
    source = day_file(one)
    known, data = source.stat(), bytearray(source.read_bytes())
    data[-1] ^= 1
    source.write_bytes(data)
    os.utime(source, ns=(known.st_atime_ns, known.st_mtime_ns))
    assert "2 complete already" in command()[1] and "2 done" in command("--verify")[1]


# -- input that turns bad or goes


def test_what_was_made_of_input_that_holds_something_else_now_is_removed(command, one, tmp_path):
    out, noise = tmp_path / "out", tmp_path / "noise"
    command("--noise", noise)
    replace_by_another(day_file(one), tmp_path / "other")
    (out / "mine.txt").write_text("hello")
    edited = day_file(out, day=DAYS[1])
    edited.write_bytes(edited.read_bytes()[::-1])  # by hand
    replace_by_another(day_file(one, day=DAYS[1]), tmp_path / "other")
    some = "--select", "XX.AAA.*.HH[ZN]", "--noise", noise
    status, printed = command(*some)
    assert status == 1 and "XX.AAA.00.HH.2020.365" in printed and "removed" in printed
    for root, left in ((out, 5), (noise, 4)):
        assert not day_file(root).exists() and len(samples(root)) == left
    assert (out / "mine.txt").exists() and edited.exists()
    assert "removed" not in command(*some)[1]


@pytest.mark.parametrize("how", ["nonsense", "gone", "all gone"])
def test_what_was_made_of_input_that_is_lost_stays(command, one, tmp_path, how):
    """There may be no other copy of it."""
    out, noise = tmp_path / "out", tmp_path / "noise"
    command("--noise", noise)
    expected = [day_file(root).read_bytes() for root in (out, noise)]
    for path in [day_file(one, component) for component in ("ZNE" if how == "all gone" else "Z")]:
        path.write_bytes(b"nonsense" * 100) if how == "nonsense" else path.unlink()
    for _ in range(2):
        status, printed = command("--noise", noise)
        assert status == (how == "nonsense") and ("left as it is" in printed) == status and "removed" not in printed
        assert len(samples(out)) == len(samples(noise)) == 6 and is_true(out, noise)
    assert [day_file(root).read_bytes() for root in (out, noise)] == expected


def test_a_disk_that_is_not_mounted_does_not_empty_the_archive(command, one, tmp_path):
    out = tmp_path / "out"
    store(one, record("BBB", days=1, components="Z"))
    command()
    expected = samples(out)
    (one / "2020" / "XX" / "AAA").rename(tmp_path / "away")
    (one / "2020" / "XX" / "AAA").mkdir()  # a mount point
    status, printed = command()
    assert status == 0 and "removed" not in printed and samples(out) == expected
    # nor does another disk, on which other channels are
    store(tmp_path / "disk", record("BBB", days=1, components="N"))
    assert command(source=tmp_path / "disk")[0] == 0
    assert samples(out).items() >= expected.items()


def test_an_error_of_the_disk_leaves_what_is_there(settings, monkeypatch):
    job = jobs_of(settings, last=FIRST)[0]
    run_one(job, settings)
    before, path = content(settings.out), day_file(settings.source)
    data, whole = path.read_bytes(), reading.Block.read
    os.utime(path, ns=(0, 0))

    def failing(self, start=None, end=None):
        if self.path == path:
            raise reading.Unavailable("cannot be read: Input/output error")
        return whole(self, start, end)

    with monkeypatch.context() as context:
        context.setattr(reading.Block, "read", failing)
        (failed,) = [outcome for outcome in run_one(job, settings) if outcome.state == "failed"]
        assert "Input/output" in failed.reason and "left as it is" in failed.reason
        assert content(settings.out) == before
    path.unlink()  # after the archive was looked through
    (failed,) = run_one(job, settings)
    assert "no such file" in failed.reason and content(settings.out) == before
    path.write_bytes(data)
    assert states(run_one(job, settings)) == ["done"]


def test_a_reader_that_fails_takes_no_other_file_down(settings, monkeypatch):
    bad, whole = day_file(settings.source, "1", station="BBB"), sds.index

    def failing(path):
        if path == bad:
            raise OverflowError("year 27880 is out of range")
        return whole(path)

    monkeypatch.setattr(sds, "index", failing)
    (failed,) = [x for x in work(settings) if x.state == "failed"]
    assert failed.name == str(bad.relative_to(settings.source)) and "27880" in failed.reason
    assert len(samples(settings.out)) == 18 - 1


# -- faults


def test_a_disk_that_is_full_of_noise_leaves_the_signal_and_is_named(settings, monkeypatch):
    noise, whole = settings.out.with_name("noise"), writing.MseedWriter.write

    def full(self, stream):
        if str(noise) in str(self.file.name):
            raise OSError(28, "No space left on device")
        whole(self, stream)

    settings = replace(settings, noise=noise)
    with monkeypatch.context() as patch:
        patch.setattr(writing.MseedWriter, "write", full)
        outcomes = work(settings)
    assert status(outcomes) == 1 and len(samples(settings.out)) == 18 and not samples(noise)
    assert all(str(noise) in x.reason and "No space" in x.reason for x in outcomes if x.reason)
    assert states(work(settings)) == ["done"] and len(samples(noise)) == 18


def test_a_folder_that_is_removed_during_a_run_is_told(command, source, tmp_path, monkeypatch):
    whole, seen = doing.Work.commit, []

    def removing(self, *args):
        result = whole(self, *args)
        seen.append(1)
        if len(seen) == 3:
            shutil.rmtree(tmp_path / "out")
        return result

    monkeypatch.setattr(doing.Work, "commit", removing)
    status, printed = command(source=source, days=(FIRST, LAST))
    assert status == 1 and printed.count("is gone again") == 3


# -- the command


def test_the_command_in_shards(command, source, tmp_path):
    span = {"source": source, "days": (FIRST, LAST)}
    # the last part has no jobs
    for shard, said in (("1/2", "3 done"), ("2/2", "3 done"), ("9/9", "nothing to do")):
        status, printed = command("--shard", shard, **span)
        assert status == 0 and said in printed
        assert (tmp_path / "out" / f"manifest.{shard.replace('/', '-of-')}.json").is_file()
    assert "6 complete already" in command(**span)[1] and not total(tmp_path / "out")["missing"]


def test_mistakes_are_one_line(command, one, tmp_path):
    (tmp_path / "link").symlink_to(one)
    cases = [
        ([], {"out": one}, "different folders"),
        ([], {"out": tmp_path / "link"}, "different folders"),
        ([], {"source": one / "none"}, "is not a directory"),
        (["--workers", 1, "--cluster", "nowhere.Cluster"], {}, "No module named 'nowhere'"),
        (["--workers", 1, "--cluster", "json.Cluster"], {}, "has no attribute"),
        (["--workers", 1, "--cluster", "pathlib.Path"], {}, "cannot be started"),
        ([], {"days": (LAST, FIRST)}, "is before --start"),
    ]
    for args, kwargs, message in cases:
        status, printed = command(*args, **kwargs)
        assert status == 2 and message in printed and printed.count("\n") == 1


def test_where_nothing_is_found_the_mistake_is_named(command, source, tmp_path):
    for path in ("flat/XX.AAA.00.HHZ.D.2020.365", "odd/2020/XX.AAA.00.HHZ.D.2020.365"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    layout = "YEAR/NET/STA/CHAN.D/NET.STA.LOC.CHAN.D.YEAR.DAY"
    elsewhere = f"named {layout} in these years, only such as 2020/XX.AAA.00.HHZ.D.2020.365 (is not where"
    for root, days, select, message in (
        (tmp_path / "flat", DAYS, "*", f"it has no folders of years with files {layout}"),
        (tmp_path / "odd", DAYS, "*", elsewhere),
        (source, DAYS, "HH?", "matches HH?: patterns are NET.STA.LOC.CHA, such as XX.AAA.00.HHE"),
        (source, ("2030-01-01", "2030-01-02"), "*", "from 2030-01-01 to 2030-01-02: its years are 2020, 2021."),
        (source, ("2021-06-01", "2021-06-02"), "*.HHZ", "it has days from 2021-01-01 to 2021-01-01."),
    ):
        status, printed = command("--select", select, source=root, days=days)
        assert status == 2 and message in printed and printed.count("\n") == 1


# -- Dask


def test_no_workers_are_started_for_what_is_done(command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    first, second, third = (command("--workers", workers) for workers in (0, 0, 2))
    assert first != second == third and third[0] == 0
    sorted((tmp_path / "out").rglob("*.D.20*"))[-1].unlink()
    status, printed = command("--workers", 2)
    assert status == 2 and "[archive]" in printed


def test_a_scheduler_that_is_not_there_is_one_line(command):
    pytest.importorskip("distributed")
    status, printed = command("--workers", 1, "--scheduler", "tls://localhost:1")  # without certificates
    gc.collect()  # anything half made would be reported
    assert status == 2 and printed.count("\n") == 1
    assert "Cannot reach the scheduler tls://localhost:1: TLS" in printed


def test_an_interrupt_while_workers_start_is_one_line(settings, weights):
    pytest.importorskip("distributed")
    command = ["archive", settings.source, settings.out, "--start", FIRST, "--end", LAST, "--weights", weights]
    with started(*command, "--workers", 1) as process:
        starting = until(lambda: spawned(process.pid), process)
        time.sleep(0.5)
        for child in starting:  # first, otherwise the main process may end before their traceback
            child.send_signal(signal.SIGINT)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    # fast workers may have started by then, and their address has been told
    lines = [line for line in printed.splitlines() if not line.startswith("Dashboard: ")]
    assert lines == ["cdiffsd: interrupted; the same command continues with what is missing."]


def test_a_full_disk_ends_the_run_and_the_next_one_completes_it(settings):
    work(settings)
    expected = content(settings.out)
    settings = replace(settings, out=settings.out.with_name("other"))
    with full_disk(10_000), pytest.raises(OSError, match="large"):
        work(settings)
    assert not samples(settings.out)
    assert states(work(settings)) == ["done"] and content(settings.out) == expected


def test_damage_and_loss_in_mid_run_are_repaired_by_the_next(settings):
    work(settings)
    expected, other = samples(settings.out), replace(settings, out=settings.out.with_name("other"))
    todo, generator = jobs_of(other), np.random.default_rng(0)
    whole = {path: path.read_bytes() for path in sorted(settings.source.rglob("*.D.*.*"))}
    for path in generator.choice(list(whole), 6, replace=False):
        if generator.random() < 0.5:
            path.unlink()
        else:
            damaged = np.frombuffer(whole[path], dtype=np.uint8).copy()
            damaged[generator.integers(0, len(damaged), 200)] = 0
            path.write_bytes(damaged.tobytes())
    list(workers.run_here(todo, other, retries=0))
    for path, data in whole.items():
        path.write_bytes(data)
    assert "failed" not in states(work(other)) and samples(other.out) == expected


def test_rounding_that_leaves_zeros_fails_and_losses_are_reported(command, tmp_path):
    out, units = tmp_path / "out", scaled(tmp_path / "units", 1e-9)
    for _ in range(2):
        status, printed = command("--encoding", "int32", source=units)
        assert status == 2 and printed.count("--scale") == 6 and not samples(out)
    for count in ("2 done", "2 complete already"):
        status, printed = command("--encoding", "int32", "--scale", 1e9, source=units)
        assert status == 0 and count in printed
        assert "int32 times 1e+09, largest rounding error 5e-10" in printed and "the worst" in printed
    assert is_true(out) and "dB below the signal" in next(iter(total(out)["outputs"].values()))["loss"]
    assert "dB" not in command(source=units)[1]  # of single precision
