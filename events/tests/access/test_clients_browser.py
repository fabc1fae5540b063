"""The pages of clients in Chromium. Nothing here touches Django: see ``browser.chromium``."""

import base64
import json
import os
import subprocess

import pytest
from playwright.sync_api import expect

from events.tests.support import browser, service
from events.tests.support.dashboard import accessible, fits_any_screen_and_anyone, go_to, log_in, origin, served, until

EVE = """
from django.contrib.auth.models import User
User.objects.create_user("eve", password="eve")
"""


@pytest.fixture(scope="module")
def env(prepared, tmp_path_factory):
    with served(prepared, tmp_path_factory.mktemp("clients"), EVE) as env:
        yield env


@pytest.fixture
def open_page(chromium, env):
    """Opens a path in a fresh window, and logs in. Nothing may go wrong in it, or go to another host."""
    contexts, problems = [], []

    def make(path, username=None, **options):
        contexts.append(browser.new_context(chromium, **options))
        page = contexts[-1].new_page()
        page.on("request", lambda request: request.url.startswith(origin(env)) or problems.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: said.type in ("error", "warning") and problems.append(said.text))
        page.problems = problems
        go_to(page, env, path)
        log_in(page, env, **({"username": username, "password": username} if username else {}))
        return page

    yield make
    for context in contexts:
        context.close()
    assert problems == []


def asked_for_a_token(env, client_id, secret):
    """The answer to who asks for a token."""
    basic = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}", "Content_Type": "application/x-www-form-urlencoded"}
    return service.call(env, "POST", "/o/token/", "grant_type=client_credentials", **headers)


def test_who_registers_a_client_gets_its_id_its_secret_and_commands_that_work(open_page, env):
    page = open_page("/o/applications/register/", permissions=["clipboard-read", "clipboard-write"])
    fits_any_screen_and_anyone(page, "client-register")
    page.get_by_label("Name", exact=True).fill("Till")
    page.get_by_label("In the namespaces").fill("Shop's\nTill-*")
    page.get_by_role("button", name="Register").click()

    expect(page.get_by_role("heading", name="Till")).to_be_visible()
    fits_any_screen_and_anyone(page, "client-made")
    copied = {}
    for name in ("client id", "client secret", "commands"):
        page.get_by_role("button", name=f"Copy the {name}").click()
        until(page, "document.body.innerText.includes('Copied')")
        copied[name] = page.evaluate("navigator.clipboard.readText()")
        until(page, "!document.body.innerText.includes('Copied')")
    assert (len(copied["client id"]), len(copied["client secret"])) == (40, 128)
    assert f"{copied['client id']}:{copied['client secret']}" in copied["commands"]

    done = subprocess.run(
        ["bash", "-euc", copied["commands"]],
        env={"PATH": os.environ["PATH"]},
        check=True,
        capture_output=True,
        text=True,
    )
    stored, aggregates, series = done.stdout.replace("}[", "}\n[").replace("]{", "]\n{").splitlines()
    assert stored.startswith('{"namespace":"Shop\'s","name":"order"')
    assert '"value":1.0}]' in aggregates
    assert '"name":"order"' in series
    token = json.loads(asked_for_a_token(env, copied["client id"], copied["client secret"])[2])["access_token"]
    elsewhere = json.dumps({"namespace": "Elsewhere", "name": "order", "timestamp": 1, "value": 1})
    headers = {"Authorization": f"Bearer {token}", "Content_Type": "application/json"}
    assert service.call(env, "POST", "/api/track/", elsewhere, **headers)[0] == 403


def test_the_secret_is_not_shown_again_and_another_one_can_be_made(open_page, env):
    page = open_page("/o/applications/register/")
    page.get_by_label("Name", exact=True).fill("Kiosk")
    for scope in ("read: list series", "aggregation: read aggregates of events"):
        page.get_by_label(scope).uncheck()
    page.get_by_role("button", name="Register").click()
    client_id = page.locator("#client-id").input_value()
    secret = page.locator("#client-secret").input_value()
    page.get_by_role("link", name="Clients").first.click()
    expect(page.locator(".rows li", has_text="Kiosk")).to_contain_text("write everywhere")
    page.get_by_role("link", name="Kiosk").click()
    assert page.locator("#client-id").input_value() == client_id
    assert secret not in page.content()
    expect(page.locator("#client-secret")).to_have_count(0)
    assert "$" not in page.locator(".card").inner_text().split("Try it")[0]  # nor a digest
    fits_any_screen_and_anyone(page, "client-client")

    page.get_by_role("link", name="Change").click()
    page.get_by_label("Namespaces for write").fill("Kiosk-*")
    fits_any_screen_and_anyone(page, "client-update")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".card")).to_contain_text("write: Kiosk-*")
    page.get_by_role("button", name="Make another secret").click()
    another = page.locator("#client-secret").input_value()
    assert [asked_for_a_token(env, client_id, each)[0] for each in (another, secret)] == [200, 401]

    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Clients")).to_be_visible()
    expect(page.locator(".rows li", has_text="Kiosk")).to_have_count(0)


def test_who_may_not_register_clients_is_told_whom_to_ask(open_page, env):
    page = open_page("/o/applications/register/", username="eve")

    expect(page.get_by_role("heading", name="You may not register clients")).to_be_visible()
    expect(page.locator(".card")).to_contain_text("Ask an administrator (admin) to give it to eve")
    expect(page.get_by_role("link", name="Clients")).to_have_count(0)
    accessible(page)
    assert len(page.problems) == 1  # the 403, which Chromium reports
    page.problems.clear()
    assert service.call(env, "GET", "/healthz")[0] == 200
