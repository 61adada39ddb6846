"""``xdm behaviours``: the oracle's answers in the log's own ids, and every wrong request named."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest

from tests.behaviours import oracle
from tests.learning import call
from xdm.behaviours.rules import BehaviourRules
from xdm.log.store import Store

DEFAULT = BehaviourRules(
    session_gap=600, session_max=50, long_window=604_800, long_max=20, unclicked_window=259_200, unclicked_k=1,
    unclicked_max=100,
)  # fmt: skip
OTHER = BehaviourRules(
    session_gap=90, session_max=2, history_max=7, long_window=100_000, long_max=2, unclicked_window=200_000, unclicked_k=0,
    unclicked_max=5, keep_clicked=True, stream_max=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def store(simulated) -> Store:
    return Store(simulated)


@pytest.fixture(scope="module")
def logs(store) -> dict[str, list]:
    """Every user's ``(item_id, time, clicked, session)`` in external ids."""
    found = {}
    items, users = store.items.vocabulary, store.users.vocabulary.ids.to_pylist()
    for user, user_id in enumerate(users, start=1):
        events = store.user_events(user)
        sessions = [None if code < 0 else int(code) for code in events.session]
        columns = (items.external_list(events.item), events.time.tolist(), events.clicked.tolist(), sessions)
        found[user_id] = list(zip(*columns, strict=True))
    return found


@pytest.fixture(scope="module")
def features(store) -> dict:
    table = store.items.table
    ids = table["item_id"].to_pylist()
    return {"item_id": lambda item: item} | {
        name: dict(zip(ids, table[name].to_pylist(), strict=True)).get for name in store.items.features
    }


def expected(logs, features, user_id, time, rules=DEFAULT):
    found = oracle.behaviours(logs.get(user_id, []), time, rules, features)
    stream = {"stream": [list(one) for one in found.pop("stream")]}  # JSON has no tuples
    return {"user_id": user_id, "timestamp": time, **found, **(stream if rules.stream_max else {})}


def ask(store, file, *options, capfd):
    code = call("behaviours", store.path, "--requests", file, "--json", *options)
    return code, capfd.readouterr()


def options_of(rules: BehaviourRules) -> list:
    return [word for name, value in rules.model_dump().items() for word in (f"--{name.replace('_', '-')}", value)]


@pytest.mark.parametrize("rules", [DEFAULT, OTHER], ids=["default", "other"])
def test_requests_are_answered_in_their_order(store, logs, features, tmp_path, capfd, rules):
    """Users of both parts, in any order of user and time, some twice at once, some unknown."""
    rng = np.random.default_rng(0)
    users = [*logs, "nobody", 17]
    first, last = store.time_range
    asked = [(users[rng.integers(len(users))], int(rng.integers(first, last + 1000))) for _ in range(300)]
    # and at the very seconds of events, where one comparison decides
    asked += [(user, events[len(events) // 2][1]) for user, events in logs.items() if events]
    asked += [asked[5], asked[5], ("nobody", 0), (next(iter(logs)), 0)]
    lines = [json.dumps({"user_id": user, "timestamp": time}) for user, time in asked]
    (tmp_path / "asked.jsonl").write_text("\n".join([*lines[:50], "", "  ", *lines[50:]]))
    code, printed = ask(store, tmp_path / "asked.jsonl", *options_of(rules), capfd=capfd)
    assert (code, printed.err) == (0, "")
    answers = [json.loads(line) for line in printed.out.splitlines()]
    assert answers == [expected(logs, features, user, time, rules) for user, time in asked]
    assert any(answer["unclicked"] for answer in answers)
    assert any(len(answer["long"]["category"]) > 1 for answer in answers)
    keys = ["user_id", "timestamp", "short", "sessions", "long", "unclicked"]
    assert list(answers[0]) == [*keys, "stream"] if rules.stream_max else keys


def test_many_requests_go_in_blocks(store, logs, features, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("xdm.behaviours.printing.BLOCK", 7)
    asked = [(user, store.time_range[1] - n) for n, user in enumerate([*logs][:40])]
    lines = [json.dumps({"user_id": user, "timestamp": time}) for user, time in asked]
    (tmp_path / "asked.jsonl").write_text("\n".join(lines) + "\n")
    code, printed = ask(store, tmp_path / "asked.jsonl", capfd=capfd)
    assert code == 0
    assert [json.loads(line) for line in printed.out.splitlines()] == [expected(logs, features, *one) for one in asked]


def test_standard_input(store, logs, features, capfd, monkeypatch):
    user = next(iter(logs))
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"timestamp": 1704300000, "user_id": user})))
    code, printed = ask(store, "-", capfd=capfd)
    assert code == 0
    assert json.loads(printed.out) == expected(logs, features, user, 1704300000)


