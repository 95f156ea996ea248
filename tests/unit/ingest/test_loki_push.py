from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import cramjam
import logging_loki
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from aiops.core.errors import InvalidInput, LimitExceeded, TransientError
from aiops.core.ports import system_clock
from aiops.core.principal import LOCAL
from aiops.core.signals import LogQuery, LogRecord
from aiops.ingest import loki_push
from aiops.ingest.bodies import DecodeLimits, UnsupportedMedia
from aiops.settings import Settings, StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.unit.ingest.app import app_over, serving
from tests.unit.ingest.encode import chunk, snappy, text, varint

NOW = 1_790_000_000_000
NS = NOW * 10**6
JSON, PROTOBUF = "application/json", "application/x-protobuf"
LIMITS = DecodeLimits()


def entry(time_ns: int, line: str, **metadata: str) -> bytes:
    stamp = b"\x08" + varint(time_ns // 10**9) + b"\x10" + varint(time_ns % 10**9)
    pairs = b"".join(chunk(3, chunk(1, text(k)) + chunk(2, text(v))) for k, v in metadata.items())
    return chunk(2, chunk(1, stamp) + chunk(2, text(line)) + pairs)


def stream(labels: str, *entries: bytes) -> bytes:
    return chunk(1, chunk(1, text(labels)) + b"".join(entries) + b"\x18\x07")


def as_json(labels: dict[str, str], *values: list[object]) -> bytes:
    return json.dumps({"streams": [{"stream": labels, "values": list(values)}]}).encode()


def read(body: bytes, kind: str = PROTOBUF, encoding: str = "") -> tuple[LogRecord, ...]:
    return loki_push.decode(body, kind, encoding, LIMITS).collected.logs


def test_both_forms_say_the_same() -> None:
    labels = '{app="web", zone="a\\"b"}'
    packed = snappy(stream(labels, entry(NS + 1, "hello", user="u"), entry(NS + 2, "bye")))
    plain = as_json(
        {"app": "web", "zone": 'a"b'}, [str(NS + 1), "hello", {"user": "u"}], [str(NS + 2), "bye"]
    )  # fmt: skip
    wanted = read(packed)
    first = wanted[0]
    assert first.resource == (("app", "web"), ("service.name", "web"), ("zone", 'a"b'))
    assert (first.time_unix_nano, first.body.raw, first.attributes, first.service) == (
        NS + 1, "hello", (("user", "u"),), "web",
    )  # fmt: skip
    assert read(packed, PROTOBUF, "snappy") == read(gzip.compress(packed), PROTOBUF, "gzip") == wanted
    assert read(plain, JSON) == read(gzip.compress(plain), JSON, "gzip") == wanted
    assert read(bytes(cramjam.zstd.compress(plain)), "application/json; charset=utf-8", "zstd") == wanted
    assert read(snappy(plain), JSON, "snappy") == wanted


@pytest.mark.parametrize(
    ("line", "labels", "metadata", "severity", "word"),
    [
        ("x", {"level": "warn"}, {}, 13, "warn"),
        ("x", {"level": "info"}, {"detected_level": "ERROR"}, 17, "ERROR"),
        ("level=error msg=no", {}, {}, 17, "error"),
        ('{"a": 1, "level":"Fatal"}', {}, {}, 21, "Fatal"),
        ("levels of error=none", {}, {}, 0, ""),
        ("level=high", {}, {}, 0, ""),
        ("x", {"level": "odd"}, {}, 0, "odd"),
    ],
)
def test_the_level_comes_from_metadata_labels_or_the_line(
    line: str, labels: dict[str, str], metadata: dict[str, str], severity: int, word: str
) -> None:
    (record,) = read(as_json({"app": "a", **labels}, [str(NS), line, metadata]), JSON)
    assert (record.severity_number, record.severity_text) == (severity, word)


def test_the_service_and_the_trace_are_found() -> None:
    meta = {"traceID": "AB" * 16, "span_id": "cd" * 8}
    (record,) = read(as_json({"job": "j", "container": "c"}, [str(NS), "x", meta]), JSON)
    assert (record.service, record.trace_id, record.span_id) == ("c", "ab" * 16, "cd" * 8)
    (other,) = read(as_json({"zone": "z"}, [str(NS), "x", {"trace_id": "no hex"}]), JSON)
    assert (other.service, other.trace_id) == ("", "")


def test_what_cannot_be_kept_is_counted_and_the_rest_kept() -> None:
    many = "{" + ", ".join(f'l{i}="x"' for i in range(200)) + "}"
    body = snappy(
        stream('{a="b"}', entry(NS, "ok"), entry(0, "timeless"))
        + stream("{}", entry(NS, "x")) + stream(many, entry(NS, "x"), entry(NS, "y"))
    )  # fmt: skip
    got = loki_push.decode(body, PROTOBUF, "", LIMITS)
    assert [r.body.raw for r in got.collected.logs] == ["ok"]
    assert got.rejected == 4
    assert "at least one label pair is required per stream" in got.reason


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", PROTOBUF),
        (snappy(b"\xff"), PROTOBUF),
        (snappy(stream("app=web", entry(NS, "x"))), PROTOBUF),
        (snappy(stream('{app=web}', entry(NS, "x"))), PROTOBUF),
        (snappy(stream('{app="web" zone="a"}', entry(NS, "x"))), PROTOBUF),
        (b"", JSON),
        (b"[]", JSON),
        (b'{"streams": 3}', JSON),
        (b'{"streams": [{"stream": {"a": 1}, "values": []}]}', JSON),
        (as_json({"a": "b"}, [NS, "x"]), JSON),
        (as_json({"a": "b"}, [str(NS), 3]), JSON),
        (as_json({"a": "b"}, ["-1", "x"]), JSON),
        (as_json({"a": "b"}, [str(NS), "x", {"k": 1}]), JSON),
    ],
)  # fmt: skip
def test_bad_bodies_are_refused(body: bytes, kind: str) -> None:
    with pytest.raises(InvalidInput):
        read(body, kind)


