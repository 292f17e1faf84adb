"""Spilled codes to published ones, on Ray: a task a bucket, and before that one a group of them.

A task that is repeated writes its own files anew (`shuffle`). Nothing that a task reads is deleted
before all have read it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from raysynth import shards
from raysynth.progress import Phase, Show
from raysynth.stages import meters, shuffle
from raysynth.stages.shuffle import Cut
from raysynth.storage import Place

Write = Callable[[int, int], Iterator[tuple[str, int]]]  # group and part to names and rows


@dataclass(frozen=True)
class Sorting:
    """What is sorted: all `rows` of the run named so, each of as many bytes; told by `show`."""

    run: str
    rows: int
    row_bytes: int
    show: Show

    @property
    def cut(self) -> Cut:
        """How the files that rows are first spilled to are cut."""
        return Cut.of(self.rows, self.row_bytes)

    def publish(self, names: list[str], spilled: Place, grouped: Place, folder: Place) -> None:
        """Publish the codes in the files `names` in the order of their keys.

        Both other folders are gone then; `grouped` is of tables so large that it takes a step more.
        """
        files, cuts, source = [names], [self.cut], spilled
        if not self.cut.last:
            files, source = self._grouped(names, spilled, grouped), grouped
            cuts = [self.cut.part(group) for group in range(self.cut.parts)]

        def write(group: int, part: int) -> Iterator[tuple[str, int]]:
            packed = shuffle.gather(source, files[group], part)
            if packed.num_rows:
                yield shards.write(packed, folder)

        turns = [
            (at, part) for at, cut in enumerate(cuts) if files[at] for part in range(cut.parts)
        ]
        written = self._over(turns, write, "shuffle")
        source.remove()
        shards.publish(folder, [(one["name"], one["rows"]) for one in written])

    def _grouped(self, names: list[str], spilled: Place, grouped: Place) -> list[list[str]]:
        """Spill every group once more: the names of its files, of each."""
        cut = self.cut

        def write(group: int, _: int) -> Iterator[tuple[str, int]]:
            to = grouped / str(group)
            for name, rows in shuffle.regroup(spilled, names, group, to, cut.part(group)):
                yield f"{group}/{name}", rows

        written = self._over([(group, 0) for group in range(cut.parts)], write, "group")
        spilled.remove()
        files: list[list[str]] = [[] for _ in range(cut.parts)]
        for one in written:
            files[int(one["name"].partition("/")[0])].append(one["name"])
        return files

    def _over(
        self, turns: Sequence[tuple[int, int]], write: Write, stage: str
    ) -> list[dict[str, Any]]:
        """Have tasks `write` their groups and parts: `news` of all, which hold all rows."""

        def sort(block: pa.Table) -> Iterator[pa.Table]:
            for turn in block.to_pylist():
                for name, rows in write(turn["group"], turn["part"]):
                    yield news(name, rows)

        with self.show.phase(stage, self.rows) as phase:
            items = [{"group": group, "part": part} for group, part in turns]
            data = ray.data.from_items(items, override_num_blocks=min(len(items), 10_000))
            sorted_ = data.map_batches(sort, batch_format="pyarrow", batch_size=None)
            told = counted(sorted_, phase, self.row_bytes, (self.run, stage))
        done = sum(one["rows"] for one in told)
        assert done == self.rows, f"{stage}: {done} of {self.rows} rows"
        return told


def news(name: str, rows: int, broken: NDArray[np.int64] | None = None) -> pa.Table:
    """What a task gives: a file it wrote, or how many of its rows break each relation."""
    kinds = {"name": pa.string(), "rows": pa.int64(), "broken": pa.list_(pa.int64())}
    told = {"name": name, "rows": rows, "broken": [] if broken is None else broken.tolist()}
    return pa.Table.from_pylist([told], pa.schema(list(kinds.items())))


def counted(
    data: ray.data.Dataset, phase: Phase, row_bytes: int, whose: tuple[str, str]
) -> list[dict[str, Any]]:
    """What tasks give (`news`), by name; `whose` run and stage they are of."""
    found, done = [], 0
    for row in data.iter_rows():
        found.append(row)
        done += row["rows"]
        phase.at(done, f"{row_bytes} bytes a row")
        meters.coded(*whose, row["rows"] * row_bytes)
    return sorted(found, key=lambda row: str(row["name"]))
