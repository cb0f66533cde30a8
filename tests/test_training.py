"""Training on small synthetic data sets: it learns, resumes exactly, and refuses what cannot be."""

import json

import numpy as np
import pandas as pd
import pytest
import seisbench.data as sbd
import torch

from seisbench_cdiffsd import training
from seisbench_cdiffsd.model import CDiffSD

SHORT = {"batch_size": 2, "steps": 6, "validate_every": 3, "validation_events": 1, "warmup": 2}


def config(**changes):
    return training.TrainingConfig(**{**SHORT, **changes})


@pytest.fixture(scope="module")
def finished(small_datasets, tmp_path_factory):
    """A training from beginning to end, and its folder."""
    out = tmp_path_factory.mktemp("run")
    return training.fit(*small_datasets, out, config()), out


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_a_training_leaves_the_best_model_a_log_and_its_settings(finished):
    model, out = finished
    log = pd.read_csv(out / "log.csv")
    assert log["step"].tolist() == [3, 6]
    assert np.isfinite(log.to_numpy()).all()
    assert json.loads((out / "config.json").read_text())["steps"] == 6
    assert json.loads(model.weights_docstring)["log"]["sdr_4"] == pytest.approx(log["sdr_4"].max())
    assert not weights(model).equal(weights(CDiffSD()))


def test_the_same_seed_gives_the_same_training_and_another_another(finished, small_datasets, tmp_path):
    model, out = finished
    again = training.fit(*small_datasets, tmp_path / "again", config())
    other = training.fit(*small_datasets, tmp_path / "other", config(seed=1))
    assert weights(again).equal(weights(model))
    assert pd.read_csv(tmp_path / "again" / "log.csv")["loss"].equals(pd.read_csv(out / "log.csv")["loss"])
    assert not weights(other).equal(weights(model))


def test_a_broken_off_training_goes_on_as_if_nothing_had_been(finished, small_datasets, tmp_path):
    model, out = finished
    trainer = training.Trainer(*small_datasets, tmp_path, config(), "cpu")
    update = trainer._update

    def broken():
        if trainer.step == 5:  # after the checkpoint of step 3
            raise KeyboardInterrupt
        return update()

    trainer._update = broken
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    resumed = training.fit(*small_datasets, tmp_path, config())
    assert weights(resumed).equal(weights(model))
    columns = ["step", "loss", "sdr_4"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "log.csv")[columns], pd.read_csv(out / "log.csv")[columns])


def test_a_finished_training_is_not_begun_again(finished, small_datasets):
    model, out = finished
    before = (out / "log.csv").read_text()
    again = training.fit(*small_datasets, out, config())
    assert weights(again).equal(weights(model))
    assert (out / "log.csv").read_text() == before


def test_training_learns(small_datasets, tmp_path):
    settings = config(steps=60, validate_every=30, warmup=10, batch_size=4, validation_events=2, averaging=0.9)
    training.fit(*small_datasets, tmp_path, settings)
    log = pd.read_csv(tmp_path / "log.csv")
    trainer = training.Trainer(*small_datasets, tmp_path / "fresh", settings, "cpu")
    assert log["sdr_1"].iloc[-1] > trainer.validate()["sdr_1"] + 2
    assert log["loss"].iloc[-1] < log["loss"].iloc[0]


def test_the_published_configuration_can_be_trained(small_datasets, tmp_path):
    settings = config(
        network="published", schedule="published-cosine", norm="peak", loss={"l1": 1.0}, unfolded=3.0,
        factor=(0.4, 0.65), steps=1, validate_every=1,
    )  # fmt: skip
    model = training.fit(*small_datasets, tmp_path, settings)
    assert model.get_model_args()["schedule"] == "published-cosine"


def test_another_configuration_in_the_same_folder_is_refused(finished, small_datasets):
    with pytest.raises(ValueError, match="other settings"):
        training.fit(*small_datasets, finished[1], config(seed=3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"top": 2.0}, "top"),
        ({"loss": {"l9": 1}}, "l9"),
        ({"kernel_rate": -1.0}, "rate"),
        ({"precision": "8"}, "bf16-mixed"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_a_dataset_without_splits_is_named(small_datasets, tmp_path):
    events, noise = small_datasets
    bare = sbd.WaveformDataset(noise.path, component_order="ZNE")
    bare._metadata = bare.metadata.drop(columns="split")
    with pytest.raises(ValueError, match="no train split"):
        training.fit(events, bare, tmp_path, config())


def test_a_loss_that_is_not_a_number_stops_the_training(small_datasets, tmp_path):
    trainer = training.Trainer(*small_datasets, tmp_path, config(), "cpu")
    trainer.error = lambda clean, estimate, noise: (estimate * np.nan).sum()
    with pytest.raises(FloatingPointError, match="step 0"):
        trainer.run()


def test_a_training_does_not_go_on_with_other_data(small_datasets, tmp_path):
    events, noise = small_datasets
    fewer = events.filter(np.arange(len(events)) != 1, inplace=False)
    training.fit(events, noise, tmp_path, config())
    with pytest.raises(ValueError, match="other data"):
        training.fit(fewer, noise, tmp_path, config())
