"""Items and users tables: which columns become features, with which values, and what is said of the rest."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdm.log.features import BUCKETS, Entities, EntityReport, in_buckets
from xdm.log.preparing import prepare_log
from xdm.log.settings import PrepareSettings
from xdm.log.store import EntityTable, Store
from xdm.schema import LogError


def aligned(table: pa.Table, ids: list, columns: tuple[str, ...] | None = None) -> tuple[dict[str, list], EntityReport]:
    features, report = Entities(table, "item_id", "items", columns).align(pa.array(ids))
    return {name: feature.to_pylist() for name, feature in features.items()}, report


def test_columns_are_chosen_by_their_kind_and_the_rest_is_explained() -> None:
    rows = 60
    table = pa.table(
        {
            "item_id": [f"i{row}" for row in range(rows)],
            "category": [f"c{row % 4}" for row in range(rows)],
            "shop": pa.array([row % 3 for row in range(rows)], pa.int16()),
            "new": [row % 2 == 0 for row in range(rows)],
            "price": [float(row) for row in range(rows)],
            "title": [f"title {row}" for row in range(rows)],
            "tags": [["a"]] * rows,
            "one": ["x"] * rows,
            "empty": pa.array([None] * rows, pa.string()),
            "day": [date(2024, 1, 1)] * rows,
            "clicks": [5, 6] * (rows // 2),
        }
    )
    features, report = aligned(table, ["i7", "i2", "unknown"] + [f"i{row}" for row in range(30)])
    assert list(features) == list(report.taken) == ["category", "shop", "new", "price"]
    assert [column[0] for column in features.values()] == ["c3", 1, False, features["price"][0]]
    assert [column[1] for column in features.values()] == ["c2", 2, True, features["price"][1]]
    assert [column[2] for column in features.values()] == [None] * 4
    assert list(report.left_out) == ["title", "tags", "one", "empty", "day", "clicks"]
    assert "distinct values" in report.left_out["title"]
    assert "list" in report.left_out["tags"]
    assert (report.rows, report.absent, report.absent_first, report.unused) == (60, 1, ["unknown"], 28)


def test_named_columns_are_always_taken() -> None:
    titles = [f"title {row}" for row in range(40)]
    table = pa.table(
        {"item_id": range(40), "title": titles, "day": [date(2024, 1, 31)] * 40, "c": ["x"] * 40, "tags": [["a"]] * 40}
    )
    features, report = aligned(table, [3, 1], ("title", "day", "c"))
    assert features == {"title": ["title 3", "title 1"], "day": ["2024-01-31"] * 2, "c": ["x", "x"]}
    assert list(report.taken) == ["title", "day", "c"]
    with pytest.raises(LogError, match=r"items, column 'tags' holds list"):
        aligned(table, [3], ("tags",))


@pytest.mark.parametrize(
    ("log_ids", "table_ids"),
    [([7, 10], ["10", "7", "07", "x"]), (["7", "10"], [10, 7, 1]), (["7", "10"], ["10", "7"]), ([7, 10], [10, 7, -1])],
)
def test_ids_match_by_value_across_types(log_ids: list, table_ids: list) -> None:
    table = pa.table({"item_id": table_ids, "c": [f"of {value}" for value in table_ids]})
    features, _ = aligned(table, log_ids)
    assert features == {"c": ["of 7", "of 10"]}


def test_empty_text_is_no_value() -> None:
    features, _ = aligned(pa.table({"item_id": ["a", "b", "c"], "c": ["", "x", "y"]}), ["a", "b", "c"])
    assert features == {"c": [None, "x", "y"]}


@given(st.lists(st.floats(allow_nan=True, width=32) | st.none(), min_size=1, max_size=80))
def test_buckets_hold_their_values_and_are_few(values: list[float | None]) -> None:
    buckets = in_buckets(pa.array(values, pa.float64()))
    names = buckets.dictionary.to_pylist()
    assert len(names) == len(set(names)) <= BUCKETS
    codes = buckets.indices.to_pylist()
    none = [value is None or np.isnan(value) for value in values]
    assert [code is None for code in codes] == none
    known = sorted((value, code) for value, code in zip(values, codes, strict=True) if code is not None)
    assert [code for _, code in known] == sorted(code for _, code in known)
    assert {code for _, code in known} == set(range(len(names)))
    distinct = sorted({value for value, _ in known})
    if len(distinct) <= BUCKETS:
        assert len(names) == len(distinct)


def test_bucket_names_are_readable() -> None:
    buckets = in_buckets(pa.array([12.5, 40.0, 40.0, 99.25]))
    assert buckets.to_pylist() == ["[12.5, 40)", "[40, 99.25)", "[40, 99.25)", "[99.25, 99.25]"]


def test_features_reach_the_store_in_order_of_index(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(
        "user,sku,timestamp,clicked\nu,rare,1,0\nu,top,2,1\nv,top,3,1\nu,mid,4,1\nw,lost,5,0\nw,lost,6,0\n"
    )
    (tmp_path / "items.csv").write_text(
        "sku,price,code,name,brand\ntop,1.5,007,Top,b1\nmid,2.5,008,Mid,b2\nrare,,008,Rare,b1\nx,3,1,X,b3\n"
    )
    pq.write_table(
        pa.table({"user_id": ["w", "u"], "member": [True, False], "age": [30, 41]}), tmp_path / "users.parquet"
    )
    report = prepare_log(
        tmp_path / "log.csv",
        tmp_path / "store",
        items=tmp_path / "items.csv",
        users=tmp_path / "users.parquet",
        settings=PrepareSettings(user_column="user", item_column="sku", partitions=2),
    )
    store = Store(tmp_path / "store")
    assert store.items.vocabulary.ids.to_pylist() == ["top", "mid", "lost", "rare"]
    assert external(store.items, "code") == ["007", "008", None, "008"]
    assert external(store.items, "price") == ["[1.5, 2.5)", "[2.5, 2.5]", None, None]
    assert external(store.items, "brand") == ["b1", "b2", None, "b1"]
    users = store.users.vocabulary.ids.to_pylist()
    assert dict(zip(users, external(store.users, "member"), strict=True)) == {"u": False, "v": None, "w": True}
    assert dict(zip(users, external(store.users, "age"), strict=True)) == {"u": 41, "v": None, "w": 30}
    assert report.items_table is not None
    assert (report.items_table.absent_first, report.items_table.unused) == (["lost"], 1)
    assert store.manifest["report"]["users_table"]["absent"] == 1
    assert [file["name"] for file in store.manifest["fingerprint"]] == ["log.csv", "items.csv", "users.parquet"]


def external(entities: EntityTable, name: str) -> list:
    feature = entities.features[name]
    assert feature.codes[0] == 0
    return [feature.external(np.array([code]))[0] if code else None for code in feature.codes[1:]]
