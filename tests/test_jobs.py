"""Jobs under attack: inputs are safe, ledgers are claims, and whatever is odd is told."""

import hashlib
import json
import os
import shutil
import time
from dataclasses import replace

import numpy as np
import obspy
import pytest
import seisbench.models as sbm
from archives import FIRST, LAST, content, jobs_of, record, run, run_one, samples, states, store, work
from hypothesis import given
from hypothesis import strategies as st
from obspy import Stream, Trace, UTCDateTime

from seisbench_cdiffsd import CDiffSD, cli
from seisbench_cdiffsd.files import extras, jobs, ledger, writing
from seisbench_cdiffsd.files import work as doing
from seisbench_cdiffsd.files.jobs import Settings, file_name
from seisbench_cdiffsd.files.ledger import status
from seisbench_cdiffsd.files.work import denoise_files

BEGIN = UTCDateTime(2020, 1, 1)


def write(path, ids, seconds=600.0, rate=4.0, start=BEGIN, format="MSEED"):
    """A file of noise."""
    generator, stream = np.random.default_rng(0), Stream()
    for name in ids:
        network, station, location, channel = name.split(".")
        header = {"network": network, "station": station, "location": location, "channel": channel}
        data = (1000 * generator.standard_normal(int(seconds * rate))).astype(np.int32)
        stream.append(Trace(data, {**header, "sampling_rate": rate, "starttime": start}))
    path.parent.mkdir(parents=True, exist_ok=True)
    stream.write(str(path), format=format)
    return path


@pytest.fixture(scope="module")
def model(weights):
    return CDiffSD.load(weights)


def denoise(model, inputs, out, picker=None, **kwargs):
    settings = Settings.of(model, out=out, options={"steps": 1}, **kwargs)
    return list(denoise_files(model, map(str, inputs), settings, picker))


def told(outcomes):
    return [(outcome.state, outcome.reason) for outcome in outcomes if outcome.reason]


# -- no input is overwritten or removed


@pytest.mark.parametrize("link", ["2020", "2020/XX/AAA", "2020/XX/AAA/HHZ.D"])
def test_an_output_that_is_an_input_by_a_link_is_refused(settings, weights, link, capsys):
    (settings.out / link).parent.mkdir(parents=True)
    (settings.out / link).symlink_to(settings.source / link)
    before = content(settings.source)
    args = settings.source, settings.out, "--start", FIRST, "--end", LAST, "--weights", weights, "--workers", 0
    assert run(*args, "--steps", 1) == 1
    assert content(settings.source) == before
    assert "its own input" in capsys.readouterr().out


def test_noise_that_would_replace_an_input_is_refused(settings):
    noise = settings.out.with_name("noise")
    noise.mkdir()
    for year in ("2020", "2021"):
        (noise / year).symlink_to(settings.source / year)
    before = content(settings.source)
    outcomes = work(replace(settings, noise=noise))
    assert states(outcomes) == ["failed"] and content(settings.source) == before


@pytest.mark.parametrize("how", ["symlink_to", "hardlink_to", "folder"])
def test_no_input_of_a_command_is_replaced_by_the_output_of_another_one(model, tmp_path, how):
    source, out = write(tmp_path / "a", ["XX.STA..HHZ"]), tmp_path / "out"
    name = "XX.STA..HH.20200101T000000.denoised.mseed"
    if how == "folder":
        (tmp_path / "real").mkdir()
        out.symlink_to(tmp_path / "real")
        other = write(tmp_path / "real" / name, ["XX.OTHER..HHZ"])
    else:
        other = write(tmp_path / "other", ["XX.OTHER..HHZ"])
        out.mkdir()
        getattr(out / name, how)(other)
    before = [source.read_bytes(), other.read_bytes()]
    outcomes = denoise(model, [source, other], out)
    assert [x.state for x in outcomes if "STA" in x.name] == ["failed"] and "its own input" in told(outcomes)[0][1]
    assert [source.read_bytes(), other.read_bytes()] == before and (out / name).exists()


# -- a ledger is a claim


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
    entry["noise folder"] = "../in"
    entry["files"]["noise"] = {target.label: files[str(precious[0])]}
    path.write_text(json.dumps(entry))
    before = [file.read_bytes() for file in precious]
    other = store(tmp_path / "other", record("CCC", days=1, components="Z"))[0]
    (settings.source / target.label).write_bytes(other.read_bytes())
    before[0] = other.read_bytes()
    outcomes = run_one(jobs_of(settings)[0], replace(settings, noise=settings.source.with_name("noise")))
    assert "removed" in states(outcomes) and not mine.exists()
    assert [file.read_bytes() for file in precious] == before


