"""Filters: what is allowed, together with what is excluded, gives exactly what brute force gives, whatever searches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdm.retrieval.exact import ExactRetriever
from xdm.retrieval.scoring import FullScoring
from xdm.retrieval.tree import ItemTree, TreeRetriever
from xdm.retrieval.tree_building import first_leaves, node_means
from xdm.schema import PADDING

WIDTH = 3


def by_products(queries, vectors):
    return (queries @ vectors.T).max(1)


def retriever_of(kind: str, vectors: np.ndarray):
    if kind == "exact":
        return ExactRetriever(vectors)
    if kind == "scorer":
        return FullScoring(by_products, vectors)
    leaves = first_leaves(None, len(vectors), np.random.default_rng(0))
    return TreeRetriever(vectors, ItemTree(node_means(leaves, vectors), leaves, beam=2))


def brute_force(queries, vectors, k, exclude, allowed):
    """``[(score, index)]`` of each question, best first, the smaller index first among equals."""
    answers = []
    for interests, left_out in zip(queries, exclude, strict=True):
        fitting = [i for i in allowed if i not in left_out]
        scored = [(max(float(np.float32(q @ vectors[i - 1])) for q in interests), i) for i in fitting]
        answers.append(sorted(scored, key=lambda pair: (-pair[0], pair[1]))[:k])
    return answers


@pytest.mark.parametrize("kind", ["exact", "scorer", "tree"])
@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(1, 40), interests=st.integers(1, 3), k=st.integers(1, 50))
def test_nothing_but_what_is_allowed_in_the_order_of_brute_force(kind, data, n, interests, k):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    vectors = rng.integers(-2, 3, (n, WIDTH)).astype(np.float32)  # small whole numbers: many equal scores, no rounding
    queries = rng.integers(-2, 3, (2, interests, WIDTH)).astype(np.float32)
    allowed = np.array(sorted(data.draw(st.sets(st.integers(1, n)))), np.int32)
    exclude = [np.array(data.draw(st.lists(st.integers(1, n), max_size=5)), np.int32) for _ in queries]
    scores, items = retriever_of(kind, vectors).top_k(queries, k, exclude, allowed)
    for q, wanted in enumerate(brute_force(queries, vectors, k, exclude, allowed.tolist())):
        assert items[q, : len(wanted)].tolist() == [index for _, index in wanted]
        assert scores[q, : len(wanted)].tolist() == [score for score, _ in wanted]
        assert (items[q, len(wanted) :] == PADDING).all()
        assert (scores[q, len(wanted) :] == -np.inf).all()


@pytest.mark.parametrize("share", [0.001, 0.2, 0.3, 0.99])
def test_few_and_many_allowed_items_of_a_large_catalogue(share):
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(60_000, 8)).astype(np.float32)
    queries = rng.normal(size=(3, 1, 8)).astype(np.float32)
    allowed = (np.flatnonzero(rng.random(60_000) < share) + 1).astype(np.int32)
    scores, items = ExactRetriever(vectors).top_k(queries, 20, None, allowed)
    for q in range(3):
        all_scores = vectors[allowed - 1] @ queries[q, 0]
        wanted = allowed[np.argsort(-all_scores)[:20]]
        assert items[q].tolist() == wanted.tolist()
        np.testing.assert_allclose(scores[q], np.sort(all_scores)[::-1][:20], rtol=1e-5)
