"""What an observer of a simulated world has seen of its users before a question: exposures by item, visit and day."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xdm.retrieval.types import Points
from xdm.schema import DAY, HOUR
from xdm.simulation.feed import FIRST_HOUR, LONGEST_GAP, window_width
from xdm.simulation.world import World


def visit_clock(world: World, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The visit (int64, from 0) in whose window ``time`` falls, or the next to come, and the share of that window's first
    half, in which visits start, that is over (float64). The world's number of visits and 0 after its end."""
    day, second = np.divmod(np.asarray(time, np.int64) - world.start, DAY)
    width = window_width(world)
    window, elapsed = np.divmod(second - FIRST_HOUR * HOUR, width)
    before, after = window < 0, window >= world.visits
    visit = day * world.visits + np.clip(window, 0, world.visits)
    share = np.where(before | after, 0.0, np.clip(elapsed / (width // 2), 0.0, 1.0))
    out = (visit < 0) | (visit >= world.n_visits)
    return np.clip(visit, 0, world.n_visits), np.where(out, 0.0, share)


@dataclass(frozen=True)
class Sightings:
    """What was seen of Q questions' users strictly before each question.

    By question ``[Q]``: ``visit`` int64 and ``share`` float64, the time of the question (`visit_clock`); ``day`` int64;
    ``last_time`` int64 of the last exposure (-1: none); ``seen_now`` int64 exposures in the visit that may be running;
    ``last_new`` int64 the last visit, but for a running one, in which an item was shown for the first time (-1: none).
    By exposure ``[n]``, int64 unless said otherwise: ``of`` the question, ``item`` the row of the catalogue,
    ``at`` the visit, ``clicked`` bool. By question and item ``[Q, items]``: ``times_shown`` int64, ``last_visit`` int64
    (-1: never), ``clicked_at`` int64 the visit of the click (-1: none).
    """

    visit: np.ndarray
    share: np.ndarray
    day: np.ndarray
    last_time: np.ndarray
    seen_now: np.ndarray
    last_new: np.ndarray
    of: np.ndarray
    item: np.ndarray
    at: np.ndarray
    clicked: np.ndarray
    times_shown: np.ndarray
    last_visit: np.ndarray
    clicked_at: np.ndarray

    @property
    def left(self) -> np.ndarray:
        """Bool ``[Q, items]``: not clicked yet."""
        return self.clicked_at < 0


def look_back(world: World, points: Points, row_of_item: np.ndarray, clicks_only: bool) -> Sightings:
    """``row_of_item`` ``[catalogue items + 1]``: rows of the world's catalogue, by the index that ``points`` use."""
    of, place = _before(points, clicks_only)
    events, n_questions = points.events, len(points)
    item = row_of_item[events.item[place]].astype(np.int64)
    time, clicked = np.asarray(events.time[place], np.int64), np.asarray(events.clicked[place], bool)
    at, _ = visit_clock(world, time)
    visit, share = visit_clock(world, points.time)

    cell = of * world.n_items + item
    cells = n_questions * world.n_items
    last_visit, clicked_at = np.full(cells, -1), np.full(cells, -1)
    last_visit[cell] = at  # in order of time: the last one stays
    clicked_at[cell[clicked]] = at[clicked]
    last_time, last_new = np.full(n_questions, -1), np.full(n_questions, -1)
    last_time[of] = time
    recent = points.time - last_time <= LONGEST_GAP
    now = (at == visit[of]) & recent[of]
    _, first = np.unique(cell, return_index=True)
    # Neither offers nor what a visit shows before its end are a sign that all that was due has been shown.
    telling = first[~now[first] & ~(clicked[first] & (world.skip_information < 1))]
    np.maximum.at(last_new, of[telling], at[telling])
    shape = n_questions, world.n_items
    return Sightings(
        visit=visit,
        share=np.where((last_time >= 0) & _seen_in(visit, of, at), 1.0, share),
        day=np.clip((points.time - world.start) // DAY, 0, world.days - 1),
        last_time=last_time,
        seen_now=np.bincount(of[now], minlength=n_questions),
        last_new=last_new,
        of=of, item=item, at=at, clicked=clicked,
        times_shown=np.bincount(cell, minlength=cells).reshape(shape),
        last_visit=last_visit.reshape(shape),
        clicked_at=clicked_at.reshape(shape),
    )  # fmt: skip


def _seen_in(visit: np.ndarray, of: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Bool ``[Q]``: something was seen in the visit of the question, which has begun therefore."""
    seen = np.zeros(len(visit), bool)
    seen[of[at == visit[of]]] = True
    return seen


def _before(points: Points, clicks_only: bool) -> tuple[np.ndarray, np.ndarray]:
    """Question and place in the columns of every event strictly before its question, in order of time, both int64."""
    events, places = points.events, []
    for row, time in zip(points.row.tolist(), points.time.tolist(), strict=True):
        begin, end = int(events.offsets[row]), int(events.offsets[row + 1])
        end = begin + int(np.searchsorted(events.time[begin:end], time))
        place = np.arange(begin, end)
        places.append(place[events.clicked[begin:end]] if clicks_only else place)
    of = np.repeat(np.arange(len(places)), [len(place) for place in places])
    return of, np.concatenate(places) if places else np.zeros(0, np.int64)
