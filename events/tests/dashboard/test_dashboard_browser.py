"""The chart's page in Chromium, before a server of its own. Nothing here touches Django: see ``browser.chromium``."""

import base64
import csv
import io
import os
import re
import subprocess
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from events.tests.support import service
from events.tests.support.dashboard import (
    CLICKS,
    OCTOBER,
    QUEUE,
    accessible,
    ask,
    credentials,
    downloaded,
    fits_any_screen_and_anyone,
    go_to,
    link,
    log_in,
    october,
    origin,
    refused,
    served,
    shown,
    state_of,
    track,
)
from events.tests.support.examples import IS_THOROUGH


def test_signing_in_leads_back_to_the_link(open_page, env):
    page = open_page(october(CLICKS, type="max"), session=None)
    expect(page.get_by_role("heading", name="Log in to the Tracking API")).to_be_visible()

    log_in(page, env)

    expect(page.locator("#summary")).to_contain_text("Maximum by day, 2026-10-01 02:00:00 to 2026-11-01 01:00:00")
    assert state_of(page)["series"] == [CLICKS]


def test_what_a_link_leaves_open_is_chosen_so_that_there_is_something_to_see(open_page):
    page = open_page(link(CLICKS))

    expect(page.locator("#legend b").first).to_have_text(re.compile("[0-9]"))
    expect(page.locator("#text")).to_be_empty()
    assert state_of(page)["granularity"] == ["auto"]
    expect(page.locator("#summary")).to_contain_text("Average by day")


def test_before_the_first_event_chart_and_overview_show_the_command_that_sends_it(prepared, open_page, tmp_path):
    with served(prepared, tmp_path, "from events.models import Event; Event.objects.all().delete()") as env:
        overview = open_page("/", env=env, session=None, permissions=["clipboard-read", "clipboard-write"])
        log_in(overview, env)
        expect(overview.get_by_role("heading", name="No events yet")).to_be_visible()
        fits_any_screen_and_anyone(overview, "first-overview")
        overview.get_by_role("button", name="Copy").click()
        expect(overview.get_by_role("button", name="Copied")).to_be_visible()
        copied = overview.evaluate("navigator.clipboard.readText()")

        chart = open_page("/chart", env=env, session=overview.context.storage_state())
        expect(chart.get_by_role("heading", name="No events yet")).to_be_visible()
        fits_any_screen_and_anyone(chart, "first-chart")
        command = chart.locator("#first-commands code").inner_text()
        assert f"{origin(env)}/api/track/" in command
        assert f"{origin(env)}/api/track/" in copied
        client = credentials(env)
        variables = {
            "PATH": os.environ["PATH"],
            "CLIENT_ID": client["client_id"],
            "CLIENT_SECRET": client["client_secret"],
        }

        subprocess.run(["bash", "-euc", command], env=variables, check=True, capture_output=True)

        expect(chart.locator("#legend")).to_contain_text("Shop/order")
        expect(chart.locator("#legend b").first).to_have_text("1")
        expect(chart.locator("#first")).to_be_hidden()
        assert (state_of(chart)["range"], state_of(chart)["refresh"]) == (["15m"], ["5"])
        chart.close()  # or it asks a server that is gone
        expect(overview.locator("tr[data-series='Shop/order'] .count")).to_have_text("1")
        expect(overview.locator("#first")).to_be_hidden()
        overview.close()


def test_series_are_chosen_by_typing_and_up_to_six_are_overlaid(open_page):
    page = open_page(october(CLICKS))
    picker = page.get_by_label("Add a series")
    names = [QUEUE, "Frontend/pageView", "Frontend/signUp", "Server-1/cpuUtilization", "Server-1/diskUsage"]
    expect(page.locator("#legend li")).to_have_count(1)
    picker.focus()
    expect(page.locator(f"#choices option[value='{QUEUE}']")).to_have_count(1)

    for count, name in enumerate(names, start=2):
        picker.fill(name)
        picker.press("Enter")
        expect(page.locator("#legend li")).to_have_count(count)
    assert state_of(page)["series"] == [CLICKS, *names]
    # one for each line: that of whole days, and that of the last one, which the range cuts
    expect(page.locator("#chart .u-cursor-pt")).to_have_count(2 * 6)

    picker.fill("Server-1/availableMemory")
    picker.press("Enter")
    expect(page.locator("#text")).to_have_text("No more than 6 series: remove one first.")
    page.get_by_role("button", name=f"Remove {QUEUE}").click()
    expect(page.locator("#legend li")).to_have_count(5)
    picker.fill("Shop/nothing")
    picker.press("Enter")
    expect(page.locator("#text")).to_have_text("There is no series “Shop/nothing”.")


