"""``python benchmarks/simulation.py FOLDER --count 12000`` writes simulated earthquakes as a dataset of SeisBench's.

It is for training beside recorded earthquakes, as a second ``[[events]]`` of ``cdiffsd train``: no two are alike.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import seisbench.data as sbd

from seisbench_cdiffsd.data.augmentations import P_KEY, RATE_KEY, S_KEY
from seisbench_cdiffsd.data.simulation import SITES, Event, distance_of, icequakes, magnitude_at, simulate
from seisbench_cdiffsd.generation.learned import simulated_or_learned
from seisbench_cdiffsd.streams.filtering import SAMPLING_RATE

#: Seconds before P and from P on; a window of 30 s may begin long before P or in the coda.
BEFORE, AFTER = 27.5, 59.5
#: Shortest and longest S - P time in seconds.
S_MINUS_P = 0.5, 28.0
#: Ratio of the rms of the digitiser's noise to the largest amplitude: what no record is without.
QUIET = 1e-5


def write_simulated(
    folder: str | Path, count: int, seed: int = 0, learned: bool = False, icequake: bool = False
) -> None:
    """
    Write a dataset of simulated earthquakes, of 104 kB each, with a largest amplitude of 1, all of them in the split
    train; it replaces another. The first records of a larger dataset with the same seed are the same.

    :param icequake: Whether to write icequakes instead, pulses of P and S
    :param learned: Whether to shape them by what was learned from recorded ones, as ``cdiffsd generate`` does
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
                random = np.random.default_rng((seed, number))
                event = draw_event(random)
                if icequake:
                    motion, s_minus_p = icequakes(random, SAMPLING_RATE, BEFORE, AFTER)
                elif learned:
                    shaped = simulated_or_learned(random, event, SAMPLING_RATE, AFTER, 0, {"site": event.site})
                    motion, s_minus_p = np.pad(shaped[0], ((0, 0), (round(BEFORE * SAMPLING_RATE), 0))), shaped[1]
                else:
                    motion, s_minus_p = simulate(random, event, SAMPLING_RATE, BEFORE, AFTER)
                waveform = motion / np.abs(motion).max() + QUIET * random.standard_normal(motion.shape)
                labels = {RATE_KEY: SAMPLING_RATE, P_KEY: BEFORE * SAMPLING_RATE}
                labels[S_KEY] = (BEFORE + s_minus_p) * SAMPLING_RATE
                source = {"source_id": f"{'icequake' if icequake else 'simulated'}{number}"}
                if not icequake:
                    source |= {"source_magnitude": event.magnitude, "source_distance_km": event.distance}
                    source |= {"source_depth_km": event.depth}
                writer.add_trace(source | labels | kind, waveform.astype(np.float32))
        for file in files:
            file.replace(folder / file.name)


def draw_event(random: np.random.Generator) -> Event:
    """An earthquake to train on: of all S - P times in `S_MINUS_P`, each ratio of two is as likely."""
    s_minus_p = np.exp(random.uniform(*np.log(S_MINUS_P)))
    depth = min(7 * np.exp(random.normal(0, 0.6)), 30, 4 * s_minus_p)
    distance, site = distance_of(s_minus_p, depth), str(random.choice(list(SITES)))
    return Event(magnitude_at(random, float(np.hypot(distance, depth))), distance, depth, site=site)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="folder of the dataset")
    parser.add_argument("--count", type=int, default=12_000, help="number of earthquakes (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--learned", action="store_true", help="with envelopes learned from recorded earthquakes")
    kind.add_argument("--icequake", action="store_true", help="icequakes, pulses of P and S, instead")
    try:
        write_simulated(**vars(parser.parse_args()))
    except (ValueError, OSError) as error:
        parser.error(str(error))
