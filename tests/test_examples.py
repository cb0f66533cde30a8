"""The notebooks run offline from their first cell to their last, and what they keep is what their code gives."""

import re
import shutil

import nbformat
import notebooks
import pytest
from conftest import SHARED


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell):
    """What a cell returns and shows; not what it prints, such as that there is no picker."""
    return [sorted(output.data) for output in cell.outputs if "data" in output]


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """A SeisBench cache that is empty, and no network to fill it."""
    monkeypatch.setenv("SEISBENCH_CACHE_ROOT", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # threads that wait for each other take time from others
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return tmp_path


@pytest.mark.parametrize("path", notebooks.PATHS, ids=lambda path: path.stem)
def test_notebooks_run_without_a_network_and_keep_the_outputs_of_their_code(path, offline):
    kept = nbformat.read(path, as_version=4)
    assert kept.metadata["code"] == notebooks.code_of(kept), "run python examples/notebooks.py"
    assert [cell.execution_count for cell in code_cells(kept)] == [*range(1, len(code_cells(kept)) + 1)]
    assert path.stat().st_size < 200_000 and not re.search(r"/(tmp|home|work)/|Traceback|Warning", path.read_text())
    picks = path.stem == "denoise_and_pick" and (SHARED / "seisbench_cache").is_dir()
    if picks:  # the other one does without pickers, as both do where there are none
        shutil.copytree(SHARED / "seisbench_cache", offline / "cache", copy_function=shutil.copyfile)
    new = notebooks.executed(path, offline)
    for cell, again in zip(code_cells(kept), code_cells(new), strict=True):
        if picks or "picker" not in cell.source:
            assert kinds(cell) == kinds(again)
