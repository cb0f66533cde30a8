"""The ledger of an archive: it knows folders and channels, and what is no longer valid is removed."""

import hashlib
import json
import os
from dataclasses import replace
from datetime import timedelta

import numpy as np
import obspy
import pytest
from archives import FIRST, START, content, jobs_of, record, run, run_one, samples, states, store
from obspy import Stream, Trace

from seisbench_cdiffsd.files import ledger, reading
from seisbench_cdiffsd.files.ledger import place

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
        fixed = ["--start", days[0], "--end", days[1], "--weights", weights, "--workers", 0]
        options = [] if "--steps" in args else ["--steps", 1]
        status = run(source, out, *fixed, *options, *args)
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


def all_entries(out):
    return sorted((out / ".cdiffsd").rglob("*.json"))


def day_file(root, component="Z", day=FIRST, station="AAA"):
    """Path of a file."""
    return root / f"{day:%Y}/XX/{station}/HH{component}.D/XX.{station}.00.HH{component}.D.{day:%Y.%j}"


# -- folders


def test_noise_of_another_folder_is_not_done(command, tmp_path):
    first, second, out = (tmp_path / name for name in ("n1", "n2", "out"))
    command("--noise", first)
    command("--noise", second, "--steps", 3)
    old = samples(first)
    assert "2 done" in command("--noise", first, "--steps", 3)[1]
    assert samples(first) == samples(second) and samples(first) != old
    assert is_true(out, first)
    assert "2 complete already" in command("--steps", 3)[1]
    link = tmp_path / "link"
    link.symlink_to(first)
    assert "2 complete already" in command("--noise", link, "--steps", 3)[1]


def test_archives_that_are_moved_together_stay_what_they_are(tmp_path):
    assert place(tmp_path / "a" / "noise", tmp_path / "a" / "out") == place(tmp_path / "noise", tmp_path / "out")
    assert place(tmp_path / "noise", tmp_path / "out") != place(tmp_path / "noise2", tmp_path / "out")


# -- options


def test_other_options_are_not_done(command):
    assert "2 done" in command()[1]
    assert "2 complete already" in command("--purpose", "picking")[1]
    for options in (["--dry", 0.3], ["--purpose", "waveforms"]):
        assert "2 done" in command(*options)[1]
        assert "2 complete already" in command(*options)[1]


# -- channels


def test_other_channels_leave_the_records_of_each_other(command, tmp_path):
    def selected(components):
        return command("--select", f"XX.AAA.*.HH{components}")[1]

    assert "2 done" in selected("Z")
    alone = samples(tmp_path / "out")
    assert "2 done" in selected("N")
    for component in "ZN":
        assert "2 complete already" in selected(component)
    assert is_true(tmp_path / "out") and len(total(tmp_path / "out")["outputs"]) == 4
    # what belongs together is done together, and replaces what was made alone
    assert "2 done" in selected("?")
    together = samples(tmp_path / "out")
    assert {name: data for name, data in together.items() if name in alone} != alone
    assert "2 complete already" in selected("?") and is_true(tmp_path / "out")
    assert "2 done" in selected("Z")
    assert samples(tmp_path / "out") == {**together, **alone} and is_true(tmp_path / "out")
    assert "2 done" in selected("?")
    assert samples(tmp_path / "out") == together and is_true(tmp_path / "out")
    assert len(all_entries(tmp_path / "out")) == 6


def test_the_manifest_is_of_all_commands(command, tmp_path):
    for day in DAYS:
        command("--noise", tmp_path / "noise", days=(day, day))
    assert len(total(tmp_path / "out")["outputs"]) == 6
    assert is_true(tmp_path / "out", tmp_path / "noise")
    # missing or changed files have no sum
    day_file(tmp_path / "out").unlink()
    day_file(tmp_path / "out", "N").write_bytes(b"")
    command(days=(DAYS[1], DAYS[1]))
    assert len(total(tmp_path / "out")["outputs"]) == 4


def test_what_a_kill_leaves_is_not_believed(settings, monkeypatch):
    job = jobs_of(settings, last=FIRST)[0]
    run_one(job, settings)
    changed = replace(settings, options={"steps": 3})

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr("seisbench_cdiffsd.files.work.Work.commit", killed)
        with pytest.raises(KeyboardInterrupt):
            run_one(job, changed)
    assert states(run_one(job, settings)) == ["done"]  # though the sizes are the same
    assert states(run_one(job, settings)) == ["complete"]


# -- input that turns bad or goes


def test_what_was_made_of_input_that_holds_something_else_now_is_removed(command, one, tmp_path):
    out, noise = tmp_path / "out", tmp_path / "noise"
    command("--noise", noise)
    other = store(tmp_path / "other", record("BBB", days=1, components="Z"))[0]
    day_file(one).write_bytes(other.read_bytes())
    (out / "mine.txt").write_text("hello")
    status, printed = command("--select", "XX.AAA.*.HH[ZN]", "--noise", noise)
    assert status == 1
    assert "XX.AAA.00.HH.2020.365" in printed and "removed" in printed
    for root in (out, noise):
        assert not day_file(root).exists()
        assert len(samples(root)) == 5
    assert (out / "mine.txt").exists() and is_true(out, noise)
    assert "removed" not in command("--select", "XX.AAA.*.HH[ZN]", "--noise", noise)[1]


