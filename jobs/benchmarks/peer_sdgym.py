"""SDGym's side of `sdgym.py`, in an environment that holds it, SDV, and raysynth's core.

    python -m benchmarks.peer_sdgym TASK SETTINGS RESULT

as `measure.py` has it. Our families are custom synthesizers there: SDGym trains, samples, times and
scores all alike. It writes synthesizers as pickles, which nobody reads.
"""

import math
import shutil
import warnings
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import sdgym
from sdv.metadata import Metadata

from benchmarks.measure import Result, Settings, main
from raysynth import local
from raysynth.config import TrainConfig
from raysynth.sampler import Sampler
from raysynth.schema import Schema

OURS, HELD = "raysynth:", "held-out rows"
ADDED = "UniformSynthesizer"  # SDGym runs it beside any other


def prepare(settings: Settings) -> Result:
    """Write the Parquet file `table` into `folder` as SDGym reads tables, described by SDV."""
    frame, folder = pq.read_table(settings["table"]).to_pandas(), Path(settings["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    metadata = Metadata.detect_from_dataframe(frame, table_name="table", infer_keys=None)
    metadata.save_to_json(folder / "metadata.json", mode="overwrite")
    zipped = {"method": "zip", "archive_name": "table.csv"}
    frame.to_csv(folder / "data.zip", index=False, compression=zipped)
    # SDGym 0.15.0 lists a table by its folder, and reads it from a folder of its name in there.
    for file in ("metadata.json", "data.zip"):
        (folder / folder.name).mkdir(exist_ok=True)
        shutil.copyfile(folder / file, folder / folder.name / file)
    return {"rows": len(frame), "columns": len(frame.columns)}


def run(settings: Settings) -> Result:
    """What SDGym says of one `synthesizer` on the one table in `folder`; its rows go to `rows`.

    The synthesizer is one of SDV's names, or a family of ours behind `OURS`, trained with `seed`,
    or `HELD`: rows of the Parquet file `held` in place of synthetic ones.
    """
    name = settings["synthesizer"]
    custom = []
    if name == HELD:
        held = pq.read_table(settings["held"]).to_pandas()
        custom = [_custom(lambda data, metadata: held, partial(_of_held, settings["seed"]))]
    elif name.startswith(OURS):
        fit = partial(_fit, name.removeprefix(OURS), settings["seed"])
        custom = [_custom(fit, partial(_sample, settings["seed"]))]
    with TemporaryDirectory() as out:
        found = sdgym.benchmark_single_table(
            synthesizers=[] if custom else [name],
            custom_synthesizers=custom,
            sdv_datasets=None,
            additional_datasets_folder=settings["folder"],
            output_destination=out,
        )
        for drawn in Path(out).rglob("*synthetic_data*.csv"):
            if ADDED not in drawn.name:
                shutil.move(drawn, settings["rows"])
    (told,) = found[found["Synthesizer"] != ADDED].to_dict("records")
    return {str(key): _plain(value) for key, value in told.items()}


def _custom(fit: Any, sample: Any) -> Any:
    return sdgym.create_single_table_synthesizer("ours", fit, sample)


def _fit(family: str, seed: int, data: pd.DataFrame, metadata: dict[str, Any]) -> Sampler:
    table = pa.Table.from_pandas(data, preserve_index=False)
    (told,) = (one["columns"] for one in metadata["tables"].values())
    named = [name for name, column in told.items() if column["sdtype"] == "categorical"]
    schema = Schema.infer(table.schema, categories=named)
    config = TrainConfig(table="table", name="sdgym", family=family, seed=seed)
    return local.train(config, table, schema)


def _sample(seed: int, sampler: Sampler, n_samples: int) -> pd.DataFrame:
    drawn: pd.DataFrame = sampler.sample(n_samples, seed).to_pandas()
    return drawn


def _of_held(seed: int, held: pd.DataFrame, n_samples: int) -> pd.DataFrame:
    # None twice: a detector that has seen one of two alike knows the other.
    return held.sample(min(n_samples, len(held)), random_state=seed)


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return value if isinstance(value, float | int | str) else type(value).__name__


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main({"prepare": prepare, "run": run})
