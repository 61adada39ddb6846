"""ItemKNN and EASE against dense matrices made in plain Python and NumPy, and what they may know of a log."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.stores import make_store, oracle
from tests.evaluation.test_running import CUT_OFF, UNTIL, history_of, random_rows
from xdm.evaluation.baselines import BASELINES, BESIDE_EVERY_MODEL, baseline
from xdm.evaluation.cooccurrence import ByClicks
from xdm.evaluation.popularity import count_clicks
from xdm.evaluation.running import evaluate
from xdm.evaluation.splits import PROTOCOLS, Split, questions
from xdm.retrieval.types import MODEL, POPULAR, Points
from xdm.schema import ConfigError

ITEMKNN = [
    {}, {"neighbours": 3}, {"shrinkage": 2.5}, {"latest": 2}, {"half_life": 1.5},
    {"neighbours": 1, "shrinkage": 0.5, "latest": 3, "half_life": 0.7},
]  # fmt: skip
EASE = [{}, {"l2": 3.0}, {"l2": 0.5, "max_items": 6}]
CASES = [("itemknn", one) for one in ITEMKNN] + [("ease", one) for one in EASE]


def known(rows, split) -> list:
    """The clicks that may be counted: before the cut-off, or before the user's own question under last-click."""
    limit = {user: split.cut_off for user, *_ in rows}
    if split.protocol == "last-click":
        for user in limit:
            asked = oracle(history_of(rows, user), split.protocol, split.cut_off, split.until, split.nth_last)
            limit[user] = asked[0][0] if asked else split.until
    return [row for row in rows if row[3] and row[2] < limit[row[0]]]


def ranked_items(clicks) -> list:
    """The candidates, most popular first."""
    times: dict = {}
    for _, item, time, _ in clicks:
        times.setdefault(item, []).append(time)
    return sorted(times, key=lambda item: (-len(times[item]), -max(times[item]), item))


def matrix(clicks, items) -> np.ndarray:
    """X [users, items] of zeros and ones."""
    users = sorted({row[0] for row in clicks})
    x = np.zeros((len(users), len(items)))
    for user, item, _, _ in clicks:
        if item in items:
            x[users.index(user), items.index(item)] = 1
    return x


def knn_scores(clicks, items, clicked, neighbours=100, shrinkage=0.0, latest=0, half_life=0.0) -> np.ndarray:
    x = matrix(clicks, items)
    scores = np.zeros(len(items))
    for age, item in enumerate(clicked[:latest] if latest else clicked):
        i, similar = items.index(item), {}
        for j in range(len(items)):
            both = sum(x[u, i] * x[u, j] for u in range(len(x)))
            if j != i and both:
                similar[j] = both / (math.sqrt(sum(x[:, i])) * math.sqrt(sum(x[:, j])) + shrinkage)
        nearest = sorted(similar, key=lambda j: (-round(similar[j], 12), j))[:neighbours]
        for j in nearest:
            scores[j] += similar[j] * (0.5 ** (age / half_life) if half_life else 1)
    return scores


def ease_scores(clicks, items, clicked, l2=500.0, max_items=10_000) -> np.ndarray:
    """Row by row: column j of B is the ridge regression of item j on all others."""
    x = matrix(clicks, items)
    b = np.zeros((len(items), len(items)))
    for j in range(len(items)):
        others = [i for i in range(len(items)) if i != j]
        a = x[:, others]
        b[others, j] = np.linalg.solve(a.T @ a + l2 * np.eye(len(others)), a.T @ x[:, j])
    return sum(b[items.index(item)] for item in clicked)


def asked(store, split):
    """``[(user_id, time, Points)]`` of all questions."""
    found = []
    for first, events in store.parts():
        asked = questions(events, split)
        for row, time in zip(asked.row.tolist(), asked.time.tolist(), strict=True):
            user = store.users.vocabulary.external_list(np.array([first + row + 1]))[0]
            one = np.array([row]), np.array([first + row + 1], np.int32), np.array([time])
            found.append((user, time, Points(events, *one)))
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("name", "config"), CASES)
def test_scores_are_those_of_dense_matrices(tmp_path, name, config, protocol):
    rows, split = random_rows(5), Split(protocol, CUT_OFF, UNTIL)
    store = make_store(tmp_path, rows, parts=3)
    recommender = baseline(name, store, split, count_clicks(store, split), config)
    clicks = known(rows, split)
    items = ranked_items(clicks)[: config.get("max_items")]
    assert store.items.vocabulary.external_list(recommender.candidates) == items
    scores_of, answered = {"itemknn": knn_scores, "ease": ease_scores}[name], set()
    for user, time, points in asked(store, split):
        latest = [item for item, when, clicked in history_of(rows, user) if clicked and when < time and item in items][
            ::-1
        ]
        latest = list(dict.fromkeys(latest))
        answer = recommender.top_k(points, len(items) + 2)
        answered.add(int(answer.source[0]))
        assert answer.source[0] == (MODEL if latest else POPULAR)
        got = store.items.vocabulary.external_list(answer.items[0][: len(items)])
        assert sorted(got) == sorted(items)
        assert not answer.items[0][len(items) :].any()
        if latest:
            wanted = scores_of(clicks, items, latest, **config)
            np.testing.assert_allclose(
                answer.scores[0][: len(items)], [wanted[items.index(item)] for item in got], atol=1e-5
            )
            assert (np.diff(answer.scores[0][: len(items)]) <= 0).all()
        else:
            assert got == items
    assert MODEL in answered


