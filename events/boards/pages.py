"""Owns the pages of boards: the list, a board, adding a chart to one, and what a public link leads to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.generic import View
from rest_framework.exceptions import ValidationError
from typing_extensions import override

from events.boards.documents import (
    MOST_CHARTS,
    BoardSerializer,
    ChartSerializer,
    ViewField,
    document_of,
    series_of,
)
from events.boards.models import PUBLISH_BOARD, Board
from events.boards.public import board_of, count_questions, without_cookies
from events.dashboard import DashboardView
from events.http import csp
from events.http.error_pages import error_page
from events.http.exceptions import RateLimited
from events.series.models import SeriesSettings
from events.text_inputs import LineBreaksMixin

MOST_BOARDS = 100  # of a user
_PUBLISHERS = "users with the permission “Can make a board public by a link”"


class BoardForm(LineBreaksMixin, forms.ModelForm):
    """What a board is called, and who sees it."""

    class Meta:
        model = Board
        fields = ("name", "is_shared")
        labels = {"is_shared": "Shared with all users who may view events"}


class BoardPage(DashboardView):
    """A page for signed-in users; ``kwargs`` name the board where it is about one."""

    @property
    def user(self) -> User:
        """Return who asks; the mixin lets nobody else come here."""
        return cast(User, self.request.user)

    def find(self, *, to_change: bool = False) -> Board:
        """Find the board. Raises Http404 where the user doesn't see it, and PermissionDenied where that is all."""
        board = Board.objects.seen_by(self.user).select_related("owner").filter(key=self.kwargs["key"]).first()
        if board is None:
            raise Http404("There is no such board.")
        if to_change and not board.may_be_changed_by(self.user):
            raise PermissionDenied("Only its owner changes a board; duplicate it, and change yours.")
        return board

    def lock(self) -> Board:
        """Find the board to change it, which two windows may do at once; in a transaction. Raises as ``find`` does."""
        found = self.find(to_change=True)
        board = Board.objects.select_for_update().filter(pk=found.pk).first()
        if board is None:
            raise Http404("There is no such board.")
        return board

    def store(self, board: Board) -> HttpResponse:
        """Store a new board of the user, and lead there."""
        if Board.objects.filter(owner=self.user).count() >= MOST_BOARDS:
            raise PermissionDenied(f"You have {MOST_BOARDS} boards already; delete one first.")
        board.owner = self.user
        board.save(force_insert=True)
        return redirect("board", board.key)


class BoardListPage(BoardPage):
    """``/boards/``: the boards that the user sees; new ones are made and imported here."""

    template_name = "events/boards/list.html"

    @override
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        boards = Board.objects.seen_by(self.user).select_related("owner").order_by("name", "pk")
        return super().get_context_data(boards=boards, **{"form": BoardForm(label_suffix=""), "error": "", **kwargs})

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Make a board, empty or of a file."""
        file = request.FILES.get("file")
        if isinstance(file, UploadedFile):
            return self._import(file.read())
        form = BoardForm(request.POST, label_suffix="")
        if not form.is_valid():
            return self._refuse(form=form)
        return self.store(form.save(commit=False))

    def _import(self, content: bytes) -> HttpResponse:
        try:
            serializer = BoardSerializer(data=json.loads(content))
            serializer.is_valid(raise_exception=True)
        except (ValueError, RecursionError):
            return self._refuse(error="The file is no JSON.")
        except ValidationError as error:
            return self._refuse(error=f"The file is no board: {_sentence(error.detail)}")
        return self.store(serializer.made())

    def _refuse(self, **context: Any) -> HttpResponse:
        return self.render_to_response(self.get_context_data(**context), status=400)


class BoardView(BoardPage):
    """``/boards/<key>/``: a board. Who may change it does so by forms, each of which names its action."""

    template_name = "events/boards/board.html"

    @override
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        board = kwargs.pop("board", None) or self.find()
        may_change = board.may_be_changed_by(self.user)
        return super().get_context_data(
            board=board,
            shown=shown(board),
            may_change=may_change,
            may_publish=may_change and self.user.has_perm(PUBLISH_BOARD),
            **{"form": BoardForm(instance=board, label_suffix=""), **kwargs},
        )

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Do what the form names."""
        action = request.POST.get("action", "")
        if action == "duplicate":
            return self._duplicate(self.find())
        does: dict[str, Callable[[Board], HttpResponse]] = {
            "settings": self._set, "view": self._view, "title": self._title, "order": self._order,
            "remove": self._remove, "publish": self._publish, "revoke": self._revoke, "delete": self._delete,
        }  # fmt: skip
        if action not in does:
            raise Http404("There is no such action.")
        with transaction.atomic():
            return does[action](self.lock())

    def _back(self, board: Board) -> HttpResponse:
        return redirect(f"{reverse('board', args=[board.key])}?edit=1")

    def _duplicate(self, board: Board) -> HttpResponse:
        name = f"Copy of {board.name}"[: Board._meta.get_field("name").max_length]
        return self.store(Board(name=name, view=board.view, charts=board.charts))

    def _set(self, board: Board) -> HttpResponse:
        form = BoardForm(self.request.POST, instance=board, label_suffix="")
        if not form.is_valid():
            return self.render_to_response(self.get_context_data(board=self.find(), form=form), status=400)
        form.save()
        return self._back(board)

    def _view(self, board: Board) -> HttpResponse:
        try:
            board.view = ViewField(max_length=500, allow_blank=True).run_validation(self.request.POST.get("view", ""))
        except ValidationError as error:
            return JsonResponse({"view": error.detail}, status=400)
        board.save(update_fields=["view"])
        return HttpResponse(status=204)

    def _title(self, board: Board) -> HttpResponse:
        for chart in board.charts:
            if chart["id"] == self.request.POST.get("chart"):
                chart["title"] = self.request.POST.get("title", "").strip()[:100]
        board.save(update_fields=["charts"])
        return self._back(board)

    def _order(self, board: Board) -> HttpResponse:
        charts = {chart["id"]: chart for chart in board.charts}
        order = self.request.POST.getlist("chart")
        if sorted(order) != sorted(charts):
            return JsonResponse({"detail": "The board was changed meanwhile: load it again."}, status=409)
        board.charts = [charts[each] for each in order]
        board.save(update_fields=["charts"])
        return HttpResponse(status=204)

    def _remove(self, board: Board) -> HttpResponse:
        board.charts = [chart for chart in board.charts if chart["id"] != self.request.POST.get("chart")]
        board.save(update_fields=["charts"])
        return self._back(board)

    def _publish(self, board: Board) -> HttpResponse:
        if not self.user.has_perm(PUBLISH_BOARD):
            raise PermissionDenied(f"Only {_PUBLISHERS} may do that.")
        link = self.request.build_absolute_uri(reverse("public-board", args=[board.publish()]))
        response = self.render_to_response(self.get_context_data(board=board, link=link))
        response["Cache-Control"] = "no-store"
        return response

    def _revoke(self, board: Board) -> HttpResponse:
        board.revoke()
        return self._back(board)

    def _delete(self, board: Board) -> HttpResponse:
        board.delete()
        return redirect("boards")


