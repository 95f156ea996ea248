"""Text made safe for Markdown."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~#!])")


def escape(text: str) -> str:
    r"""Text that shows as it is: no emphasis, code, links, HTML or headings.

    >>> print(escape("up_total [x](y) <b>"))
    up\_total \[x\](y) \<b\>
    """
    return _SPECIAL.sub(r"\\\1", text)
