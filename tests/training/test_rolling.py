"""Rolling evaluation: no window knows what comes after its cut, and a warm start carries rows by item id."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.learning import SMALL, call, memory_store, sets
from xdm.console import Progress
from xdm.data.catalogue import build_catalogue
from xdm.evaluation.running import evaluate
from xdm.evaluation.splits import EACH_CLICK, Split
from xdm.log.store import Store
from xdm.models.retrieval_model import build_model
from xdm.schema import DAY, HOUR, UsageError
from xdm.training.config import load_config
from xdm.training.rolling import Windows, _train, carry_over, roll
from xdm.training.run import recommender_of

FAST = (*SMALL, "training.epochs=1")
START = 1_704_067_200  # the first day of the simulated log
WINDOWS = Windows(start=START + 4 * DAY, every=DAY, count=2, horizon=16 * HOUR)


@pytest.fixture(scope="module")
def rolled(simulated, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("rolled") / "sdm"
    roll(Store(simulated), load_config("sdm", None, FAST), WINDOWS, out, ks=(5, 20))
    return out


def truncated(store: Path, cut: int, out: Path) -> Store:
    """The store as it was at ``cut``: later events are gone, and what was counted of them is too."""
    shutil.copytree(store, out)
    opened = Store(store)
    for part in range(opened.n_parts):
        events = opened.part(part)
        kept = np.array(events.time) < cut
        before = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
        folder = out / "parts" / f"{part:05d}"
        for file in folder.glob("*.npy"):
            column = np.load(file)
            np.save(file, before[events.offsets] if file.stem == "offsets" else column[kept])
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps(manifest | {"last_timestamp": cut - 1}))
    return Store(out)


@pytest.mark.parametrize("name", ["sdm", "xdm"])
def test_a_model_trained_on_the_log_cut_off_is_the_very_model_of_the_window(simulated, tmp_path, name):
    cut, config = WINDOWS.start, load_config(name, None, FAST)
    found = []
    for store in (Store(simulated), truncated(simulated, cut, tmp_path / "past")):
        model, catalogue, _ = _train(store, config, WINDOWS, cut, None, Progress(quiet=True))
        figures = evaluate(
            recommender_of(model, catalogue, config), Store(simulated), Split(EACH_CLICK, cut, cut + WINDOWS.horizon),
            ks=(5, 20), baselines=(),
        )  # fmt: skip
        found.append((model.state_dict(), figures))
    (weights, figures), (past_weights, past_figures) = found
    assert all(torch.equal(past_weights[key], weight) for key, weight in weights.items())
    assert figures == past_figures
    assert figures["questions"] > 20


def test_each_window_is_judged_by_the_model_of_its_own_cut(simulated, rolled):
    config = load_config("sdm", None, FAST)
    for number, cut in enumerate(WINDOWS.cuts()):
        model, catalogue, _ = _train(Store(simulated), config, WINDOWS, cut, None, Progress(quiet=True))
        wanted = evaluate(recommender_of(model, catalogue, config), Store(simulated),
                          Split(EACH_CLICK, cut, cut + WINDOWS.horizon), ks=(5, 20), recent_window=4 * HOUR)  # fmt: skip
        assert json.loads((rolled / "windows" / f"{number:05d}" / "metrics.json").read_text()) == wanted


def test_the_whole_is_its_windows_together(simulated, rolled):
    whole = json.loads((rolled / "metrics.json").read_text())
    parts = [json.loads((rolled / "windows" / f"{n:05d}" / "metrics.json").read_text()) for n in range(2)]
    assert whole["questions"] == sum(part["questions"] for part in parts)
    assert whole["windows"] == len(whole["per_window"]) == 2
    assert whole["split"]["cuts"] == WINDOWS.cuts()
    for below in ("", "baselines/popularity/", "baselines/recent_popularity/"):
        records = pq.read_table(rolled / below / "per_user.parquet")
        figures = whole if not below else whole["baselines"][below.split("/")[1]]
        for metric in ("hr@20", "mrr@20", "recall@5", "ndcg@20"):
            assert figures[metric] == pytest.approx(np.mean(records[metric].to_pylist()), abs=1e-6)
        pieces = [pq.read_table(rolled / "windows" / f"{n:05d}" / below / "per_user.parquet").to_pylist() for n in range(2)]
        assert records.to_pylist() == pieces[0] + pieces[1]
    lists = pq.read_table(rolled / "recommendations.parquet")
    assert len(lists) == 20 * whole["questions"]
    users = pq.read_table(rolled / "per_user.parquet")["user_id"].to_pylist()
    assert whole["users"] == len(set(users))


def test_every_click_of_the_windows_is_a_question_once(simulated, rolled):
    store = Store(simulated)
    wanted = []
    for first_user, events in store.parts():
        user_of = np.repeat(np.arange(events.n_users), np.diff(events.offsets)) + first_user
        for cut in WINDOWS.cuts():
            inside = np.flatnonzero(events.clicked & (events.time >= cut) & (events.time < cut + WINDOWS.horizon))
            ids = store.users.vocabulary.external_list(user_of[inside] + 1)
            wanted += zip(ids, events.time[inside].tolist(), strict=True)
    records = pq.read_table(rolled / "per_user.parquet", columns=["user_id", "timestamp"]).to_pylist()
    assert sorted((row["user_id"], row["timestamp"]) for row in records) == sorted(wanted)


def test_compare_takes_two_rolling_folders(simulated, rolled, tmp_path, capfd):
    arguments = ["--model", "xdm", "--start", WINDOWS.start, "--windows", 2, "--every", "24h", "--horizon", "16h", "--k", 5,
                 "--k", 20, "--warm-epochs", 1, "--warm-history", "1d", "--baseline", "itemknn", "--quiet", *sets(*FAST)]  # fmt: skip
    assert call("rolling", simulated, "--out", tmp_path / "xdm", *arguments, "--json") == 0
    printed = json.loads(capfd.readouterr().out)
    assert printed == json.loads((tmp_path / "xdm" / "metrics.json").read_text())
    beside = json.loads((tmp_path / "xdm" / "baselines" / "itemknn" / "metrics.json").read_text())
    assert list(printed["baselines"]) == ["itemknn"]
    assert beside["hr@20"] == printed["baselines"]["itemknn"]["hr@20"] > 0
    assert call("compare", rolled, tmp_path / "xdm", "--metric", "hr@20", "--resamples", 100, "--json") == 0
    compared = json.loads(capfd.readouterr().out)
    whole = json.loads((rolled / "metrics.json").read_text())
    assert (compared["questions"], compared["users"]) == (whole["questions"], whole["users"])
    assert compared["comparisons"][0]["reference_mean"] == pytest.approx(whole["hr@20"])
    assert compared["comparisons"][0]["mean"] == pytest.approx(printed["hr@20"])


USERS = [
    [(1, 0, True, None), (2, 1, True, None), (2, 2, True, None), (3, 3, False, None)],
    [(3, 11, True, None), (3, 12, True, None), (3, 13, True, None), (4, 12, True, None), (5, 13, False, None)],
]


def test_a_warm_start_carries_rows_by_item_id():
    """At the second cut item 3 leads and 4 and 5 are new: every index has moved, every known item's row must follow."""
    store, config = memory_store(USERS), load_config("xdm", None, SMALL)
    known, catalogue = build_catalogue(store, 10), build_catalogue(store, 20)
    assert known.items.vocabulary.ids.to_pylist() == [2, 1, 3]
    assert catalogue.items.vocabulary.ids.to_pylist() == [3, 2, 1, 4, 5]
    assert (known.n_candidates, catalogue.n_candidates) == (2, 4)
    old = build_model(config.model, config.unclicked, known, seed=1)
    new = build_model(config.model, config.unclicked, catalogue, seed=2)
    fresh = {name: weight.clone() for name, weight in new.state_dict().items()}
    carry_over(old, known, new, catalogue)
    carried, held = new.state_dict(), old.state_dict()
    by_item = {"encoder.items.tables.0.weight": ([2, 1, 3], [3, 2, 1, 4, 5]), "output.weight": ([2, 1], [3, 2, 1, 4])}
    for name, weight in carried.items():
        if name not in by_item:
            assert torch.equal(weight, held[name]), name
            continue
        before, after = by_item[name]
        assert torch.equal(weight[0], fresh[name][0])
        for place, item in enumerate(after, start=1):
            wanted = held[name][before.index(item) + 1] if item in before else fresh[name][place]
            assert torch.equal(weight[place], wanted), (name, item)


