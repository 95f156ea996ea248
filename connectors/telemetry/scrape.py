"""Scrapes targets in Prometheus' text formats, as one job of a Prometheus does.

Targets are static or in file_sd files, which are read again when they change. Labels are made by ``relabel_configs``
and ``metric_relabel_configs``; ``up`` and ``scrape_*`` tell how a scrape went; a series that is gone gets a staleness
marker, as do all series of a target that fails or is no longer listed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
from pydantic import Field, SecretStr, field_validator, model_validator

from aiops.core.errors import PermanentError
from aiops.core.ports import Collected, PluginContext, PluginOptions, ScrapeTarget, TelemetrySource
from aiops.core.series import MetricMetadata, SampleBlock
from aiops.core.untrusted import Untrusted
from connectors.scraping.exposition import ACCEPT, OPENMETRICS, parse
from connectors.scraping.relabel import RelabelConfig
from connectors.scraping.scraper import Scraped, ScrapeFailed, ScrapeRules, TargetScrapes
from connectors.scraping.targets import FileDiscovery, Target, TargetGroup, TargetRules, targets_of

WORKERS = 32
SECRET_BYTES = 64 * 1024


class ScrapeOptions(PluginOptions):
    """Names are those of a Prometheus scrape config; ``job`` is by default the source's name. 0 means no limit."""

    job: str = ""
    interval_s: float = Field(15.0, gt=0)
    timeout_s: float = Field(10.0, gt=0)
    scheme: Literal["http", "https"] = "http"
    metrics_path: str = "/metrics"
    params: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    static_configs: tuple[TargetGroup, ...] = ()
    file_sd_files: tuple[str, ...] = ()
    relabel_configs: tuple[RelabelConfig, ...] = ()
    metric_relabel_configs: tuple[RelabelConfig, ...] = ()
    honor_labels: bool = False
    honor_timestamps: bool = True
    username: str = ""
    password: SecretStr = SecretStr("")
    password_file: Path | None = None
    bearer_token: SecretStr = SecretStr("")
    bearer_token_file: Path | None = None
    verify_tls: bool = True
    follow_redirects: bool = True
    body_size_limit_bytes: int = Field(64 * 1024 * 1024, ge=1)
    sample_limit: int = Field(0, ge=0)
    label_limit: int = Field(0, ge=0)
    label_name_length_limit: int = Field(0, ge=0)
    label_value_length_limit: int = Field(0, ge=0)
    target_limit: int = Field(0, ge=0)

    @field_validator("params", mode="before")
    @classmethod
    def lists(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: (item,) if isinstance(item, str) else item for name, item in value.items()}

    @model_validator(mode="after")
    def consistent(self) -> ScrapeOptions:
        if self.timeout_s > self.interval_s:
            raise ValueError("timeout_s is longer than interval_s")
        if (self.username or self.password_file) and (self.bearer_token.get_secret_value() or self.bearer_token_file):
            raise ValueError("give a user or a bearer token, not both")
        return self


@dataclass(slots=True)
class _Held:
    """A target under way."""

    scrapes: TargetScrapes
    status: ScrapeTarget


