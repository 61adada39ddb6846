"""The log of a service on standard error: one JSON object (or one text) a line, without personal data.

What is logged of a request is its route (``/v1/users/{user_id}``, never the path that was asked for), method, status,
duration, request id, the name of the key and the source of the answer: no id of a user or an item, no query string, no
address. A client's own X-Request-Id is logged as it is, so a client puts nothing personal into it.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal, TextIO

from pythonjsonlogger.json import JsonEncoder, JsonFormatter

LogFormat = Literal["json", "text"]

LOGGERS = {
    "xdm": logging.INFO,
    "uvicorn": logging.ERROR,
    "uvicorn.error": logging.ERROR,
}  # uvicorn warns of each bad request

ENCODE = JsonEncoder().encode  # made once; `json.dumps` would make one a line

access = logging.getLogger("xdm.access")


def configure_logging(log_format: LogFormat, *, access_log: bool = True, stream: TextIO | None = None) -> None:
    """Send the service's and the server's log lines to ``stream`` (standard error), others' warnings as well."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_json_formatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name, level in LOGGERS.items():
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(level)
    access.setLevel(logging.INFO if access_log else logging.WARNING)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # never shown: not looked up either


def _json_formatter() -> logging.Formatter:
    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s",
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp="time",
        json_serializer=lambda fields, **_: ENCODE(fields),
    )


class TextFormatter(logging.Formatter):
    """The same fields as text: ``time level logger message key=value …``."""

    # what every LogRecord has; all else came by `extra`
    OWN = frozenset([*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"])

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        more = [f"{name}={value}" for name, value in vars(record).items() if name not in self.OWN]
        return " ".join([super().formatMessage(record), *more])


def log_request(fields: dict[str, Any]) -> None:
    """One line for one answered request. As `access.info`, without the search for the line of code that calls."""
    access.handle(access.makeRecord(access.name, logging.INFO, "", 0, "request", (), None, extra=fields))
