"""EB-NeRD: impressions of Ekstra Bladet's front page, one Parquet row an impression with the articles in view.

Layout: ``train/`` and ``validation/``, each with ``behaviors.parquet`` (and ``history.parquet``), beside them
``articles.parquet``; or one split alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xdm.log.adapters.published import PublishedLog, reading, wrong_layout
from xdm.schema import CLICKED, DWELL, ITEM_ID, POSITION, SESSION_ID, TIMESTAMP, USER_ID, LogError

BEHAVIORS, HISTORY, ARTICLES = "behaviors.parquet", "history.parquet", "articles.parquet"
SPLITS = ("train", "validation")
IN_VIEW, CLICKED_LIST = "article_ids_inview", "article_ids_clicked"
COLUMNS = ("user_id", "session_id", "impression_time", IN_VIEW, CLICKED_LIST, "next_read_time")
PROFILE = ("is_sso_user", "gender", "postcode", "age", "is_subscriber")
IMPRESSIONS_AT_ONCE = 16_384  # with some 12 articles in view, 200,000 exposures a batch

SCHEMA = pa.schema(
    [
        (USER_ID, pa.int64()),
        (ITEM_ID, pa.int64()),
        (TIMESTAMP, pa.timestamp("us")),
        (CLICKED, pa.bool_()),
        (SESSION_ID, pa.int64()),
        (POSITION, pa.int32()),
        (DWELL, pa.float32()),
    ]
)


def open_source(path: Path) -> EbnerdLog:
    """The log of an EB-NeRD folder: both splits, or the one split that ``path`` is.

    Raises:
        LogError: ``path`` does not hold the files, or holds a split whose clicks are not published.
    """
    logs = [path / split / BEHAVIORS for split in SPLITS if (path / split / BEHAVIORS).exists()]
    articles = path / ARTICLES
    if not logs and (path / BEHAVIORS).exists():
        logs = [path / BEHAVIORS]
        articles = articles if articles.exists() else path.parent / ARTICLES
    if not logs:
        wanted = f"train/{BEHAVIORS}, validation/{BEHAVIORS} (and {ARTICLES}), or {BEHAVIORS} of one split"
        raise wrong_layout("EB-NeRD", path, wanted)
    for log in logs:
        with reading(log):
            missing = [name for name in COLUMNS if name not in pq.read_schema(log).names]
        if missing:
            raise LogError(
                f"{log} has no column {', '.join(missing)}: a log needs a split with clicks (the published test split "
                "has none); pass a folder with train/ or validation/"
            )
    return EbnerdLog(path, logs, [articles])


class EbnerdLog(PublishedLog):
    """One exposure for each article in view, in the order of the view, and one for each click that was not in view."""

    @property
    def size(self) -> int:
        """The number of articles in view, from the files' footers."""
        return sum(_values_in_view(pq.read_metadata(path)) for path in self.logs)

    def read(self, path: Path) -> Iterator[pa.RecordBatch]:
        with reading(path), pq.ParquetFile(path) as file:
            for impressions in file.iter_batches(IMPRESSIONS_AT_ONCE, columns=list(COLUMNS)):
                yield explode(impressions)
        history = path.with_name(HISTORY)
        if history.exists():
            with reading(history):
                lists = pq.read_table(history, columns=["article_id_fixed"]).column(0)
            clicks = pc.sum(pc.list_value_length(lists)).as_py() or 0
            self.leave_out(f"clicks in {HISTORY} (before the split, without exposures)", clicks)

    @property
    def items(self) -> pa.Table | None:
        return read_articles(self.entities[0]) if self.entities else None

    @property
    def users(self) -> pa.Table:
        """The profile columns of each user's last impression, as text: they are codes."""
        import polars as pl

        # A profile does not change within the published files, so the last row of the file stands for the latest one.
        profiles = (
            pl.scan_parquet(self.logs)
            .group_by(USER_ID)
            .agg(pl.col(name).last() for name in PROFILE if name in pq.read_schema(self.logs[0]).names)
            .sort(USER_ID)
            .with_columns(pl.col(USER_ID).cast(pl.Int64), pl.exclude(USER_ID).cast(pl.String))
            .collect(engine="streaming")
        )
        return profiles.to_arrow()


