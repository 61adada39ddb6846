"""EB-NeRD against a generated fixture in the publisher's layout and a plain-Python reading of it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.adapters.reading import assert_fingerprint, open_log, rows_of
from xdm.log.adapters import ebnerd
from xdm.schema import LogError

BEHAVIORS_SCHEMA = pa.schema(
    [
        ("impression_id", pa.uint32()),
        ("article_id", pa.int32()),
        ("impression_time", pa.timestamp("us")),
        ("read_time", pa.float32()),
        ("device_type", pa.int8()),
        ("article_ids_inview", pa.large_list(pa.int32())),
        ("article_ids_clicked", pa.large_list(pa.int32())),
        ("user_id", pa.uint32()),
        ("is_sso_user", pa.bool_()),
        ("gender", pa.int8()),
        ("postcode", pa.int8()),
        ("age", pa.int8()),
        ("is_subscriber", pa.bool_()),
        ("session_id", pa.uint32()),
        ("next_read_time", pa.float32()),
    ]
)


def impression(
    number: int, user: int, time: datetime, in_view: list[int], clicked: list[int], **more: Any
) -> dict[str, Any]:
    return {
        "impression_id": number, "article_id": None, "impression_time": time, "read_time": 1.0, "device_type": 2,
        "article_ids_inview": in_view, "article_ids_clicked": clicked, "user_id": user, "is_sso_user": False,
        "gender": None, "postcode": None, "age": None, "is_subscriber": user % 2 == 0, "session_id": user + 10,
        "next_read_time": 5.0 + number,
    } | more  # fmt: skip


TRAIN = [
    impression(1, 7, datetime(2023, 5, 18, 7, 0, 3), [101, 102, 103], [102]),
    impression(2, 4_000_000_000, datetime(2023, 5, 18, 7, 0, 3), [103], []),
    impression(3, 7, datetime(2023, 5, 18, 6, 59, 59), [101, 104], [109, 101, 109, 110], age=30, gender=1),
    impression(4, 8, datetime(2023, 5, 18, 8, 0, 0), [], [105]),
]
VALIDATION = [impression(5, 8, datetime(2023, 5, 25, 7, 0, 0), [101, 105], [105], age=40)]


def write_split(folder: Path, impressions: list[dict[str, Any]], history: list[list[int]]) -> None:
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(impressions, BEHAVIORS_SCHEMA), folder / "behaviors.parquet")
    lists = pa.array(history, pa.large_list(pa.int32()))
    pq.write_table(pa.table({"user_id": range(len(history)), "article_id_fixed": lists}), folder / "history.parquet")


def write_articles(path: Path) -> None:
    pq.write_table(
        pa.table(
            {
                "article_id": pa.array([101, 102, 103], pa.int32()),
                "title": ["a", "b", "c"],
                "premium": [False, True, None],
                "article_type": ["article_default", "article_feature", "article_default"],
                "topics": pa.array([["Sport", "Fodbold"], [], None], pa.list_(pa.string())),
                "category": pa.array([142, 118, 118], pa.int16()),
                "subcategory": pa.array([[196, 271], [133], []], pa.list_(pa.int16())),
                "category_str": ["sport", "nyheder", "nyheder"],
                "sentiment_label": ["Neutral", "Negative", "Positive"],
            }
        ),
        path,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_split(tmp_path / "train", TRAIN, [[101, 102], [103]])
    write_split(tmp_path / "validation", VALIDATION, [[101]])
    write_articles(tmp_path / "articles.parquet")
    return tmp_path


def oracle(impressions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The exposures of some impressions, one loop as the documentation tells it."""
    rows = []
    for one in impressions:
        clicked = set(one["article_ids_clicked"])
        places: list[tuple[int, int | None]] = [(item, p) for p, item in enumerate(one["article_ids_inview"], start=1)]
        for item in dict.fromkeys(one["article_ids_clicked"]):
            if item not in one["article_ids_inview"]:
                places.append((item, None))
        for item, position in places:
            alone = item in clicked and len(clicked) == 1
            rows.append(
                {
                    "user_id": one["user_id"],
                    "item_id": item,
                    "timestamp": one["impression_time"],
                    "clicked": item in clicked,
                    "session_id": one["session_id"],
                    "position": position,
                    "dwell": one["next_read_time"] if alone else None,
                }
            )
    return rows


