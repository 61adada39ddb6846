"""`ExactRetriever` against a brute force that sorts every score in plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdm.retrieval import exact
from xdm.retrieval.exact import ExactRetriever
from xdm.schema import InternalError


def brute_force(items, queries, k, exclude):
    """``[(score, index), …]`` of each question, by sorting everything."""
    answers = []
    for q in range(len(queries)):
        scored = [
            (-max(float(sum(a * b for a, b in zip(interest, vector, strict=True))) for interest in queries[q]), i + 1)
            for i, vector in enumerate(items)
            if exclude is None or i + 1 not in exclude[q].tolist()
        ]
        best = [(-score, index) for score, index in sorted(scored)[:k]]
        answers.append(best + [(-np.inf, 0)] * (k - len(best)))
    return answers


@st.composite
def searches(draw):
    """Small whole numbers, so that sums are exact in float32 and ties are frequent."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_items, n_questions = draw(st.integers(0, 300)), draw(st.integers(0, 7))
    n_interests, d = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    items = rng.integers(-3, 4, (n_items, d)).astype(np.float32)
    queries = rng.integers(-3, 4, (n_questions, n_interests, d)).astype(np.float32)
    exclude = None
    if draw(st.booleans()):  # unsorted, with repeats, and with indices that no item has
        exclude = [rng.integers(0, n_items + 3, rng.integers(0, 2 * n_items + 2)).astype(np.int32) for _ in queries]
    return items, queries, draw(st.integers(1, 40)), exclude


@given(searches(), st.sampled_from([(16_384, 4_194_304), (64, 128), (7, 10), (1, 1)]))
@settings(max_examples=150, deadline=None)
def test_equals_brute_force_whatever_the_blocks(search, blocks):
    items, queries, k, exclude = search
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "ITEM_BLOCK", blocks[0])
        patch.setattr(exact, "SCORE_BLOCK", blocks[1])
        scores, indices = ExactRetriever(items).top_k(queries, k, exclude)
    assert scores.dtype == np.float32
    assert indices.dtype == np.int32
    assert scores.shape == indices.shape == (len(queries), k)
    expected = brute_force(items.tolist(), queries.tolist(), k, exclude)
    got = [list(zip(s, i, strict=True)) for s, i in zip(scores.tolist(), indices.tolist(), strict=True)]
    assert got == expected


def test_memory_map_and_one_question_like_many(tmp_path):
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((40_000, 16), np.float32)
    np.save(tmp_path / "items.npy", vectors)
    mapped = ExactRetriever(np.load(tmp_path / "items.npy", mmap_mode="r"))
    queries = rng.standard_normal((50, 2, 16), np.float32)
    scores, indices = mapped.top_k(queries, 30)
    full = np.einsum("qkd,nd->qkn", queries.astype(np.float64), vectors.astype(np.float64)).max(axis=1)
    expected = np.argsort(-full, axis=1, kind="stable")[:, :30]
    np.testing.assert_array_equal(indices, expected + 1)
    np.testing.assert_allclose(scores, np.take_along_axis(full, expected, axis=1), rtol=1e-4)
    for q in range(0, 50, 10):
        np.testing.assert_array_equal(mapped.top_k(queries[q : q + 1], 30)[1][0], indices[q])


def test_same_call_gives_same_bits():
    rng = np.random.default_rng(6)
    retriever = ExactRetriever(rng.standard_normal((5000, 8), np.float32))
    queries = rng.standard_normal((9, 1, 8), np.float32)
    first, second = retriever.top_k(queries, 20), retriever.top_k(queries, 20)
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refuses_what_is_not_finite(bad):
    vectors = np.ones((4, 2), np.float32)
    queries = np.ones((3, 1, 2), np.float32)
    queries[2, 0, 1] = bad
    with pytest.raises(InternalError, match=r"question 2 \(from 0\) holds NaN or infinity"):
        ExactRetriever(vectors).top_k(queries, 1)
    vectors[1, 0] = bad
    with pytest.raises(InternalError, match="item index 2 holds NaN or infinity"):
        ExactRetriever(vectors)


@pytest.mark.parametrize(
    ("queries", "k", "exclude", "message"),
    [
        (np.ones((3, 2), np.float32), 1, None, r"queries must be \[Q, K, 2\]"),
        (np.ones((3, 1, 5), np.float32), 1, None, r"\[Q, K, 2\] like the item vectors, not \[3, 1, 5\]"),
        (np.ones((3, 1, 2), np.float32), 0, None, "k must be at least 1, not 0"),
        (np.ones((3, 1, 2), np.float32), 1, [np.array([1])], "3 questions came with 1 lists"),
    ],
)
def test_refuses_what_does_not_fit(queries, k, exclude, message):
    with pytest.raises(InternalError, match=message):
        ExactRetriever(np.ones((4, 2), np.float32)).top_k(queries, k, exclude)


def test_refuses_vectors_of_another_type():
    with pytest.raises(InternalError, match="contiguous float32"):
        ExactRetriever(np.ones((4, 2)))
