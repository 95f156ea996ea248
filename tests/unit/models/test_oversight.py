"""Fairness over groups, agreement of versions, and cards that show hostile text as text."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from aiops.core.anomaly import Anomaly, Judgement, Mark
from aiops.core.model import Dataset, DriftReport, DriftSignal, ModelUse, ModelVersion, UseKind
from aiops.models.card import Facts, card_of
from aiops.models.compare import precision_of, rank_correlation
from aiops.models.fairness import equal_rates, fairness, rate_of

HOSTILE = "<script>alert(1)</script> | [x](javascript:1) `a` *b*\n# head"
NOW = 1_760_000_000_000


def alarm(number: int, team: str) -> Anomaly:
    return Anomaly(
        f"a{number}", (("team", team),), "", "m", "m", "other", "up", NOW, NOW, NOW, 1.0, 0.0, 0.0, 0.0, 5.0, 1e-6,
        model="anomaly-60s/1",
    )  # fmt: skip


def mark(number: int, said: Judgement) -> Mark:
    return Mark(f"a{number}", said, "p", NOW, "m", (), "", NOW, NOW, "anomaly-60s/1")


def test_false_alarms_that_fall_on_one_team_are_seen() -> None:
    series = [{"team": "red"}] * 50 + [{"team": "blue"}] * 50 + [{}] * 10
    alarms = [alarm(n, "red" if n < 18 else "blue") for n in range(20)]
    marks = [mark(n, Judgement.FALSE) for n in range(20)]
    found = fairness("team", series, alarms, marks, days=30)
    assert [(g.group, g.series, g.false) for g in found.groups] == [("(none)", 10, 0), ("blue", 50, 2), ("red", 50, 18)]
    assert found.unequal
    assert found.p < 0.01
    rate, low, high = found.groups[2].rate
    assert rate == pytest.approx(18 / 50)
    assert low < rate < high
    even = fairness("team", series, [alarm(n, "red" if n % 2 else "blue") for n in range(20)], marks, days=30)
    assert not even.unequal


def test_last_mark_counts_and_few_alarms_prove_nothing() -> None:
    marks = [mark(0, Judgement.FALSE), mark(0, Judgement.TRUE)]
    found = fairness("team", [{"team": "red"}, {"team": "blue"}], [alarm(0, "red")], marks, days=30)
    assert [group.false for group in found.groups] == [0, 0]
    assert math.isnan(found.p)
    assert found.alarms_p == 1.0


def test_rates_have_the_exact_intervals() -> None:
    for events, low, high in ((0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.390), (100, 81.36, 121.63)):
        found = rate_of(events, 1.0)
        assert found[1] == pytest.approx(low, rel=0.02, abs=0.02)
        assert found[2] == pytest.approx(high, rel=0.02)


def test_equal_rates_are_seldom_called_unequal() -> None:
    random = np.random.default_rng(1)
    p = [equal_rates(random.poisson([6, 12, 18]).tolist(), [1, 2, 3]) for _ in range(60)]
    assert np.mean(np.array(p) < 0.05) < 0.15
    assert math.isnan(equal_rates([3], [1.0]))


def test_rank_correlation_of_rows() -> None:
    x = np.array([[1, 2, 3, 4, np.nan], [1, 2, 3, 4, 5], [1, 1, 1, 1, 1]], np.float32)
    y = np.array([[10, 20, 30, 40, 1], [5, 4, 3, 2, 1], [np.nan] * 5], np.float32)
    found = rank_correlation(x, y)
    np.testing.assert_allclose(found[:2], [1, -1])
    assert np.isnan(found[2])


def test_precision_has_an_interval() -> None:
    value, low, high = precision_of("anomaly-60s/1", [mark(n, Judgement.TRUE) for n in range(8)])
    assert (value, high) == (1.0, pytest.approx(1.0))
    assert 0.6 < low < 0.7
    assert math.isnan(precision_of("other/1", [mark(0, Judgement.TRUE)])[0])


def facts(text: str) -> Facts:
    version = ModelVersion(
        "anomaly-60s", "1", "fusion", "r", "", NOW, ("champion",), "sha256:1",
        (("by", text), ("step_ms", "60000")), (("series", 3.0),),
    )  # fmt: skip
    signal = DriftSignal("inputs", 0.4, 0.1, True, text)
    report = DriftReport("anomaly-60s", "anomaly-60s/1", NOW, NOW, NOW, NOW, NOW, 3, 3, (signal,), drifted=True)
    groups = fairness("team", [{"team": text}], [alarm(1, text)], [], 30)
    return Facts(
        version, Dataset("sha256:1", "n", text, NOW, NOW, 60_000, 3, 9, "p", NOW), (0.5, 0.2, 0.8), (math.nan,) * 3, 4,
        [groups], [report], [], [ModelUse("anomaly-60s", "1", UseKind.TRAIN, "p", NOW, 2.0, "cpu-seconds", 0.01)],
        text, 90, NOW,
    )  # fmt: skip


def test_card_has_all_that_is_known() -> None:
    text = card_of(facts("somebody")).markdown
    for heading in ("Purpose", "Data", "Figures", "Limits", "Fairness by team", "Drift", "Deployments", "Cost"):
        assert f"## {heading}\n" in text
    assert "50%" in text
    assert r"\(20% to 80%\)" in text
    assert "Refused: somebody" in text
    assert "signature of its artifact is valid" in card_of(dataclasses.replace(facts("x"), signature="")).markdown


def test_hostile_text_stays_text() -> None:
    card = card_of(facts(HOSTILE))
    assert "<script" not in card.html
    assert "&lt;script&gt;" in card.html
    assert "<script" not in card.markdown.replace(r"\<script", "")
    assert "[x](" not in card.markdown
    assert "\n# head" not in card.markdown
    heads = [line for line in card.markdown.splitlines() if line.startswith("|")]
    assert all(line.count("|") - line.count(r"\|") >= 3 for line in heads)
