"""What docs/serving.md shows is what the service does."""

from __future__ import annotations

import json
import re
from pathlib import Path

from fastapi.testclient import TestClient

from tests.serving.fakes import FakeRecommender, opened_over, served_by
from xdm.cli.serve import serve
from xdm.serving.app import create_app
from xdm.serving.messages.common import MAX_ID_CHARACTERS
from xdm.serving.messages.events import MAX_EVENTS
from xdm.serving.messages.recommend import MAX_EXCLUDE, MAX_K, RecommendAnswer, RecommendRequest
from xdm.serving.settings import ServeSettings
from xdm.serving.state import NEWEST_EVENTS, SqliteState

DOCS = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def test_every_request_shown_is_answered(tmp_path):
    opened = opened_over(served_by(FakeRecommender()), tmp_path, state=SqliteState(tmp_path / "s.sqlite"))
    requests = re.findall(r"curl http://127\.0\.0\.1:8000(\S+) .*? -d '(.*?)'", DOCS, re.DOTALL)
    assert [path for path, _ in requests] == ["/v1/recommend", "/v1/recommend", "/v1/events", "/v1/items"]
    with TestClient(create_app(opened, ServeSettings())) as client:
        for path, body in requests:
            assert client.post(path, json=json.loads(body)).status_code == 200


def test_the_answer_shown_has_the_fields_of_an_answer():
    shown = DOCS.split("The answer:\n")[1].split("\n\n|")[0]
    answer = RecommendAnswer.model_validate_json(shown)
    assert set(json.loads(shown)) == set(RecommendAnswer.model_fields)
    assert answer.events_seen == 2


def test_fields_options_and_limits_are_all_named():
    for field in RecommendRequest.model_fields:
        assert f"| `{field}` |" in DOCS
    for option in serve.params:
        if option.name != "bundle":
            assert option.opts[0] in DOCS
    for limit in (MAX_K, MAX_EVENTS, MAX_ID_CHARACTERS):
        assert f" {limit} " in DOCS
    for limit in (MAX_EXCLUDE, NEWEST_EVENTS):
        assert f"{limit:,}" in DOCS
