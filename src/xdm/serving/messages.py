"""What is asked over HTTP and what is answered: every field, its type and its limits."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from xdm.schema import TIME_LIMIT

MAX_K = 1000
MAX_EVENTS = 1000
MAX_EXCLUDE = 10_000
MAX_ID_CHARACTERS = 512

# Strict, so that true is no 1, 7.0 no 7 and "true" no true: what a client sent by mistake is refused, not bent.
IntegerId = Annotated[int, Strict(), Field(ge=0, lt=2**63)]
TextId = Annotated[str, Strict(), Field(min_length=1, max_length=MAX_ID_CHARACTERS)]


def _one_message(value: Any, validate: ValidatorFunctionWrapHandler) -> str | int:
    """One message for a bad id in place of one for each of the two types that it might have been."""
    try:
        return validate(value)
    except ValidationError:
        raise PydanticCustomError(
            "id", f"an id is text of 1 to {MAX_ID_CHARACTERS} characters or an integer from 0 and below 2^63"
        ) from None


Id = Annotated[IntegerId | TextId, WrapValidator(_one_message)]
Second = Annotated[int, Strict(), Field(ge=0, lt=TIME_LIMIT, description="seconds since 1970 UTC")]
Flag = Annotated[bool, Strict()]


class Message(BaseModel):
    """A request or a part of one: an unknown key is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InlineEvent(Message):
    """One exposure of the user that a question is about."""

    item_id: Id
    timestamp: Second
    clicked: Flag
    session_id: Id | None = None


class RecommendRequest(Message):
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
    exclude: list[Id] = Field(default_factory=list, max_length=MAX_EXCLUDE, description="Items never to recommend.")
    exclude_clicked: Flag = Field(False, description="Leave out what the user clicked before the question's time.")


class ScoredItem(BaseModel):
    """One recommended item; rank 1 is the best, a larger score is better."""

    item_id: str | int
    score: float
    rank: int


class ModelInfo(BaseModel):
    """Which model answered."""

    name: str
    fingerprint: str


class RecommendAnswer(BaseModel):
    """The items that the user would click next, best first."""

    user_id: str | int | None
    timestamp: int = Field(description="the question's time")
    source: str = Field(description='"model", or "popular" where no click of the user is known')
    items: list[ScoredItem]
    unknown_items: int = Field(description="events skipped, and ids of `exclude`, whose item this model does not know")
    events_seen: int = Field(description="events before the question's time that the model was given")
    later_events: int = Field(description="events of the request at or after the question's time: not looked at")
    model: ModelInfo


class PostedEvent(Message):
    """One exposure, to be kept."""

    event_id: Id | None = Field(
        None,
        description="Names the event, so that sending it again changes nothing. "
        "Left out, the server makes one, and an event sent twice is stored twice.",
    )
    user_id: Id
    item_id: Id
    timestamp: Second
    clicked: Flag
    session_id: Id | None = None


class EventsRequest(Message):
    """Exposures that happened, in any order; stored all or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "events": [
                        {"event_id": "1", "user_id": "u17", "item_id": "i3", "timestamp": 1700000000, "clicked": True},
                        {"event_id": "2", "user_id": "u17", "item_id": "i8", "timestamp": 1700000000, "clicked": False},
                    ]
                }
            ]
        }
    )

    events: list[PostedEvent] = Field(min_length=1, max_length=MAX_EVENTS)


class EventsAnswer(BaseModel):
    """What became of a batch: it is on disk when this arrives."""

    accepted: int = Field(description="events that are new")
    duplicates: int = Field(description="events that were stored already, with the same content")
    unknown_items: int = Field(description="events whose item this model does not know; they are stored as well")


class HealthAnswer(BaseModel):
    """That the service answers, with which model, since when."""

    status: str
    model: ModelInfo
    items: int
    users: int
    uptime_seconds: int
    events_stored: int
    history: bool = Field(description="whether a store's events stand before the live ones")


class ProblemError(BaseModel):
    """One thing that was wrong with a request."""

    where: str = Field(description="JSON pointer into the request, as in /events/3/clicked")
    what: str


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="what was wrong and what to do")
    errors: list[ProblemError] = Field(default_factory=list)
