"""The model as a SeisBench user meets it: streams in, streams out, and the laws that hold for any weights."""

import asyncio
import logging
import pickle
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import obspy
import pytest
import seisbench.models as sbm
import torch
from conftest import randomised
from obspy import Stream, Trace, UTCDateTime
from torch import nn

from seisbench_cdiffsd.model import CDiffSD
from seisbench_cdiffsd.options import STACKING
from seisbench_cdiffsd.streams.amplitudes import normalize

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


# -- the network


def test_importing_the_package_adds_the_model_to_seisbench():
    assert sbm.CDiffSD is CDiffSD
    assert "e2024JH000179" in CDiffSD().citation


@pytest.mark.parametrize("network", ["default", "published"])
@pytest.mark.parametrize("samples", [3000, 1003])
def test_forward_keeps_the_shape_and_takes_levels(network, samples):
    model = randomised(CDiffSD(network=network)).eval()
    x = torch.randn(2, 3, samples, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert model(x).shape == x.shape
        torch.testing.assert_close(model(x), model(x, 1.0))
        torch.testing.assert_close(model(x, 0.5), model(x, torch.tensor([0.5, 0.5])))
        assert not torch.allclose(model(x, 0.5), model(x))


# -- laws of the output


@pytest.mark.parametrize("exponent", [-40, -7, 1, 40])
def test_scaling_by_powers_of_two_is_exact(model, exponent):
    data = stream()
    expected = arrays(model.denoise(data, steps=2)) * 2.0**exponent
    for tr in data:
        tr.data *= 2.0**exponent
    np.testing.assert_array_equal(arrays(model.denoise(data, steps=2)), expected)


@pytest.mark.parametrize("scale", [1e-12, 3.7, 1e12])
def test_scaling_the_input_scales_the_output(model, scale):
    data = stream()
    expected = arrays(model.denoise(data, steps=2))
    for tr in data:
        tr.data *= scale
    np.testing.assert_allclose(arrays(model.denoise(data, steps=2)) / scale, expected, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 256])
def test_the_batch_size_does_not_matter(model, batch_size):
    data = stream(samples=9000)
    expected = model.annotate(data, steps=2, batch_size=3)
    assert_equal(model.annotate(data, steps=2, batch_size=batch_size), expected, atol=1e-4)


def test_what_else_is_in_the_stream_does_not_matter(model):
    one, loud = stream(), stream(station="LOUD", seed=1)
    other = stream(("HNZ", "HN1"), samples=2500, seed=2) + stream(("EHZ",), rate=50, samples=1500, seed=3)
    for tr in loud:
        tr.data *= 1e9
    together = model.denoise(loud + one + other, steps=2, batch_size=4)
    assert [tr.id for tr in together] == [tr.id for tr in loud + one + other]
    assert_equal(together[3:6], model.denoise(one, steps=2), atol=1e-4)
    assert_equal(together[6:8], model.denoise(other[:2], steps=2), atol=1e-4)
    assert_equal(together[8:], model.denoise(other[2:], steps=2), atol=1e-4)


def test_the_order_of_the_traces_does_not_matter(model):
    data = stream()
    assert_equal(model.denoise(data[::-1], steps=1)[::-1], model.denoise(data, steps=1), rtol=0)
    assert_equal(model.annotate(data[::-1], steps=1), model.annotate(data, steps=1), rtol=0)


def test_a_later_record_gives_a_later_output(model):
    data = stream(samples=12000)
    later = data.copy().trim(START + 15)
    options = {"steps": 1, "overlap": 1500}
    inner = START + 70, START + 100
    assert_equal(model.denoise(later, **options).slice(*inner), model.denoise(data, **options).slice(*inner), atol=1e-3)


def test_signal_and_noise_add_up_to_the_input(model, example):
    example[0].data = (example[0].data * 1000 + 10**7).astype(np.int32)
    example[1].data[50:60] = np.nan
    signal, noise = model.denoise(example, return_noise=True, steps=1)
    for s, n, x in zip(signal, noise, example, strict=True):
        np.testing.assert_allclose(np.ma.filled(s.data + n.data, np.nan), x.data, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("stacking", STACKING)
@pytest.mark.parametrize("options", [{}, {"overlap": 0}, {"overlap": 0.8}, {"overlap": 700, "blinding": (300, 100)}])
def test_windows_leave_no_seams(same, stacking, options):
    data = stream(samples=10_007)
    whole = CDiffSD(in_samples=10_007)
    whole.network = Same()
    expected = whole.annotate(data)
    assert_equal(same.annotate(data, stacking=stacking, **options), expected, atol=1e-5)


# -- unusual input


@pytest.mark.parametrize("value", [0, 7, -1e12])
def test_constant_records_become_silence(model, value):
    data = stream()
    for tr in data:
        tr.data = np.full(len(tr), value, dtype=float)
    np.testing.assert_array_equal(arrays(model.denoise(data)), 0)


@pytest.mark.parametrize("samples", [1, 2, 30, 2999, 3000, 3001])
def test_short_records_are_denoised(model, samples):
    data = stream(samples=samples)
    for out in (model.annotate(data, steps=1), model.denoise(data, steps=1)):
        assert [tr.stats.npts for tr in out] == [samples] * 3
        assert np.isfinite(arrays(out)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, "masked"])
