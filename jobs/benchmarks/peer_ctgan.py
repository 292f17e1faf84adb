"""The peer's side: ctgan, in an environment of its own, through its public calls alone.

Its settings are those of ours: batch 500, packs of 10, noise 128, generator and critic 256-256. A
null of a text column is the text "?" to it; null numbers it refuses. Text and boolean columns are
its discrete columns.

Its training is timed inside its own `fit`: a clock takes the place of the progress bar over which
`fit` runs its epochs, so that all of an epoch counts and the fit of the encoding does not.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from ctgan import CTGAN, TVAE
from ctgan.data_transformer import DataTransformer
from ctgan.synthesizers import ctgan as loop
from ctgan.synthesizers import tvae as loop_of_tvae
from joblib.externals.loky import get_reusable_executor  # type: ignore[import-untyped]
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import (
    BATCH,
    MARK_ROWS,
    MISSING,
    SAMPLE,
    Course,
    Result,
    Settings,
    Ticks,
    clock,
    flops,
    main,
    marked,
    peak_mib,
    sampling,
)


def encode(settings: Settings) -> Result:
    """Seconds of `DataTransformer.fit` and `transform`.

    The processes that `transform` starts count: their start in wall seconds, all in CPU seconds.
    """
    frame, discrete = _read(settings)
    transformer = DataTransformer()
    with clock(_end_processes) as fit:
        transformer.fit(frame, discrete)
    with clock(_end_processes) as encoding:
        matrix = transformer.transform(frame)
    return {"fit": fit, "encode": encoding, "row_bytes": matrix.nbytes / len(matrix)}


def train(settings: Settings) -> Result:
    """Rows a second of the training loop of `fit`, and peak memory of `fit`, child processes apart.

    Leaves the model in the folder `folder`.
    """
    start = peak_mib()
    ticks = Ticks()
    model, rows = _train(settings, lambda epochs: _ticking(epochs, ticks))
    peak = peak_mib()
    model.save(_path(settings))
    return {**ticks.result(_steps(rows)), "peak_mib": peak, "start_mib": start}


def sample(settings: Settings) -> Result:
    """Rows a second of `sample` to a decoded DataFrame."""
    model = CTGAN.load(_path(settings))
    return sampling(model.sample)


def operations(settings: Settings) -> Result:
    """Dense operations of a training step, over an epoch of `fit`, and of a sampled row.

    `step_needed` is counted over a second epoch, without the part of a step whose result is thrown
    away: the critic's two backward passes go on through the generator, whose gradients are then
    set to zero. There the critic's fakes are cut off the generator.
    """
    whole, needed = (FlopCounterMode(display=False) for _ in range(2))

    def counting(epochs: Iterable[int]) -> Iterator[int]:
        for counter, epoch in zip((whole, needed), epochs, strict=True):
            if counter is needed:
                _cut_off_fakes()
            with counter:  # `fit` runs an epoch while this waits at its yield
                yield epoch

    model, rows = _train({**settings, "epochs": 2}, counting)
    steps = [counter.get_total_flops() / _steps(rows) for counter in (whole, needed)]
    row = flops(lambda: model.sample(SAMPLE)) / SAMPLE
    return {"step": steps[0], "step_needed": steps[1], "row": row}


def approach(settings: Settings) -> Result:
    """A training of `family`, CTGAN or TVAE, to its end, and rows drawn as it goes.

    Its settings are its defaults, and what it samples from during its own `fit` is what it would
    keep: it chooses no weights.
    """
    make, where = {"ctgan": (CTGAN, loop), "tvae": (TVAE, loop_of_tvae)}[settings["family"]]
    frame, discrete = _read(settings)
    model = make(enable_gpu=False, **{"epochs": settings["epochs"]} if settings["epochs"] else {})
    model.set_random_state(settings["seed"])
    course = Course(settings["folder"])

    def draw(file: Path) -> None:
        frame = model.sample(MARK_ROWS)  # with random numbers apart from those of `fit`
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), file)

    def over(epochs: Sequence[int], **_: Any) -> Iterator[int]:
        course.encoded()
        for number, epoch in enumerate(epochs, 1):
            yield epoch
            if marked(number, len(epochs)):
                course.mark(number, draw)

    where.tqdm = over
    model.fit(frame, discrete)
    return course.result()


def identity(_: Settings) -> Result:
    """What decides a synthetic table beside table, seed and epochs: the versions."""
    return {"identity": " ".join(f"{name} {version(name)}" for name in ("ctgan", "rdt", "torch"))}


def synthesise(settings: Settings) -> Result:
    """Train, then write a synthetic table of `rows` rows to `out`, its nulls still "?"."""
    with clock(_end_processes) as training:
        model, _ = _train(settings, iter)
    with clock() as drawing:
        frame = model.sample(settings["rows"])
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), settings["out"])
    return {"train": training, "sample": drawing, "peak_mib": peak_mib()}


def _read(settings: Settings) -> tuple[pd.DataFrame, list[str]]:
    table = pq.read_table(settings["table"]).slice(0, settings.get("rows"))
    is_text = (pa.types.is_string, pa.types.is_large_string)
    text = [field.name for field in table.schema if any(kind(field.type) for kind in is_text)]
    booleans = [field.name for field in table.schema if pa.types.is_boolean(field.type)]
    frame = table.to_pandas()
    frame[text] = frame[text].fillna(MISSING)
    return frame, text + booleans


def _train(settings: Settings, over: Callable[[Iterable[int]], Iterator[int]]) -> tuple[Any, int]:
    """A model fitted on the table, `over` its epochs; and the table's rows."""
    frame, discrete = _read(settings)
    loop.tqdm = lambda epochs, **_: over(epochs)
    model = CTGAN(
        embedding_dim=128,
        generator_dim=(256, 256),
        discriminator_dim=(256, 256),
        batch_size=BATCH,
        pac=10,
        epochs=settings["epochs"],
        enable_gpu=False,
    )
    model.set_random_state(settings["seed"])
    model.fit(frame, discrete)
    return model, len(frame)


def _ticking(epochs: Iterable[int], ticks: Ticks) -> Iterator[int]:
    for epoch in epochs:
        ticks.mark()
        yield epoch
    ticks.mark()


def _cut_off_fakes() -> None:
    """Make every other output of the generator, the critic's, a leaf: no backward pass goes on."""
    forward, calls = loop.Generator.forward, itertools.count()

    def cut(generator: Any, noise: torch.Tensor) -> torch.Tensor:
        fake: torch.Tensor = forward(generator, noise)
        return fake if next(calls) % 2 else fake.detach().requires_grad_()

    loop.Generator.forward = cut


def _steps(rows: int) -> int:
    return max(rows // BATCH, 1)


def _path(settings: Settings) -> str:
    return str(Path(settings["folder"]) / "peer.pt")


def _end_processes() -> None:
    get_reusable_executor().shutdown(wait=True)


if __name__ == "__main__":
    tasks = (encode, train, sample, operations, synthesise, identity, approach)
    main({task.__name__: task for task in tasks})
