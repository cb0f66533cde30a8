import logging

import numpy as np
import obspy
import pytest
import torch

import seisbench.models as sbm

START = obspy.UTCDateTime(2020, 1, 1)
IDS = [f".STA..CDiffSD_HH{component}" for component in "ZNE"]


def stream(channels=("HHZ", "HHN", "HHE"), samples=9000, rate=100.0, seed=0):
    random = np.random.default_rng(seed)
    header = {"station": "STA", "sampling_rate": rate, "starttime": START}
    return obspy.Stream(
        [
            obspy.Trace(random.standard_normal(samples), {**header, "channel": channel})
            for channel in channels
        ]
    )


def data(annotations):
    return np.stack([trace.data for trace in annotations])


@pytest.fixture(scope="module")
def model():
    # An untrained model leaves its input as it is
    model = sbm.CDiffSD(presence=True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
        model.network.presence[-1].bias += 3  # log odds at which nothing is faded
    return model


def test_annotate_cdiffsd(model):
    before = stream()
    annotations = model.annotate(before)
    assert [trace.id for trace in annotations] == IDS
    assert {trace.stats.starttime - START for trace in annotations} == {0}
    assert data(annotations).shape == (3, 9000)
    assert np.isfinite(data(annotations)).all()
    np.testing.assert_array_equal(data(before), data(stream()))
    assert len(model.annotate(obspy.Stream())) == 0


def test_classify_cdiffsd(model):
    output = model.classify(stream())
    assert output.creator == "CDiffSD"
    assert [trace.id for trace in output.denoised] == [f".STA..HH{c}" for c in "ZNE"]
    np.testing.assert_array_equal(data(output.denoised), data(model.annotate(stream())))


def test_cdiffsd_detections(model):
    annotations = model.annotate(stream(), detection=True)
    assert [trace.id for trace in annotations[:3]] == IDS
    assert annotations[3].id == ".STA..CDiffSD_HH_Detection"
    assert 0 < annotations[3].data.min() <= annotations[3].data.max() < 1
    certain = model.classify(stream(), detection_threshold=1e-6).detections
    assert [x.end_time - x.start_time for x in certain] == [89.99]
    assert len(model.classify(stream(), detection_threshold=0.999999).detections) == 0


def test_cdiffsd_scales_with_its_input(model):
    louder = stream()
    for trace in louder:
        trace.data *= 1e6
    expected = 1e6 * data(model.annotate(stream()))
    np.testing.assert_allclose(data(model.annotate(louder)), expected, atol=10)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"filter_args": None},
        {
            "in_samples": 2000,
            "sampling_rate": 50,
            "component_order": "Z12",
            "norm": "peak",
            "filter_args": ("highpass",),
            "filter_kwargs": {"freq": 2.0},
            "presence": True,
        },
    ],
)
def test_save_load_cdiffsd(tmp_path, arguments):
    model = sbm.CDiffSD(**arguments, default_args={"steps": 1, "overlap": 100})
    model.save(tmp_path / "cdiffsd")
    loaded = sbm.CDiffSD.load(tmp_path / "cdiffsd")
    assert loaded.get_model_args() == model.get_model_args()
    assert {key: loaded.get_model_args()[key] for key in arguments} == arguments
    assert loaded.default_args == {"steps": 1, "overlap": 100}
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_cdiffsd_batch_size(model):
    expected = data(model.annotate(stream(), batch_size=256))
    for size in (1, 4):
        annotations = model.annotate(stream(), batch_size=size)
        np.testing.assert_allclose(data(annotations), expected, atol=1e-4)


def test_cdiffsd_blinding(model):
    annotations = model.annotate(stream(), blinding=(200, 300))
    assert {trace.stats.starttime - START for trace in annotations} == {2}
    assert {trace.stats.npts for trace in annotations} == {8500}


def test_cdiffsd_components(model):
    expected = data(model.annotate(stream()))
    numbered = model.annotate(stream(("HHZ", "HH1", "HH2")))
    np.testing.assert_array_equal(data(numbered), expected)
    assert [trace.stats.channel[-3:] for trace in numbered] == ["HHZ", "HH1", "HH2"]
    # Missing components are not invented, and two instruments stay apart
    assert [x.stats.channel for x in model.annotate(stream(("HHN",)))] == [
        "CDiffSD_HHN"
    ]
    both = model.annotate(stream() + stream(("HNZ", "HNN", "HNE"), seed=1))
    assert len(both) == 6
    np.testing.assert_allclose(data(both.select(channel="*HH?")), expected, atol=1e-5)


def test_cdiffsd_short_and_resampled_traces(model, caplog):
    with caplog.at_level(logging.WARNING, "seisbench"):
        assert len(model.annotate(stream(samples=2999))) == 0
    assert "fragments shorter than the number of input samples" in caplog.text
    for rate in (50, 200):
        for trace in model.annotate(stream(samples=40 * rate, rate=rate)):
            assert trace.stats.sampling_rate == 100
            assert abs(trace.stats.npts - 4000) <= 1


@pytest.mark.parametrize(
    "argument", [{"steps": 0}, {"dry": 1}, {"overlap": 3000}, {"stacking": "sum"}]
)
def test_cdiffsd_refuses_bad_arguments(model, argument):
    with pytest.raises(ValueError, match=next(iter(argument))):
        model.annotate(stream(), **argument)
