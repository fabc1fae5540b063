"""What every page has, whoever makes it."""

import re

import pytest
from django.http import HttpResponse
from django.test import Client

from events.http.middleware import CONTENT_SECURITY_POLICY, OwnContentMiddleware

FORBIDDEN = r"<style|\sstyle=|\son\w+=|<script(?![^>]*(src=\"/|type=\"application/json\"))"
PAGES = [
    ("/admin/", 200),
    ("/admin/login/?next=/admin/", 302),
    ("/admin/password_change/", 200),
    ("/admin/auth/user/", 200),
    ("/admin/auth/user/add/", 200),
    ("/admin/events/event/", 200),
    ("/admin/events/event/add/", 200),
    ("/admin/oauth2_provider/accesstoken/", 200),
    ("/admin/oauth2_provider/application/", 200),
    ("/admin/oauth2_provider/application/add/", 200),
    ("/admin/nothing/", 404),
    ("/o/applications/", 200),
    ("/o/applications/register/", 200),
    ("/o/applications/17/", 404),
    ("/accounts/login/", 302),
    ("/", 200),
]


@pytest.mark.parametrize(("path", "status"), PAGES)
def test_its_pages_load_nothing_from_elsewhere_and_have_nothing_inline(admin_client, path, status):
    response = admin_client.get(path)

    is_page = response.headers.get("Content-Type", "").startswith("text/html") and status != 302
    assert response.status_code == status
    if is_page:
        assert response["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
        assert not re.search(FORBIDDEN, response.text)


@pytest.mark.parametrize("path", ["/admin/login/", "/accounts/login/"])
def test_who_is_not_logged_in_gets_it_too(db, path):
    response = Client().get(path)

    assert (response.status_code, response["Content-Security-Policy"]) == (200, CONTENT_SECURITY_POLICY)


def test_it_lets_nothing_inline():
    assert "unsafe" not in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize("path", ["/api/track/", "/healthz"])
def test_what_is_no_page_has_none(db, path):
    assert "Content-Security-Policy" not in Client().get(path).headers


def test_a_page_with_a_policy_of_its_own_keeps_that():
    own = HttpResponse(headers={"Content-Security-Policy": "default-src 'none'"})

    assert OwnContentMiddleware(lambda request: own)(None)["Content-Security-Policy"] == "default-src 'none'"


@pytest.mark.parametrize(("debug", "status", "has"), [(True, 404, False), (True, 200, True), (False, 500, True)])
def test_pages_for_debugging_have_all_inline(settings, debug, status, has):
    settings.DEBUG = debug
    response = OwnContentMiddleware(lambda request: HttpResponse(status=status))(None)

    assert ("Content-Security-Policy" in response.headers) == has
