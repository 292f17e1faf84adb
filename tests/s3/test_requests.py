"""What codes in a bucket cost in requests: what the cost model counts here, at the store's door."""

import os
import re
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from raysynth import shards
from raysynth.hashing import mix
from raysynth.layout import Codes, Layout, Part
from raysynth.stages import shuffle
from raysynth.storage import Place
from tests.s3.line import Line

JOBS = Path(__file__).parents[2] / "jobs"
LAYOUT = Layout.of([("a", (Part("scalar"), Part("mode", 4))), ("b", (Part("category", 9),))])
ROWS, BATCH, BUCKETS = 4_000, 500, 5
METHOD = re.compile(rb"(GET|HEAD|PUT|POST) /")


class Counting(Line):
    """A line that counts requests by method."""

    def __post_init__(self) -> None:
        self.seen: Counter[str] = Counter()
        super().__post_init__()

    def _look(self, data: bytes) -> list[Callable[[], None]]:
        if method := METHOD.match(data):
            self.seen[method[1].decode()] += 1
        return super()._look(data)


def test_a_gather_and_a_window_ask_as_often_as_the_cost_model_says(
    bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(JOBS)
    cost = import_module("benchmarks.cost")
    monkeypatch.setattr(shuffle, "SPILL", 1)  # a file a batch
    chance, ids = np.random.default_rng(0), np.arange(ROWS, dtype=np.uint64)
    indices = torch.from_numpy(chance.integers(0, 4, (ROWS, 2)).astype(np.uint8))
    codes = Codes(indices, torch.from_numpy(chance.random((ROWS, 1), np.float32)))
    batches = zip(np.split(ids, ROWS // BATCH), codes.pieces(BATCH), strict=True)
    packed = [(mine, shards.pack(part, mix(mine, 0))) for mine, part in batches]
    line = Counting(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{line.port}")
    spilled, folder = bucket / "spilled", bucket / "codes"
    names = [
        name
        for name, _ in shuffle.spill(packed, spilled, shuffle.Cut(BUCKETS, 0, BUCKETS, BUCKETS))
    ]
    assert line.seen["PUT"] == len(names) == ROWS // BATCH
    line.seen.clear()
    sorted_ = [shuffle.gather(spilled, names, number) for number in range(BUCKETS)]
    assert line.seen["HEAD"] == BUCKETS * len(names)
    assert sum(line.seen.values()) == cost.VISIT * BUCKETS * len(names)
    pieces = [shards.write(table, folder) for table in sorted_]
    shards.publish(folder, pieces)
    line.seen.clear()
    windows = shards.Share(folder, LAYOUT, 0, 1, 2**30).windows(torch.device("cpu"))
    assert sum(part.rows for _, part in windows.in_order(0)) == ROWS
    index = 2  # which is read for the bounds of windows, and for each window once more
    assert sum(line.seen.values()) - index == cost.PIECE * len(pieces)
    line.close()
