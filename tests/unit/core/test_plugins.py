"""Plug-ins are found without importing them, are unique by name, and say what they need."""

import sys

import pytest

from aiops.core import plugins
from aiops.core.errors import ConfigError
from aiops.core.ports import PluginContext


@pytest.mark.parametrize("kind", list(plugins.KINDS))
def test_every_kind_of_ours_has_a_plugin_and_finding_it_imports_nothing(kind):
    before = set(sys.modules)
    found = plugins.discover(kind)
    assert found
    assert not {f.module for f in found.values()} & (set(sys.modules) - before)


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in plugins.KINDS for n in plugins.discover(k)])
def test_every_plugin_loads_and_documents_itself(kind, name):
    cls = plugins.load(kind, name)
    assert issubclass(cls, plugins.KINDS[kind].port)
    assert cls.__doc__
    assert len((sys.modules[cls.__module__].__doc__ or "") + cls.__doc__) > 80
    assert all(f.description or f.annotation is not None for f in cls.Options.model_fields.values())


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'webhook'"):
        plugins.load("connectors.notifiers", "webhok")


def test_a_misspelt_option_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown key 'ur', did you mean 'url'"):
        plugins.build("connectors.telemetry", "prometheus", {"ur": "http://localhost"}, PluginContext("prod"))


def test_two_plugins_of_one_name_stop_the_start(monkeypatch):
    class Point:
        name, value = "webhook", "elsewhere:Webhook"

    monkeypatch.setattr(plugins, "entry_points", lambda group: [Point()])
    with pytest.raises(ConfigError, match="Two connectors.notifiers plug-ins are named 'webhook'"):
        plugins.discover("connectors.notifiers")
