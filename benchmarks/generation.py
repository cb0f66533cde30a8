"""Do generated seismograms look like recorded ones, and show what the sentence says?

    python benchmarks/generation.py EVENTS... [--out FILE] [--limit N]

For each recorded earthquake of the test split a sentence is written, with its magnitude where that is known, its S - P
time, instrument and SNR. What ``generate`` makes of it, with the learned generator and by simulation alone, is compared
with the record, and with more rows: the same numbers without text; the sentence of another earthquake, the floor; the
nearest record of the training split by S - P time and magnitude, at its own S; and records of the dev split, as real
as those of the test split, the ceiling. All are 30 s from 5 s
before P on, from 1 to 45 Hz; amplitudes count only where that is said.

A regression on real training records reads magnitude and S - P time from spectra and envelopes after P, without knowing
S. There is no blast in the data, so nothing is said of their kind.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import conftest  # noqa: F401  where the weights of pickers are
import numpy as np
import pandas as pd
import torch
from evaluation import match_picks, pick_windows
from numpy.typing import NDArray
from report import environment, markdown

from seisbench_cdiffsd import generate
from seisbench_cdiffsd.data.augmentations import P_KEY, RATE_KEY, S_KEY
from seisbench_cdiffsd.data.datasets import open_dataset
from seisbench_cdiffsd.generation import learned
from seisbench_cdiffsd.picking import load_picker
from seisbench_cdiffsd.streams.filtering import BAND, design_filter, filtered, resampled, simple_ratio

Values = NDArray[np.float64]
RATE, BEFORE, LENGTH = 100, 500, 3000
#: Least SNR in dB of records; most records of a source; and longest S - P time in seconds.
LEAST_SNR, MOST, LONGEST = 15, 200, 20
#: Least frequency in Hz up to which records reach: what was low-passed below says nothing of the Earth.
LEAST_BAND = 30
INSTRUMENTS = {"N": "accelerometer", "H": "broadband", "L": "accelerometer"}
#: Frequencies in Hz and times after P in seconds at which features are taken.
CENTRES, TIMES = np.geomspace(1.2, 40, 12), np.geomspace(0.2, 24, 14)
PLACES = ("source_distance_km", "source_depth_km")
THRESHOLDS = {"PhaseNet": 0.3, "EQTransformer": 0.1}
#: What belongs under the heading of the tables.
NOTES = """- All rows are picked, and read, at the onsets and the magnitude that the sentence asks for. "Shuffled" has
  the sentence of another earthquake: what is as good there says nothing of the sentence. "From numbers" has
  what the sentence says, without text. "Nearest real" is the training record with the nearest S - P time
  and magnitude, at its own S, and of the asked amplitude: of amplitudes the first table sees nothing.
- Magnitude and S - P time are read by a regression on real training records, from spectra and envelopes
  without amplitudes. On real records of another split, magnitudes can hardly be read so: these rows say
  little.
- The learned generator is nearer to recorded earthquakes than simulation in onsets of P and S, spectra and
  what a classifier sees, and no nearer to training records than other recorded ones. Durations are no
  better, and codas scatter too much. Peak velocities are the simulation's: learned are envelopes alone.
- Stress drops and attenuation of the simulation were chosen by the Alaskan records. At one place the S - P
  times differ by a few percent, and slopes mean little.
