"""A noisy record to try a denoiser on, made of what ObsPy brings along."""

import numpy as np
import obspy
from obspy import Stream

#: Seconds of ObsPy's example before P, and of the record before and after it.
BEFORE_P, LEAD, TRAIL = 4.5, 20.0, 10.0


def noisy_example(share: float = 1.3, seed: int = 0) -> Stream:
    """
    ObsPy's example earthquake in a minute of noise that has the spectrum of its own noise before P.

    :param share: Largest amplitude of the noise from 1 to 45 Hz, in largest amplitudes of the earthquake
    :param seed: Seed of the noise
    :return: Three components at 100 Hz
    """
    random, example = np.random.default_rng(seed), obspy.read().detrend("constant")
    rate, samples = example[0].stats.sampling_rate, example[0].stats.npts
    lead, length = round(LEAD * rate), samples + round((LEAD + TRAIL) * rate)
    clean = example.copy().filter("bandpass", freqmin=1, freqmax=45, zerophase=True)
    peak = max(abs(trace.data).max() for trace in clean)
    noises = []
    for trace in clean:
        quiet = trace.data[: round(BEFORE_P * rate)]
        spectrum = np.abs(np.fft.rfft(quiet * np.hanning(len(quiet))))
        frequency = np.fft.rfftfreq(length, 1 / rate)
        gain = np.interp(frequency, np.fft.rfftfreq(len(quiet), 1 / rate), spectrum)
        noises.append(np.fft.irfft(np.fft.rfft(random.standard_normal(length)) * gain, length))
    factor = share * peak / max(abs(noise).max() for noise in noises)
    for trace, noise in zip(example, noises, strict=True):
        rise = np.clip(np.arange(samples) / rate, 0, 1) * np.clip(np.arange(samples)[::-1] / rate, 0, 1)
        noise[lead : lead + samples] += trace.data * rise / factor
        trace.data = factor * noise
        trace.stats.starttime -= LEAD
    return example
