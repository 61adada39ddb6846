"""What skips do to the lists: `unclicked`, `skipped@K` and `skipped_category@K` against the behaviours' plain-Python oracle."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.behaviours.oracle import behaviours as behaviours_oracle
from tests.evaluation.stores import LastSeenFirst, make_store, oracle
from tests.evaluation.test_running import CUT_OFF, UNTIL, history_of, random_rows, small_model, walk
from xdm.behaviours.rules import BehaviourRules
from xdm.evaluation import running
from xdm.evaluation.running import evaluate
from xdm.evaluation.skips import category_of
from xdm.evaluation.splits import Split

KS = (2, 5)
# Items 0, 4, 8 and 12 have no category, the others one of three.
CATEGORIES = {f"i{n}": f"c{n % 4}" for n in range(14) if n % 4}
RULES = BehaviourRules(unclicked_k=1, unclicked_window=45, unclicked_max=3)
KEY = ("user_id", "timestamp")


def unclicked_oracle(rows, user, time, rules) -> list:
    events = [(item, when, clicked, None) for item, when, clicked in history_of(rows, user)]
    return behaviours_oracle(events, time, rules, {})["unclicked"]


def share(values: list, k: int, among) -> float:
    return sum(value in among for value in values[:k]) / k


def expected_rows(rows, model, split, rules, categories) -> list[dict]:
    """One dictionary a question, from a walk over the log."""
    found = []
    for user, time, ranked, _ in walk(rows, model, split, False):
        unclicked = unclicked_oracle(rows, user, time, rules)
        of_unclicked = {categories[item] for item in unclicked if item in categories}
        row = {"user_id": user, "timestamp": time, "unclicked": len(unclicked)}
        for k in KS:
            row[f"skipped@{k}"] = share(ranked, k, unclicked) if unclicked else None
            if categories:
                again = share([categories.get(item) for item in ranked], k, of_unclicked)
                row[f"skipped_category@{k}"] = again if unclicked else None
        found.append(row)
    return sorted(found, key=lambda row: (row["user_id"], row["timestamp"]))


@pytest.mark.parametrize("categories", [{}, CATEGORIES])
@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("protocol", ["time", "each-click", "last-click"])
def test_every_question_equals_a_walk_over_the_log(tmp_path, monkeypatch, protocol, k, categories):
    """Blocks of 8 questions at most: what is unclicked is found in several goes a part, the lists of the model likewise."""
    monkeypatch.setattr(running, "QUESTIONS_AT_ONCE", 9)
    rows, model, rules = random_rows(20 + k, n=400), small_model(False), RULES.model_copy(update={"unclicked_k": k})
    store = make_store(tmp_path / "store", rows, features={"category": categories} if categories else None)
    split = Split(protocol, CUT_OFF, UNTIL)
    metrics = evaluate(model, store, split, KS, tmp_path / "out", batch=4, rules=rules)
    expected = expected_rows(rows, model, split, rules, categories)
    per_user = pq.read_table(tmp_path / "out" / "per_user.parquet")
    assert per_user.schema.field("unclicked").type == pa.int32()
    got = sorted(per_user.to_pylist(), key=lambda row: tuple(row[name] for name in KEY))
    for row, wanted in zip(got, expected, strict=True):
        assert {name: value for name, value in row.items() if name in KEY or "clicked" in name or "skipped" in name} == wanted

    having = [row for row in expected if row["unclicked"]]
    assert having
    assert len(having) < len(expected) or k == 0
    assert metrics["questions_with_unclicked"] == len(having)
    for name in expected[0]:
        if "@" in name:
            assert metrics[name] == pytest.approx(np.mean([row[name] for row in having]))
    assert metrics["skipped@5"] > 0
    assert ("skipped_category@2" in metrics) == bool(categories)
    assert metrics.get("category_feature") == ("category" if categories else None)
    assert metrics["rules"] == {"unclicked_k": k, "unclicked_window": 45, "unclicked_max": 3}


def test_baselines_are_judged_by_the_same_unclicked_items(tmp_path):
    rows = random_rows(7)
    store = make_store(tmp_path / "store", rows, features={"category": CATEGORIES})
    split = Split("time", CUT_OFF, UNTIL)
    metrics = evaluate(small_model(False), store, split, KS, tmp_path / "out", rules=RULES)
    clicks = {}
    for _, item, time, clicked in rows:
        if clicked and time < CUT_OFF:
            clicks.setdefault(item, []).append(time)
    ranked = sorted(clicks, key=lambda item: (-len(clicks[item]), -max(clicks[item]), item))
    of_model = pq.read_table(tmp_path / "out" / "per_user.parquet")
    of_baseline = pq.read_table(tmp_path / "out" / "baselines" / "popularity" / "per_user.parquet")
    assert of_model["unclicked"].equals(of_baseline["unclicked"])
    values = []
    for row in of_baseline.to_pylist():
        unclicked = unclicked_oracle(rows, row["user_id"], CUT_OFF, RULES)
        wanted = share(ranked, 5, unclicked) if unclicked else None
        assert row["skipped@5"] == wanted
        values += [] if wanted is None else [wanted]
    assert metrics["baselines"]["popularity"]["skipped@5"] == pytest.approx(np.mean(values))
    assert np.mean(values) > 0
    own_file = json.loads((tmp_path / "out" / "baselines" / "popularity" / "metrics.json").read_text())
    assert own_file["questions_with_unclicked"] == len(values)


class OwnRules(LastSeenFirst):
    """A model with rules of its own, which no figure may depend on."""

    rules = BehaviourRules(unclicked_k=0)


def test_the_models_own_rules_do_not_count(tmp_path):
    rows, found = random_rows(3), []
    for model in (LastSeenFirst, OwnRules):
        own = model([f"i{n}" for n in range(14)], ["u1"])
        store = make_store(tmp_path / model.__name__, rows)
        found.append(evaluate(own, store, Split("time", CUT_OFF, UNTIL), KS, baselines=(), rules=RULES))
    assert found[0] == found[1]


def test_no_unclicked_item_is_no_figure(tmp_path):
    """A log of clicks alone: nothing can be recommended again that was skipped, and that is not the same as 0."""
    rows = [(user, item, time, True) for user, item, time, _ in random_rows(5)]
    store = make_store(tmp_path / "store", rows, features={"category": CATEGORIES})
    metrics = evaluate(small_model(False), store, Split("time", CUT_OFF, UNTIL), KS, tmp_path / "out")
    assert metrics["questions_with_unclicked"] == 0
    assert [metrics[f"{name}@{k}"] for name in ("skipped", "skipped_category") for k in KS] == [None] * 4
    table = pq.read_table(tmp_path / "out" / "per_user.parquet")
    assert table["unclicked"].to_pylist() == [0] * metrics["questions"]
    assert table["skipped@2"].null_count == metrics["questions"]
    assert table["hr@2"].null_count == 0


def test_which_feature_is_the_category(tmp_path):
    rows = random_rows(1)
    shop, category = {"i1": "s"}, {"i1": "c"}
    stores = [
        make_store(tmp_path / "named", rows, features={"shop": shop, "category": category}),
        make_store(tmp_path / "first", rows, features={"shop": shop, "brand": category}),
        make_store(tmp_path / "none", rows),
    ]
    assert [feature and feature.name for feature in map(category_of, stores)] == ["category", "shop", None]


def test_the_walk_asks_what_the_protocol_says():
    """The oracle above is worth something only if its questions have unclicked items in different numbers."""
    rows = random_rows(21)
    lengths = set()
    for user in {row[0] for row in rows}:
        for time, _ in oracle(history_of(rows, user), "each-click", CUT_OFF, UNTIL):
            lengths.add(len(unclicked_oracle(rows, user, time, RULES)))
    assert len(lengths) >= 3
