"""Measure raysynth: one sub-command a question, each in `benchmarks/`, nothing of it in the tests.

    python jobs/benchmark.py peers --table jobs/data/adult_train.parquet \
        --test jobs/data/adult_test.parquet --epochs 100 --repeats 3 --out .benchmark/peers.json
"""

import typer
from benchmarks import peers

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Measure raysynth.")
app.command("peers")(peers.peers)


@app.callback()
def _root() -> None:
    """Keeps `peers` a sub-command while it is the only one."""


if __name__ == "__main__":
    app()
