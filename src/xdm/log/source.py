"""What `xdm.log.preparing` reads from: exposures as record batches, each with its place in the input.

A publisher's data set plugs in here: an adapter is a callable ``Path -> LogSource`` that is registered in
``xdm.log.adapters.ADAPTERS``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa


@dataclass(frozen=True)
class SourceBatch:
    """Rows of one input file.

    ``name`` is the file as messages show it, ``first_row`` the number of the first row of ``table`` in it (the first
    data row of a file is 1), ``table`` holds the columns as `xdm.schema` names them: the four required ones, the
    optional ones where the source has them. The schema is the same in every batch of a source.

    The rest is for sources that have more to tell: ``broken`` are the rows among these that could not be read as rows,
    ``(row number, text)`` each, rising; ``unknown_clicks`` the rows whose click expression came out as null and that
    were taken for not clicked; ``fraction`` how much of the whole input has been read after this batch, 0 to 1.
    """

    name: str
    first_row: int
    table: pa.RecordBatch
    broken: tuple[tuple[int, str], ...] = ()
    unknown_clicks: int = 0
    fraction: float | None = None

    def row_number(self, position: int) -> int:
        """The number in the file of the row at ``position`` of ``table``."""
        number = self.first_row + position
        for row, _ in self.broken:
            if row > number:
                break
            number += 1
        return number


class LogSource(Protocol):
    """An exposure log that can be read from start to end.

    Values are checked by the reader of the batches, not by the source: it hands on nulls and nonsense as they are.
    A source that cannot hand on all that its files hold may have an attribute ``left_out``: what, and how many of it
    (``dict[str, int]``, complete when the batches have been read); `xdm prepare` reports it.
    """

    @property
    def size(self) -> int | None:
        """The number of rows, where it is known or estimated before reading: the number of parts follows from it."""
        ...

    @property
    def items(self) -> pa.Table | None:
        """The items table (``item_id`` and feature columns), where the source brings one."""
        ...

    @property
    def users(self) -> pa.Table | None:
        """The users table (``user_id`` and profile columns), where the source brings one."""
        ...

    def batches(self) -> Iterator[SourceBatch]:
        """The log's rows in order of files and of rows within them."""
        ...

    def fingerprint(self) -> list[dict[str, Any]]:
        """What was read: ``{"name", "bytes", "sha256"}`` for each file."""
        ...
