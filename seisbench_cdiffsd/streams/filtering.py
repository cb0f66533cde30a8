"""To the sampling rate of the model and into its band: resampling and filtering without a shift in time."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal
from scipy.interpolate import CubicSpline

from seisbench_cdiffsd.streams.gaps import Samples

#: The model's sampling rate in Hz and its band, as ``obspy.Stream.filter("bandpass", ...)`` takes it, by default.
SAMPLING_RATE: float = 100
BAND: Mapping[str, Any] = {"freqmin": 1.0, "freqmax": 45.0, "corners": 4, "zerophase": True}
#: Records whose rate differs from the model's by this share or less are not resampled.
RATE_TOLERANCE = 0.01
#: Filters with a lower corner, and how that is named among their arguments.
LOWER_CORNER = {("bandpass",): "freqmin", ("highpass",): "freq"}
#: Ratio of the model's rate to a record's from which on the record is not resampled. Filters without a lower corner
#: need it (1 Hz keeps the ratio below 50), since a wrong rate, such as 1e-6 Hz, would fill the memory.
MAX_RATIO = 100
#: Filters with more corners are not stable.
MOST_CORNERS = 16
#: How the ends of a record are continued for the filter: blocks that the prediction is made from, at most and at least,
#: and its order; and the longest memory of a filter in samples that is taken into account.
TRAINED_BLOCKS, LEAST_BLOCKS, PREDICTION_ORDER = 60, 6, 24
LONGEST_MEMORY = 10_000


def design_filter(
    args: Sequence[Any] | None, kwargs: dict[str, Any] | None, rate: float
) -> tuple[Samples | None, bool]:
    """
    The filter that ``stream.filter(*args, **kwargs)`` names, in second-order sections.

    :param args: Its type: "bandpass", "bandstop", "lowpass" or "highpass"; None for no filter
    :param kwargs: "freqmin" and "freqmax", or "freq", in Hz; "corners" (4) and "zerophase" (False)
    :param rate: Sampling rate in Hz; a pass band that reaches beyond Nyquist is open above
    :return: Sections as in :py:func:`scipy.signal.butter`, None for no filter; and whether to run them forward and
        backward
    :raises ValueError: If the filter has another type or other arguments
    """
    if args is None:
        if kwargs:
            raise ValueError("filter_kwargs without filter_args: name the filter, such as 'bandpass'.")
        return None, True
    keys = {"bandpass": ("freqmin", "freqmax"), "bandstop": ("freqmin", "freqmax"), "lowpass": ("freq",)}
    keys["highpass"] = keys["lowpass"]
    kind = args[0] if len(args) == 1 else None
    if kind not in keys:
        raise ValueError(f"filter_args must be one of {', '.join(keys)}, or None, not {tuple(args)!r}.")
    options = {"corners": 4, "zerophase": False, **(kwargs or {})}
    if set(options) != {"corners", "zerophase", *keys[kind]}:
        raise ValueError(f"filter_kwargs of a {kind} are {', '.join(keys[kind])}, corners and zerophase.")
    if options["corners"] not in range(1, MOST_CORNERS + 1):
        raise ValueError(f"corners of a filter must be 1 to {MOST_CORNERS}, not {options['corners']!r}.")
    edges = [float(options[key]) for key in keys[kind]]
    if not all(0 < low < high for low, high in zip(edges, [*edges[1:], np.inf], strict=True)):
        raise ValueError(f"The corner frequencies of a {kind} must be positive and rise, not {edges} Hz.")
    if kind == "bandpass" and edges[1] >= rate / 2:
        kind, edges = "highpass", edges[:1]
    corners = edges if len(edges) > 1 else edges[0]
    return signal.butter(options["corners"], corners, kind, output="sos", fs=rate), bool(options["zerophase"])


def min_sampling_rate(args: Sequence[Any] | None, kwargs: dict[str, Any] | None, rate: float) -> float:
    """Records at this rate in Hz, or a lower one, have nothing in the band of a filter of records at `rate`."""
    corner = LOWER_CORNER.get(tuple(args or ()))
    return max(rate / MAX_RATIO, 2 * float((kwargs or {})[corner]) if corner else 0.0)


def has_lower_corner(args: Sequence[Any] | None) -> bool:
    """Whether a filter removes the mean of a record; if not, that has to be done before, and depends on all samples."""
    return tuple(args or ()) in LOWER_CORNER


def filtered(values: Samples, sos: Samples | None, zerophase: bool = True) -> Samples:
    """
    Samples in a band, as :py:func:`scipy.signal.sosfiltfilt` has them in training, but their ends do not ring.

    :param values: Samples of a contiguous record, without mean
    :param sos: Sections of :py:func:`design_filter`; None for all frequencies
    """
    if sos is None:
        return values
    if not zerophase:
        return signal.sosfilt(sos, values)
    memory = _memory(sos)
    before, after = _continuation(values[::-1], memory)[::-1], _continuation(values, memory)
    longer = np.concatenate([before, values, after])
    # scipy's own padding, where the record is long enough for it
    ends = min(np.count_nonzero(sos[:, 2] == 0), np.count_nonzero(sos[:, 5] == 0))
    padding = min(3 * (2 * len(sos) + 1 - ends), len(longer) - 1)
    return signal.sosfiltfilt(sos, longer, padlen=padding)[len(before) :][: len(values)]


def _memory(sos: Samples) -> int:
    """In how many samples the response of a filter decays by a factor e."""
    poles = np.concatenate([np.roots(section) for section in sos[:, 3:]])
    slowest = np.clip(np.max(np.abs(poles), initial=0), 0.1, 1 - 1 / LONGEST_MEMORY)
    return math.ceil(-1 / math.log(slowest))


def _continuation(values: Samples, memory: int) -> Samples:
    """
    What a record may be followed by, until a filter has forgotten it: where the record ended, the filter would ring.

    Means of short blocks, which follow microseism, are predicted; the rest is mirrored. If the record is too short to
    tell, there is nothing.
    """
    block = max(memory // 2, 1)
    count = min(len(values) // block, TRAINED_BLOCKS)
    if count < LEAST_BLOCKS:
        return values[:0]
    ahead = 20 * memory
    at = np.arange(count + ahead // block + 3, dtype=float)
    means = values[len(values) - count * block :].reshape(count, block).mean(axis=1)
    # their differences: a drift goes on, and decays
    steps = _predicted(np.diff(means), len(at) - 1)
    slow = CubicSpline(block * (at - count + 0.5) - 0.5, means[0] + np.concatenate([[0], np.cumsum(steps)]))
    known = min(ahead, (count - 1) * block)
    rest = values[len(values) - known :] - slow(np.arange(-known, 0))
    result = slow(np.arange(ahead))
    result[:known] += np.linspace(1, 0, known) * rest[::-1]
    return result


def _predicted(values: Samples, length: int) -> Samples:
    """A series continued to a length by linear prediction (Burg's method), which is stable: it does not grow."""
    largest = np.abs(values).max()
    if largest == 0:
        return np.zeros(length)
    forward = backward = series = values / largest
    model, least = np.ones(1), 1e-12 * float(series @ series)
    for _ in range(min(PREDICTION_ORDER, len(values) // 3)):
        forward, backward = forward[1:], backward[:-1]
        power = float(forward @ forward + backward @ backward)
        if power <= least:
            break
        reflection = -2 * float(forward @ backward) / power
        forward, backward = forward + reflection * backward, backward + reflection * forward
        model = np.append(model, 0)
        model = model + reflection * model[::-1]
    order = len(model) - 1
    result = np.concatenate([series, np.zeros(length - len(series))])
    for i in range(len(series), length if order else 0):
        result[i] = np.clip(-model[:0:-1] @ result[i - order : i], -2, 2)
    return largest * result


def simple_ratio(rate: float, target: float) -> Fraction:
    """A simple fraction that takes one rate in Hz to another, to within RATE_TOLERANCE; 1 within that."""
    if abs(rate / target - 1) <= RATE_TOLERANCE:
        return Fraction(1)
    return Fraction(target / rate).limit_denominator(max(100, round(2 * rate / target)))


def resampled_length(samples: int, ratio: Fraction) -> int:
    """How many samples of the new rate lie between the first and the last of the old."""
    return int((samples - 1) * ratio) + 1


def resampled(values: Samples, ratio: Fraction) -> Samples:
    """Samples at `ratio` times the rate, zero-phase; the first keeps its time, none lies after the last."""
    return _polyphase(values, ratio)[: resampled_length(len(values), ratio)]


def restored(values: Samples, ratio: Fraction) -> Samples:
    """Samples of :py:func:`resampled` back at their first rate, at least as many as there were."""
    return _polyphase(values, 1 / ratio)


def resampled_mask(there: NDArray[np.bool_], ratio: Fraction) -> NDArray[np.bool_]:
    """Which samples of the new rate lie on or between samples of the old that are there."""
    if ratio == 1:
        return there
    position = np.arange(resampled_length(len(there), ratio)) * ratio.denominator
    below, above = position // ratio.numerator, -(-position // ratio.numerator)
    return there[below] & there[above]


def _polyphase(values: Samples, ratio: Fraction) -> Samples:
    if ratio == 1:
        return values
    # the end values continue as far as the filter reaches, so an offset does not ring
    up, down = ratio.numerator, ratio.denominator
    reach = math.ceil(10 * max(up, down) / up)
    padding = down * math.ceil(reach / down)
    padded = np.pad(values, padding, mode="edge")
    samples = signal.resample_poly(padded, up, down, window=_interpolator(ratio))
    return samples[int(padding * ratio) :][: math.ceil(len(values) * ratio)]


@lru_cache
def _interpolator(ratio: Fraction) -> Samples:
    """
    The filter of :py:func:`scipy.signal.resample_poly`, but exact for constants.

    Each output sample is a weighted sum of samples. SciPy's weights add up to one only within a thousandth, so an
    offset, or microseism, would leave a tone in the band.
    """
    slower = max(ratio.numerator, ratio.denominator)
    taps = signal.firwin(20 * slower + 1, 1 / slower, window=("kaiser", 5.0))
    for phase in range(ratio.numerator):
        taps[phase :: ratio.numerator] /= taps[phase :: ratio.numerator].sum() * ratio.numerator
    return taps