def test_a_warm_window_learns_from_recent_labels_only(simulated, monkeypatch):
    from xdm.training import rolling

    asked = []
    rows = rolling.training_rows

    def recorded(*args, first=0, **options):
        asked.append(first)
        return rows(*args, first=first, **options)

    monkeypatch.setattr(rolling, "training_rows", recorded)
    config = load_config("sdm", None, FAST)
    windows = Windows(START + 3 * DAY, DAY, 2, HOUR, warm_epochs=1, warm_history=DAY)
    store, quiet = Store(simulated), Progress(quiet=True)
    *cold, _ = _train(store, config, windows, windows.cuts()[0], None, quiet)
    before = {name: weight.clone() for name, weight in cold[0].state_dict().items()}
    warm, _, _ = _train(store, config, windows, windows.cuts()[1], tuple(cold), quiet)
    assert asked == [0, windows.cuts()[1] - DAY]
    assert all(torch.equal(cold[0].state_dict()[name], weight) for name, weight in before.items())  # left as it was
    assert not torch.equal(warm.state_dict()["encoder.fusion.gate.weight"], before["encoder.fusion.gate.weight"])


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (Windows(START + 4 * DAY, HOUR, 2, 2 * HOUR), "overlap"), (Windows(START - 1, DAY, 1), "cuts must lie inside"),
        (Windows(START + 5 * DAY, DAY, 3), "cuts must lie inside"),
        (Windows(START + 3 * DAY + 20 * HOUR, 6 * HOUR, 2, HOUR), f"no click lies within 3600 s after .{START + 4 * DAY + 2 * HOUR}"),
    ],
)  # fmt: skip
def test_windows_that_cannot_be_judged_are_refused_before_any_training(simulated, tmp_path, windows, message):
    with pytest.raises(UsageError, match=message):
        roll(Store(simulated), load_config("sdm", None, FAST), windows, tmp_path / "out")
    assert not (tmp_path / "out").exists()
