"""Scans: which pieces hold the samples of a window, from memory where a block is held, else from the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from aiops.core.errors import TransientError
from aiops.core.series import SampleBlock
from aiops.store.telemetry import chunks as chunk_rows
from aiops.store.telemetry.blocks import BlockCache
from aiops.store.telemetry.chunks import Chunks, places
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.labels import SeriesIndex
from aiops.store.telemetry.opened import OpenedScan, Piece
from aiops.store.telemetry.runs import Run
from aiops.store.telemetry.schema import BLOCK_MS, DAY_MS, Partitions, stored_segment, table
from aiops.store.telemetry.unspilled import Unspilled

IN_LIST = 64
"""So few series are looked up by number, and bring no block into memory."""
WIDE = 8
"""A scan of at least one series in so many brings what it reads into memory."""
ATTEMPTS = 5
_PER_DAY = DAY_MS // BLOCK_MS

Columns = dict[str, NDArray[Any]]


class Scanner:
    """Reads samples of one database.

    Attributes:
        blocks: what is held in memory.
        epoch: odd while maintenance moves or drops a table.
        newest_ms: of all committed samples.
        unspilled: gives the samples that the file may not hold yet.
    """

    def __init__(self, database: TelemetryDatabase, index: SeriesIndex, partitions: Partitions) -> None:
        self._database = database
        self._index = index
        self._partitions = partitions
        self.blocks = BlockCache(database.settings.cache_bytes)
        self.epoch = 0
        self.newest_ms = -(1 << 62)
        self.unspilled: Callable[[], list[tuple[Unspilled, int]]] = list
        self._warmed: set[int] = set()

    def tables(self, start_ms: int, end_ms: int) -> list[str]:
        """Tables that may hold rows of the window, in order of time; what is compressed is not among them."""
        return [
            *self._partitions.between("samples", start_ms // DAY_MS, end_ms // DAY_MS),
            *self._partitions.between("head", start_ms // BLOCK_MS, end_ms // BLOCK_MS),
        ]

    # ------------------------------------------------------------------ scans

    def scan(self, sids: NDArray[np.int32], start_ms: int, end_ms: int) -> SampleBlock:
        """Samples of the given series with ``start_ms <= ts <= end_ms``; series without any are left out."""
        return self.open(sids, start_ms, end_ms).block()

    def open(self, sids: NDArray[np.int32], start_ms: int, end_ms: int, most: int | None = None) -> OpenedScan:
        """The same, to be decoded part by part. Beyond about ``most`` samples it need not be complete."""
        pieces: list[Piece] = []
        if len(sids) and end_ms >= start_ms:
            left = most
            for found in self._pieces(sids, start_ms, end_ms):
                pieces += found
                if left is not None:
                    left -= sum(_count(piece, sids) for piece in found)
                    if left < -most:  # type: ignore[operator]
                        break
        return OpenedScan(self._index.labels, sids, pieces, start_ms, end_ms)

    def read(self, sids: NDArray[np.int32], start_ms: int, end_ms: int) -> OpenedScan:
        """The same from the file and from what is not there yet, past the blocks in memory."""
        pieces = self._read(sids, start_ms, end_ms) if len(sids) and end_ms >= start_ms else []
        return OpenedScan(self._index.labels, sids, pieces, start_ms, end_ms)

    def _pieces(self, sids: NDArray[np.int32], start_ms: int, end_ms: int) -> Iterator[list[Piece]]:
        """In order of time: blocks that memory holds, and between them what the file does."""
        known = self._index.first[: len(self._index)]
        start_ms = max(start_ms, int(known.min(initial=np.iinfo(np.int64).max)))
        end_ms = min(end_ms, self.newest_ms)
        cursor, last = start_ms // BLOCK_MS, end_ms // BLOCK_MS
        if end_ms < start_ms:
            return
        for block in self.blocks.held(cursor, last):
            if cursor < block:
                yield from self._unheld(sids, cursor, block - 1, start_ms, end_ms)
            held = self._held(sids, block)
            if held is None:
                yield from self._unheld(sids, block, block, start_ms, end_ms)
            else:
                yield [_cut(piece, block, start_ms, end_ms) for piece in held]
            cursor = block + 1
        if cursor <= last:
            yield from self._unheld(sids, cursor, last, start_ms, end_ms)

    def _held(self, sids: NDArray[np.int32], block: int) -> list[Piece] | None:
        return self.blocks.few(block, sids) if len(sids) <= IN_LIST else self.blocks.whole(block)

    def _unheld(
        self, sids: NDArray[np.int32], first: int, last: int, start_ms: int, end_ms: int
    ) -> Iterator[list[Piece]]:
        """Samples of blocks that memory does not hold; a wide scan brings them there, day by day."""
        low, high = max(start_ms, first * BLOCK_MS), min(end_ms, (last + 1) * BLOCK_MS - 1)
        if len(sids) <= IN_LIST or len(sids) * WIDE < len(self._index) or not self.blocks.budget:
            yield self._read(sids, low, high)
            return
        for day in self._days(first // _PER_DAY, last // _PER_DAY):
            a, b = max(first, day * _PER_DAY), min(last, (day + 1) * _PER_DAY - 1)
            with self.blocks.loading:
                held = [self.blocks.whole(n) for n in range(a, b + 1)]
                if any(got is None for got in held):
                    brought = self._bring(a, b, self.blocks.budget * 3 // 4)
                else:
                    brought = {a + i: got or [] for i, got in enumerate(held)}
            if brought is None:
                yield self._read(sids, max(low, a * BLOCK_MS), min(high, (b + 1) * BLOCK_MS - 1))
            else:
                yield [_cut(piece, n, start_ms, end_ms) for n, found in brought.items() for piece in found]

    def _days(self, first: int, last: int) -> list[int]:
        """Days of the range that may hold samples."""
        days: set[int] = set()
        for held, count in self.unspilled():  # first: what is spilled meanwhile is found in a table
            days.update(np.unique(held.ts[:count] // DAY_MS).tolist())
        days |= {n for kind in ("chunks", "samples") for n in self._partitions.numbers(kind)}
        days |= {n // _PER_DAY for n in self._partitions.numbers("head")}
        return sorted(n for n in days if first <= n <= last)

    # ------------------------------------------------------------------ memory

    def forget(self) -> None:
        """The file was opened (again): memory holds nothing of it."""
        self.blocks.clear()
        self._warmed.clear()

    def warm(self) -> bool:
        """Bring open blocks of an earlier life of the process into memory, each once. For the idle writer thread."""
        room = self.blocks.budget // 2
        for block in self._partitions.numbers("head"):
            if block not in self._warmed:
                self._warmed.add(block)
                if room > 0 and not self.blocks.holds(block):
                    self._bring(block, block, room)
                    return True
        return False

    def _bring(self, first: int, last: int, room: int) -> dict[int, list[Piece]] | None:
        """Read blocks whole and keep them; ``None`` where their rows would take more than ``room`` bytes."""
        numbers = range(first, last + 1)
        versions = {n: self.blocks.version(n) for n in numbers}
        low, high = first * BLOCK_MS, (last + 1) * BLOCK_MS - 1
        if self._rows(low, high) * 12 > room:
            return None
        chunks, parts = self._settled(None, low, high)
        closed = {piece.block: piece for piece in chunks}
        sid, ts, values = (_stacked([p[name] for p in parts]) for name in ("sid", "ts", "val"))
        block = ts // BLOCK_MS
        out: dict[int, list[Piece]] = {}
        for n in numbers:
            own = block == n
            at = (ts[own] - n * BLOCK_MS).astype(np.int32)
            run = Run.of(n * BLOCK_MS, sid[own].astype(np.int32), at, values[own].astype(np.float64))
            self.blocks.put(n, versions[n], run, closed.get(n))
            out[n] = [piece for piece in (closed.get(n), run) if piece is not None and len(piece.sids)]
        return out

    def _rows(self, low: int, high: int) -> int:
        count = 0
        with self._database.read() as con:
            for name in self.tables(low, high):
                try:
                    row = con.execute(f"SELECT count(*) FROM {name} WHERE ts BETWEEN {low} AND {high}").fetchone()  # noqa: S608
                except duckdb.CatalogException:
                    continue
                count += int(row[0]) if row else 0
        return count

    # ------------------------------------------------------------------ the file

    def _read(self, sids: NDArray[np.int32], start_ms: int, end_ms: int) -> list[Piece]:
        chunks, parts = self._settled(sids, start_ms, end_ms)
        return [*chunks, *(Run.of(0, p["sid"], p["ts"], p["val"]).cut(start_ms, end_ms) for p in parts)]

    def _settled(
        self, sids: NDArray[np.int32] | None, start_ms: int, end_ms: int
    ) -> tuple[list[Chunks], list[Columns]]:
        """Chunks, and columns a table, read while maintenance moved none of them; ``None`` is all series."""
        for _ in range(ATTEMPTS):
            before = self.epoch
            found = self._fetch(sids, start_ms, end_ms)
            if found is not None and before == self.epoch and before % 2 == 0:
                return found
        # Maintenance moved a block under each attempt: wait for the writer thread to come to rest.
        self._database.write(lambda _tx, payloads: [None] * len(payloads), None)
        found = self._fetch(sids, start_ms, end_ms)
        if found is None:
            raise TransientError("The store is being compacted.", retry_after_s=1)
        return found

    def _fetch(
        self, sids: NDArray[np.int32] | None, start_ms: int, end_ms: int
    ) -> tuple[list[Chunks], list[Columns]] | None:
        """``None`` where a table was moved away under the read."""
        where = ""
        pending = self.unspilled()
        with self._database.read() as con:
            if sids is not None and len(sids) <= IN_LIST:
                listed = ", ".join(map(str, sids.tolist()))
                where = f" AND sid BETWEEN {int(sids[0])} AND {int(sids[-1])} AND sid IN ({listed})"
            elif sids is not None and len(sids) < len(self._index):
                con.register("wanted", {"w": sids})
                where = f" AND sid BETWEEN {int(sids[0])} AND {int(sids[-1])} AND sid IN (SELECT w FROM wanted)"  # noqa: S608
            con.execute("BEGIN TRANSACTION")
            segment = stored_segment(con)
            self._wait_for_tables([held for held, _ in pending if held.segment is not None and held.segment <= segment])
            chunks: list[Chunks] = []
            parts = []
            try:
                blocks = start_ms // BLOCK_MS, end_ms // BLOCK_MS
                days = [n for n in self._partitions.numbers("chunks") if start_ms // DAY_MS <= n <= end_ms // DAY_MS]
                if days:
                    names, clocks = (
                        chunk_rows.all_of([table(kind, day) for day in days]) for kind in ("chunks", "clocks")
                    )
                    chunks = chunk_rows.read(con, names, clocks, blocks, where)
                for name in self.tables(start_ms, end_ms):
                    part = _columns(con, name, f"ts BETWEEN {int(start_ms)} AND {int(end_ms)}{where}")
                    if len(part["sid"]):
                        parts.append(part)
            except duckdb.CatalogException:
                return None
        missing = [(held, n) for held, n in pending if held.segment is None or held.segment > segment]
        return chunks, parts + self._pending(missing, sids, start_ms, end_ms)

    def _wait_for_tables(self, taken: list[Unspilled]) -> None:
        """Until the tables that took these samples are known, which the writer thread sees to after its commit."""
        deadline = time.monotonic() + 5
        while any(held in taken for held, _ in self.unspilled()):
            if time.monotonic() > deadline:
                raise TransientError("The store is busy taking over samples.", retry_after_s=1)
            time.sleep(0.001)

    def _pending(
        self, missing: list[tuple[Unspilled, int]], sids: NDArray[np.int32] | None, start_ms: int, end_ms: int
    ) -> list[Columns]:
        wanted = None
        if sids is not None and len(sids) < len(self._index):
            wanted = np.zeros(int(sids[-1]) + 1, np.bool_)
            wanted[sids] = True
        parts: list[Columns] = []
        for held, count in missing:
            sid, ts, values = held.within(count, start_ms, end_ms, wanted)
            if len(sid):
                parts.append({"sid": sid, "ts": ts, "val": values})
        return parts


def _cut(piece: Piece, block: int, start_ms: int, end_ms: int) -> Piece:
    """Rows of a block within the window. Chunks are decoded whole, so they stay as they are."""
    if isinstance(piece, Chunks) or (start_ms <= block * BLOCK_MS and end_ms >= (block + 1) * BLOCK_MS - 1):
        return piece
    return piece.cut(start_ms, end_ms)


def _count(piece: Piece, sids: NDArray[np.int32]) -> int:
    at = places(piece.sids, sids)
    at = at[at >= 0]
    return int(piece.counts[at].sum() if isinstance(piece, Chunks) else (piece.ends[at] - piece.starts[at]).sum())


def _stacked(parts: list[NDArray[Any]]) -> NDArray[Any]:
    if not parts:
        return np.empty(0, np.int64)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _columns(con: duckdb.DuckDBPyConnection, name: str, where: str) -> Columns:
    has_nan = con.execute(f"SELECT 1 FROM {name} WHERE nan IS NOT NULL LIMIT 1").fetchone()  # noqa: S608
    picked = "sid, ts, val, nan" if has_nan else "sid, ts, val"
    got = con.execute(f"SELECT {picked} FROM {name} WHERE {where}").fetchnumpy()  # noqa: S608
    return {"sid": plain(got["sid"]), "ts": plain(got["ts"]), "val": values_of(got)}


def plain(array: Any) -> NDArray[Any]:
    """DuckDB hands out masked arrays where a column might hold NULL."""
    return array.data if isinstance(array, np.ma.MaskedArray) else np.asarray(array)


def values_of(got: dict[str, Any]) -> NDArray[np.float64]:
    values = plain(got["val"])
    if "nan" in got and isinstance(got["val"], np.ma.MaskedArray):
        missing = np.ma.getmaskarray(got["val"])
        if missing.any():
            values = values.copy()
            values.view(np.int64)[missing] = plain(got["nan"])[missing]
    return np.ascontiguousarray(values)
