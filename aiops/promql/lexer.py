"""PromQL's tokens, with positions. What is no token ends the list as an ``error`` token, which the parser reports when
it gets there, so that of several mistakes the first is named, as by Prometheus."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from aiops.core.errors import QueryError
from aiops.promql.plan import quote

MAX_LENGTH = 100_000
UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
MAX_MS = 9_223_372_036_854  # what an int64 of microseconds holds; ~292 years

AGGREGATORS = frozenset(
    {
        "sum", "avg", "count", "min", "max", "group", "stddev", "stdvar", "topk", "bottomk", "count_values", "quantile",
        "limitk", "limit_ratio",
    }
)  # fmt: skip
WORD_OPERATORS = frozenset({"and", "or", "unless", "atan2"})
PREPROCESSORS = frozenset({"start", "end", "step", "range"})
_KEYWORDS = frozenset(
    {
        "offset", "by", "without", "on", "ignoring", "group_left", "group_right", "fill", "fill_left", "fill_right",
        "bool",
    }
)  # fmt: skip

_SPACE = re.compile(r"[ \t\r\n]+|#[^\r\n]*")
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_NUMBER = re.compile(
    r"(?:0[xX]_?[0-9a-fA-F](?:_?[0-9a-fA-F])*|0[bB]_?[01](?:_?[01])*|0[oO]_?[0-7](?:_?[0-7])*"
    r"|(?:\d(?:_?\d)*\.?(?:\d(?:_?\d)*)?|\.\d(?:_?\d)*)(?:[eE][+-]?\d(?:_?\d)*)?)(?![a-zA-Z0-9_.])"
)
_DURATION = re.compile(r"\d+(?:ms|[smhdwy])(?:\d+(?:ms|[smhdw]))*(?![a-zA-Z0-9_])")
_NUMBER_LIKE = re.compile(r"[a-zA-Z0-9_.]+")
_SYMBOL = re.compile(r"==|!=|<=|>=|[-+*/%^<>@]")
_ORDERED = re.compile(r"(\d+y)?(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?\Z")
_PART = re.compile(r"(\d+)(ms|[smhdwy])")
_ESCAPE = re.compile(r"\\(?:([abfnrtv\\])|(['\"])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))")
_NAMED = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92}


class TokenKind(StrEnum):
    IDENTIFIER = "identifier"
    METRIC = "metric identifier"
    STRING = "string"
    NUMBER = "number"
    DURATION = "duration"
    OPERATOR = "operator"
    AGGREGATOR = "aggregator"
    KEYWORD = "keyword"
    PREPROCESSOR = "preprocessor"
    SYMBOL = "symbol"
    END = "end of input"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Token:
    """``start`` is a character offset; ``text`` as written, of an error what is wrong."""

    kind: TokenKind
    text: str
    start: int

    @property
    def word(self) -> str:
        """Keywords and operators are known in any case."""
        return self.text.lower()

    def __str__(self) -> str:
        """As Prometheus names it in messages."""
        match self.kind:
            case TokenKind.END:
                return "end of input"
            case TokenKind.OPERATOR:
                return f"<op:{self.text}>"
            case TokenKind.AGGREGATOR:
                return f"<aggr:{self.text}>"
            case TokenKind.KEYWORD:
                return f"<{self.text}>"
            case TokenKind.SYMBOL | TokenKind.PREPROCESSOR:
                return quote(self.text)
            case TokenKind.IDENTIFIER | TokenKind.METRIC:
                return f"{self.kind} {quote(self.text)}"
            case _:
                return (
                    f"{self.kind} {quote(self.text[:10])}..."
                    if len(self.text) > 10
                    else f"{self.kind} {quote(self.text)}"
                )


def lex(text: str) -> tuple[Token, ...]:
    """Tokens up to the end, or to the first error as the last. Raises ``QueryError`` for too long a text."""
    if len(text) > MAX_LENGTH:
        raise QueryError(f"The query is longer than {MAX_LENGTH} characters.")
    return _Lexer(text).run()


class _Lexer:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[Token] = []
        self.at = 0
        self.parens = 0
        self.brace = self.bracket = self.colon = False

    def run(self) -> tuple[Token, ...]:
        while True:
            space = _SPACE.match(self.text, self.at)
            if space:
                self.at = space.end()
            elif self.at == len(self.text):
                self.end()
                break
            elif (wrong := self.braces() if self.brace else self.statement()) is not None:
                self.tokens.append(Token(TokenKind.ERROR, wrong[1], wrong[0]))
                break
        return tuple(self.tokens)

    def emit(self, kind: TokenKind, length: int) -> None:
        self.tokens.append(Token(kind, self.text[self.at : self.at + length], self.at))
        self.at += length

    def end(self) -> None:
        message = (
            "unexpected end of input inside braces" if self.brace
            else "unclosed left parenthesis" if self.parens
            else "unclosed left bracket" if self.bracket
            else ""
        )  # fmt: skip
        self.tokens.append(Token(TokenKind.ERROR if message else TokenKind.END, message, self.at))

    def braces(self) -> tuple[int, str] | None:
        char = self.text[self.at]
        if label := _LABEL.match(self.text, self.at):
            self.emit(TokenKind.IDENTIFIER, len(label.group()))
        elif char in "\"'`":
            return self.string(char)
        elif self.text.startswith(("=~", "!~", "!="), self.at):
            self.emit(TokenKind.OPERATOR, 2)
        elif char in ",=":
            self.emit(TokenKind.SYMBOL, 1)
        elif char == "}":
            self.brace = False
            self.emit(TokenKind.SYMBOL, 1)
        elif char == "!":
            return (
                self.at,
                f"unexpected character after '!' inside braces: {rune(self.text[self.at + 1 : self.at + 2])}",
            )
        elif char == "{":
            return self.at, f"unexpected left brace {rune(char)}"
        else:
            return self.at, f"unexpected character inside braces: {rune(char)}"
        return None

    def statement(self) -> tuple[int, str] | None:
        text, at, char = self.text, self.at, self.text[self.at]
        if symbol := _SYMBOL.match(text, at):
            self.emit(TokenKind.OPERATOR, len(symbol.group()))
        elif (char.isascii() and char.isdigit()) or (char == "." and _NUMBER.match(text, at)):
            return self.number()
        elif char in "\"'`":
            return self.string(char)
        elif char == ":" and self.bracket:
            if self.colon:
                return at, "unexpected colon ':'"
            self.colon = True
            self.emit(TokenKind.SYMBOL, 1)
        elif word := (_LABEL if self.bracket else _WORD).match(text, at):
            self.word(word.group())
        else:
            return self.symbol(char)
        return None

    def symbol(self, char: str) -> tuple[int, str] | None:
        at = self.at
        if char not in ",=(){}[]":
            return at, (
                f"unexpected character after '!': {rune(self.text[at + 1 : at + 2])}" if char == "!"
                else f"unexpected character: {rune(char)}"
            )  # fmt: skip
        if char == "=" and self.text.startswith("=~", at):
            return at, "unexpected character after '=': '~'"
        if char == ")":
            self.parens -= 1
            if self.parens < 0:
                return at + 1, "unexpected right parenthesis ')'"
        elif char == "[" and self.bracket:
            return at, "unexpected left bracket '['"
        elif char == "]" and not self.bracket:
            return at, "unexpected right bracket ']'"
        elif char == "}":
            return at, "unexpected character: '}'"
        self.parens += char == "("
        self.brace = char == "{"
        if char in "[]":
            self.bracket, self.colon = char == "[", False
        self.emit(TokenKind.SYMBOL, 1)
        return None

    def word(self, word: str) -> None:
        lower = word.lower()
        if lower in ("inf", "nan"):
            kind = TokenKind.NUMBER
        elif lower in AGGREGATORS:
            kind = TokenKind.AGGREGATOR
        elif lower in WORD_OPERATORS:
            kind = TokenKind.OPERATOR
        elif lower in _KEYWORDS and (not lower.startswith("fill") or self._call_follows(len(word))):
            kind = TokenKind.KEYWORD
        elif lower in PREPROCESSORS:
            kind = TokenKind.PREPROCESSOR
        else:
            kind = TokenKind.METRIC if ":" in word else TokenKind.IDENTIFIER
        self.emit(kind, len(word))

    def _call_follows(self, length: int) -> bool:
        return self.text[self.at + length :].lstrip(" \t\r\n").startswith("(")

    def number(self) -> tuple[int, str] | None:
        if found := _NUMBER.match(self.text, self.at):
            self.emit(TokenKind.NUMBER, len(found.group()))
        elif found := _DURATION.match(self.text, self.at):
            self.emit(TokenKind.DURATION, len(found.group()))
        else:
            like = _NUMBER_LIKE.match(self.text, self.at)
            return self.at, f"bad number or duration syntax: {quote(like.group() if like else '')}"
        return None

    def string(self, mark: str) -> tuple[int, str] | None:
        """A quoted string; a bad escape is told here, so that :func:`unquote` cannot fail."""
        text, begin = self.text, self.at
        if mark == "`":
            end = text.find(mark, begin + 1)
            if end < 0:
                return begin, "unterminated raw string"
            self.emit(TokenKind.STRING, end + 1 - begin)
            return None
        at = begin + 1
        while True:
            char = text[at : at + 1]
            if char in ("", "\n"):
                return begin, "unterminated quoted string"
            if char == mark:
                self.emit(TokenKind.STRING, at + 1 - begin)
                return None
            if char != "\\":
                at += 1
                continue
            found = _ESCAPE.match(text, at)
            if found is None or (found[2] and found[2] != mark):
                return begin, _bad_escape(text[at + 1 : at + 10])
            code = int(found[5] or found[6] or "0", 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000 or int(found[3] or "0", 8) > 255:
                return begin, "escape sequence is an invalid Unicode code point"
            at = found.end()


def _bad_escape(rest: str) -> str:
    """What is wrong with the escape whose text after the backslash ``rest`` begins with."""
    if rest == "":
        return "escape sequence not terminated"
    digits = "01234567" if rest[0] in "01234567" else "0123456789abcdefABCDEF" if rest[0] in "xuU" else ""
    if not digits:
        return f"unknown escape sequence U+{ord(rest[0]):04X} {rune(rest[0])}"
    wrong = next((char for char in rest[rest[0] in "xuU" :] if char not in digits), "")
    if wrong == "":
        return "escape sequence not terminated"
    return f"illegal character U+{ord(wrong):04X} {rune(wrong)} in escape sequence"


def rune(char: str) -> str:
    """A character as Go prints it with ``%q``."""
    if char == "":
        return "'\\x00'"
    return "'\\''" if char == "'" else f"'{quote(char)[1:-1]}'" if char != '"' else "'\"'"


def unquote(written: str) -> str:
    """The value of a string token; bytes that are no UTF-8 become surrogates."""
    body = written[1:-1]
    if written[0] == "`" or "\\" not in body:
        return body
    out = bytearray()
    at = 0
    while at < len(body):
        found = _ESCAPE.match(body, at)
        if found is None:
            out += body[at].encode("utf-8", "surrogateescape")
            at += 1
            continue
        named, mark, octal, byte, short, long = found.groups()
        if named or mark:
            out.append(_NAMED[named] if named else ord(mark))
        elif octal or byte:
            out.append(int(octal, 8) if octal else int(byte, 16))
        else:
            out += chr(int(short or long, 16)).encode()
        at = found.end()
    return out.decode("utf-8", "surrogateescape")


def duration_ms(text: str) -> int:
    """Milliseconds of ``1h30m``: units in falling order, each once. Raises ``ValueError``."""
    if text == "0":
        return 0
    if not text:
        raise ValueError("empty duration string")
    if not _ORDERED.match(text):
        raise ValueError(f"not a valid duration string: {quote(text)}")
    total = sum(int(number) * UNIT_MS[unit] for number, unit in _PART.findall(text))
    if total > MAX_MS:
        raise ValueError("duration out of range")
    return total


def number_of(text: str) -> float:
    """The value of a number token, as Go reads it: a leading zero means octal."""
    plain = text.replace("_", "").lower()
    for prefix, base in (("0x", 16), ("0b", 2), ("0o", 8)):
        if plain.startswith(prefix):
            return float(int(plain[2:], base))
    if re.fullmatch(r"0[0-7]+", plain):
        return float(int(plain, 8))
    return float(plain)
