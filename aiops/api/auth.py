"""Who calls: API keys from headers, or the local principal where no auth is configured."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from aiops.access.keys import PREFIX
from aiops.access.permissions import Permission, require
from aiops.api.services import Services
from aiops.core.errors import Forbidden
from aiops.core.principal import LOCAL, Principal

_bearer = HTTPBearer(auto_error=False, description="An API key. As the password of Basic auth it works as well.")
_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="An API key.")


def services_of(request: Request) -> Services:
    """The services of the app that answers this request."""
    services: Services = request.app.state.services
    return services


def credential(headers: Mapping[str, str]) -> str:
    """The key text from ``authorization`` (Bearer, or Basic's password) or ``x-api-key``; never from the URL.

    Raises:
        Forbidden: a malformed ``Authorization`` header (unauthenticated).
    """
    if key := headers.get("x-api-key"):
        return key.strip()
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    match scheme.lower():
        case "":
            return ""
        case "bearer":
            return rest.strip()
        case "basic":
            try:
                return base64.b64decode(rest.strip(), validate=True).decode("utf-8").partition(":")[2]
            except (binascii.Error, UnicodeDecodeError) as error:
                raise Forbidden("The Authorization header is malformed.", authenticated=False) from error
    raise Forbidden("Only Bearer and Basic authorization are known.", authenticated=False)


def principal(request: Request) -> Principal:
    """The caller, counted against its rate limit. Usable as a FastAPI dependency.

    Raises:
        Forbidden: no key, or one that is not valid (401).
        LimitExceeded: too many requests, or too many failed sign-ins from this address.
    """
    caller = sender(request)
    services_of(request).rates.check(caller.name)
    return caller


def sender(request: Request) -> Principal:
    """The caller who sends telemetry: bounded by the bytes that wait, not by the number of requests.

    Raises:
        Forbidden: no key, or one that is not valid (401).
        LimitExceeded: too many failed sign-ins from this address.
    """
    return identify(services_of(request), request.headers, address_of(request))


def identify(services: Services, headers: Mapping[str, str], address: str) -> Principal:
    """The caller of a request, by its headers (or gRPC metadata), uncounted. Raises as :func:`sender`."""
    open_door = services.settings.server.auth == "none"
    try:
        key = credential(headers)
    except Forbidden:
        if open_door:
            return LOCAL
        raise
    # Without auth a key still counts, since approving needs one; other tools' credentials are none of ours.
    if open_door and not key.startswith(PREFIX):
        return LOCAL
    if not key:
        raise Forbidden("This needs an API key.", hint="Send it as a Bearer token.", authenticated=False)
    try:
        return services.keys.authenticate(key)
    except Forbidden:
        services.rates.failed(address)
        raise


def address_of(request: Request) -> str:
    """The peer's address, which behind a proxy is the proxy's."""
    return request.client.host if request.client else "unknown"


def allow(permission: Permission, *, counted: bool = True) -> Callable[..., Awaitable[Principal]]:
    """A dependency that gives the caller if it has the permission.

    Args:
        counted: against the rate limit; what bounds its callers in another way, such as scoring, is not.

    Use it as ``caller: Annotated[Principal, Depends(allow(Permission.READ))]``.
    """

    who = principal if counted and permission is not Permission.WRITE_TELEMETRY else sender

    # Asynchronous, since it only compares: a plain function would cost a hop to a thread.
    async def dependency(
        caller: Principal = Depends(who),  # noqa: B008  (a local name cannot stand in an annotation)
        _bearer_scheme: Annotated[object, Security(_bearer)] = None,
        _header_scheme: Annotated[object, Security(_header)] = None,
    ) -> Principal:
        require(caller, permission)
        return caller

    return dependency


Reader = Annotated[Principal, Depends(allow(Permission.READ))]
Uncounted = Annotated[Principal, Depends(allow(Permission.READ, counted=False))]
Asker = Annotated[Principal, Depends(allow(Permission.ASK))]
Responder = Annotated[Principal, Depends(allow(Permission.RESPOND))]
Proposer = Annotated[Principal, Depends(allow(Permission.PROPOSE))]
Approver = Annotated[Principal, Depends(allow(Permission.APPROVE))]
Operator = Annotated[Principal, Depends(allow(Permission.OPERATE))]
Writer = Annotated[Principal, Depends(allow(Permission.WRITE_TELEMETRY))]
Administrator = Annotated[Principal, Depends(allow(Permission.ADMIN))]
"""Parameter types for routes: the caller, having the permission."""
