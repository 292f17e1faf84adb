"""A table to what training would take its columns for, without training."""

import tempfile

from raysynth.config import TrainConfig
from raysynth.progress import Show, Silent
from raysynth.relations import Relation
from raysynth.run import related
from raysynth.stages import cluster
from raysynth.stages.data import examine, settled
from raysynth.stages.staging import Table, stage
from raysynth.storage import Place
from raysynth.summary import Summary


def guess(
    config: TrainConfig, table: Table | None = None, show: Show | None = None
) -> tuple[Summary, tuple[Relation, ...]]:
    """The table's summary, its columns' kinds settled as training would settle them; relations.

    `table` stands in for the path in the settings. Free text is told, not refused. Raises
    `TableError` and `ConfigError` for whatever else cannot be trained on.
    """
    show = show or Silent()
    with tempfile.TemporaryDirectory() as folder:  # for its owner alone
        source = stage(config, config.table if table is None else table, Place.of(folder))
        # What files tell without being read is told before Ray starts.
        examined = examine(config, source)
        cluster.connect(config.workers)
        with cluster.own_errors():
            summary = settled(config, examined, show, placeholder=True)[1]
        return summary, related(config, summary).relations
