"""The loss of a training: errors of an estimate, combined by name and weight, and the two terms of cold diffusion.

An error is ``error(clean, estimate, noise)``: one number for a batch. Records are (batch, component, samples), and the
noisy record, ``clean + noise``, has about unit power. Levels are (batch,).

A plain L1 or L2 error is blind to a P onset a hundred times smaller than S, and at low SNR silence minimises it.
The errors here are therefore relative: to the window, to each half second of it, to each part of its spectrum, or to
what a picker sees.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seisbench_cdiffsd.cdiffsd import SCHEDULES, endpoint, mix
from seisbench_cdiffsd.picking import WeightsUnavailable, load_picker
from seisbench_cdiffsd.training.config import Loss, TrainingConfig

Error = Callable[[Tensor, Tensor, Tensor], Tensor]

#: Power that is negligible compared with that of a record, and with that of noise in one bin of :py:func:`mask`.
TINY, TINY_BIN = 1e-8, 1e-6
#: Samples of a frame of :py:func:`spectrum` and samples between two frames.
SPECTRUM_FRAME, SPECTRUM_HOP = 64, 32
#: Samples of a frame of a mask, and of its transform, as in DeepDenoiser and SeisDAE.
MASK_FRAME, MASK_TRANSFORM = 30, 60
#: Exponent of the amplitudes in :py:func:`spectrum`, small so that weak arrivals count, and power added to each bin.
COMPRESSION, FAINT_BIN = 0.3, 1e-4
#: Share of the noise that pickers see with an estimate.
DRY = 0.05


def training_loss(
    model: Callable[[Tensor, Tensor], Any],
    clean: Tensor,
    noisy: Tensor,
    level: Tensor,
    lower: Tensor,
    config: TrainingConfig,
    error: Error,
) -> Tensor:
    """
    The two-term loss of cold diffusion: restore, step back as the sampler does, and restore again. The second,
    "unfolded" term (Yen et al. 2023; Trappolini et al. 2024) shows the network records that contain its own errors.

    :param model: Restores clean records from records at any levels; returns estimates, or estimates and log odds
    :param level: Levels t of the first term, in (0, 1]
    :param lower: Levels 0 < s < t of the second term; fewer than records if it is of the first records only
    """
    # the second term is a mean over the whole batch, of which the parts may hold unequal shares
    unfolded = config.unfolded * len(lower) * config.parts / max(config.unfolded_count, 1)
    schedule = SCHEDULES[config.schedule]

    def term(x: Tensor, level: Tensor, clean: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        answer = model(x, level)
        estimate, log_odds = answer if isinstance(answer, tuple) else (answer, None)
        value = error(clean, estimate, noise)
        if log_odds is not None and config.presence:
            value = value + config.presence * odds_error(log_odds, clean, config.augmentations.noise_only)
        return estimate, value

    noise = noisy - clean
    x = mix(clean=clean, noisy=noisy, level=level, schedule=schedule)
    estimate, loss = term(x, level, clean, noise)
    if unfolded == 0:
        return loss
    x, estimate, clean, noise, level = (part[: len(lower)] for part in (x, estimate, clean, noise, level))
    end = endpoint(x=x, clean=estimate, level=level, schedule=schedule)
    x = mix(clean=estimate, noisy=end, level=lower, schedule=schedule)
    return loss + unfolded * term(x, lower, clean, noise)[1]


def odds_error(log_odds: Tensor, clean: Tensor, noise_only: float) -> Tensor:
    """Cross entropy of log odds (batch,) and of whether there is an earthquake, as if half of the windows held none."""
    present = (clean.square().mean((1, 2)) > 1e-3).to(clean)  # of the power of a window
    weights = present * 0.5 / (1 - noise_only) + (1 - present) * 0.5 / noise_only
    return F.binary_cross_entropy_with_logits(log_odds.to(clean), present, weights)


def l1(clean: Tensor, estimate: Tensor, noise: Tensor) -> Tensor:
    """The published error: mean absolute difference (Trappolini et al., 2024)."""
    return (clean - estimate).abs().mean()


def log_ratio(
    clean: Tensor, estimate: Tensor, noise: Tensor, floor: float = 0.001, window_floor: float = 0.01
) -> Tensor:
    """
    Log of the error power over the power of earthquake and noise: half for the whole window, half by segments.

    The whole window gives the SDR, up to sign and unit. The segments, half a second of one component each, make a weak
    arrival count as much as a strong one, and the silence before P as much as either.

    :param floor: Ratio of powers of a segment below which an error hardly matters: what is left before P must be far
        weaker than P, or pickers take it for the onset
    :param window_floor: For whole windows, that of the earthquake to all, and ten times that of errors
    """
    error, power = (clean - estimate).square(), clean.square() + noise.square()
    window, total, signal = (x.mean((1, 2)) for x in (error, power, clean.square()))
    total = window_floor * total
    whole = torch.log((window + 0.1 * total + TINY) / (signal + total + TINY)).mean()
    local_error, local_power = (F.avg_pool1d(x, 50) for x in (error, power))
    return 0.5 * whole + 0.5 * torch.log(local_error / (local_power + TINY) + floor).mean()


def spectrum(clean: Tensor, estimate: Tensor, noise: Tensor) -> Tensor:
    """Squared difference of compressed short-time spectra, with and without phase (Braun and Tashev, 2021)."""
    window = torch.hann_window(SPECTRUM_FRAME, device=clean.device, dtype=clean.dtype)
    traces = torch.stack([clean, estimate]).flatten(0, 2)
    bins = torch.stft(traces, SPECTRUM_FRAME, SPECTRUM_HOP, window=window, return_complex=True, normalized=True)
    parts = torch.view_as_real(bins)
    gain = (parts.square().sum(-1) + FAINT_BIN) ** ((COMPRESSION - 1) / 2)
    a, b = (parts * gain[..., None]).chunk(2)
    amplitude_a, amplitude_b = (gain ** (COMPRESSION / (COMPRESSION - 1))).chunk(2)
    return ((a - b).square().sum(-1) + (amplitude_a - amplitude_b).square()).mean()


def mask(clean: Tensor, estimate: Tensor, noise: Tensor) -> Tensor:
    """
    Cross-entropy, less its minimum, of the share of the earthquake in the amplitude of each bin of a short-time
    spectrum: what DeepDenoiser is trained to find (Zhu et al., 2019), here for what is kept and removed. Removing all
    of a bin in which the earthquake has a share, however weak, costs without bound.
    """
    parts = torch.stack([clean, noise, estimate, clean + noise - estimate]).flatten(0, 2)
    power = torch.view_as_real(mask_spectrum(parts)).square().sum(-1)
    s, n, kept, removed = (power + TINY_BIN).sqrt().unflatten(0, (4, -1))
    target, share = s / (s + n), kept / (kept + removed)
    missed = target * (target / share).log() + (1 - target) * ((1 - target) / (1 - share)).log()
    return missed.mean()


def mask_spectrum(traces: Tensor) -> Tensor:
    """Complex short-time spectrum of traces (batch, samples) that DeepDenoiser's mask applies to."""
    window = torch.hann_window(MASK_FRAME, device=traces.device, dtype=traces.dtype)
    return torch.stft(
        traces, MASK_TRANSFORM, MASK_FRAME // 2, MASK_FRAME, window, pad_mode="constant", return_complex=True
    )


