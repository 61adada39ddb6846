"""How a log is to be read: the options of ``xdm prepare``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from xdm.schema import ACTION, CLICKED, DWELL, ITEM_ID, POSITION, SESSION_ID, TIMESTAMP, USER_ID

TimeUnit = Literal["auto", "s", "ms", "us", "ns", "datetime"]
IdType = Literal["auto", "text", "integer"]


class PrepareSettings(BaseModel):
    """Settings of one `prepare_log`. They are kept in the store's manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_column: str = Field(USER_ID, description="the column that names the user")
    item_column: str = Field(ITEM_ID, description="the column that names the item")
    timestamp_column: str = Field(TIMESTAMP, description="the column with the time")
    clicked_column: str | None = Field(
        None, description="the column that says whether it was clicked; default: clicked"
    )
    session_column: str | None = Field(None, description="default: session_id where present; '' leaves it out")
    action_column: str | None = Field(None, description="default: action where present; '' leaves it out")
    position_column: str | None = Field(None, description="default: position where present; '' leaves it out")
    dwell_column: str | None = Field(None, description="default: dwell where present; '' leaves it out")
    clicked_when: str | None = Field(None, description="SQL expression over the log's columns: what counts as a click")
    time_unit: TimeUnit = Field("auto", description="auto: typed times as they are, integers as seconds")
    id_type: IdType = Field("auto", description="auto: the column's own type; CSV columns are text")
    on_bad_rows: Literal["fail", "drop"] = "fail"
    items_columns: tuple[str, ...] | None = Field(
        None, description="item features to take; default: see docs/prepare.md"
    )
    users_columns: tuple[str, ...] | None = Field(None, description="profile columns to take, likewise")
    partitions: int | None = Field(None, ge=1, le=4096, description="default: about 2 million rows in each part")

    @model_validator(mode="after")
    def _one_meaning_of_clicked(self) -> Self:
        if self.clicked_when is not None and self.clicked_column is not None:
            raise ValueError("clicked_when and clicked_column both say what counts as a click; give one of them")
        return self

    def required_columns(self) -> dict[str, str]:
        """Name in `xdm.schema` to the log's column, for the columns that a log must have."""
        wanted = {USER_ID: self.user_column, ITEM_ID: self.item_column, TIMESTAMP: self.timestamp_column}
        if self.clicked_when is None:
            wanted[CLICKED] = CLICKED if self.clicked_column is None else self.clicked_column
        return wanted

    def optional_columns(self) -> dict[str, str | None]:
        """Name in `xdm.schema` to the log's column as the settings name it: None is the default name, '' is none."""
        return {
            SESSION_ID: self.session_column,
            ACTION: self.action_column,
            POSITION: self.position_column,
            DWELL: self.dwell_column,
        }
