"""The Prometheus connector against loopback HTTP servers: right answers, wrong ones, none."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from aiops.core.errors import (
    AiopsError,
    ConfigError,
    Forbidden,
    InvalidInput,
    PermanentError,
    QueryError,
    TransientError,
)
from aiops.core.plugins import build
from aiops.core.ports import PluginContext
from aiops.core.principal import LOCAL, Principal, Role
from aiops.core.series import Matcher, MatchOp, ResultType
from aiops.promql.parse import inject_matchers
from connectors.telemetry.prometheus import PrometheusSource
from tests.loopback import Answer as Sent
from tests.loopback import Received, serving

NOW = 1_700_000_000_000
SHOP = Principal("key:shop", Role.VIEWER, (Matcher("team", MatchOp.EQUAL, "shop"),))
Reply = tuple[int, str, str]
Answer = Callable[[str, dict[str, list[str]]], Reply]


class Fake:
    """A server whose answers a test chooses; it keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []
        self.answer: Answer = lambda path, query: ok({"resultType": "vector", "result": []})
        self.url = ""

    def reply(self, request: Received) -> Sent:
        parts = urlsplit(request.path)
        query = {**parse_qs(parts.query), **parse_qs(request.body.decode())}
        self.asked.append((parts.path, query, request.headers))
        status, kind, body = self.answer(parts.path, query)
        return Sent(status, body.encode(), {"content-type": kind})


def ok(data: Any, **more: Any) -> Reply:
    return 200, "application/json", json.dumps({"status": "success", "data": data, **more})


def failed(status: int, kind: str, text: str) -> Reply:
    return status, "application/json", json.dumps({"status": "error", "errorType": kind, "error": text})


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    with serving(server.reply) as server.url:
        yield server


@pytest.fixture
def make() -> Iterator[Callable[..., PrometheusSource]]:
    made: list[PrometheusSource] = []

    def open_source(url: str, now: Callable[[], int] = lambda: NOW, **options: Any) -> PrometheusSource:
        context = PluginContext("prom", now, inject_matchers=inject_matchers)
        chosen = {"url": url, "timeout_s": 2, "match": ['{__name__=~".+"}'], **options}
        source = build("connectors.telemetry", "prometheus", chosen, context)
        assert isinstance(source, PrometheusSource)
        made.append(source)
        return source

    yield open_source
    for source in made:
        source.close()


def test_sends_the_text_verbatim(fake: Fake, make: Callable[..., PrometheusSource]) -> None:
    fake.answer = lambda path, query: ok(
        {"resultType": "vector", "result": [{"metric": {"__name__": "up", "job": "a"}, "value": [1.5, "NaN"]}]},
        warnings=["slow store"],
        infos=["a hint"],
    )
    source = make(fake.url, bearer_token="s3cret")
    text = "  sum( up{ job = 'a' } )  # mine"
    result = source.instant(text, 1500, LOCAL)
    path, query, headers = fake.asked[0]
    assert path == "/api/v1/query"
    assert query == {"query": [text], "time": ["1.5"], "timeout": ["2s"]}
    assert headers["authorization"] == "Bearer s3cret"
    assert result.type is ResultType.VECTOR
    assert result.block.labels == ((("__name__", "up"), ("job", "a")),)
    assert math.isnan(result.block.values[0])
    assert (result.warnings, result.infos, result.partial) == (("slow store",), ("a hint",), False)
    assert "s3cret" not in repr(source.options)


def test_reads_every_type_of_result(fake: Fake, make: Callable[..., PrometheusSource]) -> None:
    source = make(fake.url, username="u", password="p")
    fake.answer = lambda path, query: ok(
        {"resultType": "matrix", "result": [{"metric": {}, "values": [[0, "1"], [60.5, "+Inf"]]},
                                            {"metric": {"h": "1"}, "histograms": [[0, {}]]}]}
    )  # fmt: skip
    result = source.range("x", 0, 60_500, 60_500, LOCAL)
    assert result.block.ts.tolist() == [0, 60_500]
    assert result.block.values.tolist() == [1.0, math.inf]
    assert result.partial
    assert "histogram" in result.warnings[0]
    assert fake.asked[0][1] == {
        "query": ["x"], "start": ["0.0"], "end": ["60.5"], "step": ["60.5"], "timeout": ["2s"],
    }  # fmt: skip
    assert fake.asked[0][2]["authorization"].startswith("Basic ")
    fake.answer = lambda path, query: ok({"resultType": "scalar", "result": [1, "2.5"]})
    assert source.instant("2.5", 1000, LOCAL).block.values.tolist() == [2.5]
    fake.answer = lambda path, query: ok({"resultType": "string", "result": [1, "hi"]})
    assert source.instant("'hi'", 1000, LOCAL).text == "hi"


