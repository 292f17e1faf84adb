"""Gower's distance against its written-out definition, and the nearest rows against a full sort."""

import numpy as np
import pyarrow as pa
import pytest

from raysynth import gower
from raysynth.frames import Floats
from raysynth.gower import cells, nearest, nearest_without
from raysynth.schema import Schema


def table(rows: int, seed: int) -> pa.Table:
    g = np.random.default_rng(seed)
    words = np.array(["a", "b", "c"])[g.integers(3, size=rows)]
    return pa.table(
        {
            "x": pa.array(g.normal(size=rows), mask=g.random(rows) < 0.2),
            "c": pa.array(words, mask=g.random(rows) < 0.2),
            "y": g.normal(size=rows) * 1e6,
            "b": g.random(rows) < 0.5,
            "t": pa.array(g.integers(10**9, size=rows), pa.timestamp("s")),
        }
    )


def written_out(one: pa.Table, other: pa.Table) -> dict[str, Floats]:
    """Each column's part of the distance of every pair."""
    found = {}
    for name in one.schema.names:
        mine, theirs = one[name].to_pylist(), other[name].to_pylist()
        here = [value for value in mine + theirs if value is not None]
        width = max(here) - min(here) if name in "xyt" else None
        found[name] = np.array(
            [
                [
                    float(a is not b)
                    if a is None or b is None
                    else float(a != b)
                    if width is None
                    else abs(a - b) / width
                    for b in theirs
                ]
                for a in mine
            ]
        )
    return found


@pytest.mark.parametrize("block", [1, 500, 1 << 18])
def test_the_nearest_rows_are_those_by_definition(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gower, "BLOCK", block)
    one, other = table(60, 1), table(90, 2)
    queries, references = cells([one, other], Schema.infer(one.schema))
    parts = written_out(one, other)
    total = np.sum(list(parts.values()), axis=0)
    for neighbours in (1, 4):
        wanted = np.sort(np.argsort(total, axis=1)[:, :neighbours], axis=1)
        assert (np.sort(nearest(queries, references, neighbours), axis=1) == wanted).all()
    places = [0, 1, 4]
    for place, found in zip(places, nearest_without(queries, references, places), strict=True):
        rest = total - parts[one.schema.names[place]]
        assert (found == rest.argmin(axis=1)).all()


def test_a_columns_distance_is_at_most_1_and_exact() -> None:
    one = pa.table({"n": [0.0, None, 5.0], "m": [-1.7e308, 1.7e308, 0.0]})
    other = pa.table({"n": [10.0, None, 0.0], "m": [1.7e308, -1.7e308, 0.0]})
    (n, m), (other_n, other_m) = cells([one, other], Schema.infer(one.schema))
    everything = slice(0, 3)
    apart = n.apart(other_n, everything) / n.unit
    assert apart == pytest.approx(np.array([[1, 1, 0], [1, 0, 1], [0.5, 1, 0.5]]), abs=1e-9)
    assert (m.apart(other_m, everything) / m.unit)[0] == pytest.approx([1, 0, 0.5], abs=1e-9)


def test_of_several_as_near_the_first_is_taken() -> None:
    rows = pa.table({"c": ["a", "b", "b", "a"]})
    (mine,) = cells([rows], Schema.infer(rows.schema))
    assert nearest(mine, mine, 1)[:, 0].tolist() == [0, 1, 1, 0]


def test_many_columns_do_not_overflow() -> None:
    g = np.random.default_rng(0)
    wide = pa.table({f"n{i}": g.choice([0.0, 1.0], 40) for i in range(300)})
    (mine,) = cells([wide], Schema.infer(wide.schema))
    assert nearest(mine, mine, 1)[:, 0].tolist() == list(range(40))
