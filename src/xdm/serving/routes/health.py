"""`/health/live`, `/health/ready`, `/metrics`: for whoever watches the service."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from xdm.serving.engine import Engine
from xdm.serving.errors import StateUnavailableError
from xdm.serving.messages.common import Problem
from xdm.serving.messages.models import LiveAnswer, ReadyAnswer
from xdm.serving.opening import Opened
from xdm.serving.problems import problem
from xdm.serving.routes.answers import REASONS, documented, json_of

STUCK_SECONDS = 60.0  # a batch that takes so long will not end
STUCK: dict[int | str, dict[str, Any]] = {503: {"description": "The engine is stuck.", "model": Problem}}


def routes(opened: Opened, engine: Engine) -> APIRouter:
    """The operations for load balancers and monitors."""
    router = APIRouter(tags=["health"])
    began = time.monotonic()

    @router.get("/health/live", response_model=LiveAnswer, responses=STUCK)
    async def live() -> Response:
        """Whether the process runs: restart it where this does not answer, or answers 503."""
        if engine.busy_seconds > STUCK_SECONDS:
            return problem(503, f"one search has run for {engine.busy_seconds:.0f} s; restart the process")
        return json_of(LiveAnswer())

    @router.get("/health/ready", response_model=ReadyAnswer, responses={503: {"description": REASONS[503]}})
    def ready() -> Response:
        """Whether requests are welcome: 503 while the service stops. Without its live events it still answers, degraded."""
        served = opened.service.served
        try:
            events: int | None = opened.service.state.count()
        except StateUnavailableError:
            events = None
        return json_of(
            ReadyAnswer(
                status="degraded" if events is None else "ready", model=served.model, items=served.catalogue.n_candidates,
                users=len(served.catalogue.users), uptime_seconds=int(time.monotonic() - began), events_held=events,
                history=served.history is not None,
            )
        )  # fmt: skip

    @router.get("/metrics", response_class=Response, **documented("read"))
    def metrics() -> Response:
        """Counters and histograms in Prometheus' text format."""
        content, media_type = opened.telemetry.render()
        return Response(content, media_type=media_type)

    return router
