"""Jobs run in this process, or by Dask workers on this machine or a cluster."""

import asyncio
import importlib
import logging
import re
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import lru_cache, partial
from importlib.util import find_spec
from multiprocessing import resource_tracker
from typing import Any

import torch
from seisbench.models import WaveformModel

from seisbench_cdiffsd.denoising import fingerprint
from seisbench_cdiffsd.files.console import one_line
from seisbench_cdiffsd.files.jobs import Settings
from seisbench_cdiffsd.files.ledger import Outcome
from seisbench_cdiffsd.files.work import Job, attempt, failed, run
from seisbench_cdiffsd.picking import load_picker
from seisbench_cdiffsd.weights import CDiffSD, load


def run_here(jobs: Iterable[Job], settings: Settings, retries: int = 2) -> Iterator[list[Outcome]]:
    """Outcomes of one job after the other, run in this process; raises OSError if there is no room for the outputs."""
    torch.set_num_threads(settings.threads)
    for job in jobs:
        model, picker = partial(_model, settings.weights, settings.model, 0), _picker(settings, 0)
        yield attempt(job, settings, model, retries, picker=picker)


def run_dask(
    jobs: Iterable[Job],
    settings: Settings,
    workers: int | None = None,
    scheduler: str | None = None,
    cluster: str | None = None,
    retries: int = 2,
    report: Callable[[str], None] = lambda line: None,
) -> Iterator[list[Outcome]]:
    """
    Outcomes of jobs as they finish, run through Dask, which is started at the first one that is not done.
    The death of a worker does not count as a failure of its job.

    :param workers: Number of workers to start: one for each GPU, or core; no more than there are jobs
    :param scheduler: Address of a running scheduler, whose workers must have access to the paths of the settings
    :param cluster: A class that starts a scheduler, such as "dask_jobqueue.SLURMCluster", with its own configuration
    :raises OSError: If there is no room for the outputs
    :raises ValueError: If the scheduler is gone or cannot be reached, or a cluster cannot be started
    """
    left = deque(jobs)
    while left and (known := run(left[0], settings, None)):
        yield known
        left.popleft()
    if not left:
        return
    import dask
    from dask.system import CPU_COUNT  # that this process may use, which Slurm or a container may limit
    from distributed import Client, as_completed
    from distributed.comm import CommClosedError

    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the outcomes report what matters
    # a job whose worker is killed again and again fails in the end
    config = {"distributed.scheduler.allowed-failures": max(3, retries), "distributed.comm.timeouts.connect": "10s"}
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(config))
        address: Any = scheduler
        if scheduler is None:
            workers = min(workers or torch.cuda.device_count() or CPU_COUNT, len(left))
            address = stack.enter_context(_cluster(cluster, workers) if cluster else _processes(workers))
        try:
            if scheduler is not None:
                asyncio.run(_reach(scheduler))
            client = stack.enter_context(Client(address, set_as_default=False))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"Cannot reach the scheduler {scheduler}: {one_line(error)}") from error
        if find_spec("bokeh"):
            report(f"Dashboard: {client.dashboard_link}")
        options = {"pure": False, "retries": retries}
        futures = {
            client.submit(_on_worker, x, settings, key=f"{settings.entries}denoise-{x.name}", **options): x
            for x in left
        }
        try:
            for future in as_completed(futures, loop=client.loop):
                failure = CommClosedError() if future.cancelled() else future.exception()
                if isinstance(failure, CommClosedError):
                    raise failure
                yield future.result() if failure is None else failed(futures[future], failure)
        except CommClosedError as error:
            raise ValueError("The connection to the scheduler is lost. Run the command again to continue.") from error


def _on_worker(job: Job, settings: Settings) -> list[Outcome]:
    from distributed import get_worker

    match = re.search(r"\d+$", str(get_worker().name))
    number = int(match.group()) if match else 0
    torch.set_num_threads(settings.threads)
    return run(
        job, settings, partial(_model, settings.weights, settings.model, number), picker=_picker(settings, number)
    )


@lru_cache(maxsize=1)
def _model(weights: str, expected: str, number: int) -> CDiffSD:
    model = load(weights)
    if fingerprint(model) != expected:
        raise ValueError(f"The weights {weights!r}, or the versions of seisbench-cdiffsd, differ on this worker.")
    return model.to(_device(number))


def _picker(settings: Settings, number: int) -> WaveformModel | None:
    names = (settings.picking["picker"], settings.picking["weights"]) if settings.picks else ()
    return _loaded(*names).to(_device(number)) if names else None


_loaded = lru_cache(maxsize=1)(load_picker)


def _device(number: int) -> str:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"cuda:{number % gpus}" if gpus else "cpu"


def _processes(workers: int) -> Any:
    from distributed import LocalCluster

    # The terminal sends Ctrl-C to all processes, but only this one should report it, and when all of them are there:
    # the event loop, and all processes that it starts, now or later, block it.
    pressed: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    resource_tracker.ensure_running()  # if started later, it would unblock the signal
    masks = hasattr(signal, "pthread_sigmask")  # not on Windows
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if masks else None
    # killing a worker for its memory would not reduce what a job needs
    options = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": "127.0.0.1:0"}
    try:
        cluster = LocalCluster(n_workers=workers, silence_logs=logging.CRITICAL, **options)
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
    if pressed:
        cluster.close()
        raise KeyboardInterrupt
    return cluster


def _cluster(name: str, workers: int) -> Any:
    module, _, kind = name.rpartition(".")
    try:
        cluster = getattr(importlib.import_module(module), kind)()
        cluster.scale(workers)
    except Exception as error:  # depends on its configuration
        raise ValueError(f"The cluster {name} cannot be started: {one_line(error)}.") from error
    return cluster


async def _reach(address: str) -> None:
    """Try to connect to a scheduler first, as a client that finds none leaves a traceback when it is deleted."""
    from distributed import Security
    from distributed.core import connect

    comm = await connect(address, **Security().get_connection_args("client"))
    await comm.close()