def test_gaps_stay_gaps(model, bad):
    data = stream()
    if bad == "masked":
        data[1].data = np.ma.masked_array(data[1].data, np.arange(4000) // 100 == 20)
    else:
        data[1].data[2000:2100] = bad
    out = model.denoise(data, steps=1)
    assert [np.ma.isMaskedArray(tr.data) for tr in out] == [False, True, False]
    assert list(np.flatnonzero(out[1].data.mask)) == list(range(2000, 2100))
    annotated = model.annotate(data, steps=1).select(channel="*N")
    assert [(tr.stats.starttime, tr.stats.npts) for tr in annotated] == [(START, 2000), (START + 21, 1900)]
    assert np.isfinite(np.concatenate([tr.data for tr in annotated])).all()


def test_missing_components_are_not_invented(model):
    data = stream(("HHZ", "HH2"))
    assert [tr.stats.channel for tr in model.annotate(data, steps=1)] == ["CDiffSD_HHZ", "CDiffSD_HH2"]
    assert [tr.id for tr in model.denoise(data, steps=1)] == [tr.id for tr in data]


def test_nothing_comes_of_nothing(model):
    for data in (Stream(), Stream([Trace(header={"channel": "HHZ"})]), stream(("HDF",))):
        assert len(model.annotate(data)) == 0
        assert [len(part) for part in model.denoise(data, return_noise=True)] == [0, 0]


def test_the_input_stays_as_it_is(model, example):
    before = example.copy()
    for call in (model.annotate, model.denoise, model.classify):
        call(example, steps=1)
        assert example == before


@pytest.mark.parametrize("rate", [20, 40, 50, 99.999, 100, 200, 500])
def test_other_sampling_rates(model, rate):
    data = stream(samples=int(35 * rate), rate=rate)
    out = model.denoise(data, steps=1)
    assert [(tr.id, tr.stats.sampling_rate, tr.stats.npts, tr.stats.starttime) for tr in out] == [
        (tr.id, tr.stats.sampling_rate, tr.stats.npts, tr.stats.starttime) for tr in data
    ]
    for tr in model.annotate(data, steps=1):
        assert tr.stats.sampling_rate == (rate if rate == 99.999 else 100)
        assert tr.stats.starttime == START
        assert 0 <= data[0].stats.endtime - tr.stats.endtime < 0.01


def test_a_wave_in_the_band_is_kept_at_its_own_rate(same):
    time = np.arange(40 * 250) / 250
    data = Stream([Trace(np.sin(2 * np.pi * 5 * time), {"channel": "HHZ", "sampling_rate": 250})])
    (out,) = same.denoise(data)
    np.testing.assert_allclose(out.data[1000:-1000], data[0].data[1000:-1000], atol=0.01)


# -- the manners of SeisBench


def test_annotations_carry_the_name_of_the_model(model, example):
    out = model.annotate(example, steps=1)
    assert [tr.id for tr in out] == [f"BW.RJOB..CDiffSD_EH{c}" for c in "ZNE"]
    assert {tr.data.dtype for tr in out} == {np.dtype(np.float32)}


def test_classify_returns_the_denoised_stream(model, example):
    out = model.classify(example, steps=1)
    assert out.creator == "CDiffSD"
    assert [tr.id for tr in out.denoised] == [tr.id for tr in example]
    np.testing.assert_allclose(arrays(out.denoised), arrays(model.denoise(example, steps=1)), rtol=1e-6)


def test_denoised_streams_can_be_written(model, example, tmp_path, recwarn):
    for tr in example:
        tr.data = tr.data.astype(np.int32)
    example.write(tmp_path / "in.mseed", format="MSEED")
    model.denoise(obspy.read(tmp_path / "in.mseed"), steps=1).write(tmp_path / "out.mseed", format="MSEED")
    assert [tr.data.dtype for tr in obspy.read(tmp_path / "out.mseed")] == [np.float64] * 3
    assert not [w for w in recwarn if "encoding" in str(w.message)]


def test_several_streams_at_a_time(model, example):
    async def both():
        return await asyncio.gather(model.annotate_async(example, steps=1), model.annotate_async(stream(), steps=1))

    one, other = asyncio.run(both())
    assert_equal(one, model.annotate(example, steps=1), rtol=0)
    assert_equal(other, model.annotate(stream(), steps=1), rtol=0)


def test_every_module_gets_its_mode_back(example):
    model = CDiffSD()
    model.train()
    frozen = next(module for module in model.modules() if not list(module.children()))
    frozen.eval()
    modes = [module.training for module in model.modules()]
    model.denoise(example, steps=1)
    assert [module.training for module in model.modules()] == modes

    class Broken(nn.Module):
        def forward(self, x, level):
            assert not self.training
            raise RuntimeError("broken")

    model.network = Broken()
    for call in (model.annotate, model.denoise):
        with pytest.raises(RuntimeError, match="broken"):
            call(example)
        assert model.training
        assert model.network.training


def test_a_call_that_ends_leaves_others_in_evaluation_mode():
    class Watched(Same):
        modes = ()

        def forward(self, x, level):
            self.modes += (self.training,)
            return x

    model = CDiffSD()
    model.network = Watched()
    model.train()

    async def several():
        calls = (model.annotate_async(stream(samples=n), steps=1, batch_size=1) for n in (3000, 9000, 30_000))
        return await asyncio.gather(*calls)

    asyncio.run(several())
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda n: model.denoise(stream(samples=n), steps=1, batch_size=1), (30_000, 3000, 9000)))
    assert len(model.network.modes) > 20 and not any(model.network.modes)
    assert model.training and model.network.training


