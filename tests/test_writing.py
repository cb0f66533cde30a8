"""Files are written completely or not at all, and samples, ids and rates survive miniSEED."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import obspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obspy import Stream, Trace
from test_reading import stream

from seisbench_cdiffsd.files.writing import CODE_LENGTHS, MseedWriter, Unwritable, replacing


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    (tmp_path / "a.mseed").write_text("old")
    with pytest.raises(OSError, match="disk full"), replacing(tmp_path / "a.mseed") as path:
        path.write_bytes(b"half")
        raise OSError("disk full")
    assert [x.name for x in tmp_path.iterdir()] == ["a.mseed"]
    assert (tmp_path / "a.mseed").read_text() == "old"


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


def written(traces, **kwargs):
    """What comes back of some traces, and their writer."""
    file = io.BytesIO()
    writer = MseedWriter(file, **kwargs)
    writer.write(Stream(traces))
    return obspy.read(io.BytesIO(file.getvalue())), writer


def channel(*codes, rate=100.0):
    return Trace(np.ones(50), {**dict(zip(CODE_LENGTHS, codes, strict=True)), "sampling_rate": rate})


def test_ids_gaps_and_samples_survive():
    data = stream(seconds=10)
    for trace in data:
        trace.data = np.ma.masked_array(trace.data / 7, np.arange(200) // 20 == 3)
    data[0].stats.location = "10"
    back, writer = written(data)
    assert [t.id for t in back.select(channel="HHZ")] == ["XX.STA.10.HHZ"] * 2
    for trace in back:
        expected = data.select(id=trace.id).slice(trace.stats.starttime, trace.stats.endtime)[0].data
        np.testing.assert_array_equal(trace.data, expected.astype(np.float32))
    assert "float32, largest rounding error" in writer.loss and not writer.cut


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (("XX", "LONGNAME", "", "HHZ"), "XX.LONGN..HHZ"),
        (("XX", "STATION12", "", "HHZ"), "XX.STA12..HHZ"),
        (("", "STA", "", "f111"), ".STA..111"),
        (("", "STA", "", "DS 11"), ".STA..D11"),
        (("", "STA", "", " BZ"), ".STA..BZ"),
        (("A.B", "S.1", "--", "HHZ"), "AB.S1.--.HHZ"),
        (("XX", "A\x1b[1m", "", "HHZ"), "XX.A1m..HHZ"),
    ],
)
def test_codes_that_do_not_fit_are_shortened_and_listed(codes, expected):
    back, writer = written([channel(*codes)])
    assert back[0].id == expected and writer.cut == {".".join(codes): expected}
    _, writer = written([channel(*codes)], location="00")
    assert len(writer.cut) == 1


def test_codes_of_which_nothing_is_left_are_refused():
    with pytest.raises(Unwritable, match="The station 'Ω' cannot be written"):
        written([channel("XX", "Ω", "", "HHZ")])


@given(number=st.integers(200, 20_000), by=st.sampled_from([1, 2, 4, 5, 8, 10, 20, 25, 50, 100]))
@settings(max_examples=30)
def test_rates_come_back_as_they_are(number, by):
    trace = channel("", "", "", "", rate=number / by)
    trace.data = np.ma.masked_equal(np.arange(50), 20)
    back, _ = written([trace])
    assert [x.stats.sampling_rate for x in back] == 2 * [pytest.approx(number / by, rel=1e-15)]
    back[0].data = np.ma.masked_equal(back[0].data, 5)
    again, _ = written(back)
    assert [x.stats.sampling_rate for x in again] == 3 * [back[0].stats.sampling_rate]


@pytest.mark.parametrize("processing", [None, "text"])
def test_odd_headers_and_traces_of_headers_only_are_no_trouble(processing):
    trace, bare = channel("XX", "STA", "", "HHZ"), channel("XX", "STA", "", "HHN")
    trace.stats.processing = bare.stats.processing = processing
    trace.data = np.ma.masked_array(trace.data, np.arange(50) == 20)
    bare.data = np.zeros(0)
    bare.stats.__dict__["npts"] = 50  # as obspy.read(..., headonly=True) has it
    back, _ = written([trace, bare])
    assert [(x.id, len(x)) for x in back] == [("XX.STA..HHZ", 20), ("XX.STA..HHZ", 29)]


@given(exponent=st.integers(-3, 12), seed=st.integers(0, 99))
@settings(max_examples=50)
def test_integers_are_right_or_refused(exponent, seed):
    scale, given = 10.0**exponent, 1e-3 * stream(seconds=5, components="Z", seed=seed)[0].data
    try:
        back, _ = written([Trace(given)], encoding="int32", scale=scale)
    except Unwritable:
        assert np.abs(np.rint(given * scale)).max() >= 2**28
    else:
        assert np.abs(back[0].data / scale - given).max() <= 0.5 / scale * (1 + 1e-6)


@pytest.mark.parametrize("largest", [2**28 - 1, 2**28])
def test_the_largest_integers_that_fit_may_be_neighbours(largest):
    trace = Trace(largest * np.resize([-1.0, 1.0], 100))
    if largest == 2**28:
        with pytest.raises(Unwritable, match="--scale"):
            written([trace], encoding="int32")
    else:
        np.testing.assert_array_equal(written([trace], encoding="int32")[0][0].data, trace.data)


def test_integers_that_hold_nothing_but_zeros_are_refused_at_the_end():
    data = stream(seconds=5, components="ZN")
    data[0].data = data[0].data * 1e-9  # a channel in physical units
    data[1].data[:] = 0  # a dead one
    with pytest.raises(Unwritable, match=r"XX.STA..HHZ, up to \S+, are zeros: choose a larger --scale"):
        written(data, encoding="int32")[1].check()
    written(data, encoding="int32", scale=1e9)[1].check()
