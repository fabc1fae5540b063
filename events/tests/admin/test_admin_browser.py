"""The admin and the toolkit's pages in Chromium: all works without what their policy forbids.

As in ``test_dashboard_browser``, nothing here touches Django.
"""

import hashlib
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from events.tests.support import browser, service

NARROW, WIDE = {"width": 360, "height": 740}, {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def env(prepared, tmp_path_factory):
    """A served service, and what its first visit needs."""
    with prepared(tmp_path_factory.mktemp("admin")) as env, service.served(env):
        yield {**env, **json.loads(Path(env["LOCAL_DIR"], "credentials.json").read_text())}


@pytest.fixture(scope="module")
def session(chromium, env):
    """The cookies of one log-in, by the admin's own page."""
    context = browser.new_context(chromium)
    page = context.new_page()
    problems = watched(page, env)
    page.goto(f"{origin(env)}/admin/")
    page.get_by_label("Username:").fill(env["username"])
    page.get_by_label("Password:").fill(env["password"])
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Site administration")).to_be_visible()
    assert problems == []
    yield context.storage_state()
    context.close()


@pytest.fixture(params=[pytest.param(NARROW, id="narrow"), pytest.param(WIDE, id="wide", marks=pytest.mark.thorough)])
def page(request, chromium, env, session):
    """A window of the signed-in user, on a telephone and on a desk. Nothing may go wrong in it, or go to another host."""
    context = browser.new_context(chromium, storage_state=session, viewport=request.param)
    page = context.new_page()
    problems = watched(page, env)
    yield page
    context.close()
    assert problems == []


def origin(env):
    return f"http://127.0.0.1:{env['PORT']}"


def watched(page, env):
    """A list of what goes wrong, to which the browser adds; what a policy forbids is said in the console."""
    problems = []
    page.on("request", lambda request: request.url.startswith(origin(env)) or problems.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: said.type in ("error", "warning") and problems.append(said.text))
    return problems


def go_to(page, env, path):
    response = page.goto(origin(env) + path)
    assert response.status == 200
    assert "default-src 'none'" in response.headers["content-security-policy"]


def fits(page):
    """Whether the page is no wider than the window; what is wider scrolls by itself."""
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_calendar_and_clock_fill_in_a_time(page, env):
    go_to(page, env, "/admin/events/event/add/")

    page.locator(".datetimeshortcuts").nth(0).locator("a").nth(1).click()
    calendar = page.locator("#calendarin0")
    expect(calendar).to_be_visible()
    calendar.get_by_text("15", exact=True).click()
    page.locator(".datetimeshortcuts").nth(1).locator("a").nth(1).click()
    page.locator("#clockbox0").get_by_text("Noon").click()

    expect(page.locator("#id_timestamp_0")).to_have_value(re.compile(r"\d{4}-\d\d-15"))
    expect(page.locator("#id_timestamp_1")).to_have_value("12:00:00")
    expect(calendar).to_be_hidden()


def test_a_user_is_given_permissions(page, env):
    go_to(page, env, "/admin/auth/user/1/change/")

    page.locator("#id_user_permissions_from").select_option(index=0)
    page.locator("#id_user_permissions_add").click()
    expect(page.locator("#id_user_permissions_to option")).to_have_count(1)


def test_a_token_is_made_found_edited_and_revoked(page, env):
    go_to(page, env, "/admin/oauth2_provider/application/1/change/")
    page.get_by_role("link", name="Make a token").click()
    assert fits(page)
    page.get_by_label("Name:").fill("collectd")
    page.get_by_role("button", name="Make a token").click()
    token = page.get_by_label("Token").input_value()
    assert fits(page)
    body = {"namespace": "a", "name": "b", "timestamp": 0, "value": 1}

    def track():
        headers = {"Authorization": f"Bearer {token}", "Content_Type": "application/json"}
        return service.call(env, "POST", "/api/track/", json.dumps(body), **headers)[0]

    assert track() == 201

    page.get_by_role("link", name="Back to").click()
    row = page.locator(".inline-related tr.form-row.has_original", has_text="collectd")
    expect(row).to_contain_text("write")
    expect(page.get_by_text(token)).to_have_count(0)

    go_to(page, env, f"/admin/oauth2_provider/accesstoken/?q={hashlib.sha256(token.encode()).hexdigest()}")
    assert fits(page)
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    page.locator("#result_list tbody th a").click()
    assert fits(page)
    page.get_by_label("write: Track events").uncheck()
    page.get_by_label("read: Read the catalogue of series").check()
    page.locator(".datetimeshortcuts").nth(0).get_by_role("link", name="Today").click()
    page.locator(".datetimeshortcuts").nth(1).locator("a").nth(1).click()
    page.locator("#clockbox0").get_by_text("Midnight").click()
    page.locator("#id_expires_0").fill("2099-01-01")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist .success")).to_contain_text("was changed successfully")
    assert track() == 403

    go_to(page, env, "/admin/oauth2_provider/application/1/change/")
    row.get_by_role("checkbox").check()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist .success")).to_be_visible()
    assert track() == 401


def test_events_are_ticked_by_shift_click_and_all_at_once(page, env):
    go_to(page, env, "/admin/events/event/")
    boxes = page.locator("#result_list .action-select")
    ticked = page.locator("#result_list .action-select:checked")
    everything = page.locator("#action-toggle")

    boxes.nth(0).click()
    boxes.nth(9).click(modifiers=["Shift"])
    expect(ticked).to_have_count(10)
    expect(page.locator(".action-counter")).to_have_text("10 of 100 selected")

    everything.check()
    expect(ticked).to_have_count(100)
    boxes.nth(3).uncheck()
    expect(everything).not_to_be_checked()
    everything.check()
    everything.uncheck()
    expect(ticked).to_have_count(0)


def test_a_range_that_ends_with_a_day_gets_another_end(page, env):
    go_to(page, env, "/admin/events/event/?namespace=Frontend&name=pageView&end=2020-11-12")
    end = page.get_by_label("End:")
    expect(end).to_have_value("2020-11-12T23:59:59.999")

    end.fill("2020-11-12T12:00:30")
    page.get_by_role("button", name="Apply").click()

    expect(page).to_have_url(re.compile(r"&end=2020-11-12T12%3A00%3A30$"))
    expect(end).to_have_value("2020-11-12T12:00:30")


def test_every_page_of_the_admin_opens(page, env):
    go_to(page, env, "/admin/")
    paths = page.locator("#content-main a[href^='/admin/']").evaluate_all("all => all.map((a) => a.pathname)")

    assert len(paths) > 8
    assert "/admin/oauth2_provider/application/" in paths
    assert not {f"/admin/oauth2_provider/{name}/" for name in ("grant", "idtoken", "refreshtoken")} & set(paths)
    for path in dict.fromkeys(paths):
        go_to(page, env, path)


def test_logging_out_ends_on_the_log_in_page(chromium, env, session):
    context = browser.new_context(chromium)
    page = context.new_page()
    problems = watched(page, env)
    page.goto(f"{origin(env)}/accounts/login/?next=/admin/")
    page.get_by_label("Username").fill(env["username"])
    page.get_by_label("Password").fill(env["password"])
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="Log out").click()

    expect(page.get_by_label("Username")).to_be_visible()
    context.close()
    assert problems == []
