"""Denoisers on one's own records, and the command ``cdiffsd evaluate``."""

import numpy as np
import pandas as pd
import pytest

from seisbench_cdiffsd import cli, evaluation
from seisbench_cdiffsd.data.datasets import open_dataset
from seisbench_cdiffsd.metrics import sdr_db


@pytest.fixture(scope="module")
def paths(small_datasets):
    return [str(dataset.path) for dataset in small_datasets]


def test_mixtures_have_the_snr_of_their_label_and_noise_is_reversed(paths):
    events, noise = ([open_dataset(path)] for path in paths)
    mixtures, still = evaluation.own_records(events, noise, "train", min_snr=10)
    again, _ = evaluation.own_records(events, noise, "train", min_snr=10)
    np.testing.assert_allclose(
        sdr_db(mixtures.clean, mixtures.noisy, axis=(-2, -1)), mixtures.labels["input_snr_db"], atol=1e-3
    )
    np.testing.assert_array_equal(mixtures.noise, again.noise)
    assert still.shape == (6, 3, 6000)
    recorded = noise[0].get_waveforms(2)[0, :3000]
    assert max(np.corrcoef(recorded, x[0, 2999::-1])[0, 1] for x in still) > 0.8  # but for the band


def test_tables_count_what_they_show():
    rows = pd.DataFrame({"denoiser": "noisy", "snr_db": [-5.0, -5.0, 0.0, 0.0], "sdr_db": [-5.0, -5.0, 1.0, 2.0]})
    rows = rows.assign(P=[0.1, 0.4, 0.6, 0.9], S=[np.nan, np.nan, np.nan, 0.2])
    noise = pd.DataFrame({"denoiser": "noisy", "P": [0.5, 0.3, *[0.0] * 28], "S": 0.1})
    table = evaluation.by_snr(rows, 0.3)["noisy"]
    assert table["SDR (dB) at 0 dB"] == "1.5"
    assert table["P at -5 dB"] == "0.50 (1 of 2)"
    assert table["S at -5 dB"] == "-"
    table = evaluation.at_equal_false_picks(rows, noise, 0.3)["noisy"]
    assert table["minutes with a false P"] == "0.07 (2 of 30)"
    assert "P at 1 an hour" not in table  # of half an hour, not one minute could have a pick
    assert table["P at 2 an hour"] == "0.75 (3 of 4)"  # above 0.3, where one minute has one
    assert table["S at 10 an hour"] == "1.00 (1 of 1)"  # the false picks are equal: all of them are out


def test_the_command_compares_weights(paths, model, pickers, tmp_path, capsys):
    model.save(tmp_path / "own")
    args = ["evaluate", "--events", paths[0], "--noise", paths[1], "--split", "train", "--min-snr", "10"]
    out = tmp_path / "out"
    assert cli.main([*args, "--weights", str(tmp_path / "own"), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    table = pd.read_csv(out / "by_snr.csv", index_col=0)
    assert [*table] == ["noisy", "base", f"{tmp_path.name}/own"]
    assert table.loc["SDR (dB) at -10 dB", "noisy"] == "-10.0"
    assert "of 8)" in told and "6 minutes of noise" in told
    assert {path.name for path in out.iterdir()} == {"by_snr.csv", "false_picks.csv", "gallery.png"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--split", "test"], "has no test split"),
        (["--split", "train", "--min-snr", "90"], "without an SNR of at least 90 dB"),
        (["--split", "train", "--noise", "nowhere/at/all"], "nowhere/at/all"),
        (["--split", "train", "--weights", "nothing"], "no weights 'nothing'"),
        (["--split", "train", "--picker", "Nobody"], "no model 'Nobody'"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(more, message, paths, pickers, tmp_path, capsys):
    args = ["evaluate", "--events", paths[0], "--noise", paths[1], "--out", str(tmp_path / "out"), *more]
    assert cli.main(args) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("cdiffsd: ") and message in error
    assert not (tmp_path / "out").exists()
