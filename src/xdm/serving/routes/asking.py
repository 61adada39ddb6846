"""`/v1/recommend`, `/v1/similar`: what is asked of the model."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from xdm.serving.engine import Engine
from xdm.serving.messages.recommend import (
    BatchAnswer,
    BatchRequest,
    RecommendAnswer,
    RecommendRequest,
    SimilarAnswer,
    SimilarRequest,
)
from xdm.serving.observe import record_of
from xdm.serving.questions import Question
from xdm.serving.routes.answers import WITH_BODY, documented, json_of
from xdm.serving.service import Service


def routes(service: Service, engine: Engine) -> APIRouter:
    """The operations that need the scope `read`."""
    router = APIRouter(tags=["recommendations"])

    @router.post("/v1/recommend", response_model=RecommendAnswer, **documented("read", *WITH_BODY))
    async def recommend(asked: RecommendRequest, request: Request) -> Response:
        """The items that a user would click next, from all that is known of the user before the question's time."""
        answer = await engine.answer(_question(asked))
        record = record_of(request.scope)
        record.source, record.fallback = answer.source, answer.fallback
        return json_of(answer)

    @router.post("/v1/recommend/batch", response_model=BatchAnswer, **documented("read", *WITH_BODY))
    async def recommend_batch(asked: BatchRequest) -> Response:
        """Several questions at once; each is answered as if it came alone."""
        answers = await asyncio.gather(*(engine.answer(_question(one)) for one in asked.questions))
        return json_of(BatchAnswer.model_construct(answers=list(answers)))

    # A plain function runs in a thread: a look at all item vectors holds up no other request.
    @router.post("/v1/similar", response_model=SimilarAnswer, **documented("read", 404, *WITH_BODY))
    def similar(asked: SimilarRequest) -> Response:
        """The items whose vectors point most nearly the same way as one item's."""
        return json_of(service.similar(asked))

    return router


def _question(asked: RecommendRequest) -> Question:
    return Question(
        asked.user_id, asked.k, asked.timestamp, asked.events, asked.exclude, asked.exclude_clicked, asked.only, asked.where
    )
