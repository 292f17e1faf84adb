"""What a training asks of a cluster, counted here: bytes, operations, files, requests.

Places on this machine are read through a file that counts as a bucket's does: an open file is a
request (HEAD), and so is each read of it (GET), by the same path through pyarrow.
"""

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch import distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import ours, workers
from benchmarks.measure import Result, Settings, clock, flops, main
from raysynth import parallel, shards
from raysynth.hashing import Ids, mix
from raysynth.learn import Best, capture
from raysynth.models import TableModel, autoregressive
from raysynth.networks import FEATURES
from raysynth.run import build, drawing_of
from raysynth.schema import Schema
from raysynth.stages import shuffle
from raysynth.storage import Place
from raysynth.summary import summarise

SMALL = 2**15  # bytes of a spilled file and of a bucket, so that few rows make several
WINDOW = 2**19  # bytes of a window
TIMED = 10  # steps
MANY = 10**9  # rows that networks are as wide for
PLAIN = {"relations": False}  # columns are as many as formulas are told
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")

State = dict[str, int]


class Counted(io.RawIOBase):
    """A file of this machine that counts what is asked of it, as `s3.Reader` would ask a bucket."""

    def __init__(self, path: str, seen: State) -> None:
        self._file, self._seen = Path(path).open("rb"), seen  # noqa: SIM115 (closed by `close`)
        seen["opened"] += 1

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The place of the next byte to be read."""
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        return self._file.seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes, all of them or `size`."""
        data = self._file.read(-1 if size is None else size)
        if data:
            self._seen["reads"] += 1
            self._seen["bytes"] += len(data)
        return data

    def close(self) -> None:
        """Let go of it."""
        self._file.close()
        super().close()


@contextmanager
def requests() -> Iterator[State]:
    """Counts files opened, reads and bytes read of places on this machine, meanwhile."""
    seen = {"opened": 0, "reads": 0, "bytes": 0}

    def opened(place: Place) -> pa.NativeFile:
        return pa.PythonFile(Counted(place.text, seen), mode="r")

    with mock.patch.object(Place, "open", opened):
        yield seen


@contextmanager
def reduced() -> Iterator[list[int]]:
    """Bytes of every all-reduce, as if there were two workers that had the same gradients."""
    sizes: list[int] = []

    def all_reduce(flat: Tensor) -> None:
        sizes.append(flat.nbytes)

    with (
        mock.patch.object(parallel, "workers", return_value=2),
        mock.patch.object(dist, "all_reduce", all_reduce),
        mock.patch.object(dist, "broadcast"),
        mock.patch.object(parallel, "_shared", return_value=None),
    ):
        yield sizes


