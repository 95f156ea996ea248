"""Adapters between the scoring boards and the product's public code; they decide nothing themselves."""

from __future__ import annotations

from typing import Any


def detect_batch(values, timestamps, train_lens):  # type: ignore[no-untyped-def]
    """``detector_board.py --batch``: the default detectors, fused, over whole series of one data set."""
    import numpy as np

    from aiops.core.plugins import build
    from aiops.core.ports import PluginContext
    from detectors.support.evaluation import score_ranges

    detector = build("detectors", "fusion", {}, PluginContext("board"))
    times = [np.round(np.asarray(t) * 1000).astype(np.int64) for t in timestamps]
    return score_ranges(detector, [np.asarray(v, float) for v in values], times)


def detect_streaming(values, timestamps, train_lens):  # type: ignore[no-untyped-def]
    """``detector_board.py --batch --causal``: the same detectors, refitted on what has been, never looking ahead."""
    import numpy as np

    from aiops.core.plugins import build
    from aiops.core.ports import PluginContext
    from detectors.support.streaming import stream_ranges

    detector = build("detectors", "fusion", {}, PluginContext("board"))
    times = [np.round(np.asarray(t) * 1000).astype(np.int64) for t in timestamps]
    return stream_ranges(detector, [np.asarray(v, float) for v in values], times)


def rank_causes(metrics, inject_time, topology, symptom=None, spans=None, logs=None):  # type: ignore[no-untyped-def]
    """``rca_board.py``: services by likelihood, with the metric that shows it; empty where nothing stands out."""
    import numpy as np

    from aiops.incidents.ranking import Case, LogRow, MetricRow, SpanRow, rank

    times = metrics.index.to_numpy(np.int64)
    step = int(np.median(np.diff(times[-10:])))
    onset = int(np.searchsorted(times, inject_time - step, side="right"))
    rows = [
        MetricRow(*column.split("|", 1), values=metrics[column].to_numpy(float))
        for column in metrics.columns
        if not column.startswith("entry|") or (symptom or {}).get("service") == "entry"
    ]
    span_rows, log_rows, minutes = [], [], np.empty(0, np.int64)
    if spans is not None and len(spans):
        minutes = np.sort(spans["time"].unique())
        for (service, operation, caller), part in spans.groupby(["service", "operation", "parent"], dropna=False):
            at = np.searchsorted(minutes, part["time"].to_numpy())
            own, wire, count = (np.full(len(minutes), np.nan) for _ in range(3))
            own[at], wire[at], count[at] = part["self_p50"], part["net_p50"], part["count"]
            caller = caller if isinstance(caller, str) else ""
            span_rows.append(SpanRow(service, operation, caller, own, wire, np.nan_to_num(count)))
    if logs is not None and len(logs):
        early = logs["time"] < inject_time - 5
        past, now = logs["time"][early].nunique(), logs["time"][~early].nunique()
        for (service, template), part in logs.groupby(["service", "template"]):
            old = part["time"] < inject_time - 5
            if past and now:
                log_rows.append(
                    LogRow(
                        service,
                        template,
                        before=part["count"][old].sum() / past,
                        after=part["count"][~old].sum() / now,
                        is_error=any(w in template.lower() for w in ("error", "exception", "fail", "timeout")),
                        steady=old.sum() >= 3 and old.sum() >= 0.8 * past,
                    )
                )
    case = Case(
        timestamps=times,
        onset=onset,
        metrics=rows,
        edges=[tuple(e) for e in (topology or {}).get("edges", [])],
        symptom=((symptom or {}).get("service", ""), (symptom or {}).get("metric", "")),
        spans=span_rows,
        span_times=minutes,
        logs=log_rows,
    )
    best = [(r.service, rows[r.metrics[0]].name if r.metrics else "") for r in rank(case).ranked]
    return [f"{service}|{metric}" if metric else service for service, metric in best]


def parse_logs(lines: list[str]) -> list[tuple[str, str]]:
    """``log_board.py``: (template id, template) a line; one source, no setting for any system."""
    from aiops.ingest.log_templates.miner import templates_of

    return templates_of(lines)


def plan_question(question: str, catalogue: list[dict[str, str]]) -> dict[str, object]:
    """The offline planner's PromQL, in the alert form where it has a condition."""
    from aiops.agent.catalogue import KnownCatalogue
    from aiops.agent.expressions import promql_of
    from aiops.agent.planner_offline import OfflinePlanner
    from aiops.core.principal import LOCAL
    from aiops.core.query import Question
    from aiops.core.series import MetricMetadata

    key = id(catalogue)
    if key not in _planners:
        known = KnownCatalogue(MetricMetadata(m["name"], m["type"], "", m["help"]) for m in catalogue)
        _planners[key] = (catalogue, OfflinePlanner(), known)
    _, planner, known = _planners[key]
    plan = planner.plan(Question(question, LOCAL, 1_700_000_000_000), known)
    promql = next((text for step in plan.steps if (text := promql_of(step))), None)
    return {"promql": promql, "sure": plan.sure, "candidates": list(plan.candidates)}


_planners: dict[int, tuple[object, Any, Any]] = {}
"""By catalogue, which is kept so that its id stays its own."""


def classify_intent(prompt: str) -> str:
    """The planner's intent, folded to the board's labels."""
    from aiops.agent.intents import classify_core

    return classify_core(prompt)


_PROMQL: dict[int, tuple] = {}  # type: ignore[type-arg]


def promql(series, query, start, end, step):  # type: ignore[no-untyped-def]
    """``promql_suite.py``: the engine over a fresh telemetry store in memory, one for each state of the data."""
    from aiops.core.errors import AiopsError
    from aiops.core.ports import Collected
    from aiops.core.principal import LOCAL
    from aiops.core.series import STALE_NAN, SampleBlock, labels_of
    from aiops.promql.engine import PromqlEngine
    from aiops.promql.wire import result_data
    from aiops.settings import PromqlSettings, StoreSettings
    from aiops.store.telemetry.database import TelemetryDatabase
    from aiops.store.telemetry.store import TelemetryStore

    held = _PROMQL.get(id(series))
    if held is None or held[0] is not series:
        for _, store, _ in _PROMQL.values():
            store.close()
        _PROMQL.clear()
        rows = []
        for item in series:
            samples = [(t, STALE_NAN if v == "stale" else v) for t, v in item["samples"] if not isinstance(v, dict)]
            if samples:
                rows.append((labels_of(item["labels"]), [t for t, _ in samples], [v for _, v in samples]))
        store = TelemetryStore(TelemetryDatabase(None, StoreSettings()))
        store.append(Collected(samples=SampleBlock.build(rows)))
        held = (series, store, PromqlEngine(store, PromqlSettings(experimental_functions=True)))
        _PROMQL[id(series)] = held
    engine = held[2]
    try:
        if step is None:
            time_ms = round(start * 1000)
            result = engine.instant(query, time_ms, LOCAL)
            data = result_data(result, time_ms)
        else:
            result = engine.range(query, round(start * 1000), round(end * 1000), round(step * 1000), LOCAL)
            data = result_data(result)
    except AiopsError as error:
        return {"status": "error", "error": error.message}
    return {"status": "success", "data": data, "warnings": list(result.warnings), "infos": list(result.infos)}