def test_limits_of_one_request_are_passed_on(fake: Fake, make: Callable[..., PrometheusSource]) -> None:
    fake.answer = lambda path, query: ok({"resultType": "scalar", "result": [1, "2.5"]})
    source = make(fake.url)
    source.limited(lookback_ms=90_000, timeout_s=0.5).instant("1", 1000, LOCAL)
    assert {k: fake.asked[-1][1][k] for k in ("lookback_delta", "timeout")} == {
        "lookback_delta": ["90000ms"], "timeout": ["0.5s"],
    }  # fmt: skip
    source.limited(timeout_s=60).range("1", 0, 1000, 1000, LOCAL)
    source.instant("1", 1000, LOCAL)
    for _, query, _ in fake.asked[-2:]:
        assert (query["timeout"], query.get("lookback_delta")) == (["2s"], None)


def test_what_a_server_leaves_out_is_told(fake: Fake, make: Callable[..., PrometheusSource]) -> None:
    """VictoriaMetrics says ``isPartial`` beside ``data``; Thanos warns."""
    found = {"resultType": "vector", "result": []}
    source = make(fake.url)
    fake.answer = lambda path, query: ok(found, isPartial=True)
    assert source.instant("up", 1000, LOCAL).partial
    fake.answer = lambda path, query: ok(found, warnings=["receive series from store-1: partial response: down"])
    result = source.instant("up", 1000, LOCAL)
    assert result.partial
    assert result.warnings == ("receive series from store-1: partial response: down",)


def test_scope_is_injected_or_refused(fake: Fake, make: Callable[..., PrometheusSource]) -> None:
    source = make(fake.url)
    source.instant("sum(up) / count(up offset 1m)", 0, SHOP)
    assert fake.asked[-1][1]["query"] == ['sum(up{team="shop"}) / count(up{team="shop"} offset 1m)']
    with pytest.raises(Forbidden, match="cannot be restricted"):
        source.instant("up anchored", 0, SHOP)
    any_team = Principal("k", Role.VIEWER, (Matcher("team", MatchOp.REGEX, ".*"),))
    source.instant("up", 0, any_team)
    assert fake.asked[-1][1]["query"] == ['up{team=~".*",team!=""}']
    fake.answer = lambda path, query: ok([])
    source.series((), 0, 1000, SHOP)
    source.label_values("job", [(Matcher("__name__", MatchOp.EQUAL, "up"),)], 0, 1000, SHOP)
    source.label_names((), 0, 1000, LOCAL)
    assert fake.asked[-3][1]["match[]"] == ['{team="shop"}']
    assert fake.asked[-2][0] == "/api/v1/label/job/values"
    assert fake.asked[-2][1]["match[]"] == ['{__name__="up",team="shop"}']
    assert "match[]" not in fake.asked[-1][1]
    bare = PrometheusSource(source.options, PluginContext("bare"))
    with pytest.raises(Forbidden, match="cannot enforce"):
        bare.instant("up", 0, SHOP)
    bare.close()


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (failed(400, "bad_data", "1:1: parse error"), QueryError, "parse error"),
        (failed(422, "execution", "many-to-many"), QueryError, "many-to-many"),
        (failed(503, "timeout", "query timed out"), QueryError, "timed out"),
        (failed(503, "unavailable", "tsdb not ready"), TransientError, "tsdb not ready"),
        ((502, "text/html", "<html>bad gateway</html>"), TransientError, "answered 502"),
        ((401, "text/html", "<html>login</html>"), PermanentError, "credentials"),
        ((404, "text/plain", "404 page not found"), PermanentError, "no Prometheus answer"),
        ((302, "text/html", ""), PermanentError, "no Prometheus answer"),
        ((200, "text/html", "<html>hello</html>"), PermanentError, "not Prometheus' JSON"),
        ((200, "application/json", "{"), PermanentError, "not Prometheus' JSON"),
        ((200, "application/json", "[]"), PermanentError, "not Prometheus' JSON"),
        (ok(None), PermanentError, "not Prometheus' JSON"),
        (ok({"resultType": "vector", "result": [{"value": "x"}]}), PermanentError, "not Prometheus' JSON"),
        (ok({"resultType": "cube", "result": []}), PermanentError, "not Prometheus' JSON"),
    ],
)
def test_bad_answers(
    fake: Fake, make: Callable[..., PrometheusSource], reply: Reply, error: type[AiopsError], words: str
) -> None:
    fake.answer = lambda path, query: reply
    source = make(fake.url)
    with pytest.raises(error, match=words) as caught:
        source.instant("up", 0, LOCAL)
    assert type(caught.value) is error
    assert "<html" not in str(caught.value)
    assert "\n" not in str(caught.value)
    if reply[0] != 400:
        with pytest.raises(AiopsError) as pulled:
            source.poll("")
        assert "<html" not in str(pulled.value)


def test_no_server_and_a_silent_one(make: Callable[..., PrometheusSource]) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{s.getsockname()[1]}"
        source = make(nowhere)
        for call in (lambda: source.instant("up", 0, LOCAL), lambda: source.poll("")):
            with pytest.raises(TransientError, match="cannot be reached"):
                call()
        s.listen()
        silent = make(nowhere, timeout_s=0.2)
        for call in (lambda: silent.instant("up", 0, LOCAL), lambda: silent.poll("")):
            with pytest.raises(TransientError, match=r"within 0\.2 s"):
                call()


