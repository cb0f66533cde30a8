"""Seismograms from sentences: what is asked for is there, marked as generated, and the same for the same seed."""

import numpy as np
import obspy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from obspy.signal.spectral_estimation import get_nhnm, get_nlnm
from scipy.signal import welch

from seisbench_cdiffsd import cli, generate
from seisbench_cdiffsd.data.simulation import Event, simulate
from seisbench_cdiffsd.generation import learned
from seisbench_cdiffsd.generation.noise import KINDS, station_noise
from seisbench_cdiffsd.generation.records import draw
from seisbench_cdiffsd.generation.text import parse
from seisbench_cdiffsd.picking import load_picker

PINNED = -0.0206, 0.9677
TEXT = "magnitude 3.2 earthquake 45 km away, 8 km deep, recorded on rock, a noisy night in a city"


def test_parameters_and_onsets_are_in_the_headers():
    stream = generate(TEXT + ", broadband at 40 Hz, 80 s", count=2, seed=5)
    assert [trace.stats.channel for trace in stream] == 2 * ["BHZ", "BHN", "BHE"]
    assert stream[0].stats.starttime < stream[3].stats.starttime
    for trace in stream:
        made = trace.stats.generated
        assert trace.stats.network == "XG" and "not recorded" in made.comment
        assert (made.magnitude, made.distance, made.depth, made.site, made.noise) == (3.2, 45, 8, "rock", "city")
        assert trace.stats.npts == 3200 and trace.data.dtype == np.float32 and np.isfinite(trace.data).all()
        assert made.s - made.p == pytest.approx(made.s_minus_p) and 4 < made.s_minus_p < 8
        assert made.origin < made.p < made.s < trace.stats.endtime
        assert "depth" in made.said and "snr" not in made.said


def test_the_same_seed_gives_the_same_samples():
    two, three = generate(TEXT, 2, seed=3), generate(TEXT, 3, seed=3)
    assert all(np.array_equal(a.data, b.data) for a, b in zip(two, three[:6], strict=True))
    assert not np.array_equal(three[0].data, three[6].data)
    assert not np.array_equal(two[0].data, generate(TEXT, seed=4)[0].data)


def test_an_snr_and_an_s_minus_p_are_kept():
    for snr in (-5, 10):
        stream = generate(f"S-P of 4.2 s, magnitude 2, SNR {snr} dB, wind, 120 s", 3, seed=1)
        for record in (stream[n : n + 3] for n in (0, 3, 6)):
            clean = generate("S-P of 4.2 s, magnitude 2, no noise, 120 s", 3, seed=1)
            made = record[0].stats.generated
            assert made.snr == snr and made.s - made.p == pytest.approx(4.2)
            same = [trace for trace in clean if trace.stats.starttime == record[0].stats.starttime]
            powers = []
            for trace, alone in zip(record, same, strict=True):
                noise = trace.copy()
                noise.data = trace.data.astype(float) - alone.data
                onset = made.p - trace.stats.starttime
                parts = [x.copy().filter("bandpass", freqmin=1, freqmax=45, zerophase=True) for x in (alone, noise)]
                powers.append([np.mean(parts[0].data[round(100 * onset) :] ** 2), np.mean(parts[1].data ** 2)])
            signal, noise = np.sum(powers, axis=0)
            assert 10 * np.log10(signal / noise) == pytest.approx(snr, abs=0.3)


def test_without_the_learned_generator_and_where_it_knows_nothing_records_are_simulated(monkeypatch):
    made = {text: generate(text)[0] for text in ("M 3, 40 km, no noise", "quarry blast, 20 km", "M 5, S-P 45 s")}
    assert [x.stats.generated.method for x in made.values()] == ["learned", "simulated", "simulated"]
    monkeypatch.setattr(learned, "load", lambda: None)
    for text, trace in made.items():
        alone = generate(text)[0]
        assert alone.stats.generated.method == "simulated"
        assert np.array_equal(alone.data, trace.data) == (trace.stats.generated.method == "simulated")
        assert alone.stats.generated.s == trace.stats.generated.s


