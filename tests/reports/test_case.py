"""The case study shows what was, marks what the plain-Python behaviours say, and chooses without looking at the second list."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.behaviours import oracle
from tests.evaluation.stores import make_store
from tests.learning import call
from tests.reports.conftest import assert_pictures, read_csv
from xdm.bundle.reading import load_recommender, read_manifest
from xdm.evaluation.splits import TIME, Split
from xdm.reports.case import LEAST_UNCLICKED, SIGNS, Case, CaseStudy
from xdm.reports.case_report import _text
from xdm.reports.points import View
from xdm.reports.style import drawing
from xdm.schema import UsageError

K = 10


@pytest.fixture(scope="module")
def split(trained) -> Split:
    own = read_manifest(trained)["split"]
    return Split(TIME, own["test_from"], own["until"])


@pytest.fixture(scope="module")
def models(plain, trained):
    return {"sdm": load_recommender(plain, threads=1), "xdm": load_recommender(trained, threads=1)}


@pytest.fixture(scope="module")
def study(store, models, split) -> CaseStudy:
    return CaseStudy(store, models, split, K)


@pytest.fixture(scope="module")
def chosen(study) -> Case:
    return study.choose()


@pytest.fixture(scope="module")
def seen(logs, models, split):
    """What each user's behaviours at the cut-off are, in plain Python."""
    rules = models["xdm"].rules
    features = {"item_id": lambda item: item}
    return {user: oracle.behaviours(log, split.cut_off, rules, features) for user, log in logs.items()}


@pytest.fixture(scope="module")
def list_of(store, models, split):
    """One user's list by a model, asked for alone."""

    def ask(name: str, user_id: Any, exclude: set | None = None) -> list[Any]:
        user, recommender = store.users.vocabulary.index(user_id), models[name]
        part = int(np.searchsorted(store.first_users, user - 1, side="right")) - 1
        row = np.array([user - 1 - int(store.first_users[part])])
        points = View(recommender, store).points(
            int(store.first_users[part]), store.part(part), row, np.array([split.cut_off])
        )
        left_out = None if exclude is None else [recommender.catalogue.indices(sorted(exclude))]
        return recommender.catalogue.external_list(recommender.top_k(points, K, left_out).items[0])

    return ask


def test_the_rule_is_the_one_that_is_stated(store, split, logs, seen, list_of, category, chosen):
    eligible = [
        user
        for user in store.users.vocabulary.ids.to_pylist()
        if any(clicked and split.cut_off <= time < split.until for _, time, clicked, _ in logs[user])
        and seen[user]["short"]
        and len(seen[user]["unclicked"]) >= LEAST_UNCLICKED
    ]
    assert len(eligible) >= 10

    def count(name, user):
        skipped = {category(item) for item in seen[user]["unclicked"]}
        return sum(category(item) in skipped for item in list_of(name, user))

    counts = {name: [count(name, user) for user in eligible] for name in ("sdm", "xdm")}
    keys = [(n, len(seen[user]["unclicked"])) for n, user in zip(counts["sdm"], eligible, strict=True)]
    best = eligible[keys.index(max(keys))]
    assert chosen.user_id == best
    assert chosen.counts == {name: count(name, best) for name in ("sdm", "xdm")}
    assert chosen.average is not None
    assert chosen.average.users == len(eligible)
    assert chosen.average.counts == pytest.approx({name: np.mean(values) for name, values in counts.items()})
    assert f"{len(eligible):,} users" in chosen.why


def test_another_second_model_does_not_change_who_is_chosen(store, models, split, chosen):
    again = CaseStudy(store, {"sdm": models["sdm"], "other": models["sdm"]}, split, K).choose()
    assert again.user_id == chosen.user_id
    assert again.counts["sdm"] == again.counts["other"] == chosen.counts["sdm"]


def test_every_column_and_every_mark_is_what_happened(store, study, split, logs, seen, list_of, category):
    marks, hits = set(), 0
    for user in store.users.vocabulary.ids.to_pylist()[:60]:
        case, was = study.of_user(user), seen[user]
        clicked = list(dict.fromkeys([*reversed(was["short"]), *was["long"]["item_id"]]))
        truth = list(dict.fromkeys(item for item, time, on, _ in logs[user] if on and split.cut_off <= time < split.until))
        assert [one.item_id for one in case.clicked] == clicked
        assert [one.item_id for one in case.unclicked] == was["unclicked"][::-1]
        assert [one.item_id for one in case.truth] == truth
        for name, items in case.lists.items():
            assert [one.item_id for one in items] == list_of(name, user)
        of_clicked, of_unclicked = {category(item) for item in clicked}, {category(item) for item in was["unclicked"]}
        for one in [*case.clicked, *case.unclicked, *case.truth, *case.lists["sdm"], *case.lists["xdm"]]:
            words = [word for word, held in (("unclicked", of_unclicked), ("clicked", of_clicked)) if category(one.item_id) in held]
            assert one.category == category(one.item_id)
            assert one.mark == ("both" if len(words) == 2 else "".join(words))
            assert one.hit == (one.item_id in truth)
            marks.add(one.mark)
        hits += sum(one.hit for one in case.lists["xdm"])
    assert marks == set(SIGNS)  # every kind occurred
    assert hits > 0


