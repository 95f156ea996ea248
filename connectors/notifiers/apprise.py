"""Incidents to any of Apprise's services: Discord, Telegram, Matrix, Mattermost, ntfy, Pushover and a hundred more."""

from __future__ import annotations

import logging
from typing import Any

import apprise
from pydantic import Field, SecretStr

from aiops.core.errors import ConfigError, TransientError
from aiops.core.incident import Notification, NotificationEvent, Severity
from aiops.core.ports import Notifier, PluginContext, PluginOptions
from connectors import incident_text as words


class AppriseOptions(PluginOptions):
    """``urls`` as in https://github.com/caronc/apprise/wiki, such as ``ntfys://topic`` or ``discord://id/token``."""

    urls: tuple[SecretStr, ...] = Field(min_length=1)
    public_url: str = ""
    timeout_s: float = Field(10.0, gt=0, le=30)


class Apprise(Notifier[AppriseOptions]):
    """A title and plain text to each URL by the Apprise library (extra ``apprise``), for services that have no
    connector of their own. Apprise says only whether all of them took it: a failure is tried again at all.
    """

    Options = AppriseOptions

    def __init__(self, options: AppriseOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it logs URLs with their tokens
        asset = apprise.AppriseAsset(
            app_id="aiops", app_desc="aiops", app_url="", async_mode=False, secure_logging=True
        )
        self._service: Any = apprise.Apprise(asset=asset)
        for number, url in enumerate(options.urls, 1):
            timeouts = f"cto={min(options.timeout_s, 5):g}&rto={options.timeout_s:g}&redirect=no"
            text = url.get_secret_value()
            if not self._service.add(f"{text}{'&' if '?' in text else '?'}{timeouts}"):
                raise ConfigError(f"Receiver '{context.name}': Apprise does not know URL {number} of urls.")

    def notify(self, notification: Notification) -> str:
        taken = self._service.notify(
            body=words.plain(notification, self.options.public_url),
            title=words.subject(notification.incident),
            notify_type=_kind(notification),
            body_format=apprise.NotifyFormat.TEXT,
        )
        if not taken:
            raise TransientError(f"{self.context.name}: a service behind Apprise did not take the message.")
        return ""


def _kind(notification: Notification) -> apprise.NotifyType:
    if notification.event is NotificationEvent.RESOLVED:
        return apprise.NotifyType.SUCCESS
    critical = notification.incident.severity is Severity.CRITICAL
    return apprise.NotifyType.FAILURE if critical else apprise.NotifyType.WARNING
