"""Templates of labels and annotations, as Prometheus expands them.

Taken are ``$labels``, ``$value``, ``$externalLabels``, ``$externalURL`` and their ``.Labels`` forms, pipelines,
``if``, ``with``, ``range``, declared variables, and the functions of :data:`FUNCTIONS` with ``query``. Not taken
are ``define``, ``template``, ``break``, ``graphLink``, ``tableLink`` and assignment: such a file is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from aiops.core.errors import AiopsError
from aiops.rules.template_functions import FUNCTIONS, Sample, call, text_of, truth
from aiops.rules.template_syntax import (
    Argument,
    Block,
    Field,
    Function,
    Literal,
    Node,
    Output,
    Pipe,
    TemplateError,
    Text,
    Variable,
    parse_template,
)

NAMES = frozenset({*FUNCTIONS, "query", "externalURL", "pathPrefix"})
MAX_TEXT = 16_000
MAX_STEPS = 20_000


@dataclass(frozen=True, slots=True)
class AlertData:
    """What a template may use. ``query`` answers PromQL at the time of the evaluation."""

    labels: Mapping[str, str]
    value: float
    external_labels: Mapping[str, str] = field(default_factory=dict)
    external_url: str = ""
    query: Callable[[str], list[Sample]] | None = None


@lru_cache(4096)
def parsed(text: str) -> tuple[Node, ...]:
    """Raises :class:`TemplateError` saying what is wrong or not supported."""
    return parse_template(text, NAMES)


def expand(text: str, data: AlertData) -> str:
    """The text filled in; where that fails, Prometheus' ``<error expanding template: …>``."""
    if "{{" not in text:
        return text
    try:
        return _Run(data).run(parsed(text))
    except AiopsError as error:
        return f"<error expanding template: {error}>"


class _Run:
    def __init__(self, data: AlertData) -> None:
        self.data = data
        self.scopes: list[dict[str, Any]] = [
            {
                "$": data,
                "$labels": data.labels,
                "$value": data.value,
                "$externalLabels": data.external_labels,
                "$externalURL": data.external_url,
            }
        ]
        self.functions: dict[str, Callable[..., Any]] = {
            **FUNCTIONS,
            "query": self.query,
            "externalURL": lambda: data.external_url,
            "pathPrefix": lambda: "",
        }
        self.out: list[str] = []
        self.size = 0
        self.steps = 0

    def run(self, nodes: tuple[Node, ...]) -> str:
        self.walk(nodes, self.data)
        return "".join(self.out)

    def query(self, text: Any) -> list[Sample]:
        if self.data.query is None or not isinstance(text, str):
            raise TemplateError("query is not available")
        return self.data.query(text)

    def write(self, text: str) -> None:
        self.size += len(text)
        if self.size > MAX_TEXT:
            raise TemplateError(f"the text is longer than {MAX_TEXT} characters")
        self.out.append(text)

    def walk(self, nodes: tuple[Node, ...], dot: Any) -> None:
        for node in nodes:
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise TemplateError("the template takes too many steps")
            if isinstance(node, Text):
                self.write(node.text)
            elif isinstance(node, Output):
                value = self.pipe(node.pipe, dot)
                if not node.pipe.names:
                    self.write(text_of(value))
            else:
                self.block(node, dot)

    def block(self, node: Block, dot: Any) -> None:
        self.scopes.append({})
        value = self.pipe(node.pipe, dot)
        if node.word == "range":
            self.range(node, value, dot)
        elif truth(value):
            self.walk(node.body, value if node.word == "with" else dot)
        else:
            self.walk(node.other, dot)
        self.scopes.pop()

    def range(self, node: Block, value: Any, dot: Any) -> None:
        if isinstance(value, Mapping):
            items: list[tuple[Any, Any]] = sorted(value.items())
        elif isinstance(value, list):
            items = list(enumerate(value))
        else:
            raise TemplateError(f"range can't iterate over {text_of(value)}")
        for key, item in items:
            scope = dict(zip(reversed(node.pipe.names), (item, key), strict=False))
            self.scopes.append(scope)
            self.walk(node.body, item)
            self.scopes.pop()
        if not items:
            self.walk(node.other, dot)

    def pipe(self, pipe: Pipe, dot: Any) -> Any:
        value: Any = None
        for position, command in enumerate(pipe.commands):
            head, *rest = command
            given = [self.value(argument, dot) for argument in rest]
            if position:
                given.append(value)
            if isinstance(head, Function):
                value = call(head.name, self.functions, given)
            elif rest:
                raise TemplateError("can't give argument to non-function")
            else:
                value = self.value(head, dot)
        for name in pipe.names:
            self.scopes[-1][name] = value
        return value

    def value(self, argument: Argument, dot: Any) -> Any:
        match argument:
            case Literal(value):
                return value
            case Function(name):
                return call(name, self.functions, [])
            case Variable(name, fields):
                found = next(scope[name] for scope in reversed(self.scopes) if name in scope)
            case Field(fields):
                found = dot
            case _:
                found, fields = self.pipe(argument.pipe, dot), argument.fields
        for name in fields:
            found = _field(found, name)
        return found


_FIELDS = {"Labels": "labels", "Value": "value", "ExternalLabels": "external_labels", "ExternalURL": "external_url"}


def _field(of: Any, name: str) -> Any:
    if isinstance(of, Mapping):
        return of.get(name, "")
    if isinstance(of, AlertData | Sample) and (key := _FIELDS.get(name)) and hasattr(of, key):
        return getattr(of, key)
    raise TemplateError(f"can't evaluate field {name} in {type(of).__name__}")
