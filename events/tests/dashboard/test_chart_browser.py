"""How the chart's page keeps from misleading, in Chromium. Nothing here touches Django: see ``browser.chromium``."""

import json
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from events.tests.support import service
from events.tests.support.dashboard import (
    CLICKS,
    OCTOBER,
    QUEUE,
    ask,
    link,
    october,
    origin,
    served,
    shown,
    state_of,
    track,
    until,
)

MEMORY = "Server-1/availableMemory"
SCRIPT = """
from django.contrib.auth.models import User
from events.models import SeriesSettings
User.objects.create_user("eve", password="eve")
for series, unit in (("availableMemory", "bytes"), ("cpuUtilization", "percent"), ("uptime", "seconds"), ("cost", "EUR")):
    SeriesSettings.objects.create(namespace="Server-1", name=series, unit=unit)
"""
CANVAS = """
window.written = [];
window.arcs = 0;
const fillText = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
  window.written.push(text);
  return fillText.call(this, text, ...place);
};
const arc = Path2D.prototype.arc;
Path2D.prototype.arc = function (...place) { window.arcs += 1; return arc.apply(this, place); };
"""


@pytest.fixture(scope="module")
def env(prepared, tmp_path_factory):
    """A server that knows the units of some series."""
    with served(prepared, tmp_path_factory.mktemp("chart"), SCRIPT) as env:
        yield {**env, "TOKEN": service.fetch_token(env)}


def entry(page, index=0):
    return page.locator("#legend li").nth(index)


def statistics(page, index=0):
    until(page, f"document.querySelectorAll('#legend li')[{index}].querySelector('dl div') !== null")
    return dict(
        page.evaluate(
            f"[...document.querySelectorAll('#legend li')[{index}].querySelectorAll('dl div')]"
            ".map((each) => [...each.children].map((part) => part.textContent))"
        )
    )


def drawn(page):
    expect(page.locator(".uplot")).to_be_visible()
    expect(page.locator("#summary")).to_contain_text(" by ")


def test_beside_a_series_stands_what_the_api_says_of_the_whole_range(open_page, env):
    page = open_page(october(CLICKS, timezone="UTC"))
    path = f"/api/series/{CLICKS}?tsMin=2020-01-01&tsMax={OCTOBER['to']}"
    drawn(page)

    found = statistics(page)

    path = f"/api/series/{CLICKS}?tsMin={OCTOBER['from']}&tsMax={OCTOBER['to']}"
    said = json.loads(service.call(env, "GET", path, Authorization=f"Bearer {env['TOKEN']}")[2])
    path = f"/api/series/{CLICKS}?tsMin=2026-08-31&tsMax=2026-09-30T23:59:59.999Z"
    before = json.loads(service.call(env, "GET", path, Authorization=f"Bearer {env['TOKEN']}")[2])
    change = 100 * (said["avg"] - before["avg"]) / before["avg"]
    assert list(found) == ["average", "minimum", "maximum", "total", "count", "change"]
    for word, key in (("average", "avg"), ("minimum", "min"), ("maximum", "max"), ("total", "sum"), ("count", "count")):
        assert float(found[word].replace(",", "")) == pytest.approx(said[key], rel=1e-3), word
    assert float(found["change"].removesuffix("%")) == pytest.approx(change, rel=1e-2)


def test_a_number_says_what_it_is(open_page, env):
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    track(env, "Now", "x", (now - timedelta(minutes=30), 5), (now, 7), (now - timedelta(hours=2, minutes=1), 1))
    track(env, "Now", "y", (now, 9))
    page = open_page(link("Now/x", "Now/y", range="6h", granularity="hour"))

    expect(entry(page)).to_contain_text("last full hour")
    expect(entry(page).locator("b")).to_have_text("5")
    expect(entry(page, 1)).to_contain_text("this hour so far")
    expect(entry(page, 1).locator("b")).to_have_text("9")
    expect(page.locator("#parts")).to_contain_text("the last hour is still filling")


def test_a_change_is_told_however_large_values_are_and_not_from_nothing(open_page, env):
    now = datetime.now(UTC)
    for name, before, value in (("huge", -1e308, 1e308), ("young", 0, 3)):
        track(env, "Change", name, (now - timedelta(hours=30), before), (now - timedelta(hours=2), value))
    page = open_page(link("Change/huge", "Change/young", range="24h"))
    drawn(page)

    assert [statistics(page, index).get("change") for index in range(2)] == ["+200%", None]


