"""Sessions, long-term lists and unclicked sequences: the one numba kernel.

Training, evaluation and the live service all call `behaviours_at`. It looks at the events of a user strictly before
each asked time and at nothing else; for many asked times of one user it slides its windows forward, so that the cost
is a few operations for each event plus the length of each list, however long the window is.
"""

from __future__ import annotations

import numba
import numpy as np

_NONE = -1  # end of a linked list
_OUT = -2  # not in the linked list


@numba.njit(cache=True, nogil=True)
def session_starts(time, session, gap, maximum, start):
    """``start[c]``: the first click of the session that click ``c`` belongs to. Arrays ``[C]``, one user's clicks.

    A click joins the running session if its session code equals the previous click's (codes below 0 equal none), or
    if it comes less than ``gap`` seconds after it, unless the session holds ``maximum`` clicks already.
    """
    for c in range(len(time)):
        if c == 0:
            start[c] = 0
            continue
        same = session[c] >= 0 and session[c] == session[c - 1]
        near = time[c] - time[c - 1] < gap
        full = c - start[c - 1] >= maximum
        start[c] = start[c - 1] if (same or near) and not full else c


@numba.njit(cache=True, nogil=True)
def _first_at_or_after(time, low, high, t):
    while low < high:
        middle = (low + high) // 2
        if time[middle] < t:
            low = middle + 1
        else:
            high = middle
    return low


@numba.njit(cache=True, nogil=True)
def _room(buffer, used, more):
    """``buffer``, or a larger copy of it where fewer than ``more`` places are left after ``used``."""
    if used + more <= len(buffer):
        return buffer
    larger = np.empty(max(2 * len(buffer), used + more), buffer.dtype)
    larger[:used] = buffer[:used]
    return larger


@numba.njit(cache=True, nogil=True)
def _unlink(s, before, after, ends):
    if before[s] == _NONE:
        ends[0] = after[s]
    else:
        after[before[s]] = after[s]
    if after[s] == _NONE:
        ends[1] = before[s]
    else:
        before[after[s]] = before[s]
    before[s] = _OUT


@numba.njit(cache=True, nogil=True)
def _link_by_last(s, before, after, ends, last):
    """Put item ``s`` into the list, which is ordered by last exposure; new exposures find their place at once."""
    left = ends[1]
    while left != _NONE and last[left] > last[s]:
        left = before[left]
    right = ends[0] if left == _NONE else after[left]
    before[s] = left
    after[s] = right
    if left == _NONE:
        ends[0] = s
    else:
        after[left] = s
    if right == _NONE:
        ends[1] = s
    else:
        before[right] = s


@numba.njit(cache=True, nogil=True)
def _unclicked(item, time, clicked, asked, window, k, maximum, keep_clicked, scratch, ends, key, slot, values, offsets, n, q):
    """Append the unclicked sequence of one user at each time of ``asked`` (rising) to ``values``: what was shown more than ``k``
    times in ``window`` and not clicked there, the latest ``maximum``. With ``keep_clicked`` a click does not take an item out.

    ``scratch`` int32 ``[5, S]``: per distinct item of the user, the exposures and the clicks in the window, the last
    exposure, and the neighbours in the linked list of the items that qualify, ordered by last exposure.
    ``key`` is a hash table from item to its place in ``scratch``, ``slot[e]`` that place for each event.
    """
    shown, clicks, last, before, after = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    low = _first_at_or_after(time, 0, len(time), asked[0] - window)
    high = low
    stop = _first_at_or_after(time, high, len(time), asked[-1])
    mask = 4
    while mask < 2 * (stop - low):
        mask *= 2
    key[:mask] = 0
    mask -= 1
    ends[0] = ends[1] = _NONE
    for t in asked:
        while low < high and time[low] < t - window:  # an event leaves the window [t - window, t)
            s = slot[low]
            shown[s] -= 1
            clicks[s] -= clicked[low]
            if before[s] != _OUT:
                if shown[s] <= k:
                    _unlink(s, before, after, ends)
            elif shown[s] > k and (keep_clicked or clicks[s] == 0):
                _link_by_last(s, before, after, ends, last)
            low += 1
        if low == high:  # whatever lies between two windows is never looked at
            low = high = _first_at_or_after(time, high, stop, t - window)
        while high < stop and time[high] < t:  # an event enters: strictly before t
            wanted = item[high]
            s = (wanted * np.uint32(2654435769) >> np.uint32(7)) & mask
            while key[s] != wanted and key[s] != 0:
                s = (s + 1) & mask
            if key[s] == 0:
                key[s] = wanted
                shown[s] = clicks[s] = 0
                before[s] = _OUT
            slot[high] = s
            shown[s] += 1
            clicks[s] += clicked[high]
            last[s] = high
            if before[s] != _OUT:
                _unlink(s, before, after, ends)
            if shown[s] > k and (keep_clicked or clicks[s] == 0):
                _link_by_last(s, before, after, ends, last)
            high += 1
        values = _room(values, n, maximum)
        length, s = 0, ends[1]
        while s != _NONE and length < maximum:
            length += 1
            s = before[s]
        s = ends[1]
        for place in range(n + length - 1, n - 1, -1):  # the latest is written last
            values[place] = key[s]
            s = before[s]
        n += length
        q += 1
        offsets[q] = n
    return values, n


