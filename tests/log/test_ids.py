from __future__ import annotations

import zlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdm.log.ids import IdTable, crc32_of_text
from xdm.log.spilling import UserParts


def oracle(batches: list[list]) -> tuple[list[list[int]], list]:
    known: dict = {}
    return [[known.setdefault(value, len(known)) for value in batch] for batch in batches], list(known)


@given(st.lists(st.lists(st.text(max_size=20)), max_size=5), st.sampled_from([pa.string(), pa.large_string()]))
def test_text_ids(batches: list[list[str]], kind: pa.DataType) -> None:
    table = IdTable(integer=False)
    codes = [table.encode(pa.array(batch, kind)).tolist() for batch in batches]
    assert (codes, table.ids().to_pylist()) == oracle(batches)


@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 5)), max_size=5))
def test_integer_ids(batches: list[list[int]]) -> None:
    table = IdTable(integer=True)
    codes = [table.encode(pa.array(batch, pa.int64())).tolist() for batch in batches]
    assert (codes, table.ids().to_pylist()) == oracle(batches)


@pytest.mark.parametrize("integer", [False, True])
def test_tables_grow(integer: bool) -> None:
    """More ids than the first table holds, some longer than all its room, in batches that fill it midway."""
    rng = np.random.default_rng(3)
    values = rng.integers(0, 60_000, 150_000).tolist()
    ids = values if integer else [f"id-{value}" + "x" * (value % 97) for value in values]
    batches = [ids[:3], ids[3:70_000], ids[70_000:]] + ([] if integer else [["y" * 1_000_000, "z", "y" * 1_000_000]])
    table = IdTable(integer=integer)
    codes, newest = [], []
    for batch in batches:
        codes.append(table.encode(pa.array(batch)).tolist())
        newest += table.newest().to_pylist()
    assert (codes, table.ids().to_pylist()) == oracle(batches)
    assert newest == table.ids().to_pylist()
    assert len(table) == len(newest)


def test_a_slice_is_encoded_as_its_rows() -> None:
    table = IdTable(integer=False)
    assert table.encode(pa.array(["zero", "one", "two", "one"])[1:]).tolist() == [0, 1, 0]
    assert table.ids().to_pylist() == ["one", "two"]


@given(st.lists(st.text(max_size=30)))
def test_crc32(texts: list[str]) -> None:
    assert crc32_of_text(pa.array(texts, pa.string())).tolist() == [zlib.crc32(text.encode()) for text in texts]


@given(st.lists(st.lists(st.integers(0, 10**6), unique=True), max_size=4), st.integers(1, 5))
def test_users_are_placed_by_hash_and_first_appearance(batches: list[list[int]], parts: int) -> None:
    placed = UserParts(parts)
    users = list(dict.fromkeys(user for batch in batches for user in batch))
    seen: set[int] = set()
    for batch in batches:
        placed.add(pa.array([user for user in batch if user not in seen], pa.int64()))
        seen.update(batch)
    part = [zlib.crc32(str(user).encode()) % parts for user in users]
    row = [part[:place].count(part[place]) for place in range(len(users))]
    found_part, found_row = placed.of(np.arange(len(users)))
    assert (found_part.tolist(), found_row.tolist()) == (part, row)
    assert placed.users.tolist() == [part.count(number) for number in range(parts)]
    assert placed.order().tolist() == sorted(range(len(users)), key=lambda user: part[user])
