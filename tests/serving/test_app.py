"""The HTTP door: answers, every kind of bad request, and raw bodies that no client would send."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.serving.fakes import ITEMS, MANIFEST, USERS, FakeRecommender, expected_ranking, opened_over, served_by
from xdm.serving.app import create_app
from xdm.serving.body import MAX_BODY_BYTES
from xdm.serving.errors import StateUnavailableError
from xdm.serving.service import model_info
from xdm.serving.settings import ServeSettings
from xdm.serving.state import SqliteState

NOW = 1_700_000_000
MODEL = model_info(MANIFEST).model_dump()


@pytest.fixture(scope="module")
def shared_client(tmp_path_factory):
    """One client for the many requests that are to be refused."""
    yield from client_over(SqliteState(tmp_path_factory.mktemp("app") / "s.sqlite", durability="normal"))


@pytest.fixture
def client(tmp_path):
    yield from client_over(SqliteState(tmp_path / "s.sqlite"))


def client_over(state, recommender=None, **changes) -> Iterator[TestClient]:
    served = served_by(recommender or FakeRecommender())
    opened = opened_over(served, state.path.parent, state=state, clock=lambda: NOW + 0.5)
    app = create_app(opened, ServeSettings(deadline_ms=5000, **changes))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def event(**changes):
    return {"event_id": "e1", "user_id": "u1", "item_id": "i5", "timestamp": NOW, "clicked": True} | changes


def items(response) -> list:
    assert response.status_code == 200, response.text
    return [item["item_id"] for item in response.json()["items"]]


def assert_problem(response, status: int) -> dict:
    """A problem document of RFC 9457 with that status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == status
    assert document["type"] == "about:blank"
    assert document["title"]
    assert document["detail"]
    return document


# --- answers --------------------------------------------------------------------------------------------------------
def test_an_event_just_sent_is_seen_by_the_next_question(client):
    assert items(client.post("/v1/recommend", json={"user_id": "u1"})) == expected_ranking([])
    sent = client.post("/v1/events", json={"events": [event(), event(event_id="e2", item_id="i1", clicked=False)]})
    assert sent.json() == {"accepted": 2, "duplicates": 0, "unknown_items": 0}
    answer = client.post("/v1/recommend", json={"user_id": "u1"})
    assert items(answer) == expected_ranking([("i5", True), ("i1", False)])
    assert answer.json() | {"items": None} == {
        "user_id": "u1",
        "timestamp": NOW + 1,
        "source": "model",
        "fallback": None,
        "missing": [],
        "items": None,
        "unknown_items": 0,
        "events_seen": 2,
        "later_events": 0,
        "model": MODEL,
    }
    first = answer.json()["items"][0]
    assert first == {"item_id": "i5", "score": pytest.approx(9.95), "rank": 1}


def test_unknown_users_get_their_inline_events_or_popular_items(client):
    question = {"user_id": "nobody knows", "k": 3}
    popular = client.post("/v1/recommend", json=question)
    assert (popular.json()["source"], items(popular)) == ("popular", ["i1", "i2", "i3"])
    inline = [{"item_id": "i7", "timestamp": NOW, "clicked": True, "session_id": "s"}]
    answer = client.post("/v1/recommend", json=question | {"events": inline})
    assert (answer.json()["source"], items(answer)) == ("model", ["i7", "i1", "i2"])
    assert items(client.post("/v1/recommend", json=question)) == ["i1", "i2", "i3"]  # inline events are not kept


def test_exclusions_hold(client):
    question = {"user_id": "u1", "k": 2, "events": [{"item_id": "i7", "timestamp": NOW, "clicked": True}]}
    answer = client.post("/v1/recommend", json=question | {"exclude": ["i1", "no such"], "exclude_clicked": True})
    assert items(answer) == ["i2", "i3"]
    assert answer.json()["unknown_items"] == 1


def test_events_of_unknown_items_are_stored_and_counted(client):
    sent = client.post("/v1/events", json={"events": [event(item_id="of tomorrow"), event(event_id="e2")]})
    assert sent.json() == {"accepted": 2, "duplicates": 0, "unknown_items": 1}
    assert client.get("/health/ready").json()["events_held"] == 2
    answer = client.post("/v1/recommend", json={"user_id": "u1"}).json()
    assert (answer["events_seen"], answer["unknown_items"]) == (1, 1)


