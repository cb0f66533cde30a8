"""Muon and AdamW, against linear algebra and PyTorch's own."""

import pytest
import torch
from torch import nn

from seisbench_cdiffsd.cdiffsd import SpectralUNet
from seisbench_cdiffsd.training.config import TrainingConfig
from seisbench_cdiffsd.training.optimizer import Muon, make_optimizer, orthogonal


@pytest.mark.parametrize("shape", [(20, 60), (60, 20), (30, 30)])
def test_an_orthogonal_matrix_keeps_the_singular_vectors_and_levels_the_values(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    levelled = left.T @ orthogonal(matrix) @ right.T
    assert levelled.diag().min() > 0.3 and levelled.diag().max() < 1.3
    torch.testing.assert_close(levelled, torch.diag(levelled.diag()), atol=1e-4, rtol=0)


def test_other_parameters_are_updated_by_pytorchs_adamw_and_a_stored_optimizer_resumes_exactly():
    def made():
        kernel, ours, theirs = (nn.Parameter(torch.ones(shape)) for shape in ((4, 2, 3), 3, 3))
        adamw = torch.optim.AdamW([theirs], 0.05, betas=(0.9, 0.99))
        return kernel, ours, theirs, Muon([kernel], [ours], 0.1, 0.05), adamw

    def steps(kernel, ours, theirs, *optimizers, count):
        for _ in range(count):
            for x in (kernel, ours, theirs):
                x.grad = torch.sin(x.detach()) + torch.arange(3)
            for optimizer in optimizers:
                optimizer.step()

    whole, parts, resumed = made(), made(), made()
    steps(*whole, count=10)
    torch.testing.assert_close(whole[1], whole[2])
    steps(*parts, count=4)
    for new, old in zip(resumed, parts, strict=True):
        new.data.copy_(old.data) if isinstance(new, nn.Parameter) else new.load_state_dict(old.state_dict())
    steps(*resumed, count=6)
    assert resumed[0].equal(whole[0]) and resumed[1].equal(whole[1])


def test_kernels_move_as_far_as_under_adamw_in_all_directions():
    kernel = nn.Parameter(torch.zeros(8, 4, 3))
    kernel.grad = torch.randn(8, 4, 3, generator=torch.Generator().manual_seed(0)) * 1e-6
    Muon([kernel], [], 0.01, 0.01).step()
    assert kernel.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.25)
    assert (kernel * kernel.grad).sum() < 0


def test_a_network_is_split_into_hidden_kernels_and_the_rest():
    network = SpectralUNet()
    groups = make_optimizer(network, TrainingConfig(learning_rate=1e-3, kernel_rate=0.01)).param_groups
    assert [(group["rule"], group["lr"]) for group in groups] == [("muon", 0.01), ("adamw", 1e-3)]
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    assert not any(parameter is network.head.weight for parameter in groups[0]["params"])
    (group,) = make_optimizer(network, TrainingConfig(kernel_rate=0)).param_groups
    assert group["rule"] == "adamw"
