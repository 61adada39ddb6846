"""`POST /v1/events`: what was shown and what was clicked."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from xdm.serving.messages.common import Flag, Id, Message, Second

MAX_EVENTS = 1000  # of a batch


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