def test_of_a_large_catalogue_any_series_is_found_by_typing(chromium, prepared, open_page, tmp_path):
    """And it opens with one that is not among the first."""
    with prepared(tmp_path, MAX_SERIES=2) as env, service.served(env):
        page = open_page(f"/chart?{urlencode({'series': 'Server-1/diskUsage', **OCTOBER})}", env=env, session=None)
        log_in(page, env)
        picker = page.get_by_label("Add a series")
        expect(page.locator("#legend li")).to_have_count(1)
        expect(page.locator("#choices option")).to_have_count(2)

        late = []  # the answer to the focus, which comes after that to what is typed
        page.route(re.compile("/api/events[?]limit=2&search=$"), lambda route: late.append(route))
        picker.press_sequentially("SIGN")
        expect(page.locator("#choices option[value='Frontend/signUp']")).to_have_count(1)
        expect(page.locator("#choices option")).to_have_count(1)
        with page.expect_response(late[0].request.url) as response:
            late[0].continue_()
        response.value.finished()
        page.unroute_all()
        page.evaluate("new Promise(requestAnimationFrame)")
        assert page.locator("#choices option").count() == 1
        picker.fill("Frontend/signUp")
        picker.press("Enter")
        expect(page.locator("#legend li")).to_have_count(2)
        picker.fill("Frontend/nothing")
        picker.press("Enter")
        expect(page.locator("#text")).to_have_text("There is no series “Frontend/nothing”.")
        page.close()


def test_dragging_zooms_to_finer_buckets_and_back_leads_back(open_page):
    page = open_page(october(CLICKS))
    summary = page.locator("#summary")
    expect(summary).to_contain_text("by day")
    before = page.url
    box = page.locator(".u-over").bounding_box()
    left, y = box["x"] + box["width"] * 0.25, box["y"] + 50

    page.mouse.move(left, y)
    page.mouse.down()
    page.mouse.move(left + box["width"] * 0.1, y, steps=5)
    page.mouse.up()
    page.mouse.move(5, 5)

    expect(summary).to_contain_text("by hour")
    [start], [end] = state_of(page)["from"], state_of(page)["to"]
    length = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    assert timedelta(days=2.8) < length < timedelta(days=3.4)
    page.go_back()
    expect(summary).to_contain_text("by day")
    assert page.url == before
    page.get_by_role("button", name="Zoom in").click()
    expect(summary).to_contain_text("2026-10-08 20:00:00 to 2026-10-24 08:00:00")


def test_hovering_reads_the_values(open_page, env):
    page = open_page(october(CLICKS, timezone="UTC"))
    expect(page.locator("#summary")).to_contain_text("Average by day")
    box = page.locator(".u-over").bounding_box()

    page.mouse.move(box["x"] + box["width"] * 9 / 31, box["y"] + 50)

    expect(page.locator("#summary")).to_have_text("2026-10-10T00:00:00Z")
    [day] = ask(env, CLICKS, granularity="day", tsMin="2026-10-10", tsMax="2026-10-10T23:59:59")
    expect(page.locator("#legend b").first).to_have_text(f"{day['value']:.6g}")
    expect(page.locator(".tooltip")).to_have_text(f"2026-10-10 00:00:00Z{CLICKS}{day['value']:.6g}")


def test_a_refresh_shows_an_event_sent_just_now_and_disturbs_nothing(open_page, env):
    now = datetime.now(UTC)
    track(env, "Live", "load", (now.isoformat(), 1))
    page = open_page(link("Live/load", range="15m", type="sum", granularity="year", refresh="5"))
    value = page.locator("#legend b").first
    expect(value).to_have_text("1")
    page.evaluate("document.querySelector('.uplot').dataset.mark = 'same'")
    page.get_by_role("button", name="Remove Live/load").focus()

    track(env, "Live", "load", (now.isoformat(), 41))

    expect(value).to_have_text("42")
    assert page.evaluate("document.querySelector('.uplot').dataset.mark") == "same"
    expect(page.get_by_role("button", name="Remove Live/load")).to_be_focused()


def test_a_link_restores_the_state(open_page):
    page = open_page(october(CLICKS, QUEUE))
    for label, choice in (("Aggregation", "Maximum"), ("Granularity", "Week"), ("Time zone", "Asia/Katmandu")):
        page.get_by_label(label).select_option(choice)
    page.get_by_label("Compare with the previous period").check()
    page.get_by_role("button", name="Table").click()
    table = shown(page)
    expect(page.locator("#summary")).to_contain_text("Maximum by week, 2026-10-01 05:45:00")

    other = open_page(page.url.removeprefix(page.evaluate("location.origin")), timezone_id="America/Lima")

    assert shown(other) == table
    assert other.url == page.url
    assert len(table[0]) == 5
    for label, value in (("Aggregation", "max"), ("Granularity", "week"), ("Time zone", "Asia/Katmandu")):
        expect(other.get_by_label(label)).to_have_value(value)


