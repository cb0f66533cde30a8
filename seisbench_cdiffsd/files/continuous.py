"""Records of any length denoised in constant memory: piece by piece, as if all at once."""

from __future__ import annotations

import glob
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from obspy import Stream, Trace, UTCDateTime

from seisbench_cdiffsd import noise_left, presence
from seisbench_cdiffsd.files.console import one_line
from seisbench_cdiffsd.model import CDiffSD
from seisbench_cdiffsd.streams.filtering import has_lower_corner

#: Length of a piece.
PIECE_SECONDS = 6 * 3600.0
#: How far the network's part in a sample depends on its surroundings, in windows: a window, the filling of a gap in it,
#: the samples mirrored for this, and the memory of the filter.
WINDOWS_AROUND = 4
#: Counts up when the same weights and arguments give other samples than before.
PROCESSING = 4

#: Fraction of the sampling interval by which the time of a sample may differ between readings, as miniSEED counts in
#: 0.1 ms: below a half, so samples half way between two times are safe too.
JITTER = 0.3

#: Reads the samples between two times.
Read = Callable[[UTCDateTime, UTCDateTime], Stream]


def denoised_pieces(
    model: CDiffSD, read: Read, start: UTCDateTime, end: UTCDateTime, piece: float = PIECE_SECONDS, **options: Any
) -> Iterator[tuple[Stream, Stream]]:
    """
    Denoise the samples between two times. The result is that of one call with all of them, except for rounding.

    That needs a filter with a lower corner: without one, each sample depends on the mean of the whole record.

    :param model: The model; its filter is a bandpass or a highpass
    :param read: Function of two times that returns the samples between them as a stream
    :param start: Time of the first sample
    :param end: Time after the last sample
    :param piece: Seconds to denoise at once
    :param options: Arguments of :py:meth:`CDiffSD.denoise`
    :return: Signal and noise of each piece with samples
    :raises ValueError: If the model has another filter, or none
    """
    check_pieces(model)
    around = margin(model)
    count = max(math.ceil((end - start) / piece), 1)
    for i in range(count):
        first, last = start + i * piece, min(start + (i + 1) * piece, end)
        stream = read(first - around, last + around)
        if not any(len(between(trace, first, last)) for trace in stream):
            continue
        clean, noise = model.denoise(stream, return_noise=True, **options)
        del stream
        parts = [Stream(filter(_has_samples, (between(x, first, last) for x in y))) for y in (clean, noise)]
        yield parts[0], parts[1]


def check_pieces(model: CDiffSD) -> None:
    """
    Check that a model can denoise records piece by piece.

    :raises ValueError: If its filter has no lower corner, so that each sample depends on the mean of the whole record
    """
    if not has_lower_corner(model.filter_args):
        raise ValueError(
            f"A model with filter_args {model.filter_args!r} needs the mean of a whole record, and is not for pieces: "
            "call CDiffSD.denoise, or use weights with a bandpass or highpass."
        )


def between(trace: Trace, start: UTCDateTime, end: UTCDateTime) -> Trace:
    """
    The samples of a trace from `start` to before `end`: adjacent stretches neither share samples nor lose any.

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
    Load weights from this machine; nothing is downloaded.

    :param weights: Name of weights, or path of a saved model, with or without ".pt" or ".json" and version, as ".pt.v2"
    :return: The model
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
        raise ValueError(f"The weights {weights!r} cannot be loaded: {one_line(error)}") from error
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


def margin(model: CDiffSD) -> float:
    """How far a denoised sample depends on its surroundings, in seconds."""
    return WINDOWS_AROUND * model.in_samples / model.sampling_rate + noise_left.REACH


def fingerprint(model: CDiffSD) -> str:
    """A hash of all that the output of a model depends on: its parameters, arguments and defaults, and the code."""
    code = PROCESSING, noise_left.NOISE_CEILING, noise_left.DOUBT, presence.DOUBTED_BELOW
    arguments = model.get_model_args(), asdict(model.options())
    total = hashlib.sha256(json.dumps([arguments, code], default=str).encode())
    for name, values in model.state_dict().items():
        total.update(name.encode() + np.ascontiguousarray(values.cpu().numpy()).tobytes())
    return total.hexdigest()
