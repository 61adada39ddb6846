"""What happened to each item, period by period, for item vectors that change with time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xdm.data.clicks import Clicks


@dataclass(frozen=True)
class Visits:
    """V visits: all clicks of one item in one period. In the order of item, then period; periods without a click have none.

    ``seconds``: how long a period is; period p holds the times ``[p · seconds, (p + 1) · seconds)``. Memory: 24 bytes a visit and
    8 a click.
    """

    seconds: int
    begin: int  # the first period
    periods: int  # from the first to the last
    period: Tensor  # [V] int64
    key: Tensor  # [V] int64, rising: item and period in one
    first: Tensor  # [items + 2] int64: item i has the visits [first[i], first[i + 1])
    users: Tensor  # [C] int64: who clicked, visit by visit
    users_from: Tensor  # [V + 1] int64: visit v has the users [users_from[v], users_from[v + 1])

    @classmethod
    def of(cls, clicks: Clicks, n_items: int, seconds: int) -> Visits:
        """The visits of the items up to ``n_items`` in ``clicks``."""
        kept = (clicks.item > 0) & (clicks.item <= n_items)
        item, period, user = clicks.item[kept], clicks.time[kept] // seconds, clicks.user[kept]
        order = np.lexsort((period, item))
        item, period, user = item[order], period[order], user[order]
        opens = np.ones(len(item), bool)
        opens[1:] = (item[1:] != item[:-1]) | (period[1:] != period[:-1])
        starts = np.flatnonzero(opens)
        begin = int(period.min()) if len(period) else 0
        periods = int(period.max()) - begin + 1 if len(period) else 0
        key = item[starts] * (periods + 1) + period[starts] - begin
        return cls(
            seconds, begin, periods, torch.from_numpy(period[starts]), torch.from_numpy(key),
            torch.from_numpy(np.searchsorted(item[starts], np.arange(n_items + 2))),
            torch.from_numpy(user), torch.from_numpy(np.append(starts, len(item))),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.key)

    def before(self, items: Tensor, periods: Tensor) -> Tensor:
        """The latest visit of each of ``items`` in a period before each of ``periods`` (shapes that go together), counted from 1;
        0 where there is none."""
        asked = items * (self.periods + 1) + (periods - self.begin).clamp(min=0, max=self.periods)
        count = torch.searchsorted(self.key, asked.contiguous())  # visits of earlier items, and of this one before the period
        return torch.where(count > self.first[items], count, 0)

    def last(self) -> Tensor:
        """The last visit of every item, ``[items + 1]``, counted from 1; 0 where there is none."""
        return torch.where(self.first[1:] > self.first[:-1], self.first[1:], 0)

    def of_items(self, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The visits of ``items`` ``[U]``, one item after the other: ``(visit [N], row [N], place [N])``, where row names the item
        among U and place the visit among the item's."""
        return ranges(self.first[items], self.first[items + 1])

    def users_of(self, visits: Tensor) -> tuple[Tensor, Tensor]:
        """The users of ``visits`` ``[N]``, one visit after the other: ``(users [C'], where each visit's begin [N])``."""
        begins, ends = self.users_from[visits], self.users_from[visits + 1]
        lengths = ends - begins
        return self.users[ranges(begins, ends)[0]], lengths.cumsum(0) - lengths


def ranges(begins: Tensor, ends: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The numbers of all ranges ``begins[r] .. ends[r] - 1``, one range after the other; of which range each is, and its place
    there."""
    lengths = ends - begins
    row = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    place = torch.arange(len(row)) - (lengths.cumsum(0) - lengths)[row]
    return begins[row] + place, row, place
