"""What many tests of models share."""

from __future__ import annotations

import pytest

from tests.unit.models.serving_house import Ground


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """A registry and a state database, which take seconds to make."""
    return Ground(tmp_path_factory.mktemp("ground"))
