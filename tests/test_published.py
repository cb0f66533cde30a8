"""The configuration of the paper: its degradations in closed form, and its network, of one component at a time."""

import math

import pytest
import torch

from seisbench_cdiffsd import CDiffSD
from seisbench_cdiffsd.published import ChannelNorm, ComponentUNet, PublishedUNet, alpha_bar, degradation, sinusoidal


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return PublishedUNet().eval()


def records(seed=0, batch=2):
    return torch.randn(batch, 3, 400, generator=torch.Generator().manual_seed(seed))


def product(beta, levels=300):
    """The published table in plain Python, one factor after the other: 1, abar of t = 0 ... T - 1."""
    table = [1.0]
    for t in range(levels):
        if beta == "linear":
            value = (1e-4 + (0.02 - 1e-4) * t / (levels - 1)) * 1000 / levels
        else:
            value = 1e-4 + (0.02 - 1e-4) * math.cos((t / levels + 0.008) / 1.008 * math.pi / 2) ** 2
        table.append(table[-1] * (1 - value))
    return torch.tensor(table, dtype=torch.float64)


@pytest.mark.parametrize("beta", ["linear", "cosine"])
def test_the_degradation_is_that_of_the_paper(beta):
    level = torch.arange(301, dtype=torch.float64) / 300
    keep, add = degradation(beta, level)
    torch.testing.assert_close(alpha_bar(beta), product(beta), rtol=1e-10, atol=1e-15)
    torch.testing.assert_close(keep**2, product(beta), rtol=1e-10, atol=1e-15)
    torch.testing.assert_close(keep**2 + add**2, torch.ones_like(level), rtol=0, atol=1e-12)
    assert keep[0] == 1 and (keep.diff() < 0).all()


@pytest.mark.parametrize(
    ("level", "number"),
    [(0.0, 0), (0.4, 1), (1.4, 1), (1.6, 2), (298.4, 298), (299.4, 299), (299.6, 300), (300.0, 300)],
)
def test_levels_are_rounded_to_the_nearest(level, number):
    keep, _ = degradation("cosine", torch.tensor([level / 300], dtype=torch.float64))
    assert (keep**2).item() == pytest.approx(product("cosine")[number].item(), abs=1e-15)


def test_the_network_sees_levels_from_0():
    network, seen = ComponentUNet(), []
    network.embedding.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    network(records(batch=3)[:, :1], torch.tensor([1.0, 1 / 300, 0.5]))
    torch.testing.assert_close(seen[0], sinusoidal(torch.tensor([299.0, 0.0, 149.0]), 8))


def test_the_network_has_the_published_norms_and_number_of_parameters_and_no_odds(network):
    x = torch.tensor([[[3.0], [4.0]]])
    torch.testing.assert_close(ChannelNorm(2)(x), x / 12.5**0.5)  # no mean is removed
    assert {m.num_groups for m in network.modules() if isinstance(m, torch.nn.GroupNorm)} == {8}
    assert sum(p.numel() for p in ComponentUNet().parameters()) == 347_937
    assert sum(p.numel() for p in network.parameters()) == 3 * 347_937
    with pytest.raises(TypeError, match="presence"):
        CDiffSD(network="published", presence=True)


@torch.no_grad()
def test_each_component_has_weights_of_its_own_and_sees_neither_others_nor_batch_mates(network):
    x, level = records(batch=4), torch.tensor([0.1, 0.4, 0.7, 1.0])
    changed = x.clone()
    changed[:, 1] = records(1, batch=4)[:, 1]
    before, after = network(x, level), network(changed, level)
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]]) and not torch.allclose(before[:, 1], after[:, 1])
    alone = torch.cat([network(x[i : i + 1], level[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(before, alone, rtol=1e-4, atol=1e-5)
    same = network(x[:, :1].expand(-1, 3, -1), level)
    assert not torch.allclose(same[:, 0], same[:, 1]) and not torch.allclose(same[:, 1], same[:, 2])
    low = network(x, torch.full((4,), 0.1))
    assert low.shape == x.shape and low.isfinite().all() and not torch.allclose(low[3], before[3])


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
