"""External ids to dense codes, in order of first appearance.

An open-addressing hash table in numba: it maps integers and text alike, and its memory is that of the distinct ids,
whatever the number of rows. polars' ``Categorical`` was slower here and knows no integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit

from xdm.schema import InternalError

FIRST_SLOTS = 1 << 13
MAX_IDS = 2**31 - 2  # codes are int32
BLOCK = 128  # rows whose cache misses overlap

# A slot is hash << 32 | place of the id's record + 1, and 0 where it is empty. Records lie one after the other in order
# of their codes, in words of eight bytes: first code << 32 | bytes, then the bytes, padded with zeros.
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)
_EIGHT = np.uint64(8)
_ZERO = np.uint64(0)


class IdTable:
    """A growing vocabulary: `encode` gives each id the number of distinct ids seen before its first appearance.

    Ids are all text or all 64-bit integers; nulls are the caller's to remove.
    """

    def __init__(self, *, integer: bool) -> None:
        self.integer = integer
        self._size = 0
        self._slots = np.zeros(FIRST_SLOTS, np.uint64)
        self._words = np.zeros(FIRST_SLOTS, np.uint64)
        self._used = 0  # words
        self._before = (0, 0)  # size and words before the last call of encode

    def __len__(self) -> int:
        return self._size

    def encode(self, ids: pa.Array) -> np.ndarray:
        """The codes of ``ids`` (string, large_string or int64, without nulls): int32 ``[n]``; new ids are added."""
        if self.integer:
            data = np.ascontiguousarray(ids.to_numpy(zero_copy_only=True)).view(np.uint8)
            offsets = np.arange(len(ids) + 1, dtype=np.int64) * 8
        else:
            data, offsets = text_buffers(ids)
        codes = np.empty(len(ids), np.int32)
        self._before = (self._size, self._used)
        done = 0
        while True:
            done, self._used, self._size = _encode(
                data, offsets, done, codes, self._slots, self._words, self._used, self._size
            )
            if done == len(codes):
                return codes
            if 2 * self._size >= len(self._slots):
                self._grow_slots()
            while len(self._words) - self._used < 2 + (offsets[done + 1] - offsets[done]) // 8:
                self._words = np.concatenate([self._words, np.zeros_like(self._words)])

    def _grow_slots(self) -> None:
        if self._size >= MAX_IDS:
            raise InternalError(f"more than {MAX_IDS} distinct ids")
        self._slots = _rehashed(self._slots, np.zeros(2 * len(self._slots), np.uint64))

    def ids(self) -> pa.Array:
        """All ids in order of their codes: int64 or large_string."""
        return self._ids_from(0, 0)

    def newest(self) -> pa.Array:
        """The ids that the last call of `encode` added, in order of their codes."""
        return self._ids_from(*self._before)

    def _ids_from(self, size: int, used: int) -> pa.Array:
        data, offsets = _unpacked(self._words[used : self._used], self._size - size)
        if self.integer:
            return pa.array(data.view(np.int64))
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        return pa.Array.from_buffers(pa.large_string(), len(offsets) - 1, buffers)


def text_buffers(text: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The UTF-8 bytes of a string array and its offsets into them (int64 ``[n + 1]``), without a copy of the bytes."""
    _, offsets, data = text.buffers()
    kind: Any = np.int64 if pa.types.is_large_string(text.type) or pa.types.is_large_binary(text.type) else np.int32
    if offsets is None or len(text) == 0:
        return np.zeros(0, np.uint8), np.zeros(len(text) + 1, np.int64)
    spans = np.frombuffer(offsets, kind)[text.offset : text.offset + len(text) + 1].astype(np.int64)
    return (np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)), spans


def crc32_of_text(text: pa.Array) -> np.ndarray:
    """``zlib.crc32`` of each string's UTF-8 bytes: uint32 ``[n]``."""
    return _crc32(*text_buffers(text), _CRC_TABLE)


def _crc_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0xEDB88320), table >> 1).astype(np.uint32)
    return table


_CRC_TABLE = _crc_table()