def test_an_empty_file_has_no_answers(store, tmp_path, capfd):
    (tmp_path / "none.jsonl").write_text("")
    code, printed = ask(store, tmp_path / "none.jsonl", capfd=capfd)
    assert (code, printed.out, printed.err) == (0, "", "")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is no JSON"), ("u1", "is no JSON"), ("[]", "is a list"), ('"u1"', "is a str"), ("null", "is a NoneType"),
        ("{}", "has the keys []"), ('{"user_id": "u1"}', "has the keys ['user_id']"),
        ('{"user_id": "u1", "timestamp": 5, "k": 1}', "and nothing else"),
        ('{"user": "u1", "timestamp": 5}', "has the keys ['timestamp', 'user']"),
        ('{"user_id": null, "timestamp": 5}', "user_id must be a string or an integer, not None"),
        ('{"user_id": 1.5, "timestamp": 5}', "not 1.5"), ('{"user_id": true, "timestamp": 5}', "not True"),
        ('{"user_id": ["u1"], "timestamp": 5}', "not ['u1']"),
        ('{"user_id": "u1", "timestamp": "5"}', "timestamp must be whole seconds since 1970"),
        ('{"user_id": "u1", "timestamp": 5.0}', "not 5.0"), ('{"user_id": "u1", "timestamp": true}', "not True"),
        ('{"user_id": "u1", "timestamp": null}', "not None"), ('{"user_id": "u1", "timestamp": -1}', "not -1"),
        ('{"user_id": "u1", "timestamp": 1704300000000}', "before the year 3000, not 1704300000000"),
        ('{"user_id": "u1", "timestamp": NaN}', "not nan"), ("[" * 100_000, "is no JSON"),
        ('{"user_id": "u\\ud800", "timestamp": 5}', "half of a surrogate pair"),
    ],
)  # fmt: skip
def test_a_malformed_line_is_named(store, tmp_path, capfd, line, message):
    good = '{"user_id": "u1", "timestamp": 5}'
    (tmp_path / "asked.jsonl").write_text(f"{good}\n\n{line}\n{good}\n")
    code, printed = ask(store, tmp_path / "asked.jsonl", capfd=capfd)
    assert code == 2
    assert printed.err.startswith(f"xdm: {tmp_path / 'asked.jsonl'}, line 3: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(("content", "message"), [(b"\xff\xfe\x00", "is no UTF-8 text"), (None, "cannot be read")])
def test_a_file_that_is_no_text_is_named(store, tmp_path, capfd, content, message):
    if content is not None:
        (tmp_path / "asked.jsonl").write_bytes(content)
    code, printed = ask(store, tmp_path / "asked.jsonl", capfd=capfd)
    assert code == 2
    assert message in printed.err


@pytest.mark.parametrize(
    ("at", "time"),
    [
        ("1704300000", 1704300000), ("2024-01-03", 1704240000), ("2024-01-03T16:40:00", 1704300000),
        ("2024-01-03T16:40:00Z", 1704300000), ("2024-01-03T18:40:00+02:00", 1704300000), ("2024-01-03 16:40", 1704300000),
        ("1d", -86400), ("6h", -6 * 3600), (None, 0),
    ],
)  # fmt: skip
def test_forms_of_at(store, logs, features, capfd, at, time):
    user = next(user for user, events in logs.items() if len(events) > 30)
    wanted = time if time > 0 else store.time_range[1] + 1 + time
    assert call("behaviours", store.path, "--user", user, *(["--at", at] if at else []), "--json") == 0
    assert json.loads(capfd.readouterr().out) == expected(logs, features, user, wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give either --user (with --at) or --requests"),
        (["--user", "u1", "--requests", "f"], "give either --user (with --at) or --requests"),
        (["--requests", "f", "--at", "1d"], "every line has its own timestamp"),
        (["--user", "u1", "--at", "yesterday"], "'yesterday' is no time"),
        (["--user", "u1", "--at", "1704300000000"], "is it in milliseconds or finer?"),
        (["--user", "u1", "--session-gap", "0"], "--session-gap: "),
        (["--user", "u1", "--unclicked-k", "-1"], "--unclicked-k: "),
    ],
)
def test_wrong_use_is_named(store, capfd, options, message):
    assert call("behaviours", store.path, *options) == 2
    printed = capfd.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_for_people(store, logs, features, capfd):
    user = next(user for user, events in logs.items() if len(events) > 30)
    assert call("behaviours", store.path, "--user", user) == 0
    printed = capfd.readouterr().out
    wanted = expected(logs, features, user, store.time_range[1] + 1)
    assert printed.startswith(f"user {user} at {wanted['timestamp']}\n  short-term session: {', '.join(wanted['short'])}\n")
    assert f"  long-term category: {', '.join(wanted['long']['category']) or '(none)'}\n" in printed
    assert printed.endswith(f"  unclicked: {', '.join(wanted['unclicked']) or '(none)'}\n")
    assert call("behaviours", store.path, "--user", "nobody") == 0
    assert capfd.readouterr().out.count("(none)") == 2 + len(features)
