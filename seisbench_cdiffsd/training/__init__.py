"""Training: :py:func:`train` on the datasets that its settings name, or :py:func:`fit` on given ones."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seisbench_cdiffsd.training.trainer import fit, train

__all__ = ["fit", "train"]


def __getattr__(name: str) -> Any:
    # Lightning takes seconds to import, and is not installed where nobody trains: not before it is needed.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from seisbench_cdiffsd.training import trainer

    return getattr(trainer, name)
