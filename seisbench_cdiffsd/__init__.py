"""CDiffSD, a cold-diffusion denoiser of seismograms, as a SeisBench model: ``seisbench.models.CDiffSD``."""

from importlib.metadata import PackageNotFoundError, version

import seisbench.models

from seisbench_cdiffsd.model import CDiffSD

__all__ = ["CDiffSD", "__version__"]

try:
    __version__ = version("seisbench-cdiffsd")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"

seisbench.models.CDiffSD = CDiffSD
