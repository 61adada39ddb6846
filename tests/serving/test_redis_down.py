"""A Redis server that is killed and started again under load: degraded answers meanwhile, whole ones afterwards."""

from __future__ import annotations

from tests.serving.parts import run_part
from tests.serving.state.conftest import redis_server as redis_server


def test_the_service_goes_on_without_redis_and_recovers(redis_server, bundle):  # the server: skips or fails where there is none
    found = run_part("redis", "--bundle", bundle, "--kills", 1, "--down", 1, "--up", 0.5)
    assert found["of them degraded (200, missing: live_events)"] > 20
    assert found["acknowledged events"] > 30
    assert (found["lost"], found["doubled"], found["other statuses"]) == (0, 0, {})
