"""The records of a denoised archive: which files were made of what, and which of them hold no longer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from seisbench_cdiffsd import manifest
from seisbench_cdiffsd.manifest import Outcome
from seisbench_cdiffsd.sds import ChannelDay, channel_day

#: Folder, in that of the outputs, of the records.
RECORDS = ".cdiffsd"
#: What a record has, each an object; "channels" are the files that were read, and the names of what they become.
PARTS = ("channels", "outputs", "noise", "problems", "passed over")

Record = dict[str, Any]


def record_path(out: Path, channels: Sequence[ChannelDay], location: str | None = None) -> Path:
    """
    Where it is written what is known about some channels of an instrument on a day, which are denoised together.

    Other channels have another record: commands that share no channel share no file.

    :param out: Folder of the outputs
    :param channels: Channels that differ in their components only
    :param location: Location code of the outputs, where it is another one
    """
    first = channels[0]
    components = "".join(sorted(channel.channel[-1] for channel in channels))
    name = f"{first.id[:-1]}{components}{'' if location is None else f'-{location}'}.{first.day:%Y.%j}.json"
    return out / RECORDS / f"{first.day:%Y}" / f"{first.network}.{first.station}" / name


def task_name(path: Path) -> str:
    """Name of the station-day that a record is about."""
    codes = path.name.split(".")
    return ".".join([*codes[:2], *codes[-3:-1]])


def place(folder: Path, out: Path) -> str:
    """A folder, links resolved, as seen from the outputs: archives that are moved together stay what they are."""
    folder, out = (Path(os.path.realpath(path)) for path in (folder, out))
    try:
        return Path(os.path.relpath(folder, out)).as_posix()
    except ValueError:  # on another drive of Windows
        return folder.as_posix()


def read(path: Path) -> Record:
    """A record; empty where there is none that can be read."""
    record = manifest.load(path)
    return record if all(isinstance(record.get(part), dict) for part in PARTS) else {}


def is_done(record: Record, key: str, out: Path, noise: Path | None) -> bool:
    """
    Whether a record is of this key, and its files are there in full size, in these folders.

    :param record: Record
    :param key: Hash of all that the files depend on
    :param out: Folder of the outputs
    :param noise: Folder of the noise, or None where none is asked for
    """
    if not record or not manifest.is_done(record, key, out):
        return False
    return noise is None or (
        record.get("noise folder") == place(noise, out) and manifest.is_done(record, key, noise, "noise")
    )


def naming(own: Path, names: Iterable[str]) -> dict[Path, Record]:
    """
    The records of a station-day that are about some outputs.

    :param own: Path of one of the records of this day, there or not
    :param names: Paths of the outputs in their archive
    :return: Records by their paths
    """
    wanted = set(names)
    day = ".".join(own.name.split(".")[-3:])
    records = {path: read(path) for path in sorted(own.parent.glob(f"[!.]*.{day}"))}
    return {path: record for path, record in records.items() if record and wanted & set(record["channels"].values())}


def claim(before: dict[Path, Record], names: Iterable[str]) -> None:
    """Say in records that outputs are being replaced: what a kill leaves is then neither believed nor forgotten."""
    wanted = set(names)
    for path, record in before.items():
        changed = {kind: _changed(record[kind], wanted, {}) for kind in ("outputs", "noise")}
        manifest.save(path, {**record, **changed, "key": ""})


def restore(before: dict[Path, Record]) -> None:
    """Take back what :py:func:`claim` has said, as nothing was replaced."""
    for path, record in before.items():
        manifest.save(path, record)


def settle(own: Path, new: Record, before: dict[Path, Record], out: Path, names: Iterable[str]) -> list[str]:
    """
    Write what became of some outputs, and remove those that former records name and the new one does not.

    :param own: Path of the new record
    :param new: Record
    :param before: Former records about these outputs
    :param out: Folder of the outputs
    :param names: Paths of the outputs in their archive
    :return: What was removed
    """
    wanted = set(names)
    removed = {name for record in before.values() for name in _remove(record, wanted - set(new["outputs"]), out)}
    for path, record in before.items():
        if path != own:
            _reduce(path, record, wanted)
    manifest.save(own, new)
    return sorted(removed)


def removal(task: str, names: Iterable[str], why: str) -> Outcome:
    """What is told of outputs that were removed: their ids, and the cause."""
    ids = ", ".join(sorted({Path(name).name.partition(".D.")[0] for name in names}))
    return Outcome(task, "removed", f"{ids}, as {why}")


def write_manifest(path: Path, records: Iterable[Path], out: Path, noise: Path | None, missing: list[str]) -> None:
    """
    Write what there is of an archive: the files with size and SHA-256, and the problems.

    :param path: Path of the manifest
    :param records: Paths of the records
    :param out: Folder of the outputs
    :param noise: Folder of the noise, or None
    :param missing: Station-days that are not done
    :raises OSError: If the manifest cannot be written
    """
    total: Record = {"problems": {}, "outputs": {}} | ({} if noise is None else {"noise": {}})
    where = None if noise is None else place(noise, out)
    models = set()
    for record in filter(None, map(read, records)):
        total["problems"] |= record["problems"]
        found = {name: known for name, known in record["outputs"].items() if _is_there(out / name, known)}
        total["outputs"] |= found
        if found:
            models.add(record.get("model"))
        if noise is not None and record.get("noise folder") == where:
            total["noise"] |= {name: known for name, known in record["noise"].items() if _is_there(noise / name, known)}
    manifest.save(path, {**total, "missing": missing, "models": sorted(filter(None, models))})


def all_records(out: Path) -> list[Path]:
    """Paths of the records of an archive."""
    return sorted((out / RECORDS).glob("*/*/[!.]*.json"))


def _changed(files: dict[str, Any], names: set[str], value: Any) -> dict[str, Any]:
    return {name: value if name in names else known for name, known in files.items()}


def _is_there(path: Path, known: Any) -> bool:
    """Whether a file is what a record says, as far as its size can tell; one that is being replaced has none."""
    try:
        return isinstance(known, dict) and path.stat().st_size == known.get("size")
    except OSError:
        return False


def _remove(record: Record, names: set[str], out: Path) -> list[str]:
    """Remove the outputs that a record names, and their noise; tell which were there."""
    found = []
    for name in names & set(record["outputs"]):
        if channel_day(Path(name)) is None:  # a name that may lead anywhere
            continue
        found += [name] if (out / name).exists() else []
        (out / name).unlink(missing_ok=True)
        if name in record["noise"] and record.get("noise folder"):
            (out / record["noise folder"] / name).unlink(missing_ok=True)
    return found


def _reduce(path: Path, record: Record, names: set[str]) -> None:
    """Take outputs out of a record, which is then of other channels than it was made for."""
    inputs = {name for name, output in record["channels"].items() if output in names}
    parts = {kind: {k: v for k, v in record[kind].items() if k not in names} for kind in ("outputs", "noise")}
    parts |= {kind: {k: v for k, v in record[kind].items() if k not in inputs} for kind in ("channels", "problems")}
    if parts["outputs"] or parts["problems"]:
        manifest.save(path, {**record, **parts, "key": ""})
    else:
        path.unlink(missing_ok=True)
