"""Our HTTP API beside a real Prometheus': the same requests over the same samples, the same status and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from aiops.core.ports import Collected
from aiops.core.series import SampleBlock, labels_of
from tests.integration.promql_worlds import remote_write
from tests.integration.servers import start_prometheus
from tests.integration.test_prometheus_clients import serving

pytestmark = pytest.mark.server("prometheus")
START = 1_700_000_100_000
COUNT = 80
END = START // 1000 + COUNT * 15 - 8
WINDOW = {"start": START // 1000, "end": END}
Pairs = list[tuple[str, str]]


def block() -> SampleBlock:
    ts = START + np.arange(COUNT, dtype=np.int64) * 15_000 + 3_000
    steps = np.arange(COUNT, dtype=float)
    rows = [(labels_of({"__name__": "c_total", "zone": zone}), ts, steps * k) for k, zone in enumerate(("x", "y"), 1)]
    values = [0.1, -0.0, 1e21, 1e-7, 123456789.125, 1 / 3, np.nan, np.inf, -np.inf, 5e-324, 1.7976931348623157e308]
    rows += [
        (labels_of({"__name__": "odd", "n": str(i), "quote": 'a"b\\c\n<é>'}), ts, np.full(COUNT, value))
        for i, value in enumerate(values)
    ]
    return SampleBlock.build(rows)


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(ours, a real Prometheus)."""
    prometheus = start_prometheus(tmp_path_factory.mktemp("api"))
    try:
        remote_write(prometheus.url, block())
        with serving(Path(tmp_path_factory.mktemp("service")), Collected(samples=block()), END * 1000) as url:
            yield url, prometheus.url
    finally:
        prometheus.stop()