@pytest.mark.parametrize("how", ["nonsense", "gone", "all gone"])
def test_what_was_made_of_input_that_is_lost_stays(command, one, tmp_path, how):
    """There may be no other copy of it."""
    out, noise = tmp_path / "out", tmp_path / "noise"
    command("--noise", noise)
    lost = [day_file(one, component) for component in ("ZNE" if how == "all gone" else "Z")]
    expected = [day_file(root).read_bytes() for root in (out, noise)]
    for path in lost:
        path.write_bytes(b"nonsense" * 100) if how == "nonsense" else path.unlink()
    for _ in range(2):
        status, printed = command("--noise", noise)
        assert status == (1 if how == "nonsense" else 0)
        assert ("left as it is" in printed) == (how == "nonsense") and "removed" not in printed
        for root in (out, noise):
            assert len(samples(root)) == 6
        assert is_true(out, noise)
    assert [day_file(root).read_bytes() for root in (out, noise)] == expected


def test_a_disk_that_is_not_mounted_does_not_empty_the_archive(command, one, tmp_path):
    out = tmp_path / "out"
    store(one, record("BBB", days=1, components="Z"))
    command()
    expected = samples(out)
    (one / "2020" / "XX" / "AAA").rename(tmp_path / "away")
    (one / "2020" / "XX" / "AAA").mkdir()  # a mount point
    status, printed = command()
    assert status == 0 and "removed" not in printed
    assert samples(out) == expected
    # nor does another disk, on which other channels are
    store(tmp_path / "disk", record("BBB", days=1, components="N"))
    assert command(source=tmp_path / "disk")[0] == 0
    assert samples(out).items() >= expected.items()


def test_an_error_of_the_disk_leaves_what_is_there(settings, monkeypatch):
    job = jobs_of(settings, last=FIRST)[0]
    run_one(job, settings)
    before = content(settings.out)
    path = day_file(settings.source)
    data = path.read_bytes()
    os.utime(path, ns=(0, 0))

    def failing(self, start=None, end=None):
        if self.path == path:
            raise reading.Unavailable("cannot be read: Input/output error")
        return whole(self, start, end)

    whole = reading.Block.read
    with monkeypatch.context() as context:
        context.setattr(reading.Block, "read", failing)
        outcomes = run_one(job, settings)
        (failed,) = [outcome for outcome in outcomes if outcome.state == "failed"]
        assert "Input/output" in failed.reason and "left as it is" in failed.reason
        assert content(settings.out) == before
    path.unlink()  # after the archive was looked through
    (failed,) = run_one(job, settings)
    assert "no such file" in failed.reason and content(settings.out) == before
    path.write_bytes(data)
    assert states(run_one(job, settings)) == ["done"]


def test_records_that_lead_elsewhere_are_not_followed(command, one, tmp_path):
    command()
    mine = tmp_path / "mine.txt"
    mine.write_text("hello")
    path = all_entries(tmp_path / "out")[0]
    known = json.loads(path.read_text())
    known["files"]["outputs"]["../mine.txt"] = {"size": 5, "sha256": ledger.digest(mine)}
    path.write_text(json.dumps(known))
    other = store(tmp_path / "other", record("BBB", days=1, components="Z"))[0]
    day_file(one).write_bytes(other.read_bytes())
    command()
    assert mine.exists()


# -- losses


def in_units(root, factor, station="CCC"):
    """The same archive in other units."""
    data = record(station, days=1)
    for trace in data:
        trace.data = trace.data * factor
    return store(root, data)


def test_rounding_that_leaves_zeros_fails_and_losses_are_reported(command, tmp_path):
    out = tmp_path / "out"
    in_units(tmp_path / "units", 1e-9)
    status, printed = command("--encoding", "int32", source=tmp_path / "units")
    assert status == 2 and printed.count("--scale") == 6 and not samples(out)
    assert command("--encoding", "int32", source=tmp_path / "units")[0] == 2
    for count in ("2 done", "2 complete already"):
        status, printed = command("--encoding", "int32", "--scale", 1e9, source=tmp_path / "units")
        assert status == 0 and count in printed
        assert "int32 times 1e+09, largest rounding error 5e-10" in printed and "the worst" in printed
    assert is_true(out) and "dB below the signal" in next(iter(total(out)["outputs"].values()))["loss"]
    assert "dB" not in command(source=tmp_path / "units")[1]  # of single precision


def test_one_channel_that_rounds_to_zeros_fails_alone(command, tmp_path):
    data = record("CCC", days=1)
    for trace in data.select(channel="HHZ"):
        trace.data = trace.data * 1e-9
    store(tmp_path / "units", data)
    status, printed = command("--encoding", "int32", source=tmp_path / "units")
    assert status == 1 and printed.count("--scale") == 2
    assert sorted({name.split(".")[-4] for name in samples(tmp_path / "out")}) == ["HHE", "HHN"]


def test_channels_that_are_zero_are_no_loss(command, tmp_path):
    data = record("CCC", days=1)
    for trace in data.select(channel="HHZ"):
        trace.data[:] = 0
    store(tmp_path / "dead", data)
    assert command("--encoding", "int32", source=tmp_path / "dead")[0] == 0
    (first, *_) = obspy.read(str(day_file(tmp_path / "out", station="CCC")))
    assert not np.any(first.data)


# -- reports


def test_a_slow_channel_is_not_missing_on_other_days(command, one):
    header = {"network": "XX", "station": "AAA", "location": "00", "channel": "VMZ", "sampling_rate": 0.01}
    store(one, Stream([Trace(np.arange(100, dtype=np.int32), {**header, "starttime": START + 100})]))
    day_file(one, "N", DAYS[1]).unlink()
    for _ in range(2):
        status, printed = command()
        assert status == 0 and "no XX.AAA.00.HHN\n" in printed and "no XX.AAA.00.VMZ" not in printed
