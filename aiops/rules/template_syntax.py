"""The part of Go's template language that rule files use, as a tree. Everything else is refused by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from aiops.core.errors import InvalidInput

ROOT_VARIABLES = frozenset({"$", "$labels", "$value", "$externalLabels", "$externalURL"})
MAX_NESTING = 20
_ACTION = re.compile(
    r"\{\{(?P<left>- )?(?P<body>(?:/\*.*?\*/|\"(?:\\.|[^\"\\])*\"|`[^`]*`|[^\"`])*?)(?P<right> -)?\}\}", re.S
)
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    | (?P<string>"(?:\\.|[^"\\\n])*"|`[^`]*`)
    | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?))
    | (?P<declare>:=) | (?P<pipe>\|) | (?P<comma>,) | (?P<open>\() | (?P<close>\)(?:\.\w+)*)
    | (?P<variable>\$\w*(?:\.\w+)*)
    | (?P<field>(?:\.[^\W\d]\w*)+)
    | (?P<dot>\.(?!\w))
    | (?P<word>[^\W\d]\w*)""",
    re.X,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.S)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'"}


class TemplateError(InvalidInput):
    """A template that cannot be read or filled in."""


@dataclass(frozen=True, slots=True)
class Literal:
    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Variable:
    name: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """``.a.b``; without names the dot itself."""

    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Function:
    name: str


@dataclass(frozen=True, slots=True)
class Nested:
    pipe: Pipe
    fields: tuple[str, ...]


Argument: TypeAlias = "Literal | Variable | Field | Function | Nested"


@dataclass(frozen=True, slots=True)
class Pipe:
    """Commands joined by ``|``; ``names`` are the variables that it declares."""

    names: tuple[str, ...]
    commands: tuple[tuple[Argument, ...], ...]


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Output:
    pipe: Pipe


@dataclass(frozen=True, slots=True)
class Block:
    """``if``, ``with`` or ``range``."""

    word: str
    pipe: Pipe
    body: tuple[Node, ...]
    other: tuple[Node, ...]


Node: TypeAlias = "Text | Output | Block"


def parse_template(text: str, functions: frozenset[str]) -> tuple[Node, ...]:
    """The tree of a template. Raises :class:`TemplateError` naming what it cannot take."""
    return _Parser(text, functions).parse()


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str
    action: bool


def _pieces(text: str) -> Iterator[_Piece]:
    """Text and actions in turn, white space trimmed where ``{{-`` and ``-}}`` ask for it."""
    at, trim = 0, False
    while True:
        start = text.find("{{", at)
        plain = text[at:] if start < 0 else text[at:start]
        if trim:
            plain = plain.lstrip(" \t\r\n")
        if start < 0:
            yield _Piece(plain, False)
            return
        found = _ACTION.match(text, start)
        if found is None:
            raise TemplateError(f"unclosed action: {text[start : start + 40]!r}")
        if found["left"]:
            plain = plain.rstrip(" \t\r\n")
        yield _Piece(plain, False)
        body = found["body"].strip()
        if not (body.startswith("/*") and body.endswith("*/")):
            yield _Piece(body, True)
        at, trim = found.end(), found["right"] is not None


