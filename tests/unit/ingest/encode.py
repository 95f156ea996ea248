"""An encoder of remote write 1.0 written by hand from the specification, sharing no code with the decoder."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import cramjam


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def chunk(field: int, payload: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def text(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def label(name: str | bytes, value: str | bytes) -> bytes:
    return chunk(1, chunk(1, text(name)) + chunk(2, text(value)))


def sample(ts: int, bits: int, omit_zero: bool = True) -> bytes:
    body = b"" if omit_zero and bits == 0 else b"\x09" + struct.pack("<Q", bits)
    return chunk(2, body + (b"" if omit_zero and ts == 0 else b"\x10" + varint(ts)))


def series(
    labels: Sequence[tuple[str | bytes, str | bytes]], samples: Sequence[tuple[int, int]], extra: bytes = b""
) -> bytes:
    return chunk(1, b"".join(label(*pair) for pair in labels) + b"".join(sample(*s) for s in samples) + extra)


def metadata(kind: int, name: str, help_text: str = "", unit: str = "") -> bytes:
    return chunk(3, b"\x08" + varint(kind) + chunk(2, text(name)) + chunk(4, text(help_text)) + chunk(5, text(unit)))


def snappy(plain: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(plain))
