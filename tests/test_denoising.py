"""The careful denoise, of any SeisBench denoiser: what comes back, and the laws that hold for any weights."""

import logging
from itertools import pairwise

import numpy as np
import obspy
import pytest
import seisbench.models as sbm
import torch
from conftest import randomised
from obspy import Stream, Trace, UTCDateTime
from torch import nn

from seisbench_cdiffsd import CDiffSD, denoise
from seisbench_cdiffsd.denoising import DRY, FADE, REACH, check_pieces, loudness

START = UTCDateTime(2020, 1, 1)


class Same(nn.Module):
    """A network that takes every record for clean."""

    def forward(self, x, level):
        return x


@pytest.fixture(scope="module")
def same():
    """A model whose output is its input, in the band."""
    model = CDiffSD()
    model.network = Same()
    return model


def stream(channels=("HHZ", "HHN", "HHE"), samples=4000, rate=100.0, station="STA", seed=0):
    generator = np.random.default_rng(seed)
    header = {"network": "XX", "station": station, "sampling_rate": rate, "starttime": START}
    return Stream([Trace(generator.standard_normal(samples), {**header, "channel": c}) for c in channels])


def arrays(stream):
    return np.stack([tr.data for tr in stream])


def assert_equal(one, other, **tolerance):
    assert [tr.id for tr in one] == [tr.id for tr in other]
    for a, b in zip(one, other, strict=True):
        assert a.stats.starttime == b.stats.starttime
        np.testing.assert_allclose(np.ma.filled(a.data, np.nan), np.ma.filled(b.data, np.nan), **tolerance)


# -- laws of the output


@pytest.mark.parametrize("exponent", [-40, -7, 1, 40])
def test_scaling_by_powers_of_two_is_exact(model, exponent):
    data = stream()
    expected = arrays(model.denoise(data, steps=2)) * 2.0**exponent
    for tr in data:
        tr.data *= 2.0**exponent
    np.testing.assert_array_equal(arrays(model.denoise(data, steps=2)), expected)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 256])
def test_the_batch_size_does_not_matter(model, batch_size):
    data = stream(samples=9000)
    expected = model.denoise(data, steps=2, batch_size=3)
    assert_equal(model.denoise(data, steps=2, batch_size=batch_size), expected, atol=1e-4)


@pytest.mark.parametrize("overlap", [0, 0.3, 0.8, 700])
def test_windows_leave_no_seams(same, overlap):
    data = stream(samples=10_007)
    whole = CDiffSD(in_samples=10_007)
    whole.network = Same()
    assert_equal(same.denoise(data, overlap=overlap), whole.denoise(data), atol=1e-5)


# -- unusual input


def test_denoised_streams_can_be_written(model, example, tmp_path, recwarn):
    for tr in example:
        tr.data = tr.data.astype(np.int32)
    example.write(tmp_path / "in.mseed", format="MSEED")
    model.denoise(obspy.read(tmp_path / "in.mseed"), steps=1).write(tmp_path / "out.mseed", format="MSEED")
    assert [tr.data.dtype for tr in obspy.read(tmp_path / "out.mseed")] == [np.float64] * 3
    assert not [w for w in recwarn if "encoding" in str(w.message)]


