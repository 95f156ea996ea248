"""Everything that a hostile or broken sender may do to one running service, and what it says then.

The tests of the first part share a service that is started once; the last of them restarts it and finds again
all that was acknowledged.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.chat_completions import Reply, Server, tool_call
from tests.e2e.process import Service, aiops, one_line, until
from tests.integration.servers import free_port
from tests.unit.ingest.encode import series, snappy, varint

WRITE = {"content-encoding": "snappy", "content-type": "application/x-protobuf"}
STALE_NAN = 0x7FF0000000000002
NAN = 0x7FF8000000000001
FOCUS_HEADER = (
    "BillingAccountId,BillingPeriodStart,BillingPeriodEnd,ChargePeriodStart,ChargePeriodEnd,"
    "ServiceName,EffectiveCost,BilledCost,BillingCurrency\n"
)
FOCUS_ROW = (
    "acme,2026-10-01T00:00:00Z,2026-11-01T00:00:00Z,2026-10-05T00:00:00Z,2026-10-06T00:00:00Z,Compute,12.5,12.5,USD\n"
)


def bits(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("bad"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def now_ms() -> int:
    return int(time.time() * 1000) // 1000 * 1000


def write(service: Service, plain: bytes, **headers: str) -> httpx.Response:
    return service.http.post("/api/v1/write", content=snappy(plain), headers={**WRITE, **headers})


def named(name: str, *samples: tuple[int, int], **labels: str) -> bytes:
    return series([("__name__", name), *sorted(labels.items())], samples)


def raw(service: Service, name: str, at_ms: int, window: str = "10m") -> list[list[Any]]:
    """Stored samples as (seconds, text), by a range selector."""
    found = service.query(f"{name}[{window}]", at_ms)
    return found[0]["values"] if found else []


def prometheus_error(reply: httpx.Response, status: int, kind: str = "bad_data") -> str:
    assert reply.status_code == status, reply.text
    body = reply.json()
    assert (body["status"], body["errorType"]) == ("error", kind)
    return str(body["error"])


def problem(reply: httpx.Response, status: int) -> str:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert body["status"] == status
    assert body["type"].startswith("urn:aiops:problem:")
    return str(body["detail"])


# ------------------------------------------------------------------ remote write


def test_snappy_that_is_cut_short(service: Service, now_ms: int) -> None:
    whole = snappy(named("cut", *((now_ms + i, bits(i)) for i in range(100))))
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        reply = service.http.post("/api/v1/write", content=whole[:length], headers=WRITE)
        assert "snappy" in prometheus_error(reply, 400)
    assert raw(service, "cut", now_ms) == []


def test_a_content_type_that_is_not_remote_write(service: Service) -> None:
    for changed in ({"content-type": "text/html"}, {"content-encoding": "br"}, {"content-type": ""}):
        prometheus_error(service.http.post("/api/v1/write", content=b"x", headers={**WRITE, **changed}), 415)
    newer = {"content-type": "application/x-protobuf;proto=io.prometheus.write.v3.Request"}
    assert "WriteRequest" in prometheus_error(write(service, b"", **newer), 415)
    problem(service.http.post("/v1/metrics", content=b"x", headers={"content-type": "text/html"}), 415)


def test_a_gigabyte_that_is_only_declared(service: Service) -> None:
    """By Content-Length, and by snappy's own header: refused before it is read or allocated."""
    address = httpx.URL(service.url)
    with socket.create_connection((address.host, address.port or 80), timeout=10) as connection:
        connection.sendall(
            b"POST /api/v1/write HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-protobuf\r\n"
            b"Content-Encoding: snappy\r\nContent-Length: 1073741824\r\n\r\n"
        )
        status = connection.recv(65536).split(b"\r\n", 1)[0]
    assert b" 413 " in status
    reply = service.http.post("/api/v1/write", content=varint(1 << 30) + b"\0" * 20, headers=WRITE)
    assert "1073741824" in prometheus_error(reply, 413)


def test_samples_out_of_order(service: Service, now_ms: int) -> None:
    times = [now_ms - 1000 * k for k in (10, 50, 30, 20, 40)]
    assert write(service, named("shuffled", *((t, bits(t / 1000)) for t in times))).status_code == 204
    assert write(service, named("shuffled", (now_ms - 60_000, bits(1.0)))).status_code == 204
    assert [t for t, _ in raw(service, "shuffled", now_ms)] == sorted(
        [(now_ms - 60_000) / 1000, *(t / 1000 for t in times)]
    )


def test_samples_from_the_far_future(service: Service, now_ms: int) -> None:
    body = named("ahead", (now_ms, bits(1.0)), (now_ms + 86_400_000 * 365, bits(2.0)))
    assert "future" in prometheus_error(write(service, body), 400)
    assert [v for _, v in raw(service, "ahead", now_ms)] == ["1"]


