"""The list of alerts, the page of one with its preview, and the forms that make, change, mute and delete them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Case, Count, Q, When
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from typing_extensions import override

from events.alert_pages.page import AlertsPage
from events.alerts import watched
from events.alerts.drawing import picture
from events.alerts.forms import AlertForm
from events.alerts.lag import read_lag
from events.alerts.models import Alert, AlertState, Delivery
from events.alerts.preview import preview
from events.alerts.states import FIRING, PENDING, RESOLVED
from events.http.simultaneous import again_where_taken
from events.log.series import SeriesKey

_MOST_STATES, _MOST_FIRINGS, _MOST_DELIVERIES = 100, 30, 20
_MOST_PREVIEWED = 20
_FOR_EVER = datetime(9999, 1, 1, tzinfo=UTC)
_MUTES = {"60": "an hour", "480": "8 hours", "1440": "a day", "10080": "a week", "ever": "until unmuted"}


class AlertList(AlertsPage):
    """``/alerts``: all alerts, those that fire first."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show the alerts, for how many series each fires, and how far their evaluation is behind."""
        counts = {state: Count("states", Q(states__state=state)) for state in (FIRING, PENDING, RESOLVED)}
        alerts = list(Alert.objects.annotate(**counts).order_by("name"))
        alerts.sort(key=lambda alert: not alert.firing)  # type: ignore[attr-defined]
        now = timezone.now()
        lines = [(alert, alert.is_muted(now), alert.is_silent(now)) for alert in alerts]
        return self.show("list", lines=lines, lag=read_lag())


class AlertPage(AlertsPage):
    """``/alerts/<id>``: one alert, how it stands, when it fired, and what it would have done in the last week."""

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Show the alert; ``series`` in the query chooses the series of the preview."""
        alert = self.found(Alert, pk)
        firing_first = Case(When(state=FIRING, then=0), default=1)
        states = AlertState.objects.filter(alert=alert).order_by(firing_first, "namespace", "name")
        firings = alert.firings.order_by("-fired_at")[:_MOST_FIRINGS]
        deliveries = Delivery.objects.filter(alert=alert).select_related("target").order_by("-created_at")
        return self.show(
            "alert",
            alert=alert,
            states=states[:_MOST_STATES],
            firings=firings,
            deliveries=deliveries[:_MOST_DELIVERIES],
            targets=alert.targets.all(),
            is_muted=alert.is_muted(timezone.now()),
            is_for_ever=alert.muted_until == _FOR_EVER,
            mutes=_MUTES,
            **_previewed(alert, request.GET.get("series", "")),
        )


class AlertNew(AlertsPage):
    """``/alerts/new``: makes an alert."""

    also = ("events.add_alert",)
    title = "Make an alert"

    def alert(self, **kwargs: Any) -> Alert:
        """Return the alert that the form is about."""
        namespace, _, name = self.request.GET.get("series", "").partition("/")
        return Alert(namespace=namespace, series_name=name)

    def get(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        """Show the form."""
        return self._form(AlertForm(instance=self.alert(**kwargs), label_suffix=""))

    @again_where_taken
    def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        """Store the alert, and lead to its page; or, where ``preview`` was pressed, show what it would have done."""
        alert = self.alert(**kwargs)
        form = AlertForm(request.POST, instance=alert, label_suffix="")
        if not form.is_valid():
            return self._form(form, 400)
        if "preview" in request.POST:
            return self._form(form, **_previewed(alert, request.POST.get("previewed", "")))
        if alert.pk is None and isinstance(request.user, User):
            alert.created_by = request.user
        with transaction.atomic():
            watched.store(alert)
            form.save()  # the targets too
        return redirect("alert", pk=alert.pk)

    def _form(self, form: AlertForm, status: int = 200, **context: Any) -> HttpResponse:
        form.use_required_attribute = False
        return self.show("form", status, form=form, title=self.title, alert=form.instance, **context)


class AlertChange(AlertNew):
    """``/alerts/<id>/change``: changes an alert."""

    also = ("events.change_alert",)
    title = "Change the alert"

    @override
    def alert(self, **kwargs: Any) -> Alert:
        """Return the alert that the form is about. Raises Http404."""
        return self.found(Alert, kwargs["pk"])


class AlertMute(AlertsPage):
    """``/alerts/<id>/mute``: holds messages of an alert back for a while, or no longer."""

    also = ("events.change_alert",)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Mute the alert for ``minutes``; for anything else than the choices, unmute it."""
        alert, minutes = self.found(Alert, pk), request.POST.get("minutes", "")
        until = None
        if minutes in _MUTES:
            until = _FOR_EVER if minutes == "ever" else timezone.now() + timedelta(minutes=int(minutes))
        Alert.objects.filter(pk=alert.pk).update(muted_until=until)
        return redirect("alert", pk=pk)


class AlertDelete(AlertsPage):
    """``/alerts/<id>/delete``: deletes an alert."""

    also = ("events.delete_alert",)

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask whether that is meant."""
        return self.show("delete", thing=self.found(Alert, pk), back="alert")

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Delete the alert with its states and firings, and lead to the others; the log of deliveries stays."""
        self.found(Alert, pk).delete()
        return redirect("alerts")


def _previewed(alert: Alert, wanted: str) -> dict[str, Any]:
    """Make the preview of an alert: of the series that is wanted, if it is watched, else of the first one."""
    series = watched.series_of(alert, _MOST_PREVIEWED)
    chosen = SeriesKey(*wanted.partition("/")[::2])
    if chosen not in series:
        if not (wanted and alert.matches(chosen)):
            chosen = series[0] if series else chosen
        series = [*series, chosen] if chosen.namespace and chosen not in series else series
    if not series:
        return {"previews": [], "found": None}
    found = preview(alert, chosen, timezone.now())
    return {
        "previews": ["/".join(key) for key in series],
        "chosen": "/".join(chosen),
        "found": found,
        "picture": picture(alert, found),
    }
