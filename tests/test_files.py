"""Single files: records in pieces, reruns, and whatever is odd is told and takes nothing else down."""

import io
import json
import multiprocessing
import resource
import shutil
import signal
import time
import tracemalloc
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import obspy
import pytest
import seisbench.models as sbm
from archives import states, until
from conftest import randomised
from hypothesis import given
from hypothesis import strategies as st
from obspy import Stream, Trace
from test_reading import START, damage, stream, write

from seisbench_cdiffsd import CDiffSD, denoising
from seisbench_cdiffsd.cli import main
from seisbench_cdiffsd.files import extras, jobs, ledger, reading, work
from seisbench_cdiffsd.files.jobs import Settings, file_name
from seisbench_cdiffsd.files.ledger import status
from seisbench_cdiffsd.files.picks import COLUMNS
from seisbench_cdiffsd.files.reading import Source, between, index
from seisbench_cdiffsd.files.work import denoise_files, denoised_pieces
from seisbench_cdiffsd.streams.components import assign

STEM = "XX.STA..HH.20200101T000000"
BAND = {"freqmin": 1.0, "freqmax": 9.0, "corners": 4, "zerophase": True}
SMALL = {"sampling_rate": 20, "in_samples": 200, "filter_args": ("bandpass",), "filter_kwargs": BAND}


@pytest.fixture(scope="module")
def small():
    """A model with a short window, at a low rate, with random parameters."""
    return randomised(CDiffSD(**SMALL, default_args={"steps": 1}))


@pytest.fixture
def run(small, tmp_path):
    """Outcomes of denoising files."""

    def run(*inputs, picker=None, report=lambda line: None, noise=False, out=tmp_path / "out", **kwargs):
        wanted = Settings.of(small, out=out, noise=out if noise else None, **kwargs)
        return list(denoise_files(small, map(str, inputs), wanted, picker, report))

    return run


def deaf():
    """A picker that never picks."""
    return sbm.PhaseNet(default_args={"P_threshold": 2, "S_threshold": 2})


def channels(path, ids, rate=20.0, seconds=60, format="MSEED"):
    """A file of noise on some channels."""
    data = stream(seconds, rate, components="Z" * len(ids))
    for trace, name in zip(data, ids, strict=True):
        trace.id = name
    data.write(str(path), format=format)
    return path


def told(outcomes):
    return [(outcome.state, outcome.reason) for outcome in outcomes if outcome.reason]


def content(folder):
    return {x.name: x.read_bytes() for x in folder.iterdir() if x.suffix in (".mseed", ".csv", ".xml")}


