"""What detection watches of a user's own metrics source beside the default list."""

from __future__ import annotations

from aiops.agent.catalogue import Catalogue, LiveCatalogue, resolve
from aiops.agent.concepts import Concept, Form, load_concepts
from aiops.agent.skeletons import fill
from aiops.core.ports import MetricQuerier
from aiops.core.principal import SYSTEM
from aiops.core.watching import AlertConditions, Discover, Measure
from aiops.settings import Settings

_UNITS = {"ratio": 0, "s": 1, "/s": 2, "1": 3}
"""Units that are watched: shares and durations before rates and counts."""
_PARTS = ("", "_count", "_bucket", "_sum", "_total")
_DIRECTIONS = {"high": "up", "low": "down"}


def discovery(settings: Settings, querier: MetricQuerier, source: object) -> Discover:
    """Objectives first, then what people's alerting rules compare, then what the concept table knows.

    Args:
        querier: within the load budget.
        source: whose alerting rules are read, where it tells them.
    """
    catalogue = LiveCatalogue(querier, SYSTEM)
    window = f"{max(round(settings.detection.scrape_interval_s * 4), 1)}s"

    def discover() -> list[Measure]:
        from aiops.incidents.measures import alert_measures

        conditions = source.alert_conditions() if isinstance(source, AlertConditions) else ()
        return [*objective_measures(settings), *alert_measures(conditions), *concept_measures(catalogue, window)]

    return discover


def objective_measures(settings: Settings) -> list[Measure]:
    """The share of bad events of every objective, over its own default window."""
    from aiops.promql.parse import selectors_of

    out = []
    for name, slo in settings.slos.items():
        query = f"({slo.errors}) / ({slo.total})".replace("$window", "5m")
        needs = {found.name for found in selectors_of(query) if found.name}
        out.append(Measure(f"slo_{name}_bad_share", query, "ratio", "up", tuple(sorted(needs))))
    return out


def concept_measures(catalogue: Catalogue, rate_window: str) -> list[Measure]:
    """Rate, errors, duration, utilisation and saturation of what the source has, as the concept table measures them.

    A concept is watched where a direction of it is bad and it is a share, a duration, a rate or a count, or where it
    is the request rate of services.
    """
    metrics = catalogue.metrics()
    out = []
    for concept in sorted(filter(_worth, load_concepts()), key=lambda one: _UNITS[one.unit]):
        form = next((f for f in concept.forms if _text(f) and all(resolve(metrics, m) for m in f.metrics)), None)
        if form is None:
            continue
        text = _text(form)
        asks = any(mark in text for mark in ("$svc", "$status", "container"))
        labels = {metric: catalogue.labels(metric) for metric in form.metrics} if asks else {}
        needs = tuple(next((m + part for part in _PARTS if m + part in metrics), m) for m in form.metrics)
        query = fill(text, labels, rate_window=rate_window)
        out.append(Measure(concept.id, query, concept.unit, _DIRECTIONS.get(concept.bad, "both"), needs))
    return out


def _worth(concept: Concept) -> bool:
    if concept.step != "metric" or concept.unit not in _UNITS or concept.shape not in ("", "value", "quantile"):
        return False
    return bool(concept.bad) or (concept.unit == "/s" and any("$svc" in form.value for form in concept.forms))


def _text(form: Form) -> str:
    """The skeleton to watch; none where it counts over a long window, looks back or ahead."""
    text = form.value or form.quantile
    return "" if any(mark in text for mark in ("$c", "$r", "$h")) else text
