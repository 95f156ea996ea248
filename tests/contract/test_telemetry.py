"""Every telemetry source, found by discovery: what it brings can be stored, twice without harm."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from aiops.core.errors import AiopsError, ConfigError, PermanentError, TransientError
from aiops.core.plugins import build, discover
from aiops.core.ports import Collected, PluginContext, TelemetrySource
from aiops.core.principal import LOCAL
from aiops.core.series import METRIC_NAME, labels_of
from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.contract.peers import Answer, Peer, peer

NOW = 1_790_000_000_000
SECRET = "a-very-secret-password"
MATRIX = {
    "resultType": "matrix",
    "result": [{"metric": {"__name__": "up", "job": "a"}, "values": [[NOW / 1000 - 20, "1"], [NOW / 1000 - 5, "NaN"]]}],
}
METADATA = {"up": [{"type": "gauge", "help": "Is it up?", "unit": ""}]}


def answer(data: object) -> Answer:
    return Answer(200, json.dumps({"status": "success", "data": data}).encode())


@dataclass(frozen=True)
class Provider:
    """How to reach a source's server on loopback, and its answers to one poll.

    A source of many targets ``stores_failures`` as samples, since one of them must not hold up the others.
    """

    options: Callable[[str], dict[str, Any]]
    answers: tuple[Answer, ...]
    stores_failures: bool = False


PROVIDERS = {
    "prometheus": Provider(
        lambda url: {"url": url, "username": "u", "password": SECRET, "match": ['{__name__=~".+"}']},
        (answer(MATRIX), answer(METADATA)),
    ),
    "scrape": Provider(
        lambda url: {
            "static_configs": [{"targets": [url.removeprefix("http://")]}], "username": "u", "password": SECRET,
        },
        (Answer(200, b"# HELP a Is it?\n# TYPE a gauge\na 1\n", {"content-type": "text/plain"}),),
        stores_failures=True,
    ),
}  # fmt: skip
RAISING = sorted(name for name, provider in PROVIDERS.items() if not provider.stores_failures)


@contextmanager
def source(name: str) -> Iterator[tuple[TelemetrySource[Any], Peer | None]]:
    provider = PROVIDERS.get(name)
    with peer() as server:
        options = provider.options(server.url) if provider else {}
        server.then(*(provider.answers if provider else ()))
        built = build("connectors.telemetry", name, options, PluginContext("mine", lambda: NOW))
        assert isinstance(built, TelemetrySource)
        try:
            yield built, server if provider else None
        finally:
            built.close()


ASKED = frozenset({"loki", "elasticsearch", "tempo", "jaeger"})
"""Asked in place and never polled: ``test_asked_in_place.py``."""
NAMES = sorted(set(discover("connectors.telemetry")) - ASKED)


def check(collected: Collected) -> None:
    block = collected.samples
    assert len(block.offsets) == len(block) + 1
    assert block.offsets[-1] == len(block.ts) == len(block.values)
    assert len(set(block.labels)) == len(block.labels)
    for i, labels in enumerate(block.labels):
        assert labels == labels_of(labels), "sorted, without empty values"
        assert dict(labels)[METRIC_NAME]
        ts, _ = block.series(i)
        assert (ts[1:] > ts[:-1]).all()
        assert ts[-1] <= NOW
    assert 0 <= collected.done <= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_poll_is_well_formed_and_stored_once(name: str) -> None:
    store = TelemetryStore(TelemetryDatabase(None, StoreSettings(), lambda: NOW))
    with source(name) as (plugin, _):
        assert plugin.interval_s > 0
        collected = plugin.poll("")
    check(collected)
    first = store.append(collected, source=name)
    second = store.append(collected, source=name)
    assert first.accepted == collected.samples.sample_count > 0
    assert (second.accepted, second.conflicts, second.duplicates) == (0, 0, first.accepted)
    assert store.cursor(name) == collected.cursor
    assert {m.name for m in store.metadata(LOCAL)} == {m.name for m in collected.metadata}
    store.close()


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown key 'no_such_key'"):
        build("connectors.telemetry", name, {"no_such_key": 1}, PluginContext("mine"))


@pytest.mark.parametrize("name", RAISING)
@pytest.mark.parametrize(
    "bad",
    [Answer(503, b""), Answer(200, b"<html>hello</html>"), Answer(401, b"{}"), Answer(200, b'{"status":"success"}')],
)
def test_a_server_that_fails_is_a_typed_error_without_secrets(name: str, bad: Answer) -> None:
    with source(name) as (plugin, server):
        assert server is not None
        server.answers.clear()
        server.usual = bad
        with pytest.raises(AiopsError) as caught:
            plugin.poll("")
        assert isinstance(caught.value, TransientError | PermanentError)
        assert SECRET not in f"{caught.value}{plugin.options!r}"


@pytest.mark.parametrize("name", sorted(set(PROVIDERS) - set(RAISING)))
def test_a_failing_target_is_stored_as_down_without_secrets(name: str) -> None:
    with source(name) as (plugin, server):
        assert server is not None
        server.answers.clear()
        server.usual = Answer(503, b"no")
        block = plugin.poll("").samples
        values = {dict(labels)[METRIC_NAME]: float(block.series(i)[1][-1]) for i, labels in enumerate(block.labels)}
        assert values["up"] == 0.0
        assert SECRET not in f"{block.labels}{plugin.options!r}"


@pytest.mark.parametrize("name", RAISING)
def test_a_server_that_is_not_there_is_transient(name: str) -> None:
    with peer() as server:
        gone = server.url
    plugin = build("connectors.telemetry", name, PROVIDERS[name].options(gone), PluginContext("mine", lambda: NOW))
    assert isinstance(plugin, TelemetrySource)
    with pytest.raises(TransientError):
        plugin.poll("")
    plugin.close()