class _Parser:
    def __init__(self, text: str, functions: frozenset[str]) -> None:
        self.pieces = list(_pieces(text))
        self.functions = functions
        self.at = 0
        self.scopes: list[set[str]] = [set(ROOT_VARIABLES)]

    def parse(self) -> tuple[Node, ...]:
        nodes, end = self.nodes(0)
        if end:
            raise TemplateError(f"unexpected {{{{{end}}}}}")
        return nodes

    def nodes(self, depth: int) -> tuple[tuple[Node, ...], str]:
        """Nodes up to an ``end`` or ``else``, which is returned as well; empty at the end of the text."""
        if depth > MAX_NESTING:
            raise TemplateError(f"nested deeper than {MAX_NESTING} levels")
        found: list[Node] = []
        while self.at < len(self.pieces):
            piece = self.pieces[self.at]
            self.at += 1
            if not piece.action:
                if piece.text:
                    found.append(Text(piece.text))
                continue
            word = piece.text.split(None, 1)[0] if piece.text else ""
            if word == "end" and piece.text != "end":
                raise TemplateError(f"unexpected {piece.text[3:].strip()!r} in end")
            if word in ("end", "else"):
                return tuple(found), piece.text
            if word in ("if", "with", "range"):
                self.scopes.append(set())
                found.append(self.block(word, piece.text[len(word) :], depth))
                self.scopes.pop()
            elif word in ("define", "template", "block", "break", "continue"):
                raise TemplateError(f"{{{{{word}}}}} is not supported")
            else:
                found.append(Output(self.pipe(piece.text)))
        return tuple(found), ""

    def block(self, word: str, text: str, depth: int) -> Block:
        pipe = self.pipe(text, ranged=word == "range")
        body, end = self.nodes(depth + 1)
        other: tuple[Node, ...] = ()
        rest = end[4:].strip() if end.startswith("else") else ""
        if rest:
            if word != "if" or rest.split(None, 1)[0] != "if":
                raise TemplateError(f"{{{{else {rest}}}}} is not supported")
            return Block(word, pipe, body, (self.block("if", rest[2:], depth + 1),))
        if end == "else":
            other, end = self.nodes(depth + 1)
            if end.startswith("else"):
                raise TemplateError("a second {{else}}")
        if end != "end":
            raise TemplateError(f"{{{{{word}}}}} without {{{{end}}}}")
        return Block(word, pipe, body, other)

    # ------------------------------------------------------------ pipelines

    def pipe(self, text: str, *, ranged: bool = False) -> Pipe:
        tokens = _tokens(text)
        names: list[str] = []
        kinds = [kind for kind, _ in tokens if kind != "space"]
        if "declare" in kinds:
            before = [t for t in tokens if t[0] != "space"][: kinds.index("declare")]
            shape = [kind for kind, _ in before]
            if shape != ["variable"] and not (ranged and shape == ["variable", "comma", "variable"]):
                raise TemplateError(f"a wrong declaration of a variable: {text.strip()!r}")
            names = [value for kind, value in before if kind == "variable"]
            if any("." in name or name == "$" for name in names):
                raise TemplateError(f"a wrong name of a variable: {names[0]!r}")
            tokens = tokens[[kind for kind, _ in tokens].index("declare") + 1 :]
        pipe, rest = self.commands(tokens, text, 0)
        if rest:
            raise TemplateError(f"unexpected {rest[0][1]!r} in {text.strip()!r}")
        self.scopes[-1].update(names)
        return Pipe(tuple(names), pipe)

    def commands(
        self, tokens: list[tuple[str, str]], text: str, depth: int
    ) -> tuple[tuple[tuple[Argument, ...], ...], list[tuple[str, str]]]:
        if depth > MAX_NESTING:
            raise TemplateError(f"nested deeper than {MAX_NESTING} levels")
        commands: list[tuple[Argument, ...]] = []
        current: list[Argument] = []
        spaced = True

        def close() -> None:
            if not current:
                raise TemplateError(f"missing value for command in {text.strip()!r}")
            if commands and not isinstance(current[0], Function):
                raise TemplateError(f"non executable command in pipeline: {text.strip()!r}")
            commands.append(tuple(current))
            current.clear()

        while tokens:
            kind, value = tokens.pop(0)
            if kind == "space":
                spaced = True
                continue
            if kind == "pipe":
                close()
                spaced = True
                continue
            if kind == "close":
                tokens.insert(0, (kind, value))
                break
            if not spaced:
                raise TemplateError(f"unexpected {value!r} in {text.strip()!r}")
            spaced = False
            if kind == "open":
                inner, tokens = self.commands(tokens, text, depth + 1)
                if not tokens:
                    raise TemplateError(f"unclosed left parenthesis in {text.strip()!r}")
                closing = tokens.pop(0)[1]
                current.append(Nested(Pipe((), inner), tuple(closing.split(".")[1:])))
            else:
                current.append(self.argument(kind, value, text))
        if current or not commands:  # like Go 1.19, a pipeline may end in "|"
            close()
        if depth == 0 and tokens:
            raise TemplateError(f"unexpected right parenthesis in {text.strip()!r}")
        return tuple(commands), tokens

    def argument(self, kind: str, value: str, text: str) -> Argument:
        if kind == "string":
            return Literal(unquote(value))
        if kind == "number":
            return Literal(_number(value))
        if kind == "variable":
            name, *fields = value.split(".")
            if not any(name in scope for scope in self.scopes):
                raise TemplateError(f"undefined variable {name!r}")
            return Variable(name, tuple(fields))
        if kind == "field":
            return Field(tuple(value[1:].split(".")))
        if kind == "dot":
            return Field(())
        if kind == "word":
            if value in ("true", "false"):
                return Literal(value == "true")
            if value == "nil":
                return Literal(None)
            if value not in self.functions:
                raise TemplateError(f"function {value!r} not defined")
            return Function(value)
        raise TemplateError(f"unexpected {value!r} in {text.strip()!r}")


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise TemplateError(f"unexpected {text[at]!r} in {text.strip()!r}")
        found.append((match.lastgroup, match.group()))
        at = match.end()
    return found


def _number(text: str) -> int | float:
    if "x" in text.lower():
        return int(text, 16)
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def unquote(text: str) -> str:
    """The value of a Go string literal."""
    if text.startswith("`"):
        return text[1:-1]

    def plain(match: re.Match[str]) -> str:
        code = match.group(1)
        if code in _SIMPLE:
            return _SIMPLE[code]
        try:
            return chr(int(code, 8)) if code.isdigit() else chr(int(code[1:], 16))
        except (ValueError, OverflowError):
            raise TemplateError(f"invalid escape in {text}") from None

    return _ESCAPE.sub(plain, text[1:-1])
