"""A raw exposure log to an event store (`xdm.log.store` says what is written).

Three passes: the log is read, checked, its ids become codes and its rows go to their part's file; each part is sorted;
items get their index by falling click count, and everything is written. Memory is bounded by the distinct ids and a few
parts, not by the log.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xdm import __version__
from xdm.folders import MANIFEST, fsync_path, new_folder, write_json
from xdm.log.features import Entities, EntityReport
from xdm.log.ingesting import Progress, ReadLog, read_log
from xdm.log.reading import FileSource, fingerprint_of, read_entities
from xdm.log.report import PrepareReport
from xdm.log.settings import PrepareSettings
from xdm.log.sorting import SortedRows, count_rows, sort_rows
from xdm.log.source import LogSource
from xdm.log.store import FORMAT, FORMAT_VERSION, write_entities
from xdm.schema import ITEM_DTYPE, ITEM_ID, USER_ID, LogError

USER, ITEM, CLICKED = 0, 1, 2  # the fixed columns of a spilled row
EXTRA_DTYPES = {"session": np.int32, "action": np.int16, "position": np.int32, "dwell": np.float32}


def prepare_log(
    log: LogSource | str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    items: str | Path | pa.Table | None = None,
    users: str | Path | pa.Table | None = None,
    settings: PrepareSettings | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PrepareReport:
    """Prepare ``log`` (files, folders, patterns, or a `LogSource`) as the event store ``out``.

    ``items`` and ``users`` are tables of features: files, or Arrow tables with the column ``item_id`` or ``user_id``.
    ``out`` appears when everything is written; on an error, or when the process is killed, what was there stays.

    Raises:
        LogError: the log or a table cannot be read; it has bad rows (`BadRowsError`) and the settings say to fail, or
            no good ones.
        UsageError: ``out`` exists and ``overwrite`` is false; a click expression that does not fit the log.
    """
    started = time.perf_counter()
    settings = settings or PrepareSettings()
    tell = progress or (lambda stage, fraction, rows: None)
    with new_folder(out, FORMAT, overwrite=overwrite) as folder:
        source = _source(log, settings)
        item_table = _entities(items, source.items, ITEM_ID, settings.item_column, settings.items_columns)
        user_table = _entities(users, source.users, USER_ID, settings.user_column, settings.users_columns)
        with ThreadPoolExecutor(1) as hashing:
            fingerprint = hashing.submit(_fingerprint, source, [items, users])
            read = read_log(source, folder / "spill", settings, tell)
            counts = sort_parts(read, folder, tell)
            order, index = rank_items(counts)
            write_items(read, folder, index, tell)
            reports = _write_tables(read, counts, order, folder, item_table, user_table)
            report = _report(str(out), read, counts, reports, _notes(source, read, counts))
            report.seconds = time.perf_counter() - started
            write_json(folder / MANIFEST, _manifest(read, report, fingerprint.result()))
    return report


def _source(log: LogSource | str | Path | Sequence[str | Path], settings: PrepareSettings) -> LogSource:
    if isinstance(log, str | Path):
        return FileSource([log], settings)
    return FileSource(log, settings) if isinstance(log, Sequence) else log


def _entities(
    given: str | Path | pa.Table | None,
    own: pa.Table | None,
    id_column: str,
    log_column: str,
    columns: Sequence[str] | None,
) -> Entities | None:
    """The items or users table that was given, else the source's own."""
    kind = "items" if id_column == ITEM_ID else "users"
    table, name = (own, f"the {kind} table") if given is None else (given, f"the {kind} table")
    if isinstance(given, str | Path):
        table, name = read_entities(given, id_column, log_column), str(given)
    if table is None:
        if columns is not None:
            raise LogError(f"{kind}_columns names features and there is no {kind} table; give one with --{kind}")
        return None
    return Entities(table, id_column, name, columns)


def _fingerprint(source: LogSource, tables: list[Any]) -> list[dict[str, Any]]:
    return source.fingerprint() + [fingerprint_of(Path(path)) for path in tables if isinstance(path, str | Path)]


@dataclass
class Counts:
    """Counts after duplicates are gone; ``clicks`` and ``exposures`` by item code, int64 ``[items]``."""

    clicks: np.ndarray
    exposures: np.ndarray
    duplicates: int = 0
    without_exposure: int = 0

    @property
    def events(self) -> int:
        return int(self.exposures.sum())


def sort_parts(read: ReadLog, folder: Path, tell: Progress) -> Counts:
    """Sort each part and write its columns; ``item.npy`` holds codes until the items have their indices."""
    n_items = len(read.items)
    counts = Counts(np.zeros(n_items, np.int64), np.zeros(n_items, np.int64))
    counting = threading.Lock()

    def sort(part: int) -> None:
        time, fields = read.spill.take(part)
        sorted_rows = sort_rows(int(read.parts.users[part]), fields[:, USER], time, fields[:, ITEM:])
        with counting:
            counts.duplicates += sorted_rows.duplicates
            counts.without_exposure += count_rows(
                sorted_rows.offsets, sorted_rows.time, sorted_rows.fields, counts.clicks, counts.exposures
            )
        _write_part(folder / "parts" / f"{part:05d}", sorted_rows, list(read.extras))

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for done, _ in enumerate(_in_order(pool, sort, read.n_parts), 1):
            tell("sorting", done / read.n_parts, read.checker.rows_read)
    read.spill.folder.rmdir()
    return counts