- No record here is of a blast, and site and depth are hardly known: blasts are simulated, and nothing is
  measured of them."""
SOS = design_filter(("bandpass",), dict(BAND), RATE)[0]
SENTENCES = (
    "{size} earthquake, S-P of {sp:.2f} s, {sensor}, SNR {snr:.0f} dB",
    "an earthquake{of} recorded by a {sensor}; S arrives {sp:.2f} seconds after P, SNR of {snr:.0f} decibels",
    "{sensor}, signal-to-noise ratio {snr:.0f} dB, {sp:.2f} seconds between P and S, {size} event",
)


def recorded(folders: Sequence[str], split: str, longest: float) -> Iterator[tuple[Values, float, dict]]:
    """
    Earthquakes of a split with P and S, at most `longest` seconds apart: ground motion at 100 Hz, (3, samples), the
    time of P, and what is known.
    """
    for folder in folders:
        dataset = open_dataset(folder)
        about = dataset.metadata.assign(number=np.arange(len(dataset)))
        keep = (about["split"] == split) & about[P_KEY].notna() & about[S_KEY].notna()
        keep &= ~about["trace_clipped"].fillna(False).astype(bool) & (about["trace_category"] != "icequake")
        keep &= ((about[S_KEY] - about[P_KEY]) / about[RATE_KEY]).between(0.3, longest)
        order = np.random.default_rng(0).permutation(keep.sum())
        for row in about[keep].iloc[order].to_dict("records"):
            rate = float(row[RATE_KEY])
            waveform = np.asarray(dataset.get_sample(row["number"], sampling_rate=rate)[0], dtype=np.float64)
            if not np.isfinite(waveform).all() or (np.ptp(waveform, axis=1) == 0).any():
                continue
            waveform = waveform - waveform.mean(1, keepdims=True)
            if rate != RATE:
                waveform = np.stack([resampled(x, simple_ratio(rate, RATE)) for x in waveform])
            sensor = INSTRUMENTS.get(str(row["trace_channel"])[1:2], "broadband")
            sensor = "short-period" if str(row["trace_channel"])[:1] in "ESD" and sensor == "broadband" else sensor
            place = ".".join(str(row[x]) for x in ("trace_source", "station_code", "trace_channel"))
            known = {name: row.get(name) for name in ("trace_source", "source_magnitude", "source_depth_km")}
            known |= {"sp": (row[S_KEY] - row[P_KEY]) / rate, "sensor": sensor, "place": place}
            known["band"] = np.nanmin([row.get("trace_band_hz", np.nan), 0.45 * rate])
            yield waveform, row[P_KEY] / rate, known


def read(folders: Sequence[str], split: str) -> tuple[Values, pd.DataFrame]:
    """Windows of a split, (record, 3, samples) in the band, and what is known of them."""
    windows, rows, of = [], [], Counter()
    for waveform, p, known in recorded(folders, split, LONGEST):
        first = round(p * RATE) - BEFORE
        if first < 0 or first + LENGTH > waveform.shape[1] or known["band"] < LEAST_BAND:
            continue
        if of[known["trace_source"]] == MOST:
            continue
        window = np.stack([filtered(x, SOS) for x in waveform])[:, first:][:, :LENGTH]
        before = max(np.mean(window[:, : BEFORE - 20] ** 2), 1e-30)
        snr = 10 * np.log10(np.mean(window[:, BEFORE:] ** 2) / before)
        if snr > LEAST_SNR:
            of[known["trace_source"]] += 1
            windows.append(window)
            rows.append(known | {"snr": snr})
    return np.stack(windows), pd.DataFrame(rows)


def sentence(row: dict, number: int) -> str:
    known = np.isfinite(row["source_magnitude"])
    size = f"magnitude {row['source_magnitude']:.1f}" if known else "an"
    of = f" of magnitude {row['source_magnitude']:.1f}" if known else ""
    text = SENTENCES[number % len(SENTENCES)].format(size=size, of=of, **{**row, "snr": min(row["snr"], 60)})
    return text + ", 100 Hz, 60 s"


def as_numbers(row: dict) -> dict:
    """What a sentence of `sentence` says, before it is rounded and written."""
    numbers = {"s_minus_p": row["sp"], "instrument": row["sensor"], "snr": min(row["snr"], 60)}
    numbers |= {"magnitude": row["source_magnitude"]} if np.isfinite(row["source_magnitude"]) else {}
    return {**numbers, "sampling_rate": 100.0, "duration": 60.0}


def generated(texts: Sequence[str | dict], seed: int = 0, simulated: bool = False) -> Values:
    """Windows made of sentences, or of numbers; by simulation alone if asked to."""
    windows = []
    with mock.patch.object(learned, "load", lambda: None) if simulated else nullcontext():
        for number, text in enumerate(texts):
            stream = generate(text, seed=1000 * seed + number)
            made = stream[0].stats.generated
            first = round((made.p - stream[0].stats.starttime) * RATE) - BEFORE
            values = np.stack([filtered(trace.data.astype(np.float64), SOS) for trace in stream])
            windows.append(np.pad(values, ((0, 0), (max(-first, 0), LENGTH)))[:, max(first, 0) :][:, :LENGTH])
    return np.stack(windows)


def features(windows: Values) -> Values:
    """Log spectra of the record and of the first second, and log envelopes, of Z and the horizontals; without scale."""
    parts = []
    frequency = np.fft.rfftfreq(4096, 1 / RATE)
    weights = np.exp(-0.5 * ((np.log(np.maximum(frequency, 0.1))[:, None] - np.log(CENTRES)) / 0.15) ** 2)
    for first, last in ((BEFORE, LENGTH), (BEFORE, BEFORE + RATE)):
        power = np.abs(np.fft.rfft(windows[:, :, first:last] * np.hanning(last - first), 4096)) ** 2 @ weights
        parts += [power[:, 0], power[:, 1:].mean(1)]
    power = np.cumsum(windows**2, axis=-1)
    for time in TIMES:
        last, first = int(BEFORE + RATE * time * 1.15), int(BEFORE + RATE * time * 0.85)
        mean = (power[..., min(last, LENGTH - 1)] - power[..., first]) / (min(last, LENGTH - 1) - first)
        parts += [mean[:, :1], mean[:, 1:].mean(1, keepdims=True)]
    log = np.log10(np.maximum(np.concatenate(parts, axis=1), 1e-30))
    spectra, envelopes = log[:, : 4 * len(CENTRES)], log[:, 4 * len(CENTRES) :]
    return np.concatenate(
        [spectra - spectra.mean(1, keepdims=True), envelopes - envelopes.max(1, keepdims=True)], axis=1
    )


class Regression:
    """Ridge regression on standardised features and their squares."""

    def __init__(self, x: Values, y: Values, penalty: float = 30.0) -> None:
        self.mean, self.scale = x.mean(0), x.std(0) + 1e-9
        design = self._design(x)
        self.weights = np.linalg.solve(design.T @ design + penalty * np.eye(design.shape[1]), design.T @ (y - y.mean()))
        self.offset = y.mean()

    def _design(self, x: Values) -> Values:
        z = np.clip((x - self.mean) / self.scale, -4, 4)
        return np.concatenate([z, z**2 - 1], axis=1)

    def __call__(self, x: Values) -> Values:
        return self._design(x) @ self.weights + self.offset


def frechet(a: Values, b: Values) -> float:
    """Fréchet distance of two samples of features, as Gaussians."""
    one, two = np.cov(a.T), np.cov(b.T)
    roots = np.sqrt(np.abs(np.linalg.eigvals(one @ two).real))
    return float(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(one) + np.trace(two) - 2 * roots.sum())


def told_apart(a: Values, b: Values) -> float:
    """Area under the curve of a classifier of two samples, in five folds; 0.5 if it cannot tell them apart."""
    x, y = np.concatenate([a, b]), np.repeat([0.0, 1.0], [len(a), len(b)])
    fold, score = np.random.default_rng(0).integers(0, 5, len(x)), np.zeros(len(x))
    for number in range(5):
        score[fold == number] = Regression(x[fold != number], y[fold != number])(x[fold == number])
    return float(np.mean(score[y == 1][:, None] > score[y == 0]))


def picked(windows: Values, sp: Values) -> dict[str, float]:
    """Shares of P and S that pickers find within 0.1 and 0.5 s."""
    out = {}
    for name, least in THRESHOLDS.items():
        (found,) = pick_windows(load_picker(name), windows, [least])
        for phase, onset in (("P", np.full(len(sp), BEFORE / RATE)), ("S", BEFORE / RATE + sp)):
            times = found.loc[found["phase"] == phase].groupby("record")["time"].apply(np.array).to_dict()
            for tolerance in (0.1, 0.5):
                right = [
                    len(match_picks(times.get(n, np.array([])), np.array([t]), tolerance)[0])
                    for n, t in enumerate(onset)
                ]
                out[f"{name} {phase} {tolerance:g} s"] = float(np.mean(right))
    return out


def motion_model(about: pd.DataFrame, windows: Values) -> dict[str, float]:
    """
    Least squares: how log10 peak velocities grow with magnitude and with log10 of the S - P time at one place, where
    all have one unit, and what is left. Accelerometers and places with less than three records are left out.
    """
    peaks = np.abs(windows[:, 1:]).max((1, 2))
    table = pd.DataFrame({"m": about["source_magnitude"], "r": np.log10(about["sp"]), "a": np.log10(peaks)})
    table = table[np.isfinite(table["m"]) & (about["sensor"] != "accelerometer")].assign(place=about["place"])
    table = table[table.groupby("place")["m"].transform("count") >= 3]
    inner = table[["m", "r", "a"]] - table.groupby("place")[["m", "r", "a"]].transform("mean")
    weights = np.linalg.lstsq(inner[["m", "r"]], inner["a"], rcond=None)[0]
    left = inner["a"] - inner[["m", "r"]] @ weights
    return {"records": len(table), "magnitude": weights[0], "log S - P": weights[1], "scatter": float(left.std())}


def one_event(folders: Sequence[str]) -> dict[str, dict[str, float]]:
    """Slope of log10 peak velocities over log10 of the S - P time within an earthquake, and the scatter about it."""
    sos = design_filter(("bandpass",), {**BAND, "freqmax": 15.0}, RATE)[0]
    rows, texts = [], []
    for split in ("train", "test"):
        for waveform, p, known in recorded(folders, split, 60):
            if known["trace_source"] == "capuaf":
                peak = np.abs(np.stack([filtered(x, sos) for x in waveform[1:]])[:, round(p * RATE) :]).max()
                rows.append({"m": known["source_magnitude"], "r": np.log10(known["sp"]), "real": np.log10(peak)})
                size = f"magnitude {known['source_magnitude']:.1f}, S-P {known['sp']:.2f} s"
                texts.append(f"{size}, broadband, no noise, {50 + 3 * known['sp']:.0f} s")
    table = pd.DataFrame(rows)
    for name in ("learned", "simulation"):
        with mock.patch.object(learned, "load", lambda: None) if name == "simulation" else nullcontext():
            made = [generate(text, seed=number)[1:] for number, text in enumerate(texts)]
        table[name] = [np.log10(max(np.abs(filtered(x.data.astype(float), sos)).max() for x in y)) for y in made]
    inner, out = table - table.groupby("m").transform("mean"), {}
    for name in ("real", "learned", "simulation"):
        slope = (inner["r"] * inner[name]).sum() / (inner["r"] ** 2).sum()
        out[name] = {"records": len(inner), "log S - P": slope, "scatter": (inner[name] - slope * inner["r"]).std()}
    return out


def alike(about: pd.DataFrame, windows: Values) -> dict[str, float]:
    """Rms differences, over the root of two, of records with about the same S - P time, magnitude and instrument."""
    near = np.abs(np.subtract.outer(*2 * [np.log(about["sp"].to_numpy())])) < 0.1
    near &= np.abs(np.subtract.outer(*2 * [about["source_magnitude"].to_numpy()])) < 0.3
    near &= np.equal.outer(*2 * [about["sensor"].to_numpy()])
    a, b = np.nonzero(np.triu(near, 1))
    there = np.equal(about["place"].to_numpy()[a], about["place"].to_numpy()[b])  # peaks have one unit there alone
    peaks, f = np.log10(np.abs(windows[:, 1:]).max((1, 2))), features(windows)
    return scatter(f[a] - f[b], (peaks[a] - peaks[b])[there], 2**0.5) | {"pairs": len(a)}


def between_seeds(texts: Sequence[str], simulated: bool, count: int = 5) -> dict[str, float]:
    windows = [generated(texts, seed, simulated) for seed in range(1, count + 1)]
    f, peaks = (
        np.stack(x) for x in zip(*[(features(w), np.log10(np.abs(w[:, 1:]).max((1, 2)))) for w in windows], strict=True)
    )
    return scatter(f - f.mean(0), peaks - peaks.mean(0), (1 - 1 / count) ** 0.5) | {"pairs": len(texts) * count}


def scatter(f: Values, peaks: Values, factor: float) -> dict[str, float]:
    spectra, envelopes = f[..., : 4 * len(CENTRES)], f[..., 4 * len(CENTRES) :]
    values = {"spectra (dB)": 10 * spectra, "envelopes (dB)": 10 * envelopes, "log10 peak velocity": peaks}
    return {name: float(np.sqrt(np.mean(np.square(x))) / factor) for name, x in values.items()}


def duration(windows: Values) -> Values:
    """log10 of the seconds between 5 and 75 % of the energy after P."""
    energy = np.cumsum(np.square(windows[..., BEFORE:]).sum(1), axis=1)
    share = energy / energy[:, -1:]
    return np.log10(np.maximum((share > 0.75).argmax(1) - (share > 0.05).argmax(1), 1) / RATE)


def travel(folders: Sequence[str]) -> dict[str, float]:
    """log10 of S - P times generated from distances and depths over those that were recorded."""
    ratios = []
    for folder in folders:
        about = (
            open_dataset(folder)
            .metadata.reindex(columns=[P_KEY, S_KEY, RATE_KEY, "source_magnitude", *PLACES])
            .dropna()
        )
        for number, row in enumerate(about.to_dict("records")):
            distance, depth = (max(row[name], 0) for name in PLACES)
            text = f"{distance:.1f} km away, {depth:.1f} km deep, magnitude 3, no noise, 150 s, 20 Hz"
            made = generate(text, seed=number)[0].stats.generated.s_minus_p
            ratios.append(np.log10(made * row[RATE_KEY] / (row[S_KEY] - row[P_KEY])))
    return {
        "records": len(ratios),
        "median": float(np.median(ratios)),
        "half of them within": float(np.median(np.abs(ratios))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("events", nargs="+", metavar="EVENTS", help="datasets in SeisBench's format")
    parser.add_argument("--limit", type=int, default=400, metavar="N", help="most sentences (%(default)s)")
    parser.add_argument("--split", choices=("dev", "test"), default="test", help="dev is to choose by (%(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where tables go")
    args = parser.parse_args()
    torch.set_num_threads(1)
    (train, about), (test, asked) = read(args.events, "train"), read(args.events, args.split)
    other, others = read(args.events, "dev" if args.split == "test" else "test")
    test, asked = test[: args.limit], asked[: args.limit]
    sentences = [sentence(row, number) for number, row in enumerate(asked.to_dict("records"))]
    shuffled = np.random.default_rng(1).permutation(sentences)
    apart = np.abs(np.log(asked["sp"].to_numpy()[:, None] / about["sp"].to_numpy())) / 0.2
    size = np.abs(asked["source_magnitude"].to_numpy()[:, None] - about["source_magnitude"].to_numpy())
    neighbour = (apart + np.nan_to_num(size, nan=1.0) / 0.5).argmin(1)
    rows = {
        "real": (test, asked),
        "real, other events": (other, others),
        "learned": (generated(sentences), asked),
        "learned, from numbers": (generated([as_numbers(row) for row in asked.to_dict("records")]), asked),
        "learned, shuffled": (generated(shuffled), asked),
        "simulation": (generated(sentences, simulated=True), asked),
        "nearest real": (train[neighbour], asked.assign(sp=about["sp"].to_numpy()[neighbour])),
    }
    x, known = features(train), np.isfinite(about["source_magnitude"].to_numpy())
    log_sp = {name: np.log10(labels["sp"].to_numpy())[:, None] for name, (_, labels) in rows.items()}
    train_sp = np.log10(about["sp"].to_numpy())
    magnitude = Regression(x[known], about["source_magnitude"].to_numpy()[known])
    distance, seconds = Regression(x, train_sp), Regression(train_sp[:, None], duration(train))
    spectra, truth = slice(0, 4 * len(CENTRES)), features(test)
    axes = np.linalg.svd(x[:, spectra] - x[:, spectra].mean(0), full_matrices=False)[2][:16]
    table: dict[str, dict[str, str]] = {}
    for name, (windows, labels) in rows.items():
        f, sp, m = features(windows), labels["sp"].to_numpy(), labels["source_magnitude"].to_numpy()
        there = np.isfinite(m)
        read_m, read_sp, late = magnitude(f)[there] - m[there], distance(f), duration(windows) - seconds(log_sp[name])
        nearest = np.sqrt((((f[:, None] - x) / x.std(0)) ** 2).mean(-1)).min(1)
        values = picked(windows, sp) | {
            "magnitude read, mean absolute error": np.abs(read_m).mean(),
            "magnitude read, correlation": np.corrcoef(magnitude(f)[there], m[there])[0, 1],
            "S - P read, factor of error": 10 ** np.abs(read_sp - log_sp[name][:, 0]).mean(),
            "S - P read, correlation": np.corrcoef(read_sp, log_sp[name][:, 0])[0, 1],
            "duration, log10 residual": late.mean(),
            "duration, its scatter": late.std(),
            "spectra, rms of the mean residual (dB)": 10
            * np.sqrt(np.mean((f - truth.mean(0))[:, spectra].mean(0) ** 2)),
            "spectra, spread (dB)": 10 * f.std(0)[spectra].mean(),
            "Fréchet distance of log spectra": 0.0
            if name == "real"
            else frechet(f[:, spectra] @ axes.T, truth[:, spectra] @ axes.T),
            "told from real (area under curve)": 0.5 if name == "real" else told_apart(truth, f),
            "distance to the nearest training record": np.median(nearest),
        }
        table[name] = {"records": str(len(f))} | {key: f"{value:.2f}" for key, value in values.items()}
    whole, everywhere = np.concatenate([train, test, other]), pd.concat([about, asked, others], ignore_index=True)
    chosen = np.flatnonzero(np.isfinite(everywhere["source_magnitude"]))
    everywhere = everywhere.iloc[chosen].reset_index(drop=True)
    texts = [sentence(row, number) for number, row in enumerate(everywhere.to_dict("records"))]
    made = {"learned": generated(texts), "simulation": generated(texts, simulated=True)}
    motion = {name: motion_model(everywhere, values) for name, values in {"real": whole[chosen], **made}.items()}
    seeds = {"real, alike": alike(everywhere, whole[chosen])}
    for name in made:
        seeds[name] = between_seeds(texts[:: max(len(texts) // 40, 1)], name == "simulation")
    parts = [
        markdown(pd.DataFrame(table).reset_index(names="")),
        "Peak velocities, log10, at one place:",
        markdown(pd.DataFrame(motion).T.round(2).reset_index(names="")),
        "Peak velocities, log10, of one earthquake at many stations, from 1 to 15 Hz (Alaska, response removed):",
        markdown(pd.DataFrame(one_event(args.events)).T.round(2).reset_index(names="")),
        "Spread of records of one sentence over seeds, and of recorded pairs alike in S - P, magnitude and instrument:",
        markdown(pd.DataFrame(seeds).T.round(2).reset_index(names="")),
        "S - P from distance and depth, log10 of generated over recorded:",
        markdown(pd.DataFrame({"simulation": travel(args.events)}).T.round(3).reset_index(names="")),
    ]
    print(text := "\n\n".join(parts))
    if args.out:
        commit = str(environment()["commit"])[:10]
        command = f"python benchmarks/generation.py EVENTS... --split {args.split} --limit {args.limit}"
        head = f"# Generated seismograms\n\nBy `{command}` at commit {commit}."
        args.out.write_text(f"{head}\n\n{NOTES}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
