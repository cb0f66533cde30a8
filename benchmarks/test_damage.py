"""What does the careful ``denoise`` buy over SeisBench's own ``annotate``? Continuous streams, whole and damaged.

A stream is ten minutes of three components: recorded earthquakes of the mixtures, one after the other, each with its
noise, on a microseism as raw broadband records have it. Both are compared with the earthquakes in the model's band.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from obspy import Stream, Trace, UTCDateTime
from scipy.signal import resample_poly

import seisbench_cdiffsd

RATE, START = 100, UTCDateTime(2020, 1, 1)
#: Windows of mixtures in a stream.
COUNT = 20
#: Samples by which the borders of mixtures are moved, so that no window of a model fits between two of them.
SHIFT = 1234
#: Amplitude of the microseism, in rms of the noise.
MICROSEISM = 30.0


#: Samples that are missing in streams with gaps; they do not count there.
MISSING = np.arange(COUNT * 30 * RATE) % 6000 >= 5700


def to_stream(values: np.ndarray, rate: float = RATE) -> Stream:
    header = {"network": "XX", "station": "STA", "sampling_rate": rate, "starttime": START}
    return Stream([Trace(x.copy(), {**header, "channel": f"HH{c}"}) for c, x in zip("ZNE", values, strict=True)])


def gaps(noisy: Stream, value: float) -> Stream:
    """Three seconds are missing, or `value`, in each minute."""
    for trace in noisy:
        trace.data[MISSING] = value
    return noisy


def at_rate(noisy: Stream, rate: float) -> Stream:
    up, down = (5, 2) if rate == 250 else (5, 8)
    return to_stream(np.stack([resample_poly(trace.data, up, down, padtype="line") for trace in noisy]), rate)


def pieces(noisy: Stream, seconds: float) -> Stream:
    """Records of so many seconds, such as those of triggered stations, with as much time between them."""
    starts = np.arange(0, COUNT * 30, 2 * seconds)
    return Stream(part for s in starts for part in noisy.slice(START + s, START + s + seconds - 1 / RATE))


def without_vertical(noisy: Stream) -> Stream:
    """The vertical component is missing for a minute and a half of each three."""
    noisy[0].data[np.arange(len(noisy[0])) % 18_000 >= 9000] = np.nan
    return noisy


def spikes(noisy: Stream) -> Stream:
    for number, trace in enumerate(noisy):
        trace.data[1000 + 997 * number :: 6000] += 300 * np.abs(trace.data).max()
    return noisy


DAMAGE: dict[str, Callable[[Stream], Stream]] = {
    "none": lambda noisy: noisy,
    "gaps of 3 s": lambda noisy: gaps(noisy, np.nan),
    "gaps of 3 s filled with zeros": lambda noisy: gaps(noisy, 0.0),
    "62.5 Hz": lambda noisy: at_rate(noisy, 62.5),
    "250 Hz": lambda noisy: at_rate(noisy, 250),
    "records of 9 s": lambda noisy: pieces(noisy, 9),
    "records of 40 s": lambda noisy: pieces(noisy, 40),
    "spikes": spikes,
    "Z missing for 90 s": without_vertical,
    "two components": lambda noisy: noisy[:2],
    "Z alone": lambda noisy: noisy[:1],
}


@pytest.fixture(scope="module")
def parts(data):
    """Earthquakes and noise of a stream, (component, samples)."""
    mixtures = data.mixtures["window"]
    chosen = np.random.default_rng(0).permutation(len(mixtures.clean))[:COUNT]
    level = mixtures.noise[chosen].std(axis=(-2, -1), keepdims=True)  # the noise of a stream is equally loud all along
    joined = (np.concatenate(list(x[chosen] / level), axis=-1) for x in (mixtures.clean, mixtures.noise))
    clean, noise = (np.roll(x.astype(float), SHIFT, axis=-1) for x in joined)
    time = np.arange(clean.shape[-1]) / RATE
    swell = sum(np.sin(2 * np.pi * f * time + p) for f, p in ((0.14, 0.3), (0.17, 2.1), (0.21, 4.0)))
    return clean, noise + MICROSEISM * swell * (1 + 0.3 * np.sin(time / 40))


def score(found: Stream, clean: np.ndarray, expected: Stream, holes: bool) -> tuple[float, float]:
    """SDR in dB where there are samples, and the share of the samples of the input that came back."""
    truth = {f"HH{c}": x for c, x in zip("ZNE", clean, strict=True)}
    signal = error = 0.0
    for trace in found:
        reference = truth[trace.stats.channel.removeprefix("CDiffSD_")]
        at = (trace.stats.starttime - START + np.arange(len(trace)) / trace.stats.sampling_rate) * RATE
        if trace.stats.sampling_rate == RATE:
            wanted = reference[np.clip(np.round(at).astype(int), 0, len(reference) - 1)]
        else:
            wanted = np.interp(at, np.arange(len(reference)), reference)
        values = np.ma.filled(np.ma.asarray(trace.data, dtype=float), np.nan)
        there = np.isfinite(values) & ~(holes & MISSING[np.clip(np.round(at).astype(int), 0, len(MISSING) - 1)])
        signal += np.sum(wanted[there] ** 2)
        error += np.sum((values - wanted)[there] ** 2)
    seconds = [
        sum(np.isfinite(np.ma.filled(x.data.astype(float), np.nan)).sum() / x.stats.sampling_rate for x in stream)
        for stream in (found, expected)
    ]
    return 10 * np.log10(signal / error), seconds[0] / seconds[1]


@pytest.mark.parametrize("name", DAMAGE)
def test_denoise_against_annotate(name, parts, report):
    clean, noise = parts
    model = seisbench_cdiffsd.CDiffSD.from_pretrained()
    damaged = DAMAGE[name](to_stream(clean + noise))
    careful, coverage = score(
        seisbench_cdiffsd.denoise(damaged, model, purpose="waveforms"), clean, damaged, "gaps" in name
    )
    parts = Stream(Trace(np.ma.masked_invalid(x.data), x.stats) for x in damaged).split()
    annotations = model.annotate(parts, dry=0.0)
    usual, returned = score(annotations, clean, damaged, "gaps" in name) if annotations else (np.nan, 0.0)
    row = {"denoise: SDR (dB)": careful, "annotate: SDR (dB)": usual, "annotate returns (%)": 100 * returned}
    report.tables["damage"] = pd.concat([report.tables.get("damage"), pd.DataFrame([{"damage": name, **row}]).round(2)])
    assert coverage == pytest.approx(1, abs=1e-3)
    assert not careful < usual - 0.3
