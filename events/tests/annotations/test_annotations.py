"""``/api/annotations/``: what happened in a namespace is added, listed, changed and deleted."""

from threading import Thread
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from events.annotations.serializers import AnnotationSerializer
from events.models import Annotation, Grant, IdempotencyKey
from events.tests.support.clients import client_with
from events.tests.support.errors import NO_TIMESTAMP

client = client_with("write read")

PATH = "/api/annotations/"
RELEASE = {"namespace": "Shop", "timestamp": "2020-11-12T11:10:00Z", "title": "Release 4.2"}
STORED = {**RELEASE, "end": None, "text": "", "tags": []}


def add(client, **fields):
    response = client.post(PATH, {**RELEASE, **fields}, format="json")
    assert response.status_code == 201, response.content
    return response.json()


def titles(client, **query):
    response = client.get(PATH, query)
    assert response.status_code == 200, response.content
    return sorted(each["title"] for each in response.json())


def test_it_is_stored_and_answered_as_it_is_stored(client):
    sent = {
        "namespace": "Shop", "timestamp": 1605179400.25, "end": "2020-11-12T12:10:01+01:00", "title": "Müll 🗑",
        "text": " two\nlines ", "tags": ["b", "a, c", "b"],
    }  # fmt: skip

    first, second = client.post(PATH, RELEASE, format="json"), client.post(PATH.rstrip("/"), sent, format="json")

    assert (first.status_code, second.status_code) == (201, 201)
    one, other = first.json(), second.json()
    assert one == {"id": one["id"], **STORED}
    assert other == {
        "id": other["id"], "namespace": "Shop", "timestamp": "2020-11-12T11:10:00.250000Z", "end": "2020-11-12T11:10:01Z",
        "title": "Müll 🗑", "text": " two\nlines ", "tags": ["b", "a, c"],
    }  # fmt: skip
    assert client.get(f"{PATH}{one['id']}").json() == one
    assert client.get(PATH).json() == [one, other]
    assert {UUID(one["id"]), UUID(other["id"])} == set(Annotation.objects.values_list("key", flat=True))


LINE = ["Must be one line, without control characters."]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"namespace": "a/b"}, {"namespace": ["This field may not contain “/” nor be “.” or “..”."]}),
        ({"namespace": 1}, {"namespace": ["Not a valid string."]}),
        ({"timestamp": "soon"}, {"timestamp": [NO_TIMESTAMP]}),
        ({"timestamp": None}, {"timestamp": ["This field may not be null."]}),
        ({"end": "2020-11-12T11:09:59Z"}, {"end": ["Must not be earlier than timestamp."]}),
        ({"title": " "}, {"title": ["This field may not be blank."]}),
        ({"title": "a\nb"}, {"title": LINE}),
        ({"title": "a" * 201}, {"title": ["Ensure this field has no more than 200 characters."]}),
        ({"text": "\0"}, {"text": ["Null characters are not allowed."]}),
        ({"text": "a" * 4001}, {"text": ["Ensure this field has no more than 4000 characters."]}),
        ({"tags": "deploy"}, {"tags": ['Expected a list of items but got type "str".']}),
        ({"tags": ["a", "a\nb"]}, {"tags": {"1": LINE}}),
        ({"tags": ["a"] * 21}, {"tags": ["Ensure this field has no more than 20 elements."]}),
        ({"color": "red"}, {"color": ["Unknown field. Accepted: namespace, timestamp, end, title, text, tags."]}),
    ],
)  # fmt: skip
def test_each_wrong_field_is_named(client, fields, said):
    added = client.post(PATH, {**RELEASE, **fields}, format="json")
    changed = client.patch(f"{PATH}{add(client)['id']}", fields, format="json")

    assert (added.status_code, added.json()) == (400, said)
    assert (changed.status_code, changed.json()) == (400, said)
    assert Annotation.objects.count() == 1


