"""Archives denoised station-day by station-day: a rerun does only what is missing, with the same bytes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import torch

from seisbench_cdiffsd.archive import ledger
from seisbench_cdiffsd.archive.instruments import (
    ArchiveSettings,
    Instrument,
    Written,
    check_readable,
    denoise_instrument,
    is_slow,
)
from seisbench_cdiffsd.archive.sds import ChannelDay, Task
from seisbench_cdiffsd.denoising import fingerprint
from seisbench_cdiffsd.files import manifest
from seisbench_cdiffsd.files.manifest import Outcome
from seisbench_cdiffsd.files.reading import ReadError, Unavailable, index
from seisbench_cdiffsd.files.writing import Unwritable
from seisbench_cdiffsd.weights import CDiffSD, load


def denoise_day(task: Task, settings: ArchiveSettings, device: str = "cpu") -> list[Outcome]:
    """
    Denoise a station-day, unless it is done. No file is left incomplete; the entry in the ledger is written last.

    :param task: The station-day
    :param settings: Settings
    :param device: Device of the model
    :return: Outcomes of the task, and of files with problems
    :raises OSError: If the outputs cannot be written
    """
    torch.set_num_threads(settings.threads)
    known, todo = _known_and_todo(task, settings)
    missing = _missing(task, settings, device)
    if not todo:
        return _outcomes(task, known, "skipped", missing)
    model = _model(settings.weights, settings.model, device)
    for instrument in todo:
        instrument.index(model.min_sampling_rate)
    names = [*(entry["channels"] for entry in known), *(instrument.names for instrument in todo)]
    count = Counter(output for channels in names for output in channels.values())
    twice = [_id(path) for channels in names for path, output in channels.items() if count[output] > 1]
    if twice:
        ids = ", ".join(twice)
        reason = f"{ids} would be one channel under location {settings.location}: choose one of them with --select"
        return [Outcome(task.name, "failed", reason)]
    outcomes: list[Outcome] = []
    state = "skipped"
    for instrument in todo:
        entry, others = _denoise_and_commit(model, task, instrument)
        outcomes += others
        if entry:
            known, state = [*known, entry], "done"
    return [*outcomes, *(_outcomes(task, known, state, missing) if known else [])]


def outcomes_if_done(task: Task, settings: ArchiveSettings) -> list[Outcome]:
    """The outcomes of a station-day if all of it is done; none if something is left to do."""
    known, todo = _known_and_todo(task, settings)
    return [] if todo else _outcomes(task, known, "skipped", _missing(task, settings, "cpu"))


def _known_and_todo(task: Task, settings: ArchiveSettings) -> tuple[list[ledger.Entry], list[Instrument]]:
    """The entries of the instruments that are done, and the other instruments."""
    known, todo = [], []
    for channels in _instruments(task.channels):
        instrument = Instrument(channels, settings)
        entry = ledger.read(instrument.entry)
        if ledger.is_done(entry, instrument.key(), settings.out, settings.noise):
            known.append(entry)
        else:
            todo.append(instrument)
    return known, todo


def _missing(task: Task, settings: ArchiveSettings, device: str) -> list[str]:
    """Ids of the channels that exist only on other days, except those that are too slow for the model."""
    if not task.missing:
        return []
    least = _model(settings.weights, settings.model, device).min_sampling_rate
    return [channel.id for channel in task.missing if not _is_slow_file(settings.source / channel.path, least)]


def _denoise_and_commit(
    model: CDiffSD, task: Task, instrument: Instrument
) -> tuple[ledger.Entry | None, list[Outcome]]:
    """Denoise an instrument and write its entry; return it, or None if nothing was changed, and further outcomes."""
    settings, problems, names, key = instrument.settings, instrument.problems, instrument.names, instrument.key()
    outputs = {*names.values(), *_outputs_of_slow(instrument)}
    before = ledger.entries_about(instrument.entry, outputs)
    made = {path for path, output in names.items() if any(output in entry["outputs"] for entry in before.values())}
    written: Written = {kind: {} for kind in settings.roots}
    try:
        check_readable(instrument, made)
        ledger.invalidate(before, outputs)
        written = denoise_instrument(model, instrument, made)
    except Unavailable:
        ledger.revalidate(before)
        left = "the output of its instrument is left as it is"
        return None, [Outcome(path, "failed", f"{why.rstrip('.')}; {left}") for path, why in sorted(problems.items())]
    except Unwritable as error:
        problems |= {path: str(error) for path in names}
    if instrument.key() != key:
        raise OSError(f"The files of {task.name} changed while they were read. Run the command again.")
    entry: ledger.Entry = {
        # without a key, the next run tries files again that cannot be read now
        "key": "" if instrument.unavailable else key,
        "model": settings.model,
        "noise folder": ledger.place(settings.noise, settings.out) if settings.noise else None,
        "channels": names,
        "noise": {},
        "problems": problems,
        "passed over": {
            f"*.{channel.channel}": f"at {model.min_sampling_rate:g} Hz or less" for channel in instrument.slow
        },
    }
    for kind, root in settings.roots.items():
        files = manifest.described([root / path for path in written[kind]], root)
        entry[kind] = {name: {**known, **written[kind][Path(name)]} for name, known in files.items()}
    _keep_outputs_of_unread(instrument, entry, before.values())
    removed = ledger.commit(instrument.entry, entry, before, settings.out, outputs)
    return entry, [ledger.removal(task.name, removed)] if removed else []


def _keep_outputs_of_unread(instrument: Instrument, entry: ledger.Entry, before: Iterable[ledger.Entry]) -> None:
    """Take over outputs of files that can no longer be read from former entries: there may be no other copy."""
    for channel in (channel for channel in instrument.channels if channel not in instrument.parts):
        output, path = instrument.settings.output(channel).as_posix(), channel.path.as_posix()
        for former in before:
            for kind in ("outputs", "noise"):
                if former[kind].get(output) and (kind == "outputs" or former["noise folder"] == entry["noise folder"]):
                    entry[kind].setdefault(output, former[kind][output])
        if output in entry["outputs"]:
            entry["problems"][path] += "; its output is left as it is"


def _outputs_of_slow(instrument: Instrument) -> set[str]:
    """Outputs of earlier runs for channels that are now sampled too slowly."""
    slow = {x.path.as_posix(): instrument.settings.output(x).as_posix() for x in instrument.slow}
    before = ledger.entries_about(instrument.entry, slow.values()).values() if slow else []
    return {x for entry in before for path, x in entry["channels"].items() if slow.get(path) == x}


def _outcomes(task: Task, entries: list[ledger.Entry], state: str, missing: list[str]) -> list[Outcome]:
    """Outcomes of a task, from its entries."""
    failed = [Outcome(path, "failed", why) for x in entries for path, why in sorted(x["problems"].items())]
    slow = [Outcome(code, "skipped", why) for x in entries for code, why in sorted(x["passed over"].items())]
    if not any(entry["outputs"] for entry in entries):
        return [*slow, *failed] or [Outcome(task.name, "failed", "no samples of this day")]
    files = [(name, x) for e in entries for kind in ("outputs", "noise") for name, x in e[kind].items() if "loss" in x]
    lossy = [Outcome(_id(name), state, "", x["ratio"], x["loss"]) for name, x in files]
    note = f"no {', '.join(missing)}" if missing else ""
    worst = min(lossy, key=lambda outcome: outcome.ratio, default=Outcome("", ""))
    return [*slow, *failed, Outcome(task.name, state, note, worst.ratio, worst.loss)]


def _id(path: str) -> str:
    """Id of the channel that a file is named after."""
    return Path(path).name.partition(".D.")[0]


@lru_cache(maxsize=1024)
def _is_slow_file(path: Path, min_rate: float) -> bool:
    """Whether a channel is too slow, by one of its files; cached, as this holds for all days that lack the channel."""
    try:
        return is_slow(index(path), min_rate)
    except ReadError:
        return False


def _instruments(channels: Iterable[ChannelDay]) -> list[list[ChannelDay]]:
    groups: dict[str, list[ChannelDay]] = defaultdict(list)
    for channel in channels:
        groups[channel.id[:-1]].append(channel)
    return [group for _, group in sorted(groups.items())]


@lru_cache(maxsize=1)
def _model(weights: str, expected: str, device: str) -> CDiffSD:
    model = load(weights)
    if fingerprint(model) != expected:
        raise ValueError(f"The weights {weights!r}, or the versions of seisbench-cdiffsd, differ on this worker.")
    return model.to(device)


def write_manifest(
    tasks: Iterable[Task], settings: ArchiveSettings, name: str = "manifest.json", whole: bool = True
) -> Path:
    """
    Write the manifest: the outputs that exist now with size and SHA-256, and the problems. It is written last.

    :param tasks: Tasks of this run
    :param settings: Settings
    :param name: Name of the manifest
    :param whole: Include all outputs in the folder, not only those of these tasks
    :return: Path of the manifest, in the folder of the outputs
    :raises OSError: If it cannot be written
    """
    path, names, entries = settings.out / name, {task.name for task in tasks}, ledger.all_entries(settings.out)
    of_tasks = [entry for entry in entries if ledger.task_name(entry) in names]
    missing = sorted(names - {ledger.task_name(entry) for entry in of_tasks})
    ledger.write_manifest(path, entries if whole else of_tasks, settings.out, settings.noise, missing)
    return path
