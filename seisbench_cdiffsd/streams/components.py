"""Which channels are the components of one instrument: what a letter of a code means hangs on the rest of it."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: Components that a channel code may end with; 1 and 2 are horizontals of unknown azimuth.
COMPONENTS = "ZNE12"
#: Codes of seismometers, accelerometers and geophones with numbered horizontals: band, instrument, component (SEED).
NUMBERED = re.compile(r"[FGDCESHBMLVURPTQ][HLGNPJ][12]")


@dataclass(frozen=True, order=True)
class Component:
    """
    The component that a channel is of its instrument.

    :param instrument: What the channels of an instrument share: ``network.station.location.`` and the rest of the code
    :param letter: Z, N, E, 1 or 2
    """

    instrument: str
    letter: str


def assign(ids: Iterable[str], names: Mapping[str, str] | None = None) -> dict[str, Component]:
    """
    The components of channels, as far as their codes tell.

    Z, N and E at the end of a code are what they say. 1 and 2 are horizontals in a code with a band and an instrument
    letter, beside a Z or alone: geophones 1 to 4, or the sensors 1 and 2 of a borehole, are none. Other codes need a
    name of their own.

    :param ids: Ids of channels, ``network.station.location.channel``
    :param names: Components by name, such as ``{"UD": "Z", "NS": "N", "EW": "E"}``: a name is a channel code, or the
        beginning or the end of one; what remains of the code tells instruments apart
    :return: Components by id; ids that are not among them name no component
    :raises TypeError: If `names` is no mapping
    :raises ValueError: If a name stands for another component than Z, N, E, 1 and 2
    """
    if not isinstance(names, Mapping | None):
        raise TypeError(f"Components are named as in {{'UD': 'Z', 'NS': 'N', 'EW': 'E'}}, not {names!r}.")
    wrong = sorted(set((names or {}).values()) - set(COMPONENTS))
    if wrong or "" in (names or {}):
        raise ValueError(f"Components are named as in UD=Z NS=N EW=E; there is no component {', '.join(wrong) or '='}.")
    codes = {name: name.rpartition(".")[::2] for name in sorted(set(ids))}
    endings: dict[str, set[str]] = defaultdict(set)
    for rest, code in codes.values():
        endings[f"{rest}.{code[:-1]}"].add(code[-1:])
    found: dict[str, Component] = {}
    for name, (rest, code) in codes.items():
        instrument, given = f"{rest}.{code[:-1]}", _named(code, names or {})
        beside = endings[instrument]
        if given is not None:
            found[name] = Component(f"{rest}.{given[0]}", given[1])
        elif code[-1:] in tuple("ZNE") or (NUMBERED.fullmatch(code) and ("Z" in beside or beside <= set("12NE"))):
            found[name] = Component(instrument, code[-1])
    return found


def _named(code: str, names: Mapping[str, str]) -> tuple[str, str] | None:
    """
    What remains of a code beside the longest name that it ends or begins with, and the component of that name; at equal
    length, the end counts.
    """
    fitting = [(len(x), code.endswith(x), x) for x in names if code.endswith(x) or code.startswith(x)]
    if not fitting:
        return None
    _, at_end, name = max(fitting)
    return (code.removesuffix(name) if at_end else code.removeprefix(name)), names[name]