def test_exposures_of_both_splits(folder: Path) -> None:
    source = open_log("ebnerd", folder)
    rows = rows_of(source)
    assert rows == oracle(TRAIN + VALIDATION)
    # Three articles in view, one, two and two more clicked, none and one clicked, two.
    assert len(rows) == 3 + 1 + 4 + 1 + 2
    assert [row["item_id"] for row in rows if row["clicked"]] == [102, 101, 109, 110, 105, 105]


def test_history_is_left_out_and_counted(folder: Path) -> None:
    source = open_log("ebnerd", folder)
    rows_of(source)
    assert list(source.left_out.values()) == [4]
    rows_of(source)
    assert list(source.left_out.values()) == [4], "a second reading counts anew"


def test_one_split_alone_finds_the_articles_beside_it(folder: Path) -> None:
    source = open_log("ebnerd", folder / "validation")
    assert rows_of(source) == oracle(VALIDATION)
    assert source.items is not None
    assert source.items.num_rows == 3


def test_items_are_the_categories_of_the_articles(folder: Path) -> None:
    items = open_log("ebnerd", folder).items
    assert items is not None
    assert items.to_pylist() == [
        {
            "item_id": 101, "category": "sport", "subcategory": "196", "topic": "Sport",
            "article_type": "article_default", "premium": "false", "sentiment_label": "Neutral",
        },
        {
            "item_id": 102, "category": "nyheder", "subcategory": "133", "topic": None,
            "article_type": "article_feature", "premium": "true", "sentiment_label": "Negative",
        },
        {
            "item_id": 103, "category": "nyheder", "subcategory": None, "topic": None,
            "article_type": "article_default", "premium": None, "sentiment_label": "Positive",
        },
    ]  # fmt: skip


def test_no_articles_no_items(folder: Path) -> None:
    (folder / "articles.parquet").unlink()
    source = open_log("ebnerd", folder)
    assert source.items is None
    assert_fingerprint(source, folder, ["train/behaviors.parquet", "validation/behaviors.parquet"])


def test_users_have_their_profile_once(folder: Path) -> None:
    users = open_log("ebnerd", folder).users
    assert users is not None
    profiles = {row.pop("user_id"): row for row in users.to_pylist()}
    assert list(profiles) == [7, 8, 4_000_000_000]
    assert profiles[8] == {
        "is_sso_user": "false", "gender": None, "postcode": None, "age": "40", "is_subscriber": "true",
    }  # fmt: skip
    assert (profiles[7]["age"], profiles[7]["gender"]) == ("30", "1")


def test_fingerprint_names_what_was_read(folder: Path) -> None:
    names = ["train/behaviors.parquet", "validation/behaviors.parquet", "articles.parquet"]
    assert_fingerprint(open_log("ebnerd", folder), folder, names)


def test_size_is_known_before_reading(folder: Path) -> None:
    train, validation = (open_log("ebnerd", folder / split).size for split in ("train", "validation"))
    assert validation == 2
    assert open_log("ebnerd", folder).size == train + validation


def test_the_test_split_has_no_clicks(tmp_path: Path) -> None:
    write_split(tmp_path / "test", TRAIN, [])
    behaviors = tmp_path / "test" / "behaviors.parquet"
    pq.write_table(pq.read_table(behaviors).drop_columns(["article_ids_clicked", "next_read_time"]), behaviors)
    with pytest.raises(LogError, match=r"behaviors\.parquet has no column article_ids_clicked, next_read_time.*test"):
        open_log("ebnerd", tmp_path / "test")


@pytest.mark.parametrize("name", ["train/behaviors.parquet", "train/history.parquet", "articles.parquet"])
def test_a_broken_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:200])

    def read_all() -> None:
        source = open_log("ebnerd", folder)
        rows_of(source)
        _ = source.items

    with pytest.raises(LogError, match=f"{name} cannot be read"):
        read_all()


few_articles = st.lists(st.integers(1, 6), max_size=6)


@given(st.lists(st.tuples(few_articles, few_articles), min_size=1, max_size=8))
def test_any_lists(lists: list[tuple[list[int], list[int]]]) -> None:
    impressions = [
        impression(n, 1 + n % 3, datetime(2023, 5, 18), in_view, clicked) for n, (in_view, clicked) in enumerate(lists)
    ]
    batch = pa.RecordBatch.from_pylist(impressions, BEHAVIORS_SCHEMA)
    assert ebnerd.explode(batch).to_pylist() == oracle(impressions)
    middle = len(impressions) // 2  # a slice of a batch has offsets of its own
    assert ebnerd.explode(batch.slice(middle)).to_pylist() == oracle(impressions[middle:])
