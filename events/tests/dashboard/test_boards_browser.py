"""Boards, and annotations on charts, in Chromium. Nothing here touches Django: see ``browser.chromium``."""

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import expect

from events.tests.support import service
from events.tests.support.dashboard import CLICKS, accessible, october, origin, refused, track, until


def loaded(page, times=1):
    until(page, f"Number(document.body.dataset.loaded ?? 0) >= {times}")


def heads(page):
    return page.locator(".board-card .title").all_inner_texts()


# In how much of the chart's height, so far from its left end, there is an annotation's color.
ANNOTATED = """(share) => {
  const canvas = document.querySelector("#chart canvas");
  const [over, place] = [document.querySelector(".u-over"), canvas].map((each) => each.getBoundingClientRect());
  const [x, y] = [over.left - place.left + over.width * share - 1, over.top - place.top].map(Math.round);
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");  // as reading from one often is warned of
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(x, y, 3, over.height);
  const rows = new Set();
  for (let at = 0; at < data.length; at += 4) {
    const [red, green, blue] = data.slice(at, at + 3);
    if (blue > red && red > green) rows.add(Math.floor(at / 12));
  }
  return rows.size / over.height;
}"""


def test_an_annotation_is_added_drawn_edited_and_deleted(open_page, env):
    page = open_page(october("Frontend/signUp", "Frontend/pageView", timezone="UTC", granularity="day"))
    fired = []
    page.on(
        "request",
        lambda request: "/api/firings" in request.url and fired.append(parse_qs(urlsplit(request.url).query)["series"]),
    )
    page.get_by_role("button", name="Annotate").click()
    form = page.locator("#note-form")
    form.get_by_label("Title").fill("Release 4.2")
    form.get_by_label("Begins").fill("2026-10-08T10:00:00")
    form.get_by_label("Tags").fill("deploy\nweb")
    form.get_by_role("button", name="Save").click()
    mark = page.get_by_role("button", name="Release 4.2 (2026-10-08 10:00)")
    mark.wait_for()
    # asked once for all series, as the page was opened and after that
    assert fired in ([both := ["Frontend/signUp", "Frontend/pageView"]], [both, both])
    accessible(page)
    begin, middle = (7 + 10 / 24) / 31, (7 + 22 / 24) / 31
    assert 0.4 < page.evaluate(ANNOTATED, begin) < 0.7  # a dashed line
    assert page.evaluate(ANNOTATED, middle) == 0

    mark.click()
    form.get_by_label("Ends").fill("2026-10-09T10:00:00")
    form.get_by_role("button", name="Save").click()
    band = page.get_by_role("button", name="Release 4.2 (2026-10-08 10:00 to 2026-10-09 10:00)")
    band.wait_for()
    assert page.evaluate(ANNOTATED, middle) > 0.9
    _, _, body = service.call(env, "GET", "/api/annotations/", Authorization=f"Bearer {env['TOKEN']}")
    [stored] = json.loads(body)
    assert stored == {
        "id": stored["id"], "namespace": "Frontend", "timestamp": "2026-10-08T10:00:00Z", "end": "2026-10-09T10:00:00Z",
        "title": "Release 4.2", "text": "", "tags": ["deploy", "web"],
    }  # fmt: skip
    # the mark stands over where the line begins
    place = "document.querySelector('.note-mark').getBoundingClientRect()"
    over = "document.querySelector('.u-over').getBoundingClientRect()"
    share = page.evaluate(f"(({place}).left + ({place}).width / 2 - ({over}).left) / ({over}).width")
    assert abs(share - begin) < 0.01

    band.click()
    page.on("dialog", lambda dialog: dialog.accept())
    form.get_by_role("button", name="Delete").click()
    expect(page.locator(".note-mark")).to_have_count(0)


def test_a_year_of_five_digits_is_told_and_nothing_is_sent(open_page):
    page = open_page(october(CLICKS, timezone="UTC"))
    page.get_by_role("button", name="Annotate").click()
    form = page.locator("#note-form")
    form.get_by_label("Title").fill("Release 4.2")
    form.get_by_label("Begins").fill("12026-10-08T10:00:00")

    form.get_by_role("button", name="Save").click()

    assert page.evaluate("document.querySelector('#note-form [name=timestamp]').validity.rangeOverflow")
    expect(page.locator("#note")).to_be_visible()


def test_who_is_signed_out_meanwhile_learns_that_from_a_board(open_page):
    page = open_page("/boards/")
    page.get_by_role("link", name="Demo").click()
    loaded(page)
    page.get_by_role("button", name="Change").click()
    page.context.clear_cookies(name="sessionid")

    page.get_by_role("button", name="Keep this range, zone and refresh").click()

    expect(page.locator("#kept")).to_have_text("You are signed out.")