@njit(cache=True, nogil=True)
def _crc32(data, offsets, table):
    result = np.empty(len(offsets) - 1, np.uint32)
    for row in range(len(result)):
        crc = np.uint32(0xFFFFFFFF)
        for place in range(offsets[row], offsets[row + 1]):
            crc = table[(crc ^ data[place]) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
        result[row] = ~crc
    return result


@njit(cache=True, nogil=True)
def _eight_bytes(data, place):
    """Eight bytes as one little-endian word. Unsigned places spare the test for negative ones: it becomes one load."""
    word = _ZERO
    for step in range(8):
        word |= np.uint64(data[place + np.uint64(step)]) << np.uint64(8 * step)
    return word


@njit(cache=True, nogil=True)
def _last_bytes(data, place, end):
    """The fewer than eight bytes up to ``end``, padded with zeros."""
    if end >= _EIGHT and place < end:
        return _eight_bytes(data, end - _EIGHT) >> (_EIGHT * (_EIGHT - (end - place)))
    word = _ZERO
    shift = _ZERO
    while place < end:
        word |= np.uint64(data[place]) << shift
        shift += _EIGHT
        place += _ONE
    return word


@njit(cache=True, nogil=True)
def _hash(data, begin, end):
    """32 well-mixed bits of an id's bytes (each step and the end as in splitmix64)."""
    value = end - begin
    place = begin
    while place < end:
        word = _eight_bytes(data, place) if place + _EIGHT <= end else _last_bytes(data, place, end)
        value = (value ^ word) * np.uint64(0xBF58476D1CE4E5B9)
        value ^= value >> np.uint64(27)
        place += _EIGHT
    value *= np.uint64(0x94D049BB133111EB)
    return value >> _HALF


@njit(cache=True, nogil=True)
def _same(data, begin, end, words, record):
    """Whether the record holds these bytes."""
    if (words[record] & _LOW) != end - begin:
        return False
    place = begin
    while place < end:
        record += _ONE
        word = _eight_bytes(data, place) if place + _EIGHT <= end else _last_bytes(data, place, end)
        if words[record] != word:
            return False
        place += _EIGHT
    return True


@njit(cache=True, nogil=True)
def _append(data, begin, end, words, used, code):
    words[used] = (np.uint64(code) << _HALF) | (end - begin)
    used += 1
    place = begin
    while place < end:
        words[used] = _eight_bytes(data, place) if place + _EIGHT <= end else _last_bytes(data, place, end)
        used += 1
        place += _EIGHT
    return used


@njit(cache=True, nogil=True)
def _encode(data, offsets, start, codes, slots, words, used, size):
    """Encode from row ``start`` on until done or out of room: ``(rows done, words used, distinct ids)``."""
    mask = np.uint64(len(slots) - 1)
    tags = np.empty(BLOCK, np.uint64)
    near = np.empty(BLOCK, np.uint64)
    for first in range(start, len(codes), BLOCK):
        last = min(first + BLOCK, len(codes))
        # Two passes that only touch memory: their loads do not depend on each other, so the cache misses of a block
        # overlap, and the pass that compares finds everything near. Several times as fast on a million ids.
        for row in range(first, last):
            tag = _hash(data, np.uint64(offsets[row]), np.uint64(offsets[row + 1]))
            tags[row - first] = tag
            near[row - first] = slots[tag & mask]
        for row in range(first, last):
            near[row - first] = words[max(near[row - first] & _LOW, _ONE) - _ONE]
        for row in range(first, last):
            begin, end = np.uint64(offsets[row]), np.uint64(offsets[row + 1])
            tag = tags[row - first]
            place = tag & mask
            while True:
                slot = slots[place]
                if slot == _ZERO:
                    if 2 * size >= len(slots) or len(words) - used < 2 + np.int64((end - begin) // _EIGHT):
                        return row, used, size
                    slots[place] = (tag << _HALF) | np.uint64(used + 1)
                    used = _append(data, begin, end, words, used, size)
                    codes[row] = size
                    size += 1
                    break
                record = (slot & _LOW) - _ONE
                if (slot >> _HALF) == tag and _same(data, begin, end, words, record):
                    codes[row] = np.int32(words[record] >> _HALF)
                    break
                place = (place + _ONE) & mask
    return len(codes), used, size


@njit(cache=True, nogil=True)
def _rehashed(slots, larger):
    mask = np.uint64(len(larger) - 1)
    for slot in slots:
        if slot != _ZERO:
            place = (slot >> _HALF) & mask
            while larger[place] != _ZERO:
                place = (place + _ONE) & mask
            larger[place] = slot
    return larger


@njit(cache=True, nogil=True)
def _unpacked(words, size):
    """The bytes and offsets of the ids in ``words``."""
    offsets = np.zeros(size + 1, np.int64)
    place = np.int64(0)
    for code in range(size):
        length = np.int64(words[place] & _LOW)
        offsets[code + 1] = offsets[code] + length
        place += 1 + (length + 7) // 8
    data = np.empty(offsets[-1], np.uint8)
    place = np.int64(0)
    for code in range(size):
        length = offsets[code + 1] - offsets[code]
        for step in range(length):
            data[offsets[code] + step] = np.uint8(words[place + 1 + step // 8] >> np.uint64(8 * (step % 8)))
        place += 1 + (length + 7) // 8
    return data, offsets
