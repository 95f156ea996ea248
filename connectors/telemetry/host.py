"""Metrics of this machine, with the names, labels and units of Prometheus' node_exporter."""

from __future__ import annotations

import os
import platform
import re
import socket
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil
from pydantic import Field, field_validator

from aiops.core.ports import Collected, PluginContext, PluginOptions, TelemetrySource
from aiops.core.series import METRIC_NAME, Labels, MetricMetadata, SampleBlock, labels_of

SMALLEST_FILESYSTEM = 1 << 20
"""Smaller mounts hold secrets or sandbox plumbing, are always full and tell nothing."""
VMSTAT = ("pgfault", "pgmajfault", "pgpgin", "pgpgout", "pswpin", "pswpout", "oom_kill")
PRESSURE = {("cpu", "some"): "cpu_waiting", ("io", "some"): "io_waiting", ("io", "full"): "io_stalled",
            ("memory", "some"): "memory_waiting", ("memory", "full"): "memory_stalled"}  # fmt: skip
CPU_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
NETWORK = {
    "bytes_recv": "receive_bytes", "bytes_sent": "transmit_bytes",
    "packets_recv": "receive_packets", "packets_sent": "transmit_packets",
    "errin": "receive_errs", "errout": "transmit_errs", "dropin": "receive_drop", "dropout": "transmit_drop",
}  # fmt: skip
DISK = {
    "read_count": ("reads_completed", 1.0), "write_count": ("writes_completed", 1.0),
    "read_bytes": ("read_bytes", 1.0), "write_bytes": ("written_bytes", 1.0),
    "read_time": ("read_time_seconds", 1e-3), "write_time": ("write_time_seconds", 1e-3),
    "busy_time": ("io_time_seconds", 1e-3), "read_merged_count": ("reads_merged", 1.0),
    "write_merged_count": ("writes_merged", 1.0),
}  # fmt: skip
HELP = {
    "node_cpu_seconds_total": "Seconds the CPUs spent in each mode.",
    "node_memory_MemAvailable_bytes": "Memory that programs can still get without swapping.",
    "node_memory_MemTotal_bytes": "Memory of the machine.",
    "node_filesystem_size_bytes": "Size of the filesystem.",
    "node_filesystem_free_bytes": "Free space, with what is reserved for root.",
    "node_filesystem_avail_bytes": "Free space that is not reserved for root.",
    "node_filesystem_readonly": "Whether the filesystem is read-only.",
    "node_load1": "Load average over 1 min.",
    "node_load5": "Load average over 5 min.",
    "node_load15": "Load average over 15 min.",
    "node_boot_time_seconds": "When the machine started, Unix time.",
    "node_time_seconds": "The machine's clock, Unix time.",
    "node_disk_io_time_seconds_total": "Seconds spent doing I/O.",
    "node_network_receive_bytes_total": "Bytes received by the network device.",
    "node_network_transmit_bytes_total": "Bytes sent by the network device.",
    "node_network_up": "Whether the network device is up.",
    "node_vmstat_pgmajfault": "Page faults that needed the disk.",
    "node_pressure_cpu_waiting_seconds_total": "Seconds in which some task waited for a CPU.",
    "node_pressure_memory_waiting_seconds_total": "Seconds in which some task waited for memory.",
    "node_pressure_io_waiting_seconds_total": "Seconds in which some task waited for I/O.",
    "up": "Whether the target could be read.",
}
COUNTERS_WITHOUT_TOTAL = frozenset(f"node_vmstat_{name}" for name in VMSTAT)
Point = tuple[str, dict[str, str], float]


