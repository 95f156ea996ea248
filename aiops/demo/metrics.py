"""Counters and gauges of the simulated shop, as a scrape would give them. Vectorised over series and times."""

from __future__ import annotations

import numpy as np

from aiops.core.series import Labels, MetricMetadata, SampleBlock, labels_of
from aiops.demo.fault import Fault
from aiops.demo.physics import MEAN_FACTOR, SHAPE, Conditions, Floats, noise, restarts
from aiops.demo.topology import (
    CPUS_PER_HOST,
    HOST_DISK_BYTES,
    HOST_MEMORY_BYTES,
    HOST_OF,
    HOSTS,
    RESOURCES,
    ROUTES,
    SERVICES,
)

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""OpenTelemetry's default bounds, seconds."""

STATUSES = ("200", "500")
DURATION = "http_server_request_duration_seconds"
CPU_MODES = ("user", "system", "iowait", "idle")

METADATA = (
    MetricMetadata(DURATION, "histogram", "s", "Duration of HTTP server requests."),
    MetricMetadata("container_cpu_usage_seconds_total", "counter", "s", "CPU time used by the container."),
    MetricMetadata("container_memory_working_set_bytes", "gauge", "By", "Memory in use by the container."),
    MetricMetadata("container_spec_memory_limit_bytes", "gauge", "By", "Memory limit of the container."),
    MetricMetadata("db_client_connections_usage", "gauge", "{connection}", "Connections of the pool by state."),
    MetricMetadata("db_client_connections_max", "gauge", "{connection}", "Most connections the pool allows."),
    MetricMetadata("messaging_queue_depth", "gauge", "{message}", "Messages waiting in the queue."),
    MetricMetadata("node_cpu_seconds_total", "counter", "s", "Seconds the CPUs spent in each mode."),
    MetricMetadata("node_load1", "gauge", "1", "1m load average."),
    MetricMetadata("node_filesystem_avail_bytes", "gauge", "By", "Filesystem space available to non-root users."),
    MetricMetadata("node_filesystem_size_bytes", "gauge", "By", "Filesystem size."),
    MetricMetadata("node_memory_MemTotal_bytes", "gauge", "By", "Memory information field MemTotal."),
    MetricMetadata("node_memory_MemAvailable_bytes", "gauge", "By", "Memory information field MemAvailable."),
)


