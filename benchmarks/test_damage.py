"""What does the careful ``denoise`` buy over SeisBench's own ``annotate``? Continuous streams, whole and damaged.

A stream is ten minutes of three components: recorded earthquakes of the mixtures that end within their window, one
after the other, each with its noise, on a microseism as raw broadband records have it. Both are compared with the
earthquakes in the model's band.
"""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from obspy import Stream, Trace, UTCDateTime
from scipy.signal import resample_poly

import seisbench_cdiffsd

RATE, START = 100, UTCDateTime(2020, 1, 1)
#: Windows of mixtures in a stream.
COUNT = 20
#: Samples by which the borders of mixtures are moved, a stream for each: where windows lie decides by half a decibel.
SHIFTS = (411, 1234, 1977, 2702)
#: Power in the last 5 s of an earthquake, of that in its strongest 5 s, below which it has ended, and samples in which
#: it then fades out: earthquakes that stop at once look like others reversed in time, which models take for noise.
ENDED, FALL = 0.04, 300
#: Amplitude of the microseism, in rms of the noise.
MICROSEISM = 30.0


def to_stream(values, rate=RATE):
    header = {"network": "XX", "station": "STA", "sampling_rate": rate, "starttime": START}
    return Stream(Trace(x.copy(), {**header, "channel": f"HH{c}"}) for c, x in zip("ZNE", values, strict=False))


def gaps(values, fill):
    """Three seconds are missing, or `fill`, in each minute."""
    return np.where(np.arange(values.shape[-1]) % 6000 >= 5700, fill, values)


def pieces(values, seconds):
    """Records of so many seconds, such as those of triggered stations, with as much time between them."""
    stream, starts = to_stream(values), np.arange(0, values.shape[-1] / RATE, 2 * seconds)
    return Stream(part for s in starts for part in stream.slice(START + s, START + s + seconds - 1 / RATE))


def without_vertical(values):
    """The vertical component is missing for a minute and a half of each three."""
    values[0, np.arange(values.shape[-1]) % 18_000 >= 9000] = np.nan
    return to_stream(values)


def spikes(values):
    for number, component in enumerate(values):
        component[1000 + 997 * number :: 6000] += 300 * np.abs(component).max()
    return to_stream(values)


DAMAGE = {
    "none": to_stream,
    "gaps of 3 s": lambda noisy: to_stream(gaps(noisy, np.nan)),
    "gaps of 3 s filled with zeros": lambda noisy: to_stream(gaps(noisy, 0.0)),
    "62.5 Hz": lambda noisy: to_stream(resample_poly(noisy, 5, 8, axis=-1, padtype="line"), 62.5),
    "250 Hz": lambda noisy: to_stream(resample_poly(noisy, 5, 2, axis=-1, padtype="line"), 250),
    "records of 9 s": lambda noisy: pieces(noisy, 9),
    "records of 40 s": lambda noisy: pieces(noisy, 40),
    "spikes": spikes,
    "Z missing for 90 s": without_vertical,
    "two components": lambda noisy: to_stream(noisy[:2]),
    "Z alone": lambda noisy: to_stream(noisy[:1]),
}


@pytest.fixture(scope="module")
def parts(data):
    """Earthquakes and noise of a stream, (component, samples)."""
    mixtures = data.mixtures["window"]
    power = np.square(mixtures.clean).mean(1).reshape(len(mixtures.clean), -1, 5 * RATE).mean(-1)
    ended = np.flatnonzero(power[:, -1] < ENDED * power.max(1))
    if not len(ended):
        pytest.skip("no earthquake ends within its window")
    chosen = np.random.default_rng(0).permutation(ended)[:COUNT]
    fall = np.sin(np.pi / 2 * np.clip(np.arange(mixtures.clean.shape[-1])[::-1] / FALL, 0, 1)) ** 2
    level = mixtures.noise[chosen].std(axis=(-2, -1), keepdims=True)  # the noise of a stream is equally loud all along
    parts = (mixtures.clean[chosen] * fall, mixtures.noise[chosen])
    joined = (np.concatenate(list(x / level), axis=-1) for x in parts)
    clean, noise = (x.astype(float) for x in joined)
    time = np.arange(clean.shape[-1]) / RATE
    swell = sum(np.sin(2 * np.pi * f * time + p) for f, p in ((0.14, 0.3), (0.17, 2.1), (0.21, 4.0)))
    return clean, noise + MICROSEISM * swell * (1 + 0.3 * np.sin(time / 40))


def samples(trace):
    return np.ma.filled(trace.data.astype(float), np.nan)


def score(found, clean, expected):
    """SDR in dB where there are samples, and the share of the samples of the input that came back."""
    signal = error = 0.0
    for trace in found:
        ratio, truth = Fraction(trace.stats.sampling_rate / RATE), clean["ZNE".index(trace.stats.channel[-1])]
        truth = truth if ratio == 1 else resample_poly(truth, ratio.numerator, ratio.denominator, padtype="line")
        first = round((trace.stats.starttime - START) * trace.stats.sampling_rate)
        wanted = truth[first : first + len(trace)]
        signal += np.nansum(wanted[np.isfinite(samples(trace))] ** 2)
        error += np.nansum((samples(trace) - wanted) ** 2)
    seconds = [sum(np.isfinite(samples(x)).sum() * x.stats.delta for x in stream) for stream in (found, expected)]
    return 10 * np.log10(signal / error), seconds[0] / seconds[1]


@pytest.mark.parametrize("name", DAMAGE)
def test_denoise_against_annotate(name, parts, report):
    model = seisbench_cdiffsd.CDiffSD.from_pretrained()
    scores = []
    for shift in SHIFTS:
        clean, noise = (np.roll(x, shift, axis=-1) for x in parts)
        damaged = DAMAGE[name](clean + noise)
        clean = gaps(clean, np.nan) if "gaps" in name else clean  # which do not count
        whole = Stream(Trace(np.ma.masked_invalid(x.data), x.stats) for x in damaged).split()
        annotations = model.annotate(whole, dry=0.0)
        usual = score(annotations, clean, damaged) if annotations else (np.nan, 0.0)
        scores.append((*score(seisbench_cdiffsd.denoise(damaged, model, dry=0.0), clean, damaged), *usual))
    careful, coverage, usual, returned = np.mean(scores, axis=0)
    row = {"denoise: SDR (dB)": careful, "annotate: SDR (dB)": usual, "annotate returns (%)": 100 * returned}
    report.tables["damage"] = pd.concat([report.tables.get("damage"), pd.DataFrame([{"damage": name, **row}]).round(2)])
    assert coverage == pytest.approx(1, abs=1e-3)
    assert not careful < usual - 0.5
