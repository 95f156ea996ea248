"""Who may do what with which model."""

from __future__ import annotations

import pytest

from aiops.access.models import ModelAccess
from aiops.core.errors import Forbidden
from aiops.core.model import ModelAction
from aiops.core.principal import Principal, Role
from aiops.core.series import Matcher, MatchOp
from aiops.settings import ModelAccessSettings


def who(role: Role, name: str = "key:1") -> Principal:
    return Principal(name, role)


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("action", list(ModelAction))
def test_without_rules_the_least_roles_hold(role, action):
    least = {"use": Role.VIEWER, "train": Role.RESPONDER}.get(action.value, Role.ADMIN)
    order = list(Role)
    assert ModelAccess().allowed(who(role), action, "shop") is (order.index(role) >= order.index(least))


def test_the_first_rule_that_matches_decides_alone():
    access = ModelAccess(
        (
            ModelAccessSettings(models="pay-*", train=Role.ADMIN, principals={"export": ("key:9",)}),
            ModelAccessSettings(models="*", export=Role.VIEWER),
        )
    )
    assert not access.allowed(who(Role.RESPONDER), ModelAction.TRAIN, "pay-core")
    assert access.allowed(who(Role.RESPONDER), ModelAction.TRAIN, "shop")
    assert access.allowed(who(Role.VIEWER), ModelAction.EXPORT, "shop")
    assert access.allowed(who(Role.VIEWER, "key:9"), ModelAction.EXPORT, "pay-core")
    with pytest.raises(Forbidden, match="'key:1' may not export the model 'pay-core'"):
        access.require(who(Role.APPROVER), ModelAction.EXPORT, "pay-core")


def test_a_scoped_principal_may_only_use_models():
    scoped = Principal("key:2", Role.ADMIN, (Matcher("team", MatchOp.EQUAL, "shop"),))
    allowed = [action for action in ModelAction if ModelAccess().allowed(scoped, action, "shop")]
    assert allowed == [ModelAction.USE]
