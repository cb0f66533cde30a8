"""The optimiser of the training: Muon for the kernels of convolutions, AdamW for all other parameters.

Orthogonal updates make all directions of a kernel learn at the same pace. PyTorch's own Muon takes matrices only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

#: Coefficients of the Newton-Schulz iteration, and its number of repetitions (Jordan, 2024).
COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5


class Muon(torch.optim.Optimizer):
    """
    Muon (Jordan, 2024) with the step size of AdamW (Liu et al., 2025), and AdamW (Loshchilov and Hutter, 2019).

    :param kernels: Parameters that are updated as matrices, (output, everything else)
    :param others: Parameters that are updated elementwise
    :param lr: Learning rate of the kernels
    :param lr_others: Learning rate of the others
    :param momentum: Decay of the average gradient of the kernels
    :param betas: Decays of the average gradient of the others and of its square
    :param weight_decay: Share of a parameter that is subtracted at each step, times the learning rate
    """

    def __init__(
        self,
        kernels: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        lr: float,
        lr_others: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.01,
    ) -> None:
        self.rules: dict[str, Callable[[dict[str, Any], nn.Parameter, Tensor], None]] = {
            "muon": self._muon,
            "adamw": self._adamw,
        }
        groups = [
            {"params": list(kernels), "rule": "muon", "lr": lr},
            {"params": list(others), "rule": "adamw", "lr": lr_others},
        ]
        defaults = {"momentum": momentum, "betas": betas, "weight_decay": weight_decay}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    self.rules[group["rule"]](group, parameter, parameter.grad)
        return loss

    def _muon(self, group: dict[str, Any], parameter: nn.Parameter, gradient: Tensor) -> None:
        state, momentum = self.state[parameter], group["momentum"]
        average = state.setdefault("average", torch.zeros_like(parameter)).lerp_(gradient, 1 - momentum)
        matrix = gradient.lerp(average, momentum).flatten(1)
        scale = 0.2 * max(matrix.shape) ** 0.5
        parameter.sub_(orthogonal(matrix).view_as(parameter), alpha=group["lr"] * scale)

    def _adamw(self, group: dict[str, Any], parameter: nn.Parameter, gradient: Tensor) -> None:
        state, (beta1, beta2) = self.state[parameter], group["betas"]
        step = state.setdefault("step", torch.zeros(())).add_(1)
        average = state.setdefault("average", torch.zeros_like(parameter)).lerp_(gradient, 1 - beta1)
        square = state.setdefault("square", torch.zeros_like(parameter)).lerp_(gradient.square(), 1 - beta2)
        root = (square / (1 - beta2 ** step.item())).sqrt_().add_(1e-8)
        parameter.addcdiv_(average, root, value=-group["lr"] / (1 - beta1 ** step.item()))


def orthogonal(matrix: Tensor) -> Tensor:
    """
    The matrix with all its singular values near one, by a Newton-Schulz iteration.

    :param matrix: (rows, columns)
    :return: The same singular vectors, with singular values between about 0.7 and 1.2
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def make_optimizer(model: nn.Module, rate: float, kernel_rate: float) -> torch.optim.Optimizer:
    """
    Muon for the hidden convolutions of a network; AdamW for norms, biases, the level's embedding and the output.

    :param model: A network, or a model that holds one
    :param rate: Learning rate of AdamW
    :param kernel_rate: Learning rate of Muon; at 0 AdamW updates all parameters
    """
    kernels: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        hidden = kernel_rate and parameter.dim() >= 3 and not name.endswith("head.weight")
        (kernels if hidden else others).append(parameter)
    return Muon(kernels, others, kernel_rate or rate, rate)
