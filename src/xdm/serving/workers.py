"""Several processes that answer at one address, and the supervisor that replaces those that die."""

from __future__ import annotations

import functools
import logging
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from xdm.schema import InternalError, XdmError
from xdm.serving.logs import configure_logging
from xdm.serving.running import METRICS_FOLDER, build_app, server_config
from xdm.serving.settings import ServeSettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

RETRY_SECONDS = 5.0  # between attempts to replace a worker that cannot start

logger = logging.getLogger("xdm.serving")


def run_workers(settings: ServeSettings, listener: socket.socket, announcement: Callable[[], None]) -> None:
    """Serve from ``settings.workers`` processes until SIGTERM or SIGINT; ``announcement`` is made when all are ready.

    Raises:
        InternalError: the workers cannot start; the log says why.
    """
    with tempfile.TemporaryDirectory(prefix="xdm-metrics-") as metrics:
        os.environ[METRICS_FOLDER] = metrics  # inherited by the workers
        try:
            supervisor = Supervisor(settings, listener, announcement)
            supervisor.run()
        finally:
            del os.environ[METRICS_FOLDER]
    if not supervisor.ready and not supervisor.asked_to_stop:
        raise InternalError("the workers could not start; the lines above say why")


class Supervisor(Multiprocess):
    """uvicorn's supervisor, which also tidies up after dead workers and tells the first start from later ones.

    SIGHUP replaces the workers one after the other, each by one that is ready.
    """

    def __init__(self, settings: ServeSettings, listener: socket.socket, announcement: Callable[[], None]) -> None:
        factory = functools.partial(build_worker_app, settings)
        super().__init__(server_config(settings, factory, factory=True), [listener])
        self.ready = False  # all workers have been, once
        self.asked_to_stop = False
        self._announcement = announcement
        # A worker that cannot start later on is tried again while the others answer.
        self._later_factory = functools.partial(build_worker_app, settings, again=True)
        self._pids: set[int | None] = set()

    def keep_subprocess_alive(self) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        super().keep_subprocess_alive()
        pids = {process.pid for process in self.processes}
        for pid in self._pids - pids:
            logger.warning("worker %s is gone; another one takes its place", pid)
            mark_process_dead(pid)  # its gauges; what it counted stays counted
        self._pids = pids
        if not self.ready and not self.should_exit.is_set() and all(process.is_ready() for process in self.processes):
            self.ready = True
            self.config.app = self._later_factory
            self._announcement()

    def terminate_all(self) -> None:
        for listener in self.sockets:
            listener.close()  # else connections would wait here for a process that takes none
        super().terminate_all()

    def handle_term(self) -> None:
        self.asked_to_stop = True
        super().handle_term()

    def handle_int(self) -> None:
        self.asked_to_stop = True
        super().handle_int()


def build_worker_app(settings: ServeSettings, again: bool = False) -> ASGIApp:
    """`build_app` in a worker. Where that fails the worker ends: the first time for good, later to be tried again."""
    from xdm.serving.stopping import stop_with_parent

    configure_logging(settings.log_format, access_log=settings.access_log)
    stop_with_parent()
    try:
        return build_app(settings)
    except Exception as error:
        logger.error("a worker cannot start: %s", error, exc_info=None if isinstance(error, XdmError) else error)
        if again:
            time.sleep(RETRY_SECONDS)
        sys.exit(1 if again else STARTUP_FAILURE)  # the supervisor gives up at the second