def test_what_lacks_or_is_no_object_is_refused(client):
    lacking = client.post(PATH, {}, format="json")
    number = client.post(PATH, b"1", content_type="application/json")
    form = client.post(PATH, "title=a", content_type="application/x-www-form-urlencoded")

    required = ["This field is required."]
    assert (lacking.status_code, lacking.json()) == (400, dict.fromkeys(["namespace", "timestamp", "title"], required))
    assert number.json() == {"non_field_errors": ["Invalid data. Expected a dictionary, but got int."]}
    assert form.status_code == 415


def test_a_window_has_all_of_which_a_part_lies_in_it(client, partition_count):
    add(client, title="before", timestamp="2020-11-01T00:00:00Z")
    add(client, title="until", timestamp="2020-11-01T00:00:00Z", end="2020-11-10T00:00:00Z")
    add(client, title="in", timestamp="2020-11-11")
    add(client, title="over", timestamp="2020-11-12", end="2020-12-01")
    add(client, title="after", timestamp="2020-11-13T00:00:00.000001Z")

    assert titles(client, tsMin="2020-11-10", tsMax="2020-11-12") == ["in", "over", "until"]
    assert titles(client, tsMin="2020-11-10T00:00:00.000001Z", tsMax="2020-11-11T00:00:00Z") == ["in"]
    assert titles(client, tsMax="2020-11-01T00:00:00Z") == ["before", "until"]
    assert titles(client, tsMin="2020-11-30") == ["over"]
    assert len(titles(client)) == 5


def test_namespaces_and_tags_choose(client):
    add(client, title="1", tags=["deploy", "web"])
    add(client, title="2", tags=["Deploy"], namespace="Blog")
    add(client, title="3", tags=["deployment"], namespace="Blog")
    add(client, title="4", tags=["web", "deploy"], namespace="shop")

    assert titles(client, tag="deploy") == ["1", "4"]
    assert titles(client, tag=["deploy", "web"], namespace=["Shop", "Blog"]) == ["1"]
    assert titles(client, namespace="Blog") == titles(client, namespace=["Blog", ""], tag="") == ["2", "3"]
    assert titles(client, tag="%") == []


def test_pages_follow_each_other_whatever_is_deleted_meanwhile(client):
    for number in range(5):
        add(client, title=str(number), timestamp=1605179400 + number // 2)
    expected = [each["title"] for each in client.get(PATH).json()]

    found, path = [], f"{PATH}?limit=2&namespace=Shop"
    while path:
        response = client.get(path)
        found += [each["title"] for each in response.json()]
        path = response.get("Link", "").partition(">")[0].removeprefix("<http://testserver")
        Annotation.objects.filter(title=found[-1]).delete()

    assert found == expected
    assert sorted(found) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("tsMin=2020-11-13&tsMax=2020-11-12", {"tsMin": ["Must not be later than tsMax."]}),
        ("tsMin=soon", {"tsMin": [NO_TIMESTAMP]}),
        ("namespace=.", {"namespace": {"0": ["This field may not contain “/” nor be “.” or “..”."]}}),
        ("tag=a&tag=a%0Ab", {"tag": {"1": LINE}}),
        ("limit=0", {"limit": ["Must be a whole number from 1 to 1000."]}),
        ("limit=1&limit=2", {"limit": ["This field may be given only once."]}),
        ("after=x", {"after": ["Must be the timestamp and the id of an annotation, with a slash between."]}),
        ("page=1", {"page": ["Unknown field. Accepted: tsMin, tsMax, namespace, tag, limit, after."]}),
    ],
)  # fmt: skip
def test_each_wrong_parameter_is_named(client, query, said):
    response = client.get(f"{PATH}?{query}")

    assert (response.status_code, response.json()) == (400, said)