@pytest.mark.parametrize("kind", ["line", "bars", "area", "stacked"])
@pytest.mark.parametrize("type_", ["sum", "avg"])
def test_each_kind_is_drawn_and_lengths_start_at_0(open_page, env, kind, type_):
    track(env, "High", "x", *((f"2026-10-{day:02}T00:00:00Z", 1000 + day) for day in range(1, 28)))
    page = open_page(None)
    page.add_init_script(CANVAS)
    query = october("High/x", QUEUE, kind=kind, type=type_, compare=1, axes="two", timezone="UTC")

    page.goto(origin(env) + query)
    drawn(page)

    until(page, "written.length > 10")
    starts_at_0 = page.evaluate("written.filter((text) => text === '0').length") >= 2  # both axes
    assert starts_at_0 is (kind != "line" or type_ == "sum")
    expect(page.get_by_label("Kind")).to_have_value(kind)


def test_values_that_come_regularly_are_a_line_and_not_dots(open_page, env):
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    track(env, "Regular", "x", *((now - timedelta(minutes=5 * number), number) for number in range(280)))
    query = link("Regular/x", range="24h", granularity="minute")
    arcs = {}
    for gaps in ("auto", "show", "join"):
        page = open_page(None)
        page.add_init_script(CANVAS)
        page.goto(f"{origin(env)}{query}&gaps={gaps}")
        drawn(page)
        arcs[gaps] = page.evaluate("arcs")

    assert arcs["auto"] <= 2
    assert arcs["join"] <= 2
    assert arcs["show"] > 200


@pytest.mark.parametrize(
    ("series", "value", "written"),
    [
        (MEMORY, 3.2 * 1024**3, "3.2 GiB"),
        ("Server-1/cpuUtilization", 12.5, "12.5 %"),
        ("Server-1/uptime", 0.25, "250 ms"),
        ("Server-1/uptime", 90_000.0, "25 h"),
        ("Server-1/cost", 1_627_640_000_000.0, "1.62764 T EUR"),
        ("Server-1/other", 1_627_640_000_000.0, "1.62764 T"),
    ],
)
def test_a_value_is_written_in_the_unit_of_its_series(open_page, env, series, value, written):
    day = "2026-12-01T00:00:00Z"
    namespace, name = series.split("/")
    unique = {"from": "2026-12-01", "to": "2026-12-02"}
    before = ask(env, series, tsMin=unique["from"], tsMax=unique["to"], aggregationType="sum", granularity="day")
    track(env, namespace, name, (day, value - sum(item["value"] for item in before)))

    page = open_page(link(series, **unique, granularity="day", type="sum", timezone="UTC"))

    expect(entry(page).locator("b")).to_have_text(written.replace(" ", "\u202f"))


def test_the_ticks_of_an_axis_are_even_in_its_unit_and_no_digit_of_a_count_is_lost(open_page):
    page = open_page(october(CLICKS))

    found = page.evaluate("""async () => {
        const { scaleOf } = await import("/static/events/dashboard/scales.js");
        const { short } = await import("/static/events/dashboard/numbers.js");
        const labels = (most, unit = "") => scaleOf([[0, most]], unit, { fromZero: true, isLog: false }).labels.join(" ");
        return [labels(14), labels(1.5), labels(6 * 1024 ** 3, "bytes"), labels(1000 * 1024 ** 2, "bytes"), labels(7000, "seconds"),
            short(999999), short(181524), short(1627640)].map((each) => each.replaceAll("\\u202f", ""));
    }""")

    assert found == [
        "0 2.5 5 7.5 10 12.5 15",
        "0 0.25 0.5 0.75 1 1.25 1.5",
        "0 1GiB 2GiB 3GiB 4GiB 5GiB 6GiB",
        "0 200MiB 400MiB 600MiB 800MiB 1,000MiB",
        "0 0.5h 1h 1.5h 2h",
        "999,999",
        "181,524",
        "1.628M",
    ]


