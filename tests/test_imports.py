"""Who may import whom: imports run one way, the leaves stay leaves, and the heart needs no more than torch."""

import ast
import sys
from itertools import groupby
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "seisbench_cdiffsd"


def name_of(path):
    """The name of a module within the package; that of a folder is that of its ``__init__``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}

#: What each module may import of this package.
ALLOWED = {
    # the paper
    "schedule": set(),
    "diffusion": {"schedule"},
    "published": set(),
    "network": {"published"},
    # streams to arrays and back
    "streams": set(),
    "streams.windows": set(),
    "streams.components": set(),
    "streams.amplitudes": set(),
    "streams.gaps": set(),
    "streams.filtering": {"streams.gaps"},
    "streams.pieces": {"streams.gaps"},
    "streams.axis": {"streams.filtering", "streams.gaps", "streams.pieces"},
    "streams.records": {"streams.axis", "streams.filtering", "streams.gaps", "streams.pieces"},
    # the SeisBench model
    "presence": set(),
    "noise_left": {"streams.amplitudes", "streams.filtering"},
    "options": {"noise_left"},
    "pretrained": set(),
    "model": {
        "diffusion",
        "network",
        "noise_left",
        "options",
        "presence",
        "pretrained",
        "schedule",
        "streams.amplitudes",
        "streams.filtering",
        "streams.records",
        "streams.windows",
    },
    "__init__": {"model"},
    # what is seen in records
    "metrics": set(),
    "plotting": {"streams.filtering"},
    "picking": {"metrics", "pretrained", "streams.filtering"},
    # datasets to pairs
    "data": set(),
    "data.settings": set(),
    "data.augmentations": {"metrics", "streams.filtering"},
    "data.disturbances": {"data.augmentations", "streams.filtering"},
    "data.stores": {"data.augmentations", "streams.filtering"},
    "data.splits": {"data.augmentations", "data.stores"},
    "data.datasets": {"data.augmentations", "data.settings", "data.splits", "data.stores"},
    "data.pairs": {
        "data.augmentations",
        "data.datasets",
        "data.disturbances",
        "data.settings",
        "data.stores",
        "streams.filtering",
    },
    # files
    "files": set(),
    "files.console": set(),
    "files.writing": {"files.console"},
    "files.reading": {"files.console"},
    "files.manifest": {"files.writing"},
    "files.continuous": {"files.console", "model", "noise_left", "presence", "streams.filtering"},
    "files.jobs": {"files.reading"},
    "files.picklists": {"files.continuous", "picking"},
    "files.denoising": {
        "files.console",
        "files.continuous",
        "files.jobs",
        "files.manifest",
        "files.picklists",
        "files.reading",
        "files.writing",
        "model",
        "picking",
        "plotting",
        "streams.pieces",
        "streams.records",
    },
    # training
    "training.losses": {"diffusion", "picking"},
    "training.optimizers": set(),
    "training.config": {
        "data.settings",
        "network",
        "schedule",
        "streams.amplitudes",
        "streams.filtering",
        "training.losses",
    },
    "training.configfile": {"data.settings", "training.config"},
    "training.feeding": {
        "data.augmentations",
        "data.datasets",
        "data.pairs",
        "data.settings",
        "data.splits",
        "data.stores",
        "training.config",
    },
    "training.loop": {
        "data.pairs",
        "files.writing",
        "metrics",
        "model",
        "schedule",
        "streams.amplitudes",
        "training.config",
        "training.feeding",
        "training.losses",
        "training.optimizers",
    },
    "training.run": {
        "data.datasets",
        "data.pairs",
        "data.settings",
        "files.continuous",
        "files.writing",
        "model",
        "training.config",
        "training.configfile",
        "training.feeding",
        "training.loop",
        "training.losses",
    },
    "training": {"training.run"},
    "training.export": {"files.writing", "model", "training.configfile"},
    # archives
    "archive": set(),
    "archive.sds": {"files.manifest"},
    "archive.ledger": {"archive.sds", "files.manifest"},
    "archive.instruments": {
        "archive.ledger",
        "archive.sds",
        "files.continuous",
        "files.manifest",
        "files.reading",
        "files.writing",
        "model",
    },
    "archive.days": {
        "archive.instruments",
        "archive.ledger",
        "archive.sds",
        "files.continuous",
        "files.manifest",
        "files.reading",
        "files.writing",
        "model",
    },
    "archive.workers": {
        "archive.days",
        "archive.instruments",
        "archive.sds",
        "files.console",
        "files.manifest",
    },
    # the command line
    "cli.arguments": {"files.writing"},
    "cli.shared": {
        "cli.arguments",
        "files.console",
        "files.continuous",
        "files.writing",
        "model",
        "pretrained",
    },
    "cli.denoise": {
        "cli.arguments",
        "cli.shared",
        "files.console",
        "files.denoising",
        "files.manifest",
        "picking",
    },
    "cli.archive": {
        "archive.days",
        "archive.instruments",
        "archive.sds",
        "archive.workers",
        "cli.arguments",
        "cli.shared",
        "files.console",
        "files.continuous",
        "files.manifest",
    },
    "cli.training": {
        "cli.arguments",
        "cli.shared",
        "files.console",
        "training.config",
        "training.configfile",
        "training.export",
        "training.loop",
        "training.run",
    },
    "cli.app": {"cli.archive", "cli.denoise", "cli.shared", "cli.training", "files.console"},
    "cli": {"cli.app"},
    "cli.__main__": {"cli.app"},
}

#: Packages that some modules may not go beyond.
THIRD_PARTY = {
    "schedule": {"torch"},
    "diffusion": {"torch"},
    "network": {"torch"},
    "published": {"torch"},
    "presence": {"torch"},
    "training.losses": {"torch"},
    "training.optimizers": {"torch"},
    "metrics": {"numpy", "scipy"},
    "streams.windows": {"numpy"},
    "streams.gaps": {"numpy"},
    "streams.amplitudes": {"torch"},
    "plotting": {"matplotlib", "numpy", "obspy", "pandas"},
}


def imported(path):
    """Modules of this package, and top-level names of all others, that a file imports anywhere in it."""
    own, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: write relative imports in full"
            # Of a package a module may be imported, or a name that the package defines.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first != PACKAGE.name:
                others.add(first)
            elif rest in MODULES:
                own.add(rest)
            elif rest != "__version__":
                own.add(rest.rpartition(".")[0] or "__init__")
    return own, others - set(sys.stdlib_module_names)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_what_the_table_allows(name):
    assert name in ALLOWED, f"say in ALLOWED what {name} may import"
    own, others = imported(MODULES[name])
    assert own <= ALLOWED[name]
    if name in THIRD_PARTY:
        assert others <= THIRD_PARTY[name]


def test_the_table_has_one_direction_and_holds_nothing_else():
    rank = {name: i for i, name in enumerate(ALLOWED)}
    backwards = [(name, other) for name, others in ALLOWED.items() for other in others if rank[other] > rank[name]]
    assert not backwards
    assert set(ALLOWED) == set(MODULES)


def test_folders_import_each_other_in_one_direction():
    rooms = [room for room, _ in groupby(name.split(".")[0] if "." in name else name for name in ALLOWED)]
    assert len(rooms) == len(set(rooms))


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_short_and_says_what_it_is_for(name):
    text = MODULES[name].read_text(encoding="utf-8")
    lines, purpose = text.count("\n"), ast.get_docstring(ast.parse(text))
    assert lines <= 300
    assert purpose
