"""Slack: mentions, direct messages, ``/aiops`` and approve buttons.

With an app token the surface uses Socket Mode and needs no public URL; otherwise Slack calls ``/slack/events``, and the
signing secret is required. Every request is acknowledged at once; the question is answered on a worker thread by one
message in the thread that is edited in place, charts are uploaded below it. Needed bot scopes: ``app_mentions:read``,
``chat:write``, ``commands``, ``files:write``, ``im:history``; events ``app_mention`` and ``message.im``.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import anyio.to_thread
from pydantic import Field, SecretStr, field_validator
from slack_bolt import App, BoltRequest
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_bolt.authorization import AuthorizeResult
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler
from slack_sdk.signature import SignatureVerifier
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from aiops.core.errors import AiopsError, ConfigError, PermanentError, TransientError
from aiops.core.ports import ChatMessage, ChatReply, ChatSurface, ConversationHandler, PluginContext, PluginOptions
from aiops.core.principal import Role
from connectors.slack_api import SlackApi, section
from connectors.slack_blocks import ACTION, blocks, fallback, packed
from connectors.slack_text import mrkdwn, plain

log = logging.getLogger(__name__)

PATH = "/slack/events"
BODY_CAP = 1024 * 1024
WAITING = ":hourglass_flowing_sand: Looking …"
_ACTION_PATTERN = re.compile(rf"{ACTION}_\d+")
_REMEMBERED_MS = 3_600_000
_REMEMBERED = 5_000


class SlackOptions(PluginOptions):
    """``users`` are Slack user ids with their role; ``others`` is the role of everybody else, empty refuses them.

    ``channels`` limits where it answers (ids); direct messages are always answered. ``external_users`` lets people of
    other organisations in shared channels ask.
    """

    bot_token: SecretStr
    app_token: SecretStr = SecretStr("")
    signing_secret: SecretStr = SecretStr("")
    api_url: str = "https://slack.com/api/"
    users: dict[str, Role] = Field(default_factory=dict)
    others: Role | None = Role.VIEWER
    channels: tuple[str, ...] = ()
    external_users: bool = False
    workers: int = Field(4, ge=1, le=32)
    queue: int = Field(32, ge=1)
    timeout_s: float = Field(10.0, gt=0, le=30)

    @field_validator("others", mode="before")
    @classmethod
    def nobody(cls, value: object) -> object:
        return value or None


class Slack(ChatSurface[SlackOptions]):
    """One Slack workspace."""

    Options = SlackOptions
    extra = "slack"

    def __init__(self, options: SlackOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        socket, signed = options.app_token.get_secret_value(), options.signing_secret.get_secret_value()
        if not options.bot_token.get_secret_value():
            raise ConfigError(f"connectors.chat.{context.name}: bot_token is missing.")
        if not socket and not signed:
            raise ConfigError(
                f"connectors.chat.{context.name}: neither app_token nor signing_secret is set.",
                hint="Set app_token for Socket Mode, or signing_secret where Slack can reach this service.",
            )
        url = options.api_url.rstrip("/") + "/"
        self._api = SlackApi(options.bot_token, url, options.timeout_s)
        # The library logs requests at DEBUG; a logger of its own keeps them out whatever the service's level.
        self._library_log = logging.getLogger(f"{__name__}.library")
        self._library_log.setLevel(logging.WARNING)
        self._web = WebClient(
            options.bot_token.get_secret_value(), base_url=url, timeout=int(options.timeout_s) or 1,
            logger=self._library_log,
        )  # fmt: skip
        self._web.retry_handlers.append(RateLimitErrorRetryHandler(max_retry_count=2))
        self._seen: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()
        self._identity: dict[str, Any] = {}
        self._closing = threading.Event()
        self._slots = threading.Semaphore(options.workers + options.queue)
        self._pool = ThreadPoolExecutor(options.workers, f"slack-{context.name}")
        self._handler: ConversationHandler | None = None
        self._app: App | None = None
        self._socket: Any = None
        self._connecting: threading.Thread | None = None

    # ------------------------------------------------------------- the port

    def start(self, handler: ConversationHandler) -> None:
        """Begin to answer. Slack being unreachable is no error: Socket Mode tries again until it is."""
        self._handler = handler
        self._app = self._build()
        if self.options.app_token.get_secret_value():
            self._connecting = threading.Thread(
                target=self._connect, args=(self._app,), name="slack-connect", daemon=True
            )
            self._connecting.start()

    def asgi(self) -> tuple[str, Any] | None:
        """The endpoint for Slack's requests, for a route (not a mount); ``None`` in Socket Mode."""
        if self.options.app_token.get_secret_value():
            return None
        if self._app is None:
            raise ConfigError("The Slack surface was not started.")
        return PATH, Endpoint(self._app, self.options.signing_secret)

    def close(self) -> None:
        self._closing.set()
        if self._connecting is not None:
            self._connecting.join(5)
        if self._socket is not None:
            self._socket.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._api.close()

    def upload(self, channel: str, title: str, files: Sequence[tuple[str, str, bytes]], text: str) -> None:
        """Post a text with files (name, alt text, content) to a channel; for reports.

        Raises:
            TransientError, PermanentError: as Slack refused.
        """
        parts = mrkdwn(text) or [title]
        ts = self._api.post(channel, title, [section(p) for p in packed(parts)])
        self._send_files(channel, ts, files)

    # ----------------------------------------------------------- connection

    def _build(self) -> App:
        app = App(
            name="aiops",
            logger=self._library_log,
            signing_secret=self.options.signing_secret.get_secret_value() or "unused-in-socket-mode",
            client=WebClient(base_url=self._web.base_url, timeout=self._web.timeout, logger=self._library_log),
            authorize=lambda: self._authorize(),
        )
        app.event("app_mention")(self._on_event)
        app.event("message")(self._on_direct_message)
        app.command("/aiops")(self._on_command)
        app.action({"type": "block_actions", "action_id": _ACTION_PATTERN})(self._on_button)
        return app

    def _connect(self, app: App) -> None:
        token = self.options.app_token.get_secret_value()
        self._socket = SocketModeHandler(app, token, logger=self._library_log, web_client=self._web)
        wait = 1.0
        while not self._closing.is_set():
            try:
                self._socket.connect()
            except (SlackClientError, OSError) as error:
                log.warning("Slack cannot be reached (%s); trying again in %.0f s", type(error).__name__, wait)
                self._closing.wait(wait)
                wait = min(wait * 2, 60.0)
            else:
                log.info("Slack is connected by Socket Mode")
                return

    def _authorize(self) -> AuthorizeResult:
        """What is known without asking: a request must be acknowledged within three seconds."""
        who = self._identity
        return AuthorizeResult(
            enterprise_id=who.get("enterprise_id"),
            team_id=who.get("team_id"),
            bot_id=who.get("bot_id"),
            bot_user_id=who.get("user_id"),
            bot_token=self.options.bot_token.get_secret_value(),
        )

    def _own_id(self, body: dict[str, Any]) -> str:
        """Our user id, from the event itself or asked for once."""
        for entry in body.get("authorizations") or ():
            if entry.get("is_bot") and entry.get("user_id"):
                return str(entry["user_id"])
        if not self._identity:
            try:
                self._identity = self._api.call("auth.test", {})
            except AiopsError as error:
                log.warning("Slack did not say who we are: %s", error)
        return str(self._identity.get("user_id", ""))

    # --------------------------------------------------------------- events

    def _on_event(self, event: dict[str, Any], body: dict[str, Any]) -> None:
        channel, ts = str(event.get("channel", "")), str(event.get("ts", ""))
        if not self._wanted(event, body) or not self._first(f"event:{body.get('event_id')}", f"at:{channel}:{ts}"):
            return
        thread, user, text = str(event.get("thread_ts") or ts), str(event.get("user", "")), str(event.get("text", ""))
        message = ChatMessage(self.context.name, channel, thread, user, text)
        self._submit(message, lambda: self._reply(replace(message, text=plain(text, self._own_id(body)))))

    def _on_direct_message(self, event: dict[str, Any], body: dict[str, Any]) -> None:
        if event.get("channel_type") == "im" and event.get("subtype") in (None, "file_share"):
            self._on_event(event, body)

    def _on_command(self, ack: Callable[..., Any], command: dict[str, Any], respond: Callable[..., Any]) -> None:
        channel, user = str(command.get("channel_id", "")), str(command.get("user_id", ""))
        if not self._allowed(channel):
            ack("I do not answer in this channel.")
            return
        ack()
        if not self._first(f"command:{command.get('trigger_id')}"):
            return
        asked = plain(str(command.get("text", "")))
        message = ChatMessage(self.context.name, channel, "", user, asked)
        self._submit(message, lambda: self._reply_to_command(message, respond))

    def _on_button(self, ack: Callable[..., Any], body: dict[str, Any]) -> None:
        ack()
        action = (body.get("actions") or [{}])[0]
        channel = str((body.get("channel") or {}).get("id", ""))
        at = body.get("message") or {}
        thread = str(at.get("thread_ts") or at.get("ts") or "")
        if not self._allowed(channel) or not self._first(f"button:{body.get('trigger_id')}:{action.get('action_ts')}"):
            return
        user = str((body.get("user") or {}).get("id", ""))
        message = ChatMessage(self.context.name, channel, thread, user, "")
        self._submit(message, lambda: self._decide(message, str(action.get("value", ""))))

    def _wanted(self, event: dict[str, Any], body: dict[str, Any]) -> bool:
        if event.get("bot_id") or not event.get("user") or not self._allowed(str(event.get("channel", ""))):
            return False
        home, theirs = body.get("team_id"), event.get("user_team") or event.get("source_team")
        if theirs and home and theirs != home and not self.options.external_users:
            log.info("Slack: a user of another organisation was not answered")
            return False
        return True

    def _allowed(self, channel: str) -> bool:
        return not self.options.channels or channel in self.options.channels or channel.startswith("D")

    def _first(self, *keys: str) -> bool:
        """False where any of the keys was seen within the hour: Slack sends again what it thinks was lost."""
        now = self.context.clock()
        with self._lock:
            while self._seen and (
                len(self._seen) > _REMEMBERED or now - next(iter(self._seen.values())) > _REMEMBERED_MS
            ):
                self._seen.popitem(last=False)
            known = any(key in self._seen for key in keys)
            for key in keys:
                self._seen.setdefault(key, now)
            return not known

    # -------------------------------------------------------------- answers

    def _submit(self, message: ChatMessage, work: Callable[[], None]) -> None:
        if self._closing.is_set():
            return
        if not self._slots.acquire(blocking=False):
            log.warning("Slack: the queue of questions is full")
            self._pool.submit(self._safely, lambda: self._say(message, "I am busy, please ask again in a minute."))
            return

        def run() -> None:
            try:
                self._safely(work)
            finally:
                self._slots.release()

        self._pool.submit(run)

    def _safely(self, work: Callable[[], object]) -> None:
        try:
            work()
        except AiopsError as error:
            log.warning("Slack: a reply was not delivered: %s", error)
        except Exception:
            log.exception("Slack: a turn failed")

    def _say(self, message: ChatMessage, text: str) -> str:
        return self._api.post(message.channel, text, thread=message.thread)

    def _reply(self, message: ChatMessage) -> None:
        placeholder = self._say(message, WAITING)
        self._finish(message, placeholder, self._ask(message))

    def _reply_to_command(self, message: ChatMessage, respond: Callable[..., Any]) -> None:
        asked = f"<@{message.user}> asked: {mrkdwn(message.text)[0] if message.text else 'help'}"
        try:
            first = self._api.post(message.channel, asked, [section(asked)])
        except PermanentError:
            # Not a member of the channel: the command's own reply address works all the same, without charts.
            respond(text=fallback(reply := self._ask(message)), blocks=blocks(reply), response_type="ephemeral")
            return
        inside = ChatMessage(message.surface, message.channel, first, message.user, message.text)
        self._reply(inside)

    def _ask(self, message: ChatMessage) -> ChatReply:
        if self._handler is None:
            raise TransientError("The assistant is not running.")
        return self._handler.message(message)

    def _decide(self, message: ChatMessage, value: str) -> None:
        if self._handler is None:
            raise TransientError("The assistant is not running.")
        self._finish(message, "", self._handler.button(message, value))

    def _finish(self, message: ChatMessage, placeholder: str, reply: ChatReply) -> None:
        text, shown = fallback(reply), blocks(reply)
        if placeholder:
            self._edit(message.channel, placeholder, text, shown)
        else:
            self._api.post(message.channel, text, shown, thread=message.thread)
        if reply.pictures:
            try:
                self._send_files(message.channel, message.thread, reply.pictures)
            except AiopsError as error:
                log.warning("Slack: a chart was not uploaded: %s", error)
                self._say(message, "The chart could not be uploaded.")

    def _edit(self, channel: str, ts: str, text: str, shown: list[dict[str, Any]]) -> None:
        """Editing twice is harmless, so what fails for now is tried again: a placeholder must not stay."""
        for wait in (1.0, 4.0, 15.0):
            try:
                self._api.update(channel, ts, text, shown)
            except TransientError as error:
                self._closing.wait(min(error.retry_after_s or wait, 30.0))
            else:
                return
        self._api.update(channel, ts, text, shown)

    def _send_files(self, channel: str, thread: str, files: Sequence[tuple[str, str, bytes]]) -> None:
        uploads = [
            {"file": content, "filename": name, "title": alt[:200] or name, "alt_txt": alt[:900]}
            for name, alt, content in files
        ]
        try:
            self._web.files_upload_v2(
                file_uploads=uploads, channel=channel, thread_ts=thread or None, request_file_info=False
            )
        except SlackClientError as error:
            word = error.response.get("error", "") if isinstance(error, SlackApiError) else type(error).__name__
            raise PermanentError(f"Slack refused the file: {word}.") from error
        except OSError as error:
            raise TransientError("Slack cannot be reached for a file.") from error


