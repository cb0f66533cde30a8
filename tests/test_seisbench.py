"""The model file as a part of SeisBench: in a copy of the installed one it passes what SeisBench asks of its models."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import seisbench
import seisbench.models as sbm

import seisbench_cdiffsd

PACKAGE = Path(seisbench_cdiffsd.__file__).parent
CHECKS = Path(__file__).with_name("seisbench_checks.py")


@pytest.fixture(scope="module")
def with_the_model(tmp_path_factory):
    """The environment of a Python that has a SeisBench with the model."""
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(Path(seisbench.__file__).parent, folder / "seisbench", ignore=shutil.ignore_patterns("__pycache__"))
    models = folder / "seisbench" / "models"
    shutil.copy(PACKAGE / "cdiffsd.py", models)
    listing = models / "__init__.py"
    text = listing.read_text().replace("from .cred import", "from .cdiffsd import CDiffSD\nfrom .cred import")
    listing.write_text(text.replace('    "CRED",\n', '    "CDiffSD",\n    "CRED",\n'))
    path = [str(folder), str(PACKAGE.parent)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}


def test_the_model_passes_what_seisbench_asks_of_its_models(with_the_model, tmp_path):
    shutil.copy(CHECKS, tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", CHECKS.name]
    done = subprocess.run(command, cwd=tmp_path, env=with_the_model, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]
    count = len(re.findall(r"^def test_", CHECKS.read_text(), re.MULTILINE))
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= count


ORDERS = """
import importlib, sys
for order in (["seisbench.models", "seisbench_cdiffsd"], ["seisbench_cdiffsd", "seisbench.models"]):
    for name in [name for name in sys.modules if name.partition(".")[0] in ("seisbench", "seisbench_cdiffsd")]:
        del sys.modules[name]
    models, package = sorted(map(importlib.import_module, order), key=lambda module: module.__name__)
    print(models.CDiffSD.__module__, package.CDiffSD.__module__)
"""


@pytest.mark.parametrize("there", [False, True])
def test_importing_the_package_adds_the_model_to_seisbench_unless_it_has_one(with_the_model, there):
    done = subprocess.run(
        [sys.executable, "-c", ORDERS], env=with_the_model if there else None, capture_output=True, text=True
    )
    ours = "seisbench_cdiffsd.weights"
    assert done.stdout.split() == 2 * ["seisbench.models.cdiffsd" if there else ours, ours], done.stderr
    assert sbm.CDiffSD is seisbench_cdiffsd.CDiffSD and "e2024JH000179" in sbm.CDiffSD().citation


def test_the_package_is_imported_without_torch():
    program = "import sys, seisbench_cdiffsd\nprint('torch' in sys.modules, 'seisbench' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_the_model_file_imports_nothing_of_the_package():
    found = re.findall(r"^(?:from|import) (\w+)", (PACKAGE / "cdiffsd.py").read_text(), re.MULTILINE)
    assert set(found) - set(sys.stdlib_module_names) == {"numpy", "obspy", "seisbench", "torch"}
