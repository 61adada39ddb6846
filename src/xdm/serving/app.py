"""The HTTP application: three paths over one `Service`."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response

from xdm import __version__
from xdm.serving.body import BodyLimit
from xdm.serving.messages import (
    EventsAnswer,
    EventsRequest,
    HealthAnswer,
    Problem,
    RecommendAnswer,
    RecommendRequest,
)
from xdm.serving.problems import MEDIA_TYPE, install_problem_handlers
from xdm.serving.service import Service

REASONS = {
    400: "The body is no JSON.",
    409: "An event_id is stored already with other content; nothing of the batch is stored.",
    413: "The body is larger than 1 MiB.",
    415: "The Content-Type is not application/json.",
    422: "The JSON does not fit the schema.",
    500: "A fault of the service.",
    503: "The live events cannot be reached just now.",
}


def create_app(service: Service) -> FastAPI:
    """The application that answers from ``service``; to be run by any ASGI server, in one process."""
    app = FastAPI(
        title="xdm",
        version=__version__,
        summary="Candidate retrieval that learns from what people click and from what they are shown and skip.",
        description='Ids are text or integers; 7 and "7" name the same. Times are whole seconds since 1970 UTC.',
    )
    app.add_middleware(BodyLimit)
    install_problem_handlers(app)

    # Plain functions run in threads: the search and the flush to disk hold up no other request.
    @app.post("/v1/recommend", response_model=RecommendAnswer, responses=_problems(400, 413, 415, 422, 500, 503))
    def recommend(request: RecommendRequest) -> Response:
        """The items that a user would click next, from all that is known of the user before the question's time."""
        answer = service.recommend(
            request.user_id,
            k=request.k,
            at=request.timestamp,
            events=request.events,
            exclude=request.exclude,
            exclude_clicked=request.exclude_clicked,
        )
        return _json(answer.model_dump())

    @app.post("/v1/events", response_model=EventsAnswer, responses=_problems(400, 409, 413, 415, 422, 500, 503))
    def events(request: EventsRequest) -> Response:
        """Store exposures. They are on disk when the answer arrives, and count in every later question."""
        return _json(service.record(request.events).model_dump())

    @app.get("/health", response_model=HealthAnswer, responses=_problems(500, 503))
    def health() -> Response:
        """Whether the service answers, with which model, since when."""
        return _json(service.health().model_dump())

    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _json(answer: dict[str, Any]) -> Response:
    return Response(json.dumps(answer, ensure_ascii=False, allow_nan=False), media_type="application/json")


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the documentation says of errors."""
    return {status: {"description": REASONS[status], "model": Problem} for status in statuses}


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's own document with the errors under their media type: it knows one media type a path."""
    if not app.openapi_schema:
        document = FastAPI.openapi(app)
        for path in document["paths"].values():
            for operation in path.values():
                for status, response in operation["responses"].items():
                    if int(status) >= 400:
                        response["content"] = {MEDIA_TYPE: response["content"]["application/json"]}
    assert app.openapi_schema is not None
    return app.openapi_schema
