"""The grant of a client, edited on the page of its OAuth2 application."""

from django.contrib import admin
from django.contrib.admin.widgets import AdminTextareaWidget
from django.db.models import TextField

from events.access.models import Grant


class GrantInline(admin.StackedInline):
    """At most one grant; saved untouched, none is made, and the client may do everything."""

    model = Grant
    max_num = extra = 1
    verbose_name_plural = "Grant"
    # blanks count, at the ends too
    formfield_overrides = {TextField: {"strip": False, "widget": AdminTextareaWidget(attrs={"rows": 4})}}
