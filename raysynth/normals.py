"""Mixtures of normal distributions, as networks give them, drawn whole or within a range.

`parameters` (B, 3 M) are as `networks.components` takes them: M components for each of B rows.
Scalars lie in [-1, 1]; what would be drawn past an end is cut to it, and so lies there.
"""

import torch
from torch import Generator, Tensor

from raysynth.networks import components, drawn


def scalar(parameters: Tensor, generator: Generator) -> Tensor:
    """A scalar (B,) drawn from each mixture, of `components` (B, 3 M)."""
    log_weights, means, log_stds = components(parameters)
    chosen = drawn(log_weights, generator)[:, None]
    noise = torch.randn(len(means), device=means.device, generator=generator)
    return means.gather(1, chosen)[:, 0] + noise * log_stds.gather(1, chosen)[:, 0].exp()


def log_mass(parameters: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Log weight (B, M) that each component has between `low` and `high`, (B, 1) or one for all.

    What would be drawn past -1 or 1 is cut to them, and so lies there.
    """
    log_weights, means, log_stds = components(parameters)
    left, right, _ = _scores(means, log_stds, low, high)
    less, more = (torch.special.log_ndtr(score) for score in (left, right))
    inside: Tensor = more + torch.log1p(-torch.exp((less - more).clamp(max=0)))
    return log_weights + inside.float()


def scalar_within(parameters: Tensor, lows: Tensor, highs: Tensor, generator: Generator) -> Tensor:
    """A scalar (B,) drawn from each mixture between `lows` and `highs` (B,)."""
    masses = log_mass(parameters, lows[:, None], highs[:, None])
    masses = torch.where(masses.isneginf().all(1, keepdim=True), components(parameters)[0], masses)
    chosen = drawn(masses, generator)[:, None]
    mean, log_std = (part.gather(1, chosen)[:, 0] for part in components(parameters)[1:])
    left, right, flip = _scores(mean, log_std, lows, highs)
    less, more = torch.special.ndtr(left), torch.special.ndtr(right)
    uniform = torch.rand(len(mean), device=mean.device, generator=generator)
    score = torch.special.ndtri(less + (more - less) * uniform)
    scalar = (mean + torch.where(flip, -score, score) * log_std.exp()).float()
    return torch.minimum(torch.maximum(scalar, lows), highs)  # also what lies past -1 or 1


def _scores(
    means: Tensor, log_stds: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """How many standard deviations from each mean both ends lie, and where the two are flipped.

    They are on the side where both tails are small, so that no difference of two ones is taken; in
    float64 for the tails' sake.
    """
    left, right = ((end - means.double()) * torch.exp(-log_stds.double()) for end in (low, high))
    left = torch.where(low <= -1, -torch.inf, left)
    right = torch.where(high >= 1, torch.inf, right)
    flip = left > 0
    return torch.where(flip, -right, left), torch.where(flip, -left, right), flip
