"""A reader of streamed remote-read answers, written by the formats' documents and not by our writer."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from aiops.ingest.messages import message_classes

Frame = Any
_Frame = message_classes(
    "tests.chunked",
    {
        "Frame": [("series", 1, "*Series"), ("query", 2, "int64")],
        "Series": [("labels", 1, "*Label"), ("chunks", 2, "*Chunk")],
        "Label": [("name", 1, "string"), ("value", 2, "string")],
        "Chunk": [("low", 1, "int64"), ("high", 2, "int64"), ("type", 3, "int32"), ("data", 4, "bytes")],
    },
)["Frame"]


def crc32c(data: bytes) -> int:
    """Bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def frames(body: bytes) -> Iterator[Frame]:
    """The messages of a stream; their checksums have to hold."""
    at = 0
    while at < len(body):
        size = shift = 0
        while True:
            byte = body[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        (expected,) = struct.unpack(">I", body[at : at + 4])
        message = body[at + 4 : at + 4 + size]
        assert crc32c(message) == expected
        assert len(message) == size
        yield _Frame.FromString(message)
        at += 4 + size


class _Bits:
    def __init__(self, data: bytes) -> None:
        self.text = "".join(f"{byte:08b}" for byte in data)
        self.at = 0

    def take(self, count: int) -> int:
        self.at += count
        return int(self.text[self.at - count : self.at] or "0", 2)

    def varint(self) -> int:
        value = shift = 0
        while (byte := self.take(8)) > 0x7F:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def signed(self, count: int) -> int:
        """In Prometheus' way: the range is open at the lower end."""
        value = self.take(count)
        return value - (1 << count) if value > 1 << (count - 1) else value


def samples(data: bytes) -> list[tuple[int, int]]:
    """Times and bits of the values of one XOR chunk."""
    bits = _Bits(data)
    count = bits.take(16)
    zigzag = bits.varint()
    ts = zigzag >> 1 if not zigzag & 1 else -(zigzag >> 1) - 1
    value = bits.take(64)
    found = [(ts, value)]
    delta = leading = trailing = 0
    for i in range(1, count):
        if i == 1:
            delta = bits.varint()
        else:
            ones = 0
            while ones < 4 and bits.take(1):
                ones += 1
            delta += bits.signed((0, 14, 17, 20, 64)[ones]) if ones else 0
        ts += delta
        if bits.take(1):
            if bits.take(1):
                leading = bits.take(5)
                trailing = 64 - leading - (bits.take(6) or 64)
            value ^= bits.take(64 - leading - trailing) << trailing
        found.append((ts, value))
    return found
