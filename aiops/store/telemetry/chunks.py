"""Closed samples in memory and in the file: one compressed chunk a (series, two-hour block).

Series that were scraped together have the same times. They share a *clock*, a column of times that is stored once a
block, so regular and jittered times alike cost next to nothing beyond the first series.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from aiops.store.telemetry.codec import CODEC, Codec, Floats, Ints, Words, reader
from aiops.store.telemetry.runs import Run

_MASKED = np.ma.MaskedArray


@dataclass(frozen=True, slots=True)
class Chunks:
    """Chunks of one block, one a series.

    Attributes:
        block: its number.
        sids: int32 [K], ascending.
        first, last: int64 [K], time (ms) of the first and the last sample.
        counts: int64 [K], samples.
        clock: int64 [K], which clock.
        starts: int64 [K], where in ``words`` the column of values begins.
        clock_counts, clock_starts: int64 [C], likewise of times in ``clock_words``.
    """

    block: int
    sids: NDArray[np.int32]
    first: Ints
    last: Ints
    counts: Ints
    clock: Ints
    starts: Ints
    words: Words
    clock_counts: Ints
    clock_starts: Ints
    clock_words: Words

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return 8 * (len(self.words) + len(self.clock_words) + 2 * len(self.clock_counts)) + 44 * len(self.sids)

    def only(self, sids: NDArray[np.int32]) -> Chunks:
        """Those of the given series (ascending). Shares the words."""
        at = places(self.sids, sids)
        at = at[at >= 0]
        return replace(
            self, sids=self.sids[at], first=self.first[at], last=self.last[at], counts=self.counts[at],
            clock=self.clock[at], starts=self.starts[at],
        )  # fmt: skip

    def times_into(self, codec: Codec, clocks: Ints, to: Ints, out: Ints) -> None:
        codec.decode_times(self.clock_words, self.clock_starts[clocks], self.clock_counts[clocks], to, out)

    def values_into(self, codec: Codec, at: Ints, to: Ints, out: Floats) -> None:
        codec.decode_values(self.words, self.starts[at], self.counts[at], to, out)

    def rows(self) -> tuple[NDArray[np.int32], Ints, Floats]:
        """All samples, by (series, time): sid, ts, values."""
        codec = reader()
        to = np.cumsum(self.counts) - self.counts
        size = int(self.counts.sum())
        ts, values = np.empty(size, np.int64), np.empty(size)
        self.times_into(codec, self.clock, to, ts)
        self.values_into(codec, np.arange(len(self.sids)), to, values)
        return np.repeat(self.sids, self.counts), ts, values


def places(held: NDArray[np.int32], wanted: NDArray[np.int32]) -> Ints:
    """Where each of ``wanted`` is in ``held`` (ascending), or -1."""
    if not len(held):
        return np.full(len(wanted), -1, np.int64)
    at = np.minimum(np.searchsorted(held, wanted), len(held) - 1).astype(np.int64)
    at[held[at] != wanted] = -1
    return at


def encode(block: int, run: Run, codec: Codec) -> Chunks:
    """Compress one run that holds all samples of a block. ``codec`` is the compiled one."""
    counts = run.ends - run.starts
    group, sample = codec.equal_times(run.ts, run.starts, run.ends)
    clock_counts = counts[sample]
    offsets = np.concatenate([[0], np.cumsum(clock_counts)])
    times = np.empty(int(offsets[-1]), np.int64)
    codec.copy_times(run.ts, run.base, run.starts[sample], clock_counts, offsets[:-1], times)
    clock_words, clock_starts = codec.encode_times(offsets, times)
    value_offsets = np.concatenate([[0], np.cumsum(counts)])
    values = run.values
    if not bool(np.array_equal(run.starts, value_offsets[:-1])) or len(values) != int(value_offsets[-1]):
        values = np.empty(int(value_offsets[-1]))
        codec.copy_values(run.values, run.starts, counts, value_offsets[:-1], values)
    words, starts = codec.encode_values(value_offsets, values)
    first = run.ts[run.starts].astype(np.int64) + run.base
    last = run.ts[run.ends - 1].astype(np.int64) + run.base
    return Chunks(
        block, run.sids, first, last, counts, group, starts[:-1], words, clock_counts, clock_starts[:-1], clock_words
    )


# ------------------------------------------------------------------ in the file


def write(
    con: duckdb.DuckDBPyConnection, chunk_table: str, clock_table: str, chunks: Chunks, first_clock: int = 0
) -> None:
    """Insert chunks and their clocks, which are numbered from ``first_clock``."""
    write_clocks(con, clock_table, chunks, first_clock)
    write_columns(con, chunk_table, chunks, first_clock, [chunks])


def write_clocks(con: duckdb.DuckDBPyConnection, name: str, chunks: Chunks, first_clock: int) -> None:
    blobs = _blobs(chunks.clock_words, chunks.clock_starts)
    numbers = list(range(first_clock, first_clock + len(blobs)))
    con.execute(
        f"INSERT INTO {name} SELECT $1, unnest($2::INTEGER[]), unnest($3::INTEGER[]), $4, unnest($5::BLOB[])",
        [chunks.block, numbers, chunks.clock_counts.tolist(), CODEC, blobs],
    )


def write_columns(
    con: duckdb.DuckDBPyConnection, name: str, chunks: Chunks, first_clock: int, columns: list[Chunks]
) -> None:
    """A row a series: what all ``columns`` share, from ``chunks``, and the values of each of them."""
    values = ", ".join(f"unnest(${8 + i}::BLOB[])" for i in range(len(columns)))
    con.execute(
        f"INSERT INTO {name} SELECT $1, unnest($2::INTEGER[]), unnest($3::BIGINT[]), unnest($4::BIGINT[]), "
        f"unnest($5::INTEGER[]), $6, unnest($7::INTEGER[]), {values}",
        [
            chunks.block, chunks.sids.tolist(), chunks.first.tolist(), chunks.last.tolist(), chunks.counts.tolist(),
            CODEC, (chunks.clock + first_clock).tolist(), *(_blobs(c.words, c.starts) for c in columns),
        ],
    )  # fmt: skip


def _blobs(words: Words, starts: Ints) -> list[bytes]:
    data = words.astype("<u8").tobytes()
    ends = np.append(starts[1:], len(words)) * 8
    return [data[a:b] for a, b in zip((starts * 8).tolist(), ends.tolist(), strict=True)]


def all_of(tables: Sequence[str]) -> str:
    """One or several tables of the same columns, to be read by one statement."""
    if len(tables) == 1:
        return tables[0]
    return "(" + " UNION ALL ".join(f"SELECT * FROM {name}" for name in tables) + ")"  # noqa: S608


def read(
    con: duckdb.DuckDBPyConnection, chunk_table: str, clock_table: str, blocks: tuple[int, int], where: str = "",
    column: str = "val",
) -> list[Chunks]:  # fmt: skip
    """Chunks of the blocks from the first to the last named, in order.

    Args:
        chunk_table, clock_table: names, or several as :func:`all_of` puts them.
        where: `` AND ...``, to pick series.
        column: of the values.

    Raises:
        duckdb.CatalogException: the tables are not there.
    """
    within = f"block BETWEEN {int(blocks[0])} AND {int(blocks[1])}"
    got = con.execute(
        f"SELECT block, sid, t_min, t_max, n, clock, {column} AS val FROM {chunk_table} WHERE {within}{where}"  # noqa: S608
    ).fetchnumpy()
    row = {name: _plain(column) for name, column in got.items()}
    if not len(row["sid"]):
        return []
    own = f" AND clock IN ({', '.join(map(str, np.unique(row['clock']).tolist()))})" if len(row["sid"]) < 256 else ""
    clocks = {
        name: _plain(column)
        for name, column in con.execute(
            f"SELECT block, clock, n, ts FROM {clock_table} WHERE {within}{own}"  # noqa: S608
        )
        .fetchnumpy()
        .items()
    }
    out = []
    for block in np.unique(row["block"]).tolist():
        out.append(_of_block(block, _rows_of(row, block, "sid"), _rows_of(clocks, block, "clock")))
    return out


def _rows_of(columns: dict[str, NDArray[Any]], block: int, key: str) -> dict[str, NDArray[Any]]:
    at = np.flatnonzero(columns["block"] == block)
    order = columns[key][at]
    if not bool(np.all(order[1:] > order[:-1])):
        at = at[np.argsort(order, kind="stable")]
    return {name: column[at] for name, column in columns.items()}


def _of_block(block: int, row: dict[str, NDArray[Any]], clock: dict[str, NDArray[Any]]) -> Chunks:
    words, starts = _joined(row["val"])
    clock_words, clock_starts = _joined(clock["ts"])
    return Chunks(
        block, row["sid"].astype(np.int32), row["t_min"].astype(np.int64), row["t_max"].astype(np.int64),
        row["n"].astype(np.int64), places(clock["clock"], row["clock"]), starts, words, clock["n"].astype(np.int64),
        clock_starts, clock_words,
    )  # fmt: skip


def _joined(blobs: NDArray[Any]) -> tuple[Words, Ints]:
    items = blobs.tolist()
    ends = np.cumsum(np.fromiter(map(len, items), np.int64, len(items))) // 8
    words = np.frombuffer(bytearray().join(items), "<u8").astype(np.uint64, copy=False)
    return words, np.concatenate([[0], ends[:-1]]).astype(np.int64)


def _plain(array: Any) -> NDArray[Any]:
    return array.data if isinstance(array, _MASKED) else np.asarray(array)
