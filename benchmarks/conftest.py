"""Options of the benchmarks, and the data, denoisers and pickers that they share: set up once in a run."""

import os
import shlex
from contextlib import contextmanager
from pathlib import Path

if "SEISBENCH_CACHE_ROOT" not in os.environ:  # before SeisBench is imported, which reads it once
    cache = Path(__file__).parents[2] / "shared" / "seisbench_cache"
    if cache.is_dir():
        os.environ["SEISBENCH_CACHE_ROOT"] = str(cache)

import pytest
import speed
import suite
import testdata
import torch
from report import README, RESULTS, Report

REPORT = pytest.StashKey[Report]()
OPTIONS = pytest.StashKey[testdata.Options]()
#: What ``--full`` stands for.
FULL = {
    **{"limit": "all", "draws": "4", "picker": "PhaseNet,EQTransformer", "steps": "1,4,8,20"},
    **{"hours": "1,24", "threads": "1,2"},
}
DEFAULT = {"limit": "12", "draws": "1", "picker": "PhaseNet", "steps": "", "hours": "0.25", "threads": "1"}
#: Options that say what is measured, as they are for the committed results.
COMMITTED = {
    **dict.fromkeys(("events", "noise", "limit", "draws", "picker", "steps")),
    **{"split": "test", "seed": 0, "clean_snr": testdata.CLEAN_SNR, "models": "", "dry": ""},
}


def pytest_addoption(parser):
    group = parser.getgroup("CDiffSD benchmarks")

    def add(name, text, **options):
        default = f" ({DEFAULT[name] or 'none'}; in full: {FULL[name]})" if name in DEFAULT else ""
        options.setdefault("default", COMMITTED.get(name.replace("-", "_")))
        group.addoption(f"--{name}", help=text + default, **options)

    add("events", "datasets of labelled earthquakes, with commas between: folders, or names such as STEAD")
    add("noise", "datasets with noise, likewise; those of --events where they alone are given")
    add("split", "split of both: test to report, dev to choose", choices=("test", "dev"))
    add("limit", "number of earthquakes, or all")
    add("draws", "mixtures of each earthquake, with other noise", type=int)
    add("models", "rows to take: parts of their names, or paths of CDiffSD models, with commas between")
    add("picker", "pickers, as PhaseNet or PhaseNet:volpick, with commas between")
    add("steps", "more rows of CDiffSD, with so many steps, with commas between")
    add("dry", "more rows of CDiffSD, with such shares of the removed noise added back, with commas between")
    add("seed", "seed of the first draw", type=int)
    add("clean-snr", "lowest SNR in dB of clean records (20)", type=float)
    add("threads", "threads of PyTorch, with commas between; the speed is measured for each")
    add("device", "device of the models", default="cpu")
    add("hours", "lengths of the streams of the speed benchmark, with commas between")
    add("download", "download weights that are not in SeisBench's cache", action="store_true")
    add("full", "all data, all rows: what the committed results are made with", action="store_true")
    add("results", "folder for tables and figures (none; in full: benchmarks/results, and README.md)", type=Path)


def option(config, name):
    """An option as given, or its default, or its value in a full run."""
    given = config.getoption(name)
    kind = FULL if config.getoption("full") else DEFAULT
    return given if given is not None else kind.get(name, "")


def numbers(config, name, kind=int):
    given = option(config, name)
    try:
        values = tuple(sorted({kind(word) for word in words(given)}))
    except ValueError:
        values = (0,)
    if values and min(values) <= 0:
        raise pytest.UsageError(f"--{name} takes positive numbers with commas between, not {given!r}.")
    return values


def words(text):
    """The words of a list with commas."""
    return tuple(filter(None, map(str.strip, (text or "").split(","))))


def usable(device):
    """A device, if PyTorch has it here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise pytest.UsageError(f"--device {device} cannot be used: {str(error).splitlines()[0]}") from None
    return device


def pytest_configure(config):
    changed = [name for name, value in COMMITTED.items() if config.getoption(name) != value]
    if config.getoption("full") and changed and not config.getoption("results"):
        given = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise pytest.UsageError(f"The committed results are not made with {given}: choose a folder by --results.")
    folder, full = config.getoption("results"), config.getoption("full")
    usual = (None, None) if folder or not full else (RESULTS, README)
    command = shlex.join(["pytest", *map(str, config.invocation_params.args)])
    config.stash[REPORT] = Report(folder or usual[0], usual[1], command)
    config.stash[OPTIONS] = read_options(config)
    torch.set_num_threads(numbers(config, "threads")[0])


def read_options(config):
    """Options of data and models from the command line."""
    limit = option(config, "limit")
    if limit != "all" and not (limit.isdecimal() and int(limit)):
        raise pytest.UsageError(f"--limit is a positive number, or all, not {limit!r}.")
    return testdata.Options(
        events=words(config.getoption("events")),
        noise=words(config.getoption("noise")),
        split=config.getoption("split"),
        limit=None if limit == "all" else int(limit),
        draws=int(option(config, "draws")),
        models=words(config.getoption("models")),
        pickers=words(option(config, "picker")),
        steps=numbers(config, "steps"),
        dry=numbers(config, "dry", float),
        seed=config.getoption("seed"),
        clean_snr=config.getoption("clean_snr"),
        device=usable(config.getoption("device")),
        download=config.getoption("download"),
        full=config.getoption("full"),
    )


def pytest_generate_tests(metafunc):
    if "threads" in metafunc.fixturenames:
        metafunc.parametrize("threads", numbers(metafunc.config, "threads"))
    if "hours" in metafunc.fixturenames:
        metafunc.parametrize("hours", numbers(metafunc.config, "hours", float))
    if "timed" in metafunc.fixturenames:
        models = words(metafunc.config.getoption("models").lower()) or ("",)
        rows = [name for name in speed.RUNS if any(word in name.lower() for word in models)]
        metafunc.parametrize("timed", rows)


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
        available = suite.load_denoisers(options)
    report.missing |= available.missing
    return available.items


@pytest.fixture(scope="session")
def pickers(options, report):
    with one_line_errors():
        available = suite.load_pickers(options)
    report.missing |= available.missing
    return available.items


@contextmanager
def one_line_errors():
    """End the run with one line if the user's data or options cannot be used."""
    try:
        yield
    except testdata.DataError as error:
        pytest.exit(str(error), returncode=2)
