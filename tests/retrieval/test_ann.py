"""The inverted file: what it answers is what the exact search answers, as far as it found it, whatever is excluded or allowed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdm.retrieval.ann import AnnRetriever, build_ivf, choose_nprobe, read_ivf, write_ivf
from xdm.retrieval.exact import ExactRetriever
from xdm.retrieval.tree import recall
from xdm.schema import PADDING, BundleError, InternalError


def clustered(n: int, d: int = 16, seed: int = 1) -> np.ndarray:
    """Vectors in clusters of some 50, of unequal lengths."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n // 50 + 1, d))
    vectors = centres[rng.integers(0, len(centres), n)] + rng.standard_normal((n, d)) / 4
    return (vectors * np.exp(rng.normal(0, 0.2, (n, 1)))).astype(np.float32)


@pytest.fixture(scope="module")
def vectors():
    return clustered(6000)


@pytest.fixture(scope="module")
def index(vectors):
    return build_ivf(vectors)


@pytest.fixture(scope="module")
def queries():
    return clustered(60, seed=2)[:, None]


def exact_answers(vectors, queries, k, exclude, allowed):
    """``[(score, index)]`` of each question by plain sorting, best first, the smaller index first among equals."""
    answers = []
    for q, interests in enumerate(queries):
        fitting = set(range(1, len(vectors) + 1)) if allowed is None else set(allowed.tolist())
        fitting -= set() if exclude is None else set(exclude[q].tolist())
        scored = [(max(float(interest @ vectors[i - 1]) for interest in interests), i) for i in fitting]
        answers.append(sorted(scored, key=lambda pair: (-pair[0], pair[1]))[:k])
    return answers