def refused(model, example, error, match):
    for call in (model.annotate, model.denoise):
        with pytest.raises(error, match=match) as info:
            call(example, steps=1)
        assert "\n" not in str(info.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_returns_nan_or_infinity_says_so(example, value):
    damaged = randomised(CDiffSD())
    with torch.no_grad():
        next(damaged.network.head.parameters())[0] = value
    refused(damaged, example, FloatingPointError, "weights are damaged")


@pytest.mark.parametrize("convert", ["half", "bfloat16", "double"])
def test_other_than_single_precision_is_refused_with_a_hint(example, convert):
    converted = getattr(CDiffSD(), convert)()
    refused(converted, example, ValueError, r"call \.float\(\) first")
    assert len(converted.float().denoise(example, steps=1)) == 3


@pytest.mark.parametrize("network", ["default", "published"])
def test_the_default_precision_of_torch_does_not_matter(example, network, tmp_path):
    model = randomised(CDiffSD(network=network))
    model.save(tmp_path / "model")
    expected = model.denoise(example, steps=1)
    torch.set_default_dtype(torch.float64)
    try:
        loaded = CDiffSD.load(tmp_path / "model")
        assert {x.dtype for x in loaded.state_dict().values() if x.is_floating_point()} == {torch.float32}
        assert_equal(loaded.denoise(example, steps=1), expected, atol=1e-3)
        assert loaded.restore(torch.randn(1, 3, 3000), steps=1).dtype == torch.float32
        assert len(CDiffSD(network=network).denoise(example, steps=1)) == 3
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "argument",
    [
        *({"purpose": x} for x in ("fun", ["fun"])),
        *({"dry": x} for x in (1.0, -0.1, "0.1")),
        *({"overlap": x} for x in (6000, "0.5")),
        *({"strict": x} for x in ("no", None)),
        {"flexible_horizontal_components": "yes"},
    ],
)
def test_what_stays_is_a_share_or_a_purpose(model, example, argument):
    with pytest.raises(ValueError, match=next(iter(argument)) + " must be"):
        denoise(example, model, **argument)
    with pytest.raises(ValueError, match=next(iter(argument)) + " must be"):
        denoise(example, sbm.DeepDenoiser(), **argument)


def test_the_purpose_names_the_share_of_the_noise_that_stays(model, example):
    clean = denoise(example, model, purpose="waveforms")
    assert_equal(clean, denoise(example, model, dry=0.0), rtol=0)
    left, _ = denoise(example, model, return_noise=True)
    assert_equal(left, denoise(example, model, dry=DRY["picking"]), rtol=0)
    example.filter("bandpass", freqmin=1, freqmax=45, zerophase=True)
    assert (arrays(left) - arrays(clean)).std() > 0.02 * (arrays(example) - arrays(clean)).std()


class Told(nn.Module):
    """A network that removes half, and takes for an earthquake what is loudest at one place of a window."""

    def forward(self, x, level):
        return x / 2, 10.0 * x.abs().amax((1, 2)) - 100.0


def test_noise_that_stays_fades_away_from_earthquakes_without_an_edge():
    data = stream(samples=60_000)
    data[0].data[30_000] = 1000.0
    model = CDiffSD(presence=True, filter_args=None)
    model.network = Told()
    clean, noise = model.denoise(data, steps=1, dry=0.2, return_noise=True)
    (first, *_), *_, (_, last, _) = spans = clean[0].stats.earthquakes
    for (_, end, probability), (start, *_) in pairwise(spans):
        assert 0 < probability < 1 and start == end + 0.01
    assert START + 270 <= first <= START + 285 and START + 315 <= last <= START + 330
    z = data[1].data - data[1].data.mean()
    near, (i, j) = np.abs(np.arange(60_000) / 100 - 300) < 15, (round(100 * (x - START)) for x in (first, last))
    np.testing.assert_allclose(clean[1].data[near], 0.6 * z[near], atol=1e-5)
    for place in (i - 6000, j + 6000):
        np.testing.assert_allclose(clean[1].data[place], 0.1 * 10 ** (-FADE * 60 / 20) * z[place], rtol=1e-3)
    silent = model.denoise(data, steps=1, dry=0.0)
    assert not silent[1].data[:i].any() and not silent[1].data[j + 1 :].any() and silent[1].data[i : j + 1].all()
    assert all("earthquakes" not in trace.stats for trace in (*noise, *denoise(data, CDiffSD(filter_args=None))))
    assert all("earthquakes" not in trace.stats for trace in denoise(clean, CDiffSD(filter_args=None)))
    data[0].data[30_000] = 0.0
    nothing = model.denoise(data, steps=1)
    assert not arrays(nothing).any() and nothing[0].stats.earthquakes == []


