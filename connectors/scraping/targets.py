"""What to scrape: static targets and file_sd files, relabelled as Prometheus does it before a scrape."""

from __future__ import annotations

import glob
import json
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from aiops.core.series import Labels, labels_of
from aiops.core.untrusted import Untrusted
from connectors.scraping.relabel import RelabelConfig, relabel

log = logging.getLogger(__name__)

FILE_LIMIT = 16 * 1024 * 1024
ADDRESS, SCHEME, PATH, PARAM = "__address__", "__scheme__", "__metrics_path__", "__param_"
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[^\s/@:\[\]?#]+)(:\d{1,5})?\Z")


class TargetGroup(BaseModel):
    """Addresses (host:port) and labels that they share, as in ``static_configs`` and file_sd files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    targets: tuple[str, ...]
    labels: dict[str, str] = {}


_GROUPS = TypeAdapter(tuple[TargetGroup, ...])


@dataclass(frozen=True, slots=True)
class Target:
    """Where to scrape, and the labels that its series get. Equal ones are one target."""

    url: str
    labels: Labels
    discovered: Labels = field(compare=False)


@dataclass(frozen=True, slots=True)
class TargetRules:
    """How addresses become targets; the fields are those of a Prometheus scrape config."""

    job: str
    scheme: str = "http"
    metrics_path: str = "/metrics"
    params: Mapping[str, Sequence[str]] = field(default_factory=dict)
    steps: Sequence[RelabelConfig] = ()
    interval_s: float = 15.0
    timeout_s: float = 10.0


def targets_of(groups: Iterable[tuple[TargetGroup, Mapping[str, str]]], rules: TargetRules) -> dict[Target, None]:
    """Targets of groups, each with further (meta) labels; those that a step drops are left out.

    The order is kept. An address that cannot be one is logged and left out.
    """
    found: dict[Target, None] = {}
    for group, meta in groups:
        for address in group.targets:
            target = _target({**meta, **group.labels, ADDRESS: address}, rules)
            if target is not None:
                found.setdefault(target)
    return found


def _target(given: Mapping[str, str], rules: TargetRules) -> Target | None:
    labels = {
        "job": rules.job,
        "__scrape_interval__": f"{rules.interval_s:g}s",
        "__scrape_timeout__": f"{rules.timeout_s:g}s",
        PATH: rules.metrics_path,
        SCHEME: rules.scheme,
        **{f"{PARAM}{name}": values[0] for name, values in rules.params.items() if values},
    }
    labels |= {name: value for name, value in given.items() if value}
    discovered = labels_of(labels)
    kept = relabel(labels, rules.steps)
    if kept is None:
        return None
    address, scheme, path = kept.get(ADDRESS, ""), kept.get(SCHEME, ""), kept.get(PATH, "")
    if not _ADDRESS.match(address) or scheme not in ("http", "https"):
        log.warning("The target '%s' of job '%s' is no host:port.", Untrusted(address).display(80), rules.job)
        return None
    params = {name: list(values) for name, values in rules.params.items()}
    for name, value in kept.items():
        if name.startswith(PARAM):
            key = name.removeprefix(PARAM)
            params[key] = [value, *params.get(key, [])[1:]]
    query = urlencode(sorted(params.items()), doseq=True)
    url = f"{scheme}://{address}{path if path.startswith('/') else f'/{path}'}{f'?{query}' if query else ''}"
    own = {name: value for name, value in kept.items() if not name.startswith("__")}
    own.setdefault("instance", address)
    return Target(url, labels_of(own), discovered)


class FileDiscovery:
    """Target groups of files, JSON or YAML, read again when they change. A damaged file keeps its last good content."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = patterns
        self._read: dict[str, tuple[tuple[int, int], tuple[TargetGroup, ...]]] = {}
        self.errors: dict[str, str] = {}

    def groups(self) -> list[tuple[TargetGroup, dict[str, str]]]:
        """All groups, each with its ``__meta_filepath``. A file that is gone has none."""
        paths = sorted({path for pattern in self._patterns for path in glob.glob(os.path.expanduser(pattern))})
        for gone in self._read.keys() - set(paths):
            del self._read[gone]
        for path in paths:
            self._refresh(path)
        return [
            (group, {"__meta_filepath": path}) for path in paths if path in self._read for group in self._read[path][1]
        ]

    def _refresh(self, path: str) -> None:
        try:
            stat = os.stat(path)
            version = (stat.st_mtime_ns, stat.st_size)
            if path in self._read and self._read[path][0] == version:
                return
            self._read[path] = (version, read_groups(Path(path)))
            self.errors.pop(path, None)
        except (OSError, ValueError) as error:
            text = Untrusted(str(error)).display(300)
            if self.errors.get(path) != text:
                log.warning("The target file %s cannot be used: %s", path, text)
            self.errors[path] = text


def read_groups(path: Path) -> tuple[TargetGroup, ...]:
    """Groups of one file. Raises ``OSError`` or ``ValueError`` saying what is wrong."""
    with path.open("rb") as file:
        body = file.read(FILE_LIMIT + 1)
    if len(body) > FILE_LIMIT:
        raise ValueError(f"more than {FILE_LIMIT} bytes")
    try:
        data: Any = json.loads(body) if path.suffix == ".json" else yaml.safe_load(body)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from error
    try:
        return _GROUPS.validate_python(data or ())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}: {first['msg']}") from error
