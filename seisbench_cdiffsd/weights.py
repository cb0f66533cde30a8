"""Where weights are found: in SeisBench's cache, in this package, and in SeisBench's remote repository."""

import glob
import json
import os
import pickle
import re
import tempfile
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

    @classmethod
    def shipped_path(cls) -> Path:
        """Folder of the shipped weights: inside an installed package, next to the package in a checkout."""
        package = Path(__file__).parent
        return package / "weights" if (package / "weights").is_dir() else package.parent / "weights"

    @classmethod
    def from_pretrained(
        cls, name: str = DEFAULT, version_str: str = "latest", update: bool = False, **more: Any
    ) -> Any:
        """
        Load a model with pretrained weights.

        :param name: Name of the weights, see :py:meth:`list_pretrained`
        :param version_str: Version, or "latest": the highest among cache and package, and the remote with `update`
        :param update: Ask the remote repository for a newer version
        :param more: As in SeisBench, ``force`` and ``wait_for_file``
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
        try:
            return super().from_pretrained(name, versions[-1] if version_str == "latest" else version_str, **more)
        except requests.RequestException as error:
            raise ValueError(f"Weights {name!r} could not be downloaded: {_line(error)}") from error

    @classmethod
    def list_versions(cls, name: str, remote: bool = True) -> list[str]:
        """Versions of some weights, the newest last; where the remote repository is out of reach, that is logged."""
        versions = {version for known, version in cls._known(remote) if known == name}
        if "" in versions:  # files without a version in their name
            versions = (versions - {""}) | {cls._get_version_of_remote_without_suffix(name)}
        return sorted(versions, key=Version)

    @classmethod
    def list_pretrained(cls, details: bool = False, remote: bool = True) -> Any:
        """Names of the weights there are; with `details`, a dict with the docstrings of their newest versions."""
        names = sorted({name for name, _ in cls._known(remote)})
        return {name: cls._get_latest_docstring(name, remote=remote) for name in names} if details else names

    @classmethod
    def load(cls, path: Path | str, version_str: str | None = None, **kwargs: Any) -> Any:
        """
        Load a model from two files, ``<path>.json`` and ``<path>.pt``, to the CPU. No code in a file is run.

        :param path: Path without the suffixes
        :param version_str: Version, part of the names of the files
        :raises FileNotFoundError: If a file is missing
        :raises ValueError: If a file is damaged, belongs to another model, or needs a newer SeisBench
        """
        for file in cls._get_weights_file_paths(Path(path), version_str):
            if file.exists() and not file.is_file():  # a pipe would be waited for
                raise ValueError(f"{file} is not a file of weights.")
        try:
            return super().load(path, version_str, **{"map_location": "cpu", **kwargs, "weights_only": True})
        except (FileNotFoundError, PermissionError):
            raise
        except UNREADABLE as error:
            raise ValueError(f"{path} cannot be loaded as a {cls.__name__} model: {_line(error)}") from error

    def save(self, path: Path | str, weights_docstring: str = "", version_str: str | None = None) -> None:
        """As SeisBench saves a model; no half-written file is left, and the version is in the metadata."""
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
        there = [all(file.is_file() for file in files) for files in (cached, shipped)]
        return shipped if there == [False, True] else cached

    @classmethod
    def _cleanup_local_repository(cls) -> None:
        """As SeisBench does, rename files that were put into the cache without a version."""
        try:
            super()._cleanup_local_repository()
        except (OSError, ValueError) as error:
            seisbench.logger.warning(f"Cannot rename the weights in {cls._model_path()}: {_line(error)}")

    @classmethod
    def _known(cls, remote: bool) -> set[tuple[str, str]]:
        """Name and version of all weights whose two files are in the cache, in the package, or in the remote."""
        cls._cleanup_local_repository()
        folders = [folder for folder in (cls._model_path(), cls.shipped_path()) if folder.is_dir()]
        places = [[file.name for file in folder.iterdir()] for folder in folders]
        places += [cls._remote_files()] if remote else []
        found: set[tuple[str, str]] = set()
        for files in places:
            parsed = [cls._parse_weight_filename(file) for file in files]
            json_, pt = ({(x[0], x[2] or "") for x in parsed if x[0] and x[1] == kind} for kind in ("json", "pt"))
            found |= {(name, version) for name, version in json_ & pt if not version or _is_version(version)}
        return found

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
    """The first line of a message, and the next one after a colon; with the kind of error where there is none."""
    first, *rest = str(error).splitlines() or [type(error).__name__]
    text = f"{first} {rest[0].strip()[:200]}" if first.endswith(":") and rest else first
    text = "".join(x if x.isprintable() else ascii(x)[1:-1] for x in text)
    # what follows in torch's messages is how to run the code in a damaged file
    return text.partition(". ")[0] if isinstance(error, RuntimeError | pickle.UnpicklingError) else text
