"""Which of a user's events may go: the same for every state."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from xdm.schema import DAY, HOUR
from xdm.serving.state.types import SeenEvent

if TYPE_CHECKING:
    from xdm.behaviours.rules import BehaviourRules

LATE = DAY  # how far back a question or an event may be dated
ROUND_SECONDS = HOUR  # a round through all users begins so long after the last one ended at the earliest
USERS_A_SLICE = 100
EVENTS_A_SLICE = 10_000  # of one user
EVENTS_A_STEP = 25  # deleted at once: what a writer waits for is the flush, not the rows


def needed_place(
    events: Sequence[SeenEvent],
    rules: Sequence[BehaviourRules],
    now: int,
    max_age: int | None,
    known: Callable[[str | int], bool],
) -> int:
    """How many of a user's ``events``, the newest before ``now``, oldest first, may go: the first so many."""
    # numba is for those who prune, not for all who open a state
    from xdm.behaviours.retention import needed_from
    from xdm.log.store import Events

    codes: dict[str, int] = {}
    place = needed_from(
        Events.of_one_user(
            [int(known(event.item_id)) for event in events],
            [event.timestamp for event in events],
            [event.clicked for event in events],
            [-1 if e.session_id is None else codes.setdefault(str(e.session_id), len(codes)) for e in events],
        ),
        now - LATE,
        rules,
    )
    if max_age is not None:
        place = max(place, bisect.bisect_left(events, now - max_age, key=lambda event: event.timestamp))
    return place
