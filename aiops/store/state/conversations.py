"""Questions with their answers, messages of conversations, feedback."""

from __future__ import annotations

from sqlalchemy import delete, select

from aiops.core.conversation import Feedback, Message, Speaker, StoredAnswer
from aiops.core.errors import NotFound
from aiops.core.evidence import Answer
from aiops.core.query import Question
from aiops.store.state import codec
from aiops.store.state.database import StateDatabase
from aiops.store.state.tables import AnswerRow, FeedbackRow, MessageRow


class ConversationRepository:
    """The assistant's memory: our own tables, no framework's checkpoints."""

    def __init__(self, database: StateDatabase) -> None:
        self._database = database

    def save_answer(self, question: Question, answer: Answer) -> None:
        """Keep an answer and, in a conversation, both turns, in one transaction; a second call does nothing."""
        with self._database.session() as session:
            if session.get(AnswerRow, answer.id) is not None:
                return
            session.add(
                AnswerRow(
                    id=answer.id,
                    conversation=question.conversation,
                    asked_by=question.principal.name,
                    asked_ms=question.asked_ms,
                    body=codec.dumps(answer),
                )
            )
            if question.conversation:
                session.add(_message(Message(question.conversation, Speaker.PERSON, question.text, question.asked_ms)))
                session.flush()
                session.add(
                    _message(
                        Message(question.conversation, Speaker.ASSISTANT, answer.text, answer.answered_ms, answer.id)
                    )
                )

    def answer(self, answer_id: str) -> StoredAnswer | None:
        with self._database.reader() as session:
            row = session.get(AnswerRow, answer_id)
            return None if row is None else _stored(row)

    def answers(self, limit: int = 50, asked_by: str = "", conversation: str = "") -> tuple[StoredAnswer, ...]:
        """The newest first."""
        query = select(AnswerRow).order_by(AnswerRow.asked_ms.desc()).limit(limit)
        if asked_by:
            query = query.where(AnswerRow.asked_by == asked_by)
        if conversation:
            query = query.where(AnswerRow.conversation == conversation)
        with self._database.reader() as session:
            return tuple(_stored(row) for row in session.scalars(query))

    def add_message(self, message: Message) -> None:
        with self._database.session() as session:
            session.add(_message(message))

    def messages(self, conversation: str, limit: int = 20) -> tuple[Message, ...]:
        """The latest ``limit`` turns, oldest first."""
        query = (
            select(MessageRow)
            .where(MessageRow.conversation == conversation)
            .order_by(MessageRow.sequence.desc())
            .limit(limit)
        )
        with self._database.reader() as session:
            rows = session.scalars(query).all()
        return tuple(
            Message(r.conversation, Speaker(r.speaker), r.text, r.time_ms, r.answer_id) for r in reversed(rows)
        )

    def add_feedback(self, feedback: Feedback) -> None:
        """Keep what a person thinks of an answer; a second opinion replaces the first. Raises ``NotFound``."""
        with self._database.session() as session:
            if session.get(AnswerRow, feedback.answer_id) is None:
                raise NotFound(f"There is no answer '{feedback.answer_id}'.")
            session.merge(
                FeedbackRow(
                    answer_id=feedback.answer_id,
                    principal=feedback.principal,
                    helpful=feedback.helpful,
                    note=feedback.note,
                    time_ms=feedback.time_ms,
                )
            )

    def feedback(self, answer_id: str) -> tuple[Feedback, ...]:
        query = select(FeedbackRow).where(FeedbackRow.answer_id == answer_id).order_by(FeedbackRow.time_ms)
        with self._database.reader() as session:
            return tuple(
                Feedback(r.answer_id, r.principal, r.helpful, r.note, r.time_ms) for r in session.scalars(query)
            )

    def forget_before(self, time_ms: int) -> None:
        """Retention: drop messages, answers and their feedback from before ``time_ms``."""
        with self._database.session() as session:
            session.execute(delete(MessageRow).where(MessageRow.time_ms < time_ms))
            session.execute(delete(AnswerRow).where(AnswerRow.asked_ms < time_ms))


def _message(message: Message) -> MessageRow:
    return MessageRow(
        conversation=message.conversation,
        speaker=message.speaker.value,
        text=message.text,
        time_ms=message.time_ms,
        answer_id=message.answer_id,
    )


def _stored(row: AnswerRow) -> StoredAnswer:
    return StoredAnswer(codec.loads(Answer, row.body), row.asked_by, row.asked_ms, row.conversation)
