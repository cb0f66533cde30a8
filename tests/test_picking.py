"""Picking: windows, streams and labels, with a picker that needs no weights and with the real ones where they are."""

from itertools import pairwise

import numpy as np
import obspy
import pandas as pd
import pytest
import seisbench
import seisbench.models as sbm
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from obspy import Stream, Trace, UTCDateTime
from seisbench.models import WaveformModel
from seisbench.util import ClassifyOutput
from test_pretrained import DAMAGE

import seisbench_cdiffsd
from seisbench_cdiffsd import CDiffSD, picking
from seisbench_cdiffsd.files.extras import Extras
from seisbench_cdiffsd.files.picks import describe, write_csv, write_quakeml
from seisbench_cdiffsd.streams.example import noisy_example

START = UTCDateTime(2020, 1, 1)


def pick(picker, windows, threshold=0.5):
    """Picks on windows at one threshold."""
    evaluation = pytest.importorskip("evaluation", reason="the benchmarks are not here")
    (picks,) = evaluation.pick_windows(picker, windows, (threshold,))
    return picks


class PeakPicker(WaveformModel):
    """Finds P where the vertical component, and S where the north component, is at its largest."""

    _annotate_args = WaveformModel._annotate_args | {"blinding": ("Blinding", (250, 250)), "*_threshold": ("", 0.5)}

    def __init__(self, component_order="ENZ"):
        super().__init__(
            component_order=component_order,
            in_samples=3001,
            output_type="array",
            pred_sample=(0, 3001),
            labels="PS",
            sampling_rate=100,
            default_args={"overlap": 1500},
        )
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def annotate_batch_pre(self, batch, argdict):
        return batch[:, [self.component_order.index(code) for code in "ZN"]]

    def forward(self, x):
        return (x / x.abs().amax(-1, keepdim=True).clamp(min=1)).clamp(min=0) ** 8

    def annotate_batch_post(self, batch, piggyback, argdict):
        before, after = argdict.get("blinding", (250, 250))
        batch = batch.transpose(-1, -2).clone()
        batch[:, :before] = torch.nan
        batch[:, batch.shape[1] - after :] = torch.nan
        return batch

    def classify_aggregate(self, annotations, argdict):
        picks = []
        for phase in "PS":
            curves = annotations.select(channel=f"{self.name}_{phase}")
            picks += self.picks_from_annotations(curves, argdict.get(f"{phase}_threshold", 0.5), phase)
        return ClassifyOutput(self.name, picks=picks)


def spikes(samples, p, s, offset=0.0):
    """A window in ZNE order with one peak on Z and one on N."""
    window = np.full((3, samples), offset)
    window[0, p] += 10
    window[1, s] += 10
    return window


def to_stream(window, channel="HH", rate=100.0, start=START):
    return Stream(
        Trace(data.copy(), {"station": "A", "channel": channel + code, "sampling_rate": rate, "starttime": start})
        for code, data in zip("ZNE", window, strict=True)
    )


