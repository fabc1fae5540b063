"""Owns the page of a series: what is said of it, and how it gets another name, is merged, or is deleted."""

from __future__ import annotations

import time
from functools import cached_property
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from typing_extensions import override

from events import renaming
from events.aggregation.catalogue import Series, find
from events.dashboard import DashboardView
from events.http.simultaneous import again_where_taken
from events.log.models import validate_path_segment
from events.log.series import SeriesKey
from events.rollups.models import Watermark
from events.rollups.moves import Move
from events.series.models import FormerName, SeriesSettings
from events.text_inputs import LineBreaksMixin, on_one_line
from events.worker import moving, pacing
from events.worker.moving import CannotMoveError

CHANGE_SERIES = "events.change_seriessettings"
_MOST_FORMER_NAMES = 20
# For how long a page waits for minutes that a merge needs; what is made by then stays for the next try.
_MINUTES_SECONDS = 5


def _names(typed: str, series: SeriesKey) -> bool:
    return on_one_line(typed) == on_one_line("/".join(series))


class SeriesForm(LineBreaksMixin, forms.ModelForm):
    """What a user may say of a series."""

    class Meta:
        model = SeriesSettings
        fields = ("description", "unit", "is_hidden")
        widgets = {
            "description": forms.Textarea(attrs={"rows": 3}),
            "unit": forms.TextInput(attrs={"list": "units", "autocomplete": "off"}),
        }
        labels = {"is_hidden": "Hidden from the overview"}


class RenameForm(LineBreaksMixin, forms.Form):
    """The new name of a series; to merge it, which can't be undone, its present name is typed too."""

    namespace = forms.CharField(max_length=255, strip=False, label="New namespace")
    new_name = forms.CharField(max_length=255, strip=False, label="New name")
    merge = forms.BooleanField(required=False, label="Add it to the series that has this name already")
    confirmation = forms.CharField(
        required=False, strip=False, label="To merge, type the present name",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )  # fmt: skip

    def __init__(self, *args: Any, series: SeriesKey, **kwargs: Any) -> None:
        self.series = series
        super().__init__(*args, **{"label_suffix": "", "initial": {"namespace": series.namespace}, **kwargs})

    @override
    def clean(self) -> dict[str, Any]:
        """Require the present name for a merge."""
        cleaned = super().clean()
        if cleaned.get("merge") and not _names(cleaned.get("confirmation", ""), self.series):
            self.add_error("confirmation", f"Type {'/'.join(self.series)} to merge it: this can’t be undone.")
        return cleaned

    def apply(self) -> SeriesKey:
        """Rename the series, and return its new name. Raises CannotMoveError."""
        new = SeriesKey(self.cleaned_data["namespace"], self.cleaned_data["new_name"])
        give_up = time.monotonic() + _MINUTES_SECONDS
        merge = self.cleaned_data["merge"]
        renaming.move(self.series, new, merge=merge, is_wanted=lambda: time.monotonic() < give_up)
        return new


class DeleteForm(forms.Form):
    """The name of the series that is to be deleted, typed."""

    typed_name = forms.CharField(
        strip=False, label="To delete it, type its name",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )  # fmt: skip

    def __init__(self, *args: Any, series: SeriesKey, **kwargs: Any) -> None:
        self.series = series
        super().__init__(*args, **{"label_suffix": "", **kwargs})

    def clean_typed_name(self) -> str:
        """Require the name of the series."""
        typed: str = self.cleaned_data["typed_name"]
        if not _names(typed, self.series):
            raise ValidationError(f"Type {'/'.join(self.series)} to delete it: this can’t be undone.")
        return typed

    def apply(self) -> SeriesKey:
        """Delete the series, and return its name. Raises CannotMoveError."""
        renaming.move(self.series, None)
        return self.series


