"""MIND: impressions of Microsoft News, one line an impression, the articles shown with their clicks in one field.

Layout: one split (``behaviors.tsv``, ``news.tsv``), or a folder of splits as they are unpacked
(``MINDsmall_train/``, ``MINDsmall_dev/``, ``MINDlarge_train/`` …, ``train/``, ``dev/``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xdm.log.adapters.published import PublishedLog, read_delimited, read_delimited_table, wrong_layout
from xdm.schema import CLICKED, ITEM_ID, POSITION, TIMESTAMP, USER_ID, LogError

BEHAVIORS, NEWS = "behaviors.tsv", "news.tsv"
SPLITS = ("train", "dev")  # the published test split has no clicks
BEHAVIORS_HEADER = ("impression_id", "user_id", "time", "history", "impressions")
NEWS_HEADER = ("news_id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
TIME_FORMAT = "%m/%d/%Y %I:%M:%S %p"  # 11/11/2019 9:05:58 AM
HISTORY_LEFT_OUT = "history entries (they carry no time; each impression repeats its user's)"

SCHEMA = pa.schema(
    [
        (USER_ID, pa.string()),
        (ITEM_ID, pa.string()),
        (TIMESTAMP, pa.timestamp("s")),
        (CLICKED, pa.bool_()),
        (POSITION, pa.int32()),
    ]
)


def open_source(path: Path) -> MindLog:
    """The log of a MIND folder.

    Raises:
        LogError: ``path`` does not hold the files.
    """
    if (path / BEHAVIORS).exists():
        folders = [path]
    else:
        found = (folder for split in SPLITS for folder in sorted(path.glob(f"*{split}")))
        folders = [folder for folder in found if (folder / BEHAVIORS).exists()]
    if not folders:
        wanted = f"{BEHAVIORS} and {NEWS} of one split, or folders *{SPLITS[0]} and *{SPLITS[1]} that hold them"
        raise wrong_layout("MIND", path, wanted)
    return MindLog(path, [folder / BEHAVIORS for folder in folders], [folder / NEWS for folder in folders])


class MindLog(PublishedLog):
    """One exposure for each article of an impression, in its order; ``position`` counts from 1.

    Times have no zone in the files. The clicks of the history field carry no time: they are left
    out, and counted as often as an impression repeats them.
    """

    def rows_in(self, text: bytes) -> int:
        return len(re.findall(rb"-[01](?=\s)", text))

    def read(self, path: Path) -> Iterator[pa.RecordBatch]:
        types = dict.fromkeys(("user_id", "time", "history", "impressions"), pa.string())
        for batch in read_delimited(path, types, delimiter="\t", header=BEHAVIORS_HEADER, quoted=False):
            listed = pc.add(pc.count_substring(batch["history"], " "), 1)
            self.leave_out(HISTORY_LEFT_OUT, pc.sum(listed).as_py() or 0)
            yield explode(batch, path)

    @property
    def items(self) -> pa.Table | None:
        """Category and subcategory; an article of several splits once."""
        if not self.entities:
            return None
        types = dict.fromkeys(("news_id", "category", "subcategory"), pa.string())
        options = {"delimiter": "\t", "header": NEWS_HEADER, "quoted": False}
        table = pa.concat_tables(read_delimited_table(path, types, **options) for path in self.entities)
        _, first = np.unique(table["news_id"].to_numpy(), return_index=True)
        return table.take(pa.array(np.sort(first))).rename_columns([ITEM_ID, "category", "subcategory"])


def explode(impressions: pa.RecordBatch, path: Path) -> pa.RecordBatch:
    """Exposures of a batch of impressions (``user_id``, ``time``, ``impressions`` as text).

    Raises:
        LogError: an article carries no ``-0`` or ``-1``, or a time is not of the published form.
    """
    shown = pc.split_pattern(impressions["impressions"], " ")
    entry, row = pc.list_flatten(shown), pc.list_parent_indices(shown)
    labelled = pc.match_substring_regex(entry, "^.+-[01]$")
    if not pc.all(labelled).as_py():
        bad = entry.filter(pc.invert(labelled))[0].as_py()
        raise LogError(
            f"{path}: the impression entry {bad!r} has no click label (-0 or -1): a log needs a split with clicks "
            "(the published test split has none)"
        )
    time = pc.strptime(impressions["time"], format=TIME_FORMAT, unit="s", error_is_null=True)
    unread = pc.and_(pc.is_null(time), pc.is_valid(impressions["time"]))
    if pc.any(unread).as_py():
        bad = impressions["time"].filter(unread)[0].as_py()
        raise LogError(f"{path}: the time {bad!r} is not of the form '11/11/2019 9:05:58 AM'")

    rows = row.to_numpy()
    shown_before = np.cumsum(pc.fill_null(pc.list_value_length(shown), 0).to_numpy())
    first_of_row = np.concatenate([[0], shown_before[:-1]])
    return pa.RecordBatch.from_arrays(
        [
            impressions["user_id"].take(row),
            pc.utf8_slice_codeunits(entry, 0, -2),
            time.take(row),
            pc.equal(pc.utf8_slice_codeunits(entry, -1), "1"),
            pa.array(np.arange(len(rows)) - first_of_row[rows] + 1, pa.int32()),
        ],
        schema=SCHEMA,
    )
