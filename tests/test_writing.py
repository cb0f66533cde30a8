"""Files are written completely or not at all, and samples, ids and rates survive miniSEED."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import obspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obspy import Stream, Trace
from test_reading import START, stream

from seisbench_cdiffsd.files.writing import CODE_LENGTHS, MseedWriter, Unwritable, replacing


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


def written(traces, **kwargs):
    """What comes back of some traces, and their writer."""
    file = io.BytesIO()
    writer = MseedWriter(file, **kwargs)
    writer.write(Stream(traces))
    return obspy.read(io.BytesIO(file.getvalue())), writer


def channel(*codes, rate=100.0):
    return Trace(np.ones(50), {**dict(zip(CODE_LENGTHS, codes, strict=True)), "sampling_rate": rate})


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


def test_two_ids_never_become_one():
    stations = [("XX", "STATION_A", "", "HHZ"), ("XX", "STATION_B", "", "HHZ")]
    with pytest.raises(Unwritable, match=r"STATION_A..HHZ and XX.STATION_B..HHZ would both be XX.STATI..HHZ.*rename"):
        written(map(channel, *zip(*stations, strict=True)))
    locations = [("XX", "STA", code, "HHZ") for code in ("00", "10")]
    with pytest.raises(Unwritable, match=r"XX.STA.00.HHZ and XX.STA.10.HHZ would both be XX.STA.20.HHZ.*--location"):
        written(map(channel, *zip(*locations, strict=True)), location="20")
    with pytest.raises(Unwritable, match="The station 'Ω' cannot be written"):
        written([channel("XX", "Ω", "", "HHZ")])


CODES = st.text(st.sampled_from("AZaz019 .-_*\x00\x1b\nΩ"), max_size=8)


@given(ids=st.lists(st.tuples(CODES, CODES, CODES, CODES), min_size=1, max_size=8, unique=True))
@settings(deadline=None)
def test_ids_are_mapped_one_to_one_or_refused(ids):
    try:
        back, writer = written([channel(*codes, rate=1 + i) for i, codes in enumerate(ids)])
    except Unwritable as error:
        assert str(error).isprintable()
        return
    names = {trace.stats.sampling_rate: trace.id for trace in back}  # the rate tells which one it was
    assert len(set(names.values())) == len(ids)
    for i, codes in enumerate(ids):
        assert names[1 + i] == writer.cut.get(".".join(codes), ".".join(codes))


@given(number=st.integers(200, 20_000), by=st.sampled_from([1, 2, 4, 5, 8, 10, 20, 25, 50, 100]))
@settings(deadline=None)
def test_rates_come_back_as_they_are(number, by):
    trace = channel("", "", "", "", rate=number / by)
    trace.data = np.ma.masked_equal(np.arange(50), 20)
    back, _ = written([trace])
    assert [x.stats.sampling_rate for x in back] == 2 * [pytest.approx(number / by, rel=1e-15)]
    back[0].data = np.ma.masked_equal(back[0].data, 5)
    again, _ = written(back)
    assert [x.stats.sampling_rate for x in again] == 3 * [back[0].stats.sampling_rate]


@pytest.mark.parametrize("rate", [100.02, 99.98, 99.999, 62.5, 100 / 3, 123.456, 0.1, 1 / 30])
def test_output_merges_with_input(rate, tmp_path):
    trace = channel("XX", "STA", "", "HHZ", rate=rate)
    trace.write(str(tmp_path / "a"), format="MSEED")
    (source,) = obspy.read(str(tmp_path / "a"))
    back, _ = written([source])
    back[0].data = back[0].data.astype(np.float64)
    (merged,) = (back + Stream([source])).merge()
    np.testing.assert_array_equal(merged.data, source.data)
    source.data = np.ma.masked_equal(np.arange(50.0), 20)
    back, _ = written([source])
    assert [x.stats.sampling_rate for x in back] == 2 * [source.stats.sampling_rate]


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
