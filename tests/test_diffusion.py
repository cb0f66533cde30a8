"""The heart: mixing, its inverse, the sampler, the noise that stays and the loss, with denoisers without weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seisbench_cdiffsd.diffusion import endpoint, mix, sample, training_loss
from seisbench_cdiffsd.schedule import SCHEDULES, Straight

ALL = tuple(SCHEDULES.values())
schedules = pytest.mark.parametrize("schedule", ALL, ids=str)


def absolute(clean, estimate, noise=None):
    return (clean - estimate).abs().mean()


@pytest.fixture
def records():
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 5, 3, 400, dtype=torch.float64, generator=generator)
    return clean, clean + noise


def level(value, count=5):
    return torch.full((count,), value, dtype=torch.float64)


@schedules
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 33])
def test_an_oracle_is_returned_exactly(schedule, steps, records):
    clean, noisy = records
    result = sample(lambda x, at: clean, noisy, schedule, steps)
    torch.testing.assert_close(result, clean, rtol=1e-9, atol=1e-9)


@schedules
def test_one_step_is_direct_denoising(schedule, records):
    _, noisy = records
    torch.testing.assert_close(
        sample(lambda x, at: x.sin() * 3, noisy, schedule), noisy.sin() * 3, rtol=1e-9, atol=1e-9
    )


@schedules
def test_the_sampler_visits_the_levels_from_the_observation_down(schedule, records):
    clean, noisy = records
    seen = []

    def spy(x, at):
        seen.append((at.tolist(), x))
        return clean

    sample(spy, noisy, schedule, 4)
    assert [at for at, _ in seen] == [[value] * 5 for value in (1, 0.75, 0.5, 0.25)]
    assert seen[0][1] is noisy


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_the_straight_oracle_walks_along_the_true_path(steps, records):
    clean, noisy = records
    seen = []
    sample(lambda x, at: seen.append((x, at)) or clean, noisy, Straight(), steps)
    for x, at in seen:
        torch.testing.assert_close(x, mix(Straight(), clean, noisy, at), rtol=1e-9, atol=1e-9)


def test_the_straight_step_moves_towards_the_estimate(records):
    """With the end point estimated anew, x_s = x̂ + (s/t) (x_t - x̂), and the last estimate is the result."""
    _, x = records
    noisy, estimates = x, []

    def denoise(x, at):
        estimates.append(0.6 * x + 0.1 * at[:, None, None])
        return estimates[-1]

    result = sample(denoise, noisy, Straight(), 3)
    for t, s in ((1, 2 / 3), (2 / 3, 1 / 3), (1 / 3, 0)):
        estimate = 0.6 * x + 0.1 * t
        x = estimate + s / t * (x - estimate)
    torch.testing.assert_close(result, x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(result, estimates[-1], rtol=1e-12, atol=1e-12)


@schedules
def test_mix_is_the_clean_record_at_0_and_the_noisy_one_at_1(schedule, records):
    clean, noisy = records
    assert torch.equal(mix(schedule, clean, noisy, level(0.0)), clean)
    keep, _ = schedule.weights(level(1.0))
    assert keep.max() < 0.01
    torch.testing.assert_close(
        mix(schedule, clean, noisy, level(1.0)), noisy, rtol=0, atol=0.01 * clean.abs().max().item()
    )


def test_the_straight_path_is_the_clean_record_plus_a_share_of_the_noise(records):
    clean, noisy = records
    at = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0], dtype=torch.float64)
    expected = torch.stack([c + a * (y - c) for c, y, a in zip(clean, noisy, at, strict=True)])
    torch.testing.assert_close(mix(Straight(), clean, noisy, at), expected)
    assert torch.equal(mix(Straight(), clean, noisy, level(1.0)), noisy)


@schedules
def test_a_record_without_noise_stays_itself_on_the_straight_path_only(schedule, records):
    clean, _ = records
    degraded = mix(schedule, clean, clean, level(0.5))
    gain = (degraded / clean).mean().item()
    assert gain == pytest.approx(1) if isinstance(schedule, Straight) else gain > 1.1


@schedules
@given(value=st.floats(0.05, 1))
@settings(max_examples=25, deadline=None)
def test_the_end_point_undoes_the_mixing(schedule, value):
    clean, noisy = torch.randn(2, 5, 3, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = mix(schedule, clean, noisy, level(value))
    torch.testing.assert_close(endpoint(schedule, x, clean, level(value)), noisy, rtol=1e-7, atol=1e-7)


@schedules
def test_every_record_has_a_level_of_its_own(schedule, records):
    clean, noisy = records
    at = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    together = mix(schedule, clean, noisy, at)
    for i in range(5):
        alone = mix(schedule, clean[i : i + 1], noisy[i : i + 1], at[i : i + 1])
        assert torch.equal(together[i : i + 1], alone)


@given(steps=st.integers(1, 6), scale=st.floats(1e-3, 1e3))
@settings(max_examples=25, deadline=None)
def test_a_linear_denoiser_gives_a_linear_sampler(steps, scale):
    noisy = torch.randn(2, 3, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for schedule in ALL:
        one, scaled = (sample(lambda x, at: 0.7 * x, gain * noisy, schedule, steps) for gain in (1, scale))
        torch.testing.assert_close(scaled, scale * one, rtol=1e-6, atol=1e-9 * scale)


@pytest.mark.parametrize("steps", [0, -3, 2.5])
def test_impossible_steps_are_refused(steps, records):
    with pytest.raises(ValueError, match="positive integer"):
        sample(lambda x, at: x, records[1], Straight(), steps)


@schedules
def test_the_loss_of_an_oracle_is_zero(schedule, records):
    clean, noisy = records
    loss = training_loss(lambda x, at: clean, clean, noisy, level(0.8), level(0.3), schedule, absolute, unfolded=3)
    assert loss == 0


def test_the_loss_is_both_terms_and_the_second_sees_the_networks_own_error(records):
    clean, noisy = records
    seen = []

    def denoise(x, at):
        seen.append((x, at))
        return 0.5 * x

    loss = training_loss(denoise, clean, noisy, level(0.8), level(0.4), Straight(), absolute, unfolded=3)
    x = clean + 0.8 * (noisy - clean)
    stepped = 0.5 * x + 0.4 / 0.8 * (x - 0.5 * x)  # where the sampler would go from x, not a fresh mixture
    torch.testing.assert_close(seen[0][0], x)
    torch.testing.assert_close(seen[1][0], stepped)
    assert seen[0][1].tolist() == [0.8] * 5 and seen[1][1].tolist() == [0.4] * 5
    torch.testing.assert_close(loss, absolute(clean, 0.5 * x) + 3 * absolute(clean, 0.5 * stepped))


@schedules
def test_the_second_term_degrades_towards_the_noisy_record_and_no_further(schedule, records):
    """The published code degrades towards 2x + n; with a perfect first estimate the right end point is x + n."""
    clean, noisy = records
    seen = []
    training_loss(lambda x, at: seen.append(x) or clean, clean, noisy, level(0.8), level(0.4), schedule, absolute)
    torch.testing.assert_close(seen[1], mix(schedule, clean, noisy, level(0.4)), rtol=1e-9, atol=1e-9)


def test_without_weight_the_second_term_is_not_computed(records):
    clean, noisy = records
    calls = []
    training_loss(lambda x, at: calls.append(at) or x, clean, noisy, level(0.8), level(0.4), Straight(), absolute, 0)
    assert len(calls) == 1


def test_the_second_term_may_be_that_of_the_first_records_only(records):
    clean, noisy = records
    few, seen = level(0.4)[:2], []
    training_loss(lambda x, at: seen.append(x) or 0.5 * x, clean, noisy, level(0.8), few, Straight(), absolute)
    training_loss(lambda x, at: seen.append(x) or 0.5 * x, clean, noisy, level(0.8), level(0.4), Straight(), absolute)
    assert len(seen[0]) == 5 and torch.equal(seen[1], seen[3][:2])


@schedules
def test_gradients_flow_through_both_terms(schedule, records):
    clean, noisy = records
    gain = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    gradients = []
    for unfolded in (0, 1):
        loss = training_loss(lambda x, at: gain * x, clean, noisy, level(0.8), level(0.4), schedule, absolute, unfolded)
        gradients.append(torch.autograd.grad(loss, gain)[0])
    assert all(g.isfinite() and g != 0 for g in gradients) and gradients[0] != gradients[1]

    def value(g):
        return training_loss(lambda x, at: g * x, clean, noisy, level(0.8), level(0.4), schedule, absolute)

    numeric = (value(0.5 + 1e-6) - value(0.5 - 1e-6)) / 2e-6
    assert gradients[1].item() == pytest.approx(numeric.item(), rel=1e-3)
