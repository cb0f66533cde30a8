"""Continuous data denoised station-day by station-day: what is done stays done, and is equal to the byte."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from seisbench_cdiffsd import ledger, manifest
from seisbench_cdiffsd.continuous import fingerprint, load
from seisbench_cdiffsd.instruments import Instrument, Settings, denoise_instrument, hold, is_slow
from seisbench_cdiffsd.manifest import Outcome
from seisbench_cdiffsd.model import CDiffSD
from seisbench_cdiffsd.reading import ReadError, Unavailable, index
from seisbench_cdiffsd.sds import ChannelDay, Task
from seisbench_cdiffsd.writing import Unwritable


def denoise_day(task: Task, settings: Settings, device: str = "cpu") -> list[Outcome]:
    """
    Denoise a station-day, unless that is done. Nothing is left half done; what is known about it is written last.

    :param task: The station-day
    :param settings: Settings
    :param device: Device of the model
    :return: What became of the task, and of files with problems
    :raises OSError: If the outputs cannot be written
    """
    torch.set_num_threads(settings.threads)
    instruments = [Instrument(channels, settings) for channels in _instruments(task.channels)]
    records = [ledger.read(instrument.record) for instrument in instruments]
    done = [
        ledger.is_done(record, instrument.key(), settings.out, settings.noise)
        for instrument, record in zip(instruments, records, strict=True)
    ]
    model = _model(settings.weights, settings.model, device) if task.missing or not all(done) else None
    missing = [
        x.id for x in task.missing if model and not _is_slow_file(settings.source / x.path, model.min_sampling_rate)
    ]
    known = [record for record, is_done in zip(records, done, strict=True) if is_done]
    todo = [instrument for instrument, is_done in zip(instruments, done, strict=True) if not is_done]
    if not todo or model is None:
        return _outcomes(task, known, "skipped", missing)
    for instrument in todo:
        instrument.index(model.min_sampling_rate)
    names = [*(record["channels"] for record in known), *(instrument.names for instrument in todo)]
    written = Counter(output for channels in names for output in channels.values())
    twice = [_id(path) for channels in names for path, output in channels.items() if written[output] > 1]
    if twice:
        reason = f"{', '.join(twice)} would be one channel under location {settings.location}: name one by --select"
        return [Outcome(task.name, "failed", reason)]
    told: list[Outcome] = []
    what = "skipped"
    for instrument in todo:
        record, others = _renew(model, task, instrument)
        told += others
        if record:
            known, what = [*known, record], "done"
    return [*told, *(_outcomes(task, known, what, missing) if known else [])]


def _renew(model: CDiffSD, task: Task, instrument: Instrument) -> tuple[ledger.Record, list[Outcome]]:
    """Denoise an instrument; its record, or none where all is left as it was, and what else there is to tell."""
    settings, problems, names, key = instrument.settings, instrument.problems, instrument.names, instrument.key()
    outputs = {*names.values(), *_outpaced(instrument)}
    before = ledger.naming(instrument.record, outputs)
    made = {path for path, output in names.items() if any(output in record["outputs"] for record in before.values())}
    written: dict[str, dict[Path, dict[str, Any]]] = {kind: {} for kind in settings.roots}
    try:
        hold(instrument, made)
        ledger.claim(before, outputs)
        written = denoise_instrument(model, instrument, made)
    except Unavailable:
        ledger.restore(before)
        left = "what was made of its instrument before is left as it is"
        return {}, [Outcome(path, "failed", f"{why.rstrip('.')}; {left}") for path, why in sorted(problems.items())]
    except Unwritable as error:
        problems |= {path: str(error) for path in names}
    if instrument.key() != key:
        raise OSError(f"The files of {task.name} changed while they were read. Run again.")
    record: ledger.Record = {
        # what cannot be read today may be read by the next run
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
        record[kind] = {name: {**known, **written[kind][Path(name)]} for name, known in files.items()}
    _keep_unread(instrument, record, before.values())
    removed = ledger.settle(instrument.record, record, before, settings.out, outputs)
    return record, [ledger.removal(task.name, removed, "nothing comes of the input now")] if removed else []


def _keep_unread(instrument: Instrument, record: ledger.Record, before: Iterable[ledger.Record]) -> None:
    """Leave outputs as they are that were made of a file which cannot be read any more: there may be no other."""
    for channel in (channel for channel in instrument.channels if channel not in instrument.parts):
        output, path = instrument.settings.output(channel).as_posix(), channel.path.as_posix()
        for former in before:
            for kind in ("outputs", "noise"):
                if former[kind].get(output) and (kind == "outputs" or former["noise folder"] == record["noise folder"]):
                    record[kind].setdefault(output, former[kind][output])
        if output in record["outputs"]:
            record["problems"][path] += "; what was made of it before is left as it is"


def _outpaced(instrument: Instrument) -> set[str]:
    """Outputs that were made of channels which are sampled too slowly now."""
    slow = {x.path.as_posix(): instrument.settings.output(x).as_posix() for x in instrument.slow}
    before = ledger.naming(instrument.record, slow.values()).values() if slow else []
    return {x for record in before for path, x in record["channels"].items() if slow.get(path) == x}


def _outcomes(task: Task, records: list[ledger.Record], state: str, missing: list[str]) -> list[Outcome]:
    """What is told of a task, from what is known about it."""
    failed = [Outcome(path, "failed", why) for r in records for path, why in sorted(r["problems"].items())]
    passed_over = [Outcome(code, "skipped", why) for r in records for code, why in sorted(r["passed over"].items())]
    if not any(record["outputs"] for record in records):
        return [*passed_over, *failed] or [Outcome(task.name, "failed", "no samples of this day")]
    files = [(name, x) for r in records for kind in ("outputs", "noise") for name, x in r[kind].items() if "loss" in x]
    lossy = [Outcome(_id(name), state, "", x["ratio"], x["loss"]) for name, x in files]
    note = f"no {', '.join(missing)}" if missing else ""
    worst = min(lossy, key=lambda outcome: outcome.ratio, default=Outcome("", ""))
    return [*passed_over, *failed, Outcome(task.name, state, note, worst.ratio, worst.loss)]


def _id(path: str) -> str:
    """Id of the channel that a file is named after."""
    return Path(path).name.partition(".D.")[0]


@lru_cache(maxsize=1024)
def _is_slow_file(path: Path, slowest: float) -> bool:
    """Whether a channel is too slow, by one of its files: known once, it is so on all days that lack it."""
    try:
        return is_slow(index(path), slowest)
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
        raise ValueError(f"The weights {weights!r} are not the same on this worker.")
    return model.to(device)


def write_manifest(tasks: Iterable[Task], settings: Settings, name: str = "manifest.json", whole: bool = True) -> Path:
    """
    Write what there is now: the outputs with size and SHA-256, and the problems. It comes last.

    :param tasks: Tasks of this run
    :param settings: Settings
    :param name: Name of the manifest
    :param whole: Of all that was ever made in this folder, in place of what these tasks are about
    :return: Path of the manifest, in the folder of the outputs
    :raises OSError: If it cannot be written
    """
    path, names, records = settings.out / name, {task.name for task in tasks}, ledger.all_records(settings.out)
    of_tasks = [record for record in records if ledger.task_name(record) in names]
    missing = sorted(names - {ledger.task_name(record) for record in of_tasks})
    ledger.write_manifest(path, records if whole else of_tasks, settings.out, settings.noise, missing)
    return path