def _values_in_view(metadata: pq.FileMetaData) -> int:
    groups = (metadata.row_group(g) for g in range(metadata.num_row_groups))
    columns = (group.column(c) for group in groups for c in range(group.num_columns))
    return sum(column.num_values for column in columns if column.path_in_schema.startswith(IN_VIEW + "."))


def explode(impressions: pa.RecordBatch) -> pa.RecordBatch:
    """Exposures of a batch of impressions.

    ``position`` counts from 1 and is null for a click that was not in view. ``dwell`` is the reading time in seconds
    of the clicked article, null where an impression holds several clicks: the file has one time for all of them.
    """
    in_view, clicked = impressions[IN_VIEW], impressions[CLICKED_LIST]
    view_item, view_row = pc.list_flatten(in_view).cast(pa.int64()), pc.list_parent_indices(in_view).to_numpy()
    click_item, click_row = pc.list_flatten(clicked).cast(pa.int64()), pc.list_parent_indices(clicked).to_numpy()

    # One number for each (impression, article), so that membership is a comparison of integers.
    codes = pa.chunked_array([view_item, click_item]).dictionary_encode().combine_chunks()
    code = codes.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    stride = len(codes.dictionary) + 1
    view_key = view_row * stride + code[: len(view_item)]
    click_key = click_row * stride + code[len(view_item) :]

    first_click = np.unique(click_key, return_index=True)[1]  # the files name some clicks twice
    first_click.sort()
    extra = first_click[~np.isin(click_key[first_click], view_key)]
    clicks_of_row = np.bincount(click_row[first_click], minlength=len(impressions))

    row = np.concatenate([view_row, click_row[extra]])
    order = np.argsort(row, kind="stable")
    row = row[order]
    item = pa.concat_arrays([view_item, click_item.take(pa.array(extra))]).take(pa.array(order))
    is_click = np.concatenate([np.isin(view_key, click_key), np.ones(len(extra), bool)])[order]

    in_view_of_row = np.bincount(view_row, minlength=len(impressions))
    first_of_row = np.cumsum(in_view_of_row) - in_view_of_row
    place = np.arange(len(view_row)) - first_of_row[view_row] + 1
    position = np.concatenate([place, np.zeros(len(extra), np.int64)])[order]

    impression = impressions.take(pa.array(row))
    dwell = pc.if_else(pa.array(is_click & (clicks_of_row[row] == 1)), impression["next_read_time"], None)
    return pa.RecordBatch.from_arrays(
        [
            impression["user_id"].cast(pa.int64()),
            item,
            impression["impression_time"].cast(pa.timestamp("us")),
            pa.array(is_click),
            impression["session_id"].cast(pa.int64()),
            pa.array(position, pa.int32(), mask=position == 0),
            dwell.cast(pa.float32()),
        ],
        schema=SCHEMA,
    )


def read_articles(path: Path) -> pa.Table:
    """``item_id`` and the categorical columns of ``articles.parquet``; of lists (subcategory, topics) the first."""
    with reading(path):
        names = pq.read_schema(path).names
    category = "category_str" if "category_str" in names else "category"
    wanted = {
        "category": category, "subcategory": "subcategory", "topic": "topics",
        "article_type": "article_type", "premium": "premium", "sentiment_label": "sentiment_label",
    }  # fmt: skip
    wanted = {name: source for name, source in wanted.items() if source in names}
    with reading(path):
        table = pq.read_table(path, columns=["article_id", *wanted.values()])
    columns = {ITEM_ID: table["article_id"].cast(pa.int64())}
    for name, source in wanted.items():
        column = table[source]
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            column = first_value(column)
        columns[name] = column.cast(pa.string())
    return pa.table(columns)


def first_value(lists: pa.ChunkedArray) -> pa.Array:
    """The first value of each list, null for an empty or missing one."""
    array = lists.combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
    starts = np.cumsum(lengths) - lengths
    return pc.list_flatten(array).take(pa.array(starts, mask=lengths == 0))
