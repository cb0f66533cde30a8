"""The contribution to SeisBench: its patch on a copy of the installed one, which passes what is asked of models."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import make_patch
import pytest
import seisbench
import seisbench.models as sbm

import seisbench_cdiffsd

PACKAGE = Path(seisbench_cdiffsd.__file__).parent
CONTRIBUTION = Path(__file__).parents[1] / "examples" / "seisbench"
CHECKS = Path(__file__).with_name("seisbench_checks.py")

#: What SeisBench's own configuration does for a page of a model; its directive is not in the wheel.
CONF = """
from docutils import nodes
from docutils.parsers.rst import Directive
from seisbench.models import CDiffSD

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["pages"]


class Arguments(Directive):
    required_arguments = 2

    def run(self):
        return [nodes.paragraph(text=f"{key}: {value}") for key, value in CDiffSD._annotate_args.items()]


def setup(app):
    app.add_directive("document_args", Arguments)
"""


def copy_of_seisbench(folder):
    source, caches = Path(seisbench.__file__).parent, shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, folder / "seisbench", ignore=caches)


def call(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the installed SeisBench, the patch, in it, and the weights beside it."""
    folder = tmp_path_factory.mktemp("source")
    copy_of_seisbench(folder)
    patch = call(sys.executable, CONTRIBUTION / "make_patch.py", "--weights", folder / "weights")
    (folder / "patch").write_text(patch)
    for name, (number, text) in make_patch.ASSUMED.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("\n" * number + text)  # one line below where it was
    call("git", "apply", "patch", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def checked(copy):
    """What the checks say in the copy, one of which makes the documentation of the model, as HTML."""
    table, page = ((copy / name).read_text() for name in (make_patch.TABLE, make_patch.PAGE))
    (copy / "docs" / "index.rst").write_text(f"Models\n======\n\n{table}\n{page[page.index('CDiffSD') :]}")
    (copy / "docs" / "conf.py").write_text(CONF)
    shutil.copy(CHECKS, copy / "tests" / "models")
    paths = {"PYTHONPATH": os.pathsep.join([str(copy), str(PACKAGE.parent)]), "CDIFFSD_WEIGHTS": copy / "weights/base"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    options = {"cwd": copy / "tests" / "models", "env": {**os.environ, **paths, "OMP_NUM_THREADS": "1"}}
    return call(*command, "test_cdiffsd.py", CHECKS.name, **options)


def test_the_model_passes_what_seisbench_asks_of_its_models(checked):
    count = sum(path.read_text().count("\ndef test_") for path in (CHECKS, CONTRIBUTION / "test_cdiffsd.py"))
    assert int(re.search(r"(\d+) passed", checked)[1]) >= count


def test_the_documentation_of_the_model_has_no_errors(copy, checked):
    page = (copy / "html" / "index.html").read_text()
    assert "Evaluations of the network" in page and page.count("models.cdiffsd.CDiffSD") > 1


def test_patches_for_faults_of_seisbench_make_their_tests_pass(tmp_path):
    copy_of_seisbench(tmp_path)
    patches = sorted(CONTRIBUTION.glob("faults/*.patch"))
    names = [re.search(r"^diff --git a/(tests/\S+)", patch.read_text(), re.MULTILINE)[1] for patch in patches]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", "--tb=no", *names]
    command += ["-k", "not _workers or stream_to_array"]  # waits for 20 s before
    options = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}}
    call("git", "apply", "--include=tests/*", *patches, cwd=tmp_path)
    before = subprocess.run(command, **options, capture_output=True, text=True, timeout=600)
    failed = set(re.findall(r"^FAILED (\S+)::", before.stdout, re.MULTILINE))
    assert failed == set(names) and "passed" not in before.stdout, before.stdout
    call("git", "apply", "--exclude=tests/*", *patches, cwd=tmp_path)
    assert "failed" not in call(*command, **options)


IMPORTS = """
import importlib, sys
import seisbench_cdiffsd
print("torch" in sys.modules, "seisbench" in sys.modules)
for folder in (None, sys.argv[1]):
    sys.path[:0] = [folder] if folder else []
    for order in (["seisbench.models", "seisbench_cdiffsd"], ["seisbench_cdiffsd", "seisbench.models"]):
        for name in [name for name in sys.modules if name.partition(".")[0] in ("seisbench", "seisbench_cdiffsd")]:
            del sys.modules[name]
        models, package = sorted(map(importlib.import_module, order), key=lambda module: module.__name__)
        print(models.CDiffSD.__module__, package.CDiffSD.__module__)
"""


def test_importing_the_package_needs_no_torch_and_adds_the_model_to_seisbench_unless_it_has_one(copy):
    without_torch, *installed_and_copy = call(sys.executable, "-c", IMPORTS, copy).splitlines()
    ours = "seisbench_cdiffsd.weights"
    assert without_torch == "False False"
    assert installed_and_copy == 2 * [f"{ours} {ours}"] + 2 * [f"seisbench.models.cdiffsd {ours}"]
    assert sbm.CDiffSD is seisbench_cdiffsd.CDiffSD and "e2024JH000179" in sbm.CDiffSD().citation


def test_the_model_file_imports_nothing_of_the_package():
    found = re.findall(r"^(?:from|import) (\w+)", (PACKAGE / "cdiffsd.py").read_text(), re.MULTILINE)
    assert set(found) - set(sys.stdlib_module_names) == {"numpy", "obspy", "seisbench", "torch"}
