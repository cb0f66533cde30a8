"""Files are read in part, despite damage, and no header is believed against reason."""

import hashlib
import io
import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obspy import Stream, Trace, UTCDateTime

from seisbench_cdiffsd.files.reading import DAMAGED_RECORDS, ReadError, Source, contents, index, state

START = UTCDateTime(2020, 1, 1)


def stream(seconds=600, rate=20, components="ZNE", seed=0, start=START, **header):
    generator = np.random.default_rng(seed)
    header = {"network": "XX", "station": "STA", "sampling_rate": rate, "starttime": start, **header}
    samples = int(seconds * rate)
    return Stream(
        Trace((1000 * generator.standard_normal(samples)).astype(np.int32), {**header, "channel": f"HH{c}"})
        for c in components
    )


def write(path, data, **kwargs):
    data.write(str(path), format="MSEED", **{"encoding": "STEIM2", "reclen": 512, **kwargs})
    return path


def test_any_stretch_of_a_long_file_is_read_by_itself(tmp_path):
    data = stream(seconds=2000)
    parts = index(write(tmp_path / "a.mseed", data), block=4096)
    assert len(parts) > 20
    source = Source(parts, [trace.id for trace in data])
    for first, last in ((0, 3000), (500.02, 731.77), (1999, 2500)):
        found = source.read(START + first, START + last).merge()
        for trace in data:
            expected = trace.slice(START + first, START + last)
            np.testing.assert_array_equal(found.select(id=trace.id)[0].data, expected.data)
    assert not source.problems
    assert not source.read(START + 3000, START + 4000)


@given(content=st.binary(max_size=2000))
@settings(max_examples=100)
def test_bytes_that_are_not_a_seismogram_are_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "a"
    path.write_bytes(content)
    with pytest.raises(ReadError) as error:
        index(path)
    assert "\n" not in str(error.value)


def test_a_pickle_is_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "a.mseed").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ReadError, match="cannot be read"):
        index(tmp_path / "a.mseed")
    assert not (tmp_path / "sprung").exists()


# -- headers that are wrong


def damage(path, record, at, content, length=512):
    """Overwrite bytes of a record."""
    data = bytearray(path.read_bytes())
    for number in [record] if isinstance(record, int) else record:
        data[length * number + at : length * number + at + len(content)] = content
    path.write_bytes(data)


def read_all(path, **kwargs):
    """Everything in a file, and what is wrong with it."""
    parts = index(path, **kwargs)
    source = Source(parts, {span.id for part in parts for span in part.spans})
    found = source.read(START - 1e9, START + 1e9)
    return parts, found, source.problems.get(path, "")


WRONG = {
    "header": (0, b"\xff" * 20, DAMAGED_RECORDS),
    "samples": (128, np.random.default_rng(0).bytes(72), DAMAGED_RECORDS),
    "zeros": (0, bytes(512), DAMAGED_RECORDS),
    "year": (20, bytes.fromhex("6ce8"), DAMAGED_RECORDS),
    "day": (22, bytes.fromhex("0fff"), DAMAGED_RECORDS),
    "second": (26, b"\x50", DAMAGED_RECORDS),
    "count of samples": (30, b"\xff\xff", DAMAGED_RECORDS),
    "start of samples": (44, b"\xff\xff", DAMAGED_RECORDS),
    "length of record": (54, b"\x0f", DAMAGED_RECORDS),
    "slow": (32, bytes.fromhex("fc18fc18"), "XX.STA..HHZ: samples at 1e-06 Hz were left out"),
    "slower": (32, bytes.fromhex("80018001"), "XX.STA..HHZ: samples at 9.31379e-10 Hz were left out"),
    "rather slow": (32, bytes.fromhex("ff9c0001"), "XX.STA..HHZ: samples at 0.01 Hz beside 20 Hz were left out"),
    "fast": (32, bytes.fromhex("7fff7fff"), "XX.STA..HHZ: samples at 1.07368e+09 Hz were left out"),
    "rather fast": (32, bytes.fromhex("03e80014"), "XX.STA..HHZ: samples at 20000 Hz beside 20 Hz were left out"),
    "no rate": (32, bytes(4), "XX.STA..HHZ: samples at 0 Hz were left out"),
}


