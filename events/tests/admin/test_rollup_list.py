"""The admin's page of the rollups."""

import re

import pytest
from django.contrib.auth.models import Permission, User

from events.admin.rollups import RollupPaginator
from events.models import Watermark
from events.worker import roll_up

LIST = "/admin/events/event/rollups/"


@pytest.fixture
def client(client, db):
    client.force_login(User.objects.create_superuser("admin"))
    return client


@pytest.fixture
def stored(make_event):
    make_event("a", "x", "2020-11-12T11:10:01", value=1)
    make_event("a", "x", "2020-11-12T11:10:02", value=2)
    make_event("a", "x", "2020-11-12T11:12:00", value=-3)
    make_event("a", "y", "2020-11-12T12:00:00.5", value=4)
    make_event("b", "<x>", "2020-11-12T11:10:00", value=5)
    roll_up.take_step()
    make_event("b", "<x>", "2020-11-12T11:11:00", value=6)


def rows(response):
    assert response.status_code == 200
    return [f"{row[0]}/{row[1]} {row[2][11:16]} {row[5]} {row[6]:g}" for row in response.context["rows"]]


SERIES = ["a/x 00:00 3 0", "a/y 00:00 1 4", "b/<x> 00:00 1 5"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", SERIES),
        ("resolution=0", SERIES),
        ("resolution=3600", ["a/x 11:00 3 0", "a/y 12:00 1 4", "b/<x> 11:00 1 5"]),
        ("resolution=60", ["a/x 11:10 2 3", "a/x 11:12 1 -3", "a/y 12:00 1 4", "b/<x> 11:10 1 5"]),
        ("resolution=60&namespace=a", ["a/x 11:10 2 3", "a/x 11:12 1 -3", "a/y 12:00 1 4"]),
        ("resolution=60&namespace=a&name=y", ["a/y 12:00 1 4"]),
        ("namespace=A", []),
        ("name=x", []),
        ("resolution=1", []),
        ("resolution=", []),
        ("p=2", SERIES),
        ("p=x", SERIES),
    ],
)
def test_it_lists_rollups_in_the_order_of_their_key(client, stored, query, expected):
    assert rows(client.get(f"{LIST}?{query}")) == expected


def test_it_shows_what_is_stored_and_how_far_it_goes(client, stored):
    text = re.sub(r"(<[^>]+>|\s)+", " ", client.get(f"{LIST}?resolution=60").text)

    assert "a x 2020-11-12T11:10:00Z 2020-11-12T11:10:01Z 2020-11-12T11:10:02Z 2 3.0 1.0 2.0" in text
    assert "b &lt;x&gt; 2020-11-12T11:10:00Z" in text
    assert f"up to id {Watermark.objects.current().event_id}, by minute,hour." in text
    assert "4 rollups" in text


@pytest.mark.parametrize(
    ("query", "error"), [("name=x", "Give the namespace too."), ("resolution=1", "Select a valid choice.")]
)
def test_it_says_what_it_could_not_read(client, stored, query, error):
    assert error in client.get(f"{LIST}?{query}").text


def test_its_pages_end_and_keep_the_query(client, make_event, monkeypatch):
    for minute in range(250):
        make_event("a", "x", f"2020-11-12T{minute // 60:02}:{minute % 60:02}:00", value=minute)
    roll_up.take_step(most_events=250)
    query = "resolution=60&namespace=a"

    assert [row[8] for row in client.get(f"{LIST}?{query}&p=3").context["rows"]] == list(range(200, 250))
    assert f'<a href="?{query.replace("&", "&amp;")}&amp;p=2">2</a>' in client.get(f"{LIST}?{query}").text

    monkeypatch.setattr(RollupPaginator, "most_rows", 150)

    response = client.get(f"{LIST}?{query}&p=9")
    assert [row[8] for row in response.context["rows"]] == list(range(100, 150))
    assert "The pages hold the first 150; filter to see others." in response.text


def test_it_changes_nothing(client, stored):
    assert client.post(LIST, {"action": "delete_selected"}).status_code == 405


def test_the_list_of_events_leads_to_it(client, db):
    assert f'<a href="{LIST}">Rollups</a>' in client.get("/admin/events/event/").text


def test_it_takes_the_permission_to_view_rollups(client, stored):
    eve = User.objects.create_user("eve", is_staff=True)
    client.force_login(eve)
    assert client.get(LIST).status_code == 403

    eve.user_permissions.add(Permission.objects.get(codename="view_rollup"))

    assert rows(client.get(LIST)) == SERIES


def test_nobody_else_gets_in(client, db):
    client.logout()

    response = client.get(LIST)

    assert (response.status_code, response["Location"]) == (302, f"/admin/login/?next={LIST}")
