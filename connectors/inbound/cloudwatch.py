"""Alarms from Amazon CloudWatch, by SNS."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from aiops.core.errors import AiopsError, Forbidden, InvalidInput
from aiops.core.incident import Severity, severity_named
from aiops.core.ports import Inbound, InboundParser, PluginContext
from connectors import payloads
from connectors.http import client
from connectors.signatures import SenderOptions, check_sender

log = logging.getLogger(__name__)

_AMAZON = re.compile(r"sns\.[a-z]{2}(-[a-z]+)+-\d\.amazonaws\.com(\.cn)?")
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}


class CloudWatchOptions(SenderOptions):
    """``topic_arns`` are the SNS topics to take messages from: with them each message's SNS signature is checked
    and a subscription is confirmed. ``certificate_file`` (PEM) is used instead of fetching Amazon's.
    """

    topic_arns: tuple[str, ...] = ()
    certificate_file: Path | None = None
    severity: str = "warning"
    """Of an alarm whose name and description hold no word of severity."""


class CloudWatch(InboundParser[CloudWatchOptions]):
    """An alarm's SNS notification over HTTPS, or EventBridge's ``CloudWatch Alarm State Change`` event.

    ``ALARM`` fires, ``OK`` ends; ``INSUFFICIENT_DATA`` changes nothing. The signature is SNS' own, version 1 or 2
    (https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html).
    """

    Options = CloudWatchOptions

    def __init__(self, options: CloudWatchOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self._client = client(context.name, timeout_s=5.0, max_response_bytes=256 * 1024)
        self._keys: dict[str, rsa.RSAPublicKey] = {}
        self._lock = threading.Lock()

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        check_sender(self.options, headers, body)
        if self.options.topic_arns:
            self._check_signature(body)

    def parse(self, body: bytes) -> Inbound:
        data = payloads.object_of(payloads.json_of(body))
        kind = payloads.text(data, "Type")
        if kind == "SubscriptionConfirmation":
            self._confirm(data)
            return Inbound()
        if kind == "UnsubscribeConfirmation":
            log.warning("%s was unsubscribed from %s", self.context.name, payloads.text(data, "TopicArn"))
            return Inbound()
        if kind == "Notification":
            message = payloads.part(data, "Message")
            if not isinstance(message, str):
                raise InvalidInput("The SNS notification has no text Message.")
            data = payloads.object_of(payloads.json_of(message.encode()), "The SNS message")
        return self._event(data) if isinstance(data.get("detail"), dict) else self._alarm(data)

    def close(self) -> None:
        self._client.close()

    # ------------------------------------------------------------------ alarms

    def _alarm(self, data: dict[str, Any]) -> Inbound:
        labels = {
            "account": payloads.text(data, "AWSAccountId"),
            "region": payloads.text(data, "Region"),
            "namespace": payloads.text(data, "Trigger", "Namespace"),
            "metric": payloads.text(data, "Trigger", "MetricName"),
        }
        dimensions = payloads.part(data, "Trigger", "Dimensions")
        for one in dimensions[:30] if isinstance(dimensions, list) else ():
            labels[payloads.text(one, "name") or "dimension"] = payloads.text(one, "value")
        return self._inbound(
            payloads.required(data, "AlarmName"), payloads.required(data, "NewStateValue"), labels,
            payloads.time_ms({"t": _colon_zone(payloads.text(data, "StateChangeTime"))}, "t"),
            payloads.text(data, "NewStateReason", cap=payloads.TEXT_CAP),
            payloads.text(data, "AlarmDescription", cap=payloads.TEXT_CAP),
        )  # fmt: skip

    def _event(self, data: dict[str, Any]) -> Inbound:
        labels = {"account": payloads.text(data, "account"), "region": payloads.text(data, "region")}
        metrics = payloads.part(data, "detail", "configuration", "metrics")
        for metric in metrics[:5] if isinstance(metrics, list) else ():
            found = payloads.part(metric, "metricStat", "metric")
            labels["namespace"], labels["metric"] = payloads.text(found, "namespace"), payloads.text(found, "name")
            dimensions = payloads.part(found, "dimensions")
            for key, value in list(dimensions.items())[:30] if isinstance(dimensions, dict) else ():
                labels[key] = str(value)
        return self._inbound(
            payloads.required(data, "detail", "alarmName"), payloads.required(data, "detail", "state", "value"), labels,
            payloads.time_ms({"t": _colon_zone(payloads.text(data, "detail", "state", "timestamp"))}, "t"),
            payloads.text(data, "detail", "state", "reason", cap=payloads.TEXT_CAP),
            payloads.text(data, "detail", "configuration", "description", cap=payloads.TEXT_CAP),
        )  # fmt: skip

    def _inbound(
        self, name: str, state: str, labels: dict[str, str], at_ms: int | None, reason: str, description: str
    ) -> Inbound:
        if state not in ("ALARM", "OK"):
            return Inbound()
        resource = next((v for k, v in labels.items() if k not in ("account", "region", "namespace", "metric")), "")
        labels["service"] = labels.get("ServiceName") or labels.get("FunctionName") or resource
        return Inbound(
            (
                payloads.alert(
                    self.context, name, labels, _severity(f"{name} {description}", self.options.severity),
                    firing=state == "ALARM", starts_ms=at_ms, ends_ms=at_ms, summary=description or reason,
                    annotations={"reason": reason},
                    identity={"name": name, "account": labels["account"], "region": labels["region"]},
                ),
            )
        )  # fmt: skip

    # ------------------------------------------------------------------ SNS

    def _confirm(self, data: dict[str, Any]) -> None:
        """Only for a listed topic, whose signature was checked, and only at Amazon."""
        if payloads.text(data, "TopicArn") not in self.options.topic_arns:
            raise InvalidInput(
                "A subscription is confirmed only for topics in topic_arns.", hint="Add the topic's ARN, then retry."
            )
        url = payloads.text(data, "SubscribeURL", cap=4_000)
        if not _is_amazon(url):
            raise InvalidInput("SubscribeURL is not at Amazon SNS.")
        self._client.get(url)

    def _check_signature(self, body: bytes) -> None:
        try:
            data = payloads.object_of(json.loads(body))
            kind = payloads.text(data, "Type")
            topic = payloads.text(data, "TopicArn")
            text = "".join(f"{k}\n{data[k]}\n" for k in _SIGNED[kind] if isinstance(data.get(k), str))
            signature = base64.b64decode(payloads.text(data, "Signature"), validate=True)
            key = self._key(payloads.text(data, "SigningCertURL", cap=2_000))
            algorithm = hashes.SHA256() if payloads.text(data, "SignatureVersion") == "2" else hashes.SHA1()  # noqa: S303
            key.verify(signature, text.encode(), padding.PKCS1v15(), algorithm)
        except (KeyError, ValueError, RecursionError, binascii.Error, InvalidSignature, InvalidInput) as error:
            raise Forbidden("The SNS signature is missing or wrong.", authenticated=False) from error
        if topic not in self.options.topic_arns:
            raise Forbidden("The SNS topic is not one of topic_arns.", authenticated=False)

    def _key(self, url: str) -> rsa.RSAPublicKey:
        with self._lock:
            if url not in self._keys:
                self._keys = {**self._keys, url: self._load(url)} if len(self._keys) < 20 else {url: self._load(url)}
            return self._keys[url]

    def _load(self, url: str) -> rsa.RSAPublicKey:
        if self.options.certificate_file is not None:
            pem = self.options.certificate_file.read_bytes()
        elif _is_amazon(url) and url.endswith(".pem"):
            try:
                pem = self._client.get(url).content
            except AiopsError as error:
                raise Forbidden(f"Amazon's certificate cannot be had: {error}", authenticated=False) from error
        else:
            raise ValueError("the certificate is not Amazon's")
        key = x509.load_pem_x509_certificate(pem).public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise ValueError("the certificate holds no RSA key")
        return key


def _is_amazon(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" and parts.port in (None, 443) and bool(_AMAZON.fullmatch(parts.hostname or ""))


def _colon_zone(time: str) -> str:
    """CloudWatch writes ``+0000`` for the zone."""
    return re.sub(r"([+-]\d{2})(\d{2})$", r"\1:\2", time)


def _severity(text: str, usual: str) -> Severity:
    for word in re.findall(r"[a-z]+\d?", text.lower()):
        if word in ("critical", "page", "sev1", "p1"):
            return Severity.CRITICAL
        if word in ("info", "notice", "sev5", "p5"):
            return Severity.INFO
    return severity_named(usual)
