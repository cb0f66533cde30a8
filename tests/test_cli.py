"""The command: what it writes and prints, and errors in one line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import obspy
import pandas as pd
import pytest
import seisbench
import torch

from seisbench_cdiffsd import CDiffSD, cli
from seisbench_cdiffsd.cli import denoise
from seisbench_cdiffsd.files.picklists import describe

NAME = "BW.RJOB..EH.20090824T002003"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A saved model with random parameters."""
    torch.manual_seed(0)
    model = CDiffSD()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.03)
    path = tmp_path_factory.mktemp("weights") / "random"
    model.save(path)
    return str(path)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """A SeisBench cache without pickers, and no network."""
    monkeypatch.setattr(seisbench, "cache_model_root", tmp_path / "cache")
    monkeypatch.setattr("requests.sessions.Session.send", lambda *a, **k: pytest.fail("asked the network"))


def run(*args):
    return cli.main([str(arg) for arg in args])


def test_the_example_is_denoised(weights, tmp_path, capsys):
    assert run("denoise", "example", "--weights", weights, "--out", tmp_path / "out", "--noise", "--figures") == 0
    printed = capsys.readouterr().out
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files.pop(0) == ".cdiffsd"
    assert files == [f"{NAME}.denoised.mseed", f"{NAME}.noise.mseed", f"{NAME}.png"]
    assert all(str(tmp_path / "out" / file) in printed for file in files)
    assert "PhaseNet" not in printed and "BW.RJOB..EH*" in printed
    original = obspy.read()
    clean, noise = (obspy.read(str(tmp_path / "out" / file)) for file in files[:2])
    expected = CDiffSD.load(weights).denoise(original)
    for trace in original:
        (denoised,), (removed,) = clean.select(id=trace.id), noise.select(id=trace.id)
        assert denoised.stats.starttime == trace.stats.starttime and denoised.data.dtype == np.float32
        np.testing.assert_allclose(denoised.data + removed.data, trace.data, atol=1e-3)
        np.testing.assert_allclose(denoised.data, expected.select(id=trace.id)[0].data, rtol=1e-4, atol=1e-2)
    assert (tmp_path / "out" / files[2]).read_bytes().startswith(b"\x89PNG")


def test_a_file_is_not_replaced_by_what_is_made_of_it(weights, tmp_path, capsys):
    path = tmp_path / f"{NAME}.denoised.mseed"
    obspy.read().write(str(path), "MSEED")
    before = path.read_bytes()
    assert run("denoise", path, "--weights", weights, "--out", tmp_path) == 2
    assert "its own input" in capsys.readouterr().err
    assert path.read_bytes() == before and [x.name for x in tmp_path.iterdir() if x.is_file()] == [path.name]


def test_a_record_without_finite_samples_fails(weights, tmp_path, capsys):
    stream = obspy.read()
    for trace in stream:
        trace.data = np.full(len(trace), np.nan, np.float32)
    stream.write(str(tmp_path / "nan.mseed"), "MSEED", encoding="FLOAT32")
    assert run("denoise", tmp_path / "nan.mseed", "--weights", weights, "--out", tmp_path / "a") == 2
    assert "has no finite samples" in capsys.readouterr().err and not list((tmp_path / "a").glob("*.mseed"))


def test_components_in_separate_files_belong_together(weights, tmp_path):
    for trace in obspy.read():
        trace.write(str(tmp_path / f"{trace.id}[1].sac"), format="SAC")
    inputs = sorted(tmp_path.glob("*.sac"))
    assert len(inputs) == 3
    assert run("denoise", *inputs, "--weights", weights + ".json", "--out", tmp_path / "a") == 0
    assert run("denoise", "example", "--weights", weights + ".pt", "--out", tmp_path / "b") == 0
    separate, together = (obspy.read(str(tmp_path / x / "*.mseed")).sort() for x in "ab")
    for one, other in zip(separate, together, strict=True):
        assert one.id == other.id
        np.testing.assert_allclose(one.data, other.data, rtol=1e-3, atol=0.1)


