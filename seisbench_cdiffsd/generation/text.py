"""What a sentence says about a seismogram: a scanner of plain English, one pass from left to right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

#: Least and most of each quantity, and its unit.
LIMITS: dict[str, tuple[float, float, str]] = {
    "magnitude": (-2, 7.5, ""),
    "distance": (0, 500, "km"),
    "hypocentral_distance": (0.1, 500, "km"),
    "s_minus_p": (0.2, 60, "s"),
    "depth": (0, 100, "km"),
    "sampling_rate": (10, 500, "Hz"),
    "duration": (5, 600, "s"),
    "snr": (-40, 80, "dB"),
    "band": (0.01, 250, "Hz"),
}
#: All parameters of a record.
NAMES = {*LIMITS, "kind", "site", "instrument", "noise", "loud"}
#: These three say how far away it is: a sentence has at most one of them.
DISTANCES = ("distance", "hypocentral_distance", "s_minus_p")
#: Most of the depth in km and of the magnitude of quarry blasts.
BLASTS = {"depth": 1.0, "magnitude": 4.5}

_DIGITS = "zero|one|two|three|four|five|six|seven|eight|nine"
_TEENS = "ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen"
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_WORDS = {word: n for n, word in enumerate(f"{_DIGITS}|{_TEENS}".split("|"))}
_WORDS |= {word: 10 * n for n, word in enumerate(_TENS.split("|"), 2)}
_BELOW = rf"(?:(?:{_TENS})(?: (?:{_DIGITS}))?|{_TEENS}|{_DIGITS})"
_HUNDREDS = rf"(?:(?P<hundreds>a|{_BELOW}) )?hundred(?:(?: and)? (?P<rest>{_BELOW}))?"
_NUMBER = rf"\b(?:{_HUNDREDS}|(?P<below>{_BELOW})|(?=point))(?: ?point(?P<decimals>(?: (?:{_DIGITS}))+))?\b"

_N = r"(?P<low>-?\d+(?:\.\d+)?)(?:~(?P<high>-?\d+(?:\.\d+)?))?"
_LENGTHS = {r"(?:km|kms|kilomet(?:er|re)s?)": 1.0, r"(?:mi|miles?)": 1.609344, r"(?:deg|degrees?)": 111.19}
_LENGTHS |= {r"(?:m|met(?:er|re)s?)(?! -?\d)": 0.001}
_LENGTH = rf"{_N} (?P<length>{'|'.join(_LENGTHS)})"
_TIMES = {r"(?:s|secs?|seconds?)": 1.0, r"(?:min|mins|minutes?)": 60.0}
_TIME = rf"{_N} (?P<time>{'|'.join(_TIMES)})"
_LINK = (
    r"(?: (?:of|is|was|being|at|in|to|for|from|equals?|equal|about|around|roughly|nearly|some|approximately"
    r"|a|an|the|=|:))*"
)
_WAVE = r"(?: (?:waves?|phases?|arrivals?|onsets?|picks?|times?))*"
_S, _P = rf"(?:the )?(?:s{_WAVE}|shear waves?)", rf"(?:the )?(?:p{_WAVE}|first (?:arrival|motion|onset|wave))"
_S_P = (
    r"(?:t ?)?(?:s (?:- |minus )?(?:t ?)?p|p (?:- |to )?(?:t ?)?s)"
    r"(?: (?:times?|intervals?|difference|delay|lag|separation))*"
)
_LAG = "(?:time|times|lag|delay|interval|difference|gap|separation)"
_SOME = r"(?: (?!and )[a-z]+){0,3}?"
_MAGNITUDE = r"(?:(?:local|moment|richter|body wave|surface wave) )?(?:magnitudes?|mag(?: \.)?|m ?[lwbsd]?)"
_QUAKE = r"(?:(?:micro ?)?(?:earth ?)?quakes?|temblors?|(?:after|main|fore) ?shocks?)"
_SNR = r"(?:snr|s / n|signal to noise)(?: ratio)?"

#: What is looked for at each word, in this order: the quantity whose number is in it ...
_QUANTITIES = [
    ("s_minus_p", rf"{_S_P}{_LINK} {_TIME}"),
    ("s_minus_p", rf"{_S}{_SOME} {_TIME} (?:(?:after|behind|later than|following) {_P}|later|behind)"),
    ("s_minus_p", rf"{_S} (?:follow|trail|lag)(?:s|ing)?(?: behind)? {_P}{_LINK} (?:by|after) {_TIME}"),
    ("s_minus_p", rf"{_P} (?:precedes?|leads?|is ahead of|comes? before) {_S}{_LINK} by {_TIME}"),
    ("s_minus_p", rf"(?:{_P} and {_S}|{_S} and {_P}){_SOME} (?:by )?{_TIME}(?: apart)?"),
    ("s_minus_p", rf"{_LAG} (?:between|from) (?:{_P} (?:and|to) {_S}|{_S} and {_P}){_LINK} {_TIME}"),
    ("s_minus_p", rf"{_TIME}(?: (?:of|lag|pass|lie))* between (?:{_P} and {_S}|{_S} and {_P})"),
    ("s_minus_p", rf"{_TIME} (?:of )?{_S_P}"),
    ("hypocentral_distance", rf"hypo(?:central)? dist(?:ance)?{_LINK} {_LENGTH}"),
    ("hypocentral_distance", rf"{_LENGTH} hypo(?:central)? dist(?:ance)?"),
    ("depth", rf"(?:(?:(?:focal|hypocentral|source) )?dep(?:th)?|h|z){_LINK} {_LENGTH}"),
    ("depth", rf"{_LENGTH} (?:deep|down|(?:in |of )?(?:focal |hypocentral )?depth|below|beneath|under(?:ground)?)"),
    ("depth", rf"(?:deep|shallow) {_QUAKE} \( {_LENGTH} \)"),
    ("depth", rf"(?:hypocent(?:er|re)|focus){_LINK} {_LENGTH}(?! (?:away|off|from|distant))"),
    ("distance", rf"(?:(?:epi(?:central)? )?(?:distance|dist(?: \.)?|range|offset|delta|δ)|r|d){_LINK} {_LENGTH}"),
    ("distance", rf"{_LENGTH}(?: (?:of )?(?:away|off|far|distant|epicentral(?: distance)?|distance))?"),
    ("magnitude", rf"{_MAGNITUDE}{_LINK} {_N}(?! (?:km|hz|s(?! (?:- |minus )?(?:t ?)?p))\b)"),
    ("magnitude", rf"{_N} (?:local |moment )?(?:magnitude|mag|on the richter scale)"),
    ("magnitude", rf"{_N}(?= (?:local )?(?:{_QUAKE}|event|(?:quarry |mine )?(?:blast|explosion))(?<!s)(?!s))"),
    ("magnitude", rf"{_N}(?= [,;.]|$)"),
    ("magnitude", r"(?<=\ba )(?P<low>\d\.\d)(?P<high>)(?= (?:[a-z]{4,}|at|and|as|in|of|on|off)\b)"),
    ("sampling_rate", rf"{_N} (?:hz|hertz|sps|samples? (?:per|a|each|/|every) (?:s|sec|second))"),
    ("sampling_rate", rf"{_N} times (?:per|a|each|every) second"),
    ("snr", rf"{_SNR}{_LINK} {_N}(?: (?:db|decibels?))?"),
    ("snr", rf"{_N} (?:db|decibels?)(?: (?:of )?{_SNR})?"),
    ("duration", _TIME),
]


def _words(name: str) -> list[str]:
    return Path(__file__).with_name(name).read_text("ascii").splitlines()


def _values() -> Iterator[tuple[str, Any, str]]:
    """... and the value that a word stands for, or a range of a quantity without a number."""
    for line in filter(lambda line: "|" in line, _words("words.txt")):
        slot, value, rule = (part.strip() for part in line.split("|", 2))
        numbers = tuple(map(float, value.split())) if value[-1:].isdigit() else ()
        yield slot, (numbers[0] if len(numbers) == 1 else numbers) or value, rule


_RULES = [*((slot, None, rule) for slot, rule in _QUANTITIES), *_values()]
_COMPILED = [(slot, value, re.compile(rf"(?:{rule})(?!\w)")) for slot, value, rule in _RULES]
#: Words that say nothing about a record.
_FILLERS = set(" ".join(_words("fillers.txt")).split())
_WORD = re.compile(r"\w+|\S")
_PUNCTUATION = set(",;.:!?()[]{}|\"'=/&~-+*@#_")


def parse(text: str) -> dict[str, Any]:
    """
    What a sentence says: `magnitude`, one of `distance` (epicentral), `hypocentral_distance` and `s_minus_p`, `depth`,
    `kind`, `site`, `instrument`, `sampling_rate`, `band` (lowest and highest frequency), `duration`, `noise`, `snr`,
    and `loud`, how much louder (1) or calmer (-1) the noise is than others of its kind; in km, s, Hz and dB. What
    has a range is a pair.

    :raises ValueError: If a word is not understood, two contradict each other, or a quantity cannot be
    """
    plain = _with_digits(text)
    if not plain:
        raise ValueError("The text is empty: describe a seismogram, such as 'magnitude 3, 40 km away'.")
    said: dict[str, Any] = {}
    vague: dict[str, Any] = {}
    words: dict[str, str] = {}
    position = 0
    while position < len(plain):
        found = next(((*rule[:2], match) for rule in _COMPILED if (match := rule[2].match(plain, position))), None)
        if found is None:
            word = _WORD.match(plain, position)[0]  # type: ignore[index]
            if word not in _FILLERS | _PUNCTUATION:
                near = plain[max(0, position - 25) : position + 30].strip()
                raise ValueError(f"Not understood: {word!r}, in {near!r}.")
            position += len(word)
        else:
            slot, value, match = found
            if value is None:
                _add(said, words, *_quantity(slot, match), match[0])
            elif slot == "loud":
                said[slot] = max(-1, min(1, said.get(slot, 0) + value))
            elif isinstance(value, tuple):
                vague.setdefault(slot, value)
            elif slot != "nothing":
                _add(said, words, slot, value, match[0])
            position = match.end()
        position += plain[position : position + 1] == " "
    return _completed(said, words, vague)


def checked(said: dict[str, Any]) -> dict[str, Any]:
    """A copy of parameters such as :py:func:`parse` returns; ValueError if one is unknown or cannot be."""
    for name, value in said.items():
        if name not in NAMES:
            raise ValueError(f"There is no parameter {name!r}. Known are {', '.join(sorted(NAMES))}.")
        if name in LIMITS:
            least, most, unit = LIMITS[name]
            for number in value if isinstance(value, tuple) else (value,):
                if not (isinstance(number, Real) and least <= float(number) <= most):
                    raise ValueError(f"{name} is {least:g} to {most:g} {unit}".rstrip() + f", not {value!r}.")
    return dict(said)


def _with_digits(text: str) -> str:
    """The text in small letters, words and numbers separated by spaces, with digits for number words."""
    text = re.sub("[\u2010-\u2015\u2212]", "-", text.lower()).replace("°", " degrees ")
    text = re.sub("(?<=[a-z])[\u2019'](?:s|d|ll|re|m)\\b", "", text)
    text = re.sub("(?<=[a-z]{3})_", " ", text).replace("_", "")
    text = re.sub(r"(?<=[a-z])-(?=\w)|(?<=\d)-(?=[a-z])", " ", text)
    tokens = re.findall(r"\d+(?:[.,]\d+)*|(?<!\d)\.\d+|[^\W\d_]+|\S", text)
    for n, token in enumerate(tokens):
        if re.match(r"\.?\d", token):
            tokens[n] = re.sub(r",(?=\d{3}\b)", "", token)
            if not re.fullmatch(r"\d*\.?\d+", tokens[n]):
                raise ValueError(f"Not understood: {token!r} is no number.")
    text = re.sub(_NUMBER, _digits_of, " ".join(tokens))
    text = re.sub(r"(\d+) and (?:a |1 )?half\b", r"\1.5", text)
    text = re.sub(r"\ba (minute|degree|mile) and (?:a |1 )?half\b", r"1.5 \1", text)
    for words, digits in (("(?:3|three) quarters?", "0.75"), ("(?:1 )?half", "0.5"), ("(?:1 )?quarter", "0.25")):
        text = re.sub(rf"(?:\ba )?\b{words}(?: of)?(?: an?)? (?=degree|mile|k|minute|second)", f"{digits} ", text)
    text = re.sub(r"\ban? (?=(?:degree|mile|kilomet(?:er|re)|minute)\b)", "1 ", text)
    text = re.sub(r"(\d+) thousand\b", r"\g<1>000", text)
    text = re.sub(r"\bminus (?=[\d.])|(?<![\d~] )- (?=[\d.])(?<!\bs - )", "-", text)
    text = re.sub(r"([\d.]+) min(?:ute)?s? (?:and )?([\d.]+) s(?:ec(?:ond)?s?)?\b", _seconds_of, text)
    number = r"(-?\d*\.?\d+)"
    return re.sub(rf"between {number} and {number}|{number} (?:to|-) {number}", _range_of, text)


def _digits_of(match: re.Match[str]) -> str:
    """A number in words, such as one hundred and twenty point five, in digits."""
    value = {
        name: sum(_WORDS.get(word, 1) for word in (match[name] or "").split()) for name in ("hundreds", "rest", "below")
    }
    whole = 100 * (value["hundreds"] or 1) + value["rest"] if "hundred" in match[0] else value["below"]
    return f"{whole}.{''.join(str(_WORDS[word]) for word in (match['decimals'] or '').split())}".rstrip(".")


def _seconds_of(match: re.Match[str]) -> str:
    return f"{60 * float(match[1]) + float(match[2]):g} s"


def _range_of(match: re.Match[str]) -> str:
    return "~".join(filter(None, match.groups()))


def _quantity(slot: str, match: re.Match[str]) -> tuple[str, Any]:
    """The quantity that a match gives, in km, s, Hz or dB, within its limits."""
    low = float(match["low"])
    values: tuple[float, ...] = (low,) if not match["high"] else (low, float(match["high"]))
    for units, name in ((_LENGTHS, "length"), (_TIMES, "time")):
        if name in match.re.groupindex:
            factor = next(factor for unit, factor in units.items() if re.fullmatch(unit, match[name]))
            values = tuple(value * factor for value in values)
    if slot == "sampling_rate" and len(values) == 2:
        slot = "band"
    least, most, unit = LIMITS[slot]
    name = slot.replace("_", " ") if slot != "s_minus_p" else "S - P time"
    if not all(least <= value <= most for value in values) or list(values) != sorted(set(values)):
        raise ValueError(f"Cannot be: {match[0]!r}. A {name} is {least:g} to {most:g} {unit}".rstrip() + ".")
    return slot, values[0] if len(values) == 1 else values


def _add(said: dict[str, Any], words: dict[str, str], slot: str, value: Any, word: str) -> None:
    others = [name for name in (DISTANCES if slot in DISTANCES else (slot,)) if name in said]
    for name in others:
        if name != slot or said[name] != value:
            what = "distances" if slot in DISTANCES else f"values of the {slot.replace('_', ' ')}"
            raise ValueError(f"Two {what}: {words[name]!r} and {word!r}. Leave one out.")
    said[slot], words[slot] = value, word


def _completed(said: dict[str, Any], words: dict[str, str], vague: dict[str, Any]) -> dict[str, Any]:
    """With vague words where no number is, and noise where only its loudness is given; ValueError if they clash."""
    for slot, value in vague.items():
        if slot not in said and not (slot == "distance" and set(DISTANCES) & set(said)):
            said[slot] = value
    if said.get("loud", 0) < 0:
        said.setdefault("noise", "quiet")
    if said.get("noise") == "none" and "snr" in said:
        raise ValueError(f"Without noise there is no SNR: leave out {words['snr']!r} or {words['noise']!r}.")
    for slot, most in BLASTS.items() if said.get("kind") == "quarry blast" else ():
        if np.max(said.get(slot, 0.0)) > most:
            raise ValueError(f"Cannot be: a quarry blast with a {slot} above {most:g}, {words.get(slot, 'large')!r}.")
    return said
