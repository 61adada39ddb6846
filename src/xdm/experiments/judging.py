"""One run or trial, inside its own process: training, and the one look at the test part."""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from xdm.behaviours.rules import BehaviourRules
from xdm.bundle.reading import load_recommender
from xdm.data.catalogue import build_catalogue
from xdm.data.controls import Control, control_of
from xdm.evaluation.baselines import baseline
from xdm.evaluation.held_back import StoreBefore, StoreUntil
from xdm.evaluation.popularity import count_clicks
from xdm.evaluation.records import METRICS_FILE, PER_USER_FILE, RECOMMENDATIONS_FILE
from xdm.evaluation.running import evaluate
from xdm.evaluation.splits import EACH_CLICK, Split, parse_duration, parse_time
from xdm.experiments.file import LeaveLastOutProtocol, RollingProtocol, TimeProtocol, WindowsEntry
from xdm.experiments.grid import ORACLES, divide, untrained_settings
from xdm.experiments.task import BUNDLE, RESULTS, Task
from xdm.folders import write_json
from xdm.log.store import Store
from xdm.retrieval.types import Points, Recommender
from xdm.schema import ITEM_DTYPE, PADDING, USER_ID, InternalError, UsageError
from xdm.training.config import Config, load_config
from xdm.training.parts import boundaries, parts_of
from xdm.training.rolling import Windows, join_files, roll, together_of
from xdm.training.run import Run


def config_of(task: Task) -> Config | None:
    """The configuration of a trained task, else None."""
    if not task.trained:
        return None
    seed = () if task.seed is None else (f"training.seed={task.seed}",)
    left_out = ("split.protocol=last-click",) if isinstance(task.protocol, LeaveLastOutProtocol) else ()
    return load_config(task.model, None, (*task.words, *left_out, *seed, "training.threads=1"))


def run(task: Task, folder: Path) -> dict[str, Any]:
    """Train, then judge on the test part: the only place of an experiment that reads it. Fills ``folder``."""
    store, config = Store(task.store), config_of(task)
    if isinstance(task.protocol, RollingProtocol):
        found = _run_rolling(task, store, config, task.protocol, folder)
    else:
        found = _run_once(task, store, config, task.protocol, folder)
    if "recommendations" not in task.keep:
        for lists in folder.rglob(RECOMMENDATIONS_FILE):
            lists.unlink()
    settings = untrained_settings(task.model, task.words) if config is None else config.to_dict()
    return found | {"config": settings, "config_hash": config_hash(task.model, settings)}