class ScrapeSource(TelemetrySource[ScrapeOptions]):
    """One job: all its targets are scraped at once, each on a thread, every ``interval_s``."""

    Options = ScrapeOptions

    def __init__(self, options: ScrapeOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self.interval_s = options.interval_s
        self._job = options.job or context.name
        self._files = FileDiscovery(options.file_sd_files)
        self._targets: dict[Target, _Held] = {}
        self._lock = threading.Lock()
        self._described: dict[str, MetricMetadata] = {}
        self._rules = ScrapeRules(
            options.honor_labels,
            options.honor_timestamps,
            options.metric_relabel_configs,
            options.sample_limit,
            options.label_limit,
            options.label_name_length_limit,
            options.label_value_length_limit,
        )
        self._http = httpx.Client(
            headers={
                "accept": ACCEPT,
                "accept-encoding": "gzip",
                "user-agent": "aiops-assistant",
                "x-prometheus-scrape-timeout-seconds": f"{options.timeout_s:g}",
            },
            timeout=httpx.Timeout(options.timeout_s),
            verify=options.verify_tls,
            follow_redirects=options.follow_redirects,
            trust_env=False,
            limits=httpx.Limits(max_connections=WORKERS, max_keepalive_connections=WORKERS * 8),
        )
        self._pool = ThreadPoolExecutor(WORKERS, f"scrape-{context.name}")

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._http.close()

    def poll(self, cursor: str) -> Collected:  # noqa: ARG002 - a scrape has no past to go on from
        """One scrape of every target. A target that fails is no error: its ``up`` is 0."""
        ended = self._refresh()
        with self._lock:
            held = list(self._targets.items())
        auth = self._authorization()
        scraped = [*ended, *self._pool.map(lambda item: self._scrape(item[0], item[1], auth), held)]
        return Collected(
            samples=_joined([part.samples for part in scraped]),
            metadata=self._news(scraped),
            exemplars=tuple(exemplar for part in scraped for exemplar in part.exemplars),
        )

    def targets(self) -> Sequence[ScrapeTarget]:
        """How every target does (ScrapeTargets)."""
        with self._lock:
            return [held.status for held in self._targets.values()]

    def _refresh(self) -> list[Scraped]:
        """Take up new targets, give up those that are gone; rows that end the latter's series."""
        chosen = self.options
        groups = [(group, dict[str, str]()) for group in chosen.static_configs] + self._files.groups()
        rules = TargetRules(
            self._job, chosen.scheme, chosen.metrics_path, chosen.params, chosen.relabel_configs, chosen.interval_s,
            chosen.timeout_s,
        )  # fmt: skip
        wanted = targets_of(groups, rules)
        if chosen.target_limit and len(wanted) > chosen.target_limit:
            raise PermanentError(f"Job '{self._job}' has {len(wanted)} targets, more than {chosen.target_limit}.")
        with self._lock:
            gone = [self._targets.pop(target) for target in [t for t in self._targets if t not in wanted]]
            for target in wanted:
                if target not in self._targets:
                    status = ScrapeTarget(
                        self._job, target.url, target.labels, target.discovered, chosen.interval_s, chosen.timeout_s
                    )
                    self._targets[target] = _Held(TargetScrapes(target.labels, self._rules), status)
        now = self.context.clock()
        return [held.scrapes.ended(now) for held in gone]

    def _scrape(self, target: Target, held: _Held, auth: httpx.Auth | None) -> Scraped:
        at_ms, began = self.context.clock(), time.monotonic()
        error, count = "", 0
        rows: Scraped | None = None
        try:
            kind, body = self._get(target.url, auth, began)
            text = parse(body.decode("utf-8"), openmetrics=kind == OPENMETRICS)
            count = len(text.values)
            rows = held.scrapes.good(text, at_ms, time.monotonic() - began)
        except (ScrapeFailed, ValueError) as problem:
            error = str(problem)
        except httpx.HTTPError as problem:
            error = _plain(problem, self.options.timeout_s)
        took = time.monotonic() - began
        if rows is None:
            rows = held.scrapes.failed(at_ms, took, count)
        with self._lock:
            held.status = replace(
                held.status,
                health="down" if error else "up",
                last_error=Untrusted(error).display(300),
                last_scrape_ms=at_ms,
                last_duration_s=took,
            )
        return rows

    def _get(self, url: str, auth: httpx.Auth | None, began: float) -> tuple[str, bytes]:
        """Media type and body. Raises ``ScrapeFailed`` or what httpx raises."""
        chosen = self.options
        with self._http.stream("GET", url, auth=auth) as response:
            if response.status_code != 200:
                raise ScrapeFailed(f"server returned HTTP status {response.status_code} {response.reason_phrase}")
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > chosen.body_size_limit_bytes:
                    raise ScrapeFailed("body size limit exceeded")
                if time.monotonic() - began > chosen.timeout_s:
                    raise ScrapeFailed("context deadline exceeded")
            return response.headers.get("content-type", "").partition(";")[0].strip().lower(), bytes(body)

    def _authorization(self) -> httpx.Auth | None:
        """Read anew for each poll, since files with secrets are rotated. Raises ``PermanentError``."""
        chosen = self.options
        if chosen.username:
            password = _secret(chosen.password_file) if chosen.password_file else chosen.password.get_secret_value()
            return httpx.BasicAuth(chosen.username, password)
        token = (
            _secret(chosen.bearer_token_file) if chosen.bearer_token_file else chosen.bearer_token.get_secret_value()
        )
        return _Bearer(token) if token else None

    def _news(self, scraped: Sequence[Scraped]) -> tuple[MetricMetadata, ...]:
        """Metadata that has not been handed over yet."""
        found = {m.name: m for part in scraped for m in part.metadata}
        news = tuple(m for m in found.values() if self._described.get(m.name) != m)
        self._described.update(found)
        return news


class _Bearer(httpx.Auth):
    """``Authorization: Bearer``; httpx takes it away where a redirect leads to another host."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["authorization"] = f"Bearer {self._token}"
        yield request


def _secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(SECRET_BYTES).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentError(f"The secret file {path} cannot be read: {type(error).__name__}.") from error


def _plain(error: httpx.HTTPError, timeout_s: float) -> str:
    """The kind of failure; the library's text may hold a URL with parameters."""
    if isinstance(error, httpx.TimeoutException):
        return f"context deadline exceeded (no answer within {timeout_s:g} s)"
    words = {"ConnectError": "connection refused or name not found", "ReadError": "connection broken",
             "RemoteProtocolError": "not HTTP, or cut off", "TooManyRedirects": "redirects in circles",
             "DecodingError": "the body is not gzip"}  # fmt: skip
    return words.get(type(error).__name__, type(error).__name__)


def _joined(blocks: Sequence[SampleBlock]) -> SampleBlock:
    blocks = [block for block in blocks if len(block)]
    if len(blocks) <= 1:
        return blocks[0] if blocks else SampleBlock.empty()
    lengths = np.concatenate([np.diff(block.offsets) for block in blocks])
    return SampleBlock(
        tuple(labels for block in blocks for labels in block.labels),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        np.concatenate([block.ts for block in blocks]),
        np.concatenate([block.values for block in blocks]),
    )
