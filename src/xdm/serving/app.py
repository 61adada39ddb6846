"""The HTTP application: every path, over one `Service` and the shelf of its bundles."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from xdm import __version__
from xdm.serving.background import Background
from xdm.serving.body import BodyLimit
from xdm.serving.engine import Engine
from xdm.serving.messages.common import Problem
from xdm.serving.opening import Opened
from xdm.serving.problems import MEDIA_TYPE, install_problem_handlers
from xdm.serving.routes import admin, asking, health, people
from xdm.serving.settings import ServeSettings

DESCRIPTION = """Ids are text or integers; 7 and "7" name the same. Times are whole seconds since 1970 UTC. Where the service
asks for keys, send `Authorization: Bearer KEY`; every operation says which scope it needs."""


def create_app(opened: Opened, settings: ServeSettings) -> FastAPI:
    """The application that answers from ``opened``; to be run by any ASGI server. Its lifespan starts and stops the engine and the
    background thread, and closes the service."""
    engine = Engine(
        opened.service, opened.telemetry, deadline_s=settings.deadline_ms / 1000, queue_max=settings.queue_max
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        background = Background(opened, settings)
        # What is there now stays: without this, each full collection walks all of it and holds up every request meanwhile.
        gc.collect()
        gc.freeze()
        engine.start()
        background.start()
        yield
        background.stop()
        engine.stop()
        opened.service.close()

    app = FastAPI(
        title="xdm",
        version=__version__,
        summary="Candidate retrieval that learns from what people click and from what they are shown and skip.",
        description=DESCRIPTION,
        lifespan=lifespan,
    )
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes, seconds=settings.request_timeout_s)
    install_problem_handlers(app)
    for routes in (
        asking.routes(opened.service, engine), people.routes(opened.service), admin.routes(opened.shelf),
        health.routes(opened, engine),
    ):  # fmt: skip
        app.include_router(routes)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's own document, with the errors under their media type (it knows one a path) and the keys."""
    if not app.openapi_schema:
        document = FastAPI.openapi(app)
        document["components"]["schemas"].setdefault("Problem", Problem.model_json_schema())
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path in document["paths"].values():
            for operation in path.values():
                for status, response in operation["responses"].items():
                    if int(status) >= 400 and "content" in response:
                        response["content"] = {MEDIA_TYPE: response["content"]["application/json"]}
        app.openapi_schema = _whole(document)
    assert app.openapi_schema is not None
    return app.openapi_schema


def _whole(document: Any) -> Any:
    """``document`` with whole numbers written as such: FastAPI makes 9.223372036854776e+18 of 2^63, which is another number."""
    if isinstance(document, dict):
        return {key: _whole(value) for key, value in document.items()}
    if isinstance(document, list):
        return [_whole(value) for value in document]
    return int(document) if isinstance(document, float) and document.is_integer() else document
