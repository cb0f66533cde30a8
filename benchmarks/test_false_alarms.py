"""What is left of noise, and what is picked in it, where there is no earthquake at all."""

import suite
import testdata
from report import grouped

from seisbench_cdiffsd import evaluation


def test_noise_alone(data, denoisers, pickers, report):
    unions = suite.diffusions(denoisers)
    rows = evaluation.evaluate_noise(data.noise, data.noise_metadata, denoisers, pickers, testdata.RATE, unions)
    report.rows["noise"] = rows
    report.tables["noise"] = grouped(rows, ())
    table = report.value("noise")
    assert table["noisy", "suppression_db"] == 0
    for name in suite.own(denoisers):
        assert table[name, "suppression_db"] > 0, f"{name} amplifies noise"
