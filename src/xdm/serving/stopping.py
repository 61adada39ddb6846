"""How a worker stops: not ready at once, then no new connections, then done."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xdm.serving.problems import problem

READY = "/health/ready"
SIGNALS = (signal.SIGTERM, signal.SIGINT)

logger = logging.getLogger("xdm.serving")


class Stopping:
    """ASGI middleware that hears the signal to stop before the server does.

    From the signal on, `READY` answers 503 and every answer closes its connection. The server hears of the signal
    ``delay_s`` later (a second signal it hears at once): it then takes no new connections, and lets running requests end.
    """

    def __init__(self, app: ASGIApp, delay_s: float = 0.0) -> None:
        self.app = app
        self.stopping = False
        self._delay_s = delay_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self._listen_for_signals()
            await self.app(scope, receive, send)
        elif self.stopping and scope["type"] == "http":
            await self._answer_last(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _answer_last(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def closing_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        app = problem(503, "the service is stopping; ask another one") if scope["path"] == READY else self.app
        await app(scope, receive, closing_send)

    def _listen_for_signals(self) -> None:
        """Stand before the server's own handlers, which it has set by now."""
        if threading.current_thread() is not threading.main_thread():
            return  # a test's client: only the main thread is sent signals
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            server: Any = signal.getsignal(number)
            if callable(server):
                signal.signal(number, self._handler(server, loop))

    def _handler(
        self, server: Callable[[int, FrameType | None], Any], loop: asyncio.AbstractEventLoop
    ) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, frame: FrameType | None) -> None:
            first, self.stopping = not self.stopping, True
            if first and self._delay_s:
                loop.call_soon_threadsafe(loop.call_later, self._delay_s, server, number, None)
            else:
                server(number, frame)

        return handle


def stop_with_parent() -> None:
    """Stop this worker when the process that started it is gone: a supervisor that was killed leaves no orphans.

    Such a worker would go on holding the port, and nobody would replace it.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        logger.error("the process that started this worker is gone; the worker stops as well")
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="stop-with-parent", daemon=True).start()
