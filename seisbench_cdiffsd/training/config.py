"""The settings of a training: data, network, loss, optimiser, budget and machine, from TOML, JSON and commands."""

import difflib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from seisbench_cdiffsd.data.settings import Augmentations, DatasetChoice, Limits, Range, Settings, Share, Weight

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED = Path(__file__).parent / "configs"
#: Settings that may differ when a training resumes: the machine, and the datasets, which are compared by their records.
FREE = ("device", "devices", "nodes", "accumulate", "workers", "threads", "memory", "events", "noise")
RATE = 100  # Hz
#: What jsonargparse says, and what it means.
PLAIN = {
    r'Parser key "([\w.-]+)"( element \d+)?:': r"\1:",
    r"an? <class 'int'>": "a whole number",
    r"an? <class 'float'>": "a number",
    r"<class '(?:[\w.]+\.)?(\w+)'>": r"\1",
    r"an? typing.Literal\[(.*?)\]": r"one of \1",
    "Unable to load config": "Expected a table, not",
}

Count = Annotated[int, Limits(1, 1e9)]
Rate = Annotated[float, Limits(0, 10, above=True)]


@dataclass(frozen=True)
class Loss(Settings):
    """
    Weights of the terms of the error of an estimate: a term that is not named keeps its default, 0 switches it off.

    :param l1: Mean absolute difference, the published error
    :param log_ratio: Log of the error power over the power of the record
    :param spectrum: Difference of compressed short-time spectra
    :param mask: Cross-entropy of DeepDenoiser's mask
    :param picks: Of what PhaseNet sees, by the name of its weights in SeisBench's cache, such as ``picks.volpick``
    """

    l1: Weight = 0.0
    log_ratio: Weight = 1.0
    spectrum: Weight = 10.0
    mask: Weight = 10.0
    picks: Mapping[str, float] = field(default_factory=dict)

    prefix: ClassVar[str] = "loss."

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, weight in self.picks.items():
            if not 0 <= weight <= 1e6:
                raise ValueError(f"loss.picks.{name} must be from 0 to 1,000,000, not {weight}.")
        if not any((self.l1, self.log_ratio, self.spectrum, self.mask, *self.picks.values())):
            raise ValueError("The loss needs at least one term with a positive weight.")


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """
    All settings of a training.

    :param network: Network preset, "default" or "published"
    :param schedule: Degradation
    :param norm: Normalisation of a window, by its standard deviation or its peak
    :param window: Samples of a window, at 100 Hz
    :param init_from: Weights to start from, by name or path (fine-tuning)
    :param only: Train only the parameters whose names begin with this, such as "network.presence"; by default all
    :param loss: Weights of the terms of the error of an estimate
    :param presence: Weight of a further term, which the default network learns by to tell whether there is an
        earthquake; at 0 it does not tell
    :param unfolded: Weight of the second term of the loss
    :param unfolded_share: Share of a batch that the second term is computed for
    :param top: Share of examples at level 1, where sampling starts; the others are between 0.05 and 1
    :param steps: Number of updates
    :param batch_size: Pairs in a batch, over all devices
    :param optimizer: "muon", for the convolutions, with AdamW for the rest, or "adam" for all
    :param learning_rate: Highest learning rate; it rises at first and then falls
    :param kernel_rate: Highest learning rate of the convolutions, under Muon; at 0 AdamW updates all parameters
    :param warmup: Updates over which the learning rate rises
    :param decay: How it falls: "cosine" to zero, or in "steps", to a tenth after each sixth of the updates
    :param clip: Largest norm of the gradient; 0 for any
    :param averaging: Decay of the exponential moving average of the weights, which is what is validated and saved
    :param snr: Range of input SNRs in dB
    :param factor: Published range of noise factors, instead of `snr`
    :param min_snr: Lowest SNR in dB of a record that serves as a target
    :param balance: Whether a source of earthquakes or a station of noise with N records is drawn in proportion to the
        square root of N, not to N
    :param validate_every: Updates between validations
    :param validation_events: Earthquakes in the validation mixtures, each at five input SNRs
    :param patience: Validations without improvement after which the training stops; 0 for never
    :param precision: "32-true", or "bf16-mixed" for layers in half precision, on hardware that is faster at it
    :param seed: Seed of the weights and of all random draws
    :param splits: Splits of the datasets to train on and to validate on
    :param memory: Gigabytes that the waveforms of a dataset may take in each process; larger ones are read when needed
    :param damaged: "stop" at a record that cannot be read, with NaN, or without one of three components, or "skip" it
    :param device: Device such as "cpu", "cuda", "cuda:1" or "mps", or "auto"
    :param devices: Devices of that kind on each node, or CPU processes; each takes its part of every batch
    :param nodes: Nodes, such as those of a Slurm allocation
    :param accumulate: Parts that a batch is computed in, one after another, to save memory
    :param workers: Processes that prepare data for each device; 0 for none
    :param threads: Threads of PyTorch in each process; 0 for its own choice
    :param augmentations: How records are varied
    :param events: Datasets of labelled earthquakes
    :param noise: Datasets of noise
    """

    network: Literal["default", "published"] = "default"
    schedule: Literal["straight", "published-linear", "published-cosine"] = "straight"
    norm: Literal["std", "peak"] = "std"
    window: Annotated[int, Limits(50, 1e6)] = 3000
    init_from: str = ""
    only: str = ""
    loss: Loss = field(default_factory=Loss)
    presence: Weight = 1.0
    unfolded: Weight = 1.0
    unfolded_share: Share = 0.5
    top: Share = 0.5
    steps: Count = 10_000
    batch_size: Annotated[int, Limits(1, 16_384)] = 24
    optimizer: Literal["muon", "adam"] = "muon"
    learning_rate: Rate = 1e-3
    kernel_rate: Annotated[float, Limits(0, 10)] = 0.006
    warmup: Count = 200
    decay: Literal["cosine", "steps"] = "cosine"
    clip: Annotated[float, Limits(0, 1e9)] = 1.0
    averaging: Annotated[float, Limits(0, 0.999999)] = 0.998
    snr: Annotated[Range, Limits(-200, 200)] = (-15.0, 15.0)
    factor: Annotated[Range | None, Limits(0, 1e6, above=True)] = None
    min_snr: Annotated[float, Limits(-1000, 1000)] = 10.0
    balance: bool = True
    validate_every: Count = 1000
    validation_events: Annotated[int, Limits(1, 10_000)] = 60
    patience: Annotated[int, Limits(0, 1e9)] = 0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    seed: Annotated[int, Limits(0, 2**63 - 1)] = 0
    splits: tuple[str, str] = ("train", "dev")
    memory: Annotated[float, Limits(0, 1e6)] = 4.0
    damaged: Literal["stop", "skip"] = "stop"
    device: str = "cpu"
    devices: Annotated[int, Limits(1, 64)] = 1
    nodes: Annotated[int, Limits(1, 1024)] = 1
    accumulate: Annotated[int, Limits(1, 16_384)] = 1
    workers: Annotated[int, Limits(0, 128)] = 0
    threads: Annotated[int, Limits(0, 1024)] = 0
    augmentations: Augmentations = field(default_factory=Augmentations)
    events: tuple[DatasetChoice, ...] = ()
    noise: tuple[DatasetChoice, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", self.device):
            raise ValueError(f"device is 'auto', 'cpu', 'mps', 'cuda', or one such as 'cuda:1', not {self.device!r}.")
        if ":" in self.device and self.devices > 1:
            raise ValueError(f"device {self.device!r} is a single one: set devices to 1, or device to 'cuda'.")
        if self.batch_size % self.parts:
            told = f"a multiple of devices x nodes x accumulate, {self.parts}"
            raise ValueError(f"batch_size {self.batch_size} must be {told}.")
        if self.tells and self.augmentations.noise_only >= 1:
            raise ValueError("noise_only must be below 1 to learn where there is an earthquake: or set presence to 0.")
        if self.splits[0] == self.splits[1]:
            raise ValueError(f"splits must be two different ones, to train and to validate on, not {self.splits}.")
        if sum(self.augmentations.onset) > self.window / RATE:
            onset = list(self.augmentations.onset)
            raise ValueError(f"onset leaves no room for P in a window of {self.window / RATE:g} s: {onset}.")

    @property
    def parts(self) -> int:
        """Number of parts that a batch is split into."""
        return self.devices * self.nodes * self.accumulate

    @property
    def tells(self) -> bool:
        """Whether the network learns to tell if there is an earthquake: it needs windows with and without one."""
        return self.presence > 0 and self.network == "default" and self.augmentations.noise_only > 0

    @property
    def unfolded_count(self) -> int:
        """Number of examples, the first of a batch, that the second term of the loss is computed for."""
        return round(self.unfolded_share * self.batch_size)


def read_config(source: str | Path | None = None, **changes: Any) -> TrainingConfig:
    """
    The settings in a file, replaced by `changes`.

    :param source: TOML file, ``config.json`` of a run, name of a config in the package such as "default", or None
    :raises ValueError: If the file cannot be read, or a setting is unknown or invalid
    """
    parser = settings_parser()
    return replace(built(parser, parsed(parser, [], source)), **changes)


def settings_parser(**options: Any) -> Any:
    """A jsonargparse parser of all settings, with help from their docstrings; `options` are those of argparse."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False, **options)
    for name, what in (("events", "labelled earthquakes"), ("noise", "noise")):
        told = f"of {what}: folders in SeisBench's format, or names such as STEAD"
        parser.add_argument(f"--{name}", nargs="+", type=dict | str, default=[], metavar="DATASET", help=told)
    parser.add_class_arguments(TrainingConfig, skip={"events", "noise"})
    return parser


def parsed(parser: Any, arguments: Sequence[str], source: str | Path | None = None) -> Any:
    """
    The settings in a file, changed by those of a command line, as jsonargparse has them.

    :raises ValueError: In one line, if the file cannot be read, or a setting is unknown or has the wrong type
    """
    with plain_errors(f"In {source}: "):
        values = parser.parse_object(read_table(source) if source else {})
    with plain_errors():
        return parser.parse_args(arguments, namespace=values)


def built(parser: Any, values: Any) -> TrainingConfig:
    """The settings of :py:func:`parsed`; ValueError, in one line, if one is out of its range."""
    from jsonargparse import ArgumentParser

    one = ArgumentParser(exit_on_error=False)
    one.add_class_arguments(DatasetChoice)
    with plain_errors():
        given = vars(parser.instantiate(values))
    known = {entry.name: given[entry.name] for entry in fields(TrainingConfig)}
    for name in ("events", "noise"):
        with plain_errors(f"In {name}: "):
            tables = [{"dataset": x} if isinstance(x, str) else x for x in known[name]]
            known[name] = tuple(DatasetChoice(**vars(one.instantiate(one.parse_object(x)))) for x in tables)
    return TrainingConfig(**known)


def read_table(source: str | Path) -> dict[str, Any]:
    """The settings in a file, or in a config of the package, unchecked; ValueError if it cannot be read."""
    shipped = {path.stem: path for path in SHIPPED.glob("*.toml")}
    file = shipped.get(str(source), Path(source))
    try:
        if file.is_fifo():
            raise ValueError("it is a pipe")
        text = file.read_text(encoding="utf-8")
        table = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
        if not isinstance(table, dict):
            raise ValueError("it is not a table of settings")
        for name in ("loss", "augmentations"):
            if not isinstance(table.get(name, {}), dict):
                raise ValueError(f"{name} must be a table, not {table[name]!r}")
    except OSError as error:
        raise ValueError(
            f"No config {str(source)!r}: {error.strerror}. It is a TOML file, or one of {', '.join(sorted(shipped))}."
        ) from None
    except (ValueError, RecursionError) as error:
        remedy = " Fix it, or delete it and give the settings again." if file.suffix == ".json" else ""
        raise ValueError(f"{file} is not a valid config: {str(error).rstrip('.')}.{remedy}") from None
    return {x: [y] if x in ("events", "noise") and not isinstance(y, list) else y for x, y in table.items()}


#: All settings by their names, dotted where they are in a table.
NAMES = {
    entry.name: kind.prefix + entry.name
    for kind in (DatasetChoice, Loss, Augmentations, TrainingConfig)
    for entry in fields(kind)
}


@contextmanager
def plain_errors(where: str = "") -> Iterator[None]:
    """Turn what jsonargparse raises into one line, with the nearest known name of an unknown setting."""
    from jsonargparse import ArgumentError

    try:
        yield
    except (ArgumentError, TypeError) as error:
        text = " ".join(str(error).split())
        if found := re.search(r"(?:[Oo]ption '|arguments: --|NestedArg\(key=')([^' =]+)", text):
            close = difflib.get_close_matches(found[1].rpartition(".")[2], NAMES, 1)
            hint = f"did you mean {NAMES[close[0]]!r}?" if close else "cdiffsd train --help lists them."
            text = f"Unknown setting {found[1]!r}: {hint}"
        for pattern, plain in PLAIN.items():
            text = re.sub(pattern, plain, text)
        raise ValueError(where + text) from None
