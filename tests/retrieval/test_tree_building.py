"""The tree over the items: its shape for any number of them, its first order, its learning by balanced 2-means."""


import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdm.retrieval import tree_building
from xdm.retrieval.tree_building import (
    depth_of,
    first_leaves,
    halved,
    largest,
    learned_leaves,
    node_means,
)
from xdm.schema import InternalError


def leaves_below(leaves):
    """By node number, the items (numbers from 0) below it, found by walking up from every leaf."""
    below = {}
    for item, leaf in enumerate(leaves.tolist()):
        node = leaf
        while node:
            below.setdefault(node, []).append(item)
            node //= 2
    return below


def assert_is_balanced_tree(leaves):
    depth = 0
    while 2**depth < len(leaves):
        depth += 1
    assert depth_of(len(leaves)) == depth
    assert len(set(leaves.tolist())) == len(leaves)
    assert all(2**depth <= leaf < 2 ** (depth + 1) for leaf in leaves.tolist())
    below = leaves_below(leaves)
    for node in range(1, 2**depth):
        left, right = (len(below.get(child, [])) for child in (2 * node, 2 * node + 1))
        assert left + right == len(below[node])
        assert left - right in (0, 1)


SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 1000]


@pytest.mark.parametrize("n", SIZES)
def test_every_tree_is_balanced_and_holds_every_item_once(n):
    rng = np.random.default_rng(n)
    assert_is_balanced_tree(halved(rng.permutation(n)))
    assert_is_balanced_tree(first_leaves(None, n, rng))
    assert_is_balanced_tree(first_leaves(rng.integers(0, 4, n), n, rng))
    assert_is_balanced_tree(learned_leaves(rng.standard_normal((n, 3)).astype(np.float32), rng))
    assert_is_balanced_tree(learned_leaves(np.ones((n, 2), np.float32), rng))  # nothing to tell them apart by
    assert_is_balanced_tree(learned_leaves(rng.integers(0, 2, (n, 1)).astype(np.float32), rng))


def test_a_tree_of_no_items():
    assert len(halved(np.arange(0))) == 0
    assert len(learned_leaves(np.zeros((0, 4), np.float32), np.random.default_rng(0))) == 0
    assert depth_of(0) == 0


def test_neighbours_in_the_list_are_neighbours_in_the_tree():
    order = np.random.default_rng(3).permutation(37)
    leaves = halved(order)
    assert [int(item) for item in np.argsort(leaves)] == order.tolist()


def test_the_first_tree_keeps_categories_together_in_an_order_of_the_seed():
    categories = np.random.default_rng(0).integers(0, 5, 200)

    def runs(seed):
        leaves = first_leaves(categories, 200, np.random.default_rng(seed))
        in_order = categories[np.argsort(leaves)].tolist()
        found = [in_order[0]]
        for category in in_order:
            if category != found[-1]:
                found.append(category)
        return found, leaves.tolist()

    assert sorted(runs(1)[0]) == [0, 1, 2, 3, 4]  # each in one piece
    assert runs(1) == runs(1)
    assert runs(1)[0] != runs(2)[0]
    same = np.zeros(200, np.int64)
    one, other = (first_leaves(same, 200, np.random.default_rng(seed)).tolist() for seed in (1, 2))
    assert one != other  # nor is the order within a category always the same


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=40), st.integers(0, 45))
@settings(max_examples=200, deadline=None)
def test_largest_are_those_of_a_stable_sort(values, count):
    kept = largest(np.array(values, np.float64), count)
    best = sorted(range(len(values)), key=lambda i: (-values[i], i))[:count]
    assert np.flatnonzero(kept).tolist() == sorted(best)


@pytest.mark.parametrize("n", [2, 3, 10, 65, 200])
def test_on_a_line_every_node_holds_a_stretch_of_it(n):
    """In one dimension the best halves of any two centres are the smaller and the larger half."""
    places = np.random.default_rng(n).permutation(n)
    leaves = learned_leaves(places[:, None].astype(np.float32), np.random.default_rng(1))
    for items in leaves_below(leaves).values():
        held = sorted(places[items].tolist())
        assert held == list(range(held[0], held[0] + len(held)))


def test_groups_that_lie_apart_are_parted_level_by_level():
    """Four groups of 16 around the corners of a long rectangle: first the far sides, then the near ones."""
    rng = np.random.default_rng(2)
    corners = np.array([[-50, -5], [-50, 5], [50, -5], [50, 5]])
    group = rng.permutation(np.repeat(np.arange(4), 16))
    vectors = (corners[group] + rng.standard_normal((64, 2)) * 0.5).astype(np.float32)
    below = leaves_below(learned_leaves(vectors, rng))
    assert {frozenset(group[below[node]].tolist()) for node in (2, 3)} == {frozenset({0, 1}), frozenset({2, 3})}
    assert {frozenset(group[below[node]].tolist()) for node in (4, 5, 6, 7)} == {frozenset({g}) for g in range(4)}


def naive_halves(vectors, members, draw):
    """Balanced 2-means of one node in plain Python; ``members`` rising. Also the summed squared distance of every round."""

    def squared(a, b):
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))

    def mean(items):
        return [sum(vectors[i][j] for i in items) / len(items) for j in range(len(vectors[0]))]

    first = vectors[members[int(draw * len(members))]]
    second = max((vectors[i] for i in members), key=lambda v: squared(v, first))
    centres, left, costs = (first, second), None, []
    for _ in range(20):
        gain = {i: squared(vectors[i], centres[1]) - squared(vectors[i], centres[0]) for i in members}
        chosen = sorted(sorted(members, key=lambda i: (-gain[i], i))[: (len(members) + 1) // 2])
        if chosen == left:
            break
        left = chosen
        right = [i for i in members if i not in left]
        centres = (mean(left), mean(right))
        costs.append(
            sum(squared(vectors[i], centres[0]) for i in left) + sum(squared(vectors[i], centres[1]) for i in right)
        )
    return left, right, costs


@pytest.mark.parametrize("seed", range(8))
def test_one_node_equals_a_naive_balanced_2_means(seed):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((int(rng.integers(2, 40)), 3)).astype(np.float32)
    members, draw = (
        np.sort(rng.choice(len(vectors), rng.integers(2, len(vectors) + 1), replace=False)),
        float(rng.random()),
    )
    left, right, costs = naive_halves(vectors.astype(float).tolist(), members.tolist(), draw)
    tree_building._part(vectors, members, draw)
    assert members.tolist() == left + right
    assert costs == sorted(costs, reverse=True)


def test_learning_is_decided_by_the_seed():
    vectors = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32)
    one, same, other = (learned_leaves(vectors, np.random.default_rng(seed)).tolist() for seed in (1, 1, 2))
    assert one == same
    assert one != other


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nothing_is_learned_from_what_is_not_finite(bad):
    with pytest.raises(InternalError, match="an item vector holds NaN or infinity"):
        learned_leaves(np.array([[0.0], [bad]], np.float32), np.random.default_rng(0))


@pytest.mark.parametrize("n", SIZES)
def test_means_of_nodes(n):
    rng = np.random.default_rng(n)
    leaves, vectors = first_leaves(None, n, rng), rng.standard_normal((n, 3)).astype(np.float32)
    below = leaves_below(leaves)
    means = node_means(leaves, vectors)
    assert means.shape == (2 ** depth_of(n), 3)
    assert not means[0].any()
    for node in range(1, len(means)):
        np.testing.assert_allclose(means[node], vectors[below[node]].mean(axis=0), atol=1e-5)
