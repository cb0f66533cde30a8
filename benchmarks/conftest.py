"""Options of the benchmarks, and the data, denoisers and pickers that they share: set up once in a run."""

import os
import shlex
from argparse import ArgumentTypeError
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

if "SEISBENCH_CACHE_ROOT" not in os.environ:  # before SeisBench is imported, which reads it once
    cache = Path(__file__).parents[2] / "shared" / "seisbench_cache"
    if cache.is_dir():
        os.environ["SEISBENCH_CACHE_ROOT"] = str(cache)

import pytest
import suite
import testdata
import torch
from report import README, RESULTS, Report

REPORT = pytest.StashKey[Report]()
OPTIONS = pytest.StashKey[testdata.Options]()
#: Options that say what is measured, as they are for the committed results.
COMMITTED = {
    **{"events": (), "noise": (), "limit": None, "draws": None, "picker": None, "steps": None},
    **{"split": "test", "seed": 0, "clean_snr": testdata.CLEAN_SNR, "models": (), "dry": ()},
}
#: What options are that are not given: by default, and in full.
USUAL = {
    "limit": (12, testdata.ALL),
    "draws": (1, 4),
    "picker": (("PhaseNet",), ("PhaseNet", "EQTransformer")),
    "steps": ((), (1, 4, 8, 20)),
    "hours": ((0.25,), (1.0, 24.0)),
    "threads": ((1,), (1, 2)),
}


def words(text):
    """The words of a list with commas."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def numbers(text, kind=float):
    """Positive numbers of a list with commas, in order."""
    try:
        values = sorted({kind(word) for word in words(text)})
    except ValueError:
        values = [0]
    if values and not values[0] > 0:
        raise ArgumentTypeError(f"takes positive numbers with commas between, not {text!r}")
    return tuple(values)


def integers(text):
    return numbers(text, int)


def limit(text):
    if text != "all" and not (text.isdecimal() and int(text)):
        raise ArgumentTypeError(f"is a positive number, or all, not {text!r}")
    return testdata.ALL if text == "all" else int(text)


def device(text):
    """A device, if PyTorch has it here."""
    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError) as error:
        raise ArgumentTypeError(f"{text} cannot be used: {str(error).splitlines()[0]}") from None
    return text


def pytest_addoption(parser):
    group = parser.getgroup("CDiffSD benchmarks")

    def add(name, text, type=None, **options):
        if type:
            options = {"type": type, "default": COMMITTED.get(name.replace("-", "_")), **options}
        group.addoption(f"--{name}", help=text, **options)

    add("events", "datasets of labelled earthquakes, with commas between: folders, or names such as STEAD", words)
    add("noise", "datasets with noise, likewise; those of --events where they alone are given", words)
    add("split", "split of both: test to report, dev to choose", choices=("test", "dev"), default="test")
    add("limit", "number of earthquakes, or all (12; in full: all)", limit)
    add("draws", "mixtures of each earthquake, with other noise (1; in full: 4)", int)
    add("models", "rows to take: parts of their names, or paths of CDiffSD models, with commas between", words)
    add("picker", "pickers, as PhaseNet or PhaseNet:volpick, with commas (PhaseNet; in full EQTransformer, too)", words)
    add("steps", "more rows of CDiffSD, with so many steps, with commas between (none; in full: 1,4,8,20)", integers)
    add("dry", "more rows of CDiffSD, with such shares of the removed noise added back, with commas between", numbers)
    add("seed", "seed of the first draw", int)
    add("clean-snr", "lowest SNR in dB of clean records (20)", float)
    add("threads", "threads of PyTorch, with commas between; speed is measured for each (1; in full: 1,2)", integers)
    add("device", "device of the models", device, default="cpu")
    add("hours", "lengths of the streams of the speed benchmark, with commas between (0.25; in full: 1,24)", numbers)
    add("download", "download weights that are not in SeisBench's cache", action="store_true")
    add("full", "all data, all rows: what the committed results are made with", action="store_true")
    add("results", "folder for tables and figures (none; in full: benchmarks/results, and README.md)", Path)


def pytest_configure(config):
    options = config.option
    changed = [f"--{name.replace('_', '-')}" for name, value in COMMITTED.items() if getattr(options, name) != value]
    if options.full and changed and not options.results:
        text = f"The committed results are not made with {', '.join(changed)}: choose a folder by --results."
        raise pytest.UsageError(text)
    for name, values in USUAL.items():
        if getattr(options, name) is None:
            setattr(options, name, values[options.full])
    folder, readme = (RESULTS, README) if options.full and not options.results else (options.results, None)
    config.stash[REPORT] = Report(folder, readme, shlex.join(["pytest", *map(str, config.invocation_params.args)]))
    given = {field.name: getattr(options, field.name) for field in fields(testdata.Options)}
    config.stash[OPTIONS] = testdata.Options(**given)
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
    with one_line_errors():
        loaded = testdata.load_data(options, tmp_path_factory.mktemp("example"))
    report.describe(loaded, options)
    return loaded


@pytest.fixture(scope="session")
def denoisers(options, report):
    with one_line_errors():
        items, missing = suite.load_denoisers(options)
    report.missing |= missing
    return items


@pytest.fixture(scope="session")
def pickers(options, report):
    with one_line_errors():
        items, missing = suite.load_pickers(options)
    report.missing |= missing
    return items


@contextmanager
def one_line_errors():
    """End the run with one line if the user's data or options cannot be used."""
    try:
        yield
    except testdata.DataError as error:
        pytest.exit(str(error), returncode=2)
