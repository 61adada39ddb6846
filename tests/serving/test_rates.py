"""Rates as text, and the bucket that holds callers to them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdm.serving.rates import Rate, RateLimiter, parse_rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("500/second", Rate(500, 1)),
        ("10 per minute", Rate(10, 60)),
        (" 7/hours ", Rate(7, 3600)),
        ("1/day", Rate(1, 86_400)),
    ],
)
def test_a_rate_is_a_number_and_a_time(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "500", "0/second", "-1/second", "5/month", "5/second; 6/day", "1.5/second", "9" * 13 + "/day"]
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="is no rate"):
        parse_rate(text)


@given(
    amount=st.integers(1, 8),
    seconds=st.sampled_from([1, 60]),
    gaps=st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=60),
)
def test_the_bucket_is_a_bucket(amount, seconds, gaps):
    """Oracle: a bucket of ``amount`` tokens that fills at amount / seconds; requests that would just pass may do either."""
    now = 0.0
    limiter = RateLimiter(clock=lambda: now)
    tokens, filled = float(amount), 0.0
    for gap in gaps:
        now += gap * seconds / amount
        tokens, filled = min(amount, tokens + (now - filled) * amount / seconds), now
        wait = limiter.take("a", Rate(amount, seconds))
        if abs(tokens - 1) > 1e-6:
            assert (wait == 0) == (tokens >= 1)
        if wait:
            assert wait == pytest.approx((1 - tokens) * seconds / amount, rel=1e-4, abs=1e-6)
        else:
            tokens -= 1


def test_after_the_wait_that_was_told_a_request_passes_and_callers_are_apart():
    now = 1000.0
    limiter = RateLimiter(clock=lambda: now)
    rate = Rate(3, 60)
    assert [limiter.take("a", rate) for _ in range(4)] == [0, 0, 0, pytest.approx(20)]
    assert limiter.take("b", rate) == 0
    now += 19.99
    assert limiter.take("a", rate) > 0
    now += 0.01
    assert limiter.take("a", rate) == 0
    assert limiter.take("a", rate) > 0
