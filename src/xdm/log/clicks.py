"""What counts as a click, as an SQL expression over the log's own columns (``--clicked-when``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from xdm.schema import UsageError

if TYPE_CHECKING:
    import polars as pl

HINT = 'write a condition such as "event_type = \'click\'", or "true" for a log of clicks only'


class ClickExpression:
    """A condition on one row, in the SQL that polars understands."""

    def __init__(self, sql: str) -> None:
        """Parse the expression.

        Raises:
            UsageError: it is no SQL expression.
        """
        import polars as pl

        self.sql = sql
        try:
            self._expression = pl.sql_expr(sql)
        except pl.exceptions.PolarsError as error:
            raise UsageError(f"--clicked-when {sql!r} is no SQL expression ({_first_line(error)}); {HINT}") from None
        self.columns: Sequence[str] = sorted(set(self._expression.meta.root_names()))
        self._row_by_row = False

    def evaluate(self, batch: pa.RecordBatch, *, typed: bool) -> tuple[pa.Array, int]:
        """Whether each row is a click, ``[n]``, and the number of rows where that is null (taken for not clicked).

        Raises:
            UsageError: the expression does not fit the columns, is no condition, or looks at more than one row.
        """
        import polars as pl

        # One column more than the expression names, so that a constant gets the batch's length
        columns = {"": pl.zeros(len(batch), dtype=pl.Int8, eager=True)}
        frame = pl.DataFrame(columns | {name: pl.Series(batch[name]) for name in self.columns})
        clicked = self._evaluate(frame, typed)
        if not self._row_by_row and len(batch) > 1:
            middle = len(batch) // 2
            halves = [self._evaluate(half, typed) for half in (frame[:middle], frame[middle:])]
            if not np.array_equal(pl.concat(halves).fill_null(False).to_numpy(), clicked.fill_null(False).to_numpy()):
                raise UsageError(f"--clicked-when {self.sql!r} depends on other rows than the one it judges; {HINT}")
            self._row_by_row = True
        return clicked.fill_null(False).to_arrow(), clicked.null_count()

    def _evaluate(self, frame: pl.DataFrame, typed: bool) -> pl.Series:
        import polars as pl

        try:
            clicked = frame.with_columns(self._expression.alias("clicked"))["clicked"]
        except pl.exceptions.PolarsError as error:
            raise UsageError(
                f"--clicked-when {self.sql!r} cannot be evaluated ({_first_line(error)}); {self._about(typed)}"
            ) from None
        if clicked.dtype != pl.Boolean:
            raise UsageError(
                f"--clicked-when {self.sql!r} gives {clicked.dtype}, not true or false; {self._about(typed)}"
            )
        return clicked

    def _about(self, typed: bool) -> str:
        return HINT if typed else f"the columns of a CSV file are text: compare with text ('1'), or CAST; {HINT}"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