@pytest.mark.parametrize("kind", [*WRONG, "cut"])
def test_only_damaged_records_are_left_out_and_told(tmp_path, kind):
    at, content, problem = WRONG.get(kind, (0, b"", DAMAGED_RECORDS))
    data = stream(seconds=500, components="Z")
    path = write(tmp_path / "a", data)
    count = path.stat().st_size // 512
    damage(path, 5, at, content)
    path.write_bytes(path.read_bytes()[: -200 if kind == "cut" else None])
    for block in (4096, 2**24):
        parts, found, told = read_all(path, block=block)
        assert told == problem
        assert all(span.start >= START and span.end <= START + 500 for part in parts for span in part.spans)
        assert len(data[0]) * (1 - 2 / count) < sum(map(len, found)) < len(data[0])
        for trace in found:
            expected = data[0].slice(trace.stats.starttime, trace.stats.endtime)
            np.testing.assert_array_equal(trace.data, expected.data)


def test_a_rate_that_differs_from_the_rest_of_its_file_is_read_and_told(tmp_path):
    path = write(tmp_path / "a", stream(seconds=500, components="ZN", rate=100))
    damage(path, 5, 32, bytes.fromhex("00780001"))
    _, found, told = read_all(path, block=4096)
    assert told == "XX.STA..HHZ: samples at 120 Hz beside 100 Hz"
    assert {trace.stats.sampling_rate for trace in found} == {100, 120}
    other = Source(index(path), ["XX.STA..HHN"])
    assert other.read(START, START + 1000) and not other.problems


def test_rates_that_waver_are_one_rate(tmp_path):
    data = Stream()
    for i, rate in enumerate([99.99994, 99.99996, 100.0, 100.00004] * 3):
        data += stream(seconds=20, components="Z", rate=rate, start=START + 20 * i)
    path = tmp_path / "a"
    path.write_bytes(b"".join(write(tmp_path / "b", Stream([trace])).read_bytes() for trace in data))
    parts, found, told = read_all(path)
    assert not told and sum(map(len, found)) == sum(map(len, data))
    assert [(span.start, span.samples) for part in parts for span in part.spans] == [(START, sum(map(len, data)))]


def test_a_file_of_nothing_believable_is_one_line(tmp_path):
    path = write(tmp_path / "a", stream(seconds=60, components="Z"))
    count = path.stat().st_size // 512
    damage(path, range(count), 32, bytes(4))
    with pytest.raises(ReadError, match=r"^contains no samples; XX.STA..HHZ: samples at 0 Hz were left out\.$"):
        index(path)
    damage(path, range(count), 20, bytes.fromhex("6ce8"))
    with pytest.raises(ReadError) as error:
        index(path)
    assert "\n" not in str(error.value)


def test_slow_samples_of_a_channel_are_passed_over_beside_a_file_of_good_ones(tmp_path):
    good = write(tmp_path / "good", stream(seconds=60, components="Z"))
    slow = write(tmp_path / "slow", stream(seconds=4e6, rate=1e-3, components="Z"))
    parts = [*index(slow), *index(good)]
    source = Source(parts, ["XX.STA..HHZ"], least=2.0)
    assert [(span.start, span.end) for span in source.spans] == [(START, START + 59.95)]
    assert source.problems == {slow: "XX.STA..HHZ: samples at 0.001 Hz were left out"}
    assert [trace.stats.sampling_rate for trace in source.read(START, START + 1e9)] == [20]


def test_text_is_no_problem(tmp_path):
    log = Trace(np.frombuffer(b"hello there" * 40, "S1"), {"network": "XX", "station": "STA", "channel": "LOG"})
    log.stats.update({"sampling_rate": 0.0, "starttime": START})
    path = write(tmp_path / "a", stream(seconds=60, components="Z"))
    Stream([log]).write(str(tmp_path / "log"), format="MSEED", encoding="ASCII", reclen=512)
    path.write_bytes(path.read_bytes() + (tmp_path / "log").read_bytes())
    parts, found, told = read_all(path)
    assert not told and {span.id for span in parts[0].spans} == {"XX.STA..HHZ"}
    assert {trace.id for trace in found} == {"XX.STA..HHZ"}


