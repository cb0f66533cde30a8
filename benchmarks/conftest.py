"""The data, denoisers and pickers that the benchmarks share: set up once in a run."""

import os
import shlex
from dataclasses import fields
from pathlib import Path

if "SEISBENCH_CACHE_ROOT" not in os.environ:  # before SeisBench is imported, which reads it once
    cache = Path(__file__).parents[2] / "shared" / "seisbench_cache"
    if cache.is_dir():
        os.environ["SEISBENCH_CACHE_ROOT"] = str(cache)

import baselines
import pytest
import testdata
import torch
from options import Options
from report import README, RESULTS, Report

REPORT, OPTIONS = pytest.StashKey[Report](), pytest.StashKey[Options]()


def pytest_addoption(parser):
    group = parser.getgroup("CDiffSD benchmarks")
    for field in fields(Options):
        group.addoption(f"--{field.name.replace('_', '-')}", default=None, **field.metadata["how"])
    text = "folder for tables and figures (none; in full: benchmarks/results, and README.md)"
    group.addoption("--results", type=Path, help=text)


def pytest_configure(config):
    config.stash[OPTIONS] = options = Options.of(config.option)
    folder, readme = config.option.results, None
    if options.full and not folder:
        folder, readme = RESULTS, README
        if changed := ", ".join(options.changed()):
            raise pytest.UsageError(f"The committed results are not made with {changed}: choose a folder by --results.")
    config.stash[REPORT] = Report(folder, readme, shlex.join(["pytest", *map(str, config.invocation_params.args)]))
    torch.set_num_threads(options.threads[0])


def pytest_terminal_summary(terminalreporter, config):
    for title, table in config.stash[REPORT].markdown().items():
        terminalreporter.section(title)
        terminalreporter.write_line(table)


def pytest_sessionfinish(session, exitstatus):
    if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):  # a failed test has results, too
        session.config.stash[REPORT].write()


@pytest.fixture(scope="session")
def report(request):
    """Collects the results of all benchmarks."""
    return request.config.stash[REPORT]


@pytest.fixture(scope="session")
def options(request):
    return request.config.stash[OPTIONS]


@pytest.fixture(scope="session")
def data(options, report, tmp_path_factory):
    """Mixtures, noise and naturally noisy records, always the same for one seed."""
    loaded = testdata.load_data(options, tmp_path_factory.mktemp("example"))
    report.describe(loaded, options)
    return loaded


@pytest.fixture(scope="session")
def denoisers(options, report):
    return baselines.available(baselines.denoisers(options), report.missing)


@pytest.fixture(scope="session")
def pickers(options, report):
    return baselines.available(baselines.pickers(options), report.missing)
