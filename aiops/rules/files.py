"""Rule files in the format of Prometheus 3, checked as ``promtool check rules`` checks them.

Beyond promtool 2.x, as in 3.x: ``query_offset``, a group's ``labels``, and names in UTF-8. Templates may use only
what :mod:`aiops.rules.templates` knows, and functions must be ones that our engine has.
"""

from __future__ import annotations

import difflib
import glob
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from aiops.core.errors import ConfigError, QueryError
from aiops.core.series import METRIC_NAME
from aiops.promql.functions import valid_label
from aiops.promql.lexer import duration_ms
from aiops.promql.parse import parse
from aiops.rules.template_syntax import TemplateError
from aiops.rules.templates import parsed

MAX_BYTES = 16 * 1024 * 1024
MAX_NODES = 500_000
_DURATION = re.compile(r"(\d+y)?(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?\Z")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a rule file; ``line`` and ``column`` count from 1, and are 0 where the file as a whole is meant."""

    file: str
    line: int
    message: str
    fatal: bool = True
    column: int = 0

    def __str__(self) -> str:
        place = f"{self.line}:{self.column}:" if self.column else f"{self.line}:" if self.line else ""
        return f"{self.file}:{place} {self.message}"


def _duration(value: Any) -> int:
    if not isinstance(value, str) or value == "":
        raise ValueError("empty duration string")
    if value == "0":
        return 0
    if not _DURATION.match(value):
        raise ValueError(f'not a valid duration string: "{value}"')
    return duration_ms(value)


def _limit(value: Any) -> int:
    try:
        return int(float(value))  # like Go's YAML, which cuts a fraction off
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"cannot unmarshal {value!r} into int") from None


Duration = Annotated[int, BeforeValidator(_duration)]
"""ms, written as ``1h30m``."""
Texts = dict[str, str]
Places = dict[tuple[str | int, ...], tuple[int, int]]
"""Line and column of each part of a document, by its keys and positions from the top."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Part):
    """A recording rule, or an alerting one. Times are ms."""

    record: str = ""
    alert: str = ""
    expr: str = ""
    for_ms: Duration = Field(0, alias="for")
    keep_firing_for_ms: Duration = Field(0, alias="keep_firing_for")
    labels: Texts = Field(default_factory=dict)
    annotations: Texts = Field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.record or self.alert

    @model_validator(mode="after")
    def _whole(self) -> Rule:
        if self.record and self.alert:
            raise ValueError("only one of 'record' and 'alert' must be set")
        if not self.name:
            raise ValueError("one of 'record' or 'alert' must be set")
        if not self.expr:
            raise ValueError("field 'expr' must be set in rule")
        try:
            parse(self.expr)
        except QueryError as error:
            raise ValueError(f"could not parse expression: {error}") from None
        if self.record:
            for key, given in (
                ("annotations", self.annotations),
                ("for", self.for_ms),
                ("keep_firing_for", self.keep_firing_for_ms),
            ):
                if given:
                    raise ValueError(f"invalid field '{key}' in recording rule")
            if not valid_label(self.record):
                raise ValueError(f"invalid recording rule name: {self.record}")
            if "{" in self.record or "}" in self.record:
                raise ValueError(f"braces present in the recording rule name; should it be in expr?: {self.record}")
        _check_names(self.labels, "label")
        _check_names(self.annotations, "annotation", metric_name=True)
        if self.alert:
            _check_templates(self.labels, "label")
            _check_templates(self.annotations, "annotation")
        return self


class Group(_Part):
    """Rules that are evaluated in order. ``interval_ms`` of 0 means the default."""

    name: str = ""
    interval_ms: Duration = Field(0, alias="interval")
    query_offset_ms: Duration = Field(0, alias="query_offset")
    limit: Annotated[int, BeforeValidator(_limit)] = 0
    """Most series of a recording rule, and alerts of an alerting one; 0 for no limit."""
    labels: Texts = Field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    _file: str = PrivateAttr("")

    @property
    def file(self) -> str:
        """Where it was read."""
        return self._file

    @model_validator(mode="after")
    def _whole(self) -> Group:
        if not self.name:
            raise ValueError("Groupname must not be empty")
        _check_names(self.labels, "label")
        if any(rule.alert for rule in self.rules):
            _check_templates(self.labels, "label")
        return self


class RuleFile(_Part):
    groups: tuple[Group, ...] = ()


def _check_names(texts: Texts, what: str, *, metric_name: bool = False) -> None:
    for key in texts:
        if not valid_label(key) or (key == METRIC_NAME and not metric_name):
            raise ValueError(f"invalid {what} name: {key}")


def _check_templates(texts: Texts, what: str) -> None:
    for key, text in texts.items():
        try:
            parsed(text)
        except TemplateError as error:
            raise ValueError(f"{what} {key!r}: template: {error}") from None


def read_rules(path: Path) -> tuple[tuple[Group, ...], tuple[Problem, ...]]:
    """A file's groups, and what is wrong with it; no groups where a problem is fatal."""
    name = str(path)
    try:
        content = path.read_bytes()
        if len(content) > MAX_BYTES:
            return (), (Problem(name, 0, f"larger than {MAX_BYTES} bytes"),)
        text = content.decode("utf-8")
    except OSError as error:
        return (), (Problem(name, 0, error.strerror or "cannot be read"),)
    except UnicodeDecodeError:
        return (), (Problem(name, 0, "is not UTF-8"),)
    return parse_rules(text, name)


