"""What the composition root hands to plug-ins and parts; nothing listens here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiops import wiring
from aiops.core.errors import ConfigError, InvalidInput
from aiops.settings import load_settings

HEAD = "BillingAccountId,BillingPeriodStart,ChargePeriodStart,ChargePeriodEnd,EffectiveCost,BillingCurrency"
BILL = f"{HEAD},ServiceName\n1,2026-06-01,2026-06-02,2026-06-03,1.5,USD,vm\n"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Any]:
    services: list[wiring.Service] = []

    def make(**sections: Any) -> wiring.Service:
        service = wiring.local(load_settings(None, {"data_dir": tmp_path / "data", **sections}))
        services.append(service)
        return service

    yield make
    for service in services:
        service.stop()


def test_notifiers_know_the_public_address_unless_they_have_their_own(made: Any) -> None:
    hook = {"plugin": "webhook", "url": "http://127.0.0.1:9/"}
    service = made(
        server={"public_url": "https://aiops.example.com"},
        receivers={"one": hook, "two": {**hook, "public_url": "https://other.example.com"}},
    )
    addresses = {name: notifier.options.public_url for name, notifier in service.notifiers.items()}
    assert addresses == {"one": "https://aiops.example.com", "two": "https://other.example.com"}


def test_uploaded_bills_are_stored_and_bear_the_file_s_name(made: Any) -> None:
    service = made()
    assert service.services.import_costs("../june.csv", BILL.encode()) == 1
    assert service.services.import_costs("june.csv", BILL.encode()) == 1
    assert service.store.status().costs == 1
    with pytest.raises(InvalidInput, match="EffectiveCost"):
        service.services.import_costs("bad.csv", b"a,b\n1,2\n")


def test_a_metrics_source_that_is_not_configured_is_named(made: Any) -> None:
    with pytest.raises(ConfigError, match="prometheus-1"):
        made(agent={"metrics_source": "prometheus-1"})
