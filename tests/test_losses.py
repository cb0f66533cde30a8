"""Errors of an estimate: where they vanish, what they see, and what they refuse."""

import numpy as np
import pytest
import seisbench
import torch

from seisbench_cdiffsd.training import losses


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(4, 3, 3000, generator=generator) for _ in range(2))
    clean[..., :1000] = 0
    clean[..., 1000:2000] *= 0.01  # a weak P before a strong S
    return clean, 0.1 * noise


@pytest.mark.parametrize("name", losses.ERRORS)
def test_an_error_falls_as_the_estimate_nears_the_clean_record(name, pair):
    clean, noise = pair
    error = losses.make_loss({name: 1.0})
    values = [error(clean, clean + share * noise, noise).item() for share in (1, 0.5, 0.1, 0)]
    assert np.all(np.diff(values) < 0)


@pytest.mark.parametrize("name", ["l1", "spectrum", "mask"])
def test_the_right_estimate_has_no_error(name, pair):
    clean, noise = pair
    assert losses.make_loss({name: 1.0})(clean, clean, noise).item() <= (1e-6 if name == "mask" else 0)


@pytest.mark.parametrize("name", losses.ERRORS)
@pytest.mark.parametrize("case", ["noise only", "no noise", "silence"])
def test_errors_and_gradients_stay_finite(name, case, pair):
    clean, noise = (0 * x if drop else x for x, drop in zip(pair, _dropped(case), strict=True))
    estimate = (0.5 * (clean + noise)).requires_grad_()
    error = losses.make_loss({name: 1.0})(clean, estimate, noise)
    error.backward()
    assert error.isfinite()
    assert estimate.grad.isfinite().all()


def _dropped(case):
    return {"noise only": (True, False), "no noise": (False, True), "silence": (True, True)}[case]


def test_the_relative_errors_see_a_weak_arrival_that_l1_is_blind_to(pair):
    clean, noise = pair
    without_p = clean.clone()
    without_p[..., 1000:2000] = 0
    noise = 0.01 * noise
    gains = {}
    for name in ("l1", "log-ratio"):
        error = losses.make_loss({name: 1.0})
        noisy, muted = (error(clean, x, noise) for x in (clean + noise, without_p + noise))
        gains[name] = (muted - noisy).item() / abs(error(clean, 0 * clean, noise) - noisy).item()
    assert gains["log-ratio"] > 10 * gains["l1"]


def test_the_mask_of_deepdenoiser_costs_its_own_cross_entropy():
    """An estimate that keeps the same share of every bin has the cross-entropy of that share."""
    clean = torch.randn(2, 3, 3000, generator=torch.Generator().manual_seed(0))
    noise = clean.flip(0)
    halves = losses.mask(clean, 0.5 * (clean + noise), noise)
    tenths = losses.mask(clean, 0.1 * (clean + noise), noise)
    # The shares of the two records are p and 1 - p, so the linear terms of their cross-entropies cancel.
    assert (tenths - halves).item() == pytest.approx(-0.5 * np.log(0.1 * 0.9 / 0.25), rel=1e-3)


def test_log_ratio_is_the_sdr_up_to_sign_and_unit():
    clean = torch.randn(1, 3, 3000, generator=torch.Generator().manual_seed(0))
    noise = 0.5 * torch.randn(1, 3, 3000, generator=torch.Generator().manual_seed(1))
    near, far = (losses.log_ratio(clean, clean + share * noise, noise, 1e-9, 1e-9) for share in (0.1, 1))
    assert (far - near).item() == pytest.approx(np.log(100), rel=1e-3)


def test_a_loss_is_the_weighted_sum_of_its_terms(pair):
    clean, noise = pair
    estimate = clean + noise
    parts = [losses.make_loss({name: 1.0})(clean, estimate, noise) for name in ("l1", "log-ratio")]
    both = losses.make_loss({"l1": 2.0, "log-ratio": 0.5, "spectrum": 0.0})(clean, estimate, noise)
    torch.testing.assert_close(both, 2 * parts[0] + 0.5 * parts[1])


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"l3": 1.0}, "Available: l1"), ({"l1": -1.0}, "negative"), ({"l1": 0.0}, "at least one"), ({}, "at least one")],
)
def test_impossible_losses_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        losses.make_loss(weights)


def test_a_missing_picker_is_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(seisbench, "cache_model_root", tmp_path)
    monkeypatch.setattr("requests.sessions.Session.send", lambda *a, **k: pytest.fail("asked the network"))
    with pytest.raises(ValueError, match=r"loss 'picks:foo'.* 'foo' are not in SeisBench's cache.*from_pretrained"):
        losses.make_loss({"picks:foo": 1.0})


def test_a_picker_sees_what_is_missed_and_nothing_in_a_perfect_estimate(pickers, example):
    clean = torch.tensor(np.stack([trace.data for trace in example.sort(reverse=True)]), dtype=torch.float32)[None]
    clean = clean / clean.std()
    noise = 3 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    error = losses.make_loss({"picks:volpick": 1.0})
    silent = (0 * clean).requires_grad_()
    missed = error(clean, silent, noise)
    missed.backward()
    assert error(clean, clean, 0 * noise).item() == pytest.approx(0, abs=1e-4)
    assert error(clean, clean, noise).item() == pytest.approx(0, abs=1e-4)
    assert missed.item() > 0.01
    assert silent.grad.isfinite().all()
