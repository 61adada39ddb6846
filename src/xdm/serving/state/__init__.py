"""What a service remembers between requests: live events, changed items and the active model."""

from xdm.serving.state.opening import open_state
from xdm.serving.state.sqlite import SqliteState
from xdm.serving.state.types import (
    NEWEST_EVENTS,
    ActiveModel,
    Appended,
    Durability,
    LiveEvent,
    Pruned,
    SeenEvent,
    State,
    UserEvents,
)

__all__ = [
    "NEWEST_EVENTS",
    "ActiveModel",
    "Appended",
    "Durability",
    "LiveEvent",
    "Pruned",
    "SeenEvent",
    "SqliteState",
    "State",
    "UserEvents",
    "open_state",
]
