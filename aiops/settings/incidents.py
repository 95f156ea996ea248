"""Incidents, their paging policy, and actions."""

from __future__ import annotations

from pydantic import ConfigDict, Field, SecretStr, model_validator

from aiops.settings.section import Section


class MaintenanceSettings(Section):
    """What ``matchers`` hold for wakes nobody: from each time the five-field ``cron`` line fires in ``zone``, for
    ``duration_s``; or during the events of ``calendar``, one of ``connectors.oncall``."""

    matchers: tuple[str, ...] = Field(min_length=1)
    cron: str = ""
    zone: str = "UTC"
    duration_s: float = Field(0.0, ge=0, le=7 * 86400)
    calendar: str = ""

    @model_validator(mode="after")
    def one_source(self) -> MaintenanceSettings:
        if bool(self.cron) == bool(self.calendar):
            raise ValueError("give either cron or calendar")
        if self.cron and not self.duration_s:
            raise ValueError("a cron line needs duration_s above 0")
        return self


class InhibitRuleSettings(Section):
    """Alertmanager's ``inhibit_rules``: a firing source mutes targets that agree with it in ``equal`` labels."""

    source_matchers: tuple[str, ...] = Field(min_length=1)
    target_matchers: tuple[str, ...] = Field(min_length=1)
    equal: tuple[str, ...] = ()


class WatchdogSettings(Section):
    """An alert that fires always (Prometheus' ``Watchdog``), expected from the inbound ``source`` at least every
    ``timeout_s``; silence pages."""

    source: str = "alertmanager"
    matchers: tuple[str, ...] = ()
    timeout_s: float = Field(600.0, ge=1)


class HeartbeatSettings(Section):
    """Our own sign of life: a GET of ``url`` while all required parts are ready, for a dead man's switch elsewhere."""

    url: SecretStr = SecretStr("")
    interval_s: float = Field(60.0, ge=1)


class RouteSettings(Section):
    """A node of the routing tree, as Alertmanager's. Children inherit what they do not say."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    matchers: tuple[str, ...] = ()
    receivers: tuple[str, ...] = ()
    group_by: tuple[str, ...] | None = None
    """Labels whose values make a group, which is one incident; ``...`` means all. Without it correlation decides."""
    repeat_s: float | None = Field(None, ge=0)
    goes_on: bool = Field(False, alias="continue")
    routes: tuple[RouteSettings, ...] = ()


class IncidentSettings(Section):
    false_alarms_per_day: float = 1.0
    min_duration_steps: int = 3
    resolve_after_steps: int = 8
    resolve_timeout_s: float = 300.0
    reopen_s: float = 900.0
    life_cap_s: float = 4 * 3600.0
    clear_cause_share: float = 0.3
    maintenance: dict[str, MaintenanceSettings] = Field(default_factory=dict)
    inhibit_rules: tuple[InhibitRuleSettings, ...] = ()
    route: RouteSettings | None = None
    """Without a tree each receiver hears of what its own matchers hold for."""
    watchdogs: dict[str, WatchdogSettings] = Field(default_factory=dict)
    heartbeat: HeartbeatSettings = HeartbeatSettings()
    silence_max_s: float = Field(30 * 86400.0, gt=0)
    """The longest silence that people may set."""
    action_expiry_s: float = 900.0


class ActionSettings(Section):
    enabled: bool = True
    silence_max_s: float = 4 * 3600.0