def test_gaps_are_left_out_and_instruments_get_files_of_their_own(weights, tmp_path):
    stream = obspy.read()
    other = stream.copy()
    for trace in other:
        trace.stats.channel = "HH" + trace.stats.channel[-1]
        trace.stats.network = ""
    start = stream[0].stats.starttime
    (stream.cutout(start + 10, start + 12) + other).write(str(tmp_path / "in.mseed"), format="MSEED")
    assert run("denoise", tmp_path / "in.mseed", "--weights", weights, "--out", tmp_path / "out") == 0
    names = sorted(path.name for path in (tmp_path / "out").glob("*.mseed"))
    assert names == [f"{NAME}.denoised.mseed", "RJOB..HH.20090824T002003.denoised.mseed"]
    gappy = obspy.read(str(tmp_path / "out" / names[0]))
    assert len(gappy) == 6 and len(gappy.get_gaps()) == 3


def test_steps_are_taken(weights, tmp_path):
    for steps in ("1", "5"):
        assert run("denoise", "example", "--weights", weights, "--out", tmp_path / steps, "--steps", steps) == 0
    one, five = (obspy.read(str(tmp_path / steps / "*.mseed")) for steps in ("1", "5"))
    assert np.abs(one[0].data - five[0].data).max() > 1e-3 * np.abs(one[0].data).max()


def test_noise_is_left_in_as_asked_for(weights, tmp_path):
    def denoised(name, *args):
        args = *args, "--weights", weights, "--out", tmp_path / name, "--steps", "1"
        assert run("denoise", "example", *args) == 0
        return obspy.read(str(tmp_path / name / "*.mseed")).sort()

    asked_for = {}, {"dry": 0.5}, {"purpose": "waveforms"}
    commands = [], ["--dry", "0.5"], ["--purpose", "waveforms"]
    noisy = [denoised(str(number), *args) for number, args in enumerate(commands)]
    model = CDiffSD.load(weights)
    for found, options in zip(noisy, asked_for, strict=True):
        expected = model.denoise(obspy.read(), steps=1, **options).sort()
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one.data, other.data, rtol=1e-4, atol=1e-2)
    largest = np.abs(noisy[0][0].data).max()
    assert all(np.abs(other[0].data - noisy[0][0].data).max() > 1e-3 * largest for other in noisy[1:])


def test_defaults_of_the_weights_are_those_of_the_command(weights, tmp_path, capsys):
    model = CDiffSD.load(weights)
    model.default_args = {"steps": 1, "dry": 0.3}
    model.save(tmp_path / "weights")
    args = ["denoise", "example", "--weights", tmp_path / "weights", "--out", tmp_path / "out"]
    assert run(*args) == 0
    found = obspy.read(str(tmp_path / "out" / "*.mseed")).sort()
    expected = model.denoise(obspy.read(), steps=1, dry=0.3).sort()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.data, other.data, rtol=1e-4, atol=1e-2)
    capsys.readouterr()
    assert run(*args, "--steps", 1, "--dry", 0.3) == 0
    assert "1 complete already" in capsys.readouterr().out


def test_picks_before_and_after_are_printed(weights, pickers, tmp_path, capsys):
    assert run("denoise", "example", "--weights", weights, "--out", tmp_path, "--picks") == 0
    printed = capsys.readouterr().out
    assert "PhaseNet, noisy:    P 00:20:07.7" in printed and "PhaseNet, denoised:" in printed


@pytest.mark.parametrize("fault", ["gap", "overlap"])
def test_noisy_records_are_picked_as_the_model_takes_them(fault, weights, pickers, tmp_path, capsys):
    stream = obspy.read()
    for trace in stream:
        trace.data = trace.data.astype(np.float64)
        if fault == "gap":
            trace.data[1000:1100] = np.nan, *98 * [0], np.inf
    if fault == "overlap":
        other = stream.slice(stream[0].stats.starttime + 3)
        for trace in other:
            trace.data = trace.data + 1
        stream += other
    stream.write(str(tmp_path / "in.mseed"), "MSEED")
    args = "denoise", tmp_path / "in.mseed", "--weights", weights, "--out", tmp_path / "out", "--picks"
    assert run(*args) == (1 if fault == "gap" else 0)
    assert re.search(r"PhaseNet, noisy:    P 00:20:07\.7\d \(0\.9\d\)", capsys.readouterr().out)


