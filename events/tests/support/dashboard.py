"""What the tests of the dashboard's pages do in a browser. Nothing here touches Django: see ``browser.chromium``."""

import json
import os
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from events.tests.support import service, waiting
from events.tests.support.examples import IS_THOROUGH

OCTOBER = {"from": "2026-10-01T00:00:00.000Z", "to": "2026-11-01T00:00:00.000Z"}
CLICKS = "Frontend/subscribeButtonClick"
QUEUE = "Back-end/queueLength"


@contextmanager
def served(prepared, directory, script):
    """A server with the first visit's user, client and demo data, changed by a script."""
    with prepared(directory) as env:
        done = service.manage("shell", "-v", "0", "-c", script, env=env)
        assert done.returncode == 0, done.stderr
        with service.served(env):
            yield env


def origin(env):
    return f"http://127.0.0.1:{env['PORT']}"


def go_to(page, env, path):
    response = page.goto(origin(env) + path)
    assert "default-src 'none'" in response.headers["content-security-policy"]


def credentials(env):
    return json.loads(Path(env["LOCAL_DIR"], "credentials.json").read_text())


def log_in(page, env, **fields):
    for name in ("username", "password"):
        page.get_by_label(name.capitalize()).fill(fields.get(name) or credentials(env)[name])
    page.get_by_role("button", name="Log in").click()


def link(*series, **fields):
    return f"/chart?{urlencode([*(('series', each) for each in series), *fields.items()])}"


def october(*series, **fields):
    return link(*series, **OCTOBER, **fields)


def state_of(page):
    return parse_qs(urlsplit(page.url).query)


def shown(page):
    """The table's rows, each a list of texts."""
    page.locator("#table tbody tr").first.wait_for()
    return page.evaluate(
        "[...document.querySelectorAll('#table tr')].map((row) => [...row.cells].map((cell) => cell.innerText))"
    )


def ask(env, series, **query):
    """The API's own answer, to a token."""
    path = f"/api/events/{'/'.join(map(quote, series.split('/')))}?{urlencode(query)}"
    status, _, body = service.call(env, "GET", path, Authorization=f"Bearer {env['TOKEN']}")
    assert status == 200, body
    return json.loads(body)


def track(env, namespace, name, *events):
    """Each event a timestamp, as text, unix time or datetime, and a value."""
    body = [
        {
            "namespace": namespace,
            "name": name,
            "timestamp": timestamp.isoformat() if isinstance(timestamp, datetime) else timestamp,
            "value": value,
        }
        for timestamp, value in events
    ]
    headers = {"Authorization": f"Bearer {env['TOKEN']}", "Content_Type": "application/json"}
    assert service.call(env, "POST", "/api/track/", json.dumps(body), **headers)[0] == 201


def refused(page):
    """Takes note that the service refused something, which Chromium reports as well."""
    assert page.problems
    assert all(problem.startswith("Failed to load resource: the server responded with") for problem in page.problems)
    page.problems.clear()


def downloaded(page, button):
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return Path(download.value.path()).read_bytes()


def accessible(page, except_for=()):
    """To anyone, by all rules of axe but those named, which are about what others have made."""
    from axe_playwright_python.sync_playwright import Axe

    results = Axe().run(page, options={"rules": {rule: {"enabled": False} for rule in except_for}})
    assert results.violations_count == 0, results.generate_report()


def fits_any_screen_and_anyone(page, name, except_for=()):
    """As the window grows and the colors change; with the screenshots' directory in SCREENSHOTS it leaves pictures."""
    schemes = ("light", "dark") if IS_THOROUGH or os.environ.get("SCREENSHOTS") else ("dark",)
    for width in (360, 1280, 2560):
        for scheme in schemes:
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            until(page, "document.documentElement.scrollWidth <= innerWidth")
            # the admin's colors change gradually, and in between they have too little contrast
            until(page, "document.getAnimations().length === 0")
            if IS_THOROUGH or (width, scheme) == (360, "dark"):
                accessible(page, except_for)
            if directory := os.environ.get("SCREENSHOTS"):
                page.screenshot(path=f"{directory}/{name}-{width}-{scheme}.png", full_page=True)


def until(page, script):
    """Waits until a script's value is true. ``wait_for_function`` evaluates in the page, which its policy forbids."""
    waiting.wait_until(lambda: page.evaluate(script))