def trial(task: Task, folder: Path) -> dict[str, Any]:
    """Train with the trial's values and judge on the validation part, through a store that ends before the test part."""
    config = config_of(task)
    if config is None:
        raise InternalError(f"{task.model} is not trained, so there is nothing to search")
    monitor = config.training.monitor
    if isinstance(task.protocol, RollingProtocol):
        store = Store(task.store)
        test, validation = windows_of(task.protocol, store), validation_windows(task.protocol, store)
        before_test = StoreUntil(task.store, test.start)
        metrics = roll(before_test, config, validation, folder / RESULTS, ks=(int(monitor.split("@")[1]),))
        value = metrics[monitor]
    elif isinstance(task.protocol, LeaveLastOutProtocol):
        store = Store(task.store)
        without_last = StoreBefore(task.store, parts_of(store, config.split).test)
        value = Run(without_last, config, folder / BUNDLE, without_test=True).train()[monitor]
    else:
        validation_from, test_from, _ = boundaries(Store(task.store), config.split)
        # Times, not shares: a share of the clicks of the shorter store would be another part.
        times = config.split.model_copy(update={"validation": validation_from, "test": test_from})
        before_test = StoreUntil(task.store, test_from)
        value = Run(before_test, config.model_copy(update={"split": times}), folder / BUNDLE).train()[monitor]
    for name in (RESULTS, BUNDLE, f"{BUNDLE}.run"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return {"monitor": monitor, "value": float(value)}


def config_hash(model: str, settings: dict[str, Any] | None) -> str:
    """Twelve hexadecimal digits that two runs share when model, settings and seed are the same."""
    content = {"model": model, "config": settings}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


# --- judging once ---------------------------------------------------------------------------------------------------


def _run_once(
    task: Task, store: Store, config: Config | None, protocol: TimeProtocol | LeaveLastOutProtocol, folder: Path
) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if config is not None:
        began = time.process_time()
        trained = Run(store, config, folder / BUNDLE).train()
        monitor = config.training.monitor
        facts = {"monitor": monitor, "validation": trained[monitor], "best_epoch": trained["best_epoch"],
                 "epochs": trained["epochs"], "stopped_by": trained["stopped_by"], "labels": trained["labels"],
                 "train_cpu_seconds": round(time.process_time() - began, 2)}  # fmt: skip
        split = asked_of(protocol, parts_of(store, config.split).test)
        control = _live_control(store, config, int(trained["split"]["validation_from"]), split.cut_off)
        recommender: Recommender = load_recommender(folder / BUNDLE, threads=1, control=control)
    else:
        words = divide(task.words)[1]
        words += ["split.protocol=last-click"] if isinstance(protocol, LeaveLastOutProtocol) else []
        split = asked_of(protocol, parts_of(store, load_config(None, None, words).split).test)
        recommender = untrained(task, store, split, parse_duration(protocol.recent_window))
    evaluate(
        recommender, store, split, task.ks, folder / RESULTS, baselines=(), exclude_seen=task.exclude_seen,
        rules=_rules(task),
    )  # fmt: skip
    facts["answer_cpu_ms"] = answer_cpu_ms(recommender, store, split.until)
    if "bundle" not in task.keep:
        shutil.rmtree(folder / BUNDLE, ignore_errors=True)
    shutil.rmtree(folder / f"{BUNDLE}.run", ignore_errors=True)
    return facts


def answer_cpu_ms(recommender: Recommender, store: Store, at: int, answers: int = 100, k: int = 50) -> float:
    """Processor milliseconds of one answer, the median of at most ``answers`` users of the store's first part, each asked alone at
    the time ``at`` (seconds): behaviours, query vectors and the best ``k`` items."""
    first_user, stored = next(iter(store.parts()))
    to_catalogue = np.concatenate([[PADDING], recommender.catalogue.indices(store.items.vocabulary.ids)]).astype(ITEM_DTYPE)
    events = stored.in_catalogue(to_catalogue)
    known = recommender.users.indices(store.users.vocabulary.ids)[first_user:]
    spent = []
    for row in range(min(answers + 1, len(events.offsets) - 1)):
        point = Points(events, np.array([row]), known[[row]], np.array([at]))
        began = time.process_time_ns()
        recommender.top_k(point, k)
        spent.append(time.process_time_ns() - began)
    return round(statistics.median(spent[1:] or spent) / 1e6, 3)  # the first one warms up


def asked_of(protocol: TimeProtocol | LeaveLastOutProtocol, test: Split) -> Split:
    """The test part ``test``, asked as ``protocol`` says."""
    return replace(test, protocol=protocol.questions) if isinstance(protocol, TimeProtocol) else test


def _live_control(store: Store, config: Config, trained_until: int, until: int) -> Control | None:
    """The one control that a bundle alone cannot have: what was live in the log before the questions' time ``until``."""
    if config.data.unclicked_source != "live":
        return None
    catalogue = build_catalogue(store, trained_until, config.data.min_clicks)
    return control_of(config.data.unclicked_source, store, catalogue, until)


def untrained(task: Task, store: Store, split: Split, recent_window: int) -> Recommender:
    """The recommender of a variant that is not trained, for the questions of ``split``."""
    if task.model in ORACLES:
        from xdm.simulation.oracle import oracle_recommender

        if task.world is None:
            raise InternalError(f"the log {task.log} names no world for {task.model}")
        horizon = split.until - split.cut_off
        return oracle_recommender(task.world, store, clicks_only=task.model != ORACLES[0], horizon=horizon)
    settings, _ = divide(task.words)
    return baseline(task.model, store, split, count_clicks(store, split, recent_window), settings)


def _rules(task: Task) -> BehaviourRules:
    """What counts as unclicked in judging, the same for every variant whatever its own rules are."""
    return BehaviourRules(unclicked_k=task.unclicked_k)


# --- judging window by window ---------------------------------------------------------------------------------------


def windows_of(entry: WindowsEntry, store: Store) -> Windows:
    """The cuts of ``entry`` on the log of ``store``.

    Raises:
        UsageError: a time or a duration that cannot be read.
    """
    warm = entry if isinstance(entry, RollingProtocol) else None
    return Windows(
        parse_time(entry.start, store.time_range[1] + 1), parse_duration(entry.every), entry.windows,
        parse_duration(entry.horizon), warm.warm_epochs if warm else 0,
        parse_duration(warm.warm_history) if warm and warm.warm_history else 0,
    )  # fmt: skip


def validation_windows(protocol: RollingProtocol, store: Store) -> Windows:
    """The earlier windows that a search chooses by, trained as the test windows are.

    Raises:
        UsageError: none are named, or they reach into the test windows.
    """
    if protocol.validation is None:
        raise UsageError(
            "protocol.validation: a search under the rolling protocol needs earlier windows to choose by; name them, such "
            "as validation: {start: 9d, windows: 2}"
        )
    test, own = windows_of(protocol, store), windows_of(protocol.validation, store)
    end = own.cuts()[-1] + own.horizon
    if end > test.start:
        raise UsageError(
            f"protocol.validation: the last window ends at {end}, after the first test window's cut {test.start}; let the "
            "validation windows end before it"
        )
    return replace(own, warm_epochs=test.warm_epochs, warm_history=test.warm_history)


def _run_rolling(
    task: Task, store: Store, config: Config | None, protocol: RollingProtocol, folder: Path
) -> dict[str, Any]:
    windows, recent = windows_of(protocol, store), parse_duration(protocol.recent_window)
    if config is not None:
        roll(store, config, windows, folder / RESULTS, ks=task.ks, recent_window=recent, rules=_rules(task))
    else:
        roll_untrained(task, store, windows, folder / RESULTS, recent)
    shutil.rmtree(folder / RESULTS / "windows")  # its rows are in per_user.parquet, its means in metrics.json
    return {"windows": windows.count}


def roll_untrained(task: Task, store: Store, windows: Windows, out: Path, recent: int) -> None:
    """What `roll` writes, by a recommender made anew for each window."""
    done = []
    for number, cut in enumerate(windows.cuts()):
        split = Split(EACH_CLICK, cut, cut + windows.horizon)
        place = out / "windows" / f"{number:05d}"
        recommender = untrained(task, store, split, recent)
        done.append(evaluate(recommender, store, split, task.ks, place, recent_window=recent, rules=_rules(task)))
    join_files(out, windows.count)
    users = len(pq.read_table(out / PER_USER_FILE, columns=[USER_ID])[USER_ID].unique())
    write_json(out / METRICS_FILE, together_of(done, windows.cuts(), windows) | {"users": users})
