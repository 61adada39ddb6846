"""What a worker does besides answering: follow the other workers, and delete what no rule needs any more."""

from __future__ import annotations

import logging
import threading

from xdm.schema import DAY, XdmError
from xdm.serving.errors import StateUnavailableError
from xdm.serving.opening import Opened
from xdm.serving.settings import ServeSettings

logger = logging.getLogger("xdm.serving")


class Background:
    """A thread that looks every ``refresh_seconds``. What fails is counted, logged, and tried again at the next look."""

    def __init__(self, opened: Opened, settings: ServeSettings) -> None:
        self._opened, self._settings = opened, settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="xdm-background", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread after what it is doing."""
        self._stop.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stop.wait(self._settings.refresh_seconds):
            try:
                self._opened.shelf.follow()
                self._prune()
            except StateUnavailableError:
                self._opened.telemetry.fault("state")
            except Exception as error:
                self._opened.telemetry.fault("background")
                logger.error("a look at other workers' changes failed: %s", error, exc_info=not isinstance(error, XdmError))

    def _prune(self) -> None:
        """Delete what no answer from now on can need, and what is too old; the state says when it is time for a round."""
        service, days = self._opened.service, self._settings.max_age_days
        catalogue, deleted, done = service.served.catalogue, 0, False
        while not done and not self._stop.is_set():
            pruned = service.state.prune(
                self._opened.shelf.rules(), now=service.now, max_age=None if days is None else days * DAY,
                known=lambda item: catalogue.known(catalogue.index(item)),
            )  # fmt: skip
            deleted, done = deleted + pruned.events, pruned.done
        if deleted:
            logger.info("%d live events that no rule needs any more were deleted", deleted)
