"""Layers that families of generators share. Shapes: B rows, W dense width."""

import torch
from torch import Generator, Tensor, nn

from raysynth.layout import Codes, Layout


class Residual(nn.Module):
    """A fully connected layer, batch norm and ReLU, with its input kept beside its output.

    Input (B, in_width), output (B, out_width + in_width). Source: Xu et al., NeurIPS 2019, 4.4.
    """

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_width, out_width)
        self.norm = nn.BatchNorm1d(out_width)

    def forward(self, inputs: Tensor) -> Tensor:
        """The layer's output, new part first."""
        return torch.cat([torch.relu(self.norm(self.linear(inputs))), inputs], dim=1)


def gumbel(like: Tensor, generator: Generator) -> Tensor:
    """Standard Gumbel noise of the shape of `like`."""
    noise = torch.rand(like.shape, device=like.device, generator=generator)
    return noise.clamp_(min=torch.finfo(noise.dtype).tiny).log_().neg_().log_().neg_()


def soften(logits: Tensor, layout: Layout, temperature: float, generator: Generator) -> Tensor:
    """Differentiable dense rows (B, W): tanh for scalars, Gumbel-softmax for every other span."""
    noisy = (logits + gumbel(logits, generator)) / temperature
    return torch.cat(
        [
            logits[:, span.slice].tanh()
            if span.kind == "scalar"
            else noisy[:, span.slice].softmax(dim=1)
            for span in layout.spans
        ],
        dim=1,
    )


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
