"""Columns as they come to values as the store keeps them, and the rows that cannot be converted.

Each function takes one column of a batch and returns its values and a list of `Fault`, of which the first that names a
row is the one that counts; values of faulty rows mean nothing. What is wrong with a column as a whole is a
`ColumnError`, which the caller completes with the file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from xdm.log.ids import text_buffers
from xdm.schema import XdmError

INT32_MAX = 2**31 - 1
EMPTY = "is null or empty"
NO_BOOLEAN = "is no boolean (true, false, 0 or 1; for anything else say --clicked-when)"


class ColumnError(XdmError):
    """A column of a type that cannot be used; the message lacks the file and the column."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with some rows of a column: ``rows`` is bool ``[n]``."""

    reason: str
    rows: np.ndarray


class Faults(list[Fault]):
    """The faults of one column, each only if it has a row."""

    def note(self, reason: str, rows: np.ndarray) -> None:
        if rows.any():
            self.append(Fault(reason, rows))


def is_text(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )  # fmt: skip


def plain(column: pa.Array) -> pa.Array:
    """The column without dictionary or view encoding; binary is taken for text."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_binary_view(column.type):
        column = column.cast(pa.large_binary())
    if pa.types.is_string_view(column.type):
        return column.cast(pa.large_string())
    if pa.types.is_binary(column.type):
        return column.view(pa.string())
    if pa.types.is_large_binary(column.type):
        return column.view(pa.large_string())
    return column


def nulls(column: pa.Array) -> np.ndarray:
    """Which rows are null: bool ``[n]``."""
    if column.null_count == 0:
        return np.zeros(len(column), np.bool_)
    return column.is_null().to_numpy(zero_copy_only=False)


def readable_text(column: pa.Array, faults: Faults) -> pa.Array:
    """The text with nulls and what is no UTF-8 as empty text; the latter is a fault."""
    column = column.fill_null("")
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        broken = np.array([not _is_utf8(value) for value in column.cast(_binary_of(column)).to_pylist()])
        faults.note("is not UTF-8 text", broken)
        column = pc.if_else(pa.array(broken), "", column.cast(_binary_of(column))).view(column.type)
    return column


def _binary_of(column: pa.Array) -> pa.DataType:
    return pa.large_binary() if pa.types.is_large_string(column.type) else pa.binary()


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def integers(column: pa.Array, faults: Faults) -> np.ndarray:
    """An integer (or all-null) column as int64, nulls as 0; what is beyond int64 is a fault."""
    if pa.types.is_null(column.type):
        return np.zeros(len(column), np.int64)
    column = column.fill_null(0)
    if pa.types.is_uint64(column.type):
        beyond = column.to_numpy() > np.uint64(2**63 - 1)
        faults.note("is beyond the 64-bit integers", beyond)
        return np.where(beyond, 0, column.to_numpy()).astype(np.int64)
    return column.cast(pa.int64()).to_numpy()


def text_and_empty(column: pa.Array, faults: Faults) -> pa.Array:
    """The text without blanks around it; rows without any are a fault."""
    missing = nulls(column)
    text = pc.utf8_trim_whitespace(readable_text(column, faults))
    faults.note(EMPTY, missing | (pc.binary_length(text).to_numpy() == 0))
    return text


def to_ids(column: pa.Array, *, integer: bool) -> tuple[pa.Array, Faults]:
    """Ids as int64 or as string, ``[n]`` without nulls."""
    faults = Faults()
    column = plain(column)
    if is_text(column.type):
        return _ids_of_text(column, integer, faults), faults
    if not (pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        raise ColumnError(f"holds {column.type}; ids are text or integers: cast them before, or name another column")
    faults.note(EMPTY, nulls(column))
    values = integers(column, faults)
    faults.note("is negative", values < 0)
    ids = pa.array(values)
    return (ids if integer else ids.cast(pa.string())), faults


def _ids_of_text(column: pa.Array, integer: bool, faults: Faults) -> pa.Array:
    missing = nulls(column)
    text = readable_text(column, faults)
    empty, negative = _empty_or_negative(*text_buffers(text))
    faults.note(EMPTY, missing | empty)
    faults.note("is negative", negative)
    if not integer:
        return text
    numbers, bad = parse_integers(*text_buffers(text))
    faults.note("is no 64-bit integer", bad)
    return pa.array(numbers)


def to_clicked(column: pa.Array) -> tuple[np.ndarray, Faults]:
    """Whether it was clicked: bool ``[n]``, from booleans, 0 and 1, or the text true, false, 0, 1 in any case."""
    faults = Faults()
    column = plain(column)
    if is_text(column.type):
        text = pc.utf8_lower(text_and_empty(column, faults))
        clicked = pc.is_in(text, pa.array(["1", "true"], text.type)).to_numpy(zero_copy_only=False)
        zeros = pc.is_in(text, pa.array(["0", "false"], text.type)).to_numpy(zero_copy_only=False)
        faults.note(NO_BOOLEAN, ~(clicked | zeros))
        return clicked, faults
    faults.note(EMPTY, nulls(column))
    if pa.types.is_null(column.type):
        return np.zeros(len(column), np.bool_), faults
    if pa.types.is_boolean(column.type):
        return column.fill_null(False).to_numpy(zero_copy_only=False), faults
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values = column.fill_null(0).to_numpy()
        faults.note(NO_BOOLEAN, (values != 0) & (values != 1))
        return values == 1, faults
    raise ColumnError(f'holds {column.type}; it must be boolean or 0 and 1, or say --clicked-when "SQL expression"')


def cast_where_possible(text: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cast; what cannot be cast becomes null. Halving finds a few bad rows (the 31st of June) among many quickly."""
    try:
        return text.cast(kind)
    except pa.ArrowInvalid:
        if len(text) == 1:
            return pa.nulls(1, kind)
    middle = len(text) // 2
    halves = [cast_where_possible(text[:middle], kind), cast_where_possible(text[middle:], kind)]
    return pa.concat_arrays(halves)


