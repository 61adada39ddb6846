from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdm.schema import InternalError
from xdm.vocabulary import Vocabulary

INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9)
ASKED = st.text(max_size=4) | INTEGERS | st.integers(0, 9).map(str) | st.none() | st.booleans() | st.floats(0, 9)


def oracle(ids: list[Any], asked: Any) -> int:
    """Ids are equal where their texts are; what is neither text nor an integer is nobody's id."""
    if isinstance(asked, bool) or not isinstance(asked, int | str):
        return 0
    return {str(value): place for place, value in enumerate(ids, 1)}.get(str(asked), 0)


@given(st.lists(st.text(max_size=4), unique=True, max_size=30), st.lists(ASKED, max_size=10))
def test_text_ids(ids: list[str], asked: list[Any]) -> None:
    vocabulary = Vocabulary(pa.array(ids, pa.string()))
    check(vocabulary, ids, asked + ids[:5])


@given(st.lists(INTEGERS, unique=True, max_size=30), st.lists(ASKED, max_size=10))
def test_integer_ids(ids: list[int], asked: list[Any]) -> None:
    vocabulary = Vocabulary(pa.array(ids, pa.int64()))
    check(vocabulary, ids, asked + ids[:5] + [str(value) for value in ids[:5]])


def check(vocabulary: Vocabulary, ids: list[Any], asked: list[Any]) -> None:
    wanted = [oracle(ids, value) for value in asked]
    assert [vocabulary.index(value) for value in asked] == wanted
    assert vocabulary.indices(asked).tolist() == wanted
    assert vocabulary.external(np.arange(1, len(ids) + 1)).to_pylist() == ids
    assert len(vocabulary) == len(ids)


@pytest.mark.parametrize(
    ("ids", "asked", "wanted"),
    [
        (["7", "07"], pa.array([7, 8], pa.int32()), [1, 0]),
        ([7, 8], pa.array(["8", "07", None, "x"]), [2, 0, 0, 0]),
        (["a"], pa.chunked_array([["a"], [None, "b"]]), [1, 0, 0]),
    ],
)
def test_arrow_arrays_of_ids(ids: list[Any], asked: Any, wanted: list[int]) -> None:
    assert Vocabulary(pa.array(ids)).indices(asked).tolist() == wanted


def test_other_types_are_no_ids() -> None:
    with pytest.raises(InternalError, match="strings or integers"):
        Vocabulary(pa.array([1.5]))
