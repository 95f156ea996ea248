"""Our routing tree leads every alert where Alertmanager's own tool says that Alertmanager would lead it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiops.core.incident import Alert, Severity, SignalKind
from aiops.core.series import labels_of
from aiops.incidents.matchers import labels_of_alert
from aiops.incidents.route_tree import tree_of
from aiops.settings import RouteSettings

pytestmark = pytest.mark.server("amtool")
RECEIVERS = ("a", "b", "c", "d")
MATCHERS = st.sampled_from(['x="1"', 'x!="1"', 'y=~"1|2"', 'y!~"2"', 'z=""', 'x="2"'])


def nodes(children: st.SearchStrategy[dict[str, Any]] | None) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "matchers": st.lists(MATCHERS, min_size=1, max_size=2, unique=True),
            "receivers": st.sampled_from([(), *((name,) for name in RECEIVERS)]),
            "continue": st.booleans(),
            "routes": st.lists(children, max_size=3) if children is not None else st.just([]),
        }
    )


TREES = st.lists(nodes(nodes(nodes(None))), max_size=3).map(lambda routes: {"receivers": ("a",), "routes": routes})
LABELS = st.dictionaries(st.sampled_from("xyz"), st.sampled_from("123"), min_size=1)


def theirs(node: dict[str, Any]) -> dict[str, Any]:
    """The node in Alertmanager's form, which takes one receiver."""
    one = {"receiver": node["receivers"][0]} if node["receivers"] else {}
    kept = {k: node[k] for k in ("matchers", "continue") if k in node}
    return {**one, **kept, "routes": [theirs(child) for child in node["routes"]]}


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES, labels=LABELS)
def test_an_alert_goes_where_alertmanager_would_send_it(tmp_path: Path, tree: dict[str, Any], labels: dict[str, str]):
    config = tmp_path / "alertmanager.yml"
    config.write_text(json.dumps({"route": theirs(tree), "receivers": [{"name": name} for name in RECEIVERS]}))
    asked = ["amtool", "config", "routes", "test", f"--config.file={config}", *(f"{k}={v}" for k, v in labels.items())]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout.strip().split(",")
    alert = Alert("f", SignalKind.ALERT, "Down", labels_of(labels), Severity.WARNING, 0, 0)
    ours = tree_of(RouteSettings.model_validate(tree), RECEIVERS)
    seen = labels_of_alert(alert)
    assert {name for name in RECEIVERS if ours.hears(name, seen)} == set(told)
