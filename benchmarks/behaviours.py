"""Label rows a second of the behaviours kernel, on a generated log. Run: python benchmarks/behaviours.py [--rows N]

Every click with an earlier click is asked, with its session, two long-term lists and its unclicked sequence, as the
training loader does. One core: the kernel is single-threaded. The rival is the oracle of the tests, on a sample.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.behaviours import oracle

from xdm.behaviours.points import FeatureTable, behaviours
from xdm.behaviours.rules import BehaviourRules
from xdm.data.labels import labels_of
from xdm.log.store import Events


def world(rows: int, seed: int = 1) -> tuple[Events, int]:
    """Users of log-normal activity over 14 days, in visits; six of ten exposures come from the user's own pool of 15 to 165."""
    rng = np.random.default_rng(seed)
    users = rows // 40
    weight = rng.lognormal(0, 1.2, users)
    counts = rng.multinomial(rows, weight / weight.sum())
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    user = np.repeat(np.arange(users), counts)
    n_items = max(rows // 20, 100)
    item = (n_items * rng.random(rows) ** 3).astype(np.int64)
    pool = rng.random(rows) < 0.6
    size = 15 + 150 * rng.random(users) ** 4  # of a user's pool
    item[pool] = (user[pool] * 7919 + (size[user[pool]] * rng.random(int(pool.sum()))).astype(np.int64) ** 2) % n_items
    visit = rng.integers(0, 14 * 86400, rows) // 43200 * 43200 + rng.integers(0, 1800, rows)
    order = np.argsort(user * (14 * 86400) + visit, kind="stable")
    item, when = item[order] + 1, visit[order] + 1_700_000_000
    session = np.full(rows, -1, np.int32)
    return Events(item.astype(np.int32), when, rng.random(rows) < 0.05, session, offsets), n_items


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    events, n_items = world(arguments.rows)
    category = np.concatenate([[0], np.random.default_rng(0).integers(1, 500, n_items)]).astype(np.int32)
    table = FeatureTable(("item_id", "category"), np.stack([np.arange(n_items + 1, dtype=np.int32), category]))
    rules = BehaviourRules()
    labels = labels_of(events, first=0, until=2**62)
    rows, times = labels.row, labels.time
    found = behaviours(events, rows[:1000], times[:1000], table, rules)  # compile or load the compiled kernel
    seconds = []
    for _ in range(arguments.repeat):
        began = time.perf_counter()
        found = behaviours(events, rows, times, table, rules)
        seconds.append(time.perf_counter() - began)
    lengths = np.diff(found.unclicked_offsets)
    print(
        f"log: {len(events):,} exposures, {events.n_users:,} users, {int(events.clicked.sum()):,} clicks, {n_items:,} items"
    )
    print(f"label rows: {len(rows):,}; unclicked lists: mean {lengths.mean():.1f}, longest {lengths.max()}")
    best, median = min(seconds), float(np.median(seconds))
    print(
        f"kernel: median {len(rows) / median:,.0f} label rows/s (best {len(rows) / best:,.0f}), {median:.2f} s a pass"
    )
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB, log included")

    sample = np.random.default_rng(2).choice(len(rows), 300, replace=False)
    features = {"item_id": lambda item: item, "category": lambda item: int(category[item])}
    began = time.perf_counter()
    for q in sample:
        user = events.of_user(int(rows[q]))
        log = [(int(i), int(t), bool(c), None) for i, t, c in zip(user.item, user.time, user.clicked, strict=True)]
        wanted = oracle.behaviours(log, int(times[q]), rules, features)
        assert found.unclicked(q).tolist() == wanted["unclicked"]
        assert found.short_term(q).tolist() == wanted["short"]
        assert found.long_term(q, 1).tolist() == wanted["long"]["category"]
    plain = 300 / (time.perf_counter() - began)
    print(
        f"plain Python, the same answers on 300 of them: {plain:,.0f} label rows/s; ratio {len(rows) / median / plain:,.0f}"
    )


if __name__ == "__main__":
    main()
