"""Training on small synthetic data sets: it learns, resumes exactly, and refuses invalid settings."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from seisbench_cdiffsd.data.settings import Augmentations
from seisbench_cdiffsd.training import trainer
from seisbench_cdiffsd.training.config import TrainingConfig, read_config
from seisbench_cdiffsd.weights import CDiffSD

SHORT = {"window": 1000, "batch_size": 2, "steps": 6, "validate_every": 3, "validation_events": 1, "warmup": 2}


def config(**changes):
    return TrainingConfig(**{**SHORT, **changes})


@pytest.fixture(scope="module")
def finished(small_datasets, tmp_path_factory):
    """A finished training, and its folder."""
    out = tmp_path_factory.mktemp("run")
    return trainer.fit(*small_datasets, out, config()), out


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def losses(out):
    return pd.read_csv(out / "losses.csv")["loss"].tolist()


def test_a_training_leaves_the_best_model_logs_and_its_settings(finished):
    model, out = finished
    log = pd.read_csv(out / "log.csv")
    assert log["step"].tolist() == [3, 6]
    assert np.isfinite(log.to_numpy()).all()
    assert log["loss"].tolist() == pytest.approx([np.mean(losses(out)[:3]), np.mean(losses(out)[3:])])
    assert json.loads((out / "config.json").read_text())["steps"] == 6
    docstring = json.loads(model.weights_docstring)
    assert docstring["log"]["sdr_2"] == pytest.approx(log["sdr_2"].max()) and docstring["config"]["batch_size"] == 2
    assert not weights(model).equal(weights(CDiffSD()))
    assert list((out / "tensorboard").iterdir())
    assert not list(out.glob("*.part*"))


def test_the_same_seed_gives_the_same_losses(finished, small_datasets, tmp_path):
    model, out = finished
    again = trainer.fit(*small_datasets, tmp_path, config(workers=1))
    assert weights(again).equal(weights(model)) and losses(tmp_path) == losses(out)


def test_a_kill_between_the_last_checkpoint_and_the_log_loses_no_row(finished, small_datasets, tmp_path, monkeypatch):
    _, out = finished
    replace = Path.replace

    def killed(self, target):
        replace(self, target)
        if Path(target).name == "last.ckpt" and torch.load(target, weights_only=True)["global_step"] == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(*small_datasets, tmp_path, config())
    assert pd.read_csv(tmp_path / "log.csv")["step"].tolist() == [3]
    trainer.fit(*small_datasets, tmp_path, config())
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "log.csv"), pd.read_csv(out / "log.csv"))
    assert losses(tmp_path) == losses(out)


def test_a_finished_training_is_neither_repeated_nor_mixed_with_others(finished, small_datasets):
    (model, out), (events, noise) = finished, small_datasets
    before = (out / "log.csv").read_text(), losses(out)
    assert weights(trainer.fit(events, noise, out, config())).equal(weights(model))
    assert ((out / "log.csv").read_text(), losses(out)) == before
    with pytest.raises(ValueError, match=r"other settings.*seed"):
        trainer.fit(events, noise, out, config(seed=3))
    for other in (events.filter(np.arange(len(events)) != 1, inplace=False), events + events):
        with pytest.raises(ValueError, match="other data"):
            trainer.fit(other, noise, out, config())


def test_training_learns(small_datasets, tmp_path):
    settings = config(steps=20, validate_every=10, warmup=5, batch_size=4, averaging=0.9, window=600)
    trainer.fit(*small_datasets, tmp_path, settings)
    log = pd.read_csv(tmp_path / "log.csv")
    assert log["sdr_1"].iloc[-1] > max(log["sdr_1"].iloc[0], 0) and log["loss"].iloc[-1] < log["loss"].iloc[0]


def test_unsuitable_weights_are_reported_before_data_are_read(small_datasets, tmp_path):
    CDiffSD(component_order="ENZ").save(tmp_path / "other")
    start = str(tmp_path / "other")
    for message, changes in (("component_order 'ENZ'", {"init_from": start}), ("to train", {"only": "nothing"})):
        with pytest.raises(ValueError, match=message):
            trainer.fit(*small_datasets, tmp_path / "x", config(**changes))
    assert not (tmp_path / "x").exists()


def test_a_training_stops_when_nothing_gets_better(small_datasets, tmp_path):
    tiny = {"steps": 9, "validate_every": 1, "patience": 1, "window": 500, "learning_rate": 1e-30, "kernel_rate": 1e-30}
    settings = read_config("published", **{**SHORT, **tiny})  # which can be trained, too
    for _ in range(2):
        model = trainer.fit(*small_datasets, tmp_path, settings)
        assert len(losses(tmp_path)) == 2
    assert model.get_model_args()["schedule"] == settings.schedule != "straight"


def test_fine_tuning_starts_from_the_given_weights_which_are_validated_too(finished, small_datasets, tmp_path, capsys):
    model, out = finished
    tiny = {"learning_rate": 1e-12, "kernel_rate": 1e-12, "steps": 1, "validate_every": 1}
    tuned = trainer.fit(*small_datasets, tmp_path / "tuned", config(init_from=str(out / "model"), **tiny))
    torch.testing.assert_close(weights(tuned), weights(model))
    told = capsys.readouterr().err
    lines = [
        "earthquakes, train",
        "parameters are trained, in 1 updates of 2 pairs, on cpu",
        "update 0 of 1",
        "update 1",
    ]
    assert sorted(lines, key=told.index) == lines
    log = pd.read_csv(tmp_path / "tuned" / "log.csv")
    assert log["step"].tolist() == [0, 1] and log["loss"].isna().tolist() == [True, False]
    assert log["sdr_2"].tolist() == pytest.approx([pd.read_csv(out / "log.csv")["sdr_2"].max()] * 2, abs=1e-4)
    with pytest.raises(ValueError, match="published-linear"):
        trainer.fit(*small_datasets, tmp_path / "x", config(init_from=str(out / "model"), schedule="published-linear"))


def test_a_fine_tuning_that_makes_things_worse_returns_what_it_began_with(finished, small_datasets, tmp_path):
    model, out = finished
    bad = {"learning_rate": 1.0, "kernel_rate": 1.0, "averaging": 0.0, "steps": 2, "patience": 1, "validate_every": 1}
    tuned = trainer.fit(*small_datasets, tmp_path, config(init_from=str(out / "model"), **bad))
    assert weights(tuned).equal(weights(model)) and pd.read_csv(tmp_path / "log.csv")["step"].tolist() == [0, 1]


def test_a_fine_tuning_goes_on_without_its_first_weights(finished, small_datasets, tmp_path):
    for kind in ("pt", "json"):
        (tmp_path / f"first.{kind}").write_bytes((finished[1] / f"model.{kind}").read_bytes())
    for _ in range(2):
        trainer.fit(*small_datasets, tmp_path / "run", config(init_from=str(tmp_path / "first")))
        (tmp_path / "first.pt").unlink(missing_ok=True)
    assert pd.read_csv(tmp_path / "run" / "log.csv")["step"].tolist() == [0, 3, 6]


def test_what_tells_of_earthquakes_is_added_to_weights_without_it_and_trained_alone(small_datasets, tmp_path):
    torch.manual_seed(0)
    CDiffSD().save(tmp_path / "silent")
    start = str(tmp_path / "silent")
    alone = config(init_from=start, only="network.presence")
    model = trainer.fit(*small_datasets, tmp_path / "alone", alone)
    assert json.loads(model.weights_docstring)["log"]["step"] == alone.steps  # the last, as no score changes
    kept, before = model.state_dict(), CDiffSD.load(start).state_dict()
    assert all(kept[name].equal(values) for name, values in before.items())
    torch.manual_seed(alone.seed)
    fresh = trainer.Training.new_model(alone, resumed=False).state_dict()
    assert not kept["network.presence.1.weight"].equal(fresh["network.presence.1.weight"])
    never = Augmentations(noise_only=0.0)  # nothing to tell earthquakes from
    for changes in ({"presence": 0.0}, {"augmentations": never}):
        assert not trainer.Training.new_model(config(init_from=start, **changes), resumed=False).presence


def test_a_loss_that_is_not_finite_stops_the_training_with_the_names(small_datasets, tmp_path):
    settings = config(kernel_rate=0, warmup=1)
    object.__setattr__(settings, "learning_rate", 1e30)
    with pytest.raises(FloatingPointError, match=r"step 1; .* Of: bucket"):
        trainer.fit(*small_datasets, tmp_path, settings)


def test_the_average_is_what_is_kept_and_short_at_first(finished):
    model, out = finished
    checkpoint = torch.load(out / "last.ckpt", weights_only=True)
    assert pd.read_csv(out / "log.csv").set_index("step")["sdr_2"].idxmax() == checkpoint["global_step"]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(checkpoint["state_dict"][f"average.{name}"], value)
    assert any(not checkpoint["state_dict"][f"model.{name}"].allclose(x) for name, x in model.state_dict().items())
    for step, decay in ((1, 1 / 21), (1000, 0.9)):
        new, average = (torch.nn.Linear(1, 1, bias=False) for _ in range(2))
        expected = decay * average.weight.item() + (1 - decay) * new.weight.item()
        trainer.update_ema(average, new, config(averaging=0.9), step)
        assert average.weight.item() == pytest.approx(expected)


def test_the_learning_rate_rises_and_falls():
    cosine, steps = config(steps=60, warmup=10), config(steps=60, warmup=1, decay="steps")
    assert [trainer.learning_rate_factor(cosine, step) for step in (0, 60)] == pytest.approx([0.1, 0])
    assert [trainer.learning_rate_factor(steps, step) for step in (0, 9, 10, 59)] == pytest.approx([1, 1, 0.1, 1e-5])


@pytest.mark.parametrize("on", [True, False])
def test_gradients_are_clipped_and_augmentations_can_all_be_on_or_off(small_datasets, tmp_path, monkeypatch, on):
    norms, step = [], torch.optim.Adam.step

    def watched(self, *args, **kwargs):
        result = step(self, *args, **kwargs)
        norms.append(torch.nn.utils.clip_grad_norm_(self.param_groups[0]["params"], torch.inf).item())
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    shares = "stretch", "mixed_noise", "narrow", "glitches", "drop_components", "noise_only"
    whether = "rotate", "flip", "reverse", "mute", "clipped"
    augmentations = Augmentations(untouched=0, **dict.fromkeys(shares, 0.5 * on), **dict.fromkeys(whether, on))
    settings = config(optimizer="adam", steps=2, clip=1e-3 * on, learning_rate=1e-6, augmentations=augmentations)
    trainer.fit(*small_datasets, tmp_path, settings)
    assert norms == pytest.approx([1e-3] * 2, rel=1e-3) if on else min(norms) > 1e-2
    assert np.isfinite(losses(tmp_path)).all()
