"""Every page in Chromium: none is wider than a telephone. Nothing here touches Django: see ``browser.chromium``.

``test_dashboard_browser`` has the pages as they are before the first event.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import expect

from events.tests.support import browser, service
from events.tests.support.dashboard import (
    CLICKS,
    QUEUE,
    fits_any_screen_and_anyone,
    link,
    log_in,
    october,
    origin,
    served,
    track,
    until,
)
from events.tests.support.examples import IS_THOROUGH

PHONE = {"width": 360, "height": 740}
LONG = "The_average_of_all_processors_of_the_machine_with_the_longest_of_names_" * 3

# Users who lack a permission; alerts with what comes of them; the pages of errors that nobody can ask for.
SCRIPT = f"""
from datetime import UTC, datetime, timedelta
from pathlib import Path
from django.conf import settings
from django.contrib.auth.models import User
from django.template.loader import render_to_string
from oauth2_provider.models import Application
from events.alerts.models import Alert, AlertState, AlertTarget, Delivery, Firing
from events.boards.models import Board
for name in ("eve", "mallory"):
    User.objects.create_user(name, password=name)
now = datetime.now(UTC)
target = AlertTarget(name="Ops", kind="webhook")
target.set_url("https://chat.example/hooks/" + "a" * 120)
target.set_secret("secret")
target.save()
alert = Alert.objects.create(name={LONG[:100]!r}, severity="critical", namespace="*", series_name="*",
                             threshold=90, clear_threshold=80, description={LONG!r})
alert.targets.set([target])
AlertState.objects.create(alert=alert, namespace="Server-1", name="cpuUtilization", state="firing", since=now,
                          value=99.5, evaluated_at=now)
Firing.objects.create(alert=alert, namespace="Server-1", name="cpuUtilization", pending_since=now, fired_at=now, value=99.5)
for status in ("sent", "failed", "waiting"):
    Delivery.objects.create(target=target, alert=alert, alert_name=alert.name, event="fired", subject={LONG!r}, body="{{}}",
                            status=status, created_at=now - timedelta(minutes=5))
for name in ("400", "403", "403_csrf", "404", "500"):
    Path(settings.LOCAL_DIR, name + ".html").write_text(render_to_string(name + ".html", {{"exception": {LONG!r}}}))
