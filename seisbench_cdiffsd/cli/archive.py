"""The command ``cdiffsd archive``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from seisbench_cdiffsd.archive.days import write_manifest
from seisbench_cdiffsd.archive.instruments import ArchiveSettings
from seisbench_cdiffsd.archive.sds import scan, shard, why_nothing
from seisbench_cdiffsd.archive.workers import Lost, run_dask, run_here
from seisbench_cdiffsd.cli import arguments
from seisbench_cdiffsd.cli.shared import CommandError, add_model, format_of, load_model, options_of, write_errors
from seisbench_cdiffsd.denoising import fingerprint
from seisbench_cdiffsd.files.console import one_line, tell
from seisbench_cdiffsd.files.manifest import report, status


def add_archive(commands: Any) -> None:
    """Add ``cdiffsd archive``."""
    parser = commands.add_parser("archive", help="denoise an archive of day files (SDS)", description=archive.__doc__)
    parser.add_argument("source", type=arguments.folder, metavar="SDS_IN", help="folder of the archive")
    parser.add_argument("out", type=arguments.folder, metavar="SDS_OUT", help="folder of the denoised archive")
    parser.add_argument("--start", type=arguments.day, required=True, metavar="YYYY-MM-DD", help="first day")
    parser.add_argument("--end", type=arguments.day, required=True, metavar="YYYY-MM-DD", help="last day")
    parser.add_argument("--select", nargs="+", default=["*"], metavar="ID", help="channels, such as 'CH.*.*.HH?' (all)")
    parser.add_argument(
        "--noise", type=arguments.folder, metavar="DIR", help="folder of an archive of the removed noise"
    )
    add_model(parser)
    parser.add_argument("--shard", type=arguments.shard, default=(1, 1), metavar="I/N", help="only the I-th of N parts")
    parser.add_argument(
        "--workers",
        type=arguments.count,
        metavar="N",
        help="processes (one for each GPU, or core); 0 for this one, without Dask",
    )
    parser.add_argument(
        "--threads", type=arguments.positive, default=1, metavar="N", help="threads of a worker (%(default)s)"
    )
    parser.add_argument(
        "--retries", type=arguments.count, default=2, metavar="N", help="how often to retry a failed task (%(default)s)"
    )
    parser.add_argument("--scheduler", type=arguments.address, metavar="ADDRESS", help="of a running Dask scheduler")
    parser.add_argument(
        "--cluster",
        type=arguments.python_class,
        metavar="CLASS",
        help="that starts a scheduler, such as dask_jobqueue.SLURMCluster",
    )
    parser.set_defaults(run=archive)


def archive(args: argparse.Namespace) -> int:
    """Denoise an archive, one task for each station and day. A rerun does only what is missing."""
    if args.end < args.start:
        raise CommandError(f"--end {args.end} is before --start {args.start}: exchange them.")
    model = load_model(args.weights)
    number, count = args.shard
    settings = ArchiveSettings(
        source=args.source.absolute(),
        out=args.out.absolute(),
        weights=str(Path(args.weights).absolute()) if "/" in args.weights else args.weights,
        model=fingerprint(model),
        noise=args.noise.absolute() if args.noise else None,
        options=options_of(args, model),
        threads=args.threads,
        **format_of(args),
    )
    if len({folder and os.path.realpath(folder) for folder in (settings.source, settings.out, settings.noise)}) < 3:
        raise CommandError("SDS_IN, SDS_OUT and --noise must be different folders.")
    try:
        tasks, outcomes = scan(args.source, args.start, args.end, args.select)
    except OSError as error:
        raise CommandError(f"The archive {args.source} cannot be read: {one_line(error)}") from error
    all_tasks, tasks = tasks, shard(tasks, number, count)
    if not all_tasks:
        raise CommandError(why_nothing(args.source, args.start, args.end, args.select))
    workers = torch.cuda.device_count() or _cores() if args.workers is None else args.workers
    with write_errors(args.out, "Choose another SDS_OUT"):
        if workers == 0 or not tasks:
            results = run_here(tasks, settings, retries=args.retries)
        else:
            results = run_dask(
                tasks,
                settings,
                workers=workers,
                scheduler=args.scheduler,
                cluster=args.cluster,
                retries=args.retries,
                report=tell,
            )
        try:
            for result in tqdm(results, total=len(tasks), unit="station-day", disable=None):
                outcomes += result
        except ImportError as error:
            raise CommandError(f"{one_line(error)}. Install seisbench-cdiffsd[archive], or add --workers 0.") from error
        except Lost as error:
            raise CommandError(one_line(error)) from error
        name = "manifest.json" if count == 1 else f"manifest.{number}-of-{count}.json"
        tell(str(write_manifest(tasks, settings, name, whole=count == 1)))
    tell(report(outcomes))
    return status(outcomes)


def _cores() -> int:
    """Number of cores that this process may use, which Slurm or a container may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
