"""The tasks of an archive run in this process, or by Dask workers on this machine or a cluster."""

from __future__ import annotations

import asyncio
import importlib
import logging
import re
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from importlib.util import find_spec
from multiprocessing import resource_tracker
from typing import Any

import torch

from seisbench_cdiffsd.denoising import fingerprint
from seisbench_cdiffsd.files.console import one_line
from seisbench_cdiffsd.files.jobs import Job, Settings, attempt, failed, run
from seisbench_cdiffsd.files.ledger import Outcome
from seisbench_cdiffsd.weights import CDiffSD, load


class Lost(RuntimeError):
    """The scheduler is gone or cannot be reached, or a cluster cannot be started."""


def run_here(jobs: Iterable[Job], settings: Settings, retries: int = 2) -> Iterator[list[Outcome]]:
    """
    Run jobs in this process, without Dask.

    :param jobs: Jobs
    :param settings: Settings
    :param retries: How often a job that fails is tried again
    :return: Outcomes of one job after the other
    :raises OSError: If there is no room for the outputs
    """
    torch.set_num_threads(settings.threads)
    for job in jobs:
        yield attempt(job, settings, partial(_model, settings.weights, settings.model, device(0)), retries)


@lru_cache(maxsize=1)
def _model(weights: str, expected: str, device: str) -> CDiffSD:
    model = load(weights)
    if fingerprint(model) != expected:
        raise ValueError(f"The weights {weights!r}, or the versions of seisbench-cdiffsd, differ on this worker.")
    return model.to(device)


def run_dask(
    jobs: Iterable[Job],
    settings: Settings,
    workers: int = 1,
    scheduler: str | None = None,
    cluster: str | None = None,
    retries: int = 2,
    report: Callable[[str], None] = lambda line: None,
) -> Iterator[list[Outcome]]:
    """
    Run jobs through Dask, which is started at the first one that is not done.

    :param jobs: Jobs
    :param settings: Settings; the workers must have access to its paths
    :param workers: Number of workers to start, each a process with one thread for tasks
    :param scheduler: Address of a running scheduler
    :param cluster: A class that starts a scheduler, such as "dask_jobqueue.SLURMCluster", with its own configuration
    :param retries: How often a job that fails is tried again; the death of a worker does not count as its failure
    :param report: Called with the address of the dashboard, if Bokeh is installed, which its pages need
    :return: Outcomes of one job after the other, as they finish
    :raises OSError: If there is no room for the outputs
    :raises Lost: If the scheduler is gone, or a cluster cannot be started
    """
    left = deque(jobs)
    while left and (known := run(left[0], settings, None)):
        yield known
        left.popleft()
    if not left:
        return
    import dask
    from distributed import Client, as_completed
    from distributed.comm import CommClosedError

    # a job whose worker is killed again and again fails in the end
    config = {"distributed.scheduler.allowed-failures": max(3, retries), "distributed.comm.timeouts.connect": "10s"}
    with ExitStack() as stack:
        for logger in map(logging.getLogger, ("distributed", "distributed.client")):
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)  # the outcomes report what matters
        stack.enter_context(dask.config.set(config))
        address: Any = scheduler
        if scheduler is None:
            address = stack.enter_context(_processes(workers) if cluster is None else _cluster(cluster, workers))
        try:
            if scheduler is not None:
                asyncio.run(_reach(scheduler))
            client = stack.enter_context(Client(address, set_as_default=False))
        except (OSError, ValueError, TypeError) as error:
            raise Lost(f"Cannot reach the scheduler {scheduler}: {one_line(error)}") from error
        if find_spec("bokeh"):  # its pages need it
            report(f"Dashboard: {client.dashboard_link}")
        futures = {
            client.submit(_on_worker, job, settings, key=f"denoise-{job.name}", pure=False, retries=retries): job
            for job in left
        }
        try:
            for future in as_completed(futures, loop=client.loop):
                failure = CommClosedError() if future.cancelled() else future.exception()
                if isinstance(failure, CommClosedError):
                    raise failure
                yield future.result() if failure is None else failed(futures[future], failure)
        except CommClosedError as error:
            raise Lost("The connection to the scheduler is lost. Run the command again to continue.") from error


def device(number: int) -> str:
    """The GPU of a worker, or the CPU if there is none."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"cuda:{number % gpus}" if gpus else "cpu"


@contextmanager
def _processes(workers: int) -> Iterator[Any]:
    """Workers on this machine."""
    from distributed import LocalCluster
    from distributed.deploy.spec import SpecCluster

    runner = _loop_without_sigint()
    try:
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,  # killing the worker would not reduce what a station-day needs
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            loop=runner.loop,
        )
    except KeyboardInterrupt:
        # at exit, Dask would fail on what is half started, with tracebacks; its processes end with this one
        SpecCluster._instances.clear()
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise
    with cluster:
        yield cluster
    runner.stop()


def _loop_without_sigint() -> Any:
    """
    An event loop in a thread that blocks SIGINT, as do all processes that it starts.

    The terminal sends Ctrl-C to all of them, but only this process should report it: each of those that are just
    starting would end with a traceback.
    """
    from distributed.utils import LoopRunner

    runner = LoopRunner()
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        runner.start()
        return runner
    resource_tracker.ensure_running()  # if started later, it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        runner.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return runner


def _cluster(name: str, workers: int) -> Any:
    module, _, kind = name.rpartition(".")
    try:
        cluster = getattr(importlib.import_module(module), kind)()
        cluster.scale(workers)
    except ModuleNotFoundError as error:
        raise Lost(f"The cluster {name} cannot be started: install the package of {error.name}.") from error
    except Exception as error:  # depends on its configuration
        raise Lost(f"The cluster {name} cannot be started: {one_line(error)}.") from error
    return cluster


async def _reach(address: str) -> None:
    """Try to connect to a scheduler first, as a client that finds none leaves a traceback when it is deleted."""
    from distributed import Security
    from distributed.core import connect

    comm = await connect(address, **Security().get_connection_args("client"))
    await comm.close()


def _on_worker(job: Job, settings: Settings) -> list[Outcome]:
    from distributed import get_worker

    number = re.search(r"\d+$", str(get_worker().name))
    torch.set_num_threads(settings.threads)
    gpu = device(int(number.group()) if number else 0)
    return run(job, settings, partial(_model, settings.weights, settings.model, gpu))
