"""How often a key may ask: a rate as text, and the bucket that holds a caller to it.

It is the generic cell rate algorithm (ITU-T I.371): one time a caller is remembered, at which its bucket will be full again.
The library `limits` was tried first: its store in memory starts a thread within a request, which cost milliseconds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import NamedTuple

UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
NOTATION = re.compile(r"(\d{1,12})\s*(?:/|per)\s*(second|minute|hour|day)s?")


class Rate(NamedTuple):
    """``amount`` requests in ``seconds``."""

    amount: int
    seconds: int


def parse_rate(text: str) -> Rate:
    """``"500/second"`` or ``"10000 per hour"``.

    Raises:
        ValueError: it is no such text, or allows nothing.
    """
    found = NOTATION.fullmatch(text.strip())
    if not found or not int(found[1]):
        raise ValueError(f'{text!r} is no rate; write a number and second, minute, hour or day, as in "500/second"')
    return Rate(int(found[1]), UNITS[found[2]])


class RateLimiter:
    """Holds callers to their rates: ``amount`` requests may come at once, then one each ``seconds / amount``.

    To be used from one thread. It remembers one number a caller, and there are as many callers as keys.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_again: dict[str, float] = {}

    def take(self, caller: str, rate: Rate) -> float:
        """Count a request of ``caller``: 0 where it may pass, else the seconds to wait, and then it is not counted."""
        now = self._clock()
        full_again = max(self._full_again.get(caller, now), now) + rate.seconds / rate.amount
        wait = full_again - now - rate.seconds
        if wait > 1e-9 * rate.seconds:  # sums of times are not exact
            return wait
        self._full_again[caller] = full_again
        return 0.0
