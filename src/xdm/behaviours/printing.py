"""Behaviours in external ids, for people and for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xdm.behaviours.points import Behaviours, FeatureTable, behaviours
from xdm.behaviours.rules import BehaviourRules
from xdm.log.store import Events, Store
from xdm.schema import ITEM_ID, TIME_LIMIT, TIMESTAMP, USER_ID, UsageError

BLOCK = 4096  # requests that are answered at once: memory stays bounded however long the file is

Request = tuple[Any, int]  # user_id, seconds


@dataclass(frozen=True)
class Answer:
    """What may be seen of one user at one time, in the log's own ids and feature values."""

    user_id: Any
    timestamp: int
    short: list[Any]
    sessions: list[int]  # of each click in ``short`` the number of its session, from 1
    long: dict[str, list[Any]]
    unclicked: list[Any]
    stream: list[tuple[Any, bool]] | None  # (item, clicked); None where the rules ask for no stream

    def to_json(self) -> str:
        """One line of JSON; ``stream`` is in it where the rules ask for one."""
        found = {name: value for name, value in vars(self).items() if value is not None}
        return json.dumps(found, ensure_ascii=False)


def read_requests(file: Path) -> Iterator[Request]:
    """``(user_id, timestamp)`` from lines ``{"user_id": …, "timestamp": …}``; ``-`` is standard input.

    Raises:
        UsageError: a line that is none, named by its number.
    """
    try:
        lines = sys.stdin if str(file) == "-" else file.open(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from None
    with lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _request(line, f"{file}, line {number}")
        except UnicodeDecodeError as error:
            raise UsageError(f"{file}: is no UTF-8 text ({error})") from None


def _request(line: str, where: str) -> Request:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f'{where}: is no JSON ({error}); a line must look like {{"user_id": "u1", "timestamp": 1700000000}}'
        ) from None
    if not isinstance(value, dict) or set(value) != {USER_ID, TIMESTAMP}:
        found = f"has the keys {sorted(value)}" if isinstance(value, dict) else f"is a {type(value).__name__}"
        raise UsageError(f"{where}: {found}; it must have user_id and timestamp and nothing else")
    user_id, time = value[USER_ID], value[TIMESTAMP]
    if isinstance(user_id, bool) or not isinstance(user_id, str | int):
        raise UsageError(f"{where}: user_id must be a string or an integer, not {user_id!r}")
    if isinstance(user_id, str) and user_id != user_id.encode(errors="ignore").decode():
        raise UsageError(f"{where}: user_id {user_id!r} is no Unicode text: it holds half of a surrogate pair")
    if isinstance(time, bool) or not isinstance(time, int) or not 0 <= time < TIME_LIMIT:
        raise UsageError(
            f"{where}: timestamp must be whole seconds since 1970, at least 0 and before the year 3000, not {time!r}"
        )
    return user_id, time


def answer_all(store: Store, asked: Iterable[Request], rules: BehaviourRules) -> Iterator[Answer]:
    """The answers to ``asked``, in its order."""
    features = FeatureTable.of(len(store.items), store.items.features)
    block: list[Request] = []
    for request in asked:
        block.append(request)
        if len(block) == BLOCK:
            yield from _answer_block(store, block, features, rules)
            block = []
    if block:
        yield from _answer_block(store, block, features, rules)


def _answer_block(
    store: Store, asked: list[Request], features: FeatureTable, rules: BehaviourRules
) -> Iterator[Answer]:
    users = store.users.vocabulary.indices([user_id for user_id, _ in asked])
    part_of = np.searchsorted(store.first_users, users - 1, side="right") - 1
    found: dict[int, tuple[Behaviours, int]] = {}
    for part in np.unique(part_of[users > 0]):
        which = np.flatnonzero((part_of == part) & (users > 0))
        rows = users[which] - 1 - int(store.first_users[part])
        one = behaviours(
            _only(store.part(int(part)), rows),
            np.arange(len(rows)),
            np.array([asked[q][1] for q in which]),
            features,
            rules,
        )
        found |= {int(q): (one, n) for n, q in enumerate(which)}
    for q, (user_id, time) in enumerate(asked):
        if q not in found:
            nothing: list[Any] = []
            yield Answer(
                user_id, time, nothing, nothing, {name: [] for name in features.names}, nothing, [] if rules.stream_max else None
            )
            continue
        one, n = found[q]
        item_id = store.items.vocabulary.external_list
        long = {
            name: item_id(one.long_term(n, f))
            if name == ITEM_ID
            else store.items.features[name].external(one.long_term(n, f))
            for f, name in enumerate(features.names)
        }
        stream = None
        if rules.stream_max:
            shown, clicked = one.exposures(n)
            stream = list(zip(item_id(shown), clicked.tolist(), strict=True))
        yield Answer(
            user_id, time, item_id(one.short_term(n)), one.sessions(n).tolist(), long, item_id(one.unclicked(n)), stream
        )


def _only(events: Events, rows: np.ndarray) -> Events:
    """The events of the users ``rows``, one after the other, as a collection of their own (a user may occur twice)."""
    users = [events.of_user(int(row)) for row in rows]
    offsets = np.cumsum([0] + [len(user) for user in users]).astype(np.int64)

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(user, name) for user in users])

    return Events(column("item"), column("time"), column("clicked"), column("session"), offsets)


def readable(answer: Answer) -> str:
    """Several lines for people."""

    def shown(values: list[Any]) -> str:
        return ", ".join(map(str, values)) or "(none)"

    lines = [f"user {answer.user_id} at {answer.timestamp}", f"  short-term session: {shown(answer.short)}"]
    lines += [f"  long-term {name}: {shown(values)}" for name, values in answer.long.items()]
    lines.append(f"  unclicked: {shown(answer.unclicked)}")
    if answer.stream is not None:
        marked = [f"{item}{' (clicked)' if clicked else ''}" for item, clicked in answer.stream]
        lines.append(f"  stream: {shown(marked)}")
    return "\n".join(lines)
