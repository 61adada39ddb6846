"""Times of a log, however written, to whole seconds since 1970 UTC."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xdm.log.converting import (
    EMPTY,
    ColumnError,
    Faults,
    cast_where_possible,
    integers,
    is_text,
    nulls,
    parse_integers,
    plain,
    text_and_empty,
)
from xdm.log.ids import text_buffers
from xdm.schema import TIME_LIMIT

PARTS_OF_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
UNIT_NAMES = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
FLOAT32_EXACT = 2**24  # whole numbers up to here are exact in float32
ISO_8601 = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(Z|[+-]\d\d(:?\d\d)?)?)?$"
ZONE = r":\d\d(Z|[+-]\d\d(:?\d\d)?)$"
LOOKS_LIKE_A_DATE = r"^\d{4}[-/]\d\d?[-/]\d\d?|^\d\d?[/.]\d\d?[/.]\d{4}"


@dataclass(frozen=True)
class Times:
    """Seconds since 1970, int64 ``[n]``; ``rounded`` rows had a fraction of a second; ``naive``: no zone, taken as UTC."""

    seconds: np.ndarray
    rounded: np.ndarray
    naive: bool = False


def to_seconds(column: pa.Array, unit: str) -> tuple[Times, Faults]:
    """Times in whole seconds, rounded down.

    ``unit`` is s, ms, us, ns (numbers, or text of integers), datetime (typed times, ISO-8601 text) or auto (typed times,
    else seconds).
    """
    faults = Faults()
    column = plain(column)
    if is_text(column.type):
        times = _from_iso(column, faults) if unit == "datetime" else _from_digits(column, unit, faults)
    else:
        faults.note(EMPTY, nulls(column))
        times = _from_values(column, unit, faults)
    faults.note("is negative (before 1970)", times.seconds < 0)
    faults.note("is after the year 3000", times.seconds >= TIME_LIMIT)
    return times, faults


def _from_values(column: pa.Array, unit: str, faults: Faults) -> Times:
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        if unit not in ("auto", "datetime"):
            raise ColumnError(f"holds {column.type}, which has a unit of its own; leave --time-unit at auto")
        return _from_typed(column)
    if unit == "datetime":
        raise ColumnError(f"holds {column.type}; --time-unit datetime is for ISO-8601 text and typed times")
    if pa.types.is_floating(column.type):
        return _from_floats(column, unit, faults)
    if pa.types.is_integer(column.type) or pa.types.is_null(column.type):
        return _scaled(integers(column, faults), unit, faults)
    raise ColumnError(f"holds {column.type}; times are integers, typed times, or ISO-8601 text (--time-unit datetime)")


def _scaled(numbers: np.ndarray, unit: str, faults: Faults) -> Times:
    """Integers of ``unit`` as seconds; seconds that are none are named by the unit that they look like."""
    if unit in ("auto", "s"):
        for likely, scale in (("ns", 10**9), ("us", 10**6), ("ms", 10**3)):
            looks = (numbers >= TIME_LIMIT * scale // 1000) & (numbers // scale < TIME_LIMIT)
            faults.note(f"looks like {UNIT_NAMES[likely]}: pass --time-unit {likely}", looks)
            numbers = np.where(looks, 0, numbers)
        return Times(numbers, np.zeros(len(numbers), np.bool_))
    scale = PARTS_OF_A_SECOND[unit]
    seconds = numbers // scale
    return Times(seconds, numbers != seconds * scale)


def _from_typed(column: pa.Array) -> Times:
    if pa.types.is_date(column.type):
        days = column.cast(pa.date32()).cast(pa.int32()).fill_null(0).to_numpy().astype(np.int64)
        return Times(days * 86400, np.zeros(len(column), np.bool_), naive=True)
    times = _scaled(column.cast(pa.int64()).fill_null(0).to_numpy(), column.type.unit, Faults())
    return Times(times.seconds, times.rounded, naive=column.type.tz is None)


def _from_floats(column: pa.Array, unit: str, faults: Faults) -> Times:
    values = column.fill_null(0).to_numpy().astype(np.float64)
    finite = np.isfinite(values)
    if not pa.types.is_float64(column.type):
        exact = finite & (np.abs(values) < FLOAT32_EXACT) & (values == np.floor(values))
        if not exact.all():
            raise ColumnError(f"holds {column.type}, which cannot hold a second of this century; write int64")
    if unit == "ns":
        raise ColumnError(f"holds {column.type}, which cannot hold a nanosecond of this century; write int64")
    faults.note("is not finite", ~finite)
    values = np.where(finite, np.clip(values, -(2.0**62), 2.0**62), 0)
    whole = np.floor(values)
    times = _scaled(whole.astype(np.int64), unit, faults)
    return Times(times.seconds, times.rounded | (whole != values))


def _from_digits(column: pa.Array, unit: str, faults: Faults) -> Times:
    text = text_and_empty(column, faults)
    numbers, bad = parse_integers(*text_buffers(text))
    if bad.any():
        dates = pc.match_substring_regex(text, LOOKS_LIKE_A_DATE).to_numpy(zero_copy_only=False)
        faults.note("looks like a date: pass --time-unit datetime", dates & bad)
        faults.note("is no 64-bit integer", bad)
    return _scaled(numbers, unit, faults)


def _from_iso(column: pa.Array, faults: Faults) -> Times:
    """ISO-8601 to seconds; the fraction of a second is cut off the text, so it is rounded down exactly."""
    text = text_and_empty(column, faults)
    whole = pc.replace_substring_regex(text, r"(:\d\d)[.,]\d+", r"\1")
    rounded = pc.match_substring_regex(text, r"[.,]0*[1-9]").to_numpy(zero_copy_only=False)
    shaped = pc.match_substring_regex(whole, ISO_8601).to_numpy(zero_copy_only=False)
    zoned = pc.match_substring_regex(whole, ZONE).to_numpy(zero_copy_only=False)
    seconds = np.zeros(len(text), np.int64)
    bad = ~shaped
    for rows, kind in ((shaped & zoned, pa.timestamp("s", "UTC")), (shaped & ~zoned, pa.timestamp("s"))):
        places = np.flatnonzero(rows)
        if len(places):
            parsed = cast_where_possible(whole.take(pa.array(places)), kind)
            bad[places] |= nulls(parsed)
            seconds[places] = parsed.cast(pa.int64()).fill_null(0).to_numpy()
    faults.note("is no ISO-8601 date and time", bad)
    return Times(seconds, rounded, naive=bool((shaped & ~zoned).any()))
