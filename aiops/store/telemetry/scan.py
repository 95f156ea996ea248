"""Scans into CSR arrays: from memory where a block is held, else from the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from aiops.core.errors import TransientError
from aiops.core.series import SampleBlock
from aiops.store.telemetry.blocks import BlockCache, Run, joined
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.labels import SeriesIndex
from aiops.store.telemetry.schema import BLOCK_MS, DAY_MS, Partitions, stored_segment
from aiops.store.telemetry.unspilled import Unspilled

IN_LIST = 64
ALONE_BLOCKS = 48
"""So many of the newest blocks of a window are looked up one by one; what is older comes in one read."""
ATTEMPTS = 5


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
        """Tables that may hold samples of the window, in order of time."""
        return [
            *self._partitions.between("samples", start_ms // DAY_MS, end_ms // DAY_MS),
            *self._partitions.between("head", start_ms // BLOCK_MS, end_ms // BLOCK_MS),
        ]

    def scan(self, sids: NDArray[np.int32], start_ms: int, end_ms: int) -> SampleBlock:
        """Samples of the given series with ``start_ms <= ts <= end_ms``; series without any are left out."""
        if not len(sids) or end_ms < start_ms:
            return SampleBlock.empty()
        runs: list[Run] = []
        unread: tuple[int, int] | None = None
        room = self.blocks.budget * 3 // 4
        for first, last in self._spans(start_ms, end_ms):
            low, high = max(start_ms, first * BLOCK_MS), min(end_ms, (last + 1) * BLOCK_MS - 1)
            held = self._held(sids, first, low, high, room) if first == last else None
            if held is None:
                unread = (low if unread is None else unread[0], high)
                continue
            if unread is not None:
                runs += self._read(sids, *unread)
                unread = None
            room -= sum(run.size for run in held)
            runs += [run.cut(low, high) for run in held]
        if unread is not None:
            runs += self._read(sids, *unread)
        total, ts, values = joined(sids, runs)
        runs.clear()
        filled = np.flatnonzero(total)
        offsets = np.zeros(len(filled) + 1, np.int64)
        np.cumsum(total[filled], out=offsets[1:])
        labels = self._index.labels
        return SampleBlock(tuple(labels[i] for i in sids[filled].tolist()), offsets, ts, values)

    def _spans(self, start_ms: int, end_ms: int) -> list[tuple[int, int]]:
        """The window as (first, last) block: those that memory may answer alone, others as long as possible."""
        known = self._index.first[: len(self._index)]
        start_ms = max(start_ms, int(known.min(initial=np.iinfo(np.int64).max)))
        end_ms = min(end_ms, self.newest_ms)
        first, last = start_ms // BLOCK_MS, end_ms // BLOCK_MS
        if last - first > ALONE_BLOCKS:
            older = last - ALONE_BLOCKS
            return [(first, older), *((n, n) for n in range(older + 1, last + 1))]
        return [(n, n) for n in range(first, last + 1)]

    def _held(self, sids: NDArray[np.int32], block: int, low: int, high: int, room: int) -> list[Run] | None:
        """What memory holds of a block; a wide read brings it there, within ``room`` bytes."""
        if len(sids) <= IN_LIST:
            return self.blocks.few(block, sids)
        runs = self.blocks.whole(block)
        if runs is None and self._is_worth_holding(len(sids), high - low):
            with self.blocks.loading:
                runs = self.blocks.whole(block)
                if runs is None:
                    runs = self._bring(block, room)
        if runs is None or len(sids) * 4 >= len(self._index):
            return runs
        return [run.only(sids) for run in runs]

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
                    self._bring(block, room)
                    return True
        return False

    def _is_worth_holding(self, wanted: int, length_ms: int) -> bool:
        return self.blocks.budget > 0 and wanted * 4 >= len(self._index) and length_ms * 4 >= BLOCK_MS

    def _bring(self, block: int, room: int) -> list[Run] | None:
        """Read a block and keep it; ``None`` where it would take more than ``room`` bytes."""
        version = self.blocks.version(block)
        low, high = block * BLOCK_MS, (block + 1) * BLOCK_MS - 1
        with self._database.read() as con:
            count = 0
            for name in self.tables(low, high):
                try:
                    row = con.execute(f"SELECT count(*) FROM {name} WHERE ts BETWEEN {low} AND {high}").fetchone()  # noqa: S608
                except duckdb.CatalogException:
                    return None
                count += int(row[0]) if row else 0
        if count * 12 > room:
            return None
        everything = np.arange(len(self._index), dtype=np.int32)
        parts = self._settled(everything, low, high, low)
        run = Run.of(low, *(_stacked([p[name] for p in parts]) for name in ("sid", "ts", "val")))
        self.blocks.put(block, version, run)
        return [run]

    def _read(self, sids: NDArray[np.int32], start_ms: int, end_ms: int) -> list[Run]:
        return [Run.of(0, p["sid"], p["ts"], p["val"]) for p in self._settled(sids, start_ms, end_ms)]

    def _settled(
        self, sids: NDArray[np.int32], start_ms: int, end_ms: int, base: int | None = None
    ) -> list[dict[str, NDArray[Any]]]:
        """Columns per table, read while maintenance moved none of them; ``ts`` as int32 after ``base`` if given."""
        for _ in range(ATTEMPTS):
            before = self.epoch
            parts = self._fetch(sids, start_ms, end_ms, base)
            if parts is not None and before == self.epoch and before % 2 == 0:
                return parts
        # Maintenance moved a block under each attempt: wait for the writer thread to come to rest.
        self._database.write(lambda _tx, payloads: [None] * len(payloads), None)
        parts = self._fetch(sids, start_ms, end_ms, base)
        if parts is None:
            raise TransientError("The store is being compacted.", retry_after_s=1)
        return parts

    def _fetch(
        self, sids: NDArray[np.int32], start_ms: int, end_ms: int, base: int | None
    ) -> list[dict[str, NDArray[Any]]] | None:
        """Columns per table; ``None`` where a table was moved away under the read."""
        where = f"ts BETWEEN {int(start_ms)} AND {int(end_ms)}"
        pending = self.unspilled()
        with self._database.read() as con:
            if len(sids) <= IN_LIST:
                listed = ", ".join(map(str, sids.tolist()))
                where += f" AND sid BETWEEN {int(sids[0])} AND {int(sids[-1])} AND sid IN ({listed})"
            elif len(sids) * 2 < len(self._index):
                con.register("wanted", {"w": sids})
                where += f" AND sid BETWEEN {int(sids[0])} AND {int(sids[-1])} AND sid IN (SELECT w FROM wanted)"  # noqa: S608
            con.execute("BEGIN TRANSACTION")
            segment = stored_segment(con)
            parts = []
            for name in self.tables(start_ms, end_ms):
                try:
                    part = _columns(con, name, where, base)
                except duckdb.CatalogException:
                    return None
                if len(part["sid"]):
                    parts.append(part)
        missing = [(held, n) for held, n in pending if held.segment is None or held.segment > segment]
        return parts + self._pending(missing, sids, start_ms, end_ms, base)

    def _pending(
        self, missing: list[tuple[Unspilled, int]], sids: NDArray[np.int32], start_ms: int, end_ms: int,
        base: int | None,
    ) -> list[dict[str, NDArray[Any]]]:  # fmt: skip
        wanted = None
        if len(sids) < len(self._index):
            wanted = np.zeros(int(sids[-1]) + 1, np.bool_)
            wanted[sids] = True
        parts = []
        for held, count in missing:
            sid, ts, values = held.within(count, start_ms, end_ms, wanted)
            if len(sid):
                parts.append({"sid": sid, "ts": ts if base is None else (ts - base).astype(np.int32), "val": values})
        return parts


def _stacked(parts: list[NDArray[Any]]) -> NDArray[Any]:
    if not parts:
        return np.empty(0, np.int32)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _columns(con: duckdb.DuckDBPyConnection, name: str, where: str, base: int | None) -> dict[str, NDArray[Any]]:
    has_nan = con.execute(f"SELECT 1 FROM {name} WHERE nan IS NOT NULL LIMIT 1").fetchone()  # noqa: S608
    time = "ts" if base is None else f"CAST(ts - {base} AS INTEGER)"
    picked = f"sid, {time} AS at, val, nan" if has_nan else f"sid, {time} AS at, val"
    got = con.execute(f"SELECT {picked} FROM {name} WHERE {where}").fetchnumpy()  # noqa: S608
    return {"sid": plain(got["sid"]), "ts": plain(got["at"]), "val": values_of(got)}


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
