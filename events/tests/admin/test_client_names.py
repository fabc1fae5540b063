"""One word for what calls the API: the admin says client too, where the toolkit says application."""

import re

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.db.models.signals import post_migrate
from django.utils.html import strip_tags

from events.models import Grant

CLIENTS = "/admin/oauth2_provider/application/"
NAMES = ["Can add client", "Can change client", "Can delete client", "Can view client"]


def text_of(response):
    """What is read on a page, without the values of its fields."""
    assert response.status_code == 200
    return strip_tags(re.sub(r"(?s)<(script|style).*?</\1>", "", response.content.decode()))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/admin/", "Clients"),
        (CLIENTS, "Select client to change"),
        (f"{CLIENTS}add/", "Add client"),
        (f"{CLIENTS}{{pk}}/change/", "Change client"),
        (f"{CLIENTS}{{pk}}/delete/", "the client"),
        (f"{CLIENTS}{{pk}}/token/", "Clients"),
        ("/admin/oauth2_provider/accesstoken/", "client"),
        ("/o/applications/", "Clients"),
        ("/o/applications/register/", "Register a client"),
    ],
)
def test_no_page_says_application(client, application, path, said):
    text = text_of(client.get(path.format(pk=application.pk)))

    assert said in text
    assert re.findall("(?i).{0,30}application.{0,30}", text) == []


def test_permissions_of_an_earlier_release_are_renamed(db):
    toolkit = apps.get_app_config("oauth2_provider")
    migrated = {"sender": toolkit, "app_config": toolkit, "verbosity": 0, "interactive": False, "using": "default"}
    post_migrate.send(**migrated, plan=[])
    stored = Permission.objects.filter(content_type__app_label="oauth2_provider", content_type__model="application")
    for permission in stored:
        permission.name = permission.name.replace("client", "application")
        permission.save()
    assert "Can add application" in stored.values_list("name", flat=True)

    post_migrate.send(**migrated, plan=[])

    assert sorted(stored.values_list("name", flat=True)) == NAMES
    assert Grant._meta.get_field("application").verbose_name == "client"
