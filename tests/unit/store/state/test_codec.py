from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.core.action import Action, ActionProposal
from aiops.core.anomaly import Anomaly
from aiops.core.evidence import Answer, Citation, Evidence, EvidenceState, Figure, Hypothesis
from aiops.core.incident import (
    Alert,
    CauseCandidate,
    Incident,
    IncidentSignal,
    IncidentStatus,
    Notification,
    NotificationEvent,
    Severity,
    SignalKind,
    TimelineEntry,
)
from aiops.core.series import STALE_NAN, SampleBlock, is_stale
from aiops.core.untrusted import Untrusted
from aiops.store.state import codec

any_text = st.text(st.characters(exclude_categories=()), max_size=12)
any_float = st.floats(allow_nan=True, allow_infinity=True)
any_int = st.integers(-(2**62), 2**62)
labels = st.lists(st.tuples(any_text, any_text), max_size=3).map(tuple)
untrusted = any_text.map(Untrusted)


def tuples_of(strategy: st.SearchStrategy[Any], size: int = 2) -> st.SearchStrategy[Any]:
    return st.lists(strategy, max_size=size).map(tuple)


anomalies = st.builds(
    Anomaly,
    id=any_text, series=labels, service=any_text, metric=any_text, query=any_text, kind=any_text, direction=any_text,
    started_ms=any_int, updated_ms=any_int, ended_ms=st.none() | any_int, value=any_float, expected=any_float,
    lower=any_float, upper=any_float, score=any_float, p_value=any_float,
    terms=tuples_of(st.tuples(any_text, any_float)),
)  # fmt: skip
alerts = st.builds(
    Alert,
    fingerprint=any_text, kind=st.sampled_from(SignalKind), name=any_text, labels=labels,
    severity=st.sampled_from(Severity), starts_ms=any_int, updated_ms=any_int, ends_ms=st.none() | any_int,
    summary=untrusted, annotations=tuples_of(st.tuples(any_text, untrusted)), anomaly=st.none() | anomalies,
)  # fmt: skip
candidates = st.builds(
    CauseCandidate, service=any_text, share=any_float, before=any_float, after=any_float,
    first_deviation_ms=st.none() | any_int, path=tuples_of(any_text), reasons=tuples_of(any_text),
)  # fmt: skip
incidents = st.builds(
    Incident,
    id=any_text, status=st.sampled_from(IncidentStatus), severity=st.sampled_from(Severity), title=any_text,
    service=any_text, opened_ms=any_int, updated_ms=any_int, resolved_ms=st.none() | any_int,
    signals=tuples_of(st.builds(IncidentSignal, alert=alerts, reason=any_text, linked_ms=any_int)),
    candidates=tuples_of(candidates), clear_cause=st.booleans(),
    timeline=tuples_of(st.builds(TimelineEntry, time_ms=any_int, actor=any_text, event=any_text)),
)  # fmt: skip
proposals = st.builds(
    ActionProposal,
    id=any_text, action=st.builds(Action, kind=any_text, target=any_text, parameters=labels), incident_id=any_text,
    reason=any_text, evidence=tuples_of(any_text), proposer=any_text, created_ms=any_int, expires_ms=any_int,
    nonce=any_text, destructive=st.booleans(),
)  # fmt: skip
notifications = st.builds(
    Notification, id=any_text, receiver=any_text, event=st.sampled_from(NotificationEvent), incident=incidents,
    created_ms=any_int, dedup_key=any_text,
)  # fmt: skip


def same(left: object, right: object) -> bool:
    if isinstance(left, float):
        return isinstance(right, float) and (left == right or (math.isnan(left) and math.isnan(right)))
    if isinstance(left, tuple):
        return isinstance(right, tuple) and len(left) == len(right) and all(map(same, left, right))
    if is_dataclass(left):
        return type(left) is type(right) and all(
            same(getattr(left, f.name), getattr(right, f.name)) for f in fields(left)
        )
    return type(left) is type(right) and left == right


@settings(max_examples=60, deadline=None)
@given(st.one_of(anomalies, alerts, incidents, proposals, notifications))
def test_core_values_come_back_the_same(value: Any) -> None:
    text = codec.dumps(value)
    assert text.isascii()
    assert "\0" not in text
    assert same(value, codec.loads(type(value), text))


def test_a_proposal_keeps_its_digest() -> None:
    proposal = ActionProposal("A-1", Action("webhook", "db", (("a", "1"),)), "INC-1", "r", ("s1",), "x", 1, 2, "n")
    assert codec.loads(ActionProposal, codec.dumps(proposal)).digest == proposal.digest


def test_sample_blocks_keep_stale_markers_and_nan_bits() -> None:
    block = SampleBlock.build([((("a", "b"),), [1, 2, 3, 4], [1.0, math.nan, STALE_NAN, -math.inf])])
    evidence = Evidence(
        "E1", "metric", "t", "store", "up", 0, 1, EvidenceState.OK, (Figure(math.inf, "s", (("a", "b"),)),),
        (Untrusted("x\x00\ud800"),), block,
    )  # fmt: skip
    answer = Answer("a", "q", "t", (evidence,), 0.5, True, "offline", 1, citations=(Citation("E1", "t"),),
                    hypotheses=(Hypothesis("h", True, 0.2, ("E1",)),))  # fmt: skip
    back = codec.loads(Answer, codec.dumps(answer))
    found = back.evidence[0].series
    assert found is not None
    assert found.values.tobytes() == block.values.tobytes()
    assert is_stale(found.values).tolist() == [False, False, True, False]
    assert found.labels == block.labels
    assert found.ts.dtype == np.int64
    assert found.offsets.tolist() == [0, 4]
    assert back.hypotheses == answer.hypotheses
    assert back.evidence[0].lines == evidence.lines


@dataclass(frozen=True)
class Small:
    name: str
    count: int = 3


def test_missing_and_unknown_fields() -> None:
    assert codec.from_json(Small, {"name": "a", "gone": 1}) == Small("a", 3)
    with pytest.raises(ValueError, match=r"Small\.name is missing"):
        codec.from_json(Small, {})


@pytest.mark.parametrize("data", [None, 3, [], {"name": 3}, {"name": "a", "count": "3"}, {"name": "a", "count": True}])
def test_ill_typed_data_is_refused(data: object) -> None:
    with pytest.raises(ValueError):
        codec.from_json(Small, data)


def test_text_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        codec.from_json(float, "1e5")


def test_floats_are_strict_json() -> None:
    assert json.loads(codec.dumps((1.5, math.nan, math.inf, -math.inf, -0.0))) == [1.5, "nan", "inf", "-inf", -0.0]


def test_what_has_no_form_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        codec.dumps(object())
    with pytest.raises(TypeError):
        codec.dumps({1: "a"})
