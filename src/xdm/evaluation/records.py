"""The files of a judged run: one row a question, one row a recommended item, written as they come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xdm.retrieval.types import SOURCES, TopK
from xdm.schema import ITEM_ID, RANK, SCORE, TIMESTAMP, USER_ID
from xdm.vocabulary import Vocabulary

METRICS_FILE = "metrics.json"
PER_USER_FILE = "per_user.parquet"
RECOMMENDATIONS_FILE = "recommendations.parquet"
SOURCE, TRUTH_ITEMS, UNCLICKED = "source", "truth_items", "unclicked"
ROWS_AT_ONCE = 131_072  # rows that a writer holds before it writes them as one row group


class RecordWriter:
    """A Parquet file that grows by tables of one schema; a context manager. Holds `ROWS_AT_ONCE` rows, no more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        """Append ``table``."""
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        self._waiting.append(table)
        if sum(map(len, self._waiting)) >= ROWS_AT_ONCE:
            self._write()

    def _write(self) -> None:
        if self._writer is not None and self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting).combine_chunks())
        self._waiting = []

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        if self._writer is not None:
            self._writer.close()


def per_user_table(
    user_ids: pa.Array,
    time: np.ndarray,
    answer: TopK,
    truth_sizes: np.ndarray,
    unclicked: np.ndarray,
    values: dict[str, np.ndarray],
) -> pa.Table:
    """One row a question: ``user_id``, ``timestamp``, ``source``, ``truth_items``, ``unclicked`` and each metric, null
    where the question has no value of it (NaN in ``values``)."""
    source = pa.DictionaryArray.from_arrays(pa.array(answer.source.astype(np.int8)), pa.array(SOURCES))
    columns = {
        USER_ID: user_ids, TIMESTAMP: time, SOURCE: source,
        TRUTH_ITEMS: truth_sizes.astype(np.int32), UNCLICKED: unclicked.astype(np.int32),
    }  # fmt: skip
    return pa.table(columns | {name: pa.array(column, from_pandas=True) for name, column in values.items()})


def recommendations_table(user_ids: pa.Array, time: np.ndarray, answer: TopK, catalogue: Vocabulary) -> pa.Table:
    """One row a recommended item: ``user_id``, ``timestamp``, ``rank`` from 1, ``item_id``, ``score``."""
    question, place = np.nonzero(answer.items)
    return pa.table(
        {
            USER_ID: user_ids.take(pa.array(question)),
            TIMESTAMP: time[question],
            RANK: (place + 1).astype(np.int32),
            ITEM_ID: catalogue.external(answer.items[question, place]),
            SCORE: answer.scores[question, place],
        }
    )