def _in_order(pool: ThreadPoolExecutor, work: Callable[[int], None], parts: int) -> Iterator[None]:
    """Do ``work`` for every part in ``pool``; when one fails or the user interrupts, the waiting ones are not begun."""
    try:
        yield from pool.map(work, range(parts))
    finally:
        pool.shutdown(cancel_futures=True)


def _write_part(folder: Path, rows: SortedRows, extras: list[str]) -> None:
    folder.mkdir(parents=True)
    columns = {"offsets": rows.offsets, "time": rows.time, "clicked": rows.fields[:, CLICKED - 1].astype(np.bool_)}
    for place, name in enumerate(extras, CLICKED):
        values = np.ascontiguousarray(rows.fields[:, place])
        dtype = EXTRA_DTYPES[name]
        columns[name] = values.view(dtype) if name == "dwell" else values.astype(dtype)
    for name, values in columns.items():
        np.save(folder / f"{name}.npy", values)
        fsync_path(folder / f"{name}.npy")  # here, where the disk works while other parts are sorted
    np.save(folder / "item.npy", np.ascontiguousarray(rows.fields[:, ITEM - 1]))


def rank_items(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """The item codes in order of falling clicks, then exposures, then first appearance; and the index of each code, from 1."""
    order = np.lexsort((-counts.exposures, -counts.clicks))
    index = np.empty(len(order), ITEM_DTYPE)
    index[order] = np.arange(1, len(order) + 1)
    return order, index


def write_items(read: ReadLog, folder: Path, index: np.ndarray, tell: Progress) -> None:
    """Replace the item codes of every part by indices."""

    def write(part: int) -> None:
        path = folder / "parts" / f"{part:05d}" / "item.npy"
        np.save(path, index[np.load(path, allow_pickle=False)])
        fsync_path(path)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for done, _ in enumerate(_in_order(pool, write, read.n_parts), 1):
            tell("writing", done / read.n_parts, read.checker.rows_read)


def _write_tables(
    read: ReadLog, counts: Counts, order: np.ndarray, folder: Path, items: Entities | None, users: Entities | None
) -> tuple[EntityReport | None, EntityReport | None]:
    """Write ``items.arrow`` and ``users.arrow``, and say what became of the features."""
    item_ids = read.items.ids().take(pa.array(order))
    user_ids = read.users.ids().take(pa.array(read.parts.order()))
    features, about_items = items.align(item_ids) if items else ({}, None)
    columns = {ITEM_ID: item_ids, "clicks": counts.clicks[order], "exposures": counts.exposures[order], **features}
    write_entities(folder / "items.arrow", pa.table(columns))
    profile, about_users = users.align(user_ids) if users else ({}, None)
    write_entities(folder / "users.arrow", pa.table({USER_ID: user_ids, **profile}))
    return about_items, about_users


def _report(
    out: str, read: ReadLog, counts: Counts, tables: tuple[EntityReport | None, EntityReport | None], notes: list[str]
) -> PrepareReport:
    checker = read.checker
    return PrepareReport(
        store=out,
        rows_read=checker.rows_read,
        events=counts.events,
        clicks=int(counts.clicks.sum()),
        users=len(read.users),
        items=len(read.items),
        first_timestamp=read.first,
        last_timestamp=read.last,
        parts=read.n_parts,
        duplicates=counts.duplicates,
        bad_rows=checker.bad.as_json(),
        clicks_without_exposure=counts.without_exposure,
        unknown_clicks=checker.unknown_clicks,
        rounded_times=checker.rounded_times,
        seconds=0.0,
        items_table=tables[0],
        users_table=tables[1],
        notes=notes,
    )


def _notes(source: LogSource, read: ReadLog, counts: Counts) -> list[str]:
    """What was decided without being asked, and what the source could not hand on."""
    left_out: dict[str, int] = getattr(source, "left_out", {})
    notes = [f"left out: {count:,} {what}" for what, count in left_out.items()]
    if isinstance(source, FileSource) and source.untyped and read.settings.id_type == "auto":
        notes.append("CSV has no types, so ids are text; --id-type integer makes them integers")
    if read.checker.naive_times:
        notes.append("times without a time zone were taken as UTC")
    if counts.events == counts.clicks.sum():
        notes.append("every event is a click: a click-only log, which has no unclicked items")
    if counts.clicks.sum() == 0:
        notes.append("no event is a click: nothing can be learnt from this log")
    if read.settings.time_unit in ("ms", "us", "ns") and read.last < 10 * 365 * 86400:
        notes.append(f"--time-unit {read.settings.time_unit} puts the whole log before 1980: check the unit")
    return notes


def _manifest(read: ReadLog, report: PrepareReport, fingerprint: list[dict[str, Any]]) -> dict[str, Any]:
    actions = read.extras.get("action")
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "xdm_version": __version__,
        "parts": read.n_parts,
        "users_per_part": read.parts.users.tolist(),
        "n_users": report.users,
        "n_items": report.items,
        "n_events": report.events,
        "n_clicks": report.clicks,
        "first_timestamp": report.first_timestamp,
        "last_timestamp": report.last_timestamp,
        "has_sessions": "session" in read.extras,
        "extra_columns": [name for name in read.extras if name != "session"],
        "action_names": actions.ids().to_pylist() if actions else [],
        "fingerprint": fingerprint,
        "settings": read.settings.model_dump(mode="json"),
        # without the time that it took and the path, so that the same log gives the same bytes
        "report": {name: value for name, value in report.as_json().items() if name not in ("store", "seconds")},
    }