def test_an_output_that_was_changed_by_hand_is_not_removed(settings, tmp_path):
    job = jobs_of(settings)[0]
    run_one(job, settings)
    mine = settings.out / job.targets[0].files["outputs"][0]
    mine.write_bytes(mine.read_bytes()[::-1])
    other = store(tmp_path / "other", record("CCC", days=1, components="Z"))[0]
    (settings.source / job.targets[0].label).write_bytes(other.read_bytes())
    assert "removed" not in states(run_one(jobs_of(settings)[0], settings)) and mine.exists()


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
KNOWN = {"size": 1, "sha256": "", "ratio": 3.0, "loss": "x"}
TEXTS = {name: "" for name in ("key", "model", "noise folder", "skipped")}
ENTRY = {**TEXTS, "notes": [], "inputs": {"a": ""}, "problems": {}, "files": {"outputs": {"a": KNOWN}}}


@given(part=st.sampled_from(sorted(ENTRY)), value=nested)
def test_an_entry_is_as_it_should_be_or_none(tmp_path_factory, part, value):
    path = tmp_path_factory.mktemp("ledger") / "a.json"
    ledger.write(path, ENTRY)
    assert ledger.read(path) == ENTRY
    for changed in ({**ENTRY, part: value}, {**ENTRY, "files": {"outputs": {"a": {**KNOWN, "size": value}}}}):
        path.write_text(json.dumps(changed))
        read = ledger.read(path)
        assert not read or (read == changed and all(type(read[name]) is type(ENTRY[name]) for name in ENTRY))


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "null", "", '{"key": 1}', "\x00"])
def test_what_is_no_entry_is_done_again(model, tmp_path, text):
    source = write(tmp_path / "a", ["XX.STA..HHZ"])
    denoise(model, [source], tmp_path / "out")
    (entry,) = (tmp_path / "out" / ".cdiffsd").iterdir()
    entry.write_text(text)
    assert states(denoise(model, [source], tmp_path / "out")) == ["done"]
    assert states(denoise(model, [source], tmp_path / "out")) == ["complete"]


# -- the key is of what was read


def test_a_file_that_grows_after_the_command_began_is_finished_by_the_next(model, tmp_path):
    first = write(tmp_path / "a", ["XX.AAA..HHZ"])
    growing = write(tmp_path / "b", ["XX.BBB..HHZ"])
    more = write(tmp_path / "c", ["XX.BBB..HHZ"], start=BEGIN + 600).read_bytes()
    settings = Settings.of(model, out=tmp_path / "out", options={"steps": 1})
    outcomes = denoise_files(model, [str(first), str(growing)], settings)
    assert next(outcomes).state == "done"
    growing.write_bytes(growing.read_bytes() + more)
    (outcome,) = outcomes
    assert outcome.state == "failed" and "b changed while it was read" in outcome.reason
    assert len(list((tmp_path / "out").glob("*.mseed"))) == 1
    assert states(denoise(model, [first, growing], tmp_path / "out")) == ["complete", "done"]
    assert len(obspy.read(str(tmp_path / "out" / "XX.BBB*.mseed"))[0]) == 4800


# -- contents


def test_verify_finds_what_has_the_same_size_and_time(settings, weights, capsys):
    args = settings.source, settings.out, "--start", FIRST, "--end", FIRST, "--weights", weights, "--workers", 0
    assert run(*args) == 0
    expected = samples(settings.out)
    damaged = sorted(settings.out.rglob("*.D.2020.365"))[0]
    damaged.write_bytes(damaged.read_bytes()[::-1])
    assert run(*args) == 0
    assert samples(settings.out) != expected
    assert run(*args, "--verify") == 0
    assert samples(settings.out) == expected
    source = sorted(settings.source.rglob("XX.BBB.*.D.2020.365"))[0]
    known, data = source.stat(), bytearray(source.read_bytes())
    data[-1] ^= 1
    source.write_bytes(data)
    os.utime(source, ns=(known.st_atime_ns, known.st_mtime_ns))
    capsys.readouterr()
    for more, said in (([], "2 complete already"), (["--verify"], "1 done, 1 complete already")):
        assert run(*args, *more) in (0, 1)
        assert said in capsys.readouterr().out


# -- ids


def test_ids_that_would_be_one_in_miniseed_are_refused_with_their_names(model, tmp_path):
    for i, station in enumerate(("LONGNAME", "LONGNAMF", "STA")):
        write(tmp_path / str(i), [f"XX.{station}..HHZ"], format="SAC")
    outcomes = denoise(model, [tmp_path / str(i) for i in range(3)], tmp_path / "out")
    reasons = [reason for state, reason in told(outcomes) if state == "failed"]
    assert len(reasons) == 2 and all("XX.LONGNAME..HHZ, XX.LONGNAMF..HHZ" in reason for reason in reasons)
    assert [path.name[:7] for path in (tmp_path / "out").glob("*.mseed")] == ["XX.STA."]


