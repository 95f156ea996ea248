"""OTLP over gRPC: the three collector services, with the keys, limits and store of the HTTP routes.

https://opentelemetry.io/docs/specs/otlp/#otlpgrpc. Requests stay bytes: the receiver decodes them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn
from urllib.parse import unquote

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from aiops.access.permissions import Permission, require
from aiops.api.auth import identify
from aiops.api.problems import problem_of
from aiops.api.services import Services
from aiops.core.errors import AiopsError, ConfigError, LimitExceeded
from aiops.ingest import otlp
from aiops.ingest.otlp_receiver import OtlpReceiver

log = logging.getLogger(__name__)

WORKERS = 8
"""So many requests are read and stored at once. Others wait unread: a worker receives the message, so the sender is
held up by flow control, and gRPC's own limit, whose refusals bear no RetryInfo and lose data, is not needed."""
STOP_S = 5.0
SERVICES = {
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
}
DETAILS = "grpc-status-details-bin"
_CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


class OtlpGrpcServer:
    """Listens from :meth:`start` to :meth:`stop`.

    What can be tried again bears ``RetryInfo``: RESOURCE_EXHAUSTED above a rate, UNAVAILABLE while the store cannot
    write. A message over the size limit is RESOURCE_EXHAUSTED without one, which exporters give up.
    """

    def __init__(self, services: Services, receiver: OtlpReceiver) -> None:
        self._services = services
        self._receiver = receiver
        self._server: Any = None

    def start(self, host: str, port: int) -> int:
        """Listen; gives the port, which 0 leaves to the system. Raises ``ConfigError`` for one that cannot be had."""
        limit = self._services.settings.server.max_body_bytes
        server = grpc.server(
            ThreadPoolExecutor(WORKERS, "otlp-grpc"),
            options=[("grpc.max_receive_message_length", limit), ("grpc.so_reuseport", 0)],
        )
        for signal, name in SERVICES.items():
            method = grpc.unary_unary_rpc_method_handler(self._export(signal))
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Export": method}),))
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = int(server.add_insecure_port(where))
        except RuntimeError:
            bound = 0
        if not bound:
            raise ConfigError(
                f"Port {port} on {host} cannot be used for OTLP over gRPC.",
                hint="Choose another server.otlp_grpc_port.",
            )
        server.start()
        self._server = server
        return bound

    def stop(self) -> None:
        """Refuse new requests, end those under way."""
        if self._server is not None:
            self._server.stop(STOP_S).wait(STOP_S)

    def _export(self, signal: str) -> Callable[[bytes, Any], bytes]:
        def export(body: bytes, context: Any) -> bytes:
            try:
                headers = {str(key): str(value) for key, value in context.invocation_metadata()}
                require(identify(self._services, headers, address_of(context.peer())), Permission.WRITE_TELEMETRY)
                got = self._receiver.receive(signal, body, key=headers.get("idempotency-key", ""))
                return otlp.response(signal, otlp.PROTOBUF, got.lost, got.complaint)[0]
            except AiopsError as error:
                _refuse(context, error)
            except Exception:
                log.exception("OTLP %s over gRPC failed unexpectedly", signal)
                _abort(context, grpc.StatusCode.INTERNAL, "Something went wrong; the service's log has the details.")

        return export


def address_of(peer: str) -> str:
    """The host of gRPC's name for a peer.

    >>> address_of("ipv4:10.0.0.1:4711"), address_of("ipv6:%5B::1%5D:4711")
    ('10.0.0.1', '[::1]')
    """
    return unquote(peer.partition(":")[2]).rpartition(":")[0] or peer


def _refuse(context: Any, error: AiopsError) -> NoReturn:
    """End the call with the error's status."""
    problem = problem_of(error)
    code = _CODES.get(
        problem.status, grpc.StatusCode.INVALID_ARGUMENT if problem.status < 500 else grpc.StatusCode.UNKNOWN
    )
    text = str(error)
    too_large = isinstance(error, LimitExceeded) and error.kind == "size"
    if problem.retry_after_s is not None and not too_large:
        info = AnyMessage()
        info.Pack(RetryInfo(retry_delay=Duration(seconds=max(1, round(problem.retry_after_s)))))
        status = Status(code=code.value[0], message=text, details=[info])
        context.set_trailing_metadata(((DETAILS, status.SerializeToString()),))
    _abort(context, code, text)


def _abort(context: Any, code: Any, text: str) -> NoReturn:
    context.abort(code, text)
    raise AssertionError("abort raises")
