"""Earlier answers: their charts, and what people think of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from aiops.api import views
from aiops.api.auth import Asker, Reader
from aiops.api.routes.ask import conversation_of
from aiops.api.schemas import AnswerBrief, AnswerList, AnswerOut, FeedbackIn
from aiops.api.services import Services, running
from aiops.core.conversation import Feedback, StoredAnswer
from aiops.core.errors import NotFound
from aiops.core.principal import Principal
from aiops.store.state.conversations import ConversationRepository


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/answers", tags=["questions"])

    def kept() -> ConversationRepository:
        return running(services.conversations, "state store")

    @routes.get("", response_model=AnswerList)
    def history(
        caller: Reader,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        conversation: Annotated[str, Query(max_length=80)] = "",
    ) -> AnswerList:
        """The caller's own questions and how they were answered, the newest first."""
        found = kept().answers(limit, caller.name, conversation_of(caller, conversation))
        return AnswerList(answers=[_brief(stored) for stored in found])

    @routes.get("/{answer_id}", response_model=AnswerOut)
    def show(answer_id: str, caller: Reader) -> AnswerOut:
        """An earlier answer, as it was given."""
        return views.answer(_stored(answer_id, caller).answer)

    @routes.get("/{answer_id}/charts/{name}.png", response_class=Response)
    def chart(answer_id: str, name: str, caller: Reader) -> Response:
        """The chart of one piece of evidence as PNG."""
        from aiops.reports import charts

        answer = _stored(answer_id, caller).answer
        for evidence in answer.evidence:
            if evidence.id == name and (png := charts.chart_for(evidence, answer.zone)) is not None:
                return Response(png, media_type="image/png")
        raise NotFound(f"The answer has no chart '{name}'.")

    @routes.post("/{answer_id}/feedback", status_code=204)
    def feedback(answer_id: str, body: FeedbackIn, caller: Asker) -> None:
        """Say whether an answer helped; a second opinion of the same caller replaces the first."""
        stored = _stored(answer_id, caller)
        kept().add_feedback(Feedback(stored.answer.id, caller.name, body.helpful, body.note, services.clock()))

    def _stored(answer_id: str, caller: Principal) -> StoredAnswer:
        found = kept().answer(answer_id)
        # An answer holds what its asker may see; others may read it only if nothing is hidden from them.
        if found is None or (found.asked_by != caller.name and caller.scope is not None):
            raise NotFound(f"There is no answer '{answer_id}'.")
        return found

    return routes


def _brief(stored: StoredAnswer) -> AnswerBrief:
    answer = stored.answer
    return AnswerBrief(
        id=answer.id,
        question=answer.question,
        first_line=answer.text.split("\n", 1)[0],
        sure=answer.sure,
        confidence=answer.confidence,
        planner=answer.planner,
        asked_ms=stored.asked_ms,
        conversation=stored.conversation.rsplit(":", 1)[-1] if stored.conversation else "",
    )