def test_what_was_clicked_is_left_out_where_that_is_asked(store, models, split, logs, list_of):
    def clicked_by(user):
        return {item for item, time, on, _ in logs[user] if on and time < split.cut_off}

    # someone who is recommended again what was clicked, unless that is left out
    user = next(user for user in logs if clicked_by(user) & {*list_of("sdm", user), *list_of("xdm", user)})
    case = CaseStudy(store, models, split, K, exclude_seen=True).of_user(user)
    for name, items in case.lists.items():
        assert not clicked_by(user) & {one.item_id for one in items}
        assert [one.item_id for one in items] == list_of(name, user, clicked_by(user))


def test_a_store_without_item_features_is_refused(models, tmp_path):
    bare = make_store(tmp_path / "bare", [("u", "a", 10, True), ("u", "b", 20, True)])
    with pytest.raises(UsageError, match="no item feature"):
        CaseStudy(bare, models, Split(TIME, 15, 30), K)


def test_nobody_to_choose_is_said(store, models):
    first = store.time_range[0]
    with pytest.raises(UsageError, match=r"nobody .* has 5 unclicked items.*--user"):
        CaseStudy(store, models, Split(TIME, first, first + 3600), K).choose()


@pytest.mark.parametrize("text", ["nyheder", "underholdning", "a category with a name of many words", "W" * 60, ""])
def test_text_stays_within_its_width_and_is_cut_no_more_than_needed(text):
    figure = drawing().figure(figsize=(10, 2))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 10)  # inches
    taken = _text(axes, 1, 0.5, text, 1.0)
    shown = axes.texts[0].get_text()
    assert taken <= 1.0
    if shown != text:
        assert shown.endswith("…")
        assert text.startswith(shown[:-1])
        longer = text[: len(shown) + 1].rstrip() + "…"  # at least one letter more, whatever spaces were cut
        assert _text(axes, 1, 0.5, longer, 10) > 1.0
    else:
        assert _text(axes, 1, 0.5, text, 10) == taken
    drawing().close(figure)


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_files_hold_the_case(store, plain, trained, chosen, tmp_path, capfd):
    out = tmp_path / "case"
    assert call("report", "case", plain, trained, store.path, "--title", "A simulated log", "--out", out) == 0
    text = (out / "case.md").read_text()
    assert capfd.readouterr().out.startswith(text)
    rows = read_csv(out / "case.csv")
    columns = {"clicked": chosen.clicked, "unclicked": chosen.unclicked, **chosen.lists, "clicked later": chosen.truth}
    expected = [
        (title, str(rank), one.item_id, one.category, one.mark, str(int(one.hit)))
        for title, items in columns.items()
        for rank, one in enumerate(items, start=1)
    ]
    assert [tuple(row.values()) for row in rows] == expected
    assert chosen.why[1:] in text
    assert text.startswith(f"# A simulated log: user {chosen.user_id} at ")
    for place, one in enumerate(chosen.lists["xdm"], start=1):
        line = next(line for line in text.splitlines() if line.startswith(f"| {place} |"))
        assert f"{SIGNS[one.mark]} {one.category} ({one.item_id}) {'✓' if one.hit else ''}".strip() in line
    facts = json.loads((out / "report.json").read_text())
    assert facts["of_unclicked_categories"] == chosen.counts
    assert facts["average"]["users"] == chosen.average.users
    assert_pictures(out, "case")


def test_a_user_and_a_time_can_be_named(store, plain, trained, split, tmp_path, capfd):
    user, at = store.users.vocabulary.ids[3].as_py(), split.cut_off + 3600
    words = ("report", "case", plain, trained, store.path, "--out", tmp_path / "case")
    assert call(*words, "--user", user, "--at", at, "--k", 3, "--json") == 0
    facts = json.loads(capfd.readouterr().out)
    assert (facts["user_id"], facts["at"], facts["average"]) == (user, at, None)
    assert sum(row["list"] == "xdm" for row in read_csv(tmp_path / "case" / "case.csv")) == 3
    assert call(*words) == 2
    assert "--overwrite" in capfd.readouterr().err
    assert call(*words, "--overwrite", "--user", "nobody") == 2
    assert "no user 'nobody'" in capfd.readouterr().err
    assert call(*words, "--overwrite", "--at", store.time_range[0] + 60) == 2
    assert "was trained on clicks up to" in capfd.readouterr().err
    assert json.loads((tmp_path / "case" / "report.json").read_text())["user_id"] == user
