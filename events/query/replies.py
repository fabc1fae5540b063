"""Owns the answers to several questions at once: each by itself, and all from one snapshot."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NotRequired, TypedDict

from django.conf import settings
from django.db import DatabaseError, transaction
from rest_framework import status
from rest_framework.exceptions import APIException

from events.aggregation.answer import Answer
from events.aggregation.question import Question
from events.database import reading
from events.database.dialect import is_postgresql
from events.database.errors import is_cancelled
from events.database.snapshot import snapshot
from events.http.exceptions import RequestTooLarge, StatementCancelled
from events.observability.observation import current


class Reply(TypedDict):
    """What the aggregation endpoint says to one question: its status, its items or what is wrong, and ``accuracy``.

    The last is what ``Tracking-Accuracy`` says there, where it is there.
    """

    status: int
    body: Any
    accuracy: NotRequired[str]


class Replies:
    """The replies to some questions, in their order.

    All are read in one snapshot. Together they have at most ``MAX_ITEMS`` items and take about as long as one statement
    may: ``STATEMENT_TIMEOUT_SECONDS``. What goes beyond either is refused, and the others are answered all the same.
    Questions come with the errors that are found before any is read, in the place of what is refused.
    """

    def __init__(self, questions: Iterable[Question | APIException]) -> None:
        self.has_long_tail = False
        self._ends_at = time.monotonic() + settings.STATEMENT_TIMEOUT_SECONDS
        self._left_items = settings.MAX_ITEMS
        with snapshot():
            self.replies = list(self._reply_to(questions))

    def _reply_to(self, questions: Iterable[Question | APIException]) -> Iterator[Reply]:
        for question in questions:
            try:
                if isinstance(question, APIException):
                    raise question
                yield self._answer(question)
            except APIException as error:
                yield _refusal(error)

    def _answer(self, question: Question) -> Reply:
        """Answer a question. Raises APIException where it is refused, and DatabaseError for all of them."""
        if time.monotonic() > self._ends_at:
            raise StatementCancelled
        try:
            with _apart():
                answer = Answer(question)
                items = answer.items()
        except DatabaseError as error:
            if not is_cancelled(error):
                raise
            current().database_error = "cancelled"
            raise StatementCancelled from error
        self.has_long_tail |= answer.has_long_tail
        if len(items) > self._left_items:
            raise RequestTooLarge(
                f"The answers have more than {settings.MAX_ITEMS} items together; ask for this one by itself."
            )
        self._left_items -= len(items)
        reply = Reply(status=status.HTTP_200_OK, body=items)
        return reply if answer.accuracy is None else {**reply, "accuracy": answer.accuracy}


def _apart() -> AbstractContextManager[None]:
    """Keep a statement that is cancelled from taking the rest of the snapshot with it, as it would on PostgreSQL."""
    return transaction.atomic(reading.connection().alias) if is_postgresql() else nullcontext()


def _refusal(error: APIException) -> Reply:
    detail = error.detail
    return Reply(status=error.status_code, body=detail if isinstance(detail, dict | list) else {"detail": detail})
