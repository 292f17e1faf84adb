"""A run to tables: the same rows however asked, and what is given holds."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from raysynth.errors import GivenError, TableError
from raysynth.run import Run
from raysynth.sampler import CHUNK, Sampler
from tests import training

SENTINEL = "sentinel-5f1c"


@pytest.fixture(scope="module")
def sampler(trained: Run) -> Sampler:
    return Sampler.open(trained, "cpu")


@pytest.fixture(scope="module")
def whole(sampler: Sampler) -> pa.Table:
    return sampler.sample(60_500, seed=4).combine_chunks()


@pytest.mark.parametrize(
    ("start", "rows"),
    [
        (0, 1),
        (0, 999),
        (0, CHUNK + 1),
        (120, 10),
        (499, 1),
        (999, 2),
        (24_990, 30),
        (59_000, 1_500),
    ],
)
def test_row_i_is_the_same_however_the_table_is_cut(
    sampler: Sampler, whole: pa.Table, start: int, rows: int
) -> None:
    pieces = [drawn.table for drawn in sampler.stream(rows, seed=4, start=start)]
    assert pa.concat_tables(pieces).combine_chunks().equals(whole.slice(start, rows))


def test_another_seed_gives_other_rows(sampler: Sampler, whole: pa.Table) -> None:
    other = sampler.sample(2_000, seed=5)
    same = pc.equal(other["real"].combine_chunks(), whole["real"].combine_chunks().slice(0, 2_000))
    assert pc.mean(same.cast(pa.float64())).as_py() < 0.05


def test_chunks_do_not_repeat(whole: pa.Table) -> None:
    real = whole["real"].to_numpy()
    assert not np.array_equal(real[:CHUNK], real[CHUNK : 2 * CHUNK])


def test_the_schema_is_that_of_the_table_trained_on(
    sampler: Sampler, tables: dict[str, pa.Table]
) -> None:
    assert sampler.sample(10).schema == tables["mixed"].schema
    assert sampler.sample(0).schema == tables["mixed"].schema
    assert sampler.sample(0).num_rows == 0


def test_marginals_are_near_the_true_ones(whole: pa.Table, tables: dict[str, pa.Table]) -> None:
    """Total variation: a small network trained for seconds stays within a fifth of the rows."""
    for name in ("city", "yes", "grade"):
        real, drawn = (table[name].to_pandas() for table in (tables["mixed"], whole))
        shares = [column.value_counts(normalize=True, dropna=False) for column in (real, drawn)]
        assert shares[0].sub(shares[1], fill_value=0).abs().sum() / 2 < 0.2, name


@pytest.mark.parametrize("name", ["city", "yes", "grade"])
def test_every_value_of_every_category_column_can_be_given(
    sampler: Sampler, tables: dict[str, pa.Table], name: str
) -> None:
    for value in tables["mixed"][name].unique().to_pylist():
        table = sampler.sample(1_234, seed=1, given={name: value})
        assert table.num_rows == 1_234
        assert set(table[name].to_pylist()) == {value}


@pytest.mark.parametrize("family", ["ctgan", "autoregressive", "independent"])
def test_ranges_hold_in_every_row(
    family: str, tables: dict[str, pa.Table], fit: Any, make: Any
) -> None:
    """Of whole numbers, of cents with nulls, of floats with two modes; also beside a category."""
    codec, codes = fit(tables["mixed"], family)
    model = training.trained(make(family, codec), codes, 2)
    sampler = Sampler(model.eval(), codec, torch.device("cpu"))
    for given in (
        {"whole": (0, 10)},
        {"cents": (5, 40.5), "yes": True},
        {"real": (None, 0.5), "cents": (20, None), "city": "Bergen"},
    ):
        table = sampler.sample(700, seed=1, given=given)
        assert table.num_rows == 700
        for name, asked in given.items():
            low, high = asked if isinstance(asked, tuple) else (asked, asked)
            values = table[name].to_pylist()
            assert None not in values
            assert low is None or min(values) >= low
            assert high is None or max(values) <= high
        assert table["whole"].null_count == 0
        assert len(set(table["grade"].to_pylist())) > 3, "the rest still varies"


@pytest.fixture(scope="module")
def filler(tables: dict[str, pa.Table], fit: Any, make: Any) -> Sampler:
    codec, codes = fit(tables["mixed"], "autoregressive")
    model = training.trained(make("autoregressive", codec), codes, 30)
    return Sampler(model.eval(), codec, torch.device("cpu"))


def test_nulls_are_filled_and_all_else_stays(filler: Sampler, tables: dict[str, pa.Table]) -> None:
    g = np.random.default_rng(3)
    whole = tables["mixed"]
    holes = {name: g.random(whole.num_rows) < 0.3 for name in whole.schema.names}
    table = pa.table(
        {name: pc.if_else(pa.array(holes[name]), None, whole[name]) for name in whole.schema.names}
    )
    table = table.append_column("other", pa.array(range(whole.num_rows)))
    filled = filler.fill(table, seed=1)
    assert filled.schema.names == table.schema.names
    assert filled["other"].equals(table["other"])
    for name in whole.schema.names:
        assert filled.schema.field(name).type == whole.schema.field(name).type
        assert filled[name].null_count == 0
        known = table[name].is_valid()
        assert filled[name].filter(known).equals(table[name].filter(known))
    # A row of 'real' near 50 is in Oslo, and no other.
    near = pc.and_(pc.greater(whole["real"], 40), pa.array(holes["city"]))
    near = pc.and_(near, pa.array(~holes["real"]))
    cities = filled["city"].filter(near).to_pylist()
    assert len(cities) > 50
    assert cities.count("Oslo") > 0.9 * len(cities)
    assert filler.fill(table, seed=1).equals(filled)
    assert not filler.fill(table, seed=2).equals(filled)
    assert filler.fill(table.slice(0, 0)).num_rows == 0


def test_a_table_filled_in_pieces_is_the_same(filler: Sampler) -> None:
    table = filler.sample(2_500, seed=3)
    holes = pa.array(np.random.default_rng(0).random(2_500) < 0.5)
    table = table.set_column(0, "real", pc.if_else(holes, None, table["real"]))
    whole = filler.fill(table, seed=1).combine_chunks()
    pieces = [filler.fill(table.slice(at, 2_000), 1, at) for at in (0, 2_000)]
    assert pa.concat_tables(pieces).combine_chunks().equals(whole)


def test_what_no_row_has_is_told_and_not_made_up(
    tables: dict[str, pa.Table], fit: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a family that rejects rows, and by one that draws what is asked."""
    asked = {"city": "Oslo", "yes": True}
    for family in ("independent", "autoregressive"):
        codec, codes = fit(tables["mixed"], family)
        model = training.trained(make(family, codec), codes, 2)
        with torch.no_grad():
            for place, column in enumerate(codec.layout.columns):
                if column.name == "city":
                    index = codec.codecs[codec.schema.names.index("city")].index_of("Oslo")
                    if family == "independent":
                        model.counts[place][index] = 0
                    else:
                        model.biases[place][index] = -100
        if family == "independent":  # which holds a single value: let it be one that does not
            free = partial(model.sample, given=None)
            monkeypatch.setattr(model, "sample", lambda rows, g, _, free=free: free(rows, g))
        sampler = Sampler(model.eval(), codec, torch.device("cpu"))
        with pytest.raises(GivenError, match="'city', 'yes' at once; ask for less"):
            sampler.sample(5, given=asked)


