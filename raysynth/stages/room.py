"""Room for training's workers on a cluster: how many can start now, and whether more could join.

A place is a placement group of one worker's resources, asked of the cluster one by one: those that
are ready say how many workers have room, whoever else uses the nodes, and those that are not are
what an autoscaler starts nodes for. Ray Train's own elastic workers count any node that has the
resources, whatever its labels, so with pools of nodes they wait for room where they may not go;
and they join by ending all workers, which loses what was done since the last checkpoint.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

POLL_S = 0.2
SETTLE_S = 5.0  # for places that are about to be ready, of workers that were there just now


class Places:
    """So many places, to `ask` for, which are given up when this ends."""

    def __init__(
        self, count: int, resources: Mapping[str, float], labels: Mapping[str, str]
    ) -> None:
        self._count, self._resources, self._labels = count, dict(resources), dict(labels)
        self._groups: list[PlacementGroup] = []

    def ask(self) -> None:
        """Ask the cluster for them, if that has not been done."""
        wanted = {"bundle_label_selector": [self._labels]} if self._labels else {}
        for _ in range(self._count - len(self._groups)):
            self._groups.append(placement_group([self._resources], **wanted))

    def __enter__(self) -> "Places":
        return self

    def __exit__(self, *_: Any) -> None:
        for group in self._groups:
            remove_placement_group(group)

    @property
    def ready(self) -> int:
        """How many of those asked for have room."""
        return sum(placement_group_table(group)["state"] == "CREATED" for group in self._groups)


def awaited(
    fewest: int,
    most: int,
    resources: Mapping[str, float],
    labels: Mapping[str, str],
    waiting: Callable[[float], None],
) -> int:
    """How many workers have room, `fewest` to `most`; `waiting` is told for how many seconds."""
    begun = time.monotonic()
    with Places(most, resources, labels) as places:
        places.ask()
        while (ready := places.ready) < most:
            waited = time.monotonic() - begun
            if ready >= fewest and waited > SETTLE_S:
                break
            waiting(waited)
            time.sleep(POLL_S)
    return ready
