"""Gradients at the moment of a step: how long they are, by network, and where they are cut.

Their length tells whether a generator still learns, or runs away.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer


@dataclass
class Watch:
    """Lengths of gradients by network, seen in the steps for which it is `due`.

    Only there: a length takes a pass over all weights, and reading it makes the host wait.
    """

    due: bool = False
    _seen: dict[str, Tensor] = field(default_factory=dict)

    def see(self, network: str, weights: list[Tensor]) -> None:
        """Keep the length of their gradients together, where one is due."""
        if self.due:
            self._seen[network] = get_total_norm([w.grad for w in weights if w.grad is not None])

    def lengths(self) -> dict[str, float]:
        """Those seen last."""
        return {name: float(length) for name, length in self._seen.items()}


@contextmanager
def watched(model: nn.Module, optimizers: tuple[Optimizer, ...]) -> Iterator[Watch]:
    """Watch the gradients that optimizers step by, averaged over workers and cut.

    A network is called by the model's own name for it; those that all step together are "model".
    """
    watch, names = Watch(), {w: name.partition(".")[0] for name, w in model.named_parameters()}
    alone = len(optimizers) == 1

    def seeing(optimizer: Optimizer) -> Callable[[Optimizer, Any, Any], None]:
        weights = [w for group in optimizer.param_groups for w in group["params"]]
        called = "model" if alone else "+".join(sorted({names[w] for w in weights if w in names}))
        return lambda *_: watch.see(called, weights)

    with ExitStack() as stack:
        for optimizer in optimizers:
            stack.callback(optimizer.register_step_post_hook(seeing(optimizer)).remove)
        yield watch


def step_cut(optimizer: Optimizer, cut: Callable[[list[Tensor]], Any]) -> None:
    """Step by gradients that `cut`, given the weights, makes shorter.

    It is called last, when workers have averaged them: the mean of gradients that each worker has
    cut by itself is not the cut gradient of all their rows.
    """
    weights = [w for group in optimizer.param_groups for w in group["params"]]

    def last(*_: Any) -> None:
        cut(weights)

    hook = optimizer.register_step_pre_hook(last)
    try:
        optimizer.step()
    finally:
        hook.remove()
