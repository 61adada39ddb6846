"""Every error as a problem document (RFC 9457): what was wrong, where in the request, and what to do."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from xdm.schema import BundleError, XdmError
from xdm.serving.errors import ConflictError, StateUnavailableError, UnknownBundleError, UnknownItemError
from xdm.serving.messages.common import Problem, ProblemError

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 20  # of a thousand bad events the first few are enough to mend them all

# Errors of ours that a client can mend, the most special first.
STATUSES: dict[type[XdmError], int] = {
    ConflictError: 409, UnknownItemError: 404, UnknownBundleError: 404, BundleError: 422,
}  # fmt: skip

logger = logging.getLogger("xdm.serving")


def problem(
    status: int, detail: str, errors: Sequence[ProblemError] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """The response for one error."""
    document = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=list(errors))
    # Plain ASCII: a key that a client sent may hold half a surrogate pair, which UTF-8 cannot write.
    return Response(json.dumps(document.model_dump()), status, headers=headers, media_type=MEDIA_TYPE)


def install_problem_handlers(app: FastAPI) -> None:
    """Make ``app`` answer every error with a problem document."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(XdmError, _ours)
    app.add_exception_handler(Exception, _fault)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    for one in found:
        if one["type"] == "json_invalid":
            reason = one.get("ctx", {}).get("error", "it does not parse")
            return problem(400, f"the body is no JSON: {reason} (at character {one['loc'][-1]}); send one JSON object")
        if one["type"] == "missing" and len(one["loc"]) == 1:
            return problem(400, "the body is empty; send one JSON object; /docs shows one")
    errors = [ProblemError(where=_pointer(one["loc"][1:]), what=one["msg"]) for one in found[:MAX_ERRORS]]
    more = f" (the first {MAX_ERRORS} of {len(found)} are listed)" if len(found) > MAX_ERRORS else ""
    first = f"{errors[0].where or 'the body'}: {errors[0].what}"
    return problem(422, f"the request does not fit: {first}{more}; mend it as the schema in /docs says", errors)


def _pointer(location: tuple[Any, ...]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in location)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    details = {
        400: "the body is no JSON that can be read; send one JSON object in UTF-8",
        404: f"there is nothing at {request.url.path}; /docs lists the paths",
        405: f"{request.method} is not for {request.url.path}; /docs lists the methods",
    }
    headers = {**(error.headers or {})}
    if error.status_code == 405:  # the router names the methods of one operation at the path
        operations = request.app.openapi()["paths"].get(route_of(request), {})
        headers["Allow"] = ", ".join(sorted(map(str.upper, operations))) or headers.get("Allow", "GET")
    return problem(error.status_code, details.get(error.status_code, str(error.detail)), headers=headers)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, XdmError)
    for kind, status in STATUSES.items():
        if isinstance(error, kind):
            return problem(status, str(error))
    if error.exit_code == 2:
        return problem(400, str(error))
    logger.error("%s %s: %s", request.method, route_of(request), error)
    if isinstance(error, StateUnavailableError):
        detail = "the live events cannot be reached just now; send the same request again later"
        return problem(503, detail, headers={"Retry-After": "1"})
    return _server_error()


async def _fault(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, route_of(request), exc_info=error)
    return _server_error()


def route_of(request: Request) -> str:
    """The route's template, or that there is none."""
    return template_of(request.scope) or "an unknown path"


def template_of(scope: Scope) -> str | None:
    """The template of the route that the router found, as the OpenAPI document has it: a path may hold the id of a user, which is
    for no log."""
    return getattr(scope.get("route"), "path_format", None)


def _server_error() -> Response:
    """Nothing of what went wrong inside is told; the log has it."""
    return problem(500, "the service failed on this request; its log says why")
