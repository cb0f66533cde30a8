"""Who may import whom: imports run one way, the leaves stay leaves, and the heart needs no more than torch."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "seisbench_cdiffsd"
MODULES = {path.stem: path for path in sorted(PACKAGE.glob("*.py"))}

#: What each module may import of this package.
ALLOWED = {
    "console": set(),
    "schedule": set(),
    "diffusion": {"schedule"},
    "published": set(),
    "network": {"published"},
    "windows": set(),
    "gaps": set(),
    "filtering": {"gaps"},
    "pieces": {"gaps"},
    "axis": {"filtering", "gaps", "pieces"},
    "records": {"axis", "filtering", "gaps", "pieces"},
    "amplitudes": set(),
    "noise_left": {"amplitudes", "filtering"},
    "options": {"noise_left"},
    "presence": set(),
    "pretrained": set(),
    "model": {
        "amplitudes",
        "diffusion",
        "filtering",
        "network",
        "noise_left",
        "options",
        "presence",
        "pretrained",
        "records",
        "schedule",
        "windows",
    },
    "metrics": set(),
    "augmentations": {"filtering", "metrics"},
    "disturbances": {"augmentations", "filtering"},
    "picking": {"filtering", "metrics"},
    "losses": {"diffusion", "noise_left", "picking"},
    "optimizers": set(),
    "config": {"amplitudes", "filtering", "losses", "network", "schedule"},
    "configfile": {"config"},
    "stores": {"augmentations", "filtering"},
    "datasets": {"augmentations", "config", "stores"},
    "pairs": {"augmentations", "config", "datasets", "disturbances", "filtering", "stores"},
    "feeding": {"augmentations", "config", "datasets", "pairs", "stores"},
    "writing": {"console"},
    "loop": {
        "amplitudes",
        "config",
        "diffusion",
        "feeding",
        "losses",
        "metrics",
        "model",
        "optimizers",
        "pairs",
        "presence",
        "schedule",
        "writing",
    },
    "baselines": {"filtering", "losses", "model", "picking", "pretrained"},
    "summary": set(),
    "evaluation": {"augmentations", "baselines", "filtering", "metrics", "pairs", "picking", "summary"},
    "plotting": set(),
    "reading": {"console"},
    "manifest": {"writing"},
    "continuous": {"console", "model", "noise_left", "presence"},
    "training": {
        "config",
        "configfile",
        "continuous",
        "datasets",
        "feeding",
        "loop",
        "losses",
        "model",
        "pairs",
        "writing",
    },
    "jobs": {"reading"},
    "picklists": {"continuous", "picking"},
    "denoising": {
        "console",
        "continuous",
        "jobs",
        "manifest",
        "model",
        "picking",
        "picklists",
        "pieces",
        "plotting",
        "reading",
        "records",
        "writing",
    },
    "arguments": {"writing"},
    "export": {"configfile", "model", "writing"},
    "commands": {"arguments", "config", "configfile", "console", "export", "loop", "training"},
    "sds": {"manifest"},
    "ledger": {"manifest", "sds"},
    "instruments": {"continuous", "ledger", "manifest", "model", "reading", "sds", "writing"},
    "archive": {"continuous", "instruments", "ledger", "manifest", "model", "reading", "sds", "writing"},
    "workers": {"archive", "console", "instruments", "manifest", "sds"},
    "__init__": {"model"},
    "cli": set(MODULES) - {"cli"},
}

#: Packages that some modules may not go beyond.
THIRD_PARTY = {
    "schedule": {"torch"},
    "diffusion": {"torch"},
    "network": {"torch"},
    "published": {"torch"},
    "losses": {"torch"},
    "optimizers": {"torch"},
    "metrics": {"numpy", "scipy"},
    "summary": {"numpy", "pandas"},
    "windows": {"numpy"},
    "gaps": {"numpy"},
    "amplitudes": {"torch"},
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
            module = node.module or ""
            names = [f"{module}.{a.name}" for a in node.names] if module == PACKAGE.name else [module]
        else:
            continue
        for name in names:
            first, *rest = name.split(".")
            if first == PACKAGE.name:
                own.add(rest[0] if rest else "__init__")
            else:
                others.add(first)
    return own & set(MODULES), others - set(sys.stdlib_module_names)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_what_the_table_allows(name):
    assert name in ALLOWED, f"say in ALLOWED what {name}.py may import"
    own, others = imported(MODULES[name])
    assert own <= ALLOWED[name]
    if name in THIRD_PARTY:
        assert others <= THIRD_PARTY[name]


def test_the_table_has_one_direction():
    rank = {name: i for i, name in enumerate(ALLOWED)}
    backwards = [(name, other) for name, others in ALLOWED.items() for other in others if rank[other] > rank[name]]
    assert not backwards


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_short_and_says_what_it_is_for(name):
    text = MODULES[name].read_text(encoding="utf-8")
    lines, purpose = text.count("\n"), ast.get_docstring(ast.parse(text))
    assert lines <= 300
    assert purpose
