"""The shop at given times: load, latency, errors, resources. A pure function of seed, time and fault."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiops.demo.fault import OOM_PERIOD_S, Fault
from aiops.demo.topology import CALLS, ENTRY_SHARES, PEAK_REQUESTS_PER_S, RESOURCES, ROUTES, SERVICES, WIRE_S

Floats = NDArray[np.float64]

SHAPE = 4.5
"""Shape of the log-logistic latency distribution: p95 is 1.9 times the median."""
MEAN_FACTOR = float(np.pi / SHAPE / np.sin(np.pi / SHAPE))
_DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Conditions:
    """Parameters over T times: ``rate`` requests/s, ``errors`` share, ``median_s`` of the whole request [R, T];
    ``own_s`` without callees [R, T]; ``wire_s`` per call [C, T]; ``refused`` share per call [C, T];
    ``cpu`` cores, ``memory`` bytes, ``pool`` connections in use, ``queue`` messages [services, T]."""

    ts: NDArray[np.int64]
    rate: Floats
    errors: Floats
    own_errors: Floats
    median_s: Floats
    own_s: Floats
    wire_s: Floats
    refused: Floats
    cpu: Floats
    memory: Floats
    pool: Floats
    queue: Floats
    strength: Floats


def noise(seed: int, channel: int, ts: NDArray[np.int64], period_s: float) -> Floats:
    """Smooth value noise in [-1, 1] that depends on the time alone, so that any step gives the same curve."""
    position = ts / (period_s * 1000.0)
    cell = np.floor(position)
    share = position - cell
    share = share * share * (3.0 - 2.0 * share)
    left, right = (_hash(seed, channel, cell.astype(np.int64) + d) for d in (0, 1))
    return left + (right - left) * share


def _hash(seed: int, channel: int, cell: NDArray[np.int64]) -> Floats:
    with np.errstate(over="ignore"):
        x = cell.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x += np.uint64((seed * 0xD1B54A32D192ED03 + channel * 0x8CB92BA72F3D8DD7) & 0xFFFFFFFFFFFFFFFF)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) / 2.0**52 - 1.0


def demand(seed: int, ts: NDArray[np.int64]) -> Floats:
    """Requests a second entering the shop: a daily and a weekly rhythm with slow noise."""
    seconds = ts / 1000.0
    day = 2 * np.pi * seconds / _DAY_S
    daily = 0.66 + 0.27 * np.sin(day - 2 * np.pi * 9 / 24) + 0.07 * np.sin(2 * day - 2 * np.pi * 7 / 12)
    weekly = 1.0 + 0.10 * np.sin(2 * np.pi * seconds / (7 * _DAY_S))
    wobble = (
        1.0 + 0.03 * noise(seed, 1, ts, 1800.0) + 0.02 * noise(seed, 2, ts, 300.0) + 0.015 * noise(seed, 3, ts, 40.0)
    )
    return PEAK_REQUESTS_PER_S * daily * weekly * wobble


def conditions(seed: int, ts: NDArray[np.int64], fault: Fault | None = None) -> Conditions:
    """The shop at each of ``ts`` (ms UTC), with ``fault`` acting from its onset."""
    count = len(ts)
    strength = fault.strength(ts) if fault else np.zeros(count)
    since_s = np.maximum((ts - fault.onset_ms) / 1000.0, 0.0) if fault and fault.onset_ms > 0 else np.zeros(count)
    on = strength > 0
    target = SERVICES.index(fault.target) if fault else -1
    in_target = np.array([r.service == (fault.target if fault else "") for r in ROUTES])

    rate, refused = _rates(seed, ts, fault, strength)
    own = np.stack(
        [
            r.own_s * (1.0 + 0.04 * noise(seed, 20 + i, ts, 600.0) + 0.03 * noise(seed, 40 + i, ts, 60.0))
            for i, r in enumerate(ROUTES)
        ]
    )
    own_errors = np.stack([np.full(count, r.error_share) for r in ROUTES])
    if fault:
        cycle = (since_s % OOM_PERIOD_S) / OOM_PERIOD_S
        pull = strength * np.where(on, 0.3 + 0.7 * cycle, 0.0) if fault.leaks else strength
        own[in_target] = (
            own[in_target] * (1.0 + (fault.own_latency_factor - 1.0) * pull) + fault.own_latency_add_s * strength
        )
        own_errors[in_target] += (
            fault.error_share * strength * (np.where(cycle < 0.35, 2.0, 0.3) if fault.leaks else 1.0)
        )
    own_errors = np.minimum(own_errors, 1.0)
    wire = np.stack([WIRE_S * (1.0 + 0.1 * noise(seed, 60 + i, ts, 120.0)) for i in range(len(CALLS))])
    if fault:
        to_target = np.array([ROUTES[c.callee].service == fault.target for c in CALLS])
        wire[to_target] += fault.wire_add_s * strength

    median, survive = own.copy(), 1.0 - own_errors
    for i in reversed(range(len(CALLS))):
        call = CALLS[i]
        reached = 1.0 - refused[i]
        median[call.caller] += reached * median[call.callee] + wire[i] + refused[i] * 0.05
        failed = refused[i] + reached * (1.0 - survive[call.callee])
        survive[call.caller] *= 1.0 - call.fatal * failed
    cpu, memory, pool, queue = _resources(seed, ts, rate, own)
    if fault:
        limits = RESOURCES[fault.target]
        if fault.cpu_share:
            busy = limits.cpu_limit * fault.cpu_share * (1.0 + 0.01 * noise(seed, 99, ts, 20.0))
            cpu[target] = np.where(on, cpu[target] + (busy - cpu[target]) * strength, cpu[target])
        if fault.pool_share:
            pool[target] += (limits.pool * fault.pool_share - pool[target]) * strength
        if fault.queue_growth:
            queue[target] += fault.queue_growth * np.minimum(since_s, 1800.0)
        if fault.leaks:
            climb = (since_s % OOM_PERIOD_S) / OOM_PERIOD_S
            memory[target] += (limits.memory_limit * 0.99 - memory[target]) * climb * on
    return Conditions(
        ts, rate, 1.0 - survive, own_errors, median, own, wire, refused, cpu, memory, pool, queue, strength
    )


def restarts(fault: Fault | None, before_ms: int, ts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of ``ts`` at which the target has just restarted (its counters begin at zero)."""
    if fault is None or not fault.leaks or fault.onset_ms <= 0:
        return np.empty(0, np.int64)
    times = np.concatenate([[before_ms], ts])
    cycle = np.floor(np.maximum(times - fault.onset_ms, 0) / (OOM_PERIOD_S * 1000.0))
    return np.flatnonzero(np.diff(cycle) > 0)


