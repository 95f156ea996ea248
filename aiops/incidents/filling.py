"""What will be full, and when: disks, quotas, certificates; a warning with an interval before it happens.

The trend is robust: the median of the slopes between all pairs of points (Theil and Sen), over the last hours and over
the last day, of which the one counts that would have foretold the later part of its own window better. Its uncertainty
is the scatter of the slopes of the window's parts, which sees what a residual's spread does not: that filling comes
in bursts. A warning needs the earliest plausible time within the horizon and a slope that is surely towards the limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Anomaly
from aiops.core.incident import fingerprint
from aiops.core.series import METRIC_NAME, Labels, labels_of

Floats = NDArray[np.float64]
PARTS = 8
T_90 = 1.895
"""Student's t of 90 % in the middle with seven degrees of freedom."""
LEAST_POINTS = 24
MOST_POINTS = 96
LOOK_BACKS_S = (6 * 3600.0, 24 * 3600.0)


@dataclass(frozen=True, slots=True)
class Filling:
    """A watched level that must not reach ``limit``.

    Attributes:
        query: PromQL that gives the level, such as the used share of each file system.
        rising: true where the level rises to the limit, false where it falls to it (days left of a certificate).
        horizon_s: only what may happen within this is told.
        done: the word for reaching the limit: ``full``, ``expired``.
    """

    name: str
    query: str
    needs: tuple[str, ...]
    unit: str
    limit: float
    rising: bool
    horizon_s: float
    done: str

    @property
    def metric(self) -> str:
        return self.name.replace("_", " ")


