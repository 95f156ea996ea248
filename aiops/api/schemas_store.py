"""Replies about the telemetry store's file. The conventions are those of :mod:`aiops.api.schemas`."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from aiops.api.schemas import Reply, RequestBody
from aiops.settings import StoreSettings
from aiops.store.telemetry.archive import Part
from aiops.store.telemetry.usage import Exported, FileUsage


class SignalUsageOut(Reply):
    signal: str
    rows: int
    bytes: int = Field(description="of the blocks that its tables use; small tables share blocks")
    oldest_ms: int | None
    newest_ms: int | None
    keep_days: int | None = Field(description="null: for ever")


class FileUsageOut(Reply):
    signals: list[SignalUsageOut]
    file_bytes: int = Field(description="the file and its log on the disk")
    used_bytes: int = Field(description="in use; the rest is used again, or given back where it lies at the end")
    max_bytes: int | None = Field(description="above it the oldest day goes")
    open_blocks: int = Field(description="two-hour blocks that still take samples in arrival order")
    series: int
    encrypted: bool


class RetentionOut(Reply):
    dropped: int = Field(description="day tables that were past their time")
    days: list[int] = Field(description="starts of the days, ms, that went for want of room")


class PartOut(Reply):
    name: str
    signal: Exported
    start_ms: int
    end_ms: int
    number: int

    @classmethod
    def of(cls, part: Part) -> Self:
        return cls(
            name=part.name, signal=part.signal, start_ms=part.start_ms, end_ms=part.end_ms, number=part.number
        )  # fmt: skip


class ExportPlan(Reply):
    parts: list[PartOut]
    scoped: bool = Field(description="a label scope or matcher limits what is in the parts")


class BackupRequest(RequestBody):
    folder: str = Field(min_length=2, max_length=4096, description="absolute; it must not exist")


class BackupOut(Reply):
    files: int
    bytes: int
    rows: dict[str, int] = Field(description="of the telemetry, by table")
    left_out: list[str]


class ImportedOut(Reply):
    added: int
    known: int = Field(description="rows that were there already")
    refused: int = Field(description="rows past their time, or too far in the future")
    skipped: bool = Field(False, description="this very part was imported before")


def usage_view(found: FileUsage, limits: StoreSettings, encrypted: bool) -> FileUsageOut:
    return FileUsageOut(
        signals=[
            SignalUsageOut(
                signal=one.signal,
                rows=one.rows,
                bytes=one.bytes,
                oldest_ms=one.oldest_ms or None,
                newest_ms=one.newest_ms or None,
                keep_days=limits.days_of(one.signal),
            )
            for one in found.signals
        ],
        file_bytes=found.file_bytes,
        used_bytes=found.used_bytes,
        max_bytes=limits.max_bytes or None,
        open_blocks=found.open_blocks,
        series=found.series,
        encrypted=encrypted,
    )
