"""One thread that answers: questions wait in a queue and are answered in batches, each before its deadline or without the model.

A search among a million items reads all of their vectors, whether for one question or for ten: what waits meanwhile is answered
together. One thread also means that nothing competes for the cores that numpy, faiss and ONNX Runtime work on.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Sequence

from xdm.serving.messages.recommend import RecommendAnswer
from xdm.serving.questions import Question
from xdm.serving.service import Service
from xdm.serving.telemetry import Telemetry

MAX_BATCH = 32  # questions that are answered together: enough to share a search, few enough that none waits long

logger = logging.getLogger("xdm.serving")


class _Waiting:
    """A question that waits, where its answer goes, and the timer of its deadline."""

    __slots__ = ("answer", "began", "loop", "question", "timer")

    def __init__(self, question: Question, loop: asyncio.AbstractEventLoop) -> None:
        self.question, self.loop = question, loop
        self.answer: asyncio.Future[RecommendAnswer] = loop.create_future()
        self.began = time.perf_counter()
        self.timer: asyncio.TimerHandle | None = None


class Engine:
    """Answers questions of an event loop from a thread of its own. ``deadline_s``: later answers are the popular items instead;
    ``queue_max``: so are those to questions that come while so many wait."""

    def __init__(self, service: Service, telemetry: Telemetry, *, deadline_s: float, queue_max: int) -> None:
        self._service, self._telemetry = service, telemetry
        self._deadline_s, self._queue_max = deadline_s, queue_max
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="xdm-engine", daemon=True)
        self._busy_since: float | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Answer what waits, then end the thread."""
        self._queue.put(None)
        self._thread.join(timeout=self._deadline_s + 1)

    @property
    def depth(self) -> int:
        """How many questions wait."""
        return self._queue.qsize()

    @property
    def busy_seconds(self) -> float:
        """How long the thread has worked on what it answers now; 0 where it waits for questions."""
        since = self._busy_since
        return 0.0 if since is None else time.perf_counter() - since

    async def answer(self, question: Question) -> RecommendAnswer:
        """The answer to one question, ``deadline_s`` from now at the latest.

        Raises:
            UsageError: a filter by a feature that the catalogue has not.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(question, loop)
        depth = self.depth
        self._telemetry.queue(depth)
        if depth >= self._queue_max:
            answer = self._service.popular(question, "overload")
        else:
            waiting.timer = loop.call_later(self._deadline_s, self._late, waiting)
            self._queue.put(waiting)
            try:
                answer = await waiting.answer
            finally:
                waiting.timer.cancel()
        self._telemetry.answered(answer.source, answer.fallback, time.perf_counter() - waiting.began)
        return answer

    def _late(self, waiting: _Waiting) -> None:
        if not waiting.answer.done():
            _deliver([waiting], [self._service.popular_or_error(waiting.question, "deadline")])

    def _run(self) -> None:
        while (waiting := self._take()) is not None:
            self._busy_since = time.perf_counter()
            asked = [one for one in waiting if not one.answer.done()]  # a late one has its answer
            if asked:
                self._answer_together(asked)
            self._busy_since = None

    def _answer_together(self, asked: Sequence[_Waiting]) -> None:
        self._telemetry.batch(len(asked))
        try:
            answers = self._service.answers([one.question for one in asked])
        except Exception as error:  # the thread must live
            logger.error("a batch of %d questions failed", len(asked), exc_info=error)
            self._telemetry.fault("engine")
            answers = [self._service.popular_or_error(one.question, "model") for one in asked]
        # Nearly always all of a batch wait in one loop: one call wakes it for all of them.
        for loop in {one.loop for one in asked}:
            theirs = [place for place, one in enumerate(asked) if one.loop is loop]
            try:
                loop.call_soon_threadsafe(_deliver, [asked[place] for place in theirs], [answers[place] for place in theirs])
            except RuntimeError:  # the loop is closed: nobody waits any more
                logger.warning("%d answers came when nobody waited any more", len(theirs))

    def _take(self) -> list[_Waiting] | None:
        """What waits, at least one and at most `MAX_BATCH`; None when there is nothing to come."""
        first = self._queue.get()
        if first is None:
            return None
        waiting = [first]
        while len(waiting) < MAX_BATCH:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                self._queue.put(None)  # for the next look
                break
            waiting.append(following)
        return waiting


def _deliver(waiting: Sequence[_Waiting], answers: Sequence[RecommendAnswer | Exception]) -> None:
    for one, answer in zip(waiting, answers, strict=True):
        if one.answer.done():
            continue
        if isinstance(answer, Exception):
            one.answer.set_exception(answer)
        else:
            one.answer.set_result(answer)