def test_a_time_zone_may_go_by_another_of_its_names(open_page):
    for name in ("Asia/Kathmandu", "Asia/Katmandu"):
        page = open_page(october(CLICKS, timezone=name, view="table"))

        assert shown(page)[1][0] == "2026-10-01T00:00:00+05:45 (part)"
        expect(page.get_by_label("Time zone")).to_have_value(name)


@pytest.mark.parametrize("zone", [pytest.param("UTC", marks=pytest.mark.thorough), "Europe/Berlin"])
def test_the_csv_is_what_the_table_shows_and_the_api_answers(open_page, env, zone):
    page = open_page(october(CLICKS, QUEUE, timezone=zone, type="sum", granularity="hour", compare=1, view="table"))
    table = shown(page)

    rows = list(csv.reader(io.StringIO(downloaded(page, "CSV").decode(), newline="")))

    *lines, totals = table
    assert [row[0] for row in rows] == [line[0].removesuffix(" (part)") for line in lines]
    assert [line[0] for line in lines if line[0].endswith(" (part)")] == [lines[-1][0]]
    assert [[cell and float(cell) for cell in row[1:]] for row in rows[1:]] == [
        [cell and pytest.approx(float(cell.replace(",", "")), rel=1e-5) for cell in line[1:]] for line in lines[1:]
    ]
    sums = [
        f"{ask(env, each, tsMin=OCTOBER['from'], tsMax=OCTOBER['to'], granularity='year', aggregationType='sum')[0]['value']:,g}"
        for each in (CLICKS, QUEUE)
    ]
    assert totals[0] == "Whole range: total"
    assert [float(total.replace(",", "")) for total in totals[1:3]] == [float(each.replace(",", "")) for each in sums]
    assert rows[0] == ["timestamp", CLICKS, QUEUE, f"{CLICKS} (previous period)", f"{QUEUE} (previous period)"]
    form = {"granularity": "hour", "aggregationType": "sum", "timezone": zone, "fill": "null", "timestamp": "bucket"}
    windows = [(OCTOBER["from"], OCTOBER["to"]), ("2026-08-31T00:00:00Z", "2026-09-30T23:59:59.999Z")]
    answers = [ask(env, each, tsMin=first, tsMax=last, **form) for first, last in windows for each in (CLICKS, QUEUE)]
    assert [datetime.fromisoformat(row[0]).timestamp() for row in rows[1:]] == [
        datetime.fromisoformat(item["aggregatedTimestamp"]).timestamp() for item in answers[0]
    ]
    for column, answer in enumerate(answers, start=1):
        values = [row[column] and float(row[column]) for row in rows[1:]]
        assert values[: len(answer)] == ["" if item["value"] is None else item["value"] for item in answer]
        assert set(values[len(answer) :]) <= {""}
        assert any(values)
        assert "" in values
    assert rows[1][0] == ("2026-10-01T00:00:00Z" if zone == "UTC" else "2026-10-01T02:00:00+02:00")


def test_a_label_is_no_formula(open_page, env):
    track(env, '=cmd"|', "x", ("2026-10-02T00:00:00.5Z", 0.1))
    page = open_page(october('=cmd"|/x', granularity="none", timezone="UTC"))
    expect(page.locator("#summary")).to_contain_text("Average by event")

    assert downloaded(page, "CSV") == b'timestamp,"\'=cmd""|/x"\r\n2026-10-02T00:00:00.500000Z,0.1\r\n'


# Whether a picture has the chart as it is shown, and how many colors each line of text above that has.
COMPARE = """async (text) => {
  const saved = await createImageBitmap(new Blob([Uint8Array.from(atob(text), (each) => each.charCodeAt(0))]));
  const shown = document.querySelector("#chart canvas");
  const pixels = (height, draw) => {
    const context = new OffscreenCanvas(shown.width, height).getContext("2d");
    context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--card");
    context.fillRect(0, 0, shown.width, height);
    draw(context);
    return new Uint32Array(context.getImageData(0, 0, shown.width, height).data.buffer);
  };
  const top = saved.height - shown.height;
  const chart = pixels(shown.height, (context) => context.drawImage(saved, 0, -top));
  const drawn = pixels(shown.height, (context) => context.drawImage(shown, 0, 0));
  const lines = [0, 1].map((line) => new Set(pixels(top / 2, (context) => context.drawImage(saved, 0, -line * top / 2))).size);
  return [saved.width - shown.width, chart.every((pixel, at) => pixel === drawn[at]), new Set(chart).size, ...lines];
}"""