def test_one_location_for_two_sensors_is_refused(model, tmp_path):
    source = write(tmp_path / "a", ["XX.STA.00.HHZ", "XX.STA.10.HHZ", "XX.STA.00.HHN"])
    outcomes = denoise(model, [source], tmp_path / "out", location="D1")
    assert status(outcomes) == 1 and "XX.STA.00.HHZ, XX.STA.10.HHZ" in told(outcomes)[0][1]


@given(ids=st.lists(st.tuples(*4 * [st.text("A./ :é", max_size=3)]), min_size=2, max_size=2, unique=True))
def test_no_two_instruments_have_one_file(ids):
    one, other = (".".join(codes) for codes in ids)
    if one != other:
        assert file_name(one, BEGIN) != file_name(other, BEGIN)


def test_what_is_no_component_is_refused_with_ids_and_rates_or_named(model, tmp_path, capsys, weights):
    kik = write(tmp_path / "kik", [f"BO.AAA..{code}{i}" for code in ("NS", "EW", "UD") for i in (1, 2)])
    (outcome,) = denoise(model, [kik], tmp_path / "out")
    assert outcome.state == "failed" and "--components UD=Z NS=N EW=E" in outcome.reason
    assert "BO.AAA..EW1 at 4 Hz" in outcome.reason
    names = "UD=Z", "NS=N", "EW=E"
    out = tmp_path / "named"
    args = "denoise", kik, "--out", out, "--weights", weights, "--steps", 1, "--components", *names
    assert cli.main([str(x) for x in args]) == 0
    found = obspy.read(str(out / "*.mseed"))
    assert len(list(out.glob("*.mseed"))) == 2 and {x.id for x in found} == {x.id for x in obspy.read(str(kik))}
    mixed = write(tmp_path / "mixed", ["XX.GEO..HHZ", "XX.GEO..LDO", *(f"XX.GEO..DP{i}" for i in (1, 2, 3))])
    outcomes = denoise(model, [mixed], tmp_path / "mixed_out")
    assert [x.state for x in outcomes] == [*3 * ["partly"], "skipped", "done"] and "4 Hz" in outcomes[0].reason
    plain = obspy.read(str(kik)).select(channel="*1")
    for trace, code in zip(plain, ("HHN", "HHE", "HHZ"), strict=True):
        trace.stats.channel = code
    expected = model.denoise(plain, steps=1)
    for trace, code in zip(expected, ("NS1", "EW1", "UD1"), strict=True):
        np.testing.assert_allclose(found.select(channel=code)[0].data, trace.data, rtol=1e-4, atol=1e-2)


# -- what is left out or odd is told, and takes nothing else down


def test_odd_rates_are_in_the_table(model, tmp_path):
    source = write(tmp_path / "a", ["XX.STA..HHZ"])
    odd = write(tmp_path / "b", ["XX.STA..HHZ"], seconds=20, rate=5, start=BEGIN + 1000)
    source.write_bytes(source.read_bytes() + odd.read_bytes())
    for state in ("done", "complete"):
        outcomes = denoise(model, [source], tmp_path / "out")
        assert status(outcomes) == 1 and states(outcomes) == sorted([state, "partly"])
        assert "5 Hz beside 4 Hz" in told(outcomes)[0][1]


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nonsense"])
def test_what_is_no_file_takes_no_other_down(settings, kind):
    path = settings.source / jobs_of(settings)[0].targets[0].label
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"x" * 512)
    outcomes = work(settings)
    assert status(outcomes) == (0 if kind == "folder" else 1) and len(samples(settings.out)) == 23
    assert kind == "folder" or any(str(path.relative_to(settings.source)) == x.name for x in outcomes)


def test_an_error_of_the_reader_takes_no_other_file_down(model, settings, tmp_path, monkeypatch):
    whole = jobs.index

    def failing(path):
        if "bad" in str(path) or "HHN.D.2020.365" in str(path):
            raise OverflowError("year 27880 is out of range")
        return whole(path)

    monkeypatch.setattr(jobs, "index", failing)
    good, bad = (write(tmp_path / name, [f"XX.{name.upper()}..HHZ"]) for name in ("good", "bad"))
    outcomes = denoise(model, [bad, good], tmp_path / "files")
    assert (outcomes[0].name, outcomes[0].state) == (str(bad), "failed") and status(outcomes) == 1
    outcomes = work(settings)
    assert len([x for x in outcomes if x.state == "failed" and "27880" in x.reason and "HHN" in x.name]) == 1
    assert len(samples(settings.out)) == 23


