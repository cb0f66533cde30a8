"""Where weights are found: in SeisBench's cache, in this package, and in SeisBench's remote repository."""

from __future__ import annotations

import glob
import json
import os
import pickle
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import requests
import seisbench
import seisbench.util
from obspy import Stream
from packaging.version import InvalidVersion, Version
from torch import Tensor

from seisbench_cdiffsd import cdiffsd, denoising, published  # noqa: F401 (its network and degradations are known by name)

#: The weights that :py:meth:`CDiffSD.from_pretrained` loads when no name is given.
DEFAULT = "base"
#: Seconds to wait for the remote repository before it counts as out of reach.
TIMEOUT = 3.0
#: What SeisBench and torch raise for damaged files, and for those of other models.
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RuntimeError, EOFError, OSError, pickle.UnpicklingError)


class CDiffSD(cdiffsd.CDiffSD):
    __doc__ = f"""{cdiffsd.CDiffSD.__doc__}
    Weights are in this package, too: the newest version there and in SeisBench's cache is loaded, and the remote
    repository is asked only where there is none.
    """

    def denoise(self, stream: Stream, **options: Any) -> Any:
        """Denoise a stream with care: :py:func:`seisbench_cdiffsd.denoise` with this model."""
        return denoising.denoise(stream, self, **options)

    def restore(self, windows: Tensor, **options: Any) -> Tensor:
        """Denoise windows: :py:func:`.denoising.restore` with this model, by default with no noise."""
        return denoising.restore(self, windows, {**self.default_args, "dry": 0.0, **options})

    @property
    def min_sampling_rate(self) -> float:
        """Channels at this sampling rate in Hz, or a lower one, have nothing in the band of the model."""
        return denoising.min_sampling_rate(self)

    @classmethod
    def shipped_path(cls) -> Path:
        """Folder of the shipped weights: inside an installed package, next to the package in a checkout."""
        package = Path(__file__).parent
        installed, checkout = package / "weights", package.parent / "weights"
        return installed if installed.is_dir() else checkout

    @classmethod
    def from_pretrained(
        cls,
        name: str = DEFAULT,
        version_str: str = "latest",
        update: bool = False,
        force: bool = False,
        wait_for_file: bool = False,
    ) -> Any:
        """
        Load a model with pretrained weights.

        :param name: Name of the weights, see :py:meth:`list_pretrained`
        :param version_str: Version, or "latest": the highest among cache and package, and the remote with `update`
        :param update: Ask the remote repository for a newer version
        :param force: Restart a download that was interrupted
        :param wait_for_file: Wait for a download that another process has started
        :return: The model
        :raises ValueError: If there are no such weights, or they cannot be downloaded or read
        """
        versions = cls.list_versions(name, remote=update)
        if not versions or version_str not in ("latest", *versions):
            versions = cls.list_versions(name, remote=True)
        if not versions:
            known = ", ".join(cls.list_pretrained(remote=False)) or "none"
            raise ValueError(f"There are no {cls.__name__} weights named {name!r}. Available here: {known}.")
        if version_str not in ("latest", *versions):
            raise ValueError(f"Weights {name!r} have no version {version_str!r}. Available: {', '.join(versions)}.")
        version = versions[-1] if version_str == "latest" else version_str
        try:
            return super().from_pretrained(name, version, force=force, wait_for_file=wait_for_file)
        except requests.RequestException as error:
            raise ValueError(f"Weights {name!r} could not be downloaded: {_line(error)}") from error

    @classmethod
    def list_versions(cls, name: str, remote: bool = True) -> list[str]:
        """
        Versions of some weights, the newest last.

        :param name: Name of the weights
        :param remote: Ask the remote repository too; where it cannot be reached, that is logged
        """
        cls._cleanup_local_repository()
        versions = {v for file_name, v in cls._local_weights() if file_name == name}
        if remote:
            files = cls._remote_files()
            versions |= {v for file_name, v in cls._weights(files) if file_name == name}
            if f"{name}.json" in files:
                versions |= set(filter(_is_version, [cls._get_version_of_remote_without_suffix(name)]))
        return sorted(versions, key=Version)

    @classmethod
    def list_pretrained(cls, details: bool = False, remote: bool = True) -> Any:
        """
        Names of the weights there are.

        :param details: Return a dict with the docstring of the newest version of each
        :param remote: Ask the remote repository too; where it cannot be reached, that is logged
        """
        cls._cleanup_local_repository()
        names = {name for name, _ in cls._local_weights()}
        if remote:
            files = cls._remote_files()
            names |= {name for name, _ in cls._weights(files)}
            names |= {file.removesuffix(".json") for file in files if file.endswith(".json")}
        if not details:
            return sorted(names)
        return {name: cls._get_latest_docstring(name, remote=remote) for name in sorted(names)}

    @classmethod
    def load(cls, path: Path | str, version_str: str | None = None, **kwargs: Any) -> Any:
        """
        Load a model from two files, ``<path>.json`` and ``<path>.pt``, as :py:meth:`save` writes them.

        The weights are loaded to the CPU, and only tensors are read: no code in a file is run.

        :param path: Path without the suffixes
        :param version_str: Version, part of the names of the files
        :param kwargs: Passed to :py:func:`torch.load`
        :return: The model
        :raises FileNotFoundError: If a file is missing
        :raises ValueError: If a file is damaged, belongs to another model, or needs a newer SeisBench
        """
        try:
            return super().load(path, version_str, **{"map_location": "cpu", **kwargs, "weights_only": True})
        except (FileNotFoundError, PermissionError):
            raise
        except UNREADABLE as error:
            raise ValueError(f"{path} cannot be loaded as a {cls.__name__} model: {_line(error)}") from error

    def save(self, path: Path | str, weights_docstring: str = "", version_str: str | None = None) -> None:
        """
        Save the model as ``<path>.json`` and ``<path>.pt``; no half-written file is left under these names.

        :param path: Path without the suffixes
        :param weights_docstring: Description of the weights
        :param version_str: Version, added to the names of the files and to the metadata
        """
        path = Path(path)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
            super().save(Path(folder) / path.name, weights_docstring, version_str)
            metadata, weights = self._get_weights_file_paths(Path(folder) / path.name, version_str)
            if version_str is not None:
                metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "version": version_str}, indent=4))
            for file in (weights, metadata):
                os.replace(file, path.with_name(file.name))

    @classmethod
    def _pretrained_path(cls, name: str, version_str: str = "") -> tuple[Path, Path]:
        """Files of the weights and of their metadata; those of the cache if there are none yet."""
        cached: tuple[Path, Path] = super()._pretrained_path(name, version_str)
        shipped = cls.shipped_path() / cached[0].name, cls.shipped_path() / cached[1].name
        if not all(file.is_file() for file in cached) and all(file.is_file() for file in shipped):
            return shipped
        return cached

    @classmethod
    def _cleanup_local_repository(cls) -> None:
        """As SeisBench does, rename files that were put into the cache without a version."""
        try:
            super()._cleanup_local_repository()
        except (OSError, ValueError) as error:
            seisbench.logger.warning(f"Cannot rename the weights in {cls._model_path()}: {_line(error)}")

    @classmethod
    def _local_weights(cls) -> set[tuple[str, str]]:
        """Name and version of all weights in the cache and in the package."""
        folders = [folder for folder in (cls._model_path(), cls.shipped_path()) if folder.is_dir()]
        return set().union(*(cls._weights(file.name for file in folder.iterdir()) for folder in folders))

    @classmethod
    def _weights(cls, files: Iterable[str]) -> set[tuple[str, str]]:
        """Name and version of weights whose two files are both there."""
        known: dict[str, set[tuple[str, str]]] = {"json": set(), "pt": set()}
        for file in files:
            name, kind, version = cls._parse_weight_filename(file)
            if name and version and _is_version(version):
                known[kind].add((name, version))
        return known["json"] & known["pt"]

    @classmethod
    def _remote_files(cls) -> list[str]:
        """Names of the files in the remote repository; none, and a line in the log, where it cannot be reached."""
        url = cls._remote_path()
        try:
            requests.head(url, timeout=TIMEOUT, headers={"User-Agent": "SeisBench"})  # the listing has no timeout
            return list(seisbench.util.ls_webdav(url, precheck_timeout=0))
        except (requests.RequestException, ValueError, SyntaxError) as error:
            if "status code 404" not in str(error):
                seisbench.logger.warning(f"Cannot list the weights in the remote repository: {_line(error)}")
            return []


