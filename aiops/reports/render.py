"""HTML by Jinja2: autoescaped, inline style, pictures as data URIs, nothing fetched from outside."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from aiops.core.untrusted import Untrusted
from aiops.reports.charts import data_uri
from aiops.reports.units import humanise


def html(template: str, **values: Any) -> str:
    """Fill a template of ``aiops/reports/templates``; every value is escaped."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("aiops.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        quantity=humanise,
        share=share,
        day=day,
        shown=lambda text, cap=120: Untrusted(str(text)).display(cap),
        data_uri=data_uri,
    )
    return environment


def share(value: float | None) -> str:
    """A relative change, signed.

    >>> share(0.124), share(None)
    ('+12.4 %', 'new')
    """
    return "new" if value is None else f"{value * 100:+.1f} %"


def day(ms: int) -> str:
    """The UTC day, such as ``24 Nov 2026``."""
    date = np.datetime64(ms, "ms").item()
    return f"{date.day} {date:%b %Y}"
