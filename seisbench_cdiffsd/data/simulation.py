"""Simulated earthquakes, quarry blasts and icequakes, as ground velocity, without noise and silent before P.

A record is the sum of what travels as P and as S: arrivals along rays and scattered energy behind them, each shaped by
the spectrum of a source, of its path and of the site. Magnitude, distance, depth, kind and site give the times, the
corner frequency, the amplitude and the duration. What is random has the spread of recorded earthquakes: stress drops,
attenuation, ratios of S to P, weak first arrivals, codas, incidence and resonances. Finite faults, layers and
long-period surface waves are left out.

- source: Brune, J. N. (1970), Tectonic stress and the spectra of seismic shear waves from earthquakes, JGR 75, 4997;
- amplitude, path, site and noise as their phases: Boore, D. M. (2003), Simulation of ground motion using the stochastic
  method, Pure Appl. Geophys. 160, 635;
- near large earthquakes: Yenier, E. and Atkinson, G. M. (2015), Regionally adjustable generic ground-motion prediction
  equation, BSSA 105, 1989;
- coda: Aki, K. and Chouet, B. (1975), Origin of coda waves, JGR 80, 3322; its rise, Sato, H. (1989), JGR 94, 17735.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.optimize import brentq

Values = NDArray[np.float64]
Spectrum = NDArray[np.complex128]
Random = np.random.Generator

BLAST = "quarry blast"
#: Sites: loss near the surface, kappa in seconds; gain below some 5 Hz; height of a resonance in dB.
SITES = {"rock": (0.03, 1.2, 0.0), "stiff soil": (0.04, 2.2, 4.0), "soft soil": (0.05, 3.3, 9.0)}
#: Speeds of P in km/s in the crust and below, thickness of the crust in km; density in kg/m^3, and speed of S in m/s.
CRUST, MANTLE, MOHO, DENSITY, SHEAR = 6.1, 8.0, 33.0, 2800.0, 3500.0
#: Median stress drop in Pa up to magnitude 3, and of 5 and more; and the spread of its natural logarithm.
STRESS_DROPS, STRESS_SPREAD = (3e6, 1.5e7), 0.6
#: Seconds behind the record in which what rings on may wrap around.
PADDING = 20.0


class Event(NamedTuple):
    """Magnitude (of moment from 3 on, local below), epicentral distance and depth in km, kind, and site."""

    magnitude: float
    distance: float
    depth: float
    kind: str = "earthquake"
    site: str = "rock"


def magnitude_at(random: Random, distance: float) -> float:
    """A magnitude, as of well-recorded earthquakes at a hypocentral distance in km."""
    return float(np.clip(1.0 + 1.1 * np.log10(max(distance, 1)) + random.normal(0, 0.6), -0.5, 6.5))


def times(distance: float, depth: float) -> tuple[float, float]:
    """Travel times of P in seconds: of the first arrival, and of the direct wave, which a head wave may overtake."""
    length = float(np.hypot(distance, depth))
    slow = 1 - 0.4 * np.exp(-depth / 2 - length / 15)  # rays that stay near the surface
    below = max(depth - MOHO, 0) / max(depth, 1e-9)
    direct = length * ((1 - below) / CRUST + below / MANTLE) / slow
    head = distance / MANTLE + max(2 * MOHO - depth, MOHO) * np.sqrt(CRUST**-2 - MANTLE**-2)
    return float(min(direct, head)), float(direct)


#: Ratio of the speeds of P and S.
RATIO = 1.74


def distance_of(s_minus_p: float, depth: float) -> float:
    """The epicentral distance in km at an S - P time in seconds; 0 if the depth alone takes longer."""
    travel = s_minus_p / (RATIO - 1)
    return 0.0 if times(0, depth)[0] >= travel else float(brentq(lambda x: times(x, depth)[0] - travel, 0, 2000))


def simulate(
    random: Random, event: Event, rate: float = 100, before: float = 27.5, after: float = 59.5, s_minus_p: float = 0
) -> tuple[Values, float]:
    """
    A record of an event, drawn from `random`.

    :param rate: Sampling rate in Hz
    :param before: Seconds before P
    :param after: Seconds from P on
    :param s_minus_p: S - P time in seconds; by default as the distance has it, with the scatter of the Earth
    :return: Ground velocity in m/s, (3, samples) in ZNE order; and the S - P time
    """
    scene = _Scene(random, event, rate, after, s_minus_p)
    motion = scene.motion()
    return np.concatenate([np.zeros((3, round(before * rate))), motion], axis=1), scene.s_minus_p


def icequakes(random: Random, rate: float = 100, before: float = 27.5, after: float = 59.5) -> tuple[Values, float]:
    """
    A record of icequakes, or of earthquakes in hard rock near by: P and S are pulses (Brune, 1970), with hardly a coda,
    P mostly on Z and S on the horizontals. More of them follow the first one. Parameters and values are as those of
    :py:func:`simulate`, except that the motion has no unit.
    """
    samples = round(after * rate)
    length = next_fast_len(samples + round(PADDING * rate), real=True)
    frequencies = rfftfreq(length, 1 / rate)
    s_minus_p = _log_uniform(random, 0.3, 12)
    corner, softer = _log_uniform(random, 4, 40), random.uniform(0.15, 0.8)
    fade, scatter = _log_uniform(random, 0.05, 0.5), random.uniform(0.02, 0.1)
    starts = np.cumsum(random.exponential(_log_uniform(random, 5, 500), random.integers(30)))
    spectrum = np.zeros((3, len(frequencies)), complex)
    labelled = max(round(s_minus_p * rate), 1) / rate
    for number, start in enumerate([0.0, *starts[starts < after]]):
        azimuth, size = random.uniform(0, 2 * np.pi), _lognormal(random, 1, 0.8) if number else 1.0
        later, strength = labelled * (_lognormal(random, 1, 0.2) if number else 1), _lognormal(random, 0.8, 0.5)
        p, s = _rays_of_p(random, azimuth, False), _rays_of_s(random, azimuth)
        for rays, time, amplitude, soft in ((p, start, size, 1.0), (s, start + later, strength * size, softer)):
            spikes = np.zeros((3, samples))
            delays = [0.0, *random.exponential(0.2, random.poisson(1.5))]
            for place in (round((time + delay) * rate) for delay in delays):
                if place < samples:
                    spikes[:, place] += amplitude * rays.direct
                    amplitude *= random.choice([-1, 1]) * random.uniform(0.05, 0.4)
                    rays = _Rays(rays.direct + random.normal(0, 0.5, 3), rays.converted)
            since = np.arange(samples) / rate - time
            envelope = scatter * size * np.where(since > 0, np.exp(-np.clip(since, 0, None) / fade), 0)
            f = frequencies / (corner * soft * _lognormal(random, 1, 0.2))
            pulse = 1j * f / (1 + 1j * f) ** 2 / (1 + (frequencies / (0.43 * rate)) ** 24)
            pulse /= np.abs(irfft(pulse, length)).max()
            spectrum += pulse * rfft(spikes + envelope * random.standard_normal((3, samples)), length)
    motion = irfft(spectrum, length)[:, :samples]
    return np.concatenate([np.zeros((3, round(before * rate))), motion], axis=1), labelled


class _Rays(NamedTuple):
    """Directions of motion, each (3,) as Z, N, E: of a direct arrival, and of what is converted on its way."""

    direct: Values
    converted: Values


class _Scene:
    """An event, the path of its waves and the grid of a record."""

    def __init__(self, random: Random, event: Event, rate: float, after: float, s_minus_p: float) -> None:
        self.random, self.event, self.rate, self.blast = random, event, rate, event.kind == BLAST
        self.samples = round(after * rate)
        self.length = next_fast_len(self.samples + round(PADDING * rate), real=True)
        self.times = np.arange(self.samples) / rate
        self.frequencies = rfftfreq(self.length, 1 / rate)
        self.octaves = np.log2(np.maximum(self.frequencies, 0.25))
        first, direct = times(event.distance, event.depth)
        ratio = random.uniform(1.68, 1.80)
        if not s_minus_p:
            s_minus_p = first * (ratio - 1) * _lognormal(random, 1, 0.04)
        self.s_minus_p = max(round(s_minus_p * rate), 1) / rate
        self.p_time = self.s_minus_p / (ratio - 1)
        self.s_time = self.p_time + self.s_minus_p
        self.later = float(direct - first)  # of the direct P behind the head wave
        self.far = self.s_minus_p > 10
        self.moment = 10 ** (1.5 * (event.magnitude if event.magnitude > 3 else 1 + 2 / 3 * event.magnitude) + 9.1)
        stress = np.exp(np.interp(event.magnitude, (3, 5), np.log(STRESS_DROPS))) * (0.5 if self.blast else 1)
        stress *= _lognormal(random, 1, STRESS_SPREAD)
        self.corner = float(0.4906 * SHEAR * (stress / self.moment) ** (1 / 3))
        self.source_time = 1 / self.corner

    def motion(self) -> Values:
        random, azimuth = self.random, self.random.uniform(0, 2 * np.pi)
        p_response, s_response = self.responses()
        p_rays, s_rays = _rays_of_p(random, azimuth, self.blast), _rays_of_s(random, azimuth)
        strength = _lognormal(random, 2.0 + 0.1 * self.s_minus_p, 0.5)  # of S, that of P being 1
        if self.blast:
            strength *= random.uniform(0.25, 0.5)
        sparsity = random.uniform(0, 0.8)  # more would look like glitches
        p_wave = self.p_wave(p_rays, sparsity)
        s_wave = self.s_wave(s_rays, strength, 0.7 * sparsity)
        inside = (self.frequencies > 1) & (self.frequencies < 10)
        energy = np.mean(np.abs(s_wave[1:, inside]) ** 2)  # of one horizontal, which Boore's spectrum is that of
        if self.blast:
            energy /= strength**2 / 2  # what a blast lacks of S is not in its P
        spectrum = p_wave * p_response + s_wave * s_response
        if self.blast or random.random() < 0.5 * (self.event.depth < 5):
            size = random.uniform(0.3, 1.5) if self.blast else strength * random.uniform(0.05, 0.4)
            spectrum += self.surface_wave(azimuth, size * np.abs(s_response[1]).mean())
        spectrum /= np.sqrt(energy)
        if self.blast:  # rows of shots, fired one after the other
            delays = np.cumsum(random.uniform(0.02, 0.06) * np.exp(random.normal(0, 0.2, random.integers(3, 12))))
            weights = np.exp(random.normal(0, 0.4, len(delays)))
            shifts = np.exp(-2j * np.pi * self.frequencies * (delays - delays[0])[:, None])
            spectrum *= weights @ shifts / weights.sum()
        return self.rate * irfft(spectrum, self.length)[:, : self.samples]

    def responses(self) -> tuple[Spectrum, Spectrum]:
        """Responses of P and S, (component, frequency), in m: minimum-phase, so that nothing precedes an arrival."""
        random, f = self.random, self.frequencies
        kappa, gain, resonance = SITES[self.event.site]
        kappa *= _lognormal(random, 1, 0.5)
        q, exponent = _lognormal(random, 180, 0.4), random.uniform(0.4, 0.9)
        near = 10 ** (0.235 * self.event.magnitude - 0.405)  # of long ruptures only a part (Yenier and Atkinson, 2015)
        length = 1e3 * math.hypot(self.event.distance, self.event.depth, near)
        spreading = 1 / min(length, 1e5) / max(length / 1e5, 1) ** 0.5
        # radiation 0.55, free surface 2, one of two horizontals 0.707
        level = 0.55 * 2 * 0.707 / (4 * np.pi * DENSITY * SHEAR**3) * self.moment * spreading
        level *= gain * _lognormal(random, 1, 0.3)
        p_corner = self.corner * random.uniform(1.2, 1.8)
        common = _gain(random, self.octaves, 5)
        vertical, horizontal = (common * _gain(random, self.octaves, 2, random.poisson(0.7)) for _ in range(2))
        if resonance:
            peak = (self.octaves - random.uniform(-0.5, 2)) / 0.4
            horizontal = horizontal * 10 ** (resonance * random.uniform(0.3, 1) * np.exp(-0.5 * peak**2) / 20)
        site = np.stack([0.8 * vertical, *(horizontal * _gain(random, self.octaves, 1) for _ in range(2))])
        slope = -np.expm1(-2j * np.pi * f / self.rate) * self.rate  # from displacement to velocity
        digitiser = 1 / np.sinc(f / self.rate) / (1 + (f / (0.43 * self.rate)) ** 24)
        inside, shapes = (f > 1) & (f < 45), []
        p_time = self.p_time / random.uniform(1, 2)  # P loses less than S in a second
        for corner, time, share in (p_corner, p_time, random.uniform(0.5, 1)), (self.corner, self.s_time, 1.0):
            source = 1 / (1 + (f / corner) ** random.uniform(1.9, 2.3))
            lost = time / q * np.maximum(f, 1) ** -exponent + share * kappa
            shapes.append(source * np.exp(-np.pi * f * lost) * digitiser)
        p, s = (np.sqrt(np.mean(np.abs(slope * shape)[inside] ** 2)) for shape in shapes)
        p_response, s_response = (slope * self.minimum_phase(shape * site) for shape in shapes)
        return level * s / p * p_response, level * s_response

    def minimum_phase(self, amplitudes: Values) -> Spectrum:
        """The causal response with these amplitudes whose energy comes earliest, by its cepstrum."""
        floor = 1e-9 * amplitudes.max(axis=-1, keepdims=True)
        cepstrum = irfft(np.log(np.maximum(amplitudes, floor)), self.length)
        cepstrum[..., 1 : (self.length + 1) // 2] *= 2
        cepstrum[..., self.length // 2 + 1 :] = 0
        return np.exp(rfft(cepstrum))

    def p_wave(self, rays: _Rays, sparsity: float) -> Spectrum:
        """What travels as P, before source, path and site: spectrum (component, frequency)."""
        random, s_minus_p = self.random, self.s_minus_p
        spikes, spread = np.zeros((3, self.samples)), 0.25 + 0.08 * s_minus_p + self.source_time
        overtaken = 0.1 < self.later < 0.8 * s_minus_p
        if overtaken or random.random() < 0.4 + 0.2 * self.far:  # a head wave, or near a node of radiation
            self.arrive(spikes, 0, random.uniform(0.08, 0.4), rays, spread, 3)
            later = min(random.uniform(0.15, 0.4 + 0.12 * s_minus_p), 0.6 * s_minus_p)
            turned = _Rays(rays.direct * (1 if self.blast else random.choice([-1, 1])), rays.converted)
            self.arrive(spikes, self.later if overtaken else later, 1.0, turned, spread, 3)
        else:
            self.arrive(spikes, 0, 1.0, rays, spread, 3)
        decay = _lognormal(random, 0.5 + 1.2 * s_minus_p, 0.5) + self.source_time
        rise = 0.05 + 0.2 * s_minus_p * random.uniform(0.3, 1)
        envelope = (
            _lognormal(random, 0.17 + 0.025 * s_minus_p, 0.5)
            * -np.expm1(-self.times / rise)
            * np.exp(-self.times / decay)
        )
        share = np.array([1.0, *random.uniform(0.4, 1, 2)])
        return rfft(spikes + share[:, None] * envelope * self.scattered(sparsity), self.length)

    def s_wave(self, rays: _Rays, strength: float, sparsity: float) -> Spectrum:
        """What travels as S, likewise. Its coda decays with the time since the source, faster at high frequencies."""
        random, s_minus_p = self.random, self.s_minus_p
        spikes, spread = np.zeros((3, self.samples)), 0.3 + 0.06 * s_minus_p + self.source_time
        behind = RATIO * self.later if self.later > 0.1 else 0.0  # of the direct S behind its head wave
        if behind:
            self.arrive(spikes, s_minus_p, strength * random.uniform(0.2, 0.6), rays, spread, 4)
        self.arrive(spikes, s_minus_p + behind, strength, rays, spread, 4)
        if random.random() < 0.3 + 0.3 * self.far:  # converted from S to P below the station, or the head wave of S
            converted = _Rays(random.normal(size=3), rays.direct)
            before = random.uniform(0.05, 0.2) * s_minus_p
            self.arrive(spikes, s_minus_p - before, strength * random.uniform(0.05, 0.25), converted, 0.3, 2)
        since, started = np.maximum(self.times - s_minus_p, 0), s_minus_p <= self.times
        rise = 0.04 + 0.04 * s_minus_p * random.random()
        peak = 0.05 + s_minus_p * random.uniform(0.02, 0.05 + 0.02 * min(s_minus_p, 10)) + behind + self.source_time
        spreading = ((self.times + self.p_time) / self.s_time) ** -random.uniform(0.5, 2)  # Aki and Chouet (1975)
        coda = _lognormal(random, 0.15, 0.5) * -np.expm1(-since / rise) * spreading
        forward = _lognormal(random, 0.12, 0.5) * since / peak * np.exp(1 - since / peak)
        envelope = strength * started * (coda + forward)
        share = np.array([random.uniform(0.4, 1), 1.0, random.uniform(0.7, 1.3)])
        scattered = share[:, None] * self.scattered(sparsity)
        spectrum = rfft(spikes, self.length)
        centres = 2.0 ** np.arange(int(np.log2(self.rate / 2)) + 1)  # of octaves, in each of which the coda decays
        octaves = np.clip(self.octaves, 0, np.log2(centres[-1]))
        coda_q = _lognormal(random, 100, 0.5) * centres ** random.uniform(0.5, 1)
        for centre, q in zip(centres, coda_q, strict=True):
            weight = np.clip(1 - np.abs(octaves - np.log2(centre)), 0, 1)
            spectrum += weight * rfft(envelope * np.exp(-np.pi * centre * since / q) * scattered, self.length)
        return spectrum

    def arrive(self, spikes: Values, start: float, amplitude: float, rays: _Rays, spread: float, count: float) -> None:
        """Add a direct arrival at a time in seconds after P, and weaker ones in the seconds, `spread`, behind it."""
        random, first = self.random, round(start * self.rate)
        if first < self.samples:
            # of a long rupture, high frequencies do not come all at once
            spikes[:, first] += amplitude * rays.direct / np.sqrt(1 + 5 * self.source_time)
        for delay in random.exponential(spread, random.poisson(count + 5 * self.source_time)):
            sample = first + 1 + int(delay * self.rate)
            if sample < self.samples:
                mixed = random.uniform(0, 0.6)
                motion = (1 - mixed) * rays.direct + mixed * random.choice([-1, 1]) * rays.converted
                motion += random.normal(0, 0.2, 3)
                weaker = random.choice([-1, 1]) * _lognormal(random, 0.45, 0.5) * np.exp(-0.7 * delay / spread)
                spikes[:, sample] += amplitude * weaker * motion

    def scattered(self, sparsity: float) -> Values:
        """White noise of unit variance, (component, samples); sparse if `sparsity` is above zero, as codas are."""
        gate = np.exp(self.random.normal(0, sparsity, (3, self.samples)))
        return self.random.standard_normal((3, self.samples)) * gate / np.sqrt(np.mean(gate**2))

    def surface_wave(self, azimuth: float, size: float) -> Spectrum:
        """A dispersed Rayleigh wave of a shallow source, after S: spectrum (component, frequency)."""
        random, times = self.random, self.times
        frequency, start = random.uniform(0.5, 2), self.s_minus_p * random.uniform(1.05, 1.5)
        width = random.uniform(0.5, 1 + 0.15 * self.s_minus_p)
        envelope = np.exp(-0.5 * ((times - start) / width) ** 2) * np.clip((times - self.s_minus_p) / 0.5, 0, 1)
        phase = 2 * np.pi * frequency * (times - start) * (1 + random.uniform(-0.02, 0.02) * (times - start))
        radial = np.sin(phase)
        motion = np.stack([np.cos(phase), radial * np.cos(azimuth), radial * np.sin(azimuth)])
        return rfft(size * envelope * motion, self.length)


def _gain(random: Random, octaves: Values, decibels: float, resonances: int = 0) -> Values:
    """Gain of a site: smooth over the logarithm of frequency, with some resonances."""
    knots = np.arange(-1, 9)
    gain = np.interp(octaves, knots, random.normal(0, decibels, len(knots)))
    for _ in range(resonances):
        distance = (octaves - random.uniform(0, 4.5)) / random.uniform(0.1, 0.3)
        gain += random.uniform(3, 12) * np.exp(-0.5 * distance**2)
    return 10 ** (gain / 20)


def _rays_of_p(random: Random, azimuth: float, upward: bool) -> _Rays:
    incidence = np.deg2rad(random.uniform(3, 40))
    along, across, sign = np.cos(incidence), np.sin(incidence), 1 if upward else random.choice([-1, 1])
    return _Rays(sign * _turned(along, across, 0.0, azimuth), _turned(across, along, random.normal(0, 0.3), azimuth))


def _rays_of_s(random: Random, azimuth: float) -> _Rays:
    incidence, plane = np.deg2rad(random.uniform(2, 40)), random.uniform(0, 2 * np.pi)
    radial, transverse = np.cos(plane), np.sin(plane)
    direct = _turned(np.sin(incidence) * radial, np.cos(incidence) * radial, transverse, azimuth)
    return _Rays(direct, _turned(0.3, random.normal(), random.normal(), azimuth))


def _turned(vertical: float, radial: float, transverse: float, azimuth: float) -> Values:
    """A motion as Z, N, E."""
    cosine, sine = np.cos(azimuth), np.sin(azimuth)
    return np.array([vertical, radial * cosine - transverse * sine, radial * sine + transverse * cosine])


def _log_uniform(random: Random, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _lognormal(random: Random, median: float, spread: float) -> float:
    return float(median * np.exp(random.normal(0, spread)))
