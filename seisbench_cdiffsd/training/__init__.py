"""Training: :py:func:`train` on the datasets that its settings name, or :py:func:`fit` on given ones."""

from typing import Any


def __getattr__(name: str) -> Any:
    # Lightning takes seconds to import, and is not installed where nobody trains: not before it is needed.
    if name in ("fit", "train"):
        from seisbench_cdiffsd.training import trainer

        return getattr(trainer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
