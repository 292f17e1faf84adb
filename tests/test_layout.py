"""Where codes lie: every choice has one 1 in its own block, every scalar its own place."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysynth.layout import Codes, Layout, Part

PARTS = st.one_of(
    st.just(Part("scalar")),
    st.builds(Part, st.sampled_from(["mode", "category"]), st.integers(1, 300)),
)
LAYOUTS = st.lists(st.lists(PARTS, min_size=1, max_size=3), min_size=1, max_size=8).map(
    lambda columns: Layout.of([(f"c{i}", parts) for i, parts in enumerate(columns)])
)


def codes_of(layout: Layout, rows: int, seed: int) -> Codes:
    g = torch.Generator().manual_seed(seed)
    indices = [torch.randint(s.size, (rows,), generator=g) for s in layout.choices]
    return Codes(
        torch.stack(indices, 1).to(layout.index_dtype) if indices else torch.empty(rows, 0).byte(),
        torch.rand(rows, len(layout.scalars), generator=g) * 2 - 1,
    )


@given(LAYOUTS, st.integers(0, 9), st.integers(0, 999))
def test_expand_puts_one_1_in_each_block_at_the_index(layout: Layout, rows: int, seed: int) -> None:
    codes = codes_of(layout, rows, seed)
    dense = layout.expand(codes)
    assert dense.shape == (rows, layout.width)
    assert dense.dtype == torch.float32
    for span in layout.spans:
        block = dense[:, span.slice]
        if span.kind == "scalar":
            assert torch.equal(block[:, 0], codes.scalars[:, span.slot])
            continue
        index = codes.indices[:, span.slot].long()
        assert torch.equal(block, torch.nn.functional.one_hot(index, span.size).float())


@given(LAYOUTS)
def test_spans_tile_the_row_in_order(layout: Layout) -> None:
    places = [place for span in layout.spans for place in range(layout.width)[span.slice]]
    assert places == list(range(layout.width))
    assert [span.slot for span in layout.scalars] == list(range(len(layout.scalars)))
    assert [span.slot for span in layout.choices] == list(range(len(layout.choices)))
    assert set(layout.categories) <= set(layout.choices)


@pytest.mark.parametrize(
    ("size", "dtype"),
    [(256, torch.uint8), (257, torch.int16), (2**15, torch.int16), (2**15 + 1, torch.int32)],
)
def test_indices_take_the_smallest_type_that_holds_them(size: int, dtype: torch.dtype) -> None:
    layout = Layout.of([("c", [Part("category", size)])])
    assert layout.index_dtype == dtype
    assert torch.tensor(size - 1).to(dtype).item() == size - 1


def test_pieces_concatenate_to_the_whole() -> None:
    layout = Layout.of([("c", [Part("scalar"), Part("mode", 5)])])
    codes = codes_of(layout, 10, 0)
    pieces = [codes.take(slice(0, 4)), codes.take(torch.tensor([4, 5])), codes.take(slice(6, 10))]
    whole = Codes.concat(pieces)
    assert torch.equal(whole.indices, codes.indices)
    assert torch.equal(whole.scalars, codes.scalars)
    assert (whole.rows, whole.row_bytes) == (10, 5)


def test_where_spans_begin_is_told_once_a_device_and_stays_in_this_process() -> None:
    layout = Layout.of([("c", [Part("scalar"), Part("mode", 5)]), ("d", [Part("category", 3)])])
    with torch.inference_mode():
        choices, scalars = layout.starts(torch.device("cpu"))
    assert (choices.tolist(), scalars.tolist()) == ([1, 6], [0])
    assert not choices.is_inference(), "a training may save it for its backward pass"
    assert layout.starts(torch.device("cpu"))[0] is choices
    sent = copy.copy(layout)  # by what it sends of itself to another process
    assert sent == layout
    assert sent.starts(torch.device("cpu"))[0] is not choices
