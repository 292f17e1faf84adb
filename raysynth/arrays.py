"""Arrow arrays in plainer types, and back: what is computed with, and what a table shows.

- **plain**: without an encoding: a dictionary's values themselves, string views as strings. What a
  summary samples and codecs are given.
- **stored**: plain, and such that Arrow counts, sorts and finds it: times as the integers that
  stand for them, narrow decimals as wide ones.
- **restored**: a plain array in the column's own type again.
"""

from typing import TypeAlias, TypeVar

import pyarrow as pa

Array = TypeVar("Array", pa.Array, pa.ChunkedArray)
Type: TypeAlias = pa.DataType


def is_text(kind: Type) -> bool:
    """Whether values are strings, once decoded."""
    kind = plain_type(kind)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_time(kind: Type) -> bool:
    """Whether values are dates, times of day, timestamps or durations."""
    return bool(pa.types.is_temporal(kind) and not pa.types.is_interval(kind))


def is_whole(kind: Type) -> bool:
    """Whether values are whole numbers: integers, or decimals without a fraction."""
    if pa.types.is_decimal(kind):
        return bool(kind.scale == 0)
    return bool(pa.types.is_integer(kind))


def plain_type(kind: Type) -> Type:
    """The type that `plain` gives."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    return pa.string() if kind == pa.string_view() else kind


def plain(array: Array) -> Array:
    """The same values without an encoding; the array itself where it has none."""
    if isinstance(array, pa.ChunkedArray):
        kind = plain_type(array.type)
        if kind == array.type:
            return array
        return pa.chunked_array([plain(chunk) for chunk in array.chunks], kind)
    if pa.types.is_dictionary(array.type):
        # An encoding is undone where it stands: values that no row holds may be in it.
        return plain(array.dictionary_decode())
    return array.cast(pa.string()) if array.type == pa.string_view() else array


def is_encoded(array: pa.ChunkedArray) -> bool:
    """Whether these are strings in a dictionary, nulls told by its indices alone."""
    kind = array.type
    if not (pa.types.is_dictionary(kind) and kind.value_type == pa.string()):
        return False
    return not any(chunk.dictionary.null_count for chunk in array.chunks)


def stored(array: Array) -> Array:
    """The same values as Arrow counts, sorts and finds them."""
    if isinstance(array, pa.ChunkedArray):
        kind = stored_type(array.type)
        if kind == array.type:
            return array
        return pa.chunked_array([stored(chunk) for chunk in array.chunks], kind)
    kind, array = stored_type(array.type), plain(array)
    return array.view(kind) if is_time(array.type) else array.cast(kind)


def stored_type(kind: Type) -> Type:
    """The type that `stored` gives."""
    kind = plain_type(kind)
    if is_time(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    if kind == pa.float16():
        return pa.float32()
    if pa.types.is_decimal(kind) and kind.bit_width < 128:
        return pa.decimal128(kind.precision, kind.scale)
    return kind


def unstored(array: pa.Array, kind: Type) -> pa.Array:
    """A stored array as a plain one of the column type `kind`."""
    kind = plain_type(kind)
    return array.view(kind) if is_time(kind) else array.cast(kind)


def restored(array: pa.Array, kind: Type) -> pa.Array:
    """A plain array in the column's own type `kind`; a dictionary holds what occurs, in order."""
    if not pa.types.is_dictionary(kind):
        return array if array.type == kind else array.cast(kind)
    encoded = array.dictionary_encode()
    return pa.DictionaryArray.from_arrays(
        encoded.indices.cast(kind.index_type),
        encoded.dictionary.cast(kind.value_type),
        ordered=kind.ordered,
    )
