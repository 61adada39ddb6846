"""What the adapters share: a log that consists of the files of one folder, and reading delimited text in batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from xdm.folders import file_sha256
from xdm.log.source import SourceBatch
from xdm.schema import LogError

BLOCK_BYTES = 8 << 20  # of delimited text read at once: some 100,000 rows, and tens of MB in memory
SAMPLE_BYTES = 1 << 20  # of a log file, from which its number of rows is estimated


class PublishedLog(ABC):
    """A `LogSource` over the files of one published data set.

    ``left_out`` counts what the files hold and the log does not, by reason. What can only be counted while reading
    is complete when `batches` has been read to its end. Times are handed on as the files have them (with their unit or
    as datetimes): the reader of the batches turns them into seconds.
    """

    def __init__(self, root: Path, logs: Sequence[Path], entities: Sequence[Path] = ()) -> None:
        self.root = root
        self.logs = list(logs)
        self.entities = [path for path in entities if path.exists()]
        self.left_out: dict[str, int] = {}

    @abstractmethod
    def read(self, path: Path) -> Iterator[pa.RecordBatch]:
        """The exposures of one log file, in its order; the same schema for every file."""

    @property
    def size(self) -> int:
        """The number of exposures, estimated from the beginning of each file."""
        return sum(self._estimated_rows(path) for path in self.logs)

    def rows_in(self, text: bytes) -> int:
        """The number of exposures in a piece of a log file."""
        return text.count(b"\n")

    def _estimated_rows(self, path: Path) -> int:
        with path.open("rb") as file:
            sample = file.read(SAMPLE_BYTES)
        return round(self.rows_in(sample) * path.stat().st_size / max(1, len(sample)))

    @property
    def items(self) -> pa.Table | None:
        return None

    @property
    def users(self) -> pa.Table | None:
        return None

    def batches(self) -> Iterator[SourceBatch]:
        """The exposures of all files. Rows are numbered by exposure: an impression of ten items makes ten rows."""
        self.left_out = {}
        size, done = max(1, self.size), 0
        for path in self.logs:
            first_row = 1
            for batch in self.read(path):
                done += batch.num_rows
                yield SourceBatch(self.name_of(path), first_row, batch, fraction=min(1.0, done / size))
                first_row += batch.num_rows

    def fingerprint(self) -> list[dict[str, Any]]:
        return [
            {"name": self.name_of(path), "bytes": path.stat().st_size, "sha256": file_sha256(path)}
            for path in [*self.logs, *self.entities]
        ]

    def name_of(self, path: Path) -> str:
        """The file as messages show it: relative to the folder that the user named, where it lies in it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def leave_out(self, reason: str, count: int) -> None:
        """Count what the log does not hold."""
        if count:
            self.left_out[reason] = self.left_out.get(reason, 0) + count


def wrong_layout(name: str, path: Path, wanted: str) -> LogError:
    """The error for a folder that does not hold the files of the data set ``name``."""
    state = "" if path.is_dir() else (" (it is a file, not a folder)" if path.exists() else " (it does not exist)")
    return LogError(
        f"{path}{state} does not hold {name} as it is published: looked for {wanted}; pass the folder of these files"
    )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what Arrow says of a file that is broken or of another shape into a `LogError`."""
    try:
        yield
    except KeyError as error:
        raise LogError(f"{path} lacks a column: {error.args[0]}; compare the file with the published one") from None
    except (pa.ArrowException, OSError) as error:
        raise LogError(f"{path} cannot be read: {error}; compare the file with the published one") from None


def read_delimited(
    path: Path,
    columns: dict[str, pa.DataType],
    *,
    delimiter: str = ",",
    header: Sequence[str] | None = None,
    quoted: bool = True,
) -> Iterator[pa.RecordBatch]:
    """The named columns of a delimited text file, block by block; empty fields are null.

    ``header`` gives the names of a file without a header line.

    Raises:
        LogError: a column is missing or a row cannot be read.
    """
    with reading(path):
        yield from csv.open_csv(
            path,
            read_options=csv.ReadOptions(block_size=BLOCK_BYTES, column_names=list(header) if header else None),
            parse_options=csv.ParseOptions(delimiter=delimiter, quote_char='"' if quoted else False),
            convert_options=csv.ConvertOptions(
                column_types=columns, include_columns=list(columns), strings_can_be_null=True, null_values=[""]
            ),
        )


def read_delimited_table(path: Path, columns: dict[str, pa.DataType], **options: Any) -> pa.Table:
    """`read_delimited` as one table: for the small files of items and users."""
    return pa.Table.from_batches(read_delimited(path, columns, **options), pa.schema(list(columns.items())))


def read_lines(path: Path, separator: str, fields: int, encoding: str) -> list[list[str]]:
    """The rows of a small text file whose separator or encoding the block reader does not know.

    Raises:
        LogError: a row does not have ``fields`` fields.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding=encoding).splitlines(), start=1):
        row = line.split(separator)
        if len(row) != fields:
            raise LogError(f"{path}, row {number}: {len(row)} fields separated by {separator!r}, expected {fields}")
        rows.append(row)
    return rows


def first_of(column: pa.ChunkedArray | pa.Array, separator: str) -> pa.ChunkedArray | pa.Array:
    """The part of each text before the first ``separator``; null where that is empty."""
    first = pc.list_element(pc.split_pattern(column, separator, max_splits=1), 0)
    return pc.if_else(pc.equal(first, ""), None, first)
