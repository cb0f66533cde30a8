"""The settings of a training from TOML, from a run's JSON and from the command line; each error is one line."""

from __future__ import annotations

import difflib
import json
import sys
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from seisbench_cdiffsd.training.config import TrainingConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

#: Folder of the configs that come with the package.
SHIPPED = Path(__file__).parent / "configs"
#: Default terms of the loss.
TERMS = dict(TrainingConfig().loss)


def read_config(path: str | Path | None, overrides: Iterable[str] = (), **changes: Any) -> TrainingConfig:
    """
    Read the settings of a training.

    In TOML, a table and dotted keys are the same: the terms of a `loss` replace those of the default or are added to
    them, and 0 switches one off. In ``config.json`` and in `changes`, a loss has only the terms that are named.

    :param path: TOML file, ``config.json`` of a run, name of a config in the package such as "default", or None
    :param overrides: Settings that replace those in the file: "steps=200", "augmentations.stretch=0",
        "loss.spectrum=5", "events.0.weight=2"
    :param changes: Likewise, as values
    :return: The settings, with defaults for those that are not named
    :raises ValueError: If a key is unknown, a value is invalid, or the file cannot be read
    """
    table = {**(read_table(path) if path is not None else {}), **changes}
    if isinstance(loss := table.get("loss", TERMS), Mapping):
        table["loss"] = dict(loss)  # a copy, since overrides change it
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"A setting is KEY=VALUE, such as steps=200, not {override!r}.")
        keys, value = key.strip().split("."), parse(text)
        _put(table, keys, _with_terms(value) if keys == ["loss"] else value)
    return build(TrainingConfig, table)


def _with_terms(loss: Any) -> Any:
    """A loss from TOML, completed by the default terms that it neither names nor switches off."""
    if not isinstance(loss, Mapping):
        return loss
    return {term: weight for term, weight in {**TERMS, **loss}.items() if isinstance(weight, bool) or weight != 0}


def parse(text: str) -> Any:
    """A value as in TOML, or else the text itself: ``200``, ``true``, ``[-15, 15]``, ``published``."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def build(cls: type[T], table: Mapping[str, Any], where: str = "") -> T:
    """
    A dataclass of settings from a table of plain values.

    :param cls: The dataclass
    :param table: Values by name; nested dataclasses are tables
    :param where: Name of the table, for messages
    :raises ValueError: If a name is unknown, a value has the wrong type, or a required one is missing
    """
    types_, known = get_type_hints(cls), {x.name: x for x in fields(cls)}  # type: ignore[arg-type]
    for name in table:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}."
            raise ValueError(f"Unknown setting {where + name!r}: {hint}")
    for name, entry in known.items():
        if name not in table and entry.default is MISSING and entry.default_factory is MISSING:
            raise ValueError(f"{where + name} is missing.")
    values = {name: _value(types_[name], value, where + name) for name, value in table.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None


def _value(kind: Any, value: Any, name: str) -> Any:
    """Convert a plain value to the type of a setting."""
    arguments = get_args(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return None if value in (None, "none") else _value(arguments[0], value, name)
    if is_dataclass(kind):
        if isinstance(value, kind):  # type: ignore[arg-type]
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} must be a table, not {value!r}.")
        return build(kind, value, name + ".")  # type: ignore[arg-type]
    if get_origin(kind) is tuple:
        return _tuple(arguments, value, name)
    if kind is tuple:
        return tuple(value) if isinstance(value, list | tuple) else (value,)
    if get_origin(kind) is not None:  # a mapping from names
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} must be a table, not {value!r}.")
        return {key: _value(arguments[1], item, f"{name}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        what = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[kind]
        raise ValueError(f"{name} must be {what}, not {value!r}.")
    if value != value:
        raise ValueError(f"{name} must be a number, not nan.")
    return value


def _tuple(arguments: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    if arguments[-1] is Ellipsis:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_value(arguments[0], item, f"{name}.{i}") for i, item in enumerate(items))
    if not isinstance(value, list | tuple) or len(value) != len(arguments):
        raise ValueError(f"{name} must be a list of {len(arguments)} values, not {value!r}.")
    return tuple(_value(kind, item, name) for kind, item in zip(arguments, value, strict=True))


def read_table(path: str | Path) -> dict[str, Any]:
    """
    The settings in a file, unchecked; a loss in TOML is completed as in :py:func:`read_config`.

    :param path: File, or name of a config in the package
    :raises ValueError: If there is no such file, or it is not valid
    """
    shipped = SHIPPED / f"{path}.toml"
    file = shipped if str(path) == shipped.stem and shipped.is_file() else Path(path)
    try:
        text = file.read_text(encoding="utf-8")
        table = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
        if not isinstance(table, dict):
            raise ValueError("it is not a table of settings")
        return {**table, "loss": _with_terms(table["loss"])} if "loss" in table and file.suffix != ".json" else table
    except OSError as error:
        names = ", ".join(sorted(x.stem for x in SHIPPED.glob("*.toml")))
        raise ValueError(f"No config {str(path)!r}: {error.strerror}. It is a TOML file, or one of {names}.") from None
    except ValueError as error:
        remedy = " Fix it, or delete it and give the settings again." if file.suffix == ".json" else ""
        raise ValueError(f"{file} is not a valid config: {str(error).rstrip('.')}.{remedy}") from None


def _put(table: Any, keys: list[str], value: Any) -> None:
    """Set the value of a dotted key in tables and lists of tables."""
    first, *rest = keys
    if isinstance(table, list):
        if not first.isdecimal() or int(first) >= len(table):
            raise ValueError(f"There is no entry {first!r}: there are {len(table)}, counted from 0.")
        key: Any = int(first)
    elif isinstance(table, dict):
        key = first
        if rest:
            table.setdefault(first, {})
    else:
        raise ValueError(f"{first!r} does not belong to a table.")
    if rest:
        _put(table[key], rest, value)
    else:
        table[key] = value
