"""KuaiRand against a generated fixture in the publisher's layout."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.adapters.reading import assert_fingerprint, assert_size_is_near, open_log, rows_of
from xdm.schema import LogError

LOG_HEADER = (
    "user_id", "video_id", "date", "hourmin", "time_ms", "is_click", "is_like", "is_follow", "is_comment", "is_forward",
    "is_hate", "long_view", "play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time", "is_profile_enter",
    "is_rand", "tab",
)  # fmt: skip
FLAGS = ("is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view")
LOGS = (
    "log_standard_4_08_to_4_21_pure.csv",
    "log_standard_4_22_to_5_08_pure.csv",
    "log_random_4_22_to_5_08_pure.csv",
)
USER_HEADER = (
    "user_id", "user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author", "follow_user_num",
    "follow_user_num_range", "fans_user_num", "fans_user_num_range", "friend_user_num", "friend_user_num_range",
    "register_days", "register_days_range", *(f"onehot_feat{i}" for i in range(18)),
)  # fmt: skip
VIDEO_HEADER = (
    "video_id", "author_id", "video_type", "upload_dt", "upload_type", "visible_status", "video_duration",
    "server_width", "server_height", "music_id", "music_type", "tag",
)  # fmt: skip


def write_csv(path: Path, header: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)


def log_rows(seed: int, n: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        row: dict[str, Any] = dict.fromkeys(LOG_HEADER, 0)
        row.update(user_id=int(rng.integers(20)), video_id=int(rng.integers(9)), date=20220421, hourmin=400, tab=1)
        row["time_ms"] = 1_650_485_801_301 + int(rng.integers(10**9))
        row["play_time_ms"] = int(rng.integers(90_000))
        row.update({flag: int(rng.random() < 0.3) for flag in FLAGS})
        rows.append(row)
    return rows


def oracle(row: dict[str, Any]) -> dict[str, Any]:
    actions = ("hate", "follow", "forward", "comment", "like", "long_view")
    done = [action for action in actions if row["long_view" if action == "long_view" else f"is_{action}"]]
    return {
        "user_id": row["user_id"],
        "item_id": row["video_id"],
        "timestamp": datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=row["time_ms"]),
        "clicked": row["is_click"] == 1,
        "action": done[0] if done else None,
        "dwell": float(np.float32(row["play_time_ms"] / 1000)),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    for seed, name in enumerate(LOGS):
        write_csv(data / name, LOG_HEADER, log_rows(seed, 50))
    user = dict.fromkeys(USER_HEADER, 0) | {"user_id": 3, "fans_user_num_range": "[1,10)", "onehot_feat4": ""}
    write_csv(data / "user_features_pure.csv", USER_HEADER, [user])
    video = dict.fromkeys(VIDEO_HEADER, 1) | {"author_id": 441, "video_type": "NORMAL", "upload_type": "ShortImport"}
    videos = [
        video | {"video_id": 0, "tag": "12,65"},
        video | {"video_id": 1, "tag": "8"},
        video | {"video_id": 2, "tag": "", "music_type": ""},
    ]
    write_csv(data / "video_features_basic_pure.csv", VIDEO_HEADER, videos)
    write_csv(data / "video_features_statistic_pure.csv", ("video_id", "counts"), [{"video_id": 0, "counts": 66}])
    return tmp_path


def test_exposures_of_all_logs_in_order(folder: Path) -> None:
    expected = [oracle(row) for seed in range(len(LOGS)) for row in log_rows(seed, 50)]
    assert {row["action"] for row in expected} >= {"hate", "follow", "like", None}
    assert rows_of(open_log("kuairand", folder)) == expected
    assert rows_of(open_log("kuairand", folder / "data")) == expected


def test_size_is_estimated_before_reading(folder: Path) -> None:
    assert_size_is_near(open_log("kuairand", folder), 3 * 50)


def test_items(folder: Path) -> None:
    items = open_log("kuairand", folder).items
    assert items is not None
    rest = {"author_id": "441", "video_type": "NORMAL", "upload_type": "ShortImport"}
    assert items.to_pylist() == [
        {"item_id": 0, "category": "12", "music_type": "1", **rest},
        {"item_id": 1, "category": "8", "music_type": "1", **rest},
        {"item_id": 2, "category": None, "music_type": None, **rest},
    ]


def test_users_keep_ranges_and_drop_the_counts_behind_them(folder: Path) -> None:
    users = open_log("kuairand", folder).users
    assert users is not None
    row = users.to_pylist()[0]
    assert row["user_id"] == 3
    assert row["fans_user_num_range"] == "[1,10)"
    assert row["onehot_feat4"] is None
    assert row["onehot_feat5"] == "0"
    assert not {"fans_user_num", "follow_user_num", "friend_user_num", "register_days"} & set(row)


def test_fingerprint_names_what_was_read(folder: Path) -> None:
    features = ("video_features_basic_pure.csv", "user_features_pure.csv")
    names = [f"data/{name}" for name in (LOGS[0], LOGS[1], LOGS[2], *features)]
    assert_fingerprint(open_log("kuairand", folder), folder, names)


def test_parts_of_the_large_set_are_one_log(tmp_path: Path) -> None:
    names = ("log_standard_4_08_to_4_21_27k_part1.csv", "log_standard_4_08_to_4_21_27k_part2.csv")
    for seed, name in enumerate(names):
        write_csv(tmp_path / name, LOG_HEADER, log_rows(seed, 5))
    source = open_log("kuairand", tmp_path)
    assert rows_of(source) == [oracle(row) for seed in range(2) for row in log_rows(seed, 5)]
    assert source.items is None
    assert source.users is None


def test_a_log_without_a_column_is_refused(folder: Path) -> None:
    header = tuple(name for name in LOG_HEADER if name != "is_click")
    rows = [{name: row[name] for name in header} for row in log_rows(0, 3)]
    write_csv(folder / "data" / LOGS[1], header, rows)
    with pytest.raises(LogError, match=r"log_standard_4_22_to_5_08_pure\.csv lacks a column.*is_click"):
        rows_of(open_log("kuairand", folder))


def test_a_broken_row_is_refused_with_its_file(folder: Path) -> None:
    path = folder / "data" / LOGS[0]
    path.write_text(path.read_text() + "1,2,3\n")
    with pytest.raises(LogError, match=r"log_standard_4_08_to_4_21_pure\.csv cannot be read.*19 columns, got 3"):
        rows_of(open_log("kuairand", folder))
