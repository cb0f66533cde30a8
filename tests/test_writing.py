"""Files are written completely or not at all, and samples, ids and rates survive miniSEED."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import obspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_reading import START, stream

from seisbench_cdiffsd.files.writing import MseedWriter, Unwritable, replacing


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    (tmp_path / "a.mseed").write_text("old")

    def fail(path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), replacing(tmp_path / "a.mseed") as path:
        fail(path)
    assert [x.name for x in tmp_path.iterdir()] == ["a.mseed"]
    assert (tmp_path / "a.mseed").read_text() == "old"


def test_two_runs_may_write_the_same_file(tmp_path):
    with replacing(tmp_path / "a.mseed") as one:
        with replacing(tmp_path / "a.mseed") as other:
            other.write_text("other")
        assert (tmp_path / "a.mseed").read_text() == "other"
        one.write_text("one")
    assert (tmp_path / "a.mseed").read_text() == "one"
    assert [x.name for x in tmp_path.iterdir()] == ["a.mseed"]


def test_many_runs_at_once_take_nothing_from_each_other(tmp_path):
    def work(number):
        for _ in range(100):
            with replacing(tmp_path / "a.json") as path:
                path.write_text(str(number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert [x.name for x in tmp_path.iterdir()] == ["a.json"]


def test_what_a_killed_run_left_is_removed(tmp_path):
    (tmp_path / ".a[1].0123abcd.part.mseed").touch()
    (tmp_path / ".b.0123abcd.part.mseed").touch()
    (tmp_path / ".a[1].noise.0123abcd.part.mseed").touch()
    with replacing(tmp_path / "a[1].mseed") as path:
        path.touch()
    assert sorted(x.name for x in tmp_path.iterdir()) == [
        ".a[1].noise.0123abcd.part.mseed",
        ".b.0123abcd.part.mseed",
        "a[1].mseed",
    ]


def test_ids_gaps_and_samples_survive():
    data = stream(seconds=10)
    for trace in data:
        trace.data = np.ma.masked_array(trace.data / 7, np.arange(200) // 20 == 3)
    data[0].stats.location = "10"
    file = io.BytesIO()
    writer = MseedWriter(file)
    writer.write(data)
    back = obspy.read(io.BytesIO(file.getvalue()))
    assert [t.id for t in back.select(channel="HHZ")] == ["XX.STA.10.HHZ"] * 2
    for trace in back:
        expected = data.select(id=trace.id).slice(trace.stats.starttime, trace.stats.endtime)[0].data
        np.testing.assert_array_equal(trace.data, expected.astype(np.float32))
    assert "float32, largest rounding error" in writer.loss and not writer.cut


def test_codes_that_do_not_fit_are_reported():
    data = stream(seconds=1, components="Z", station="LONGNAME")
    writer = MseedWriter(io.BytesIO())
    writer.write(data)
    assert writer.cut == {"XX.LONGNAME..HHZ"}


@given(exponent=st.integers(-3, 12), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_integers_are_right_or_refused(exponent, seed):
    data = stream(seconds=5, components="Z", seed=seed)
    data[0].data = data[0].data * 1e-3
    file, scale = io.BytesIO(), 10.0**exponent
    writer = MseedWriter(file, "int32", scale)
    try:
        writer.write(data)
    except Unwritable:
        assert np.abs(np.rint(data[0].data * scale)).max() >= 2**28
        return
    back = obspy.read(io.BytesIO(file.getvalue()))[0].data / scale
    assert np.abs(back - data[0].data).max() <= 0.5 / scale * (1 + 1e-6)
    assert writer.largest_error <= 0.5 / scale * (1 + 1e-6)


@pytest.mark.parametrize(("largest", "fits"), [(2**28 - 1, True), (2**28, False)])
def test_the_largest_integers_that_fit_may_be_neighbours(largest, fits):
    data, file = stream(seconds=5, components="Z"), io.BytesIO()
    data[0].data = largest * np.resize([-1.0, 1.0], len(data[0]))
    if not fits:
        with pytest.raises(Unwritable, match="--scale"):
            MseedWriter(file, "int32").write(data)
        return
    MseedWriter(file, "int32").write(data)
    np.testing.assert_array_equal(obspy.read(io.BytesIO(file.getvalue()))[0].data, data[0].data)


def test_integers_that_hold_nothing_but_zeros_are_refused_at_the_end():
    data = stream(seconds=5, components="ZN")
    data[0].data = data[0].data * 1e-9  # a channel in physical units
    data[1].data[:] = 0  # a dead one
    writer = MseedWriter(io.BytesIO(), "int32")
    writer.write(data.slice(endtime=START + 2))
    with pytest.raises(Unwritable, match=r"XX.STA..HHZ, up to \S+, are zeros: choose a larger --scale"):
        writer.check()
    scaled = MseedWriter(io.BytesIO(), "int32", 1e9)
    scaled.write(data)
    scaled.check()