def test_the_learned_generator_is_pinned():
    """Two numbers of the shipped weights: the mean and the spread of what they draw, over parts."""
    about = {"s_minus_p": 5.0, "magnitude": 3.0, "recorded": True}
    drawn = np.stack([learned.load().draw(np.random.default_rng(n), about) for n in range(20)])
    assert (drawn.mean(), drawn.std()) == pytest.approx(PINNED, abs=1e-3)


def test_a_record_is_shaped_to_an_envelope_and_keeps_its_onset_and_its_peak():
    motion, s_minus_p = simulate(np.random.default_rng(0), Event(3, 40, 8), 100, 0, 70, 5)
    made, at = learned.load(), learned.edges(s_minus_p)
    own, wanted = (made.parts(np.log10(learned.powers(x, 100, at) + 1e-30) / 2) for x in (motion, motion[::-1]))
    assert made.shape(motion, 100, s_minus_p, own) == pytest.approx(motion, abs=0.01 * np.abs(motion).max())
    shaped = made.shape(motion, 100, s_minus_p, wanted)
    reached = made.parts(np.log10(learned.powers(shaped, 100, at) + 1e-30) / 2)
    assert np.abs(reached - wanted)[:20].mean() < 0.4 * np.abs(own - wanted)[:20].mean()
    assert np.abs(shaped[1:]).max() == pytest.approx(np.abs(motion[1:]).max())


def test_numbers_say_what_a_sentence_says():
    assert np.array_equal(generate("M 3, 40 km")[0].data, generate({"magnitude": 3.0, "distance": 40.0})[0].data)


def test_without_noise_p_comes_out_of_silence():
    for trace in generate("magnitude 2, 20 km, no noise", 2):
        before = trace.slice(endtime=trace.stats.generated.p - 0.02)
        assert not before.data.any() and trace.data.any()


def test_an_accelerometer_measures_acceleration_and_a_geophone_little_below_1_hz():
    def low_share(text):
        spectra = [
            np.abs(np.fft.rfft(trace.data)) ** 2 for trace in generate(f"{text}, M 3, 30 km, sea, 100 Hz, 60 s", 3)
        ]
        return np.mean([spectrum[6:30].sum() / spectrum[60:].sum() for spectrum in spectra])

    assert low_share("short-period") < 0.3 * low_share("broadband")
    velocity, acceleration = (
        generate(f"{sensor}, M 4, 30 km, no noise, on rock, 100 Hz, 60 s")[0].data.astype(float)
        for sensor in ("broadband", "accelerometer")
    )
    assert np.cumsum(acceleration) / 100 == pytest.approx(velocity, abs=1e-3 * np.abs(velocity).max())


@pytest.mark.parametrize("kind", KINDS)
def test_station_noise_lies_between_the_models_of_peterson(kind):
    velocity = station_noise(np.random.default_rng(0), kind, 0, "broadband", 100, 60_000)
    frequency, power = welch(velocity, 100, nperseg=4096)
    known = (frequency > 0.2) & (frequency < 9)
    frequency, power = frequency[known], power[:, known].mean(0)
    decibels = 10 * np.log10(power * (2 * np.pi * frequency) ** 2)
    low, high = (np.interp(1 / frequency, x[0][::-1], x[1][::-1]) for x in (get_nlnm(), get_nhnm()))
    assert (low - 3 < decibels).all() and (decibels < high + 8).all()
    assert np.median((decibels - low) / (high - low)) > (0.5 if kind in ("city", "wind", "sea") else 0.1)


