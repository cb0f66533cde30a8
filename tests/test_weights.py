"""The shipped weights: they load offline, and what they do to ObsPy's example is pinned.

``python tests/test_weights.py`` rewrites the pinned values, after an intended change.
"""

import json
from pathlib import Path

import numpy as np
import obspy
import pytest
import seisbench.models as sbm
from obspy import Stream, Trace

from seisbench_cdiffsd.weights import DEFAULT

GOLDEN = Path(__file__).with_name("golden.json")
#: Every this many samples are pinned.
EVERY = 50


def denoised_example(steps=2, **options):
    """ObsPy's example, denoised by the shipped weights: (component, samples) over its peak, in ZNE order."""
    model = sbm.CDiffSD.from_pretrained()
    data = np.stack([model.denoise(obspy.read(), steps=steps, **options).select(component=c)[0].data for c in "ZNE"])
    return data / abs(np.stack([obspy.read().select(component=c)[0].data for c in "ZNE"])).max()


def pinned():
    """Values on the example by default, and with no noise left in at one step and at several."""
    examples = {"default": denoised_example(), **{f"silent, {x}": denoised_example(x, dry=0.0) for x in (1, 4)}}
    return {name: values[:, ::EVERY].round(4).tolist() for name, values in examples.items()}


def test_the_example_comes_out_as_pinned():
    expected = json.loads(GOLDEN.read_text())
    for name, values in pinned().items():
        np.testing.assert_allclose(values, expected[name], atol=2e-3, err_msg=name)


def test_the_earthquake_of_the_example_stays_and_the_noise_goes(example):
    peak, onset = max(abs(trace.data).max() for trace in example), 470  # P on ObsPy's example
    example.filter("bandpass", freqmin=1, freqmax=45, zerophase=True)
    noisy = np.stack([example.select(component=c)[0].data for c in "ZNE"]) / peak
    assert (denoised_example()[:, 100:400].std(axis=1) < 0.5 * noisy[:, 100:400].std(axis=1)).all()
    clean = denoised_example(dry=0.0)
    signal, left = (clean[:, x].std(1) / noisy[:, x].std(1) for x in (slice(onset, None), slice(onset)))
    assert (signal > 2 * left).all()  # the SNR is 6 dB better
    assert abs(clean).max() == pytest.approx(abs(noisy).max(), rel=0.1)


def removed(stream):
    """By how many dB the noise in a stream is attenuated, where it has samples."""
    clean = sbm.CDiffSD.from_pretrained().denoise(stream, dry=0.0)
    before, after = (np.concatenate([np.ma.compressed(trace.data) for trace in x]) for x in (stream, clean))
    assert len(before) == len(after)
    with np.errstate(divide="ignore"):  # silence
        return 20 * np.log10(before.std() / after.std())


def noise(samples):
    """White noise of an instrument, (component, samples)."""
    values = np.random.default_rng(0).standard_normal((3, samples))
    return Stream([Trace(x, {"channel": f"HH{c}", "sampling_rate": 100.0}) for c, x in zip("ZNE", values, strict=True)])


@pytest.mark.parametrize("seconds", [2, 5, 10, 20, 27, 29.9, 30, 35])
def test_noise_is_removed_from_records_of_any_length(seconds):
    assert removed(noise(round(100 * seconds))) > 20


@pytest.mark.parametrize("components", ["ZNE", "Z"])
@pytest.mark.parametrize("seconds", [0.1, 1, 3, 10, 25, 40, 70])
@pytest.mark.parametrize("value", [0, np.nan])
def test_noise_is_removed_next_to_a_gap(components, seconds, value):
    stream = noise(9500)
    for trace in stream:
        if trace.stats.component in components:
            trace.data[2000 : 2000 + round(100 * seconds)] = value
        trace.data = np.ma.masked_invalid(trace.data)
    assert removed(stream) > 15


def test_where_a_record_is_constant_the_estimate_is_zero(example):
    for trace in example:
        trace.data = (
            np.r_[trace.data, np.zeros(1500), trace.data] + 1e5 * np.r_[np.ones(3000), np.zeros(1500), np.ones(3000)]
        )
    for trace in sbm.CDiffSD.from_pretrained().denoise(example):
        np.testing.assert_array_equal(trace.data[3000:4500], 0)
        assert abs(trace.data).max() < 1e5


@pytest.mark.parametrize("ratio", [30, 1e3, 1e6])
def test_a_broken_component_does_not_take_the_earthquake_from_the_others(example, ratio):
    broken = example.copy()
    quiet = [trace for trace in broken if trace.stats.component != "E"]
    peak = max(abs(trace.data).max() for trace in broken)
    broken.select(component="E")[0].data = ratio * peak * np.random.default_rng(0).standard_normal(3000)
    model = sbm.CDiffSD.from_pretrained()
    alone = model.denoise(Stream(quiet))
    together = [trace for trace in model.denoise(broken) if trace.stats.component != "E"]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other.data, one.data, atol=1e-3 * peak)


@pytest.mark.parametrize(
    ("ratio", "components", "first", "stop"),
    [(100, slice(3), 50, 51), *((x, slice(1), 2000, stop) for x in (1e3, 1e4) for stop in (2001, 3000))],
)
def test_spikes_and_steps_do_not_attenuate_the_earthquake(example, ratio, components, first, stop):
    model, peak, shown = (
        sbm.CDiffSD.from_pretrained(),
        max(abs(trace.data).max() for trace in example),
        slice(470, 1500),
    )
    expected = np.stack([trace.data for trace in model.denoise(example, dry=0.0)])[:, shown]
    for trace in example[components]:
        trace.data[first:stop] += ratio * peak
    found = np.stack([trace.data for trace in model.denoise(example, dry=0.0)])[:, shown]
    assert ((expected * found).sum(1) / (expected**2).sum(1) > 0.9).all()


def test_the_default_weights_say_where_they_come_from():
    model = sbm.CDiffSD.from_pretrained()
    assert DEFAULT in sbm.CDiffSD.list_pretrained(remote=False) and model.shipped_path().name == "weights"
    assert model.weights_version
    assert "shared" not in model.weights_docstring and len(model.weights_docstring) > 100


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(pinned()) + "\n")
