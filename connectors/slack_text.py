"""Markdown to Slack's mrkdwn, and a Slack message's text to plain words. Support, like ``slack_api``."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from connectors.slack_api import escape

_PARSER = MarkdownIt("commonmark", {"html": False}).enable("table")
_LINK = re.compile(r"<([^<>|]*)(?:\|([^<>]*))?>")
_URL = re.compile(r"https?://[^\s<>|]+")


def mrkdwn(markdown: str) -> list[str]:
    """Top-level blocks in mrkdwn. Outside text cannot become a mention, a link or an entity.

    >>> mrkdwn("**up** in `a<b`")
    ['*up* in `a&lt;b`']
    """
    tokens = _PARSER.parse(markdown)
    blocks: list[str] = []
    start, depth = 0, 0
    for i, token in enumerate(tokens):
        depth += token.nesting
        if depth == 0:
            text = _block(tokens[start : i + 1]).strip("\n")
            if text:
                blocks.append(text)
            start = i + 1
    return blocks


def plain(text: str, own_id: str = "") -> str:
    """The words of an incoming message: our mention dropped, links and channels by their names."""

    def spoken(match: re.Match[str]) -> str:
        target, label = match.group(1), match.group(2)
        if target.startswith("@"):
            return "" if target[1:] == own_id else f"@{label or target[1:]}"
        if target.startswith("#"):
            return f"#{label or target[1:]}"
        return "" if target.startswith("!") else (label or target)

    return " ".join(html.unescape(_LINK.sub(spoken, text)).split())


def _block(tokens: Sequence[Token]) -> str:
    if tokens[0].type == "table_open":
        return _table(tokens)
    out: list[str] = []
    lists: list[int | None] = []
    quoted = 0
    first_of_item = False
    for token in tokens:
        match token.type:
            case "bullet_list_open":
                lists.append(None)
            case "ordered_list_open":
                lists.append(int(token.attrGet("start") or 1))
            case "bullet_list_close" | "ordered_list_close":
                lists.pop()
            case "list_item_open":
                number = lists[-1]
                mark = "•" if number is None else f"{number}."
                if number is not None:
                    lists[-1] = number + 1
                out.append("\n" + "    " * (len(lists) - 1) + mark + " ")
                first_of_item = True
            case "blockquote_open":
                quoted += 1
            case "blockquote_close":
                quoted -= 1
            case "inline":
                text = _inline(token.children or [])
                bold = bool(out) and out[-1] == "\0heading"
                if bold:
                    out.pop()
                    text = "*" + text.replace("*", "") + "*"
                if quoted:
                    text = "> " + text.replace("\n", "\n> ")
                out.append(text if first_of_item or not lists else "\n" + "    " * len(lists) + text)
                first_of_item = False
            case "heading_open":
                out.append("\0heading")
            case "fence" | "code_block":
                out.append("\n```\n" + escape(token.content).replace("```", "'''").rstrip("\n") + "\n```\n")
            case "hr":
                out.append("———")
            case "paragraph_close" if quoted:
                out.append("\n")
            case _:
                pass
    return "".join(out)


def _inline(children: Sequence[Token]) -> str:
    out: list[str] = []
    links: list[str] = []
    for token in children:
        match token.type:
            case "text":
                out.append(escape(token.content))
            case "code_inline":
                out.append("`" + escape(token.content.replace("`", "'")) + "`")
            case "strong_open" | "strong_close":
                out.append("*")
            case "em_open" | "em_close":
                out.append("_")
            case "softbreak" | "hardbreak":
                out.append("\n")
            case "link_open":
                url = str(token.attrGet("href") or "")
                links.append(url if _URL.fullmatch(url) else "")
                if links[-1]:
                    out.append(f"<{escape(links[-1])}|")
            case "link_close":
                if links and links.pop():
                    out.append(">")
            case "image":
                out.append(escape(token.content))
            case _:
                out.append(escape(token.content))
    return "".join(out)


def _table(tokens: Sequence[Token]) -> str:
    """Slack has no tables: aligned columns in a code block."""
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            words = "".join(c.content for c in token.children or [] if c.content)
            rows[-1].append(words.replace("`", "'"))
    widths = [max(len(r[i]) for r in rows if i < len(r)) for i in range(max(map(len, rows)))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=False)).rstrip() for row in rows]
    return "```\n" + escape("\n".join(lines)) + "\n```"
