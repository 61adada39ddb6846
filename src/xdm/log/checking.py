"""Every row is checked while it is read: good rows go on as columns of the store, bad ones are counted and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xdm.log.converting import (
    ColumnError,
    Faults,
    is_text,
    plain,
    readable_text,
    to_clicked,
    to_dwell,
    to_ids,
    to_positions,
)
from xdm.log.files import shortened
from xdm.log.settings import PrepareSettings
from xdm.log.source import SourceBatch
from xdm.log.times import Times, to_seconds
from xdm.schema import (
    ACTION,
    CLICKED,
    DWELL,
    ITEM_ID,
    POSITION,
    REQUIRED_COLUMNS,
    SESSION_ID,
    TIMESTAMP,
    USER_ID,
    LogError,
    describe_path,
)

EXAMPLES = 5  # bad rows that are named for each reason


@dataclass(frozen=True)
class BadRow:
    """One bad row: its file, its number there (the first data row is 1) and the value that is wrong."""

    file: str
    row: int
    value: str


@dataclass
class BadRows:
    """Bad rows by reason: how many, and the first of them. A row counts once, under the first thing wrong with it."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[BadRow]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(self.counts.values())

    def add(self, reason: str, count: int, examples: list[BadRow]) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + count
        known = self.first.setdefault(reason, [])
        known.extend(examples[: EXAMPLES - len(known)])

    def as_json(self) -> dict[str, dict[str, Any]]:
        """``{reason: {"count", "first": [{"file", "row", "value"}]}}``."""
        return {
            reason: {"count": count, "first": [asdict(row) for row in self.first[reason]]}
            for reason, count in self.counts.items()
        }

    def __str__(self) -> str:
        lines = []
        for reason, count in sorted(self.counts.items(), key=lambda pair: -pair[1]):
            lines.append(f"{count:>12,}  {reason}")
            lines += [f"{'':14}{bad.file}, row {bad.row}: {bad.value}" for bad in self.first[reason]]
        return "\n".join(lines)


@dataclass(frozen=True)
class Rows:
    """Good rows of a batch: ids without nulls ``[n]``, everything else as the store keeps it.

    ``session`` and ``action`` are external (null or empty: none); all that the log does not have is None.
    """

    user: pa.Array
    item: pa.Array
    time: np.ndarray  # [n] int64
    clicked: np.ndarray  # [n] bool
    session: pa.Array | None
    action: pa.Array | None
    position: np.ndarray | None  # [n] int32
    dwell: np.ndarray | None  # [n] float32

    def __len__(self) -> int:
        return len(self.time)

    def take(self, good: np.ndarray) -> Rows:
        """The rows where ``good`` (bool ``[n]``) holds."""
        mask = pa.array(good)
        kept: dict[str, Any] = {}
        for name, value in self.__dict__.items():
            kept[name] = value.filter(mask) if isinstance(value, pa.Array) else None if value is None else value[good]
        return Rows(**kept)


