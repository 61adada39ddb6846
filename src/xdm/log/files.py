"""Parquet and CSV files as streams of record batches, and the finding of them."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from xdm.log.source import SourceBatch
from xdm.schema import LogError

BATCH_ROWS = 1 << 18
CSV_BLOCK = 1 << 24  # bytes; no row may be longer
CSV_BYTES_A_ROW = 40  # for the estimate of a CSV file's rows
GZIP_RATIO = 4
SUFFIXES = (".parquet", ".csv", ".csv.gz")
READ_ERRORS = (pa.ArrowException, OSError, UnicodeDecodeError)


class TableFile(Protocol):
    """One input file. ``typed`` is false where every column is text because the format has no types."""

    path: Path
    schema: pa.Schema
    typed: bool

    @property
    def rows(self) -> int:
        """The number of rows, exact or estimated."""
        ...

    def batches(self, columns: Sequence[str]) -> Iterator[SourceBatch]:
        """The rows; ``fraction`` is of this file."""
        ...


def find_files(paths: Sequence[str | Path]) -> list[Path]:
    """The files that ``paths`` (files, folders, globs) mean, in the order given; within a folder or glob by name.

    Raises:
        LogError: a path that does not exist, a glob that matches nothing, a folder without a log file, a file twice.
    """
    found = [file for path in paths for file in _files_of(Path(path))]
    for file in found:
        if not file.name.endswith(SUFFIXES):
            raise LogError(f"{file} is none of {', '.join(SUFFIXES)}; convert it, or rename it to say what it is")
    seen: set[Path] = set()
    for file in found:
        if file.resolve() in seen:
            raise LogError(f"{file} is named twice; give every file once")
        seen.add(file.resolve())
    return found


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.endswith(SUFFIXES) and file.name[0] not in "._")
        if not files:
            raise LogError(f"{path} holds no {' or '.join(SUFFIXES)} file (hidden ones and those with _ do not count)")
        return files
    if path.exists():
        return [path]
    if any(sign in str(path) for sign in "*?["):
        matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
        files = [match for match in matches if match.is_file() and match.name[0] not in "._"]
        if not files:
            raise LogError(f"no file matches {path}; check the pattern")
        return files
    raise LogError(f"{path} does not exist; check the path")


def open_table(path: Path) -> TableFile:
    """Open a file by its suffix and read its schema.

    Raises:
        LogError: the file cannot be read as what its suffix says, or is empty.
    """
    return ParquetTable(path) if path.name.endswith(".parquet") else CsvTable(path)


def read_table(path: Path) -> tuple[pa.Table, bool]:
    """A whole (small) table and whether its columns have types of their own.

    Raises:
        LogError: it cannot be read, or has rows with the wrong number of fields.
    """
    file = open_table(path)
    names = file.schema.names
    for name in names:
        if names.count(name) > 1:
            raise LogError(f"{path} has {names.count(name)} columns '{name}'; rename all but one")
    parts = []
    for batch in file.batches(names):
        if batch.broken:
            row, text = batch.broken[0]
            raise LogError(f"{path}, row {row}: the wrong number of fields ({shortened(text)}); correct the file")
        parts.append(batch.table)
    table = pa.Table.from_batches(parts, parts[0].schema if parts else file.schema)
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        raise LogError(f"{path} holds text that is not UTF-8 or is damaged ({error}); write the file anew") from None
    return table, file.typed


def shortened(value: object, length: int = 60) -> str:
    """A value for a message: its ``repr``, cut where it is long."""
    text = repr(value)
    return text if len(text) <= length else text[: length - 1] + "…"


class ParquetTable:
    """A Parquet file, read row group by row group."""

    typed = True

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with pq.ParquetFile(path) as file:
                self.schema = file.schema_arrow
                self.rows = file.metadata.num_rows
        except READ_ERRORS as error:
            raise LogError(
                f"{path} cannot be read as Parquet ({error}); check that it was written to its end"
            ) from None

    def batches(self, columns: Sequence[str]) -> Iterator[SourceBatch]:
        done = 0
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                    first, done = done + 1, done + len(batch)
                    yield SourceBatch(str(self.path), first, batch, fraction=done / max(1, self.rows))
        except READ_ERRORS as error:
            raise LogError(f"{self.path} cannot be read after row {done} ({error}); write the file anew") from None


class CsvTable:
    """A comma-separated file with a header, plain or gzipped; every column is text.

    Blank lines are no rows. Rows with the wrong number of fields come out as ``broken``.
    """

    typed = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes = path.stat().st_size
        self._broken: list[tuple[int, str]] = []
        try:
            with self._open() as raw, self._reader(raw, None) as reader:
                self.schema = pa.schema([(name, pa.string()) for name in reader.schema.names])
        except READ_ERRORS as error:
            raise LogError(f"{path} cannot be read as CSV ({error}); it needs a header and commas") from None

    @property
    def rows(self) -> int:
        return self._bytes * (GZIP_RATIO if self.path.suffix == ".gz" else 1) // CSV_BYTES_A_ROW

    def _open(self) -> pa.NativeFile:
        return pa.PythonFile(self.path.open("rb"), mode="r")

    def _reader(self, raw: pa.NativeFile, columns: Sequence[str] | None) -> pc.CSVStreamingReader:
        stream = pa.CompressedInputStream(raw, "gzip") if self.path.suffix == ".gz" else raw
        return pc.open_csv(
            stream,
            read_options=pc.ReadOptions(block_size=CSV_BLOCK, use_threads=False),  # threads would lose the row numbers
            parse_options=pc.ParseOptions(newlines_in_values=True, invalid_row_handler=self._note_broken),
            convert_options=pc.ConvertOptions(
                column_types={name: pa.string() for name in columns or ()},
                include_columns=list(columns or ()),
                check_utf8=False,  # the row is to be named, not the block
                strings_can_be_null=False,
            ),
        )

    def _note_broken(self, row: pc.InvalidRow) -> str:
        self._broken.append((row.number - 1, row.text))  # the header is number 1
        return "skip"

    def batches(self, columns: Sequence[str]) -> Iterator[SourceBatch]:
        self._broken = []
        done = 0
        try:
            with self._open() as raw, self._reader(raw, columns) as reader:
                for batch in reader:
                    first = done + 1
                    broken = self._broken_among(first, len(batch))
                    done += len(batch) + len(broken)
                    yield SourceBatch(str(self.path), first, batch, broken, fraction=raw.tell() / max(1, self._bytes))
            rest = self._broken_among(done + 1, CSV_BLOCK)
            if rest:
                yield SourceBatch(str(self.path), done + 1, self._no_rows(columns), rest, fraction=1.0)
        except READ_ERRORS as error:
            raise LogError(f"{self.path} cannot be read as CSV after row {done} ({error})") from None

    def _broken_among(self, first: int, rows: int) -> tuple[tuple[int, str], ...]:
        """The broken rows that lie before the last of the next ``rows`` whole ones; the reader notes rows ahead."""
        count = 0
        while count < len(self._broken) and self._broken[count][0] < first + rows + count:
            count += 1
        taken, self._broken = tuple(self._broken[:count]), self._broken[count:]
        for number, text in taken:
            if text.count('"') % 2:
                raise LogError(f"{self.path}, row {number}: a quote is opened and never closed ({shortened(text)})")
        return taken

    def _no_rows(self, columns: Sequence[str]) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([pa.array([], pa.string())] * len(columns), list(columns))
