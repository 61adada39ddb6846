"""`POST /v1/recommend`: what would this user click next?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict

from xdm.serving.messages.common import FeatureName, FeatureValue, Flag, Id, Message, ModelInfo, Second
from xdm.serving.messages.events import MAX_EVENTS

MAX_K = 1000
MAX_EXCLUDE = 10_000
MAX_QUESTIONS = 100  # of a batch

Fallback = Literal["unknown_user", "empty_history", "model", "index", "deadline", "overload"]


class InlineEvent(Message):
    """One exposure of the user that a question is about."""

    item_id: Id
    timestamp: Second
    clicked: Flag
    session_id: Id | None = None


class Filters(Message):
    """Which items may be answered."""

    exclude: list[Id] = Field(default_factory=list, max_length=MAX_EXCLUDE, description="Items never to recommend.")
    only: list[Id] | None = Field(
        None, max_length=MAX_EXCLUDE, description="Nothing but these items; left out, the whole catalogue."
    )
    where: dict[FeatureName, Annotated[list[FeatureValue], Field(min_length=1, max_length=100)]] = Field(
        default_factory=dict,
        max_length=16,
        description="Only items that have, for each feature named, one of the values given; features are the catalogue's.",
    )


class RecommendRequest(Filters):
    """What would this user click next?"""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "u17", "k": 10},
                {
                    "user_id": "someone new",
                    "k": 10,
                    "timestamp": 1_700_000_100,
                    "events": [{"item_id": "i3", "timestamp": 1_700_000_000, "clicked": True, "session_id": "s1"}],
                    "exclude": ["i3"],
                    "exclude_clicked": True,
                },
                {"user_id": "u17", "k": 10, "where": {"category": ["shoes", "boots"]}},
            ]
        }
    )

    user_id: Id
    k: Annotated[int, Strict(), Field(ge=1, le=MAX_K, description="how many items")] = 50
    timestamp: Second | None = Field(
        None,
        description="The question's time: only events strictly before this second are looked at. "
        "Left out, it is the second after the current one, so that an event of the current second counts.",
    )
    events: list[InlineEvent] = Field(
        default_factory=list, max_length=MAX_EVENTS, description="More events of this user, used for this answer only."
    )
    exclude_clicked: Flag = Field(False, description="Leave out what the user clicked before the question's time.")


@dataclass(slots=True)
class ScoredItem:
    """One recommended item; rank 1 is the best, a larger score is better."""

    # A plain class: an answer holds up to a thousand of them, and a pydantic model takes ten times as long to make.

    item_id: str | int
    score: float
    rank: int


class RecommendAnswer(BaseModel):
    """The items that the user would click next, best first."""

    user_id: str | int | None
    timestamp: int = Field(description="the question's time")
    source: str = Field(description='"model"; or "popular": the items most clicked in training')
    fallback: Fallback | None = Field(
        None,
        description="why the answer is not the model's usual one. unknown_user: nothing is known of the user; "
        "empty_history: no click is; model: the model failed; index: its index did, and every item was scored instead; "
        "deadline: the answer would have been late; overload: too many questions wait",
    )
    missing: list[str] = Field(
        default_factory=list, description='what could not be read for this answer: "live_events" where the state is down'
    )
    items: list[ScoredItem]
    unknown_items: int = Field(
        description="events skipped, and ids of `exclude` and `only`, whose item this model does not know"
    )
    events_seen: int = Field(description="events before the question's time that the model was given")
    later_events: int = Field(description="events of the request at or after the question's time: not looked at")
    model: ModelInfo


class BatchRequest(Message):
    """Several questions at once."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"questions": [{"user_id": "u17"}, {"user_id": "u3", "k": 5}]}]})

    questions: list[RecommendRequest] = Field(min_length=1, max_length=MAX_QUESTIONS)


class BatchAnswer(BaseModel):
    """The answers, in the order of the questions."""

    answers: list[RecommendAnswer]


class SimilarRequest(Filters):
    """Which items are most like this one?"""

    model_config = ConfigDict(json_schema_extra={"examples": [{"item_id": "i3", "k": 10}]})

    item_id: Id
    k: Annotated[int, Strict(), Field(ge=1, le=MAX_K, description="how many items")] = 50


class SimilarAnswer(BaseModel):
    """The items most like one, best first; the score is the cosine of their vectors."""

    item_id: str | int
    items: list[ScoredItem]
    unknown_items: int = Field(description="ids of `exclude` and `only` that this model does not know")
    model: ModelInfo
