"""The log of deliveries: what was sent, is to be sent, or failed."""

from __future__ import annotations

from math import ceil

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from events.alert_pages.page import AlertsPage, page_number
from events.alerts import sender
from events.alerts.models import Delivery

_A_PAGE = 50


class DeliveryLog(AlertsPage):
    """``/alerts/deliveries``: the log, newest first."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show a page of the log; bodies are not shown."""
        pages = max(1, ceil(Delivery.objects.count() / _A_PAGE))
        page = page_number(request, pages)
        rows = Delivery.objects.select_related("target", "alert").defer("body").order_by("-created_at", "pk")
        deliveries = rows[(page - 1) * _A_PAGE : page * _A_PAGE]
        return self.show("deliveries", deliveries=deliveries, page=page, pages=pages)


class DeliveryAgain(AlertsPage):
    """``/alerts/deliveries/<id>/again``: has a message sent once more."""

    also = ("events.view_alerttarget", "events.change_alerttarget")

    def post(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Have the worker send it again, with the same id, and lead to the log."""
        sender.send_again(self.found(Delivery, pk), timezone.now())
        return redirect("alert-deliveries")
