"""Metrics against naive loops over their definitions, and the worked examples of docs/metrics.md."""

import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdm.evaluation.metrics import METRICS, CatalogueUse, per_question, popularity_percentiles, ranked_hits

DOCUMENT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


def naive(ranked: list, truth: set, k: int) -> dict[str, float]:
    """Every metric of one question, by its definition in words."""
    hits = [place + 1 for place, item in enumerate(ranked[:k]) if item in truth]
    precision, recall = len(hits) / k, len(hits) / len(truth)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(truth)) + 1))
    average = sum(sum(1 for hit in hits if hit <= rank) / rank for rank in hits) / min(k, len(truth))
    return {
        "hr": float(bool(hits)),
        "mrr": 1 / hits[0] if hits else 0.0,
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
        "ndcg": sum(1 / math.log2(rank + 1) for rank in hits) / ideal,
        "map": average,
    }


def judged(lists, truths, ks):
    """The metrics of several questions as the package computes them."""
    items = np.array(lists, np.int32)
    offsets = np.cumsum([0, *map(len, truths)])
    truth_items = np.array([item for truth in truths for item in sorted(truth)], np.int32)
    return per_question(ranked_hits(items, offsets, truth_items), np.diff(offsets), ks)


@st.composite
def answers(draw):
    """Ranked lists of up to 8 distinct items, padded with 0, and truth sets, over a catalogue of 12 items."""
    n, lists, truths = draw(st.integers(1, 6)), [], []
    for _ in range(n):
        length = draw(st.integers(0, 8))
        lists.append(draw(st.permutations(range(1, 13)))[:length] + [0] * (8 - length))
        truths.append(draw(st.sets(st.integers(1, 15), min_size=1, max_size=10)))
    return lists, truths


@given(answers())
@settings(max_examples=200, deadline=None)
def test_every_metric_equals_its_naive_loop(answer):
    lists, truths = answer
    found = judged(lists, truths, (1, 3, 8))
    assert set(found) == {f"{metric}@{k}" for metric in METRICS for k in (1, 3, 8)}
    for k in (1, 3, 8):
        for q, (ranked, truth) in enumerate(zip(lists, truths, strict=True)):
            for metric, value in naive([item for item in ranked if item], truth, k).items():
                assert found[f"{metric}@{k}"][q] == pytest.approx(value, abs=1e-12), (metric, k)


def test_a_perfect_list_scores_one_and_a_better_rank_scores_more():
    perfect = judged([[1, 2, 3]], [{1, 2, 3}], (3,))
    assert all(values[0] == pytest.approx(1.0) for values in perfect.values())
    better, worse = judged([[1, 9, 8]], [{1}], (3,)), judged([[9, 8, 1]], [{1}], (3,))
    for metric in ("mrr@3", "ndcg@3", "map@3"):
        assert better[metric][0] > worse[metric][0]


def test_no_answer_is_all_misses():
    found = judged([[0, 0]], [{1}], (2,))
    assert {name: values[0] for name, values in found.items()} == {f"{metric}@2": 0.0 for metric in METRICS}


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20))
def test_popularity_percentiles(clicks):
    found = popularity_percentiles(np.array([0, *clicks]))[1:]
    n = len(clicks)
    expected = [(sum(c < own for c in clicks) + sum(c == own for c in clicks) / 2) / n for own in clicks]
    np.testing.assert_allclose(found, expected)
    assert found.mean() == pytest.approx(0.5)


@given(answers())
@settings(max_examples=50, deadline=None)
def test_catalogue_use_over_batches(answer):
    lists, _ = answer
    percentiles = np.linspace(0, 1, 13)
    use = CatalogueUse(np.arange(13) > 0, percentiles, (2, 8))
    for row in lists:
        use.add(np.array([row]))
    for k in (2, 8):
        given_items = [item for row in lists for item in row[:k] if item]
        mean = sum(percentiles[item] for item in given_items) / len(given_items) if given_items else 0.0
        assert use.summary()[f"coverage@{k}"] == pytest.approx(len(set(given_items)) / 12)
        assert use.summary()[f"popularity_percentile@{k}"] == pytest.approx(mean)


def examples_in_document() -> dict[str, float]:
    """``{"hr@5": 1.0, …}`` from every `` `metric@K = expression` `` of the document."""
    found = {}
    for name, expression in re.findall(r"`([a-z0-9_]+@\d+) = ([^`]+)`", DOCUMENT):
        assert re.fullmatch(r"[\d\s+*/().log]+", expression), expression
        found[name] = float(eval(expression, {"__builtins__": {}}, {"log2": math.log2}))
    return found


def test_worked_examples_of_the_document():
    documented = examples_in_document()
    items = {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "x": 6}
    found = judged([[items[item] for item in "abcde"]], [{items[item] for item in "bdx"}], (2, 5))
    of_one_list = {name: value for name, value in documented.items() if name in found}
    assert set(of_one_list) == set(found), "every metric has its example"
    for name, value in of_one_list.items():
        assert found[name][0] == pytest.approx(value), name
    percentiles = popularity_percentiles(np.array([0, 9, 4, 4, 0]))
    stated = {item: float(Fraction(value)) for item, value in re.findall(r"`([a-d]) = (\d/\d)`", DOCUMENT)}
    assert stated == {item: percentiles[items[item]] for item in "abcd"}
    skipped, categories = {"d", "z"}, {"a": "news", "d": "news", "b": "sport", "c": "music", "e": "music", "z": "sport"}
    of_skipped = {categories[item] for item in skipped}
    for k in (2, 5):
        first = "abcde"[:k]
        assert documented[f"skipped@{k}"] == sum(item in skipped for item in first) / k
        assert documented[f"skipped_category@{k}"] == sum(categories[item] in of_skipped for item in first) / k
    use = CatalogueUse(np.array([False, True, True, True, True, False]), percentiles[[0, 1, 2, 3, 4, 4]], (2,))
    use.add(np.array([[1, 2], [1, 3]]))
    assert use.summary() == pytest.approx({name: documented[name] for name in ("coverage@2", "popularity_percentile@2")})