def test_a_time_that_clocks_skip_is_an_hour_later_and_one_that_they_show_twice_the_first(open_page):
    page = open_page(october(CLICKS))

    found = page.evaluate("""async () => {
        const { endOfBucket, instantOf } = await import("/static/events/dashboard/time.js");
        const text = (instant) => new Date(instant).toISOString().slice(0, 16);
        return [
            ...["2026-03-29T02:30", "2026-03-29T03:00", "2026-10-25T02:30", "2026-10-25T03:00", "2026-07-01T00:00"]
                .map((each) => text(instantOf(each, "Europe/Berlin"))),
            ...["2026-04-24T00:00", "2026-04-24T01:00"].map((each) => text(instantOf(each, "Africa/Cairo"))),
            text(instantOf("2026-11-01T00:30", "America/Havana")),
            ...["2026-04-22T22:00Z", "2026-04-23T22:00Z"].map((each) => text(endOfBucket(Date.parse(each), "day", "Africa/Cairo"))),
            text(endOfBucket(Date.parse("2026-03-31T22:00Z"), "month", "Africa/Cairo")),
        ];
    }""")

    assert found == [
        "2026-03-29T01:30", "2026-03-29T01:00", "2026-10-25T00:30", "2026-10-25T02:00", "2026-06-30T22:00",
        "2026-04-23T22:00", "2026-04-23T22:00", "2026-11-01T04:30",
        "2026-04-23T22:00", "2026-04-24T21:00",
        "2026-04-30T21:00",
    ]  # fmt: skip


def test_every_bar_of_a_bucket_that_is_still_filling_is_seen(open_page, env):
    now = datetime.now(UTC)
    for name in ("x", "y"):
        track(env, "Bars", name, *((now - timedelta(days=number), 1) for number in range(5)))
    page = open_page(None)
    page.add_init_script("""
        window.bars = [];
        const rect = Path2D.prototype.rect;
        Path2D.prototype.rect = function (...place) { window.bars.push(place); return rect.apply(this, place); };
    """)
    page.goto(origin(env) + link("Bars/x", "Bars/y", range="7d", granularity="year", kind="bars", timezone="UTC"))
    drawn(page)

    until(page, "bars.some(([, , width]) => width > 50)")
    assert (
        page.evaluate("bars.filter(([x, , width]) => x < 0 || x + width > document.querySelector('canvas').width)")
        == []
    )


def test_the_unit_stands_at_the_axis_too_and_another_unit_gets_an_axis_of_its_own(open_page, env):
    page = open_page(None)
    page.add_init_script(CANVAS)
    page.goto(origin(env) + october("Server-1/cpuUtilization", QUEUE, axes="two"))
    drawn(page)

    assert page.evaluate("written.some((text) => /^\\d+\\s%$/.test(text))")
    assert page.evaluate("written.some((text) => /^\\d+$/.test(text))")


def test_a_logarithmic_scale_has_powers_of_ten(open_page, env):
    track(env, "Log", "x", *((f"2026-10-{day:02}T00:00:00Z", 10.0**day) for day in range(1, 7)))
    page = open_page(None)
    page.add_init_script(CANVAS)
    page.goto(origin(env) + october("Log/x", scale="log", timezone="UTC"))
    drawn(page)

    until(page, "written.length > 8")
    assert {"10", "100", "1,000", "10,000", "100,000", "1\u202fM"} <= set(page.evaluate("written"))


def test_the_tooltip_names_the_time_and_each_visible_value(open_page, env):
    page = open_page(october(CLICKS, QUEUE, timezone="UTC"))
    drawn(page)
    box = page.locator(".u-over").bounding_box()

    page.mouse.move(box["x"] + box["width"] * 9 / 31, box["y"] + 50)

    tooltip = page.locator(".tooltip")
    expect(tooltip).to_be_visible()
    expect(tooltip).to_contain_text("2026-10-10 00:00:00Z")
    for series in (CLICKS, QUEUE):
        [day] = ask(env, series, granularity="day", tsMin="2026-10-10", tsMax="2026-10-10T23:59:59")
        line = tooltip.locator(".line", has_text=series)
        assert float(line.locator("b").inner_text()) == pytest.approx(day["value"], rel=1e-5)
    page.mouse.move(5, 5)
    expect(tooltip).to_be_hidden()


