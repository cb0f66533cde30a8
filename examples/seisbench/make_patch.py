"""
The patch that adds CDiffSD to SeisBench::

    python examples/seisbench/make_patch.py [CHECKOUT] [--weights FOLDER] > cdiffsd.patch

CHECKOUT is SeisBench's repository. Without it the patch is for the installed SeisBench, which has no documentation: the
lines of SeisBench 0.12.6 around the new ones are assumed then, those of ASSUMED. ``git apply`` applies it in the
repository. With ``--weights``, the files for SeisBench's data repository are written as well.
"""

from __future__ import annotations

import argparse
import difflib
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from packaging.version import Version

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
INIT, TABLE, PAGE = (
    "seisbench/models/__init__.py",
    "docs/pages/models/waveform_models.rst",
    "docs/pages/documentation/models/waveform_models.rst",
)
#: New files, and what they are copies of.
NEW = {
    "seisbench/models/cdiffsd.py": ROOT / "seisbench_cdiffsd" / "cdiffsd.py",
    "tests/models/test_cdiffsd.py": HERE / "test_cdiffsd.py",
}
LINE = f"+{'-' * 62}+{'-' * 43}+\n"


def row(model: str, task: str) -> str:
    return f"| {f':py:class:`~seisbench.models.{model}`':61}| {task:42}|\n{LINE}"


SECTION = """CDiffSD
-----------------------------------

.. autoclass:: seisbench.models.cdiffsd.CDiffSD
    :members:
    :undoc-members:
    :show-inheritance:

"""
#: By file, what each addition stands before, and the addition.
ADDED = {
    INIT: [("from .cred import", "from .cdiffsd import CDiffSD\n"), ('    "CRED",\n', '    "CDiffSD",\n')],
    TABLE: [("| :py:class:`~seisbench.models.eqtransformer.EQTransformer`", row("cdiffsd.CDiffSD", "Denoising"))],
    PAGE: [("Depth phase models\n---", SECTION)],
}
#: Number of the first, and text, of the lines around the additions in SeisBench 0.12.6.
ASSUMED = {
    TABLE: (
        63,
        LINE
        + row("seisdae.SeisDAE", "Denoising")
        + row("eqtransformer.EQTransformer", "Earthquake Detection/Phase Picking")
        + row("eqtp.EQTP", "Phase Picking/Polarity Picking"),
    ),
    PAGE: (41, f"    :undoc-members:\n    :show-inheritance:\n\nDepth phase models\n{'-' * 35}\n\n"),
}


def patch(checkout: Path) -> str:
    """The patch for a checkout, or a folder with the package alone; SystemExit if SeisBench has changed too much."""
    parts = [_diff(name, "", source.read_text()) for name, source in NEW.items()]
    for name, additions in ADDED.items():
        if name in ASSUMED and not (checkout / "docs").is_dir():
            number, text = ASSUMED[name]
            old = "\n" * (number - 1) + text
        else:
            old = (checkout / name).read_text()
        new = old
        for before, addition in additions:
            if new.count(before) != 1:
                sys.exit(f"{name} has {before!r} {new.count(before)} times: add this by hand:\n{addition}")
            new = new.replace(before, addition + before)
        parts.append(_diff(name, old, new))
    return "".join(parts)


def _diff(name: str, old: str, new: str) -> str:
    names = ("/dev/null", f"b/{name}") if not old else (f"a/{name}", f"b/{name}")
    lines = difflib.unified_diff(old.splitlines(keepends=True), new.splitlines(keepends=True), *names)
    return f"diff --git a/{name} b/{name}\n" + "new file mode 100644\n" * (not old) + "".join(lines)


def write_weights(folder: Path, release: str) -> None:
    """Write the newest weights `base` as SeisBench's first version of them, for a release that has the class."""
    newest = max(ROOT.glob("weights/base.json.v*"), key=lambda path: Version(path.name.rpartition(".v")[2]))
    facts = json.loads(newest.read_text())
    facts["docstring"] = (
        facts["docstring"].partition(" Trained on ")[0]
        + " Trained on public records of local earthquakes and of noise,"
        f" and on simulated earthquakes, with seisbench-cdiffsd, where it is version {facts['version']}."
        " Not by the authors of the paper. Licence: GPL-3.0."
    )
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**facts, "version": "1", "seisbench_requirement": release}, indent=4)
    (folder / "base.json.v1").write_text(text)
    shutil.copyfile(newest.with_name(newest.name.replace(".json", ".pt")), folder / "base.pt.v1")


def installed() -> Path:
    """The folder that the installed SeisBench lies in."""
    found = find_spec("seisbench")
    assert found is not None and found.origin is not None
    return Path(found.origin).parents[1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the patch that adds CDiffSD to SeisBench.")
    parser.add_argument("checkout", nargs="?", type=Path, help="SeisBench's repository (the installed SeisBench)")
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="also write the files of the weights")
    parser.add_argument("--release", default="0.13.0", help="first SeisBench that will have the class (%(default)s)")
    given = parser.parse_args()
    if given.weights:
        write_weights(given.weights, given.release)
    sys.stdout.write(patch(given.checkout or installed()))
