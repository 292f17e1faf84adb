"""Batches: how often each category is asked for, and that its rows hold it."""

from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Generator

from raysynth import draw
from raysynth.layout import Codes, Layout, Part

Seeded = Callable[[int], Generator]

LAYOUT = Layout.of(
    [
        ("x", [Part("scalar"), Part("mode", 4)]),
        ("a", [Part("category", 3)]),
        ("b", [Part("category", 6)]),
        ("c", [Part("category", 2)]),
    ]
)


def window(rows: int, seed: int = 0) -> Codes:
    """Skewed categories; category 4 of `b` has no row, category 5 has one."""
    g = np.random.default_rng(seed)
    columns = [
        g.integers(0, 4, rows),
        g.choice(3, rows, p=[0.9, 0.09, 0.01]),
        g.choice([0, 1, 2, 3], rows, p=[0.7, 0.2, 0.06, 0.04]),
        g.integers(0, 2, rows),
    ]
    columns[2][0] = 5
    indices = torch.from_numpy(np.stack(columns, 1).astype(np.uint8))
    return Codes(indices, torch.arange(rows, dtype=torch.float32)[:, None])


def test_by_category_draws_by_log_frequency_and_rows_hold_their_category(seeded: Seeded) -> None:
    """Columns alike, categories by ln(1 + n) within their column, rows alike within a category."""
    codes, size = window(2_000), 50_000
    batch = next(draw.by_category(codes, LAYOUT, size, seeded(0)))
    assert batch.given is not None
    offset = 0
    columns = []
    for span in LAYOUT.categories:
        real = codes.indices[:, span.slot].numpy()
        mine = (batch.given >= offset) & (batch.given < offset + span.size)
        asked = (batch.given[mine] - offset).numpy()
        assert np.array_equal(batch.codes.indices[mine, span.slot].numpy(), asked)
        weights = np.log1p(np.bincount(real, minlength=span.size))
        drawn = np.bincount(asked, minlength=span.size)
        some = weights > 0
        assert drawn[~some].sum() == 0
        expected = weights[some] / weights.sum() * drawn.sum()
        assert stats.chisquare(drawn[some], expected).pvalue > 1e-3
        frequent = (batch.given == offset + int(np.argmax(weights))).numpy()
        times = np.unique(batch.codes.scalars[frequent, 0].numpy(), return_counts=True)[1]
        among = np.bincount(real).max()
        times = np.concatenate([times, np.zeros(among - len(times), int)])
        assert 1e-3 < stats.chi2(among - 1).cdf(stats.chisquare(times).statistic) < 1 - 1e-3
        columns.append(len(asked))
        offset += span.size
    assert sum(columns) == size
    assert stats.chisquare(columns).pvalue > 1e-3


@given(st.integers(1, 30), st.integers(1, 100), st.integers(0, 999))
def test_any_window_fills_any_batch(rows: int, size: int, seed: int) -> None:
    """Also one smaller than the batch; whole rows of the window, never parts of two."""
    codes = window(rows, seed)
    for way in (draw.uniform, draw.by_category):
        generator = torch.Generator().manual_seed(seed)
        for batch in islice(way(codes, LAYOUT, size, generator), 3):
            places = batch.codes.scalars[:, 0].long()
            assert batch.codes.rows == size
            assert torch.equal(batch.codes.indices, codes.indices[places])


def test_uniform_draws_every_row_alike(seeded: Seeded) -> None:
    codes = window(100)
    batch = next(draw.uniform(codes, LAYOUT, 20_000, seeded(0)))
    assert batch.given is None
    assert stats.chisquare(np.bincount(batch.codes.scalars[:, 0].long())).pvalue > 1e-3


def test_by_category_without_categories_is_uniform(seeded: Seeded) -> None:
    layout = Layout.of([("x", [Part("scalar"), Part("mode", 4)])])
    codes = Codes(window(50).indices[:, :1], window(50).scalars)
    one = next(draw.by_category(codes, layout, 64, seeded(3)))
    two = next(draw.uniform(codes, layout, 64, seeded(3)))
    assert one.given is None
    assert torch.equal(one.codes.scalars, two.codes.scalars)


@pytest.mark.parametrize("way", [draw.uniform, draw.by_category])
def test_the_same_generator_draws_the_same(way: draw.Draw, seeded: Seeded) -> None:
    pairs = zip(
        islice(way(window(200), LAYOUT, 16, seeded(4)), 5),
        islice(way(window(200), LAYOUT, 16, seeded(4)), 5),
        strict=True,
    )
    batches = list(pairs)
    assert all(torch.equal(a.codes.scalars, b.codes.scalars) for a, b in batches)
    assert len({tuple(a.codes.scalars[:, 0].tolist()) for a, _ in batches}) == 5


def test_no_draw_falls_past_the_last_category(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest number below one still meets a category that has rows."""
    almost = float(np.nextafter(1.0, 0.0))
    monkeypatch.setattr(
        torch, "rand", lambda *size, **_: torch.full(size, almost, dtype=torch.double)
    )
    batch = next(draw.by_category(window(3_000), LAYOUT, 300, torch.Generator()))
    assert batch.given is not None
    assert set(batch.given.tolist()) <= {2, 3 + 5, 9 + 1}
