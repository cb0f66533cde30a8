"""The other denoisers: closed forms, the laws that they share, and their errors without weights."""

from functools import partial

import numpy as np
import pytest
import seisbench.models as sbm
import torch
from conftest import randomised

from seisbench_cdiffsd import CDiffSD, metrics
from seisbench_cdiffsd.picking import WeightsUnavailable

baselines = pytest.importorskip("baselines", reason="the benchmarks are not here")
from baselines import CONTROLS, NetworkDenoiser, Wiener, band_pass, load_network, oracle_mask, prepare  # noqa: E402

TIME = np.arange(3000) / 100


def sine(hertz):
    return np.tile(np.sin(2 * np.pi * hertz * TIME), (1, 3, 1)).astype(np.float32)


def white(seed=0, batch=2):
    return np.random.default_rng(seed).standard_normal((batch, 3, 3000)).astype(np.float32)


@pytest.fixture(scope="module")
def denoisers(model):
    torch.manual_seed(0)
    networks = [NetworkDenoiser(sbm.DeepDenoiser()), NetworkDenoiser(sbm.SeisDAE())]
    filters = [partial(band_pass, low=2, high=20), Wiener(), *CONTROLS.values()]
    return [*filters, *networks, NetworkDenoiser(sbm.DeepDenoiser(), dry=0.1), NetworkDenoiser(model, steps=2)]


@pytest.mark.parametrize("factor", [1e-9, 1e6])
def test_all_keep_shape_and_input_and_scale_with_it_whatever_the_other_windows(denoisers, factor):
    windows = white(batch=3)
    for denoise in denoisers:
        before = windows.copy()
        together = denoise(windows)
        assert together.shape == windows.shape and together.dtype == windows.dtype
        assert (windows == before).all()
        scaled = denoise((windows[1:2] * factor).astype(np.float32)) / factor
        assert np.abs(scaled[0] - together[1]).max() < 1e-3


def test_all_are_silent_where_the_input_is(denoisers):
    windows = white()
    windows[0, 1] = 0
    windows[1] = 0
    for denoise in denoisers:
        estimate = denoise(windows)
        assert np.isfinite(estimate).all()
        assert not estimate[1].any()
        if not isinstance(getattr(denoise, "model", None), CDiffSD):  # the others do one component at a time
            assert np.abs(estimate[0, 1]).max() < 1e-12


def test_band_pass_keeps_its_band_without_a_shift_and_removes_the_rest():
    kept = band_pass(sine(8) + sine(40), 1, 20)[..., 500:-500]
    assert metrics.sdr_db(sine(8)[..., 500:-500], kept).min() > 30


def test_wiener_removes_stationary_noise_and_keeps_an_event_without_knowing_its_onset():
    clean, noise = 5 * sine(8) * np.exp(-(((TIME - 15) / 0.5) ** 2)).astype(np.float32), 0.3 * white(batch=1)
    estimate = Wiener()(clean + noise)
    assert metrics.sdr_db(clean, estimate).min() > metrics.sdr_db(clean, clean + noise).max() + 6
    assert np.abs(estimate).max(-1) == pytest.approx(np.abs(clean).max(-1), rel=0.1)
    assert metrics.sdr_db(noise, noise - Wiener()(noise)).min() > 8
    assert np.abs(Wiener(strength=0)(noise) - noise).max() < 1e-5  # nothing is subtracted


def test_a_dry_share_of_what_was_removed_stays(model):
    windows = white()
    for network in (randomised(sbm.DeepDenoiser()), model):
        none, some = (NetworkDenoiser(network, dry=share)(windows) for share in (0.0, 0.2))
        assert np.abs(some - none - 0.2 * (windows - none)).max() < 1e-5


def test_the_gate_opens_at_an_onset_and_closes_again():
    windows = 0.01 * white(batch=1)
    windows[..., 1000:1300] += sine(8)[..., 1000:1300]
    gate = np.abs(CONTROLS["STA-LTA gate"](windows) / windows).mean((0, 1))
    assert gate[:990].max() < 0.06 and gate[1050:1450].min() > 0.99 and gate[2200:].max() < 0.06


@pytest.mark.parametrize("network", [sbm.DeepDenoiser, sbm.SeisDAE])
def test_a_network_prepares_each_trace_on_its_own_and_returns_its_input_if_its_mask_is_open(network):
    traces = torch.from_numpy(white()[0]) * torch.tensor([[1.0], [10.0], [100.0]])
    seen = prepare(network(), traces)[0]
    assert seen.shape == (3, 2, 31, 201)
    assert torch.allclose(seen[:1], prepare(network(), traces[:1])[0], atol=1e-5)

    opened, windows = network(), white() - white().mean(-1, keepdims=True)
    opened.forward = lambda x: torch.stack([torch.ones_like(x[:, 0]), torch.zeros_like(x[:, 0])], dim=1)
    assert np.abs(NetworkDenoiser(opened)(windows) - windows).max() < 1e-4


def test_oracle_mask_is_exact_where_the_parts_do_not_meet_or_are_alike():
    for clean, noise in ((sine(8) * (TIME < 10), sine(8) * (TIME > 20)), (sine(5), sine(40))):
        assert metrics.sdr_db(clean, oracle_mask(clean.astype(np.float32), noise.astype(np.float32))).min() > 20
    clean, silence = white(), np.zeros((2, 3, 3000), np.float32)
    assert np.abs(oracle_mask(clean, silence) - clean).max() < 1e-5
    assert not oracle_mask(silence, clean).any() and not oracle_mask(silence, silence).any()
    assert np.abs(oracle_mask(clean, clean) - clean).max() < 1e-5  # half of twice as much


def test_diffusion_is_the_model_at_its_number_of_steps(model):
    windows = white()
    expected = model.restore(torch.from_numpy(windows), steps=3).numpy()
    assert (NetworkDenoiser(model, steps=3)(windows) == expected).all()


def test_saved_models_come_back_and_missing_or_damaged_weights_are_reported_in_one_line(tmp_path, model):
    for name, network in (("CDiffSD", model), ("DeepDenoiser", randomised(sbm.DeepDenoiser()))):
        network.save(tmp_path / name)
        loaded = load_network(name, tmp_path / name)
        assert (NetworkDenoiser(loaded)(white()) == NetworkDenoiser(network)(white())).all()
    (tmp_path / "DeepDenoiser.pt").write_bytes(b"not weights")
    for name, weights, said in (
        ("CDiffSD", "nowhere", "no weights 'nowhere'"),
        ("CDiffSD", tmp_path / "nothing", "no weights"),
        ("DeepDenoiser", tmp_path / "nothing", "no model .*train_baselines"),
        ("DeepDenoiser", "nowhere", "not in SeisBench's cache"),
        ("DeepDenoiser", tmp_path / "DeepDenoiser", "DeepDenoiser: "),
    ):
        with pytest.raises(WeightsUnavailable, match=said) as error:
            load_network(name, weights)
        assert "\n" not in str(error.value)