class Endpoint:
    """The ASGI app of ``/slack/events``; a class, so that Starlette routes take it as ASGI."""

    def __init__(self, app: App, signing_secret: SecretStr) -> None:
        self._app = app
        self._verifier = SignatureVerifier(signing_secret.get_secret_value())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self._respond(Request(scope, receive)))(scope, receive, send)

    def _signed(self, body: str, headers: dict[str, str]) -> bool:
        try:
            return self._verifier.is_valid_request(body, headers)
        except (ValueError, TypeError):
            return False

    async def _respond(self, request: Request) -> Response:
        if request.method != "POST":
            return PlainTextResponse("Slack posts here.", 405, {"allow": "POST"})
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_CAP:
                return PlainTextResponse("The body is too large.", 413)
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError:
            return PlainTextResponse("The body is not UTF-8.", 400)
        headers = dict(request.headers)
        # Bolt reads the body before it checks the signature; strangers' bodies are not to be read at all.
        if not self._signed(text, headers):
            return PlainTextResponse("The signature is missing, wrong or too old.", 401)
        try:
            asked = BoltRequest(body=text, query=str(request.query_params), headers={**headers})
        except (ValueError, TypeError, AttributeError, RecursionError):
            return PlainTextResponse("The body is not one of Slack's.", 400)
        answer = await anyio.to_thread.run_sync(self._app.dispatch, asked)
        return Response(answer.body, answer.status, answer.first_headers_without_set_cookie())
