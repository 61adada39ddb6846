"""Evaluation: every question of a split is put to a recommender and to the baselines, in bounded memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xdm.behaviours.rules import BehaviourRules
from xdm.evaluation.baselines import BESIDE_EVERY_MODEL, baseline, check_baselines
from xdm.evaluation.judging import Judge
from xdm.evaluation.metrics import popularity_percentiles
from xdm.evaluation.popularity import count_clicks
from xdm.evaluation.records import METRICS_FILE, PER_USER_FILE, RECOMMENDATIONS_FILE, RecordWriter
from xdm.evaluation.skips import SkipFinder
from xdm.evaluation.splits import Split, questions, users_left_out
from xdm.folders import check_replaceable, new_folder, write_json
from xdm.log.store import Store
from xdm.retrieval.types import Recommender
from xdm.schema import DAY, UsageError

Progress = Callable[[int, int], None]  # questions answered so far, questions in all
RULES = BehaviourRules()  # what counts as unclicked, whatever the rules of the model under judgement
QUESTIONS_AT_ONCE = 16_384  # whose unclicked sequences are held at a time


def evaluate(
    recommender: Recommender,
    store: Store,
    split: Split,
    ks: tuple[int, ...] = (20, 50, 100),
    out: Path | str | None = None,
    baselines: tuple[str, ...] = BESIDE_EVERY_MODEL,
    exclude_seen: bool = False,
    batch: int = 128,
    progress: Progress | None = None,
    recent_window: int = DAY,
    overwrite: bool = False,
    rules: BehaviourRules = RULES,
) -> dict[str, Any]:
    """Judge ``recommender`` over its full catalogue on the questions of ``split``; return what metrics.json holds.

    ``ks`` are the list lengths; ``baselines``, by name (`BASELINES`), are asked the same and have their default settings;
    ``exclude_seen`` leaves out what the user clicked before the question; ``batch`` questions are asked at a time;
    ``recent_window`` (seconds) is that of the recent-popularity baseline; ``rules`` say what is unclicked at a question,
    for every recommender alike, whatever the model's own rules are. With ``out`` a folder appears there, whole or not at
    all: metrics.json, per_user.parquet, recommendations.parquet, and for each baseline ``baselines/NAME`` with its own
    metrics.json and per_user.parquet.

    Memory: one part of the store with its events in the recommender's catalogue, one batch of lists, the unclicked
    sequences of some thousand questions, a few arrays of the catalogue's length, and what the recommender itself needs.

    Raises:
        ConfigError: no such baseline.
        UsageError: no question to ask, a wrong ``ks``, or an ``out`` that may not be written.
    """
    ks = tuple(sorted(set(ks)))
    if not ks or ks[0] < 1 or batch < 1:
        raise UsageError(f"every K and the batch must be at least 1, not {list(ks)} and {batch}")
    check_baselines(baselines)
    if out is not None:
        check_replaceable(out, METRICS_FILE, overwrite=overwrite)
    described = _describe(store, split, exclude_seen)
    skips = SkipFinder(store, rules)
    counts = count_clicks(store, split, recent_window)
    judged: dict[str, Recommender] = {"": recommender}
    judged |= {name: baseline(name, store, split, counts) for name in baselines}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(new_folder(out, METRICS_FILE, overwrite=overwrite)) if out else None
        judges = _judges(judged, store, ks, popularity_percentiles(counts.clicks), skips, folder, stack)
        _ask_all(judges, store, split, skips, exclude_seen, batch, described["questions"], progress)
        described |= _describe_skips(skips, judges[""].with_unclicked)
        metrics = described | judges[""].summary()
        metrics["baselines"] = {name: judge.summary() for name, judge in judges.items() if name}
        if baselines:
            metrics["recent_window"] = recent_window
        if folder is not None:
            write_json(folder / METRICS_FILE, metrics)
            for name, summary in metrics["baselines"].items():
                write_json(_baseline_folder(folder, name) / METRICS_FILE, described | summary)
    return metrics


def _describe(store: Store, split: Split, exclude_seen: bool) -> dict[str, Any]:
    """What is asked: the split and the counts of users and questions."""
    users = n_questions = left_out = 0
    for _, events in store.parts():
        asked = questions(events, split)
        users += len(np.unique(asked.row))
        n_questions += len(asked.row)
        left_out += users_left_out(events, split)
    if not n_questions:
        first, last = store.time_range
        raise UsageError(
            f"{store.path} has no click to ask for in [{split.cut_off}, {split.until}) under the protocol "
            f"{split.protocol}; its log reaches from {first} to {last}: choose another --cut-off or --until"
        )
    return {
        "split": split.described(),
        "users": users,
        "questions": n_questions,
        "users_left_out": left_out,
        "exclude_seen": exclude_seen,
    }


def _describe_skips(skips: SkipFinder, with_unclicked: int) -> dict[str, Any]:
    """What the metrics of skips are about."""
    rules = {name: getattr(skips.rules, name) for name in ("unclicked_k", "unclicked_window", "unclicked_max")}
    category = {} if skips.category is None else {"category_feature": skips.category.name}
    return {"questions_with_unclicked": with_unclicked, "rules": rules} | category


def _judges(
    judged: dict[str, Recommender],
    store: Store,
    ks: tuple[int, ...],
    percentiles: np.ndarray,
    skips: SkipFinder,
    folder: Path | None,
    stack: contextlib.ExitStack,
) -> dict[str, Judge]:
    """A judge for each recommender, with its files open in ``folder``; the model, named "", has its lists kept too."""
    judges = {}
    for name, recommender in judged.items():
        per_user = lists = None
        if folder is not None:
            own_folder = _baseline_folder(folder, name) if name else folder
            own_folder.mkdir(parents=True, exist_ok=True)
            per_user = stack.enter_context(RecordWriter(own_folder / PER_USER_FILE))
            lists = None if name else stack.enter_context(RecordWriter(own_folder / RECOMMENDATIONS_FILE))
        judges[name] = Judge(recommender, store, ks, percentiles, skips.category, per_user, lists)
    return judges


def _baseline_folder(folder: Path, name: str) -> Path:
    return folder / "baselines" / name


def _ask_all(
    judges: dict[str, Judge],
    store: Store,
    split: Split,
    skips: SkipFinder,
    exclude_seen: bool,
    batch: int,
    n_questions: int,
    progress: Progress | None,
) -> None:
    report = None if progress is None else lambda answered: progress(answered, n_questions)
    at_once = max(QUESTIONS_AT_ONCE // batch, 1) * batch  # whole batches: blocks change no batch
    for first_user, events in store.parts():
        asked = questions(events, split)
        points = {name: judge.points(first_user, events, asked) for name, judge in judges.items()}
        for first in range(0, len(asked.row), at_once):
            block = asked.take(first, first + at_once)
            skipped = skips.at(events, block.row, block.time)
            for name, judge in judges.items():
                seen = points[name].take(slice(first, first + at_once))
                judge.ask(first_user, seen, block, skipped, exclude_seen, batch, None if name else report)