GOOD: list[tuple[str, dict[str, Any]]] = [
    ("query", {"query": "odd", "time": END}),
    ("query", {"query": "odd * 1", "time": f"{END}.123"}),
    ("query", {"query": "c_total", "time": "2023-11-14T22:33:20Z"}),
    ("query", {"query": "1", "time": END}),
    ("query", {"query": "1.5e300 * 1e300", "time": END}),
    ("query", {"query": "'a\"b'", "time": END}),
    ("query", {"query": "c_total[1m]", "time": END}),
    ("query", {"query": "odd[30s]", "time": END}),
    ("query", {"query": "nothing", "time": END}),
    ("query", {"query": "nothing[5m]", "time": END}),
    ("query", {"query": "sort_desc(c_total)", "time": END}),
    ("query", {"query": "topk(1, c_total)", "time": END, "timeout": "30s"}),
    ("query", {"query": "c_total", "time": "1"}),
    ("query_range", {"query": "c_total", **WINDOW, "step": 60}),
    ("query_range", {"query": "odd", "start": END - 60, "end": END, "step": "15s"}),
    ("query_range", {"query": "rate(c_total[1m])", **WINDOW, "step": "1m"}),
    ("query_range", {"query": "1", "start": END - 30, "end": END, "step": "0.5"}),
    ("query_range", {"query": "time()", "start": END - 30.5, "end": END, "step": 10}),
    ("query_range", {"query": "nothing", **WINDOW, "step": 60}),
    ("query_range", {"query": "c_total", "start": END, "end": END, "step": 60}),
    ("series", {"match[]": "c_total", **WINDOW}),
    ("series", {"match[]": ["c_total", 'odd{n=~"1|2"}'], **WINDOW}),
    ("series", {"match[]": '{zone="x"}', **WINDOW}),
    ("series", {"match[]": "nothing", **WINDOW}),
    ("labels", WINDOW),
    ("labels", {"match[]": "c_total", **WINDOW}),
    ("labels", {"match[]": ["nothing"], **WINDOW}),
    ("label/zone/values", WINDOW),
    ("label/__name__/values", WINDOW),
    ("label/n/values", {"match[]": 'odd{n=~"[0-3]"}', **WINDOW}),
    ("label/none/values", WINDOW),
    ("metadata", {}),
    ("metadata", {"metric": "nothing"}),
    ("format_query", {"query": "sum by(zone)(rate(c_total{zone!='x'}[5m]))"}),
    ("query_exemplars", {"query": "c_total", **WINDOW}),
    ("rules", {}),
    ("rules", {"type": "alert"}),
    ("alerts", {}),
    ("alertmanagers", {}),
]
BAD: list[tuple[str, dict[str, Any]]] = [
    ("query", {"query": "sum(", "time": END}),
    ("query", {"query": "", "time": END}),
    ("query", {}),
    ("query", {"query": "nosuch(c_total)", "time": END}),
    ("query", {"query": "c_total + on () odd", "time": END}),
    ("query", {"query": "1", "time": "soon"}),
    ("query", {"query": "1", "time": END, "timeout": "x"}),
    ("query_range", {"query": "sum(", **WINDOW, "step": 60}),
    ("query_range", {"query": "c_total[1m]", **WINDOW, "step": 60}),
    ("query_range", {"query": "'a'", **WINDOW, "step": 60}),
    ("query_range", {"query": "1", "start": END, "end": START // 1000, "step": 60}),
    ("query_range", {"query": "1", **WINDOW, "step": 0}),
    ("query_range", {"query": "1", **WINDOW, "step": "-1s"}),
    ("query_range", {"query": "1", **WINDOW}),
    ("query_range", {"query": "1", "end": END, "step": 1}),
    ("query_range", {"query": "1", "start": 0, "end": END, "step": 1}),
    ("query_range", {"query": "topk(NaN, c_total)", **WINDOW, "step": 60}),
    ("series", WINDOW),
    ("series", {"match[]": "sum(c_total)", **WINDOW}),
    ("series", {"match[]": "{}", **WINDOW}),
    ("series", {"match[]": "c_total", "start": "x"}),
    ("labels", {"match[]": "sum(", **WINDOW}),
    ("metadata", {"limit": "x"}),
    ("format_query", {"query": "sum("}),
    ("rules", {"type": "x"}),
]


def ask(url: str, method: str, path: str, parameters: dict[str, Any]) -> httpx.Response:
    arguments = {"params" if method == "GET" else "data": parameters}
    return httpx.request(method, f"{url}/api/v1/{path}", timeout=20, trust_env=False, **arguments)  # type: ignore[arg-type]


def comparable(path: str, body: Any) -> Any:
    """Without what has no order or is a time of the server."""
    data = body["data"]
    if isinstance(data, dict) and data.get("resultType") in ("vector", "matrix") and path == "query":
        data["result"].sort(key=lambda row: json.dumps(row["metric"], sort_keys=True))
    return body


def methods(path: str) -> tuple[str, ...]:
    posts = ("query", "query_range", "series", "labels", "format_query", "query_exemplars")
    return ("GET", "POST") if path in posts else ("GET",)


def test_same_answers(urls: tuple[str, str]) -> None:
    wrong = []
    for path, parameters in GOOD:
        for method in methods(path):
            ours, theirs = (ask(url, method, path, parameters) for url in urls)
            assert theirs.status_code == 200, (path, parameters, theirs.text)
            mine, real = comparable(path, ours.json()), comparable(path, theirs.json())
            if (ours.status_code, mine) != (200, real):
                wrong.append(f"{method} {path} {parameters}\n ours {ours.text[:400]}\n real {theirs.text[:400]}")
            elif json.dumps(mine, sort_keys=True) != json.dumps(real, sort_keys=True):
                wrong.append(f"{method} {path} {parameters}: numbers are written differently")
            assert ours.headers["content-type"].startswith("application/json")
    assert not wrong, "\n".join(wrong)


def test_same_refusals(urls: tuple[str, str]) -> None:
    wrong = []
    for path, parameters in BAD:
        for method in methods(path):
            ours, theirs = (ask(url, method, path, parameters) for url in urls)
            real = theirs.json()
            assert real["status"] == "error", (path, parameters)
            mine = ours.json()
            if (ours.status_code, mine.get("errorType")) != (theirs.status_code, real["errorType"]):
                wrong.append(
                    f"{method} {path} {parameters}\n ours {ours.status_code} {ours.text[:300]}"
                    f"\n real {theirs.status_code} {theirs.text[:300]}"
                )
    assert not wrong, "\n".join(wrong)
