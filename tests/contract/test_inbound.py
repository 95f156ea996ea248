"""Every inbound webhook parser, found by discovery."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiops.core.errors import Forbidden, InvalidInput
from aiops.core.plugins import build, discover, load
from aiops.core.ports import Inbound, InboundParser, PluginContext

NOW = 1_700_000_000_000
ALERT = {
    "status": "firing",
    "labels": {"alertname": "Slow", "service": "web", "severity": "page"},
    "annotations": {"summary": "p95 over 1 s"},
    "startsAt": "2023-11-14T22:10:00.123456789Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://prometheus/graph",
    "fingerprint": "abc",
}
BODIES: dict[str, bytes] = {
    "alertmanager": json.dumps({"version": "4", "status": "firing", "alerts": [ALERT]}).encode(),
    "deployment": json.dumps({"service": "web", "version": "1.2.3", "author": "alice"}).encode(),
}
BODIES |= {path.stem: path.read_bytes() for path in (Path(__file__).parent / "inbound").glob("*.json")}
NAMES = sorted(discover("connectors.inbound"))


@functools.cache
def made(name: str, **options: Any) -> InboundParser[Any]:
    parser = build("connectors.inbound", name, options, PluginContext(name, lambda: NOW))
    assert isinstance(parser, InboundParser)
    return parser


@pytest.mark.parametrize("name", NAMES)
def test_reads_its_body(name: str) -> None:
    found = made(name).parse(BODIES[name])
    assert isinstance(found, Inbound)
    assert found.alerts or found.changes or found.updates


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"null", b"7", b'"x"', b'{"alerts": 3}', b"[3]", b"[" * 100_000], ids=range(9)
)
def test_malformed_bodies_are_invalid_input(name: str, body: bytes) -> None:
    with pytest.raises(InvalidInput):
        made(name).parse(body)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    value=_json,
    key=st.sampled_from(
        [
            "labels",
            "annotations",
            "startsAt",
            "endsAt",
            "status",
            "generatorURL",
            "service",
            "time",
            "attributes",
            "link",
        ]
    ),
)
def test_any_json_gives_a_result_or_invalid_input(name: str, value: Any, key: str) -> None:
    for body in (value, {"alerts": [{**ALERT, key: value}]}, {"service": "a", key: value}, [{**ALERT, key: value}]):
        try:
            found = made(name).parse(json.dumps(body).encode())
        except InvalidInput:
            continue
        assert isinstance(found, Inbound)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, one in inner for path in paths(one, (*here, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), new=_json)
def test_its_body_with_any_one_thing_replaced_gives_a_result_or_invalid_input(
    name: str, data: st.DataObject, new: Any
) -> None:
    body = json.loads(BODIES[name])
    path = data.draw(st.sampled_from(paths(body)))
    try:
        found = made(name).parse(json.dumps(replaced(body, path, new)).encode())
    except InvalidInput:
        return
    assert all(a.starts_ms <= NOW and (a.ends_ms is None or a.starts_ms <= a.ends_ms <= NOW) for a in found.alerts)
    assert all(0 <= c.time_ms <= NOW for c in found.changes)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_secret_anyone_may_send_and_with_one_only_who_knows_it(name: str) -> None:
    body = BODIES[name]
    made(name).verify({}, body)
    signed = made(name, hmac_secret="s3cret")
    header = signed.options.hmac_header
    right = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    signed.verify({header.title(): f"sha256={right}"}, body)
    signed.verify({header: f"v1=00,v1={right}"}, body)
    for headers in ({}, {header: "sha256=00"}, {header: "ü"}, {"x-other": right}):
        with pytest.raises(Forbidden) as caught:
            signed.verify(headers, body)
        assert not caught.value.authenticated
    with pytest.raises(Forbidden):
        signed.verify({header: f"sha256={right}"}, body + b" ")
    bearer = made(name, bearer_token="t0ken")
    bearer.verify({"authorization": "Bearer t0ken"}, body)
    with pytest.raises(Forbidden):
        bearer.verify({"authorization": "Basic t0ken"}, body)
    token = made(name, token="t0ken")
    token.verify({token.options.token_header: "t0ken"}, body)
    with pytest.raises(Forbidden):
        token.verify({token.options.token_header: "t0ke"}, body)
    basic = made(name, basic_password="pa:ss")
    basic.verify({"Authorization": "Basic " + base64.b64encode(b"aiops:pa:ss").decode()}, body)
    for wrong in ("Basic !", "Bearer pa:ss", "Basic " + base64.b64encode(b"aiops:pass").decode()):
        with pytest.raises(Forbidden):
            basic.verify({"authorization": wrong}, body)
    assert "s3cret" not in repr(signed.options)
    assert "t0ken" not in repr(bearer.options)


def test_documented() -> None:
    for name in NAMES:
        assert len((load("connectors.inbound", name).__doc__ or "").split()) > 15
