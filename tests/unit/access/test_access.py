from __future__ import annotations

import itertools
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.access.binding import is_loopback, refuse_unsafe_bind
from aiops.access.keys import KeyService, digest_of
from aiops.access.permissions import PERMISSIONS, Permission, allowed, require
from aiops.access.rates import RateLimits
from aiops.access.scopes import parse_scope
from aiops.core.errors import ConfigError, Forbidden, InvalidInput, LimitExceeded, NotFound
from aiops.core.principal import LOCAL, SYSTEM, Principal, Role
from aiops.core.series import Matcher, MatchOp
from aiops.settings import ServerSettings
from aiops.store.state.audit import AuditLog
from aiops.store.state.database import StateDatabase
from aiops.store.state.keys import KeyRepository

NOW = 1_764_000_000_000


@pytest.fixture
def keys(database: StateDatabase) -> KeyService:
    return KeyService(KeyRepository(database), lambda: NOW, AuditLog(database, lambda: NOW))


def test_roles_grow_and_every_permission_belongs_to_one() -> None:
    order = [PERMISSIONS[r] for r in (Role.VIEWER, Role.RESPONDER, Role.APPROVER, Role.ADMIN)]
    assert all(a < b for a, b in itertools.pairwise(order))
    assert order[-1] == set(Permission)


def test_approving_needs_a_signed_in_person() -> None:
    for nobody in (LOCAL, SYSTEM):
        with pytest.raises(Forbidden, match="signed in"):
            require(nobody, Permission.APPROVE)
        require(nobody, Permission.ADMIN)
    require(Principal("key:1", Role.APPROVER), Permission.APPROVE)
    with pytest.raises(Forbidden, match="viewer"):
        require(Principal("key:1", Role.VIEWER), Permission.RESPOND)


def test_an_unknown_role_may_nothing() -> None:
    assert not any(allowed(Principal("x", "root"), p) for p in Permission)  # type: ignore[arg-type]


def test_a_scope_takes_away_what_it_cannot_limit() -> None:
    scoped = Principal("key:1", Role.ADMIN, (Matcher("team", MatchOp.EQUAL, "a"),))
    assert allowed(scoped, Permission.READ)
    for permission in (Permission.ADMIN, Permission.WRITE_TELEMETRY, Permission.OPERATE, Permission.SEND_ALERTS):
        with pytest.raises(Forbidden, match="scope"):
            require(scoped, permission)


def test_a_key_is_shown_once_and_kept_as_a_digest(keys: KeyService, tmp_path: Path) -> None:
    text, record = keys.create("ci", Role.RESPONDER)
    assert keys.authenticate(text) == Principal(f"key:{record.id}", Role.RESPONDER)
    secret = text.rpartition("_")[2]
    raw = b"".join(p.read_bytes() for p in tmp_path.glob("state.db*"))
    assert secret.encode() not in raw
    assert digest_of(text).encode() in raw
    assert secret not in repr(record)
    assert secret not in repr(keys.list())


def test_a_scope_travels_with_the_key(keys: KeyService) -> None:
    scope = parse_scope(['team="shop"', "env=~prod|test"])
    text, _ = keys.create("scoped", Role.VIEWER, scope)
    assert keys.authenticate(text).scope == scope


@given(st.text(max_size=80))
def test_no_text_but_a_key_is_accepted(text: str) -> None:
    service = KeyService(_NoKeys(), lambda: NOW)  # type: ignore[arg-type]
    with pytest.raises(Forbidden) as caught:
        service.authenticate(text)
    assert not caught.value.authenticated


class _NoKeys:
    def get(self, key_id: str) -> None:
        return None


def test_near_misses_are_refused_alike(keys: KeyService) -> None:
    text, record = keys.create("a", Role.ADMIN)
    other, _ = keys.create("b", Role.ADMIN)
    wrong = [
        text[:-1], text + "x", text.upper(), text + "\n", " " + text, text[:15] + other[15:],
        f"aiops_{record.id}_" + "A" * 43, "", "aiops_", "ａiops_" + text[6:],
    ]  # fmt: skip
    messages = set()
    for candidate in wrong:
        with pytest.raises(Forbidden) as caught:
            keys.authenticate(candidate)
        messages.add(str(caught.value))
    assert len(messages) == 1


def test_expiry_and_revocation(database: StateDatabase) -> None:
    time = [NOW]
    keys = KeyService(KeyRepository(database), lambda: time[0])
    text, record = keys.create("a", Role.VIEWER, expires_ms=NOW + 1)
    keys.authenticate(text)
    time[0] += 1
    with pytest.raises(Forbidden):
        keys.authenticate(text)
    text, record = keys.create("b", Role.VIEWER)
    assert keys.revoke(record.id).revoked_ms == time[0]
    with pytest.raises(Forbidden):
        keys.authenticate(text)
    with pytest.raises(NotFound):
        keys.revoke("none")
    with pytest.raises(InvalidInput):
        keys.create("c", Role.VIEWER, expires_ms=time[0])
    for name in ("", " ", "x" * 81, "a\nb"):
        with pytest.raises(InvalidInput):
            keys.create(name, Role.VIEWER)


