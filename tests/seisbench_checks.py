"""What SeisBench's tests ask of a model, for a SeisBench that has a CDiffSD of its own."""

import asyncio
import logging
import multiprocessing
import pickle
from copy import deepcopy

import numpy as np
import pytest
import seisbench.models as sbm
import torch
from obspy import Stream, Trace, UTCDateTime
from seisbench.models import CDiffSD, DASWaveformModelWrapper, WaveformModel

START = UTCDateTime(2020, 1, 1)


def stream(channels=("HHZ", "HHN", "HHE"), samples=9000, rate=100.0, seed=0):
    random = np.random.default_rng(seed)
    header = {"network": "XX", "station": "STA", "sampling_rate": rate, "starttime": START}
    return Stream([Trace(random.standard_normal(samples), {**header, "channel": code}) for code in channels])


def data(annotations):
    return np.stack([trace.data for trace in annotations])


@pytest.fixture(scope="module")
def model():
    model = CDiffSD(presence=True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def test_the_model_is_the_one_of_this_seisbench():
    assert CDiffSD.__module__ == "seisbench.models.cdiffsd"
    assert sbm.CDiffSD is CDiffSD and issubclass(CDiffSD, WaveformModel)


def test_annotate(model):
    before = stream()
    annotations = model.annotate(before)
    assert [trace.id for trace in annotations] == [f"XX.STA..CDiffSD_HH{c}" for c in "ZNE"]
    for trace, source in zip(annotations, before, strict=True):
        assert (trace.stats.starttime, trace.stats.npts) == (source.stats.starttime, source.stats.npts)
        assert np.isfinite(trace.data).all()
    np.testing.assert_array_equal(data(before), data(stream()))
    assert len(model.annotate(Stream())) == 0


def test_classify(model):
    output = model.classify(stream())
    assert output.creator == "CDiffSD"
    assert [trace.id for trace in output.denoised] == [f"XX.STA..HH{c}" for c in "ZNE"]
    np.testing.assert_array_equal(data(output.denoised), data(model.annotate(stream())))


def test_every_hook_is_called(model):
    class Hooked(CDiffSD):
        calls = ()

        def annotate_stream_pre(self, stream, argdict):
            self.calls += ("stream_pre",)
            return super().annotate_stream_pre(stream, argdict)

        def annotate_stream_validate(self, stream, argdict):
            self.calls += ("stream_validate",)
            return super().annotate_stream_validate(stream, argdict)

        def annotate_batch_pre(self, batch, argdict):
            assert argdict["steps"] == 3 and argdict["mine"] == 7
            self.calls += ("batch_pre",)
            return super().annotate_batch_pre(batch, argdict)

        def forward(self, x, level=1.0):
            self.calls += ("forward",)
            return super().forward(x, level)

        def annotate_batch_post(self, batch, piggyback, argdict):
            self.calls += ("batch_post",)
            return super().annotate_batch_post(batch, piggyback, argdict)

    hooked = Hooked(**model.get_model_args())
    hooked._annotate_args = {**CDiffSD._annotate_args, "mine": ("An argument of my own", 7)}
    hooked.annotate(stream(), steps=3, mine=7)
    before, after = ("stream_pre", "stream_validate", "batch_pre", "forward"), ("batch_post", "forward", "forward")
    assert hooked.calls == before + after


NOT_DEFAULT = {
    "schedule": "straight",
    "in_samples": 2000,
    "sampling_rate": 50,
    "component_order": "Z12",
    "norm": "peak",
    "filter_args": ("highpass",),
    "filter_kwargs": {"freq": 2.0},
    "presence": True,
}


@pytest.mark.parametrize("arguments", [{}, NOT_DEFAULT, {"filter_args": None}])
def test_save_and_load(tmp_path, arguments):
    model = CDiffSD(**arguments, default_args={"steps": 1, "overlap": 100})
    model.save(tmp_path / "model")
    loaded = CDiffSD.load(tmp_path / "model")
    assert loaded.get_model_args() == model.get_model_args()
    assert loaded.default_args == {"steps": 1, "overlap": 100}
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    assert {key: model.get_model_args()[key] for key in arguments} == arguments


def test_default_args(model):
    other = CDiffSD(**model.get_model_args(), default_args={"steps": 1, "dry": 0.3})
    other.load_state_dict(model.state_dict())
    expected = data(model.annotate(stream(), steps=1, dry=0.3))
    np.testing.assert_array_equal(data(other.annotate(stream())), expected)
    assert not np.allclose(data(other.annotate(stream(), steps=2)), expected)


def test_overlap_and_stacking(model):
    average, maximum = (data(model.annotate(stream(), stacking=name, overlap=2000)) for name in ("avg", "max"))
    assert (maximum >= average - 1e-4).all() and not np.allclose(maximum, average)
    shares = (data(model.annotate(stream(), overlap=overlap)) for overlap in (0.5, 1500))
    np.testing.assert_array_equal(*shares)


def test_blinding(model):
    annotations = model.annotate(stream(), blinding=(200, 300))
    assert [trace.stats.starttime - START for trace in annotations] == [2] * 3
    assert {trace.stats.npts for trace in annotations} == {8500}
    whole = data(model.annotate(stream(), overlap=500, blinding=(0, 0)))[:, 200:2500]
    np.testing.assert_allclose(data(model.annotate(stream(), overlap=500, blinding=(200, 300)))[:, :2300], whole)


def test_batch_size(model):
    expected = data(model.annotate(stream(), batch_size=256))
    for size in (1, 4):
        np.testing.assert_allclose(data(model.annotate(stream(), batch_size=size)), expected, atol=1e-4)


def test_strict(model):
    late = stream()
    late[2].trim(START + 40)
    assert [trace.stats.starttime - START for trace in model.annotate(late, strict=True)] == [40] * 3
    assert [trace.stats.starttime - START for trace in model.annotate(late)] == [0] * 3
    assert len(model.annotate(late[:2], strict=True)) == 0


def test_horizontals_of_other_names(model):
    expected = model.annotate(stream())
    flexible = model.annotate(stream(("HHZ", "HH1", "HH2")))
    np.testing.assert_array_equal(data(flexible), data(expected))
    assert [trace.stats.channel for trace in flexible] == ["CDiffSD_HHZ", "CDiffSD_HH1", "CDiffSD_HH2"]
    rigid = model.annotate(stream(("HHZ", "HH1", "HH2")), flexible_horizontal_components=False)
    assert [trace.stats.channel for trace in rigid] == ["CDiffSD_HHZ"]


def test_missing_components_are_not_invented(model):
    assert [trace.stats.channel for trace in model.annotate(stream(("HHN",)))] == ["CDiffSD_HHN"]


def test_instruments_of_one_location_stay_apart(model):
    both = stream() + stream(("HNZ", "HNN", "HNE"), seed=1)
    found = model.annotate(both)
    assert sorted(trace.stats.channel for trace in found) == sorted(
        f"CDiffSD_{x}{c}" for x in ("HH", "HN") for c in "ZNE"
    )
    np.testing.assert_allclose(data(found.select(channel="*HH?")), data(model.annotate(stream())), atol=1e-5)


def test_short_traces_are_skipped_with_the_usual_warning(model, caplog):
    with caplog.at_level(logging.WARNING, "seisbench"):
        assert len(model.annotate(stream(samples=2999))) == 0
    assert "fragments shorter than the number of input samples" in caplog.text
    assert len(model.annotate(stream(samples=3000))) == 3


def test_other_sampling_rates(model):
    for rate in (50, 200):
        for trace in model.annotate(stream(samples=40 * rate, rate=rate)):
            assert trace.stats.sampling_rate == 100 and abs(trace.stats.npts - 4000) <= 1


@pytest.mark.parametrize("argument", [{"steps": 0}, {"dry": 1}, {"overlap": 3000}, {"stacking": "sum"}])
def test_bad_arguments_are_errors_and_do_not_hang(model, argument):
    with pytest.raises(ValueError, match=next(iter(argument))):
        model.annotate(stream(), **argument)


def test_several_streams_at_a_time(model):
    async def both():
        return await asyncio.gather(*(model.annotate_async(stream(seed=seed)) for seed in (0, 1)))

    for seed, found in enumerate(asyncio.run(both())):
        np.testing.assert_array_equal(data(found), data(model.annotate(stream(seed=seed))))


def test_the_mode_comes_back(model):
    model.train()
    model.annotate(stream())
    assert model.training
    model.eval()


def test_copies(model):
    expected = data(model.annotate(stream()))
    for copy in (deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(data(copy.annotate(stream())), expected)


def annotated(model):
    torch.set_num_threads(1)
    return data(model.annotate(stream()))


def test_spawned_processes(model):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_allclose(pool.apply(annotated, (model,)), data(model.annotate(stream())), atol=1e-5)


def test_compile(model):
    x = torch.randn(2, 3, 3000, generator=torch.Generator().manual_seed(0))
    for one, other in zip(model(x), torch.compile(model, backend="eager")(x), strict=True):
        torch.testing.assert_close(one, other)


def test_das_wrapper(model):
    wrapper = DASWaveformModelWrapper(model)
    x = torch.randn(2, 3000, 4, generator=torch.Generator().manual_seed(0))
    output = wrapper(x, argdict={"steps": 2})
    assert set(output) == {"Z", "E"}  # the wrapper takes N for noise
    assert all(part.shape == x.shape and part.isfinite().all() for part in output.values())
