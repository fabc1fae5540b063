"""Fixtures of the tests that open the dashboard's pages in a browser."""

import pytest

from events.tests.support import browser, service
from events.tests.support.dashboard import go_to, log_in, origin, served


@pytest.fixture(scope="module")
def env(prepared, tmp_path_factory):
    eve = "from django.contrib.auth.models import User; User.objects.create_user('eve', password='eve')"
    with served(prepared, tmp_path_factory.mktemp("dashboard"), eve) as env:
        yield {**env, "TOKEN": service.fetch_token(env)}


@pytest.fixture(scope="module")
def session(chromium, env):
    """The cookies of one log-in."""
    context = browser.new_context(chromium)
    page = context.new_page()
    page.goto(origin(env))
    log_in(page, env)
    page.get_by_role("button", name="Log out").wait_for()
    yield context.storage_state()
    context.close()


@pytest.fixture
def open_page(chromium, env, session):
    """Opens a path, if any, in a fresh window of the signed-in user.

    Nothing may go wrong in it, or go to another host.
    """
    contexts, problems = [], []

    def watched(page, env):
        page.on(
            "request", lambda request: request.url.startswith((origin(env), "blob:")) or problems.append(request.url)
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: said.type in ("error", "warning") and problems.append(said.text))
        return page

    def make(path="/", env=env, session=session, **options):
        contexts.append(
            browser.new_context(chromium, storage_state=session, **{"timezone_id": "Europe/Berlin", **options})
        )
        page = watched(contexts[-1].new_page(), env)
        page.problems = problems
        if path:
            go_to(page, env, path)
        return page

    yield make
    for context in contexts:
        context.close()
    assert problems == []
