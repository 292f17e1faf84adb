"""The side of MOSTLY AI's engine, in an environment of its own, through its public calls alone.

Its settings are its defaults: its medium network, any order of columns, the best weights by a fifth
of the rows that it holds out, and an end where those get no better.
"""

import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from mostlyai import engine

from benchmarks.measure import MARK_ROWS, Course, Result, Settings, main

EPOCHS = 100  # the engine's own, at most


def approach(settings: Settings) -> Result:
    """A training to its end, and rows of the weights that it would keep, drawn every epoch."""
    frame = pq.read_table(settings["table"]).slice(0, settings["rows"]).to_pandas()
    engine.set_random_state(settings["seed"])
    space, device = Path(settings["folder"]) / "engine", "cpu"
    course, count = Course(settings["folder"]), itertools.count(1)

    def draw(file: Path) -> None:
        engine.generate(sample_size=MARK_ROWS, workspace_dir=space, device=device)
        drawn = [
            pq.read_table(part) for part in sorted((space / "SyntheticData").glob("*.parquet"))
        ]
        pq.write_table(pa.concat_tables(drawn), file)

    def ended() -> None:
        course.mark(next(count), draw)

    engine.split(frame, workspace_dir=space, model_type="TABULAR")
    engine.analyze(workspace_dir=space)
    engine.encode(workspace_dir=space)
    course.encoded()
    engine.train(
        max_epochs=float(settings["epochs"] or EPOCHS),
        device=device,
        workspace_dir=space,
        upload_model_data_callback=ended,  # which it calls when an epoch's weights are judged
    )
    return course.result()


if __name__ == "__main__":
    main({"approach": approach})
