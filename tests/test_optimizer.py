"""Muon and AdamW, against linear algebra and PyTorch's own."""

import pytest
import torch
from torch import nn

from seisbench_cdiffsd.cdiffsd import SpectralUNet
from seisbench_cdiffsd.training.optimizer import Muon, make_optimizer, orthogonal


@pytest.mark.parametrize("shape", [(20, 60), (60, 20), (30, 30)])
def test_an_orthogonal_matrix_keeps_the_singular_vectors_and_levels_the_values(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    levelled = left.T @ orthogonal(matrix) @ right.T
    assert levelled.diag().min() > 0.3 and levelled.diag().max() < 1.3
    torch.testing.assert_close(levelled, torch.diag(levelled.diag()), atol=1e-4, rtol=0)


def train(optimizer, parameters, steps=30):
    """Fit a plane; the parameters after each step."""
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    path = []
    for _ in range(steps):
        optimizer.zero_grad()
        (x @ parameters[0] + parameters[1] - x.sum(1)).square().mean().backward()
        optimizer.step()
        path.append(torch.cat([parameter.detach().flatten() for parameter in parameters]))
    return torch.stack(path)


def test_other_parameters_are_updated_as_by_pytorchs_adamw():
    ours, theirs = ([nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(()))] for _ in range(2))
    options = {"betas": (0.9, 0.99), "weight_decay": 0.01}
    expected = train(torch.optim.AdamW(theirs, 0.05, **options), theirs)
    torch.testing.assert_close(train(Muon([], ours, 1.0, 0.05, **options), ours), expected)


def test_kernels_move_as_far_as_under_adamw_in_all_directions():
    kernel = nn.Parameter(torch.zeros(8, 4, 3))
    kernel.grad = torch.randn(8, 4, 3, generator=torch.Generator().manual_seed(0)) * 1e-6
    Muon([kernel], [], 0.01, 0.01).step()
    assert kernel.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.25)
    assert (kernel * kernel.grad).sum() < 0


def test_a_network_is_split_into_hidden_kernels_and_the_rest():
    network = SpectralUNet()
    groups = make_optimizer(network, 1e-3, 0.01).param_groups
    assert [(group["rule"], group["lr"]) for group in groups] == [("muon", 0.01), ("adamw", 1e-3)]
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    assert not any(parameter is network.head.weight for parameter in groups[0]["params"])
    (group,) = make_optimizer(network, 1e-3, 0).param_groups
    assert group["rule"] == "adamw"


def test_a_stored_optimizer_resumes_exactly():
    def build():
        parameters = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(()))]
        return parameters, Muon([], parameters, 1.0, 0.05)

    parameters, optimizer = build()
    whole = train(optimizer, parameters, 10)
    parameters, optimizer = build()
    train(optimizer, parameters, 4)
    state = optimizer.state_dict()
    again = [nn.Parameter(parameter.detach().clone()) for parameter in parameters]
    optimizer = Muon([], again, 1.0, 0.05)
    optimizer.load_state_dict(state)
    torch.testing.assert_close(train(optimizer, again, 6), whole[4:])
