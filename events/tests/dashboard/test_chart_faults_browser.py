"""What once went wrong on the chart's page, in Chromium. Nothing here touches Django: see ``browser.chromium``."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from events.tests.support.dashboard import CLICKS, OCTOBER, QUEUE, link, october, refused, state_of, track, until

PHONE = {"width": 360, "height": 740}
# what is written on the canvas, for the axes have no elements
LABELS = """
window.written = [];
const fillText = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
  if (this.textAlign === "right") window.written.push(text);  // the left axis
  return fillText.call(this, text, ...place);
};
"""


def over(page):
    page.locator(".u-over").wait_for()
    return page.locator(".u-over").bounding_box()


def hover(page, share):
    box = over(page)
    page.mouse.move(box["x"] + box["width"] * share, box["y"] + 50)


# 1. The refresh.


def test_the_refresh_goes_on_where_events_leave_the_range_under_the_cursor(open_page, env):
    leaving = datetime.now(UTC) - timedelta(minutes=15) + timedelta(seconds=8)
    track(env, "Leaving", "x", *((leaving + timedelta(seconds=number), number) for number in range(5)))
    page = open_page(link("Leaving/x", range="15m", granularity="none", refresh="5"))
    expect(page.locator("#legend b").first).to_have_text("4")
    hover(page, 0.99)

    expect(page.locator("#text")).to_have_text("No events in this range.")
    track(env, "Leaving", "x", (datetime.now(UTC), 77))
    expect(page.locator("#legend b").first).to_have_text("77")


def test_going_back_from_a_zoom_with_the_cursor_on_the_chart_goes_well(open_page):
    page = open_page(october(CLICKS))
    box = over(page)
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.99, box["y"] + 50, steps=5)
    page.mouse.up()
    expect(page.locator("#summary")).not_to_contain_text("by day")
    hover(page, 0.98)

    with page.expect_response("**/api/events/**"):
        page.go_back()

    page.wait_for_timeout(500)  # until it is drawn
    page.mouse.move(5, 5)
    expect(page.locator("#summary")).to_contain_text("Average by day")


def test_a_shorter_range_by_keyboard_with_the_cursor_on_the_chart_goes_well(open_page, env):
    now = datetime.now(UTC)
    track(env, "Hourly", "x", *((now - timedelta(hours=number), number) for number in range(1, 160)))
    page = open_page(link("Hourly/x", range="7d", granularity="hour"))
    hover(page, 0.98)
    expect(page.locator("#summary")).not_to_contain_text("Average")

    with page.expect_response("**/api/events/**"):
        page.locator("select[name=range]").press("ArrowUp")  # 24 hours

    page.wait_for_timeout(500)  # until it is drawn
    page.mouse.move(5, 5)
    expect(page.locator("#summary")).to_contain_text("Average by hour")
    assert state_of(page)["range"] == ["24h"]


def test_an_error_in_drawing_is_said_and_the_refresh_goes_on(open_page, env):
    track(env, "Drawn", "x", (datetime.now(UTC), 1))
    page = open_page(None)
    page.add_init_script("""
        const found = Object.getOwnPropertyDescriptor(Node.prototype, "textContent");
        Object.defineProperty(Node.prototype, "textContent", { ...found, set(text) {
          if (this.id === "summary" && window.isBroken) throw new Error("broken");
          found.set.call(this, text);
        } });
    """)
    page.goto(f"http://127.0.0.1:{env['PORT']}{link('Drawn/x', range='15m', refresh='5', granularity='year')}")
    expect(page.locator("#legend b").first).to_have_text("1")

    with page.expect_request("**/api/events/Drawn/x?*"):
        page.evaluate("window.isBroken = true")
    with page.expect_request("**/api/events/Drawn/x?*"):
        pass
    page.evaluate("window.isBroken = false")
    track(env, "Drawn", "x", (datetime.now(UTC), 3))

    expect(page.locator("#legend b").first).to_have_text("2")
    assert set(page.problems) == {"broken"}
    page.problems.clear()


# 2. The marker.


def test_the_marker_of_the_cursor_has_the_color_of_its_line(open_page):
    page = open_page(october(CLICKS, timezone="UTC"))

    hover(page, 0.5)

    marker = page.locator(".u-cursor-pt:not(.u-off)").first
    expect(marker).to_be_visible()
    assert marker.evaluate("(point) => getComputedStyle(point).backgroundColor") == "rgb(31, 95, 191)"


# 3. The axis.


@pytest.mark.parametrize(
    ("values", "pattern"),
    [
        ((1e-5, 5e-5), r"\d(\.\d)?E-5"),
        ((1e-300, 5e-300), r"\dE-300"),
        ((1e34, 5e34), r"\dE34"),
        ((1e300, 5e300), r"\dE300"),
        ((1_000_000_000_000, 1_627_640_000_000), r"[\d.]+\sT"),
        ((100_000_000.25, 100_000_000.75), r"100\.0+\d*\sM|\d+\.?\d*\sM"),
        ((-3, 3), r"-?\d"),
    ],
)
def test_the_labels_of_the_axis_can_be_read_and_told_apart(open_page, env, values, pattern):
    name = f"x{values[1]}"
    track(env, "Axis", name, ("2026-10-02T00:00:00Z", values[0]), ("2026-10-03T00:00:00Z", values[1]))
    page = open_page(None)
    page.add_init_script(LABELS)
    page.goto(f"http://127.0.0.1:{env['PORT']}{october(f'Axis/{name}', timezone='UTC')}")
    over(page)

    until(page, "written.length >= 3")
    labels = page.evaluate("[...new Set(written)]")
    assert len(labels) >= 4, labels
    assert max(map(len, labels)) <= 14, labels
    assert [label for label in labels if label != "0" and not re.fullmatch(pattern, label)] == []


def test_what_is_beyond_a_double_is_left_out_and_not_the_line(open_page, env):
    for name in "ab":
        values = ("2026-10-02T00:00:00Z", 1e308), ("2026-10-03T00:00:00Z", 1), ("2026-10-04T00:00:00Z", 2)
        track(env, "Beyond", f"sum-{name}", *values)
    page = open_page(None)
    page.add_init_script(LABELS)
    query = october("Beyond/sum-a", "Beyond/sum-b", timezone="UTC", kind="stacked", formula="A * B")
    page.goto(f"http://127.0.0.1:{env['PORT']}{query}")
    over(page)

    until(page, "written.length >= 3")
    assert [label for label in page.evaluate("[...new Set(written)]") if "∞" in label or "NaN" in label] == []
    found = page.evaluate("""async () => {
        const { parsed } = await import("/static/events/dashboard/formulas.js");
        const { ticks } = await import("/static/events/dashboard/numbers.js");
        return [parsed("A * B", 2).does(1e308, 1e308), parsed("A * B", 2).does(2, 3), ticks([0, 1e308, Infinity], "")];
    }""")
    assert found == [None, 6, ["0", "1E308", ""]]


# 4. Refusals.


def test_a_series_that_is_refused_at_once_is_seen_and_can_be_removed(open_page):
    page = open_page(link(CLICKS, range="90d", granularity="minute"))
    expect(page.locator("#text")).to_contain_text(f"{CLICKS}: granularity: More than 100000 items")
    refused(page)

    expect(page.locator("#legend li")).to_contain_text(CLICKS)
    expect(page.locator("#summary")).to_contain_text("Average by minute, ")
    page.get_by_role("button", name=f"Remove {CLICKS}").click()

    expect(page.locator("#legend li")).to_have_count(0)
    expect(page.locator("#text")).to_have_text("Add a series to see it.")


def test_a_service_that_refuses_at_first_is_asked_again(open_page, env):
    page = open_page(None)
    path = "**/api/events?*"
    page.route(path, lambda route: route.fulfill(status=503, json={"detail": "The database is busy."}))
    page.goto(f"http://127.0.0.1:{env['PORT']}{october(CLICKS)}")

    expect(page.locator("#waiting")).to_have_text("The database is busy.")
    expect(page.locator("#waiting")).to_be_visible()
    page.unroute(path)

    expect(page.locator("#legend b").first).to_have_text(re.compile("[0-9]"))
    expect(page.locator("#waiting")).to_be_hidden()
    refused(page)


def test_no_old_picture_stays_beside_controls_that_say_something_else(open_page):
    page = open_page(link(CLICKS, **{"from": "2026-01-01", "to": "2026-11-01"}, granularity="day"))
    expect(page.locator("#legend b").first).to_have_text(re.compile("[0-9]"))

    page.get_by_label("Granularity").select_option("Minute")

    expect(page.locator("#text")).to_contain_text("More than 100000 items")
    refused(page)
    expect(page.locator("#legend b").first).to_be_empty()
    expect(page.locator("#legend li").first).to_contain_text("not shown")
    expect(page.get_by_role("button", name="CSV")).to_be_disabled()


def test_one_series_that_is_refused_leaves_the_others(open_page, env):
    track(env, "Beyond", "x", *((f"2026-10-02T00:00:0{number}Z", 1.7e308) for number in range(2)))
    page = open_page(october(CLICKS, "Beyond/x", QUEUE, type="sum"))

    expect(page.locator("#text")).to_contain_text(
        "Beyond/x: aggregationType: The sum of a bucket is beyond what a double holds."
    )
    refused(page)

    entries = page.locator("#legend li")
    expect(entries.nth(0).locator("b")).to_have_text(re.compile("[0-9]"))
    expect(entries.nth(1)).to_contain_text("not shown")
    expect(entries.nth(2).locator("b")).to_have_text(re.compile("[0-9]"))


# 7. Bounds and layout.


def test_zooming_out_ends_beyond_the_events(open_page):
    page = open_page(october(CLICKS))
    expect(page.locator("#summary")).to_contain_text("by day")
    button = page.get_by_role("button", name="Zoom out")

    for _ in range(20):
        if button.is_disabled():
            break
        button.click()

    expect(button).to_be_disabled()
    [start], [end] = state_of(page)["from"], state_of(page)["to"]
    assert "2026-08-2" <= start < "2026-09-01", start  # the demo's events are of September and October
    assert end > "2026-11-01"
    expect(page.locator("#legend b").first).to_have_text(re.compile("[0-9]"))


def test_a_range_outside_the_calendar_is_cut(open_page):
    page = open_page(link(CLICKS, **{"from": "0001-01-01", "to": "9999-12-31"}, granularity="year"))
    expect(page.locator("#legend b").first).to_have_text(re.compile("[0-9]"))

    for name in ("Earlier", "Later"):
        page.get_by_role("button", name=name).click()
        expect(page.locator("#legend b").first).to_have_text(re.compile("[0-9]"))


def test_long_names_leave_room_for_everything_else(open_page, env):
    names = ["n" * 255, "m" * 255]
    for name in names:
        track(env, "L" * 255, name, ("2026-10-02T00:00:00Z", 1))
    page = open_page(october(*(f"{'L' * 255}/{name}" for name in names), view="table"), viewport=PHONE)
    page.locator("#table tbody tr").first.wait_for()

    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        until(page, "document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("#legend .mark").first.bounding_box()["width"] >= 8
        button = page.get_by_role("button", name="Remove L").first.bounding_box()
        assert 0 <= button["x"] <= width - button["width"]
        column = page.locator("#table thead th").nth(1).bounding_box()
        assert column["width"] < 300


def test_a_message_moves_nothing(open_page):
    page = open_page(october(CLICKS))
    over(page)
    expect(page.locator("#summary")).to_contain_text("by day")
    before = page.locator("#chart").bounding_box()

    page.get_by_label("Add a series").fill("No/thing")
    page.get_by_label("Add a series").press("Enter")

    expect(page.locator("#text")).to_have_text("There is no series “No/thing”.")
    assert page.locator("#chart").bounding_box() == before
    page.get_by_role("button", name="Dismiss the message").click()
    expect(page.locator("#text")).to_be_hidden()


def test_the_chosen_time_zone_can_be_read(open_page):
    page = open_page(october(CLICKS, timezone="Europe/Berlin"))
    over(page)

    room = page.get_by_label("Time zone").evaluate("""(field) => {
        const context = document.createElement("canvas").getContext("2d");
        context.font = getComputedStyle(field).font;
        return field.clientWidth - context.measureText(field.value).width;
    }""")

    assert room > 40  # for the arrow and the padding


def test_the_focus_stays_among_the_series_where_one_is_removed(open_page):
    page = open_page(october(CLICKS, QUEUE, "Frontend/pageView"))
    expect(page.locator("#legend li")).to_have_count(3)

    for removed, focused in ((QUEUE, "Frontend/pageView"), ("Frontend/pageView", CLICKS)):
        page.get_by_role("button", name=f"Remove {removed}").press("Enter")
        expect(page.get_by_role("button", name=f"Remove {focused}")).to_be_focused()
    page.get_by_role("button", name=f"Remove {CLICKS}").press("Enter")

    expect(page.get_by_label("Add a series")).to_be_focused()


def test_a_refresh_of_the_table_leaves_a_selection_alone(open_page, env):
    now = datetime.now(UTC)
    track(env, "Selected", "x", (now - timedelta(minutes=2), 4711))
    page = open_page(link("Selected/x", range="15m", granularity="none", refresh="5", view="table"))
    page.locator("#table tbody td", has_text=re.compile("^4,?711$")).dblclick()
    page.evaluate("""() => {
        const range = document.createRange();
        range.selectNodeContents(document.querySelector("#table tbody td"));
        getSelection().removeAllRanges();
        getSelection().addRange(range);
    }""")

    track(env, "Selected", "x", (now, 4712))

    expect(page.locator("#table tbody tr")).to_have_count(2)
    assert page.evaluate("getSelection().toString()").replace(",", "") == "4711"


def test_on_a_telephone_the_chart_is_on_the_first_screen(open_page):
    page = open_page(october(CLICKS), viewport=PHONE)
    over(page)
    expect(page.locator("#summary")).to_contain_text("by day")

    box = page.locator("#chart").bounding_box()

    assert box["y"] + box["height"] <= PHONE["height"]


# 8. What is not there, and what is not whole.


def test_a_link_to_a_series_that_is_not_there_says_so(open_page):
    page = open_page(october("Frontend/subscribeButonClick"))

    expect(page.locator("#text")).to_have_text("There is no series “Frontend/subscribeButonClick”.")
    expect(page.locator("#legend li")).to_contain_text("no such series")


def test_a_series_with_nothing_in_the_range_says_so(open_page, env):
    track(env, "Elsewhere", "x", ("2020-01-01T00:00:00Z", 1))
    page = open_page(october(CLICKS, "Elsewhere/x"))

    expect(page.locator("#legend li").nth(1)).to_contain_text("nothing in this range")
    expect(page.locator("#legend li").nth(0).locator("b")).to_have_text(re.compile("[0-9]"))


def test_a_day_of_which_only_a_part_is_there_is_labelled(open_page, env):
    page = open_page(link(CLICKS))
    entry = page.locator("#legend li").first

    expect(page.locator("#parts")).to_have_text(
        "Dashed: the first day is cut by the range’s start, and the last day is cut by the range’s end."
    )
    expect(entry).to_contain_text("last full day")
    page.get_by_role("button", name="Table").click()
    expect(page.locator("#table tbody tr").last).to_contain_text("(part)")
    assert OCTOBER["to"] < state_of(page)["to"][0] < "2026-11-03"


def test_a_part_without_a_value_is_not_said_to_be_dashed(open_page):
    """The range's end is the first instant of a day, of which nothing is there."""
    page = open_page(october(CLICKS, granularity="day", timezone="UTC"))

    expect(page.locator("#legend b")).not_to_be_empty()
    expect(page.locator("#parts")).to_have_text("")
