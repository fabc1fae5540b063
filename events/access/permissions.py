"""Owns what a page for users with certain permissions answers to others."""

from __future__ import annotations

from django.contrib.auth.mixins import PermissionRequiredMixin
from django.contrib.auth.models import User
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.generic import View
from typing_extensions import override

_MOST_ADMINISTRATORS = 3


class PermittedPage(PermissionRequiredMixin, View):
    """A page for users with certain permissions; others log in, or learn from ``refusal_template`` what they lack.

    The template gets ``lacking``, the permissions that the user has not, and ``administrators`` to be asked for them.
    """

    refusal_template = "events/no_permission.html"

    @override
    def handle_no_permission(self) -> HttpResponseBase:  # type: ignore[override]  # wider than a redirect
        """Redirect to the log-in page, which leads back here; answer a user who is logged in with 403."""
        if not self.request.user.is_authenticated:
            return super().handle_no_permission()
        lacking = [name for name in self.get_permission_required() if not self.request.user.has_perm(name)]
        context = {"lacking": lacking, "administrators": administrators}
        return render(self.request, self.refusal_template, context, status=403)


def administrators() -> list[str]:
    """Return the names of some users who may give permissions, to be asked for one."""
    users = User.objects.filter(is_superuser=True, is_active=True).order_by("pk")
    return list(users.values_list("username", flat=True)[:_MOST_ADMINISTRATORS])
