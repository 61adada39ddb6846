"""The live catalogue against a list of all items with their vectors, sorted anew for every question."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdm.behaviours.rules import BehaviourRules
from xdm.log.store import EntityTable, Events
from xdm.retrieval.changes import ItemChange
from xdm.retrieval.exact import ExactRetriever
from xdm.retrieval.live import FEW_GONE, LiveCatalogue
from xdm.retrieval.recommender import TowerRecommender
from xdm.retrieval.types import Points
from xdm.schema import PADDING, UsageError

N_ITEMS, N_CANDIDATES, WIDTH = 12, 10, 3
COLOURS = ["red", "blue", None]
OWN = "f00d"  # the fingerprint of the model


class Bundle(TowerRecommender):
    """A bundle whose query is the vector of the user's last click, over small whole numbers."""

    def __init__(self, seed=0, n_items=N_ITEMS, n_candidates=N_CANDIDATES, **manifest):
        rng = np.random.default_rng(seed)
        self.vectors = rng.integers(-2, 3, (n_items, WIDTH)).astype(np.float32)
        colour = pa.array([COLOURS[i % 3] for i in range(n_items)]).dictionary_encode()
        ids = pa.array([f"i{i}" for i in range(1, n_items + 1)])
        clicks = np.arange(n_items, 0, -1)
        items = EntityTable(pa.table({"item_id": ids, "clicks": clicks, "exposures": clicks, "colour": colour}), "item_id")
        users = EntityTable(pa.table({"user_id": pa.array(["u1"])}), "user_id")
        super().__init__(self._last, ExactRetriever(self.vectors[:n_candidates]), items, users, BehaviourRules())
        self.manifest = {"width": WIDTH, "scoring": {"kind": "inner_product", "bias": False}} | manifest
        self.path = Path("bundle")

    def _last(self, batch):
        return self.vectors[batch.short[np.arange(len(batch.short)), batch.short_length - 1] - 1][:, None]

    def new_item_vectors(self, codes):
        return np.repeat(codes[:, :1], WIDTH, axis=1).astype(np.float32)


def asked(last_click: int) -> Points:
    events = Events.of_one_user([last_click] if last_click else [], [100] if last_click else [], [True] if last_click else [])
    return Points(events, np.zeros(1, np.int64), np.zeros(1, np.int32), np.array([200]))


known = st.integers(1, N_ITEMS).map(lambda i: f"i{i}")
new = st.sampled_from(["n1", "n2", "n3"])
numbers = st.tuples(*[st.integers(-2, 2).map(float)] * WIDTH)
features = st.dictionaries(st.just("colour"), st.sampled_from(["red", "blue", "green"]), max_size=1)
change = st.one_of(
    st.builds(ItemChange, known | new, withdrawn=st.just(True)),
    st.builds(ItemChange, known | new, features=features, vector=numbers, fingerprint=st.just(OWN)),
    st.builds(ItemChange, known | new, features=features, similar_to=st.lists(known, min_size=1, max_size=2).map(tuple)),
    st.builds(ItemChange, known | new, features=features),
)


def catalogue_by_hand(bundle: Bundle, changes: list[ItemChange]) -> dict[str, tuple[np.ndarray, str | None]]:
    """What can be recommended after ``changes``: id to vector and colour, in no order."""
    own = {f"i{i}": bundle.vectors[i - 1] for i in range(1, N_CANDIDATES + 1)}
    colour = {f"i{i}": COLOURS[(i - 1) % 3] for i in range(1, N_ITEMS + 1)}
    now = {item: (vector, colour[item]) for item, vector in own.items()}
    for one in {change.item_id: change for change in changes}.values():
        now.pop(one.item_id, None)
        vector = own.get(one.item_id)
        if one.withdrawn:
            continue
        if one.vector is not None:
            vector = np.array(one.vector, np.float32)
        elif one.similar_to:
            like = [own[item] for item in one.similar_to if item in own]
            vector = np.mean(like, axis=0, dtype=np.float32) if like else vector
        elif vector is None and one.features.get("colour") in ("red", "blue"):
            vector = np.full(WIDTH, {"red": 1.0, "blue": 2.0}[one.features["colour"]], np.float32)
        if vector is not None:
            now[one.item_id] = (vector, one.features.get("colour", colour.get(one.item_id)))
    return now


def ranked(catalogue: LiveCatalogue, scores: dict[str, float], k: int) -> list[tuple[str, float]]:
    return sorted(scores.items(), key=lambda pair: (-pair[1], catalogue.index(pair[0])))[:k]


@settings(max_examples=150, deadline=None)
@given(changes=st.lists(change, max_size=8), cut=st.integers(0, 8), last=st.integers(1, N_ITEMS), k=st.integers(1, 16),
       exclude=st.lists(known | new, max_size=3), colours=st.none() | st.lists(st.sampled_from(["red", "blue", "green"]), min_size=1),
       only=st.none() | st.lists(known | new, max_size=6), few=st.booleans())  # fmt: skip
