"""Secrets are taken out of what a model reads; names go out as stand-ins and come back as themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.agent.masks import Pseudonyms, redacted

NAMES = st.from_regex(r"[a-z][a-z0-9-]{1,12}[a-z0-9](\.[a-z]{2,8})?", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("password=hunter22", "password=[secret]"),
        ('{"api_key": "abc123def"}', '{"api_key": "[secret]"}'),
        ("Authorization: Bearer abcdef1234567", "Authorization: Bearer [secret]"),
        ("GET https://ann:pw123@db.example.org/x", "GET https://[secret]@db.example.org/x"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2ln", "[token]"),
        ("key AKIAABCDEFGHIJKLMNOP used", "key [token] used"),
        ("mail to ann.b+x@mail.example.org failed", "mail to [email] failed"),
        ("paid with 4111-1111-1111-1111", "paid with [card]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE", "[private key]"),
    ],
)
def test_secrets_are_replaced(text: str, seen: str) -> None:
    assert redacted(text) == seen


@pytest.mark.parametrize(
    "text",
    [
        "took 1234567890123456 ns", "trace 4bf92f3577b34da6a3ce929d0e0e4736", "p95 is 0.250 s", "secret is out",
        "user@", "tokens per second", "10.1.2.3:9100", "order 4111111111111112 refused", "session closed",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


@given(st.lists(NAMES, min_size=1, max_size=8, unique=True), st.text(alphabet=" ,;()=", max_size=5))
def test_names_come_back_as_they_went(names: list[str], between: str) -> None:
    masks = Pseudonyms()
    masks.learn({"instance": [f"{name}:9100" for name in names]})
    text = f"{between} ".join(f"<{name}>" for name in names)
    hidden = masks.hide(text)
    assert all(f"<{name}>" not in hidden for name in names)
    assert masks.show(hidden) == text


def test_only_hosts_and_users_get_stand_ins_and_ports_stay() -> None:
    masks = Pseudonyms(b"k" * 32)
    masks.learn({"instance": ["web-1:9100"], "service_name": ["checkout"], "usename": ["ann"], "host": ["web-10"]})
    hidden = masks.hide("web-1:9100 WEB-10 checkout ann web-2")
    host, other, service, user, unknown = hidden.split()
    assert (service, unknown) == ("checkout", "web-2")
    assert host.startswith("host-")
    assert host.endswith(":9100")
    assert other.startswith("host-")
    assert user.startswith("user-")
    assert masks.show({"a": [host, user], "n": 1}) == {"a": ["web-1:9100", "ann"], "n": 1}


def test_who_lacks_the_key_makes_other_stand_ins() -> None:
    one, other = Pseudonyms(), Pseudonyms()
    for masks in (one, other):
        masks.learn({"host": ["web-1"]})
    assert one.hide("web-1") != other.hide("web-1")
