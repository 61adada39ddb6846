"""External ids and the indices that stand for them: index 0 is "unknown", index i stands for the i-th id."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xdm.schema import ITEM_DTYPE, PADDING, InternalError


class Vocabulary:
    """The ids of one kind (items, users), all strings or all 64-bit integers.

    Ids are matched by value across the two types: the integer 7 finds the string id "7", and the string "7" the
    integer id 7, so that a JSON request need not know how the log wrote them. What is given back has the log's type.
    """

    def __init__(self, ids: pa.Array) -> None:
        if isinstance(ids, pa.ChunkedArray):
            ids = ids.combine_chunks()
        if pa.types.is_integer(ids.type):
            ids = ids.cast(pa.int64())
        elif pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type):
            ids = ids.cast(pa.large_string())
        else:
            raise InternalError(f"ids must be strings or integers, not {ids.type}")
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_integer(self) -> bool:
        return pa.types.is_integer(self.ids.type)

    @cached_property
    def _order(self) -> np.ndarray:
        return pc.sort_indices(self.ids).to_numpy()

    def _normalise(self, external: Any) -> int | str | None:
        if isinstance(external, bool) or external is None:
            return None
        if self.is_integer:
            try:
                value = int(external)
            except (TypeError, ValueError):
                return None
            return value if str(value) == str(external) and -(2**63) <= value < 2**63 else None
        return str(external) if isinstance(external, str | int | np.integer) else None

    def index(self, external: Any) -> int:
        """The index of one id, 0 where it is unknown."""
        wanted = self._normalise(external)
        if wanted is None:
            return PADDING
        # Binary search in place: no dictionary of a million Python strings, and a lookup takes some 20 comparisons.
        # Arrow sorts strings by their UTF-8 bytes, which is the order of code points, as Python compares them.
        low, high = 0, len(self.ids)
        while low < high:
            middle = (low + high) // 2
            if self.ids[int(self._order[middle])].as_py() < wanted:
                low = middle + 1
            else:
                high = middle
        if low < len(self.ids) and self.ids[int(self._order[low])].as_py() == wanted:
            return int(self._order[low]) + 1
        return PADDING

    def indices(self, external: pa.Array | Sequence[Any]) -> np.ndarray:
        """The indices of many ids, ``[n]`` int32, 0 where unknown."""
        if isinstance(external, pa.ChunkedArray):
            external = external.combine_chunks()
        if not isinstance(external, pa.Array):
            external = pa.array([self._normalise(value) for value in external], type=self.ids.type)
        elif self.is_integer and not pa.types.is_integer(external.type):
            external = pa.array([self._normalise(value) for value in external.to_pylist()], type=self.ids.type)
        else:
            external = external.cast(self.ids.type)
        found = pc.index_in(external, value_set=self.ids, skip_nulls=True)
        return (pc.fill_null(found, -1).to_numpy(zero_copy_only=False) + 1).astype(ITEM_DTYPE)

    def external(self, indices: np.ndarray) -> pa.Array:
        """The ids of ``indices`` (all >= 1)."""
        return self.ids.take(pa.array(np.asarray(indices, dtype=np.int64) - 1))

    def external_list(self, indices: np.ndarray) -> list[Any]:
        """The ids of ``indices`` as Python values."""
        return self.external(indices).to_pylist()
