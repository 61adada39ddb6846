"""Behaviours of many users at many times: the kernel behind one Python door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xdm.behaviours.kernel import behaviours_at, streams_at
from xdm.behaviours.rules import BehaviourRules
from xdm.log.store import Events, Feature
from xdm.schema import ITEM_ID, InternalError

Lists = tuple[np.ndarray, np.ndarray]  # offsets int64 [L + 1], values int32: L lists, flat


@dataclass(frozen=True)
class FeatureTable:
    """Item features as one matrix: ``names`` starts with ``item_id``; ``codes`` int32 ``[F, items + 1]``, 0 for none."""

    names: tuple[str, ...]
    codes: np.ndarray

    @classmethod
    def of(cls, n_items: int, features: Mapping[str, Feature]) -> FeatureTable:
        rows = [np.arange(n_items + 1, dtype=np.int32)] + [feature.codes for feature in features.values()]
        return cls((ITEM_ID, *features), np.ascontiguousarray(np.stack(rows)))


@dataclass(frozen=True)
class Behaviours:
    """What may be known at each of Q points (see `xdm.behaviours.kernel.behaviours_at`), in the order of the points.

    Lists are held flat with offsets (CSR); nothing is padded. ``session[q]`` says which long-term lists belong to
    point q: several points of one session share them.
    """

    feature_names: tuple[str, ...]
    click_item: np.ndarray  # [C] int32
    click_time: np.ndarray  # [C] int64
    click_opens: np.ndarray  # [C] bool, whether each click is the first of a session
    click_place: np.ndarray  # [C] int64, where each click stands in the event columns
    short: np.ndarray  # [Q, 2] int64 into the clicks
    session: np.ndarray  # [Q] int64, -1 where no click is visible
    long_offsets: np.ndarray  # [S * F + 1] int64
    long_values: np.ndarray  # int32
    unclicked_offsets: np.ndarray  # [Q + 1] int64
    unclicked_values: np.ndarray  # int32
    stream: np.ndarray  # [Q, 2] int64 into the stream's events; all zeros where the rules ask for no stream
    stream_item: np.ndarray  # [E] int32
    stream_clicked: np.ndarray  # [E] bool

    def __len__(self) -> int:
        return len(self.session)

    def short_term(self, q: int) -> np.ndarray:
        """The clicks of the latest session, oldest first: int32 ``[<= session_max]``."""
        return self.click_item[self.short[q, 0] : self.short[q, 1]]

    def sessions(self, q: int) -> np.ndarray:
        """The number of the session of each of these clicks, from 1: int64 ``[<= session_max]``; one session, unless ``history_max``
        reaches back over several."""
        opens = self.click_opens[self.short[q, 0] : self.short[q, 1]].astype(np.int64)
        opens[:1] = 1  # the first may stand within a session
        return opens.cumsum()

    def long_term(self, q: int, feature: int) -> np.ndarray:
        """The distinct values of one feature before that session, most recent first: int32 ``[<= long_max]``."""
        if self.session[q] < 0:
            return self.long_values[:0]
        place = self.session[q] * len(self.feature_names) + feature
        return self.long_values[self.long_offsets[place] : self.long_offsets[place + 1]]

    def exposures(self, q: int) -> tuple[np.ndarray, np.ndarray]:
        """The stream: items int32 and whether each was clicked, bool, oldest first (`xdm.behaviours.kernel.streams_at`)."""
        begin, end = self.stream[q]
        return self.stream_item[begin:end], self.stream_clicked[begin:end]

    def unclicked(self, q: int) -> np.ndarray:
        """The unclicked sequence, oldest first: int32 ``[<= unclicked_max]``."""
        return self.unclicked_values[self.unclicked_offsets[q] : self.unclicked_offsets[q + 1]]


def behaviours(
    events: Events, rows: np.ndarray, times: np.ndarray, features: FeatureTable, rules: BehaviourRules
) -> Behaviours:
    """The behaviours of user ``rows[q]`` of ``events`` at ``times[q]`` (seconds), int64 ``[Q]`` each, in any order."""
    rows, times = np.asarray(rows, np.int64), np.asarray(times, np.int64)
    if (
        len(events.item)
        and int(events.item[events.offsets[0] : events.offsets[-1]].max(initial=0)) >= features.codes.shape[1]
    ):
        raise InternalError("events name items beyond the feature table; they belong to another catalogue")
    in_order = bool(((rows[1:] > rows[:-1]) | ((rows[1:] == rows[:-1]) & (times[1:] >= times[:-1]))).all())
    order = np.arange(0) if in_order else np.lexsort((times, rows))
    clicks, opens, short, session, long_offsets, long_values, unclicked_offsets, unclicked_values = behaviours_at(
        events.item, events.time, events.clicked, events.session, events.offsets,
        rows if in_order else rows[order], times if in_order else times[order], features.codes,
        rules.session_gap, rules.session_max, rules.history_max, rules.long_window, rules.long_max,
        rules.unclicked_window, rules.unclicked_k, rules.unclicked_max, rules.keep_clicked,
    )  # fmt: skip
    if not in_order:
        back = np.argsort(order)
        short, session = short[back], session[back]
        unclicked_offsets, unclicked_values = take_lists(unclicked_offsets, unclicked_values, back)
    return Behaviours(
        features.names, events.item[clicks], events.time[clicks], opens, clicks, short, session,
        long_offsets, long_values, unclicked_offsets, unclicked_values, *_streams(events, rows, times, rules.stream_max),
    )  # fmt: skip


def _streams(
    events: Events, rows: np.ndarray, times: np.ndarray, maximum: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``stream``, ``stream_item`` and ``stream_clicked`` of `Behaviours`: the events of the asked users alone are held."""
    if not maximum:
        return np.zeros((len(rows), 2), np.int64), np.zeros(0, np.int32), np.zeros(0, bool)
    places = streams_at(events.time, events.offsets, rows, times, maximum)
    asked, number = np.unique(rows, return_inverse=True)
    held, item = take_lists(events.offsets, events.item, asked)
    _, clicked = take_lists(events.offsets, events.clicked, asked)
    return places + (held[number] - events.offsets[rows])[:, None], item, clicked


