"""The error tree, grouped by who has to react.

AiopsError
├── ConfigError          the operator, at start
│   └── FolderInUse      another process holds the data folder
├── TransientError       the caller retries (carries ``retry_after_s``)
├── PermanentError       give up and report
│   ├── InvalidInput     the sender mends the request (400)
│   │   └── QueryError   a PromQL text or its evaluation
│   ├── NotFound         (404)
│   └── Conflict         the state does not allow it (409)
├── InvalidPlan          told to the planner, which may repair it
├── ToolFailed           told to the planner
├── ApprovalRequired     a person has to approve first
├── Forbidden            the principal may not (403); ``authenticated=False`` means 401
└── LimitExceeded        a rate, size or budget limit (413, 429)
"""

from __future__ import annotations


class AiopsError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: one sentence saying what was wrong.
        hint: one sentence saying what to do about it; shown to the person as well.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigError(AiopsError):
    """A setting is wrong; raised at start."""


class FolderInUse(ConfigError):
    """Another process holds the data folder; the CLI exits with 3."""


class TransientError(AiopsError):
    """An outside service or a resource failed in a way that may pass."""

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class PermanentError(AiopsError):
    """Trying again will not help."""


class InvalidInput(PermanentError):
    """The request, file or message is malformed."""


class QueryError(InvalidInput):
    """A PromQL query that cannot be parsed or evaluated.

    Args:
        message: as Prometheus would say it, with position where known.
        kind: Prometheus' ``errorType``: ``bad_data``, ``execution``, ``timeout``, ``canceled``.
    """

    def __init__(self, message: str, *, kind: str = "bad_data", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.kind = kind


class NotFound(PermanentError):
    """The named thing does not exist, or is outside the principal's scope."""


class Conflict(PermanentError):
    """The thing is in a state that does not allow the request."""


class InvalidPlan(AiopsError):
    """A plan that the validator refuses; the message is written for the planner."""


class ToolFailed(AiopsError):
    """A tool could not do its work; the message is written for the planner."""


class ApprovalRequired(AiopsError):
    """An action needs a person's approval before it runs."""


class Forbidden(AiopsError):
    """The principal may not do this."""

    def __init__(self, message: str, *, hint: str = "", authenticated: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.authenticated = authenticated


class LimitExceeded(AiopsError):
    """A limit on size, rate, time or money was reached.

    Args:
        kind: ``size`` (413), ``rate`` (429) or ``budget`` (429).
    """

    def __init__(self, message: str, *, kind: str = "rate", hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind
        self.retry_after_s = retry_after_s
