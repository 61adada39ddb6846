"""Batches: behaviours as padded arrays, for training (many labels a session) and for a point in time (one a row) alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numba
import numpy as np

from xdm.behaviours.points import Behaviours, take_lists


@dataclass(frozen=True)
class Batch:
    """What an encoder reads. B sessions, P points asked of them, U unclicked sequences; padding is 0, on the right.

    Unclicked sequences are not padded: their lengths differ widely, up to 100, and work on padding would be most of it.
    A point is one question: the user's state after ``position[p] + 1`` clicks of session ``row[p]``, with the
    unclicked sequence ``unclicked_row[p]``. In training a session has as many points as labels; labels of one second
    share a position, because none of them may see another. At a point in time each row is one point, the last.
    """

    short: Any  # [B, T] int64: items of the short-term session, oldest first
    short_time: Any  # [B, T] int64: when each was clicked, in seconds
    short_session: Any  # [B, T] int64: which session each belongs to, from 1 (`history_max` reaches back over several)
    short_length: Any  # [B] int64, >= 1
    long: Any  # [B, F, M] int64: per feature (item_id first) the codes of the long-term list, most recent first
    user: Any  # [B] int64: user index, 0 unknown
    profile: Any  # [B, fields] int64: profile codes, 0 unknown
    unclicked: Any  # [N] int64: the items of all unclicked sequences, one sequence after the other, oldest first
    unclicked_of: Any  # [N] int64: which sequence each of them belongs to, 0 <= u < U
    unclicked_owner: Any  # [U] int64: the session whose user each sequence belongs to
    row: Any  # [P] int64
    position: Any  # [P] int64
    time: Any  # [P] int64: when the question is asked, in seconds
    unclicked_row: Any  # [P] int64
    # The stream of exposures, for models that read it (`BehaviourRules.stream_max`); S = T = 0 without one.
    stream: Any  # [S, T] int64: items shown, oldest first
    stream_action: Any  # [S, T] int64: 1 skipped, 2 clicked
    stream_owner: Any  # [S] int64: the session whose user each stream belongs to
    stream_row: Any  # [P] int64: the stream of each point
    stream_position: Any  # [P] int64: its last exposure before the point

    def map(self, function: Callable[[Any], Any]) -> Batch:
        """``function`` applied to every array."""
        return Batch(*(function(getattr(self, field.name)) for field in fields(self)))

    def at(self, points: Any) -> Batch:
        """The same sessions, asked at ``points`` alone (an index of any kind into the P points)."""
        asked = ("row", "position", "time", "unclicked_row", "stream_row", "stream_position")
        return replace(self, **{name: getattr(self, name)[points] for name in asked})


@numba.njit(cache=True, nogil=True)
def _pad(offsets, values, which, out):
    for i in range(len(which)):
        begin = offsets[which[i]]
        for j in range(offsets[which[i] + 1] - begin):
            out[i, j] = values[begin + j]


def pad_lists(offsets: np.ndarray, values: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The lists ``which`` as int64 ``[len(which), longest]``, padded with 0; at least one column."""
    width = max(1, int((offsets[which + 1] - offsets[which]).max(initial=0)))
    out = np.zeros((len(which), width), np.int64)
    _pad(offsets, values, which, out)
    return out


def flat_lists(offsets: np.ndarray, values: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lists ``which`` one after the other: ``(values [N] int64, the list of each, 0 <= u < len(which), [N] int64)``."""
    taken, flat = take_lists(offsets, values, which)
    return flat.astype(np.int64), np.repeat(np.arange(len(which), dtype=np.int64), np.diff(taken))


def short_lists(found: Behaviours, points: np.ndarray) -> dict[str, np.ndarray]:
    """The fields of `Batch` that hold the short-term sessions of ``points``."""
    begin, end = found.short[points, 0], found.short[points, 1]
    lengths = end - begin
    columns = np.arange(max(1, int(lengths.max(initial=0))))
    inside = columns < lengths[:, None]
    places = np.where(inside, begin[:, None] + columns, 0)
    nothing = np.zeros(places.shape, np.int64)
    items = np.where(inside, found.click_item[places], 0).astype(np.int64) if len(found.click_item) else nothing
    times = np.where(inside, found.click_time[places], 0) if len(found.click_time) else nothing
    return {"short": items, "short_time": times, "short_session": session_numbers(found, places, inside), "short_length": lengths}


def session_numbers(found: Behaviours, places: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """int64 ``[P, T]``: the session of each of the clicks ``places`` ``[P, T]`` of ``found``, from 1; 0 where ``inside`` is false."""
    if not len(found.click_opens):
        return np.zeros(places.shape, np.int64)
    opens = found.click_opens[places].astype(np.int64)
    opens[:, 0] = 1  # a row may begin within a session
    return np.where(inside, opens.cumsum(axis=1), 0)


def streams(found: Behaviours, points: np.ndarray, row: np.ndarray) -> dict[str, np.ndarray]:
    """The stream fields of `Batch` for ``points``, whose sessions are ``row``: points with one beginning share a stream."""
    begins, first, which = np.unique(found.stream[points, 0], return_index=True, return_inverse=True)
    ends = np.zeros(len(begins), np.int64)
    np.maximum.at(ends, which, found.stream[points, 1])
    width = int((ends - begins).max(initial=0))
    if not width:
        nothing, nowhere = np.zeros((0, 0), np.int64), np.zeros(len(points), np.int64)
        return {"stream": nothing, "stream_action": nothing, "stream_owner": nowhere[:0], "stream_row": nowhere,
                "stream_position": nowhere}  # fmt: skip
    places = begins[:, None] + np.arange(width)
    inside = places < ends[:, None]
    places = np.where(inside, places, 0)
    return {
        "stream": np.where(inside, found.stream_item[places], 0).astype(np.int64),
        "stream_action": np.where(inside, 1 + found.stream_clicked[places].astype(np.int64), 0),
        "stream_owner": row[first], "stream_row": which.astype(np.int64),
        "stream_position": found.stream[points, 1] - found.stream[points, 0] - 1,
    }  # fmt: skip


def long_lists(found: Behaviours, points: np.ndarray) -> np.ndarray:
    """The long-term lists of ``points`` (each with a session): int64 ``[P, F, longest]``."""
    n_features = len(found.feature_names)
    which = (found.session[points][:, None] * n_features + np.arange(n_features)).reshape(-1)
    padded = pad_lists(found.long_offsets, found.long_values, which)
    return padded.reshape(len(points), n_features, padded.shape[1])


def point_batch(
    found: Behaviours, points: np.ndarray, time: np.ndarray, user: np.ndarray, profile: np.ndarray
) -> Batch:
    """One row a point: the state at each of ``points`` (which all have a session), asked at ``time`` ``[P]`` (seconds).
    ``user`` ``[P]``, ``profile`` ``[P, fields]``."""
    short = short_lists(found, points)
    rows = np.arange(len(points), dtype=np.int64)
    unclicked, unclicked_of = flat_lists(found.unclicked_offsets, found.unclicked_values, points)
    return Batch(
        **short, long=long_lists(found, points), user=user.astype(np.int64),
        profile=profile.astype(np.int64), unclicked=unclicked, unclicked_of=unclicked_of,
        unclicked_owner=rows, row=rows, position=short["short_length"] - 1, time=np.asarray(time, np.int64),
        unclicked_row=rows, **streams(found, points, rows),
    )  # fmt: skip