def test_an_answer_is_that_of_the_whole_catalogue_sorted_anew(changes, cut, last, k, exclude, colours, only, few):
    bundle = Bundle()
    catalogue = LiveCatalogue(bundle, OWN).changed(changes[:cut])[0].changed(changes[cut:])[0]
    now = catalogue_by_hand(bundle, changes)
    assert catalogue.n_candidates == len(now)
    assert {item for item in [*(f"i{i}" for i in range(1, N_ITEMS + 1)), "n1", "n2", "n3"]
            if catalogue.has_vector(catalogue.index(item))} == set(now)  # fmt: skip
    fitting = {
        item: vector for item, (vector, colour) in now.items()
        if (colours is None or colour in colours) and (only is None or item in only)
    }  # fmt: skip
    allowed = None
    if colours is not None or only is not None:
        allowed = catalogue.allowed(items=only, features={} if colours is None else {"colour": colours})
        assert sorted(catalogue.external_list(allowed)) == sorted(fitting)
        assert (np.diff(allowed) > 0).all()
    indices = np.array([catalogue.index(item) for item in exclude if catalogue.index(item)], np.int32)
    query = bundle.vectors[last - 1]
    scores = {item: float(np.float32(vector @ query)) for item, vector in fitting.items() if item not in exclude}
    top = catalogue.top_k(asked(last), k, [indices], allowed, exact=few)
    found = top.items[0][top.items[0] != PADDING]
    wanted = ranked(catalogue, scores, k)
    assert catalogue.external_list(found) == [item for item, _ in wanted]
    assert top.scores[0][: len(found)].tolist() == [score for _, score in wanted]


def test_items_without_a_vector_wait_and_say_why():
    catalogue, reasons = LiveCatalogue(Bundle(), OWN).changed([
        ItemChange("n1"), ItemChange("n2", vector=(1.0, 2.0, 3.0), fingerprint="another"),
        ItemChange("n3", features={"colour": "mauve"}), ItemChange("n4", similar_to=("nobody",)),
        ItemChange("i1", features={"colour": "blue"}),
    ])  # fmt: skip
    assert set(reasons) == {"n1", "n2", "n3", "n4"}
    assert "another model" in reasons["n2"]
    assert "colour" in reasons["n3"]
    assert not catalogue.has_vector(catalogue.index("n1"))
    assert "i1" in catalogue.external_list(catalogue.allowed(items=None, features={"colour": ["blue"]}))
    assert catalogue.unchanged().n_candidates == N_CANDIDATES


def test_a_mean_is_folded_again_as_the_model_scores():
    """A squared distance carries b - |v|² in its last coordinate, so that the mean of folded vectors would be another point's."""
    bundle = Bundle(scoring={"kind": "squared_distance", "bias": True}, width=WIDTH - 1)
    plain, bias = bundle.vectors[:, :2], np.arange(N_ITEMS, dtype=np.float32)
    bundle.vectors[:, 2] = bias - (plain**2).sum(1)
    catalogue, reasons = LiveCatalogue(bundle, OWN).changed([ItemChange("n1", similar_to=("i1", "i4"))])
    assert not reasons
    middle = (plain[0] + plain[3]) / 2
    query = np.array([[[2.0, -1.0, 1.0]]], np.float32)
    scores, items = catalogue.search(bundle.retriever, query, 1, None, np.array([catalogue.index("n1")], np.int32))
    assert catalogue.external_list(items[0]) == ["n1"]
    assert scores[0, 0] == pytest.approx(float(query[0, 0, :2] @ middle + 1.5 - (middle**2).sum()))


def test_popular_items_are_those_that_are_there_and_new_ones_come_last():
    changes = [ItemChange("i1", withdrawn=True), ItemChange("n1", vector=(0.0, 0.0, 0.0), fingerprint=OWN),
               ItemChange("i2", vector=(9.0, 9.0, 9.0), fingerprint=OWN)]  # fmt: skip
    catalogue, _ = LiveCatalogue(Bundle(), OWN).changed(changes)
    top = catalogue.top_k(asked(0), 12, [np.array([catalogue.index("i3")], np.int32)])
    found = catalogue.external_list(top.items[0][top.items[0] != PADDING])
    assert found == ["i2", *(f"i{i}" for i in range(4, N_CANDIDATES + 1)), "n1"]
    assert top.scores[0][: len(found)].tolist() == [11.0, *(float(13 - i) for i in range(4, N_CANDIDATES + 1)), 0.0]


@settings(max_examples=60, deadline=None)
@given(changes=st.lists(change, max_size=6), which=st.integers(1, N_CANDIDATES), k=st.integers(1, 15))
def test_similar_items_are_those_of_the_largest_cosine(changes, which, k):
    bundle = Bundle()
    catalogue, _ = LiveCatalogue(bundle, OWN).changed(changes)
    now = catalogue_by_hand(bundle, changes)
    index = catalogue.index(f"i{which}")
    if not catalogue.has_vector(index):
        return
    scores, items = catalogue.similar(index, k, np.array([index], np.int32))
    own = now[f"i{which}"][0]

    def cosine(vector):
        return float(vector @ own / max(np.linalg.norm(vector), 1e-12) / max(np.linalg.norm(own), 1e-12))

    wanted = sorted((cosine(vector) for item, (vector, _) in now.items() if item != f"i{which}"), reverse=True)[:k]
    found = catalogue.external_list(items[items != PADDING])
    assert scores[: len(found)].tolist() == pytest.approx(wanted, abs=1e-6)
    assert [cosine(now[item][0]) for item in found] == pytest.approx(wanted, abs=1e-6)


def test_many_withdrawn_items_become_a_filter():
    n = 5 * FEW_GONE
    bundle = Bundle(n_items=n, n_candidates=n)
    gone = [ItemChange(f"i{i}", withdrawn=True) for i in range(1, n + 1) if i % 3]
    catalogue, _ = LiveCatalogue(bundle, OWN).changed(gone)
    top = catalogue.top_k(asked(7), 1000)
    left = [i for i in range(1, n + 1) if i % 3 == 0]
    wanted = sorted(left, key=lambda i: (-float(bundle.vectors[i - 1] @ bundle.vectors[6]), i))[:1000]
    assert top.items[0].tolist() == wanted


def test_an_unknown_feature_is_named_with_those_there_are():
    with pytest.raises(UsageError, match=r"no feature 'size'; it has colour"):
        LiveCatalogue(Bundle(), OWN).allowed(items=None, features={"size": ["1"]})