def test_a_model_can_be_copied_and_pickled_while_it_is_in_use(example):
    model = randomised(CDiffSD())
    expected = model.denoise(example, steps=1)
    model.train()
    with model._evaluation(model):
        copies = deepcopy(model), pickle.loads(pickle.dumps(model))
    for other in copies:
        assert_equal(other.denoise(example, steps=1), expected, rtol=0)
        assert not other.training  # as it was when it was copied
    assert model.training


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_returns_nan_or_infinity_says_so(example, value):
    damaged = randomised(CDiffSD())
    with torch.no_grad():
        next(damaged.network.head.parameters())[0] = value
    for call in (damaged.annotate, damaged.denoise):
        with pytest.raises(FloatingPointError, match="weights may be damaged") as error:
            call(example, steps=1)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("convert", ["half", "bfloat16", "double"])
def test_other_than_single_precision_is_refused_with_a_hint(example, convert):
    converted = getattr(CDiffSD(), convert)()
    for call in (converted.annotate, converted.denoise):
        with pytest.raises(ValueError, match=r"call \.float\(\) first") as error:
            call(example, steps=1)
        assert "\n" not in str(error.value)
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
        assert loaded.restore(torch.randn(1, 3, 3000), 1).dtype == torch.float32
        assert len(CDiffSD(network=network).denoise(example, steps=1)) == 3
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "argument",
    [
        {"steps": 0},
        {"steps": 1.5},
        {"steps": "4"},
        {"steps": None},
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"overlap": -0.1},
        {"overlap": 3000},
        {"overlap": 1.5},
        {"overlap": float("nan")},
        {"overlap": None},
        {"stacking": "sum"},
        {"blinding": -1},
        {"blinding": None},
        {"blinding": (1, 2, 3)},
        {"blinding": ((1, 2), 3)},
        {"blinding": "12"},
        {"blinding": 500, "overlap": 0.3},
    ],
)
def test_arguments_out_of_range_are_refused_in_one_line(model, example, argument):
    for call in (model.annotate, model.classify, model.denoise):
        with pytest.raises(ValueError, match=next(iter(argument)) + " must|Unknown stacking") as error:
            call(example, **argument)
        assert "\n" not in str(error.value)


def test_arguments_may_be_numbers_of_numpy(model, example):
    given = {"overlap": np.int64(1500), "noise_floor": np.float32(0.5), "noise_margin": np.int64(5)}
    same = {"overlap": 1500, "noise_floor": 0.5, "noise_margin": 5}
    few, many = ({**x, "steps": 1, "blinding": blinding} for x, blinding in ((same, (9, 9)), (given, np.array([9, 9]))))
    assert_equal(model.denoise(example, **few), model.denoise(example, **many), rtol=0)


