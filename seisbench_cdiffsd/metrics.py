"""Metrics of denoising.

The reference (clean) comes first and the estimate second; the last axis is time and all leading axes are kept: records
(..., samples) give values (...). To judge several components together, pass ``axis=(-2, -1)``. Everything is computed
in double precision. Waveforms are taken as they are: filter reference and estimate alike beforehand.

A ratio of something to nothing is infinite, of nothing to nothing NaN, and NaN samples give NaN.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Axis = int | tuple[int, ...]
Floats = NDArray[np.float64]


def sdr_db(reference: ArrayLike, estimate: ArrayLike, axis: Axis = -1) -> Floats:
    """
    Signal-to-distortion ratio ``10 log10(|reference|² / |reference - estimate|²)``; a wrong amplitude costs.

    :param reference: Clean traces, (..., samples)
    :param estimate: Estimates of the same shape
    :param axis: Axis or axes to take together
    :return: SDR in dB: inf for a perfect estimate, -inf for a zero reference, NaN where both hold
    :raises ValueError: If the shapes differ
    """
    reference, estimate = _pair(reference, estimate)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 10 * np.log10((reference**2).sum(axis) / ((reference - estimate) ** 2).sum(axis))


def cross_correlation(reference: ArrayLike, estimate: ArrayLike, axis: Axis = -1) -> Floats:
    """
    Zero-lag Pearson correlation.

    :param reference: Clean traces, (..., samples)
    :param estimate: Estimates of the same shape
    :param axis: Axis or axes to take together; the mean is removed over all of them at once
    :return: Correlation in [-1, 1]: 0 for a constant estimate, NaN for a constant reference
    :raises ValueError: If the shapes differ
    """
    reference, estimate = _pair(reference, estimate)
    reference, flat_reference = _centre(reference, axis)
    estimate, flat_estimate = _centre(estimate, axis)
    value = np.where(flat_estimate, 0.0, (reference * estimate).sum(axis).clip(-1, 1))
    return np.where(flat_reference, np.nan, value)


def _pair(reference: ArrayLike, estimate: ArrayLike) -> tuple[Floats, Floats]:
    """Reference and estimate in double precision, checked to have the same shape."""
    reference, estimate = np.asarray(reference, dtype=np.float64), np.asarray(estimate, dtype=np.float64)
    if reference.shape != estimate.shape:
        raise ValueError(f"Both must have the same shape, not {reference.shape} and {estimate.shape}.")
    return reference, estimate


def _centre(trace: Floats, axis: Axis) -> tuple[Floats, NDArray[np.bool_]]:
    """Traces without their mean and of unit norm, and whether they are constant (to rounding)."""
    centred = trace - trace.mean(axis, keepdims=True)
    norm = np.sqrt((centred**2).sum(axis, keepdims=True))
    flat = norm <= 1e-12 * np.sqrt((trace**2).sum(axis, keepdims=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        return centred / norm, flat.squeeze(axis)