def test_a_series_is_hidden_by_its_name_and_a_link_keeps_that(open_page):
    page = open_page(october(CLICKS, QUEUE))
    drawn(page)
    name = entry(page).locator(".name")

    name.click()

    expect(name).to_have_attribute("aria-pressed", "false")
    expect(name).to_be_focused()
    assert state_of(page)["hide"] == [CLICKS]
    other = open_page(page.url.removeprefix(page.evaluate("location.origin")))
    drawn(other)
    expect(entry(other).locator(".name")).to_have_attribute("aria-pressed", "false")
    expect(entry(other, 1).locator(".name")).to_have_attribute("aria-pressed", "true")
    entry(other).locator(".name").press("Enter")
    expect(entry(other).locator(".name")).to_have_attribute("aria-pressed", "true")


def test_a_double_click_leads_back_to_before_the_zoom(open_page):
    page = open_page(october(CLICKS))
    drawn(page)
    before = state_of(page)
    box = page.locator(".u-over").bounding_box()
    for share in (0.6, 0.4):
        page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * share, box["y"] + 50, steps=4)
        page.mouse.up()
        page.wait_for_timeout(300)
    assert state_of(page)["to"] != before["to"]

    page.mouse.dblclick(box["x"] + 50, box["y"] + 50)

    until(page, f"new URLSearchParams(location.search).get('to') === '{before['to'][0]}'")
    assert state_of(page) == before


