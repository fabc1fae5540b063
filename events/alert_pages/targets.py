"""The pages of targets: where alerts are sent. URLs and secrets go in, and never out again."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from typing_extensions import override

from events.alert_pages.page import AlertsPage
from events.alerts import forms, messages
from events.alerts.forms import TargetForm
from events.alerts.models import Alert, AlertTarget
from events.http.simultaneous import again_where_taken

_VIEW = "events.view_alerttarget"
_CHANGE = "events.change_alerttarget"


class TargetList(AlertsPage):
    """``/alerts/targets``: all targets."""

    also = (_VIEW,)

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show the targets."""
        return self.show("targets", targets=AlertTarget.objects.prefetch_related("alerts"))


class TargetNew(AlertsPage):
    """``/alerts/targets/new``: makes a target."""

    also = (_VIEW, "events.add_alerttarget")
    title = "Make a target"

    def target(self, **kwargs: Any) -> AlertTarget:
        """Return the target that the form is about."""
        return AlertTarget()

    def get(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        """Show the form."""
        return self.form(TargetForm(instance=self.target(**kwargs), label_suffix=""))

    @again_where_taken
    def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        """Store the target, and lead to the others; where a secret was made, show it, this once."""
        form = TargetForm(request.POST, instance=self.target(**kwargs), label_suffix="")
        if not form.is_valid():
            return self.form(form, status=400)
        target = form.save()
        return self.show_secret(target, form.made_secret) if form.made_secret else redirect("alert-targets")

    def form(self, form: TargetForm, status: int = 200) -> HttpResponse:
        """Show a form."""
        form.use_required_attribute = False
        return self.show("target", status, form=form, title=self.title, target=form.instance)

    def show_secret(self, target: AlertTarget, secret: str) -> HttpResponse:
        """Show a secret that was just made, in an answer that is kept nowhere."""
        response = self.show("secret", target=target, secret=secret)
        add_never_cache_headers(response)
        return response


class TargetChange(TargetNew):
    """``/alerts/targets/<id>``: changes a target."""

    also = (_VIEW, _CHANGE)
    title = "Change the target"

    @override
    def target(self, **kwargs: Any) -> AlertTarget:
        """Return the target that the form is about. Raises Http404."""
        return self.found(AlertTarget, kwargs["pk"])


class TargetSecret(TargetNew):
    """``/alerts/targets/<id>/secret``: gives a target another secret."""

    also = (_VIEW, _CHANGE)
    http_method_names = ["post", "options"]

    @override
    def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        """Store a new secret, and show it, this once."""
        target = self.found(AlertTarget, kwargs["pk"])
        return self.show_secret(target, forms.sealed_anew(target))


class TargetTest(AlertsPage):
    """``/alerts/targets/<id>/test``: has a test message sent."""

    also = (_VIEW, _CHANGE)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Store a test message, which the worker sends like any other, and lead to the log, where it is to be seen."""
        target = self.found(AlertTarget, pk)
        alert = Alert(name=f"Test of {target.name}"[:100], severity="info", namespace="Server-1", series_name="cpu")
        messages.delivery(target, alert, "test", [], timezone.now()).save()
        return redirect("alert-deliveries")


class TargetDelete(AlertsPage):
    """``/alerts/targets/<id>/delete``: deletes a target."""

    also = (_VIEW, "events.delete_alerttarget")

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask whether that is meant."""
        return self.show("delete", thing=self.found(AlertTarget, pk), back="alert-target")

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Delete the target with the log of what was sent there, and lead to the others."""
        self.found(AlertTarget, pk).delete()
        return redirect("alert-targets")
