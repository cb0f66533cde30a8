"""Is there an earthquake? How odds are learnt, told and used."""

import math

import numpy as np
import obspy
import pytest
import torch

from seisbench_cdiffsd import CDiffSD
from seisbench_cdiffsd.data.settings import Augmentations
from seisbench_cdiffsd.network import SpectralUNet, build_network
from seisbench_cdiffsd.noise_left import leave_noise
from seisbench_cdiffsd.presence import DOUBTED_BELOW, OddsRecorder
from seisbench_cdiffsd.training.config import TrainingConfig


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def told(*calls):
    """What was heard of calls with these odds."""
    answers = iter(torch.tensor(odds) for odds in calls)
    recorder = OddsRecorder(lambda x, level: (x, next(answers).log()))
    for _ in calls:
        recorder(noise(1, 3, 8), torch.ones(1))
    return recorder


def certain(sign):
    """A model that is certain that there is an earthquake everywhere, or nowhere."""
    torch.manual_seed(0)
    model = CDiffSD(presence=True)
    with torch.no_grad():
        model.network.presence[-1].weight.zero_()
        model.network.presence[-1].bias.fill_(sign * 40.0)
        model.network.head.weight.normal_(std=0.02)  # it removes something
    return model


def test_estimates_are_trusted_from_some_odds_on_and_by_their_square_below():
    trust = told([DOUBTED_BELOW, 2 * DOUBTED_BELOW, DOUBTED_BELOW / 2, DOUBTED_BELOW / 10]).trust()
    torch.testing.assert_close(trust, torch.tensor([1, 1, 0.25, 0.01]))
    mean = told([DOUBTED_BELOW / 4], [DOUBTED_BELOW]).trust()  # of logarithms
    torch.testing.assert_close(mean, torch.tensor([0.25]))
    assert told([1e-30]).trust() == 0


def test_who_tells_nothing_is_not_heard():
    recorder = OddsRecorder(lambda x, level: (2 * x, None))
    assert recorder(torch.ones(1, 3, 8), torch.ones(1)).eq(2).all()
    assert recorder.trust() is None
    assert recorder.error(torch.ones(1, 3, 8), 0.1) == 0


@pytest.mark.parametrize("silent", [1, 2, 5])
def test_windows_with_and_without_an_earthquake_count_alike(silent):
    clean = torch.ones(10, 3, 8)
    clean[:silent] = 0.01  # less than can be heard
    assert float(told([1.0] * 10).error(clean, silent / 10)) == pytest.approx(math.log(2))
    right = torch.where(torch.arange(10) < silent, 1 / 9, 9.0).tolist()
    assert float(told(right).error(clean, silent / 10)) == pytest.approx(math.log(10 / 9), rel=1e-5)


@pytest.mark.parametrize("noise_only", [1e-6, 0.5, 1 - 1e-6])
def test_any_share_of_windows_without_an_earthquake_but_all_has_an_error(noise_only):
    for clean in (torch.ones(4, 3, 8), torch.zeros(4, 3, 8)):
        assert math.isfinite(told([1.0] * 4).error(clean, noise_only))


def test_a_training_with_noise_alone_learns_nothing_of_earthquakes_and_is_refused():
    noise_alone = Augmentations(noise_only=1.0, untouched=0.0)
    with pytest.raises(ValueError, match="noise_only must be below 1") as error:
        TrainingConfig(augmentations=noise_alone)
    assert "\n" not in str(error.value)
    for without in ({"presence": 0.0}, {"network": "published"}):
        assert not TrainingConfig(augmentations=noise_alone, **without).tells


def test_later_calls_may_be_of_fewer_windows_and_have_another_weight():
    clean = torch.ones(4, 3, 8)
    both = told([1.0] * 4, [9.0] * 2).error(clean, 0.5, later=3.0)
    assert float(both) == pytest.approx(math.log(2) + 3 * math.log(10 / 9), rel=1e-5)


def test_only_a_network_that_learnt_it_tells():
    x, level = noise(2, 3, 3000), torch.ones(2)
    silent, telling = SpectralUNet().eval(), SpectralUNet(presence=True).eval()
    assert silent.with_log_odds(x, level)[1] is None
    telling.load_state_dict(telling.state_dict() | silent.state_dict())
    estimate, log_odds = telling.with_log_odds(x, level)
    torch.testing.assert_close(estimate, silent(x, level))
    assert log_odds.shape == (2,) and log_odds.isfinite().all()
    with pytest.raises(ValueError, match="published"):
        build_network("published", presence=True)


def test_it_is_saved_with_the_model(tmp_path):
    model = certain(1)
    model.save(tmp_path / "model")
    loaded = CDiffSD.load(tmp_path / "model")
    assert loaded.get_model_args()["presence"]
    x = noise(2, 3, 3000)
    torch.testing.assert_close(loaded.restore(x, 1, 0.1, 10.0), model.restore(x, 1, 0.1, 10.0))


@pytest.mark.parametrize("floor", [0.1, 0.2])
def test_without_an_earthquake_what_is_left_is_the_input_attenuated(floor):
    x = noise(2, 3, 3000)
    torch.testing.assert_close(certain(-1).restore(x, 2, floor, math.inf), floor * x, atol=1e-5, rtol=1e-4)
    model = certain(1)
    clean = model.restore(x, 2)
    torch.testing.assert_close(model.restore(x, 2, floor, math.inf), clean + floor * (x - clean), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(certain(-1).restore(x, 2), clean)  # nothing is left in, so nothing is attenuated


def test_odds_that_are_not_finite_are_an_error():
    model = certain(1)
    with torch.no_grad():
        model.network.presence[-1].bias.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="weights may be damaged"):
        model.restore(noise(1, 3, 3000))


def test_annotate_asks_as_well():
    stream = obspy.read()
    options = {"noise_margin": math.inf, "noise_floor": 0.1}
    quiet, loud = (certain(sign).denoise(stream, **options) for sign in (-1, 1))
    nothing = certain(1).denoise(stream, leave_noise=False)
    for attenuated, trusted, clean in zip(quiet, loud, nothing, strict=True):
        expected = attenuated.data + 0.9 * clean.data  # floor * input, and the estimate in full
        np.testing.assert_allclose(trusted.data, expected, atol=1e-4 * np.abs(expected).max())


def test_an_earthquake_is_trusted_a_quarter_of_a_minute_around():
    removed, clean = noise(1, 3, 12_000), noise(1, 3, 12_000, seed=1)
    trust = torch.zeros(1, 12_000)
    trust[:, 6000:6300] = 1
    left = leave_noise(clean + removed, clean, 0.1, math.inf, trust=trust) - 0.1 * removed
    gain = (left / clean).mean(1)[0]
    torch.testing.assert_close(gain[4600:7700], torch.ones(3100), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(gain[[0, 4000, 8500, -1]], torch.full((4,), 0.1), atol=1e-3, rtol=1e-3)
    everywhere = leave_noise(clean + removed, clean, 0.1, math.inf, trust=torch.ones(1, 1))
    torch.testing.assert_close(everywhere, clean + 0.1 * removed)
