"""The concept table holds together: it loads, parses, fits metric types, and names each metric that it uses."""

from __future__ import annotations

import pytest

from aiops.agent import skeletons
from aiops.agent.catalogue import KnownCatalogue, fold_name
from aiops.agent.concepts import Concept, load_concepts, load_words
from aiops.agent.validator import Validator, parse, uses
from aiops.core.series import Matcher, MatchOp, MetricMetadata

METRIC = [c for c in load_concepts() if c.step == "metric"]


def texts(concept: Concept) -> list[tuple[tuple[str, ...], str]]:
    return [
        (form.metrics, skeletons.fill(text, {}))
        for form in concept.forms
        for text in (form.value, form.quantile, form.forecast, form.change)
        if text
    ]


def kind(name: str) -> str:
    if name == "container_fs_inodes_total":
        return "gauge"
    return "counter" if name.endswith("_total") else "histogram" if "duration" in name else "unknown"


def test_the_table_is_large_and_every_domain_has_words() -> None:
    assert len(METRIC) >= 90
    words = load_words()
    assert {c.domain for c in METRIC} <= set(words.domains) | {"process"}
    folded = [w for group in words.same for w in group]
    assert len(folded) - len(set(folded)) <= 2


@pytest.mark.parametrize("concept", METRIC, ids=lambda c: c.id)
def test_each_skeleton_parses_names_its_metrics_and_passes_the_validator(concept: Concept) -> None:
    assert concept.say
    for metrics, text in texts(concept):
        used = {fold_name(use.metric) for use in uses(parse(text))}
        assert used <= {fold_name(m) for m in metrics}
        catalogue = KnownCatalogue(MetricMetadata(m, kind(m)) for m in metrics)
        Validator().check_promql(text, catalogue, compares_to_zero=concept.limit == 0)
    assert (concept.limit is None) or concept.bad


def test_windows_and_role_labels_are_filled_from_live_labels() -> None:
    live = {"x": {"service_name": frozenset({"a"}), "status": frozenset({"500"})}}
    text = skeletons.fill('sum by ($svc) (rate(x{$status="500"}[$w]))', live)
    assert text == 'sum by (service_name) (rate(x{status="500"}[5m]))'


def test_a_label_value_cannot_break_out_of_its_quotes() -> None:
    text = skeletons.select('rate(a_bucket[5m]) + a_bucket{x="1"}', ["a"], "pod", 'e"} or vector(1) #\n\\')
    for use in uses(parse(text)):
        assert Matcher("pod", MatchOp.EQUAL, 'e"} or vector(1) #\n\\') in use.selector.matchers


@pytest.mark.parametrize("name", ["host_disk_space", "host_inodes"])
def test_a_guard_keeps_hosts_that_do_not_export_it(name: str) -> None:
    concept = next(c for c in METRIC if c.id == name)
    assert " unless node_filesystem_readonly" in concept.value
