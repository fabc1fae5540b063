"""Errors as people see them: pages that say what is wrong and lead back, and never ask for what failed."""

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.staticfiles import finders
from django.core.handlers.base import BaseHandler
from django.db import OperationalError
from django.test import Client

from events import dashboard
from events.http.middleware import CONTENT_SECURITY_POLICY

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def user(db):
    user = User.objects.create_user("ada", password="lovelace")
    user.user_permissions.add(*Permission.objects.filter(codename__in=["view_event", "add_application"]))
    return user


def shows(response, status, heading, text):
    assert response.status_code == status
    assert response["Content-Type"] == "text/html; charset=utf-8"
    assert response["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert f"<h2>{heading}</h2>" in response.text
    assert text in response.text
    assert '<a href="/">To the series</a>' in response.text
    assert not re.search(r"<style|\sstyle=|\son\w+=|https?:", response.text)


def test_a_page_that_is_not_there(user, client):
    shows(client.get("/nothing"), 404, "Not found", "There is no such page.")
    client.force_login(user)
    response = client.get("/nothing")
    shows(response, 404, "Not found", "There is no such page.")
    assert "Log out ada" in response.text


def test_a_thing_that_is_not_there_is_named(user, client):
    client.force_login(user)

    shows(client.get("/series/a/b"), 404, "Not found", "There is no series “a/b”.")
    shows(client.get("/o/applications/77/"), 404, "Not found", "There is no such client of yours.")


def test_a_form_of_another_site(user):
    client = Client(enforce_csrf_checks=True)

    shows(client.post("/accounts/login/", {}), 403, "Not permitted", "load the page anew")


def test_what_a_user_may_not_do(user, client):
    client.force_login(user)
    from events.models import SeriesSettings

    SeriesSettings.objects.create(namespace="a", name="b")

    shows(client.post("/series/a/b", {}), 403, "Not permitted", "Only users with the permission")


def test_a_host_that_is_none_of_ours(db, settings):
    settings.ALLOWED_HOSTS = ["testserver"]

    shows(Client().get("/nothing", headers={"Host": "evil.example"}), 400, "Bad request", "can’t be read")


def test_too_many_wrong_passwords(user, settings, clock):
    settings.MAX_LOGIN_FAILURES = 1
    wrong = {"username": "ada", "password": "byron"}
    client = Client(headers=BROWSER)
    client.post("/accounts/login/", wrong)

    response = client.post("/accounts/login/", wrong)

    shows(response, 429, "Too many failed attempts", "try again in 301 s.")
    assert response["Retry-After"] == "301"


@pytest.mark.parametrize(
    ("error", "status", "heading"),
    [
        (OperationalError("could not connect to server"), 503, "Unavailable"),
        (ZeroDivisionError(), 500, "Something went wrong"),
    ],
)
def test_a_failure(user, client, monkeypatch, error, status, heading):
    def fail(*args):
        raise error

    monkeypatch.setattr(dashboard.OverviewPage, "get", fail)
    client.force_login(user)
    client.raise_request_exception = False

    response = client.get("/", headers=BROWSER)

    shows(response, status, heading, "ry again")
    assert response.get("Retry-After") == ("1" if status == 503 else None)
    if status == 503:
        program = client.get("/")
        assert (program.status_code, list(program.json())) == (503, ["detail"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/track/", {"detail": "Server error."}),
        ("/o/token/", {"error": "server_error", "error_description": "Server error."}),
    ],
)
def test_a_program_is_told_of_a_failure_in_json(client, monkeypatch, db, path, body):
    def fail(*args):
        raise ZeroDivisionError

    monkeypatch.setattr(BaseHandler, "resolve_request", fail)
    client.raise_request_exception = False

    response = client.post(path)

    assert (response.status_code, response.json()) == (500, body)


def test_the_icon_answers(client):
    response = client.get("/favicon.ico")

    assert (response.status_code, response["Location"]) == (301, "/static/events/icon.svg")
    assert finders.find("events/icon.svg")
