"""Leave-last-out: training sees nothing of the last two clicks of any user, validation nothing of the last one."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file

from tests.learning import SMALL, call
from xdm.bundle.reading import load_recommender
from xdm.evaluation.held_back import StoreBefore
from xdm.evaluation.running import evaluate
from xdm.evaluation.splits import LAST_CLICK, Split
from xdm.experiments import judging
from xdm.experiments.file import LeaveLastOutProtocol
from xdm.experiments.task import Task
from xdm.log.store import Store
from xdm.training.config import load_config
from xdm.training.parts import parts_of
from xdm.training.run import Run

SETTINGS = (*SMALL, "split.protocol=last-click", "training.monitor=hr@10", "behaviours.history_max=20", "training.epochs=1")
N_ITEMS, N_USERS = 30, 40


def log_of(last: int, before_last: int) -> pl.DataFrame:
    """Users with 4 to 12 clicks, one a minute, and a skip after each; the last two items shift by what is given."""
    rng, rows = np.random.default_rng(0), []
    for user in range(N_USERS):
        items = rng.integers(0, N_ITEMS, rng.integers(4, 13))
        items[-1] = (items[-1] + last) % N_ITEMS
        items[-2] = (items[-2] + before_last) % N_ITEMS
        for place, item in enumerate(items):
            rows.append((user, int(item), 1_600_000_000 + 60 * place, True))
            rows.append((user, int(rng.integers(0, N_ITEMS)), 1_600_000_030 + 60 * place, False))
    rows += [(N_USERS, item, 1_600_000_000 + 60 * item, True) for item in range(N_ITEMS)]  # every item is known
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "clicked"], orient="row")


def prepared(folder, **shifts) -> Store:
    folder.mkdir()
    log_of(**shifts).write_parquet(folder / "log.parquet")
    assert call("prepare", folder / "log.parquet", "--out", folder / "store") == 0
    return Store(folder / "store")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("leave-last-out")
    return {
        "as it is": prepared(folder / "a", last=0, before_last=0), "other last": prepared(folder / "b", last=1, before_last=0),
        "other two": prepared(folder / "c", last=1, before_last=3),
    }  # fmt: skip


@pytest.fixture(scope="module")
def trained(stores, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    for name, store in stores.items():
        Run(store, load_config("xdm", None, SETTINGS), folder / name).train()
    return folder


@pytest.mark.parametrize("nth_last", [1, 2])
def test_what_is_held_back_is_each_user_s_question_and_all_after_it(stores, nth_last):
    store = stores["as it is"]
    end = store.time_range[1] + 1
    short = StoreBefore(store.path, Split(LAST_CLICK, store.time_range[0], end, nth_last))
    for (_, events), (_, kept) in zip(store.parts(), short.parts(), strict=True):
        for user in range(events.n_users):
            whole, left = events.of_user(user), kept.of_user(user)
            asked = [t for t, clicked in zip(whole.time.tolist(), whole.clicked.tolist(), strict=True) if clicked][-nth_last]
            assert left.time.tolist() == [t for t in whole.time.tolist() if t < asked]
            assert left.item.tolist() == whole.item.tolist()[: len(left)]


def test_the_held_back_clicks_change_no_weight(trained):
    weights = {name.name: load_file(name / "weights.safetensors") for name in trained.iterdir() if name.suffix != ".run"}
    first = weights.pop("as it is")
    assert len(weights) == 2
    for other in weights.values():
        assert all(np.array_equal(first[name], other[name]) for name in first)


def test_validation_asks_for_the_last_but_one_and_knows_nothing_of_the_last(trained):
    held = {name: json.loads((trained / name / "metrics.json").read_text())["validation"] for name in
            ("as it is", "other last", "other two")}  # fmt: skip
    assert held["as it is"] == held["other last"]
    assert held["as it is"] != held["other two"]


def test_evaluate_asks_for_the_last_click_of_every_user(stores, trained, tmp_path):
    code = call("evaluate", trained / "as it is", stores["as it is"].path, "--k", 10, "--out", tmp_path / "found")
    assert code == 0
    metrics = json.loads((tmp_path / "found" / "metrics.json").read_text())
    assert metrics["split"]["protocol"] == "last-click"
    assert metrics["split"]["nth_last"] == 1
    assert metrics["questions"] == N_USERS + 1


def test_validation_can_leave_out_what_was_clicked_before(stores, tmp_path):
    """The figure that stops training is the one that `evaluate` gives of the same weights, seen items left out or not."""
    store, judged = stores["as it is"], {}
    for seen in (True, False):
        out = tmp_path / str(seen)
        Run(store, load_config("sdm", None, (*SETTINGS, f"training.exclude_seen={seen}")), out).train()
        validation = parts_of(store, load_config("sdm", None, SETTINGS).split).validation
        found = evaluate(load_recommender(out), store, validation, ks=(10,), baselines=(), exclude_seen=seen)
        judged[seen] = json.loads((out / "metrics.json").read_text())["validation"][0]["mrr@10"]
        assert judged[seen] == pytest.approx(found["mrr@10"], abs=1e-6)
    assert judged[True] != judged[False]


def test_an_experiment_chooses_without_the_last_click_and_judges_by_it(stores, tmp_path):
    def values(name, kind):
        fields = {
            "kind": kind, "out": tmp_path / "out", "log": "log", "variant": "v", "model": "sdm", "trained": True, "seed": 1,
            "words": (*SMALL, "training.monitor=hr@10", "training.epochs=1"), "store": stores[name].path, "world": None,
            "protocol": LeaveLastOutProtocol(kind="leave-last-out"), "ks": (10,), "exclude_seen": False, "unclicked_k": 1,
            "keep": (),
        }  # fmt: skip
        folder = tmp_path / kind / name
        folder.mkdir(parents=True)
        found = (judging.trial if kind == "trial" else judging.run)(Task(**fields), folder)
        return found["value"] if kind == "trial" else json.loads((folder / "results" / "metrics.json").read_text())

    assert values("as it is", "trial") == values("other last", "trial")
    asked = values("as it is", "run")
    assert asked["split"] == parts_of(stores["as it is"], load_config("sdm", None, SETTINGS).split).test.described()
    assert asked["questions"] == N_USERS + 1
    assert asked["mrr@10"] != values("other last", "run")["mrr@10"]