def parse_rules(text: str, name: str) -> tuple[tuple[Group, ...], tuple[Problem, ...]]:
    """As :func:`read_rules`, of a text."""
    lines: Places = {}
    try:
        content = _Reader(lines).read(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        return (), (Problem(name, line, f"yaml: {error.problem or error.context}", column=column),)
    except (yaml.YAMLError, RecursionError) as error:
        return (), (Problem(name, 0, f"yaml: {' '.join(str(error).split())[:200]}"),)
    try:
        file = RuleFile.model_validate(content)
    except ValidationError as error:
        return (), tuple(_problem(name, lines, dict(item)) for item in error.errors())
    seen: set[str] = set()
    problems: list[Problem] = []
    for i, group in enumerate(file.groups):
        if group.name in seen:
            line, column = lines.get(("groups", i), (0, 0))
            message = f'groupname: "{group.name}" is repeated in the same file'
            problems.append(Problem(name, line, message, column=column))
        seen.add(group.name)
    if problems:
        return (), tuple(problems)
    for group in file.groups:
        group._file = name
    return file.groups, _duplicates(name, lines, file)


def _duplicates(name: str, lines: Places, file: RuleFile) -> tuple[Problem, ...]:
    """Rules of the same name and labels: allowed, and seldom meant."""
    counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
    found = []
    for i, group in enumerate(file.groups):
        for j, rule in enumerate(group.rules):
            key = (rule.name, tuple(sorted(rule.labels.items())))
            counts[key] += 1
            if counts[key] == 2:
                line, column = lines.get(("groups", i, "rules", j), (0, 0))
                message = f"duplicate rule {rule.name!r} with the same labels"
                found.append(Problem(name, line, message, fatal=False, column=column))
    return tuple(found)


def _problem(name: str, lines: Places, item: dict[str, Any]) -> Problem:
    place = tuple(item["loc"])
    line, column = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), (1, 1))
    where = ".".join(str(part) for part in place)
    if item["type"] == "extra_forbidden":
        model: type[BaseModel] = Rule if "rules" in place[:-1] else Group if "groups" in place[:-1] else RuleFile
        known = [field.alias or key for key, field in model.model_fields.items()]
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        hint = f", did you mean '{near[0]}'?" if near else ""
        return Problem(name, line, f"unknown key '{place[-1]}' at {where}{hint}", column=column)
    message = item["msg"].removeprefix("Value error, ")
    return Problem(name, line, f"{where}: {message}" if where else message, column=column)


class _Reader:
    """YAML to plain texts, lists and mappings: every scalar is its text, null and absent are the same.

    ``lines`` gets line and column of each place.
    """

    def __init__(self, lines: Places) -> None:
        self.lines = lines
        self.left = MAX_NODES

    def read(self, text: str) -> Any:
        loader = yaml.SafeLoader(text)
        try:
            # Like Prometheus, only the first document counts.
            node = loader.get_node() if loader.check_node() else None
        finally:
            loader.dispose()
        found = self.plain(node, ()) if node is not None else None
        return {} if found is None else found

    def plain(self, node: yaml.Node, place: tuple[str | int, ...]) -> Any:
        self.count()
        if len(place) > 20:
            raise yaml.YAMLError("the document is nested too deeply")
        self.lines[place] = node.start_mark.line + 1, node.start_mark.column + 1
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(child, (*place, i)) for i, child in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, place)
        assert isinstance(node, yaml.ScalarNode)
        return None if node.tag.endswith(":null") and not node.style else node.value

    def count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise yaml.YAMLError("the document contains too many nodes")

    def mapping(self, node: yaml.MappingNode, place: tuple[str | int, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key is no text", problem_mark=key_node.start_mark)
            key = key_node.value
            if key_node.tag.endswith(":merge"):
                several = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for child in several:
                    self.count()
                    if not isinstance(child, yaml.MappingNode):
                        raise yaml.MarkedYAMLError(
                            problem="map merge requires map or sequence of maps", problem_mark=key_node.start_mark
                        )
                    merged = {**self.mapping(child, place), **merged}
                continue
            if key in found:
                raise yaml.MarkedYAMLError(
                    problem=f'mapping key "{key}" already defined', problem_mark=key_node.start_mark
                )
            value = self.plain(value_node, (*place, key))
            texts = place[-1:] in (("labels",), ("annotations",))
            found[key] = "" if value is None and texts else value
        # A null leaves a field at its default.
        return {**merged, **{k: v for k, v in found.items() if v is not None}}


def load_groups(patterns: Sequence[str]) -> tuple[Group, ...]:
    """All groups of the files that the patterns name, in order of patterns and of names.

    Raises ``ConfigError`` for a file that cannot be taken, and for a plain path that does not exist.
    """
    groups: list[Group] = []
    for path in _paths(patterns):
        found, problems = read_rules(path)
        fatal = [p for p in problems if p.fatal]
        if fatal:
            more = f" ({len(fatal) - 1} more problems)" if len(fatal) > 1 else ""
            raise ConfigError(f"{fatal[0]}{more}", hint="`aiops rules check` shows every problem of rule files.")
        groups += found
    return tuple(groups)


def _paths(patterns: Iterable[str]) -> list[Path]:
    found: dict[Path, None] = {}
    for pattern in patterns:
        names = sorted(glob.glob(pattern))
        if not names and not glob.has_magic(pattern):
            raise ConfigError(f"The rule file {pattern} does not exist.")
        found.update(dict.fromkeys(map(Path, names)))
    return list(found)
