"""The settings of a training: data, network, loss, optimiser, budget, and the machine to train on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from seisbench_cdiffsd import published  # noqa: F401 (its network and degradations are known by name)
from seisbench_cdiffsd.cdiffsd import NETWORKS, SCHEDULES
from seisbench_cdiffsd.data.settings import Augmentations, DatasetChoice, Range, check_finite, check_ranges
from seisbench_cdiffsd.streams.filtering import SAMPLING_RATE
from seisbench_cdiffsd.training.losses import SEGMENT, check_loss

#: Precisions of the layers in training, as Lightning names them.
PRECISIONS = ("32-true", "bf16-mixed")
#: Optimisers, and the ways that a learning rate falls.
OPTIMIZERS, DECAYS = ("muon", "adam"), ("cosine", "steps")
#: What to do about a record with NaN or infinite samples.
DAMAGED_ACTIONS = ("stop", "skip")


@dataclass(frozen=True)
class Machine:
    """
    What to train on. None of this changes the result, except for rounding.

    :param device: Device such as "cpu", "cuda" or "mps", or "auto"
    :param devices: Devices of that kind on each node, or CPU processes; each takes its part of every batch
    :param nodes: Nodes, such as those of a Slurm allocation
    :param accumulate: Parts that a batch is computed in, one after another, to save memory
    :param workers: Processes that prepare data for each device; 0 for none
    """

    device: str = "cpu"
    devices: int = 1
    nodes: int = 1
    accumulate: int = 1
    workers: int = 0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ValueError(f"device is 'auto', 'cpu', 'mps', 'cuda', or one such as 'cuda:1', not {self.device!r}.")
        _check_counts(self, "devices", "nodes", "accumulate")
        if self.workers < 0:
            raise ValueError(f"workers must not be negative, but is {self.workers}.")

    @property
    def parts(self) -> int:
        """Number of parts that a batch is split into."""
        return self.devices * self.nodes * self.accumulate


@dataclass(frozen=True)
class TrainingConfig:
    """
    All settings of a training.

    :param network: Network preset, "default" or "published"
    :param schedule: Degradation, such as "straight"
    :param norm: Normalisation of a window, "std" or "peak"
    :param window: Samples of a window, at 100 Hz
    :param init_from: Weights to start from, by name or path (fine-tuning)
    :param only: Train only the parameters whose names begin with this, such as "network.presence"; by default all
    :param loss: Weights of the terms of the error of an estimate, see
        :py:func:`seisbench_cdiffsd.training.losses.make_loss`
    :param presence: Weight of a further term, which the default network learns by to tell whether there is an
        earthquake; at 0 it does not tell
    :param unfolded: Weight of the second term of the loss
    :param unfolded_share: Share of a batch that the second term is computed for
    :param top: Share of examples at level 1, where sampling starts; the others are between 0.05 and 1
    :param steps: Number of updates
    :param batch_size: Pairs in a batch, over all devices
    :param optimizer: "muon", for the convolutions, with AdamW for the rest, or "adam" for all
    :param learning_rate: Highest learning rate; it rises at first and then falls
    :param kernel_rate: Highest learning rate of the convolutions, under Muon; without it AdamW updates all parameters
    :param warmup: Updates over which the learning rate rises
    :param decay: How it falls: "cosine" to zero, or in "steps", to a tenth after each sixth of the updates
    :param clip: Largest norm of the gradient; 0 for any
    :param averaging: Decay of the exponential moving average of the weights, which is what is validated and saved
    :param snr: Range of input SNRs in dB
    :param factor: Published range of noise factors, in place of `snr`
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
    :param damaged: "stop" at a record with NaN or infinite samples, or "skip" it
    :param augmentations: How records are varied
    :param events: Datasets of labelled earthquakes
    :param noise: Datasets of noise
    :param machine: What to train on
    """

    network: str = "default"
    schedule: str = "straight"
    norm: str = "std"
    window: int = 3000
    init_from: str | None = None
    only: str = ""
    loss: Mapping[str, float] = field(default_factory=lambda: {"log-ratio": 1.0, "spectrum": 10.0, "mask": 10.0})
    presence: float = 1.0
    unfolded: float = 1.0
    unfolded_share: float = 0.5
    top: float = 0.5
    steps: int = 10_000
    batch_size: int = 24
    optimizer: str = "muon"
    learning_rate: float = 1e-3
    kernel_rate: float | None = 0.006
    warmup: int = 200
    decay: str = "cosine"
    clip: float = 1.0
    averaging: float = 0.998
    snr: Range = (-15.0, 15.0)
    factor: Range | None = None
    min_snr: float = 10.0
    balance: bool = True
    validate_every: int = 1000
    validation_events: int = 60
    patience: int = 0
    precision: str = "32-true"
    seed: int = 0
    splits: tuple[str, str] = ("train", "dev")
    memory: float = 4.0
    damaged: str = "stop"
    augmentations: Augmentations = field(default_factory=Augmentations)
    events: tuple[DatasetChoice, ...] = ()
    noise: tuple[DatasetChoice, ...] = ()
    machine: Machine = field(default_factory=Machine)

    def __post_init__(self) -> None:
        _check_counts(self, "steps", "batch_size", "warmup", "validate_every", "validation_events")
        if not (0 <= self.top <= 1 and 0 <= self.unfolded_share <= 1 and 0 <= self.averaging < 1):
            raise ValueError("top and unfolded_share must lie in [0, 1], averaging in [0, 1).")
        if not (min(self.learning_rate, self.kernel_rate or 1) > 0 and min(self.unfolded, self.presence) >= 0):
            raise ValueError(
                "learning_rate and kernel_rate must be positive, unfolded and presence must not be negative."
            )
        for name in ("clip", "patience", "memory", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, but is {getattr(self, name)}.")
        named = {
            "network": tuple(NETWORKS),
            "schedule": tuple(SCHEDULES),
            "norm": ("std", "peak"),
            "optimizer": OPTIMIZERS,
            "decay": DECAYS,
        }
        for name, names in {**named, "precision": PRECISIONS, "damaged": DAMAGED_ACTIONS}.items():
            if getattr(self, name) not in names:
                raise ValueError(f"{name} must be one of {', '.join(names)}, not {getattr(self, name)!r}.")
        check_loss(self.loss)
        check_ranges(self)
        check_finite(self, "snr", "factor")
        if self.window < SEGMENT:
            raise ValueError(f"window must be at least {SEGMENT} samples, half a second, not {self.window}.")
        if self.tells and self.augmentations.noise_only >= 1:
            raise ValueError("noise_only must be below 1 to learn where there is an earthquake: or set presence to 0.")
        if self.seed >= 2**63:
            raise ValueError(f"seed must be less than 2**63, not {self.seed}.")
        if self.factor is not None and self.factor[0] <= 0:
            raise ValueError(f"factor is (lowest, highest), both positive, not {self.factor}.")
        if self.splits[0] == self.splits[1]:
            raise ValueError(f"splits must be two different ones, to train and to validate on, not {self.splits}.")
        onset = self.augmentations.onset
        seconds = self.window / SAMPLING_RATE
        if onset[0] + onset[1] > seconds:
            raise ValueError(f"onset leaves no room for P in a window of {seconds:g} s: {onset}.")
        if self.batch_size % self.machine.parts:
            parts = self.machine.parts
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of devices x nodes x accumulate, {parts}."
            )

    @property
    def tells(self) -> bool:
        """Whether the network learns to tell if there is an earthquake: it needs windows with and without one."""
        return self.presence > 0 and self.network == "default" and self.augmentations.noise_only > 0

    @property
    def unfolded_count(self) -> int:
        """Number of examples, the first of a batch, that the second term of the loss is computed for."""
        return round(self.unfolded_share * self.batch_size)

    def autocast(self, device: str) -> torch.autocast:
        """The autocast context of an update on a device."""
        return torch.autocast(torch.device(device).type, torch.bfloat16, self.precision == "bf16-mixed")


def _check_counts(config: Machine | TrainingConfig, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be at least 1, not {getattr(config, name)}.")
