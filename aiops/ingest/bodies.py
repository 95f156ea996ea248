"""Request bodies: media types, decompression under a limit, and what decoders return."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cramjam
import numpy as np

from aiops.core.errors import InvalidInput, LimitExceeded
from aiops.core.ports import Collected

MAX_BYTES = 64 * 1024 * 1024
SNAPPY_FRAMES = b"\xff\x06\x00\x00sNaPpY"
"""How the framed format begins; the block format has no mark."""


class UnsupportedMedia(InvalidInput):
    """A content type or encoding that the route does not take (415)."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one body may hold. Bytes are after decompression."""

    max_bytes: int = MAX_BYTES
    max_labels: int = 128
    max_label_name_bytes: int = 1024
    max_label_value_bytes: int = 32 * 1024


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded body.

    Attributes:
        collected: what is good in it.
        rejected: samples, records or spans that are not in ``collected``.
        reason: why, for the sender; the first few cases.
        key: SHA-256 of the decoded body, which names this delivery; empty where rows have an identity of their own.
    """

    collected: Collected
    rejected: int = 0
    reason: str = ""
    key: str = ""


@dataclass(slots=True)
class Rejections:
    """Counts what is left out and keeps the first reasons."""

    count: int = 0
    reasons: dict[str, None] = field(default_factory=dict)

    def add(self, reason: str, count: int = 1) -> None:
        self.count += count
        if len(self.reasons) < 3:
            self.reasons[reason] = None

    @property
    def text(self) -> str:
        return "; ".join(self.reasons)


def media_type(content_type: str) -> tuple[str, dict[str, str]]:
    """Lower-case type and its parameters.

    >>> media_type('Application/JSON; charset="utf-8"')
    ('application/json', {'charset': 'utf-8'})
    """
    first, *rest = content_type.split(";")
    pairs = (part.partition("=") for part in rest)
    return first.strip().lower(), {k.strip().lower(): v.strip().strip('"') for k, _, v in pairs}


def key_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def snappy(body: bytes, limit: int) -> bytes:
    """Raw (block format) snappy. The declared length is checked before anything is allocated."""
    try:
        declared = cramjam.snappy.decompress_raw_len(body)
    except cramjam.DecompressionError as error:
        raise InvalidInput(f"The body is not snappy: {error}.") from error
    if declared > limit:
        raise LimitExceeded(f"The body declares {declared} bytes, more than the limit of {limit}.", kind="size")
    try:
        return bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise InvalidInput(f"The body is not whole snappy: {error}.") from error


def compressed(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo a Content-Encoding of remote write: snappy, gzip or zstd. Raises as :func:`decompress`."""
    name = encoding.strip().lower()
    if name == "snappy":
        return snappy(body, limit)
    if name not in ("gzip", "zstd"):
        raise UnsupportedMedia(
            f"The content encoding '{name[:40]}' is not supported.", hint="Bodies are compressed with snappy."
        )
    return decompress(body, name, limit)


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo a Content-Encoding of OTLP: identity, gzip, zstd, deflate, or snappy (a block, or framed).

    Raises:
        UnsupportedMedia: another encoding.
        InvalidInput: a damaged body.
        LimitExceeded: more than ``limit`` bytes come out.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        plain = body
    elif name == "gzip":
        plain = _gunzip(body, limit)
    elif name == "zstd":
        plain = _decoded(cramjam.zstd.decompress_into, "zstd", body, limit)
    elif name in ("snappy", "x-snappy-framed"):
        framed = body.startswith(SNAPPY_FRAMES)
        plain = (
            _decoded(cramjam.snappy.decompress_into, "framed snappy", body, limit) if framed else snappy(body, limit)
        )
    elif name in ("deflate", "zlib"):
        plain = _inflate(body, limit)
    else:
        raise UnsupportedMedia(
            f"The content encoding '{name[:40]}' is not supported.", hint="Use gzip, zstd, snappy, deflate or none."
        )
    if len(plain) > limit:
        raise _too_large(limit)
    return plain


def _gunzip(body: bytes, limit: int) -> bytes:
    out = bytearray()
    rest = body
    while rest:
        member = zlib.decompressobj(31)
        try:
            out += member.decompress(rest, limit + 1 - len(out))
        except zlib.error as error:
            raise InvalidInput(f"The body is not gzip: {error}.") from error
        if len(out) > limit:
            raise _too_large(limit)
        if not member.eof:
            raise InvalidInput("The gzip body is cut short.")
        rest = member.unused_data
    return bytes(out)


def _inflate(body: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        out = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidInput(f"The body is not zlib: {error}.") from error
    if len(out) > limit:
        raise _too_large(limit)
    if not stream.eof:
        raise InvalidInput("The zlib body is cut short.")
    return out


def _decoded(into: Callable[[Any, Any], int], what: str, body: bytes, limit: int) -> bytes:
    if not body:
        return b""
    # Pages of the buffer that are never written to take no memory.
    buffer = np.empty(limit + 1, np.uint8)
    try:
        length = into(body, buffer.data)
    except cramjam.DecompressionError as error:
        said = str(error).lower()
        if ("write" in said or "buffer" in said) and "fill whole buffer" not in said:
            raise _too_large(limit) from error
        raise InvalidInput(f"The body is not {what}: {error}.") from error
    return buffer[:length].tobytes()


def _too_large(limit: int) -> LimitExceeded:
    return LimitExceeded(f"The decompressed body is larger than {limit} bytes.", kind="size")
