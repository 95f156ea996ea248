"""Reports as pages of their own."""

from __future__ import annotations

from fastapi import Response

PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
"""A report is one self-contained page: inline style, pictures as data, no script."""


def page(html: str) -> Response:
    """A report's HTML, which may run nothing and load nothing."""
    return Response(html, media_type="text/html; charset=utf-8", headers={"content-security-policy": PAGE_POLICY})
