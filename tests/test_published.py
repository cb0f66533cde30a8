"""The published network: its size, and that it sees one component at a time."""

import pytest
import torch

from seisbench_cdiffsd.published import ComponentUNet, PublishedUNet, sinusoidal


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return PublishedUNet().eval()


def records(seed=0, batch=2):
    return torch.randn(batch, 3, 400, generator=torch.Generator().manual_seed(seed))


def test_one_component_has_the_published_number_of_parameters(network):
    assert sum(p.numel() for p in ComponentUNet().parameters()) == 347_937
    assert sum(p.numel() for p in network.parameters()) == 3 * 347_937


@torch.no_grad()
def test_components_do_not_see_each_other(network):
    x, level = records(), torch.full((2,), 0.5)
    changed = x.clone()
    changed[:, 1] = records(1)[:, 1]
    before, after = network(x, level), network(changed, level)
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])
    assert not torch.allclose(before[:, 1], after[:, 1])


@torch.no_grad()
def test_each_component_has_weights_of_its_own(network):
    same = records()[:, :1].expand(-1, 3, -1)
    out = network(same, torch.full((2,), 0.5))
    assert not torch.allclose(out[:, 0], out[:, 1]) and not torch.allclose(out[:, 1], out[:, 2])


@torch.no_grad()
def test_records_do_not_see_their_batch_mates(network):
    x, level = records(batch=4), torch.tensor([0.1, 0.4, 0.7, 1.0])
    together = network(x, level)
    alone = torch.cat([network(x[i : i + 1], level[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_level_matters_and_the_shape_is_kept(network):
    x = records()
    low, high = (network(x, torch.full((2,), value)) for value in (0.1, 1.0))
    assert low.shape == x.shape and low.isfinite().all()
    assert not torch.allclose(low, high)


def test_every_parameter_learns(network):
    network.zero_grad()
    network(records(), torch.full((2,), 0.5)).abs().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


def test_levels_are_embedded_as_sines_and_cosines_of_falling_rates():
    embedded = sinusoidal(torch.tensor([0.0, 2.0]), 8)
    rates = torch.tensor([1, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3), 1e-4])
    torch.testing.assert_close(embedded[0], torch.tensor([0.0] * 4 + [1.0] * 4))
    torch.testing.assert_close(embedded[1], torch.cat([(2 * rates).sin(), (2 * rates).cos()]))
