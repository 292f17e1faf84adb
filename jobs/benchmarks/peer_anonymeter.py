"""Anonymeter's side of `parity_anonymeter.py`, in an environment of its own, by its public calls.

    python -m benchmarks.peer_anonymeter TASK SETTINGS RESULT

as `measure.py` has it, which this file leaves alone: that brings torch where there are threads.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
from anonymeter.evaluators import (
    InferenceEvaluator,
    LinkabilityEvaluator,
    SinglingOutEvaluator,
)

Found = dict[str, Any]


def linkability(settings: Found) -> Found:
    """Every row attacked, with the columns that `known` names in two lists."""
    synthetic, train, held = _tables(settings)
    evaluator = LinkabilityEvaluator(
        train,
        synthetic,
        aux_cols=tuple(settings["known"]),
        n_attacks=len(train),
        n_neighbors=settings["neighbours"],
        control=held,
    )
    return _found(evaluator.evaluate(n_jobs=1).results())


def inference(settings: Found) -> Found:
    """Every row attacked, all columns but `secret` known."""
    synthetic, train, held = _tables(settings)
    secret = settings["secret"]
    kind = train[secret].dtype
    evaluator = InferenceEvaluator(
        train,
        synthetic,
        aux_cols=[name for name in train.columns if name != secret],
        secret=secret,
        regression=pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind),
        n_attacks=len(train),
        control=held,
    )
    return _found(evaluator.evaluate(n_jobs=1).results())


def singling_out(settings: Found) -> Found:
    """As many predicates as `attempts`, of the kind `mode`, drawn with `seed`."""
    synthetic, train, held = _tables(settings)
    evaluator = SinglingOutEvaluator(
        train,
        synthetic,
        n_attacks=settings["attempts"],
        control=held,
        seed=settings["seed"],
    )
    return _found(evaluator.evaluate(mode=settings["mode"]).results())


def _tables(settings: Found) -> list[pd.DataFrame]:
    return [pd.read_parquet(settings[name]) for name in ("synthetic", "train", "held")]


def _found(results: Any) -> Found:
    """The residual risk and the successes as counted, before Wilson's correction."""
    risk, tried = results.risk(), results.n_attacks_ori
    return {
        "value": risk.value,
        "low": risk.ci[0],
        "high": risk.ci[1],
        "main": float(results.n_success) / tried,
        "control": float(results.n_control) / tried,
        "baseline": float(results.n_baseline) / tried,
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    name, text, result = sys.argv[1:]
    tasks = {task.__name__: task for task in (linkability, inference, singling_out)}
    Path(result).write_text(json.dumps(tasks[name](json.loads(text))))
