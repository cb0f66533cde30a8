"""CDiffSD, a cold-diffusion denoiser of seismograms, as a SeisBench model: ``seisbench.models.CDiffSD``."""

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

__all__ = ["CDiffSD", "__version__", "denoise", "generate", "pick"]

try:
    __version__ = version("seisbench-cdiffsd")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"

#: What the package offers, and where it is: torch and SeisBench take seconds to import, so not before it is needed.
_OFFERED = {"CDiffSD": "weights", "denoise": "denoising", "pick": "picking", "generate": "generation.records"}


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_OFFERED[name]}"), name)
    globals()[name] = value
    return value


def _add_model(models: ModuleType) -> None:
    """Add CDiffSD to ``seisbench.models``, unless SeisBench has a model of this name."""
    if not hasattr(models, "CDiffSD"):
        models.__getattr__ = _model  # type: ignore[method-assign]


def _model(name: str) -> Any:
    if name != "CDiffSD":
        raise AttributeError(f"module 'seisbench.models' has no attribute {name!r}")
    return __getattr__(name)


class _WhenImported(MetaPathFinder):
    """Adds the model as soon as ``seisbench.models`` is imported, by whomever."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "seisbench.models":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def and_add(module: ModuleType) -> None:
                execute(module)
                _add_model(module)

            spec.loader.exec_module = and_add  # type: ignore[method-assign]
        return spec


if "seisbench.models" in sys.modules:
    _add_model(sys.modules["seisbench.models"])
else:
    sys.meta_path.insert(0, _WhenImported())
