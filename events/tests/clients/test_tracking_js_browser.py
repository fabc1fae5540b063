"""``tracking.js`` in Chromium, in a page of another origin. Nothing here touches Django: see ``browser.chromium``."""

import json
from collections import deque
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event

import pytest

from events.tests.clients.conftest import VARIABLES
from events.tests.clients.environment import keys_of
from events.tests.support import browser, service
from events.tests.support.network import network
from events.tests.support.threads import in_thread
from events.tests.support.waiting import wait_until

SCRIPT = service.PROJECT_DIR / "clients/javascript/tracking.js"
PAGE = """<!doctype html><title>%s</title><script type="module">
import { Tracker } from "/tracking.js";
window.refused = [];
const getToken = async (refused) => (await fetch(`/token?refused=${refused ?? ""}`)).text();
const onRefused = (event, reason) => window.refused.push([event.value, reason]);
window.make = (options) => (window.tracker = new Tracker({ url: "%s", getToken, batchSeconds: 0.1, onRefused, ...options }));
</script>"""


class Site(ThreadingHTTPServer):
    """The site whose pages track: it serves them, the script, and tokens."""

    daemon_threads = True

    def __init__(self, port):
        super().__init__(("127.0.0.1", port), SiteHandler)
        self.origin = f"http://127.0.0.1:{port}"
        self.tokens = []
        self.answers = deque()
        self.posts = []
        self.url = ""


class SiteHandler(BaseHTTPRequestHandler):
    def do_GET(self):
        with suppress(BrokenPipeError, ConnectionResetError):  # the page is gone
            self.answer()

    def answer(self):
        site, kind = self.server, "text/html"
        if self.path == "/tracking.js":
            body, kind = SCRIPT.read_text(), "text/javascript"
        elif self.path.startswith("/token"):
            site.tokens.append(self.path)
            body = site.bad if site.bad and len(site.tokens) == 1 else site.token
        else:
            body = PAGE % (self.path, site.url)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body.encode())

    def do_POST(self):
        """Answer in place of the service what a test says, and 201 once there is nothing left.

        (None, event) is no answer, for as long as the event isn't set.
        """
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append((self.path, self.headers["Idempotency-Key"]))
        status, headers = self.server.answers.popleft() if self.server.answers else (201, {})
        if status is None:
            headers.wait(60)
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def site(prepared, tmp_path_factory):
    """The site, and a service that lets its pages in, and takes 20 events a request."""
    with in_thread(Site(service.free_port())) as site:
        variables = {**VARIABLES, "CORS_ALLOWED_ORIGINS": site.origin, "MAX_EVENTS": 20}
        with prepared(tmp_path_factory.mktemp("site"), **variables) as site.env, service.served(site.env):
            site.token = service.fetch_token(site.env)
            yield site


@pytest.fixture
def way(site):
    with network(int(site.env["PORT"])) as way:
        site.url, site.bad = way.url, ""
        for kept in (site.tokens, site.answers, site.posts):
            kept.clear()
        yield way


@pytest.fixture(scope="module")
def window(chromium):
    """A window for all tests, as each of its own takes longer than most of them."""
    window = browser.new_context(chromium)
    yield window
    window.close()


@pytest.fixture
def page(window, site, way):
    page = next((page for page in window.pages if not page.is_closed()), None) or window.new_page()
    errors = []

    def listener(error):
        errors.append(str(error))

    page.on("pageerror", listener)
    go(page, site, "/a")
    page.evaluate("localStorage.clear()")  # of what an earlier test left
    yield page
    for each in window.pages:
        each.evaluate("window.tracker && (tracker.batches = [])")  # or it is sent as the next test leaves the page
    page.remove_listener("pageerror", listener)
    for other in window.pages[1:]:
        other.close()
    assert errors == []


def go(page, site, path):
    page.goto(site.origin + path)
    page.wait_for_function("!!window.make")  # a function would be called


def stored(site, namespace):
    return service.query(site.env, f"SELECT name, value FROM events_event WHERE namespace = '{namespace}' ORDER BY id")


def track(page, namespace, values):
    page.evaluate("([namespace, values]) => values.forEach((value) => tracker.track(namespace, 'click', value))", [namespace, values])  # fmt: skip


def waiting(page):
    """What the page keeps in its storage."""
    return json.loads(page.evaluate("JSON.stringify(Object.values(localStorage).map(JSON.parse))"))


