from __future__ import annotations

import numpy as np
import pytest

from aiops.core.cost import CostQuery, CostTable
from aiops.core.errors import InvalidInput
from aiops.core.principal import LOCAL, Principal, Role
from aiops.core.series import Matcher, MatchOp
from aiops.store.telemetry.store import TelemetryStore

DAY = 86_400_000
JUNE = 1_780_272_000_000  # 2026-06-01T00:00:00Z
JULY = JUNE + 30 * DAY


def bill(
    *rows: tuple[int, float, str], source: str = "aws", currency: str = "USD", period: int = JUNE, **more: list[str]
) -> CostTable:
    """Rows of (charge start, cost, service)."""
    n = len(rows)
    return CostTable(
        source,
        {
            "BillingAccountId": np.array(["1"] * n, object),
            "BillingCurrency": np.array([currency] * n, object),
            "BillingPeriodStart": np.full(n, period, np.int64),
            "ChargePeriodStart": np.array([r[0] for r in rows], np.int64),
            "ChargePeriodEnd": np.array([r[0] + 3_600_000 for r in rows], np.int64),
            "EffectiveCost": np.array([r[1] for r in rows]),
            "ServiceName": np.array([r[2] for r in rows], object),
            **{name: np.array(values, object) for name, values in more.items()},
        },
    )


def test_daily_sums_by_group(store: TelemetryStore) -> None:
    assert store.import_costs(bill((JUNE, 1.0, "db"), (JUNE + 5, 2.0, "db"), (JUNE + DAY, 10.0, "web"))) == 3
    series = store.daily(CostQuery(JUNE, JUNE + 3 * DAY, ("ServiceName",)), LOCAL)
    assert series.groups == (("web",), ("db",))
    assert series.amounts.tolist() == [[0, 10, 0], [3, 0, 0]]
    assert series.days.tolist() == [JUNE, JUNE + DAY, JUNE + 2 * DAY]
    assert (series.currency, series.newest_ms) == ("USD", JUNE + DAY + 3_600_000)
    total = store.daily(CostQuery(JUNE, JUNE + 2 * DAY, (), (("ServiceName", "db"),)), LOCAL)
    assert (total.groups, total.amounts.tolist()) == (((),), [[3, 0]])
    nothing = store.daily(CostQuery(JULY, JULY + DAY), LOCAL)
    assert (nothing.groups, nothing.amounts.shape, nothing.currency) == ((), (0, 1), "")
    assert store.cost_values("ServiceName", LOCAL) == ["web", "db"]


def test_an_import_replaces_the_billing_periods_it_brings(store: TelemetryStore) -> None:
    store.import_costs(bill((JUNE, 1.0, "db")))
    store.import_costs(bill((JULY, 5.0, "db"), period=JULY))
    store.import_costs(bill((JUNE, 7.0, "db"), source="gcp"))
    store.import_costs(bill((JUNE, 2.0, "db")))
    assert store.daily(CostQuery(JUNE, JULY + DAY), LOCAL).amounts.sum() == 14.0
    assert store.status().costs == 3


def test_currencies_are_never_added_up(store: TelemetryStore) -> None:
    store.import_costs(bill((JUNE, 1.0, "db")))
    store.import_costs(bill((JUNE, 1.0, "db"), source="eu", currency="EUR"))
    with pytest.raises(InvalidInput, match="EUR, USD"):
        store.daily(CostQuery(JUNE, JULY), LOCAL)
    euro = store.daily(CostQuery(JUNE, JULY, (), (("BillingCurrency", "EUR"),)), LOCAL)
    assert (euro.currency, euro.amounts.sum()) == ("EUR", 1.0)


def test_a_table_with_a_missing_column_is_refused_whole(store: TelemetryStore) -> None:
    good = bill((JUNE, 1.0, "db"))
    for name in ("EffectiveCost", "BillingPeriodStart"):
        bad = CostTable("aws", {k: v for k, v in good.columns.items() if k != name})
        with pytest.raises(InvalidInput, match=name):
            store.import_costs(bad)
    with pytest.raises(InvalidInput, match="empty or infinite"):
        store.import_costs(bill((JUNE, 1.0, "db"), (JUNE, float("nan"), "db")))
    with pytest.raises(InvalidInput, match="Misspelt"):
        store.import_costs(bill((JUNE, 1.0, "db"), Misspelt=["x"]))
    assert store.status().costs == 0


def test_tags_and_own_columns_can_be_grouped_by(store: TelemetryStore) -> None:
    tags = ['{"Owner":"ann","it\'s":"odd"}', '{"Owner":"bob"}', ""]
    store.import_costs(
        bill((JUNE, 1.0, "a"), (JUNE, 2.0, "b"), (JUNE, 4.0, "c"), Tags=tags, x_model=["m1", "m2", "m1"])
    )

    def by(column: str) -> dict[str, float]:
        got = store.daily(CostQuery(JUNE, JUNE + DAY, (column,)), LOCAL)
        return {g[0]: float(a[0]) for g, a in zip(got.groups, got.amounts, strict=True)}

    assert by("Tags.Owner") == {"ann": 1.0, "bob": 2.0, "": 4.0}
    assert by("Tags.it's") == {"odd": 1.0, "": 6.0}
    assert by("x_model") == {"m1": 5.0, "m2": 2.0}
    for wrong in ("Nope", 'x"y', 'Tags."', "EffectiveCost; DROP TABLE costs"):
        with pytest.raises(InvalidInput):
            by(wrong)


def test_scope_restricts_costs_by_the_configured_column(opened: object) -> None:
    store = opened({"team": "SubAccountName"})  # type: ignore[operator]
    store.import_costs(bill((JUNE, 1.0, "a"), (JUNE, 2.0, "b"), (JUNE, 4.0, "c"), SubAccountName=["red", "blue", ""]))

    def total(*scope: Matcher) -> float:
        who = Principal("key:x", Role.VIEWER, scope)
        return float(store.daily(CostQuery(JUNE, JUNE + DAY), who).amounts.sum())

    assert total(Matcher("team", MatchOp.EQUAL, "red")) == 1.0
    assert total(Matcher("team", MatchOp.NOT_EQUAL, "red")) == 2.0, "a row lacking the column is invisible"
    assert total(Matcher("team", MatchOp.REGEX, "red|bl.*")) == 3.0
    assert total(Matcher("team", MatchOp.NOT_REGEX, "red|x")) == 2.0
    assert total(Matcher("job", MatchOp.EQUAL, "red")) == 0.0, "a label without a column hides all"
    who = Principal("key:x", Role.VIEWER, (Matcher("team", MatchOp.EQUAL, "red"),))
    assert store.cost_values("ServiceName", who) == ["a"]