def test_limits_hold_for_every_encoding() -> None:
    small = DecodeLimits(max_bytes=1000)
    plain = as_json({"a": "b"}, [str(NS), "x" * 5000])
    for body, encoding in ((plain, ""), (gzip.compress(plain), "gzip"), (snappy(plain), "snappy")):
        with pytest.raises(LimitExceeded):
            loki_push.decode(body, JSON, encoding, small)
    with pytest.raises(UnsupportedMedia):
        loki_push.decode(plain, JSON, "br", LIMITS)


@given(st.binary(max_size=200), st.sampled_from([JSON, PROTOBUF]), st.sampled_from(["", "gzip", "snappy", "zstd"]))
def test_any_bytes_are_decoded_or_refused(body: bytes, kind: str, encoding: str) -> None:
    for given_body in (body, snappy(body)):
        try:
            read(given_body, kind, encoding)
        except (InvalidInput, LimitExceeded):
            continue


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,4}", fullmatch=True), st.text(min_size=1, max_size=6), min_size=1))
def test_labels_are_read_back(labels: dict[str, str]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

    shown = "{" + ", ".join(f"{k}={quoted(v)}" for k, v in labels.items()) + "}"
    assert dict(loki_push.parse_labels(shown)) == labels


# ------------------------------------------------------------------ the route


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TelemetryStore]:
    built = TelemetryStore(TelemetryDatabase(tmp_path / "t.duckdb", StoreSettings(), lambda: NOW))
    yield built
    built.close()


@pytest.fixture
def client(store: TelemetryStore) -> TestClient:
    return TestClient(app_over(store, Settings(), lambda: NOW), base_url="http://127.0.0.1")


PUSH = "/loki/api/v1/push"


def lines(store: TelemetryStore) -> list[str]:
    return [r.body.raw for r in store.logs(LogQuery(NOW - 10**6, NOW + 10**6), LOCAL)]


def test_a_push_is_stored_once(client: TestClient, store: TelemetryStore) -> None:
    body = snappy(stream('{app="web"}', entry(NS, "same"), entry(NS, "same")))
    for _ in range(3):
        answer = client.post(PUSH, content=body, headers={"content-type": PROTOBUF})
        assert (answer.status_code, answer.content) == (204, b"")
    assert lines(store) == ["same", "same"]


def test_errors_are_plain_text(client: TestClient, store: TelemetryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = client.post(PUSH, content=b"{", headers={"content-type": JSON})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    old = as_json({"a": "b"}, ["1", "ancient"], [str(NS), "fresh"])
    answer = client.post(PUSH, content=old, headers={"content-type": JSON})
    assert (answer.status_code, "out of bounds" in answer.text) == (400, True)
    assert lines(store) == ["fresh"]

    def full(*args: object, **rest: object) -> None:
        raise TransientError("The disk is full.", retry_after_s=30)

    monkeypatch.setattr(store, "append", full)
    answer = client.post(PUSH, content=as_json({"a": "b"}, [str(NS), "x"]), headers={"content-type": JSON})
    assert (answer.status_code, answer.headers["retry-after"], answer.text) == (503, "30", "The disk is full.\n")


def test_a_real_logging_handler_is_understood(tmp_path: Path) -> None:
    built = TelemetryStore(TelemetryDatabase(tmp_path / "t.duckdb", StoreSettings()))
    logger = logging.getLogger("test.loki")
    logger.propagate = False
    with serving(app_over(built, Settings(), system_clock)) as url:
        handler = logging_loki.LokiHandler(url=f"{url}{PUSH}", tags={"app": "py"}, version="1")
        logger.addHandler(handler)
        logger.error("it broke")
        logger.removeHandler(handler)
        handler.emitter.close()
    now = system_clock()
    (found,) = built.logs(LogQuery(now - 60_000, now + 60_000), LOCAL)
    assert (found.body.raw, found.service, found.severity_number) == ("it broke", "py", 17)
    built.close()
