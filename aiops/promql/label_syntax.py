"""Matchers in braces, and lists of label names in parentheses."""

from __future__ import annotations

from aiops.core.series import METRIC_NAME, Matcher, MatchOp
from aiops.promql.durations import Durations
from aiops.promql.lexer import WORD_OPERATORS, Token, TokenKind, unquote
from aiops.promql.matching import compile_regex
from aiops.promql.plan import LEGACY_LABEL

_LABEL_KINDS = (
    TokenKind.IDENTIFIER,
    TokenKind.METRIC,
    TokenKind.AGGREGATOR,
    TokenKind.KEYWORD,
    TokenKind.PREPROCESSOR,
    TokenKind.STRING,
)


class LabelSyntax(Durations):
    """The part of the parser that reads labels."""

    def labels(self) -> tuple[str, ...]:
        """Label names in parentheses."""
        where = "grouping opts"
        if self.peek().text != "(" or self.peek().kind is not TokenKind.SYMBOL:
            raise self.unexpected(where, '"("')
        self.take()
        names: list[str] = []
        while not self.symbol(")"):
            token = self.peek()
            quoted = token.kind is TokenKind.STRING
            if token.kind not in _LABEL_KINDS and token.word not in WORD_OPERATORS:
                raise self.unexpected(where, "label")
            name = unquote(token.text) if quoted else token.text
            if not (name if quoted else LEGACY_LABEL.match(name)):
                raise self.unexpected(where, "label")
            self.take()
            names.append(name)
            if self.peek().kind is not TokenKind.SYMBOL or self.peek().text not in ",)":
                raise self.unexpected(where, '"," or ")"')
            self.symbol(",")
        return tuple(dict.fromkeys(names))

    def matchers(self) -> tuple[Matcher, ...]:
        """Label matchers in braces."""
        where = "label matching"
        self.take()
        found: list[Matcher] = []
        while not self.symbol("}"):
            label = self.peek()
            if label.kind not in (TokenKind.IDENTIFIER, TokenKind.STRING):
                raise self.unexpected(where, 'identifier or "}"')
            self.take()
            quoted = label.kind is TokenKind.STRING
            name = unquote(label.text) if quoted else label.text
            if self.peek().text in ("=", "!=", "=~", "!~"):
                op = MatchOp(self.take().text)
                if self.peek().kind is not TokenKind.STRING:
                    raise self.unexpected(where, "string")
                found.append(self.matcher(label, name, op, unquote(self.take().text)))
            elif quoted:
                found.append(self.matcher(label, METRIC_NAME, MatchOp.EQUAL, name))
            else:
                raise self.unexpected(where, "label matching operator")
            if self.peek().kind is not TokenKind.SYMBOL or self.peek().text not in ",}":
                raise self.unexpected(where, '"," or "}"')
            self.symbol(",")
        return tuple(found)

    def matcher(self, label: Token, name: str, op: MatchOp, value: str) -> Matcher:
        if name == "":
            raise self.error(label.start, 'invalid label name ""')
        if op in (MatchOp.REGEX, MatchOp.NOT_REGEX):
            try:
                compile_regex(value)
            except ValueError as error:
                raise self.error(label.start, f"error parsing regexp: {error}") from None
        return Matcher(name, op, value)
