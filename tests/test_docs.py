"""What documents name exists: modules and names of the package, and files of the repository."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(path for x in ("", "weights/", "benchmarks/", "examples/**/") for path in ROOT.glob(f"{x}*.md"))
SOURCES = sorted([*ROOT.glob("seisbench_cdiffsd/**/*.py"), *ROOT.glob("seisbench_cdiffsd/**/*.toml"), *DOCUMENTS])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_and_links_of_documents_lead_somewhere(path):
    text = path.read_text("utf-8")
    for module, names in re.findall(r"^from (seisbench_cdiffsd\S*) import (.+)$", text, re.MULTILINE):
        found = importlib.import_module(module)
        assert all(hasattr(found, name.strip()) for name in names.split(","))
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", text):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_of_the_package_exist(path):
    for name in re.findall(r"(?<![\w/])seisbench_cdiffsd((?:\.\w+)+)", path.read_text("utf-8")):
        found = importlib.import_module("seisbench_cdiffsd")
        for part in name[1:].split("."):
            is_known = hasattr(found, part)
            found = getattr(found, part) if is_known else importlib.import_module(f"{found.__name__}.{part}")
