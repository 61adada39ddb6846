"""`/v1/users/{user_id}`: what is held of a user."""

from __future__ import annotations

from pydantic import BaseModel, Field

from xdm.serving.messages.common import ModelInfo

MAX_SHOWN = 1000


class HeldEvent(BaseModel):
    """One exposure as it is held."""

    item_id: str | int
    timestamp: int
    clicked: bool
    session_id: str | int | None


class Exposure(BaseModel):
    """An item that was shown, in the stream of exposures."""

    item_id: str | int
    clicked: bool


class ShownBehaviours(BaseModel):
    """What the model sees of the user at ``timestamp``; ids of items oldest first, long-term values most recent first."""

    timestamp: int
    short: list[str | int]
    sessions: list[int] = Field(description="of each click in `short` the number of its session, from 1")
    long: dict[str, list[str | int]]
    unclicked: list[str | int]
    stream: list[Exposure] | None = Field(description="clicks and skips, oldest first; null where the model reads none")


class UserAnswer(BaseModel):
    """All that the service holds of one user."""

    user_id: str | int
    in_training: bool = Field(description="whether the model has learned a vector of this user, and may use it")
    forgotten: bool = Field(description="whether the user was deleted: then what the store holds is not used")
    events: list[HeldEvent] = Field(description=f"the newest live events, at most {MAX_SHOWN}, oldest first")
    events_held: int = Field(description="live events held in all")
    history_events: int = Field(description="events of the store that are read for this user")
    behaviours: ShownBehaviours
    model: ModelInfo


class DeletedAnswer(BaseModel):
    """What was deleted."""

    user_id: str | int
    deleted: int = Field(description="live events that were held; they are gone from disk")