_REAL_FS = '{fstype!~"tmpfs|ramfs|overlay|squashfs|devtmpfs|iso9660"}'
DEFAULTS = (
    Filling(
        "disk",
        f"1 - min by (instance, mountpoint, simulated) (node_filesystem_avail_bytes{_REAL_FS})"
        f" / max by (instance, mountpoint, simulated) (node_filesystem_size_bytes{_REAL_FS})",
        ("node_filesystem_avail_bytes", "node_filesystem_size_bytes"),
        "ratio",
        1.0,
        True,
        24 * 3600.0,
        "full",
    ),
    Filling(
        "inodes",
        f"1 - min by (instance, mountpoint, simulated) (node_filesystem_files_free{_REAL_FS})"
        f" / max by (instance, mountpoint, simulated) (node_filesystem_files{_REAL_FS} > 0)",
        ("node_filesystem_files_free", "node_filesystem_files"),
        "ratio",
        1.0,
        True,
        24 * 3600.0,
        "used up",
    ),
    Filling(
        "volume",
        "max by (namespace, persistentvolumeclaim, simulated) (kubelet_volume_stats_used_bytes"
        " / kubelet_volume_stats_capacity_bytes)",
        ("kubelet_volume_stats_used_bytes", "kubelet_volume_stats_capacity_bytes"),
        "ratio",
        1.0,
        True,
        24 * 3600.0,
        "full",
    ),
    Filling(
        "quota",
        'max by (namespace, resource, simulated) (kube_resourcequota{type="used"})'
        ' / (max by (namespace, resource, simulated) (kube_resourcequota{type="hard"}) > 0)',
        ("kube_resourcequota",),
        "ratio",
        1.0,
        True,
        24 * 3600.0,
        "used up",
    ),
    Filling(
        "certificate",
        "min by (instance, simulated) (probe_ssl_earliest_cert_expiry) - time()",
        ("probe_ssl_earliest_cert_expiry",),
        "s",
        0.0,
        False,
        14 * 86400.0,
        "expired",
    ),
)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds from the last point until the limit, with a 90 % interval; infinite where it may never come."""

    left_s: float
    earliest_s: float
    latest_s: float
    level: float


def forecast(
    times_s: Floats, level: Floats, limit: float, *, rising: bool, horizon_s: float = math.inf
) -> Forecast | None:
    """When a level reaches its limit; ``None`` where its points are too few or it does not move that way.

    Args:
        times_s: [N] ascending, seconds.
        level: [N], NaN where unknown.
        horizon_s: a limit that lies surely beyond may be answered with ``None``, which is quicker.
    """
    known = np.isfinite(level)
    t, y = times_s[known], (level[known] if rising else -level[known])
    bound = limit if rising else -limit
    windows = [inside for back in LOOK_BACKS_S if (inside := _last(t, back)).sum() >= LEAST_POINTS]
    if not windows or all(_too_slow(t[w], y[w], max(bound - float(y[-1]), 0.0) / horizon_s) for w in windows):
        return None
    best: tuple[float, float, float, float] | None = None
    slopes: list[float] = []
    for inside in windows:
        tried = _trend(t[inside], y[inside])
        slopes.append(tried[0])
        if best is None or tried[3] < 0.9 * best[3]:
            best = tried
    assert best is not None
    slope, scatter, part_s, _ = best
    now = float(y[-1])
    if slope <= 0 or slope - T_90 * scatter / math.sqrt(PARTS - 1) <= 0:
        return None
    left = max(bound - now, 0.0)
    # The mean slope of the time to come scatters as that of the parts, the less the longer it is.
    ahead = scatter * math.sqrt(1 / (PARTS - 1) + part_s / max(left / slope, 1.0))
    ahead = math.hypot(ahead, (max(slopes) - min(slopes)) / 2)
    latest = left / (slope - T_90 * ahead) if slope > T_90 * ahead else math.inf
    return Forecast(left / slope, left / (slope + T_90 * ahead), latest, now if rising else -now)


def _last(t: Floats, span_s: float) -> NDArray[np.bool_]:
    return t >= t[-1] - span_s if len(t) else np.zeros(0, bool)


def _too_slow(t: Floats, y: Floats, slope: float) -> bool:
    """True where the median slope of a window of evenly spaced points is surely below ``slope``.

    More than half of the pairs lie at least a quarter of the window apart, so one of those must be as steep.
    """
    gaps, span = np.diff(t), float(t[-1] - t[0])
    return bool(gaps.max() < 1.5 * gaps.min()) and float(y.max() - y.min()) < slope * span / 4


def _trend(t: Floats, y: Floats) -> tuple[float, float, float, float]:
    """Slope a second, its scatter between parts, their length, and how far it misses the last third when fitted to
    the rest."""
    if len(t) > MOST_POINTS:
        keep = np.unique(np.linspace(0, len(t) - 1, MOST_POINTS).astype(int))
        t, y = t[keep], y[keep]
    slope = _slope(t, y)
    parts = [(p, q) for p, q in zip(np.array_split(t, PARTS), np.array_split(y, PARTS), strict=True) if len(p) > 1]
    # Ends of the parts, not slopes within them: level noise is shared out over the whole part.
    middles = np.array([[p.mean(), np.median(q)] for p, q in parts])
    steps = np.diff(middles[:, 1]) / np.diff(middles[:, 0])
    # Slopes from middle to middle are smoother than the parts' own by a factor of two thirds in variance.
    scatter = math.sqrt(1.5) * float(steps.std(ddof=1)) if len(steps) > 1 else math.inf
    cut = 2 * len(t) // 3
    early = _slope(t[:cut], y[:cut])
    start = float(np.median(y[cut - 5 : cut]))
    miss = float(np.median(np.abs(y[cut:] - start - early * (t[cut:] - t[cut]))))
    return slope, scatter, float(t[-1] - t[0]) / PARTS, miss


def _slope(t: Floats, y: Floats) -> float:
    i, j = np.triu_indices(len(t), 1)
    return float(np.median((y[j] - y[i]) / (t[j] - t[i])))


def warning(
    what: Filling, labels: Labels, found: Forecast, now_ms: int, query: str, open_since_ms: int | None
) -> Anomaly | None:
    """The anomaly of a level that may reach its limit within the horizon; ``None`` where it will not."""
    if found.left_s > what.horizon_s:
        return None
    low, high = span_words(found.earliest_s), span_words(found.latest_s)
    text = f"will be {what.done} in {span_words(found.left_s)} ({low} to {high})"
    mark = fingerprint(labels_of([*labels, (METRIC_NAME, f"{what.name} filling")]))
    service = next((v for k in ("service_name", "instance", "namespace") for n, v in labels if n == k), "")
    started = now_ms if open_since_ms is None else open_since_ms
    return Anomaly(
        id=f"{mark}-{started}",
        series=labels,
        service=service,
        metric=f"{what.metric} {_where(labels)}".strip(),
        query=query,
        kind="saturation",
        direction="up" if what.rising else "down",
        started_ms=started,
        updated_ms=now_ms,
        ended_ms=None,
        value=found.level,
        expected=found.level,
        lower=math.nan,
        upper=math.nan,
        score=math.nan,
        p_value=math.nan,
        model="filling",
        unit=what.unit,
        note=text,
    )


def ended(anomaly: Anomaly, now_ms: int) -> Anomaly:
    return replace(anomaly, updated_ms=now_ms, ended_ms=now_ms)


def _where(labels: Labels) -> str:
    return " ".join(v for k, v in labels if k in ("mountpoint", "persistentvolumeclaim", "resource"))


def span_words(seconds: float) -> str:
    """
    >>> [span_words(s) for s in (40, 5400, 6 * 3600, 3 * 86400, float("inf"))]
    ['40 s', '90 min', '6 h', '3 d', 'never']
    """
    if not math.isfinite(seconds):
        return "never"
    for size, word, least in ((86_400, "d", 2), (3600, "h", 2), (60, "min", 2)):
        if seconds >= least * size:
            return f"{seconds / size:.0f} {word}" if seconds >= 10 * size else f"{seconds / size:.2g} {word}"
    return f"{seconds:.0f} s"


def steps_of(now_ms: int) -> Sequence[int]:
    """Start, end and step, all ms, of the window that forecasts read."""
    step = 300_000
    end = now_ms // step * step
    return end - round(LOOK_BACKS_S[-1] * 1000), end, step
