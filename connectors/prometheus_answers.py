"""Answers of Prometheus' HTTP API as our types, and matchers as its text."""

from __future__ import annotations

import ast
import json
import math
import re
from typing import Any

from aiops.core.series import Labels, Matcher, ResultType, SampleBlock, labels_of


def refusal(text: str) -> tuple[int, Any]:
    """Status and JSON body of the library's ``HTTP Status Code 422 (b'…')``."""
    match = re.match(r"HTTP Status Code (\d+) \((.*)\)\Z", text, re.DOTALL)
    if match is None:
        return 0, None
    try:
        body = ast.literal_eval(match.group(2))
        return int(match.group(1)), json.loads(body)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return int(match.group(1)), None


def block(kind: ResultType, result: Any) -> tuple[SampleBlock, str, int]:
    """(samples, string value, series left out)."""
    if kind is ResultType.STRING:
        return SampleBlock.at(_ms(result[0]), [((), math.nan)]), str(result[1]), 0
    if kind is ResultType.SCALAR:
        return SampleBlock.at(_ms(result[0]), [((), float(result[1]))]), "", 0
    rows: list[tuple[Labels, list[int], list[float]]] = []
    left_out = 0
    for item in result:
        points = [item["value"]] if "value" in item else item.get("values", [])
        if "histogram" in item or "histograms" in item:
            left_out += 1
        if points:
            labels = labels_of({str(k): str(v) for k, v in item["metric"].items()})
            rows.append((labels, [_ms(p[0]) for p in points], [float(p[1]) for p in points]))
    return SampleBlock.build(rows), "", left_out


def _ms(seconds: Any) -> int:
    return round(float(seconds) * 1000)


def matcher_text(matcher: Matcher) -> str:
    plain = matcher.name.replace("_", "a").isalnum() and matcher.name.isascii() and not matcher.name[0].isdigit()
    if plain:
        return str(matcher)
    return f"{json.dumps(matcher.name, ensure_ascii=False)}{str(matcher)[len(matcher.name) :]}"
