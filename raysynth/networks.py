"""Layers and densities that families of generators share.

Shapes: B rows, W dense width, M choices or components.
"""

import math

import torch
from torch import Generator, Tensor

from raysynth.layout import Codes, Layout
from raysynth.precision import whole

FREQUENCIES = 7
PLAIN = 8.0  # of sines and cosines of a scalar, each twice the one before
FEATURES = 1 + 2 * FREQUENCIES
NARROWEST = 1e-3  # standard deviation of a component, of scalars in [-1, 1]


def gumbel(like: Tensor, generator: Generator) -> Tensor:
    """Standard Gumbel noise of the shape of `like`."""
    noise = torch.rand(like.shape, device=like.device, generator=generator)
    return noise.clamp_(min=torch.finfo(noise.dtype).tiny).log_().neg_().log_().neg_()


def soften(
    logits: Tensor, layout: Layout, temperature: float, generator: Generator, hush: bool = False
) -> Tensor:
    """Differentiable dense rows (B, W): tanh for scalars, Gumbel-softmax for every other span.

    With `hush` a scalar is multiplied by the share of the indices with which it says something, so
    that where it says nothing it goes to 0, as in real rows.

    Worked out on the transpose, where a span lies in one piece and a softmax over a few categories
    runs along B rows: a quarter of the time on a CPU.
    """
    values = whole(logits).t().contiguous()
    noisy = (values + gumbel(values, generator)) / temperature
    # Split, not sliced: the backward pass of a slice fills a matrix of all spans for each.
    sizes = [span.size for span in layout.spans]
    rows = [
        plain.tanh() if span.kind == "scalar" else soft.softmax(dim=0)
        for span, plain, soft in zip(
            layout.spans, torch.split(values, sizes), torch.split(noisy, sizes), strict=True
        )
    ]
    if hush:
        hush_scalars(rows, layout, 0)
    return torch.cat(rows).t().contiguous()


def hush_scalars(blocks: list[Tensor], layout: Layout, dim: int) -> None:
    """Multiply scalars by the share of indices with which they say something; see `soften`.

    `blocks` has one a span, the span's cells along `dim`.
    """
    places = {span: place for place, span in enumerate(layout.spans)}
    for column in layout.columns:
        if column.scalar is not None and column.choice is not None and column.choice.bare:
            cells = column.choice.size - column.choice.bare
            said = blocks[places[column.choice]].narrow(dim, 0, cells).sum(dim, keepdim=True)
            blocks[places[column.scalar]] = blocks[places[column.scalar]] * said


def harden(logits: Tensor, layout: Layout, generator: Generator) -> Codes:
    """Codes drawn from the network's output (B, W): each choice by the softmax of its span.

    The inverse of the span's cumulative distribution at one uniform number: a third of the work of
    an argmax over Gumbel noise, which takes two logarithms a category. An argmax without noise
    would never draw a rare category. On the transpose, as in `soften`, and a copy of it.
    """
    values = logits.t().clone(memory_format=torch.contiguous_format)
    for span in layout.choices:
        if span.pooled is not None:
            values[span.start + span.pooled] = -torch.inf
    uniform = torch.rand(
        len(layout.choices), len(logits), device=logits.device, generator=generator
    )
    drawn = [pick(values[span.slice], uniform[span.slot]) for span in layout.choices]
    indices = torch.empty(
        len(logits), len(layout.choices), dtype=layout.index_dtype, device=logits.device
    )
    for span, index in zip(layout.choices, drawn, strict=True):
        indices[:, span.slot] = index
    scalars = logits[:, layout.starts(logits.device)[1]].tanh()
    return Codes(indices, scalars)


def pick(logits: Tensor, uniform: Tensor) -> Tensor:
    """The index (B,) that `uniform` (B,) in [0, 1) falls on under the softmax of (M, B) logits."""
    reached = (logits - logits.amax(dim=0)).exp_().cumsum(dim=0)
    # The last one is all there is; leaving it out, no rounding can lead past the end.
    return (reached[:-1] <= uniform * reached[-1]).sum(dim=0)


def drawn(logits: Tensor, generator: Generator) -> Tensor:
    """An index (B,) drawn by the softmax of `logits` (B, M)."""
    uniform = torch.rand(len(logits), device=logits.device, generator=generator)
    return pick(logits.t(), uniform)


def waves(scalars: Tensor) -> Tensor:
    """Scalars (...) in [-1, 1] with sines and cosines of them, (..., FEATURES).

    Those of high frequencies are less high: detail counts once the rest is learned.
    """
    powers = 2.0 ** torch.arange(FREQUENCIES, device=scalars.device)
    angles = scalars[..., None] * (math.pi * powers)
    heights = (PLAIN / powers).clamp_max(1.0)
    return torch.cat([5 * scalars[..., None], angles.sin() * heights, angles.cos() * heights], -1)


def components(parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log weights, means and log standard deviations, (..., M) each, of (..., 3 M)."""
    weights, means, stds = whole(parameters).chunk(3, dim=-1)
    return weights.log_softmax(-1), means, stds.clamp(min=math.log(NARROWEST), max=2.0)


def log_density(scalars: Tensor, parameters: Tensor) -> Tensor:
    """Log density (...) of scalars (...) under mixtures of normals with `components` (..., 3 M)."""
    log_weights, means, log_stds = components(parameters)
    scaled = (scalars[..., None] - means) * torch.exp(-log_stds)
    logs = log_weights - log_stds - 0.5 * scaled.square() - 0.5 * math.log(2 * math.pi)
    return torch.logsumexp(logs, -1)
