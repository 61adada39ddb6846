"""Is there a signal in the skips of a log at all? A plain classifier tells, without any of this package's models.

For every click after the first: will the next click be of this category? The category clicked is the positive, others
are drawn by how often they are clicked. A logistic regression sees how often the category is clicked by everybody, how
often by this user before, and, in the second fit, how often it stands in the unclicked sequence. Trained on the first
80 % of the points in time, judged on the rest. Run:

    python experiments/skip_signal.py STORE [--feature category] [--unclicked-k 1]

With ``--feature item_id`` the categories are the items themselves.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from xdm.behaviours.points import FeatureTable, behaviours
from xdm.behaviours.rules import BehaviourRules
from xdm.data.catalogue import build_catalogue
from xdm.data.labels import labels_of
from xdm.log.store import Store
from xdm.schema import ITEM_ID

DRAWN = 20  # categories for each that was clicked


def points_of(store: Store, feature: str, rules: BehaviourRules, most: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """``(time [Q], columns [Q, 1 + DRAWN, 3], categories [Q, 1 + DRAWN])``: the clicked category first."""
    catalogue = build_catalogue(store, store.time_range[1] + 1)
    table = FeatureTable.of(catalogue.n_items, catalogue.items.features)
    codes = table.codes[table.names.index(feature)]
    rng = np.random.default_rng(seed)
    times, columns = [], []
    for _, stored in store.parts():
        events = stored.in_catalogue(catalogue.of_store)
        labels = labels_of(events, 0, store.time_range[1] + 1)
        clicked = codes[labels.item]
        chosen = np.flatnonzero(clicked > 0)
        chosen = np.sort(rng.choice(chosen, min(most, len(chosen)), replace=False))
        found = behaviours(events, labels.row[chosen], labels.time[chosen], table, rules)
        popular = np.bincount(clicked, minlength=codes.max() + 1) / len(clicked)
        popular[0] = 0
        drawn = rng.choice(len(popular), (len(chosen), DRAWN), p=popular / popular.sum())
        asked = np.column_stack([clicked[chosen], drawn])
        for q, point in enumerate(chosen.tolist()):
            if found.session[q] < 0:
                continue
            begin = events.offsets[labels.row[point]]
            before = slice(begin, begin + np.searchsorted(events.time[begin : labels.place[point] + 1], labels.time[point]))
            own = codes[events.item[before][events.clicked[before]]]
            skipped = codes[found.unclicked(q)]
            columns.append(np.column_stack([
                np.log(popular[asked[q]] + 1e-9), np.log1p((own[:, None] == asked[q]).sum(0)),
                np.log1p((skipped[:, None] == asked[q]).sum(0)),
            ]))  # fmt: skip
            times.append(labels.time[point])
    return np.array(times), np.stack(columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--feature", default="category")
    parser.add_argument("--unclicked-k", type=int, default=1)
    parser.add_argument("--most", type=int, default=40_000, help="clicks used")
    arguments = parser.parse_args()
    store = Store(arguments.store)
    if arguments.feature not in (known := (ITEM_ID, *store.items.features)):
        parser.error(f"items of {arguments.store} have no feature '{arguments.feature}'; choose one of {', '.join(known)}")
    rules = BehaviourRules(unclicked_k=arguments.unclicked_k)
    time, columns = points_of(store, arguments.feature, rules, arguments.most)
    late = time >= np.quantile(time, 0.8)
    label = np.zeros(columns.shape[:2], int)
    label[:, 0] = 1
    print(f"{len(time):,} clicks, {DRAWN} other values of {arguments.feature} each; k = {arguments.unclicked_k}")
    listed = columns[..., 2] > 0
    print(f"in the unclicked sequence: {listed[:, 0].mean():.3f} of what was clicked next, {listed[:, 1:].mean():.3f} of the others")
    for name, used in (("clicks", [0, 1]), ("clicks and skips", [0, 1, 2])):
        x, y = columns[..., used].reshape(-1, len(used)), label.reshape(-1)
        train, test = np.repeat(~late, 1 + DRAWN), np.repeat(late, 1 + DRAWN)
        model = LogisticRegression().fit(x[train], y[train])
        p = model.predict_proba(x[test])[:, 1]
        print(f"{name:17s} AUC {roc_auc_score(y[test], p):.4f}  log loss {log_loss(y[test], p):.4f}  weights "
              + " ".join(f"{weight:+.3f}" for weight in model.coef_[0]))  # fmt: skip


if __name__ == "__main__":
    main()
