"""The service's own metrics, spans and logs, in the text form and as telemetry for the store."""

import json
import logging

import pytest

from aiops.core.signals import label
from aiops.observability import JsonFormatter, Observability


@pytest.fixture
def own():
    observability = Observability("1.2.3", clock=lambda: 1_700_000_000_000)
    yield observability
    observability.stop()


def test_one_registry_feeds_the_text_and_the_store(own):
    own.meters.get_meter("t").create_counter("aiops.ingest.samples").add(3, {"source": "a"})
    assert 'aiops_ingest_samples_total{source="a"} 3.0' in own.metrics_text()
    block = own.collect().samples
    found = {
        labels: block.series(i)[1][0]
        for i, labels in enumerate(block.labels)
        if label(labels, "__name__") == "aiops_ingest_samples_total"
    }
    assert list(found.values()) == [3.0]
    assert label(next(iter(found)), "job") == "aiops"
    assert set(block.ts.tolist()) == {1_700_000_000_000}


def test_lines_and_spans_are_handed_over_once(own):
    with own.tracers.get_tracer("t").start_as_current_span("work"):
        logging.getLogger("t").warning("hello %s", "there")
    own.tracers.force_flush()
    first, second = own.collect(), own.collect()
    (line,), (span,) = [r for r in first.logs if str(r.body) == "hello there"], first.spans
    assert line.trace_id == span.trace_id
    assert line.severity_number == 13
    assert str(span.name) == "work"
    assert not second.logs
    assert not second.spans


def test_log_lines_are_one_json_object_each():
    record = logging.LogRecord("a.b", logging.ERROR, "f", 1, "two\nlines %s", ("x",), None)
    body = json.loads(JsonFormatter().format(record))
    assert body["message"] == "two\nlines x"
    assert body["level"] == "error"