def test_a_list_is_read_whole_by_requests_that_the_service_takes(open_page):
    page = open_page("/")

    found = page.evaluate("""async () => {
        const { listOf } = await import("/static/events/dashboard/api.js");
        const asked = [];
        window.fetch = async (path) => {
            const query = new URLSearchParams(path.split("?")[1]);
            asked.push([path.length, query.getAll("series")]);
            const link = query.has("after") ? {} : { Link: '<http://127.0.0.1/api/x?tsMin=1&series=a&after=3>; rel="next"' };
            return new Response(JSON.stringify([asked.length]), { headers: query.get("series").length > 1 ? {} : link });
        };
        const names = Array.from({ length: 101 }, (_, number) => `Магазин/заказы-по-часам-${number}`);
        const whole = await listOf("/api/x", "series", names, { tsMin: "2026-10-01T00:00:00.000Z" });
        const lengths = asked.map(([length]) => length);
        const isEach = asked.flatMap(([, series]) => series).join() === names.join();
        const short = Array.from({ length: 101 }, (_, number) => `a/${number}`);
        const before = asked.length;
        await listOf("/api/x", "series", short, {});
        const counts = asked.splice(before).map(([, series]) => series.length);
        return { answers: whole.length === lengths.length, isEach, most: Math.max(...lengths), counts,
            pages: (await listOf("/api/x", "series", ["a"], { tsMin: 1 })).length };
    }""")

    assert found["answers"]
    assert found["isEach"]
    assert found["most"] < 8_000
    assert (found["counts"], found["pages"]) == ([100, 1], 2)


def test_what_a_board_shows_is_of_its_range(open_page, env):
    now = datetime.now(UTC)
    track(env, "Ranged", "x", (now - timedelta(hours=2), 7))
    page = open_page("/boards/")
    fields = {"state": "series=Ranged%2Fx&granularity=minute", "name": "Ranged", "key": "", "title": ""}
    page.evaluate(
        """async (fields) => {
        const page = await (await fetch("/boards/add?series=Ranged%2Fx")).text();
        const token = page.match(/name="csrfmiddlewaretoken" value="(.*?)"/)[1];
        await fetch("/boards/add", { method: "POST", body: new URLSearchParams(fields), headers: { "X-CSRFToken": token } });
    }""",
        fields,
    )
    page.reload()
    page.get_by_role("link", name="Ranged").click()
    loaded(page)
    expect(page.locator(".values")).to_have_text("Ranged/x7")

    page.locator("select[name=range]").select_option("90d")
    loaded(page, 2)
    expect(page.locator(".refused")).to_contain_text("More than 100000 items")
    expect(page.locator(".values")).to_have_text("Ranged/x–")
    assert "older" not in page.locator(".refused").inner_text()

    page.locator("select[name=range]").select_option("24h")
    page.locator("select[name=refresh]").select_option("5")
    expect(page.locator(".values")).to_have_text("Ranged/x7")
    page.route("**/api/query*", lambda route: route.fulfill(status=503, json={"detail": "Busy."}))
    expect(page.locator(".refused")).to_have_text("Ranged/x: Busy. What is shown is older.")
    expect(page.locator(".values")).to_have_text("Ranged/x7")
    refused(page)


def test_a_board_loads_at_once_and_is_arranged_and_shown_to_others(open_page, env):
    page = open_page("/boards/")
    asked = []

    def watch(request):
        if "/api/" in request.url:
            asked.append((request.method, request.url.split("/api/")[1].split("?")[0]))

    firing = {
        "namespace": "Frontend",
        "name": "pageView",
        "alertName": "Views",
        "firedAt": "2020-01-01T00:00:00Z",
        "resolvedAt": None,
    }
    page.route("**/api/firings?*", lambda route: route.fulfill(json={"lagSeconds": 0, "firings": [firing]}))
    page.on("request", watch)
    page.get_by_role("link", name="Demo").click()
    loaded(page)
    assert sorted(asked) == [("GET", "annotations"), ("GET", "firings"), ("POST", "query")]
    # shaded where it fired, and only there
    with_view = page.locator(".board-card", has=page.locator(".values", has_text="Frontend/pageView"))
    assert page.get_by_text("Shaded: Views fired.").count() == with_view.count() > 0
    shares = """[...document.querySelectorAll('.board-card')].map((card) => {
      const { width, height } = card.querySelector('canvas');
      const { data } = card.querySelector('canvas').getContext('2d').getImageData(0, 0, width, height);
      return [card.querySelector('.fired').textContent !== '', data.filter((_, at) => at % 4 === 3 && data[at]).length / width / height > 0.5];
    })"""
    assert all(is_said == is_shaded for is_said, is_shaded in page.evaluate(shares))
    assert len(heads(page)) == page.locator(".board-card .u-over").count() == 9
    expect(page.locator(".values").first).to_have_text("Frontend/pageView1,388")
    accessible(page)

    page.get_by_role("button", name="Change").click()
    first, second, *others = heads(page)
    page.get_by_role("button", name=f"Move “{second}” up").press("Enter")
    assert page.evaluate("document.activeElement.ariaLabel") == f"Move “{second}” up"
    page.get_by_label("Time zone").select_option("Asia/Tokyo")
    loaded(page, 2)
    page.get_by_role("button", name="Keep this range, zone and refresh").click()
    page.get_by_text("Kept: the board opens like this.").wait_for()
    page.get_by_role("button", name="Make a public link").click()
    link = page.get_by_label("Public link", exact=True).input_value().removeprefix(origin(env))

    public = open_page(link, session=None, viewport={"width": 360, "height": 740})
    loaded(public)
    assert heads(public) == [second, first, *others]
    assert public.get_by_label("Time zone").input_value() == "Asia/Tokyo"
    assert public.evaluate("document.documentElement.scrollWidth") <= 360
    assert public.context.cookies() == []
    accessible(public)
