"""`evaluate` from a store to its files, against a plain-Python walk over the same log."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.stores import LastSeenFirst, make_store, oracle
from tests.evaluation.test_metrics import naive
from xdm.evaluation import records
from xdm.evaluation.metrics import METRICS
from xdm.evaluation.popularity import Popularity, RecentPopularity, count_clicks
from xdm.evaluation.running import evaluate
from xdm.evaluation.splits import Split
from xdm.retrieval.types import Points, TopK
from xdm.schema import InternalError, UsageError

START, CUT_OFF, UNTIL = 1_600_000_000, 1_600_000_060, 1_600_000_100
KS = (2, 5)
SHAPES = [(protocol, 1, False) for protocol in ("time", "each-click", "last-click", "sdm")]
SHAPES += [("last-click", 2, False), ("time", 1, True), ("each-click", 1, True)]


def random_rows(seed: int, as_numbers: bool = False, n: int = 260) -> list:
    """A log of 9 users and 14 items; some users and items appear late only."""
    rng = np.random.default_rng(seed)
    rows = {}
    for _ in range(n):
        user, item, time = int(rng.integers(9)), int(rng.integers(14)), START + int(rng.integers(100))
        if (user == 8 or item >= 12) and time < CUT_OFF:
            continue
        ids = (user + 100, item + 500) if as_numbers else (f"u{user}", f"i{item}")
        rows[(*ids, time)] = bool(rng.random() < 0.4)
    return [(*key, clicked) for key, clicked in rows.items()]


def history_of(rows: list, user) -> list:
    """A user's ``(item_id, time, clicked)`` in the store's order."""
    return sorted(((item, time, clicked) for who, item, time, clicked in rows if who == user), key=lambda e: e[1])


def small_model(as_numbers: bool) -> LastSeenFirst:
    """Knows ten items (one of which the log has not) and four users."""
    if as_numbers:
        return LastSeenFirst([503, 501, 999, 507, 502, 505, 500, 509, 508, 504], [103, 101, 100, 102])
    return LastSeenFirst(["i3", "i1", "never", "i7", "i2", "i5", "i0", "i9", "i8", "i4"], ["u3", "u1", "u0", "u2"])


def walk(rows, model, split, exclude_seen):
    """``[(user, time, list, truth)]`` in plain Python."""
    expected = []
    for user in {row[0] for row in rows}:
        history = history_of(rows, user)
        for time, truth in oracle(history, split.protocol, split.cut_off, split.until, split.nth_last):
            expected.append((user, time, model.expected(history, time, max(KS), exclude_seen), set(truth)))
    return sorted(expected, key=lambda e: (e[0], e[1], sorted(e[3])))


@pytest.mark.parametrize(("protocol", "nth_last", "exclude_seen"), SHAPES)
@pytest.mark.parametrize("as_numbers", [False, True])
def test_files_equal_a_walk_over_the_log(tmp_path, protocol, nth_last, exclude_seen, as_numbers, monkeypatch):
    monkeypatch.setattr(records, "ROWS_AT_ONCE", 10)
    rows = random_rows(3 * as_numbers + nth_last, as_numbers)
    store, model = make_store(tmp_path / "store", rows, parts=3), small_model(as_numbers)
    split = Split(protocol, CUT_OFF, UNTIL, nth_last)
    metrics = evaluate(model, store, split, KS, tmp_path / "out", exclude_seen=exclude_seen, batch=4)
    expected = walk(rows, model, split, exclude_seen)

    per_user = pq.read_table(tmp_path / "out" / "per_user.parquet").to_pylist()
    lists = pq.read_table(tmp_path / "out" / "recommendations.parquet")
    assert len(per_user) == len(expected) == metrics["questions"]
    assert lists.column_names == ["user_id", "timestamp", "rank", "item_id", "score"]
    got_items = {}
    for row in lists.to_pylist():
        got_items.setdefault((row["user_id"], row["timestamp"]), []).append((row["rank"], row["item_id"], row["score"]))
    by_question = sorted(per_user, key=lambda row: (row["user_id"], row["timestamp"]))
    for row in by_question:
        candidates = [e for e in expected if e[:2] == (row["user_id"], row["timestamp"])]
        ranked = candidates[0][2]
        repeats = len(candidates)  # several clicks of one second are as many questions with one list each
        assert sorted(got_items[candidates[0][:2]]) == sorted(
            [(place + 1, item, -float(place)) for place, item in enumerate(ranked)] * repeats
        )
        values = [{f"{m}@{k}": v for k in KS for m, v in naive(ranked, truth, k).items()} for *_, truth in candidates]
        own = {name: value for name, value in row.items() if "@" in name and not name.startswith("skipped")}
        assert any(own == pytest.approx(value) for value in values)
        assert row["truth_items"] in [len(truth) for *_, truth in candidates]
        seen = [item for item, when, _ in history_of(rows, row["user_id"]) if when < row["timestamp"]]
        known = model.catalogue.ids.to_pylist()
        assert row["source"] == ("model" if any(item in known for item in seen) else "popular")

    assert metrics == json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["users"] == len({user for user, *_ in expected})
    for k in KS:
        for metric in METRICS:
            mean = np.mean([naive(ranked, truth, k)[metric] for *_, ranked, truth in expected])
            assert metrics[f"{metric}@{k}"] == pytest.approx(mean)
        recommended = {item for *_, ranked, _ in expected for item in ranked[:k]}
        assert metrics[f"coverage@{k}"] == pytest.approx(len(recommended) / len(model.catalogue))
    truth = [item for *_, items in expected for item in items]
    known = [item for item in truth if item in model.catalogue.ids.to_pylist()]
    assert metrics["truth_items_known"] == pytest.approx(len(known) / len(truth))
    assert 0 < metrics["truth_items_known"] < 1
    sources = [row["source"] for row in per_user]
    assert metrics["answered_by"] == {"model": sources.count("model"), "popular": sources.count("popular")}
    assert metrics["split"]["protocol"] == protocol


def test_known_users_reach_the_model_by_its_own_index(tmp_path):
    rows = random_rows(1)
    model = small_model(False)
    evaluate(model, make_store(tmp_path, rows), Split("time", CUT_OFF, UNTIL), KS, baselines=())
    asked = {user for user, *_, clicked in rows if clicked}
    assert sorted(set(model.asked_users)) == sorted({model.users.index(user) for user in asked})
    assert {0, 1, 2, 3, 4} == set(model.asked_users)


def naive_ranking(rows, key) -> list:
    """Clicked items before the cut-off by ``key(clicks' times)``, then the last click, then the id."""
    times: dict = {}
    for _, item, time, clicked in rows:
        if clicked and time < CUT_OFF:
            times.setdefault(item, []).append(time)
    return sorted(times, key=lambda item: (*(-value for value in key(times[item])), -max(times[item]), item))


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_baselines_equal_a_naive_count(tmp_path, exclude_seen):
    rows, window = random_rows(11), 20
    split = Split("time", CUT_OFF, UNTIL)
    metrics = evaluate(
        small_model(False), make_store(tmp_path / "store", rows), split, (3,), tmp_path / "out",
        recent_window=window, exclude_seen=exclude_seen,
    )  # fmt: skip
    rankings = {
        "popularity": naive_ranking(rows, lambda times: [len(times)]),
        "recent_popularity": naive_ranking(
            rows, lambda times: [sum(time >= CUT_OFF - window for time in times), len(times)]
        ),
    }
    assert rankings["popularity"][:3] != rankings["recent_popularity"][:3]
    for name, ranking in rankings.items():
        folder = tmp_path / "out" / "baselines" / name
        per_user = {row["user_id"]: row for row in pq.read_table(folder / "per_user.parquet").to_pylist()}
        recalls = []
        for user in per_user:
            history = history_of(rows, user)
            ((_, truth),) = oracle(history, "time", CUT_OFF, UNTIL)
            seen = {item for item, time, clicked in history if clicked and time < CUT_OFF} if exclude_seen else set()
            ranked = [item for item in ranking if item not in seen]
            recalls.append(naive(ranked, set(truth), 3)["recall"])
            assert per_user[user]["recall@3"] == pytest.approx(recalls[-1])
        assert metrics["baselines"][name]["recall@3"] == pytest.approx(np.mean(recalls))
        own_file = json.loads((folder / "metrics.json").read_text())
        assert own_file["split"] == metrics["split"]
        assert own_file["recall@3"] == metrics["baselines"][name]["recall@3"]


def baseline_lists(store, split) -> list:
    """The external ids that each baseline recommends, with their scores."""
    counts, lists = count_clicks(store, split, window=20), []
    _, events = next(store.parts())
    for baseline in (Popularity(store, counts), RecentPopularity(store, counts)):
        answer = baseline.top_k(Points(events, np.zeros(1, np.int64), np.zeros(1, np.int32), np.array([CUT_OFF])), 20)
        items = answer.items[0][answer.items[0] > 0]
        lists.append((baseline.catalogue.external_list(items), answer.scores[0][: len(items)].tolist()))
    return lists


@given(seed=st.integers(0, 1000), future=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_what_comes_after_the_cut_off_changes_no_list(tmp_path_factory, seed, future):
    """Two logs that agree before the cut-off give the same lists, of a model and of the baselines."""
    past = [row for row in random_rows(seed) if row[2] < CUT_OFF]
    asked = [(user, "i0", CUT_OFF, True) for user in ("u0", "u1", "u2")]
    found, split = [], Split("time", CUT_OFF, UNTIL)
    for later in (random_rows(seed), random_rows(future)):
        folder = tmp_path_factory.mktemp("log")
        store = make_store(folder / "store", past + asked + [row for row in later if row[2] > CUT_OFF])
        evaluate(small_model(False), store, split, (9,), folder / "out", baselines=())
        rows = pq.read_table(folder / "out" / "recommendations.parquet").to_pylist()
        rows = sorted((row["user_id"], row["rank"], row["item_id"]) for row in rows if row["user_id"] in ("u0", "u1", "u2"))
        found.append((rows, baseline_lists(store, split)))
    assert found[0] == found[1]
    assert found[0][0]


class FirstFew(LastSeenFirst):
    """Recommends the first six of its ten items only, and says so."""

    n_candidates = 6

    def top_k(self, points, k, exclude=None):
        answer = super().top_k(points, 10, exclude)
        items = [[item for item in row if 0 < item <= self.n_candidates][:k] for row in answer.items.tolist()]
        padded = np.array([row + [0] * (k - len(row)) for row in items], np.int32)
        return TopK(padded, np.where(padded > 0, 0.0, -np.inf).astype(np.float32), answer.source)


def test_coverage_and_known_truth_count_what_can_be_recommended(tmp_path):
    rows, model = random_rows(12), small_model(False)
    store, split = make_store(tmp_path / "store", rows), Split("time", CUT_OFF, UNTIL)
    few = FirstFew(model.catalogue.ids.to_pylist(), model.users.ids.to_pylist())
    metrics = evaluate(few, store, split, KS, tmp_path / "out")
    truth = [item for *_, items in walk(rows, model, split, False) for item in items]
    recommendable = set(model.catalogue.ids.to_pylist()[:6])
    assert metrics["truth_items_known"] == pytest.approx(sum(item in recommendable for item in truth) / len(truth))
    lists = pq.read_table(tmp_path / "out" / "recommendations.parquet").to_pylist()
    for k in KS:
        recommended = {row["item_id"] for row in lists if row["rank"] <= k}
        assert metrics[f"coverage@{k}"] == pytest.approx(len(recommended) / 6)

    clicked = {item for _, item, time, is_click in rows if is_click and time < CUT_OFF}
    assert 5 < len(clicked) < len(store.items)
    known = sum(item in clicked for item in truth) / len(truth)
    assert 0 < known < 1
    for name in ("popularity", "recent_popularity"):
        assert metrics["baselines"][name]["truth_items_known"] == pytest.approx(known)
        assert metrics["baselines"][name]["coverage@5"] == pytest.approx(5 / len(clicked))


def test_a_recommender_that_breaks_its_word_on_candidates_is_no_result(tmp_path):
    model = small_model(False)
    model.n_candidates = 6
    with pytest.raises(InternalError, match="none of its candidates"):
        evaluate(model, make_store(tmp_path / "store", random_rows(2)), Split("time", CUT_OFF, UNTIL), KS)


def test_progress_counts_every_question_once(tmp_path):
    calls = []
    metrics = evaluate(
        small_model(False), make_store(tmp_path, random_rows(2)), Split("each-click", CUT_OFF, UNTIL), KS, batch=5,
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert calls[-1] == (metrics["questions"], metrics["questions"])
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


def test_refuses_what_cannot_be_judged(tmp_path):
    store, model = make_store(tmp_path / "store", random_rows(2)), small_model(False)
    with pytest.raises(UsageError, match=r"has no click to ask for in \[1700000000, 1700000001\)"):
        evaluate(model, store, Split("time", 1_700_000_000, 1_700_000_001))
    with pytest.raises(UsageError, match=r"every K and the batch must be at least 1, not \[0, 5\]"):
        evaluate(model, store, Split("time", CUT_OFF, UNTIL), (5, 0))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"exists already; choose another path or pass --overwrite"):
        evaluate(model, store, Split("time", CUT_OFF, UNTIL), KS, tmp_path / "mine")
    with pytest.raises(UsageError, match=r"holds no metrics.json, so it was not written by xdm"):
        evaluate(model, store, Split("time", CUT_OFF, UNTIL), KS, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_overwrite_replaces_earlier_results(tmp_path):
    store, model = make_store(tmp_path / "store", random_rows(2)), small_model(False)
    evaluate(model, store, Split("time", CUT_OFF, UNTIL), KS, tmp_path / "out")
    evaluate(model, store, Split("time", CUT_OFF, UNTIL), (1,), tmp_path / "out", overwrite=True, baselines=())
    assert "hr@1" in json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert not (tmp_path / "out" / "baselines").exists()


BROKEN = {
    "twice": (lambda a: TopK(np.ones_like(a.items), a.scores, a.source), "put an item into one list twice"),
    "outside": (lambda a: TopK(a.items + 50, a.scores, a.source), "index outside its catalogue"),
    "NaN": (lambda a: TopK(a.items, a.scores * np.nan, a.source), "score that is NaN"),
    "short": (lambda a: TopK(a.items[:, :1], a.scores[:, :1], a.source), "items where"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_recommender_is_no_result(tmp_path, fault):
    break_answer, message = BROKEN[fault]

    class Broken(LastSeenFirst):
        def top_k(self, points, k, exclude=None):
            return break_answer(super().top_k(points, k, exclude))

    store = make_store(tmp_path / "store", random_rows(2))
    with pytest.raises(InternalError, match=message):
        evaluate(Broken(["i1", "i2", "i3"], ["u1"]), store, Split("time", CUT_OFF, UNTIL), KS, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_ids_keep_the_type_of_the_log(tmp_path):
    store = make_store(tmp_path / "store", random_rows(5, as_numbers=True))
    evaluate(small_model(True), store, Split("time", CUT_OFF, UNTIL), KS, tmp_path / "out")
    schema = pq.read_schema(tmp_path / "out" / "recommendations.parquet")
    assert schema.field("user_id").type == schema.field("item_id").type == pa.int64()
    assert schema.field("rank").type == pa.int32()
    assert schema.field("score").type == pa.float32()