class ShopMetrics:
    """Turns conditions into samples, carrying the counters from one call to the next.

    Counters go on where the last call ended, whatever the step; a restarted service begins at zero.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._labels: list[Labels] = []
        self._owner: list[int] = []
        self._counter: list[bool] = []
        for route in ROUTES:
            for status in STATUSES:
                base = {
                    **_service(route.service),
                    "http_request_method": route.method,
                    "http_route": route.path,
                    "http_response_status_code": status,
                }
                owner = SERVICES.index(route.service)
                for bound in (*(f"{b:g}" for b in BUCKETS), "+Inf"):
                    self._add(f"{DURATION}_bucket", {**base, "le": bound}, owner, counter=True)
                self._add(f"{DURATION}_count", base, owner, counter=True)
                self._add(f"{DURATION}_sum", base, owner, counter=True)
        for i, service in enumerate(SERVICES):
            labels, limits = _service(service), RESOURCES[service]
            self._add("container_cpu_usage_seconds_total", labels, i, counter=True)
            self._add("container_memory_working_set_bytes", labels, i)
            self._add("container_spec_memory_limit_bytes", labels, i)
            if limits.pool:
                self._add("db_client_connections_usage", {**labels, "state": "used"}, i)
                self._add("db_client_connections_usage", {**labels, "state": "idle"}, i)
                self._add("db_client_connections_max", labels, i)
            if limits.queue:
                self._add("messaging_queue_depth", {**labels, "queue": limits.queue}, i)
        for host in HOSTS:
            labels = {"simulated": "true", "job": "node", "instance": host}
            for cpu in range(CPUS_PER_HOST):
                for mode in CPU_MODES:
                    self._add("node_cpu_seconds_total", {**labels, "cpu": str(cpu), "mode": mode}, -1, counter=True)
            disk = {**labels, "device": "/dev/vda1", "fstype": "ext4", "mountpoint": "/"}
            self._add("node_load1", labels, -1)
            self._add("node_filesystem_avail_bytes", disk, -1)
            self._add("node_filesystem_size_bytes", disk, -1)
            self._add("node_memory_MemTotal_bytes", labels, -1)
            self._add("node_memory_MemAvailable_bytes", labels, -1)
        self.labels: tuple[Labels, ...] = tuple(self._labels)
        self._is_counter = np.array(self._counter)
        self._owners = np.array(self._owner)
        self._totals = np.zeros(len(self.labels))

    def _add(self, name: str, labels: dict[str, str], owner: int, *, counter: bool = False) -> None:
        self._labels.append(labels_of({"__name__": name, **labels}))
        self._owner.append(owner)
        self._counter.append(counter)

    def scrape(self, now: Conditions, before_ms: int, fault: Fault | None = None) -> SampleBlock:
        """Samples at ``now.ts``; ``before_ms`` is the previous scrape, from which the counters grow."""
        ts = now.ts
        span_s = np.diff(np.concatenate([[before_ms], ts])) / 1000.0
        rng = np.random.default_rng([self._seed, 7, int(ts[0] // 1000)])
        values = np.concatenate(
            [self._requests(now, span_s, rng), self._services(now, span_s), self._hosts(now, span_s)]
        )
        rows = np.flatnonzero(self._is_counter)
        growth = values[rows]
        totals = np.cumsum(growth, axis=1) + self._totals[rows, None]
        for k in restarts(fault, before_ms, ts):
            reset = self._owners[rows] == SERVICES.index(fault.target) if fault else np.zeros(len(rows), np.bool_)
            before = totals[reset, k] - growth[reset, k]
            totals[reset, k:] -= before[:, None]
        values[rows] = totals
        self._totals[rows] = totals[:, -1]
        series, times = values.shape
        offsets = np.arange(series + 1, dtype=np.int64) * times
        return SampleBlock(self.labels, offsets, np.tile(ts, series), values.ravel())

    def _requests(self, now: Conditions, span_s: Floats, rng: np.random.Generator) -> Floats:
        bounds = np.array([0.0, *BUCKETS, np.inf])
        with np.errstate(divide="ignore", over="ignore"):
            below = 1.0 / (1.0 + (now.median_s[:, None, :] / bounds[None, :, None]) ** SHAPE)
        within = np.diff(below, axis=1)
        share = np.stack([1.0 - now.errors, now.errors], axis=1)
        expected = now.rate[:, None, None, :] * share[:, :, None, :] * within[:, None, :, :] * span_s
        counts = rng.poisson(np.maximum(expected, 0.0)).astype(np.float64)
        upward = np.cumsum(counts, axis=2)
        total = upward[:, :, -1:, :]
        spread = 1.0 + 0.4 * rng.standard_normal(total.shape) / np.sqrt(np.maximum(total, 4.0))
        seconds = total * now.median_s[:, None, None, :] * MEAN_FACTOR * np.maximum(spread, 0.2)
        grown = np.concatenate([upward, total, seconds], axis=2)
        return grown.reshape(-1, len(span_s))

    def _services(self, now: Conditions, span_s: Floats) -> Floats:
        out: list[Floats] = []
        for i, service in enumerate(SERVICES):
            limits = RESOURCES[service]
            out += [now.cpu[i] * span_s, np.round(now.memory[i]), np.full(len(span_s), float(limits.memory_limit))]
            if limits.pool:
                used = np.round(now.pool[i])
                out += [used, limits.pool - used, np.full(len(span_s), float(limits.pool))]
            if limits.queue:
                out.append(np.round(now.queue[i]))
        return np.stack(out)

    def _hosts(self, now: Conditions, span_s: Floats) -> Floats:
        out: list[Floats] = []
        for i, host in enumerate(HOSTS):
            members = [k for k, s in enumerate(SERVICES) if HOST_OF[s] == host]
            cores = now.cpu[members].sum(axis=0) + 0.15
            for cpu in range(CPUS_PER_HOST):
                busy = np.clip(
                    cores / CPUS_PER_HOST * (1.0 + 0.05 * noise(self._seed, 200 + 10 * i + cpu, now.ts, 30.0)), 0, 1
                )
                shares = (0.74 * busy, 0.22 * busy, 0.04 * busy)
                out += [s * span_s for s in shares] + [(1.0 - sum(shares)) * span_s]
            filled = 0.38 + 0.07 * i + 0.02 * noise(self._seed, 250 + i, now.ts, 5 * 86400.0)
            memory = now.memory[members].sum(axis=0) + 3 * 2**30
            out += [
                np.round(cores * (1.0 + 0.1 * noise(self._seed, 260 + i, now.ts, 60.0)), 2),
                np.round(HOST_DISK_BYTES * (1.0 - filled) / 4096) * 4096,
                np.full(len(span_s), float(HOST_DISK_BYTES)),
                np.full(len(span_s), float(HOST_MEMORY_BYTES)),
                np.round(HOST_MEMORY_BYTES - memory),
            ]
        return np.stack(out)


def _service(service: str) -> dict[str, str]:
    return {
        "simulated": "true",
        "service_name": service,
        "job": f"shop/{service}",
        "instance": f"{service}-0:8080",
    }
