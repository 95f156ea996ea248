"""The log-template miner: forms, headers, joining, memory, restarts, hostile bodies."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.core.signals import OTHER_TEMPLATE, LogRecord
from aiops.core.untrusted import Untrusted
from aiops.ingest.log_templates.header import find_header
from aiops.ingest.log_templates.lines import BINARY, LINE_CAP, message_of
from aiops.ingest.log_templates.miner import FORMS, SERVICES, MinerState, TemplateMiner, templates_of
from tests.benchmarks.log_systems import SYSTEMS

SERVICE = (("service.name", "api"),)


def record(body: str, service: str = "api") -> LogRecord:
    return LogRecord(1_000_000, Untrusted(body), resource=(("service.name", service),))


def ids(miner: TemplateMiner, *bodies: str) -> list[str]:
    return [r.template_id for r in miner.mine([record(b) for b in bodies])]


@pytest.mark.parametrize(
    ("lines", "template"),
    [
        (["took 12 ms", "took 7 ms"], "took <*> ms"),
        (["from 10.0.0.7:8080", "from 10.9.0.7:1"], "from <*>:<*>"),
        (["user=alice in", "user=bob in"], "user=<*> in"),
        (["mode=ro", "mode=ro"], "mode=ro"),
        (['name "a b c" set', 'name "d" set'], 'name "<*>" set'),
        (["sent 12 bytes ok", "sent 1165 bytes (1.13 KB) ok"], "sent <*> ok"),
        (["got [1, 2, 3] back", "got [4] back"], "got [<*>] back"),
        (["at Sat Jun 18 02:08:10 2005 end", "at Mon Jul 1 00:00:00 2006 end"], "at <*> <*> <*> <*>:<*>:<*> <*> end"),
        (["opened for ann", "opened for bea", "opened for cem", "opened for dan"], "opened for <*>"),
        (["loaded /etc/a.conf", "loaded /var/b"], "loaded <*>"),
        (["is ready: true", "is ready: false"], "is ready: <*>"),
        (["don't panic", "don't panic"], "don't panic"),
    ],
)
def test_lines_that_differ_in_values_share_a_template(lines, template):
    found = templates_of(lines)
    assert {id for id, _ in found} == {found[0][0]}
    assert found[-1][1] == template


def test_words_that_vary_little_stay_templates_of_their_own():
    found = templates_of(["session opened", "session closed", "task NEW to RUN", "task RUN to DONE"] * 20)
    assert len({id for id, _ in found}) == 4


def test_a_value_of_several_words_is_one_value():
    lines = [f"The {n} service entered the stopped state." for n in ("Dhcp", "Dns", "Spooler", "Update", "Time")]
    several = ("Print Queue", "Windows Time", "Remote Desktop Host", "Dhcp Dns")
    lines += [f"The {n} service entered the stopped state." for n in several]
    assert {text for _, text in templates_of(lines * 3)} == {"The <*> service entered the stopped state."}


@pytest.mark.parametrize("system", [s.name for s in SYSTEMS])
def test_made_systems_are_grouped_exactly_with_their_headers(system):
    one = next(s for s in SYSTEMS if s.name == system)
    whole, _, truth = one.lines(1500, 5)
    groups: dict[str, set[str]] = {}
    for (id, _), true in zip(templates_of(whole), truth, strict=True):
        groups.setdefault(true, set()).add(id)
    assert sum(len(g) == 1 for g in groups.values()) >= 0.9 * len(groups)
    assert len(set().union(*groups.values())) <= 1.15 * len(groups) + 1


def test_a_header_needs_a_time():
    assert find_header(["alpha beta: gamma delta"] * 50) is None
    header = find_header([f"2024-01-02 03:04:{i:02d} INFO [main] a.B: hello {i}" for i in range(50)])
    assert header is not None
    assert header.message("2024-01-02 03:04:05 INFO [main] a.B: hello 9") == "hello 9"
    assert header.message("    at a.B.c(B.java:1)") == "    at a.B.c(B.java:1)"


def test_the_words_of_one_template_are_no_header():
    header = find_header([f"2024-01-02 03:04:{i:02d} INFO worker: job {i} failed: no route" for i in range(50)])
    assert header is not None
    assert header.message("2024-01-02 03:04:05 INFO worker: job 7 failed: no route") == "job 7 failed: no route"


def test_json_and_logfmt_give_their_message_level_and_fields():
    (mined,) = TemplateMiner().mine([record('{"level":"error","msg":"no route to 10.0.0.7","peer":"x","n":3}')])
    assert mined.severity_number == 17
    assert dict(mined.attributes) == {"peer": "x", "n": "3"}
    assert mined.body.raw.startswith("{")
    assert message_of('ts=1 level=warn msg="say \\"hi\\"" a=b').line == 'say "hi"'
    assert message_of('{"no": "message"}').line == '{"no": "message"}'
    assert message_of("ready=true,policy=3").line == "ready=true,policy=3"


def test_of_many_lines_the_one_that_says_most():
    assert message_of("boom\n\tat a.B.c(B.java:1)\n").line == "boom"
    trace = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: bad 7\n'
    assert message_of(trace).line == "Traceback (most recent call last): ValueError: bad 7"


def test_hostile_bodies_have_a_defined_template():
    assert message_of("").line == ""
    assert message_of("\n\n").line == ""
    assert len(message_of("a" * 1_000_000).line) == LINE_CAP
    assert message_of("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x0e").line == BINARY
    assert "\x1b" not in message_of("\x1b[31mred\x1b[0m alert").line
    found = ids(TemplateMiner(), "", "\ud800 broken", "ünïcode größe 7", "{" * 900, "=" * 900, '"' * 900, "'" * 900)
    assert all(found)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=80), max_size=30))
def test_any_text_is_mined_and_mined_the_same(bodies):
    a, b = TemplateMiner(), TemplateMiner()
    assert ids(a, *bodies) == ids(b, *bodies)


def test_ids_stay_while_templates_widen_and_over_a_restart():
    miner = TemplateMiner()
    first = ids(miner, "opened for ann by 1")[0]
    ids(miner, *[f"opened for {n} by 2" for n in ("bea", "cem", "dan", "eve", "fay", "gil", "hal", "ida", "jan")])
    assert ids(miner, "opened for zoe by 3")[0] == first
    rows = miner.changes()
    again = TemplateMiner(MinerState(rows, miner.headers()))
    assert ids(again, "opened for unseen by 4")[0] == first
    kept = next(r for r in rows if r.id == first)
    assert kept.text.raw == "opened for <*> by <*>" and not kept.merged_into
    assert {r.merged_into for r in rows if r.id != first} == {first}


def test_a_restart_keeps_the_header():
    lines = [f"2024-01-02 03:04:{i % 60:02d},{i:03d} INFO worker: job {i} done" for i in range(60)]
    miner = TemplateMiner()
    before = ids(miner, *lines)[-1]
    again = TemplateMiner(MinerState(miner.changes(), miner.headers()))
    assert ids(again, "2024-01-02 03:05:00,001 INFO worker: job 9 done") == [before]


def test_a_format_that_changes_gets_its_own_header():
    miner = TemplateMiner()
    ids(miner, *[f"2024-01-02 03:04:{i % 60:02d},{i:03d} INFO worker: job {i} done" for i in range(60)])
    old = miner.headers()["api"]
    other = [f"[{i}] <web> 03:04:{i % 60:02d} | request {i} served" for i in range(1500)]
    for start in range(0, 1500, 100):
        found = ids(miner, *other[start : start + 100])
    assert miner.headers().get("api") != old
    assert len(set(found)) == 1


def test_hostile_lines_take_no_more_than_their_length():
    """Each of these made some pattern or recursion explode while it was written."""
    evil = [
        "1" * 1000,
        "a.." * 333,
        "a." * 500,
        ("x=" + '"' * 3) * 200,
        "<*> " * 250,
        "key=" * 250,
        "[" * 1000,
        "1:" * 500,
    ]
    miner = TemplateMiner()
    ids(miner, *[f"2024-01-02 03:04:{i % 60:02d},{i:03d} INFO worker: job {i} done" for i in range(60)])
    assert all(ids(miner, *(line for line in evil for _ in range(20))))


def test_equal_templates_of_two_services_are_two():
    miner = TemplateMiner()
    a, b = miner.mine([record("hello 1", "a"), record("hello 1", "b")])
    assert a.template_id != b.template_id


def test_memory_is_bounded_under_adversarial_variety():
    r = random.Random(3)
    miner = TemplateMiner(templates_per_service=100)
    letters = "abcdefghijklmnopqrstuvwxyz"
    for _ in range(20):
        words = [" ".join("".join(r.choices(letters, k=7)) for _ in range(r.randrange(3, 9))) for _ in range(200)]
        found = ids(miner, *words)
    assert OTHER_TEMPLATE in found
    source = miner._sources["api"]
    assert len(source.templates.live) <= 100 and len(source._forms) <= FORMS
    miner.mine([record("x 1", f"service-{i}") for i in range(2 * SERVICES)])
    assert len(miner._sources) <= SERVICES + 1


def test_threads_agree():
    miner = TemplateMiner()
    lines = SYSTEMS[3].lines(400, 1)[1]
    out: list[list[str]] = []
    threads = [threading.Thread(target=lambda: out.append(ids(miner, *lines))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(out) == 4
    final = ids(miner, *lines)
    assert ids(miner, *lines) == final