def test_it_is_changed_and_deleted(client):
    stored = add(client, tags=["deploy"], end="2020-11-12T12:00:00Z")
    path = f"{PATH}{stored['id']}"

    changed = client.patch(path, {"title": "Release 4.3", "end": None, "namespace": "Blog"}, format="json")
    same = client.patch(f"{path}/", {}, format="json")
    early = client.patch(path, {"end": "2020-11-12T11:00:00Z"}, format="json")
    deleted = client.delete(path)

    expected = {**stored, "title": "Release 4.3", "end": None, "namespace": "Blog"}
    assert [(changed.status_code, changed.json()), (same.status_code, same.json())] == [(200, expected)] * 2
    assert (early.status_code, early.json()) == (400, {"end": ["Must not be earlier than timestamp."]})
    assert (deleted.status_code, deleted.content) == (204, b"")
    for response in (client.get(path), client.patch(path, {}, format="json"), client.delete(path)):
        assert (response.status_code, response.json()) == (404, {"detail": "Not found."})
    assert client.get(f"{PATH}{uuid4()}").status_code == client.get(f"{PATH}abc").status_code == 404


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("other", ["PATCH", "DELETE"])
def test_two_who_change_it_at_once_wait_for_each_other(client, monkeypatch, other):
    stored = add(client)
    path = f"{PATH}{stored['id']}"
    real, threads, answers = AnnotationSerializer.is_valid, [], []

    def meanwhile():
        twin = APIClient(headers={"Authorization": "Bearer token-of-the-shop"})
        answers.append(twin.generic(other, path, '{"text": "theirs"}', "application/json"))
        connection.close()

    def is_valid(self, **options):
        if not threads:
            threads.append(thread := Thread(target=meanwhile))
            thread.start()
            thread.join(0.2)  # as long as it takes, if it waits for nobody
        return real(self, **options)

    monkeypatch.setattr(AnnotationSerializer, "is_valid", is_valid)
    of_mine = client.patch(path, {"title": "mine"}, format="json")
    threads[0].join()

    mine = {**stored, "title": "mine"}
    [of_other] = answers
    assert (of_mine.status_code, of_mine.json()) == (200, mine)
    if other == "DELETE":
        assert (of_other.status_code, client.get(path).status_code) == (204, 404)
    else:
        assert of_other.status_code == 200
        assert of_other.json() == client.get(path).json() == {**mine, "text": "theirs"}


def test_a_key_stores_it_once(client):
    headers = {"Idempotency-Key": "release-4.2"}
    first, again = (client.post(PATH, RELEASE, format="json", headers=headers) for _ in range(2))
    other = client.post(PATH, {**RELEASE, "title": "Release 4.3"}, format="json", headers=headers)
    event = client.post("/api/track/", {**RELEASE_EVENT}, format="json", headers=headers)
    bad = client.post(PATH, RELEASE, format="json", headers={"Idempotency-Key": ""})

    assert (first.status_code, first.json()) == (again.status_code, again.json())
    reused = (422, {"detail": "This Idempotency-Key was used for another body."})
    assert [(each.status_code, each.json()) for each in (other, event)] == [reused] * 2
    assert (bad.status_code, bad.json()) == (400, {"Idempotency-Key": ["Must have 1 to 100 characters."]})
    assert [str(each.key) for each in Annotation.objects.all()] == [first.json()["id"]]
    client.delete(f"{PATH}{first.json()['id']}")
    assert client.post(PATH, RELEASE, format="json", headers=headers).json() == first.json()
    assert not Annotation.objects.exists()
    IdempotencyKey.objects.all().delete()  # as the worker does after a while
    assert client.post(PATH, RELEASE, format="json", headers=headers).json()["id"] != first.json()["id"]


RELEASE_EVENT = {"namespace": "Shop", "name": "order", "timestamp": 1, "value": 1}


@pytest.mark.parametrize(
    ("method", "scope", "scopes"),
    [("get", "read", "write aggregation"), *((each, "write", "read") for each in ("post", "patch", "delete"))],
)
def test_scopes_are_needed(client_with_scopes, method, scope, scopes):
    path = f"{PATH}{uuid4()}" if method in {"patch", "delete"} else PATH

    response = getattr(client_with_scopes(scopes), method)(path)
    nobody = getattr(APIClient(), method)(path)

    assert (response.status_code, response.json()) == (403, {"detail": f"The access token lacks the scope {scope}."})
    assert nobody.status_code == 401


