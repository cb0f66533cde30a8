"""Records of any length in constant memory: denoised piece by piece, as if all at once."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from obspy import Stream, Trace, UTCDateTime

from seisbench_cdiffsd.model import CDiffSD

#: Seconds of a piece.
PIECE = 6 * 3600.0
#: How far the surroundings of a sample reach, in windows: a window, what fills a gap in it, and the samples that this
#: mirrors; and the filter's memory.
MARGIN = 4

#: Part of a sample by which its time may differ from reading to reading, since miniSEED counts in 0.1 ms:
#: less than a half, so that samples half way between two times are safe as well.
JITTER = 0.3

#: Reads the samples between two times.
Reader = Callable[[UTCDateTime, UTCDateTime], Stream]


def denoised_pieces(
    model: CDiffSD, read: Reader, start: UTCDateTime, end: UTCDateTime, piece: float = PIECE, **options: Any
) -> Iterator[tuple[Stream, Stream]]:
    """
    Denoise what lies between two times. The samples are those of one call with everything, but for rounding.

    :param model: The model
    :param read: Function of two times that gives the samples between them, as a stream
    :param start: Time of the first sample
    :param end: Time after the last sample
    :param piece: Seconds that are denoised at once
    :param options: Arguments of :py:meth:`CDiffSD.denoise`
    :return: Signal and noise of each piece that has samples
    """
    margin = MARGIN * model.in_samples / model.sampling_rate
    count = max(math.ceil((end - start) / piece), 1)
    for i in range(count):
        first, last = start + i * piece, min(start + (i + 1) * piece, end)
        stream = read(first - margin, last + margin)
        if not any(len(between(trace, first, last)) for trace in stream):
            continue
        clean, noise = model.denoise(stream, return_noise=True, **options)
        del stream
        parts = [Stream(filter(_has_samples, (between(x, first, last) for x in y))) for y in (clean, noise)]
        yield parts[0], parts[1]


def between(trace: Trace, start: UTCDateTime, end: UTCDateTime) -> Trace:
    """
    The samples of a trace from `start` on and before `end`: neighbouring stretches share none and lack none.

    :param trace: Trace, unchanged; the samples are a view
    """
    rate, origin = trace.stats.sampling_rate, trace.stats.starttime
    first, stop = (min(max(math.ceil((time - origin) * rate - JITTER), 0), len(trace)) for time in (start, end))
    part = Trace(header=trace.stats.copy())
    part.data = trace.data[first : max(stop, first)]
    part.stats.starttime = origin + first / rate
    return part


def _has_samples(trace: Trace) -> bool:
    return len(trace) > 0 and not np.ma.getmaskarray(trace.data).all()


def load(weights: str) -> CDiffSD:
    """
    Load weights that are on this machine; nothing is downloaded.

    :param weights: Name of weights, or path of a saved model, with or without ".pt" or ".json" and version, as ".pt.v2"
    :return: The model
    :raises ValueError: If there are none of this name, or they cannot be read
    """
    match = re.fullmatch(r"(.+?)(?:\.(?:pt|json)(?:\.v(.+))?)?", weights, re.DOTALL)
    base, version = match.groups() if match else (weights, None)
    try:
        if Path(f"{base}.json.v{version}" if version else f"{base}.json").is_file():
            return CDiffSD.load(base, version_str=version)
        known = CDiffSD.list_pretrained(remote=False)
        if weights in known:
            return CDiffSD.from_pretrained(weights)
    except (OSError, ValueError) as error:
        raise ValueError(f"The weights {weights!r} cannot be loaded: {' '.join(str(error).split())}") from error
    names = ", ".join(known) or "none"
    raise ValueError(f"There are no weights {weights!r}. Names: {names}; or give the path of a model.")


def fingerprint(model: CDiffSD) -> str:
    """A hash of all that decides what a model makes of its input: arguments and parameters."""
    total = hashlib.sha256(json.dumps([model.get_model_args(), model.default_args], default=str).encode())
    for name, values in model.state_dict().items():
        total.update(name.encode() + np.ascontiguousarray(values.cpu().numpy()).tobytes())
    return total.hexdigest()
