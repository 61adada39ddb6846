"""Labels: which clicks are learned from, and the time at which each is asked."""

from __future__ import annotations

import numpy as np

from xdm.log.store import Events


def label_points(events: Events, first: int, until: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every click with ``first <= time < until`` as a point: its user's row, its time and its item.

    Returns three arrays ``[L]`` (int64, int64, int32), sorted by (row, time). Whether a label can be used (whether a
    click is visible strictly before its time) is for `xdm.behaviours` to say.
    """
    begin, end = int(events.offsets[0]), int(events.offsets[-1])
    time = events.time[begin:end]
    places = np.flatnonzero(events.clicked[begin:end] & (time >= first) & (time < until)) + begin
    rows = np.searchsorted(events.offsets, places, side="right") - 1
    return rows.astype(np.int64), np.asarray(events.time[places]), np.asarray(events.item[places])