def test_grants_hold(client, application):
    shop, blog = add(client), add(client, namespace="Blog", title="Post")
    shop_2 = add(client, namespace="Shop-2", title="Second")
    Grant.objects.create(application=application, write_namespaces="Shop", read_namespaces="Shop*\nAudit")

    def refused(scope, namespace):
        return 403, {"namespace": [f"The client is not granted the scope {scope} in “{namespace}”."]}

    def said(response):
        return response.status_code, response.json()

    assert titles(client) == ["Release 4.2", "Second"]
    assert said(client.get(PATH, {"namespace": ["Shop", "Blog"]})) == refused("read", "Blog")
    assert said(client.post(PATH, {**RELEASE, "namespace": "Blog"}, format="json")) == refused("write", "Blog")
    assert said(client.patch(f"{PATH}{shop['id']}", {"namespace": "Blog"}, format="json")) == refused("write", "Blog")
    # it is seen but not to be written; what isn't seen is not there
    assert said(client.delete(f"{PATH}{shop_2['id']}")) == refused("write", "Shop-2")
    assert client.delete(f"{PATH}{blog['id']}").status_code == client.get(f"{PATH}{blog['id']}").status_code == 404
    assert client.patch(f"{PATH}{shop['id']}", {"text": "x"}, format="json").json() == {**shop, "text": "x"}
    assert Annotation.objects.count() == 3


def test_prefixes_of_a_grant_are_compared_letter_by_letter(client, application):
    for namespace in ("Shop-a", "shop-b", "Shop_c", "Shop%d"):
        add(client, namespace=namespace, title=namespace)
    Grant.objects.create(application=application, read_namespaces="Shop-*\nShop%*\nshop")

    assert sorted(titles(client)) == ["Shop%d", "Shop-a"]


def test_a_user_needs_the_permission_of_each_method(db):
    user = User.objects.create(username="ann")
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user)
    browser.get("/")
    token = browser.cookies["csrftoken"].value

    def call(method, path=PATH, body=None):
        response = getattr(browser, method)(path, body, content_type="application/json", headers={"X-CSRFToken": token})
        return response.status_code, response.json() if response.content else None

    def permit(codename):
        user.user_permissions.add(Permission.objects.get(codename=codename))

    assert call("get") == (403, {"detail": "You lack the permission to view events."})
    permit("view_event")
    assert call("get") == (200, [])
    assert call("post", body=RELEASE) == (403, {"detail": "You lack the permission to add annotations."})
    permit("add_annotation")
    status, stored = call("post", body=RELEASE)
    assert (status, stored) == (201, {"id": stored["id"], **STORED})
    path = f"{PATH}{stored['id']}"
    assert call("patch", path, {}) == (403, {"detail": "You lack the permission to change annotations."})
    permit("change_annotation")
    assert call("patch", path, {"text": "x"}) == (200, {**stored, "text": "x"})
    assert call("delete", path) == (403, {"detail": "You lack the permission to delete annotations."})
    permit("delete_annotation")
    without = browser.delete(path)
    assert (without.status_code, without.json()) == (403, {"detail": "CSRF Failed: CSRF token missing."})
    assert call("delete", path) == (204, None)


def test_the_methods_are_those_there_are(client):
    path = f"{PATH}{add(client)['id']}"

    assert client.put(path)["Allow"] == "GET, PATCH, DELETE, HEAD, OPTIONS"
    assert client.delete(PATH)["Allow"] == "GET, POST, HEAD, OPTIONS"
    assert client.head(path).status_code == 200


def test_a_list_is_one_query(client, django_assert_num_queries):
    add(client, tags=["a"])
    add(client, tags=["a"], title="Second")

    with django_assert_num_queries(1):
        assert len(titles(client, namespace="Shop", tag="a", tsMin="2020-11-01")) == 2


def test_an_end_before_its_beginning_is_refused_by_the_database_too(db):
    from django.db import IntegrityError, transaction

    with pytest.raises(IntegrityError), transaction.atomic():
        Annotation.objects.create(
            namespace="a", timestamp="2020-11-12T00:00:00Z", end="2020-11-11T00:00:00Z", title="a"
        )
    assert connection.is_usable()