class Picks:
    """
    What a frozen PhaseNet sees: the cross-entropy of its probabilities on the estimate against those on the clean
    record, less its minimum. A twentieth of the noise stays in both, as pickers will get it: in silence they miss even
    clean arrivals, and to please them there distorts the waveform. Evaluate the result with other weights than these.

    :raises ValueError: If the weights are not in SeisBench's cache; nothing is downloaded
    """

    def __init__(self, weights: str, device: str = "cpu") -> None:
        try:
            self.picker = load_picker("PhaseNet", weights).to(device).eval().requires_grad_(False)
        except WeightsUnavailable as error:
            raise ValueError(f"The loss picks.{weights} is not available. {error}") from error

    def __call__(self, clean: Tensor, estimate: Tensor, noise: Tensor) -> Tensor:
        with torch.no_grad():
            target = picker_probabilities(self.picker, clean + DRY * noise)
        entropy = -torch.xlogy(target, target).sum(1)
        seen = picker_probabilities(self.picker, estimate + DRY * (clean + noise - estimate))
        return (-(target * seen.clamp(min=1e-6).log()).sum(1) - entropy).mean()


def picker_probabilities(picker: Any, windows: Tensor) -> Tensor:
    """Probabilities of PhaseNet, (batch, label, samples), on windows (batch, component, samples) in ZNE order."""
    x = windows[:, ["ZNE".index(component) for component in picker.component_order]]
    x = F.pad(x, (0, max(0, picker.in_samples - x.shape[-1])))
    x = x - x.mean(-1, keepdim=True)
    scale = x.abs().amax(-1, keepdim=True) if picker.norm == "peak" else x.std(-1, keepdim=True)
    return picker(x / (scale + 1e-3))  # which keeps silent windows, and their gradients, small


ERRORS: dict[str, Error] = {"l1": l1, "log_ratio": log_ratio, "spectrum": spectrum, "mask": mask}


def make_loss(loss: Loss, device: str = "cpu") -> Error:
    """The weighted sum of errors that settings ask for; ValueError if PhaseNet weights are not in SeisBench's cache."""
    terms = [(error, getattr(loss, name)) for name, error in ERRORS.items()]
    terms += [(Picks(name, device), weight) for name, weight in loss.picks.items() if weight]

    def total(clean: Tensor, estimate: Tensor, noise: Tensor) -> Tensor:
        return torch.stack([weight * error(clean, estimate, noise) for error, weight in terms if weight]).sum()

    return total