def concatenate(found: Sequence[Behaviours]) -> Behaviours:
    """The points of several collections one after the other; `click_place` loses its meaning and is left empty."""
    if len(found) == 1:
        return found[0]
    clicks = np.cumsum([0] + [len(one.click_item) for one in found])
    sessions = np.cumsum([0] + [(len(one.long_offsets) - 1) // len(one.feature_names) for one in found])
    streamed = np.cumsum([0] + [len(one.stream_item) for one in found])
    return Behaviours(
        found[0].feature_names,
        np.concatenate([one.click_item for one in found]),
        np.concatenate([one.click_time for one in found]),
        np.concatenate([one.click_opens for one in found]),
        np.zeros(0, np.int64),
        np.concatenate([one.short + shift for one, shift in zip(found, clicks[:-1], strict=True)]),
        np.concatenate([np.where(one.session < 0, -1, one.session + shift)
                        for one, shift in zip(found, sessions[:-1], strict=True)]),
        *join_lists([(one.long_offsets, one.long_values) for one in found]),
        *join_lists([(one.unclicked_offsets, one.unclicked_values) for one in found]),
        np.concatenate([one.stream + shift for one, shift in zip(found, streamed[:-1], strict=True)]),
        np.concatenate([one.stream_item for one in found]),
        np.concatenate([one.stream_clicked for one in found]),
    )  # fmt: skip


def join_lists(lists: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Flat collections ``(offsets, values)`` one after the other, as one."""
    if len(lists) == 1:
        return lists[0]
    ends = np.cumsum([0] + [offsets[-1] for offsets, _ in lists])
    offsets = [np.zeros(1, np.int64)] + [one[1:] + end for (one, _), end in zip(lists, ends[:-1], strict=True)]
    return np.concatenate(offsets), np.concatenate([values for _, values in lists])


def distinct_lists(group: np.ndarray, values: np.ndarray, groups: int) -> Lists:
    """The distinct ``values`` int ``[N]`` of each of ``groups`` groups, rising; ``group`` int64 ``[N]`` says whose each is."""
    width = int(values.max(initial=0)) + 1
    distinct = np.unique(group * width + values)
    offsets = np.searchsorted(distinct, np.arange(groups + 1, dtype=np.int64) * width)
    return offsets.astype(np.int64), (distinct % width).astype(np.int32)


def take_lists(offsets: np.ndarray, values: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lists ``which`` of a flat collection of lists, flat again: ``(offsets, values)``."""
    lengths = offsets[which + 1] - offsets[which]
    taken = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    places = np.repeat(offsets[which] - taken[:-1], lengths) + np.arange(taken[-1])
    return taken, values[places]