def test_sending_again_changes_nothing_and_a_conflict_stores_nothing(client):
    client.post("/v1/events", json={"events": [event()]})
    assert client.post("/v1/events", json={"events": [event()]}).json()["duplicates"] == 1
    document = assert_problem(
        client.post("/v1/events", json={"events": [event(event_id="e2"), event(timestamp=NOW - 1)]}), 409
    )
    assert "'e1'" in document["detail"]
    assert client.get("/health/ready").json()["events_held"] == 1


def test_events_without_an_id_are_stored_each_time(client):
    nameless = {name: value for name, value in event().items() if name != "event_id"}
    for _ in range(2):
        assert client.post("/v1/events", json={"events": [nameless]}).json()["accepted"] == 1


def test_health_says_which_model_and_how_much(client):
    assert client.get("/health/live").json() == {"status": "alive"}
    assert client.get("/health/ready").json() == {
        "status": "ready",
        "model": MODEL,
        "items": len(ITEMS),
        "users": len(USERS),
        "uptime_seconds": 0,
        "events_held": 0,
        "history": False,
    }


def test_the_documentation_has_examples_that_work_and_the_errors(client):
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/v1/recommend", "/v1/recommend/batch", "/v1/similar", "/v1/events", "/v1/items", "/v1/users/{user_id}", "/v1/models",
        "/v1/models/rollback", "/v1/models/{name}/activate", "/health/live", "/health/ready", "/metrics",
    }  # fmt: skip
    for path, schema in (
        ("/v1/recommend", "RecommendRequest"), ("/v1/recommend/batch", "BatchRequest"), ("/v1/similar", "SimilarRequest"),
        ("/v1/events", "EventsRequest"), ("/v1/items", "ItemsRequest"),
    ):  # fmt: skip
        for request in document["components"]["schemas"][schema]["examples"]:
            status = 400 if "where" in request else 200  # the fake has no features
            assert client.post(path, json=request).status_code == status
        responses = document["paths"][path]["post"]["responses"]
        for status in ("400", "413", "415", "422", "500"):
            schema_of_error = responses[status]["content"]["application/problem+json"]["schema"]
            assert schema_of_error == {"$ref": "#/components/schemas/Problem"}
    assert client.get("/docs").status_code == 200


# --- bad requests ---------------------------------------------------------------------------------------------------
INLINE = {"item_id": "i1", "timestamp": NOW, "clicked": True}
BAD_QUESTIONS = [
    ({}, "/user_id"),
    ({"user_id": None}, "/user_id"),
    ({"user_id": ""}, "/user_id"),
    ({"user_id": "x" * 513}, "/user_id"),
    ({"user_id": True}, "/user_id"),
    ({"user_id": 1.0}, "/user_id"),
    ({"user_id": -1}, "/user_id"),
    ({"user_id": 2**63}, "/user_id"),
    ({"user_id": ["u1"]}, "/user_id"),
    ({"user_id": "\ud800"}, "/user_id"),
    ({"user_id": "u1", "k": 0}, "/k"),
    ({"user_id": "u1", "k": 1001}, "/k"),
    ({"user_id": "u1", "k": "5"}, "/k"),
    ({"user_id": "u1", "k": 5.0}, "/k"),
    ({"user_id": "u1", "k": True}, "/k"),
    ({"user_id": "u1", "k": 10**400}, "/k"),
    ({"user_id": "u1", "timestamp": -1}, "/timestamp"),
    ({"user_id": "u1", "timestamp": NOW * 1000}, "/timestamp"),
    ({"user_id": "u1", "timestamp": NOW + 0.5}, "/timestamp"),
    ({"user_id": "u1", "timestamp": float("nan")}, "/timestamp"),
    ({"user_id": "u1", "timestamp": float("inf")}, "/timestamp"),
    ({"user_id": "u1", "topk": 5}, "/topk"),
    ({"user_id": "u1", "a/b~": 5}, "/a~1b~0"),
    ({"user_id": "u1", "exclude": "i1"}, "/exclude"),
    ({"user_id": "u1", "exclude": ["i1", None]}, "/exclude/1"),
    ({"user_id": "u1", "exclude": ["i1"] * 10_001}, "/exclude"),
    ({"user_id": "u1", "exclude_clicked": 1}, "/exclude_clicked"),
    ({"user_id": "u1", "events": [INLINE] * 1001}, "/events"),
    ({"user_id": "u1", "events": [INLINE, INLINE | {"clicked": "yes"}]}, "/events/1/clicked"),
    ({"user_id": "u1", "events": [INLINE | {"session_id": 1.5}]}, "/events/0/session_id"),
    ({"user_id": "u1", "events": [INLINE | {"user_id": "u1"}]}, "/events/0/user_id"),
    ({"user_id": "u1", "events": [{"item_id": "i1", "clicked": True}]}, "/events/0/timestamp"),
    ([], ""),
    ("u1", ""),
]
BAD_EVENTS = [
    ({"events": []}, "/events"),
    ({"events": [event()] * 1001}, "/events"),
    ({"events": [event(event_id=1.5)]}, "/events/0/event_id"),
    ({"events": [event(), event(user_id=None)]}, "/events/1/user_id"),
    ({"events": [event(timestamp=32_503_680_000)]}, "/events/0/timestamp"),
    ({"events": [event(clicked=None)]}, "/events/0/clicked"),
    ({"events": [event(price=3)]}, "/events/0/price"),
    (event(), "/events"),
]


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [("/v1/recommend", *bad) for bad in BAD_QUESTIONS] + [("/v1/events", *bad) for bad in BAD_EVENTS],
)
def test_what_does_not_fit_is_422_and_says_where(shared_client, path, body, where):
    # json.dumps writes NaN and half surrogates as no strict writer would; a server must withstand them.
    document = assert_problem(post_raw(shared_client, path, json.dumps(body).encode()), 422)
    assert where in [error["where"] for error in document["errors"]]
    assert where in document["detail"]
    assert shared_client.get("/health/ready").json()["events_held"] == 0


