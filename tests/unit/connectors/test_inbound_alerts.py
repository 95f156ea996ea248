"""Alerts of clouds and monitoring services: what fires, what ends it, what it is called."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from aiops.core.errors import ConfigError, Forbidden, InvalidInput
from aiops.core.incident import Alert, Severity
from aiops.core.plugins import build
from aiops.core.ports import InboundParser, PluginContext

NOW = 1_700_000_000_000
STARTED = 1_699_999_500_000
BODIES = Path(__file__).parents[2] / "contract" / "inbound"


def parser(name: str, /, **options: Any) -> InboundParser[Any]:
    built = build("connectors.inbound", name, options, PluginContext(name, lambda: NOW))
    assert isinstance(built, InboundParser)
    return built


def body(name: str) -> dict[str, Any]:
    found = json.loads((BODIES / f"{name}.json").read_text())
    assert isinstance(found, dict)
    return found


def read(name: str, value: Any, /, **options: Any) -> Alert:
    (alert,) = parser(name, **options).parse(json.dumps(value).encode()).alerts
    return alert


def ends(name: str, firing: Any, over: Any, /, **options: Any) -> Alert:
    """The ending alert, having checked that it is the firing one's."""
    first, last = read(name, firing, **options), read(name, over, **options)
    assert first.firing
    assert not last.firing
    assert first.fingerprint == last.fingerprint
    return last


def test_azure() -> None:
    sent = body("azure_monitor")
    alert = read("azure_monitor", sent)
    assert (alert.name, alert.service, alert.severity) == ("cpu-high", "web-1", Severity.CRITICAL)
    assert alert.starts_ms == STARTED + 123
    notes = {k: v.raw for k, v in alert.annotations}
    assert notes["condition"] == "Percentage CPU GreaterThan 80, was 93.2"
    assert dict(alert.labels)["team"] == "shop"
    essentials = {**sent["data"]["essentials"], "monitorCondition": "Resolved", "severity": "Sev4"}
    essentials["resolvedDateTime"] = "2023-11-14T22:10:00Z"
    over = ends("azure_monitor", sent, {"data": {**sent["data"], "essentials": essentials}})
    assert over.ends_ms == STARTED + 300_000


def test_azure_has_an_alert_for_each_target() -> None:
    sent = body("azure_monitor")
    sent["data"]["essentials"]["alertTargetIDs"] = ["/a/web-1", "/a/web-2"]
    alerts = parser("azure_monitor").parse(json.dumps(sent).encode()).alerts
    assert [a.service for a in alerts] == ["web-1", "web-2"]
    assert alerts[0].fingerprint != alerts[1].fingerprint


