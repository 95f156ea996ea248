"""Replies about the telemetry store's file. The conventions are those of :mod:`aiops.api.schemas`."""

from __future__ import annotations

from pydantic import Field

from aiops.api.schemas import Reply
from aiops.store.telemetry.usage import FileUsage


class SignalUsageOut(Reply):
    signal: str
    rows: int
    bytes: int = Field(description="of the blocks that its tables use; small tables share blocks")
    oldest_ms: int | None
    newest_ms: int | None


class FileUsageOut(Reply):
    signals: list[SignalUsageOut]
    file_bytes: int = Field(description="the file and its log on the disk")
    used_bytes: int = Field(description="in use; the rest is given back or used again")
    open_blocks: int = Field(description="two-hour blocks that still take samples in arrival order")
    series: int


class RetentionOut(Reply):
    dropped: int = Field(description="day tables that were past their time")
    days: list[int] = Field(description="starts of the days, ms, that went for want of room")


def usage_view(found: FileUsage) -> FileUsageOut:
    return FileUsageOut(
        signals=[
            SignalUsageOut(
                signal=one.signal,
                rows=one.rows,
                bytes=one.bytes,
                oldest_ms=one.oldest_ms or None,
                newest_ms=one.newest_ms or None,
            )
            for one in found.signals
        ],
        file_bytes=found.file_bytes,
        used_bytes=found.used_bytes,
        open_blocks=found.open_blocks,
        series=found.series,
    )
