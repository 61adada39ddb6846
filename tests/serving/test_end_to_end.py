"""The real command on a really trained bundle: events in, other recommendations out, through kill -9 and SIGTERM."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from tests.serving.conftest import ITEMS, START
from xdm.bundle.reading import load_recommender
from xdm.log.store import Store
from xdm.retrieval.types import Points


@contextmanager
def served(*arguments: object) -> Iterator[tuple[subprocess.Popen, httpx.Client]]:
    """A running `xdm serve`, and a client that knows its address."""
    command = [sys.executable, "-m", "xdm", "serve", *map(str, arguments), "--port", "0", "--set", "access_log=false"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            first = process.stdout.readline()
            found = re.search(r"http://\S+", first)
            assert found, first + process.stderr.read()
            with httpx.Client(base_url=found[0], timeout=30) as client:
                yield process, client
        finally:
            process.kill()


def ask(client: httpx.Client, **question) -> dict:
    response = client.post("/v1/recommend", json={"timestamp": START + 10**6, "k": 10} | question)
    assert response.status_code == 200, response.text
    return response.json()


def test_events_change_the_answers_and_outlive_kill_9(bundle, store, tmp_path):
    serve = (bundle, "--state", tmp_path / "s.sqlite", "--history", store)
    events = [
        {"event_id": n, "user_id": "new", "item_id": ITEMS[n], "timestamp": START + 10**5 + n, "clicked": n % 2 == 0}
        for n in range(1, 7)
    ]
    with served(*serve) as (process, client):
        popular, known = ask(client, user_id="new"), ask(client, user_id="u3")
        assert (popular["source"], known["source"]) == ("popular", "model")
        assert client.post("/v1/events", json={"events": events[:3]}).json()["accepted"] == 3
        half = ask(client, user_id="new")
        assert client.post("/v1/events", json={"events": events[3:]}).json()["accepted"] == 3
        full = ask(client, user_id="new")
        assert (half["source"], half["events_seen"], full["events_seen"]) == ("model", 3, 6)
        assert len({json.dumps(answer["items"]) for answer in (popular, half, full)}) == 3
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
    with served(*serve) as (process, client):
        assert client.get("/health/ready").json()["events_held"] == 6
        assert ask(client, user_id="new") == full
        assert client.post("/v1/events", json={"events": events}).json() == {
            "accepted": 0,
            "duplicates": 6,
            "unknown_items": 0,
        }
        inline = [{name: event[name] for name in ("item_id", "timestamp", "clicked")} for event in events]
        assert ask(client, user_id="someone else", events=inline)["items"] == full["items"]
        assert ask(client, user_id="u3") == known
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        assert process.stdout.read().endswith("stopped\n")
        assert process.stderr.read() == ""


def test_the_service_and_the_command_line_say_what_the_bundle_says(bundle, store, tmp_path):
    recommender, opened = load_recommender(bundle), Store(store)
    user = opened.users.vocabulary.index("u7")
    mapping = np.concatenate([[0], recommender.catalogue.indices(opened.items.vocabulary.ids)])
    events = opened.user_events(user).in_catalogue(mapping)
    at = START + 3 * 7200
    points = Points(events, np.array([0]), np.array([recommender.users.index("u7")], np.int32), np.array([at]))
    expected = recommender.catalogue.external_list(recommender.top_k(points, 10).items[0])

    command = [sys.executable, "-m", "xdm", "recommend", bundle, store, "--user", "u7", "--at", str(at), "--k", "10"]
    printed = json.loads(subprocess.run([*command, "--json"], capture_output=True, check=True).stdout)
    assert [item["item_id"] for item in printed["items"]] == expected
    with served(bundle, "--state", tmp_path / "s.sqlite", "--history", store) as (process, client):
        assert ask(client, user_id="u7", timestamp=at) == printed
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0


NO_TORCH = """
import sys
from fastapi.testclient import TestClient
from xdm.serving.app import create_app
from xdm.serving.opening import open_service
from xdm.serving.settings import ServeSettings
from xdm.serving.telemetry import Telemetry
settings = ServeSettings(bundle=sys.argv[1], state=sys.argv[2])
event = {"item_id": "item 1", "timestamp": 5, "clicked": True}
with TestClient(create_app(open_service(settings, Telemetry()), settings)) as client:
    answer = client.post("/v1/recommend", json={"user_id": "u1", "events": [event]})
print(answer.status_code, answer.json()["source"], "torch" in sys.modules)
"""


def test_an_answer_takes_no_torch(bundle, tmp_path):
    command = [sys.executable, "-c", NO_TORCH, str(bundle), str(tmp_path / "s.sqlite")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["200", "model", "False"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "no keys are set"),
        (["--history", "no such store"], "no manifest.json"),
        (["--state", "/"], "cannot be opened as a state file"),
    ],
)
def test_wrong_use_ends_with_one_message_and_exit_code_2(bundle, tmp_path, options, message):
    command = [sys.executable, "-m", "xdm", "serve", str(bundle), "--port", "0", *options]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr
    assert list(tmp_path.iterdir()) == []