def _rates(seed: int, ts: NDArray[np.int64], fault: Fault | None, strength: Floats) -> tuple[Floats, Floats]:
    rate = np.zeros((len(ROUTES), len(ts)))
    refused = np.zeros((len(CALLS), len(ts)))
    entering = demand(seed, ts)
    for route, share in ENTRY_SHARES:
        rate[route] = entering * share * (1.0 + 0.01 * noise(seed, 10 + route, ts, 90.0))
    for i, call in enumerate(CALLS):
        if fault and ROUTES[call.callee].service == fault.target:
            refused[i] = fault.refused_share * strength
        rate[call.callee] += rate[call.caller] * (1.0 - refused[i])
    return rate, refused


def _resources(seed: int, ts: NDArray[np.int64], rate: Floats, own: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    shape = (len(SERVICES), len(ts))
    cpu, memory, pool, queue = np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for i, service in enumerate(SERVICES):
        limits = RESOURCES[service]
        routes = [k for k, r in enumerate(ROUTES) if r.service == service]
        requests = rate[routes].sum(axis=0)
        cpu[i] = 0.04 + requests * limits.cpu_per_request_s * (1.0 + 0.03 * noise(seed, 70 + i, ts, 45.0))
        cpu[i] = np.minimum(cpu[i], limits.cpu_limit)
        memory[i] = limits.memory_limit * (
            0.46 + 0.03 * noise(seed, 80 + i, ts, 7200.0) + 0.012 * noise(seed, 90 + i, ts, 60.0)
        )
        if limits.pool:
            waiting = (rate[routes] * own[routes]).sum(axis=0)
            level = 0.22 + 0.04 * noise(seed, 110 + i, ts, 90.0) + 0.05 * noise(seed, 130 + i, ts, 6.0)
            pool[i] = np.minimum(limits.pool, np.round(limits.pool * level + waiting * 0.6))
        if limits.queue:
            queue[i] = np.maximum(0.0, np.round(6.0 + 0.05 * requests + 3.0 * noise(seed, 120 + i, ts, 20.0)))
    return cpu, memory, pool, queue