"""


@pytest.fixture(scope="module")
def env(prepared, tmp_path_factory):
    with served(prepared, tmp_path_factory.mktemp("pages"), SCRIPT) as env:
        env = {**env, "TOKEN": service.fetch_token(env)}
        now = datetime.now(UTC)
        track(env, LONG, LONG, *((now - timedelta(minutes=minute), minute * 1e9) for minute in range(30)))
        yield env


# The places that scripts fill: they are not busy at first, nor once they are filled, but then they say so.
FILLED = """[...document.querySelectorAll("#list, #stage, #cards")].every((place) => place.ariaBusy === "false")"""


def is_shown(page, path):
    """Opens a path, and waits until its scripts have filled it."""
    page.goto(path)
    until(page, FILLED)
    if path == "/api/docs/":
        expect(page.locator(".opblock").first).to_be_visible()


def annotated(page):
    page.get_by_role("button", name="Annotate").click()
    expect(page.locator("#note")).to_be_visible()


def registered(page):
    page.get_by_label("Name", exact=True).fill(LONG[:200])
    page.get_by_role("button", name="Register").click()
    expect(page.locator("#client-secret")).to_be_visible()


def pressed(name):
    return lambda page: page.get_by_role("button", name=name, exact=True).first.click()


CHART = october(CLICKS, QUEUE, "Frontend/pageView", "Frontend/signUp", "Server-1/cpuUtilization", compare=1)
LATEST = link(f"{LONG}/{LONG}", range="1h")
# Each a path, and what is done there.
PAGES = {
    "overview": ("/", None),
    "overview-none": ("/?search=no-such-series", None),
    "overview-wrong": ("/?order=wrong", None),
    "chart": (CHART, None),
    "chart-long": (LATEST, None),
    "chart-stacked": (f"{CHART}&kind=stacked&axes=two", None),
    "chart-bars": (october(CLICKS, QUEUE, formula="rate = A / B", kind="bars", type="sum"), None),
    "chart-empty": (link(CLICKS, **{"from": "2020-01-01", "to": "2020-01-08"}), None),
    "chart-error": (link(CLICKS, range="5y", granularity="minute"), None),
    "chart-missing": (link("No/such"), None),
    "chart-table": (october(CLICKS, QUEUE, compare=1, view="table"), None),
    "chart-annotation": (CHART, annotated),
    "series": ("/series/Frontend/pageView", None),
    "series-long": (f"/series/{LONG}/{LONG}", None),
    "series-refused": ("/series/Frontend/pageView", pressed("Rename")),
    "boards": ("/boards/", None),
    "board": ("{board}", None),
    "board-change": ("{board}?edit=1", None),
    "board-add": (f"/boards/add{CHART.removeprefix('/chart')}", None),
    "alerts": ("/alerts/", None),
    "alert-new": ("/alerts/new/", None),
    "alert-refused": ("/alerts/new/", pressed("Save")),
    "alert": ("/alerts/1/", None),
    "alert-change": ("/alerts/1/change/", None),
    "alert-delete": ("/alerts/1/delete/", None),
    "targets": ("/alerts/targets/", None),
    "target-new": ("/alerts/targets/new/", None),
    "target": ("/alerts/targets/1/", None),
    "target-delete": ("/alerts/targets/1/delete/", None),
    "deliveries": ("/alerts/deliveries/", None),
    "clients": ("/o/applications/", None),
    "client-register": ("/o/applications/register/", None),
    "client-refused": ("/o/applications/register/", pressed("Register")),
    "client-made": ("/o/applications/register/", registered),
    "client": ("/o/applications/1/", None),
    "client-change": ("/o/applications/1/update/", None),
    "client-delete": ("/o/applications/1/delete/", None),
    "404": ("/no/such/page", None),
    "404-api-client": ("/o/applications/999/", None),
    "404-series": ("/series/No/such", None),
    "docs": ("/api/docs/", None),
    "error-400": ("/errors/400.html", None),
    "error-403": ("/errors/403.html", None),
    "error-403_csrf": ("/errors/403_csrf.html", None),
    "error-404": ("/errors/404.html", None),
    "error-500": ("/errors/500.html", None),
    "admin": ("/admin/", None),
    "admin-events": ("/admin/events/event/", None),
    "admin-event": ("/admin/events/event/add/", None),
    "admin-client": ("/admin/oauth2_provider/application/1/change/", None),
    "admin-token": ("/admin/oauth2_provider/application/1/token/", None),
    "admin-alerts": ("/admin/events/alert/", None),
    "admin-user": ("/admin/auth/user/1/change/", None),
}

# What Swagger UI and Django's admin make of a page is theirs; all else axe holds for these pages too.
OF_OTHERS = {
    "docs": ("color-contrast", "heading-order", "nested-interactive", "region", "select-name"),
    "admin": (
        "aria-prohibited-attr", "empty-table-header", "label", "label-title-only", "link-in-text-block",
        "page-has-heading-one", "scrollable-region-focusable",
    ),
}  # fmt: skip


def signed_out(chromium, env, name):
    """Pages of those who aren't signed in, or lack a permission: their names, and the pages as they are then."""
    context = browser.new_context(chromium, viewport=PHONE)
    page = context.new_page()
    page.goto(origin(env) + "/")
    yield "login", page
    log_in(page, env, username=name, password="wrong")
    expect(page.locator(".errorlist")).to_be_visible()
    yield "login-refused", page
    log_in(page, env, username=name, password=name)
    expect(page.get_by_role("heading", name="You may not view events")).to_be_visible()
    yield "no-permission", page
    page.goto(f"{origin(env)}/o/applications/register/")
    yield "no-clients", page
    page.goto(f"{origin(env)}/alerts/")
    yield "no-alerts", page
    page.context.clear_cookies()
    page.goto(f"{origin(env)}/admin/")
    yield "admin-login", page
    page.goto(origin(env) + "/")
    for _ in range(12):
        if page.get_by_role("heading", name="Too many failed attempts").count():
            break
        log_in(page, env, username="mallory", password="wrong")
        page.wait_for_load_state()
    expect(page.get_by_role("heading", name="Too many failed attempts")).to_be_visible()
    yield "429", page
    context.close()


# How far the page reaches to the right, or a dialog, which lies over it; and the window.
WIDTHS = """[Math.max(...[...document.querySelectorAll("dialog[open]")].map((each) => each.getBoundingClientRect().right),
  document.documentElement.scrollWidth), innerWidth]"""


def looked_at(page, name):
    """Whether it fits a telephone; all sizes and anyone, where time is given to that."""
    if IS_THOROUGH or os.environ.get("SCREENSHOTS"):
        fits_any_screen_and_anyone(page, name, OF_OTHERS.get(name.split("-")[0], ()))
        page.set_viewport_size(PHONE)
    return page.evaluate(WIDTHS)


def is_wider(sizes):
    return {name: size for name, size in sizes.items() if size[0] > PHONE["width"] or size[1] != PHONE["width"]}


def test_no_page_of_a_user_is_wider_than_a_telephone(chromium, env, session):
    context = browser.new_context(chromium, storage_state=session, viewport=PHONE, base_url=origin(env))
    page = context.new_page()
    page.route(
        "**/errors/*",
        lambda route: route.fulfill(path=Path(env["LOCAL_DIR"], route.request.url.rsplit("/")[-1])),
    )
    [[board]] = service.query(env, "SELECT key FROM events_board")
    sizes = {}
    for name, (path, does) in PAGES.items():
        is_shown(page, path.format(board=f"/boards/{board}/"))
        if does:
            does(page)
        sizes[name] = looked_at(page, name)
    context.close()
    assert is_wider(sizes) == {}


def test_no_page_of_others_is_wider_than_a_telephone(chromium, env):
    assert is_wider({name: looked_at(page, name) for name, page in signed_out(chromium, env, "eve")}) == {}
