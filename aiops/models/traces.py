"""Calls of LLMs as traces in MLflow, by OpenTelemetry's conventions for generative AI.

Contents stay out unless the settings allow them. Traces are written by a thread of their own; where they cannot keep
up or MLflow is away they are dropped, and the log says how many.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import threading
from typing import Any

from aiops.core.errors import AiopsError
from aiops.core.model import LlmCall
from aiops.models.tracking import Tracking

log = logging.getLogger(__name__)

EXPERIMENT = "llm"
WAITING = 1000
"""Traces that may wait to be written."""
STOP_S = 5.0
_CONTENT_CAP = 20_000


class LlmTraces:
    """Implements :class:`aiops.core.ports.LlmTracer`. The thread starts with the first call."""

    def __init__(self, tracking: Tracking, *, contents: bool = False) -> None:
        self._tracking = tracking
        self.contents = contents
        self._waiting: queue.Queue[LlmCall | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._dropped = 0

    def record(self, call: LlmCall) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="llm-traces", daemon=True)
                self._thread.start()
        try:
            self._waiting.put_nowait(call)
        except queue.Full:
            self._drop(1, "too many wait")

    def stop(self) -> None:
        """Write what waits, for a few seconds at most."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            thread.join(STOP_S)

    def _run(self) -> None:
        while (call := self._waiting.get()) is not None:
            try:
                self.write(call)
            except AiopsError as error:
                self._drop(1, str(error))
            except Exception:
                log.exception("a trace of an LLM call could not be written")

    def _drop(self, count: int, why: str) -> None:
        self._dropped += count
        if self._dropped & (self._dropped - 1) == 0:  # 1, 2, 4, 8, …
            log.warning("%d traces of LLM calls were dropped so far: %s", self._dropped, why)

    def write(self, call: LlmCall) -> str:
        """Write one trace; returns its id.

        Raises:
            TransientError, PermanentError: MLflow refuses.
        """
        from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
        from opentelemetry.proto.trace.v1.trace_pb2 import Status

        provider, _, model = call.model.partition(":")
        prompt, _, version = call.prompt.partition("@")
        span = WireSpan(
            trace_id=os.urandom(16),
            span_id=os.urandom(8),
            name=f"chat {model}",
            kind=WireSpan.SPAN_KIND_CLIENT,
            start_time_unix_nano=call.start_ms * 1_000_000,
            end_time_unix_nano=max(call.end_ms, call.start_ms) * 1_000_000,
            status=Status(code=Status.STATUS_CODE_ERROR if call.error else Status.STATUS_CODE_OK, message=call.error),
        )
        told: dict[str, str | int | float] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
            "gen_ai.usage.input_tokens": call.input_tokens,
            "gen_ai.usage.output_tokens": call.output_tokens,
            "mlflow.spanType": "CHAT_MODEL",
            "aiops.prompt.name": prompt,
            "aiops.prompt.version": version,
            "aiops.cost.usd": call.cost,
            "aiops.principal": hashlib.sha256(call.principal.encode()).hexdigest()[:16],
        }
        if call.error:
            told["error.type"] = call.error
        if self.contents:
            told["mlflow.spanInputs"] = call.asked[:_CONTENT_CAP]
            told["mlflow.spanOutputs"] = call.answered[:_CONTENT_CAP]
        for key, value in told.items():
            slot = span.attributes.add(key=key).value
            if isinstance(value, str):
                slot.string_value = value
            elif isinstance(value, int):
                slot.int_value = value
            else:
                slot.double_value = value
        with self._tracking.client() as client:
            from mlflow.entities import Span
            from mlflow.tracing.client import TracingClient

            made: Any = Span.from_otel_proto(span)
            TracingClient(self._tracking.uri).log_spans(self._tracking.experiment(client, EXPERIMENT), [made])
            return str(made.trace_id)