@pytest.mark.parametrize(("time", "year"), [(1e30, "3.169e"), (1e10, "2287"), (1e11, "5139")])
def test_a_time_beyond_all_years_is_one_line(tmp_path, time, year):
    Trace(np.zeros(100, np.float32)).write(str(tmp_path / "a.sac"), format="SAC")
    content = bytearray((tmp_path / "a.sac").read_bytes())
    content[20:24] = np.array([time], "<f4").tobytes()
    (tmp_path / "a.sac").write_bytes(content)
    with pytest.raises(ReadError, match=f"samples of the years {year}.* were left out") as error:
        index(tmp_path / "a.sac")
    assert "\n" not in str(error.value)


def test_more_samples_than_bytes_can_hold_are_not_believed(tmp_path):
    Trace(np.arange(1000, dtype="i4"), {"channel": "HHZ"}).write(str(tmp_path / "a.gse"), format="GSE2")
    content = (tmp_path / "a.gse").read_bytes()
    (tmp_path / "a.gse").write_bytes(content.replace(b"    1000 ", b"90000000 ", 1))
    tracemalloc.start()
    try:
        assert max(span.samples for span in index(tmp_path / "a.gse")[0].spans) < 10_000
    except ReadError as error:
        assert "\n" not in str(error)
    assert tracemalloc.get_traced_memory()[1] < 2**30
    tracemalloc.stop()


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/zero")):
        for call in (index, contents):
            with pytest.raises(ReadError, match="is a pipe or a device"):
                call(path)
    path = write(tmp_path / "a", stream(seconds=60, components="Z"))
    source = Source(index(path), ["XX.STA..HHZ"])
    path.unlink()
    os.mkfifo(path)  # since it was indexed
    assert not source.read(START, START + 60) and "pipe" in source.problems[path]
    assert state(path)[1] == 0
    for wrong, message in ((tmp_path, "folder"), (tmp_path / "none", "no such"), (path / "below", "no such")):
        with pytest.raises(ReadError, match=message):
            index(wrong)


def test_headers_of_volumes_and_blank_records_are_no_damage(tmp_path):
    data = stream(seconds=200, components="Z")
    records = write(tmp_path / "a", data).read_bytes()
    volume = b"000001V " + b"0100087 02.4" + b" " * 492, b"000002S*" + b"X" * 1528
    blank = b"000003" + b" " * 506
    path = tmp_path / "b"
    path.write_bytes(b"".join(volume) + records[:2048] + blank + records[2048:])
    _, found, told = read_all(path)
    assert not told
    np.testing.assert_array_equal(found.merge()[0].data, data[0].data)


def test_records_of_all_lengths_orders_and_without_blockettes(tmp_path):
    data = stream(seconds=900, components="Z")
    pieces = []
    for i, (length, order) in enumerate([(512, ">"), (4096, "<"), (256, ">"), (8192, ">"), (512, "<"), (256, ">")]):
        memory = io.BytesIO()
        part = data.slice(START + 150 * i, START + 150 * i + 149.95)
        part.write(memory, format="MSEED", reclen=length, byteorder=order, encoding="INT32")
        pieces.append(memory.getvalue())
    bare = bytearray(pieces[4])
    for first in range(0, len(bare), 512):
        bare[first + 39], bare[first + 46 : first + 48] = 0, bytes(2)
    path = tmp_path / "a"
    path.write_bytes(b"".join(pieces))
    for block in (1024, 2**24):
        parts, found, told = read_all(path, block=block)
        assert not told and (block > 2**20 or len(parts) > 20)
        np.testing.assert_array_equal(found.merge()[0].data, data[0].data)


def test_contents_are_compared_where_size_and_time_are_the_same(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    before, times = state(path), path.stat()
    assert contents(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert state(path) == before and contents(path) == hashlib.sha256(b"two").hexdigest()