def test_keys_are_audited(keys: KeyService, database: StateDatabase) -> None:
    text, record = keys.create("ci", Role.ADMIN, by="key:root")
    keys.revoke(record.id)
    entries = AuditLog(database).list()
    assert [(e.actor, e.action, e.subject) for e in reversed(entries)] == [
        ("key:root", "key.create", f"key:{record.id}"),
        ("local", "key.revoke", f"key:{record.id}"),
    ]
    assert text not in repr(entries)


def test_the_bootstrap_key_is_taken_once(keys: KeyService) -> None:
    text = "aiops_0123abcd_" + "k" * 43
    assert keys.bootstrap(text + "\n")
    assert not keys.bootstrap("aiops_9999abcd_" + "k" * 43)
    assert keys.authenticate(text) == Principal("key:0123abcd", Role.ADMIN)
    with pytest.raises(InvalidInput):
        keys.bootstrap("hunter2")


def test_the_bootstrap_file_is_read_only_while_there_is_no_key(keys: KeyService, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(ConfigError, match="cannot be read"):
        keys.bootstrap_from(missing)
    file = tmp_path / "key"
    file.write_text("aiops_0123abcd_" + "k" * 43 + "\n")
    keys.bootstrap_from(file)
    assert [k.id for k in keys.list()] == ["0123abcd"]
    keys.bootstrap_from(missing)


@pytest.mark.parametrize(
    ("text", "matcher"),
    [
        ('team="shop"', Matcher("team", MatchOp.EQUAL, "shop")),
        ("team=shop", Matcher("team", MatchOp.EQUAL, "shop")),
        (' env =~ "a|b" ', Matcher("env", MatchOp.REGEX, "a|b")),
        ('x!="a \\"b\\" \\\\ \\n"', Matcher("x", MatchOp.NOT_EQUAL, 'a "b" \\ \n')),
        ("x!~y", Matcher("x", MatchOp.NOT_REGEX, "y")),
    ],
)
def test_scopes_as_people_write_them(text: str, matcher: Matcher) -> None:
    assert parse_scope([text]) == (matcher,)


@given(st.text(max_size=30), st.sampled_from(list(MatchOp)))
def test_a_printed_matcher_reads_back(value: str, op: MatchOp) -> None:
    if op in (MatchOp.REGEX, MatchOp.NOT_REGEX):
        value = "".join(c for c in value if c.isalnum())
    if op is MatchOp.EQUAL and not value:
        value = "x"
    matcher = Matcher("label", op, value)
    assert parse_scope([str(matcher)]) == (matcher,)


@pytest.mark.parametrize("text", ["", "team", "1x=a", 'a="b', "a=~(", 'a=""', "a=b c", "a b=c", 'a="b", c="d"'])
def test_bad_scopes_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_scope([text])
    assert parse_scope([]) is None


def test_rates_are_per_principal() -> None:
    rates = RateLimits(2)
    rates.check("a")
    rates.check("a")
    with pytest.raises(LimitExceeded) as caught:
        rates.check("a")
    assert caught.value.retry_after_s is not None
    assert 1 <= caught.value.retry_after_s <= 120
    rates.check("b")
    unlimited = RateLimits(0)
    for _ in range(10):
        unlimited.check("a")


def test_failed_sign_ins_are_per_address() -> None:
    rates = RateLimits(0, failures_per_minute=2)
    for _ in range(2):
        rates.failed("10.0.0.1")
    with pytest.raises(LimitExceeded):
        rates.failed("10.0.0.1")
    rates.failed("10.0.0.2")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("localhost", True),
        ("LocalHost.", True),
        ("app.localhost", True), ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("box", False), ("", False),
        ("127.0.0.1.evil.example", False), ("localhost.evil.example", False), ("::ffff:10.0.0.1", False),
    ],
)  # fmt: skip
def test_no_bind_beyond_loopback_without_auth(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    if loopback:
        refuse_unsafe_bind(ServerSettings(host=host))
    else:
        with pytest.raises(ConfigError, match=r"server\.auth"):
            refuse_unsafe_bind(ServerSettings(host=host))
    refuse_unsafe_bind(ServerSettings(host=host, auth="keys"))


def test_the_database_holds_no_key_text_even_when_read_directly(keys: KeyService, tmp_path: Path) -> None:
    text, record = keys.create("ci", Role.VIEWER)
    raw = sqlite3.connect(tmp_path / "state.db")
    row = raw.execute("SELECT * FROM keys").fetchone()
    raw.close()
    assert text not in map(str, row)
    assert record.digest in row
