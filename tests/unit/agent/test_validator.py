from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.agent.catalogue import KnownCatalogue
from aiops.agent.validator import Validator, parse
from aiops.core.errors import InvalidPlan
from aiops.core.query import ForecastStep, MetricStep, Plan, Threshold, ToolStep, Window
from aiops.core.series import MetricMetadata

NOW = 1_795_521_600_000
CATALOGUE = KnownCatalogue(
    [
        MetricMetadata("node_memory_MemFree_bytes", "gauge"),
        MetricMetadata("http_requests_total", "counter"),
        MetricMetadata("http_request_duration_seconds", "histogram"),
        MetricMetadata("up", "gauge"),
    ],
    {
        "up": {"job": ["node", "api"], "instance": ["a", "b"]},
        "http_requests_total": {"code": ["200", "404"], "job": ["api"]},
    },
)


def check(text: str, **kwargs: object) -> None:
    step = MetricStep.model_validate({"promql": text, **kwargs})
    Validator().check(Plan(steps=(step,)), CATALOGUE, NOW)


@pytest.mark.parametrize(
    "text",
    [
        "up == 0",
        "sum by (job) (rate(http_requests_total[5m]))",
        'rate(http_requests_total{code="500"}[5m])',
        "histogram_quantile(0.9, sum by (le, job) (rate(http_request_duration_seconds_bucket[5m])))",
        "histogram_quantile(0.9, sum without (instance) (rate(http_request_duration_seconds_bucket[5m])))",
        "rate(http_request_duration_seconds_sum[5m]) / rate(http_request_duration_seconds_count[5m])",
        "count(http_requests_total)",
        "predict_linear(node_memory_MemFree_bytes[1h], 3600)",
        '{__name__="up"}',
    ],
)
def test_good_queries_pass(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sum(", "does not parse"),
        ('{job="api"}', "no metric name"),
        ("upp", "Did you mean up"),
        ("rate(node_memory_MemFree_bytes[5m])", "is a gauge"),
        ("http_requests_total", r"Use rate\(http_requests_total"),
        ("deriv(http_requests_total[5m])", "is a counter"),
        (
            "histogram_quantile(0.9, sum by (job) (rate(http_request_duration_seconds_bucket[5m])))",
            "needs the label 'le'",
        ),
        ("histogram_quantile(0.9, sum(rate(http_request_duration_seconds_bucket[5m])))", "needs the label 'le'"),
        ("histogram_quantile(0.9, rate(http_request_duration_seconds_count[5m]))", "needs buckets"),
        ('up{jobb="api"}', "It has: instance, job"),
        ('up{job="apii"}', "Near: api"),
        ("rate(http_requests_total[60d])", "longer than 31 days"),
    ],
)
def test_bad_queries_say_how_to_mend_them(text: str, message: str) -> None:
    with pytest.raises(InvalidPlan, match=message):
        check(text)


def test_a_counter_may_be_compared_to_zero() -> None:
    check("http_requests_total", threshold=Threshold(op=">", value=0))


def test_windows_and_tools_are_bounded() -> None:
    validator = Validator(tools=("loki",))
    with pytest.raises(InvalidPlan, match="days"):
        validator.check(Plan(steps=(MetricStep(promql="up", window=Window(last_s=90 * 86400)),)), CATALOGUE, NOW)
    with pytest.raises(InvalidPlan, match="Known: loki"):
        validator.check(Plan(steps=(ToolStep(name="rm"),)), CATALOGUE, NOW)
    with pytest.raises(InvalidPlan, match="predict_linear"):
        validator.check(Plan(steps=(ForecastStep(promql="up"),)), CATALOGUE, NOW)


@given(st.text(alphabet=st.sampled_from('up{}()[]"=~!<>0123456789.,:@-+*/ sumratebyle_\\\n'), max_size=40))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        parse(text)
        Validator().check_promql(text, CATALOGUE)
    except InvalidPlan:
        pass


def test_a_native_histogram_needs_no_buckets() -> None:
    native = KnownCatalogue(
        [MetricMetadata("rpc_seconds", "histogram"), MetricMetadata("http_seconds", "histogram")],
        {"rpc_seconds": {"job": ["api"]}, "http_seconds": {"job": ["api"]}, "http_seconds_bucket": {"le": ["1"]}},
    )
    check_in = Validator().check_promql
    check_in("histogram_quantile(0.9, sum by (job) (rate(rpc_seconds[5m])))", native)
    with pytest.raises(InvalidPlan, match="http_seconds is not a _bucket series"):
        check_in("histogram_quantile(0.9, rate(http_seconds[5m]))", native)
