"""The service itself: where it listens, its own telemetry, mail."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from aiops.settings.section import Section


class ServerSettings(Section):
    host: str = "127.0.0.1"
    port: int = Field(8420, ge=0, le=65535)
    auth: Literal["none", "keys"] = "none"
    bootstrap_key_file: Path | None = None
    """Read once, while there is no key yet: its text becomes the first admin key."""
    public_url: str = ""
    max_body_bytes: int = 64 * 1024 * 1024
    max_inflight_bytes: int = Field(256 * 1024 * 1024, ge=0)
    """Bodies that receivers hold at once; above it senders are asked to come again. 0 means no limit."""
    requests_per_minute: int = 6000
    otlp_grpc_port: int = Field(0, ge=0, le=65535)
    """Port of OTLP over gRPC, by convention 4317; 0 means that it is off."""


class TelemetrySettings(Section):
    """The service's own telemetry; ``export_url`` sends it to an OTLP collector as well."""

    interval_s: float = 5.0
    export_url: str = ""
    log_level: str = "INFO"


class SmtpSettings(Section):
    host: str = ""
    port: int = 25
    sender: str = ""
    username: str = ""
    password: SecretStr = SecretStr("")
    starttls: bool = False
