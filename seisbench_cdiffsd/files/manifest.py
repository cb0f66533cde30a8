"""Records of what was made of what, so a rerun does only what is missing, and reports of what failed and why."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seisbench_cdiffsd.files.writing import replacing

#: Possible results of a task or an input.
STATES = ("done", "skipped", "removed", "partly", "failed")


@dataclass(frozen=True, order=True)
class Outcome:
    """
    The result of a task or an input.

    :param name: Its name
    :param state: "done"; "skipped", if it was done before or is not usable; "removed", if it is no longer valid;
        "partly", without some of its input; "failed"
    :param reason: Why it is not done
    :param ratio: How far the loss in the encoding of the output lies below the signal, in dB
    :param loss: This loss in words; empty if it is negligible
    """

    name: str
    state: str
    reason: str = ""
    ratio: float = math.inf
    loss: str = ""

    @property
    def word(self) -> str:
        """The state in print, where "skipped" is said of channels that are not usable alone, such as ``*.LOG``."""
        return "complete" if self.state == "skipped" and not self.name.startswith("*.") else self.state


def report(outcomes: Iterable[Outcome]) -> str:
    """The number of outcomes of each state, the largest loss in encoding, and a line for each outcome with a reason."""
    rows = sorted(set(outcomes))
    counts = Counter(row.word for row in rows)
    words = {"done": "done", "complete": "complete already"} | {state: state for state in STATES}
    lines = [", ".join(f"{counts[word]} {said}" for word, said in words.items() if counts[word]) or "nothing to do"]
    lossy = [row for row in rows if row.loss]
    if lossy:
        worst = min(lossy, key=lambda row: row.ratio)
        lines.append(f"{worst.loss} ({worst.name}{', the worst' if len(lossy) > 1 else ''})")
    reasons = [row for row in rows if row.reason]
    width = max((len(row.name) for row in reasons), default=0)
    return "\n".join([*lines, *(f"{row.word:9}{row.name:{width}}  {row.reason}" for row in reasons)])


def status(outcomes: Iterable[Outcome]) -> int:
    """Exit status: 0 if all is well, 1 if something failed, 2 if all of it did."""
    states = {row.state for row in outcomes} - {"removed"}
    if states == {"failed"}:
        return 2
    return int(bool(states & {"failed", "partly"}))


def key(*parts: Any) -> str:
    """A hash of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def described(files: Iterable[Path], root: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of files, by their path below `root`."""
    found = {}
    for path in sorted(files):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else _digest(file)
        found[path.relative_to(root).as_posix()] = {"size": path.stat().st_size, "sha256": digest.hexdigest()}
    return found


def _digest(file: Any) -> Any:
    digest = hashlib.sha256()
    while block := file.read(2**20):
        digest.update(block)
    return digest


def load(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def is_done(entry: dict[str, Any], wanted: str, root: Path, kind: str = "outputs") -> bool:
    """
    Whether an entry has this key, and its files exist in full size. With the same key, a rerun would have the same
    problems.

    :param entry: Object with "key" and files as from :py:func:`described`
    :param wanted: Key
    :param root: Folder of the files
    :param kind: Name of the files in the entry
    """
    if entry.get("key") != wanted:
        return False
    try:
        return all((root / name).stat().st_size == file["size"] for name, file in entry[kind].items())
    except (OSError, KeyError, TypeError, AttributeError):
        return False
