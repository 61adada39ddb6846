"""Rows of whole users into the order of the store: by user, then time, ties as in the log; and what is counted there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit


@dataclass(frozen=True)
class SortedRows:
    """``offsets`` int64 ``[users + 1]``, ``time`` int64 ``[n]``, ``fields`` int32 ``[n, columns]``; ``duplicates`` were dropped."""

    offsets: np.ndarray
    time: np.ndarray
    fields: np.ndarray
    duplicates: int


def sort_rows(users: int, user: np.ndarray, time: np.ndarray, fields: np.ndarray) -> SortedRows:
    """Sort by ``user`` (int32 ``[n]``, each of ``0 .. users - 1``) and time, stably, and drop rows that repeat another exactly.

    A counting sort by user leaves a log that was in order of time in order; only users that it finds out of order are
    sorted by time.
    """
    offsets = np.zeros(users + 1, np.int64)
    np.cumsum(np.bincount(user, minlength=users), out=offsets[1:])
    sorted_time, sorted_fields = _group_by_user(offsets, user, time, fields)
    _sort_times(offsets, sorted_time, sorted_fields)
    repeated = find_duplicates(offsets, sorted_time, sorted_fields)
    duplicates = int(np.count_nonzero(repeated))
    if duplicates:
        before = np.zeros(len(repeated) + 1, np.int64)
        np.cumsum(~repeated, out=before[1:])
        offsets = before[offsets]
        sorted_time, sorted_fields = sorted_time[~repeated], sorted_fields[~repeated]
    return SortedRows(offsets, sorted_time, sorted_fields, duplicates)


@njit(cache=True, nogil=True)
def _group_by_user(offsets, user, time, fields):
    place = offsets[:-1].copy()
    sorted_time = np.empty_like(time)
    sorted_fields = np.empty_like(fields)
    columns = fields.shape[1]
    for row in range(len(user)):
        to = place[user[row]]
        place[user[row]] += 1
        sorted_time[to] = time[row]
        for column in range(columns):
            sorted_fields[to, column] = fields[row, column]
    return sorted_time, sorted_fields


@njit(cache=True, nogil=True)
def _sort_times(offsets, time, fields):
    for user in range(len(offsets) - 1):
        begin, end = offsets[user], offsets[user + 1]
        rising = True
        for row in range(begin + 1, end):
            if time[row] < time[row - 1]:
                rising = False
                break
        if not rising:
            order = np.argsort(time[begin:end], kind="mergesort")
            time[begin:end] = time[begin:end][order]
            fields[begin:end] = fields[begin:end][order]


@njit(cache=True, nogil=True)
def find_duplicates(offsets, time, fields):
    """Which rows equal an earlier row of the same user and second in every field: bool ``[n]``.

    The rows of one user and second go through a small hash table, so that a second with a hundred thousand rows costs
    no more a row than one with two. Places of earlier seconds are stale and count as empty.
    """
    repeated = np.zeros(len(time), np.bool_)
    slots = np.full(16, -1, np.int64)
    for user in range(len(offsets) - 1):
        begin = offsets[user]
        while begin < offsets[user + 1]:
            end = begin + 1
            while end < offsets[user + 1] and time[end] == time[begin]:
                end += 1
            if end - begin > 1:
                if len(slots) < 2 * (end - begin):
                    size = len(slots)
                    while size < 2 * (end - begin):
                        size *= 2
                    slots = np.full(size, -1, np.int64)
                for row in range(begin, end):
                    repeated[row] = _seen(slots, fields, row, begin)
            begin = end
    return repeated


@njit(cache=True, nogil=True)
def _seen(slots, fields, row, begin):
    """Whether a row from ``begin`` on that is in ``slots`` equals ``row``; else ``row`` is put there."""
    value = np.uint64(0)
    for column in range(fields.shape[1]):
        value = (value ^ np.uint64(np.uint32(fields[row, column]))) * np.uint64(0x9E3779B97F4A7C15)
        value ^= value >> np.uint64(29)
    mask = np.uint64(len(slots) - 1)
    place = value & mask
    while slots[place] >= begin:
        other = slots[place]
        same = True
        for column in range(fields.shape[1]):
            if fields[other, column] != fields[row, column]:
                same = False
        if same:
            return True
        place = (place + np.uint64(1)) & mask
    slots[place] = row
    return False


@njit(cache=True, nogil=True)
def count_rows(offsets, time, fields, clicks, exposures):
    """Add this part's clicks and exposures to the counts by item code, and count its clicks without an exposure.

    The first two columns of ``fields`` are the item's code and whether it was clicked.

    A click has its exposure where a row of the same user and item that was not clicked lies before it or in its second.
    """
    shown_to = np.full(len(clicks), -1, np.int64)  # the last user to whom the item was shown unclicked
    alone = 0
    for user in range(len(offsets) - 1):
        begin = offsets[user]
        while begin < offsets[user + 1]:
            end = begin
            while end < offsets[user + 1] and time[end] == time[begin]:
                item = fields[end, 0]
                exposures[item] += 1
                if fields[end, 1]:
                    clicks[item] += 1
                else:
                    shown_to[item] = user
                end += 1
            for row in range(begin, end):
                if fields[row, 1] and shown_to[fields[row, 0]] != user:
                    alone += 1
            begin = end
    return alone
