"""A MetricReader over a list of series in memory, by the plainest means, and Prometheus' JSON of results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiops.core.principal import Principal
from aiops.core.series import Labels, Matcher, MatchOp, MetricMetadata, SampleBlock
from aiops.promql.matching import compile_regex


def matches(labels: Labels, matcher: Matcher) -> bool:
    value = dict(labels).get(matcher.name, "")
    if matcher.op is MatchOp.EQUAL:
        return value == matcher.value
    if matcher.op is MatchOp.NOT_EQUAL:
        return value != matcher.value
    found = compile_regex(matcher.value).fullmatch(value) is not None
    return found == (matcher.op is MatchOp.REGEX)


class MemoryReader:
    def __init__(self, block: SampleBlock) -> None:
        self.block = block

    def _rows(self, matchers: Sequence[Matcher], principal: Principal) -> list[int]:
        wanted = [*matchers, *(principal.scope or ())]
        names = {m.name for m in principal.scope or ()}
        return sorted(
            (
                i
                for i, labels in enumerate(self.block.labels)
                if all(matches(labels, m) for m in wanted) and names <= dict(labels).keys()
            ),
            key=lambda i: self.block.labels[i],
        )

    def scan(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal) -> SampleBlock:
        out = []
        for i in self._rows(matchers, principal):
            ts, values = self.block.series(i)
            a, b = np.searchsorted(ts, start_ms, "left"), np.searchsorted(ts, end_ms, "right")
            if b > a:
                out.append((self.block.labels[i], ts[a:b], values[a:b]))
        return SampleBlock.build(out)

    def select_series(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal
    ) -> list[Labels]:
        return list(self.scan(matchers, start_ms, end_ms, principal).labels)

    def metadata(self, principal: Principal) -> list[MetricMetadata]:
        return []
