"""Distances are those of the vectors, vectors are those of the model at clicks of the test part, and files hold both."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.behaviours import oracle
from tests.learning import call
from tests.reports.conftest import assert_pictures, read_csv
from xdm.bundle.model import load_model
from xdm.bundle.reading import read_manifest
from xdm.evaluation.splits import EACH_CLICK, Split
from xdm.reports.geometry import distances_of, embed, mean_distance, vectors_of
from xdm.reports.points import View, sample_points
from xdm.schema import UsageError


@pytest.fixture(scope="module")
def split(trained) -> Split:
    own = read_manifest(trained)["split"]
    return Split(EACH_CLICK, own["test_from"], own["until"])


@pytest.fixture(scope="module")
def models(trained, plain):
    return {"xdm": load_model(trained), "sdm": load_model(plain)}


@pytest.fixture(scope="module")
def sample(store, split, models):
    views = [View(one.recommender, store) for one in models.values()]
    return lambda size, seed=0: sample_points(store, split, views, size, seed)


# --- which points ---------------------------------------------------------------------------------------------------


def test_every_user_with_a_fitting_click_can_be_drawn_and_nobody_else(store, split, models, sample, logs):
    rules = models["xdm"].config.behaviours
    known = set(models["xdm"].recommender.catalogue.ids.to_pylist())
    candidates = set(models["xdm"].recommender.catalogue.ids.to_pylist()[: models["xdm"].recommender.n_candidates])
    fitting = {}
    for user, log in logs.items():
        log = [event for event in log if event[0] in known]
        for item, time, clicked, _ in log:
            if clicked and split.cut_off <= time < split.until and item in candidates:
                seen = oracle.behaviours(log, time, rules, {})
                fitting.setdefault(user, []).append(bool(seen["short"] and seen["unclicked"]))
    every = sample(10_000)
    drawn = every.user_ids(store)
    assert max(Counter(drawn).values()) == 1
    assert every.eligible == len(every) > 20
    assert {user for user, fits in fitting.items() if all(fits)} <= set(drawn) <= {u for u, fits in fitting.items() if any(fits)}
    for user, time, item in zip(drawn, every.time, store.items.vocabulary.external_list(every.label), strict=True):
        assert (item, time, True) in [event[:3] for event in logs[user]]
        assert split.cut_off <= time < split.until
        seen = oracle.behaviours([event for event in logs[user] if event[0] in known], time, rules, {})
        assert seen["short"]
        assert seen["unclicked"]


def test_a_sample_has_its_size_and_follows_its_seed(store, sample):
    assert len(sample(12)) == 12
    assert sample(12).user_ids(store) == sample(12).user_ids(store)
    assert sample(12).user_ids(store) != sample(12, seed=1).user_ids(store)


def test_a_split_without_points_is_refused(store, models):
    views = [View(models["xdm"].recommender, store)]
    first = store.time_range[0]
    with pytest.raises(UsageError, match="only 0 users"):
        sample_points(store, Split(EACH_CLICK, first, first + 1), views, 10, 0)


# --- vectors and distances ------------------------------------------------------------------------------------------


def test_queries_are_what_the_bundle_serves_and_labels_what_it_scores(store, models, sample):
    points = sample(30)
    for one in models.values():
        vectors, view = vectors_of(one, store, points), View(one.recommender, store)
        for p in range(len(points)):
            events = store.part(int(points.part[p]))
            asked = view.points(int(store.first_users[points.part[p]]), events, points.row[[p]], points.time[[p]])
            found = one.recommender.behaviours(asked)
            served = one.recommender.queries(found, np.array([0]), asked)[0, 0]
            np.testing.assert_allclose(vectors.query[p], served, atol=1e-5)
        item_vectors = one.model.item_vectors().detach().numpy()
        np.testing.assert_array_equal(vectors.label, item_vectors[view.of_store[points.label] - 1])


def test_without_an_unclicked_branch_the_query_is_h_and_with_one_it_is_not(store, models, sample):
    points = sample(30)
    sdm, xdm = vectors_of(models["sdm"], store, points), vectors_of(models["xdm"], store, points)
    np.testing.assert_array_equal(sdm.query, sdm.clicked)
    assert sdm.unclicked is None
    assert xdm.unclicked is not None
    assert (np.abs(xdm.query - xdm.clicked).max(axis=1) > 0).all()
    assert [row.pair for row in distances_of("sdm", sdm, "l2")] == ["D(h, c)"]


def by_hand(distance, a, b):
    if distance == "unit_squared":
        a, b = (np.array(v) / max(math.sqrt(sum(x * x for x in v)), 1e-8) for v in (a, b))
    square = sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True))
    return math.sqrt(square) if distance == "l2" else square


numbers = st.floats(-3, 3, width=32)
pairs = st.integers(2, 6).flatmap(lambda n: st.tuples(*[arrays(np.float32, (n, 3), elements=numbers)] * 2))


@settings(max_examples=60, deadline=None)
@given(pairs, st.sampled_from(["unit_squared", "squared", "l2"]))
def test_a_mean_distance_is_that_of_a_plain_loop(both, distance):
    a, b = both
    n = len(a)
    own = [by_hand(distance, a[i], b[i]) for i in range(n)]
    others = [by_hand(distance, a[i], b[j]) for i in range(n) for j in range(n) if i != j]
    found = mean_distance("m", "D(h, c)", a, b, distance)
    half = 1.96 * statistics.stdev(own) / math.sqrt(n)
    expected = (statistics.fmean(own), statistics.fmean(own) - half, statistics.fmean(own) + half, statistics.fmean(others))
    assert (found.mean, found.low, found.high, found.others) == pytest.approx(expected, abs=2e-5)
    assert found.points == n


def test_an_embedding_keeps_far_clouds_apart_and_is_the_same_twice():
    rng = np.random.default_rng(0)
    clouds = [centre + 0.05 * rng.normal(size=(20, 4)) for centre in np.eye(4)[:3]]
    first, again = embed(clouds, "unit_squared", seed=3), embed(clouds, "unit_squared", seed=3)
    centres = [places.mean(axis=0) for places in first]
    for own, (places, same) in enumerate(zip(first, again, strict=True)):
        np.testing.assert_array_equal(places, same)
        nearest = np.argmin([np.linalg.norm(places - centre, axis=1) for centre in centres], axis=0)
        assert (nearest == own).all()


def test_with_unit_vectors_lengths_do_not_move_the_embedding():
    rng = np.random.default_rng(1)
    cloud = rng.normal(size=(30, 4))
    longer = cloud * rng.uniform(0.5, 2, size=(30, 1))
    np.testing.assert_allclose(embed([cloud], "unit_squared", 0)[0], embed([longer], "unit_squared", 0)[0], atol=1e-3)
    assert not np.allclose(embed([cloud], "squared", 0)[0], embed([longer], "squared", 0)[0], atol=1e-1)


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_files_hold_the_distances_and_every_point(store, trained, plain, models, sample, split, tmp_path, capfd):
    out = tmp_path / "geometry"
    asked = ("--points", 25, "--seed", 4, "--title", "A simulated log")
    assert call("report", "geometry", trained, store.path, "--against", plain, *asked, "--out", out) == 0
    printed = capfd.readouterr().out
    points = sample(25, 4)
    expected = {
        (name, row.pair): row
        for name, one in models.items()
        for row in distances_of(name, vectors_of(one, store, points), models["xdm"].config.objective.distance)
    }
    rows = read_csv(out / "distances.csv")
    assert [(row["model"], row["pair"]) for row in rows] == list(expected)
    for row in rows:
        own = expected[row["model"], row["pair"]]
        assert [float(row[name]) for name in ("mean", "low", "high", "others")] == [own.mean, own.low, own.high, own.others]
        assert int(row["points"]) == 25
        assert f"{own.mean:.4f}" in printed
    labels = store.items.vocabulary.external_list(points.label)
    asked_about = list(zip(points.user_ids(store), map(str, points.time), labels, strict=True))
    for name, clouds in {"unclicked": [("xdm", "c"), ("xdm", "h"), ("xdm", "n")],
                         "queries": [("xdm", "c"), ("xdm", "ẑ"), ("sdm", "c"), ("sdm", "h")]}.items():  # fmt: skip
        rows = read_csv(out / f"{name}.csv")
        assert [(row["model"], row["what"]) for row in rows] == [cloud for cloud in clouds for _ in range(25)]
        for cloud in clouds:
            own = [row for row in rows if (row["model"], row["what"]) == cloud]
            assert [(row["user_id"], row["timestamp"], row["item_id"]) for row in own] == asked_about
            assert len({(row["x"], row["y"]) for row in own}) > 1
    assert_pictures(out, "unclicked", "queries")
    facts = json.loads((out / "report.json").read_text())
    assert (facts["points"], facts["seed"], facts["split"]["cut_off"]) == (25, 4, split.cut_off)


def test_what_cannot_be_drawn_is_said(store, trained, plain, tmp_path, capfd):
    assert call("report", "geometry", plain, store.path, "--out", tmp_path / "out") == 2
    assert "reads no unclicked sequence" in capfd.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    assert call("report", "geometry", trained, store.path, "--out", tmp_path / "mine", "--overwrite") == 2
    assert "is not replaced" in capfd.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    assert not (tmp_path / "out").exists()
