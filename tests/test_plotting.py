"""The figure shows every trace where and as large as it is, and every pick at its time."""

import matplotlib.pyplot as plt
import numpy as np
import obspy
import pandas as pd
import pytest
from matplotlib.dates import num2date

from seisbench_cdiffsd.plotting import MAX_POINTS, plot_denoised

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


def test_time_is_physical_and_picks_stand_at_their_times(streams):
    picks = pd.DataFrame([("P", PICK, 0.97)], columns=["phase", "time", "probability"])
    figure = plot_denoised(*streams, picks_denoised=picks)
    start, end = (num2date(x).replace(tzinfo=None) for x in figure.axes[0].get_xlim())
    assert (start, end) == (streams[0][0].stats.starttime.datetime, streams[0][0].stats.endtime.datetime)
    marked = [[line for line in ax.lines if len(line.get_xdata()) == 2] for ax in figure.axes]
    assert [len(lines) for lines in marked] == [0, 1, 0] * 3
    assert marked[1][0].get_xdata()[0] == PICK.datetime
    assert [text.get_text() for ax in figure.axes for text in ax.texts] == ["P 0.97"]


def test_many_picks_are_drawn_but_not_named(streams):
    picks = pd.DataFrame({"phase": "S", "time": [PICK + i for i in range(10)]})
    figure = plot_denoised(*streams, picks=picks)
    assert len(figure.axes[0].lines) == 11 and not figure.axes[0].texts


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


def test_nothing_to_plot_is_refused(streams):
    with pytest.raises(ValueError, match="no samples"):
        plot_denoised(obspy.Stream(), obspy.Stream())


def test_no_global_figure_is_left_behind(streams):
    before = plt.get_fignums()
    plot_denoised(*streams)
    assert plt.get_fignums() == before