def clicks(count):
    return [("click", float(value)) for value in range(count)]


def test_events_arrive_in_batches_from_another_origin(page, site, way, namespace):
    page.evaluate("make({ batchEvents: 10 })")
    track(page, namespace, [*range(25)])
    assert sum(len(batch["events"]) for kept in waiting(page) for batch in kept["batches"]) == 25

    wait_until(lambda: stored(site, namespace) == clicks(25))
    wait_until(lambda: waiting(page) == [])
    assert len(set(keys_of(way))) == len(keys_of(way)) == 3
    assert len(site.tokens) == 1
    assert "origin: " + site.origin in way.requests[0].lower()
    assert "cookie" not in way.requests[0].lower()


def test_the_time_of_an_event_is_its_own(page, site, way, namespace):
    page.evaluate("make()")
    page.evaluate("(namespace) => tracker.track(namespace, 'at', 1, new Date('2020-11-12T11:10:00.5Z'))", namespace)

    wait_until(lambda: stored(site, namespace))
    [(at,)] = service.query(site.env, f"SELECT timestamp FROM events_event WHERE namespace = '{namespace}'")
    assert str(at).startswith("2020-11-12 11:10:00.5")


def test_a_value_that_json_can_not_write_is_an_error_and_in_no_others_way(page, site, way, namespace):
    page.evaluate("make()")
    thrown = page.evaluate(
        "(namespace) => { try { tracker.track(namespace, 'bad', 1n); } catch (error) { return error.name; } }",
        namespace,
    )
    track(page, namespace, [0])

    wait_until(lambda: stored(site, namespace) == clicks(1))
    wait_until(lambda: waiting(page) == [])
    assert thrown == "TypeError"
    assert page.evaluate("tracker.waiting") == 0


@pytest.mark.parametrize("leave", ["another page", "close", "call"])
def test_a_page_view_has_the_seconds_on_the_page(page, site, way, namespace, leave):
    page.evaluate("make()")
    track(page, namespace, [5])
    wait_until(lambda: stored(site, namespace))
    page.evaluate("(namespace) => { window.end = tracker.trackPageView(namespace); }", namespace)
    page.wait_for_timeout(300)
    if leave == "another page":
        go(page, site, "/b")
    elif leave == "close":
        with page.expect_event("close"):
            page.close(run_before_unload=True)
    else:
        page.evaluate("{ end(); end(); }")

    wait_until(lambda: len(stored(site, namespace)) == 2)
    (_, click), (name, seconds) = stored(site, namespace)
    assert (click, name) == (5.0, "pageView")
    assert 0.3 <= seconds < 60


def test_what_the_service_never_got_is_sent_by_the_next_page(page, site, way, namespace):
    way.cut()
    page.evaluate("make()")
    track(page, namespace, [0, 1])
    page.wait_for_function("tracker.failures > 0")
    go(page, site, "/b")
    assert stored(site, namespace) == []

    way.mend()
    page.evaluate("make()")
    wait_until(lambda: stored(site, namespace) == clicks(2))
    wait_until(lambda: waiting(page) == [])


def test_an_answer_that_is_lost_stores_nothing_twice(page, site, way, namespace):
    way.answers_to_lose = 2
    page.evaluate("make()")
    track(page, namespace, [0, 1])
    wait_until(lambda: way.lost)
    wait_until(lambda: page.evaluate("tracker.failures") or way.lost == 2)
    go(page, site, "/b")
    page.evaluate("make()")

    wait_until(lambda: waiting(page) == [])
    assert way.lost == 2
    assert len(way.requests) > 2
    assert stored(site, namespace) == clicks(2)
    assert len(set(keys_of(way))) == 1


@pytest.mark.parametrize(("hours", "count"), [(46, 1), (48, 0)])
def test_what_was_sent_as_a_page_ended_is_sent_again_while_the_service_knows_its_key(page, site, hours, count):
    """It arrived almost surely, but the page was gone before it learned that."""
    page.evaluate("make({ url: location.origin, batchSeconds: 60 })")
    page.evaluate("{ window.fetch = () => new Promise(() => {}); tracker.token = 'token'; }")
    track(page, "Shop", [0])
    before = page.evaluate("Date.now()")
    go(page, site, "/b")
    [left] = waiting(page)
    assert before <= left["batches"][0]["sent"] <= page.evaluate("Date.now()")

    left["batches"][0]["sent"] -= hours * 3_600_000
    [key] = page.evaluate("Object.keys(localStorage)")
    page.evaluate("([key, left]) => localStorage.setItem(key, left)", [key, json.dumps(left)])
    page.evaluate("make({ url: location.origin })")
    wait_until(lambda: waiting(page) == [])
    assert [key for _, key in site.posts] == [left["batches"][0]["key"]] * count


