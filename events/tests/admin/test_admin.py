"""The event list of the admin site."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import unquote

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from events.admin import event_list
from events.admin.event_list import EventPaginator
from events.admin.events import EventAdmin
from events.models import Event, Rollup
from events.tests.support.forms import inputs_of
from events.worker import roll_up

LIST = "/admin/events/event/"


@pytest.fixture
def stored(make_event):
    """Five events, of which the first to arrive is the youngest."""
    make_event("Frontend", "pageView", "2020-11-12T11:14:00")
    make_event("Frontend", "pageView", "2020-11-12T11:10:00")
    make_event("Frontend", "signUp", "2020-11-12T11:11:00")
    make_event("Server-1", "pageView", "2020-11-12T11:12:00")
    make_event("Server-1", "cpu 100%", "2020-11-12T11:13:00.5", value=97.25)


def rows(response):
    """The list as shown: minute and series of each event."""
    assert response.status_code == 200
    return [
        f"{event.timestamp:%M} {event.namespace}/{event.name}" for event in response.context["cl"].result_list
    ]  # fmt: skip


ARRIVED_LAST_FIRST = [
    "13 Server-1/cpu 100%",
    "12 Server-1/pageView",
    "11 Frontend/signUp",
    "10 Frontend/pageView",
    "14 Frontend/pageView",
]


PAGE_VIEWS = "namespace=Frontend&name=pageView"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ARRIVED_LAST_FIRST),
        (PAGE_VIEWS, ["14 Frontend/pageView", "10 Frontend/pageView"]),
        ("namespace=Server-1&name=cpu%20100%25", ["13 Server-1/cpu 100%"]),
        ("namespace=frontend&name=pageView", []),
        ("namespace=&name=", []),
        (f"{PAGE_VIEWS}&q=sign", ["14 Frontend/pageView", "10 Frontend/pageView"]),
        ("q=+", ARRIVED_LAST_FIRST),
        (f"{PAGE_VIEWS}&start=2020-11-12T11:12&end=2020-11-12T11:14", ["14 Frontend/pageView"]),
        (f"{PAGE_VIEWS}&start=2020-11-12T11:13", ["14 Frontend/pageView"]),
        (f"{PAGE_VIEWS}&start=2020-11-12T12:14:00%2B01:00", ["14 Frontend/pageView"]),
        (f"{PAGE_VIEWS}&start=2020-11-12T11:14&end=2020-11-12T11:13", []),
        (f"{PAGE_VIEWS}&end=2020-11-12T11:10", ["10 Frontend/pageView"]),
        (f"{PAGE_VIEWS}&end=2020-11-12", ["14 Frontend/pageView", "10 Frontend/pageView"]),
        (f"{PAGE_VIEWS}&end=2020-11-11", []),
        (
            "namespace=Server-1&name=cpu%20100%25&start=2020-11-12T11:13:00.5Z&end=2020-11-12T11:13:00.500Z",
            ["13 Server-1/cpu 100%"],
        ),
        ("start=yesterday", ARRIVED_LAST_FIRST),
    ],
)
@pytest.mark.parametrize("rolled_up", [True, False])
def test_it_lists_events_newest_first_and_filters_them(client, stored, query, expected, rolled_up):
    if rolled_up:
        roll_up.take_step()

    assert rows(client.get(f"{LIST}?{query}")) == expected


def test_it_shows_what_is_stored(client, stored):
    text = re.sub(r"<[^>]+>|\s+", " ", client.get(LIST).text)

    assert "2020-11-12T11:13:00.500000Z   Server-1   cpu 100%   97.25   chart" in re.sub(r" {2,}", "   ", text)


@pytest.mark.parametrize(
    "query", ["namespace=Frontend", "name=pageView", "q=page", "start=2020-11-12T11:12", "end=2020-11-12"]
)
def test_of_several_series_it_lists_no_events_and_says_so(client, stored, query):
    response = client.get(f"{LIST}?{query}")

    assert rows(response) == []
    assert "Choose a series to see its events." in response.text
    assert "Choose a series" not in client.get(f"{LIST}?{query}&namespace=no&name=no").text
    assert "Choose a series" not in client.get(LIST).text


def choices(response):
    """What the filter of series offers: text, query and whether it is chosen."""
    [series, _] = response.context["cl"].filter_specs
    return [
        (each["display"], each["query_string"], each["selected"]) for each in series.choices(response.context["cl"])
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["Frontend/pageView", "Frontend/signUp", "New/z", "Server-1/cpu 100%", "Server-1/pageView"]),
        ("q=page", ["Frontend/pageView", "Server-1/pageView"]),
        ("q=FRONT", ["Frontend/pageView", "Frontend/signUp"]),
        ("q=1/CPU", ["Server-1/cpu 100%"]),
        ("q=100%25", ["Server-1/cpu 100%"]),
        ("q=nothing", []),
        (f"{PAGE_VIEWS}&q=+z+", ["New/z"]),
    ],
)
def test_the_filter_offers_the_series_that_the_search_finds(client, stored, query, expected):
    roll_up.take_step()  # from which the series come, and from what was tracked since
    Event.objects.create(namespace="New", name="z", timestamp=datetime(2020, 1, 1, tzinfo=UTC), value=1)

    assert [text for text, _, _ in choices(client.get(f"{LIST}?{query}"))] == ["All", *expected]


def test_a_choice_of_the_filter_keeps_the_rest_of_the_query(client, stored):
    assert choices(client.get(f"{LIST}?{PAGE_VIEWS}&p=1&q=page&start=2020-11-12")) == [
        ("All", "?q=page&start=2020-11-12", False),
        ("Frontend/pageView", "?name=pageView&namespace=Frontend&q=page&start=2020-11-12", True),
        ("Server-1/pageView", "?name=pageView&namespace=Server-1&q=page&start=2020-11-12", False),
    ]


def test_the_date_range_keeps_the_other_filters(client, stored):
    page = client.get(f"{LIST}?namespace=Frontend&p=1&start=2020-11-12T11:11").text

    assert '<input type="hidden" name="namespace" value="Frontend">' in page
    assert 'name="p"' not in page
    assert 'value="2020-11-12T11:11:00"' in page


def test_the_date_range_shows_an_instant_as_a_browser_takes_it(client, stored):
    page = client.get(f"{LIST}?start=2020-11-12T12:11:00.250%2B01:00&end=2020-11-12T11:12:00Z").text

    assert 'value="2020-11-12T11:11:00.250"' in page
    assert 'value="2020-11-12T11:12:00"' in page


def test_a_range_that_ends_with_a_day_is_the_same_when_the_browser_sends_it_again(client, stored, make_event):
    make_event("Frontend", "pageView", "2020-11-12T23:59:59.999999")
    query = f"{PAGE_VIEWS}&start=2020-11-12T11:14:00&end="
    page = client.get(f"{LIST}?{query}2020-11-12")
    assert rows(page) == ["59 Frontend/pageView", "14 Frontend/pageView"]
    assert 'value="2020-11-12T23:59:59.999"' in page.text

    assert rows(client.get(f"{LIST}?{query}2020-11-12T23:59:59.999")) == rows(page)
    assert rows(client.get(f"{LIST}?{query}2020-11-12T23:59:59.99")) == ["14 Frontend/pageView"]


@pytest.mark.parametrize(
    "query", ["start=yesterday", "start=0001-01-01T00:00%2B14:00", "end=9999-12-31T23:59-12:00", "end=yesterday"]
)
def test_it_says_which_date_it_could_not_read(client, stored, query):
    response = client.get(f"{LIST}?{query}")

    assert rows(response) == ARRIVED_LAST_FIRST
    assert "Enter a valid date/time." in response.text
    assert f'value="{unquote(query.partition("=")[2])}"' in unescape(response.text)
    assert rows(client.get(f"{LIST}?{PAGE_VIEWS}&{query}")) == ["14 Frontend/pageView", "10 Frontend/pageView"]


@pytest.mark.parametrize("query", ["start=0001-01-01T00:00-14:00", "end=9999-12-31T23:59%2B12:00", "end=9999-12-31"])
def test_a_window_may_begin_and_end_with_the_years_that_there_are(client, stored, query):
    assert rows(client.get(f"{LIST}?{PAGE_VIEWS}&{query}")) == ["14 Frontend/pageView", "10 Frontend/pageView"]


def fill(count, start=datetime(2020, 1, 1, tzinfo=UTC), **fields):
    Event.objects.bulk_create(
        Event(**{"namespace": "a", "name": "b", **fields}, timestamp=start + timedelta(minutes=i), value=i)
        for i in range(count)
    )


def shown(response):
    return [event.value for event in response.context["cl"].result_list]


@pytest.mark.parametrize("query", ["", "namespace=a&name=b", "namespace=a&name=b&start=2019-01-01T00:00"])
def test_the_pages_end_and_say_so(client, db, monkeypatch, query):
    fill(250)
    roll_up.take_step()
    assert client.get(f"{LIST}?{query}").context["cl"].result_count == 250
    assert "The pages hold the newest" not in client.get(f"{LIST}?{query}").text

    monkeypatch.setattr(EventPaginator, "most_rows", 150)

    response = client.get(f"{LIST}?{query}&p=2")
    assert shown(response) == list(range(149, 99, -1))
    assert "The pages hold the newest 150; filter to see others." in response.text
    assert client.get(f"{LIST}?{query}&p=3").status_code == 302


@pytest.mark.one_partition
@pytest.mark.parametrize("query", ["", "namespace=a&name=b", "namespace=a&name=b&end=2030-01-01"])
def test_its_queries_read_no_more_than_a_page(client, db, monkeypatch, django_assert_num_queries, query):
    """None of them counts, sorts or compares the whole table."""
    monkeypatch.setattr(EventAdmin, "list_per_page", 2)
    fill(5)
    roll_up.take_step()
    with django_assert_num_queries(2 + 1 + 1 + 2) as captured:  # session, user; count; page; watermark, series
        client.get(f"{LIST}?{query}")

    sent = [query["sql"] for query in captured if 'FROM "events_event"' in query["sql"]]
    assert len(sent) == 3
    assert all("LIMIT" in statement and "ORDER BY" in statement for statement in sent)


@pytest.mark.parametrize("query", ["", "q=7", "start=2020-11-12T11:10"])
def test_it_reads_no_more_series_than_it_offers(client, make_event, query, monkeypatch):
    monkeypatch.setattr(event_list, "MOST_CHOICES", 3)
    for number in range(40):
        make_event(f"n{number % 5}", f"{number}")
    roll_up.take_step()

    with CaptureQueriesContext(connection) as captured:
        response = client.get(f"{LIST}?{query}")

    catalogue = [each["sql"] for each in captured if 'FROM "events_rollup"' in each["sql"]]
    assert [sql.rpartition("LIMIT ")[2] for sql in catalogue] == ["4"]
    assert len(choices(response)) == 4


def test_an_event_keeps_its_blanks_when_it_is_edited(client, make_event):
    event = make_event(namespace=" a ", name=" b ")
    page = f"{LIST}{event.pk}/change/"

    response = client.post(
        page,
        {"namespace": " a ", "name": " b ", "timestamp_0": "2020-11-12", "timestamp_1": "11:10:00", "value": "2"},
    )

    assert response.status_code == 302
    event.refresh_from_db()
    assert (event.namespace, event.name, event.value) == (" a ", " b ", 2.0)


@pytest.mark.parametrize(
    ("namespace", "name", "timestamp", "value"),
    [
        ("a\nb\r", " c\r\nd ", "2020-11-12T11:10:00.000001", 1 / 3),
        ("\x01", "\tx", "2020-11-12T11:10:00.5", 5e-324),
        ("ünïcode 🎉", "“quoted” \\", "0001-01-01T00:00:00", -1.7976931348623157e308),
        ("a", "b", "9999-12-31T23:59:59.999999", 1e22),
    ],
)
def test_what_is_saved_unchanged_stays_as_it_was(client, make_event, namespace, name, timestamp, value):
    event = make_event(namespace, name, timestamp, value=value)
    page = f"{LIST}{event.pk}/change/"
    form = inputs_of(client.get(page).text)

    assert client.post(page, form).status_code == 302

    found = Event.objects.get(pk=event.pk)
    assert (found.namespace, found.name, found.timestamp, found.value) == (namespace, name, instant(timestamp), value)


def test_a_line_break_goes_with_any_other_change(client, make_event):
    event = make_event("a\nb", "c\nd", "2020-11-12T11:10:00.25")
    page = f"{LIST}{event.pk}/change/"
    form = inputs_of(client.get(page).text)

    client.post(page, {**form, "name": "cde", "timestamp_1": "11:10:00.75"})

    event.refresh_from_db()
    assert (event.namespace, event.name, event.timestamp) == ("a\nb", "cde", instant("2020-11-12T11:10:00.75"))


def instant(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("namespace", "a/b", "This field may not contain “/” nor be “.” or “..”."),
        ("name", "  ", "This field cannot be blank."),
        ("value", "nan", "Enter a number."),
    ],
)
def test_a_bad_event_is_refused(client, field, value, error):
    event = {"namespace": "a", "name": "b", "timestamp_0": "2020-11-12", "timestamp_1": "11:10:00", "value": "2"}

    response = client.post(f"{LIST}add/", {**event, field: value})

    assert error in response.text
    assert not Event.objects.exists()


@pytest.mark.parametrize(
    "query",
    [
        "namespace__contains=a",
        "namespace__regex=(",
        "name__exact=%00",
        "timestamp__year=0",
        "timestamp__gte=x",
        "namespace=%00",
    ],
)
def test_other_lookups_are_refused(client, stored, query):
    assert client.get(f"{LIST}?{query}").status_code == 400


def test_the_add_form_takes_nothing_from_the_url(client):
    form = client.get(f"{LIST}add/?timestamp=99999999999&value=x&namespace=a").context["adminform"].form

    assert form.initial == {}
    assert 'value="a"' not in form["namespace"].as_widget()


def test_an_action_takes_what_was_ticked_and_never_all_matches(client, stored):
    [first, *_] = Event.objects.values_list("pk", flat=True)

    response = client.post(
        LIST, {"action": "delete_selected", "select_across": "1", "_selected_action": [first], "post": "yes"}
    )

    assert response.status_code == 302
    assert Event.objects.count() == 4


def test_deleting_asks_with_the_count_and_rebuilds_the_rollups(client, stored):
    roll_up.take_step()
    ticked = Event.objects.filter(namespace="Frontend", name="pageView")
    action = {"action": "delete_selected", "_selected_action": [event.pk for event in ticked]}

    question = client.post(f"{LIST}?namespace=Frontend", action)
    assert "Events: 2" in question.text
    assert Event.objects.count() == 5

    assert client.post(f"{LIST}?namespace=Frontend", {**action, "post": "yes"}).status_code == 302
    assert Event.objects.count() == 3
    assert not Rollup.objects.of_series("Frontend", "pageView").exists()
    assert Rollup.objects.event_count() == 3


def test_deleting_one_asks_with_the_count_and_rebuilds_the_rollups(client, make_event):
    make_event(value=1)
    event = make_event(value=5)
    roll_up.take_step()
    page = f"{LIST}{event.pk}/delete/"

    assert "Events: 1" in client.get(page).text
    assert client.post(page, {"post": "yes"}).status_code == 302
    assert set(Rollup.objects.values_list("count", "max")) == {(1, 1.0)}


def test_it_exports_what_was_ticked_as_csv(client, stored):
    ticked = Event.objects.exclude(name="signUp").values_list("pk", flat=True)

    response = client.post(LIST, {"action": "export_csv", "index": "0", "_selected_action": list(ticked)})

    assert (response.status_code, response["Content-Type"]) == (200, "text/csv; charset=utf-8")
    assert response["Content-Disposition"] == 'attachment; filename="events.csv"'
    assert response.getvalue().decode() == (
        "namespace,name,timestamp,value\r\n"
        "Frontend,pageView,2020-11-12T11:14:00Z,1.0\r\n"
        "Server-1,cpu 100%,2020-11-12T11:13:00.500000Z,97.25\r\n"
        "Server-1,pageView,2020-11-12T11:12:00Z,1.0\r\n"
        "Frontend,pageView,2020-11-12T11:10:00Z,1.0\r\n"
    )


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ('a,"b"\nc', '"a,""b""\nc"'),
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        ("\tx", "'\tx"),
        ("\nx", '"\'\nx"'),
        ("\r=1", '"\'\r=1"'),
        (";=1+1", "';=1+1"),
        (" =1", "' =1"),
        ("  -1", "'  -1"),
        ("＝1", "'＝1"),
        ("＋1", "'＋1"),
        ("－1", "'－1"),
        ("＠x", "'＠x"),
        ("\u3000@x", "'\u3000@x"),
        ("x;y", "x;y"),
        ("a=1", "a=1"),
        ("ä ", "ä "),
    ],
)
def test_the_export_quotes_texts_and_makes_no_formulas(client, make_event, name, written):
    event = make_event("a", name, value=-1.5)

    response = client.post(LIST, {"action": "export_csv", "index": "0", "_selected_action": [event.pk]})

    line = response.getvalue().decode().removeprefix("namespace,name,timestamp,value\r\n")
    assert line == f"a,{written},2020-11-12T11:10:00Z,-1.5\r\n"


CHART = "/chart?series=a%20b%2Fc%26%C3%A4&amp;from=2020-11-12T10%3A40%3A00Z&amp;to=2020-11-12T11%3A40%3A00Z"


def test_it_links_an_event_to_its_chart(client, make_event):
    event = make_event("a b", "c&ä")

    assert f'<a href="{CHART}">chart</a>' in client.get(LIST).text
    assert f'<a href="{CHART}">chart</a>' in client.get(f"{LIST}{event.pk}/change/").text


def test_the_first_and_the_last_instant_have_a_chart_too(client, make_event):
    make_event("a", "b", datetime.min.replace(tzinfo=UTC))
    make_event("a", "b", datetime.max.replace(tzinfo=UTC))

    page = client.get(f"{LIST}?namespace=a&name=b").text

    assert "from=0001-01-01T00%3A00%3A00Z&amp;to=0001-01-01T00%3A30%3A00Z" in page
    assert "to=9999-12-31T23%3A59%3A59.999999Z" in page


def test_who_may_only_look_can_export_but_not_delete(client, stored):
    eve = User.objects.create_user("eve", is_staff=True)
    eve.user_permissions.add(Permission.objects.get(codename="view_event"))
    client.force_login(eve)
    [first, *_] = Event.objects.values_list("pk", flat=True)

    def act(action):
        return client.post(LIST, {"action": action, "index": "0", "_selected_action": [first], "post": "yes"})

    assert act("export_csv")["Content-Type"] == "text/csv; charset=utf-8"
    assert act("delete_selected").status_code == 302
    assert Event.objects.count() == 5


@pytest.mark.parametrize("model", ["application", "accesstoken", "grant", "refreshtoken", "idtoken"])
def test_the_toolkit_is_registered(client, model):
    assert client.get(f"/admin/oauth2_provider/{model}/").status_code == 200


@pytest.mark.parametrize(("path", "status"), [("abc", 302), ("%00", 400), ("9" * 30, 302)])
def test_an_event_that_is_not_there_is_no_error(client, path, status):
    assert client.get(f"{LIST}{path}/change/").status_code == status


def test_nobody_else_gets_in(client, stored):
    client.force_login(User.objects.create_user("eve"))

    response = client.get(LIST)

    assert (response.status_code, response["Location"]) == (302, f"/admin/login/?next={LIST}")