@pytest.mark.parametrize("rate", [99.9999, 100.0000022, 200 / 3, 250.0])
def test_stretches_are_those_of_the_trace_whatever_its_rate(rate):
    model = CDiffSD(presence=True, filter_args=None)
    model.network = Told()
    data = stream(samples=round(120 * rate))
    for trace in data:
        trace.stats.sampling_rate = rate
    pieces = data.copy().slice(endtime=START + 50) + data.copy().slice(START + 50.01)
    for trace in (*denoise(data, model, silence=0), *denoise(pieces, model, silence=0)):
        spans = trace.stats.earthquakes
        (first, *_), (_, last, _) = spans[0], spans[-1]
        assert first - 15.1 <= trace.stats.starttime and trace.stats.endtime <= last + 0.02 + 15
        assert first <= trace.stats.starttime + 0.02 and last >= trace.stats.endtime - 0.02
        assert all(x[1] >= trace.stats.starttime and x[0] <= trace.stats.endtime for x in spans)
        assert all(abs(one[1] - other[0]) < 0.011 for one, other in pairwise(spans))


def test_the_gain_of_noise_reaches_five_minutes():
    found = np.zeros(100_000, bool)
    found[40_000:40_100] = True
    gain = loudness(found, 100.0)
    seconds = np.array([0, 1, 100, REACH - 1, REACH + 1])
    expected = np.where(seconds < REACH, 10 ** (-FADE * seconds / 20), 0)
    for places in (40_000 - 100 * seconds, 40_099 + 100 * seconds):
        np.testing.assert_allclose(gain[places.astype(int)], expected, rtol=1e-5)


def test_arguments_may_be_defaults_or_numbers_of_numpy_and_unknown_ones_are_named(example, caplog):
    model = randomised(CDiffSD(default_args={"steps": 1, "dry": 0.4}))
    expected = model.denoise(example, steps=1, dry=0.4)
    assert_equal(model.denoise(example), expected, rtol=0)
    assert_equal(model.denoise(example, purpose="waveforms"), model.denoise(example, dry=0.0), rtol=0)
    assert not np.allclose(arrays(expected), arrays(model.denoise(example, steps=2)))
    given = {"overlap": np.int64(1500), "dry": np.float64(0.4), "steps": np.int64(1)}
    assert_equal(model.denoise(example, **given), expected, rtol=0)
    with caplog.at_level(logging.WARNING, "seisbench"):
        model.denoise(example, step=1)
    assert "'step'" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "culprit"),
    [
        ({"default_args": {"steps": 1e9}}, "steps"),
        ({"default_args": {"overlap": 2999}}, "overlap"),
        ({"filter_kwargs": {"freqmin": 1.0, "freqmax": 45.0, "corners": 300, "zerophase": True}}, "corners"),
        ({"filter_kwargs": {"freqmin": 45.0, "freqmax": 1.0}}, "corner frequencies"),
        ({"filter_args": ("lowpass",), "filter_kwargs": {"freq": 10.0}}, "whole record"),
    ],
)
def test_weights_that_cannot_work_are_refused_before_any_work(wrong, culprit):
    with pytest.raises(ValueError, match=culprit) as error:
        check_pieces(CDiffSD(**wrong))
    assert "\n" not in str(error.value)


def test_no_filter_on_request(same, example):
    model = CDiffSD(filter_args=None)
    model.network = Same()
    expected = arrays(example) - arrays(example).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(arrays(model.denoise(example)), expected, atol=1e-2)
    assert not np.allclose(arrays(same.denoise(example)), expected, atol=1)


@pytest.mark.parametrize("shape", [(3, 3000), (1, 1, 3000), (1, 2, 3000), (1, 3, 30, 100)])
def test_windows_of_another_shape_are_refused_in_one_line(model, shape):
    with pytest.raises(ValueError, match=r"\(batch, 3, samples\), not \(") as error:
        model.restore(torch.zeros(shape))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("steps", [1, 3])
def test_windows_are_restored_in_the_models_own_number_of_steps(steps):
    model = randomised(CDiffSD(default_args={"steps": steps}))
    x = torch.randn(1, 3, 3000, generator=torch.Generator().manual_seed(0))
    assert model.restore(x).equal(model.restore(x, steps=steps))
    assert not torch.allclose(model.restore(x), model.restore(x, steps=2))