class HostOptions(PluginOptions):
    """``interval_s`` between polls; ``instance`` defaults to the host name. The patterns are anchored at the start."""

    interval_s: float = Field(15.0, gt=0, le=3600)
    instance: str = ""
    job: str = "node"
    exclude_mountpoints: str = r"/(dev|proc|run/credentials/.+|sys|var/lib/(docker|containers/storage|kubelet)/.+)($|/)"
    exclude_filesystems: str = (
        r"(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|efivarfs|fusectl|hugetlbfs|iso9660|mqueue|"
        r"nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs|"
        r"nfs\d?|cifs|smb\d?|smbfs|fuse\..*|9p|ceph|glusterfs|lustre|afs)$"
    )
    """Kernel filesystems, as node_exporter; and network ones, which can hang the reader. ``/`` is always kept."""
    exclude_disks: str = r"(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$"
    exclude_networks: str = r"(veth|cali|flannel|cni)"

    @field_validator("exclude_mountpoints", "exclude_filesystems", "exclude_disks", "exclude_networks")
    @classmethod
    def is_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value


class HostSource(TelemetrySource[HostOptions]):
    """Reads CPU, memory, filesystems, disks, network, load and pressure of the machine it runs on.

    Every sample has ``instance=<host name>`` and ``job="node"``, so that rules and dashboards made for
    node_exporter work unchanged.
    """

    Options = HostOptions

    def __init__(self, options: HostOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self.interval_s = options.interval_s
        self._base = {"instance": _text(options.instance or socket.gethostname()), "job": options.job}

    def poll(self, cursor: str) -> Collected:  # noqa: ARG002 - it has no past to go on from
        """One sample a series, at the context's clock."""
        now_ms = self.context.clock()
        points = [*self._points(), ("node_time_seconds", {}, now_ms / 1000), ("up", {}, 1.0)]
        samples: dict[Labels, float] = {}
        for name, labels, value in points:
            samples.setdefault(self._labels(name, tuple(labels.items())), float(value))
        names = sorted({name for name, _, _ in points})
        return Collected(SampleBlock.at(now_ms, samples.items()), tuple(map(_metadata, names)))

    @lru_cache(maxsize=20_000)  # noqa: B019 - a source lives as long as the service; one tuple a series
    def _labels(self, name: str, labels: Labels) -> Labels:
        return labels_of({**dict(labels), **self._base, METRIC_NAME: name})

    def _points(self) -> Iterator[Point]:
        yield from _cpu()
        yield from _memory()
        yield from self._filesystems()
        yield from self._disks()
        yield from self._networks()
        yield from _kernel()

    def _filesystems(self) -> Iterator[Point]:
        options = self.options
        seen: set[str] = set()
        for mount in psutil.disk_partitions(all=True):
            if mount.mountpoint != "/" and (
                re.match(options.exclude_mountpoints, mount.mountpoint)
                or re.match(options.exclude_filesystems, mount.fstype)
            ):
                continue
            if mount.mountpoint in seen:
                continue
            seen.add(mount.mountpoint)
            try:
                stat = os.statvfs(mount.mountpoint)
            except OSError:
                continue
            size = stat.f_blocks * stat.f_frsize
            if size < SMALLEST_FILESYSTEM:
                continue
            labels = {
                "device": _text(mount.device), "fstype": _text(mount.fstype), "mountpoint": _text(mount.mountpoint)
            }  # fmt: skip
            yield "node_filesystem_size_bytes", labels, size
            yield "node_filesystem_free_bytes", labels, stat.f_bfree * stat.f_frsize
            yield "node_filesystem_avail_bytes", labels, stat.f_bavail * stat.f_frsize
            yield "node_filesystem_files", labels, stat.f_files
            yield "node_filesystem_files_free", labels, stat.f_ffree
            yield "node_filesystem_readonly", labels, float("ro" in mount.opts.split(","))

    def _disks(self) -> Iterator[Point]:
        for device, counters in (psutil.disk_io_counters(perdisk=True) or {}).items():
            if re.match(self.options.exclude_disks, device):
                continue
            for field, (name, factor) in DISK.items():
                value = getattr(counters, field, None)
                if value is not None:
                    yield f"node_disk_{name}_total", {"device": _text(device)}, value * factor

    def _networks(self) -> Iterator[Point]:
        for device, counters in psutil.net_io_counters(pernic=True).items():
            if re.match(self.options.exclude_networks, device):
                continue
            for field, name in NETWORK.items():
                yield f"node_network_{name}_total", {"device": _text(device)}, getattr(counters, field)
        for device, state in psutil.net_if_stats().items():
            if re.match(self.options.exclude_networks, device):
                continue
            yield "node_network_up", {"device": _text(device)}, float(state.isup)
            yield "node_network_mtu_bytes", {"device": _text(device)}, state.mtu
            if state.speed > 0:
                yield "node_network_speed_bytes", {"device": _text(device)}, state.speed * 125_000


def _cpu() -> Iterator[Point]:
    for number, times in enumerate(psutil.cpu_times(percpu=True)):
        for mode in CPU_MODES:
            seconds = getattr(times, mode, None)
            if seconds is not None:
                yield "node_cpu_seconds_total", {"cpu": str(number), "mode": mode}, seconds


def _memory() -> Iterator[Point]:
    """All of /proc/meminfo where there is one; psutil's figures of the same meaning elsewhere."""
    lines = _lines("/proc/meminfo")
    for line in lines:
        name, _, rest = line.partition(":")
        words = rest.split()
        if not words:
            continue
        key = name.replace("(", "_").replace(")", "")
        in_kb = len(words) > 1 and words[1] == "kB"
        yield f"node_memory_{key}{'_bytes' if in_kb else ''}", {}, float(words[0]) * (1024 if in_kb else 1)
    if not lines:
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        yield "node_memory_MemTotal_bytes", {}, memory.total
        yield "node_memory_MemFree_bytes", {}, memory.free
        yield "node_memory_MemAvailable_bytes", {}, memory.available
        yield "node_memory_SwapTotal_bytes", {}, swap.total
        yield "node_memory_SwapFree_bytes", {}, swap.free


def _kernel() -> Iterator[Point]:
    for minutes, load in zip((1, 5, 15), os.getloadavg(), strict=True):
        yield f"node_load{minutes}", {}, load
    yield "node_boot_time_seconds", {}, psutil.boot_time()
    system = platform.uname()
    domain = "".join(_lines("/proc/sys/kernel/domainname")[:1]).strip()
    yield (
        "node_uname_info",
        {
            "sysname": system.system, "release": system.release, "version": system.version,
            "machine": system.machine, "nodename": _text(system.node), "domainname": domain or "(none)",
        },
        1.0,
    )  # fmt: skip
    stats = psutil.cpu_stats()
    yield "node_context_switches_total", {}, stats.ctx_switches
    yield "node_intr_total", {}, stats.interrupts
    for line in _lines("/proc/stat"):
        name, _, value = line.partition(" ")
        if name in ("procs_running", "procs_blocked"):
            yield f"node_{name}", {}, float(value)
        elif name == "processes":
            yield "node_forks_total", {}, float(value)
    for line in _lines("/proc/vmstat"):
        name, _, value = line.partition(" ")
        if name in VMSTAT:
            yield f"node_vmstat_{name}", {}, float(value)
    files = "".join(_lines("/proc/sys/fs/file-nr")[:1]).split()
    if len(files) == 3:
        yield "node_filefd_allocated", {}, float(files[0])
        yield "node_filefd_maximum", {}, float(files[2])
    for resource in ("cpu", "io", "memory"):
        for line in _lines(f"/proc/pressure/{resource}"):
            share, *words = line.split()
            stalled = next((w[6:] for w in words if w.startswith("total=")), "")
            if (resource, share) in PRESSURE and stalled:
                yield f"node_pressure_{PRESSURE[resource, share]}_seconds_total", {}, float(stalled) / 1e6


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _text(value: Any) -> str:
    """File names may hold bytes that are not UTF-8; labels may not."""
    return str(value).encode("utf-8", "replace").decode("utf-8")


@lru_cache(maxsize=2048)
def _metadata(name: str) -> MetricMetadata:
    counter = name.endswith("_total") or name in COUNTERS_WITHOUT_TOTAL
    kind = "counter" if counter else "gauge"
    stem = name.removesuffix("_total")
    unit = next((u for u in ("bytes", "seconds") if stem.endswith(f"_{u}")), "")
    return MetricMetadata(name, kind, unit, HELP.get(name, ""))
