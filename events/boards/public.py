"""Owns the public link of a board: what it may ask for, how often, and the endpoint that it asks."""

from __future__ import annotations

from django.conf import settings
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.exceptions import APIException, PermissionDenied
from rest_framework.request import Request
from typing_extensions import override

from events.access.counters import counters
from events.aggregation.question import Question
from events.boards import operations
from events.boards.documents import series_of
from events.boards.models import Board
from events.http.exceptions import RateLimited
from events.log.series import SeriesKey
from events.views import QueryView

_SECONDS = 60


def board_of(token: str) -> Board:
    """Find the board whose public link has the token. Raises Http404 where there is none, or none any more."""
    board = Board.objects.with_link(token).first()
    if board is None:
        raise Http404
    return board


def without_cookies(request: HttpRequest) -> None:
    """Let the answer set no cookie: Django would give a new one to who comes with a broken one, of whatever origin."""
    request.META.pop("CSRF_COOKIE_NEEDS_UPDATE", None)


def count_questions(board: Board, questions: int) -> None:
    """Count what a board's link asks, however many people have it. Raises RateLimited past the limit."""
    quota = settings.RATE_LIMIT_BOARD_LINKS
    key = f"questions of the link {board.link_digest}"
    if quota and not counters().take(key, quota, _SECONDS, min(questions, quota)):
        wait = counters().look(key, _SECONDS).wait_seconds(quota, min(questions, quota))
        raise RateLimited(f"More than {quota} questions a minute of this link", max(1, wait))


class PublicQueryView(QueryView):
    """``POST /api/boards/<token>/query``: aggregates of the series that a public board shows."""

    authentication_classes = []
    permission_classes = []

    @operations.public_query
    @override
    def post(self, request: Request, token: str) -> HttpResponseBase:  # type: ignore[override]  # of one board
        without_cookies(request._request)
        self.board = board_of(token)
        self.shown = series_of(self.board)
        return super().post(request)

    @override
    def allowed(self, request: Request, question: Question) -> Question | APIException:
        if SeriesKey(question.namespace, question.name) in self.shown:
            return question
        return PermissionDenied("The board doesn't show this series.")

    @override
    def count(self, request: Request, questions: int) -> None:
        count_questions(self.board, questions)
