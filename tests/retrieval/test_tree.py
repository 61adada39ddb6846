"""`TreeRetriever` against a beam search and a brute force in plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdm.retrieval.exact import ExactRetriever
from xdm.retrieval.scoring import FullScoring
from xdm.retrieval.tree import ItemTree, TreeRetriever, recall
from xdm.retrieval.tree_building import depth_of, first_leaves, learned_leaves, node_means
from xdm.schema import InternalError


def inner(query, vector):
    return max(float(sum(a * b for a, b in zip(interest, vector, strict=True))) for interest in query)


def curved(query, vector):
    """A score that is no inner product."""
    return float(sum(abs(a - b) for interest in query for a, b in zip(interest, vector, strict=True)))


def curved_scorer(queries, vectors):
    return np.abs(queries[:, None, :, :] - vectors[None, :, None, :]).sum(axis=(2, 3)).astype(np.float32)


def beam_search(items, nodes, leaves, query, k, beam, exclude, score):
    """``[(score, index), …]`` by a walk over node numbers, level by level."""
    taboo = set(exclude)
    width = max(beam, k + len(taboo))
    depth = depth_of(len(items))
    item_of = {leaf: index + 1 for index, leaf in enumerate(leaves)}
    kept = [1]
    for level in range(depth):
        if level:
            kept = sorted(kept, key=lambda node: (-score(query, nodes[node]), node))[:width]
        kept = [child for node in kept for child in (2 * node, 2 * node + 1)]
    found = [item_of[leaf] for leaf in kept if leaf in item_of and item_of[leaf] not in taboo]
    best = sorted((-score(query, items[index - 1]), index) for index in found)[:k]
    return [(-s, index) for s, index in best] + [(-np.inf, 0)] * (k - len(best))


@st.composite
def searches(draw):
    """Small whole numbers, so that sums are exact in float32 and ties are frequent."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_items, n_questions = draw(st.integers(1, 150)), draw(st.integers(0, 5))
    n_interests, d = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    items = rng.integers(-3, 4, (n_items, d)).astype(np.float32)
    nodes = rng.integers(-3, 4, (2 ** depth_of(n_items), d)).astype(np.float32)
    queries = rng.integers(-3, 4, (n_questions, n_interests, d)).astype(np.float32)
    exclude = None
    if draw(st.booleans()):  # unsorted, with repeats, and with indices that no item has
        exclude = [rng.integers(0, n_items + 3, rng.integers(0, n_items + 2)).astype(np.int32) for _ in queries]
    leaves = first_leaves(None, n_items, rng)
    return items, nodes, leaves, queries, draw(st.integers(1, 30)), draw(st.integers(1, 40)), exclude


def pairs_of(scores, indices):
    return [list(zip(s, i, strict=True)) for s, i in zip(scores.tolist(), indices.tolist(), strict=True)]


