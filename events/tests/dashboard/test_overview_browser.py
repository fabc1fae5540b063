"""The overview in Chromium, before a server of its own. Nothing here touches Django: see ``browser.chromium``."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from events.tests.support import service
from events.tests.support.dashboard import (
    CLICKS,
    QUEUE,
    accessible,
    ask,
    credentials,
    fits_any_screen_and_anyone,
    log_in,
    served,
    track,
    until,
)

SCRIPT = """
from datetime import UTC, datetime, timedelta
from django.contrib.auth.models import User
from events.models import Alert, Event, Firing, SeriesSettings
User.objects.create_user("eve", password="eve")
SeriesSettings.objects.create(namespace="Server-1", name="availableMemory", unit="bytes", description="Free memory")
SeriesSettings.objects.create(namespace="Secret", name="x", is_hidden=True)
hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
Event.objects.create(namespace="Secret", name="x", timestamp=hour, value=1)
Event.objects.bulk_create(
    Event(namespace=f"Many-{number % 3}", name=f"load-{number:03}", timestamp=hour - timedelta(hours=back), value=number + back)
    for number in range(120) for back in (1, 2, 3, 4, *([30] if number == 3 else []))
)
alert = Alert.objects.create(name="Load", namespace="Many-0", series_name="load-000", aggregation_type="max")
Firing.objects.create(alert=alert, namespace="Many-0", name="load-000", pending_since=hour, fired_at=hour, value=1)
"""


@pytest.fixture(scope="module")
def env(prepared, tmp_path_factory):
    with served(prepared, tmp_path_factory.mktemp("overview"), SCRIPT) as env:
        yield {**env, "TOKEN": service.fetch_token(env)}


def all_from(first, last, hidden=0):
    """What is said of a page of all series; other tests may have added one or two."""
    total = 128 + hidden
    return re.compile(rf"^{first} to {last} of ({total}|{total + 1}|{total + 2}) series$")


def row(page, series):
    return page.locator(f"tr[data-series='{series}']")


def test_who_logs_in_sees_at_a_glance_what_is_there_and_how_it_is_going(open_page, env):
    page = open_page("/", session=None)
    log_in(page, env)
    line = row(page, "Many-0/load-000")

    expect(page.locator("#text")).to_have_text(all_from(1, 50))
    expect(page.locator("tr.group").first).to_have_text("Back-end")
    expect(line.locator(".value")).to_have_text("1")
    expect(line.locator(".count")).to_have_text("4")
    expect(line.locator(".last")).to_have_text(re.compile(r"^[12] h ago$"))
    assert len(line.locator("path").first.get_attribute("d")) > 10
    expect(row(page, "Many-0/load-003").locator(".change")).to_have_text("-83.3%")
    expect(row(page, QUEUE).locator(".quiet")).to_be_visible()
    expect(row(page, "Secret/x")).to_have_count(0)


def test_a_day_of_values_that_are_far_apart_is_drawn(open_page, env):
    def answer(route):
        body = route.fetch().json()
        body["series"][0]["hours"]["values"] = [-1.7e308, 1.7e308, 0]
        route.fulfill(json=body)

    page = open_page(None)
    page.route("**/api/series?*", answer)
    page.goto(f"http://127.0.0.1:{env['PORT']}/?search=Many-0/load-000")

    expect(row(page, "Many-0/load-000").locator("path").first).to_have_attribute("d", "M0.0 26.0L50.0 2.0L100.0 14.0")
    page.unroute_all(behavior="wait")


# Nothing else on a chart of one series is.
IS_RED_SOMEWHERE = """(() => {
  const canvas = document.querySelector("#chart canvas");
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");  // as reading from one often is warned of
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  return data.some((red, at) => at % 4 === 0 && red - Math.max(data[at + 1], data[at + 2]) > 80);
})()"""


def test_what_fires_is_marked_and_shaded(open_page, env):
    page = open_page("/")
    line = row(page, "Many-0/load-000")

    expect(line.locator("td.name .quiet")).to_have_text("firing")
    expect(line.locator("td.name .quiet")).to_have_attribute("title", "Load")
    expect(row(page, "Many-0/load-003").locator("td.name .quiet")).to_have_count(0)
    expect(page.locator("#lag")).to_have_text("No worker has evaluated the alerts yet.")
    line.get_by_role("link", name="Many-0/load-000", exact=True).click()
    expect(page.locator("#parts")).to_have_text(re.compile("Shaded: Load fired.$"))
    until(page, IS_RED_SOMEWHERE)
    page.get_by_role("link", name="Alerts", exact=True).click()
    page.get_by_role("link", name="Load").click()
    expect(page.locator("figure path.value")).to_have_count(1)
    accessible(page)


def test_a_series_is_found_as_one_types(open_page, env):
    page = open_page("/")
    expect(page.locator("#text")).to_have_text(all_from(1, 50))

    page.get_by_label("Find series").press_sequentially("LOAD-11")

    expect(page.locator("#text")).to_have_text("1 to 10 of 10 series")
    assert page.url.endswith("/?search=LOAD-11")
    page.get_by_label("Find series").fill("memory")
    expect(row(page, "Server-1/availableMemory").locator(".unit")).to_have_text("bytes")
    expect(row(page, "Server-1/availableMemory").locator(".description")).to_have_text("Free memory")
    page.get_by_label("Find series").fill("no such thing")
    expect(page.locator("#text")).to_have_text("No series is called so.")
    page.get_by_label("Find series").fill("")
    page.get_by_label("Hidden ones too").check()
    expect(page.locator("#text")).to_have_text(all_from(1, 50, hidden=1))


def test_the_headings_sort_and_links_keep_it(open_page):
    page = open_page("/")
    heading = page.locator("th[data-order='-lastValue']")

    heading.get_by_role("button").click()

    expect(heading).to_have_attribute("aria-sort", "descending")
    until(page, "document.querySelector('tbody tr')?.dataset.series === 'Many-2/load-119'")
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "ascending")
    assert page.url.endswith("/?order=lastValue")
    page.go_back()
    expect(heading).to_have_attribute("aria-sort", "descending")
    other = open_page(page.url.removeprefix(page.evaluate("location.origin")))
    until(other, "document.querySelector('tbody tr')?.dataset.series === 'Many-2/load-119'")


def test_pages_and_groups(open_page):
    page = open_page("/")
    expect(page.locator("#page")).to_have_text("Page 1 of 3")

    page.get_by_role("button", name="Next").click()
    expect(page.locator("#text")).to_have_text(all_from(51, 100))
    page.get_by_role("button", name="Many-1").click()

    expect(page.locator("#text")).to_have_text("1 to 40 of 40 series")
    expect(page.get_by_label("Find series")).to_have_value("Many-1/")
    assert page.url.endswith("/?search=Many-1%2F")


def test_some_are_ticked_and_open_as_one_chart(open_page):
    page = open_page("/")
    open_button = page.locator("#open")
    expect(open_button).to_be_disabled()

    for series in (CLICKS, QUEUE):
        page.get_by_label(f"Tick {series}", exact=True).check()
    page.get_by_label("Find series").fill("diskUsage")
    expect(page.locator("#text")).to_have_text("1 to 1 of 1 series")
    page.get_by_label("Tick Server-1/diskUsage").check()
    page.get_by_role("button", name="Open 3 as a chart").click()

    expect(page.locator("#legend li")).to_have_count(3)
    assert "/chart?series=Frontend%2FsubscribeButtonClick&series=Back-end%2FqueueLength&series=Server-1" in page.url


def test_links_from_when_the_chart_was_here_go_on_working(open_page):
    page = open_page("/?series=Frontend%2FpageView&from=2026-10-01&to=2026-11-01&type=max")

    expect(page.locator("#summary")).to_contain_text("Maximum by day")
    assert "/chart?series=Frontend%2FpageView&from=2026-10-01" in page.url


def test_a_refresh_brings_what_is_new_and_leaves_the_focus(open_page, env):
    page = open_page("/?search=Fresh")
    expect(page.locator("#text")).to_have_text("No series is called so.")
    track(env, "Fresh", "x", (datetime.now(UTC) - timedelta(minutes=3), 1))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(row(page, "Fresh/x").locator(".last")).to_contain_text("3 min ago")
    page.get_by_label("Tick Fresh/x").focus()

    track(env, "Fresh", "x", (datetime.now(UTC), 2))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    expect(row(page, "Fresh/x").locator(".count")).to_have_text("2")
    expect(page.get_by_label("Tick Fresh/x")).to_be_focused()

    page.get_by_role("button", name="Fresh").focus()
    track(env, "Fresh", "x", (datetime.now(UTC), 3))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(row(page, "Fresh/x").locator(".count")).to_have_text("3")
    expect(page.get_by_role("button", name="Fresh")).to_be_focused()


def test_a_refresh_leaves_a_selection_alone(open_page, env):
    track(env, "Selected", "x", (datetime.now(UTC), 1))
    page = open_page("/?search=Selected")
    expect(row(page, "Selected/x").locator(".count")).to_have_text("1")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('td.name a'))")

    track(env, "Selected", "x", (datetime.now(UTC), 2))
    with page.expect_response("**/api/series?*"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    page.wait_for_timeout(500)  # until it would be drawn
    assert page.evaluate("getSelection().toString()") == "Selected/x"
    page.evaluate("getSelection().removeAllRanges(); document.dispatchEvent(new Event('visibilitychange'))")
    expect(row(page, "Selected/x").locator(".count")).to_have_text("2")


def test_a_series_is_described_and_its_unit_is_used(open_page, env):
    page = open_page("/?search=cpuUtil")
    page.get_by_role("link", name="About Server-1/cpuUtilization").click()
    expect(page.get_by_role("heading", name="Server-1/cpuUtilization")).to_be_visible()
    accessible(page)

    page.get_by_label("Unit").fill("percent")
    page.get_by_label("Description").fill("How busy it is")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()

    page.get_by_role("link", name="Chart", exact=True).last.click()
    expect(page.locator("#legend b").first).to_have_text(re.compile(r"\d\s%$"))
    page.go_back()
    page.get_by_role("link", name="Series", exact=True).click()
    page.get_by_label("Find series").fill("cpuUtil")
    expect(row(page, "Server-1/cpuUtilization").locator(".description")).to_have_text("How busy it is")
    assert ask(env, "Server-1/cpuUtilization", granularity="year")


@pytest.mark.parametrize("path", ["/", pytest.param("/series/Frontend/pageView", marks=pytest.mark.thorough)])
def test_it_fits_any_screen_and_anyone(open_page, path):
    page = open_page(path, color_scheme="light", viewport={"width": 360, "height": 900})
    if path == "/":
        expect(page.locator("#text")).not_to_be_empty()
    fits_any_screen_and_anyone(page, "overview" if path == "/" else "series")


def test_by_keyboard_alone_series_are_found_ticked_and_opened(open_page, env):
    page = open_page("/")
    assert credentials(env)
    expect(page.get_by_label("Find series")).to_be_visible()
    page.get_by_label("Find series").focus()
    page.keyboard.type("queueLength")
    expect(page.locator("#text")).to_have_text("1 to 1 of 1 series")

    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Tick {QUEUE}":
            break
    page.keyboard.press("Space")
    for _ in range(30):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.id") == "open":
            break
    page.keyboard.press("Enter")

    expect(page.locator("#legend li")).to_contain_text(QUEUE)
