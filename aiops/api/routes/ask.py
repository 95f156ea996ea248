"""Questions: asked, answered, and followed while they are being answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from zoneinfo import ZoneInfo

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from aiops.api import views
from aiops.api.auth import Asker
from aiops.api.problems import problem_of, respond
from aiops.api.schemas import AnswerOut, AskIn
from aiops.api.services import Services, running
from aiops.core.errors import AiopsError, InvalidInput, LimitExceeded
from aiops.core.principal import Principal
from aiops.core.query import Question
from aiops.core.untrusted import Untrusted

MAX_ASKING = 8
MAX_WAITING = 32
EVENTS = "text/event-stream"
ALIVE_S = 15.0
"""A comment is sent at least this often, so that proxies keep the connection."""


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["questions"])

    # Questions take seconds: with threads of their own they cannot keep everyone else waiting.
    seats = CapacityLimiter(MAX_ASKING)

    @routes.post("/ask", response_model=AnswerOut, responses={200: {"content": {EVENTS: {}}}})
    async def ask(request: Request, body: AskIn, caller: Asker) -> AnswerOut | Response:
        """Answer a question in words, with the evidence of every figure: query, window, state, series.

        With `Accept: text/event-stream` the reply is a stream: `progress` events with a `text` while the question is
        planned and looked up, then one `answer`, or one `problem` as problem+json.
        """
        if seats.statistics().tasks_waiting >= MAX_WAITING:
            raise LimitExceeded("Too many questions are waiting.", retry_after_s=10)
        question = _question(body, caller)
        if EVENTS in request.headers.get("accept", ""):
            return StreamingResponse(_events(question), media_type=EVENTS, headers={"cache-control": "no-store"})
        return await to_thread.run_sync(_answer, question, None, limiter=seats)

    def _question(body: AskIn, caller: Principal) -> Question:
        return Question(
            text=body.question,
            principal=caller,
            asked_ms=services.clock(),
            # A conversation belongs to who began it: another caller's id of the same name is another one.
            conversation=conversation_of(caller, body.conversation),
            zone=zone_of(body.zone) if body.zone else services.settings.agent.zone,
        )

    def _answer(question: Question, progress: _Progress | None) -> AnswerOut:
        return views.answer(running(services.assistant, "assistant").ask(question, progress))

    async def _events(question: Question) -> AsyncIterator[bytes]:
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        progress = _Progress(asyncio.get_running_loop(), heard)
        work = asyncio.ensure_future(to_thread.run_sync(_answer, question, progress, limiter=seats))
        work.add_done_callback(lambda _: heard.put_nowait(b""))
        while True:
            try:
                event = await asyncio.wait_for(heard.get(), ALIVE_S)
            except TimeoutError:
                yield format_sse_event(comment="working")
                continue
            if event:
                yield event
                continue
            break
        try:
            yield format_sse_event(event="answer", data_str=(await work).model_dump_json())
        except AiopsError as error:
            told = respond("/api/v1/ask", problem_of(error)).body
            yield format_sse_event(event="problem", data_str=bytes(told).decode())

    return routes


class _Progress:
    """Lines of progress from the answering thread, as events for the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, heard: asyncio.Queue[bytes]) -> None:
        self._loop = loop
        self._heard = heard

    def __call__(self, text: str) -> None:
        event = format_sse_event(event="progress", data_str=json.dumps({"text": Untrusted(text).display(300)}))
        self._loop.call_soon_threadsafe(self._heard.put_nowait, event)


def conversation_of(caller: Principal, name: str) -> str:
    """A conversation's id in the store."""
    return f"http:{caller.name}:{name}" if name else ""


def zone_of(name: str) -> str:
    """The name, if it is an IANA time zone's. Raises ``InvalidInput``."""
    try:
        return ZoneInfo(name).key
    except (KeyError, ValueError, OSError) as error:
        raise InvalidInput(f"'{name}' is not an IANA time zone name.", hint="Example: Europe/Berlin.") from error