@pytest.mark.parametrize("before", [None, "filtered", ["filtered"], []])
def test_the_processing_of_a_trace_says_that_it_was_denoised(model, example, before):
    for tr in example:
        tr.stats.processing = before
    for out in model.denoise(example, return_noise=True, steps=1):
        *others, note = out[0].stats.processing
        assert others == (["filtered"] if before else [])
        assert note.startswith("seisbench_cdiffsd ") and "denoise(model='CDiffSD'::dry=0.2::steps=1)" in note
    assert example[0].stats.processing == before


# -- other denoisers


@pytest.fixture(scope="module", params=["DeepDenoiser", "SeisDAE"])
def other(request):
    """Another denoiser of SeisBench, untrained."""
    torch.manual_seed(0)
    return getattr(sbm, request.param)().eval()


def test_other_denoisers_lose_nothing_either(other):
    data = stream(("HHZ", "HH2"), samples=4321) + stream(("HNE",), samples=900, rate=62.5, seed=1)
    data[0].data[1000:1100] = np.nan
    signal, noise = denoise(data, other, return_noise=True)
    for s, n, x in zip(signal, noise, data, strict=True):
        assert (s.id, s.stats.starttime, s.stats.sampling_rate) == (x.id, x.stats.starttime, x.stats.sampling_rate)
        np.testing.assert_allclose(np.ma.filled(s.data + n.data, np.nan), x.data, atol=1e-9)
    assert list(np.flatnonzero(signal[0].data.mask)) == list(range(1000, 1100))


def test_other_denoisers_know_neither_scale_nor_batch_mates(other):
    data = stream(samples=6000)
    expected = arrays(denoise(data, other))
    loud = data + stream(samples=6000, station="LOUD", seed=2)
    for tr in loud:
        tr.data = tr.data * 1e6
    found = arrays(denoise(loud, other, batch_size=5).select(station="STA"))
    np.testing.assert_allclose(found / 1e6, expected, atol=1e-3)


def test_a_share_of_the_noise_stays_with_other_denoisers_too(other):
    data = stream(("HHZ",), samples=3000)
    clean, left = (denoise(data, other, dry=dry)[0].data for dry in (0.0, 0.25))
    np.testing.assert_allclose(left, clean + 0.25 * (data[0].data - data[0].data.mean() - clean), atol=1e-3)


def test_unusual_names_of_components(model, caplog):
    data = stream(("UD", "NS", "EW"))
    assert len(denoise(data, model)) == 0
    assert "XX.STA..UD (100 Hz)" in caplog.text
    found = denoise(data, model, components={"UD": "Z", "NS": "N", "EW": "E"})
    assert [tr.id for tr in found] == [tr.id for tr in data]
    np.testing.assert_array_equal(arrays(found), arrays(denoise(stream(), model)))


@pytest.mark.parametrize("rates", [(99.99994, 99.99996), (99.996, 100.004)])
def test_fragments_whose_rate_wavers_are_one_record(model, rates):
    whole = stream(samples=4000)
    parts = Stream(part for tr in whole for part in (tr.slice(endtime=START + 19.99), tr.slice(START + 20)))
    for number, tr in enumerate(parts):
        tr.stats.sampling_rate = rates[number % 2]
    found = denoise(parts, model).sort()
    expected = denoise(whole, model).sort()
    for i, tr in enumerate(expected):
        joined = np.concatenate([found[2 * i].data, found[2 * i + 1].data])
        np.testing.assert_allclose(joined, tr.data, atol=0.02 * abs(tr.data).max())


@pytest.mark.parametrize("rate", [100.02, 99.98, 500 / 3, 40.0001])
def test_the_rate_of_a_trace_is_kept_to_the_last_digit(model, rate):
    noisy = stream(rate=rate)
    for returned in model.denoise(noisy, return_noise=True):
        assert [x.stats.sampling_rate for x in returned] == [x.stats.sampling_rate for x in noisy]
        assert [x.stats.endtime for x in returned] == [x.stats.endtime for x in noisy]
