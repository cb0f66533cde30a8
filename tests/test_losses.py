"""Errors of an estimate, the two terms of cold diffusion, and the odds of an earthquake."""

import math

import numpy as np
import pytest
import seisbench
import torch

from seisbench_cdiffsd import published  # noqa: F401 (its degradations are known by name)
from seisbench_cdiffsd.cdiffsd import SCHEDULES
from seisbench_cdiffsd.data.settings import Augmentations
from seisbench_cdiffsd.training import losses
from seisbench_cdiffsd.training.config import Loss, TrainingConfig

SILENT = dict.fromkeys(losses.ERRORS, 0.0)
schedules = pytest.mark.parametrize("schedule", SCHEDULES)


def only(name):
    return losses.make_loss(Loss(**{**SILENT, name: 1.0}))


def drawn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def pair():
    clean, noise = drawn(2, 4, 3, 3000)
    clean[..., :1000] = 0
    clean[..., 1000:2000] *= 0.01  # a weak P before a strong S
    return clean, 0.1 * noise


@pytest.mark.parametrize("name", losses.ERRORS)
def test_an_error_falls_as_the_estimate_nears_the_clean_record(name, pair):
    clean, noise = pair
    values = [only(name)(clean, clean + share * noise, noise).item() for share in (1, 0.5, 0.1, 0)]
    assert np.all(np.diff(values) < 0) and (name == "log_ratio" or values[-1] <= 1e-6)


@pytest.mark.parametrize("name", losses.ERRORS)
@pytest.mark.parametrize("shares", [(0, 1), (1, 0), (0, 0)], ids=["noise only", "no noise", "silence"])
def test_errors_and_gradients_stay_finite(name, shares, pair):
    clean, noise = (x * share for x, share in zip(pair, shares, strict=True))
    estimate = (0.5 * (clean + noise)).requires_grad_()
    error = only(name)(clean, estimate, noise)
    error.backward()
    assert error.isfinite() and estimate.grad.isfinite().all()


def test_the_relative_errors_see_a_weak_arrival_that_l1_is_blind_to(pair):
    clean, noise = pair[0], 0.01 * pair[1]
    without_p = clean.clone()
    without_p[..., 1000:2000] = 0
    gains = {}
    for name in ("l1", "log_ratio"):
        noisy, muted = (only(name)(clean, x, noise) for x in (clean + noise, without_p + noise))
        gains[name] = (muted - noisy).item() / abs(only(name)(clean, 0 * clean, noise) - noisy).item()
    assert gains["log_ratio"] > 10 * gains["l1"]


def test_an_estimate_that_keeps_a_share_of_every_bin_of_the_mask_costs_the_cross_entropy_of_that_share():
    clean = drawn(2, 3, 3000)
    noise = clean.flip(0)
    halves, tenths = (losses.mask(clean, share * (clean + noise), noise) for share in (0.5, 0.1))
    # The shares of the two records are p and 1 - p, so the linear terms of their cross-entropies cancel.
    assert (tenths - halves).item() == pytest.approx(-0.5 * np.log(0.1 * 0.9 / 0.25), rel=1e-3)


def test_log_ratio_is_the_sdr_up_to_sign_and_unit():
    clean, noise = drawn(1, 3, 3000), 0.5 * drawn(1, 3, 3000, seed=1)
    near, far = (losses.log_ratio(clean, clean + share * noise, noise, 1e-9, 1e-9) for share in (0.1, 1))
    assert (far - near).item() == pytest.approx(np.log(100), rel=1e-3)


def test_a_loss_is_the_weighted_sum_of_its_terms(pair):
    clean, noise = pair
    parts = [only(name)(clean, clean + noise, noise) for name in ("l1", "log_ratio")]
    both = losses.make_loss(Loss(l1=2, log_ratio=0.5, spectrum=0, mask=0))(clean, clean + noise, noise)
    torch.testing.assert_close(both, 2 * parts[0] + 0.5 * parts[1])


def test_a_missing_picker_is_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(seisbench, "cache_model_root", tmp_path)
    monkeypatch.setattr("requests.sessions.Session.send", lambda *a, **k: pytest.fail("asked the network"))
    with pytest.raises(ValueError, match=r"loss picks.foo .* 'foo' are not in SeisBench's cache.*from_pretrained"):
        losses.make_loss(Loss(picks={"foo": 1}))


