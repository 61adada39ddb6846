"""`/v1/models` and `/health`: which bundle answers, and which others could."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from xdm.serving.messages.common import Flag, Message, ModelInfo

BundleName = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")]


class LoadRequest(Message):
    """A bundle of the models folder to load beside the active one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "bundle-2"}]})

    name: BundleName = Field(description="the bundle's folder, in the folder that --models names")
    fingerprint: str | None = Field(None, max_length=64, description="refuse another one than this")
    force: Flag = Field(False, description="load it even where it knows fewer than half of the active model's items")


class Nothing(Message):
    """Nothing is said: `{}`. A body all the same, so that no web page can send it without asking first."""


class BundleAnswer(BaseModel):
    """One bundle of the models folder."""

    name: str
    model: ModelInfo | None = Field(None, description="null where the folder cannot be read")
    state: Literal["active", "previous", "loaded", "on_disk", "unreadable"]
    created: str | None = None
    index: str | None = None
    items: int | None = None
    users: int | None = None
    detail: str | None = Field(None, description="of an unreadable one: why")


class ModelsAnswer(BaseModel):
    """The bundles of the models folder."""

    active: ModelInfo
    models: list[BundleAnswer]


class LoadAnswer(BaseModel):
    """A bundle that is loaded, warmed and checked."""

    name: str
    model: ModelInfo
    items: int
    users: int
    width: int
    shared_items: float = Field(description="share of the active model's items that it knows, 0 to 1")
    seconds: float


class ActivateAnswer(BaseModel):
    """The switch: answers that are begun from now on come from ``active``. Other workers follow within seconds."""

    name: str
    active: ModelInfo
    previous: ModelInfo | None


class LiveAnswer(BaseModel):
    """That the process runs."""

    status: Literal["alive"] = "alive"


class ReadyAnswer(BaseModel):
    """That requests are welcome."""

    status: Literal["ready", "degraded"] = Field(description="degraded: it answers, without the live events")
    model: ModelInfo
    items: int
    users: int
    uptime_seconds: int
    events_held: int | None = Field(description="live events; null where the state cannot be reached")
    history: bool = Field(description="whether a store's events stand before the live ones")
