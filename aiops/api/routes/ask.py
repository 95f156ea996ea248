"""Questions, answers, their charts, and what people think of them."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Response

from aiops.api import views
from aiops.api.auth import Asker, Reader
from aiops.api.schemas import AnswerOut, AskIn, FeedbackIn
from aiops.api.services import Services, running
from aiops.core.conversation import Feedback, StoredAnswer
from aiops.core.errors import InvalidInput, LimitExceeded, NotFound
from aiops.core.principal import Principal
from aiops.core.query import Question

MAX_ASKING = 8
MAX_WAITING = 32


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["questions"])

    # Questions take seconds: with threads of their own they cannot keep everyone else waiting.
    seats = CapacityLimiter(MAX_ASKING)

    @routes.post("/ask", response_model=AnswerOut)
    async def ask(body: AskIn, caller: Asker) -> AnswerOut:
        """Answer a question in words, with the evidence of every figure: query, window, state, series."""
        if seats.statistics().tasks_waiting >= MAX_WAITING:
            raise LimitExceeded("Too many questions are waiting.", retry_after_s=10)
        return await to_thread.run_sync(_ask, body, caller, limiter=seats)

    def _ask(body: AskIn, caller: Principal) -> AnswerOut:
        assistant = running(services.assistant, "assistant")
        question = Question(
            text=body.question,
            principal=caller,
            asked_ms=services.clock(),
            # A conversation belongs to who began it: another caller's id of the same name is another one.
            conversation=f"http:{caller.name}:{body.conversation}" if body.conversation else "",
            zone=_zone(body.zone) if body.zone else services.settings.agent.zone,
        )
        return views.answer(assistant.ask(question))

    @routes.get("/answers/{answer_id}", response_model=AnswerOut)
    def show(answer_id: str, caller: Reader) -> AnswerOut:
        """An earlier answer, as it was given."""
        return views.answer(_stored(answer_id, caller).answer)

    @routes.get("/answers/{answer_id}/charts/{name}.png", response_class=Response)
    def chart(answer_id: str, name: str, caller: Reader) -> Response:
        """The chart of one piece of evidence as PNG."""
        from aiops.reports import charts

        answer = _stored(answer_id, caller).answer
        for evidence in answer.evidence:
            if evidence.id == name and (png := charts.chart_for(evidence, answer.zone)) is not None:
                return Response(png, media_type="image/png")
        raise NotFound(f"The answer has no chart '{name}'.")

    @routes.post("/answers/{answer_id}/feedback", status_code=204)
    def feedback(answer_id: str, body: FeedbackIn, caller: Asker) -> None:
        """Say whether an answer helped; a second opinion of the same caller replaces the first."""
        stored = _stored(answer_id, caller)
        running(services.conversations, "state store").add_feedback(
            Feedback(stored.answer.id, caller.name, body.helpful, body.note, services.clock())
        )

    def _stored(answer_id: str, caller: Principal) -> StoredAnswer:
        found = running(services.conversations, "state store").answer(answer_id)
        # An answer holds what its asker may see; others may read it only if nothing is hidden from them.
        if found is None or (found.asked_by != caller.name and caller.scope is not None):
            raise NotFound(f"There is no answer '{answer_id}'.")
        return found

    return routes


def _zone(name: str) -> str:
    try:
        return ZoneInfo(name).key
    except (KeyError, ValueError, OSError) as error:
        raise InvalidInput(f"'{name}' is not an IANA time zone name.", hint="Example: Europe/Berlin.") from error
