"""What every message shares: ids, times, and that nothing unknown is let through."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from xdm.schema import TIME_LIMIT

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
FeatureName = Annotated[str, Strict(), Field(min_length=1, max_length=128)]
FeatureValue = Annotated[str, Strict(), Field(min_length=1, max_length=MAX_ID_CHARACTERS)]


class Message(BaseModel):
    """A request or a part of one: an unknown key is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelInfo(BaseModel):
    """Which model answered."""

    name: str
    fingerprint: str


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
