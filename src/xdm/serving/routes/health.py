"""`/health/live`, `/health/ready`, `/metrics`: for whoever watches the service."""

from __future__ import annotations

import time

from fastapi import APIRouter
from starlette.responses import Response

from xdm.serving.errors import StateUnavailableError
from xdm.serving.messages.models import LiveAnswer, ReadyAnswer
from xdm.serving.opening import Opened
from xdm.serving.routes.answers import REASONS, documented, json_of


def routes(opened: Opened) -> APIRouter:
    """The operations for load balancers and monitors."""
    router = APIRouter(tags=["health"])
    began = time.monotonic()

    @router.get("/health/live", response_model=LiveAnswer)
    async def live() -> Response:
        """Whether the process runs: restart it where this does not answer."""
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
