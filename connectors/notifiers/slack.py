"""Incidents to a Slack channel."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import Field, SecretStr

from aiops.core.errors import PermanentError
from aiops.core.incident import CauseCandidate, Incident, IncidentStatus, Notification, NotificationEvent, Severity
from aiops.core.ports import Notifier, PluginContext, PluginOptions
from aiops.core.untrusted import Untrusted
from connectors.slack_api import SlackApi, context, escape, header, section
from connectors.slack_blocks import ACTION

_SIGN = {
    Severity.INFO: ":large_blue_circle:",
    Severity.WARNING: ":large_yellow_circle:",
    Severity.CRITICAL: ":red_circle:",
}
_DONE = ":white_check_mark:"
MARKED = 4


class SlackOptions(PluginOptions):
    """``channel`` is an id such as ``C0123ABCD``; the bot must be a member of it.

    ``marks`` puts buttons on anomalies, to say whether they were true; the app must be the one of ``connectors.chat``.
    """

    token: SecretStr
    channel: str = Field(min_length=1)
    public_url: str = ""
    marks: bool = False
    timeout_s: float = Field(10.0, gt=0, le=30)
    api_url: str = "https://slack.com/api/"


class Slack(Notifier[SlackOptions]):
    """One message an incident, kept up to date, and its news in the thread below.

    The first message is edited to show the present state; each later event is also a short reply in its
    thread, so that the channel stays quiet and followers of the thread are told.
    """

    Options = SlackOptions

    def __init__(self, options: SlackOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self._api = SlackApi(options.token, options.api_url, options.timeout_s)

    def notify(self, notification: Notification) -> str:
        incident, thread = notification.incident, notification.thread
        blocks, text = incident_blocks(incident, self.options.public_url), _plain(notification)
        if self.options.marks:
            blocks += mark_buttons(incident)
        if not thread:
            return self._api.post(self.options.channel, text, blocks)
        if notification.event is not NotificationEvent.OPENED:
            try:
                self._api.update(self.options.channel, thread, text, blocks)
            except PermanentError as error:
                if "message_not_found" not in error.message and "cant_update" not in error.message:
                    raise
        self._api.post(self.options.channel, text, [section(_news(notification))], thread=thread)
        return thread

    def close(self) -> None:
        self._api.close()


def incident_blocks(incident: Incident, public_url: str = "") -> list[dict[str, Any]]:
    """The incident as Block Kit; all outside text is escaped."""
    over = not incident.active
    sign = _DONE if over else _SIGN[incident.severity]
    blocks = [header(f"{sign} {incident.title}")]
    facts = [
        f"*{escape(incident.id)}*",
        incident.status.value,
        incident.severity.value,
        f"since {_clock(incident.opened_ms)}",
    ]
    if incident.assignee:
        facts.append(f"taken by {escape(incident.assignee)}")
    if incident.simulated:
        facts.append("*simulated*")
    blocks.append(section(" · ".join(facts)))
    if incident.candidates:
        title = "*Likely cause*" if incident.clear_cause else "*No clear cause*; weak candidates"
        shown = incident.candidates[: 3 if incident.clear_cause else 2]
        blocks.append(section("\n".join([title, *(_cause(c) for c in shown)])))
    signals = [f"• {_safe(s.alert.name)} on {_safe(s.alert.service or 'unknown')}" for s in incident.signals[:5]]
    more = f"\n… and {len(incident.signals) - 5} more" if len(incident.signals) > 5 else ""
    blocks.append(context("Signals:\n" + "\n".join(signals) + more))
    if public_url:
        link = f"{public_url.rstrip('/')}/api/v1/incidents/{incident.id}"
        blocks.append(context(f"<{escape(link)}|Open {escape(incident.id)}>"))
    return blocks


def mark_buttons(incident: Incident) -> list[dict[str, Any]]:
    """For each anomaly of the incident, at most :data:`MARKED`, a button that it was true and one that it was not."""
    found = {s.alert.anomaly.id: s.alert.anomaly for s in incident.signals if s.alert.anomaly is not None}
    rows = []
    for number, one in enumerate(list(found.values())[:MARKED]):
        what = Untrusted(" ".join(filter(None, (one.service, one.metric)))).display(50)
        elements = [
            {
                "type": "button",
                "action_id": f"{ACTION}_{2 * number + place}",
                "text": {"type": "plain_text", "text": f"{label}: {what}"[:75]},
                "value": f"mark:{word}:{one.id}",
            }
            for place, (word, label) in enumerate((("true", "True"), ("false", "False alarm")))
        ]
        rows.append({"type": "actions", "elements": elements})
    return rows


def _cause(candidate: CauseCandidate) -> str:
    lines = [f"• *{_safe(candidate.service)}* ({candidate.share:.0%})"]
    lines += [f"    {escape(reason)}" for reason in candidate.reasons[:4]]
    if len(candidate.path) > 1:
        lines.append(f"    path: {_safe(' → '.join(candidate.path))}")
    if candidate.change:
        lines.append(f"    near: {escape(candidate.change)}")
    return "\n".join(lines)


def _news(notification: Notification) -> str:
    incident = notification.incident
    match notification.event:
        case NotificationEvent.RESOLVED:
            return f"{_DONE} *Resolved* at {_clock(incident.resolved_ms or incident.updated_ms)}."
        case NotificationEvent.ACKNOWLEDGED:
            return f"*Acknowledged* by {escape(incident.assignee or 'someone')}."
        case NotificationEvent.OPENED:
            return f"*Open again*: {escape(incident.title)}"
    newest = [e.detail for e in incident.timeline if e.event in ("signal joined", "causes ranked", "merged")]
    return f"*Update*: {escape(incident.title)}" + (f"\n{escape(newest[-1])}" if newest else "")


def _plain(notification: Notification) -> str:
    word = notification.event.value if notification.incident.status is not IncidentStatus.MERGED else "merged"
    return escape(f"[{notification.incident.id}] {word}: {notification.incident.title}")


def _safe(text: str) -> str:
    """Names come from labels, which anyone may set: one line, no control characters, escaped."""
    return escape(Untrusted(text).display(150))


def _clock(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return f"<!date^{ms // 1000}^{{date_short_pretty}} {{time_secs}}|{at:%Y-%m-%d %H:%M:%S} UTC>"
