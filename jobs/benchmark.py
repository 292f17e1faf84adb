"""Measure raysynth: one sub-command a question, each in `benchmarks/`, nothing of it in the tests.

    python jobs/benchmark.py peers --table jobs/data/adult_train.parquet \
        --test jobs/data/adult_test.parquet --epochs 100 --repeats 3 --out .benchmark/peers.json
    python jobs/benchmark.py scale --repeats 3 --out .benchmark/scale.json
    python jobs/benchmark.py fidelity TABLE.parquet ... --family ctgan --set preset=improved
    python jobs/benchmark.py sdgym TRAIN.parquet --test TEST.parquet
    python jobs/benchmark.py tables TABLE.parquet ... --at s3://bucket/key
    python jobs/benchmark.py attacks TRAIN.parquet --test TEST.parquet
    python jobs/benchmark.py parity metrics SYNTHETIC.parquet REAL.parquet
    python jobs/benchmark.py paper --table grid --table asia --family autoregressive
    python jobs/benchmark.py parity anonymeter --table REAL.parquet
    python jobs/benchmark.py tune TRAIN.parquet --test TEST.parquet --family ctgan --trials 20
    python jobs/benchmark.py deltas TRAIN.parquet --test TEST.parquet
    python jobs/benchmark.py chaos --seconds 600 --every 20
    python jobs/benchmark.py sample runs/NAME --given sex=Female --given age=30..40
    python jobs/benchmark.py serve runs/NAME --stream-rows 20000000
    python jobs/benchmark.py cost --rows 1000000000 --rate nodes=8 --rate gpus=8
    python jobs/benchmark.py train --repeats 3
    python jobs/benchmark.py train --time-to-fidelity --repeats 3
"""

import sys
from pathlib import Path

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))  # this repository, whichever is installed
from benchmarks import (
    attacks,
    chaos,
    cost,
    deltas,
    drawing,
    fidelity,
    paper,
    parity_anonymeter,
    parity_metrics,
    peers,
    scale,
    sdgym,
    search,
    serving,
    tables,
    training,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Measure raysynth.")
app.command("attacks")(attacks.attacks)
app.command("chaos")(chaos.chaos)
app.command("cost")(cost.cost)
app.command("deltas")(deltas.deltas)
app.command("peers")(peers.peers)
app.command("scale")(scale.scale)
app.command("fidelity")(fidelity.fidelity)
app.command("sdgym")(sdgym.sdgym)
app.command("sample")(drawing.sample)
app.command("serve")(serving.serve)
app.command("tune")(search.tune)
app.command("tables")(tables.tables)
app.command("train")(training.train)
app.command("paper")(paper.paper)
beside = typer.Typer(no_args_is_help=True, help="Compare our figures with others' of the same.")
beside.command("metrics")(parity_metrics.metrics)
beside.command("anonymeter")(parity_anonymeter.anonymeter)
app.add_typer(beside, name="parity")


if __name__ == "__main__":
    app()
