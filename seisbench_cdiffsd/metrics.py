"""Metrics of denoising and of picking.

The reference (clean) comes first and the estimate second; the last axis is time and all leading axes are kept: records
(..., samples) give values (...). To judge several components together, pass ``axis=(-2, -1)``. Everything is computed
in double precision. Waveforms are taken as they are: filter reference and estimate alike beforehand.

A ratio of something to nothing is infinite, of nothing to nothing NaN, and NaN samples give NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

Axis = int | tuple[int, ...]
Floats = NDArray[np.float64]

#: Seconds after P over which the power of an earthquake is taken.
SIGNAL_SECONDS = 10.0


def snr_db(trace: ArrayLike, onset: ArrayLike) -> Floats:
    """
    Signal-to-noise ratio of a trace: mean power from the onset on over mean power before it.

    :param trace: Traces, (..., samples)
    :param onset: Sample of the P onset, one number or (...)
    :return: SNR in dB, (...); NaN where one of the two parts is empty
    """
    trace = np.asarray(trace, dtype=np.float64)
    samples = trace.shape[-1]
    onset = np.asarray(onset)[..., None]
    signal = np.arange(samples) >= onset
    return _decibel(_mean_square(trace, signal), _mean_square(trace, ~signal))


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
    return _decibel((reference**2).sum(axis), ((reference - estimate) ** 2).sum(axis))


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


def amplitude_ratio(reference: ArrayLike, estimate: ArrayLike, axis: Axis = -1) -> Floats:
    """
    Peak amplitude of the estimate over that of the reference; its log10 is an error of magnitude.

    :param reference: Clean traces, (..., samples)
    :param estimate: Estimates of the same shape
    :param axis: Axis or axes to take together
    :return: Ratio, 1 where the amplitude is right
    :raises ValueError: If the shapes differ
    """
    reference, estimate = _pair(reference, estimate)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.abs(estimate).max(axis) / np.abs(reference).max(axis)


def suppression_db(noise: ArrayLike, output: ArrayLike, axis: Axis = -1) -> Floats:
    """
    Suppression of noise without an earthquake: ``20 log10(rms in / rms out)``.

    :param noise: Noise as recorded, (..., samples)
    :param output: What a denoiser left of it, in the same shape
    :param axis: Axis or axes to take together
    :return: Suppression in dB: inf where nothing is left
    :raises ValueError: If the shapes differ
    """
    noise, output = _pair(noise, output)
    return _decibel((noise**2).sum(axis), (output**2).sum(axis))


def match_picks(picks: ArrayLike, labels: ArrayLike, tolerance: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """
    Pair picks with labels, each pick with at most one label.

    The pairs are as many as possible and, among these, those with the smallest sum of absolute residuals.

    :param picks: Times of the picks of one phase on one record, in seconds, in any order
    :param labels: Times of the labels
    :param tolerance: Largest absolute residual of a pair in seconds, itself included (to a microsecond)
    :return: Indices into `picks` and into `labels`, pair by pair, in order of the picks' times
    :raises ValueError: If a time is not finite or the tolerance is negative
    """
    picks, labels = np.asarray(picks, dtype=np.float64).ravel(), np.asarray(labels, dtype=np.float64).ravel()
    if not (np.isfinite(picks).all() and np.isfinite(labels).all()):
        raise ValueError("Times of picks and labels must be finite: drop missing ones first.")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be a number of seconds, at least 0, not {tolerance!r}.")
    error = np.abs(picks[:, None] - labels)
    near = error <= tolerance + 1e-6
    missed = (tolerance + 1) * (min(error.shape) + 1)  # costs more than all pairs together
    i, j = linear_sum_assignment(np.where(near, error, missed))
    i, j = i[near[i, j]], j[near[i, j]]
    order = np.argsort(picks[i], kind="stable")
    return i[order], j[order]


def _pair(reference: ArrayLike, estimate: ArrayLike) -> tuple[Floats, Floats]:
    """Reference and estimate in double precision, checked to have the same shape."""
    reference, estimate = np.asarray(reference, dtype=np.float64), np.asarray(estimate, dtype=np.float64)
    if reference.shape != estimate.shape:
        raise ValueError(f"Both must have the same shape, not {reference.shape} and {estimate.shape}.")
    return reference, estimate


def _mean_square(trace: Floats, where: NDArray[np.bool_]) -> Floats:
    """Mean square over the samples of a mask, (...); NaN where the mask is empty."""
    trace, where = np.broadcast_arrays(trace, where)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (trace**2).sum(-1, where=where) / where.sum(-1)


def _decibel(power: Floats, reference: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return 10 * np.log10(power / reference)


def _centre(trace: Floats, axis: Axis) -> tuple[Floats, NDArray[np.bool_]]:
    """Traces without their mean and of unit norm, and whether they are constant (to rounding)."""
    centred = trace - trace.mean(axis, keepdims=True)
    norm = np.sqrt((centred**2).sum(axis, keepdims=True))
    flat = norm <= 1e-12 * np.sqrt((trace**2).sum(axis, keepdims=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        return centred / norm, flat.squeeze(axis)