class _Calls(TorchDispatchMode):
    """How many operations torch is asked for, on a GPU about as many kernels; and their bytes.

    Those are of the tensors that go in and come out of all but products: what memory must move, if
    no cache keeps any of it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.number = self.bytes = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        if not function.is_view:
            self.number += 1
            if not function.name().startswith(PRODUCTS):
                both = tree_leaves((args, kwargs, made))
                self.bytes += sum(one.nbytes for one in both if isinstance(one, Tensor))
        return made


def step(settings: Settings) -> Result:
    """A step of `batch` rows of a family: operations, bytes and calls counted, and its seconds."""
    settings = {**settings, **PLAIN}
    codec, codes, spent = ours.encoded(settings)
    codec, config = replace(codec, rows=MANY), ours.config_of(settings)
    model, generator = build(config, codec), torch.Generator()
    generator.manual_seed(0)
    model.trains_on(codes.rows)
    model.at(0.5)
    sizes = workers.stepped(model)

    def stepping(rows: int) -> Callable[[], object]:
        batches = drawing_of(config)(codes, codec.layout, rows, generator)
        return lambda: model.step(batches, generator)

    batch = settings["batch"]
    whole = stepping(batch)
    whole()  # has optimizers make their state
    numbers = sum(sizes)
    with clock() as took:
        for _ in range(TIMED):
            whole()
    best = Best()
    if model.chooses:
        best.see(model, 0.0, 1)
    best.move(model, 1)
    operations, calls = dict[str, float](), dict[str, _Calls]()
    for name, rows in (("half", batch // 2), ("whole", batch), ("double", 2 * batch)):
        operations[name] = flops(stepping(rows))
        with _Calls() as calls[name]:
            stepping(rows)()
    checkpoint = len(capture(model, 1, best))
    with reduced() as summed:  # last: the model averages from here on
        parallel.join(model, model.optimizers)
        whole()
    return {
        "row_bytes": codec.layout.row_bytes,
        "codes_bytes": sum(part.nbytes for part in codes) / codes.rows,
        "width": codec.layout.width,
        "columns": len(codec.names),
        "categories": len(codec.layout.categories),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "batch": batch,
        "shape": _shape(model) if isinstance(model, autoregressive.Model) else None,
        "sums": len(summed),
        "operations": operations,
        "moved_bytes": {name: seen.bytes for name, seen in calls.items()},
        "stepped_bytes": workers.NUMBER * numbers,
        "reduced_bytes": sum(summed),
        "checkpoint_bytes": checkpoint,
        "checkpoint_numbers": _kept(model),
        "calls": calls["whole"].number,
        "step_s": took["wall_s"] / TIMED,
        "encode_s": spent["encode"]["wall_s"] / codes.rows,
        "summarise_s": _summarised(settings),
    }


def _shape(model: autoregressive.Model) -> dict[str, int]:
    """What its operations are a formula of (`cost.autoregressive_operations`)."""
    along = [model.columns[place].choice for place in model.pointed]
    return {
        "D": len(model.columns),
        "H": model.width,
        "N": sum(column.size for column in model.columns),
        "S": len(model.numbers),
        "M": model.config.mixtures,
        "F": FEATURES,
        "P": sum(len(choice.places) for choice in along if choice is not None),
    }


def _kept(model: TableModel) -> int:
    """Numbers that a checkpoint has: weights, once more the best and the average, two of Adam."""
    weights = sum(tensor.numel() for tensor in model.state_dict().values())
    groups = (group for optimizer in model.optimizers for group in optimizer.param_groups)
    moments = sum(2 * weight.numel() for group in groups for weight in group["params"])
    return int(weights * (1 + model.chooses + bool(model.averaging)) + moments)


def _summarised(settings: Settings) -> float:
    """Seconds that the summary of a row takes."""
    table = pq.read_table(settings["table"]).slice(0, settings["rows"])
    schema, ids = Schema.infer(table.schema), np.arange(table.num_rows, dtype=np.uint64)
    with clock() as spent:
        summarise(table, ids, schema)
    return float(spent["wall_s"] / table.num_rows)


def stored(settings: Settings) -> Result:
    """The table's codes spilled, gathered, published and read in windows: files and requests.

    In batches of `batch` rows, with small files, buckets and windows, for `readers` workers.
    Beside the files that are cut into buckets (`spilled`, `gathered`), the same by way of groups:
    files cut into those (`first`, read as `regrouped`) and the ones cut out of them (`then`).
    """
    codec, codes, _ = ours.encoded({**settings, **PLAIN, "family": "autoregressive", "seed": 0})
    ids, size = np.arange(codes.rows, dtype=np.uint64), settings["batch"]
    batches = zip(np.split(ids, range(size, codes.rows, size)), codes.pieces(size), strict=True)
    packed = [(mine, shards.pack(part, mix(mine, 0))) for mine, part in batches]
    with (
        tempfile.TemporaryDirectory() as name,
        mock.patch.object(shuffle, "SPILL", SMALL),
        mock.patch.object(shuffle, "BUCKET", SMALL),
    ):
        spilled, folder = Place.of(Path(name) / "spilled"), Place.of(Path(name) / "codes")
        cut = shuffle.Cut.of(codes.rows, codec.layout.row_bytes)
        buckets = cut.parts
        assert cut.last, "files that are cut into buckets, and none by way of groups"
        names = [name for name, _ in shuffle.spill(packed, spilled, cut)]
        held = _bytes_below(spilled)
        with requests() as gathered:
            sorted_ = [shuffle.gather(spilled, names, bucket) for bucket in range(buckets)]
        grouped = _grouped(packed, Place.of(name), codes.rows, codec.layout.row_bytes)
        pieces = [shards.write(packed, folder) for packed in sorted_]
        shards.publish(folder, pieces)
        with requests() as read:
            for worker in range(settings["readers"]):
                told = (folder, codec.layout, worker, settings["readers"], WINDOW)
                windows = shards.Share(*told).windows(torch.device("cpu"))
                seen = sum(codes.rows for _, codes in windows.in_order(0))
                assert seen, "a worker without rows"
        published = [(Path(folder.text) / name).stat().st_size for name, _ in pieces]
    return {
        "rows": codes.rows,
        "batch": settings["batch"],
        "readers": settings["readers"],
        "row_bytes": codec.layout.row_bytes,
        "categories": len(codec.layout.categories),
        "spilled": len(names),
        "spilled_bytes": held,
        "buckets": buckets,
        "pieces": pieces,
        "pieces_bytes": sum(published),
        "gathered": gathered,
        "grouped": grouped,
        "read": read,
    }


def _grouped(
    packed: list[tuple[Ids, pa.Table]], folder: Place, rows: int, row_bytes: int
) -> dict[str, Any]:
    """The same rows spilled by groups, those spilled again, and their buckets gathered."""
    first, then = folder / "first", folder / "then"
    smaller = mock.patch.object(shuffle, "BUCKET", SMALL // 16)  # so that there are some groups
    with mock.patch.object(shuffle, "DIRECT", 1), smaller:
        cut = shuffle.Cut.of(rows, row_bytes)
    names = [name for name, _ in shuffle.spill(packed, first, cut)]
    parts = {group: cut.part(group) for group in range(cut.parts)}
    files = {}
    with requests() as regrouped:
        for group, part in parts.items():
            made = shuffle.regroup(first, names, group, then / str(group), part)
            files[group] = [name for name, _ in made]
    with requests() as gathered:
        found = [
            shuffle.gather(then / str(group), files[group], bucket).num_rows
            for group, part in parts.items()
            for bucket in range(part.parts)
        ]
    assert sum(found) == rows, "rows were lost"
    return {
        "buckets": cut.buckets,
        "groups": cut.parts,
        "first": len(names),
        "first_bytes": _bytes_below(first),
        "regrouped": regrouped,
        "then": sum(map(len, files.values())),
        "then_bytes": _bytes_below(then),
        "gathered": gathered,
    }


def _bytes_below(folder: Place) -> int:
    return sum(info.size for _, info in folder.files())


def wide(settings: Settings) -> Result:
    """Write a table of `columns` columns, half of them numbers, half of twelve categories."""
    chance, rows = np.random.default_rng(0), settings["rows"]
    columns = {
        f"c{number}": np.round(chance.lognormal(3, 1, rows), 2)
        if number % 2
        else pa.array(chance.integers(0, 12, rows)).cast(pa.string())
        for number in range(settings["columns"])
    }
    pq.write_table(pa.table(columns), settings["out"], compression="zstd")
    return {"bytes": Path(settings["out"]).stat().st_size / rows}


if __name__ == "__main__":
    main({"step": step, "stored": stored, "wide": wide})
