"""Prometheus, or a server that speaks its HTTP API (Mimir, Thanos, VictoriaMetrics).

Two uses of one configuration: *pull* copies raw samples of the configured selectors into the store, from
``backfill_s`` ago onwards, in chunks, so that a stopped backfill resumes; *pass-through* answers PromQL on the
server itself, with the user's own text. A principal with a label scope has the scope injected into the text, and
is refused where that cannot be done.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Any

import httpx
import numpy as np
from pydantic import Field, SecretStr, field_validator

from aiops.core.errors import AiopsError, Forbidden, InvalidInput, PermanentError, QueryError, TransientError
from aiops.core.ports import Collected, MetricQuerier, PluginContext, PluginOptions, TelemetrySource
from aiops.core.principal import Principal
from aiops.core.series import (
    METRIC_NAME,
    Labels,
    Matcher,
    MatchOp,
    MetricMetadata,
    QueryResult,
    ResultType,
    SampleBlock,
    labels_of,
)
from aiops.core.untrusted import Untrusted
from aiops.core.watching import AlertCondition
from connectors.prometheus_answers import block, matcher_text, refusal

METADATA_EVERY_MS = 3_600_000
MIN_CHUNK_MS = 60_000
MAX_ANSWER_BYTES = 512 * 1024 * 1024


class _TooMuch(Exception):
    """The server's sample limit."""


class PrometheusOptions(PluginOptions):
    """``match`` are the selectors to pull into the store; none, the default, means pass-through only."""

    url: str
    bearer_token: SecretStr = SecretStr("")
    username: str = ""
    password: SecretStr = SecretStr("")
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    verify_tls: bool = True
    timeout_s: float = Field(30.0, gt=0)
    match: tuple[str, ...] = ()
    interval_s: float = Field(15.0, gt=0)
    backfill_s: float = Field(3600.0, ge=0)
    chunk_s: float = Field(3600.0, ge=60)
    overlap_s: float = Field(60.0, ge=0)
    """Read again at each poll, since a scrape's samples appear after their time; the store drops duplicates."""

    @field_validator("url")
    @classmethod
    def is_http(cls, value: str) -> str:
        parsed = httpx.URL(value)
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError("must be an http:// or https:// URL")
        if parsed.userinfo:
            raise ValueError("must not hold credentials; use username and password")
        return value.rstrip("/")


