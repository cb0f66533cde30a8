"""What is done: an entry for each output, with what it was made of; what is no longer valid; and reports."""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict, get_args, get_origin, get_type_hints

from seisbench_cdiffsd.files.reading import ReadError, contents

#: Folder of the ledger, in the folder of the outputs.
FOLDER = ".cdiffsd"
#: Possible results of a job or an input.
STATES = ("done", "complete", "skipped", "removed", "partly", "failed")


class File(TypedDict, total=False):
    """What is known of an output: its size and contents, and what its encoding lost, as in :py:class:`Outcome`."""

    size: int
    sha256: str
    ratio: float | None
    loss: str | None


@dataclass
class Entry:
    """What is known of outputs. It is a claim about files that anyone may have written, never an order."""

    key: str = ""  # a hash of all that the files depend on; empty if they are to be made again
    model: str = ""
    inputs: dict[str, str] = field(default_factory=dict)  # SHA-256 by path
    files: dict[str, dict[str, File]] = field(default_factory=dict)  # by kind and path
    folders: dict[str, str] = field(default_factory=dict)  # by kind, relative to that of the ledger
    made: bool = False  # whether there were samples to denoise
    problems: dict[str, str] = field(default_factory=dict)  # by what they concern
    notes: list[str] = field(default_factory=list)
    skipped: str = ""  # why the channel is not denoised


@dataclass(frozen=True, order=True)
class Outcome:
    """
    The result of a job or an input: "done"; "complete", if it was done before; "skipped", if it is not usable;
    "removed", if it is no longer valid; "partly", if something is left out, odd or guessed; "failed".
    """

    name: str
    state: str
    reason: str = ""  # why, or what there is to say
    ratio: float = math.inf  # how far the loss in the encoding of the output lies below the signal, in dB
    loss: str = ""  # this loss in words; empty if it is negligible


def report(outcomes: Iterable[Outcome]) -> str:
    """The number of outcomes of each state, the largest loss in encoding, and a line for each outcome with a reason."""
    rows = sorted(set(outcomes))
    counts = Counter(row.state for row in rows)
    said = {"complete": "complete already"}
    lines = [", ".join(f"{counts[x]} {said.get(x, x)}" for x in STATES if counts[x]) or "nothing to do"]
    lossy = [row for row in rows if row.loss]
    if lossy:
        worst = min(lossy, key=lambda row: row.ratio)
        lines.append(f"{worst.loss} ({worst.name}{', the worst' if len(lossy) > 1 else ''})")
    reasons = [row for row in rows if row.reason]
    width = max((len(row.name) for row in reasons), default=0)
    return "\n".join([*lines, *(f"{row.state:9}{row.name:{width}}  {row.reason}" for row in reasons)])


def status(outcomes: Iterable[Outcome]) -> int:
    """Exit status: 0 if all is well, 1 if something failed or was left out, 2 if everything failed."""
    states = {row.state for row in outcomes} - {"removed"}
    return 2 if states == {"failed"} else int(bool(states & {"failed", "partly"}))


def digest(path: Path) -> str:
    """SHA-256 of a file; empty if it cannot be read."""
    try:
        known = path.stat()
        return _digest(path, known.st_ino, known.st_size, known.st_mtime_ns, known.st_ctime_ns)
    except (OSError, ReadError):
        return ""


@lru_cache(maxsize=256)  # neighbouring jobs share inputs
def _digest(path: Path, *state: int) -> str:
    return contents(path)


def place(folder: Path, out: Path) -> str:
    """A folder relative to the outputs, with links resolved: archives may be moved together."""
    folder, out = (Path(os.path.realpath(path)) for path in (folder, out))
    try:
        return Path(os.path.relpath(folder, out)).as_posix()
    except ValueError:  # on another drive of Windows
        return folder.as_posix()


def entry_path(out: Path, name: str) -> Path:
    return out / FOLDER / f"{name}.json"


def read(path: Path) -> Entry | None:
    """An entry, if there is one, and nothing else by its name."""
    try:
        entry: Any = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError, MemoryError):
        return None
    return Entry(**{x.name: entry[x.name] for x in fields(Entry)}) if _fits(entry, Entry) else None


def _fits(value: Any, kind: Any) -> bool:
    """Whether what JSON holds is of a type, of those that entries have."""
    known = get_args(kind)
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(x, known[0]) for x in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_fits(x, known[1]) for x in value.values())
    if kind in (Entry, File):
        return isinstance(value, dict) and all(_fits(value.get(x), y) for x, y in get_type_hints(kind).items())
    return isinstance(value, kind)


def write(path: Path, entry: Entry) -> None:
    """Write an entry. What a kill leaves of it is no entry, so its job is done again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # a link would lead elsewhere
    with path.open("x", encoding="utf-8") as file:
        file.write(json.dumps(asdict(entry), indent=1, sort_keys=True) + "\n")


def is_there(path: Path, known: File, verify: bool = False) -> bool:
    """Whether a file has the size that an entry states, and the same contents if these are to be verified."""
    try:
        return path.stat().st_size == known["size"] and (not verify or digest(path) == known["sha256"])
    except (OSError, ValueError):
        return False


def removed(root: Path, name: str, known: File) -> bool:
    """Remove a file if it lies in a folder, without links, and has the contents that an entry states; say whether."""
    path, real = root / name, Path(os.path.realpath(root))
    if Path(os.path.realpath(path)) != real / name or not is_there(path, known, verify=True):
        return False
    path.unlink()
    return True
