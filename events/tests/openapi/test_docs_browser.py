"""``/api/docs/`` in Chromium: a client of the service tries the calls. Nothing here touches Django: see ``browser.chromium``."""

import json
import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from events.tests.support import browser, service


@pytest.fixture(scope="module")
def env(prepared, tmp_path_factory):
    """A served service, and the client of its first visit."""
    with prepared(tmp_path_factory.mktemp("docs")) as env, service.served(env):
        yield {**env, **json.loads(Path(env["LOCAL_DIR"], "credentials.json").read_text())}


@pytest.fixture
def page(env):
    """The page. Nothing may go wrong in it, or go to another host."""
    origin, problems = f"http://127.0.0.1:{env['PORT']}", []
    with browser.chromium() as chromium:
        page = browser.new_context(chromium).new_page()
        page.on("request", lambda request: request.url.startswith((origin, "data:")) or problems.append(request.url))
        page.on(
            "response", lambda response: response.status < 400 or problems.append(f"{response.status} {response.url}")
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        # what a policy forbids is said there too
        page.on("console", lambda said: said.type in ("error", "warning") and problems.append(said.text))
        response = page.goto(f"{origin}/api/docs/")
        assert "default-src 'none'" in response.headers["content-security-policy"]
        yield page
        assert problems == []


def test_a_client_gets_a_token_and_tries_the_calls(page, env):
    page.get_by_role("button", name="Authorize").click()
    dialog = page.locator(".modal-ux")
    expect(dialog.locator(".auth-container")).to_have_count(1)
    dialog.get_by_label("client_id").fill(env["client_id"])
    dialog.get_by_label("client_secret").fill(env["client_secret"])
    with page.expect_response("**/o/token/") as token:
        dialog.get_by_text("Authorize", exact=True).first.click()
    assert (token.value.status, token.value.json()["scope"]) == (200, "read write aggregation")
    expect(dialog.get_by_text("Logout")).to_be_visible()
    dialog.get_by_text("Close", exact=True).first.click()

    assert attempt(page, "post", "/api/track/").status == 201
    catalogue = attempt(page, "get", "/api/events/")
    assert catalogue.status == 200
    assert "order" in [series["name"] for series in catalogue.json()]
    aggregate = attempt(page, "get", "/api/events/{namespace}/{name}")
    assert (aggregate.status, len(aggregate.json())) == (200, 1)


def attempt(page, method, path):
    """The answer to a call with the examples that the page fills in."""
    call = page.locator(f".opblock-{method}", has=page.locator(f'[data-path="{path}"]'))
    call.locator(".opblock-summary-control").click()
    call.get_by_role("button", name="Try it out").click()
    with page.expect_response(lambda response: "/api/" in response.url) as answer:
        call.get_by_role("button", name="Execute").click()
    expect(call.locator(".live-responses-table .response-col_status").last).to_contain_text(str(answer.value.status))
    return answer.value


def test_it_leads_back_and_fits_and_is_dark_where_that_is_wanted(page):
    expect(page.locator(".opblock").first).to_be_visible()
    for width in (360, 1280, 2560):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 800})
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (width, scheme)
            if directory := os.environ.get("SCREENSHOTS"):
                page.screenshot(path=f"{directory}/docs-{width}-{scheme}.png")
    page.get_by_role("link", name="Tracking API").click()
    expect(page.get_by_role("heading", name="Log in to the Tracking API")).to_be_visible()