def post_raw(client: TestClient, path: str, body: bytes, content_type: str = "application/json"):
    return client.post(path, content=body, headers={"content-type": content_type})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"user_id": "u1",}',
        b"{'user_id': 'u1'}",
        b"\xff\xfe\xfd",
        b'{"user_id": "\xff"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"user_id": "u1", "k": ' + b"9" * 10_000 + b"}",
    ],
)
def test_what_is_no_json_is_400(shared_client, body):
    assert_problem(post_raw(shared_client, "/v1/recommend", body), 400)


def test_a_body_over_the_limit_is_413_whether_declared_or_streamed(shared_client):
    question = json.dumps({"user_id": "u1"}).encode()
    fits = question + b" " * (MAX_BODY_BYTES - len(question))
    assert post_raw(shared_client, "/v1/recommend", fits).status_code == 200
    assert_problem(post_raw(shared_client, "/v1/recommend", fits + b" "), 413)
    chunks = (fits[start : start + 100_000] for start in range(0, len(fits), 100_000))
    headers = {"content-type": "application/json"}
    assert shared_client.post("/v1/recommend", content=chunks, headers=headers).status_code == 200
    too_many = (b" " * 100_000 for _ in range(20))
    assert_problem(shared_client.post("/v1/recommend", content=too_many, headers=headers), 413)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/xml"])
def test_another_content_type_is_415(shared_client, content_type):
    assert_problem(post_raw(shared_client, "/v1/events", b'{"user_id": "u1"}', content_type), 415)


def test_other_paths_and_methods_are_problems_too(shared_client):
    assert "/v1/nothing" in assert_problem(shared_client.get("/v1/nothing"), 404)["detail"]
    response = shared_client.get("/v1/events")
    assert_problem(response, 405)
    assert response.headers["allow"] == "POST"


def test_of_a_thousand_errors_the_first_are_listed_and_all_counted(shared_client):
    body = json.dumps({"events": [event(clicked=1)] * 1000}).encode()
    document = assert_problem(post_raw(shared_client, "/v1/events", body), 422)
    assert len(document["errors"]) == 20
    assert "of 1000" in document["detail"]


# --- faults of ours -------------------------------------------------------------------------------------------------
class Broken(FakeRecommender):
    def top_k(self, points, k, exclude=None, allowed=None):
        raise RuntimeError("secret inside")


