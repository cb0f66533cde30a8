"""The optimiser of the training: Muon for the kernels of convolutions, AdamW for all other parameters.

Orthogonal updates make all directions of a kernel learn at the same pace. PyTorch's own Muon takes matrices only.
"""

from typing import Any

import torch
from torch import Tensor, nn

from seisbench_cdiffsd.training.config import TrainingConfig

#: Decay of the average gradient of the kernels.
MOMENTUM = 0.95


class Muon(torch.optim.AdamW):
    """Muon (Jordan, 2024), with the step size of AdamW (Liu et al., 2025), for kernels, and AdamW for others."""

    def __init__(self, kernels: list[nn.Parameter], others: list[nn.Parameter], lr: float, lr_others: float) -> None:
        groups = ("muon", kernels, lr), ("adamw", others, lr_others)
        super().__init__([{"rule": x, "params": y, "lr": z} for x, y, z in groups if y], betas=(0.9, 0.99))

    def step(self, closure: Any = None) -> Any:
        loss = None if closure is None else closure()
        groups = self.param_groups
        for group in groups:
            for parameter in group["params"] if group["rule"] == "muon" else ():
                if parameter.grad is not None:
                    self._turn(parameter, parameter.grad, group["lr"], group["weight_decay"])
        self.param_groups = [group for group in groups if group["rule"] == "adamw"]
        super().step()
        self.param_groups = groups
        return loss

    @torch.no_grad()
    def _turn(self, parameter: nn.Parameter, gradient: Tensor, rate: float, decay: float) -> None:
        state = self.state[parameter]
        if not state:  # PyTorch expects a step in any state
            state.update(step=torch.zeros(()), average=torch.zeros_like(parameter))
        average = state["average"].lerp_(gradient, 1 - MOMENTUM)
        matrix = gradient.lerp(average, MOMENTUM).flatten(1)
        parameter.mul_(1 - rate * decay)
        parameter.sub_(orthogonal(matrix).view_as(parameter), alpha=rate * 0.2 * max(matrix.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix with the same singular vectors and all values near one, by a Newton-Schulz iteration (Jordan, 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Adam, or Muon for the hidden convolutions and AdamW for norms, biases, the level's embedding and the output."""
    if config.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), config.learning_rate)
    kernels, others = list[nn.Parameter](), list[nn.Parameter]()
    for name, parameter in model.named_parameters():
        hidden = config.kernel_rate and parameter.dim() >= 3 and not name.endswith("head.weight")
        (kernels if hidden else others).append(parameter)
    return Muon(kernels, others, config.kernel_rate, config.learning_rate)
