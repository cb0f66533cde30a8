"""The command ``cdiffsd``."""

from seisbench_cdiffsd.cli.app import main

__all__ = ["main"]
