"""Training rows read back into external ids, and the same by the oracle."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from tests.behaviours import oracle
from tests.learning import Event, category_of
from xdm.data.catalogue import build_catalogue
from xdm.data.rows import TrainingRows

FEATURES = {"item_id": lambda item: item, "category": category_of}

# user, label's item, short-term session, the number of each click's session, long-term item ids, long-term categories, unclicked
# sequence, stream
Record = tuple[Any, int, tuple, tuple, tuple, tuple, tuple, tuple]


def training_rows(store: Any, rules: Any, until: int, min_clicks: int = 1, **options: Any) -> tuple[Any, TrainingRows]:
    """``(catalogue, rows)`` of a store, as a run makes them."""
    catalogue = build_catalogue(store, until, min_clicks)
    return catalogue, TrainingRows(store, catalogue, rules, until=until, **options)


def records(catalogue: Any, rows: TrainingRows, batch_size: int = 3) -> list[Record]:
    """What a model is given for every label, in external ids."""
    item_id = catalogue.items.vocabulary.external_list
    category = catalogue.items.features["category"].external
    found = []
    for batch, labels in rows.batches(np.arange(rows.n_rows), batch_size):
        for p, label in enumerate(labels[:, 0]):
            row, sequence = batch.row[p], batch.unclicked_row[p]
            assert batch.unclicked_owner[sequence] == row
            assert batch.position[p] < batch.short_length[row]
            short = batch.short[row, : batch.position[p] + 1]
            sessions = batch.short_session[row, : batch.position[p] + 1]
            by_item, by_category = (codes[codes > 0] for codes in batch.long[row])
            unclicked = batch.unclicked[batch.unclicked_of == sequence]
            stream = ()
            if batch.stream.size:
                line, end = batch.stream_row[p], batch.stream_position[p] + 1
                assert batch.stream_owner[line] == row or batch.user[batch.stream_owner[line]] == batch.user[row]
                clicked = (batch.stream_action[line, :end] == 2).tolist()
                stream = tuple(zip(item_id(batch.stream[line, :end]), clicked, strict=True))
            found.append((
                catalogue.users.vocabulary.external_list(batch.user[[row]])[0], item_id(np.array([label]))[0],
                tuple(item_id(short)), tuple(sessions.tolist()), tuple(item_id(by_item)), tuple(category(by_category)),
                tuple(item_id(unclicked)), stream,
            ))  # fmt: skip
    return found


def expected(
    users: list[list[Event]], rules: Any, until: int, min_clicks: int = 1, first: int = 0,
    label_scope: str = "user", unclicked_at: str = "label",
) -> tuple[Counter[Record], Counter[str]]:  # fmt: skip
    """The records and the counts of what is left out, by the oracle, one label at a time."""
    clicks = Counter(event[0] for user in users for event in user if event[2] and event[1] < until)
    found: Counter[Record] = Counter()
    dropped: Counter[str] = Counter()
    for number, user in enumerate(users, start=1):
        in_order = [event for event in sorted(user, key=lambda event: event[1]) if event[2]]
        # the oracle's sessions, with each click's place in the user's clicks in the place of its item
        numbered = [(place, time, session) for place, (_, time, _, session) in enumerate(in_order)]
        sessions = oracle.sessions(numbered, rules.session_gap, rules.session_max)
        begins = {click[0]: session[0][0] for session in sessions for click in session}
        kept: list[tuple] = []
        for place, (item, time, _, _) in enumerate(in_order):
            if not first <= time < until:
                continue
            seen = oracle.sessions([c for c in numbered if c[1] < time], rules.session_gap, rules.session_max)
            if not seen:
                dropped["no_click_before"] += 1
            elif label_scope == "session" and begins[place] != seen[-1][0][0]:
                dropped["other_session"] += 1
            elif clicks[item] < min_clicks:
                dropped["too_few_clicks"] += 1
            else:
                known = oracle.behaviours(user, time, rules, FEATURES)
                asked = time if unclicked_at == "label" else seen[-1][0][1]
                known["unclicked"] = oracle.behaviours(user, asked, rules, FEATURES)["unclicked"]
                kept.append((item, sum(c[1] < time for c in numbered), known))
        if rules.history_max:
            opens = [begins[place] == place for place in range(len(in_order))]
            kept = windows(kept, [event[0] for event in in_order], opens, rules.history_max)
        for item, _, known in kept:
            found[(number, item, tuple(known["short"]), tuple(known["sessions"]), tuple(known["long"]["item_id"]),
                   tuple(known["long"]["category"]), tuple(known["unclicked"]), tuple(known["stream"]))] += 1  # fmt: skip
    return found, dropped


def windows(kept: list[tuple], clicks: list[int], opens: list[bool], size: int) -> list[tuple]:
    """``(label, clicks visible, what is known)`` in order of time, as a row of ``size`` clicks lets them be seen: counted back
    from the last label, all labels that see a click of the last one's window share its beginning and its long-term lists."""
    found, begin, long = [], None, None
    for item, visible, known in reversed(kept):
        if begin is None or visible <= begin:
            begin, long = max(0, visible - size), known["long"]
        sessions = oracle.numbers(opens[begin:visible])
        found.append((item, visible, {**known, "short": clicks[begin:visible], "sessions": sessions, "long": long}))
    return found
