"""A small PromQL lexer. It gives tokens with positions (the parser library has none) and the values of strings,
numbers and ``@`` timestamps, which the library reads wrongly or not at all in corner cases."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiops.core.errors import QueryError

MAX_LENGTH = 100_000
PLACEHOLDER = "\ue000"
UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
MAX_MS = 9_223_372_036_854  # what an int64 of microseconds holds; ~292 years

_TOKEN = re.compile(
    r"""
    (?P<space>[\s]+|\#[^\n]*)
  | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`[^`]*`)
  | (?P<duration>\d+(?:ms|[smhdwy])(?:\d+(?:ms|[smhdwy]))*(?![\w.]))
  | (?P<number>0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d[\d_]*)?)
  | (?P<name>[a-zA-Z_][a-zA-Z0-9_:]*|:[a-zA-Z0-9_:]+)
  | (?P<op>==|!=|=~|!~|<=|>=|[-+*/%^<>=@(){}\[\],:])
    """,
    re.VERBOSE,
)
_BRACKET_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_DURATION_PART = re.compile(r"(\d+)(ms|[smhdwy])")
_ESCAPE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34}
_CLOSING = {")": "(", "}": "{", "]": "["}
_WORD_OPERATORS = frozenset({"and", "or", "unless", "atan2"})
_SYMBOL_OPERATORS = frozenset({"==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "^"})


@dataclass(frozen=True, slots=True)
class Token:
    """``kind`` is string, duration, number, name or op; ``start`` a character offset."""

    kind: str
    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Lexed:
    """A query's tokens, and the text for the parser library, with strings and ``@`` times as placeholders."""

    text: str
    tokens: tuple[Token, ...]
    safe_text: str
    strings: tuple[str, ...]
    times_ms: tuple[int, ...]

    def string(self, placeholder: str) -> str:
        """The real value of a string that may be a placeholder."""
        return self.strings[int(placeholder[1:])] if placeholder.startswith(PLACEHOLDER) else placeholder


def error_at(text: str, start: int, message: str, hint: str = "") -> QueryError:
    """A parse error with line:column, as Prometheus writes it, and the place in the text."""
    start = max(0, min(start, len(text)))
    line = text.count("\n", 0, start) + 1
    column = start - (text.rfind("\n", 0, start) + 1) + 1
    near = text[start : start + 30].split("\n")[0].strip()
    where = f"Near `{near}`." if near else "At the end of the query." if text.strip() else ""
    return QueryError(f"{line}:{column}: parse error: {message}", hint=f"{where} {hint}".strip())


def lex(text: str) -> Lexed:
    """Split a query into tokens. Raises ``QueryError`` with the position of what is no token."""
    if len(text) > MAX_LENGTH:
        raise QueryError(f"The query is longer than {MAX_LENGTH} characters.")
    tokens: list[Token] = []
    depth = 0
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            char = text[at]
            if char in "\"'`":
                raise error_at(text, at, "unterminated quoted string")
            if char == "!":
                raise error_at(text, at, "unexpected character after '!'")
            raise error_at(text, at, f"unexpected character: {char!r}")
        kind, value = str(match.lastgroup), match.group()
        if depth and kind == "name":
            inner = _BRACKET_NAME.match(text, at)
            kind, value = ("name", inner.group()) if inner else ("op", ":")
        if kind in ("number", "duration"):
            end = at + len(value)
            if end < len(text) and (text[end].isalnum() or text[end] == "_"):
                raise error_at(text, at, f"bad number or duration syntax: {text[at : end + 1]!r}")
        if kind != "space":
            tokens.append(Token(kind, value, at))
        depth += (value == "[") - (value == "]") if kind == "op" else 0
        at += len(value)
    _check_brackets(text, tokens)
    return _substitute(text, tokens)


def _check_brackets(text: str, tokens: list[Token]) -> None:
    stack: list[Token] = []
    names = {"(": "parenthesis", "{": "brace", "[": "bracket"}
    for token in tokens:
        if token.kind != "op":
            continue
        if token.text in "({[":
            stack.append(token)
        elif token.text in _CLOSING:
            opening = _CLOSING[token.text]
            if not stack or stack[-1].text != opening:
                raise error_at(text, token.start, f"unexpected right {names[opening]} {token.text!r}")
            stack.pop()
    if stack:
        raise error_at(text, stack[-1].start, f"unclosed left {names[stack[-1].text]}")