def load(weights: str) -> CDiffSD:
    """
    Load weights from this machine; nothing is downloaded.

    :param weights: Name of weights, or path of a saved model, with or without ".pt" or ".json" and version, as ".pt.v2"
    :raises ValueError: If there are no such weights, or they cannot be read
    """
    match = re.fullmatch(r"(.+?)(?:\.(?:pt|json)(?:\.v(.+))?)?", weights, re.DOTALL)
    base, version = match.groups() if match else (weights, None)
    try:
        if Path(f"{base}.json.v{version}" if version else f"{base}.json").is_file():
            return CDiffSD.load(base, version_str=version)
        known = CDiffSD.list_pretrained(remote=False)
        if weights in known:
            return CDiffSD.from_pretrained(weights)
        hint = _meant(Path(weights)) or f"Names: {', '.join(known) or 'none'}; or give the path of a model."
    except (OSError, ValueError) as error:
        raise ValueError(f"The weights {weights!r} cannot be loaded: {' '.join(str(error).split())}") from error
    raise ValueError(f"There are no weights {weights!r}. {hint}")


def _meant(path: Path) -> str:
    """What a path that is no model may have been meant for; empty if there is nothing like it."""
    versions = sorted(path.parent.glob(f"{glob.escape(path.name)}.json.v*"), key=lambda x: (len(x.name), x.name))
    if (path / "model.json").is_file():
        return f"It is the folder of a training: give its model, {path / 'model'}."
    if versions:
        return f"Add the version: {versions[-1].with_name(versions[-1].name.replace('.json.v', '.pt.v'))}."
    if path.exists():
        return "It is there, but no model: give NAME of two files NAME.pt and NAME.json."
    return ""


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return not text.endswith(".partial")


def _line(error: Exception) -> str:
    """The first line of a message, with the kind of error where it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)