@pytest.mark.parametrize("order", ["ENZ", "ZNE"])
@pytest.mark.parametrize(("samples", "edge"), [(1500, 150), (3000, 3), (3001, 3)])
def test_a_single_window_is_picked_up_to_its_edges_whatever_the_component_order(order, samples, edge):
    windows = np.stack([spikes(samples, edge, samples - edge), spikes(samples, samples // 2, 240, offset=-1e4)])
    picks = pick(PeakPicker(order), windows)
    expected = [(0, "P", edge / 100), (0, "S", (samples - edge) / 100), (1, "S", 2.4), (1, "P", samples // 2 / 100)]
    assert list(zip(picks.record, picks.phase, picks.time.round(3), strict=True)) == expected
    assert list(picks.columns) == picking.PICK_COLUMNS and (picks.probability > 0.9).all()


def test_a_much_shorter_window_starts_and_ends_softly():
    class Spy(PeakPicker):
        def annotate_batch_pre(self, batch, argdict):
            self.seen = batch
            return super().annotate_batch_pre(batch, argdict)

    picker, rng = Spy("ZNE"), np.random.default_rng(0)
    window = rng.standard_normal((1, 3, 2000))
    pick(picker, window)
    seen, plain = picker.seen[0].numpy(), window[0] - window[0].mean(-1, keepdims=True)
    np.testing.assert_allclose(seen[:, 101:1899], plain[:, 101:1899], atol=1e-5)
    assert (abs(seen[:, :10]) < 0.1 * abs(plain).max()).all() and (seen[:, 2000:] == 0).all()


def test_longer_windows_are_picked_once_each_and_blinded_as_seisbench_does():
    picks = pick(PeakPicker(), spikes(6000, 2500, 4100)[None], 0.9)
    assert list(zip(picks.phase, picks.time.round(3), strict=True)) == [("P", 25.0), ("S", 41.0)]
    assert pick(PeakPicker(), spikes(6000, 100, 5900)[None]).empty


def test_a_stream_is_left_alone_and_its_instruments_are_kept_apart():
    stream = to_stream(spikes(3000, 100, 200)) + to_stream(spikes(3000, 300, 400), channel="HN")
    before = stream.copy()
    picks = picking.pick_stream(PeakPicker(), stream)
    assert stream == before
    assert list(zip(picks.record, picks.phase, picks.time - START, strict=True)) == [
        (".A..HH", "P", 1.0),
        (".A..HH", "S", 2.0),
        (".A..HN", "P", 3.0),
        (".A..HN", "S", 4.0),
    ]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("samples", [3000, 5000])
@pytest.mark.parametrize("gap", [1, 50, 150, 400])
@pytest.mark.parametrize("missing", [np.nan, np.inf, "masked", "cut out"])
def test_a_gap_changes_no_other_pick(samples, gap, missing):
    stream, hole = to_stream(spikes(samples, 700, samples - 500)), slice(samples // 2, samples // 2 + gap)
    if missing == "cut out":
        stream = stream.cutout(START + hole.start / 100, START + hole.stop / 100)
    for trace in stream:
        if missing == "masked":
            trace.data = np.ma.masked_array(trace.data, np.isin(np.arange(samples), np.r_[hole]))
        elif missing != "cut out":
            trace.data[hole] = missing
    before = stream.copy()
    picks = picking.pick_stream(PeakPicker(), stream)
    assert list(zip(picks.phase, picks.time - START, strict=True)) == [("P", 7.0), ("S", samples / 100 - 5)]
    for trace, old in zip(stream, before, strict=True):
        np.testing.assert_array_equal(np.ma.filled(trace.data, 0), np.ma.filled(old.data, 0))
        assert np.ma.isMaskedArray(trace.data) == (missing == "masked")


def test_fragments_far_apart_are_picked_alone_whatever_their_type_and_rate():
    stream = to_stream(spikes(1500, 100, 900))
    later = to_stream(spikes(1500, 200, 1000), start=START + 100)
    other = to_stream(spikes(3000, 600, 2000), rate=200.0, start=START + 300)
    for trace in later:
        trace.data = trace.data.astype(np.int32)
        trace.stats.calib = 2.0
    for trace in stream:  # and two types in one stretch
        trace.data = trace.data.astype(np.float32)
    near = to_stream(np.zeros((3, 300)), start=START + 20)
    picks = picking.pick_stream(PeakPicker(), stream + near + later + other)
    times = [("P", 1.0), ("S", 9.0), ("P", 102.0), ("S", 110.0), ("P", 303.0), ("S", 310.0)]
    assert list(zip(picks.phase, (picks.time - START).round(2), strict=True)) == times


@pytest.mark.parametrize("ends", [[], [90], [60, 61, 280], [100, 200, 300]])
def test_a_record_has_the_same_picks_in_one_trace_as_in_several_that_touch(ends):
    window = np.zeros((3, 40_000))
    window[0, [3000, 15_000, 25_000, 39_000]] = 10
    window[1, [5000, 16_000, 35_000]] = 10
    edges = [START, *(START + end for end in ends), START + 400]
    touching = sum((to_stream(window).slice(first, stop - 0.01) for first, stop in pairwise(edges)), Stream())
    extras, before = Extras(CDiffSD(), ["picks"], PeakPicker(), {}), touching.copy()
    for start, end in pairwise((START, START + 150, START + 400)):
        extras.see(touching, touching, start, end)
    found = extras.picks
    assert not extras.failures and touching == before
    expected = [("P", 30), ("S", 50), ("P", 150), ("S", 160), ("P", 250), ("S", 350), ("P", 390)]
    assert list(zip(found.phase, (found.time - START).round(3), strict=True)) == expected


def test_components_with_other_codes_are_picked_together():
    stream = to_stream(spikes(3000, 100, 200))
    for trace, code in zip(stream, ("UD1", "NS1", "EW1"), strict=True):
        trace.stats.channel = code
    assert picking.pick_stream(PeakPicker(), stream).empty
    picks = picking.pick_stream(PeakPicker(), stream, names={"UD": "Z", "NS": "N", "EW": "E"})
    assert list(zip(picks.record, picks.phase, strict=True)) == [(".A..1", "P"), (".A..1", "S")]


@pytest.mark.parametrize("codes", [("A.B", "C.D", "0.0", "H.Z"), ("", "S\x1b[1", "", "HHZ"), ("X", "\n", "", "Z")])
def test_odd_codes_and_headers_are_no_trouble(codes, tmp_path):
    stream = to_stream(spikes(3000, 100, 200))[:1]
    stream[0].stats.update(dict(zip(("network", "station", "location", "channel"), codes, strict=True)))
    stream[0].stats.processing = None
    picks = picking.pick_both(PeakPicker(), stream, stream)
    assert list(picks.record) == [".".join(codes)[:-1]]
    write_csv(picks, tmp_path / "csv")
    write_quakeml(tmp_path / "csv", tmp_path / "xml", "A & B")
    (pick,) = obspy.read_events(str(tmp_path / "xml"))[0].picks
    assert pick.time == picks.time[0] and "\x1b" not in (tmp_path / "csv").read_text()
    assert codes[3].endswith(pick.waveform_id.channel_code)


def test_picks_of_a_long_record_are_those_of_seisbenchs_classify(pickers, example):
    for trace in example:
        trace.data = np.tile(trace.data, 5)
    for name in ("PhaseNet", "EQTransformer"):
        model = picking.load_picker(name)
        picks = picking.pick_stream(model, example, P_threshold=0.2)
        expected = sorted(model.classify(example, P_threshold=0.2).picks, key=lambda pick: pick.peak_time)
        assert list(picks["time"]) == [pick.peak_time for pick in expected]
        assert list(picks["probability"]) == pytest.approx([pick.peak_value for pick in expected])


@pytest.mark.parametrize("rate", [50, 100, 125, 200, 250])
def test_a_short_record_has_its_picks_at_any_rate(pickers, example, rate):
    stream = example.slice(endtime=example[0].stats.starttime + 25).resample(rate)
    picks = picking.pick_stream(picking.load_picker("PhaseNet"), stream).set_index("phase")
    assert (picks.time["P"] - UTCDateTime("2009-08-24T00:20:07.73")) == pytest.approx(0, abs=0.05)
    assert picks.probability["P"] > 0.9 and picks.probability["S"] > 0.8


def test_one_missing_sample_in_a_longer_record_changes_no_pick(pickers, example):
    for trace in example:
        trace.data = np.concatenate([trace.data, trace.data[:2000][::-1]]).astype(np.float64)
    picker = picking.load_picker("PhaseNet")
    before = picking.pick_stream(picker, example)
    assert len(before) >= 2
    example[0].data[2500] = np.nan
    after = picking.pick_stream(picker, example)
    assert list(after.phase) == list(before.phase)
    assert max(abs(after.time - before.time)) < 0.02
    np.testing.assert_allclose(after.probability, before.probability, atol=0.05)


def test_shapes_and_nothing():
    for shape in ((3, 3000), (2, 1, 3000)):
        with pytest.raises(ValueError, match=r"\(batch, 3, samples\)"):
            pick(PeakPicker(), np.zeros(shape))
    for count in (0, 2):
        picks = pick(PeakPicker(), np.zeros((count, 3, 3000)))
        assert picks.empty and list(picks.columns) == picking.PICK_COLUMNS
    assert picking.pick_stream(PeakPicker(), Stream()).empty


@given(
    rate=st.sampled_from([1.0, 1.7, 20, 62.5, 99.99994, 100, 125, 200, 250, 333.3, 44_100, 96_000.7, 1e5]),
    seconds=st.one_of(st.floats(0, 29), st.floats(29.9, 30.2)),
    offset=st.floats(0, 0.1),
)
@settings(max_examples=60)
def test_records_of_any_rate_and_length_are_picked(rate, seconds, offset):
    samples = 1 + min(int(seconds * rate), 7000)
    stream = to_stream(np.ones((3, samples)), rate=rate, start=START + offset)
    stream[1].stats.starttime += 0.003
    short = stream[1].stats.endtime - stream[0].stats.starttime < picking.SHORTEST
    reasons = {".A..HH": "it is shorter than 5 s"} if short else {}
    assert picking.pick_stream(PeakPicker(), stream).attrs == {picking.NOT_PICKED: reasons}


@pytest.mark.filterwarnings("error")
def test_what_was_not_picked_says_why_and_does_no_harm():
    def trace(channel, data, rate=100.0):
        return Trace(np.asarray(data), {"station": "A", "channel": channel, "sampling_rate": rate, "starttime": START})

    good, text, bare = to_stream(spikes(3000, 100, 200)), np.frombuffer(b"hello", "S1"), trace("DHN", np.zeros(0))
    bare.stats.__dict__["npts"] = 3000  # as obspy.read(..., headonly=True) has it
    odd = [("HNZ", np.full(3000, np.nan)), ("LHZ", np.zeros(3000), 1e-6), ("EHZ", np.zeros(3000), 1e9), ("LOG", text)]
    odd += [("HHZ", text), ("HHZ", np.zeros(0)), ("HHZ", np.full(500, np.nan)), ("HHN", np.ma.masked_all(500))]
    others = Stream([bare, *(trace(*x) for x in odd)])
    picks = picking.pick_stream(PeakPicker(), good + others)
    assert picks.attrs[picking.NOT_PICKED] == {
        ".A..HN": "it has no samples",
        ".A..LH": "it is sampled at 1e-06 Hz",
        ".A..EH": "it is sampled at 1e+09 Hz",
        ".A..LOG": "it has none of the components Z, N, E, 1 and 2",
        ".A..DH": "it has no samples",
    }
    pd.testing.assert_frame_equal(picks, picking.pick_stream(PeakPicker(), good))
    assert describe(picking.pick_stream(PeakPicker(), others[2:3])) == "not picked, because it is sampled at 1e-06 Hz"
    assert describe(picking.pick_stream(PeakPicker(), to_stream(np.zeros((3, 3000))))) == "none"
    assert describe(pd.DataFrame({"phase": ["P"] * 7 + ["S"] * 3})) == "7 P, 3 S"


def test_missing_and_damaged_weights_are_one_line_without_a_network(tmp_path, monkeypatch):
    def unavailable(message, **kwargs):
        with pytest.raises(picking.WeightsUnavailable, match=message) as info:
            picking.load_picker("PhaseNet", "stead", **kwargs)
        assert "\n" not in str(info.value)

    def refuse(*args):
        raise ConnectionError("unreachable")

    for name in ("PhaseNett", "WaveformPipeline", "__doc__"):
        with pytest.raises(ValueError, match=name):
            picking.load_picker(name)
    (tmp_path / "phasenet").mkdir()
    monkeypatch.setattr(seisbench, "cache_model_root", tmp_path)
    monkeypatch.setattr(seisbench.util, "ls_webdav", lambda *args: pytest.fail("asked the remote repository"))
    unavailable("PhaseNet weights 'stead' are not in SeisBench's cache")
    (tmp_path / "phasenet" / "stead.json.v1").write_text("{}")  # a download that was cut off
    unavailable("cache")
    for damage in DAMAGE.values():
        sbm.PhaseNet().save(tmp_path / "phasenet" / "stead", version_str="1")
        picking.load_picker("PhaseNet", "stead")
        damage(*(tmp_path / "phasenet" / f"stead.{kind}.v1" for kind in ("pt", "json")))
        unavailable("could not be loaded from SeisBench's cache")
    monkeypatch.setattr(seisbench, "cache_model_root", tmp_path / "empty")
    monkeypatch.setattr(seisbench.util, "ls_webdav", refuse)
    unavailable("could not be downloaded", download=True)


peaks = st.lists(st.tuples(st.integers(0, 40), st.floats(0.1, 1)), max_size=6, unique_by=lambda x: x[0])


def curve(found, shift=0.0):
    """A probability that is above 0 in single samples, at tenths of a second."""
    values = np.zeros(500)
    for place, probability in found:
        values[10 * place] = probability
    return Trace(values, {"sampling_rate": 100, "starttime": START + shift})


@given(peaks, peaks, st.sampled_from("PS"))
@example([(0, 0.5)], [(3, 0.75), (5, 1.0)], "S")  # the nearest is not the highest
def test_picks_before_and_after_denoising_are_joined_where_they_are_the_same(before, after, phase):
    both = picking._curve("XX.A..HH", phase, [(0, curve(before)), (1, curve(after))], None)
    found = PeakPicker.picks_from_annotations(Stream([both.joint]), 0.04, phase)
    times = []
    for time, raw, denoised in (both.at(x.peak_time) for x in found):
        assert round(10 * (time - START), 3) in [place for place, _ in (*before, *after)]
        for value, rows in ((raw, before), (denoised, after)):  # the highest within 0.2 s
            assert value == pytest.approx(
                max([p for x, p in rows if abs(x / 10 - (time - START)) <= 0.2001], default=0)
            )
        times.append(time - START)
    assert times == sorted(set(times))
    for place, _ in (*before, *after):  # each is a pick, or beside one; peaks apart by up to twice as much may be one
        assert min(abs(place / 10 - time) for time in times) <= 0.8 + 0.4 * (len(before) + len(after))
    strongest = max(probability for _, probability in (*before, *after)) if before or after else 0
    best = max((x.peak_value for x in found), default=0)
    assert best == pytest.approx(strongest) if phase == "P" else strongest / 2 - 1e-6 <= best <= strongest + 1e-6


def test_the_more_probable_of_two_picks_is_kept_and_s_has_the_mean():
    raw, denoised = curve([(10, 0.2), (20, 0.2)]), curve([(11, 0.5), (30, 0.5)])
    for phase, expected in (("P", [0.5, 0.2, 0.5]), ("S", [0.35, 0.1, 0.25])):
        both = picking._curve("XX.A..HH", phase, [(0, raw), (1, denoised)], None)
        found = PeakPicker.picks_from_annotations(Stream([both.joint]), 0.05, phase)
        assert [x.peak_value for x in found] == pytest.approx(expected)
        at = [both.at(x.peak_time) for x in found]
        assert [time - START for time, _, _ in at] == pytest.approx([1.1, 2.0, 3.0])
        assert [x[1:] for x in at] == [pytest.approx(x) for x in ((0.2, 0.5), (0.2, 0), (0, 0.5))]


def test_a_pick_is_where_both_records_together_have_the_largest_odds():
    for raw, denoised, place in (
        ([(10, 0.4), (11, 0.3)], [(10, 0.1), (11, 0.35)], 1.1),
        ([(10, 0.9995), (11, 0.9999)], [], 1.1),  # however certain
    ):
        both = picking._curve("XX.A..HH", "P", [(0, curve(raw)), (1, curve(denoised))], None)
        assert both.at(START + 1.05)[0] - START == pytest.approx(place)


def test_picks_on_one_record_alone_and_in_stretches_far_apart():
    raw, denoised, later = curve([(10, 0.2)]), curve([(30, 0.6)], shift=4.0), curve([(20, 0.5)], shift=1e9)
    groups = picking._overlapping([(0, raw), (1, denoised), (1, later)])
    assert groups == [[(0, raw), (1, denoised)], [(1, later)]]
    curves = [picking._curve("XX.A..HH", "S", group, None) for group in groups]
    values = [x.peak_value for y in curves for x in PeakPicker.picks_from_annotations(Stream([y.joint]), 0.05, "S")]
    assert values == pytest.approx([0.2, 0.6, 0.5])  # what one record alone has counts as it is


def test_the_odds_of_an_earthquake_lower_those_of_a_pick():
    sure, doubted = picking.joined("P", 0.5, np.nan, [picking.SURE, picking.SURE - 4])
    assert sure == 0.5 and doubted / (1 - doubted) == pytest.approx(np.exp(-4 * picking.POWER))
    assert picking.joined("S", 0.8, 0.2, picking.SURE + 5) == pytest.approx(0.5)
    certain = picking.joined("P", np.array([1.0, 0.0]), np.array([np.nan, 0.0]), -np.inf)
    assert certain.tolist() == [0.0, 0.0]
    both = picking._curve(
        "XX.A..HH", "P", [(0, curve([(10, 0.5), (40, 0.5)]))], [(START.timestamp, START.timestamp + 2, 0.9)]
    )
    assert both.joint.data[100] == pytest.approx(picking.joined("P", 0.5, np.nan, np.log(9)), rel=1e-5)
    assert not both.joint.data[221:].any()


def test_a_pick_has_its_probabilities_amplitude_ratio_and_channel():
    raw, denoised = (np.random.default_rng(0).normal(0, 0.1, (3, 6000)) for _ in range(2))
    raw[0, 3000], raw[1, 3600] = 10, 0.9  # S is hidden
    denoised[0, 3010], denoised[1, 3600] = 9.8, 10
    denoised[2, 3700:4000] = 20 * np.sin(np.arange(300))
    before = to_stream(raw), to_stream(denoised)
    after = before[0].copy(), before[1].copy()
    assert list(picking.pick_both(PeakPicker(), *after, {"P_threshold": 0.9, "S_threshold": 0.9})["phase"]) == ["P"]
    picks = picking.pick_both(PeakPicker(), *after, {"P_threshold": 0.9, "S_threshold": 0.5})
    assert after == before and list(picks.columns) == picking.JOINT_COLUMNS
    p, s = picks.itertuples()
    assert (p.phase, s.phase, p.source, s.source) == ("P", "S", "both", "denoised")
    assert (p.channel, s.channel, p.amplitude) == (".A..HHZ", ".A..HHE", 9.8)
    assert s.amplitude == pytest.approx(20, rel=1e-3) and p.time == START + 30  # the first of two that are as probable
    assert p.probability == 1 and s.raw < 0.5 < 0.9 < s.denoised and s.probability == (s.raw + s.denoised) / 2 > 0.5
    quiet, loud = denoised[:, 3300:3600], denoised[:, 3600:3900]
    assert s.snr == pytest.approx(10 * np.log10(np.mean(loud**2) / np.mean(quiet**2)))


def test_stretches_leave_no_holes_and_a_sudden_change_of_odds_makes_no_second_pick():
    for shift in (0.0, 0.005, 0.0123):
        flat = Trace(np.full(3000, 0.5), {"sampling_rate": 100, "starttime": START + shift})
        spans = [((START + i / 100).timestamp, (START + (i + 12) / 100).timestamp, 0.99) for i in range(0, 3100, 13)]
        assert picking._curve("x", "P", [(0, flat)], spans).joint.data[:2990].all()
    denoised = to_stream(spikes(6000, 3000, 3600))
    edges, odds = (0, 30, 30.03, 60), (0.9999, 1e-6, 0.9999)
    for trace in denoised:
        trace.stats.earthquakes = [
            (START + a, START + b - 0.01, x) for (a, b), x in zip(pairwise(edges), odds, strict=True)
        ]
    picks = picking.pick_both(PeakPicker(), to_stream(spikes(6000, 3000, 3600)), denoised, {"P_threshold": 0.3})
    assert [(x.phase, x.time - START) for x in picks.itertuples()] == [("P", 30.0), ("S", 36.0)]


@pytest.mark.parametrize("rate", [50, 100, 250])
def test_stretches_that_touch_have_one_bar_in_a_figure(rate):
    trace = Trace(np.zeros(60 * rate), {"sampling_rate": rate, "starttime": START})
    spans = ((0, 14.99), (15, 20), (10, 12), (25, 29.99), (30, 45))
    trace.stats.earthquakes = [(START + first, START + last, 0.9) for first, last in spans]
    extras = Extras(CDiffSD(), ["figures"], None, {})
    extras.see(Stream(), Stream([trace]), START, START + 60)
    assert [(x.start_time - START, x.end_time - START) for x in extras.detections] == [(0, 20), (25, 45)]


def test_records_before_1970_are_apart_if_they_do_not_overlap():
    traces = [(0, curve([(10, 0.2)], shift=shift)) for shift in (-2e9, -1.9e9, 0.0)]
    assert picking._overlapping(traces) == [[x] for x in traces]


def test_nothing_is_picked_where_the_denoiser_tells_that_there_is_no_earthquake():
    raw, denoised = to_stream(spikes(6000, 3000, 3600)), to_stream(spikes(6000, 3000, 3600))
    start = raw[0].stats.starttime
    for first, phases in ((30.19, ["P", "S"]), (30.21, ["S"]), (36.21, []), (None, [])):
        for trace in denoised:
            spans = [(start, start + 1, 1.0)] + ([(start + first, start + 50, 1.0)] if first else [])
            trace.stats.earthquakes = spans
        picks = picking.pick_both(PeakPicker(), raw, denoised)
        assert list(picks["phase"]) == phases


def test_raw_and_denoised_records_are_picked_together(pickers, caplog):
    stream = noisy_example()
    stream[0].data[1000] = 3e38  # is missing, for the picker as well
    before = stream.copy()
    picks = seisbench_cdiffsd.pick(stream, rate=1)
    assert [(x.phase, x.trace_id, x.instrument) for x in picks] == [(x, "BW.RJOB.", "BW.RJOB..EH") for x in "PS"]
    assert abs(picks[0].peak_time - UTCDateTime("2009-08-24T00:20:07.7")) < 0.3
    assert abs(picks[1].peak_time - UTCDateTime("2009-08-24T00:20:08.7")) < 0.3
    assert picks[0].source == "denoised" and picks[0].raw < 0.5 < picks[0].peak_value <= picks[0].denoised
    assert [x.channel for x in picks] == ["BW.RJOB..EHZ", "BW.RJOB..EHN"] and all(x.snr > 5 for x in picks)
    assert stream == before
    more = seisbench_cdiffsd.pick(stream, sbm.PhaseNet.from_pretrained("original"), threshold=0.2)
    assert "S" in {x.phase for x in more} and len(more.select(phase="P")) >= 1
    counts = [len(seisbench_cdiffsd.pick(stream, "EQTransformer", rate=rate)) for rate in (1, 3, 10)]
    assert counts == sorted(counts)
    seisbench_cdiffsd.pick(stream.resample(20), rate=1)
    assert "Records at 20 Hz" in caplog.text and "give a threshold" in caplog.text


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"rate": 0}, "rate must be 1 to 10 false picks an hour, not 0"),
        ({"rate": float("nan")}, "rate must be 1 to 10"),
        ({"rate": "1"}, "rate must be 1 to 10"),
        ({"threshold": "0.5"}, "threshold must be a probability"),
        ({"threshold": 1}, "threshold must be a probability"),
        ({"weights": "stead"}, "PhaseNet 'stead' is not calibrated.* Give a threshold, such as 0.5"),
        ({"picker": PeakPicker()}, "this picker is not calibrated"),
        ({"model": CDiffSD()}, "These weights of the denoiser are not calibrated: .* base, version 11"),
        ({"picker": "DPP"}, "DPP 'original' is not calibrated"),
        ({"picker": "Nothing", "threshold": 0.5}, "SeisBench has no model 'Nothing'"),
    ],
)
def test_what_cannot_be_picked_together_is_refused(options, error):
    with pytest.raises(ValueError, match=error):
        seisbench_cdiffsd.pick(obspy.read(), **options)