@contextmanager
def full_disk(size):
    """No file can be larger."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


# -- pieces


@given(start=st.floats(0, 50), seconds=st.floats(0, 50), rate=st.sampled_from([20, 99.999, 100, 100.02, 62.5]))
def test_neighbouring_stretches_share_no_sample_lack_none_and_keep_the_rate(start, seconds, rate):
    trace = Trace(np.arange(int(60 * rate)), {"sampling_rate": rate, "starttime": START + 0.0031})
    edges = [START - 1, START + start, START + start + seconds, START + 100]
    parts = [between(trace, *edges[i : i + 2]) for i in range(3)]
    np.testing.assert_array_equal(np.concatenate([part.data for part in parts]), trace.data)
    assert {part.stats.sampling_rate for part in parts} == {rate}


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
    same = CDiffSD()
    same.denoise = lambda stream, return_noise: (stream, stream)
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


@pytest.mark.parametrize("kind", [None, "lowpass"])
def test_without_a_lower_corner_samples_far_away_matter_so_pieces_are_refused(kind, tmp_path, capsys):
    options = {"filter_args": kind and (kind,), "filter_kwargs": kind and {"freq": 9.0, "zerophase": True}}
    CDiffSD(sampling_rate=20, in_samples=200, **options).save(tmp_path / "model")
    path = write(tmp_path / "a.mseed", stream(seconds=60))
    dates = ["--start", "2020-01-01", "--end", "2020-01-01"]
    for command in (["denoise", path, "--out", tmp_path / "out"], ["archive", tmp_path, tmp_path / "out", *dates]):
        assert main([str(x) for x in (*command, "--weights", tmp_path / "model")]) == 2
        error = capsys.readouterr().err
        assert "bandpass or highpass" in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("out/*.mseed"))


def test_the_memory_does_not_grow_with_the_record(small, tmp_path):
    unit = 900

    def peak(units):
        path = tmp_path / f"{units}.mseed"
        with path.open("wb") as file:
            for i in range(units):
                data = stream(unit, rate=100, components="Z", start=START + i * unit, seed=i)
                file.write(write(tmp_path / "part", data).read_bytes())
        tracemalloc.start()
        source = Source(index(path, block=2**15), ["XX.STA..HHZ"])
        pieces = denoised_pieces(small, source.read, START, START + units * unit, piece=300, overlap=0)
        samples = sum(trace.stats.npts for signal, _ in pieces for trace in signal)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert samples == units * unit * 100
        return most

    assert peak(3) < 1.1 * peak(1)


# -- records


def test_several_earthquakes_are_records_of_their_own(run, tmp_path):
    times = [START + 100, START + 3 * 3600, START + 10 * 86400 + 5]
    near, lines = stream(seconds=60, start=START + 300), []
    inputs = [write(tmp_path / f"{i}.mseed", stream(seconds=60, start=time)) for i, time in enumerate(times)]
    inputs += [write(tmp_path / "near.mseed", near)]
    one = write(tmp_path / "one.mseed", sum((obspy.read(str(path)) for path in inputs), Stream()))
    stems = [f"XX.STA..HH.{time.strftime('%Y%m%dT%H%M%S')}.denoised" for time in times]
    for name, files in (("several", inputs), ("one", [one])):
        out = tmp_path / name
        assert [o.state for o in run(*files, out=out, report=lines.append)] == ["done"] * 3
        assert sorted(x.stem for x in out.glob("*.mseed")) == stems
        assert states(run(*files, out=out)) == ["complete"]
    expected = [f"XX.STA..HH*  {time.strftime('%Y-%m-%d %H:%M:%S')}" for time in times]
    assert [line for line in lines if line.startswith("XX")] == 2 * expected


def test_long_records_become_day_files(small, run, tmp_path):
    # from noon on, a little now and then, as gaps of less than an hour do not end a record
    bits = [START + seconds for seconds in range(43200, 2 * 86400 + 3600, 3000)]
    data = sum((stream(seconds=60, components="Z", start=time, seed=i) for i, time in enumerate(bits)), Stream())
    assert [o.state for o in run(write(tmp_path / "a.mseed", data), noise=True)] == ["done"] * 3
    stems = [f"XX.STA..HH.{day}" for day in ("20200101T120000", "20200102T000000", "20200103T000000")]
    names = sorted(content(tmp_path / "out"))
    assert names == sorted(f"{stem}.{kind}.mseed" for stem in stems for kind in ("denoised", "noise"))
    parts = [obspy.read(str(tmp_path / "out" / f"{stem}.denoised.mseed")) for stem in stems]
    whole = small.denoise(data).split()
    assert sum(trace.stats.npts for part in parts for trace in part) == sum(trace.stats.npts for trace in whole)
    for trace in sum(parts, Stream()):
        (other,) = whole.slice(trace.stats.starttime, trace.stats.endtime)
        np.testing.assert_allclose(trace.data, other.data, atol=1e-3)


def test_what_is_too_slow_is_skipped_and_a_file_of_nothing_else_fails(run, tmp_path):
    slow = stream(seconds=7200, rate=0.1)
    for trace in slow:
        trace.stats.channel = "VM" + trace.stats.channel[-1]
    both, alone = write(tmp_path / "a", stream(seconds=60) + slow), write(tmp_path / "b", slow)
    outcomes = run(both)
    assert [o.state for o in outcomes] == 3 * ["skipped"] + ["done"]
    why = "not one of the components Z, N, E, 1, 2 at more than 2 Hz; it has 0.1 Hz"
    assert [(o.name, o.reason) for o in outcomes if o.reason] == [(f"XX.STA..VM{c}", why) for c in "ENZ"]
    (failed,) = run(alone)
    assert failed.state == "failed" and failed.reason.endswith("what is slower has nothing in the band of the weights")
    (failed,) = run(channels(tmp_path / "bare.sac", ["XX.STA.."], format="SAC"))
    assert "XX.STA.. at 20 Hz: give the channels codes, such as HHZ" in failed.reason
    same = write(tmp_path / "c", stream(seconds=7200, rate=0.1, start=START + 1e6))  # of channels that are fast in a
    outcomes = run(both, same)
    assert [(o.name, o.state) for o in outcomes if "HHZ at 0.1 Hz" in o.reason] == [(str(same), "failed")]
    assert status(outcomes) == 1


def test_channels_that_are_broken_or_silent_are_named(run, tmp_path):
    data = stream(seconds=60)
    for trace, value in zip(data, (np.nan, 5, 0), strict=True):
        trace.data = trace.data.astype(np.float32)
        trace.data[500 if value else 0 : 540 if np.isnan(value) else None] = value
    data[1].data[:] = 5
    inputs = [write(tmp_path / f"{i}.mseed", data[i::2], encoding="FLOAT32") for i in range(2)]
    left_out = "partly", "NaN, infinite or vast samples of XX.STA..HHZ were left out"
    assert told(run(*inputs)) == [left_out, ("done", "XX.STA..HHE, XX.STA..HHN: constant, became zeros")]
    for value in (np.inf, -3e38):
        (single,) = stream(seconds=60, components="Z")
        single.data = single.data.astype(np.float32)
        single.data[500] = value
        assert told(run(write(tmp_path / "single", Stream([single]), encoding="FLOAT32"))) == [left_out]


def test_odd_rates_are_in_the_table(run, tmp_path):
    odd = stream(seconds=20, components="Z", rate=25, start=START + 1000)
    source = write(tmp_path / "a", stream(seconds=60, components="Z") + odd)
    other = channels(tmp_path / "b", ["XX.STA..HHN"], rate=20.01, format="SAC")
    for state in ("done", "complete"):
        outcomes = run(source, other)
        assert status(outcomes) == 1 and states(outcomes) == sorted([state, "partly"])
        assert [reason.rpartition("HHZ")[2] for _, reason in told(outcomes)] == [
            ": samples at 25 Hz beside 20 Hz",
            " at 25 Hz",
        ]
        assert "apart: XX.STA..HHZ at 20 Hz, XX.STA..HHN at 20.01 Hz, XX.STA..HHZ at 25 Hz" in told(outcomes)[1][1]


@pytest.mark.parametrize("rates", [(25, 20000), (100, 500), (100, 20)])
def test_a_rate_that_the_times_of_records_deny_is_told_and_nothing_else_lost(run, tmp_path, rates):
    path = write(tmp_path / "a", stream(400, rates[0]))
    damage(path, range(path.stat().st_size // 1536), 32, rates[1].to_bytes(2, "big") + b"\0\1")
    outcomes = run(path)
    line = f"XX.STA..HHZ: samples at {rates[1]} Hz, while their times tell {rates[0]} Hz, were left out"
    assert ("partly", line) in told(outcomes) and states(outcomes) == ["done", "partly"]
    assert {trace.id[-1] for trace in obspy.read(str(tmp_path / "out" / "*"))} == {"N", "E"}


@pytest.mark.parametrize("rate", [20.02, 19.98, 100 / 3])
def test_signal_and_noise_are_the_input_and_merge_with_it(run, tmp_path, rate):
    source = channels(tmp_path / "a", ["XX.STA..HHZ"], rate=rate)
    run(source, noise=True)
    given, clean, noise = (obspy.read(str(x)) for x in (source, *sorted((tmp_path / "out").glob("*.mseed"))))
    np.testing.assert_allclose(clean[0].data + noise[0].data, given[0].data, atol=0.01)
    given[0].data = given[0].data.astype(np.float32)  # ObsPy merges no others
    assert len((given + clean + noise).merge(method=1)) == 1


def test_outputs_of_two_locations_are_two(run, tmp_path):
    source = channels(tmp_path / "a", ["XX.STA.00.HHZ", "XX.STA.00.HHN"])
    for location in (None, "D1", "D2"):
        assert states(run(source, location=location)) == ["done"]
    assert sorted(content(tmp_path / "out")) == [
        f"{STEM.replace('..', f'.{x}.')}.denoised.mseed" for x in ("00", "D1", "D2")
    ]


# -- ids


def test_ids_that_would_be_one_are_refused_with_their_names(run, tmp_path):
    stations = "LONGNAME", "LONGNAMF", "STA"
    inputs = [channels(tmp_path / station, [f"XX.{station}..HHZ"], format="SAC") for station in stations]
    reasons = [reason for state, reason in told(run(*inputs)) if state == "failed"]
    assert len(reasons) == 2 and all("XX.LONGNAME..HHZ, XX.LONGNAMF..HHZ" in reason for reason in reasons)
    assert [path.name[:7] for path in (tmp_path / "out").glob("*.mseed")] == ["XX.STA."]
    outcomes = run(channels(tmp_path / "a", ["XX.STA.00.HHZ", "XX.STA.10.HHZ", "XX.STA.00.HHN"]), location="D1")
    assert status(outcomes) == 1 and "XX.STA.00.HHZ, XX.STA.10.HHZ" in told(outcomes)[0][1]


CODES = st.text(st.sampled_from("AZaz019 .-_*\x00\x1b\n/:éΩ"), max_size=8)


@given(ids=st.lists(st.tuples(CODES, CODES, CODES, CODES), min_size=2, max_size=8, unique=True))
def test_ids_are_mapped_one_to_one_or_refused_and_no_two_instruments_have_one_file(ids):
    names = sorted({".".join((*codes[:3], codes[3] + "Z")) for codes in ids})
    assert len({file_name(name, START) for name in names}) == len(names)
    wanted = Settings(out=Path(), model="", least=0, reach=0)
    refused = jobs._clashes(names, assign(names), wanted)
    split = ((name.split(".", 1)[0], *name.split(".", 1)[1].rsplit(".", 2)) for name in names if name not in refused)
    written = [jobs.written_as(codes) for codes in split]
    assert len({*written}) == len(written) and all(reason.isprintable() for reason in refused.values())


def test_what_is_no_component_is_refused_with_ids_and_rates_or_named(small, run, tmp_path):
    kik = channels(tmp_path / "kik", [f"BO.AAA..{code}{i}" for code in ("NS", "EW", "UD") for i in (1, 2)])
    (outcome,) = run(kik)
    assert outcome.state == "failed" and "--components UD=Z NS=N EW=E" in outcome.reason
    assert "BO.AAA..EW1 at 20 Hz" in outcome.reason
    assert states(run(kik, components={"UD": "Z", "NS": "N", "EW": "E"})) == ["done"]
    found = obspy.read(str(tmp_path / "out" / "*.mseed"))
    assert len(content(tmp_path / "out")) == 2 and {x.id for x in found} == {x.id for x in obspy.read(str(kik))}
    plain = obspy.read(str(kik)).select(channel="*1")
    for trace, code in zip(plain, ("HHN", "HHE", "HHZ"), strict=True):
        trace.stats.channel = code
    for trace, code in zip(small.denoise(plain), ("NS1", "EW1", "UD1"), strict=True):
        np.testing.assert_allclose(found.select(channel=code)[0].data, trace.data, rtol=1e-4, atol=1e-2)
    ids = ["XX.GEO..HHZ", "XX.GEO..LDO", *(f"XX.GEO..DP{i}" for i in (1, 2, 3))]
    outcomes = run(channels(tmp_path / "mixed", ids))
    assert [x.state for x in outcomes] == [*3 * ["partly"], "skipped", "done"] and "20 Hz" in outcomes[0].reason


# -- reruns


def test_damage_is_reported_again_but_what_is_done_is_not_repeated(run, tmp_path):
    paths = [write(tmp_path / f"{i}.mseed", stream(start=START + i * 86400, components="Z")) for i in range(2)]
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[: 512 * 5] + bytes(512) + whole[512 * 6 :])
    first = run(*paths)
    assert [(o.state, o.name) for o in first if o.reason] == [("partly", str(paths[0]))]
    written = {x: x.stat().st_mtime_ns for x in (tmp_path / "out").iterdir()}
    again = run(*paths)
    assert told(again) == told(first) and [o.state for o in again if not o.reason] == ["complete"] * 2
    assert {x: x.stat().st_mtime_ns for x in (tmp_path / "out").iterdir()} == written
    paths[0].write_bytes(whole)
    assert sorted(o.state for o in run(*paths)) == ["complete", "done"]
    cut = max(written, key=str)
    whole = cut.read_bytes()
    cut.write_bytes(whole[:-512])
    assert states(run(*paths)) == ["complete", "done"] and cut.read_bytes() == whole


def test_what_may_be_read_another_time_is_tried_again(run, tmp_path, monkeypatch):
    paths = [write(tmp_path / f"{c}.mseed", stream(components=c)) for c in "ZN"]
    read = reading.Block.read

    def offline(block, *times):  # as a network drive is now and then
        if block.path == paths[1]:
            raise reading.Unavailable("no such file.")
        return read(block, *times)

    with monkeypatch.context() as patch:
        patch.setattr(reading.Block, "read", offline)
        assert [o.state for o in run(*paths)] == ["partly", "done"]
    assert [o.state for o in run(*paths)] == ["done"]


def test_a_file_that_grows_after_the_command_began_is_finished_by_the_next(small, run, tmp_path):
    first, growing = (channels(tmp_path / x, [f"XX.{x}..HHZ"]) for x in "AB")
    more = stream(60, components="Z", start=START + 60, station="B")
    outcomes = denoise_files(small, [str(first), str(growing)], Settings.of(small, out=tmp_path / "out"))
    assert next(outcomes).state == "done"
    growing.write_bytes(growing.read_bytes() + write(tmp_path / "c", more).read_bytes())
    (outcome,) = outcomes
    assert outcome.state == "failed" and "B changed while it was read" in outcome.reason
    assert len(content(tmp_path / "out")) == 1
    assert states(run(first, growing)) == ["complete", "done"]
    assert len(obspy.read(str(tmp_path / "out" / "XX.B.*.mseed"))[0]) == 2400


def test_runs_are_equal_to_the_byte_and_a_full_disk_leaves_no_half_file(run, tmp_path):
    source = write(tmp_path / "a.mseed", stream() + stream(station="OTHER", seed=1))
    run(source, out=tmp_path / "one", noise=True)
    expected = content(tmp_path / "one")
    assert len(expected) == 4
    with full_disk(60_000), pytest.raises(OSError, match="large"):  # in the middle of a file
        run(source, out=tmp_path / "two", noise=True)
    assert not content(tmp_path / "two")
    run(source, out=tmp_path / "two", noise=True)
    assert content(tmp_path / "two") == expected


def test_a_killed_run_continues(run, tmp_path):
    stations = [f"S{i}" for i in range(4)]
    inputs = [write(tmp_path / f"{s}.mseed", stream(1200, station=s, seed=i)) for i, s in enumerate(stations)]
    run(*inputs, out=tmp_path / "one")
    process = multiprocessing.get_context("fork").Process(target=run, args=inputs, kwargs={"out": tmp_path / "two"})
    process.start()
    until(lambda: [*(tmp_path / "two").glob("*S1*.mseed")])
    process.kill()
    process.join()
    complete = {name: data for name, data in content(tmp_path / "two").items() if not name.startswith(".")}
    expected = content(tmp_path / "one")
    assert process.exitcode == -signal.SIGKILL and 0 < len(complete) < 4
    assert all(expected[name] == data for name, data in complete.items())
    assert states(run(*inputs, out=tmp_path / "two")) == ["complete", "done"]
    assert content(tmp_path / "two") == expected


def test_a_run_that_dies_while_it_replaces_is_not_taken_for_the_one_before(run, tmp_path, monkeypatch):
    source = write(tmp_path / "a", stream(seconds=60))

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    assert states(run(source, options={"steps": 1})) == ["done"]
    with monkeypatch.context() as patch:
        patch.setattr(extras, "plot_denoised", killed)  # the samples are written, and of the same size
        with pytest.raises(KeyboardInterrupt):
            run(source, figures=True, options={"steps": 2})
    assert states(run(source, options={"steps": 1})) == ["done"]


@pytest.mark.parametrize("module", ["streams/gaps.py", "cdiffsd.py", "files/reading.py"])
def test_what_was_made_by_other_code_is_not_done(run, tmp_path, monkeypatch, module):
    source = write(tmp_path / "a.mseed", stream(seconds=60))
    code = shutil.copytree(Path(denoising.__file__).parent, tmp_path / "code", ignore=shutil.ignore_patterns("*.pyc"))

    def now():
        jobs._code.cache_clear()
        return states(run(source))

    assert now() == ["done"]
    monkeypatch.setattr(denoising, "__file__", str(code / "denoising.py"))
    monkeypatch.setattr(jobs, "__file__", str(code / "files" / "jobs.py"))
    assert now() == ["complete"]
    for path, expected in ((code / module, "done"), (code / "metrics.py", "complete")):
        path.write_text(path.read_text().replace("1", "2"))
        assert now() == [expected]
    jobs._code.cache_clear()  # or later tests would know this code


def test_nothing_of_a_former_input_or_of_former_options_stays_beside_what_replaces_it(run, tmp_path):
    source, out = tmp_path / "a", tmp_path / "out"

    def done(data, picker=None, **kwargs):
        lines = []
        outcomes = run(write(source, data), picker=picker, report=lines.append, **kwargs)
        assert [o.state for o in outcomes if o.state != "removed"] == ["done"]
        lines += [o.reason for o in outcomes if o.state == "removed"]
        made = sorted(x.name.removeprefix(f"{STEM}.") for x in out.iterdir() if x.name != ".cdiffsd")
        return made, [line for line in lines if "replace" in line or "no longer" in line]

    made, said = done(stream(seconds=60), deaf(), noise=True, picks=True, figures=True)
    assert made == ["denoised.mseed", "noise.mseed", "picks.csv", "picks.xml", "png"] and not said
    before = (out / f"{STEM}.denoised.mseed").read_bytes()
    (out / f"{STEM}.mine").touch()
    made, (_, said) = done(stream(seconds=120))
    assert made == ["denoised.mseed", "mine"] and (out / f"{STEM}.denoised.mseed").read_bytes() != before
    assert said.startswith(f"{STEM}.noise.mseed, {STEM}.picks.csv, {STEM}.picks.xml, {STEM}.png, which is no longer")
    made, (said,) = done(stream(seconds=120), options={"steps": 2})
    assert made == ["denoised.mseed", "mine"] and "replaces" in said


# -- no input is overwritten or removed; a ledger is a claim


@pytest.mark.parametrize("how", ["itself", "symlink_to", "hardlink_to", "folder", "ledger"])
def test_no_input_of_a_command_is_replaced_by_an_output(run, tmp_path, how):
    source, out, name = channels(tmp_path / "a", ["XX.STA..HHZ"]), tmp_path / "out", f"{STEM}.denoised.mseed"
    out.mkdir()
    other = tmp_path / "other"
    if how == "folder":
        out.rmdir()
        (tmp_path / "real").mkdir()
        out.symlink_to(tmp_path / "real")
        other = out / name
    elif how == "ledger":
        (out / ledger.FOLDER).symlink_to(tmp_path)
        other = tmp_path / f"{STEM}.json"
    elif how == "itself":
        source = other = source.rename(out / name)
    if other != source:
        channels(other, ["XX.OTHER..HHZ"])
    if "link" in how:
        getattr(out / name, how)(other)
    before = [source.read_bytes(), other.read_bytes()]
    outcomes = run(*([source] if how == "ledger" else [source, other]))
    assert [x.state for x in outcomes if "STA" in x.name] == ["failed"] and "its own input" in told(outcomes)[0][1]
    assert [source.read_bytes(), other.read_bytes()] == before and (out / name).exists() == (how != "ledger")


def test_a_record_of_outputs_leads_to_no_other_file_and_to_no_input(run, tmp_path):
    out = tmp_path / "out"
    run(write(tmp_path / "a", stream(seconds=60)), noise=True)
    (out / f"{STEM}.dir").mkdir()
    others = [tmp_path / f"{STEM}.precious", out / f"{STEM}.dir" / "a", out / "XX.STA"]
    for path in others:
        path.touch()
    path = ledger.entry_path(out, STEM)
    entry = json.loads(path.read_text())
    names = f"../{STEM}.precious", str(others[0]), f"{STEM}.dir/a", f"{STEM}.dir", "XX.STA", "\x00"
    claim = {"size": 0, "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
    entry["files"]["outputs"] |= dict.fromkeys(names, claim)
    path.write_text(json.dumps(entry))
    noise = (out / f"{STEM}.noise.mseed").read_bytes()
    run(out / f"{STEM}.noise.mseed")
    assert all(path.is_file() for path in others) and (out / f"{STEM}.noise.mseed").read_bytes() == noise


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
KNOWN = {"size": 1, "sha256": "", "ratio": 3.0, "loss": "x"}
TEXTS = {name: "" for name in ("key", "model", "skipped")}
ENTRY = {
    **TEXTS,
    "made": True,
    "folders": {"noise": "."},
    "notes": [],
    "inputs": {"a": ""},
    "problems": {},
    "files": {"outputs": {"a": KNOWN}},
}


@given(part=st.sampled_from(sorted(ENTRY)), value=nested)
def test_an_entry_is_as_it_should_be_or_none(tmp_path_factory, part, value):
    path = tmp_path_factory.mktemp("ledger") / "a.json"
    ledger.write(path, ledger.Entry(**ENTRY))
    assert ledger.read(path) == ledger.Entry(**ENTRY)
    for changed in ({**ENTRY, part: value}, {**ENTRY, "files": {"outputs": {"a": {**KNOWN, "size": value}}}}):
        path.write_text(json.dumps(changed))
        read = ledger.read(path)
        assert not read or (read == ledger.Entry(**changed) and all(type(changed[x]) is type(ENTRY[x]) for x in ENTRY))


# -- picks, figures and other company


def test_records_without_picks_get_an_empty_table_and_the_next_one_is_done(run, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "denoised_pieces", partial(denoised_pieces, piece=600))
    long = stream(seconds=900, rate=4, components="Z", start=START + 7 * 3600)  # two pieces
    inputs = [write(tmp_path / "a.mseed", stream(seconds=60)), write(tmp_path / "b.mseed", long)]
    assert [o.state for o in run(*inputs, picker=deaf(), picks=True)] == ["done"] * 2
    tables, catalogs = (sorted((tmp_path / "out").glob(f"*.picks.{suffix}")) for suffix in ("csv", "xml"))
    assert [path.read_text() for path in tables] == [",".join(COLUMNS) + "\n"] * 2
    assert [len(obspy.read_events(str(path))[0].picks) for path in catalogs] == [0, 0]


def test_records_are_done_again_when_there_is_a_picker_at_last(run, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "SHORT", 100.0)
    long = stream(seconds=200, rate=4, components="Z", station="LONG")
    inputs = [write(tmp_path / name, data) for name, data in (("a", stream(seconds=60)), ("b", long))]

    def found(**kwargs):
        return {o.name[3:6]: (o.state, o.reason) for o in run(*inputs, picker=deaf(), **kwargs)}

    assert found() == {"STA": ("done", ""), "LON": ("done", "")}
    assert found(figures=True) == {"STA": ("done", ""), "LON": ("done", "")}
    assert found(picks=True, figures=True) == {"STA": ("done", ""), "LON": ("done", "")}
    assert found(picks=True) == found() == {"STA": ("complete", ""), "LON": ("complete", "")}


@pytest.mark.parametrize("hole", [None, "gap", "NaN"])
def test_a_figure_with_detections_is_drawn_of_records_with_gaps_too(tmp_path, hole):
    model, data = CDiffSD(**SMALL, presence=True), stream(seconds=60)
    if hole == "gap":
        data.cutout(START + 20, START + 22)
    for trace in data:
        trace.data = trace.data.astype(np.float32)
        trace.data[500:520] = np.nan if hole == "NaN" else trace.data[500:520]
    inputs = [str(write(tmp_path / "a", data, encoding="FLOAT32"))]
    outcomes = denoise_files(model, inputs, Settings.of(model, out=tmp_path / "out", figures=True))
    assert not [x for _, x in told(outcomes) if "no figures" in x] and (tmp_path / "out" / f"{STEM}.png").exists()


@pytest.mark.parametrize("what", ["pick_both", "plot_denoised", "write_quakeml"])
def test_extras_that_fail_leave_the_result(run, tmp_path, monkeypatch, what):
    def failing(*args, **kwargs):
        raise RuntimeError("no LaTeX")

    monkeypatch.setattr(extras, what, failing)
    sources = [channels(tmp_path / name, [f"XX.{name}..HHZ"]) for name in ("AAA", "BBB")]
    picker = None if what == "plot_denoised" else deaf()
    outcomes = run(*sources, picker=picker, figures=picker is None, picks=picker is not None)
    assert status(outcomes) == 1 and len(list((tmp_path / "out").glob("*.denoised.mseed"))) == 2
    assert sum("no LaTeX" in reason for _, reason in told(outcomes)) == 2


def test_a_record_that_was_not_picked_says_so(run, tmp_path, monkeypatch):
    monkeypatch.setattr("seisbench_cdiffsd.picking.SLOWEST", 4.0)
    outcomes = run(channels(tmp_path / "a", ["XX.STA..HHZ"], rate=3.0), picker=deaf(), picks=True)
    assert told(outcomes) == [("partly", "XX.STA..HH* was not picked, because it is sampled at 3 Hz")]


def test_a_reader_or_a_console_that_fails_takes_no_other_file_down(run, tmp_path, monkeypatch):
    whole = jobs.index

    def failing(path):
        if "bad" in str(path):
            raise OverflowError("year 27880 is out of range")
        return whole(path)

    def deaf_console(line):
        raise UnicodeEncodeError("ascii", "Ω", 0, 1, "no")

    monkeypatch.setattr(jobs, "index", failing)
    good, bad = (channels(tmp_path / name, ["XX.STA..HHZ"]) for name in ("good", "bad"))
    outcomes = run(bad, good, report=deaf_console)
    assert [(x.name, x.state) for x in outcomes] == [(str(bad), "failed"), (STEM, "done")]


def test_bookkeeping_is_linear(run, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "denoised_pieces", lambda *args, **kwargs: [(Stream(), Stream())])
    (trace,) = stream(seconds=30, components="Z")
    for i in range(400):
        trace.stats.starttime = START + 7200 * i
        trace.write(str(tmp_path / f"{i:03d}"), format="MSEED")
    seconds = []
    for numbers in (range(100), range(100, 400)):
        before = time.process_time()
        assert len(run(*(tmp_path / f"{i:03d}" for i in numbers))) == len(numbers)
        seconds.append(time.process_time() - before)
    assert seconds[1] < 6 * seconds[0], seconds  # three times as many files
