"""Questions kept under a name, for everyone."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as InPath

from aiops.api.auth import Asker, Reader
from aiops.api.routes.ask import zone_of
from aiops.api.schemas import SavedQuestionIn, SavedQuestionList, SavedQuestionOut
from aiops.api.services import Services, running
from aiops.core.conversation import SavedQuestion
from aiops.core.errors import Forbidden, NotFound
from aiops.core.principal import Principal, Role
from aiops.store.state.saved_questions import SavedQuestionRepository

Name = Annotated[str, InPath(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/saved-questions", tags=["questions"])

    def kept() -> SavedQuestionRepository:
        return running(services.saved_questions, "state store")

    @routes.get("", response_model=SavedQuestionList)
    def list_saved(_caller: Reader) -> SavedQuestionList:
        """All saved questions, by name."""
        return SavedQuestionList(questions=[_out(q) for q in kept().list()])

    @routes.get("/{name}", response_model=SavedQuestionOut)
    def show(name: Name, _caller: Reader) -> SavedQuestionOut:
        """One saved question."""
        return _out(kept().get(name))

    @routes.put("/{name}", response_model=SavedQuestionOut)
    def save(name: Name, body: SavedQuestionIn, caller: Asker) -> SavedQuestionOut:
        """Keep a question under a name; only its author or an administrator may replace it."""
        _own(name, caller)
        zone = zone_of(body.zone) if body.zone else ""
        question = SavedQuestion(name, body.question, zone, caller.name, services.clock())
        kept().save(question)
        return _out(question)

    @routes.delete("/{name}", status_code=204)
    def delete(name: Name, caller: Asker) -> None:
        """Forget a saved question; only its author or an administrator may."""
        _own(name, caller)
        kept().delete(name)

    def _own(name: str, caller: Principal) -> None:
        try:
            author = kept().get(name).author
        except NotFound:
            return
        if author != caller.name and caller.role is not Role.ADMIN:
            raise Forbidden(f"The saved question '{name}' is {author}'s.", hint="Save it under another name.")

    return routes


def _out(question: SavedQuestion) -> SavedQuestionOut:
    return SavedQuestionOut(
        name=question.name,
        question=question.text,
        zone=question.zone,
        author=question.author,
        saved_ms=question.saved_ms,
    )
