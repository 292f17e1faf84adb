"""Layers that families of generators share. Shapes: B rows, W dense width."""

import torch
from torch import Generator, Tensor

from raysynth.layout import Codes, Layout


def gumbel(like: Tensor, generator: Generator) -> Tensor:
    """Standard Gumbel noise of the shape of `like`."""
    noise = torch.rand(like.shape, device=like.device, generator=generator)
    return noise.clamp_(min=torch.finfo(noise.dtype).tiny).log_().neg_().log_().neg_()


def soften(logits: Tensor, layout: Layout, temperature: float, generator: Generator) -> Tensor:
    """Differentiable dense rows (B, W): tanh for scalars, Gumbel-softmax for every other span.

    Worked out on the transpose, where a span lies in one piece and a softmax over a few categories
    runs along B rows: a quarter of the time on a CPU.
    """
    values = logits.t().contiguous()
    noisy = (values + gumbel(values, generator)) / temperature
    spans = [
        values[span.slice].tanh() if span.kind == "scalar" else noisy[span.slice].softmax(dim=0)
        for span in layout.spans
    ]
    return torch.cat(spans).t().contiguous()


def harden(logits: Tensor, layout: Layout, generator: Generator) -> Codes:
    """Codes drawn from the network's output (B, W).

    The argmax of logits plus Gumbel noise is an exact draw from their softmax, at any temperature;
    an argmax without the noise would never draw a rare category.
    """
    noisy = logits + gumbel(logits, generator)
    indices = torch.empty(
        len(logits), len(layout.choices), dtype=layout.index_dtype, device=logits.device
    )
    for span in layout.choices:
        indices[:, span.slot] = noisy[:, span.slice].argmax(dim=1).to(layout.index_dtype)
    scalars = logits[:, [span.start for span in layout.scalars]].tanh()
    return Codes(indices, scalars)
