"""Settings of a training from files and command lines: what is valid is taken, what is not is reported in one line."""

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict, replace
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest

from seisbench_cdiffsd import published  # noqa: F401 (it adds to what is known by name)
from seisbench_cdiffsd.cdiffsd import NETWORKS, SCHEDULES
from seisbench_cdiffsd.data.settings import Augmentations, DatasetChoice
from seisbench_cdiffsd.training.config import SHIPPED, Loss, TrainingConfig, built, parsed, read_config, settings_parser
from seisbench_cdiffsd.training.losses import ERRORS

TOML = """
steps = 30
snr = [-5, 5]
loss.l1 = 1
augmentations = { stretch = 0.25 }

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


def read(*arguments, source=None):
    parser = settings_parser()
    return built(parser, parsed(parser, arguments, source))


def test_a_file_and_a_command_line_change_the_defaults(file):
    config = read_config(file, seed=5)
    assert (config.steps, config.snr, config.loss, config.seed) == (30, (-5.0, 5.0), Loss(l1=1.0), 5)
    assert config.augmentations == Augmentations(stretch=0.25)
    assert config.events[0].where == {"trace_p_status": ("manual",), "source_depth_km": (0, 30)}
    assert config.events[0].magnitude == (2.0, 6.0) and config.events[1] == DatasetChoice("some/folder")
    more = ["--steps", "7", "--augmentations.rotate=false", "--kernel_rate", "0", "--snr", "[-1, 1]", "--noise", "a"]
    changed = read(*more, '{"dataset": "b", "weight": 3}', source=file)
    assert (changed.steps, changed.kernel_rate, changed.snr) == (7, 0, (-1, 1))
    assert changed.augmentations == Augmentations(stretch=0.25, rotate=False)
    assert changed.events == config.events and changed.noise == (DatasetChoice("a"), DatasetChoice("b", weight=3))


def test_a_loss_means_the_same_wherever_it_is_written(tmp_path):
    """A term that is not named keeps its default, and 0 switches it off."""
    expected = Loss(spectrum=5, mask=0, picks={"volpick": 20})
    (tmp_path / "a.toml").write_text("loss = { spectrum = 5, mask = 0, picks = { volpick = 20 } }")
    (tmp_path / "b.toml").write_text("[loss]\nspectrum = 5\nmask = 0\npicks.volpick = 20")
    (tmp_path / "c.json").write_text('{"loss": {"spectrum": 5, "mask": 0, "picks": {"volpick": 20}}}')
    options = "--loss.spectrum", "5", "--loss.mask", "0", "--loss.picks.volpick", "20"
    read_ones = [read_config(tmp_path / name).loss for name in ("a.toml", "b.toml", "c.json")]
    assert [*read_ones, read(*options).loss, TrainingConfig(loss=expected).loss] == [expected] * 5
    assert read("--loss.l1", "2", source=tmp_path / "a.toml").loss == replace(expected, l1=2)


def test_the_default_file_lists_the_defaults():
    config = read_config("default")
    events, noise = ((DatasetChoice("STEAD", category=(x,)),) for x in ("earthquake_local", "noise"))
    assert config == TrainingConfig(events=events, noise=noise)
    text = (SHIPPED / "default.toml").read_text()
    listed = {line.split("=")[0].strip("# ").partition(".")[0] for line in text.splitlines() if "=" in line}
    expected = {*asdict(TrainingConfig()), *asdict(Augmentations()), *asdict(Loss())}
    assert expected - listed == {"events", "noise", "augmentations", "loss"}


@pytest.mark.parametrize("name", ["default", "published", "finetune"])
def test_the_settings_of_a_run_are_read_back_as_they_were(tmp_path, name):
    config = read_config(name)
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    assert read_config(tmp_path / "config.json") == config


def test_the_choices_are_those_that_there_are():
    kinds = get_type_hints(TrainingConfig)
    assert set(get_args(kinds["schedule"])) == set(SCHEDULES) and set(get_args(kinds["network"])) == set(NETWORKS)
    assert [*ERRORS, "picks"] == [*asdict(Loss())]


def test_every_number_has_limits_that_hold():
    for kind, usual in ((TrainingConfig, {}), (Loss, {}), (Augmentations, {}), (DatasetChoice, {"dataset": "x"})):
        for name, wanted in get_type_hints(kind, include_extras=True).items():
            assert wanted not in (int, float), name
            if get_origin(wanted) is Annotated:
                least, limits = get_args(wanted)
                for wrong in (math.nan, limits.low - 1, 2 * limits.high + 1):
                    if not math.isinf(wrong):
                        value = wrong if least in (int, float) else (wrong, wrong)
                        with pytest.raises(ValueError, match=f"{name} must be"):
                            kind(**usual, **{name: value})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--step 3", "'step': did you mean 'steps'"),
        ("--flip false", "did you mean 'augmentations.flip'"),
        ("--steps many", "steps: Expected a whole number. Got value: many"),
        ("--steps 1" + 30 * "0", "steps must be from 1"),
        ("--steps", "--steps: expected one argument"),
        ("--network huge", "network: Expected one of 'default', 'published'"),
        ("--loss 3", "loss: Expected a table"),
        ("--loss.picks.foo -1", "loss.picks.foo must be from 0"),
        ("--loss.l1 0 --loss.log_ratio 0 --loss.mask 0 --loss.spectrum 0", "at least one term"),
        ("--snr [5,-5]", r"snr must be \[lowest, highest\]"),
        ("--snr [5]", "snr: Expected a tuple with 2 elements"),
        ("--factor [0,1]", "factor must be .* above 0"),
        ('--events {"dataset":"STEAD","weight":0}', "In dataset STEAD, weight must be above 0"),
        ('--events {"weight":2}', "In events: .* required: dataset"),
        ('--events {"dataset":"STEAD","weigth":2}', "In events: Unknown setting 'weigth': did you mean 'weight'"),
        ('--splits ["train","train"]', "two different ones"),
        ("--augmentations.onset [20,20]", "no room for P"),
        ("--devices 5", "multiple of devices"),
        ("--device tpu", "'cuda:1', not 'tpu'"),
        ("--device cuda:1 --devices 2", "set devices to 1, or device to 'cuda'"),
        ("--augmentations.noise_only 1 --augmentations.untouched 0", "noise_only must be below 1"),
        ("3", "unrecognized arguments: 3"),
    ],
)
def test_invalid_settings_are_reported_in_one_line(file, arguments, message):
    with pytest.raises(ValueError, match=message) as info:
        read(*arguments.split(), source=file)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = = 3", "mine.toml is not a valid config"),
        ("step = 3", "mine.toml: Unknown setting 'step': did you mean 'steps'"),
        ("augmentations.onset = [1, inf]", "onset must be two finite numbers"),
        ("loss = 3", "loss must be a table"),
        ("[machine]\ndevice = 'cpu'", "did you mean 'device'"),
        ("events = 3", "mine.toml: events: "),
        ("{steps: 3}", r"config\.json is not a valid config: .* delete it"),
        (None, "nowhere.*default, finetune, published"),
    ],
)
def test_invalid_files_are_reported_in_one_line(tmp_path, text, message):
    file = tmp_path / ("config.json" if str(text).startswith("{") else "mine.toml" if text else "nowhere")
    if text:
        file.write_text(text)
    with pytest.raises(ValueError, match=message) as info:
        read_config(file)
    assert "\n" not in str(info.value)


def test_settings_need_no_torch():
    script = (
        "import importlib.util, sys, types\n"
        "package = types.ModuleType('seisbench_cdiffsd')\n"
        "package.__path__ = [sys.argv[1]]\n"
        "sys.modules['seisbench_cdiffsd'] = package\n"
        "from seisbench_cdiffsd.training.config import read_config, settings_parser\n"
        "read_config('default'), settings_parser().format_help()\n"
        "print({'torch', 'numpy', 'obspy', 'lightning', 'seisbench'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(SHIPPED.parents[1])], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.toml")
    with pytest.raises(ValueError, match="it is a pipe"):
        read_config(tmp_path / "a.toml")