def test_it_leaves_a_series_that_was_added_since(open_page):
    page = open_page(october(CLICKS))
    drawn(page)
    before = state_of(page)
    box = page.locator(".u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 50, steps=4)
    page.mouse.up()
    until(page, f"new URLSearchParams(location.search).get('to') !== '{before['to'][0]}'")
    page.get_by_label("Add a series").fill(QUEUE)
    page.get_by_label("Add a series").press("Enter")
    expect(page.locator("#legend li")).to_have_count(2)

    box = page.locator(".u-over").bounding_box()
    page.mouse.dblclick(box["x"] + 50, box["y"] + 50)

    until(page, f"new URLSearchParams(location.search).get('to') === '{before['to'][0]}'")
    assert state_of(page) == {**before, "series": [CLICKS, QUEUE]}


def test_buttons_move_and_show_all(open_page):
    page = open_page(october(CLICKS, **{}))
    drawn(page)
    page.get_by_role("button", name="Earlier").click()
    until(page, "location.search.includes('2026-09-15T12')")
    page.get_by_role("button", name="Later").click()
    until(page, "location.search.includes('2026-10-01T00')")

    page.get_by_role("button", name="All").click()

    until(page, "location.search.includes('from=2026-09-01')")
    assert state_of(page)["to"][0].startswith("2026-11-0")


def test_fingers_move_and_zoom(open_page):
    page = open_page(october(CLICKS), has_touch=True, viewport={"width": 360, "height": 740})
    drawn(page)
    before = state_of(page)

    def fingers(kind, *places):
        for number, x in enumerate(places):
            page.locator(".u-over").dispatch_event(
                kind, {"pointerId": number + 1, "pointerType": "touch", "clientX": x, "clientY": 400, "bubbles": True}
            )

    fingers("pointerdown", 300)
    fingers("pointermove", 100)
    fingers("pointerup", 100)
    until(page, f"!location.search.includes('{before['to'][0][:13]}')")
    later = state_of(page)
    assert later["from"] > before["from"]
    fingers("pointerdown", 150, 200)
    fingers("pointermove", 50, 300)
    fingers("pointerup", 50)
    until(page, f"!location.search.includes('{later['to'][0][:13]}')")
    assert later["from"] < state_of(page)["from"] < state_of(page)["to"] < later["to"]


def test_the_keyboard_reads_value_by_value(open_page, env):
    page = open_page(october(CLICKS, timezone="UTC"))
    drawn(page)

    page.locator("#chart").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")

    expect(page.locator("#summary")).to_have_text("2026-10-02T00:00:00Z")
    [day] = ask(env, CLICKS, granularity="day", tsMin="2026-10-02", tsMax="2026-10-02")
    expect(entry(page).locator("b")).to_have_text(f"{day['value']:.6g}")


def test_a_formula_of_two_series_is_drawn_named_and_removed(open_page, env):
    page = open_page(october(CLICKS, "Frontend/pageView", type="sum", timezone="UTC", view="table"))
    expect(page.locator("#legend li")).to_have_count(2)

    page.get_by_label("Formula").fill("hit rate = a / b")
    page.get_by_label("Formula").press("Enter")

    expect(entry(page, 2)).to_contain_text("hit rate = A / B")
    until(page, "document.querySelectorAll('#table thead th').length === 4")
    rows = shown(page)
    assert rows[0] == ["timestamp", CLICKS, "Frontend/pageView", "hit rate"]
    clicks, views, rate = (float(cell.replace(",", "")) for cell in rows[1][1:])
    assert rate == pytest.approx(clicks / views, rel=1e-4)
    clicks, views, rate = (float(cell.replace(",", "")) for cell in rows[-1][1:])
    assert rate == pytest.approx(clicks / views, rel=1e-4)
    assert state_of(page)["formula"] == ["hit rate = a / b"]

    page.get_by_label("Formula").fill("A / C")
    page.get_by_label("Formula").press("Enter")
    expect(page.locator("#text")).to_contain_text("A formula is such as")
    page.get_by_role("button", name=f"Remove {CLICKS}").click()
    expect(page.locator("#legend li")).to_have_count(1)
    assert "formula" not in state_of(page)


def test_a_formula_follows_its_series_where_another_is_removed(open_page):
    page = open_page(october(QUEUE, CLICKS, "Frontend/pageView", formula="hit rate = B / C"))
    expect(page.locator("#legend li")).to_have_count(4)

    page.get_by_role("button", name=f"Remove {QUEUE}").click()

    expect(entry(page, 2)).to_contain_text("hit rate = A / B")


def test_what_is_loading_says_so_within_150_ms(open_page):
    page = open_page(october(CLICKS))
    drawn(page)
    page.route("**/api/events/**", lambda route: (time.sleep(1), route.continue_()))
    # by a timer of the page, which a busy machine delays as it does the page's own
    page.evaluate("""() => {
        document.querySelector("select[name=type]").value = "max";
        document.querySelector("select[name=type]").dispatchEvent(new Event("change", { bubbles: true }));
        setTimeout(() => { window.saysSo = document.getElementById("stage").classList.contains("loading"); }, 150);
    }""")

    until(page, "window.saysSo !== undefined")

    assert page.evaluate("saysSo") is True
    expect(page.locator("#stage")).to_have_attribute("aria-busy", "false")
    expect(page.locator("#summary")).to_contain_text("Maximum")
    page.unroute_all(behavior="wait")


def test_title_and_files_name_what_is_shown(open_page):
    page = open_page(october(CLICKS, QUEUE, type="sum", timezone="UTC"))
    drawn(page)

    assert page.title() == f"{CLICKS}, {QUEUE} – Sum – Tracking API"
    for button, ending in (("CSV", "csv"), ("PNG", "png")):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        assert download.value.suggested_filename == (
            f"Frontend-subscribeButtonClick+Back-end-queueLength_sum-by-day_2026-10-01_2026-11-01.{ending}"
        )


def test_the_picture_has_a_title_a_legend_and_the_units(open_page, env):
    page = open_page(None)
    page.add_init_script(CANVAS)
    page.goto(origin(env) + october("Server-1/cpuUtilization", timezone="UTC"))
    drawn(page)
    page.evaluate("written.length = 0")

    with page.expect_download():
        page.get_by_role("button", name="PNG").click()

    title, legend = page.evaluate("written")[:2]
    assert title == "Average by day, 2026-10-01 00:00:00 to 2026-11-01 00:00:00, UTC"
    assert re.fullmatch(r"— Server-1/cpuUtilization  \(percent\)  [\d.]+\s%", legend)


def test_the_table_has_the_newest_first_where_that_is_chosen(open_page):
    page = open_page(october(CLICKS, timezone="UTC", view="table"))
    oldest = shown(page)

    page.get_by_label("Rows").select_option("Newest first")

    until(page, "document.querySelector('#table tbody tr').innerText.startsWith('2026-11-01')")
    newest = shown(page)
    assert newest[1:-1] == oldest[1:-1][::-1]
    assert newest[-1] == oldest[-1]
    assert state_of(page)["rows"] == ["newest"]