@given(st.integers(0, 10_000))
def test_what_is_drawn_goes_together(seed):
    random = np.random.default_rng(seed)
    for text in ("earthquake", "M 1", "M 5", "100 km away", "quarry blast", "S-P 1 s", "hypocentral distance 20 km"):
        values = draw(parse(text), random)
        assert -1 < values["magnitude"] < 7 and 0 <= values["distance"] < 250 and 0 <= values["depth"] <= 30
        assert values["kind"] != "quarry blast" or values["depth"] < 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("S-P of 20 s, 10 s long", "10 s cannot hold P and an S 20.0 s later"),
        ("150 km away, 12 s long", "12 s cannot hold"),
        ("S-P 1 s, 60 km deep", "From a depth of 60 km, S comes later than 1 s after P"),
        ("hypocentral distance 10 km, 20 km deep", "less than the depth"),
        ("from 60 to 80 Hz, M 2", "100 Hz has nothing from 60 Hz on"),
        ("quarry blast of magnitude 6", "'magnitude 6'"),
        ({"size": 3}, "There is no parameter 'size'. Known are band, depth"),
        ({"magnitude": 12}, "magnitude is -2 to 7.5, not 12"),
        ({"distance": "far"}, "distance is 0 to 500 km, not 'far'"),
    ],
)
def test_what_cannot_be_together_is_said(text, told):
    with pytest.raises(ValueError, match=told):
        generate(text)


def test_numbers_of_records_and_seeds_are_checked():
    for options in ({"count": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="must be positive"):
            generate("M 3", **options)


def test_recorded_noise_is_taken_from_a_dataset(small_datasets):
    noise = small_datasets[1].path
    stream = generate("M 2, 30 km, SNR 0 dB, 100 s", 2, noise=noise)
    assert all(trace.stats.npts == 10_000 and trace.stats.generated.noise == "recorded" for trace in stream)
    with pytest.raises(ValueError, match="There is no dataset"):
        generate("M 2", noise="nowhere")


def test_pickers_find_the_onsets(pickers):
    stream = generate("magnitude 2.5, 30 km away, 8 km deep, SNR 25 dB, 60 s", 12, seed=2)
    picks = load_picker("PhaseNet").classify(stream).picks
    for phase, least in (("P", 10), ("S", 8)):
        residuals = []
        for trace in stream[::3]:
            onset = trace.stats.generated[phase.lower()]
            late = [pick.peak_time - onset for pick in picks if pick.phase == phase]
            residuals += [seconds for seconds in late if abs(seconds) < 0.5]
        assert len(residuals) >= least and np.median(np.abs(residuals)) < 0.1


@pytest.fixture
def run(tmp_path):
    return lambda *args: cli.main(["generate", *map(str, args), "--out", str(tmp_path / "out")])


def test_the_command_writes_marked_files_and_the_same_again(run, tmp_path, capsys):
    assert run(TEXT, "--count", 2, "--seed", 1) == 0
    assert "snr" not in capsys.readouterr().out.split("*")[0]
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert sorted(files) == [f"generated_{n:02}.{ending}" for n in (1, 2) for ending in ("mseed", "png", "xml")]
    stream = obspy.read(tmp_path / "out" / "generated_02.mseed")
    assert [trace.stats.network for trace in stream] == 3 * ["XG"]
    (event,) = obspy.read_events(tmp_path / "out" / "generated_02.xml")
    made = generate(TEXT, 2, seed=1)[3].stats.generated
    assert event.magnitudes[0].mag == 3.2 and "not recorded" in event.comments[0].text
    assert [pick.time for pick in event.picks] == [made.p, made.s]
    assert b"not recorded" in files["generated_01.png"]

    assert run(TEXT, "--count", 1, "--seed", 1) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == files


@pytest.mark.parametrize(
    ("args", "told"),
    [(("a purple quake",), "'purple'"), (("M 12",), "'m 12'"), (("M 3", "--noise", "nowhere"), "no dataset 'nowhere'")],
)
def test_the_command_refuses_in_one_line(run, tmp_path, capsys, args, told):
    assert run(*args) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_the_command_replaces_nothing_else(run, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "generated_01.png").write_text("mine")
    assert run("M 3") == 2 and "holds something else" in capsys.readouterr().err
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["mine"]
