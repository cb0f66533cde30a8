"""Settings of a training from files and overrides: what is valid is taken, and what is not is reported in one line."""

import json
from dataclasses import asdict

import pytest

from seisbench_cdiffsd.training.config import Augmentations, DatasetChoice, Machine, TrainingConfig
from seisbench_cdiffsd.training.configfile import SHIPPED, parse, read_config

TOML = """
steps = 30
snr = [-5, 5]
loss = { l1 = 1 }

[augmentations]
stretch = 0.25

[[events]]
dataset = "STEAD"
weight = 2
category = ["earthquake_local"]
magnitude = [2, 6]
where = { trace_p_status = ["manual"], source_depth_km = [0, 30] }

[[events]]
dataset = "some/folder"

[[noise]]
dataset = "STEAD"
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    return path


def test_a_file_overrides_the_defaults(file):
    config = read_config(file)
    assert (config.steps, config.snr, config.loss) == (30, (-5.0, 5.0), {**TrainingConfig().loss, "l1": 1.0})
    assert config.augmentations == Augmentations(stretch=0.25)
    assert config.events[0].where == {"trace_p_status": ("manual",), "source_depth_km": (0, 30)}
    assert config.events[0].magnitude == (2.0, 6.0) and config.events[1] == DatasetChoice("some/folder")
    assert config.batch_size == TrainingConfig().batch_size


def test_the_default_file_lists_the_defaults():
    config = read_config("default")
    stead = {
        "events": (DatasetChoice("STEAD", category=("earthquake_local",)),),
        "noise": (DatasetChoice("STEAD", category=("noise",)),),
    }
    assert config == TrainingConfig(**stead)
    text = (SHIPPED / "default.toml").read_text()
    listed = {line.split("=")[0].strip("# ") for line in text.splitlines() if "=" in line}
    expected = {*asdict(TrainingConfig()), *asdict(Augmentations()), *asdict(Machine())}
    assert expected - listed == {"events", "noise", "augmentations", "machine"}


def test_the_published_file_is_the_papers_recipe():
    config = read_config("published")
    assert (config.network, config.schedule, config.norm, config.loss) == (
        "published",
        "published-linear",
        "peak",
        {"l1": 1},
    )
    assert (config.unfolded, config.factor, config.batch_size) == (3, (0.4, 0.65), 16)
    assert (config.optimizer, config.learning_rate, config.decay, config.averaging) == ("adam", 1e-4, "steps", 0)


def test_settings_come_back_from_the_json_of_a_run(file, tmp_path):
    config = read_config(file)
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    assert read_config(tmp_path / "config.json") == config


@pytest.mark.parametrize("text", ["loss.spectrum = 5", "loss = { spectrum = 5 }", "[loss]\nspectrum = 5"])
def test_terms_of_a_loss_change_the_default(text, tmp_path):
    (tmp_path / "mine.toml").write_text(text)
    expected = {"log-ratio": 1, "spectrum": 5, "mask": 10}
    assert read_config(tmp_path / "mine.toml").loss == expected
    assert read_config(tmp_path / "mine.toml", ["loss.mask=3", "loss.l1=2"]).loss == {**expected, "mask": 3, "l1": 2}
    (tmp_path / "off.toml").write_text("loss = { spectrum = 5, log-ratio = 0, mask = 0 }")
    assert read_config(tmp_path / "off.toml").loss == {"spectrum": 5}


def test_terms_of_a_loss_are_set_without_a_file_and_others_are_kept():
    assert read_config(None, ["loss.spectrum=5"]).loss == {"log-ratio": 1, "spectrum": 5, "mask": 10}
    assert read_config("default", ["loss={mask=0, l1=1}"]).loss == {"log-ratio": 1, "spectrum": 10, "l1": 1}
    assert read_config(None).loss == TrainingConfig().loss == read_config("default").loss


def test_a_loss_in_json_or_as_a_value_is_complete(tmp_path):
    value = {"l1": 1}
    (tmp_path / "config.json").write_text(json.dumps({"loss": value}))
    assert read_config(tmp_path / "config.json").loss == read_config("default", loss=value).loss == {"l1": 1}
    assert read_config("default", ["loss.l1=2"], loss=value).loss == {"l1": 2} and value == {"l1": 1}


def test_overrides_reach_into_tables_and_lists(file):
    overrides = ["steps=7", "augmentations.rotate=false", "events.1.weight=3", "machine.devices=2", "kernel_rate=none"]
    config = read_config(file, [*overrides, "network=published"], seed=5)
    assert (config.steps, config.seed, config.network, config.kernel_rate) == (7, 5, "published", None)
    assert config.augmentations == Augmentations(stretch=0.25, rotate=False)
    assert config.events[1].weight == 3 and config.machine == Machine(devices=2)


def test_values_are_read_as_in_toml():
    assert [parse(x) for x in ("2", "1e-3", "true", "[1, 2]", "a/b.c")] == [2, 1e-3, True, [1, 2], "a/b.c"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("step=3", "'step': did you mean 'steps'"),
        ("augmentations.strech=1", r"'augmentations.strech': did you mean 'stretch'"),
        ("steps=many", "steps must be a whole number"),
        ("steps=1.5", "steps must be a whole number"),
        ("steps=true", "steps must be a whole number"),
        ("steps=0", "at least 1"),
        ("averaging=nan", "not nan"),
        ("network=huge", "network must be one of default, published"),
        ("schedule=curved", "Unknown degradation"),
        ("norm=max", "norm must be one of"),
        ("loss={l9=1}", "l9"),
        ("loss=3", "must be a table"),
        ("snr=[5, -5]", "lowest, highest"),
        ("snr=[5]", "2 values"),
        ("factor=[0, 1]", "positive"),
        ("top=2", "top"),
        ("precision=8", "precision"),
        ("kernel_rate=-1", "positive"),
        ("augmentations.stretch=1.5", "share"),
        ("augmentations=1", "must be a table"),
        ("events.0.weight=0", "weight of STEAD"),
        ("events.4.weight=0", "there are 2"),
        ("events=[{weight=2}]", "events.0.dataset is missing"),
        ('splits=["train", "train"]', "two different ones"),
        ("augmentations.onset=[20, 20]", "no room for P"),
        ("machine.devices=5", "multiple of devices"),
        ("machine.device.x=1", "does not belong to a table"),
        ("steps", "KEY=VALUE"),
        ("snr=[-inf, 0]", "snr must have finite limits"),
        ("factor=[1, inf]", "factor must have finite limits"),
        ("augmentations.stretch_range=[0.5, inf]", "stretch_range must have finite limits"),
        ("augmentations.onset=[-inf, 3]", "onset must have finite limits"),
        ("window=40", "window must be at least 50"),
        ("seed=9223372036854775808", "seed must be less"),
    ],
)
def test_invalid_settings_are_reported_in_one_line(file, override, message):
    with pytest.raises(ValueError, match=message) as info:
        read_config(file, ["machine.device=cpu", override])
    assert "\n" not in str(info.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "bad.toml").write_text("steps = = 3")
    with pytest.raises(ValueError, match=r"bad\.toml is not a valid config"):
        read_config(tmp_path / "bad.toml")
    (tmp_path / "config.json").write_text("{steps: 3}")
    with pytest.raises(ValueError, match=r"config\.json is not a valid config: .* delete it"):
        read_config(tmp_path / "config.json")
    with pytest.raises(ValueError, match=r"nowhere.*default, published"):
        read_config("nowhere")
