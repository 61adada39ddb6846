"""User profiles as codes."""

from __future__ import annotations

import numpy as np

from xdm.log.store import EntityTable


def profile_codes(users: EntityTable) -> np.ndarray:
    """The profile codes of every user: int64 ``[users + 1, fields]``, row 0 (an unknown user) all 0."""
    columns = [feature.codes for feature in users.features.values()]
    return np.stack(columns, axis=1).astype(np.int64) if columns else np.zeros((len(users) + 1, 0), np.int64)