def test_what_was_surely_not_stored_waits_for_longer(page, site):
    """An answer said so."""
    site.answers.append((503, {"Retry-After": "60"}))
    page.evaluate("make({ url: location.origin })")
    track(page, "Shop", [0])
    page.wait_for_function("tracker.failures > 0")
    wait_until(lambda: not waiting(page)[0]["batches"][0]["sending"])

    assert "sent" not in waiting(page)[0]["batches"][0]


def test_what_others_keep_in_the_storage_is_in_no_way_of_what_is_left(page, site):
    page.evaluate("""{
        const left = { at: 0, url: location.origin, batches: [{ key: "left", events: [{ name: "click" }] }] };
        for (const [name, kept] of [["consent", "yes"], ["number", "3"], ["url", JSON.stringify({ url: left.url })]])
          localStorage.setItem(`tracking:!${name}`, kept);
        localStorage.setItem("tracking:left", JSON.stringify(left));
        make({ url: location.origin });
    }""")

    wait_until(lambda: site.posts == [("/api/track/", "left")], 10)
    wait_until(lambda: page.evaluate("localStorage.getItem('tracking:left')") is None, 10)
    others = ["tracking:!consent", "tracking:!number", "tracking:!url"]
    wait_until(lambda: sorted(page.evaluate("Object.keys(localStorage)")) == others, 10)


def test_two_pages_at_once_send_their_own(page, site, way, namespace):
    way.cut()
    page.evaluate("make()")
    track(page, namespace, [0])
    other = page.context.new_page()
    go(other, site, "/b")
    other.evaluate("make()")
    track(other, namespace, [1])
    other.wait_for_function("tracker.failures > 0")
    assert other.evaluate("tracker.waiting") == 1

    way.mend()
    wait_until(lambda: sorted(stored(site, namespace)) == clicks(2))


def test_what_is_refused_is_dropped_alone_and_told(page, site, way, namespace):
    page.evaluate("make()")
    page.evaluate(
        "(namespace) => { for (const name of ['click', 'a/b', 'click']) tracker.track(namespace, name, 0); }", namespace
    )

    wait_until(lambda: stored(site, namespace) == [("click", 0.0)] * 2)
    assert page.evaluate("refused") == [[0, {"name": ["This field may not contain “/” nor be “.” or “..”."]}]]
    wait_until(lambda: waiting(page) == [])


def test_a_batch_that_is_too_large_is_halved(page, site, way, namespace):
    page.evaluate("make()")
    track(page, namespace, [*range(50)])

    wait_until(lambda: sorted(stored(site, namespace), key=lambda row: row[1]) == clicks(50))
    assert len(way.requests) == 7
    assert page.evaluate("refused") == []


def test_a_token_that_is_refused_is_replaced(page, site, way, namespace):
    site.bad = "no-such-token"
    page.evaluate("make()")
    track(page, namespace, [0])

    wait_until(lambda: stored(site, namespace) == clicks(1))
    assert site.tokens == ["/token?refused=", "/token?refused=no-such-token"]


@pytest.mark.parametrize(
    ("status", "to"), [(200, ""), (202, ""), (301, "/page"), (302, "/page"), (307, "/api/elsewhere")]
)
def test_only_a_201_says_that_events_are_stored(page, site, status, to):
    """A proxy's page of maintenance says 200, or is where it redirects to."""
    site.answers += [(status, {"Location": to} if to else {})] * 2
    page.evaluate("make({ url: location.origin })")
    track(page, "Shop", [0])

    wait_until(lambda: len(site.posts) == 3, 20, lambda: str(site.posts))
    wait_until(lambda: waiting(page) == [])
    assert {path for path, _ in site.posts} == {"/api/track/"}
    assert len({key for _, key in site.posts}) == 1
    assert page.evaluate("refused") == []