def test_a_picker_sees_what_is_missed_and_nothing_in_a_perfect_estimate(pickers, example):
    clean = torch.tensor(np.stack([trace.data for trace in example.sort(reverse=True)]), dtype=torch.float32)[None]
    clean = clean / clean.std()
    noise = 3 * drawn(*clean.shape)
    error = losses.make_loss(Loss(**SILENT, picks={"volpick": 1}))
    silent = (0 * clean).requires_grad_()
    missed = error(clean, silent, noise)
    missed.backward()
    assert missed.item() > 0.01 and silent.grad.isfinite().all()
    for share in (0, 1):
        assert error(clean, clean, share * noise).item() == pytest.approx(0, abs=1e-4)


@pytest.fixture
def records():
    clean, noise = drawn(2, 5, 3, 400, dtype=torch.float64)
    return clean, clean + noise


def two_terms(model, records, schedule="straight", count=5, presence=0.0, noise_only=0.1, **options):
    level, lower = (torch.full((n,), t, dtype=torch.float64) for n, t in ((5, 0.8), (count, 0.4)))
    options |= {"presence": presence, "augmentations": Augmentations(noise_only=noise_only)}
    config = TrainingConfig(schedule=schedule, batch_size=5, unfolded_share=count / 5, **options)
    return losses.training_loss(model, *records, level, lower, config, losses.l1)


@schedules
def test_an_oracle_has_no_loss_and_is_degraded_towards_the_noisy_record_and_no_further(schedule, records):
    """The published code degrades towards 2x + n; with a perfect first estimate the right end point is x + n."""
    clean, noisy = records
    seen = []
    assert two_terms(lambda x, at: seen.append((x, at)) or clean, records, schedule, unfolded=3) == 0
    for x, at in seen:
        torch.testing.assert_close(x, losses.mix(clean=clean, noisy=noisy, level=at, schedule=SCHEDULES[schedule]))


def test_the_loss_is_both_terms_and_the_second_sees_the_networks_own_error(records):
    clean, noisy = records
    seen = []
    loss = two_terms(lambda x, at: seen.append((x, at)) or 0.5 * x, records, unfolded=3)
    x = clean + 0.8 * (noisy - clean)
    stepped = 0.5 * x + 0.4 / 0.8 * (x - 0.5 * x)  # where the sampler would go from x, not a fresh mixture
    torch.testing.assert_close(seen[0][0], x)
    torch.testing.assert_close(seen[1][0], stepped)
    assert seen[0][1].tolist() == [0.8] * 5 and seen[1][1].tolist() == [0.4] * 5
    torch.testing.assert_close(loss, losses.l1(clean, 0.5 * x, None) + 3 * losses.l1(clean, 0.5 * stepped, None))


def test_the_second_term_may_be_of_the_first_records_only_or_of_none(records):
    seen = []
    for options in ({"count": 2}, {}, {"unfolded": 0}):
        two_terms(lambda x, at: seen.append(x) or 0.5 * x, records, **options)
    assert [len(x) for x in seen] == [5, 2, 5, 5, 5] and torch.equal(seen[1], seen[3][:2])


@schedules
def test_gradients_flow_through_both_terms(schedule, records):
    gain = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def value(gain, unfolded=1):
        return two_terms(lambda x, at: gain * x, records, schedule, unfolded=unfolded)

    alone, both = (torch.autograd.grad(value(gain, unfolded), gain)[0].item() for unfolded in (0, 1))
    assert both == pytest.approx((value(0.5 + 1e-6) - value(0.5 - 1e-6)).item() / 2e-6, rel=1e-3) and alone != both


@pytest.mark.parametrize("silent", [1, 2, 5])
def test_windows_with_and_without_an_earthquake_count_alike(silent):
    clean = torch.ones(10, 3, 8)
    clean[:silent] = 0.01  # less than can be heard
    right = torch.where(torch.arange(10) < silent, 1 / 9, 9.0).log()
    for log_odds, expected in ((torch.zeros(10), 2), (right, 10 / 9)):
        assert losses.odds_error(log_odds, clean, silent / 10).item() == pytest.approx(math.log(expected), rel=1e-5)
    for noise_only in (1e-6, 1 - 1e-6):
        assert losses.odds_error(right, clean, noise_only).isfinite()


def test_the_odds_of_both_terms_are_learnt_with_the_weight_of_each(records):
    clean = torch.ones_like(records[0])
    answers = {n: (clean[:n], torch.full((n,), odds).log()) for n, odds in ((5, 1.0), (2, 9.0))}
    weights = {"unfolded": 3.0, "presence": 0.5, "noise_only": 0.5}
    told = two_terms(lambda x, at: answers[len(x)], (clean, records[1]), count=2, **weights)
    assert told.item() == pytest.approx(0.5 * (math.log(2) + 3 * math.log(10 / 9)), rel=1e-5)
