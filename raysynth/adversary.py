"""What adversarial families share: a critic whose slope is known, losses, an averaged generator.

**Relativistic loss.** Each drawn row's score is held against a real row's: the critic is to score
the real one higher, the generator its own (Jolicoeur-Martineau, "The Relativistic Discriminator",
ICLR 2019). With the critic's squared slope punished at real and at drawn rows alike it converges
where the plain loss need not (Huang et al., "The GAN is Dead; Long Live the GAN! A Modern GAN
Baseline", NeurIPS 2024).

Shapes: B rows, P packs of rows, W dense width, C categories of a condition.
"""

from collections.abc import Sequence
from copy import deepcopy
from threading import Lock
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from raysynth.precision import whole

SLOPE = 0.2
_COPYING = Lock()


class Critic(nn.Module):
    """Scores packs of rows with their conditions: an MLP with leaky ReLU and dropout.

    It is piecewise linear, so its slope at a row is a product of its weights, and a penalty on that
    needs no double backward pass. What the packed conditions add to the first layer is looked up:
    the same sum as a layer over rows and one-hot conditions.
    """

    places: Tensor

    def __init__(
        self,
        row_width: int,
        hidden: Sequence[int],
        pack: int = 1,
        given_width: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = (pack * row_width, *hidden)
        layers = [nn.Linear(a, b) for a, b in zip(widths, (*widths[1:], 1), strict=True)]
        self.layers = nn.ModuleList(layers)
        self.given = nn.Embedding(pack * given_width, widths[1]) if given_width else None
        bound = (pack * (row_width + given_width)) ** -0.5
        spread(layers[0], bound)
        if self.given is not None:
            nn.init.uniform_(self.given.weight, -bound, bound)
        self.register_buffer("places", torch.arange(pack) * given_width, persistent=False)
        self.keep = 1 - dropout

    def asked(self, given: Tensor | None) -> Tensor | None:
        """What conditions (B,) add to the first layer of their packs (P, width)."""
        if self.given is None or given is None:
            return None
        packs = given.view(-1, len(self.places)) + self.places
        return functional.embedding_bag(packs, self.given.weight, mode="sum")

    def forward(
        self, rows: Tensor, asked: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, list[Tensor]]:
        """Scores (P,), and the slope of every hidden unit, dropout included, (P, width) each.

        `rows` (P, pack * W); `asked` (P, width) as `asked` gives it.
        """
        return self.scored(self.entered(rows, asked), generator)

    def entered(self, rows: Tensor, asked: Tensor | None) -> Tensor:
        """What the first layer makes of rows (P, pack * W) and conditions, (P, width): linear."""
        before: Tensor = self.layers[0](rows)
        return before if asked is None else before + asked

    def scored(self, before: Tensor, generator: torch.Generator) -> tuple[Tensor, list[Tensor]]:
        """Scores and slopes, as `forward` gives them, of what `entered` gave (P, width)."""
        slopes = list[Tensor]()
        for layer in self.layers[1:]:
            # 1 above 0, else SLOPE: on a CPU a fifth of the time of choosing by a mask.
            slope = before.detach().sign().clamp_(min=SLOPE)
            if self.keep < 1:
                kept = torch.rand(before.shape, device=before.device, generator=generator)
                slope *= kept.neg_().add_(self.keep).sign_().clamp_(min=0).div_(self.keep)
            slopes.append(slope)
            before = layer(before * slope)
        return whole(before[:, 0]), slopes

    def gradient(self, slopes: list[Tensor]) -> Tensor:
        """Gradient of each score with respect to its rows (P, pack * W), given the slopes."""
        weights = [cast("Tensor", layer.weight) for layer in self.layers]
        flow = weights[-1] * slopes[-1]
        for weight, slope in zip(reversed(weights[1:-1]), reversed(slopes[:-1]), strict=True):
            flow = (flow @ weight) * slope
        return whole(flow @ weights[0])


def outscored(scores: Tensor, rivals: Tensor) -> Tensor:
    """The relativistic loss of `scores` (P,), each of which is to be above its rival's."""
    return functional.softplus(rivals - scores).mean()


def steepness(gradients: Tensor) -> Tensor:
    """Half the mean squared norm of gradients at drawn and at real rows (2 P, W), both added."""
    return gradients.square().sum(1).mean()


class Average(nn.Module):
    """An exponential average of a network's weights and statistics, to sample from.

    An update keeps the share `keep` of it, at first less, so that what the network started from is
    soon forgotten.
    """

    updates: Tensor
    _copy: "_Copy | None"

    def __init__(self, network: nn.Module, keep: float) -> None:
        super().__init__()
        self.keep = keep
        self._copy = None
        self.register_buffer("updates", torch.zeros(()))
        for name, tensor in _floats(network).items():
            self.register_buffer(_flat(name), tensor.clone())

    @torch.no_grad()
    def move(self, network: nn.Module) -> None:
        """Move towards the network as it is now."""
        self.updates += 1
        share = 1 - ((1 + self.updates) / (10 + self.updates)).clamp(max=self.keep)
        for name, tensor in _floats(network).items():
            self.get_buffer(_flat(name)).lerp_(tensor, share.to(tensor.dtype))

    def run(self, network: nn.Module, *arguments: Any) -> Any:
        """What the network would give with these weights, in several threads at once too.

        A copy of it that has them is kept. To call the network itself with them would put them into
        it for a while, and what another thread draws meanwhile would be of both.
        """
        return self._copied(network)(*arguments)

    def _copied(self, network: nn.Module) -> nn.Module:
        """A copy of the network with these weights as they are now, in its mode."""
        with _COPYING:
            buffers = list(self._buffers.values())
            versions = [(id(buffer), cast("Tensor", buffer)._version) for buffer in buffers]
            if self._copy is None or self._copy.versions != versions:
                weights = {name: self.get_buffer(_flat(name)) for name in _floats(network)}
                own = deepcopy(network).requires_grad_(False)
                own.load_state_dict(weights, strict=False)
                # Holds on to the weights, so that none of another can get the number of one.
                self._copy = _Copy(own, versions, buffers)
            return self._copy.network.train(network.training)


class _Copy(NamedTuple):
    """A network with averaged weights, and which they were."""

    network: nn.Module
    versions: list[tuple[int, int]]
    weights: list[Tensor | None]


def spread(layer: nn.Linear, bound: float) -> None:
    """Draw a layer's weights as torch does for a layer of `bound` ** -2 inputs."""
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.uniform_(layer.bias, -bound, bound)


def _floats(network: nn.Module) -> dict[str, Tensor]:
    state = network.state_dict()
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}


def _flat(name: str) -> str:
    """The buffer's name that holds the average of a weight; no buffer has a dot in its name."""
    return name.replace(".", "_")