def _substitute(text: str, tokens: list[Token]) -> Lexed:
    parts: list[str] = []
    strings: list[str] = []
    times: list[int] = []
    i = 0
    while i < len(tokens):
        token = tokens[i]
        if token.kind == "string":
            parts.append(f'"{PLACEHOLDER}{len(strings)}"')
            strings.append(_unquote(text, token))
        elif token.kind == "number":
            parts.append(repr(_number(token.text)))
        elif token.text == "@" and token.kind == "op":
            parts.append("@")
            sign = 1.0
            j = i + 1
            if j < len(tokens) and tokens[j].text in ("-", "+"):
                sign = -1.0 if tokens[j].text == "-" else 1.0
                j += 1
            if j < len(tokens) and _is_number(tokens[j]):
                parts.append(str(len(times)))
                times.append(_timestamp(text, tokens[j], sign))
                i = j
        else:
            parts.append(token.text)
        i += 1
    return Lexed(text, tuple(tokens), " ".join(parts), tuple(strings), tuple(times))


def _is_number(token: Token) -> bool:
    return token.kind in ("number", "duration") or (token.kind == "name" and token.text.lower() in ("inf", "nan"))


def _timestamp(text: str, token: Token, sign: float) -> int:
    if token.kind == "name":
        raise error_at(text, token.start, f"timestamp out of bounds for @ modifier: {token.text}")
    seconds = duration_ms(token.text) / 1000 if token.kind == "duration" else _number(token.text)
    if not abs(seconds) < MAX_MS / 1000:
        raise error_at(text, token.start, f"timestamp out of bounds for @ modifier: {token.text}")
    return round(sign * seconds * 1000)


def duration_ms(text: str) -> int:
    """Milliseconds of ``1h30m``. Raises ``ValueError``."""
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError(f"not a valid duration string: {text!r}")
    return sum(int(n) * UNIT_MS[u] for n, u in parts)


def _number(text: str) -> float:
    plain = text.replace("_", "")
    for prefix, base in (("0x", 16), ("0b", 2), ("0o", 8)):
        if plain.lower().startswith(prefix):
            return float(int(plain[2:], base))
    if re.fullmatch(r"0[0-7]+", plain):
        return float(int(plain, 8))
    return float(plain)


def _unquote(text: str, token: Token) -> str:
    body = token.text[1:-1]
    if token.text[0] == "`" or "\\" not in body:
        return body
    out = bytearray()
    at = 0
    while at < len(body):
        char = body[at]
        if char != "\\":
            out += char.encode()
            at += 1
            continue
        rest = body[at + 1 :]
        if rest[0] in _ESCAPE:
            out.append(_ESCAPE[rest[0]])
            at += 2
            continue
        for pattern, base in ((r"x([0-9a-fA-F]{2})", 16), (r"([0-7]{3})", 8)):
            match = re.match(pattern, rest)
            if match and int(match.group(1), base) < 256:
                out.append(int(match.group(1), base))
                break
        else:
            match = re.match(r"u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})", rest)
            code = int(match.group(1) or match.group(2), 16) if match else -1
            if not match or not 0 <= code <= 0x10FFFF or 0xD800 <= code < 0xE000:
                raise error_at(text, token.start + 1 + at, "unknown escape sequence")
            out += chr(code).encode()
        at += 1 + len(match.group())
    return out.decode("utf-8", "surrogateescape")


def is_operator(token: Token) -> bool:
    """Whether it is a binary (or unary) operator; a label of such a name counts as well."""
    if token.kind == "op":
        return token.text in _SYMBOL_OPERATORS
    return token.kind == "name" and token.text.lower() in _WORD_OPERATORS


def locate(lexed: Lexed, message: str) -> int:
    """Where a complaint of the parser library most likely points; a character offset."""
    quoted = re.findall(r"'([^']+)'|named? '?([A-Za-z_]\w*)", message)
    for pair in quoted:
        word = pair[0] or pair[1]
        for token in lexed.tokens:
            if token.text == word:
                return token.start
    return _first_misfit(lexed)


def _first_misfit(lexed: Lexed) -> int:
    """The first token that stands where it cannot: an operand after an operand, an operator after an operator."""
    want_operand = True
    tokens = lexed.tokens
    braces = 0
    for i, token in enumerate(tokens):
        word = token.text.lower()
        if braces or token.text == "{":
            braces += (token.text == "{") - (token.text == "}")
            want_operand = braces > 0
            continue
        if is_operator(token):
            if want_operand and token.text not in ("+", "-"):
                return token.start
            want_operand = True
        elif token.kind in ("number", "duration", "string") or (token.kind == "name" and word not in _MODIFIERS):
            if not want_operand:
                return token.start
            want_operand = False
        elif token.text in (",", "(", "[", ":", "@"):
            want_operand = True
        elif token.text in (")", "]"):
            want_operand = i > 0 and tokens[i - 1].text == ")" and want_operand
        else:
            want_operand = True
    return len(lexed.text)


_MODIFIERS = frozenset(
    {
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "bool",
        "offset",
        "fill",
        "fill_left",
        "fill_right",
    }
)
