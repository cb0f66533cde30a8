"""What users call, on a day as it comes: ``denoise`` and SeisBench's ``classify``, each with its default settings.

The day is recorded noise with earthquakes of known SNR, see ``continuous.day``; no window is cut for the benchmark. A
pick is right within half a second of the label, and false outside of all earthquakes' records.
"""

from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from baselines import PICKING
from continuous import START, TOGETHER, day, denoised, found_and_false, inputs, to_stream
from networks import peaks, together
from report import RATES
from testdata import open_sources

import seisbench_cdiffsd

STATION = ["DAY"]


@pytest.fixture(scope="module")
def record(options, tmp_path_factory):
    return day(open_sources(options, tmp_path_factory.mktemp("example")), 24.0 if options.full else 1.0, options)


def table_of(picks):
    """Picks of SeisBench as a table like that of ``peaks``."""
    rows = [("DAY", pick.phase, pick.peak_time - START, float(pick.peak_value)) for pick in picks]
    return pd.DataFrame(rows, columns=["station", "phase", "time", "probability"])


def test_a_day(record, options, denoisers, pickers, report):
    if "PhaseNet" not in pickers:
        pytest.skip("; ".join(report.missing.values()) or "needs PhaseNet")
    (samples, labels), picker = record, pickers["PhaseNet"]
    hours = samples.shape[-1] / 100 / 3600
    quiet = hours - (labels["end"] - labels["start"]).sum() / 3600
    usual, anything, streams = {}, {}, {}
    for name, denoiser in inputs(denoisers).items():
        streams[name] = stream = denoised(samples[None], STATION, [0], denoiser)
        usual[name], anything[name] = table_of(picker.classify(stream).picks), peaks(picker, stream, START)
    if PICKING in anything:
        anything[TOGETHER] = together(picker, streams["raw"], streams[PICKING], START)
        with suppress(ValueError):  # the thresholds of `pick` hold for the weights that they were measured with
            usual[TOGETHER] = table_of(seisbench_cdiffsd.pick(to_stream(samples[None], STATION, [0])))
    rows = []
    for name, picks in anything.items():
        row = {f"{len(labels)} earthquakes in {hours:g} h": name}
        for phase in "PS":
            found, false = found_and_false(usual.get(name, picks[:0]), labels, phase)
            row[f"{phase} found"] = f"{np.mean(found > 0):.2f}" if name in usual else "-"
            row[f"false {phase} an hour"] = f"{len(false) / quiet:.1f}" if name in usual else "-"
        for phase in "PS":
            found, false = found_and_false(picks, labels, phase)
            ordered = np.append(np.sort(false)[::-1], 0.0)
            for rate in RATES:
                least = ordered[min(int(rate * quiet), len(false))]
                row[f"{phase} at {rate:g}"] = f"{np.mean(found > least):.2f}"
        rows.append(row)
    report.tables["day"] = pd.DataFrame(rows)
    assert float(rows[0]["P at 1"]) <= float(rows[0]["P at 10"])
