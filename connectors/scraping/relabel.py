"""Relabelling with Prometheus' semantics
(https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config). Regexes are RE2."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import re2
from pydantic import BaseModel, ConfigDict, field_validator, model_validator

DEFAULT_REGEX, DEFAULT_SEPARATOR, DEFAULT_REPLACEMENT = "(.*)", ";", "$1"
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_TEMPLATE = re.compile(r"(?:(?:[a-zA-Z_]|\$(?:\{\w+\}|\w+))+\w*)+\Z")
_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))")
Action = Literal[
    "replace", "keep", "drop", "hashmod", "labelmap", "labeldrop", "labelkeep", "lowercase", "uppercase", "keepequal",
    "dropequal",
]  # fmt: skip


class RelabelConfig(BaseModel):
    """One step; fields and defaults are Prometheus'."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source_labels: tuple[str, ...] = ()
    separator: str = DEFAULT_SEPARATOR
    regex: str = DEFAULT_REGEX
    modulus: int = 0
    target_label: str = ""
    replacement: str = DEFAULT_REPLACEMENT
    action: Action = "replace"

    @field_validator("action", mode="before")
    @classmethod
    def in_lower_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("regex", mode="before")
    @classmethod
    def as_text(cls, value: Any) -> Any:
        """YAML reads ``regex: 80`` as a number."""
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("regex")
    @classmethod
    def is_regex(cls, value: str) -> str:
        compiled(value)
        return value

    @model_validator(mode="after")
    def fits_its_action(self) -> RelabelConfig:
        action, target = self.action, self.target_label
        if action == "hashmod" and self.modulus <= 0:
            raise ValueError("relabel configuration for hashmod requires non-zero modulus")
        if action in ("replace", "hashmod", "lowercase", "uppercase", "keepequal", "dropequal"):
            if not target:
                raise ValueError(f"relabel configuration for {action} action requires 'target_label' value")
            pattern = _TEMPLATE if action == "replace" and "$" in target else _NAME
            if not pattern.match(target):
                raise ValueError(f"{target!r} is invalid 'target_label' for {action} action")
        if action == "labelmap" and not _TEMPLATE.match(self.replacement):
            raise ValueError(f"{self.replacement!r} is invalid 'replacement' for labelmap action")
        if action in ("lowercase", "uppercase") and self.replacement != DEFAULT_REPLACEMENT:
            raise ValueError(f"'replacement' can not be set for {action} action")
        plain = (self.separator, self.modulus, self.replacement) == (DEFAULT_SEPARATOR, 0, DEFAULT_REPLACEMENT)
        if action in ("keepequal", "dropequal") and not (plain and self.regex == DEFAULT_REGEX):
            raise ValueError(f"{action} action requires only 'source_labels' and 'target_label', and no other fields")
        if action in ("labeldrop", "labelkeep") and not (plain and not self.source_labels and not target):
            raise ValueError(f"{action} action requires only 'regex', and no other fields")
        return self


def relabel(labels: Mapping[str, str], steps: Sequence[RelabelConfig]) -> dict[str, str] | None:
    """The labels after all steps, in their order; ``None`` where one drops them. Empty values are no labels."""
    out = {name: value for name, value in labels.items() if value}
    for step in steps:
        if not _apply(step, out):
            return None
    return out


def _apply(step: RelabelConfig, labels: dict[str, str]) -> bool:
    """Change the labels in place; false drops them."""
    pattern = compiled(step.regex)
    value = step.separator.join([labels.get(name, "") for name in step.source_labels])
    match step.action:
        case "keep":
            return pattern.fullmatch(value) is not None
        case "drop":
            return pattern.fullmatch(value) is None
        case "keepequal":
            return labels.get(step.target_label, "") == value
        case "dropequal":
            return labels.get(step.target_label, "") != value
        case "lowercase" | "uppercase":
            _set(labels, step.target_label, value.lower() if step.action == "lowercase" else value.upper())
        case "hashmod":
            digest = hashlib.md5(value.encode(), usedforsecurity=False).digest()
            _set(labels, step.target_label, str(int.from_bytes(digest[8:], "big") % step.modulus))
        case "labelmap":
            for name, held in list(labels.items()):
                if (found := pattern.fullmatch(name)) is not None:
                    _set(labels, expand(step.replacement, found), held)
        case "labeldrop" | "labelkeep":
            for name in list(labels):
                if (pattern.fullmatch(name) is not None) == (step.action == "labeldrop"):
                    del labels[name]
        case "replace":
            if (found := pattern.fullmatch(value)) is not None:
                target = expand(step.target_label, found)
                if _NAME.match(target):
                    _set(labels, target, expand(step.replacement, found))
    return True


def _set(labels: dict[str, str], name: str, value: str) -> None:
    if value:
        labels[name] = value
    else:
        labels.pop(name, None)


def expand(template: str, match: Any) -> str:
    """``$1``, ``${1}`` and ``${name}`` by what matched, as Go's ``Regexp.Expand``; unknown ones are empty."""
    names = match.re.groupindex

    def one(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name is None:
            return "$"
        number = int(name) if name.isdecimal() else names.get(name)
        if number is None or number > match.re.groups:
            return ""
        return match.group(number) or ""

    return _VARIABLE.sub(one, template)


@lru_cache(maxsize=1024)
def compiled(text: str) -> Any:
    """Raises ``ValueError`` for what is no RE2 expression."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        raise ValueError(f"error parsing regexp {text!r}: {error}") from error