class BoardFile(BoardPage):
    """``/boards/<key>/export``: a board as a file."""

    @override
    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Answer with the document, to be saved."""
        board = self.find()
        name = re.sub(r"[^\w.-]+", "-", board.name, flags=re.ASCII).strip("-") or "board"
        headers = {"Content-Disposition": f'attachment; filename="{name}.json"'}
        return HttpResponse(document_of(board), content_type="application/json", headers=headers)


class AddChartPage(BoardPage):
    """``/boards/add``: puts a chart, whose state is the query, on a board."""

    template_name = "events/boards/add.html"

    @override
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        boards = [board for board in Board.objects.seen_by(self.user) if board.may_get_charts_of(self.user)]
        state = self.request.META["QUERY_STRING"]
        return super().get_context_data(boards=boards, **{"state": state, "error": "", **kwargs})

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Put the chart at the end of the chosen board, or of a new one."""
        given = request.POST
        serializer = ChartSerializer(data={"title": given.get("title", "").strip(), "state": given.get("state", "")})
        if not serializer.is_valid():
            return self._refuse(_sentence(serializer.errors))
        if not given.get("key"):
            form = BoardForm({"name": given.get("name", "")})
            if not form.is_valid():
                return self._refuse("A new board needs a name.")
            board = form.save(commit=False)
            board.charts = [serializer.stored()]
            return self.store(board)
        self.kwargs["key"] = given["key"]
        with transaction.atomic():
            board = self.lock()
            if not board.may_get_charts_of(self.user):
                raise PermissionDenied(f"This board is public; only {_PUBLISHERS} add to it.")
            if len(board.charts) >= MOST_CHARTS:
                return self._refuse(f"A board has {MOST_CHARTS} charts at most.")
            board.charts = [*board.charts, serializer.stored()]
            board.save(update_fields=["charts"])
        return redirect("board", board.key)

    def _refuse(self, error: str) -> HttpResponse:
        context = self.get_context_data(error=error, state=self.request.POST.get("state", ""))
        return self.render_to_response(context, status=400)


class PublicBoardPage(View):
    """``/boards/public/<token>/``: what a public link leads to, for everybody who has it; no cookie is read or set."""

    def get(self, request: HttpRequest, token: str) -> HttpResponseBase:
        """Show the board; embedded only where BOARD_FRAME_ANCESTORS allows it."""
        without_cookies(request)
        try:
            board = board_of(token)
            count_questions(board, 1)
        except Http404:  # Django's page would look at the cookies
            return error_page(404, "Not found", "There is no such page.")
        except RateLimited as error:
            return error_page(error.status_code, "Too many requests", str(error.detail), error.wait)
        context = {"board": board, "shown": shown(board), "token": token}
        response = render(request, "events/boards/public.html", context)
        ancestors = " ".join(settings.BOARD_FRAME_ANCESTORS)
        response["Content-Security-Policy"] = csp.policy(
            img_src="'self' data: blob:", form_action="'none'", frame_ancestors=ancestors or "'none'"
        )
        # the address is a secret, and says nothing to those who search
        response["Referrer-Policy"] = "no-referrer"
        response["Cache-Control"] = "no-store"
        response["X-Robots-Tag"] = "noindex"
        response.xframe_options_exempt = bool(ancestors)  # Django's middleware looks for it
        return response


def shown(board: Board) -> dict[str, Any]:
    """Return what the page's script is told of a board: its view, charts, and the units of its series. One query."""
    series = series_of(board)
    chosen = reduce(or_, (Q(namespace=namespace, name=name) for namespace, name in series), Q(pk=None))
    units = {f"{each.namespace}/{each.name}": each.unit for each in SeriesSettings.objects.filter(chosen)}
    return {"view": board.view, "charts": board.charts, "units": units}


def _sentence(detail: Any) -> str:
    """Write errors by field as one text."""
    if isinstance(detail, dict):
        return " ".join(f"{key}: {_sentence(value)}" for key, value in detail.items())
    if isinstance(detail, list):
        return " ".join(text for text in map(_sentence, detail) if text)
    return str(detail).encode(errors="backslashreplace").decode()  # a lone surrogate can't stand in a page
