"""One user of a judged log, for people to look at: clicks, skips, and two models' lists side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xdm.behaviours.printing import answer_all
from xdm.behaviours.rules import BehaviourRules
from xdm.bundle.reading import read_manifest
from xdm.evaluation.records import METRICS_FILE, PER_USER_FILE, RECOMMENDATIONS_FILE, TRUTH_ITEMS
from xdm.log.store import Events, Store
from xdm.schema import ITEM_ID, RANK, USER_ID

SHOWN = 10  # ranks of each list


def choose_user(results: Path) -> Any:
    """The user with the most to look at: most items clicked afterwards, then the first of those. Not the one with the best list."""
    rows = pq.read_table(results / "xdm" / PER_USER_FILE, columns=[USER_ID, TRUTH_ITEMS])
    return rows[USER_ID][int(np.argmax(rows[TRUTH_ITEMS].to_numpy()))].as_py()


def describe_user(user_id: Any, store_path: Path, sdm: Path, xdm: Path, results: Path) -> str:
    """Several lines: the behaviours at the cut-off with categories, and the top of both lists, hits marked."""
    store = Store(store_path)
    split = json.loads((results / "xdm" / METRICS_FILE).read_text())["split"]
    rules = BehaviourRules(**read_manifest(xdm)["behaviours"])
    seen = next(answer_all(store, [(user_id, split["cut_off"])], rules))
    category = _categories(store)
    events = store.user_events(store.users.vocabulary.index(user_id))
    truth = set(
        _items(store, events, events.clicked & (events.time >= split["cut_off"]) & (events.time < split["until"]))
    )
    clicked = set(_items(store, events, events.clicked & (events.time < split["cut_off"])))
    # A category that was skipped again and again and never clicked: what the unclicked sequence says.
    skipped = {category(item) for item in seen.unclicked} - {category(item) for item in clicked}

    def named(items: list[Any]) -> str:
        return ", ".join(f"{item} ({category(item)})" for item in items) or "(none)"

    lines = [
        f"user {user_id} at {split['cut_off']}",
        f"  latest session:  {named(seen.short)}",
        f"  before, by item: {named(seen.long[ITEM_ID])}",
        f"  unclicked:       {named(seen.unclicked)}",
        f"  clicked later:   {named(sorted(truth))}",
        f"  {'rank':>4}  {'SDM':<28}{'XDM':<28}(+ clicked later, - of a category only skipped)",
    ]
    lists = [_list(results / name / RECOMMENDATIONS_FILE, user_id) for name in (sdm.name, xdm.name)]
    for place in range(SHOWN):
        cells = ""
        for items in lists:
            item = items[place] if place < len(items) else None
            mark = "" if item is None else "+" if item in truth else "-" if category(item) in skipped else " "
            cells += f"{mark + ' ' + str(item) + ' (' + str(category(item)) + ')' if item is not None else '':<28}"
        lines.append(f"  {place + 1:>4}  {cells.rstrip()}")
    return "\n".join(lines)


def _categories(store: Store):
    feature = store.items.features["category"]

    def category(item: Any) -> Any:
        code = int(feature.codes[store.items.vocabulary.index(item)])
        return feature.values[code - 1].as_py() if code else None

    return category


def _items(store: Store, events: Events, which: np.ndarray) -> list[Any]:
    return store.items.vocabulary.external_list(np.unique(events.item[which]))


def _list(path: Path, user_id: Any) -> list[Any]:
    rows = pq.read_table(path, filters=pc.field(USER_ID) == user_id).sort_by(RANK)
    return rows[ITEM_ID].to_pylist()
