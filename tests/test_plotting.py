"""The figure shows every trace where and as large as it is, and every pick at its time."""

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import obspy
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.dates import num2date
from obspy import Stream, Trace, UTCDateTime
from seisbench.util import Detection

from seisbench_cdiffsd.plotting import MAX_POINTS, plot_day, plot_denoised
from seisbench_cdiffsd.streams.filtering import BAND

PICK = obspy.UTCDateTime("2009-08-24T00:20:07.73")


@pytest.fixture
def streams():
    noisy = obspy.read()
    for trace in noisy:
        trace.data = trace.data + 5000.0
    denoised = noisy.copy().filter("bandpass", freqmin=2, freqmax=10, zerophase=True)
    noise = noisy.copy()
    for trace, clean in zip(noise, denoised, strict=True):
        trace.data = trace.data - clean.data
    return noisy, denoised, noise


def curves(figure):
    """The lines of each axes that are traces, not picks, as rows and columns of the figure."""
    return [[line for line in ax.lines if len(line.get_xdata()) > 2] for ax in figure.axes]


def test_rows_are_components_and_columns_what_was_done(streams):
    figure = plot_denoised(*streams)
    assert [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel()] == ["EHZ", "EHN", "EHE"]
    assert [ax.get_title(loc="left") for ax in figure.axes[:3]] == ["noisy", "denoised", "removed noise"]
    drawn = curves(figure)
    assert [len(lines) for lines in drawn] == [1] * 9
    for i, component in enumerate("ZNE"):
        row = [lines[0].get_ydata() for lines in drawn[3 * i : 3 * i + 3]]
        recorded = streams[0].select(component=component)[0].data
        np.testing.assert_allclose(row[0], recorded - recorded.mean())
        np.testing.assert_allclose(row[1] + row[2], row[0], atol=1e-6)
        limits = [ax.get_ylim() for ax in figure.axes[3 * i : 3 * i + 3]]
        assert limits[0] == limits[1] == limits[2] and limits[0][1] > abs(row[0]).max()


def test_a_long_trace_keeps_its_extremes_at_their_times():
    trace = obspy.Trace(np.zeros(1_000_003), {"channel": "HHZ", "sampling_rate": 100})
    trace.data[700_000], trace.data[-1] = 5, -5
    figure = plot_denoised(obspy.Stream([trace]), obspy.Stream())
    line = curves(figure)[0][0]
    values, seconds = line.get_ydata(), line.get_xdata().astype("int64") / 1e9
    assert len(values) <= MAX_POINTS + 2
    assert values.max() == pytest.approx(5, abs=1e-3) and values[-2] == pytest.approx(-5, abs=1e-3)
    assert seconds[values.argmax()] == pytest.approx(7000, abs=3)


def test_gaps_missing_channels_and_single_samples_can_be_drawn(streams, tmp_path):
    noisy, denoised, _ = streams
    masked = noisy.copy().cutout(PICK, PICK + 2).merge()
    figure = plot_denoised(masked, denoised.select(component="Z"), path=tmp_path / "gap.png")
    drawn = curves(figure)
    assert np.isnan(drawn[0][0].get_ydata()).sum() == pytest.approx(200, abs=2)
    assert not drawn[3]
    plot_denoised(noisy.slice(PICK, PICK), denoised.slice(PICK, PICK), path=tmp_path / "one.png")
    assert (tmp_path / "gap.png").read_bytes()[:4] == (tmp_path / "one.png").read_bytes()[:4] == b"\x89PNG"


