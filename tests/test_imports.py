"""Who may import whom: rooms in one direction, and the model file nothing of the package."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "seisbench_cdiffsd"

#: Rooms in order: each may import itself and those before it.
ROOMS = [
    *("cdiffsd", "published", "metrics", "streams", "denoising", "weights", "plotting", "picking"),
    *("data", "evaluation", "generation", "files", "training", "cli"),
]


def room(name):
    return name.split(".")[0]


def imported(path):
    """The modules of the package that a file imports, also within functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom) and node.module == "seisbench_cdiffsd":
            yield from (name for name in names if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file())
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("seisbench_cdiffsd."):
            yield node.module.removeprefix("seisbench_cdiffsd.")
        elif isinstance(node, ast.Import):
            yield from (x.removeprefix("seisbench_cdiffsd.") for x in names if x.startswith("seisbench_cdiffsd."))


def test_imports_run_one_way():
    for path in sorted(PACKAGE.rglob("*.py")):
        own = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if own == "__init__":
            continue
        for name in imported(path):
            assert ROOMS.index(room(name)) <= ROOMS.index(own), f"{path.name} imports {name}"