class Checker:
    """Checks batches one after the other and keeps the counts."""

    def __init__(self, settings: PrepareSettings) -> None:
        self.settings = settings
        self.bad = BadRows()
        self.rows_read = 0
        self.unknown_clicks = 0
        self.rounded_times = 0
        self.naive_times = False
        self._integer: dict[str, bool] = {}

    def is_integer(self, column: str) -> bool:
        """Whether the ids of a column are integers (else text); known once a batch was checked."""
        return self._integer[column]

    def check(self, batch: SourceBatch) -> Rows:
        """The good rows of ``batch``.

        Raises:
            LogError: a column is missing or of a type that cannot be used.
        """
        for name in REQUIRED_COLUMNS:
            if name not in batch.table.schema.names:
                raise LogError(
                    f"{batch.name} has no column '{name}'; its columns are {', '.join(batch.table.schema.names)}"
                )
        self.rows_read += len(batch.table) + len(batch.broken)
        self.unknown_clicks += batch.unknown_clicks
        self._note_broken(batch)
        faults: dict[str, Faults] = {}
        user = self._ids(batch, USER_ID, faults)
        item = self._ids(batch, ITEM_ID, faults)
        times: Times = self._convert(
            batch, TIMESTAMP, lambda column: to_seconds(column, self.settings.time_unit), faults
        )
        rows = Rows(
            user=user,
            item=item,
            time=times.seconds,
            clicked=self._convert(batch, CLICKED, to_clicked, faults),
            session=self._labels(batch, SESSION_ID, faults),
            action=self._labels(batch, ACTION, faults),
            position=self._convert(batch, POSITION, to_positions, faults),
            dwell=self._convert(batch, DWELL, to_dwell, faults),
        )
        good = self._good(batch, faults)
        self.rounded_times += int(np.count_nonzero(times.rounded if good is None else times.rounded & good))
        self.naive_times |= times.naive
        return rows if good is None else rows.take(good)

    def _convert(
        self, batch: SourceBatch, name: str, convert: Callable[[pa.Array], Any], faults: dict[str, Faults]
    ) -> Any:
        if name not in batch.table.schema.names:
            return None
        try:
            values, faults[name] = convert(batch.table[name])
        except ColumnError as error:
            raise LogError(f"{describe_path(batch.name, column=self._column(name))} {error}") from None
        return values

    def _kind(self, batch: SourceBatch, name: str, id_type: str) -> bool:
        """Whether a column's ids are integers; the first batch decides for all."""
        if name not in self._integer:
            kind = batch.table.schema.field(name).type
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            self._integer[name] = id_type == "integer" or (id_type == "auto" and pa.types.is_integer(kind))
        return self._integer[name]

    def _ids(self, batch: SourceBatch, name: str, faults: dict[str, Faults]) -> pa.Array:
        integer = self._kind(batch, name, self.settings.id_type)
        return self._convert(batch, name, lambda column: to_ids(column, integer=integer), faults)

    def _labels(self, batch: SourceBatch, name: str, faults: dict[str, Faults]) -> pa.Array | None:
        """A column of names of any kind, where null or empty text is none."""
        if name not in batch.table.schema.names:
            return None
        integer = self._kind(batch, name, "auto")
        return self._convert(batch, name, lambda column: _to_labels(column, integer), faults)

    def _good(self, batch: SourceBatch, faults: dict[str, Faults]) -> np.ndarray | None:
        """Which rows are good, None for all; the others are noted under their first fault."""
        good: np.ndarray | None = None
        for name, found in faults.items():
            for fault in found:
                good = np.ones(len(batch.table), np.bool_) if good is None else good
                rows = np.flatnonzero(fault.rows & good)
                good &= ~fault.rows
                if len(rows):
                    column = plain(batch.table[name])
                    examples = [
                        BadRow(batch.name, batch.row_number(int(row)), _shown(column, int(row)))
                        for row in rows[:EXAMPLES]
                    ]
                    self.bad.add(f"{self._label(name)} {fault.reason}", len(rows), examples)
        return good

    def _note_broken(self, batch: SourceBatch) -> None:
        if batch.broken:
            examples = [BadRow(batch.name, row, shortened(text)) for row, text in batch.broken[:EXAMPLES]]
            self.bad.add("the row has the wrong number of fields", len(batch.broken), examples)

    def _column(self, name: str) -> str:
        """The log's own name of a column."""
        settings = self.settings
        return settings.required_columns().get(name) or settings.optional_columns().get(name) or name

    def _label(self, name: str) -> str:
        column = self._column(name)
        return name if column == name else f"{name} (column '{column}')"


def _to_labels(column: pa.Array, integer: bool) -> tuple[pa.Array, Faults]:
    faults = Faults()
    column = plain(column)
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), pa.int64() if integer else pa.string()), faults
    if is_text(column.type):
        if integer:
            raise ColumnError("is text here and integer in an earlier batch; write the column with one type")
        text = readable_text(column, faults)
        return pc.if_else(pc.equal(text, ""), pa.scalar(None, text.type), text), faults
    if pa.types.is_integer(column.type):
        values = column.cast(pa.int64())
        return (values if integer else values.cast(pa.string())), faults
    raise ColumnError(f"holds {column.type}; it must be text or integers")


def _shown(column: pa.Array, row: int) -> str:
    value = column[row]
    try:
        return shortened(value.as_py())
    except UnicodeDecodeError:
        return shortened(value.cast(pa.binary()).as_py())
