"""Every operation of the OpenAPI document, asked by Schemathesis: what comes back is what the document says, and never a fault.

Its command is run against a running service, so that all of its phases take part: examples, limits of each field, random requests,
and sequences of operations.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.test_end_to_end import served
from xdm.serving.keys import new_key, write_keys

# A request that fits the schema may be told all the same: no such feature (400), item or bundle (404), an event_id that is
# taken (409), too large (413); a bundle may fail a check, and an item that is withdrawn takes no vector (422). A POST without
# a body is refused before anyone asks what the path is for, so other methods are tried.
SETTINGS = """
hooks = "hooks.py"
[cache]
enabled = false
[phases.coverage]
unexpected-methods = ["OPTIONS", "PUT"]
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "404", "409", "413"]
[checks.negative_data_rejection]
expected-statuses = ["4xx"]
[[operations]]
include-name = ["POST /v1/models", "POST /v1/items"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "422"]
[[operations]]
include-name = "POST /v1/models/{name}/activate"
parameters = { name = "bundle-2" }
"""
# To JSON Schema 7.0 is an integer; to the service, which bends nothing, it is none.
HOOKS = """
import schemathesis

def whole(value):
    if isinstance(value, dict):
        return {key: whole(one) for key, one in value.items()}
    if isinstance(value, list):
        return [whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value

@schemathesis.hook
def map_body(context, body):
    return whole(body)
"""
ABOUT_KEYS = "ignored_auth,missing_required_header,negative_data_rejection"


def asked_everything(folder: Path, url: object, *options: str) -> None:
    (folder / "schemathesis.toml").write_text(SETTINGS)
    (folder / "hooks.py").write_text(HOOKS)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run", f"{url}/openapi.json"]
    ran = subprocess.run([*command, "--no-color", *options], cwd=folder, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Tested: 14" in ran.stdout  # every operation


@pytest.fixture
def serve(bundle, other_bundle, store, tmp_path) -> tuple[object, ...]:
    return bundle, "--history", store, "--state", tmp_path / "s.sqlite", "--durability", "normal"


def test_the_service_keeps_to_its_document(serve, tmp_path):
    key, kept = new_key("all", ["read", "write", "admin"])
    write_keys(tmp_path / "keys.yaml", [kept])
    with served(*serve, "--keys", tmp_path / "keys.yaml") as (_, client):
        asked_everything(tmp_path, client.base_url, "-n", "6", "-H", f"Authorization: Bearer {key}")
        assert client.get("/health/ready").json()["status"] == "ready"


def test_and_where_it_asks_for_no_keys(serve, tmp_path):
    with served(*serve) as (_, client):
        asked_everything(tmp_path, client.base_url, "-n", "4", "--exclude-checks", ABOUT_KEYS, "--phases", "examples,fuzzing")
