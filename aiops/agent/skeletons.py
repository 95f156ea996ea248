"""PromQL skeletons of the concept table made into queries: windows, role labels, equalities."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from aiops.agent.catalogue import LabelValues
from aiops.core.query import Window

SERVICE_LABELS = ("service_name", "service", "app", "job")
STATUS_LABELS = ("code", "status", "status_code", "http_status_code")

_FIT_RANGES = ((3600, "1h"), (86_400, "6h"), (3 * 86_400, "1d"), (8 * 86_400, "2d"))
"""Horizon in seconds and the range a straight line is fitted to: a third of the horizon or so, a week at most."""


def fill(
    text: str,
    known: Mapping[str, LabelValues | None],
    window: Window | None = None,
    horizon_s: float | None = None,
    quantile: float | None = None,
    rate_window: str = "5m",
) -> str:
    """Windows, quantile and role labels into a skeleton."""
    tables = [t for t in known.values() if t is not None]
    names = set().union(*(set(t) for t in tables)) if tables else set()
    service = next((n for n in SERVICE_LABELS if n in names), "job")
    status = next((n for n in STATUS_LABELS if n in names), "code")
    if names and "container" not in names and "container_" in text:
        keep = [n for n in ("namespace", "pod", service) if n in names] or ["instance"]
        text = re.sub(r'container!=""', "", text).replace("{}", "")
        text = text.replace("namespace, pod, container", ", ".join(keep))
    horizon = int(horizon_s or 4 * 3600)
    back = next((r for upto, r in _FIT_RANGES if horizon <= upto), "7d")
    counting = f"{max(1, int(window.last_s / 60))}m" if window and window.start_ms is None else "1h"
    shown = 0.95 if quantile is None else quantile
    for mark, value in (
        ("$svc", service), ("$status", status), ("$w", rate_window), ("$c", counting), ("$r", back),
        ("$h", str(horizon)), ("$q", f"{shown:g}"),
    ):  # fmt: skip
        text = text.replace(mark, value)
    return text


def regroup(text: str, label: str) -> str:
    """Every aggregation by ``label`` instead; texts that join on labels stay as they are."""
    if re.search(r"\b(?:on|ignoring|group_left|group_right)\b", text):
        return text
    return re.sub(r"\bby \(([^)]*)\)", lambda m: f"by ({_with_le(m.group(1), label)})", text)


def _with_le(old: str, label: str) -> str:
    return f"le, {label}" if "le" in [part.strip() for part in old.split(",")] else label


def select(text: str, metrics: Sequence[str], name: str, value: str, op: str = "=") -> str:
    """Add a matcher to every selector of the concept's own metrics."""
    safe = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    matcher = f'{name}{op}"{safe}"'
    for metric in metrics:
        pattern = re.compile(rf"(?<![\w:])({re.escape(metric)}(?:_bucket|_count|_sum)?)(?![\w:])(\{{)?")

        def put(match: re.Match[str]) -> str:
            return f"{match.group(1)}{{{matcher}, " if match.group(2) else f"{match.group(1)}{{{matcher}}}"

        text = pattern.sub(put, text)
    return text.replace(", }", "}")