@numba.njit(cache=True, nogil=True)
def streams_at(time, offsets, rows, times, maximum):
    """The stream of exposures, clicked and not, of user ``rows[q]`` before ``times[q]``: int64 ``[Q, 2]`` event places.

    A stream begins at a multiple of ``maximum`` events of its user, and holds the latest ``maximum`` events at least
    (as far as there are so many) and fewer than twice as many: neighbouring points share one beginning, so that a
    causal encoder reads a stream once for all of them, and what a point sees depends on its time alone.
    """
    found = np.empty((len(rows), 2), np.int64)
    for q in range(len(rows)):
        first = offsets[rows[q]]
        end = _first_at_or_after(time, first, offsets[rows[q] + 1], times[q])
        found[q, 0] = first + max(0, (end - first) // maximum - 1) * maximum
        found[q, 1] = end
    return found


@numba.njit(cache=True, nogil=True)
def _long_term(click_item, click_time, first, features, window, maximum, values, offsets, n, lists):
    """Append one list a feature: its distinct values before click ``first``, most recent first."""
    for f in range(len(features)):
        values = _room(values, n, maximum)
        begin = n
        c = first - 1
        while c >= 0 and n - begin < maximum and click_time[first] - click_time[c] <= window:
            value = features[f, click_item[c]]
            new = value != 0
            for seen in range(begin, n):
                if values[seen] == value:
                    new = False
                    break
            if new:
                values[n] = value
                n += 1
            c -= 1
        lists += 1
        offsets[lists] = n
    return values, n


@numba.njit(cache=True, nogil=True)
def behaviours_at(item, time, clicked, session, offsets, rows, times, features, gap, session_max, history_max, long_window,
                  long_max, unclicked_window, unclicked_k, unclicked_max, keep_clicked):  # fmt: skip
    """The behaviours of user ``rows[q]`` at ``times[q]``, for Q questions sorted by (row, time).

    Args:
        item, time, clicked, session, offsets: the columns of `xdm.log.store.Events`.
        rows, times: int64 ``[Q]``.
        features: int32 ``[F, items + 1]``; row 0 maps each item to itself, the others to a feature's code, 0 for none.
        history_max: above 0, the latest so many clicks stand in the place of the session.

    Returns:
        ``clicks`` int64 ``[C]`` (places of the clicks of the asked users in the event columns);
        ``opens`` bool ``[C]`` (whether each of them is the first of a session);
        ``short`` int64 ``[Q, 2]`` (the short-term session is ``clicks[short[q, 0]:short[q, 1]]``);
        ``session`` int64 ``[Q]`` (which distinct session that is, from 0; -1 where no click is visible);
        ``long_offsets`` int64 ``[S * F + 1]``, ``long_values`` int32 (list ``s * F + f`` is feature f before session s);
        ``unclicked_offsets`` int64 ``[Q + 1]``, ``unclicked_values`` int32.
    """
    n_questions, n_features = len(rows), len(features)
    short = np.zeros((n_questions, 2), np.int64)
    session_of = np.full(n_questions, -1, np.int64)
    long_offsets = np.zeros(n_questions * n_features + 1, np.int64)
    unclicked_offsets = np.zeros(n_questions + 1, np.int64)
    long_values, unclicked_values = np.empty(1024, np.int32), np.empty(1024, np.int32)
    n_long = n_unclicked = n_sessions = n_clicks = 0
    clicks, opens = np.empty(1024, np.int64), np.empty(1024, np.bool_)
    size = 0
    start, click_item, click_time, click_session = (
        np.empty(size, np.int64),
        np.empty(size, np.int32),
        np.empty(size, np.int64),
        np.empty(size, np.int32),
    )
    scratch, ends, key, slot = (
        np.empty((5, 4), np.int32),
        np.empty(2, np.int64),
        np.empty(4, np.int32),
        np.empty(size, np.int32),
    )

    q = 0
    while q < n_questions:
        row, first_question = rows[q], q
        while q < n_questions and rows[q] == row:
            q += 1
        asked = times[first_question:q]
        begin = offsets[row]
        end = _first_at_or_after(time, begin, offsets[row + 1], asked[-1])  # nothing from the last asked time on
        n_events = end - begin
        if n_events > size:
            size = 2 * n_events
            start, click_item, click_time, click_session = (
                np.empty(size, np.int64),
                np.empty(size, np.int32),
                np.empty(size, np.int64),
                np.empty(size, np.int32),
            )
            slot = np.empty(size, np.int32)
            capacity = 4
            while capacity < 2 * size:
                capacity *= 2
            scratch, key = np.empty((5, capacity), np.int32), np.empty(capacity, np.int32)
        # 4.1: sessions over the clicks
        clicks, opens = _room(clicks, n_clicks, n_events), _room(opens, n_clicks, n_events)
        m = 0
        for e in range(begin, end):
            if clicked[e]:
                clicks[n_clicks + m] = e
                click_item[m], click_time[m], click_session[m] = item[e], time[e], session[e]
                m += 1
        session_starts(click_time[:m], click_session[:m], gap, session_max, start[:m])
        for c in range(m):
            opens[n_clicks + c] = start[c] == c
        visible, previous = 0, -1
        for ask in range(first_question, q):
            while visible < m and click_time[visible] < times[ask]:
                visible += 1
            if visible == 0:
                continue
            first = max(0, visible - history_max) if history_max else start[visible - 1]
            short[ask, 0], short[ask, 1] = n_clicks + first, n_clicks + visible
            if first != previous:  # 4.2: long-term lists, once a session (or beginning of a history)
                long_values, n_long = _long_term(click_item, click_time, first, features, long_window, long_max,
                                                 long_values, long_offsets, n_long, n_sessions * n_features)  # fmt: skip
                previous = first
                n_sessions += 1
            session_of[ask] = n_sessions - 1
        n_clicks += m
        # 4.3: the unclicked sequences
        if n_events:
            unclicked_values, n_unclicked = _unclicked(
                item[begin:end], time[begin:end], clicked[begin:end], asked, unclicked_window, unclicked_k, unclicked_max,
                keep_clicked, scratch, ends, key, slot, unclicked_values, unclicked_offsets, n_unclicked, first_question)  # fmt: skip
        else:
            unclicked_offsets[first_question + 1 : q + 1] = n_unclicked
    return (
        clicks[:n_clicks].copy(), opens[:n_clicks].copy(), short, session_of, long_offsets[: n_sessions * n_features + 1].copy(),
        long_values[:n_long].copy(), unclicked_offsets, unclicked_values[:n_unclicked].copy(),
    )  # fmt: skip
