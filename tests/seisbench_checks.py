"""More than SeisBench's tests ask of a model, beside ``examples/seisbench/test_cdiffsd.py``, in a SeisBench with it."""

import asyncio
import os
import pickle
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import seisbench
import seisbench.models as sbm
import test_cdiffsd
import torch
from seisbench.models import CDiffSD, DASWaveformModelWrapper, WaveformModel
from sphinx.cmd.build import build_main
from test_cdiffsd import START, data, stream

model = test_cdiffsd.model


def test_the_model_is_the_one_of_this_seisbench():
    assert CDiffSD.__module__ == "seisbench.models.cdiffsd"
    assert sbm.CDiffSD is CDiffSD and issubclass(CDiffSD, WaveformModel)


def test_every_hook_is_called(model):
    calls, options = [], []

    def watched(name):
        def hook(self, *args, **kwargs):
            if name == "annotate_batch_pre":
                options.append(kwargs["argdict"])
            calls.append(name)
            return getattr(CDiffSD, name)(self, *args, **kwargs)

        return hook

    before = ["annotate_stream_pre", "annotate_stream_validate", "annotate_batch_pre", "forward"]
    hooks = {name: watched(name) for name in (*before, "annotate_batch_post")}
    hooked = type("Hooked", (CDiffSD,), hooks)(**model.get_model_args())
    hooked._annotate_args = {**CDiffSD._annotate_args, "mine": ("An argument of my own", 7)}
    hooked.annotate(stream(), steps=3, mine=7)
    assert calls == [*before, "annotate_batch_post", "forward", "forward"]
    assert options[0]["steps"] == 3 and options[0]["mine"] == 7


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


def test_strict(model):
    late = stream()
    late[2].trim(START + 40)
    assert [trace.stats.starttime - START for trace in model.annotate(late, strict=True)] == [40] * 3
    assert [trace.stats.starttime - START for trace in model.annotate(late)] == [0] * 3
    assert len(model.annotate(late[:2], strict=True)) == 0


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


def test_weights_need_the_release_that_has_the_class(monkeypatch):
    path = os.environ["CDIFFSD_WEIGHTS"]
    monkeypatch.setattr(seisbench, "__version__", "0.12.6")
    with pytest.raises(ValueError, match=r"0\.13\.0"):
        CDiffSD.load(path, version_str="1")
    monkeypatch.setattr(seisbench, "__version__", "0.13.0")
    assert CDiffSD.load(path, version_str="1").weights_version == "1"


def test_the_documentation_is_made_without_a_warning():
    source = Path(os.environ["CDIFFSD_WEIGHTS"]).parents[1] / "docs"
    assert build_main(["-q", "-W", str(source), str(source.with_name("html"))]) == 0
