"""``/series/<namespace>/<name>``: renaming, merging and deleting a series, by users who may."""

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from events.log.series import SeriesKey
from events.models import Event, FormerName, Watermark
from events.worker import pacing
from events.worker.moving import Mover

PAGE = "/series/Shop/odrer"


@pytest.fixture(autouse=True)
def background(monkeypatch):
    """What is asked for in the background is noted, and not done."""
    asked = []
    monkeypatch.setattr(pacing, "catch_up_in_background", lambda: asked.append(1))
    return asked


@pytest.fixture
def post(make_event):
    """Posts a form of the page, as a user with permissions."""
    for minute in range(3):
        make_event("Shop", "odrer", f"2020-11-12T11:1{minute}:00")
    make_event("Shop", "taken")
    user = User.objects.create_user("ada")

    def post(what, permission="change_event", page=PAGE, **fields):
        user.user_permissions.set(Permission.objects.filter(codename__in=["view_event", permission]))
        client = Client(enforce_csrf_checks=True)
        client.force_login(User.objects.get())
        token = client.get(page).cookies["csrftoken"].value
        post.page = client.get
        return client.post(page, {"what": what, **fields}, headers={"X-CSRFToken": token})

    return post


def finish():
    for move in Watermark.objects.moves():
        list(Mover(move).steps(lambda: False))


@pytest.mark.one_partition
def test_a_series_is_renamed_and_what_comes_under_its_old_name_is_shown(post, make_event, background):
    response = post("rename", namespace="Shop", new_name="order")

    assert (response.status_code, response["Location"]) == (302, "/series/Shop/order")
    assert (
        "Shop/odrer is being renamed to Shop/order: every answer is as it will be."
        in post.page("/series/Shop/order").text
    )
    assert "<h2>Delete</h2>" not in post.page("/series/Shop/order").text
    assert background
    finish()
    page = post.page("/series/Shop/order").text
    assert "3 events, from 2020-11-12 11:10:00 to" in page
    assert "nothing came under it since." in page
    make_event("Shop", "odrer", "2020-11-12T12:00:00")
    assert '<a href="/series/Shop/odrer">1 event</a>' in post.page("/series/Shop/order").text
    old = post.page(PAGE).text
    assert '<a href="/series/Shop/order">Shop/order</a>' in old
    assert "What is here has come since then." in old


@pytest.mark.one_partition
def test_a_merge_and_a_deletion_need_the_typed_name(post):
    taken = {"namespace": "Shop", "new_name": "taken"}
    response = post("rename", **taken)
    assert (
        response.status_code,
        "There is a series Shop/taken already, of 1 events: merge into it." in response.text,
    ) == (400, True)
    response = post("rename", merge="on", confirmation="Shop/taken", **taken)
    assert (response.status_code, "Type Shop/odrer to merge it" in response.text) == (400, True)
    response = post("delete", "delete_event", typed_name="odrer")
    assert (response.status_code, "Type Shop/odrer to delete it" in response.text) == (400, True)
    assert "Delete 3 events" in response.text
    assert (Watermark.objects.moves(), FormerName.objects.count()) == ([], 0)

    response = post("rename", merge="on", confirmation="Shop/odrer", **taken)

    assert (response.status_code, response["Location"]) == (302, "/series/Shop/taken")
    finish()
    assert "4 events, from" in post.page("/series/Shop/taken").text


@pytest.mark.one_partition
def test_a_series_is_deleted(post):
    response = post("delete", "delete_event", typed_name="Shop/odrer")

    assert (response.status_code, response["Location"]) == (302, PAGE)
    page = post.page(PAGE).text
    assert "It has no events." in page
    assert "has been deleted" in page
    finish()
    assert Event.objects.filter(name="odrer").count() == 0
    assert FormerName.objects.values_list("namespace", "name", "to_name").get() == (*SeriesKey("Shop", "odrer"), "")


@pytest.mark.one_partition
def test_a_name_with_line_breaks_is_typed_without_them_and_keeps_its_own(post, make_event):
    make_event("Sh\nop", "od\r\nrer")
    page = "/series/Sh%0Aop/od%0D%0Arer"
    response = post("rename", page=page, namespace="Shop", new_name="order")
    assert (response.status_code, response["Location"]) == (302, "/series/Sh%0Aop/order")
    finish()

    response = post("delete", "delete_event", page="/series/Sh%0Aop/order", typed_name="Shop/order")

    assert response.status_code == 302
    finish()
    assert set(Event.objects.values_list("namespace", "name")) == {("Shop", "odrer"), ("Shop", "taken")}


@pytest.mark.one_partition
@pytest.mark.parametrize(("what", "permission"), [("rename", "delete_event"), ("delete", "change_event")])
def test_who_may_not_does_not_see_the_form_and_changes_nothing(post, what, permission):
    response = post(what, permission, namespace="Shop", new_name="order", typed_name="Shop/odrer")

    assert response.status_code == 403
    assert f'name="what" value="{what}"' not in post.page(PAGE).text
    assert Watermark.objects.moves() == []


@pytest.mark.one_partition
def test_without_the_token_of_its_form_nothing_is_moved(post):
    post("nothing")
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get())
    assert client.post(PAGE, {"what": "delete", "typed_name": "Shop/odrer"}).status_code == 403
    assert Watermark.objects.moves() == []
