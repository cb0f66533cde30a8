"""The ledger of a denoised archive: which files were made of what, and which of them are no longer valid."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from seisbench_cdiffsd.archive.sds import ChannelDay, channel_day
from seisbench_cdiffsd.files import manifest
from seisbench_cdiffsd.files.manifest import Outcome

#: Folder of the ledger, in the folder of the outputs.
LEDGER = ".cdiffsd"
#: Objects in each entry; "channels" maps the files that were read to the names of their outputs.
PARTS = ("channels", "outputs", "noise", "problems", "passed over")

Entry = dict[str, Any]


def entry_path(out: Path, channels: Sequence[ChannelDay], location: str | None = None) -> Path:
    """
    Path of the entry about some channels of an instrument on a day, which are denoised together.

    Other channels have another entry: commands that share no channel share no file.

    :param out: Folder of the outputs
    :param channels: Channels that differ in their components only
    :param location: Location code of the outputs, if it differs from that of the channels
    """
    first = channels[0]
    components = "".join(sorted(channel.channel[-1] for channel in channels))
    name = f"{first.id[:-1]}{components}{'' if location is None else f'-{location}'}.{first.day:%Y.%j}.json"
    return out / LEDGER / f"{first.day:%Y}" / f"{first.network}.{first.station}" / name


def task_name(path: Path) -> str:
    """Name of the station-day that an entry is about."""
    codes = path.name.split(".")
    return ".".join([*codes[:2], *codes[-3:-1]])


def place(folder: Path, out: Path) -> str:
    """A folder relative to the outputs, with links resolved: archives may be moved together."""
    folder, out = (Path(os.path.realpath(path)) for path in (folder, out))
    try:
        return Path(os.path.relpath(folder, out)).as_posix()
    except ValueError:  # on another drive of Windows
        return folder.as_posix()


def read(path: Path) -> Entry:
    """An entry; empty if there is none that can be read."""
    entry = manifest.load(path)
    return entry if all(isinstance(entry.get(part), dict) for part in PARTS) else {}


def is_done(entry: Entry, key: str, out: Path, noise: Path | None) -> bool:
    """
    Whether an entry has this key, and its files exist in full size in these folders.

    :param entry: Entry
    :param key: Hash of all that the files depend on
    :param out: Folder of the outputs
    :param noise: Folder of the noise, or None if it is not needed
    """
    if not entry or not manifest.is_done(entry, key, out):
        return False
    return noise is None or (
        entry.get("noise folder") == place(noise, out) and manifest.is_done(entry, key, noise, "noise")
    )


def entries_about(own: Path, names: Iterable[str]) -> dict[Path, Entry]:
    """
    The entries of a station-day that are about some outputs.

    :param own: Path of one of the entries of this day, which need not exist
    :param names: Paths of the outputs in their archive
    :return: Entries by their paths
    """
    wanted = set(names)
    day = ".".join(own.name.split(".")[-3:])
    entries = {path: read(path) for path in sorted(own.parent.glob(f"[!.]*.{day}"))}
    return {path: entry for path, entry in entries.items() if entry and wanted & set(entry["channels"].values())}


def invalidate(before: dict[Path, Entry], names: Iterable[str]) -> None:
    """
    Mark outputs as being replaced: rewrite entries without their keys and without the sizes and sums of these outputs.

    If the run is killed, the next one then repeats these outputs, but still knows their names.

    :param before: Entries about these outputs, as they were read
    :param names: Paths of the outputs in their archive
    """
    wanted = set(names)
    for path, entry in before.items():
        files = {
            kind: {name: {} if name in wanted else known for name, known in entry[kind].items()}
            for kind in ("outputs", "noise")
        }
        manifest.save(path, {**entry, **files, "key": ""})


def revalidate(before: dict[Path, Entry]) -> None:
    """Undo :py:func:`invalidate`: write the entries as they were, since no output was replaced."""
    for path, entry in before.items():
        manifest.save(path, entry)


def commit(own: Path, new: Entry, before: dict[Path, Entry], out: Path, names: Iterable[str]) -> list[str]:
    """
    Write a new entry, remove the outputs that only former entries list, and take all these outputs out of the latter.

    :param own: Path of the new entry
    :param new: Entry
    :param before: Former entries about these outputs
    :param out: Folder of the outputs
    :param names: Paths of the outputs in their archive
    :return: The outputs that were removed
    """
    wanted = set(names)
    removed = {name for entry in before.values() for name in _remove(entry, wanted - set(new["outputs"]), out)}
    for path, entry in before.items():
        if path != own:
            _forget(path, entry, wanted)
    manifest.save(own, new)
    return sorted(removed)


def removal(task: str, names: Iterable[str]) -> Outcome:
    """The report of outputs that were removed, by the ids of their channels."""
    ids = ", ".join(sorted({Path(name).name.partition(".D.")[0] for name in names}))
    return Outcome(task, "removed", f"{ids}, as the input no longer has samples for it")


def write_manifest(path: Path, entries: Iterable[Path], out: Path, noise: Path | None, missing: list[str]) -> None:
    """
    Write the manifest of an archive: its files with size and SHA-256, and the problems.

    :param path: Path of the manifest
    :param entries: Paths of the entries
    :param out: Folder of the outputs
    :param noise: Folder of the noise, or None
    :param missing: Station-days that are not done
    :raises OSError: If the manifest cannot be written
    """
    total: Entry = {"problems": {}, "outputs": {}} | ({} if noise is None else {"noise": {}})
    where = None if noise is None else place(noise, out)
    models = set()
    for entry in filter(None, map(read, entries)):
        total["problems"] |= entry["problems"]
        found = {name: known for name, known in entry["outputs"].items() if _exists(out / name, known)}
        total["outputs"] |= found
        if found:
            models.add(entry.get("model"))
        if noise is not None and entry.get("noise folder") == where:
            total["noise"] |= {name: known for name, known in entry["noise"].items() if _exists(noise / name, known)}
    manifest.save(path, {**total, "missing": missing, "models": sorted(filter(None, models))})


def all_entries(out: Path) -> list[Path]:
    """Paths of all entries of an archive."""
    return sorted((out / LEDGER).glob("*/*/[!.]*.json"))


def _exists(path: Path, known: Any) -> bool:
    """Whether a file exists in the size that its entry states; a file that is being replaced has none there."""
    try:
        return isinstance(known, dict) and path.stat().st_size == known.get("size")
    except OSError:
        return False


def _remove(entry: Entry, names: set[str], out: Path) -> list[str]:
    """Remove the outputs among `names` that an entry lists, and their noise; return those that existed."""
    found = []
    for name in names & set(entry["outputs"]):
        if channel_day(Path(name)) is None:  # such a name may lead anywhere
            continue
        found += [name] if (out / name).exists() else []
        (out / name).unlink(missing_ok=True)
        if name in entry["noise"] and entry.get("noise folder"):
            (out / entry["noise folder"] / name).unlink(missing_ok=True)
    return found


def _forget(path: Path, entry: Entry, names: set[str]) -> None:
    """Take outputs out of an entry, and its key, as it no longer has all its channels; remove it if nothing is left."""
    inputs = {name for name, output in entry["channels"].items() if output in names}
    parts = {kind: {k: v for k, v in entry[kind].items() if k not in names} for kind in ("outputs", "noise")}
    parts |= {kind: {k: v for k, v in entry[kind].items() if k not in inputs} for kind in ("channels", "problems")}
    if parts["outputs"] or parts["problems"]:
        manifest.save(path, {**entry, **parts, "key": ""})
    else:
        path.unlink(missing_ok=True)
