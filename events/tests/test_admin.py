"""The event list of the admin site."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User

from events.admin import BoundedPaginator, EventAdmin
from events.models import Event

LIST = "/admin/events/event/"


@pytest.fixture
def client(client, db):
    client.force_login(User.objects.create_superuser("admin"))
    return client


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


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ARRIVED_LAST_FIRST),
        ("namespace=Frontend", ["11 Frontend/signUp", "10 Frontend/pageView", "14 Frontend/pageView"]),
        ("namespace=Frontend&name=pageView", ["14 Frontend/pageView", "10 Frontend/pageView"]),
        ("namespace=frontend", []),
        ("name=pageView", ["12 Server-1/pageView", "10 Frontend/pageView", "14 Frontend/pageView"]),
        ("name=nothing", []),
        ("q=page", ["12 Server-1/pageView", "10 Frontend/pageView", "14 Frontend/pageView"]),
        ("q=FRONT", ["11 Frontend/signUp", "10 Frontend/pageView", "14 Frontend/pageView"]),
        ("q=100%25", ["13 Server-1/cpu 100%"]),
        ("q=nothing", []),
        ("q=+", ARRIVED_LAST_FIRST),
        ("start=2020-11-12T11:12&end=2020-11-12T11:13", ["12 Server-1/pageView"]),
        ("start=2020-11-12T11:13", ["13 Server-1/cpu 100%", "14 Frontend/pageView"]),
        ("end=2020-11-12T11:10", ["10 Frontend/pageView"]),
        ("start=yesterday", ARRIVED_LAST_FIRST),
        ("namespace=Frontend&start=2020-11-12T11:11", ["11 Frontend/signUp", "14 Frontend/pageView"]),
    ],
)
def test_it_lists_events_newest_first_and_filters_them(client, stored, query, expected):
    assert rows(client.get(f"{LIST}?{query}")) == expected


def test_it_shows_what_is_stored(client, stored):
    text = re.sub(r"<[^>]+>|\s+", " ", client.get(LIST).text)

    assert "2020-11-12T11:13:00.500000Z   Server-1   cpu 100%   97.25" in re.sub(r" {2,}", "   ", text)


def test_the_name_filter_lists_the_names_of_the_chosen_namespace(client, stored):
    def choices(query):
        filters = {spec.title: spec for spec in client.get(f"{LIST}?{query}").context["cl"].filter_specs}
        return {
            title: [value for value, _ in spec.lookup_choices] for title, spec in filters.items() if "date" not in title
        }

    assert choices("") == {"namespace": ["Frontend", "Server-1"], "name": ["pageView", "signUp", "cpu 100%"]}
    assert choices("namespace=Frontend") == {"namespace": ["Frontend", "Server-1"], "name": ["pageView", "signUp"]}


def test_the_date_range_keeps_the_other_filters(client, stored):
    page = client.get(f"{LIST}?namespace=Frontend&p=1&start=2020-11-12T11:11").text

    assert '<input type="hidden" name="namespace" value="Frontend">' in page
    assert 'name="p"' not in page
    assert 'value="2020-11-12T11:11"' in page


def test_it_says_which_date_it_could_not_read(client, stored):
    assert "Enter a valid date/time." in client.get(f"{LIST}?start=yesterday").text


def test_the_pages_end_and_say_so(client, make_event, monkeypatch):
    start = datetime(2020, 1, 1, tzinfo=UTC)
    Event.objects.bulk_create(
        Event(namespace="a", name="b", timestamp=start + timedelta(minutes=i), value=i) for i in range(250)
    )
    assert client.get(LIST).context["cl"].result_count == 250
    assert "The pages hold the newest" not in client.get(LIST).text

    monkeypatch.setattr(BoundedPaginator, "most_rows", 150)

    response = client.get(f"{LIST}?p=2")
    assert [event.value for event in response.context["cl"].result_list] == list(range(149, 99, -1))
    assert "The pages hold the newest 150; filter to see others." in response.text


def test_its_queries_read_no_more_than_a_page(client, stored, monkeypatch, django_assert_num_queries):
    """None of them counts, sorts or compares the whole table; the number grows with the namespaces shown."""
    monkeypatch.setattr(EventAdmin, "list_per_page", 2)
    with django_assert_num_queries(2 + 1 + 1 + 6 + 6) as captured:  # session, user; count; page; the filters
        client.get(LIST)

    statements = [query["sql"] for query in captured if '"events_event"' in query["sql"]]
    assert all("LIMIT" in statement and "DISTINCT" not in statement for statement in statements)


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
    assert client.get(f"{LIST}add/?timestamp=99999999999&value=x&namespace=a").status_code == 200


def test_an_action_takes_what_was_ticked_and_never_all_matches(client, stored):
    [first, *_] = Event.objects.values_list("pk", flat=True)

    response = client.post(
        LIST, {"action": "delete_selected", "select_across": "1", "_selected_action": [first], "post": "yes"}
    )

    assert response.status_code == 302
    assert Event.objects.count() == 4


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
