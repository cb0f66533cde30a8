"""Is there an earthquake? The odds that a network tells beside its estimates, what they are learnt by, and their use.

In enhancement of speech, the same is known as the speech presence probability (Cohen & Berdugo, 2001).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

#: Odds of an earthquake, to one, below which an estimate is attenuated.
DOUBTED_BELOW = 2.0
#: Share of an earthquake in the power of a window below which there is none.
FAINT = 1e-3


class OddsRecorder:
    """
    Denoises, ``denoise(x, level)``, and keeps the odds that come with the estimates.

    :param with_log_odds: Gives estimates, and natural logarithms of the odds, (batch,), or None, of records at levels
    """

    def __init__(self, with_log_odds: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]) -> None:
        self._with_log_odds = with_log_odds
        #: Logarithms of the odds, of each call.
        self.log_odds: list[Tensor] = []

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        estimate, log_odds = self._with_log_odds(x, level)
        if log_odds is not None:
            self.log_odds.append(log_odds)
        return estimate

    def trust(self) -> Tensor | None:
        """
        How far to trust the estimates: ``min(1, (odds / DOUBTED_BELOW)**2)``, by the mean log odds of all calls.

        :return: Factors in [0, 1], (batch,); None if nothing was told
        """
        if not self.log_odds:
            return None
        return (2 * (torch.stack(self.log_odds).mean(0) - math.log(DOUBTED_BELOW))).clamp(max=0).exp()

    def error(self, clean: Tensor, noise_only: float, later: float = 1.0) -> Tensor | float:
        """
        Cross entropy of the odds and of whether there is an earthquake, as if half of the windows held none.

        :param clean: Clean records of noisy ones of unit power, (batch, component, samples); calls after the first may
            have been with the first of them alone
        :param noise_only: Share of the windows that hold none, in the open interval (0, 1)
        :param later: Weight of the calls after the first
        :return: The sum over the calls; 0 if nothing was told
        """
        present = (clean.square().mean((1, 2)) > FAINT).to(clean)
        weights = present * 0.5 / (1 - noise_only) + (1 - present) * 0.5 / noise_only
        error: Tensor | float = 0.0
        for i, log_odds in enumerate(self.log_odds):
            count = len(log_odds)
            term = F.binary_cross_entropy_with_logits(log_odds.to(clean), present[:count], weights[:count])
            error = error + (later if i else 1.0) * term
        return error
