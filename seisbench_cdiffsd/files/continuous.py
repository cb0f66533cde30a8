"""Records of any length denoised in constant memory: piece by piece, as if all at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from obspy import Stream, Trace, UTCDateTime

from seisbench_cdiffsd.denoising import check_pieces, margin
from seisbench_cdiffsd.weights import CDiffSD

#: Length of a piece.
PIECE_SECONDS = 6 * 3600.0
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
