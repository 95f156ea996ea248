from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("slack_sdk")

from aiops.core.ports import ChatReply
from connectors.slack_blocks import blocks, fallback, packed
from connectors.slack_text import mrkdwn, plain


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("**bold** and *it* `a<b`", ["*bold* and _it_ `a&lt;b`"]),
        ("# Head\n\ntext", ["*Head*", "text"]),
        ("- a\n- b\n  - c", ["• a\n• b\n    • c"]),
        ("3. x\n4. y", ["3. x\n4. y"]),
        ("> quoted\n> more", ["> quoted\n> more"]),
        ("```\na < b ` c\n```", ["```\na &lt; b ` c\n```"]),
        ("[docs](https://example.com/a?b=1&c=2)", ["<https://example.com/a?b=1&amp;c=2|docs>"]),
        ("[docs](javascript:alert(1))", ["[docs](javascript:alert(1))"]),
        ("| a | b |\n|---|---|\n| 1 | 22 |", ["```\na  b\n1  22\n```"]),
        ("\\*plain\\* <!channel> & <@U1>", ["*plain* &lt;!channel&gt; &amp; &lt;@U1&gt;"]),
        ("<b>html</b>", ["&lt;b&gt;html&lt;/b&gt;"]),
        ("", []),
    ],
)
def test_markdown_becomes_mrkdwn(markdown: str, shown: list[str]) -> None:
    assert mrkdwn(markdown) == shown


@given(st.text(alphabet="ab<>&!@#|*_`[]()\n- .:/h", max_size=80))
def test_no_text_becomes_a_mention_or_entity(text: str) -> None:
    for block in mrkdwn(text):
        assert not re.search(r"<[!@#]", block)
        assert not re.search(r"&(?!amp;|lt;|gt;)", block)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("<@UBOT> which hosts?", "which hosts?"),
        ("<@UBOT|aiops>  ask <@U2|ann> in <#C1|ops> of <https://x.example|x.example> &amp; &lt;b&gt;",
         "ask @ann in #ops of x.example & <b>"),
        ("<!here> look", "look"),
        ("a < b", "a < b"),
    ],
)  # fmt: skip
def test_incoming_text_becomes_words(raw: str, words: str) -> None:
    assert plain(raw, "UBOT") == words


def test_sections_stay_within_slacks_limits() -> None:
    parts = packed(["x" * 7000, "short", *["y" * 2700] * 40])
    assert all(len(p) <= 2800 for p in parts)
    assert len(parts) == 14
    assert parts[-1].startswith("…")
    made = blocks(ChatReply("a" * 100_000, buttons=tuple((f"Approve {i}" * 20, f"approve:{i}:d") for i in range(20))))
    assert len(made) <= 50
    assert len({b["action_id"] for b in made[-1]["elements"]}) == 10
    assert all(len(b["text"]["text"]) <= 75 for b in made[-1]["elements"])
    assert len(fallback(ChatReply("a" * 5000))) == 300
