"""The numbers of the one definition of behaviours; docs/README.md has its words."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from xdm.schema import DAY


class BehaviourRules(BaseModel):
    """What of a user's past a model may see. Times in seconds, lengths in items."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    session_gap: int = Field(
        600, gt=0, description="a click joins the session if it comes less than this after the last"
    )
    session_max: int = Field(50, ge=1, le=10_000, description="clicks that a session holds at most")
    history_max: int = Field(
        0, ge=0, le=10_000,
        description="the short-term sequence is the user's latest so many clicks, whatever their session; 0: the session",
    )  # fmt: skip
    long_window: int = Field(7 * DAY, ge=0, description="how far before the session the long-term lists reach")
    long_max: int = Field(20, ge=1, le=10_000, description="distinct values that a long-term list holds at most")
    unclicked_window: int = Field(3 * DAY, gt=0, description="how far before t the unclicked sequence reaches")
    unclicked_k: int = Field(1, ge=0, description="an unclicked item was shown more than this many times in the window")
    unclicked_max: int = Field(100, ge=1, le=10_000, description="items that the unclicked sequence holds at most")
    keep_clicked: bool = Field(
        False, description="a control: keep the items clicked in the window too, so that the sequence says what was shown"
    )
    stream_max: int = Field(
        0, ge=0, le=10_000,
        description="exposures that the stream of clicks and skips in one reaches back, up to twice as many; 0: no stream",
    )  # fmt: skip