def test_samples_sent_twice(service: Service, now_ms: int) -> None:
    """The same bits are accepted; another value is refused once the rest is committed."""
    first = named("twice", (now_ms - 2000, bits(1.0)), (now_ms - 1000, bits(2.0)))
    assert write(service, first).status_code == 204
    assert write(service, first).status_code == 204
    mixed = named("twice", (now_ms - 1000, bits(9.0)), (now_ms, bits(3.0))) + named("beside", (now_ms, bits(4.0)))
    assert "duplicate sample for timestamp" in prometheus_error(write(service, mixed), 400)
    assert [v for _, v in raw(service, "twice", now_ms)] == ["1", "2", "3"]
    assert [v for _, v in raw(service, "beside", now_ms)] == ["4"]


def test_nan_and_stale_markers_are_kept(service: Service, now_ms: int) -> None:
    body = named("gap", (now_ms - 3000, bits(1.0)), (now_ms - 2000, NAN), (now_ms - 1000, STALE_NAN))
    assert write(service, body).status_code == 204
    assert write(service, body).status_code == 204, "NaN is equal to itself, bit by bit"
    assert service.query("gap", now_ms - 2000)[0]["value"][1] == "NaN"
    assert service.query("gap", now_ms) == [], "stale"
    assert [v for _, v in raw(service, "gap", now_ms)] == ["1", "NaN"]


def test_a_hundred_thousand_labels(service: Service, now_ms: int) -> None:
    """On one series they are too many; over a thousand series they are welcome."""
    labels = [("__name__", "wide"), *((f"l{i:06d}", "x") for i in range(100_000))]
    body = series(labels, [(now_ms, bits(1.0))]) + named("beside_wide", (now_ms, bits(1.0)))
    assert "100001 labels" in prometheus_error(write(service, body), 400)
    assert len(service.query("beside_wide", now_ms)) == 1
    many = b"".join(
        series([("__name__", "many"), ("i", str(i)), *((f"l{k:02d}", f"{i}") for k in range(98))], [(now_ms, bits(i))])
        for i in range(1000)
    )
    assert write(service, many).status_code == 204
    assert service.query("count(many)", now_ms)[0]["value"][1] == "1000"


def test_text_that_is_not_utf8(service: Service, now_ms: int) -> None:
    body = series([("__name__", "latin"), ("city", b"K\xf6ln")], [(now_ms, bits(1.0))]) + named(
        "utf8", (now_ms, bits(1))
    )
    assert "UTF-8" in prometheus_error(write(service, body), 400)
    assert service.query("latin", now_ms) == []
    assert len(service.query("utf8", now_ms)) == 1
    as_json = {"content-type": "application/json"}
    assert service.http.post("/v1/logs", content=b'{"resourceLogs": "\xff"}', headers=as_json).status_code == 400
    bad = service.http.post("/api/v1/ask", content=b'{"question": "\xff\xfe"}', headers=as_json)
    problem(bad, 422 if bad.status_code == 422 else 400)
    reply = service.http.get(f"{service.url}/api/v1/query?query=%ff%fe")
    prometheus_error(reply, 400)
    lone = service.http.post("/api/v1/ask", content=b'{"question": "\\ud800 disk?"}', headers=as_json)
    assert lone.status_code < 500, lone.text


def test_other_bodies_that_are_not_what_they_should_be(service: Service) -> None:
    as_json = {"content-type": "application/json"}
    for path in ("/api/v1/ask", "/api/v1/webhooks/alertmanager", "/api/v2/alerts"):
        for content in (b"", b"{", b"null", b"[[[[", b'{"question": 3}', b"[" * 100_000):
            reply = service.http.post(path, content=content, headers=as_json)
            assert reply.status_code in (400, 422), (path, content[:20], reply.status_code, reply.text)
            problem(reply, reply.status_code)
    problem(service.http.post("/api/v1/webhooks/nagios", content=b"{}"), 404)
    problem(service.http.get("/api/v1/incidents/none"), 404)
    problem(service.http.get("/nowhere"), 404)
    problem(service.http.put("/api/v1/ask"), 405)


# ------------------------------------------------------------------ PromQL


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("no_such_function(up)", 'unknown function with name "no_such_function"'),
        ("rate(up[5m]", "1:"),
        ("sum by (instance (up)", "1:"),
        ("up{job=", "1:"),
        ("", "no expression found"),
        ("up[5m] offset", "1:"),
        ("rate(up)", "expected type"),
    ],
)
def test_promql_that_is_wrong(service: Service, query: str, words: str) -> None:
    for path in ("query", "query_range"):
        window = {"start": "0", "end": "60", "step": "15"} if path == "query_range" else {}
        said = prometheus_error(service.http.get(f"/api/v1/{path}", params={"query": query, **window}), 400)
        assert words in said, said
        assert "parse error" in said, said


