"""Execute the notebooks of this folder and keep their outputs: ``python examples/notebooks.py``."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

HERE = Path(__file__).parent
PATHS = sorted(HERE.glob("*.ipynb"))


def code_of(notebook: NotebookNode) -> str:
    """A hash of the code of a notebook, by which its outputs know whether they are those of this code."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\n\n".join(sources).encode()).hexdigest()


def executed(path: Path, folder: Path) -> NotebookNode:
    """A notebook with new outputs, executed in a folder; nbclient.exceptions.CellExecutionError where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # what tqdm says without ipywidgets
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, resources=resources, record_timing=False, coalesce_streams=True).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec, "code": code_of(notebook)}
    return notebook


def smaller(png: str) -> str:
    """A picture, in base64, of 64 colours: a third of the size, and figures look the same."""
    image, file = Image.open(io.BytesIO(base64.b64decode(png))), io.BytesIO()
    image.convert("RGB").quantize(64, Image.Quantize.FASTOCTREE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


if __name__ == "__main__":
    for path in PATHS:
        nbformat.write(executed(path, HERE), path)