def test_a_request_without_an_answer_keeps_nothing_back(page, site):
    is_over = Event()
    site.answers.append((None, is_over))
    page.evaluate("make({ url: location.origin, timeoutSeconds: 0.2 })")
    track(page, "Shop", [0])

    wait_until(lambda: waiting(page) == [], 10, lambda: str(site.posts))
    is_over.set()
    assert len(site.posts) >= 2
    assert len(set(site.posts)) == 1


def test_what_no_answer_came_for_may_be_stored(page, site):
    is_over = Event()
    site.answers += [(None, is_over)] * 10
    page.evaluate("make({ url: location.origin, timeoutSeconds: 0.2 })")
    track(page, "Shop", [0])

    failed = "tracker.failures && !tracker.batches[0].sending && [typeof tracker.batches[0].sent]"
    assert page.wait_for_function(failed).json_value() == ["number"]
    page.evaluate("tracker.pause = Infinity")
    is_over.set()
    site.answers.clear()


@pytest.mark.parametrize("visibility", ["visible", "hidden"])
@pytest.mark.parametrize("hours", [46, 48])
def test_a_page_that_stays_open_sends_it_again_as_long(page, site, hours, visibility):
    page.evaluate("make({ url: location.origin, batchSeconds: 60 })")
    page.evaluate(
        "{ window.sends = window.fetch; window.fetch = () => new Promise(() => {}); tracker.token = 'token'; }"
    )
    track(page, "Shop", [0])
    page.evaluate("{ tracker.flush(); window.fetch = window.sends; }")
    page.wait_for_function("tracker.batches[0].sent")
    key = page.evaluate("tracker.batches[0].key")
    page.evaluate("(is) => Object.defineProperty(document, 'visibilityState', { get: () => is })", visibility)
    track(page, "Shop", [1])

    page.evaluate(
        "(hours) => { const [batch] = tracker.batches; batch.sent -= hours * 3_600_000; batch.sending = false;"
        " tracker.flushing = false; return tracker.flush(); }",
        hours,
    )

    wait_until(lambda: waiting(page) == [])
    first, *others = dict.fromkeys(key for _, key in site.posts)
    assert ((first == key), len(others)) == ((True, 1) if hours == 46 else (False, 0))


@pytest.mark.parametrize("first", ["new Promise(() => {})", "Promise.reject({ headers: {} })"])
def test_a_token_that_never_comes_or_fails_keeps_nothing_back(page, site, first):
    page.evaluate(
        """{
        let calls = 0;
        const getToken = () => (calls++ ? "token" : FIRST);
        make({ url: location.origin, timeoutSeconds: 0.2, getToken });
    }""".replace("FIRST", first)
    )
    track(page, "Shop", [0])

    wait_until(lambda: waiting(page) == [], 10)
    assert len(set(site.posts)) == 1


def test_past_the_limit_the_oldest_are_dropped(page, site, way, namespace):
    way.cut()
    page.evaluate("make({ mostEvents: 20, batchEvents: 10 })")
    track(page, namespace, [*range(35)])

    assert page.evaluate("[tracker.waiting, tracker.dropped]") in ([15, 20], [20, 15])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1], {"waiting": [30, 1], "dropped": 0}),  # though that is more than may wait
        ([*range(1, 25)], {"waiting": [30, 4], "dropped": 20}),
    ],
)
def test_beside_a_large_batch_under_way_what_is_tracked_now_is_kept(page, site, way, namespace, values, expected):
    """An earlier page, where more might wait, has left that batch; it is neither dropped nor sent twice."""
    way.cut()
    page.evaluate("make({ batchSeconds: 60 })")
    track(page, namespace, [0] * 30)
    go(page, site, "/b")

    page.evaluate("""() => {
        const token = new Promise((give) => { window.give = give; });
        const getToken = () => { window.isUnderWay = true; return token; };
        make({ mostEvents: 20, batchEvents: 10, batchSeconds: 60, getToken });
    }""")
    page.wait_for_function("window.isUnderWay")
    track(page, namespace, values)
    counts = page.evaluate(
        "({ waiting: tracker.batches.map((batch) => batch.events.length), dropped: tracker.dropped })"
    )
    assert counts == expected

    way.mend()
    page.evaluate("(token) => { give(token); tracker.flush(); }", site.token)
    kept = values[expected["dropped"] :]
    wait_until(lambda: waiting(page) == [])
    assert stored(site, namespace) == [("click", float(value)) for value in [0] * 30 + kept]


def test_the_script_is_short():
    assert len(SCRIPT.read_text().splitlines()) < 150