def samples(path: str, query: dict[str, list[str]]) -> Reply:
    """A series with a sample every 30 s, at times 10 s past."""
    if path.endswith("metadata"):
        return ok({"x_total": [{"type": "counter", "help": "All x.", "unit": ""}]})
    text, end = query["query"][0], float(query["time"][0])
    length = int(text.rsplit("[", 1)[1].rstrip("s]"))
    first = math.floor((end - length - 10) / 30) * 30 + 10
    values = [[t, str(t)] for t in range(int(first), int(end) + 1, 30) if end - length <= t <= end]
    return ok({"resultType": "matrix", "result": [{"metric": {"__name__": "x_total"}, "values": values}]})


def test_pull_backfills_in_chunks_and_resumes(fake: Fake, make: Callable[..., PrometheusSource]) -> None:
    fake.answer = samples
    source = make(fake.url, backfill_s=3600, chunk_s=900, overlap_s=60, match=("x_total",), interval_s=7)
    assert source.interval_s == 7
    cursor, times, shares = "", [], []
    for _ in range(4):
        got = source.poll(cursor)
        cursor = got.cursor
        shares.append(got.done)
        times += got.samples.ts.tolist()
        if len(shares) == 2:
            source = make(fake.url, backfill_s=3600, chunk_s=900, overlap_s=60, match=("x_total",))
    assert shares == [0.25, 0.5, 0.75, 1.0]
    wanted = [t for t in range(NOW - 3_600_000, NOW + 1) if t % 30_000 == 10_000]
    assert sorted(set(times)) == wanted
    assert source.poll(cursor).done == 1.0
    assert fake.asked[-1][1]["query"] == ["x_total[60s]"]


def test_pull_brings_metadata_once_an_hour(fake: Fake, make: Callable[..., PrometheusSource]) -> None:
    fake.answer = samples
    now = [NOW]
    source = make(fake.url, lambda: now[0], backfill_s=60)
    first = source.poll("")
    assert [(m.name, m.type, m.help) for m in first.metadata] == [("x_total", "counter", "All x.")]
    assert source.poll(first.cursor).metadata == ()
    now[0] += 3_600_000
    assert source.poll(first.cursor).metadata != ()


def test_pull_asks_for_less_when_the_server_says_too_much(fake: Fake, make: Callable[..., PrometheusSource]) -> None:
    def limited(path: str, query: dict[str, list[str]]) -> Reply:
        if path.endswith("query") and int(query["query"][0].rsplit("[", 1)[1].rstrip("s]")) > 1000:
            return failed(422, "execution", "query processing would load too many samples into memory")
        return samples(path, query)

    fake.answer = limited
    source = make(fake.url, backfill_s=7200, chunk_s=3600, overlap_s=0)
    assert source.poll("").done == pytest.approx(0.125)
    fake.answer = lambda path, query: failed(422, "execution", "too many samples")
    with pytest.raises(PermanentError, match="will not give a minute"):
        source.poll("")


def test_a_foreign_cursor_is_refused(fake: Fake, make: Callable[..., PrometheusSource]) -> None:
    with pytest.raises(PermanentError, match="cursor"):
        make(fake.url).poll("gibberish")


def test_nothing_configured_to_pull(fake: Fake, make: Callable[..., PrometheusSource]) -> None:
    assert make(fake.url, match=()).poll("").done == 1.0
    assert fake.asked == []


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://user:pw@host", "nonsense"])
def test_wrong_urls_stop_the_start(url: str, make: Callable[..., PrometheusSource]) -> None:
    with pytest.raises(ConfigError) as caught:
        make(url)
    assert "pw" not in str(caught.value)


def test_metadata_keeps_to_the_scope(fake: Fake, make: Callable[..., PrometheusSource]) -> None:
    def answer(path: str, query: dict[str, list[str]]) -> Reply:
        if path.endswith("metadata"):
            return ok({"h": [{"type": "histogram"}], "secret": [{"type": "gauge"}], "none": []})
        return ok(["h_bucket"])

    fake.answer = answer
    source = make(fake.url)
    assert [m.name for m in source.metadata(LOCAL)] == ["h", "secret"]
    assert [m.name for m in source.metadata(SHOP)] == ["h"]


def test_history_goes_on_where_it_stopped(fake: Fake, make: Callable[..., PrometheusSource]) -> None:
    fake.answer = lambda path, query: ok({"resultType": "matrix", "result": []})
    source = make(fake.url, chunk_s=3600)
    start, end = NOW - 3 * 3_600_000, NOW
    first = next(source.history(start, end, ""))
    assert (first.cursor, first.done) == (str(start + 3_600_000), pytest.approx(1 / 3))
    fake.asked.clear()
    rest = list(source.history(start, end, first.cursor))
    assert [float(query["time"][0]) * 1000 for _, query, _ in fake.asked] == [start + 7_200_000, end]
    assert rest[-1].done == 1.0
    with pytest.raises(InvalidInput, match="pulls nothing"):
        next(make(fake.url, match=()).history(start, end, ""))
