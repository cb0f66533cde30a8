"""The input SNR of mixtures by its definition, which is what the tests compare with."""

import numpy as np


def mixture_snr_db(clean, noise, onset, sampling_rate=100):
    """
    Mean power of the earthquake in the 10 s from P on, or in the part of them within the window, over that of the noise
    in the whole window, in dB; over all components together.

    :param clean: Earthquakes, (..., component, samples), in band
    :param noise: Noise in the same shape
    :param onset: Sample of the P onset, one number or (...)
    """
    clean, noise, onset = np.float64(clean), np.float64(noise), np.asarray(onset)[..., None, None]
    time = np.arange(clean.shape[-1])
    inside = np.broadcast_to((time >= onset) & (time < onset + 10 * sampling_rate), clean.shape)
    signal = (clean**2).sum((-2, -1), where=inside) / inside.sum((-2, -1))
    return 10 * np.log10(signal / (noise**2).mean((-2, -1)))
