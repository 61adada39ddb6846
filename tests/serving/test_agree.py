"""A log replayed through `POST /v1/events` gives the answers of `xdm recommend`; and what counts as another answer."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmarks.serving.agree import compared

from tests.serving.conftest import simulated_rows
from tests.serving.parts import run_part


def test_live_answers_are_the_offline_ones(bundle, tmp_path):
    names = ("user_id", "item_id", "timestamp", "clicked")
    rows = [dict(zip(names, row, strict=False)) | {"session_id": f"{row[0]} {row[2] // 7200}"} for row in simulated_rows()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    found = run_part("agree", "--log", tmp_path / "log.parquet", "--bundle", bundle, "--users", 30, "--k", 20)
    assert (found["users"], found["events"], found["answered by the model"]) == (30, 30 * 48, 30)
    assert found["different lists among users"] > 15
    assert found["equal to the last place"] + found["equal but for ties"] == 30


OFFLINE = [("a", 3.0), ("b", 2.0), ("c", 2.0), ("d", 1.0)]


@pytest.mark.parametrize(
    ("live", "swapped"),
    [
        ([("a", 3.0), ("b", 2.0), ("c", 2.0), ("d", 1.0)], 0),
        ([("a", 3.00002), ("c", 2.0), ("b", 2.0), ("d", 1.0)], 2),  # a tie
        ([("a", 3.0), ("b", 2.0), ("c", 2.0), ("e", 1.0)], 1),  # as good as the last one, cut off there
        ([("a", 3.0), ("b", 2.0), ("d", 2.0), ("c", 1.0)], None),  # the scores of two items changed places
        ([("a", 3.0), ("b", 2.0), ("e", 2.0), ("d", 1.0)], None),  # an item that the other list would have had
        ([("a", 3.1), ("b", 2.0), ("c", 2.0), ("d", 1.0)], None),
        ([("a", 3.0), ("b", 2.0), ("c", 2.0)], None),
    ],
)
def test_lists_are_equal_but_for_swaps_among_ties(live, swapped):
    assert compared([{"item_id": item, "score": score} for item, score in live], OFFLINE) == swapped
