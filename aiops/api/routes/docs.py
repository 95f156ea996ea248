"""The API reference as one plain page, made from the OpenAPI document; it loads nothing from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from aiops.api.services import Services

POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code{font-size:.95em}dt{margin-top:1rem}dd{margin-left:1.5rem}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8bf}}"
)


def router(services: Services) -> APIRouter:  # noqa: ARG001 - all routers are made alike
    routes = APIRouter(include_in_schema=False)

    @routes.get("/docs", response_class=HTMLResponse)
    def reference(request: Request) -> HTMLResponse:
        return HTMLResponse(page(request.app.openapi()), headers={"content-security-policy": POLICY})

    return routes


def page(document: dict[str, Any]) -> str:
    """HTML of an OpenAPI document: operations by tag."""
    by_tag: dict[str, list[str]] = {}
    for path, operations in sorted(document["paths"].items()):
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["other"])[0]
            names = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"]
            query = f"<br>Query: {escape(', '.join(names))}" if names else ""
            words = escape(operation.get("description") or operation.get("summary") or "")
            by_tag.setdefault(tag, []).append(
                f"<dt><code>{escape(method.upper())} {escape(path)}</code></dt><dd>{words}{query}</dd>"
            )
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    sections = "".join(f"<h2>{escape(tag)}</h2><dl>{''.join(items)}</dl>" for tag, items in sorted(by_tag.items()))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1><p>{escape(document['info'].get('description', ''))}</p>"
        f'<p>Machine-readable: <a href="/openapi.json">openapi.json</a></p>{sections}</body></html>'
    )