class SeriesPage(DashboardView):
    """``/series/<namespace>/<name>``: what is known of a series, to be changed by users who may change it."""

    template_name = "events/series.html"

    @cached_property
    def series(self) -> SeriesKey:
        """Return the name that the path has."""
        return SeriesKey(self.kwargs["namespace"], self.kwargs["name"])

    @override
    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show the series. Raises Http404 where nothing is known of it, neither an event nor a word."""
        return self._show()

    @again_where_taken
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Do what the user says with the series. Raises PermissionDenied where the user may not."""
        what = request.POST.get("what", "settings")
        if what in MOVES:
            return self._move(what, request)
        if not request.user.has_perm(CHANGE_SERIES):
            raise PermissionDenied("Only users with the permission “Can change series settings” may change a series.")
        form = SeriesForm(request.POST, instance=self._settings(), label_suffix="")
        if not form.is_valid():
            return self._show(form=form)
        form.save()
        return redirect(f"{reverse('series', args=self.series)}?saved=1")

    def _move(self, what: str, request: HttpRequest) -> HttpResponse:
        form_class, permission, sentence = MOVES[what]
        if not request.user.has_perm(permission):
            raise PermissionDenied(sentence)
        form = form_class(request.POST, series=self.series)
        if not form.is_valid():
            return self._show(**{what: form})
        try:
            key = form.apply()
        except CannotMoveError as error:
            form.add_error(None, str(error))
            return self._show(**{what: form})
        pacing.catch_up_in_background()
        return redirect("series", *key)

    def _settings(self) -> SeriesSettings:
        found = SeriesSettings.objects.of_series(*self.series).first()
        if found is None and self._line is None and self._became is None and not self._under_way:
            raise Http404(f"There is no series “{'/'.join(self.series)}”.")
        return found or SeriesSettings(namespace=self.series.namespace, name=self.series.name)

    @cached_property
    def _line(self) -> Series | None:
        """Return the series' line in the catalogue; None where it has no events."""
        try:
            for segment in self.series:
                validate_path_segment(segment)
        except ValidationError:
            return None
        return find(self.series)

    @cached_property
    def _became(self) -> FormerName | None:
        """Return what became of the series that had this name before."""
        return FormerName.objects.filter(namespace=self.series.namespace, name=self.series.name).first()

    @cached_property
    def _under_way(self) -> Move | None:
        """Return the move that the series has a part in, and see to it that it goes on without a worker too."""
        moves = [move for move in Watermark.objects.moves() if self.series in (move.old, move.into)]
        if moves:
            pacing.catch_up_in_background()
        return moves[0] if moves else None

    def _former_names(self) -> list[dict[str, Any]]:
        """List the names that the series had before, each with what came under it since."""
        former = FormerName.objects.of_series(*self.series).order_by("-since")[:_MOST_FORMER_NAMES]
        return [{"former": each, "line": find(SeriesKey(each.namespace, each.name))} for each in former]

    def _show(self, **forms_given: forms.BaseForm) -> HttpResponse:
        form = forms_given.pop("form", None) or SeriesForm(instance=self._settings(), label_suffix="")
        form.use_required_attribute = False
        user = self.request.user
        may_change = user.has_perm(CHANGE_SERIES)
        for field in form.fields.values():
            field.disabled = not may_change
        of_moves = {
            what: forms_given.get(what) or form_class(series=self.series)
            for what, (form_class, permission, _) in MOVES.items()
            if self._line and not self._under_way and user.has_perm(permission)
        }
        move = self._under_way
        context = self.get_context_data(
            form=form, line=self._line, may_change=may_change, became=self._became, under_way=move,
            left=moving.count_left(move) if move else 0, former_names=self._former_names(), **of_moves, **self.kwargs,
        )  # fmt: skip
        is_bad = form.errors or any(each.errors for each in of_moves.values())
        return self.render_to_response(context, status=400 if is_bad else 200)


def _only(permission: str, what: str) -> str:
    return f"Only users with the permission “{permission}” may {what} series."


# The forms that move a series, the permission each needs, and what is said without it.
MOVES: dict[str, tuple[type[RenameForm] | type[DeleteForm], str, str]] = {
    "rename": (RenameForm, "events.change_event", _only("Can change event", "rename")),
    "delete": (DeleteForm, "events.delete_event", _only("Can delete event", "delete")),
}
