"""Remote write under the speed bench: samples a second and a CPU-second, time to the acknowledgement, new series.

Bodies go over bare sockets, so that the sender takes little of the machine from the server. Ours acknowledges what is
synced; VictoriaMetrics and Prometheus what they hold in memory and write without a sync.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

import numpy as np

from tests.benchmarks import peers, workload
from tests.benchmarks.peers import Peer
from tests.benchmarks.workload import Sizes

CONNECTIONS = (1, 8, 32)
CHURN_BODIES = 100


class Table(Protocol):
    """Takes the figures."""

    def add(self, name: str, unit: str, values: dict[str, float], *, more_is_better: bool = False) -> None: ...


def post(peer: Peer, connections: Sequence[Sequence[bytes]]) -> tuple[float, list[float]]:
    """Each list over a connection of its own, in order: wall seconds of all, seconds to each answer.

    Raises ``RuntimeError`` on a refusal.
    """
    address = urlsplit(peer.url)
    refused: list[str] = []
    took: list[float] = []
    begin = threading.Barrier(len(connections) + 1)

    def run(bodies: Sequence[bytes]) -> None:
        requests = [_request(address.netloc, body) for body in bodies]
        with socket.create_connection((address.hostname, address.port or 80), timeout=60) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            begin.wait()
            for request in requests:
                started = time.perf_counter()
                connection.sendall(request)
                answer = connection.recv(1 << 16)
                took.append(time.perf_counter() - started)
                if answer[9:10] != b"2":
                    refused.append(f"{peer.name}: {answer[:300]!r}")
                    return

    threads = [threading.Thread(target=run, args=(bodies,), daemon=True) for bodies in connections]
    for thread in threads:
        thread.start()
    begin.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - started
    if refused:
        raise RuntimeError(refused[0])
    return wall, took


def _request(host: str, body: bytes) -> bytes:
    head = f"POST /api/v1/write HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in peers.WRITE.items())
    return head.encode() + b"\r\n" + body


def write(table: Table, servers: Sequence[Peer], sizes: Sizes) -> None:
    """Scrapes of known series; the first two of each shard, which make the series, are not timed.

    With as many bodies over 1, 8 and 32 connections. What a server does in the two seconds after counts as its CPU.
    """
    bodies = sizes.scrapes * workload.SHARDS
    for connections in CONNECTIONS:
        shards = workload.write_bodies(
            sizes, f"write_{connections}_total", time.time_ns() // 1_000_000,
            shards=max(connections, workload.SHARDS), scrapes=2 + bodies // max(connections, workload.SHARDS),
        )  # fmt: skip
        timed = [shard[2:] for shard in shards]
        if connections == 1:
            timed = [[body for scrape in zip(*timed, strict=True) for body in scrape]]
        count = sum(map(len, timed)) * sizes.shard_series
        wall, cpu, slow = {}, {}, {}
        for peer in servers:
            post(peer, [[body for shard in shards for body in shard[:2]]])
            peers.settle(peer)
            before = peer.cpu_s()
            seconds, answers = post(peer, timed)
            peers.settle(peer, 2.0)
            wall[peer.name] = count / seconds
            cpu[peer.name] = count / max(peer.cpu_s() - before, 0.01)
            slow[peer.name] = float(np.quantile(answers, 0.99)) * 1000
        what = f"remote write, {connections} connection{'s' if connections > 1 else ''}"
        table.add(what, "samples/s", wall, more_is_better=True)
        table.add(what, "samples/CPU-s", cpu, more_is_better=True)
        table.add(f"{what}: p99 to the acknowledgement", "ms", slow)


def churn(table: Table, servers: Sequence[Peer], sizes: Sizes) -> None:
    """Bodies whose series are all new, one sample each: CPU and memory that a series costs."""
    bodies = workload.churn_bodies(sizes, CHURN_BODIES, time.time_ns() // 1_000_000)
    count = len(bodies) * sizes.shard_series
    cpu, memory, wall = {}, {}, {}
    for peer in servers:
        peers.settle(peer)
        before, held = peer.cpu_s(), peer.rss()
        seconds, _ = post(peer, [bodies[i :: workload.SHARDS] for i in range(workload.SHARDS)])
        peers.settle(peer, 2.0)
        wall[peer.name] = count / seconds
        cpu[peer.name] = (peer.cpu_s() - before) / count * 1e6
        memory[peer.name] = (peer.rss() - held) / count
    what = f"{count:,} new series"
    table.add(what, "series/s", wall, more_is_better=True)
    table.add(what, "CPU us a series", cpu)
    table.add(f"{what}: rise of RSS", "B a series", memory)