@pytest.mark.parametrize("name", ["itemknn", "ease"])
def test_what_is_excluded_is_not_in_the_list(tmp_path, name):
    rows, split = random_rows(6), Split("time", CUT_OFF, UNTIL)
    store = make_store(tmp_path, rows)
    recommender = baseline(name, store, split, count_clicks(store, split), {"l2": 2.0} if name == "ease" else None)
    for _, _, points in asked(store, split):
        whole = recommender.top_k(points, 20)
        left_out = whole.items[0][[0, 2]]
        found = recommender.top_k(
            points, 5, [np.append(left_out, len(store.items))]
        )  # the last item has no known click
        kept = ~np.isin(whole.items[0], left_out)
        np.testing.assert_array_equal(found.items[0], whole.items[0][kept][:5])
        np.testing.assert_array_equal(found.scores[0], whole.scores[0][kept][:5])


def lists_of(store, split, name, users) -> dict:
    recommender = baseline(name, store, split, count_clicks(store, split))
    found = {}
    for user, time, points in asked(store, split):
        answer = recommender.top_k(points, 14)
        items = answer.items[0][answer.items[0] > 0]
        if user in users:
            found[user, time] = (store.items.vocabulary.external_list(items), answer.scores[0].tolist())
    return found


@given(seed=st.integers(0, 1000), future=st.integers(0, 1000), name=st.sampled_from(["itemknn", "ease"]))
@settings(max_examples=20, deadline=None)
def test_what_comes_after_the_cut_off_changes_no_list(tmp_path_factory, seed, future, name):
    past = [row for row in random_rows(seed) if row[2] < CUT_OFF]
    asking = [(user, "i0", CUT_OFF, True) for user in ("u0", "u1", "u2")]
    found, split = [], Split("time", CUT_OFF, UNTIL)
    for later in (random_rows(seed), random_rows(future)):
        folder = tmp_path_factory.mktemp("log")
        store = make_store(folder / "store", past + asking + [row for row in later if row[2] > CUT_OFF])
        found.append(lists_of(store, split, name, ("u0", "u1", "u2")))
    assert len(found[0]) == 3
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["itemknn", "ease"])
def test_a_users_last_click_and_what_follows_change_no_list(tmp_path, name):
    """Leave-last-out: the answer to one user depends on nobody's last click, the user's own least of all."""
    split, rows = Split("last-click", 1_600_000_000, UNTIL), [row for row in random_rows(9) if row[3]]
    rows = list({(row[0], row[2]): row for row in rows}.values())  # one click a user and second
    last = {user: max(row[2] for row in rows if row[0] == user) for user, *_ in rows}
    changed = [(user, "i0" if time == last[user] else item, time, True) for user, item, time, _ in rows]
    assert changed != rows
    one, other = (
        lists_of(make_store(tmp_path / str(n), log), split, name, last) for n, log in enumerate((rows, changed))
    )
    assert one == other
    assert len(one) == len(last)


class Fixed(ByClicks):
    """Scores that say nothing of the clicks."""

    def scores(self, clicked):
        return np.resize([0.0, 2.0, 0.0, 2.0, 1.0, -1.0, 0.0], len(self.candidates))


@pytest.mark.parametrize("k", [1, 3, 7, 20])
def test_of_equal_scores_the_more_popular_item_comes_first(tmp_path, k):
    rows, split = random_rows(5), Split("time", CUT_OFF, UNTIL)
    store = make_store(tmp_path, rows)
    recommender = Fixed(store, count_clicks(store, split))
    items, fixed = ranked_items(known(rows, split)), recommender.scores(None).tolist()
    for user, _, points in asked(store, split):
        latest = [item for item, when, clicked in history_of(rows, user) if clicked and when < CUT_OFF]
        if latest:
            answer = recommender.top_k(points, k, [recommender.candidates[[1, 4]]])
            order = [items[place] for place in sorted(range(len(items)), key=lambda at: -fixed[at]) if place not in (1, 4)]
            found = store.items.vocabulary.external_list(answer.items[0][answer.items[0] > 0])
            assert found == order[:k]


def test_the_baselines_that_are_asked_for_are_judged(tmp_path):
    rows, split = random_rows(11), Split("time", CUT_OFF, UNTIL)
    store = make_store(tmp_path / "store", rows)
    model = baseline("popularity", store, split, count_clicks(store, split))
    metrics = evaluate(model, store, split, (3,), tmp_path / "out", tuple(BASELINES))
    assert metrics["baselines"].keys() == BASELINES.keys()
    assert metrics["baselines"]["popularity"]["recall@3"] == metrics["recall@3"]
    assert metrics["baselines"]["ease"]["recall@3"] != metrics["recall@3"]
    assert set(BESIDE_EVERY_MODEL) < BASELINES.keys()
    assert evaluate(model, store, split, (3,))["baselines"].keys() == set(BESIDE_EVERY_MODEL)
    assert [path.name for path in sorted((tmp_path / "out" / "baselines").iterdir())] == sorted(BASELINES)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("itemkn", {}, r"no baseline 'itemkn'\. Did you mean 'itemknn'\?"),
        (
            "ease",
            {"max_item": 1},
            r"baseline\.max_item: ease has no such setting\. Did you mean 'max_items'\? It has: l2, max_items",
        ),
        ("popularity", {"l2": 1}, r"baseline\.l2: popularity has no such setting\. It has none"),
        ("itemknn", {"neighbours": 0}, r"itemknn: baseline\.neighbours: .*greater than or equal to 1, not 0"),
    ],
)
def test_a_wrong_name_or_setting_is_told(tmp_path, name, config, message):
    split = Split("time", CUT_OFF, UNTIL)
    store = make_store(tmp_path, random_rows(3))
    with pytest.raises(ConfigError, match=message):
        baseline(name, store, split, count_clicks(store, split), config)
