"""The shipped weights: they load offline, and what they do to ObsPy's example is pinned.

``python tests/test_weights.py`` writes the pinned values anew, after a change that is meant.
"""

import json
from pathlib import Path

import numpy as np
import obspy
import pytest
import seisbench.models as sbm
import torch

from seisbench_cdiffsd.metrics import snr_db
from seisbench_cdiffsd.pretrained import DEFAULT

GOLDEN = Path(__file__).with_name("golden.json")
#: Every this many samples are pinned.
EVERY = 50


def denoised_example(steps=2, **options):
    """ObsPy's example, denoised by the shipped weights: (component, samples) over its peak, in ZNE order."""
    model = sbm.CDiffSD.from_pretrained()
    data = np.stack([model.denoise(obspy.read(), steps=steps, **options).select(component=c)[0].data for c in "ZNE"])
    return data / abs(np.stack([obspy.read().select(component=c)[0].data for c in "ZNE"])).max()


def pinned():
    """By default, and with all noise removed that can be, at one step and at several: values on the example."""
    silent = {"noise_floor": 0.0, "noise_margin": float("inf")}
    examples = {"default": denoised_example(), **{f"silent, {x}": denoised_example(x, **silent) for x in (1, 4)}}
    return {name: values[:, ::EVERY].round(4).tolist() for name, values in examples.items()}


def test_the_example_comes_out_as_pinned():
    expected = json.loads(GOLDEN.read_text())
    for name, values in pinned().items():
        np.testing.assert_allclose(values, expected[name], atol=2e-3, err_msg=name)


def test_the_default_precision_of_torch_does_not_matter():
    expected = denoised_example(steps=1)
    torch.set_default_dtype(torch.float64)
    try:
        np.testing.assert_allclose(denoised_example(steps=1), expected, atol=1e-6)
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_noise_of_the_example_is_lowered_by_default(example):
    peak = max(abs(trace.data).max() for trace in example)
    example.filter("bandpass", freqmin=1, freqmax=45, zerophase=True)
    noisy = np.stack([example.select(component=c)[0].data for c in "ZNE"]) / peak
    assert (denoised_example()[:, 100:400].std(axis=1) < 0.5 * noisy[:, 100:400].std(axis=1)).all()


def test_the_earthquake_of_the_example_stays_and_the_noise_goes(example):
    peak = max(abs(trace.data).max() for trace in example)
    example.filter("bandpass", freqmin=1, freqmax=45, zerophase=True)
    noisy = np.stack([example.select(component=c)[0].data for c in "ZNE"]) / peak
    onset = 470  # P on ObsPy's example
    clean = denoised_example(noise_floor=0.0, noise_margin=float("inf"))
    assert (snr_db(clean, onset) > snr_db(noisy, onset) + 6).all()
    assert abs(clean).max() == pytest.approx(abs(noisy).max(), rel=0.1)


def test_the_default_weights_say_where_they_come_from():
    model = sbm.CDiffSD.from_pretrained()
    assert DEFAULT in sbm.CDiffSD.list_pretrained(remote=False)
    assert model.weights_version
    assert "shared" not in model.weights_docstring
    assert len(model.weights_docstring) > 100


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(pinned()) + "\n")
