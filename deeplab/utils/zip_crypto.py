"""The classic encryption of zip archives (PKWARE, APPNOTE.TXT, section 6.1), for many members at once.

Every byte changes the keys of the next one, so that one stream takes a step a byte; but many streams can take each step
side by side. Alone, in plain Python as zipfile does it, ten gigabytes take two hours.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

HEADER = 12  # bytes of noise before the content
_FIRST_KEYS = (0x12345678, 0x23456789, 0x34567890)
_FACTOR = np.uint32(134775813)
_LOW, _HIGH = (0, 3) if sys.byteorder == "little" else (3, 0)  # bytes of a uint32


def _crc_table() -> np.ndarray:
    """Table of CRC-32, uint32 [256]: polynomial 0xEDB88320, one entry a byte."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0xEDB88320), table >> 1).astype(np.uint32)
    return table


_CRC = _crc_table()


def decrypt(streams: Sequence[bytes], password: bytes) -> list[bytes]:
    """Decrypts streams of one password; fastest for streams of similar lengths.

    Args:
      streams: encrypted members, their headers included.
      password: as the user typed it, encoded.

    Returns:
      The members' bytes, headers included: `HEADER` bytes before the content. The last one of the header is the
      check byte, which tells a wrong password in 255 of 256 cases.
    """
    order = sorted(range(len(streams)), key=lambda index: len(streams[index]), reverse=True)
    lengths = [len(streams[index]) for index in order]
    data = np.zeros((len(order), max(lengths, default=0)), np.uint8)
    for row, index in zip(data, order, strict=True):
        row[: len(streams[index])] = np.frombuffer(streams[index], np.uint8)
    columns = np.ascontiguousarray(data.T)
    keys = _Keys(len(order), password)
    begin = 0
    for active in range(len(order), 0, -1):  # up to the end of the shortest, then of the next, and so on
        end = lengths[active - 1]
        keys.narrow(active)
        for row in columns[begin:end, :active]:
            keys.step(row)
        begin = end
    data = np.ascontiguousarray(columns.T)
    plain = {index: row[:length].tobytes() for index, length, row in zip(order, lengths, data, strict=True)}
    return [plain[index] for index in range(len(streams))]


class _Keys:
    """The three keys of every stream, uint32 [streams], and one step of them."""

    def __init__(self, streams: int, password: bytes):
        self.keys = [np.full(streams, key, np.uint32) for key in _FIRST_KEYS]
        self.narrow(streams)
        for byte in password:
            self._update(np.full(streams, byte, np.uint8))

    def narrow(self, streams: int) -> None:
        """From here on only the first streams go on."""
        self.keys = [key[:streams] for key in self.keys]
        first, second, third = self.keys
        self.first_low = first.view(np.uint8)[_LOW::4]
        self.second_high = second.view(np.uint8)[_HIGH::4]
        self.third_low = third.view(np.uint8)[_LOW::4]
        self.work = np.empty(streams, np.uint32)
        self.other = np.empty(streams, np.uint32)

    def step(self, row: np.ndarray) -> None:
        """Decrypts the next byte of every stream in place: uint8 [streams]."""
        work, other = self.work, self.other
        np.bitwise_and(self.keys[2], 0xFFFD, out=work)
        np.bitwise_or(work, 2, out=work)
        np.bitwise_xor(work, 1, out=other)
        np.multiply(work, other, out=work)
        np.right_shift(work, 8, out=work)
        np.bitwise_xor(row, work.view(np.uint8)[_LOW::4], out=row)
        self._update(row)

    def _update(self, plain: np.ndarray) -> None:
        first, second, third = self.keys
        work = self.work
        np.right_shift(first, 8, out=work)
        np.bitwise_xor(work, _CRC[self.first_low ^ plain], out=first)
        np.bitwise_and(first, 0xFF, out=work)
        np.add(second, work, out=second)
        np.multiply(second, _FACTOR, out=second)
        np.add(second, 1, out=second)
        np.right_shift(third, 8, out=work)
        np.bitwise_xor(work, _CRC[self.third_low ^ self.second_high], out=third)