def to_positions(column: pa.Array) -> tuple[np.ndarray, Faults]:
    """Places in a list of results: int32 ``[n]``, -1 for none."""
    values, missing, faults = _numbers(column)
    bad = ~missing & ((values != np.floor(values)) | (values < 0) | (values > INT32_MAX))
    faults.note("is no whole number from 0 to 2147483647", bad)
    return np.where(missing | bad, -1, values).astype(np.int32), faults


def to_dwell(column: pa.Array) -> tuple[np.ndarray, Faults]:
    """Times spent: float32 ``[n]``, NaN for none."""
    values, missing, faults = _numbers(column)
    bad = ~missing & ~(np.isfinite(values) & (values >= 0))
    faults.note("is negative or infinite", bad)
    # + 0 turns -0.0 into 0.0, so that equal values are equal bytes
    return np.where(missing | bad, np.nan, values + 0.0).astype(np.float32), faults


def _numbers(column: pa.Array) -> tuple[np.ndarray, np.ndarray, Faults]:
    """A numeric or text column as float64, which of it is null, empty or NaN, and the faults."""
    faults = Faults()
    column = plain(column)
    missing = nulls(column)
    if is_text(column.type):
        text = pc.utf8_trim_whitespace(readable_text(column, faults))
        missing = missing | (pc.utf8_length(text).to_numpy() == 0)
        column = cast_where_possible(pc.if_else(pa.array(missing), "nan", text), pa.float64())
        faults.note("is no number", nulls(column))
    elif not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_null(column.type)):
        raise ColumnError(f"holds {column.type}; it must be a number")
    values = column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy()
    return np.where(missing, 0, values), missing | np.isnan(values), faults


@njit(cache=True, nogil=True)
def _empty_or_negative(data, offsets):
    """Which texts are empty, and which read as a negative integer."""
    rows = len(offsets) - 1
    empty = np.zeros(rows, np.bool_)
    negative = np.zeros(rows, np.bool_)
    for row in range(rows):
        begin, end = offsets[row], offsets[row + 1]
        empty[row] = begin == end
        if end - begin > 1 and data[begin] == 45:  # "-"
            negative[row] = True
            for place in range(begin + 1, end):
                if not 48 <= data[place] <= 57:
                    negative[row] = False
    return empty, negative


@njit(cache=True, nogil=True)
def parse_integers(data, offsets):
    """Decimal integers of texts: int64 ``[n]``, and which are none (or beyond int64). Blanks around them are skipped."""
    rows = len(offsets) - 1
    values = np.zeros(rows, np.int64)
    bad = np.zeros(rows, np.bool_)
    for row in range(rows):
        place, end = offsets[row], offsets[row + 1]
        while place < end and data[place] == 32:
            place += 1
        while end > place and data[end - 1] == 32:
            end -= 1
        negative = place < end and data[place] == 45
        if negative:
            place += 1
        bad[row] = place == end
        value = np.int64(0)
        while place < end:
            digit = np.int64(data[place]) - 48
            # Built up below zero, since the smallest int64 has no positive twin
            if digit < 0 or digit > 9 or value < -922337203685477580 or (value == -922337203685477580 and digit > 8):
                bad[row] = True
                break
            value = value * 10 - digit
            place += 1
        if not negative and value == np.int64(-9223372036854775808):
            bad[row] = True
        if not bad[row]:
            values[row] = value if negative else -value
    return values, bad
