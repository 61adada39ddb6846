"""A limit on what is read of a request, before anything is parsed."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xdm.serving.problems import problem

MAX_BODY_BYTES = 1 << 20


class BodyLimit:
    """ASGI middleware: a POST must be JSON of at most ``limit`` bytes; the rest is refused without being read."""

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY_BYTES) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        # A web page of another origin can send text/plain to a local service without asking, but never JSON.
        if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
            refusal = problem(415, "the body must be JSON; send it with the header Content-Type: application/json")
            await refusal(scope, receive, send)
            return
        body = await self._read(headers.get(b"content-length", b""), receive)
        if body is None:
            detail = f"the body is larger than {self.limit} bytes; send several smaller requests"
            await problem(413, detail)(scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)

    async def _read(self, declared: bytes, receive: Receive) -> bytes | None:
        """The whole body, or None where it is too large."""
        if declared.isdigit() and int(declared[:20]) > self.limit:
            return None
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self.limit:
                return None
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body at once, then what the server has to say."""
    waiting = [body]

    async def replay() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replay
