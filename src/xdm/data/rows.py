"""Training rows: one row is one session (or window of the history) of one user, with a label at every position
(docs/decisions/0002-points-not-positions.md and 0010-history-in-windows.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Literal

import numba
import numpy as np

from xdm.behaviours.points import Behaviours, FeatureTable, Lists, behaviours, concatenate, join_lists
from xdm.behaviours.rules import BehaviourRules
from xdm.data.batches import Batch, flat_lists, long_lists, short_lists, streams
from xdm.data.catalogue import Catalogue
from xdm.data.clicks import TrainingLog
from xdm.data.controls import Control
from xdm.data.labels import Labels, labels_of, next_items, own_sessions
from xdm.data.profiles import profile_codes
from xdm.log.store import Events, Store

LabelScope = Literal["session", "user"]
UnclickedAt = Literal["label", "session"]


class TrainingRows:
    """All training rows of a period, held flat in memory: some 80 bytes a label plus 4 bytes a listed item.

    ``n_rows`` sessions hold ``n_labels`` labels, each predicted from what the latest session before it had become by
    then. ``dropped`` counts the labels that cannot be used, by reason. ``lengths`` int64 ``[n_rows]``: visible clicks.
    ``item_clicks`` int64 ``[n_candidates]``: how often each candidate was clicked, for samplers. ``log``: the part as a whole.
    """

    def __init__(
        self, store: Store, catalogue: Catalogue, rules: BehaviourRules, *, until: int, first: int = 0,
        label_scope: LabelScope = "user", unclicked_at: UnclickedAt = "label", control: Control | None = None,
        n_targets: int = 1,
    ) -> None:  # fmt: skip
        """Labels are the clicks with ``first <= time < until`` (seconds).

        ``label_scope``: "session" keeps a label only if it belongs to the session that it is predicted from (SDM's
        way); "user" also predicts a session's first clicks, from the session before. ``unclicked_at``: the unclicked
        sequence is taken at each label's own time, or once at the first click of the session predicted from.
        ``control`` puts other lists in its place. ``n_targets``: how many of the next clicks, of the same session or
        user as ``label_scope`` says, stand in a label.
        """
        self.item_clicks = catalogue.clicks
        self.log = TrainingLog(store, catalogue, until)
        self._profile = profile_codes(catalogue.users)
        self._rules, self._label_scope, self._unclicked_at = rules, label_scope, unclicked_at
        self.control, self._n_targets = control, n_targets
        self._features = FeatureTable.of(catalogue.n_items, catalogue.items.features)
        self.dropped = {"no_click_before": 0, "other_session": 0, "too_few_clicks": 0}
        found, label, user, time, points, lists, which, starts = [], [], [], [], [], [], [], []
        n_points = n_lists = n_labels = 0
        for first_user, stored in store.parts():
            events = stored.in_catalogue(catalogue.of_store)
            one, labels, kept, targets = self._label_points(events, first, until, catalogue.n_candidates)
            rows = self._rows_of(one, labels.row, kept)
            sequences, place = self._unclicked_lists(events, one, labels, kept, rows)
            found.append(one)
            label.append(targets)
            user.append(labels.row[kept] + first_user + 1)
            time.append(labels.time[kept])
            starts.append(rows[:-1] + n_labels)
            points.append(kept + n_points)
            lists.append(sequences)
            which.append(place + n_lists)
            n_points += len(one)
            n_lists += len(sequences[0]) - 1
            n_labels += len(kept)
        self._found = concatenate(found)
        self._label, self._time, self._points = _joined(label), _joined(time), _joined(points)
        self._lists, self._list_of = join_lists(lists), _joined(which)
        self._first = np.concatenate([*starts, [n_labels]])  # of row r the labels [first[r], first[r + 1])
        self._user = _joined(user)[self._first[:-1]]
        self.n_rows, self.n_labels = len(self._user), len(self._points)
        last = self._points[self._first[1:] - 1]
        self.lengths = self._found.short[last, 1] - self._found.short[last, 0]

    def _label_points(
        self, events: Events, first: int, until: int, n_candidates: int
    ) -> tuple[Behaviours, Labels, np.ndarray, np.ndarray]:
        """The behaviours at each label of one part, the labels, which of them can be used, and the targets of each."""
        labels = labels_of(events, first, until)
        found = behaviours(events, labels.row, labels.time, self._features, self._rules)
        usable = found.session >= 0
        self.dropped["no_click_before"] += int((~usable).sum())
        group = labels.row
        if self._label_scope == "session" and len(labels):
            group = own_sessions(events, labels, self._rules)
            seen = np.zeros(len(labels), np.int64)
            seen[usable] = found.click_place[found.short[usable, 0]]
            inside = usable & (group == seen)
            self.dropped["other_session"] += int((usable & ~inside).sum())
            usable = inside
        common = labels.item <= n_candidates
        self.dropped["too_few_clicks"] += int((usable & ~common).sum())
        kept = np.flatnonzero(usable & common)
        return found, labels, kept, next_items(labels, group, n_candidates, self._n_targets)[kept]

    def _rows_of(self, found: Behaviours, user: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Where each row begins among the ``kept`` labels, and the end: int64 ``[rows + 1]``.

        A row is a session; with ``history_max`` it is a window of so many clicks of ``user`` ``[L]``, counted back from the
        user's last label: in ``found`` its labels then all see what the window holds before them, and nothing older.
        """
        if not self._rules.history_max:
            return _group_starts(found.session[kept])
        begins = found.short[kept]
        starts = _windows(user[kept], begins, self._rules.history_max)
        found.short[kept, 0] = begins[:, 0]
        return starts

    def _unclicked_lists(
        self, events: Events, found: Behaviours, labels: Labels, kept: np.ndarray, first: np.ndarray
    ) -> tuple[Lists, np.ndarray]:
        """The unclicked sequences ``(offsets, values)`` and, for each kept label, which one is its own."""
        if self._unclicked_at == "label":
            return self._controlled((found.unclicked_offsets, found.unclicked_values), labels.row, labels.time, kept)
        starts = kept[first[:-1]]
        times = found.click_time[found.short[starts, 0]]
        at_start = behaviours(events, labels.row[starts], times, self._features, self._rules)
        which = np.repeat(np.arange(len(starts)), np.diff(first))
        return self._controlled((at_start.unclicked_offsets, at_start.unclicked_values), labels.row[starts], times, which)

    def _controlled(self, lists: Lists, owner: np.ndarray, time: np.ndarray, which: np.ndarray) -> tuple[Lists, np.ndarray]:
        if self.control is None:
            return lists, which
        others, of_point = self.control.lists(lists, owner, time)
        return others, of_point[which]

    def batches(self, order: np.ndarray, batch_size: int) -> Iterator[tuple[Batch, np.ndarray]]:
        """``(batch, targets int64 [P, n_targets])`` for the rows of ``order``, ``batch_size`` sessions at a time."""
        for begin in range(0, len(order), batch_size):
            yield self.batch(order[begin : begin + batch_size])

    def batch(self, rows: np.ndarray) -> tuple[Batch, np.ndarray]:
        """The batch of ``rows`` (numbers below ``n_rows``), its points grouped by row, and their targets.

        Targets are int64 ``[P, n_targets]``: the label, then the clicks after it, 0 where there is none.
        """
        short = short_lists(self._found, self._points[self._first[rows + 1] - 1])  # the last point sees most of the session
        return self._batch(rows, self._first[rows], self._first[rows + 1], short)

    def points(self, labels: np.ndarray) -> tuple[Batch, np.ndarray]:
        """The batch of ``labels`` (numbers below ``n_labels``), each in a row of its own that ends where it is asked, and their
        targets."""
        rows = np.searchsorted(self._first, labels, side="right") - 1
        return self._batch(rows, labels, labels + 1, short_lists(self._found, self._points[labels]))

    def clicks(self, rows: np.ndarray, positions: np.ndarray) -> tuple[Batch, np.ndarray]:
        """One click of each of ``rows``, the one at ``positions`` (from 0): a batch as if it were the first of its row, but for
        the number of its session, asked after it, and the targets of these points. A click may have no point, or several."""
        found = self._found
        at, place = rows * self._longest + positions, found.short[self._points[self._first[rows]], 0] + positions
        short = {
            "short": found.click_item[place].astype(np.int64)[:, None], "short_time": found.click_time[place][:, None],
            "short_session": self._session_number(place, place - positions)[:, None], "short_length": np.ones(len(rows), np.int64),
        }  # fmt: skip
        begin, end = np.searchsorted(self._asked, at), np.searchsorted(self._asked, at, side="right")
        batch, targets = self._batch(rows, begin, end, short)
        return replace(batch, position=np.zeros_like(batch.position)), targets

    @property
    def labels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of every label its row, when it is asked (seconds) and its item: int64 ``[n_labels]`` each."""
        return np.repeat(np.arange(self.n_rows), np.diff(self._first)), self._time, self._label[:, 0]

    @property
    def users(self) -> np.ndarray:
        """int64 ``[n_rows]``: whose each row is, an index of the catalogue."""
        return self._user

    def some_of_each_user(self, most: int, rng: np.random.Generator) -> np.ndarray:
        """bool ``[n_labels]``: of each user ``most`` labels drawn at random, or all where there are no more."""
        user = np.repeat(self._user, np.diff(self._first))
        by_user = np.lexsort((rng.random(self.n_labels), user))  # of each user in random order
        starts = _group_starts(user[by_user])
        place = np.arange(self.n_labels) - np.repeat(starts[:-1], np.diff(starts))  # within the user
        chosen = np.empty(self.n_labels, np.bool_)
        chosen[by_user] = place < most
        return chosen

    def count_of(self, labels: np.ndarray) -> np.ndarray:
        """int64 ``[n_rows]``: how many of the ``labels``, bool ``[n_labels]``, each row has."""
        return np.diff(np.concatenate([[0], np.cumsum(labels)])[self._first])

    def labels_of(self, rows: np.ndarray) -> np.ndarray:
        """The labels of ``rows`` one row after the other, as `batch` has its points: int64 ``[P]``."""
        counts = self._first[rows + 1] - self._first[rows]
        return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(self._first[rows], counts)

    def _session_number(self, place: np.ndarray, begin: np.ndarray) -> np.ndarray:
        """int64 ``[R]``: which session of its row, from 1, the click at ``place`` ``[R]`` is of, where the row begins at ``begin``."""
        return 1 + self._opened[place] - self._opened[begin]

    @property
    def started(self) -> np.ndarray:
        """int64 ``[n_rows]``: when each session's first click was (seconds)."""
        return self._found.click_time[self._found.short[self._points[self._first[:-1]], 0]]

    @cached_property
    def _opened(self) -> np.ndarray:
        """int64 ``[C]``: how many sessions were opened up to each click, of any user."""
        return self._found.click_opens.cumsum(dtype=np.int64)

    @cached_property
    def _longest(self) -> int:
        return int(self.lengths.max(initial=1))

    @cached_property
    def _asked(self) -> np.ndarray:
        """int64 ``[n_labels]``: row * longest + position of each label, in rising order."""
        row = np.repeat(np.arange(self.n_rows), np.diff(self._first))
        seen = self._found.short[self._points]
        return row * self._longest + seen[:, 1] - seen[:, 0] - 1

    def _batch(
        self, rows: np.ndarray, begin: np.ndarray, end: np.ndarray, short: dict[str, np.ndarray]
    ) -> tuple[Batch, np.ndarray]:
        """The batch of ``rows``, of row r asked at its labels ``begin[r]:end[r]``; ``short``: its fields of that name."""
        counts = end - begin
        row = np.repeat(np.arange(len(rows), dtype=np.int64), counts)
        places = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts) + begin[row]
        points, found = self._points[places], self._found
        last = self._points[self._first[rows + 1] - 1]
        lists, owner, unclicked_row = np.unique(self._list_of[places], return_index=True, return_inverse=True)
        unclicked, unclicked_of = flat_lists(*self._lists, lists)
        batch = Batch(
            **short, long=long_lists(found, last), user=self._user[rows],
            profile=self._profile[self._user[rows]], unclicked=unclicked, unclicked_of=unclicked_of,
            unclicked_owner=row[owner], row=row, position=found.short[points, 1] - found.short[points, 0] - 1,
            time=self._time[places], unclicked_row=unclicked_row.astype(np.int64), **streams(found, points, row),
        )  # fmt: skip
        return batch, self._label[places]


@numba.njit(cache=True, nogil=True)
def _windows(user, short, history_max):
    """Where each window begins among labels sorted by (user, time), and the end. ``short`` int64 ``[L, 2]`` holds what each
    label may see, at most ``history_max`` clicks; its first column is moved to the beginning of the label's window."""
    starts = np.empty(len(user) + 1, np.int64)
    n, begin = 0, 0
    for at in range(len(user) - 1, -1, -1):
        if at == len(user) - 1 or user[at] != user[at + 1] or short[at, 1] <= begin:
            begin = short[at, 0]
            n += 1
        starts[len(user) - n] = at  # of a window the first label is written last
        short[at, 0] = begin
    starts[len(user)] = len(user)
    return starts[len(user) - n :].copy()


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """The arrays of all parts one after the other; of one part its own, without a copy."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _group_starts(group: np.ndarray) -> np.ndarray:
    """Where each run of equal values in ``group`` starts, and the end: ``[runs + 1]`` int64."""
    if not len(group):
        return np.zeros(1, np.int64)
    return np.concatenate([[0], np.flatnonzero(group[1:] != group[:-1]) + 1, [len(group)]]).astype(np.int64)