def test_in_the_band_of_the_model_the_microseism_leaves_the_scale_to_what_is_denoised(streams):
    noisy, denoised, noise = streams
    for trace, removed in zip(noisy, noise, strict=True):
        swell = 1e6 * np.sin(0.2 * 2 * np.pi * trace.times())
        trace.data, removed.data = trace.data + swell, removed.data + swell
    noisy[1].data[1000:1100] = np.nan
    band = {"filter_args": ("bandpass",), "filter_kwargs": dict(BAND)}
    before = [trace.data.copy() for trace in [*noisy, *noise]]
    figure = plot_denoised(*streams, **band)
    titles = [ax.get_title(loc="left") for ax in figure.axes[:3]]
    assert titles == ["noisy, bandpass 1 to 45 Hz", "denoised", "removed noise, bandpass 1 to 45 Hz"]
    for i, lines in enumerate(curves(figure)):
        row = [line.get_ydata() for line in lines]
        if i % 3 == 1:
            np.testing.assert_array_equal(row[0], denoised[i // 3].data)
        else:
            assert np.nanmax(np.abs(row[0])) < 5 * np.abs(denoised[i // 3].data).max()
    assert np.isnan(curves(figure)[3][0].get_ydata()).sum() == 100
    assert all(np.array_equal(x, y.data, equal_nan=True) for x, y in zip(before, [*noisy, *noise], strict=True))
    for trace in noisy[1:]:
        trace.stats.sampling_rate = 1  # nothing is in the band
    there = [np.isfinite(lines[0].get_ydata()).any() for lines in curves(plot_denoised(noisy, denoised, **band))]
    assert there == [True, True, False, True, False, True]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seconds", [0.02, 1.3, 2.9, 30, 179, 10_700, 80_000])
def test_ticks_have_different_labels_in_records_of_any_length(seconds):
    trace = obspy.Trace(np.zeros(101), {"channel": "HHZ", "sampling_rate": 100 / seconds})
    for trace.stats.starttime in (obspy.UTCDateTime(2020, 1, 1), obspy.UTCDateTime("2020-02-03T04:05:59.837")):
        figure = plot_denoised(obspy.Stream([trace]), obspy.Stream())
        figure.draw_without_rendering()
        labels = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
        texts = [label.get_text() for label in figure.axes[0].get_xticklabels()]
        assert len(set(texts)) == len(texts) >= 3
        assert not any(a.overlaps(b) for a, b in combinations(labels, 2))


@pytest.mark.filterwarnings("error:Glyph")
def test_no_matplotlibrc_and_no_codes_make_a_figure_fail(streams, tmp_path):
    noisy, denoised, _ = streams
    for trace in [*noisy, *denoised]:
        trace.stats.update({"network": "$\\x$", "station": "A[1]*\x1b[1m\n", "processing": None})
    picks = pd.DataFrame([("P", PICK, 0.97)], columns=["phase", "time", "probability"])
    band = {"filter_args": ("bandpass",), "filter_kwargs": dict(BAND)}
    noisy[0].data = np.ma.masked_greater(noisy[0].data, 5100)
    with plt.rc_context({"text.usetex": True, "font.family": "none such", "figure.dpi": 1e6, "savefig.format": "none"}):
        figure = plot_denoised(noisy, denoised, None, picks, path=tmp_path / "a.png", **band)
        assert plt.rcParams["text.usetex"]
    assert [len(lines) for lines in curves(figure)] == [1] * 6
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_traces_that_cannot_be_drawn_are_left_out(streams):
    noisy, denoised, _ = streams
    noisy[1].data = np.frombuffer(b"hello there", "S1")
    noisy[2].stats.sampling_rate = 0
    noisy[0].data = noisy[0].data.astype(float)
    noisy[0].data[:3] = 1e300, np.inf, np.nan
    bare = noisy[0].copy()
    bare.data, bare.stats.channel = np.zeros(0), "XXZ"
    bare.stats.__dict__["npts"] = 3000  # as obspy.read(..., headonly=True) has it
    figure = plot_denoised(noisy + bare, denoised)
    assert [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel()] == ["EHZ"]
    figure.draw_without_rendering()


def test_a_day_has_a_line_for_each_hour_with_its_samples_picks_and_detections():
    start, rate = UTCDateTime(2020, 1, 1, 0, 30), 10
    values = np.random.default_rng(0).normal(0, 1, 86400 * rate)
    values[7200 * rate + 50] = 1e4
    day = Stream([Trace(values, {"channel": "HHZ", "sampling_rate": rate, "starttime": start})])
    picks = pd.DataFrame(
        [("P", start + 7200, "denoised"), ("S", start + 9000, "raw")], columns=["phase", "time", "source"]
    )
    figure = plot_day(day, day, picks, [Detection("", start + 1700, start + 1900, 0.9)])
    (ax,) = figure.axes
    assert [x.get_text() for x in ax.get_yticklabels()] == [f"{hour:02}:00" for hour in [*range(24), 0]]
    lines = sorted(ax.lines, key=lambda line: (line.get_color(), -np.nanmedian(line.get_ydata())))
    for i, line in enumerate(lines):
        hour = i % 25
        assert np.nanmedian(line.get_ydata()) == pytest.approx(-hour, abs=0.05)
        assert np.nanmax(abs(line.get_ydata() + hour)) <= 1 and len(line.get_ydata()) < 20000
        assert (np.nanmax(line.get_ydata()) == 1 - hour) == (hour == 2)
    bars = [x for x in ax.collections if isinstance(x, LineCollection)]
    ends = [x.get_segments()[0] for x in bars]
    assert [(round(x[:, 1].mean()), round(np.ptp(x[:, 1]), 1)) for x in ends] == [(-2, 1.0), (-3, 0.4)]
    assert len(ax.collections) - len(bars) == 2  # a detection in two hours
    assert "2 picks" in figure.get_suptitle()


def test_picks_of_the_record_stand_at_their_times_and_are_named_if_they_are_few(streams):
    before, (first, *_) = plt.get_fignums(), streams[0]
    start, end = first.stats.starttime, first.stats.endtime
    few = pd.DataFrame({"phase": "P", "time": [start - 1, PICK, end + 60], "probability": 0.97})
    many = pd.DataFrame({"phase": "S", "time": [PICK + i for i in range(10)]})
    figure = plot_denoised(*streams, picks=many, picks_denoised=few)
    assert tuple(num2date(x).replace(tzinfo=None) for x in figure.axes[0].get_xlim()) == (start.datetime, end.datetime)
    marked = [[line for line in ax.lines if len(line.get_xdata()) == 2] for ax in figure.axes]
    assert [len(lines) for lines in marked] == [10, 1, 0] * 3 and marked[1][0].get_xdata()[0] == PICK.datetime
    assert [ax.get_title(loc="right") for ax in figure.axes[:3]] == ["10 picks", "P 0.97", ""]
    figure.draw_without_rendering()
    boxes = [x.get_window_extent() for ax in figure.axes[:3] for x in (ax._left_title, ax._right_title)]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2) if a.width and b.width)
    assert not plot_denoised(*streams, picks=few[few["time"] > end]).legends
    ((bar,),) = (x.get_texts() for x in plot_denoised(*streams, detections=[Detection("", PICK, PICK + 1)]).legends)
    assert bar.get_text() == "detection"
    assert plt.get_fignums() == before
    with pytest.raises(ValueError, match="no samples"):
        plot_denoised(obspy.Stream(), obspy.Stream())
