"""Prometheus' hash of a label set, by which ``limit_ratio`` picks series: XXH64 of its labels in a row.

Labels are laid out as in Prometheus' default build (each text after its length), XXH64 by its specification
(https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md).
"""

from __future__ import annotations

import struct

from aiops.core.series import Labels

_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
_ALL = (1 << 64) - 1


def label_hash(labels: Labels) -> int:
    """64 bits; ``labels`` are sorted by name."""
    return xxh64(b"".join(_sized(text) for pair in labels for text in pair))


def _sized(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    size = len(raw)
    return (bytes((size,)) if size < 255 else b"\xff" + size.to_bytes(3, "little")) + raw


def xxh64(data: bytes) -> int:
    """With seed 0.

    >>> hex(xxh64(b"")), hex(xxh64(b"abc"))
    ('0xef46db3751d8e999', '0x44bc2cf5ad770999')
    """
    at, size = 0, len(data)
    if size >= 32:
        lanes = [(_P1 + _P2) & _ALL, _P2, 0, -_P1 & _ALL]
        while at + 32 <= size:
            words = struct.unpack_from("<4Q", data, at)
            lanes = [_round(lane, word) for lane, word in zip(lanes, words, strict=True)]
            at += 32
        h = sum(_left(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)) & _ALL
        for lane in lanes:
            h = ((h ^ _round(0, lane)) * _P1 + _P4) & _ALL
    else:
        h = _P5
    h = (h + size) & _ALL
    while at + 8 <= size:
        h = (_left(h ^ _round(0, struct.unpack_from("<Q", data, at)[0]), 27) * _P1 + _P4) & _ALL
        at += 8
    if at + 4 <= size:
        h = (_left(h ^ (struct.unpack_from("<I", data, at)[0] * _P1 & _ALL), 23) * _P2 + _P3) & _ALL
        at += 4
    for byte in data[at:]:
        h = _left(h ^ (byte * _P5 & _ALL), 11) * _P1 & _ALL
    h = (h ^ h >> 33) * _P2 & _ALL
    h = (h ^ h >> 29) * _P3 & _ALL
    return h ^ h >> 32


def _left(value: int, by: int) -> int:
    return (value << by | value >> (64 - by)) & _ALL


def _round(lane: int, word: int) -> int:
    return _left((lane + word * _P2) & _ALL, 31) * _P1 & _ALL
