from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from aiops.core.principal import SYSTEM
from aiops.cost.calendar import DAY_MS
from aiops.cost.service import CostService
from aiops.reports.cost import CostReport, Report
from aiops.settings import BudgetSettings, CostSettings
from tests.unit.cost.made import MemoryCosts, date, span

DAYS = span("2026-05-01", "2026-08-13")
NOW = date("2026-08-13") * DAY_MS + 3 * 3_600_000
EVIL = "<script>alert(1)</script>\x1b[31m"
COLUMNS = ("ServiceName", "SubAccountName", "ServiceProviderName", "x_simulated")


def report(simulated: str = "", **budgets: BudgetSettings) -> Report:
    spike = np.full(len(DAYS), 20.0)
    spike[-4] = 90.0
    rows = {
        ("vm", "prod", "cloud", simulated): np.full(len(DAYS), 100.0),
        (EVIL, "", "cloud", simulated): spike,
    }
    service = CostService(MemoryCosts(DAYS, rows, COLUMNS), CostSettings(budgets=budgets), lambda: NOW)
    return CostReport(service, lambda: NOW).build(SYSTEM, zone="Europe/Berlin")


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [v or "" for k, v in attrs if k in ("src", "href")]


def test_the_page_stands_alone_and_escapes_what_bills_say() -> None:
    page = Page(report().html)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert page.sources
    assert all(s.startswith("data:image/png;base64,") for s in page.sources)
    assert "&lt;script&gt;" in report().html
    assert "\x1b" not in report().html
    assert "\x1b" not in report().text


def test_it_tells_totals_trend_forecast_budgets_and_anomalies() -> None:
    made = report(tight=BudgetSettings(amount=3000), euros=BudgetSettings(amount=1, currency="EUR"))
    for said in (
        "Last 30 complete days: 3,670.00 USD (+1.9 % on the days before)",
        "Expected at month end:",
        "By sub-account",
        "tight: at risk",
        "euros: unknown",
        "90.00 USD on 2026-08-09 against 20.00 expected (+350%)",
        "Bills in USD reach to 13 Aug 2026 00:00 UTC; 1 day of the window not complete yet.",
        "written 13 Aug 2026 05:00 Europe/Berlin",
    ):
        assert said in made.text
    for said in ("3,670.00 USD", "at risk", "no costs match", "90 % interval", "Unusual costs"):
        assert said in made.html


def test_simulated_costs_are_marked() -> None:
    assert report("true").simulated
    assert "SIMULATED" in report("true").html
    assert "(SIMULATED)" in report("true").text
    assert not report().simulated
    assert "SIMULATED" not in report().html


def test_without_costs_it_says_so() -> None:
    service = CostService(MemoryCosts(DAYS, {}), CostSettings(), lambda: NOW)
    made = CostReport(service, lambda: NOW).build(SYSTEM)
    assert "No costs are stored for this window" in made.text
    assert "No costs are stored for this window" in made.html
    assert made.pictures == ()


def test_an_unknown_zone_is_refused() -> None:
    service = CostService(MemoryCosts(DAYS, {}), CostSettings(), lambda: NOW)
    with pytest.raises(KeyError):
        CostReport(service, lambda: NOW).build(SYSTEM, zone="Europe/Nowhere")
