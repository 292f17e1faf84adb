"""The Python way in: the same calls the command line and the jobs make.

What only training and judging need is loaded when they are called: who opens a run to sample it
waits for neither Ray nor learners.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from raysynth import run as folder
from raysynth.config import TrainConfig
from raysynth.progress import Show
from raysynth.sampler import Sampler

if TYPE_CHECKING:
    from raysynth.judge import Report
    from raysynth.stages.staging import Table


class Run(folder.Run):
    """A finished training that can be sampled and judged."""

    @classmethod
    def of(cls, run: folder.Run) -> Self:
        """The same run with these methods."""
        return cls(run.place, run.manifest)

    def sample(self, rows: int, seed: int = 0, given: Mapping[str, Any] | None = None) -> pa.Table:
        """A table of `rows` rows, in memory; every row holds `given`: a value, or (low, high).

        Raises `GivenError` for a column or value the run does not know.
        """
        return Sampler.open(self).sample(rows, seed, given)

    def impute(self, table: Table, seed: int = 0) -> pa.Table:
        """`table`, in memory, each null of a column learned from drawn given what its row has.

        Raises `GivenError` where the run's family cannot fill, `TableError`.
        """
        from raysynth.stages import staging

        return Sampler.open(self).fill(staging.collect(table), seed)

    def evaluate(
        self,
        real: Table,
        train: Table | None = None,
        target: str | None = None,
        seed: int = 0,
        **asked: Any,
    ) -> Report:
        """Judge the run against `real` rows it was not trained on; see `stages.evaluate`.

        `asked` are the further fields of its `Asked`: gate, quasi, least.
        """
        from raysynth.stages.evaluate import Asked, evaluate

        return evaluate(self, real, train, Asked(target, seed, **asked))


def train(
    table: Table, family: str = "autoregressive", *, show: Show | None = None, **settings: Any
) -> Run:
    """Train on a table: a path, a pandas DataFrame, a pyarrow Table or a Ray Dataset.

    `settings` are those of `config.TrainConfig`. Raises `TableError`, `ConfigError`, `RunError`,
    `StorageError`, all of them a `ValueError`.
    """
    from raysynth.stages.train import train as run

    path = str(table) if isinstance(table, str | Path) else "table"
    config = TrainConfig.load(None, {"table": path, "family": family, **settings})
    return Run.of(run(config, table, show))


def evaluate(
    synthetic: Table,
    real: Table,
    train: Table | None = None,
    out: str | Path = "report",
    target: str | None = None,
    seed: int = 0,
    **asked: Any,
) -> Report:
    """Judge rows of any source against `real` ones, a report in `out`; see `stages.evaluate`."""
    from raysynth.stages.evaluate import Asked, compare
    from raysynth.storage import Place

    return compare(synthetic, real, Place.of(out), train, Asked(target, seed, **asked))


def open(path: str | Path) -> Run:
    """Open a run folder, on this machine or in a bucket, and verify it. Raises `RunError`."""
    return Run.of(folder.open_run(path))