@settings(max_examples=80, deadline=None)
@given(data=st.data(), n=st.integers(1, 60), interests=st.integers(1, 3), k=st.integers(1, 70))
def test_over_all_lists_it_is_the_exact_search(data, n, interests, k):
    """Small whole numbers: half precision holds them, no sum is rounded, ties are frequent."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    vectors = rng.integers(-2, 3, (n, 3)).astype(np.float32)
    queries = rng.integers(-2, 3, (3, interests, 3)).astype(np.float32)
    exclude = None
    if data.draw(st.booleans()):
        exclude = [np.array(data.draw(st.lists(st.integers(1, n + 2), max_size=6)), np.int32) for _ in queries]
    allowed = None
    if data.draw(st.booleans()):
        allowed = np.array(sorted(data.draw(st.sets(st.integers(1, n)))), np.int32)
    index = build_ivf(vectors, lists=data.draw(st.integers(1, n)))
    retriever = AnnRetriever(vectors, index, index.nlist, data.draw(st.integers(1, 80)))
    scores, items = retriever.top_k(queries, k, exclude, allowed)
    assert scores.shape == items.shape == (3, k)
    assert (scores.dtype, items.dtype) == (np.float32, np.int32)
    for q, wanted in enumerate(exact_answers(vectors, queries, k, exclude, allowed)):
        # Which of several equal scores stand at the end is the index's choice; the scores themselves are not.
        assert scores[q].tolist() == [score for score, _ in wanted] + [-np.inf] * (k - len(wanted))
        above = [i for score, i in wanted if score > wanted[-1][0]]
        assert items[q, : len(above)].tolist() == above
        found = items[q, : len(wanted)].tolist()
        assert len(set(found)) == len(found)
        assert found == [] or min(found) >= 1
        assert items[q, len(wanted) :].tolist() == [PADDING] * (k - len(wanted))
        assert allowed is None or set(allowed.tolist()).issuperset(found)
        assert exclude is None or not set(exclude[q].tolist()) & set(found)


def test_the_first_probes_that_reach_the_floor_are_chosen(vectors, index, queries):
    retriever, tried = choose_nprobe(vectors, index, queries, 50, 0.95)
    assert list(tried) == [2**i for i in range(len(tried))]
    *below, reached = tried.values()
    assert all(one < 0.95 for one in below)
    assert reached >= 0.95
    assert (retriever.nprobe, retriever.k) == (list(tried)[-1], 50)
    wanted, found = (one.top_k(queries, 50) for one in (ExactRetriever(vectors), retriever))
    assert recall(found[1], wanted[1]) == reached
    for q in range(len(queries)):
        true_scores = vectors @ queries[q, 0]
        np.testing.assert_allclose(found[0][q], true_scores[found[1][q] - 1], rtol=1e-5)
        assert (np.diff(found[0][q]) <= 0).all()


def test_without_an_index_that_reaches_the_floor_the_figures_are_told(vectors, index, queries):
    retriever, tried = choose_nprobe(vectors, index, queries, 50, 1.0001)
    assert retriever is None
    assert max(tried) < index.nlist <= 2 * max(tried)
    assert tried[max(tried)] > 0.99 > tried[1]


def test_several_interests_are_answered_by_the_union_of_what_each_finds(vectors, index):
    many = clustered(90, seed=3).reshape(30, 3, 16)
    wanted = ExactRetriever(vectors).top_k(many, 40)[1]
    found = AnnRetriever(vectors, index, index.nlist // 4, 40).top_k(many, 40)
    assert recall(found[1], wanted) > 0.99
    best = np.stack([vectors[items - 1] @ interests.T for items, interests in zip(found[1], many, strict=True)]).max(-1)
    np.testing.assert_allclose(found[0], best, rtol=1e-5)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("kind", ["scattered", "of one side"])
def test_filters_and_exclusions_cost_no_recall(vectors, index, queries, share, kind):
    rng = np.random.default_rng(4)
    along = rng.random(len(vectors)) if kind == "scattered" else vectors @ rng.standard_normal(vectors.shape[1])
    allowed = (np.flatnonzero(along >= np.quantile(along, 1 - share)) + 1).astype(np.int32)
    exact = ExactRetriever(vectors)
    exclude = [row[:25] for row in exact.top_k(queries, 25, None, allowed)[1]]  # the best there are
    retriever, _ = choose_nprobe(vectors, index, queries, 50, 0.99)
    wanted = exact.top_k(queries, 50, exclude, allowed)[1]
    found = retriever.top_k(queries, 50, exclude, allowed)[1]
    assert recall(found, wanted) > 0.97
    assert np.isin(found, allowed).all()
    assert not any(np.isin(row, left_out).any() for row, left_out in zip(found, exclude, strict=True))


def test_longer_answers_look_into_more_lists(vectors, index, queries):
    retriever, _ = choose_nprobe(vectors, index, queries, 10, 0.99)
    wanted = ExactRetriever(vectors).top_k(queries, 200)[1]
    assert recall(retriever.top_k(queries, 200)[1], wanted) > 0.98


def test_an_answer_is_short_only_where_the_catalogue_is(vectors, index, queries):
    retriever = AnnRetriever(vectors, index, 1)
    allowed = np.arange(1, 151, dtype=np.int32)
    scores, items = retriever.top_k(queries, 140, [np.arange(1, 21, dtype=np.int32)] * len(queries), allowed)
    assert [sorted(row) for row in items.tolist()] == [[0] * 10 + list(range(21, 151))] * len(queries)
    assert (scores[:, 130:] == -np.inf).all()
    # One list holds far fewer than 100 items, and more than are left out of it.
    assert len(retriever.search_lists(queries[0], 100, 1)[1]) < 100
    assert (retriever.top_k(queries, 100)[1] != PADDING).all()
    n = len(vectors)
    every = retriever.top_k(queries[:2], n + 5, [np.array([3, 3, n + 1, 0]), np.array([], np.int64)])[1]
    assert [np.count_nonzero(row) for row in every] == [n - 1, n]


def test_where_the_best_are_excluded_more_lists_are_looked_into(vectors, index, queries):
    exact = ExactRetriever(vectors)
    retriever, _ = choose_nprobe(vectors, index, queries, 20, 0.99)
    exclude = list(exact.top_k(queries, 300)[1])
    wanted = exact.top_k(queries, 20, exclude)[1]
    as_measured = [retriever.search_lists(q[0:1], 20, retriever.nprobe, e)[1] for q, e in zip(queries, exclude, strict=True)]
    assert recall(as_measured, wanted) < 0.85
    assert recall(retriever.top_k(queries, 20, exclude)[1], wanted) > 0.98
    # Excluded items that are far from a question cost it nothing: the answer is that of the lists that were measured.
    far = list(exact.top_k(-queries, 300)[1])
    looked_into = [retriever.search_lists(q, 20, retriever.nprobe, e)[1] for q, e in zip(queries, far, strict=True)]
    assert np.array_equal(retriever.top_k(queries, 20, far)[1], looked_into)


def test_the_same_vectors_give_the_same_file(tmp_path, vectors, index):
    write_ivf(index, tmp_path / "a")
    write_ivf(build_ivf(vectors), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_mapped_into_memory_answers_as_the_index_does(tmp_path, vectors, index, queries):
    write_ivf(index, tmp_path / "index.faiss")
    mapped = AnnRetriever(vectors, read_ivf(tmp_path / "index.faiss"), 8)
    (tmp_path / "index.faiss").unlink()  # a bundle that is replaced under a service
    for one, other in zip(mapped.top_k(queries, 20), AnnRetriever(vectors, index, 8).top_k(queries, 20), strict=True):
        assert np.array_equal(one, other)


def test_several_threads_are_answered_at_once_as_one_is(vectors, index, queries):
    retriever = AnnRetriever(vectors, index, 8)
    exclude = [np.arange(1 + q, 400 + q, dtype=np.int32) for q in range(len(queries))]
    allowed = np.arange(1, 5000, dtype=np.int32)
    together = retriever.top_k(queries, 20, exclude, allowed)[1]
    begin = threading.Barrier(4)

    def ask(q: int) -> np.ndarray:
        if q < 4:
            begin.wait(10)
        return retriever.top_k(queries[q : q + 1], 20, exclude[q : q + 1], allowed)[1][0]

    with ThreadPoolExecutor(4) as pool:
        assert np.array_equal(np.stack(list(pool.map(ask, range(len(queries))))), together)


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "another kind"])
def test_what_is_no_index_is_refused(tmp_path, index, damage):
    path = tmp_path / "index.faiss"
    write_ivf(index, path)
    if damage == "another kind":
        faiss.write_index(faiss.IndexFlatIP(4), str(path))
    else:
        content = path.read_bytes()
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "text": b"no index at all"}[damage])
    with pytest.raises(BundleError, match="write it again with: xdm index"):
        read_ivf(path)


def test_vectors_of_another_index_and_probes_out_of_range_are_refused(vectors, index):
    with pytest.raises(InternalError, match="the index holds 6000 vectors of width 16, the bundle 10 of width 16"):
        AnnRetriever(vectors[:10], index, 1)
    for nprobe, k in ((0, 100), (index.nlist + 1, 100), (1, 0)):
        with pytest.raises(InternalError, match="nprobe must lie between 1 and"):
            AnnRetriever(vectors, index, nprobe, k)
    with pytest.raises(InternalError, match="k must be at least 1"):
        AnnRetriever(vectors, index, 1).top_k(np.zeros((1, 1, 16), np.float32), 0)
