"""Paired comparison: refusals, figures against plain Python, and whether intervals and p-values mean what they say."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdm.evaluation.bootstrap import holm
from xdm.evaluation.comparing import compare
from xdm.schema import UsageError

SPLIT = {"protocol": "time", "cut_off": 100, "until": 200}


def write_run(folder, user, timestamp, truth_items=None, split=SPLIT, **metrics):
    """A folder as ``xdm evaluate --out`` leaves it, in the order given."""
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({"split": split}))
    columns = {name.replace("_at_", "@"): values for name, values in metrics.items()}
    truth_items = np.ones(len(user), np.int32) if truth_items is None else truth_items
    table = pa.table({"user_id": user, "timestamp": timestamp, "truth_items": truth_items} | columns)
    pq.write_table(table, folder / "per_user.parquet")
    return folder


def two_runs(tmp_path, n=300, gain=0.0, seed=0, order=None):
    """One question a user; the second run is better by ``gain`` on average, its rows in another order."""
    rng = np.random.default_rng(seed)
    user, time = [f"u{i}" for i in range(n)], np.full(n, 100)
    first = rng.random(n)
    second = first + rng.normal(gain, 0.3, n)
    order = rng.permutation(n) if order is None else order
    one = write_run(tmp_path / "one", user, time, hr_at_50=first, ndcg_at_50=first / 2)
    two = write_run(
        tmp_path / "two", [user[i] for i in order], time, hr_at_50=second[order], ndcg_at_50=second[order] / 2
    )
    return [one, two], first, second


def test_pairs_by_user_and_time_whatever_the_order(tmp_path):
    folders, first, second = two_runs(tmp_path, gain=0.1)
    found, questions, users = compare(folders, resamples=2000)
    assert (questions, users) == (300, 300)
    assert [(row.run, row.metric) for row in found] == [(str(folders[1]), "hr@50"), (str(folders[1]), "ndcg@50")]
    row = found[0]
    assert row.reference_mean == pytest.approx(first.mean())
    assert row.mean == pytest.approx(second.mean())
    assert row.difference == pytest.approx((second - first).mean())
    half = 1.96 * (second - first).std() / np.sqrt(300)
    assert row.low == pytest.approx(row.difference - half, abs=0.1 * half)
    assert row.high == pytest.approx(row.difference + half, abs=0.1 * half)
    assert row.p < 0.01
    assert [row.p_holm for row in found] == pytest.approx(holm(np.array([row.p for row in found])))


def test_the_same_seed_gives_the_same_figures_and_another_does_not(tmp_path):
    folders, *_ = two_runs(tmp_path)
    assert compare(folders, resamples=200, seed=3) == compare(folders, resamples=200, seed=3)
    assert compare(folders, resamples=200, seed=3)[0][0].low != compare(folders, resamples=200, seed=4)[0][0].low


def test_equal_runs_do_not_differ(tmp_path):
    folders, *_ = two_runs(tmp_path)
    row = compare([folders[0], folders[0]], resamples=200)[0][0]
    assert (row.difference, row.low, row.high, row.p, row.p_holm) == (0, 0, 0, 1, 1)


def test_p_values_are_small_as_often_as_they_say(tmp_path):
    """Of 200 comparisons without a true difference about one in twenty has p < 0.05 and an interval without 0."""
    small = outside = 0
    for seed in range(200):
        folder = tmp_path / str(seed)
        folder.mkdir()
        folders, *_ = two_runs(folder, n=60, seed=seed)
        row = compare(folders, ("hr@50",), resamples=300)[0][0]
        small += row.p < 0.05
        outside += not row.low <= 0 <= row.high
    assert 2 <= small <= 24
    assert 2 <= outside <= 24


def test_questions_of_one_user_are_drawn_together(tmp_path):
    """Twenty equal questions a user tell no more than one: the interval is that of the users, not of the questions."""
    rng = np.random.default_rng(1)
    per_user = rng.normal(0, 1, 50)
    user = np.repeat(np.arange(50), 20)
    time = np.tile(np.arange(20), 50)
    one = write_run(tmp_path / "one", user, time, hr_at_50=np.zeros(1000))
    two = write_run(tmp_path / "two", user, time, hr_at_50=per_user[user])
    (row,), questions, users = compare([one, two], resamples=2000)
    assert (questions, users) == (1000, 50)
    assert row.high - row.low == pytest.approx(2 * 1.96 * per_user.std() / np.sqrt(50), rel=0.1)


def test_users_with_more_questions_weigh_more(tmp_path):
    user = ["a", "a", "a", "b"]
    one = write_run(tmp_path / "one", user, [1, 2, 3, 1], hr_at_50=np.zeros(4))
    two = write_run(tmp_path / "two", user, [1, 2, 3, 1], hr_at_50=np.array([1.0, 1, 1, 0]))
    row = compare([one, two], resamples=500)[0][0]
    assert row.difference == 0.75
    assert (row.low, row.high) == (0, 1)


def test_several_questions_of_one_second_are_paired_in_order(tmp_path):
    user, time = ["a", "b", "a", "a"], [5, 5, 5, 4]
    one = write_run(tmp_path / "one", user, time, hr_at_50=np.array([0.0, 0, 1, 0]))
    two = write_run(tmp_path / "two", ["a", "a", "a", "b"], [4, 5, 5, 5], hr_at_50=np.array([0.0, 0, 1, 0]))
    row = compare([one, two], resamples=100)[0][0]
    assert (row.low, row.high, row.p) == (0, 0, 1)


def test_all_runs_are_compared_with_the_first(tmp_path):
    folders, first, second = two_runs(tmp_path, gain=0.2)
    third = write_run(tmp_path / "three", [f"u{i}" for i in range(300)], np.full(300, 100), hr_at_50=first + 0.5)
    found, *_ = compare([*folders, third], resamples=200)
    assert [(row.run, row.metric) for row in found] == [(str(folders[1]), "hr@50"), (str(third), "hr@50")]
    assert [row.difference for row in found] == pytest.approx([(second - first).mean(), 0.5])


def test_refusals(tmp_path):
    folders, first, _ = two_runs(tmp_path, n=4)
    users, time = [f"u{i}" for i in range(4)], np.full(4, 100)
    other_split = write_run(tmp_path / "split", users, time, split=SPLIT | {"cut_off": 90}, hr_at_50=first)
    fewer = write_run(tmp_path / "fewer", [*users[:3], "u9", "u9"], np.full(5, 100), hr_at_50=np.zeros(5))
    other_truth = write_run(tmp_path / "truth", users, time, np.array([1, 2, 1, 1], np.int32), hr_at_50=first)
    numbers = write_run(tmp_path / "numbers", [0, 1, 2, 3], time, hr_at_50=first)
    cases = [
        ([folders[0]], (), "needs two folders or more"),
        ([folders[0], other_split], (), r"judged on the split .*'cut_off': 90.*evaluate both on the same split"),
        ([folders[0], fewer], (), r"1 of 4 are only in .*one, 2 of 5 only in .*fewer"),
        ([folders[0], other_truth], (), r"1 of 4 questions have another number of truth items"),
        ([folders[0], numbers], (), r"user ids are string in .*one and int64 in .*numbers"),
        (folders, ("hr@7",), r"one has no metric 'hr@7'; it has hr@50, ndcg@50"),
        ([folders[0], tmp_path / "absent"], (), r"absent holds no results .*make them with: xdm evaluate"),
    ]
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "metrics.json").write_text("{}")
    cases.append(([tmp_path / "empty", folders[0]], (), "empty holds no results"))
    for chosen, metrics, message in cases:
        with pytest.raises(UsageError, match=message):
            compare(chosen, metrics)


@given(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=8))
def test_holm_equals_its_definition(p):
    """A NaN is no comparison: what is not compared makes no other p-value larger."""
    found, running = holm(np.array(p)), 0.0
    compared = [place for place, value in enumerate(p) if not math.isnan(value)]
    for rank, place in enumerate(sorted(compared, key=lambda place: p[place])):
        running = max(running, min(1.0, p[place] * (len(compared) - rank)))
        assert found[place] == pytest.approx(running)
    assert np.flatnonzero(~np.isnan(found)).tolist() == compared
