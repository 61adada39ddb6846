"""What one process does: a trial never sees the test part, a run reads it once, windows are judged as `xdm rolling` does."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.experiments.files import SETTINGS, write_file
from xdm.bundle.reading import load_recommender
from xdm.evaluation import running as evaluation
from xdm.experiments import judging
from xdm.experiments.file import RollingProtocol, TimeProtocol, WindowsEntry, read_file
from xdm.experiments.grid import variants_of
from xdm.experiments.judging import StoreUntil, config_of, run, trial, validation_windows, windows_of
from xdm.experiments.running import Grid, run_experiment
from xdm.experiments.task import Task
from xdm.log.store import Store
from xdm.schema import BundleError, UsageError
from xdm.training import rolling as training_rolling
from xdm.training import run as training_run
from xdm.training.parts import boundaries
from xdm.training.rolling import roll

ROLLING = RollingProtocol(
    kind="rolling", start="2d", every="24h", windows=2, horizon="24h",
    validation=WindowsEntry(start="4d", every="24h", windows=2, horizon="12h"),
)  # fmt: skip


def task_of(store: Path, out: Path, protocol=TimeProtocol(), model: str = "sdm", **keys) -> Task:  # noqa: B008
    words = tuple(f"{key}={json.dumps(value)}" for key, value in SETTINGS.items())
    trained = model in ("sdm", "xdm")
    fields = {
        "kind": "run", "out": out, "log": "log", "variant": "v", "model": model, "trained": trained,
        "seed": 1 if trained else None, "words": words if trained else tuple(w for w in words if w.startswith("split.")),
        "store": store, "world": None, "protocol": protocol, "ks": (5, 10), "exclude_seen": False, "unclicked_k": 1,
        "keep": (), "trial": None, "values": {},
    }  # fmt: skip
    return Task(**(fields | keys))


@pytest.fixture
def judged(monkeypatch):
    """The splits that `evaluate` is called with, and the latest event that its store lets see, by everyone who calls it."""
    asked: list[tuple[int, int, int]] = []
    evaluate = evaluation.evaluate

    def recorded(recommender, store, split, *args, **options):
        last = max(int(np.max(events.time, initial=0)) for _, events in store.parts())
        asked.append((split.cut_off, split.until, last))
        return evaluate(recommender, store, split, *args, **options)

    for module in (training_run, training_rolling, judging):
        monkeypatch.setattr(module, "evaluate", recorded)
    return asked


@pytest.mark.parametrize("limit", ["first", "middle", "last"])
def test_a_store_that_ends_holds_what_came_before(simulated, limit):
    whole = Store(simulated)
    first, last = whole.time_range
    end = {"first": first, "middle": (first + last) // 2, "last": last + 1}[limit]
    short = StoreUntil(simulated, end)
    for (row, events), (short_row, kept) in zip(whole.parts(), short.parts(), strict=True):
        assert row == short_row
        assert kept.n_users == events.n_users
        for user in range(events.n_users):
            of_user, left = events.of_user(user), kept.of_user(user)
            wanted = [e for e in zip(of_user.item, of_user.time, of_user.clicked, of_user.session, strict=True) if e[1] < end]
            assert list(zip(left.item, left.time, left.clicked, left.session, strict=True)) == wanted


def test_a_trial_never_sees_the_test_part(simulated, tmp_path, judged):
    task = task_of(simulated, tmp_path, kind="trial", trial=0)
    validation_from, test_from, _ = boundaries(Store(simulated), config_of(task).split)
    found = trial(task, tmp_path)
    assert len(judged) == 2  # two epochs
    assert {(cut_off, until) for cut_off, until, _ in judged} == {(validation_from, test_from)}
    assert all(last < test_from for _, _, last in judged)
    assert found["monitor"] == "recall@5"
    assert list(tmp_path.iterdir()) == []


def test_a_trial_scores_as_the_validation_of_the_run_with_the_same_settings(simulated, tmp_path):
    scored = trial(task_of(simulated, tmp_path / "a", kind="trial", trial=0), _folder(tmp_path / "a"))
    assert scored["value"] == run(task_of(simulated, tmp_path / "b"), _folder(tmp_path / "b"))["validation"]


def test_a_run_asks_for_the_test_part_once(simulated, tmp_path, judged):
    task = task_of(simulated, tmp_path, keep=("bundle",))
    validation_from, test_from, until = boundaries(Store(simulated), config_of(task).split)
    run(task, tmp_path)
    assert [split[:2] for split in judged] == [(validation_from, test_from)] * 2 + [(test_from, until)]
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "results"}


def test_a_rolling_trial_never_sees_the_test_windows(simulated, tmp_path, judged):
    trial(task_of(simulated, tmp_path, ROLLING, kind="trial", trial=0), tmp_path)
    test_start = windows_of(ROLLING, Store(simulated)).start
    validation = validation_windows(ROLLING, Store(simulated))
    assert [split[:2] for split in judged] == [(cut, cut + validation.horizon) for cut in validation.cuts()]
    assert all(max(until, last) <= test_start for _, until, last in judged)


def test_a_rolling_run_is_what_roll_gives(simulated, tmp_path):
    task = task_of(simulated, tmp_path, ROLLING)
    assert run(task, _folder(tmp_path / "run"))["windows"] == 2
    windows = windows_of(ROLLING, Store(simulated))
    wanted = roll(Store(simulated), config_of(task), windows, tmp_path / "wanted", ks=(5, 10))
    assert json.loads((tmp_path / "run/results/metrics.json").read_text()) == wanted
    assert _per_user(tmp_path / "run/results") == _per_user(tmp_path / "wanted")
    # The untrained variants are asked the same, and are the baselines of the trained one.
    for model in ("popularity", "recent_popularity"):
        run(task_of(simulated, tmp_path, ROLLING, model), _folder(tmp_path / model))
        assert _per_user(tmp_path / model / "results") == _per_user(tmp_path / "wanted/baselines" / model)
        held = json.loads((tmp_path / model / "results/metrics.json").read_text())
        assert (held["users"], held["questions"]) == (wanted["users"], wanted["questions"])
        for name, value in wanted["baselines"][model].items():
            assert held[name] == value


@pytest.mark.parametrize("protocol", [TimeProtocol(), ROLLING], ids=["time", "rolling"])
def test_a_baseline_with_settings_is_judged_with_them(simulated, tmp_path, protocol):
    split_words = task_of(simulated, tmp_path, model="ease").words
    hashes = set()
    for l2 in (1.0, 400.0):
        task = task_of(simulated, tmp_path, protocol, "ease", words=(*split_words, f"baseline.l2={l2}"))
        found = run(task, _folder(tmp_path / f"{l2}"))
        assert found["config"] == {"l2": l2, "max_items": 10_000}
        hashes.add(found["config_hash"])
    weak, strong = (json.loads((tmp_path / f"{l2}/results/metrics.json").read_text()) for l2 in (1.0, 400.0))
    assert weak["ndcg@10"] != strong["ndcg@10"]
    assert len(hashes) == 2
    run(task_of(simulated, tmp_path, protocol, "popularity"), _folder(tmp_path / "popularity"))
    assert json.loads((tmp_path / "popularity/results/metrics.json").read_text())["ndcg@10"] < strong["ndcg@10"]


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (None, "needs earlier windows to choose by"),
        (WindowsEntry(start="3d", windows=1, horizon="25h"), "after the first test window's cut"),
        (WindowsEntry(start="4d", every="24h", windows=3, horizon="2h"), "after the first test window's cut"),
    ],
)  # fmt: skip
def test_validation_windows_end_before_the_test_windows(simulated, tmp_path, validation, message):
    protocol = ROLLING.model_copy(update={"validation": validation})
    with pytest.raises(UsageError, match=message):
        validation_windows(protocol, Store(simulated))
    searched = {"sdm": {"model": "sdm", "objective.margin": {"low": 0.1, "high": 0.5}}}
    keys = {"variants": searched, "protocol": protocol.model_dump(mode="json", exclude_none=True)}
    with pytest.raises(UsageError, match=message):
        run_experiment(read_file(write_file(tmp_path, simulated, **keys)), tmp_path / "out")
    assert not (tmp_path / "out" / "experiment.json").exists()  # nothing holds the file to what it said


def test_popularity_is_the_baseline_of_evaluate(simulated, tmp_path):
    task = task_of(simulated, tmp_path)
    facts_split = boundaries(Store(simulated), config_of(task).split)
    for model in ("popularity", "recent_popularity"):
        run(task_of(simulated, tmp_path, model=model), _folder(tmp_path / model))
        clicks: dict[str, list[int]] = defaultdict(list)
        for _, events in Store(simulated).parts():
            known = events.clicked & (events.time < facts_split[1])
            for item, time in zip(events.item[known].tolist(), events.time[known].tolist(), strict=True):
                clicks[item].append(time)
        since = facts_split[1] - 86_400 if model == "recent_popularity" else 0
        store_ids = Store(simulated).items.vocabulary.external_list(np.array(sorted(clicks)))
        rank = {
            item: (-sum(time >= since for time in clicks[index]), -len(clicks[index]), -max(clicks[index]), item)
            for index, item in zip(sorted(clicks), store_ids, strict=True)
        }
        best = set(sorted(rank, key=rank.__getitem__)[:5])
        wanted = []
        for first, events in Store(simulated).parts():
            for user in range(events.n_users):
                own = events.of_user(user)
                asked = own.clicked & (own.time >= facts_split[1])
                if asked.any():
                    truth = set(Store(simulated).items.vocabulary.external_list(np.unique(own.item[asked])))
                    user_id = Store(simulated).users.vocabulary.external_list(np.array([first + user + 1]))[0]
                    wanted.append((user_id, float(bool(best & truth))))
        held = pq.read_table(tmp_path / model / "results" / "per_user.parquet").to_pylist()
        assert sorted((row["user_id"], row["hr@5"]) for row in held) == sorted(wanted)


def test_a_variant_that_is_shown_what_is_live_is_judged_so(simulated, tmp_path):
    """Its lists come from the log, so they do not depend on whose own lists they replace, and the bundle alone is refused."""
    found = {}
    for source in ("live", "own"):
        words = (*task_of(simulated, tmp_path).words, f"data.unclicked_source={source}", "behaviours.unclicked_k=0")
        task = task_of(simulated, tmp_path, model="xdm", words=words, keep=("bundle",))
        run(task, _folder(tmp_path / source))
        found[source] = [row["ndcg@10"] for row in _per_user(tmp_path / source / "results")]
    assert found["live"] != found["own"]
    with pytest.raises(BundleError, match="needs the log beside it"):
        load_recommender(tmp_path / "live" / "bundle")


def test_every_trial_of_a_search_has_the_first_seed(simulated, tmp_path):
    searched = {"sdm": {"model": "sdm", "objective.margin": {"low": 0.1, "high": 0.5}}}
    file = read_file(write_file(tmp_path, simulated, variants=searched, seeds=[4, 2]))
    grid = Grid(file, tmp_path, variants_of(file), {"log": simulated})
    task = grid.trial("log", grid.variants[0], 3, {"objective.margin": 0.25})
    config = config_of(task)
    assert (config.training.seed, config.training.threads, config.objective.margin) == (4, 1, 0.25)
    assert [task.seed for task in grid.runs()] == [4, 2]


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _per_user(folder: Path) -> list[dict]:
    return pq.read_table(folder / "per_user.parquet").to_pylist()
