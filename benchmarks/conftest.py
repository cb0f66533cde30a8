"""Options of the benchmarks, and the data, denoisers and pickers that they share: set up once in a run."""

import os
from contextlib import contextmanager
from pathlib import Path

if "SEISBENCH_CACHE_ROOT" not in os.environ:  # before SeisBench is imported, which reads it once
    cache = Path(__file__).parents[2] / "shared" / "seisbench_cache"
    if cache.is_dir():
        os.environ["SEISBENCH_CACHE_ROOT"] = str(cache)

import evaluation
import pytest
import speed
import suite
import testdata
import torch
from report import Report

REPORT = pytest.StashKey[Report]()
OPTIONS = pytest.StashKey[testdata.Options]()
#: What ``--full`` stands for.
FULL = {"limit": "all", "picker": "PhaseNet,EQTransformer", "steps": "1,2,4,8,20", "hours": "1,24", "threads": "1,2"}
#: Options that say what is measured, as they are for the committed results.
COMMITTED = {
    **dict.fromkeys(("events", "noise", "limit", "picker", "steps")),
    **{"split": "test", "seed": 0, "clean_snr": testdata.CLEAN_SNR, "window_snr": False},
    **{"models": "", "noise_left": ""},
}
DEFAULT = {"limit": "8", "picker": "PhaseNet", "steps": "1,2", "hours": "1", "threads": "1"}


def pytest_addoption(parser):
    group = parser.getgroup("CDiffSD benchmarks")

    def add(name, text, **options):
        default = f" ({DEFAULT[name]}; in full: {FULL[name]})" if name in DEFAULT else ""
        options.setdefault("default", COMMITTED.get(name.replace("-", "_")))
        group.addoption(f"--{name}", help=text + default, **options)

    add("events", "dataset of labelled earthquakes: a folder, or a name in seisbench.data such as STEAD")
    add("noise", "dataset with noise records; the one of --events where that alone is given")
    add("split", "split of both: test to report, dev to choose", choices=("test", "dev"))
    add("limit", "number of earthquakes, or all")
    add("models", "rows to take: parts of their names, or paths of CDiffSD models, with commas between")
    add("picker", "pickers, as PhaseNet or PhaseNet:volpick, with commas between")
    add("steps", "numbers of steps of CDiffSD, with commas between")
    add("noise-left", "more rows with noise left in, as FLOOR:MARGIN with commas between, such as 0.1:20")
    add("seed", "seed of the mixtures", type=int)
    add("clean-snr", "lowest SNR in dB of clean records (20)", type=float)
    add("window-snr", "input SNR over the whole window, not over the 10 s from P on", action="store_true")
    add("threads", "threads of PyTorch, with commas between; the speed is measured for each")
    add("device", "device of the models", default="cpu")
    add("hours", "lengths of the streams of the speed benchmark, with commas between")
    add("download", "download weights that are not in SeisBench's cache", action="store_true")
    add("full", "all data, all rows: what the committed results are made with", action="store_true")
    add("results", "folder for tables and figures (none; in full: benchmarks/results, and README.md)", type=Path)


def option(config, name):
    """An option as given, or its default, or its value in a full run."""
    given = config.getoption(name)
    return given if given is not None else (FULL if config.getoption("full") else DEFAULT)[name]


def numbers(config, name, kind=int):
    try:
        values = tuple(sorted({kind(word) for word in option(config, name).split(",")}))
    except ValueError:
        values = ()
    if not values or min(values) <= 0:
        raise pytest.UsageError(f"--{name} takes positive numbers with commas between, not {option(config, name)!r}.")
    return values


def words(text):
    """The words of a list with commas."""
    return tuple(filter(None, map(str.strip, text.split(","))))


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
    config.stash[REPORT] = Report(config.getoption("results"), config.getoption("full"), config.invocation_params.args)
    config.stash[OPTIONS] = read_options(config)
    torch.set_num_threads(numbers(config, "threads")[0])


def read_options(config):
    """Options of data and models from the command line."""
    limit = option(config, "limit")
    if limit != "all" and not (limit.isdecimal() and int(limit)):
        raise pytest.UsageError(f"--limit is a positive number, or all, not {limit!r}.")
    try:
        rules = [tuple(map(float, rule.split(":"))) for rule in filter(None, config.getoption("noise_left").split(","))]
        rules = [(floor, margin) for floor, margin in rules]
    except ValueError:
        given = config.getoption("noise_left")
        raise pytest.UsageError(f"--noise-left takes FLOOR:MARGIN with commas between, not {given!r}.") from None
    return testdata.Options(
        split=config.getoption("split"),
        noise_left=tuple(rules),
        events=config.getoption("events"),
        noise=config.getoption("noise"),
        limit=None if limit == "all" else int(limit),
        models=words(config.getoption("models")),
        pickers=words(option(config, "picker")),
        steps=numbers(config, "steps"),
        seed=config.getoption("seed"),
        clean_snr=config.getoption("clean_snr"),
        window_snr=config.getoption("window_snr"),
        device=usable(config.getoption("device")),
        download=config.getoption("download"),
    )


def pytest_generate_tests(metafunc):
    if "threads" in metafunc.fixturenames:
        metafunc.parametrize("threads", numbers(metafunc.config, "threads"))
    if "hours" in metafunc.fixturenames:
        metafunc.parametrize("hours", numbers(metafunc.config, "hours", float))
    if "timed" in metafunc.fixturenames:
        steps, models = numbers(metafunc.config, "steps"), words(metafunc.config.getoption("models").lower()) or ("",)
        own = [speed.step_name("CDiffSD", count) for count in speed.STEPS if count not in steps]
        rows = [name for name in speed.runs() if name not in own and any(word in name.lower() for word in models)]
        metafunc.parametrize("timed", rows)


def pytest_terminal_summary(terminalreporter, config):
    for title, table in config.stash[REPORT].markdown():
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
    report.missing_pickers |= available.missing
    return available.items


@pytest.fixture(scope="session")
def rows(request, data, denoisers, report):
    """All denoisers, and the pickers where a benchmark of this run needs them, on all mixtures."""
    picking = any("pickers" in item.fixturenames for item in request.session.items)
    pickers = request.getfixturevalue("pickers") if picking else {}
    unions = suite.cdiffsd_rows(denoisers)
    rows = evaluation.evaluate(data.mixtures, denoisers, pickers, testdata.RATE, unions, data.full_band)
    report.rows["mixtures"] = rows
    return rows


@contextmanager
def one_line_errors():
    """End the run with one line if the user's data or options cannot be used."""
    try:
        yield
    except testdata.DataError as error:
        pytest.exit(str(error), returncode=2)