def test_a_fault_of_the_model_is_answered_by_popular_items_counted_and_logged(tmp_path, caplog):
    for client in client_over(SqliteState(tmp_path / "s.sqlite"), Broken()):
        answer = client.post("/v1/recommend", json={"user_id": "u1", "k": 2, "exclude": ["i1"]})
        assert (answer.json()["source"], answer.json()["fallback"], items(answer)) == ("popular", "model", ["i2", "i3"])
        assert "secret" not in answer.text
        assert "secret inside" in caplog.text
        metrics = client.get("/metrics").text
        assert 'xdm_faults_total{kind="model"} 1.0' in metrics
        assert 'xdm_answers_total{fallback="model",source="popular"} 1.0' in metrics


class Down(SqliteState):
    """A state that can be reached no more once it is ``down``."""

    down = False

    def _unless_down(self, method, *arguments, **named):
        if self.down:
            raise StateUnavailableError("the disk is on fire")
        return method(*arguments, **named)

    def append(self, events):
        return self._unless_down(super().append, events)

    def events_of(self, user_id, **named):
        return self._unless_down(super().events_of, user_id, **named)

    def count(self):
        return self._unless_down(super().count)


def test_without_its_state_it_answers_degraded_and_refuses_events(tmp_path, caplog):
    state = Down(tmp_path / "s.sqlite")
    for client in client_over(state):
        state.down = True
        inline = [{"item_id": "i7", "timestamp": NOW, "clicked": True}]
        answer = client.post("/v1/recommend", json={"user_id": "u1", "k": 1, "events": inline})
        assert (answer.json()["missing"], items(answer)) == (["live_events"], ["i7"])
        refused = client.post("/v1/events", json={"events": [event()]})
        assert_problem(refused, 503)
        assert refused.headers["retry-after"] == "1"
        assert "on fire" not in refused.text
        assert "on fire" in caplog.text
        assert client.get("/health/ready").json()["status"] == "degraded"
        assert 'xdm_faults_total{kind="state"} 1.0' in client.get("/metrics").text
        state.down = False
        assert client.post("/v1/recommend", json={"user_id": "u1"}).json()["missing"] == []


# --- fuzz -----------------------------------------------------------------------------------------------------------
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
inline_like = st.fixed_dictionaries(
    {"item_id": st.sampled_from(["i1", 7]) | json_values, "timestamp": st.integers(0, NOW) | json_values,
     "clicked": st.booleans() | json_values},
    optional={"session_id": json_values, "event_id": json_values, "user_id": st.just("u1") | json_values},
)  # fmt: skip
request_like = st.fixed_dictionaries(
    {},
    optional={
        "user_id": st.just("u1") | json_values,
        "k": st.integers(0, 1001) | json_values,
        "timestamp": json_values,
        "events": st.lists(inline_like, max_size=3) | json_values,
        "exclude": st.lists(json_values, max_size=3),
        "exclude_clicked": json_values,
    },
)
bodies = st.one_of(
    st.binary(max_size=60),
    st.text(alphabet='{}[]",:0123456789.eE+-ntfulsrai\\ud8 ', max_size=60).map(str.encode),
    json_values.map(lambda value: json.dumps(value).encode()),
    request_like.map(lambda value: json.dumps(value).encode()),
    request_like.map(lambda value: json.dumps(value).encode("utf-16")),
)


@settings(max_examples=400, deadline=None)
@given(path=st.sampled_from(["/v1/recommend", "/v1/events", "/v1/similar", "/v1/items", "/v1/recommend/batch"]), body=bodies)
@example(path="/v1/recommend", body=b'{"user_id": NaN}')
@example(path="/v1/recommend", body=b'{"user_id": "\\ud800"}')
@example(path="/v1/recommend", body=b'{"\\ud800": 1}')
@example(path="/v1/recommend", body=b'{"user_id": "\\u0000"}')
@example(path="/v1/events", body=b'{"events": [{"user_id": 1e400}]}')
def test_no_body_whatever_is_a_fault_of_the_server(shared_client, path, body):
    response = post_raw(shared_client, path, body)
    if response.status_code == 200:
        assert response.headers["content-type"] == "application/json"
        json.loads(response.content, parse_constant=pytest.fail)  # no NaN, no infinity
    else:
        assert response.status_code in (400, 404, 409, 422)
        assert_problem(response, response.status_code)
