"""Durations in brackets and after ``offset``: literals, numbers of seconds, and (experimental) arithmetic with them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aiops.core.errors import QueryError
from aiops.promql.lexer import MAX_MS, Token, TokenKind, duration_ms, number_of
from aiops.promql.places import error_at

_LEVELS = {"+": 1, "-": 1, "*": 2, "/": 2, "%": 2, "^": 4}
_UNARY = 3


class Durations:
    """Walks over tokens; the part of the parser that reads durations.

    ``step_ms`` and ``range_ms`` are what ``step()`` and ``range()`` mean: the step of the query that is asked and the
    time from its start to its end, 0 at one time, ``None`` where none is asked.
    """

    def __init__(
        self, text: str, tokens: Sequence[Token], experimental: bool, step_ms: int | None = None,
        range_ms: int | None = None,
    ) -> None:  # fmt: skip
        self.text = text
        self.tokens = tokens
        self.experimental = experimental
        self.of_query = {"step": step_ms, "range": range_ms}
        self.at = 0

    # ------------------------------------------------------------ tokens

    def peek(self) -> Token:
        return self.tokens[self.at]

    @property
    def after(self) -> Token:
        """The token after the next."""
        return self.tokens[min(self.at + 1, len(self.tokens) - 1)]

    def take(self) -> Token:
        token = self.peek()
        if token.kind is TokenKind.ERROR:
            raise self.unexpected()
        if token.kind is not TokenKind.END:
            self.at += 1
        return token

    def symbol(self, text: str) -> Token | None:
        return self.take() if self.peek().kind is TokenKind.SYMBOL and self.peek().text == text else None

    def keyword(self, *words: str) -> Token | None:
        return self.take() if self.peek().kind is TokenKind.KEYWORD and self.peek().word in words else None

    def expect(self, text: str) -> None:
        if not self.symbol(text):
            raise self.misfit()

    def error(self, start: int, message: str, hint: str = "") -> QueryError:
        return error_at(self.text, start, message, hint)

    def misfit(self) -> QueryError:
        return self.unexpected()

    def unexpected(self, where: str = "", expected: str = "") -> QueryError:
        """The next token cannot stand here; what is no token at all says so itself."""
        token = self.peek()
        if token.kind is TokenKind.ERROR:
            return self.error(token.start, token.text)
        message = f"unexpected {token}{f' in {where}' if where else ''}{f', expected {expected}' if expected else ''}"
        return self.error(token.start, message)

    # ------------------------------------------------------------ durations, in ms

    def literal_ms(self) -> int:
        """A duration or a number of seconds."""
        token = self.take()
        try:
            if token.kind is TokenKind.DURATION:
                return duration_ms(token.text)
            return self._bounded(number_of(token.text), token)
        except ValueError as error:
            raise self.error(token.start, str(error)) from None

    def _bounded(self, seconds: float, token: Token) -> int:
        if not abs(seconds) * 1000 <= MAX_MS:
            raise self.error(token.start, "duration out of range")
        return round(seconds * 1000)

    def length_ms(self, expected: str = "number or duration") -> int:
        """What stands in brackets: more than zero."""
        token = self.peek()
        milliseconds = self._bounded(self._sum(0, "subquery or range selector", expected), token)
        if milliseconds <= 0:
            raise self.error(token.start, "duration must be greater than 0")
        return milliseconds

    def offset_ms(self) -> int:
        token, where = self.peek(), "offset"
        sign = self.take().text if token.kind is TokenKind.OPERATOR and token.text in "-+" else ""
        if self.peek().kind is TokenKind.OPERATOR:
            raise self.unexpected(where, "number or duration")
        milliseconds = self._bounded(self._operand(where, "number or duration"), token)
        return -milliseconds if sign == "-" else milliseconds

    def _sum(self, level: int, where: str, expected: str) -> float:
        """Seconds of an arithmetic expression."""
        left = self._operand(where, expected)
        while self.peek().kind is TokenKind.OPERATOR and _LEVELS.get(self.peek().text, 0) > level:
            token = self.take()
            self._experimental(token)
            own = _LEVELS[token.text]
            left = self._apply(token, left, self._sum(own - 1 if token.text == "^" else own, where, expected))
        return left

    def _operand(self, where: str, expected: str) -> float:
        token = self.peek()
        if token.text in ("-", "+") and token.kind is TokenKind.OPERATOR:
            self.take()
            value = self._sum(_UNARY, where, expected)
            return -value if token.text == "-" else value
        if token.text == "(" and token.kind is TokenKind.SYMBOL:
            self._experimental(self.take())
            value = self._sum(0, where, expected)
            if not self.symbol(")"):
                raise self.unexpected(where)
            return value
        if token.word in ("step", "range", "min", "max") and self.after.text == "(":
            return self._called(where, expected)
        if token.kind not in (TokenKind.NUMBER, TokenKind.DURATION):
            raise self.unexpected(where, expected)
        return self.literal_ms() / 1000

    def _called(self, where: str, expected: str) -> float:
        """Seconds of ``step()``, ``range()``, ``min(a, b)`` or ``max(a, b)``."""
        token = self.take()
        self._experimental(token)
        self.take()
        if token.word in self.of_query:
            if not self.symbol(")"):
                raise self.unexpected(where)
            milliseconds = self.of_query[token.word]
            if milliseconds is None:
                raise self.error(token.start, f"{token.word}() in a duration is known only where the query is asked")
            return milliseconds / 1000
        first = self._sum(0, where, expected)
        if not self.symbol(","):
            raise self.unexpected(where)
        second = self._sum(0, where, expected)
        if not self.symbol(")"):
            raise self.unexpected(where)
        return min(first, second) if token.word == "min" else max(first, second)

    def _apply(self, token: Token, a: float, b: float) -> float:
        try:
            match token.text:
                case "+":
                    return a + b
                case "-":
                    return a - b
                case "*":
                    return a * b
                case "/":
                    return a / b
                case "%":
                    return math.fmod(a, b)
                case _:
                    return math.pow(a, b)
        except (ZeroDivisionError, OverflowError, ValueError):
            word = {"/": "division by zero", "%": "modulo by zero"}.get(token.text, "duration out of range")
            raise self.error(token.start, word) from None

    def _experimental(self, token: Token) -> None:
        if not self.experimental:
            raise self.error(
                token.start, "experimental duration expression is not enabled",
                "Set promql.experimental_functions to allow it.",
            )  # fmt: skip
