"""Columns of a table without types (CSV): which of them are numbers."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

# Numbers as they are written out again, so that no text changes on the way: 007 and +1 stay text, and so do numbers of
# more digits than a float64 holds, which are ids.
INTEGER = r"^(0|-?[1-9]\d{0,17})$"
NUMBER = r"^-?((0|[1-9]\d{0,14})(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?$"


def typed_columns(table: pa.Table, *, but: str) -> pa.Table:
    """The text table with numeric columns as int64 or float64: those whose every non-empty value is a number.

    Empty text becomes null. The column ``but`` (the ids) stays text.
    """
    columns = {}
    for name in table.column_names:
        text = table[name].combine_chunks()
        columns[name] = (
            text if name == but else _typed(pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text))
        )
    return pa.table(columns)


def _typed(text: pa.Array) -> pa.Array:
    if text.null_count == len(text):
        return text
    for pattern, kind in ((INTEGER, pa.int64()), (NUMBER, pa.float64())):
        if pc.all(pc.match_substring_regex(text, pattern)).as_py():
            return text.cast(kind)
    return text
