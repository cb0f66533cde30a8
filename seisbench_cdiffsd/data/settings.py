"""Which records are taken from a dataset, and how they are varied."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

#: Lowest and highest value.
Range = tuple[float, float]


@dataclass(frozen=True)
class DatasetChoice:
    """
    A dataset to train on, and which of its records to take. A record that lacks a value it is chosen by is left out.

    :param dataset: Folder with a dataset in SeisBench's format, or a name in ``seisbench.data`` such as "STEAD"
    :param weight: Share of the examples that come from here, relative to the other datasets
    :param category: Values of ``trace_category``; by default, "noise" for noise and all others for earthquakes
    :param snr: Lowest and highest SNR in dB, by the dataset's own metadata (the mean of the components)
    :param magnitude: Lowest and highest magnitude
    :param distance: Lowest and highest epicentral distance in km
    :param instrument: First letters of channel codes, such as "HH"
    :param where: Values, or [lowest, highest], by any other column of the metadata
    :param download: Whether SeisBench may download the dataset if it is not in the cache
    """

    dataset: str
    weight: float = 1.0
    category: tuple[str, ...] = ()
    snr: Range | None = None
    magnitude: Range | None = None
    distance: Range | None = None
    instrument: tuple[str, ...] = ()
    where: Mapping[str, tuple] = field(default_factory=dict)
    download: bool = False

    def __post_init__(self) -> None:
        if not self.dataset:
            raise ValueError("dataset is the folder or the name of a dataset, and must not be empty.")
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight of {self.dataset} must be positive, not {self.weight}.")
        check_ranges(self)


@dataclass(frozen=True)
class Augmentations:
    """
    How records are varied. Shares lie in [0, 1]; 0 is off.

    :param stretch: Share of earthquakes that are resampled, as if of another magnitude
    :param stretch_range: Smallest and largest factor
    :param onset: Earliest P onset after the start of the window and latest before its end, in s; negative is outside
    :param s_only: Share of earthquakes whose window starts between P and S
    :param coda: Share of earthquakes whose window starts in the coda, if that is clear
    :param superpose: Share of earthquakes that a second one is added to
    :param rotate: Whether to rotate horizontal components by a random angle
    :param flip: Whether to change the sign of half of the records
    :param reverse: Whether to reverse half of the noise in time
    :param mixed_noise: Share of noise windows that a second noise record is added to
    :param stretch_noise: Share of noise windows that are resampled, which shifts their frequencies
    :param narrow: Share of pairs that lose low or high frequencies, as on another instrument
    :param glitches: Share of noise windows with spikes or steps
    :param drop_components: Share of pairs that lose one or two components
    :param noise_only: Share of pairs without an earthquake
    :param untouched: Share of pairs that are nearly clean
    :param mute: Whether to fade out what a record holds before P, which is noise
    :param clipped: Whether records marked as clipped serve as targets
    """

    stretch: float = 0.5
    stretch_range: Range = (0.75, 1.33)
    onset: Range = (-6.0, 3.0)
    s_only: float = 0.0
    coda: float = 0.5
    superpose: float = 0.0
    rotate: bool = True
    flip: bool = True
    reverse: bool = True
    mixed_noise: float = 0.3
    stretch_noise: float = 0.5
    narrow: float = 0.15
    glitches: float = 0.1
    drop_components: float = 0.1
    noise_only: float = 0.1
    untouched: float = 0.1
    mute: bool = True
    clipped: bool = False

    def __post_init__(self) -> None:
        for name in (x.name for x in fields(self) if x.type == "float"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share in [0, 1], not {getattr(self, name)}.")
        if self.noise_only + self.untouched > 1:
            raise ValueError("noise_only and untouched must be at most 1 together.")
        if not 0 < self.stretch_range[0] <= self.stretch_range[1]:
            raise ValueError(f"stretch_range is (smallest, largest), both positive, not {self.stretch_range}.")
        check_finite(self, "stretch_range", "onset")


def check_finite(settings: Any, *names: str) -> None:
    """
    Check that ranges have finite limits, or are None.

    :raises ValueError: If one has not
    """
    for name in names:
        limits = getattr(settings, name)
        if limits is not None and not all(map(math.isfinite, limits)):
            raise ValueError(f"{name} must have finite limits, not {limits}.")


def check_ranges(settings: Any) -> None:
    """
    Check that no range ends below where it begins.

    :raises ValueError: If one does
    """
    for name in ("snr", "factor", "magnitude", "distance"):
        limits = getattr(settings, name, None)
        if limits is not None and not limits[0] <= limits[1]:
            raise ValueError(f"{name} is (lowest, highest), not {limits}.")
