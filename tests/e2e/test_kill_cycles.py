"""Nothing that was acknowledged is lost, torn or doubled, however often the service is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import kill_cycles


def check(folder: Path, cycles: int) -> None:
    account = kill_cycles.run(folder, cycles)
    print("\n".join(account.lines()))
    assert account.errors == []
    assert account.replayed > 0
    assert account.kept > 0
    assert account.compacted >= cycles // 2, "compaction did not take part"
    assert account.dropped > 0, "the retention did not take part"
    assert (account.lost, account.doubled, account.torn, account.foreign) == (0, 0, 0, 0)


@pytest.mark.timeout(900)
def test_nothing_acknowledged_is_lost_over_twenty_kills(tmp_path: Path) -> None:
    check(tmp_path, 20)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_nothing_acknowledged_is_lost_over_two_hundred_kills(tmp_path: Path) -> None:
    check(tmp_path, 200)