def test_parameters_that_are_wrong(service: Service) -> None:
    for parameters in ({"query": "up", "time": "yesterday"}, {"query": "up", "time": "1e400"}):
        prometheus_error(service.http.get("/api/v1/query", params=parameters), 400)
    for change in ({"step": "0"}, {"step": "-1"}, {"end": "0", "start": "10"}, {"step": "0.001"}, {"start": ""}):
        parameters = {"query": "up", "start": "0", "end": "86400", "step": "60", **change}
        prometheus_error(service.http.get("/api/v1/query_range", params=parameters), 400)
    prometheus_error(service.http.get("/api/v1/series"), 400)


# ------------------------------------------------------------------ costs


def test_a_bill_with_a_missing_column_is_not_imported(service: Service, tmp_path: Path) -> None:
    where = ("--url", service.url)
    good, bad = tmp_path / "good[1].csv", tmp_path / "bad.csv"
    good.write_text(FOCUS_HEADER + FOCUS_ROW)
    done = aiops(tmp_path, "cost", "import", str(good), *where)
    assert (done.returncode, done.stdout) == (0, "Imported 1 rows of good[1].csv.\n"), done.stderr
    cut = [",".join(c for i, c in enumerate(line.split(",")) if i != 6) for line in FOCUS_HEADER.splitlines()]
    bad.write_text("\n".join([*cut, FOCUS_ROW.replace("12.5,12.5", "99")]))
    said = one_line(aiops(tmp_path, "cost", "import", str(bad), *where))
    assert said.startswith("aiops: bad.csv lacks the column EffectiveCost."), "no path of the service's own"
    bad.write_text(FOCUS_HEADER + FOCUS_ROW.replace("12.5", "99") + FOCUS_ROW.replace("12.5", "much"))
    assert "much" in one_line(aiops(tmp_path, "cost", "import", str(bad), *where))
    for name in ("\0", "é" * 255, "x.parquet", "x.csv.gz", "../../x.csv"):
        problem(service.http.post("/api/v1/costs/import", params={"name": name}, content=b"\xff\xfe\x00"), 400)
    assert spent(service) == 12.5


def spent(service: Service) -> float:
    window = {"start_ms": 1_790_000_000_000, "end_ms": 1_795_000_000_000}
    return float(service.http.get("/api/v1/costs/summary", params=window).json()["total"])


# ------------------------------------------------------------------ at start