@pytest.mark.parametrize("what", ["pick_stream", "plot_denoised", "write_quakeml"])
def test_extras_that_fail_leave_the_result(model, tmp_path, monkeypatch, what):
    def failing(*args, **kwargs):
        raise RuntimeError("no LaTeX")

    monkeypatch.setattr(extras, what, failing)
    sources = [write(tmp_path / name, [f"XX.{name}..HHZ"]) for name in ("AAA", "BBB")]
    picker = None if what == "plot_denoised" else sbm.PhaseNet()
    outcomes = denoise(model, sources, tmp_path / "out", picker, figures=True, picks=picker is not None)
    assert status(outcomes) == 1 and len(list((tmp_path / "out").glob("*.denoised.mseed"))) == 2
    assert sum("no LaTeX" in reason for _, reason in told(outcomes)) == 2


def test_a_record_that_was_not_picked_says_so(model, tmp_path):
    source = write(tmp_path / "a", ["XX.STA..HHZ"], rate=0.9)
    outcomes = denoise(model, [source], tmp_path / "out", sbm.PhaseNet(), picks=True)
    assert (
        status(outcomes) == 1 and "XX.STA..HH* was not picked, because it is sampled at 0.9 Hz" in told(outcomes)[0][1]
    )


def test_a_console_that_cannot_print_fails_nothing(model, tmp_path):
    def report(line):
        raise UnicodeEncodeError("ascii", "Ω", 0, 1, "no")

    source = write(tmp_path / "a", ["XX.STA..HHZ"])
    settings = Settings.of(model, out=tmp_path / "out", options={"steps": 1})
    assert states(denoise_files(model, [str(source)], settings, report=report)) == ["done"]


def test_a_disk_that_is_full_of_noise_leaves_the_signal_and_is_named(settings, monkeypatch):
    noise = settings.out.with_name("noise")
    whole = writing.MseedWriter.write

    def full(self, stream):
        if str(noise) in str(self.file.name):
            raise OSError(28, "No space left on device")
        whole(self, stream)

    with monkeypatch.context() as patch:
        patch.setattr(writing.MseedWriter, "write", full)
        outcomes = work(replace(settings, noise=noise))
    assert status(outcomes) == 1 and len(samples(settings.out)) == 24 and not samples(noise)
    assert all(str(noise) in reason and "No space" in reason for state, reason in told(outcomes))
    assert states(work(replace(settings, noise=noise))) == ["done"] and len(samples(noise)) == 24


def test_a_folder_that_is_removed_during_a_run_is_told(settings, weights, monkeypatch, capsys):
    whole, seen = doing.Work.commit, []

    def removing(self, *args):
        result = whole(self, *args)
        seen.append(1)
        if len(seen) == 3:
            shutil.rmtree(settings.out)
        return result

    monkeypatch.setattr(doing.Work, "commit", removing)
    args = settings.source, settings.out, "--start", FIRST, "--end", LAST, "--weights", weights, "--workers", 0
    assert run(*args) == 1
    assert capsys.readouterr().out.count("is gone again") == 3


# -- cost


def test_bookkeeping_is_linear(weights, tmp_path, monkeypatch):
    model = CDiffSD.load(weights)
    monkeypatch.setattr(doing, "denoised_pieces", lambda *args, **kwargs: [(Stream(), Stream())])
    one = write(tmp_path / "one", ["XX.STA..HHZ"], seconds=30)
    trace = obspy.read(str(one))[0]
    for i in range(400):
        trace.stats.starttime = BEGIN + 7200 * i
        trace.write(str(tmp_path / f"{i:03d}"), format="MSEED")
    before = time.process_time()
    outcomes = denoise(model, [tmp_path / f"{i:03d}" for i in range(400)], tmp_path / "out")
    assert len(outcomes) == 400 and time.process_time() - before < 2.5


def test_empty_files_cost_little(weights, tmp_path, capsys):
    for i in range(1500):
        day = UTCDateTime(2020, 1, 1) + 86400 * (i // 10)
        path = tmp_path / "in" / f"{day.year}/XX/S{i % 10}/HHZ.D/XX.S{i % 10}..HHZ.D.{day.year}.{day.julday:03d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    before = time.process_time()
    args = tmp_path / "in", tmp_path / "out", "--start", "2020-01-01", "--end", "2021-12-31"
    assert run(*args, "--weights", weights, "--workers", 0) == 2
    assert "1500 failed" in capsys.readouterr().out and time.process_time() - before < 3
