"""The peers' side of `parity`: SDMetrics and synthcity's alpha-precision, on two Parquet tables.

Of synthcity the one function that measures is run, taken out of its installed source as it stands:
the module it lies in brings a deep-learning stack that the function has no use for.
"""

import ast
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from sdmetrics.column_pairs import (  # type: ignore[import-not-found]
    ContingencySimilarity,
    CorrelationSimilarity,
)
from sdmetrics.reports.single_table import QualityReport  # type: ignore[import-not-found]
from sdmetrics.single_column import (  # type: ignore[import-not-found]
    CategoryCoverage,
    MissingValueSimilarity,
    RangeCoverage,
)
from sklearn.neighbors import NearestNeighbors

from benchmarks.measure import Result, Settings, main


def figures(settings: Settings) -> Result:
    """The peers' figures of `synthetic` against `real`, two paths.

    `numbers` are the columns they take for numbers; booleans are text to them.
    """
    real, synthetic = (pq.read_table(settings[name]).to_pandas() for name in ("real", "synthetic"))
    numbers = set(settings["numbers"])
    kinds = {name: "numerical" if name in numbers else "categorical" for name in real}
    metadata = {"columns": {name: {"sdtype": kind} for name, kind in kinds.items()}}
    report = QualityReport()
    report.generate(real, synthetic, metadata, verbose=False)
    shapes, trends = report.get_properties()["Score"]
    found = {"shape": shapes, "trend, its report": trends, **_pairs(real, synthetic, numbers)}
    coverage = {
        name: (RangeCoverage if name in numbers else CategoryCoverage).compute(
            real[name], synthetic[name]
        )
        for name in real
    }
    found["coverage"] = float(np.mean(list(coverage.values())))
    missing = [MissingValueSimilarity.compute(real[name], synthetic[name]) for name in real]
    found["missingness"] = float(np.mean(missing))
    if not real.isna().any(axis=None) and not synthetic.isna().any(axis=None):
        found |= _supported(real, synthetic, numbers)
    return found


def _pairs(real: pd.DataFrame, synthetic: pd.DataFrame, numbers: set[str]) -> Result:
    """The mean over all pairs of the metrics alone, numbers cut between the real column's ends.

    The report counts those alone that relate in the real table, and cuts each table by itself.
    """
    scores = []
    for place, one in enumerate(real):
        for other in list(real)[place + 1 :]:
            sides = real[[one, other]].copy(), synthetic[[one, other]].copy()
            cut = [name for name in (one, other) if name in numbers]
            if len(cut) == 2:
                scores.append(CorrelationSimilarity.compute(*sides))
            else:
                options = {"continuous_column_names": cut or None}
                scores.append(ContingencySimilarity.compute(*sides, **options))
    return {"trend": float(np.mean(scores))}


def _supported(real: pd.DataFrame, synthetic: pd.DataFrame, numbers: set[str]) -> Result:
    """Numbers scaled as its naive variant has them, categories one-hot; no column is left out."""
    both = pd.concat([real, synthetic])
    coded = pd.get_dummies(both, columns=[name for name in both if name not in numbers])
    values = coded.to_numpy(dtype=np.float64)
    mine, made = values[: len(real)], values[len(real) :]
    low, width = mine.min(axis=0), np.ptp(mine, axis=0)
    width[width == 0] = 1.0
    found = _synthcity()(None, (mine - low) / width, (made - low) / width, None)
    return {"alpha_precision": float(found[3]), "beta_recall": float(found[4])}


def _synthcity() -> Any:
    """`AlphaPrecision.metrics` of the installed package."""
    source = distribution("synthcity").locate_file("synthcity/metrics/eval_statistical.py")
    tree = ast.parse(Path(str(source)).read_text(encoding="utf-8"))
    (made,) = (x for x in tree.body if isinstance(x, ast.ClassDef) and x.name == "AlphaPrecision")
    (taken,) = (x for x in made.body if isinstance(x, ast.FunctionDef) and x.name == "metrics")
    taken.decorator_list = []  # only checks the types of its arguments
    names: dict[str, Any] = {"np": np, "NearestNeighbors": NearestNeighbors}
    module = ast.Module([_import("typing", "Optional", "Tuple"), taken], [])
    exec(compile(module, str(source), "exec"), names)
    return names["metrics"]


def _import(module: str, *names: str) -> ast.stmt:
    return ast.parse(f"from {module} import {', '.join(names)}").body[0]


if __name__ == "__main__":
    main({"figures": figures})