def test_a_data_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Root may write anywhere, but not below a regular file."""
    (tmp_path / "file").write_text("x")
    for command in (["serve", "--port", "0"], ["status"], ["ask", "disk?"], ["keys", "list"]):
        said = one_line(aiops(tmp_path, *command, "--data-dir", str(tmp_path / "file" / "data")))
        assert str(tmp_path / "file" / "data") in said


def test_a_port_in_use(tmp_path: Path, service: Service) -> None:
    port = str(httpx.URL(service.url).port)
    said = one_line(aiops(tmp_path, "serve", "--port", port, "--data-dir", str(tmp_path / "data")))
    assert port in said
    assert "in use" in said
    assert not (tmp_path / "data").exists(), "nothing is made before it is known that it can start"


def test_a_second_service_on_the_same_folder(tmp_path: Path, service: Service) -> None:
    said = one_line(aiops(tmp_path, "serve", "--port", str(free_port()), "--data-dir", str(service.data)), 3)
    assert str(service.process.pid) in said


# ------------------------------------------------------------------ after all that


def test_the_service_goes_on_and_keeps_what_it_acknowledged(service: Service, now_ms: int) -> None:
    def kept() -> list[object]:
        at = {name: [v for _, v in raw(service, name, now_ms)] for name in ("twice", "beside", "gap", "ahead", "utf8")}
        return [at, len(raw(service, "shuffled", now_ms)), service.query("count(many)", now_ms)[0]["value"][1],
                spent(service)]  # fmt: skip

    assert service.process.poll() is None
    detection = until(lambda: loaded(service, "detection"), 90)
    assert detection["state"] != "down", detection
    for level in ("error", "debug"):
        assert f'"level": "{level}"' not in service.log.read_text(), service.said()
    before = kept()
    assert before == [
        {"twice": ["1", "2", "3"], "beside": ["4"], "gap": ["1", "NaN"], "ahead": ["1"], "utf8": ["1"]}, 6, "1000", 12.5
    ]  # fmt: skip
    answer = service.ask("which hosts are low on disk?")
    assert answer["planner"] == "offline"
    service.restart()
    assert kept() == before
    assert service.ask("which hosts are low on disk?")["evidence"]


def loaded(service: Service, name: str) -> dict[str, Any]:
    """A component once it is more than about to load."""
    found = {c["name"]: c for c in service.http.get("/readyz").json()["components"]}[name]
    return found if found["detail"] or found["state"] != "starting" else {}


# ------------------------------------------------------------------ a Prometheus that fails


class FailingPrometheus:
    """Nothing listens until :meth:`listen`; then it answers HTML, or hangs where ``hanging`` is set."""

    def __init__(self) -> None:
        self.port = free_port()
        self.hanging = threading.Event()
        self.ending = threading.Event()
        self.asked = 0
        self._http: ThreadingHTTPServer | None = None

    def listen(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                self.rfile.read(int(self.headers.get("content-length") or 0))
                if outer.hanging.is_set():
                    outer.ending.wait(60)
                    return
                page = b"<html><body>Sign in to the corporate proxy</body></html>"
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.send_header("content-length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            do_POST = do_GET  # noqa: N815  (a name that http.server asks for)

            def log_message(self, *_: object) -> None:
                return

        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.ending.set()
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()


def test_a_prometheus_that_refuses_answers_html_or_hangs(tmp_path: Path, now_ms: int) -> None:
    source = FailingPrometheus()
    prod = {
        "plugin": "prometheus", "url": f"http://127.0.0.1:{source.port}", "timeout_s": 1.0, "interval_s": 0.5,
        "match": ['{job="node"}'],
    }  # fmt: skip
    config = {"detection": {"enabled": False}, "connectors": {"telemetry": {"prod": prod}}}
    service = Service(tmp_path, config)
    try:
        said = {"refuses": down(service)}
        assert "cannot be reached" in said["refuses"]
        source.listen()
        said["html"] = down(service)
        source.hanging.set()
        said["hangs"] = down(service)
        assert "did not answer" in said["hangs"]
        assert len(set(said.values())) == 3, said
        component = until(lambda: degraded(service))
        assert component["detail"], component
        assert write(service, named("still", (now_ms, bits(1.0)))).status_code == 204
        assert service.query("still", now_ms)[0]["value"][1] == "1"
        assert service.http.get("/readyz").status_code == 200, "it can still be written to and queried"
        assert "Traceback" not in service.said()
    finally:
        service.close()
        source.close()


def down(service: Service) -> str:
    """What the answer says of the source that is down."""
    answer = service.ask("which hosts are low on disk?")
    states = {e["state"] for e in answer["evidence"]}
    assert states <= {"source_down"}, answer
    assert answer["confidence"] < 0.5, answer
    assert not answer["sure"]
    text = str(answer["text"])
    assert "prod" in text, text
    assert "down" in text or "cannot be reached" in text or "did not answer" in text, text
    for figure in ("No host", "none below", "0 hosts"):
        assert figure not in text, text
    return text


def degraded(service: Service) -> dict[str, Any]:
    components = {c["name"]: c for c in service.http.get("/readyz").json()["components"]}
    found = components["source:prod"]
    return found if found["state"] == "degraded" else {}


# ------------------------------------------------------------------ an LLM that fails


def test_an_llm_that_answers_garbage_or_hangs(tmp_path: Path) -> None:
    replies: dict[str, Reply] = {
        "garbage": (200, "<html>not json</html>"),
        "prose": {"role": "assistant", "content": "Sure! Your disks are fine."},
        "broken": tool_call("Plan", "{not json"),
        "stranger": tool_call("Plan", {"steps": [{"kind": "metric", "promql": "no_such_metric"}], "confidence": 1}),
        "hangs": 30.0,
    }
    mode = ["garbage"]
    with Server(lambda number, body: replies[mode[0]]).running() as llm:
        service = Service(
            tmp_path,
            {"detection": {"enabled": False}, "agent": {"llm": {"timeout_s": 6.0}}},
            {"OPENAI_API_KEY": "sk-very-secret", "OPENAI_BASE_URL": llm.url},
        )
        try:
            until(lambda: service.query("node_filesystem_avail_bytes"))
            for name in replies:
                mode[0] = name
                asked = len(llm.requests)
                answer = service.ask("which hosts are low on disk?")
                assert len(llm.requests) > asked, name
                assert answer["planner"] == "offline", name
                assert answer["evidence"][0]["state"] in ("ok", "no_match"), (name, answer)
                assert "node_filesystem_avail_bytes" in answer["evidence"][0]["query"], (name, answer)
                said = [limit for limit in answer["limits"] if "LLM planner could not be used" in limit]
                assert said, (name, answer["limits"])
                assert "offline planner answered" in said[0]
                assert "sk-very-secret" not in json.dumps(answer)
            assert "sk-very-secret" not in service.log.read_text()
            assert "Traceback" not in service.said()
        finally:
            service.close()
