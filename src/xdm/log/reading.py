"""An exposure log in Parquet and CSV files, as a `LogSource`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from xdm.folders import file_sha256
from xdm.log.clicks import ClickExpression
from xdm.log.converting import is_text
from xdm.log.files import TableFile, find_files, open_table, read_table
from xdm.log.settings import PrepareSettings
from xdm.log.source import SourceBatch
from xdm.log.tables import typed_columns
from xdm.schema import CLICKED, ITEM_ID, SESSION_ID, USER_ID, LogError

OPTION_OF = {"timestamp": "--timestamp-column", "clicked": "--clicked-column", SESSION_ID: "--session-column"}


class FileSource:
    """A log in files that hold one row per exposure. The files must agree on the columns that are used."""

    def __init__(self, paths: Sequence[str | Path], settings: PrepareSettings) -> None:
        """Find and open the files; nothing but their schemas is read.

        Raises:
            LogError: a path, a file or a column that is not there, or files that differ.
            UsageError: a click expression that cannot be parsed.
        """
        if not paths:
            raise LogError("no log was named; give at least one file, folder or pattern")
        self.settings = settings
        self.files = [open_table(path) for path in find_files(paths)]
        self._clicks = None if settings.clicked_when is None else ClickExpression(settings.clicked_when)
        self.columns = self._chosen(self.files[0])
        for file in self.files[1:]:
            self._check_alike(file)

    @property
    def size(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def untyped(self) -> bool:
        """Whether some file has no types of its own, so that its ids are text unless ``id_type`` says otherwise."""
        return not all(file.typed for file in self.files)

    @property
    def items(self) -> None:
        return None

    @property
    def users(self) -> None:
        return None

    def fingerprint(self) -> list[dict[str, Any]]:
        return [fingerprint_of(file.path) for file in self.files]

    def batches(self) -> Iterator[SourceBatch]:
        wanted = sorted({*self.columns.values(), *(self._clicks.columns if self._clicks else ())})
        total = max(1, sum(file.path.stat().st_size for file in self.files))
        before = 0
        for file in self.files:
            size = file.path.stat().st_size
            for batch in file.batches(wanted):
                fraction = (before + size * (batch.fraction or 0.0)) / total
                yield replace(self._uniform(batch, file.typed), fraction=fraction)
            before += size

    def _uniform(self, batch: SourceBatch, typed: bool) -> SourceBatch:
        """The batch with its columns under the names of `xdm.schema`."""
        columns = {name: batch.table[column] for name, column in self.columns.items()}
        unknown = 0
        if self._clicks:
            columns[CLICKED], unknown = self._clicks.evaluate(batch.table, typed=typed)
        table = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
        return replace(batch, table=table, unknown_clicks=unknown)

    def _chosen(self, file: TableFile) -> dict[str, str]:
        """Name in `xdm.schema` to column of the log, for every column that is used."""
        present = file.schema.names
        chosen = self.settings.required_columns()
        for name, column in self.settings.optional_columns().items():
            if column or (column is None and name in present):
                chosen[name] = column or name
        for name, column in chosen.items():
            if column not in present:
                raise LogError(f"{file.path} has no column '{column}'; {_present(column, present)}{_advice(name)}")
        for column in self._clicks.columns if self._clicks else ():
            if column not in present:
                known = _present(column, present)
                raise LogError(f"{file.path} has no column '{column}', which --clicked-when names; {known}")
        for column in chosen.values():
            if present.count(column) > 1:
                raise LogError(f"{file.path} has {present.count(column)} columns '{column}'; rename all but one")
        return chosen

    def _check_alike(self, file: TableFile) -> None:
        """Raise where ``file`` does not have the columns of the first file, in types that mean the same."""
        first = self.files[0]
        chosen = self._chosen(file)
        for name in sorted(set(chosen) ^ set(self.columns)):
            has, lacks = (first, file) if name in self.columns else (file, first)
            raise LogError(
                f"{has.path} has a column '{name}' and {lacks.path} has none; prepare them apart, or leave the column "
                f"out with {_option(name)} ''"
            )
        used = {*chosen.items(), *((column, column) for column in (self._clicks.columns if self._clicks else ()))}
        for name, column in sorted(used):
            one, other = _kind(first, column), _kind(file, column)
            is_id = name in (USER_ID, ITEM_ID)
            if is_id and self.settings.id_type != "auto":
                continue
            if not is_id:
                other = one if "untyped" in (one, other) else other
            if one.replace("untyped", "text") != other.replace("untyped", "text") and "null" not in (one, other):
                advice = "; or say --id-type text or integer" if is_id else ""
                raise LogError(
                    f"column '{column}' is {first.schema.field(column).type} in {first.path} and "
                    f"{file.schema.field(column).type} in {file.path}; write both with one type{advice}"
                )


def fingerprint_of(path: Path) -> dict[str, Any]:
    """What a file was: its name, size and content's hash."""
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}


def read_entities(path: str | Path, id_column: str, log_column: str) -> pa.Table:
    """An items or users table from one Parquet or CSV file. Its ids may also stand under the log's name for them.

    Raises:
        LogError: it cannot be read, or has no id column.
    """
    files = find_files([path])
    if len(files) != 1:
        raise LogError(f"{path} means {len(files)} files; an items or users table is one Parquet or CSV file")
    table, typed = read_table(files[0])
    names = table.column_names
    if id_column not in names and log_column in names:
        table = table.rename_columns([id_column if name == log_column else name for name in names])
    elif id_column not in names:
        raise LogError(f"{path} has no column '{id_column}'; {_present(id_column, names)}")
    return table if typed else typed_columns(table, but=id_column)


def _kind(file: TableFile, column: str) -> str:
    """What a column's type means, whatever its width."""
    kind = file.schema.field(column).type
    if not file.typed:
        return "untyped"
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if is_text(kind):
        return "text"
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind):
        return "float"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "time"
    return str(kind)


def _option(name: str) -> str:
    return OPTION_OF.get(name, f"--{name.removesuffix('_id')}-column")


def _present(column: str, present: Sequence[str]) -> str:
    near = difflib.get_close_matches(column.lower(), [name.lower() for name in present], n=1, cutoff=0.5)
    meant = next((name for name in present if near and name.lower() == near[0]), None)
    apart = next((sign for sign in (";", "\t", "|") if len(present) == 1 and sign in present[0]), None)
    hint = f" Did you mean '{meant}'?" if meant else ""
    hint += f" Its fields seem to be separated by {apart!r}; write it with commas." if apart else ""
    return f"its columns are {', '.join(present) or '(none)'}.{hint}"


def _advice(name: str) -> str:
    if name == CLICKED:
        return (
            ' Name the column with --clicked-column, say what counts as a click with --clicked-when "SQL expression", '
            "or say --clicked-when true if every row is a click."
        )
    return f" Name the column with {_option(name)}."
