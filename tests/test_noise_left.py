"""What is left of the noise: by amplitudes, by frequency, over time."""

import math

import pytest
import torch

from seisbench_cdiffsd.noise_left import NOISE_CEILING, NOISE_FLOOR, REACH, leave_noise


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def left_in(noisy, clean, *args, **kwargs):
    """Gain of the noise, at each sample: the estimate is not touched at a doubt of zero."""
    return ((leave_noise(noisy, clean, *args, doubt=1e-9, **kwargs) - clean) / (noisy - clean)).mean(1)


def rows(*values):
    return torch.tensor(values)[:, None, None]


def test_noise_is_attenuated_to_its_margin_below_the_earthquake_and_not_further():
    removed = noise(4, 3, 3000)
    clean = rows(1.0, 2.0, 0.1, 100.0) * removed  # the ratio is the same at all times and frequencies
    gains = left_in(clean + removed, clean, 0.05, 14.0, 0.4)
    expected = torch.tensor([10 ** (-14 / 20), 2 * 10 ** (-14 / 20), 0.05, 0.4])[:, None]  # or floor, or ceiling
    torch.testing.assert_close(gains, expected.expand_as(gains), rtol=1e-3, atol=1e-3)
    assert left_in(clean + removed, clean, 0.5, 14.0, 0.4).mean() == pytest.approx(0.5, rel=1e-3)
    assert left_in(clean + removed, clean, 0.05, math.inf).mean() == pytest.approx(0.05, rel=1e-3)


def test_an_estimate_far_below_the_noise_is_attenuated_with_it():
    removed = noise(4, 3, 3000)
    estimate = rows(0.001, 0.1, 0.2, 0.5) * removed
    trust = rows(0.1, 0.4, 0.8, 1.0)
    kept = leave_noise(estimate + removed, estimate, 0.1, math.inf, doubt=0.25) - 0.1 * removed
    gains = (kept / estimate).mean((1, 2))
    # all but the loudest tenth of the noise counts: of random noise, that is a little less than all of it
    torch.testing.assert_close(gains, trust[:, 0, 0], rtol=0.06, atol=0)
    removed[..., 1500:1590] *= 100  # a spike attenuates nothing but itself
    spiked = leave_noise(estimate + removed, estimate, 0.1, math.inf, doubt=0.25) - 0.1 * removed
    torch.testing.assert_close((spiked / estimate).mean((1, 2)), gains, rtol=0.06, atol=0)


def test_strong_noise_at_other_frequencies_is_no_reason_for_doubt():
    time = torch.arange(3000) / 100
    weak = torch.sin(2 * torch.pi * 10 * time) * torch.exp(-(((time - 15) / 3) ** 2))
    clean = weak.expand(1, 3, -1)
    for frequency, trusted in ((1.3, True), (11.0, False)):
        removed = 0.1 * noise(1, 3, 3000) + 40 * torch.sin(2 * torch.pi * frequency * time)
        kept = leave_noise(clean + removed, clean, 0.1, math.inf) - 0.1 * removed
        assert ((kept * clean).sum() / clean.square().sum() > 0.99) == trusted


@pytest.mark.parametrize("factor", [1e3, 1e-3])
def test_a_broken_component_has_no_say_about_the_others(factor):
    removed, clean = noise(1, 3, 3000), 0.5 * noise(1, 3, 3000, seed=1)
    expected = leave_noise(clean + removed, clean)
    removed[:, 2] *= factor
    kept = leave_noise(clean + removed, clean)
    torch.testing.assert_close(kept[:, :2], expected[:, :2], rtol=0.1, atol=0.05)


def test_the_level_of_the_noise_changes_too_slowly_to_announce_an_earthquake():
    removed, clean = noise(1, 3, 60_000), torch.zeros(1, 3, 60_000)
    clean[..., 30_000:30_500] = 30 * noise(1, 3, 500, seed=1)
    gains = left_in(clean + removed, clean)[0]
    assert gains.min() == pytest.approx(NOISE_FLOOR, rel=1e-3) and gains.max() == pytest.approx(NOISE_CEILING, rel=0.02)
    assert gains[29_000:31_500].min() > 0.97 * NOISE_CEILING  # before, during and after the earthquake
    assert (gains[3000:] / gains[:-3000]).max() < 2.1


@pytest.mark.parametrize("first", [0, 37, 12_345])
def test_a_sample_depends_on_its_surroundings_alone(first):
    removed, clean = noise(1, 3, 60_000), noise(1, 3, 60_000, seed=1)
    clean *= 10 ** torch.linspace(-3, 1, 60_000)
    whole = leave_noise(clean + removed, clean, origin=999)
    part = leave_noise((clean + removed)[..., first:], clean[..., first:], origin=999 + first)
    reach = math.ceil(REACH * 100)
    torch.testing.assert_close(part[..., reach:], whole[..., first + reach :], rtol=1e-4, atol=1e-4)


def test_scale_does_not_matter():
    removed, clean = noise(1, 3, 3000), 0.3 * noise(1, 3, 3000, seed=1)
    expected = leave_noise(clean + removed, clean)
    for scale in (1e-30, 1e30):
        torch.testing.assert_close(leave_noise(scale * (clean + removed), scale * clean) / scale, expected)


@pytest.mark.parametrize("samples", [1, 8, 100, 101, 3000])
def test_records_of_any_length(samples):
    silence = torch.zeros(1, 3, samples)
    assert not leave_noise(silence, silence).any()
    noisy = noise(1, 3, samples)
    torch.testing.assert_close(leave_noise(noisy, noisy), noisy)
    torch.testing.assert_close(leave_noise(noisy, silence), NOISE_FLOOR * noisy)
    torch.testing.assert_close(leave_noise(noisy, 0.5 * noisy, 0.0, math.inf), 0.5 * noisy)


def test_gradients_are_finite():
    removed = noise(3, 3, 3000) * rows(1.0, 1.0, 0.0)
    estimate = (rows(0.0, 0.5, 0.0) * noise(3, 3, 3000, seed=1)).requires_grad_()
    leave_noise(estimate + removed, estimate).square().sum().backward()
    assert estimate.grad.isfinite().all()
