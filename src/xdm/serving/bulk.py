"""Recommendations for every user of a store, streamed to Parquet: memory does not grow with the number of users."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xdm.retrieval.types import Points, Recommender, TopK
from xdm.schema import ITEM_ID, PADDING, RANK, SCORE, TIMESTAMP, USER_ID, InternalError, UsageError
from xdm.serving.history import History

BATCH_USERS = 1024


def recommend_all(
    recommender: Recommender,
    history: History,
    out: Path,
    *,
    at: int,
    k: int = 50,
    exclude_clicked: bool = False,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda users: None,
) -> int:
    """Write the ``k`` best items at the second ``at`` for each user of the store; return the number of rows.

    Columns: ``user_id``, ``timestamp`` (int64 seconds), ``rank`` (int32, from 1), ``item_id``, ``score`` (float32).
    Only events strictly before ``at`` count. ``progress`` is called with the number of users of each finished batch.
    The file appears when it is complete.

    Raises:
        UsageError: ``out`` exists and ``overwrite`` is false, or its folder cannot be written to.
        InternalError: the model gave a score that is no number.
    """
    check_out(out, overwrite=overwrite)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    schema = pa.schema(
        [
            (USER_ID, history.store.users.vocabulary.ids.type),
            (TIMESTAMP, pa.int64()),
            (RANK, pa.int32()),
            (ITEM_ID, recommender.catalogue.ids.type),
            (SCORE, pa.float32()),
        ]
    )
    rows = 0
    try:
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            for first_row, points in _questions(recommender, history, at):
                top = recommender.top_k(points, k, _clicked(points) if exclude_clicked else None)
                batch = _as_table(recommender, history, first_row, points, top, schema)
                writer.write_table(batch)
                rows += len(batch)
                progress(len(points))
        os.replace(partial, out)
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror or error}); choose another --out") from None
    finally:
        partial.unlink(missing_ok=True)
    return rows


def check_out(out: Path, *, overwrite: bool) -> None:
    """Raise `UsageError` where ``out`` may not be written: before the model is loaded, not after an hour."""
    if out.is_dir():
        raise UsageError(f"{out} is a folder; give --out the path of a Parquet file")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists already; choose another path or pass --overwrite")
    if not out.parent.is_dir():
        raise UsageError(f"the folder {out.parent} does not exist; make it, or choose another --out")


def _questions(recommender: Recommender, history: History, at: int) -> Iterator[tuple[int, Points]]:
    for first_row, events in history.batches(BATCH_USERS):
        n = events.n_users
        ids = history.store.users.vocabulary.ids.slice(first_row, n)
        yield first_row, Points(events, np.arange(n), recommender.users.indices(ids), np.full(n, at, np.int64))


def _clicked(points: Points) -> list[np.ndarray]:
    """The distinct items that each user clicked before the question's time."""
    found = []
    for row, at in zip(points.row, points.time, strict=True):
        events = points.events.of_user(int(row))
        found.append(np.unique(events.item[events.clicked & (events.time < at)]))
    return found


def _as_table(
    recommender: Recommender, history: History, first_row: int, points: Points, top: TopK, schema: pa.Schema
) -> pa.Table:
    question, place = np.nonzero(top.items != PADDING)
    scores = top.scores[question, place]
    if not np.isfinite(scores).all():
        raise InternalError("the model gave a score that is no number")
    columns = [
        history.store.users.vocabulary.external(first_row + question + 1),
        pa.array(points.time[question]),
        pa.array((place + 1).astype(np.int32)),
        recommender.catalogue.external(top.items[question, place]),
        pa.array(scores.astype(np.float32)),
    ]
    return pa.Table.from_arrays(columns, schema=schema)
