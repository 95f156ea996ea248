"""Operations on the telemetry store. What changes it or leaves it is audited."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from aiops.api.auth import Administrator, Operator, Reader
from aiops.api.schemas_store import (
    BackupOut,
    BackupRequest,
    ExportPlan,
    FileUsageOut,
    ImportedOut,
    PartOut,
    RetentionOut,
    usage_view,
)
from aiops.api.services import Services
from aiops.core.errors import Forbidden, InvalidInput
from aiops.core.principal import LOCAL, Principal
from aiops.promql.parse import parse_selector
from aiops.store.backup import back_up
from aiops.store.telemetry.archive import Part, narrowed
from aiops.store.telemetry.manifest import sha256_of
from aiops.store.telemetry.schema import DAY_MS
from aiops.store.telemetry.usage import Exported

PARQUET = "application/vnd.apache.parquet"
Millis = Annotated[int, Query(ge=0, le=1 << 50)]
Matchers = Annotated[list[str], Query(max_length=20, description='such as `job="api"`; ANDed')]
Hash = Annotated[str, Query(pattern="^[0-9a-f]{64}$", description="SHA-256 of the body")]


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/store", tags=["store"])
    store = services.store

    @routes.get("", response_model=FileUsageOut)
    def usage(_caller: Operator) -> FileUsageOut:
        """What each signal takes, from when to when, and the limits that hold."""
        return usage_view(store.usage(), services.settings.store, store.database.encrypted)

    @routes.post("/retention", response_model=RetentionOut)
    def apply_retention(caller: Administrator) -> RetentionOut:
        """Drop now what is past its time or above the limit, instead of within the hour."""
        done = store.apply_retention()
        detail = {"tables": str(done.tables), "days": str(len(done.days))}
        services.audit.append(caller.name, "store.retention", "store", detail)
        return RetentionOut(dropped=done.tables, days=[day * DAY_MS for day in done.days])

    @routes.post("/backup", response_model=BackupOut)
    def backup(caller: Administrator, body: BackupRequest) -> BackupOut:
        """Copy the whole data folder to a new folder on the service's machine, while it runs."""
        target = Path(body.folder)
        allowed = services.settings.store.backup_dir
        if not target.is_absolute() or ".." in target.parts:
            raise InvalidInput("The folder of a backup must be an absolute path.")
        if caller != LOCAL and (allowed is None or not target.resolve().is_relative_to(allowed.resolve())):
            raise Forbidden(
                "Backups may be written below store.backup_dir only.", hint=f"It is {allowed or 'not set'}."
            )
        done = back_up(services.settings.data_dir, store, services.database, target, services.clock())
        detail = {"folder": str(target), "bytes": str(done.bytes)}
        services.audit.append(caller.name, "store.backup", "store", detail)
        return BackupOut(files=done.files, bytes=done.bytes, rows=done.rows, left_out=list(done.left_out))

    @routes.get("/export", response_model=ExportPlan)
    def plan(
        caller: Reader,
        start_ms: Millis,
        end_ms: Millis,
        signal: Annotated[list[Exported], Query()],
        match: Matchers = [],  # noqa: B006
    ) -> ExportPlan:
        """The parts of an export; each is fetched on its own. Only what the caller may see is in them."""
        chosen = _narrowed(caller, match)
        parts = store.archive.plan(start_ms, end_ms, signal, chosen)
        detail = {"from": str(start_ms), "to": str(end_ms), "signals": ",".join(signal), "match": " ".join(match)}
        services.audit.append(caller.name, "store.export", "store", detail)
        return ExportPlan(parts=[PartOut.of(part) for part in parts], scoped=bool(chosen.scope))

    @routes.get("/export/part", response_class=Response)
    def part(
        caller: Reader, signal: Exported, start_ms: Millis, end_ms: Millis,
        number: Annotated[int, Query(ge=0)] = 0, match: Matchers = [],  # noqa: B006
    ) -> Response:  # fmt: skip
        """One part as a Parquet file; 204 where it holds nothing. ``X-Rows`` counts its rows."""
        if end_ms - start_ms > 400 * DAY_MS:
            raise InvalidInput("A part is at most 400 days long.")
        with tempfile.TemporaryDirectory(prefix="aiops-part-") as folder:
            path = Path(folder) / "part.parquet"
            rows = store.archive.write(Part(signal, start_ms, end_ms, number), _narrowed(caller, match), path)
            if not rows:
                return Response(status_code=204)
            return Response(path.read_bytes(), headers={"x-rows": str(rows)}, media_type=PARQUET)

    @routes.post("/import", response_model=ImportedOut)
    async def import_part(
        request: Request, caller: Administrator, signal: Exported, sha256: Hash, again: bool = False
    ) -> ImportedOut:
        """Add the rows of one exported part (the body) that are not there yet."""
        content = await request.body()

        def work() -> ImportedOut:
            source = f"import:{sha256}"
            if store.cursor(source) and not again:
                return ImportedOut(added=0, known=0, refused=0, skipped=True)
            with tempfile.TemporaryDirectory(prefix="aiops-part-") as folder:
                path = Path(folder) / "part.parquet"
                path.write_bytes(content)
                if sha256_of(path) != sha256:
                    raise InvalidInput("The body is not what its SHA-256 says.")
                done = store.archive.read(signal, path)
            store.remember(source, str(services.clock()))
            detail = {"signal": signal, "sha256": sha256, "added": str(done.added)}
            services.audit.append(caller.name, "store.import", "store", detail)
            return ImportedOut(added=done.added, known=done.known, refused=done.refused)

        return await run_in_threadpool(work)

    return routes


def _narrowed(caller: Principal, match: list[str]) -> Principal:
    return narrowed(caller, [m for text in match for m in parse_selector(f"{{{text.strip().strip('{}')}}}")])
