"""Features of items and users: the columns of their tables as categories, one dictionary column each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xdm.log.converting import EMPTY, ColumnError, is_text, plain, to_ids
from xdm.log.files import shortened
from xdm.schema import LogError

BUCKETS = 16  # of a numeric column
FEW = 16  # a column of so few distinct values is a feature, however few rows there are
EXAMPLES = 5


@dataclass
class EntityReport:
    """What became of an items or users table. ``absent``: ids of the log without a row; ``unused``: rows not in the log."""

    rows: int
    absent: int = 0
    absent_first: list[int | str] = field(default_factory=list)
    unused: int = 0
    taken: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


class Entities:
    """An items or users table, checked: every row has an id, and no id two rows."""

    def __init__(self, table: pa.Table, id_column: str, name: str, columns: Sequence[str] | None) -> None:
        """Check ``table``; ``name`` says in messages which table it is, ``columns`` are the features to take.

        Raises:
            LogError: no id column, null or repeated ids, an unknown column among ``columns``.
        """
        self.table, self.id_column, self.name, self.columns = table.combine_chunks(), id_column, name, columns
        present = table.column_names
        if id_column not in present:
            raise LogError(f"{name} has no column '{id_column}'; its columns are {', '.join(present)}")
        for column in columns or ():
            if column not in present or column == id_column:
                raise LogError(f"{name} has no feature '{column}'; its columns are {', '.join(present)}")
        self._check_ids()

    def _check_ids(self) -> None:
        column = plain(_one_chunk(self.table[self.id_column]))
        for reason, rows in _faults(column, integer=False, name=f"{self.name}, column '{self.id_column}'"):
            if reason != "is negative":
                row = int(np.flatnonzero(rows)[0])
                raise LogError(f"{self.name}, row {row + 1}: {self.id_column} {reason}; give every row an id")
        counts = pc.value_counts(column)
        often = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(often):
            ids = ", ".join(shortened(value) for value in often.field("values")[:EXAMPLES].to_pylist())
            raise LogError(f"{self.name} has more than one row for {len(often)} ids: {ids}; keep one row for each")

    def align(self, ids: pa.Array) -> tuple[dict[str, pa.Array], EntityReport]:
        """The features of ``ids`` (the log's, in the store's order) as dictionary arrays ``[n]``, and what became of the table."""
        rows = self._rows_of(ids)
        found = rows.is_valid()
        missing = ids.filter(pc.invert(found))
        report = EntityReport(
            rows=len(self.table),
            absent=len(missing),
            absent_first=missing[:EXAMPLES].to_pylist(),
            unused=len(self.table) - (len(ids) - len(missing)),
        )
        features = {}
        for name in self.table.column_names if self.columns is None else self.columns:
            if name != self.id_column:
                feature, about = self._feature(name, rows)
                (report.left_out if feature is None else report.taken)[name] = about
                if feature is not None:
                    features[name] = feature
        return features, report

    def _rows_of(self, ids: pa.Array) -> pa.Array:
        """The table's row of each id, null where it has none. Ids match by value across text and integers."""
        own = plain(_one_chunk(self.table[self.id_column]))
        if pa.types.is_integer(ids.type) and is_text(own.type):
            ids = ids.cast(pa.string())
        converted, _ = to_ids(own, integer=pa.types.is_integer(ids.type))
        return pc.index_in(ids.cast(converted.type), value_set=converted)

    def _feature(self, name: str, rows: pa.Array) -> tuple[pa.Array | None, str]:
        """A column as a feature and what it is, or None and why not."""
        named = self.columns is not None
        try:
            if name in ("clicks", "exposures"):
                raise ColumnError("has the name of a column of the store itself; rename it")
            feature, about = as_feature(plain(_one_chunk(self.table[name]).take(rows)), named=named)
        except ColumnError as error:
            if named:
                raise LogError(f"{self.name}, column '{name}' {error}") from None
            return None, str(error)
        distinct, known = len(feature.dictionary), len(feature) - feature.null_count
        if named or isinstance(about, Numeric):
            return (feature, about) if distinct > 1 or named else (None, "has one value only")
        if distinct <= 1:
            return None, "has one value only" if distinct else "has no values"
        if distinct > FEW and distinct > known / 2:
            return None, f"has {distinct:,} distinct values in {known:,} rows; name it to take it all the same"
        return feature, about


class Numeric(str):
    """The description of a numeric column in buckets."""


def as_feature(column: pa.Array, *, named: bool) -> tuple[pa.Array, str]:
    """A column as a dictionary array (null or empty: none) and a word about it.

    Raises:
        ColumnError: a column of a type that makes no categories. Times do only if they are ``named``.
    """
    kind = column.type
    if pa.types.is_null(kind):
        return pa.DictionaryArray.from_arrays(pa.nulls(len(column), pa.int32()), pa.array([], pa.string())), "no values"
    if is_text(kind):
        feature = pc.if_else(pc.equal(column, ""), pa.scalar(None, kind), column).cast(pa.string()).dictionary_encode()
        return feature, f"text, {len(feature.dictionary):,} values"
    if pa.types.is_boolean(kind):
        return column.dictionary_encode(), "boolean"
    if pa.types.is_integer(kind):
        feature = column.cast(pa.int64(), safe=False).dictionary_encode()
        return feature, f"integer, {len(feature.dictionary):,} values"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        feature = in_buckets(column.cast(pa.float64(), safe=False))
        return feature, Numeric(f"number, {len(feature.dictionary)} buckets")
    if pa.types.is_temporal(kind) and named:
        feature = column.cast(pa.string()).dictionary_encode()
        return feature, f"time as text, {len(feature.dictionary):,} values"
    raise ColumnError(f"holds {kind}, which makes no categories")


def in_buckets(numbers: pa.Array) -> pa.Array:
    """Numbers in at most 16 buckets of about equal counts, named by their range: dictionary array ``[n]``."""
    values = numbers.fill_null(np.nan).to_numpy()
    known = values[~np.isnan(values)]
    distinct = np.unique(known)
    # The lower bounds are values that occur, so that a column of few values keeps them apart
    lower = distinct
    if len(distinct) > BUCKETS:
        lower = np.unique(np.quantile(known, np.arange(BUCKETS) / BUCKETS, method="lower"))
    codes = np.searchsorted(lower, values, side="right").astype(np.int32) - 1
    names = _bucket_names(lower, distinct[-1]) if len(distinct) else []
    indices = pa.array(codes, mask=np.isnan(values))
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))


def _bucket_names(lower: np.ndarray, largest: float) -> list[str]:
    bounds = [*lower.tolist(), float(largest)]
    digits = next(
        places for places in range(6, 18) if places == 17 or len({f"{x:.{places}g}" for x in lower}) == len(lower)
    )
    shown = [f"{bound:.{digits}g}" for bound in bounds]
    closing = [")"] * (len(lower) - 1) + ["]"]
    return [f"[{low}, {high}{end}" for low, high, end in zip(shown[:-1], shown[1:], closing, strict=True)]


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array.chunk(0) if isinstance(array, pa.ChunkedArray) else array


def _faults(column: pa.Array, *, integer: bool, name: str) -> list[tuple[str, np.ndarray]]:
    try:
        _, faults = to_ids(column, integer=integer)
    except ColumnError as error:
        raise LogError(f"{name} {error}") from None
    return [(fault.reason, fault.rows) for fault in faults if fault.rows.any() or fault.reason == EMPTY]
