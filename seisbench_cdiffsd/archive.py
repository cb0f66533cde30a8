"""Continuous data denoised station-day by station-day: what is done stays done, and is equal to the byte."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from obspy import Stream, UTCDateTime

from seisbench_cdiffsd import manifest
from seisbench_cdiffsd.continuous import MARGIN, between, denoised_pieces, fingerprint, load
from seisbench_cdiffsd.manifest import Outcome
from seisbench_cdiffsd.model import CDiffSD
from seisbench_cdiffsd.reading import Part, ReadError, Source, Unavailable, index, state
from seisbench_cdiffsd.sds import ChannelDay, Task
from seisbench_cdiffsd.writing import MseedWriter, Unwritable, replacing

#: Folder, in that of the outputs, of what is known about each station-day.
RECORDS = ".cdiffsd"
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Settings:
    """
    What to make of an archive.

    :param source: Folder of the archive
    :param out: Folder of the denoised archive
    :param weights: Name of weights, or path of a saved model, as the workers can read it
    :param model: :py:func:`fingerprint` of the model
    :param noise: Folder of the archive of what was removed, or None
    :param options: Arguments of :py:meth:`CDiffSD.denoise`
    :param encoding: See :py:class:`MseedWriter`
    :param scale: Likewise
    :param location: Likewise
    :param threads: Threads of PyTorch in a worker; the output depends on it within rounding
    """

    source: Path
    out: Path
    weights: str
    model: str
    noise: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)
    encoding: str = "float32"
    scale: float = 1.0
    location: str | None = None
    threads: int = 1

    def output(self, channel: ChannelDay) -> Path:
        """Path of what is made of a day of a channel, in the archive of the outputs."""
        return channel.path if self.location is None else replace(channel, location=self.location).path


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
    around = [channel.on(task.day + i * DAY) for channel in task.channels for i in (-1, 0, 1)]
    key = _key(around, settings)
    entry_path = record_path(task, settings.out)
    before = manifest.load(entry_path)
    if all(manifest.is_done(before, key, root, kind) for kind, root in _roots(settings).items()):
        return _outcomes(task, before, "skipped")
    model = _model(settings.weights, settings.model, device)
    problems: dict[str, str] = {}
    unavailable: set[Path] = set()
    parts: dict[ChannelDay, list[Part]] = {}
    for channel in around:
        if (settings.source / channel.path).exists() or channel.day == task.day:
            try:
                parts[channel] = index(settings.source / channel.path)
            except ReadError as error:
                unavailable |= {settings.source / channel.path} if isinstance(error, Unavailable) else set()
                if channel.day == task.day:
                    problems[str(channel.path)] = str(error)
    slow = [channel for channel in task.channels if _is_slow(parts.get(channel, []), model.slowest)]
    channels = [channel for channel in task.channels if channel not in slow]
    written = Counter(settings.output(channel) for channel in channels)
    twice = [channel.id for channel in channels if written[settings.output(channel)] > 1]
    if twice:
        reason = f"{', '.join(twice)} would be one channel under location {settings.location}: name one by --select"
        return [Outcome(task.name, "failed", reason)]
    outputs: list[Path] = []
    for group in _instruments(channels):
        try:
            outputs += _denoise(model, task, group, parts, settings, problems, unavailable)
        except Unwritable as error:
            problems |= {str(channel.path): str(error) for channel in group}
    if _key(around, settings) != key:
        raise OSError(f"The files of {task.name} changed while they were read. Run again.")
    # what cannot be read today may be read by the next run
    entry: dict[str, Any] = {"task": task.name, "key": "" if unavailable else key, "problems": problems}
    entry["passed over"] = {f"*.{channel.channel}": f"at {model.slowest:g} Hz or less" for channel in slow}
    for kind, root in _roots(settings).items():
        entry[kind] = manifest.described([root / path for path in outputs], root)
    manifest.save(entry_path, entry)
    return _outcomes(task, entry, "done")


def _outcomes(task: Task, entry: dict[str, Any], state: str) -> list[Outcome]:
    """What is told of a task, from what is known about it."""
    failed = [Outcome(path, "failed", reason) for path, reason in sorted(entry.get("problems", {}).items())]
    passed_over = [Outcome(code, "skipped", reason) for code, reason in sorted(entry.get("passed over", {}).items())]
    if not entry["outputs"]:
        return [*passed_over, *failed] or [Outcome(task.name, "failed", "no samples of this day")]
    note = f"no {', '.join(task.missing)}" if task.missing else ""
    return [*passed_over, *failed, Outcome(task.name, state, note)]


def _is_slow(parts: list[Part], slowest: float) -> bool:
    """Whether there are samples, but all of them at rates that a model passes over, as of the position of a mass."""
    rates = [span.rate for part in parts for span in part.spans]
    return bool(rates) and max(rates) <= slowest


def record_path(task: Task, out: Path) -> Path:
    """Where it is written what is known about a station-day."""
    return out / RECORDS / f"{task.day:%Y}" / f"{task.name}.json"


def _roots(settings: Settings) -> dict[str, Path]:
    """Folders of the outputs, by what they hold."""
    return {"outputs": settings.out} | ({} if settings.noise is None else {"noise": settings.noise})


def _key(around: list[ChannelDay], settings: Settings) -> str:
    """A hash of all that the outputs depend on; the neighbours are part of it, as the ends of a day hear them."""
    kept = {k: v for k, v in asdict(settings).items() if k not in ("source", "out", "noise", "weights")}
    return manifest.key(kept, [state(settings.source / channel.path) for channel in around])


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


def _denoise(
    model: CDiffSD,
    task: Task,
    channels: list[ChannelDay],
    parts: dict[ChannelDay, list[Part]],
    settings: Settings,
    problems: dict[str, str],
    unavailable: set[Path],
) -> list[Path]:
    """
    Write the files of one instrument; those without a sample are not there.

    What is wrong is added to `problems`, files that may be read another time to `unavailable`.
    """
    start, reach = UTCDateTime(task.day.isoformat()), MARGIN * model.in_samples / model.sampling_rate
    end = start + 86400
    sources: dict[str, Source] = {}
    # what lies a little outside of the day belongs to the file of that day, but to this one where there is none
    limits: dict[str, tuple[UTCDateTime, UTCDateTime]] = {}
    for channel in channels:
        before, blocks, after = (parts.get(channel.on(task.day + i * DAY), []) for i in (-1, 0, 1))
        first, last = start if before else start - reach, end if after else end + reach
        spans = [span for block in blocks for span in block.spans]
        own = [span for span in spans if span.id == channel.id]
        others = sorted({span.id for span in spans} - {channel.id})
        outside = [span for span in own if span.start < start - reach or span.end > end + reach]
        if others:
            problems[str(channel.path)] = f"holds {', '.join(others)}, which was left out"
        elif outside:
            times = f"{min(s.start for s in outside)} to {max(s.end for s in outside)}"
            problems[str(channel.path)] = f"holds samples of other days, {times}, which were left out"
        if any(span.start < last and span.end >= first for span in own):
            sources[channel.id] = Source([*before, *blocks, *after], [channel.id])
            limits[channel.id] = first, last
        elif blocks:
            problems.setdefault(str(channel.path), "has no samples of its day")
    if not sources:
        return []

    def read(first: UTCDateTime, last: UTCDateTime) -> Stream:
        return sum((source.read(first, last) for source in sources.values()), Stream())

    paths = {channel.id: channel.path for channel in channels if channel.id in sources}
    outputs = {channel.id: settings.output(channel) for channel in channels if channel.id in sources}
    span = min(first for first, _ in limits.values()), max(last for _, last in limits.values())
    samples: Counter[str] = Counter()
    with ExitStack() as stack:
        writers = []
        for root in _roots(settings).values():
            files = {
                x: stack.enter_context(stack.enter_context(replacing(root / outputs[x])).open("wb")) for x in paths
            }
            encoding = settings.encoding, settings.scale, settings.location
            writers.append({x: MseedWriter(file, *encoding) for x, file in files.items()})
        for pair in denoised_pieces(model, read, *span, **settings.options):
            for by_id, stream in zip(writers, pair, strict=False):
                for trace in stream:
                    part = between(trace, *limits[trace.id])
                    by_id[trace.id].write(Stream([part]))
                    samples[trace.id] += len(part)
    for channel_id, source in sources.items():
        unavailable |= source.unavailable
        reason = source.problems.get(settings.source / paths[channel_id])
        if reason:
            problems.setdefault(str(paths[channel_id]), reason)
    for channel_id, path in paths.items():
        if not samples[channel_id]:
            output = outputs.pop(channel_id)
            for root in _roots(settings).values():
                (root / output).unlink()
            problems.setdefault(str(path), "has no samples of its day that can be denoised")
    return list(outputs.values())


def write_manifest(tasks: Iterable[Task], settings: Settings, name: str = "manifest.json") -> Path:
    """
    Write what there is now of some tasks: the outputs with size and SHA-256, and the problems. It comes last.

    :return: Path of the manifest, in the folder of the outputs
    """
    total: dict[str, Any] = {"problems": {}, **{kind: {} for kind in _roots(settings)}}
    missing = []
    for task in tasks:
        entry = manifest.load(record_path(task, settings.out))
        for kind in total:
            total[kind] |= entry.get(kind, {})
        if not entry:
            missing.append(task.name)
    path = settings.out / name
    manifest.save(path, {**total, "missing": missing, "model": settings.model})
    return path