def test_no_noise_is_left_on_request(model, example):
    alone = model.denoise(example, leave_noise=False)
    assert_equal(alone, model.denoise(example, noise_floor=0, noise_margin=np.inf), rtol=0)
    assert not np.allclose(arrays(alone), arrays(model.denoise(example)))


def test_unknown_arguments_are_named(model, example, caplog):
    with caplog.at_level(logging.WARNING, "seisbench"):
        model.annotate(example, step=1, steps=1)
    assert "'step'" in caplog.text


def test_default_arguments_are_used(example):
    model = randomised(CDiffSD(default_args={"steps": 1}))
    assert (model.options().steps, model.options(steps=3).steps, CDiffSD().options().steps) == (1, 3, 2)
    assert_equal(model.denoise(example), model.denoise(example, steps=1), rtol=0)
    assert not np.allclose(arrays(model.denoise(example)), arrays(model.denoise(example, steps=2)))


def test_no_filter_on_request(same, example):
    model = CDiffSD(filter_args=None)
    model.network = Same()
    expected = arrays(example) - arrays(example).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(arrays(model.denoise(example)), expected, atol=1e-2)
    assert not np.allclose(arrays(same.denoise(example)), expected, atol=1)


@pytest.mark.parametrize(
    ("argument", "names"),
    [
        ({"network": "resnet"}, "published"),
        ({"schedule": "cosine"}, "straight"),
        ({"norm": "max"}, "peak"),
        ({"component_order": "ZRT"}, "ZNE"),
        ({"filter_args": ("notch",)}, "bandpass"),
        ({"in_samples": 0}, "positive int"),
        ({"in_samples": 3000.0}, r"positive int.* 3000\.0"),
        ({"sampling_rate": 0}, "sampling_rate > 0"),
    ],
)
def test_unknown_names_are_refused_with_those_there_are(argument, names):
    with pytest.raises(ValueError, match=names):
        CDiffSD(**argument)


@pytest.mark.parametrize("argument", ["allow_padding", "grouping", "citation", "labels", "windows"])
def test_arguments_that_would_have_no_effect_are_refused(argument):
    with pytest.raises(TypeError, match=argument):
        CDiffSD(**{argument: True})


def test_default_arguments_are_the_models_own(tmp_path):
    given = {"steps": 1}
    model = CDiffSD(default_args=given)
    model.default_args["overlap"] = 0.5
    assert given == {"steps": 1} and CDiffSD().default_args == {}
    model.save(tmp_path / "model")
    loaded = CDiffSD.load(tmp_path / "model")
    assert loaded.default_args == {"steps": 1, "overlap": 0.5}
    assert loaded.options() == model.options()


@pytest.mark.parametrize("shape", [(3, 3000), (1, 1, 3000), (1, 2, 3000), (1, 3, 30, 100)])
def test_windows_of_another_shape_are_refused_in_one_line(model, shape):
    with pytest.raises(ValueError, match=r"\(batch, 3, samples\), not \(") as error:
        model.restore(torch.zeros(shape))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("steps", [1, 3])
def test_windows_are_restored_in_the_models_own_number_of_steps(steps):
    model = randomised(CDiffSD(default_args={"steps": steps}))
    x = torch.randn(1, 3, 3000, generator=torch.Generator().manual_seed(0))
    assert model.restore(x).equal(model.restore(x, steps))
    assert not torch.allclose(model.restore(x), model.restore(x, 2))


class Oracle(torch.nn.Module):
    """A network that knows the answer."""

    def __init__(self, clean):
        super().__init__()
        self.clean = clean

    def forward(self, x, level):
        return self.clean


@pytest.mark.parametrize("schedule", ["straight", "published-linear", "published-cosine"])
@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_the_noise_floor_is_the_share_of_the_noise_that_stays(schedule, floor):
    clean, noise = (5 * torch.randn(2, 3, 800, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    model = CDiffSD(schedule=schedule)
    model.network = Oracle(clean / normalize(clean + noise)[1])
    torch.testing.assert_close(model.restore(clean + noise, 3, floor), clean + floor * noise, atol=1e-4, rtol=1e-4)


def test_the_processing_of_a_trace_says_that_it_was_denoised(model, example):
    example.filter("highpass", freq=0.5)
    before = list(example[0].stats.processing)
    streams = [*model.denoise(example, return_noise=True, steps=1), model.annotate(example, steps=1)]
    for stream, known in zip(streams, (before, before, []), strict=True):
        *others, note = stream[0].stats.processing
        assert others == known
        assert note.startswith("seisbench_cdiffsd ") and "denoise(steps=1::leave_noise=True::noise_floor=" in note
    assert example[0].stats.processing == before
