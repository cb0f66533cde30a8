"""Which records are taken from a dataset, and how they are varied. Settings know their ranges."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args, get_origin, get_type_hints


class Limits(NamedTuple):
    """Lowest and highest value of a number, or of both numbers of a range; `above` if the lowest itself is too low."""

    low: float
    high: float
    above: bool = False

    def missed(self, value: Any) -> str:
        """What a value must be, in words, if it is not; NaN lies within no limits."""
        numbers = value if isinstance(value, tuple) else (value,)
        inside = all(self.low <= x <= self.high and not (self.above and x == self.low) for x in numbers)
        if inside and numbers[0] <= numbers[-1]:
            return ""
        first, last = ("above", "and at most") if self.above else ("from", "to")
        limits = f"{first} {self.low:,.10g} {last} {self.high:,.10g}"
        return f"[lowest, highest], both {limits}" if isinstance(value, tuple) else limits


Range = tuple[float, float]
Share = Annotated[float, Limits(0, 1)]
Weight = Annotated[float, Limits(0, 1e6)]
AnyRange = Annotated[Range | None, Limits(-math.inf, math.inf)]


@dataclass(frozen=True)
class Settings:
    """Settings whose types name their limits and choices, which hold however they are made."""

    prefix: ClassVar[str] = ""  # before their names, in messages

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self), include_extras=True).items():
            value, known, wanted = getattr(self, name), get_args(kind), ""
            if get_origin(kind) is Literal and value not in known:
                wanted = f"one of {', '.join(known)}"
            elif get_origin(kind) is Annotated and value is not None:
                wanted = known[1].missed(value)
            if wanted:
                raise ValueError(f"{self.prefix}{name} must be {wanted}, not {value!r}.")


@dataclass(frozen=True)
class DatasetChoice(Settings):
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
    :param exclude: CSV file whose column ``trace_name`` names records to leave out
    :param reversed: Whether its noise is always reversed in time: earthquakes and bursts become noise that no label can
        be wrong about, so all its records are taken, whatever their category
    :param download: Whether SeisBench may download the dataset if it is not in the cache
    """

    dataset: str
    weight: Annotated[float, Limits(0, 1e9, above=True)] = 1.0
    category: tuple[str, ...] = ()
    snr: AnyRange = None
    magnitude: AnyRange = None
    distance: AnyRange = None
    instrument: tuple[str, ...] = ()
    where: Mapping[str, tuple] = field(default_factory=dict)
    exclude: str = ""
    reversed: bool = False
    download: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", f"In dataset {self.dataset}, ")
        super().__post_init__()


@dataclass(frozen=True)
class Augmentations(Settings):
    """
    How records are varied. Shares lie in [0, 1]; 0 is off.

    :param stretch: Share of earthquakes that are resampled, as if of another magnitude
    :param stretch_range: Smallest and largest factor
    :param impulsive: Share of earthquakes of which little but the first cycles of P and S are left
    :param onset: Earliest P onset after the start of the window and latest before its end, in s; negative is outside
    :param coda: Share of earthquakes whose window starts in the coda, if that is clear
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

    stretch: Share = 0.5
    stretch_range: Annotated[Range, Limits(0.05, 20)] = (0.75, 1.33)
    impulsive: Share = 0.0
    onset: tuple[float, float] = (-6.0, 3.0)
    coda: Share = 0.5
    rotate: bool = True
    flip: bool = True
    reverse: bool = True
    mixed_noise: Share = 0.3
    stretch_noise: Share = 0.5
    narrow: Share = 0.15
    glitches: Share = 0.1
    drop_components: Share = 0.1
    noise_only: Share = 0.1
    untouched: Share = 0.1
    mute: bool = True
    clipped: bool = False

    prefix: ClassVar[str] = "augmentations."

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise_only + self.untouched > 1:
            raise ValueError("noise_only and untouched must be at most 1 together.")
        if not all(map(math.isfinite, self.onset)):
            raise ValueError(f"augmentations.onset must be two finite numbers, not {list(self.onset)}.")