def test_many_picks_are_counted():
    picks = pd.DataFrame({"phase": ["P"] * 7 + ["S"] * 3})
    assert describe(picks) == "7 P, 3 S"
    assert describe(picks[:0]) == "none"


def one_line(capsys):
    error = capsys.readouterr().err
    assert error.startswith("cdiffsd") and error.endswith("\n") and error.count("\n") == 1
    return error


def test_what_cannot_be_read_is_reported_in_one_line(weights, tmp_path, capsys):
    (tmp_path / "text.mseed").write_text("not a seismogram")
    (tmp_path / "empty.mseed").touch()
    (tmp_path / "loop").symlink_to("loop")
    cases = {
        "missing.mseed": "no such file",
        "text.mseed": "cannot be read",
        "empty.mseed": "is empty (0 bytes)",
        "": "folder",
        "loop": "loop: cannot be read",
        300 * "n": "nnn: cannot be read",
    }
    for name, message in cases.items():
        assert run("denoise", tmp_path / name, "--weights", weights, "--out", tmp_path / "out") == 2
        assert message in one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_what_nobody_reads_is_done_all_the_same(weights, tmp_path):
    files = ["one.mseed", "two.mseed"]
    for name, station in zip(files, ("ONE", "TWO"), strict=True):
        stream = obspy.read()
        for trace in stream:
            trace.stats.station = station
        stream.write(str(tmp_path / name), format="MSEED")
    command = [sys.executable, "-m", "seisbench_cdiffsd.cli", "denoise", *files, "--weights", weights, "--steps", "1"]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, text=True)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((tmp_path / "denoised").glob("*.mseed"))) == 2