def test_only_families_that_can_fill_do(sampler: Sampler, tables: dict[str, pa.Table]) -> None:
    with pytest.raises(GivenError, match="--family autoregressive"):
        sampler.fill(tables["mixed"])


def test_a_table_without_the_runs_columns_is_not_filled(filler: Sampler) -> None:
    with pytest.raises(TableError, match="lacks 'real'"):
        filler.fill(filler.sample(10).drop_columns(["real"]))


def test_several_columns_given_hold_together(sampler: Sampler) -> None:
    given = {"city": "Oslo", "yes": False, "grade": "l"}
    table = sampler.sample(2_500, seed=1, given=given)
    assert table.num_rows == 2_500
    assert all(set(table[name].to_pylist()) == {value} for name, value in given.items())
    assert len(set(table["real"].to_pylist())) > 50, "the rest still varies"


def test_given_rows_do_not_depend_on_the_cut_either(sampler: Sampler) -> None:
    given = {"city": "Molde", "grade": "k"}
    long = sampler.sample(3_000, seed=2, given=given).combine_chunks()
    pieces = sampler.stream(700, seed=2, given=given, start=1_500)
    short = pa.concat_tables([drawn.table for drawn in pieces]).combine_chunks()
    assert short.equals(long.slice(1_500, 700))


def test_a_boolean_may_be_given_as_text(sampler: Sampler) -> None:
    assert set(sampler.sample(50, given={"yes": "TRUE"})["yes"].to_pylist()) == {True}


def test_rows_drawn_and_forced_are_counted(sampler: Sampler) -> None:
    (drawn,) = sampler.stream(100, given={"grade": "l", "city": "Molde", "yes": True})
    assert drawn.tried >= CHUNK
    assert 0 <= drawn.forced <= CHUNK
    (plain,) = sampler.stream(100, start=CHUNK)
    assert (plain.tried, plain.forced) == (CHUNK, 0)


def test_columns_are_chosen_once_each(sampler: Sampler) -> None:
    assert sampler.chosen(None) == list(sampler.table.schema.names)
    assert sampler.chosen(["yes", "city"]) == ["yes", "city"]
    with pytest.raises(TableError, match="one is named twice"):
        sampler.chosen(["yes", "yes"])
    with pytest.raises(TableError, match="no column is called 'cty'"):
        sampler.chosen(["cty"])


def test_a_few_of_the_first_rows_cost_few(sampler: Sampler) -> None:
    for start, rows, tried in [(0, 1, 125), (0, 125, 125), (0, 126, 250), (250, 1, 250)]:
        (drawn,) = sampler.stream(rows, start=start)
        assert drawn.tried == tried


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"citty": "Oslo"}, "did you mean 'city'"),
        ({"city": SENTINEL}, "column 'city' has no such value"),
        ({"yes": SENTINEL}, "column 'yes' has no such value"),
        ({"real": (500, 600)}, "column 'real' holds nothing there"),
        ({"grade": None}, "column 'grade' has no such value"),
    ],
)
def test_what_cannot_be_given_is_told_without_the_value(
    sampler: Sampler, given: dict[str, object], says: str
) -> None:
    with pytest.raises(GivenError, match=says) as error:
        sampler.sample(5, given=given)
    assert SENTINEL not in str(error.value)


def test_a_run_opens_from_its_path(trained: Run, whole: pa.Table) -> None:
    again = Sampler.open(Path(trained.path), "cpu").sample(100, seed=4)
    assert again.combine_chunks().equals(whole.slice(0, 100))


def test_negative_rows_are_refused(sampler: Sampler) -> None:
    with pytest.raises(GivenError, match="0 or more"):
        sampler.sample(-1)