@given(searches(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_equals_a_naive_beam_search(search, pairs):
    items, nodes, leaves, queries, k, beam, exclude = search
    retriever = TreeRetriever(items, ItemTree(nodes, leaves, beam), curved_scorer if pairs else None)
    scores, indices = retriever.top_k(queries, k, exclude)
    assert (scores.dtype, indices.dtype) == (np.float32, np.int32)
    assert scores.shape == indices.shape == (len(queries), k)
    left_out = [[]] * len(queries) if exclude is None else [e.tolist() for e in exclude]
    expected = [
        beam_search(items.tolist(), nodes.tolist(), leaves.tolist(), query, k, beam, taboo, curved if pairs else inner)
        for query, taboo in zip(queries.tolist(), left_out, strict=True)
    ]
    assert pairs_of(scores, indices) == expected


@given(searches())
@settings(max_examples=100, deadline=None)
def test_a_beam_as_wide_as_the_catalogue_is_the_exact_search(search):
    items, nodes, leaves, queries, k, _, exclude = search
    tree = ItemTree(nodes, leaves, len(items))
    wide = TreeRetriever(items, tree).top_k(queries, k, exclude)
    assert pairs_of(*wide) == pairs_of(*ExactRetriever(items).top_k(queries, k, exclude))
    wide = TreeRetriever(items, tree, curved_scorer).top_k(queries, k, exclude)
    assert pairs_of(*wide) == pairs_of(*FullScoring(curved_scorer, items).top_k(queries, k, exclude))


@given(searches())
@settings(max_examples=60, deadline=None)
def test_an_answer_is_short_only_where_the_catalogue_is(search):
    items, nodes, leaves, queries, k, _, exclude = search
    _, indices = TreeRetriever(items, ItemTree(nodes, leaves, 1)).top_k(queries, k, exclude)
    for q, found in enumerate(indices.tolist()):
        taboo = set() if exclude is None else set(exclude[q].tolist())
        real = [item for item in found if item]
        assert len(real) == len(set(real)) == min(k, sum(i not in taboo for i in range(1, len(items) + 1)))
        assert found == real + [0] * (k - len(real))
        assert not taboo & set(real)


def test_one_question_like_many_and_the_same_bits_again():
    rng = np.random.default_rng(6)
    items = rng.standard_normal((700, 8)).astype(np.float32)
    leaves = learned_leaves(items, rng)
    retriever = TreeRetriever(items, ItemTree(node_means(leaves, items), leaves, 20))
    queries = rng.standard_normal((9, 2, 8)).astype(np.float32)
    exclude = [rng.integers(1, 701, n).astype(np.int32) for n in range(9)]
    scores, indices = retriever.top_k(queries, 10, exclude)
    for q in range(9):
        alone = retriever.top_k(queries[q : q + 1], 10, exclude[q : q + 1])
        assert alone[0].tobytes() == scores[q : q + 1].tobytes()
        assert alone[1].tobytes() == indices[q : q + 1].tobytes()


def test_a_learned_tree_finds_more_than_a_random_one_and_a_wider_beam_more_than_a_narrow_one():
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((64, 16)) * 2
    items = (centres[rng.integers(0, 64, 4000)] + rng.standard_normal((4000, 16)) * 0.3).astype(np.float32)
    queries = (centres[rng.integers(0, 64, (50, 1))] + rng.standard_normal((50, 1, 16)) * 0.3).astype(np.float32)
    wanted = ExactRetriever(items).top_k(queries, 20)[1]

    def found(leaves, beam):
        tree = ItemTree(node_means(leaves, items), leaves, beam)
        return recall(TreeRetriever(items, tree).top_k(queries, 20)[1], wanted)

    learned, random = learned_leaves(items, rng), first_leaves(None, 4000, rng)
    assert found(learned, 100) > 0.95
    assert found(learned, 100) > found(random, 100) + 0.3
    assert found(learned, 20) <= found(learned, 100) <= found(learned, 2048) == 1


def test_recall_counts_what_was_wanted():
    wanted = np.array([[1, 2, 3], [4, 5, 0]], np.int32)
    assert recall(np.array([[3, 1, 9], [0, 0, 0]], np.int32), wanted) == pytest.approx(2 / 5)
    assert recall(wanted, wanted) == 1
    assert recall(np.zeros((1, 2), np.int32), np.zeros((1, 2), np.int32)) == 0


def a_tree():
    return np.ones((5, 2), np.float32), np.ones((8, 2), np.float32), np.arange(8, 13)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refuses_what_is_not_finite(bad):
    items, nodes, leaves = a_tree()
    nodes[3, 1] = bad
    with pytest.raises(InternalError, match="holds NaN or infinity"):
        TreeRetriever(items, ItemTree(nodes, leaves, 2))
    queries = np.array([[[0.0, bad]]], np.float32)
    retriever = TreeRetriever(items, ItemTree(np.ones_like(nodes), leaves, 2))
    with pytest.raises(InternalError, match=r"question 0 \(from 0\) holds NaN or infinity"):
        retriever.top_k(queries, 1)


def test_refuses_a_score_that_is_no_number():
    items, nodes, leaves = a_tree()
    retriever = TreeRetriever(items, ItemTree(nodes, leaves, 2), lambda queries, some: np.full((1, len(some)), np.nan))
    with pytest.raises(InternalError, match="the score of a query and a node or item of the tree is NaN"):
        retriever.top_k(np.ones((1, 1, 2), np.float32), 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": np.ones((4, 2), np.float32)}, r"5 items of width 2 need node vectors \[8, 2\], not \[4, 2\]"),
        ({"nodes": np.ones((8, 3), np.float32)}, r"need node vectors \[8, 2\], not \[8, 3\]"),
        ({"leaves": np.arange(8, 12)}, "leaves must be 5 nodes of level 3"),
        ({"leaves": np.arange(7, 12)}, "leaves must be 5 nodes of level 3"),
        ({"leaves": np.arange(12, 17)}, "leaves must be 5 nodes of level 3"),
        ({"leaves": np.array([8, 9, 10, 11, 8])}, "two items share a leaf"),
        ({"beam": 0}, "beam must be at least 1, not 0"),
    ],
)
def test_refuses_what_is_no_tree_of_the_items(change, message):
    items, nodes, leaves = a_tree()
    tree = ItemTree(change.get("nodes", nodes), change.get("leaves", leaves), change.get("beam", 3))
    with pytest.raises(InternalError, match=message):
        TreeRetriever(items, tree)
