"""How operations answer, and what their documentation says of errors and keys."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from xdm.serving.messages.common import Problem

REASONS = {
    400: "The body is no JSON, or names what there is not.",
    401: "No key, or none that is known.",
    403: "The key lacks the scope, or the Host is not this service's.",
    404: "There is no such item, model or path.",
    408: "The request did not arrive in time.",
    409: "An event_id is stored already with other content; nothing of the batch is stored.",
    413: "The body is larger than the limit.",
    415: "The Content-Type is not application/json.",
    422: "The request does not fit the schema, or the bundle that it names fails a check.",
    429: "Too many requests with this key; Retry-After says when to come again.",
    500: "A fault of the service.",
    503: "The live events cannot be reached just now, or the service is stopping.",
}
ALWAYS = (401, 403, 429, 500, 503)
WITH_BODY = (400, 408, 413, 415, 422)


def json_of(answer: BaseModel) -> Response:
    """The answer as JSON, without another look at its types."""
    return Response(answer.__pydantic_serializer__.to_json(answer), media_type="application/json")


def documented(scope: str, *statuses: int) -> dict[str, Any]:
    """What a route is told of its errors and of the scope that a key needs for it."""
    problems: dict[int | str, dict[str, Any]] = {
        status: {"description": REASONS[status], "model": Problem} for status in sorted({*ALWAYS, *statuses})
    }
    return {"responses": problems, "openapi_extra": {"security": [{"key": [scope]}]}}
