"""The command ``cdiffsd denoise``: what it writes and prints, and errors in one line."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import obspy
import pandas as pd
import pytest
import seisbench
import torch
from conftest import randomised

from seisbench_cdiffsd import CDiffSD, cli
from seisbench_cdiffsd.files.picks import COLUMNS
from seisbench_cdiffsd.streams.example import noisy_example
from seisbench_cdiffsd.weights import load

NAME = "BW.RJOB..EH.20090824T001943"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """A SeisBench cache without pickers, and no network."""
    monkeypatch.setattr(seisbench, "cache_model_root", tmp_path / "cache")
    monkeypatch.setattr("requests.sessions.Session.send", lambda *a, **k: pytest.fail("asked the network"))


@pytest.fixture
def run(weights, tmp_path):
    """Exit status of the command; what it writes is in ``out``."""

    def run(*inputs, out="out", weights=weights):
        args = ["denoise", *inputs, "--weights", weights, "--out", tmp_path / out]
        return cli.main([str(arg) for arg in args])

    return run


@pytest.fixture
def stored(tmp_path):
    """Path of a stream that is written."""

    def stored(stream, name="in.mseed", **kwargs):
        stream.write(str(tmp_path / name), format="MSEED", **kwargs)
        return tmp_path / name

    return stored


def found(folder):
    return obspy.read(str(folder / "*.denoised*.mseed")).sort()


def assert_same(stream, other, **tolerance):
    for one, two in zip(stream.sort(), other.sort(), strict=True):
        assert (one.id, one.stats.starttime) == (two.id, two.stats.starttime)
        np.testing.assert_allclose(one.data, two.data, **{"rtol": 1e-4, "atol": 1e-2, **tolerance})


def one_line(capsys):
    error = capsys.readouterr().err
    assert error.startswith("cdiffsd") and error.endswith("\n") and error.count("\n") == 1
    return error


def test_the_example_is_denoised(run, weights, tmp_path, capsys):
    assert run("example", "--noise", "--figures") == 0
    printed, out = capsys.readouterr().out, tmp_path / "out"
    files = sorted(path.name for path in out.iterdir())
    assert files == [".cdiffsd", f"{NAME}.denoised.mseed", f"{NAME}.noise.mseed", f"{NAME}.png"]
    assert all(str(out / file) in printed for file in files[1:])
    assert "PhaseNet" not in printed and "BW.RJOB..EH*" in printed
    assert found(out)[0].data.dtype == np.float32
    assert_same(found(out), CDiffSD.load(weights).denoise(noisy_example()))
    both = zip(found(out), obspy.read(str(out / files[2])).sort(), noisy_example().sort(), strict=True)
    for clean, noise, noisy in both:
        np.testing.assert_allclose(clean.data + noise.data, noisy.data, atol=1e-3)
    assert (out / files[3]).read_bytes().startswith(b"\x89PNG")


OPTIONS = [
    ([], {}),
    (["--dry", "0.5"], {"dry": 0.5}),
    (["--purpose", "waveforms", "--steps", "1"], {"purpose": "waveforms", "steps": 1}),
]


def test_windows_are_silent_where_an_earthquake_is_less_probable_than_asked(run, tmp_path):
    model = randomised(CDiffSD(presence=True))
    model.save(tmp_path / "weights")
    for least, silent in (("0.99", True), ("0", False)):
        assert run("example", "--silence", least, weights=tmp_path / "weights") == 0
        assert_same(found(tmp_path / "out"), model.denoise(noisy_example(), silence=float(least)))
        assert found(tmp_path / "out")[0].data.any() != silent


def test_options_and_defaults_of_the_weights_are_those_of_denoise(run, weights, tmp_path, capsys):
    model = CDiffSD.load(weights)
    for own in ({}, {"steps": 1, "dry": 0.3}):
        model.default_args = own
        model.save(tmp_path / "weights")
        streams = []
        for args, options in OPTIONS:
            assert run("example", *args, weights=tmp_path / "weights") == 0
            streams.append(found(tmp_path / "out"))
            assert_same(streams[-1], model.denoise(noisy_example(), **options))
        largest = np.abs(streams[0][0].data).max()
        assert all(np.abs(x[0].data - streams[0][0].data).max() > 1e-3 * largest for x in streams[1:])
    assert run("example", weights=tmp_path / "weights") == 0
    capsys.readouterr()
    assert run("example", "--steps", 1, "--dry", 0.3, weights=tmp_path / "weights") == 0
    assert "1 complete already" in capsys.readouterr().out


def test_damaged_weights_and_impossible_options_end_before_any_work(run, weights, tmp_path, capsys):
    assert run("example", "--steps", 99999) == 2
    assert "steps must be an integer from 1 to 1000, not 99999" in one_line(capsys)
    model = CDiffSD.load(weights)
    next(model.parameters()).data.view(-1)[0] = float("nan")
    model.save(tmp_path / "damaged")
    CDiffSD(filter_kwargs={"freqmin": 9.0, "freqmax": 1.0}).save(tmp_path / "filter")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    shutil.copy(tmp_path / "filter.json", tmp_path / "other.json")
    for name, why in (("damaged", "are damaged"), ("filter", "must be positive and rise"), ("other", "Missing key")):
        assert run("example", weights=tmp_path / name) == 2
        line = one_line(capsys)
        assert f"The weights '{tmp_path / name}' cannot be" in line and why in line and len(line) < 600
    os.remove(tmp_path / "damaged.pt")
    os.mkfifo(tmp_path / "damaged.pt")
    assert run("example", weights=tmp_path / "damaged") == 2
    assert "is not a file of weights" in one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_components_in_separate_files_belong_together(run, weights, tmp_path):
    for trace in obspy.read():
        trace.write(str(tmp_path / f"{trace.id}[1].sac"), format="SAC")
    inputs = sorted(tmp_path.glob("*.sac"))
    assert len(inputs) == 3 and run(*inputs, weights=f"{weights}.json") == 0
    assert run(*inputs, weights=f"{weights}.pt") == 0
    assert_same(found(tmp_path / "out"), CDiffSD.load(weights).denoise(obspy.read()), atol=0.1)


def test_gaps_are_left_out_and_instruments_get_files_of_their_own(run, stored, tmp_path):
    stream, other = obspy.read(), obspy.read()
    for trace in other:
        trace.stats.update({"channel": "HH" + trace.stats.channel[-1], "network": ""})
    start = stream[0].stats.starttime
    assert run(stored(stream.cutout(start + 10, start + 12) + other)) == 0
    names = [f"{name}.20090824T002003.denoised.mseed" for name in ("BW.RJOB..EH", "RJOB..HH")]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.mseed")) == names
    gappy = obspy.read(str(tmp_path / "out" / names[0]))
    assert len(gappy) == 6 and len(gappy.get_gaps()) == 3


@pytest.mark.parametrize("fault", ["gap", "overlap"])
def test_picks_before_and_after_are_printed_and_written(fault, run, stored, pickers, tmp_path, capsys):
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
    assert run(stored(stream), "--picks") == (1 if fault == "gap" else 0)
    printed = capsys.readouterr().out
    assert re.search(r"PhaseNet original: P 00:20:07\.7\d \(0\.9\d, \w+\)", printed)
    (path,), (catalog,) = ((tmp_path / "out").glob(f"*.picks.{kind}") for kind in ("csv", "xml"))
    table = pd.read_csv(path)
    assert list(table.columns) == COLUMNS
    picks = [pick for event in obspy.read_events(str(catalog)) for pick in event.picks]
    times = [f"{x}Z" for x in table["timestamp"]]
    assert [(p.phase_hint, str(p.time)) for p in picks] == list(zip(table["phase"], times, strict=True))
    assert all(p.waveform_id.station_code == "RJOB" for p in picks)


def test_without_a_picker_the_record_is_denoised_and_the_picks_are_missed(run, tmp_path, capsys):
    assert run("example", "--picks") == 1
    assert "--download-picker" in capsys.readouterr().err and len(found(tmp_path / "out")) == 3
    (tmp_path / "cache" / "phasenet").mkdir(parents=True)
    for kind in ("pt", "json"):
        (tmp_path / "cache" / "phasenet" / f"original.{kind}.v1").write_text("{}")
    assert run("example", "--picks") == 1
    assert "delete them there" in capsys.readouterr().err


def test_what_cannot_be_read_is_reported_in_one_line(run, stored, tmp_path, capsys):
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
        assert run(tmp_path / name) == 2
        assert message in one_line(capsys)
    assert not (tmp_path / "out").exists()
    # the rest is done
    assert run(tmp_path / "text.mseed", stored(obspy.read()), tmp_path / "none.mseed") == 1
    table = capsys.readouterr().err.splitlines()
    assert table[0] == "1 done, 2 failed" and len(table) == 3
    assert "none.mseed" in table[1] and "no such file" in table[1] and "text.mseed" in table[2]
    assert len(found(tmp_path / "out")) == 3


@pytest.mark.parametrize("fault", ["NaN", "damage"])
def test_where_a_whole_record_fails_its_file_is_named_with_what_is_wrong(fault, run, stored, tmp_path, capsys):
    stream, random = obspy.read(), np.random.default_rng(0)
    for trace in stream:
        trace.data = np.full(len(trace), np.nan, "f4") if fault == "NaN" else trace.data.astype(np.int32)
    path = stored(stream, reclen=512)
    if fault == "damage":
        records = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 512).copy()
        records[:, 64:] = random.integers(0, 256, records[:, 64:].shape)
        path.write_bytes(records.tobytes())
    assert run(path) == 2 and not list((tmp_path / "out").glob("*.mseed"))
    error = one_line(capsys)
    expected = ["has no finite samples"] if fault == "NaN" else ["no samples could be read", f"{path}: damaged records"]
    assert all(message in error for message in expected)


def test_what_nobody_reads_is_done_all_the_same(run, weights, stored, tmp_path):
    stream = obspy.read()
    for trace in stream:
        trace.stats.station = "OTHER"
    stored(stream)
    command = [sys.executable, "-m", "seisbench_cdiffsd.cli", "denoise", "in.mseed", "example", "--weights", weights]
    reader, writer = os.pipe()
    os.close(reader)
    odd = {**os.environ, "MPLBACKEND": "nonsense"}  # with which Matplotlib cannot be imported
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, text=True, env=odd)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((tmp_path / "denoised").glob("*.mseed"))) == 2


def test_an_interrupt_is_one_line(run, tmp_path, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(CDiffSD, "denoise", interrupted)
    assert run("example") == 130
    assert "continues with what is missing" in one_line(capsys)
    assert [x.name for x in (tmp_path / "out").iterdir()] == []


@pytest.mark.parametrize("name", ["nowhere", "no/such/model", "model.pt"])
def test_unknown_weights_are_answered_with_the_known_names(name, run, capsys):
    assert run("example", weights=name) == 2
    error = one_line(capsys)
    assert name in error and "Names: " in error
    assert all(known in error for known in CDiffSD.list_pretrained(remote=False))


def test_paths_beside_a_model_are_answered_with_the_one_to_give(weights, tmp_path):
    (tmp_path / "run").mkdir()
    for suffix in ("pt", "json"):
        content = Path(f"{weights}.{suffix}").read_bytes()
        for name in (f"run/model.{suffix}", *(f"mini[1].{suffix}.v{version}" for version in (2, 9, 10))):
            (tmp_path / name).write_bytes(content)
    (tmp_path / "half.pt").write_bytes(content)
    cases = {"run": "run/model.", "mini[1]": "mini[1].pt.v10.", "half.pt": "give NAME of two files"}
    for name, message in cases.items():
        with pytest.raises(ValueError) as error:
            load(str(tmp_path / name))
        assert message in str(error.value) and "\n" not in str(error.value)
    assert load(str(tmp_path / "run" / "model")) and load(str(tmp_path / "mini[1].pt.v10"))


def test_a_folder_that_cannot_be_written_is_reported(run, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run("example", out="file") == 2
    assert "choose another with --out" in one_line(capsys)


def test_a_file_that_is_named_twice_is_read_once(run, stored, tmp_path):
    (tmp_path / "folder").mkdir()
    path = stored(obspy.read())
    assert run(path, path, tmp_path / "folder" / ".." / "in.mseed") == 0
    assert len(found(tmp_path / "out")) == 3


def test_integers_state_their_loss(run, weights, tmp_path, capsys):
    integers = "example", "--encoding", "int32", "--scale"
    assert run(*integers, "1000", "--location", "D1") == 0
    assert re.search(r"int32 times 1000, largest rounding error 0\.0005, \d\d+ dB below", capsys.readouterr().out)
    assert (tmp_path / "out" / f"{NAME.replace('..', '.D1.')}.denoised.x1000.mseed").is_file()
    expected = CDiffSD.load(weights).denoise(noisy_example()).sort()
    for one, other in zip(found(tmp_path / "out"), expected, strict=True):
        assert one.data.dtype == np.int32 and one.id == other.id.replace("..", ".D1.")
        np.testing.assert_allclose(one.data / 1000, other.data, atol=0.0006)
    assert run(*integers, "1e9", out="b") == 2
    assert "--scale" in one_line(capsys) and not list((tmp_path / "b").glob("*.mseed"))
    assert run("example", "--scale", "10") == 2
    assert "int32" in one_line(capsys)


DAYS = ["--start", "2020-01-01", "--end", "2020-01-02"]
ADDRESSES = "foo", "foo:bar", "http://foo:8786", "foo:99999", "tcp://:8786"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        *((["denoise", "example", "--dry", x], "must be a number") for x in ("1", "-0.1", "nan", "some")),
        (["archive", "in", "out", *DAYS, "--dry", "1"], "must be a number"),
        *((["denoise", "example", "--steps", x], "whole number") for x in ("0", "-2", "1.5", "many")),
        *((["archive", "in", "out", *DAYS, "--scheduler", x], "such as") for x in ADDRESSES),
        *(
            (["archive", "in", "out", *DAYS, *x.split()], "such as")
            for x in ("--shard 3/2", "--shard x", "--cluster Foo")
        ),
        *((["archive", "in", "out", *DAYS, x, "-1"], "at least 0") for x in ("--workers", "--retries")),
        (["archive", "in", "out", *DAYS, "--start", "tomorrow"], "such as"),
        *((args, "(see cdiffsd --help)") for args in ([], ["polish"])),
        *((["denoise", *args], "(see cdiffsd denoise --help)") for args in ([], ["example", "--loud"])),
        (["denoise", "example", "--out", ""], "must be the name of a folder"),
        (["archive", "in", "", *DAYS], "must be the name of a folder"),
        (["archive", "in", "out", "--noise", "", *DAYS], "must be the name of a folder"),
        (["export", "run", "mine", "--out", ""], "must be the name of a folder"),
    ],
)
def test_wrong_arguments_are_one_line(args, message, capsys):
    with pytest.raises(SystemExit) as info:
        cli.main(args)
    assert info.value.code == 2 and message in one_line(capsys)


def test_help_and_typing_errors_import_nothing_that_computes():
    code = (
        "import sys\nfrom seisbench_cdiffsd import cli\n"
        "for args in (['denoise', '--help'], ['archive', '--help'], ['denoise', '--loud']):\n"
        "    try:\n        cli.main(args)\n    except SystemExit:\n        pass\n"
        "assert not {'torch', 'seisbench', 'obspy', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
