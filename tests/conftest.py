"""Fixtures of all tests. Nothing here, and nothing in the tests, writes the user's SeisBench cache."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# before SeisBench is imported, which reads it once
if "SEISBENCH_CACHE_ROOT" not in os.environ:
    os.environ["SEISBENCH_CACHE_ROOT"] = tempfile.mkdtemp(prefix="seisbench_cache_")
    atexit.register(shutil.rmtree, os.environ["SEISBENCH_CACHE_ROOT"], ignore_errors=True)

import archives
import hypothesis
import numpy as np
import obspy
import pytest
import seisbench
import torch
from written import written

import seisbench_cdiffsd
from seisbench_cdiffsd.files.jobs import Settings

torch.set_num_threads(1)
# the same examples in every run, however slow; --hypothesis-profile=default draws others
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

#: Folder with real data (``data``) and pickers (``seisbench_cache``): beside the checkout, or CDIFFSD_SHARED.
SHARED = Path(os.environ.get("CDIFFSD_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared_data():
    """The folder with real data and pickers."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the data sets in {SHARED}; set CDIFFSD_SHARED")
    return SHARED


@pytest.fixture
def pickers(shared_data, tmp_path, monkeypatch):
    """A copy of the SeisBench cache with pretrained pickers, which SeisBench then uses."""
    if not (shared_data / "seisbench_cache").is_dir():
        pytest.skip(f"needs the pickers in {shared_data / 'seisbench_cache'}")
    shutil.copytree(shared_data / "seisbench_cache", tmp_path / "cache", copy_function=shutil.copyfile)
    monkeypatch.setattr(seisbench, "cache_model_root", tmp_path / "cache" / "models" / "v3")
    return tmp_path / "cache"


@pytest.fixture
def example():
    """ObsPy's example: 30 s of three components at 100 Hz, with an earthquake."""
    return obspy.read()


@pytest.fixture(scope="session")
def model():
    """An untrained model that does something: the parameters are random, but the same in every run."""
    return randomised(seisbench_cdiffsd.CDiffSD())


def randomised(model, seed=0):
    """A model with random parameters: an untrained one would return its input."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(scope="session")
def small_datasets(tmp_path_factory):
    """Synthetic earthquakes and noise in SeisBench's format: 12 and 8 records of 60 s, in the splits train and dev."""
    random = np.random.default_rng(0)
    time = np.arange(6000) / 100

    def earthquake(number):
        p, s = 20.0, 23.0 + number % 7
        burst = [a * np.exp(-(time - t) / 4) * (time >= t) for a, t in ((0.3, p), (1.0, s))]
        waveform = sum(burst) * random.normal(size=(3, 6000)) + 0.005 * random.normal(size=(3, 6000))
        onsets = {"trace_p_arrival_sample": 100 * p, "trace_s_arrival_sample": 100 * s}
        return 1000 * waveform, {**onsets, "trace_clipped": number == 11, "trace_source": "ab"[number % 2]}

    def noise(number):
        colour = np.cumsum(random.normal(size=(3, 6000)), axis=1) if number % 2 else random.normal(size=(3, 6000))
        return colour, {}

    folder = tmp_path_factory.mktemp("datasets")
    datasets = []
    for name, count, make in (("events", 12, earthquake), ("noise", 8, noise)):
        records = []
        for number in range(count):
            waveform, metadata = make(number)
            split = "dev" if number % 4 == 0 else "train"
            records.append(({"trace_name": f"{name}{number}", "split": split, **metadata}, waveform))
        datasets.append(written(folder / name, records))
    return datasets


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Path of a model for which a day is short."""
    path = tmp_path_factory.mktemp("weights") / "small"
    randomised(seisbench_cdiffsd.CDiffSD(**archives.ARGUMENTS)).save(path)
    return path


@pytest.fixture
def source(tmp_path):
    """An archive with two stations of three days."""
    records = archives.record("AAA") + archives.record("BBB", seed=1, components="Z12")
    archives.store(tmp_path / "in", records)
    return tmp_path / "in"


@pytest.fixture
def settings(tmp_path, source, weights):
    """What to make of this archive."""
    model = seisbench_cdiffsd.CDiffSD.load(weights)
    return Settings.of(model, source=source, out=tmp_path / "out", weights=str(weights), options={"steps": 1})
