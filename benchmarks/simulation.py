"""Simulated local earthquakes: no two alike, none seen in any training, and silent before P.

``python benchmarks/simulation.py FOLDER --count 12000`` writes a dataset in SeisBench's format, to train on beside
recorded earthquakes: as a second ``[[events]]`` of ``cdiffsd train``.

A record is the sum of what travels as P and as S: arrivals along rays and scattered energy behind them, each shaped by
the spectrum of a source, of its path and of the site. What is random has the spread of recorded earthquakes: S - P
times, corner frequencies, attenuation, ratios of S to P, weak first arrivals, codas, incidence and resonances.
Frequencies below about 1 Hz, finite faults and the Earth's layers are left out.

- source: Brune, J. N. (1970), Tectonic stress and the spectra of seismic shear waves from earthquakes, JGR 75, 4997;
- path, site and noise as their phases: Boore, D. M. (2003), Simulation of ground motion using the stochastic method,
  Pure Appl. Geophys. 160, 635;
- coda: Aki, K. and Chouet, B. (1975), Origin of coda waves, JGR 80, 3322; its rise, Sato, H. (1989), JGR 94, 17735.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import seisbench.data as sbd
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

from seisbench_cdiffsd.data.augmentations import P_KEY, RATE_KEY, S_KEY, Array
from seisbench_cdiffsd.streams.filtering import BAND, SAMPLING_RATE

Values = NDArray[np.float64]
Spectrum = NDArray[np.complex128]
Random = np.random.Generator

#: Samples before P and from P on; a window of 30 s may begin long before P or in the coda.
BEFORE, AFTER = 2750, 5950
#: Shortest and longest S - P time in seconds.
S_MINUS_P = 0.5, 28.0
#: Ratio of the rms of the digitiser's noise to the largest amplitude: what no record is without.
QUIET = 1e-5

TIMES = np.arange(AFTER) / SAMPLING_RATE
LENGTH = next_fast_len(AFTER + 2000, real=True)
FREQUENCIES = rfftfreq(LENGTH, 1 / SAMPLING_RATE)
OCTAVES = np.log2(np.maximum(FREQUENCIES, 0.25))
#: Centres of the octaves, in Hz, in each of which the coda decays in its own time; and gains that add up to one.
CENTRES = 2.0 ** np.arange(6)
BANK = np.clip(1 - np.abs(np.clip(OCTAVES, 0, 5) - np.log2(CENTRES)[:, None]), 0, 1)


def write_simulated(folder: str | Path, count: int, seed: int = 0) -> None:
    """
    Write a dataset of simulated earthquakes, of 104 kB each, all of them in the split train; it replaces another.
    The first records of a larger dataset with the same seed are the same.

    :raises ValueError: If `count` is not positive
    """
    if count < 1:
        raise ValueError(f"The number of simulated earthquakes must be positive, not {count}.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kind = {"trace_p_status": "simulated", "trace_s_status": "simulated", "split": "train"}
    kind |= {"trace_source": "simulated", "trace_category": "earthquake_local"}
    with TemporaryDirectory(dir=folder, prefix=".part") as part:
        files = [Path(part, name) for name in ("waveforms.hdf5", "metadata.csv")]
        with sbd.WaveformDataWriter(*files[::-1]) as writer:
            writer.data_format = {"dimension_order": "CW", "component_order": "ZNE", "sampling_rate": SAMPLING_RATE}
            for number in range(count):
                waveform, s = simulate(np.random.default_rng((seed, number)))
                labels = {RATE_KEY: SAMPLING_RATE, P_KEY: BEFORE, S_KEY: s}
                writer.add_trace({"source_id": f"simulated{number}", **labels, **kind}, waveform)
        for file in files:
            file.replace(folder / file.name)


def simulate(random: Random) -> tuple[Array, float]:
    """
    An earthquake, drawn from `random`: its record, (3, samples) in ZNE order at 100 Hz, with a largest amplitude of 1,
    and the sample of the S onset; P is at `BEFORE`.
    """
    path = _Path.draw(random)
    p_response, s_response = _responses(random, path)
    azimuth = random.uniform(0, 2 * np.pi)
    p_rays, s_rays = _rays_of_p(random, azimuth), _rays_of_s(random, azimuth)
    strength = _lognormal(random, 1.9 + 0.12 * path.s_minus_p, 0.6)  # of S, that of P being 1
    sparsity = random.uniform(0, 0.8)  # more would look like glitches
    p_wave = _p_wave(random, path, p_rays, sparsity)
    s_wave = _s_wave(random, path, s_rays, strength, 0.7 * sparsity)
    spectrum = p_wave * p_response + s_wave * s_response
    if random.random() < 0.2:
        spectrum += _surface_wave(random, path, azimuth, strength)
    shaking = irfft(spectrum, LENGTH)[:, :AFTER]
    waveform = np.concatenate([np.zeros((3, BEFORE)), shaking / np.abs(shaking).max()], axis=1)
    waveform += QUIET * random.standard_normal(waveform.shape)
    return waveform.astype(np.float32), BEFORE + path.s_minus_p * SAMPLING_RATE


class _Path(NamedTuple):
    """From the source to the station: times in seconds, and attenuation 1/Q = 1 / (q * f**exponent)."""

    s_minus_p: float
    p_time: float
    s_time: float
    q: float
    exponent: float

    @classmethod
    def draw(cls, random: Random) -> _Path:
        s_minus_p = float(np.exp(random.uniform(*np.log(S_MINUS_P))))
        p_time = s_minus_p / (random.uniform(1.65, 1.85) - 1)  # from the ratio of the speeds of P and S
        return cls(s_minus_p, p_time, p_time + s_minus_p, _lognormal(random, 120, 0.5), random.uniform(0.4, 0.9))


def _responses(random: Random, path: _Path) -> tuple[Spectrum, Spectrum]:
    """Responses of P and S, (component, frequency): minimum-phase, so that nothing precedes an arrival."""
    # distant earthquakes that are recorded well are larger ones
    corner = float(np.clip(_lognormal(random, 20 * path.s_minus_p**-0.45, 0.6), 0.8, 35))
    near_surface = _lognormal(random, 0.015, 0.6)  # kappa, in seconds
    slope = 2 if random.random() < 0.2 else 1  # acceleration or velocity
    p_source = _spectrum(random, corner * random.uniform(1, 1.6), slope)
    s_source = _spectrum(random, corner, slope)
    p_lost = path.p_time / path.q, near_surface * random.uniform(0.4, 1)
    s_lost = path.s_time / (path.q * random.uniform(0.6, 1.2)), near_surface
    vertical, horizontal = (_site(random, 3, random.poisson(0.7)) for _ in range(2))
    site = np.stack([vertical, horizontal * _site(random, 1), horizontal * _site(random, 1)])
    p, s = (
        source * np.exp(-np.pi * FREQUENCIES * (along * np.maximum(FREQUENCIES, 1) ** -path.exponent + kappa))
        for source, (along, kappa) in ((p_source, p_lost), (s_source, s_lost))
    )
    return _minimum_phase(_unit(p) * site), _minimum_phase(_unit(s) * site)


def _spectrum(random: Random, corner: float, slope: int) -> Values:
    """Amplitudes of a source of a corner frequency in Hz (Brune, 1970), with a fall-off that varies."""
    return FREQUENCIES**slope / (1 + (FREQUENCIES / corner) ** random.uniform(1.8, 2.4))


def _unit(amplitudes: Values) -> Values:
    """Amplitudes whose mean square, as far as it is in the band of the models, is one."""
    inside = (BAND["freqmin"] < FREQUENCIES) & (BAND["freqmax"] > FREQUENCIES)
    return amplitudes / np.sqrt(np.mean(np.where(inside, amplitudes, 0) ** 2))


def _site(random: Random, decibels: float, resonances: int = 0) -> Values:
    """Gain of a site: smooth over the logarithm of frequency, with some resonances."""
    knots = np.arange(-1, 7)
    gain = np.interp(OCTAVES, knots, random.normal(0, decibels, len(knots)))
    for _ in range(resonances):
        distance = (OCTAVES - random.uniform(0, 4.5)) / random.uniform(0.1, 0.3)
        gain += random.uniform(3, 12) * np.exp(-0.5 * distance**2)
    return 10 ** (gain / 20)


def _minimum_phase(amplitudes: Values) -> Spectrum:
    """The causal response with these amplitudes whose energy comes earliest, by its cepstrum."""
    floor = 1e-3 * amplitudes.max(axis=-1, keepdims=True)
    cepstrum = irfft(np.log(np.maximum(amplitudes, floor)), LENGTH)
    cepstrum[..., 1 : (LENGTH + 1) // 2] *= 2
    cepstrum[..., LENGTH // 2 + 1 :] = 0
    return np.exp(rfft(cepstrum))


class _Rays(NamedTuple):
    """Directions of motion, each (3,) as Z, N, E: of a direct arrival, and of what is converted on its way."""

    direct: Values
    converted: Values


def _rays_of_p(random: Random, azimuth: float) -> _Rays:
    incidence = np.deg2rad(random.uniform(3, 55))
    along, across = np.cos(incidence), np.sin(incidence)
    return _Rays(_turned(along, across, 0.0, azimuth), _turned(across, along, random.normal(0, 0.3), azimuth))


def _rays_of_s(random: Random, azimuth: float) -> _Rays:
    incidence, plane = np.deg2rad(random.uniform(2, 40)), random.uniform(0, 2 * np.pi)
    radial, transverse = np.cos(plane), np.sin(plane)
    direct = _turned(np.sin(incidence) * radial, np.cos(incidence) * radial, transverse, azimuth)
    return _Rays(direct, _turned(0.3, random.normal(), random.normal(), azimuth))


def _turned(vertical: float, radial: float, transverse: float, azimuth: float) -> Values:
    """A motion as Z, N, E."""
    cosine, sine = np.cos(azimuth), np.sin(azimuth)
    return np.array([vertical, radial * cosine - transverse * sine, radial * sine + transverse * cosine])


def _p_wave(random: Random, path: _Path, rays: _Rays, sparsity: float) -> Spectrum:
    """What travels as P, before source, path and site: spectrum (component, frequency)."""
    s_minus_p, far = path.s_minus_p, path.s_minus_p > 10
    spikes, spread = np.zeros((3, AFTER)), 0.25 + 0.08 * s_minus_p
    if random.random() < 0.25 + 0.35 * far:  # a weak first arrival: a head wave, or near a node of radiation
        _arrive(random, spikes, 0, random.uniform(0.08, 0.5), rays, spread, 3)
        later = min(random.uniform(0.15, 0.4 + 0.12 * s_minus_p), 0.6 * s_minus_p)
        turned = _Rays(rays.direct * random.choice([-1, 1]), rays.converted)
        _arrive(random, spikes, later, 1.0, turned, spread, 3)
    else:
        _arrive(random, spikes, 0, 1.0, rays, spread, 3)
    decay, rise = _lognormal(random, 0.5 + 0.9 * s_minus_p, 0.5), 0.03 + 0.02 * s_minus_p * random.random()
    envelope = _lognormal(random, 0.17, 0.5) * -np.expm1(-TIMES / rise) * np.exp(-TIMES / decay)
    share = np.array([1.0, *random.uniform(0.4, 1, 2)])
    return rfft(spikes + share[:, None] * envelope * _scattered(random, sparsity), LENGTH)


def _s_wave(random: Random, path: _Path, rays: _Rays, strength: float, sparsity: float) -> Spectrum:
    """What travels as S, likewise. Its coda decays with the time since the source, faster at high frequencies."""
    s_minus_p, far = path.s_minus_p, path.s_minus_p > 10
    spikes = np.zeros((3, AFTER))
    _arrive(random, spikes, s_minus_p, strength, rays, 0.3 + 0.06 * s_minus_p, 4)
    if random.random() < 0.3 + 0.3 * far:  # converted from S to P below the station, or the head wave of S
        converted = _Rays(random.normal(size=3), rays.direct)
        before = random.uniform(0.05, 0.2) * s_minus_p
        _arrive(random, spikes, s_minus_p - before, strength * random.uniform(0.1, 0.4), converted, 0.3, 2)
    since, started = np.maximum(TIMES - s_minus_p, 0), s_minus_p <= TIMES
    rise = 0.04 + 0.04 * s_minus_p * random.random()
    peak = 0.05 + s_minus_p * random.uniform(0.02, 0.05 + 0.02 * min(s_minus_p, 10))
    spreading = ((TIMES + path.p_time) / path.s_time) ** -random.uniform(0.5, 2)  # Aki and Chouet (1975)
    coda = _lognormal(random, 0.13, 0.5) * -np.expm1(-since / rise) * spreading
    forward = _lognormal(random, 0.12, 0.5) * since / peak * np.exp(1 - since / peak)
    envelope = strength * started * (coda + forward)
    share = np.array([random.uniform(0.4, 1), 1.0, random.uniform(0.7, 1.3)])
    scattered = share[:, None] * _scattered(random, sparsity)
    spectrum = rfft(spikes, LENGTH)
    coda_q = _lognormal(random, 100, 0.5) * CENTRES ** random.uniform(0.5, 1)
    for centre, q, octave in zip(CENTRES, coda_q, BANK, strict=True):
        spectrum += octave * rfft(envelope * np.exp(-np.pi * centre * since / q) * scattered, LENGTH)
    return spectrum


def _arrive(random: Random, spikes: Values, start: float, amplitude: float, rays: _Rays, spread: float, count: float):
    """Add a direct arrival at a time in seconds after P, and some weaker ones in the seconds, `spread`, behind it."""
    first = int(start * SAMPLING_RATE)
    spikes[:, first] += amplitude * rays.direct
    for delay in random.exponential(spread, random.poisson(count)):
        sample = first + 1 + int(delay * SAMPLING_RATE)
        if sample < AFTER:
            mixed = random.uniform(0, 0.6)
            motion = (1 - mixed) * rays.direct + mixed * random.choice([-1, 1]) * rays.converted
            motion += random.normal(0, 0.2, 3)
            weaker = random.choice([-1, 1]) * _lognormal(random, 0.45, 0.5) * np.exp(-0.7 * delay / spread)
            spikes[:, sample] += amplitude * weaker * motion


def _scattered(random: Random, sparsity: float) -> Values:
    """White noise of unit variance, (component, samples); sparse if `sparsity` is far above zero, as codas are."""
    gate = np.exp(random.normal(0, sparsity, (3, AFTER)))
    return random.standard_normal((3, AFTER)) * gate / np.sqrt(np.mean(gate**2))


def _surface_wave(random: Random, path: _Path, azimuth: float, strength: float) -> Spectrum:
    """A dispersed Rayleigh wave of a shallow source, after S: spectrum (component, frequency)."""
    frequency, start = random.uniform(0.7, 2), path.s_minus_p * random.uniform(1.05, 1.5)
    width = random.uniform(0.5, 1 + 0.15 * path.s_minus_p)
    envelope = np.exp(-0.5 * ((TIMES - start) / width) ** 2) * np.clip((TIMES - path.s_minus_p) / 0.5, 0, 1)
    phase = 2 * np.pi * frequency * (TIMES - start) * (1 + random.uniform(-0.02, 0.02) * (TIMES - start))
    vertical, radial = np.cos(phase), np.sin(phase)
    motion = np.stack([vertical, radial * np.cos(azimuth), radial * np.sin(azimuth)])
    return rfft(strength * random.uniform(0.05, 0.4) * envelope * motion, LENGTH)


def _lognormal(random: Random, median: float, spread: float) -> float:
    return float(median * np.exp(random.normal(0, spread)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="folder of the dataset")
    parser.add_argument("--count", type=int, default=12_000, help="number of earthquakes (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    try:
        write_simulated(**vars(parser.parse_args()))
    except (ValueError, OSError) as error:
        parser.error(str(error))