def test_an_interrupt_is_one_line(weights, tmp_path, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(CDiffSD, "denoise", interrupted)
    assert run("denoise", "example", "--weights", weights, "--out", tmp_path / "out") == 130
    assert "continues with what is missing" in one_line(capsys)
    assert [x.name for x in (tmp_path / "out").iterdir()] == []


def test_a_stream_without_usable_components_is_refused(weights, tmp_path, capsys):
    stream = obspy.read()[:1]
    stream[0].stats.channel = "LDO"
    stream.write(str(tmp_path / "pressure.mseed"), format="MSEED")
    assert run("denoise", tmp_path / "pressure.mseed", "--weights", weights, "--out", tmp_path / "out") == 2
    assert "Z, N, E" in one_line(capsys)


@pytest.mark.parametrize("name", ["nowhere", "no/such/model", "model.pt"])
def test_unknown_weights_are_answered_with_the_known_names(name, tmp_path, capsys):
    assert run("denoise", "example", "--weights", name, "--out", tmp_path / "out") == 2
    error = one_line(capsys)
    assert name in error and "Names: " in error
    assert all(known in error for known in CDiffSD.list_pretrained(remote=False))


def test_paths_beside_a_model_are_answered_with_the_one_to_give(weights, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    for suffix in ("pt", "json"):
        content = Path(f"{weights}.{suffix}").read_bytes()
        for name in (f"run/model.{suffix}", *(f"mini[1].{suffix}.v{version}" for version in (2, 9, 10))):
            (tmp_path / name).write_bytes(content)
    (tmp_path / "half.pt").write_bytes(content)
    for name, meant in (("run", "run/model"), ("mini[1]", "mini[1].pt.v10")):
        assert run("denoise", "example", "--weights", tmp_path / name, "--out", tmp_path / "out") == 2
        assert one_line(capsys).endswith(f" {tmp_path / meant}.\n")
        assert run("denoise", "example", "--weights", tmp_path / meant, "--out", tmp_path / "out", "--steps", 1) == 0
        capsys.readouterr()
    for name in ("half.pt", "out", f"out/{NAME}.denoised.mseed"):
        assert run("denoise", "example", "--weights", tmp_path / name, "--out", tmp_path / "out") == 2
        assert "no model: give NAME of two files" in one_line(capsys)


def test_damaged_weights_are_named(weights, tmp_path, capsys):
    (tmp_path / "bad.json").write_text(Path(weights + ".json").read_text())
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    assert run("denoise", "example", "--weights", tmp_path / "bad", "--out", tmp_path / "out") == 2
    assert "bad" in one_line(capsys)


def test_a_folder_that_cannot_be_written_is_reported(weights, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run("denoise", "example", "--weights", weights, "--out", tmp_path / "file") == 2
    assert "--out" in one_line(capsys)


def test_what_fails_is_reported_and_the_rest_is_done(weights, tmp_path, capsys):
    (tmp_path / "text.mseed").write_text("not a seismogram")
    obspy.read().write(str(tmp_path / "good.mseed"), format="MSEED")
    inputs = [tmp_path / name for name in ("text.mseed", "good.mseed", "none.mseed")]
    assert run("denoise", *inputs, "--weights", weights, "--out", tmp_path / "out") == 1
    table = capsys.readouterr().err.splitlines()
    assert table[0] == "1 done, 2 failed" and len(table) == 3
    assert "none.mseed" in table[1] and "no such file" in table[1] and "text.mseed" in table[2]
    assert (tmp_path / "out" / f"{NAME}.denoised.mseed").is_file()


def test_where_a_whole_record_fails_its_file_is_named_with_what_is_wrong(weights, tmp_path, capsys):
    stream, random = obspy.read(), np.random.default_rng(0)
    for trace in stream:
        trace.data = trace.data.astype(np.int32)
    stream.write(str(tmp_path / "in.mseed"), format="MSEED", encoding="STEIM2", reclen=512)
    records = np.frombuffer((tmp_path / "in.mseed").read_bytes(), np.uint8).reshape(-1, 512).copy()
    records[:, 64:] = random.integers(0, 256, records[:, 64:].shape)
    (tmp_path / "in.mseed").write_bytes(records.tobytes())
    assert run("denoise", tmp_path / "in.mseed", "--weights", weights, "--out", tmp_path / "out") == 2
    error = one_line(capsys)
    assert "no samples could be read" in error and f"{tmp_path / 'in.mseed'}: damaged records" in error


def test_a_file_that_is_named_twice_is_read_once(weights, tmp_path):
    obspy.read().write(str(tmp_path / "in.mseed"), format="MSEED")
    (tmp_path / "folder").mkdir()
    inputs = tmp_path / "in.mseed", tmp_path / "in.mseed", tmp_path / "folder" / ".." / "in.mseed"
    assert run("denoise", *inputs, "--weights", weights, "--out", tmp_path / "out") == 0
    assert len(obspy.read(str(tmp_path / "out" / "*.mseed"))) == 3


def test_what_is_done_is_skipped(weights, tmp_path, capsys):
    source, out = tmp_path / "in.mseed", tmp_path / "out"
    obspy.read().write(str(source), format="MSEED")
    args = ["denoise", source, "--weights", weights, "--out", out, "--steps", "1"]
    target = out / f"{NAME}.denoised.mseed"

    def written(*more):
        before = target.stat().st_mtime_ns if target.exists() else 0
        assert run(*args, *more) == 0
        assert ("1 complete already" in capsys.readouterr().out) == (target.stat().st_mtime_ns == before)
        return target.stat().st_mtime_ns != before

    assert written()
    content = target.read_bytes()
    assert not written()
    assert written("--steps", "2") and written()
    assert target.read_bytes() == content
    target.write_bytes(content[:-512])
    assert written()
    obspy.read()[:2].write(str(source), format="MSEED")
    assert written()


def test_integers_state_their_loss(weights, tmp_path, capsys):
    args = ["denoise", "example", "--weights", weights, "--steps", "1", "--encoding", "int32"]
    assert run(*args, "--out", tmp_path / "a", "--scale", "1000", "--location", "D1") == 0
    assert re.search(r"int32 times 1000, largest rounding error 0\.0005, \d\d+ dB below", capsys.readouterr().out)
    scaled = obspy.read(str(tmp_path / "a" / f"{NAME}.denoised.x1000.mseed"))
    expected = CDiffSD.load(weights).denoise(obspy.read(), steps=1)
    for one, other in zip(scaled.sort(), expected.sort(), strict=True):
        assert one.data.dtype == np.int32 and one.id == other.id.replace("..", ".D1.")
        np.testing.assert_allclose(one.data / 1000, other.data, atol=0.0006)
    assert run(*args, "--out", tmp_path / "b", "--scale", "1e9") == 2
    assert "--scale" in one_line(capsys)
    assert not list((tmp_path / "b").glob("*.mseed"))
    assert run("denoise", "example", "--weights", weights, "--scale", "10") == 2
    assert "int32" in one_line(capsys)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a system that limits the cores of a process")
def test_workers_are_as_many_as_cores_are_allowed():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert denoise._cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_picks_are_written_on_request(weights, pickers, tmp_path, capsys):
    assert run("denoise", "example", "--weights", weights, "--out", tmp_path, "--picks") == 0
    table = pd.read_csv(tmp_path / f"{NAME}.picks.csv")
    assert list(table.columns) == ["instrument", "phase", "time", "probability"]
    picks = [pick for event in obspy.read_events(str(tmp_path / f"{NAME}.picks.xml")) for pick in event.picks]
    assert [(p.phase_hint, str(p.time)) for p in picks] == list(zip(table["phase"], table["time"], strict=True))
    assert all(p.waveform_id.station_code == "RJOB" for p in picks)


def test_without_a_picker_the_record_is_denoised_and_the_picks_are_missed(weights, tmp_path, capsys, monkeypatch):
    command = "denoise", "example", "--weights", weights, "--out", tmp_path / "out", "--picks"
    monkeypatch.setattr(seisbench, "cache_model_root", tmp_path)
    assert run(*command) == 1
    assert "--download-picker" in capsys.readouterr().err and len(list((tmp_path / "out").glob("*.mseed"))) == 1
    (tmp_path / "phasenet").mkdir()
    for kind in ("pt", "json"):
        (tmp_path / "phasenet" / f"original.{kind}.v1").write_text("{}")
    assert run(*command) == 1
    assert "delete them there" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["1", "-0.1", "nan", "some"])
def test_impossible_noise_is_refused(value, capsys):
    for command in (["denoise", "example"], ["archive", "in", "out", "--start", "2020-01-01", "--end", "2020-01-01"]):
        with pytest.raises(SystemExit) as info:
            run(*command, "--dry", value)
        assert info.value.code == 2 and "must be a number" in one_line(capsys)


@pytest.mark.parametrize("steps", ["0", "-2", "1.5", "many"])
def test_impossible_steps_are_refused(steps, capsys):
    with pytest.raises(SystemExit) as info:
        run("denoise", "example", "--steps", steps)
    assert info.value.code == 2 and "whole number" in one_line(capsys)


@pytest.mark.parametrize("args", [[], ["polish"], ["denoise"], ["denoise", "example", "--loud"]])
def test_misspelt_commands_are_one_line(args, capsys):
    with pytest.raises(SystemExit) as info:
        run(*args)
    command = "cdiffsd denoise" if "denoise" in args else "cdiffsd"
    assert info.value.code == 2 and f"(see {command} --help)" in one_line(capsys)


@pytest.mark.parametrize(
    "args",
    [
        ["denoise", "example", "--out", ""],
        ["archive", "in", "", "--start", "2020-01-01", "--end", "2020-01-02"],
        ["archive", "in", "out", "--noise", "", "--start", "2020-01-01", "--end", "2020-01-02"],
        ["export", "run", "mine", "--out", ""],
    ],
)
def test_an_empty_name_is_no_folder(args, capsys):
    with pytest.raises(SystemExit) as info:
        run(*args)
    assert info.value.code == 2 and "must be the name of a folder" in one_line(capsys)


@pytest.mark.parametrize("args", [["--help"], ["denoise", "--help"], ["archive", "--help"], ["denoise", "--loud"]])
def test_help_and_typing_errors_import_nothing_that_computes(args):
    code = (
        "import sys\nfrom seisbench_cdiffsd import cli\n"
        f"try:\n    cli.main({args})\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'seisbench', 'obspy', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
