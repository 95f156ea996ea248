"""Who may use, train, promote, export or delete which model. Denied unless a role or a name allows it."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from aiops.core.errors import Forbidden
from aiops.core.model import ModelAction
from aiops.core.principal import Principal, Role
from aiops.settings import ModelAccessSettings

_ORDER = (Role.VIEWER, Role.RESPONDER, Role.APPROVER, Role.ADMIN)
_DEFAULT = ModelAccessSettings()


class ModelAccess:
    """The rules in the order in which they are given; the first that matches a model's name holds for it."""

    def __init__(self, rules: Sequence[ModelAccessSettings] = ()) -> None:
        self._rules = tuple(rules)

    def allowed(self, principal: Principal, action: ModelAction, model: str) -> bool:
        """Whether the principal may do ``action``. One with a label scope may only use models."""
        rule = next((r for r in self._rules if fnmatchcase(model, r.models)), _DEFAULT)
        if principal.scope is not None and action is not ModelAction.USE:
            return False
        if principal.name in rule.principals.get(action.value, ()):
            return True
        least: Role = getattr(rule, action.value)
        return _ORDER.index(principal.role) >= _ORDER.index(least)

    def require(self, principal: Principal, action: ModelAction, model: str) -> None:
        """Raises ``Forbidden`` naming the action and the model."""
        if not self.allowed(principal, action, model):
            raise Forbidden(
                f"'{principal.name}' may not {action.value} the model '{model}'.",
                hint="An administrator grants it under models.access.",
            )