def test_google() -> None:
    sent = body("google_monitoring")
    alert = read("google_monitoring", sent)
    assert (alert.name, alert.service, alert.severity) == ("CPU high", "web-1", Severity.CRITICAL)
    assert alert.starts_ms == STARTED
    assert dict(alert.labels)["tier"] == "web"
    closed = {**sent["incident"], "state": "closed", "ended_at": STARTED // 1000 + 60, "incident_id": "other"}
    assert ends("google_monitoring", sent, {"incident": closed}).ends_ms == STARTED + 60_000


@pytest.mark.parametrize(
    ("changes", "firing", "severity"),
    [
        ({}, True, Severity.CRITICAL),
        ({"transition": "Re-Triggered", "priority": "P5"}, True, Severity.INFO),
        ({"transition": "Warn", "priority": "null"}, True, Severity.WARNING),
        ({"transition": "No data", "priority": ""}, True, Severity.CRITICAL),
        ({"transition": "Recovered", "title": "[Recovered on {service:web}] p95 latency is high"}, False, None),
    ],
)
def test_datadog(changes: dict[str, str], firing: bool, severity: Severity | None) -> None:
    sent = body("datadog")
    alert = read("datadog", {**sent, **changes})
    assert alert.firing is firing
    assert alert.name == "p95 latency is high"
    assert alert.service == "web"
    assert alert.fingerprint == read("datadog", sent).fingerprint
    assert severity is None or alert.severity is severity


def test_datadog_tells_scopes_apart() -> None:
    sent = body("datadog")
    other = read("datadog", {**sent, "scope": "service:cart,env:prod"})
    assert other.fingerprint != read("datadog", sent).fingerprint
    assert other.service == "cart"


def test_generic_json_by_default_names() -> None:
    sent = body("generic_json")
    alert = read("generic_json", sent)
    assert (alert.name, alert.service, alert.severity) == ("disk full", "db", Severity.CRITICAL)
    assert ends("generic_json", sent, {**sent, "status": "OK", "ends_at": (NOW - 1000) / 1000}).ends_ms == NOW - 1000


def test_generic_json_by_a_mapping() -> None:
    """The shape of an uptime checker that is nobody's in particular."""
    options = {
        "alerts": "events[?kind=='check']", "name": "check.title", "status": "check.state", "resolved": ["up"],
        "labels": {"service": "check.tags.app", "port": "check.port"}, "identity": "check.id",
        "starts": "check.since", "expires_s": 600,
    }  # fmt: skip
    check = {"title": "tcp", "state": "down", "tags": {"app": "cart"}, "port": 443, "id": 9, "since": STARTED / 1000}
    sent = {"events": [{"kind": "noise"}, {"kind": "check", "check": check}]}
    alert = read("generic_json", sent, **options)
    assert (alert.name, alert.service, dict(alert.labels)["port"]) == ("tcp", "cart", "443")
    assert (alert.starts_ms, alert.expires_ms) == (STARTED, NOW + 600_000)
    over = {"events": [{"kind": "check", "check": {**check, "state": "UP", "title": "tcp again"}}]}
    assert ends("generic_json", sent, over, **options).expires_ms is None
    with pytest.raises(InvalidInput, match="check.title"):
        read("generic_json", {"events": [{"kind": "check"}]}, **options)


def test_generic_json_refuses_a_wrong_expression_at_the_start() -> None:
    with pytest.raises(ConfigError, match="JMESPath"):
        parser("generic_json", name="a[")


def test_cloudwatch_by_sns() -> None:
    sent = body("cloudwatch")
    alert = read("cloudwatch", sent)
    assert (alert.name, alert.service, alert.severity) == ("web-cpu", "i-0abc", Severity.CRITICAL)
    assert alert.starts_ms == STARTED
    message = json.loads(sent["Message"])
    over = json.dumps({**message, "NewStateValue": "OK", "StateChangeTime": "2023-11-14T22:10:00.000+0000"})
    assert ends("cloudwatch", sent, {**sent, "Message": over}).ends_ms == STARTED + 300_000
    unknown = {**sent, "Message": json.dumps({**message, "NewStateValue": "INSUFFICIENT_DATA"})}
    assert parser("cloudwatch").parse(json.dumps(unknown).encode()).alerts == ()


def test_cloudwatch_by_eventbridge() -> None:
    metric = {"namespace": "AWS/Lambda", "name": "Errors", "dimensions": {"FunctionName": "resize"}}
    event = {
        "detail-type": "CloudWatch Alarm State Change", "account": "1", "region": "eu-central-1",
        "detail": {
            "alarmName": "resize-errors",
            "state": {"value": "ALARM", "reason": "Threshold Crossed", "timestamp": "2023-11-14T22:05:00.000+0000"},
            "configuration": {"metrics": [{"metricStat": {"metric": metric}}], "description": ""},
        },
    }  # fmt: skip
    alert = read("cloudwatch", event)
    assert (alert.service, alert.starts_ms, alert.summary.raw) == ("resize", STARTED, "Threshold Crossed")


class Amazon:
    """Signs as SNS does."""

    def __init__(self, folder: Path) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
        now = datetime.now(UTC)
        made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self.key.public_key())
        made = made.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
        self.file = folder / "sns.pem"
        self.file.write_bytes(made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def signed(self, message: dict[str, Any], version: str) -> bytes:
        names = ("Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
        text = "".join(f"{n}\n{message[n]}\n" for n in names if n in message)
        algorithm = hashes.SHA256() if version == "2" else hashes.SHA1()
        signature = base64.b64encode(self.key.sign(text.encode(), padding.PKCS1v15(), algorithm)).decode()
        return json.dumps({**message, "Signature": signature, "SignatureVersion": version}).encode()


@pytest.mark.parametrize("version", ["1", "2"])
def test_sns_signatures(tmp_path: Path, version: str) -> None:
    amazon, sent = Amazon(tmp_path), body("cloudwatch")
    checked = parser("cloudwatch", topic_arns=[sent["TopicArn"]], certificate_file=str(amazon.file))
    good = amazon.signed(sent, version)
    checked.verify({}, good)
    for bad in (
        good.replace(b"92.1", b"12.1"),
        json.dumps({**sent, "SignatureVersion": version}).encode(),
        amazon.signed({**sent, "TopicArn": "arn:aws:sns:eu-central-1:666:alarms"}, version),
        b"{}", b"[]", b"\xff", b"[" * 100_000,
    ):  # fmt: skip
        with pytest.raises(Forbidden):
            checked.verify({}, bad)


@pytest.mark.parametrize(
    "url",
    [
        "https://sns.eu-central-1.amazonaws.com.example.com/x.pem",
        "http://sns.eu-central-1.amazonaws.com/x.pem",
        "https://example.com/sns.eu-central-1.amazonaws.com.pem",
        "https://sns.eu-central-1.amazonaws.com@example.com/x.pem",
        "https://sns.eu-central-1.amazonaws.com:8443/x.pem",
        "file:///etc/passwd",
        "",
    ],
)
def test_certificates_come_from_amazon_only(url: str) -> None:
    sent = {**body("cloudwatch"), "SigningCertURL": url}
    with pytest.raises(Forbidden):
        parser("cloudwatch", topic_arns=[sent["TopicArn"]]).verify({}, json.dumps(sent).encode())


def test_a_subscription_is_confirmed_for_listed_topics_at_amazon_only() -> None:
    topic = "arn:aws:sns:eu-central-1:1:alarms"
    message = {"Type": "SubscriptionConfirmation", "TopicArn": topic, "SubscribeURL": "https://example.com/?confirm"}
    with pytest.raises(InvalidInput, match="topic_arns"):
        parser("cloudwatch").parse(json.dumps(message).encode())
    with pytest.raises(InvalidInput, match="Amazon"):
        parser("cloudwatch", topic_arns=[topic]).parse(json.dumps(message).encode())