class PrometheusSource(TelemetrySource[PrometheusOptions], MetricQuerier):
    """One Prometheus-compatible server."""

    Options = PrometheusOptions

    def __init__(self, options: PrometheusOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self.name = context.name
        self.interval_s = options.interval_s if options.match else 0.0
        headers = {name: value.get_secret_value() for name, value in options.headers.items()}
        if token := options.bearer_token.get_secret_value():
            headers["Authorization"] = f"Bearer {token}"
        auth = (options.username, options.password.get_secret_value()) if options.username else None
        self._http = httpx.Client(
            base_url=options.url,
            headers=headers,
            auth=auth,
            verify=options.verify_tls,
            timeout=httpx.Timeout(options.timeout_s, connect=min(options.timeout_s, 5.0)),
            follow_redirects=False,
        )
        self._headers = headers
        self._auth = auth
        self._puller: Any = None
        self._metadata_at_ms = -METADATA_EVERY_MS
        self._chunk_ms = int(options.chunk_s * 1000)
        self._limits: dict[str, str] = {"timeout": f"{options.timeout_s:g}s"}

    def close(self) -> None:
        self._http.close()
        if self._puller is not None:
            self._puller.close()

    # ------------------------------------------------------------------ pull

    def poll(self, cursor: str) -> Collected:
        """The next chunk after ``cursor``; ``done`` is the share of the backlog that has been fetched."""
        now = self.context.clock()
        if not self.options.match:
            return Collected(cursor=cursor)
        begin, at = self._position(cursor, now)
        overlap = int(self.options.overlap_s * 1000)
        samples, end = self._chunk(max(begin, at - overlap), at, now)
        metadata: tuple[MetricMetadata, ...] = ()
        if now - self._metadata_at_ms >= METADATA_EVERY_MS:
            metadata = tuple(self._all_metadata())
            self._metadata_at_ms = now
        done = 1.0 if end >= now or now <= begin else (end - begin) / (now - begin)
        return Collected(samples, metadata, cursor=json.dumps({"begin": begin, "at": end}), done=done)

    def history(self, start_ms: int, end_ms: int, cursor: str) -> Iterator[Collected]:
        """Chunks of ``[start_ms, end_ms)``, oldest first; ``cursor`` is the time that was reached (HistorySource)."""
        if not self.options.match:
            raise InvalidInput(f"{self.name} pulls nothing.", hint="Name the series to pull in its `match`.")
        at = max(int(cursor), start_ms) if cursor else start_ms
        while at < end_ms:
            samples, at = self._chunk(at - 1, at, end_ms)
            yield Collected(samples, cursor=str(at), done=(at - start_ms) / (end_ms - start_ms))

    def _chunk(self, after_ms: int, at_ms: int, limit_ms: int) -> tuple[SampleBlock, int]:
        """Samples of ``(after_ms, end]`` and that end: a chunk past ``at_ms``, less where that is too much to give."""
        while True:
            end = min(at_ms + self._chunk_ms, limit_ms)
            try:
                return self._pull(after_ms, end), end
            except _TooMuch:
                if self._chunk_ms <= MIN_CHUNK_MS:
                    raise PermanentError(
                        f"{self.name} will not give a minute of the samples that match.",
                        hint="Narrow `match` or raise the server's query.max-samples.",
                    ) from None
                self._chunk_ms = max(MIN_CHUNK_MS, self._chunk_ms // 2)

    def _position(self, cursor: str, now: int) -> tuple[int, int]:
        start = now - int(self.options.backfill_s * 1000)
        if not cursor:
            return start, start
        try:
            held = json.loads(cursor)
            return int(held["begin"]), min(int(held["at"]), now)
        except (ValueError, TypeError, KeyError):
            raise PermanentError(f"The cursor of {self.name} is not one of its own: {cursor[:50]!r}.") from None

    def _pull(self, start_ms: int, end_ms: int) -> SampleBlock:
        """Raw samples in (start, end] of all configured selectors, each series once."""
        seconds = math.ceil((end_ms - start_ms) / 1000)
        if seconds <= 0:
            return SampleBlock.empty()
        found: dict[Labels, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = {}
        for selector in self.options.match:
            for item in self._raw(f"{selector}[{seconds}s]", end_ms):
                try:
                    values = item["values"]
                    labels = labels_of(item["metric"])
                    ts = np.array([round(float(t) * 1000) for t, _ in values], np.int64)
                    numbers = np.array([float(v) for _, v in values], np.float64)
                except (KeyError, TypeError, ValueError, AttributeError):
                    if isinstance(item, dict) and "histograms" in item and "values" not in item:
                        continue
                    raise self._garbage() from None
                keep = (ts > start_ms) & (ts <= end_ms)
                if keep.any():
                    found[labels] = (ts[keep], numbers[keep])
        return SampleBlock.build((labels, ts, numbers) for labels, (ts, numbers) in found.items())

    def _raw(self, query: str, time_ms: int) -> list[Any]:
        from prometheus_api_client.exceptions import PrometheusApiClientException
        from requests.exceptions import ConnectionError as RequestsConnectionError
        from requests.exceptions import RequestException, Timeout

        try:
            answer = self._client().custom_query(query, params={"time": time_ms / 1000})
        except PrometheusApiClientException as error:
            status, answer = refusal(str(error))
            if isinstance(answer, dict) and "too many samples" in str(answer.get("error", "")):
                raise _TooMuch from None
            raise self._failure(status, answer) from None
        except Timeout:
            raise TransientError(f"{self.name} did not answer within {self.options.timeout_s:g} s.") from None
        except RequestsConnectionError:
            raise TransientError(f"{self.name} cannot be reached.") from None
        except (RequestException, ValueError, KeyError, TypeError):
            raise self._garbage() from None
        if not isinstance(answer, list):
            raise self._garbage()
        return answer

    def _client(self) -> Any:
        if self._puller is None:
            from prometheus_api_client import PrometheusConnect
            from urllib3.util.retry import Retry

            self._puller = PrometheusConnect(
                url=self.options.url,
                headers=self._headers or None,
                disable_ssl=not self.options.verify_tls,
                auth=self._auth,
                timeout=self.options.timeout_s,
                retry=Retry(total=0),
                method="POST",
            )
        return self._puller

    # ------------------------------------------------------------------ pass-through

    def limited(self, *, lookback_ms: int = 0, timeout_s: float = 0.0, afresh: bool = False) -> PrometheusSource:
        """The same source whose queries look back so far and take no longer; 0 keeps what is set.

        ``afresh`` asks for no cached answers, which VictoriaMetrics knows.
        """
        other = copy(self)
        other._limits = dict(self._limits)
        if lookback_ms:
            other._limits["lookback_delta"] = f"{lookback_ms}ms"
        if 0 < timeout_s < self.options.timeout_s:
            other._limits["timeout"] = f"{timeout_s:g}s"
        if afresh:
            other._limits["nocache"] = "1"
        return other

    def instant(self, query: str, time_ms: int, principal: Principal) -> QueryResult:
        parameters = {"query": self._scoped(query, principal), "time": time_ms / 1000}
        return self._result(self._ask("query", {**parameters, **self._limits}))

    def range(self, query: str, start_ms: int, end_ms: int, step_ms: int, principal: Principal) -> QueryResult:
        parameters: dict[str, Any] = {"start": start_ms / 1000, "end": end_ms / 1000, "step": step_ms / 1000}
        parameters["query"] = self._scoped(query, principal)
        return self._result(self._ask("query_range", {**parameters, **self._limits}))

    def series(
        self, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal, limit: int = 0
    ) -> list[Labels]:
        match = self._match(selectors, principal) or ['{__name__!=""}']
        parameters = {"match[]": match, "start": start_ms / 1000, "end": end_ms / 1000}
        found = self._list(self._ask("series", {**parameters, **({"limit": limit} if limit else {})}))
        if not all(isinstance(item, dict) for item in found):
            raise self._garbage()
        ordered = sorted(labels_of({str(k): str(v) for k, v in item.items()}) for item in found)
        return ordered[:limit] if limit else ordered

    def label_names(
        self, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal
    ) -> list[str]:
        return self._names("labels", selectors, start_ms, end_ms, principal)

    def label_values(
        self, name: str, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal
    ) -> list[str]:
        if not name or not name.replace("_", "a").isalnum() or not name.isascii():
            name = "U__" + "".join(c if c.isalnum() and c.isascii() else f"_{ord(c):x}_" for c in name)
        return self._names(f"label/{name}/values", selectors, start_ms, end_ms, principal)

    def metadata(self, principal: Principal) -> list[MetricMetadata]:
        known = self._all_metadata()
        if principal.scope is None:
            return known
        now = self.context.clock()
        visible = set(self.label_values(METRIC_NAME, (), now - 3_600_000, now, principal))
        suffixes = ("", "_bucket", "_sum", "_count", "_total")
        return [m for m in known if any(m.name + suffix in visible for suffix in suffixes)]

    def alert_conditions(self) -> list[AlertCondition]:
        """The server's alerting rules; none where it evaluates none (VictoriaMetrics, Thanos without rulers)."""
        try:
            data = self._ask("rules", {"type": "alert"}, "GET").get("data")
        except (PermanentError, QueryError):
            return []
        groups = data.get("groups") if isinstance(data, dict) else None
        rules = [r for g in groups or () if isinstance(g, dict) for r in g.get("rules") or () if isinstance(r, dict)]
        return [
            AlertCondition(str(rule["name"]), str(rule["query"]))
            for rule in rules
            if rule.get("type") == "alerting" and rule.get("name") and rule.get("query")
        ]

    def _names(
        self, path: str, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal
    ) -> list[str]:
        parameters: dict[str, Any] = {"start": start_ms / 1000, "end": end_ms / 1000}
        if match := self._match(selectors, principal):
            parameters["match[]"] = match
        method = "GET" if path.startswith("label/") else "POST"
        return sorted(str(item) for item in self._list(self._ask(path, parameters, method)))

    def _all_metadata(self) -> list[MetricMetadata]:
        body = self._ask("metadata", {}, "GET")
        data = body.get("data")
        if not isinstance(data, dict):
            raise self._garbage()
        try:
            return [
                MetricMetadata(
                    str(name), str(rows[0].get("type", "unknown")), str(rows[0].get("unit", "")),
                    str(rows[0].get("help", "")),
                )
                for name, rows in sorted(data.items())
                if rows
            ]  # fmt: skip
        except (TypeError, AttributeError, KeyError, IndexError):
            raise self._garbage() from None

    # ------------------------------------------------------------------ label scope

    def _scope(self, principal: Principal) -> tuple[Matcher, ...]:
        """The scope's matchers; where one could match a missing label, the label is required as well."""
        out: list[Matcher] = []
        for matcher in principal.scope or ():
            out.append(matcher)
            if matcher.op is not MatchOp.EQUAL or matcher.value == "":
                out.append(Matcher(matcher.name, MatchOp.NOT_EQUAL, ""))
        return tuple(out)

    def _scoped(self, query: str, principal: Principal) -> str:
        if principal.scope is None:
            return query
        inject = self.context.inject_matchers
        if inject is None:
            raise Forbidden(f"{self.name} cannot enforce a label scope.")
        try:
            return inject(query, self._scope(principal))
        except QueryError as error:
            raise Forbidden(
                f"The query cannot be restricted to your label scope: {error.message}", hint=error.hint
            ) from error

    def _match(self, selectors: Sequence[Sequence[Matcher]], principal: Principal) -> list[str]:
        scope = self._scope(principal)
        chosen = [[*matchers, *scope] for matchers in selectors] or ([list(scope)] if scope else [])
        return ["{" + ",".join(map(matcher_text, matchers)) + "}" for matchers in chosen if matchers]

    # ------------------------------------------------------------------ HTTP

    def _ask(self, path: str, parameters: Mapping[str, Any], method: str = "POST") -> dict[str, Any]:
        """One API call. Raises ``QueryError`` for what the server says of the query, else Transient or Permanent."""
        url = f"/api/v1/{path}"
        arguments: dict[str, Any] = {"params": parameters} if method == "GET" else {"data": parameters}
        try:
            with self._http.stream(method, url, **arguments) as response:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise PermanentError(f"{self.name} answered more than {MAX_ANSWER_BYTES >> 20} MB.")
                status = response.status_code
        except httpx.TimeoutException:
            raise TransientError(f"{self.name} did not answer within {self.options.timeout_s:g} s.") from None
        except httpx.TransportError:
            raise TransientError(f"{self.name} cannot be reached.") from None
        except httpx.HTTPError:
            raise self._garbage() from None
        try:
            answer = json.loads(bytes(body))
        except (ValueError, RecursionError):
            answer = None
        if isinstance(answer, dict) and answer.get("status") == "success":
            return answer
        raise self._failure(status, answer)

    def _failure(self, status: int, answer: Any) -> AiopsError:
        if isinstance(answer, dict) and answer.get("status") == "error":
            said = Untrusted(str(answer.get("error", ""))).display(500)
            kind = str(answer.get("errorType", ""))
            if kind in ("bad_data", "execution"):
                return QueryError(said, kind=kind)
            if kind in ("400", "422"):  # VictoriaMetrics names the status
                return QueryError(said, kind="bad_data" if kind == "400" else "execution")
            if kind == "timeout":
                return QueryError(said, kind="timeout")
            failure = TransientError if status >= 500 or kind in ("unavailable", "canceled") else PermanentError
            return failure(f"{self.name} answered {status}: {said}")
        if status in (401, 403):
            return PermanentError(f"{self.name} refused our credentials ({status}).")
        if status >= 500 or status == 429:
            return TransientError(f"{self.name} answered {status}.")
        if status >= 300:
            return PermanentError(f"{self.name} answered {status}, which is no Prometheus answer.")
        return self._garbage()

    def _garbage(self) -> PermanentError:
        return PermanentError(
            f"{self.name} gave an answer that is not Prometheus' JSON.", hint="Check that `url` points at its API."
        )

    def _list(self, answer: Mapping[str, Any]) -> list[Any]:
        data = answer.get("data")
        if not isinstance(data, list):
            raise self._garbage()
        return data

    def _result(self, answer: Mapping[str, Any]) -> QueryResult:
        warnings = [Untrusted(str(w)).display(500) for w in answer.get("warnings") or ()]
        infos = tuple(Untrusted(str(i)).display(500) for i in answer.get("infos") or ())
        partial = bool(answer.get("isPartial")) or any("partial" in w.lower() for w in warnings)
        try:
            data = answer["data"]
            kind = ResultType(data["resultType"])
            samples, text, left_out = block(kind, data["result"])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            raise self._garbage() from None
        if left_out:
            partial = True
            warnings.append(f"{left_out} series of native histograms were left out: they are not supported.")
        return QueryResult(kind, samples, text, tuple(warnings), infos, partial, sorted=kind is ResultType.VECTOR)
