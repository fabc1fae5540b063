"""Has the toolkit's applications called clients in the admin and in permissions, as they are everywhere else here."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.apps import apps as all_apps
from django.db.models import Value
from django.db.models.functions import Replace
from django.db.models.signals import post_migrate

_OLD, _NEW = "application", "client"


def call_clients_so(application: Any) -> None:
    """Change the names of the toolkit's model and of the fields that lead to it, and those of stored permissions.

    What migrations are made of is what a model was declared with, so they don't see the names that are set here.
    """
    application._meta.verbose_name, application._meta.verbose_name_plural = _NEW, f"{_NEW}s"
    for relation in application._meta.related_objects:
        relation.field.verbose_name = _NEW
    toolkit = all_apps.get_app_config(application._meta.app_label)
    post_migrate.connect(_rename_permissions, sender=toolkit, dispatch_uid=f"{__name__}.rename_permissions")


def _rename_permissions(sender: AppConfig, using: str, apps: Any = all_apps, **_: Any) -> None:
    """Rename the permissions that an earlier release stored; Django makes missing ones, and changes none."""
    try:
        permission = apps.get_model("auth", "Permission")
    except LookupError:  # not migrated yet
        return
    stored = permission.objects.using(using).filter(
        content_type__app_label=sender.label, content_type__model=_OLD, name__endswith=_OLD
    )
    stored.update(name=Replace("name", Value(_OLD), Value(_NEW)))