def test_the_chart_is_saved_as_a_picture(open_page):
    page = open_page(october(CLICKS))
    expect(page.locator("#summary")).to_contain_text("Average by day")

    picture = downloaded(page, "PNG")

    assert picture.startswith(b"\x89PNG")
    wider, is_as_shown, *colors = page.evaluate(COMPARE, base64.b64encode(picture).decode())
    assert (wider, is_as_shown) == (0, True)
    assert min(colors) > 1  # each has something on its background


def test_without_events_in_the_range_it_offers_the_latest(open_page):
    page = open_page(link(CLICKS, **{"from": "2020-01-01", "to": "2020-01-08"}))
    expect(page.locator("#text")).to_have_text("No events in this range.")

    page.get_by_role("button", name="Go to the latest").click()

    expect(page.locator("#legend b").first).to_have_text(re.compile("[0-9]"))
    expect(page.locator("#text")).to_be_empty()
    assert state_of(page)["from"][0].startswith("2026-10-2")


def test_the_api_s_refusals_are_shown(open_page):
    page = open_page(link(CLICKS, range="5y", granularity="minute"))

    message = f"{CLICKS}: granularity: More than 100000 items; choose a shorter window, or a coarser granularity such as hour."
    expect(page.locator("#text")).to_have_text(message)
    refused(page)


def test_who_is_signed_out_meanwhile_logs_in_and_comes_back(open_page, env):
    page = open_page(october(CLICKS))
    expect(page.locator("#summary")).to_contain_text("by day")
    page.context.clear_cookies()
    page.get_by_label("Aggregation").select_option("Sum")
    expect(page.locator("#text")).to_have_text("You are signed out.")
    refused(page)

    page.get_by_role("link", name="Log in").click()
    log_in(page, env)

    expect(page.locator("#summary")).to_contain_text("Sum by day")


def test_a_custom_range_is_in_the_chosen_time_zone(open_page):
    page = open_page(october(CLICKS, timezone="America/New_York"))
    expect(page.locator("#summary")).to_contain_text("2026-09-30 20:00:00 to 2026-10-31 20:00:00")
    page.get_by_label("From").fill("2026-10-05T00:00:00")
    page.get_by_label("To", exact=True).fill("2026-10-04T00:00:00")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#text")).to_have_text("The range must end after it begins.")

    page.get_by_label("To", exact=True).fill("2026-10-12T00:00:00")
    page.get_by_role("button", name="Show").click()

    expect(page.locator("#summary")).to_contain_text("2026-10-05 00:00:00 to 2026-10-12 00:00:00, America/New_York")
    assert (state_of(page)["from"], state_of(page)["to"]) == (
        ["2026-10-05T04:00:00.000Z"],
        ["2026-10-12T04:00:00.000Z"],
    )


UNITS = {
    **dict.fromkeys(("15m", "1h", "6h", "24h"), "minute"),
    **dict.fromkeys(("7d", "30d"), "hour"),
    **dict.fromkeys(("90d", "1y", "5y"), "day"),
}


def test_the_granularity_follows_the_range(open_page, env):
    track(env, "Dense", "x", *((time.time() - second, 1) for second in (1, 2, 3)))
    page = open_page(path=None)

    for range_ in UNITS if IS_THOROUGH else ("24h", "7d", "90d"):
        go_to(page, env, link("Dense/x", range=range_, type="count"))
        expect(page.locator("#summary")).to_contain_text(f"Count by {UNITS[range_]}")


PAGES = {
    "chart": october(*(CLICKS, QUEUE, "Frontend/pageView", "Frontend/signUp", "Server-1/cpuUtilization"), compare=1),
    "table": october(CLICKS, QUEUE, compare=1, view="table"),
    "empty": link(CLICKS, **{"from": "2020-01-01", "to": "2020-01-08"}),
    "error": link(CLICKS, range="5y", granularity="minute"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.thorough if name in ("empty", "error") else ()) for name in PAGES]
)
def test_it_fits_any_screen_and_anyone(open_page, env, name):
    """As it opens on a telephone, and as the window grows and the colors change."""
    page = open_page(PAGES[name], color_scheme="light", viewport={"width": 360, "height": 900})
    expect(page.locator("#text" if name in ("empty", "error") else "#summary")).not_to_be_empty()
    if name == "error":
        refused(page)
    fits_any_screen_and_anyone(page, name)


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.thorough)])
def test_the_pages_around_it_are_for_anyone_too(open_page, env, scheme):
    page = open_page("/", session=None, color_scheme=scheme)
    page.get_by_label("Username").fill("eve")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.locator(".errorlist")).to_be_visible()
    accessible(page)

    log_in(page, env, username="eve", password="eve")

    expect(page.get_by_role("heading", name="You may not view events")).to_be_visible()
    accessible(page)
    refused(page)
