from __future__ import annotations

import sys
from typing import Any

import pytest

from aiops.core.plugins import build
from aiops.core.ports import PluginContext
from aiops.core.series import Labels
from connectors.telemetry.host import HostOptions, HostSource

NOW = 1_790_000_000_000
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def read(**options: Any) -> dict[Labels, float]:
    got = HostSource(HostOptions(**options), PluginContext("host", lambda: NOW)).poll("")
    assert set(got.samples.ts.tolist()) == {NOW}
    assert len(set(got.samples.labels)) == len(got.samples.labels)
    return dict(zip(got.samples.labels, got.samples.values.tolist(), strict=True))


def named(samples: dict[Labels, float], name: str) -> dict[Labels, float]:
    return {labels: value for labels, value in samples.items() if ("__name__", name) in labels}


def keys(samples: dict[Labels, float], name: str) -> set[str]:
    return {key for labels in named(samples, name) for key, _ in labels} - {"__name__", "instance", "job"}


@linux
def test_names_and_labels_are_node_exporters() -> None:
    samples = read(instance="here")
    assert all(("instance", "here") in labels and ("job", "node") in labels for labels in samples)
    assert keys(samples, "node_cpu_seconds_total") == {"cpu", "mode"}
    assert keys(samples, "node_filesystem_avail_bytes") == {"device", "fstype", "mountpoint"}
    assert keys(samples, "node_network_receive_bytes_total") == {"device"}
    assert keys(samples, "node_uname_info") == {"sysname", "release", "version", "machine", "nodename", "domainname"}
    assert {len(named(samples, name)) for name in ("node_load1", "node_load5", "node_load15", "up")} == {1}
    (total,) = named(samples, "node_memory_MemTotal_bytes").values()
    (available,) = named(samples, "node_memory_MemAvailable_bytes").values()
    assert 0 < available < total
    assert named(samples, "node_time_seconds").popitem()[1] == NOW / 1000


@linux
def test_every_filesystem_has_all_its_figures() -> None:
    samples = read()
    roots = {
        name: [v for labels, v in named(samples, f"node_filesystem_{name}").items() if ("mountpoint", "/") in labels]
        for name in ("size_bytes", "free_bytes", "avail_bytes", "readonly")
    }
    (size,), (free,), (avail,) = roots["size_bytes"], roots["free_bytes"], roots["avail_bytes"]
    assert size >= free >= avail >= 0
    assert len(roots["readonly"]) == 1
    assert not any(
        dict(labels)["mountpoint"].startswith("/proc") for labels in named(samples, "node_filesystem_size_bytes")
    )


def test_counters_go_up_and_have_metadata() -> None:
    source = build("connectors.telemetry", "host", {"interval_s": 5}, PluginContext("mine"))
    assert isinstance(source, HostSource)
    assert source.interval_s == 5
    first, second = source.poll(""), source.poll("")
    before = dict(zip(first.samples.labels, first.samples.values.tolist(), strict=True))
    kinds = {m.name: m.type for m in first.metadata}
    assert kinds["node_cpu_seconds_total"] == "counter"
    assert kinds["node_load1"] == "gauge"
    assert {dict(labels)["__name__"] for labels in before} == kinds.keys()
    for labels, value in zip(second.samples.labels, second.samples.values.tolist(), strict=True):
        name = dict(labels)["__name__"]
        if kinds[name] == "counter" and name != "node_cpu_seconds_total":
            assert value >= before.get(labels, 0)
    assert first.samples.labels[0] is second.samples.labels[0], "label sets are made once"


def test_excluded_devices_are_left_out() -> None:
    samples = read(exclude_disks=".*", exclude_networks=".*")
    assert not [labels for labels in samples if dict(labels)["__name__"].startswith(("node_disk", "node_network"))]
    with pytest.raises(ValueError, match="regular expression"):
        HostOptions(exclude_disks="(")
