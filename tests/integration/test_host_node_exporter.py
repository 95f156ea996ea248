"""Our host metrics beside a real node_exporter: the same names, labels, kinds and figures."""

from __future__ import annotations

import re

import httpx
import pytest

from aiops.core.ports import PluginContext
from connectors.telemetry.host import HostOptions, HostSource
from tests.integration.servers import start_node_exporter

LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
PAIR = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
OURS_ALONE = {"up"}
STEADY = {
    "node_memory_MemTotal_bytes": 0.0,
    "node_boot_time_seconds": 1e-6,
    "node_memory_MemAvailable_bytes": 0.3,
    "node_filesystem_size_bytes": 0.0,
    "node_filesystem_avail_bytes": 0.1,
    "node_filesystem_readonly": 0.0,
    "node_network_mtu_bytes": 0.0,
    "node_filefd_maximum": 0.0,
}


def parse(text: str) -> tuple[dict[str, dict[tuple[tuple[str, str], ...], float]], dict[str, str]]:
    samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    kinds: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            kinds[name] = kind
        elif not line.startswith("#") and (match := LINE.fullmatch(line)):
            labels = tuple(sorted(PAIR.findall(match[2] or "")))
            samples.setdefault(match[1], {})[labels] = float(match[3])
    return samples, kinds


def test_names_labels_and_figures_agree() -> None:
    server = start_node_exporter()
    try:
        ours = HostSource(HostOptions(), PluginContext("host")).poll("")
        theirs, kinds = parse(httpx.get(f"{server.url}/metrics", trust_env=False).text)
    finally:
        server.stop()
    unknown, wrong = set(), {}
    for i, labels in enumerate(ours.samples.labels):
        pairs = dict(labels)
        name = pairs.pop("__name__")
        assert pairs.pop("job") == "node"
        assert pairs.pop("instance")
        if name in OURS_ALONE:
            continue
        if name not in theirs:
            unknown.add(name)
            continue
        keys = {tuple(key for key, _ in other) for other in theirs[name]}
        assert tuple(sorted(pairs)) in keys, name
        other = theirs[name].get(tuple(sorted(pairs.items())))
        if name in STEADY and other is not None:
            assert ours.samples.values[i] == pytest.approx(other, rel=STEADY[name], abs=1e-9), name
    # What a kernel or a build of node_exporter leaves out may be missing there, but not much.
    assert len(unknown) <= 0.1 * len({m.name for m in ours.metadata}), sorted(unknown)
    wrong = {
        m.name: (m.type, kinds[m.name]) for m in ours.metadata if kinds.get(m.name, m.type) not in (m.type, "untyped")
    }
    assert wrong == {}
