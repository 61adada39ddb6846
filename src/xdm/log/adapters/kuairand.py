"""KuaiRand (Pure, 1K, 27K): short videos shown in Kuaishou's app, by its recommender and at random, in CSV files.

Layout: ``data/`` with ``log_standard_*.csv``, ``log_random_*.csv``, ``user_features_*.csv`` and
``video_features_basic_*.csv``; PATH is the folder that holds ``data/``, or ``data/`` itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from xdm.log.adapters.published import PublishedLog, first_of, read_delimited, read_delimited_table, wrong_layout
from xdm.schema import ACTION, CLICKED, DWELL, ITEM_ID, TIMESTAMP, USER_ID

# The log has a column of 0 and 1 for each; an exposure keeps one action, the first of these that is 1.
ACTIONS = {
    "hate": "is_hate",
    "follow": "is_follow",
    "forward": "is_forward",
    "comment": "is_comment",
    "like": "is_like",
    "long_view": "long_view",
}
NUMBERS = ("user_id", "video_id", "time_ms", "is_click", "play_time_ms", *ACTIONS.values())

USER_PROFILE = (
    "user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author", "follow_user_num_range",
    "fans_user_num_range", "friend_user_num_range", "register_days_range", *(f"onehot_feat{i}" for i in range(18)),
)  # fmt: skip
VIDEO_FEATURES = ("author_id", "video_type", "upload_type", "music_type")

MILLISECONDS = pa.timestamp("ms", "UTC")
SCHEMA = pa.schema(
    [
        (USER_ID, pa.int64()),
        (ITEM_ID, pa.int64()),
        (TIMESTAMP, MILLISECONDS),
        (CLICKED, pa.bool_()),
        (ACTION, pa.string()),
        (DWELL, pa.float32()),
    ]
)


def open_source(path: Path) -> KuairandLog:
    """The log of a KuaiRand folder, standard and random exposures together.

    Raises:
        LogError: ``path`` does not hold the files.
    """
    folder = path / "data" if (path / "data").is_dir() else path
    logs = [*sorted(folder.glob("log_standard_*.csv")), *sorted(folder.glob("log_random_*.csv"))]
    if not logs:
        raise wrong_layout("KuaiRand", path, "data/log_standard_*.csv and data/log_random_*.csv")
    features = [*sorted(folder.glob("video_features_basic_*.csv")), *sorted(folder.glob("user_features_*.csv"))]
    return KuairandLog(path, logs, features)


class KuairandLog(PublishedLog):
    """One exposure a row; ``time_ms`` is milliseconds since 1970 UTC; ``dwell`` is the play time in seconds."""

    def read(self, path: Path) -> Iterator[pa.RecordBatch]:
        for batch in read_delimited(path, dict.fromkeys(NUMBERS, pa.int64())):
            yield pa.RecordBatch.from_arrays(
                [
                    batch["user_id"],
                    batch["video_id"],
                    batch["time_ms"].cast(MILLISECONDS),
                    batch["is_click"].cast(pa.bool_()),
                    strongest_action(batch),
                    pc.divide(batch["play_time_ms"].cast(pa.float64()), 1000).cast(pa.float32()),
                ],
                schema=SCHEMA,
            )

    @property
    def items(self) -> pa.Table | None:
        """Author, kinds of video, upload and music, and as category the first of a video's tags."""
        paths = self._named("video_features_basic_")
        if not paths:
            return None
        types = {"video_id": pa.int64(), **dict.fromkeys((*VIDEO_FEATURES, "tag"), pa.string())}
        table = pa.concat_tables(read_delimited_table(path, types) for path in paths)
        columns = {ITEM_ID: table["video_id"], "category": first_of(table["tag"], ",")}
        return pa.table(columns | {name: table[name] for name in VIDEO_FEATURES})

    @property
    def users(self) -> pa.Table | None:
        """The profile columns that are categories; of counts (followers, days …) their published ranges."""
        paths = self._named("user_features_")
        if not paths:
            return None
        types = {USER_ID: pa.int64(), **dict.fromkeys(USER_PROFILE, pa.string())}
        return pa.concat_tables(read_delimited_table(path, types) for path in paths)

    def _named(self, prefix: str) -> list[Path]:
        return [path for path in self.entities if path.name.startswith(prefix)]


def strongest_action(batch: pa.RecordBatch) -> pa.Array:
    """The first name in `ACTIONS` whose column is not 0, null where all are."""
    conditions = pc.make_struct(*(pc.fill_null(pc.not_equal(batch[column], 0), False) for column in ACTIONS.values()))
    return pc.case_when(conditions, *ACTIONS)
