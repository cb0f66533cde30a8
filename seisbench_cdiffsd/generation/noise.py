"""Seismic noise of a kind of station, between the models of Peterson (1993, USGS Open-File Report 93-322)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from obspy.signal.spectral_estimation import get_nhnm, get_nlnm
from scipy.fft import irfft, rfftfreq
from scipy.ndimage import gaussian_filter1d

Values = NDArray[np.float64]
#: Where between the low-noise (0) and the high-noise model (1) a kind of station is, at some frequencies in Hz, and
#: how much its noise above 1 Hz rises and falls: the standard deviation of the logarithm of its envelope.
KNOTS = (0.1, 0.3, 1, 3, 10, 40)
KINDS = {
    "quiet": ((0.35, 0.35, 0.25, 0.25, 0.25, 0.2), 0.1),
    "ordinary": ((0.5, 0.5, 0.5, 0.5, 0.5, 0.45), 0.15),
    "city": ((0.5, 0.5, 0.7, 0.85, 0.9, 0.8), 0.35),
    "wind": ((0.5, 0.5, 0.6, 0.7, 0.75, 0.75), 0.45),
    "sea": ((0.8, 1.0, 0.8, 0.55, 0.5, 0.45), 0.15),
}
#: Frequency in Hz below which there is no more noise than at it: that of a broadband seismometer.
LOWEST = 0.01
#: Noise of instruments themselves in dB of 1 (m/s^2)^2/Hz.
SELF_NOISE = {"broadband": -175.0, "short-period": -160.0, "accelerometer": -130.0}


def station_noise(
    random: np.random.Generator, kind: str, loud: float, instrument: str, rate: float, samples: int
) -> Values:
    """
    Ground velocity in m/s, (3, samples), at a kind of station, of :py:data:`KINDS`, and what its instrument adds.

    :param loud: 1 for a noisy hour there, -1 for a quiet one, 6 dB each above 1 Hz
    """
    weights, swing = KINDS[kind]
    length = samples + round(20 * rate)  # more, as its ends meet
    frequencies = np.maximum(rfftfreq(length, 1 / rate), LOWEST)
    low, high = (np.interp(1 / frequencies, x[0][::-1], x[1][::-1]) for x in (get_nlnm(), get_nhnm()))
    tilted = np.asarray(weights) + random.normal(0, 0.06, len(weights))
    decibels = low + np.interp(np.log(frequencies), np.log(KNOTS), tilted) * (high - low)
    decibels += (6 * loud + random.normal(0, 2)) * np.clip(np.log2(frequencies) + 1, 0, 1)
    power = 10 ** (decibels / 10) + 10 ** (SELF_NOISE[instrument] / 10)
    amplitudes = np.sqrt(power * rate * length / 2) / (2 * np.pi * frequencies)  # of acceleration, and of velocity
    white = random.standard_normal((2, 3, len(frequencies))) / np.sqrt(2)
    spectrum = (white[0] + 1j * white[1]) * amplitudes
    slow = frequencies < 1
    spectrum[:, 0] = 0
    steady, moving = (irfft(spectrum * part, length)[:, :samples] for part in (slow, ~slow))
    smooth = gaussian_filter1d(random.standard_normal(length), 2 * rate, mode="wrap")[:samples]
    envelope = np.exp(swing * smooth / max(np.std(smooth), 1e-12))
    seconds = np.arange(samples) / rate
    if kind == "city":  # what passes by, and machines
        for start in random.uniform(0, samples / rate, random.poisson(samples / rate / 40)):
            envelope += random.uniform(0.5, 2.5) * np.exp(-0.5 * ((seconds - start) / random.uniform(1, 4)) ** 2)
        size = np.std(moving, axis=1, keepdims=True)
        for line in random.uniform(5, min(30, 0.4 * rate), random.integers(0, 3)):
            phases = random.uniform(0, 2 * np.pi, (3, 1))
            moving = moving + random.uniform(0.1, 0.5) * size * np.sin(2 * np.pi * line * seconds + phases)
    return steady + envelope / np.sqrt(np.mean(envelope**2)) * moving
