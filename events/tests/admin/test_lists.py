"""What any page of the admin may be asked for, and how anything else is refused."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from oauth2_provider.models import Application

from events.admin.lists import MOST_SEARCH_CHARACTERS
from events.models import Alert, AlertTarget, Delivery, LongLivedToken

LISTS = [f"/admin/{model._meta.app_label}/{model._meta.model_name}/" for model in admin.site._registry]
OTHERS = [path for path in LISTS if path != "/admin/events/event/"]
ALERTS, DELIVERIES = "/admin/events/alert/", "/admin/events/delivery/"
USERS, GROUPS, TOKENS = "/admin/auth/user/", "/admin/auth/group/", "/admin/oauth2_provider/accesstoken/"
ALERT = {
    "severity": "critical", "namespace": "a", "series_name": "b", "kind": "threshold", "aggregation_type": "avg",
    "window_minutes": 5, "comparison": "above", "threshold": 90, "compare_minutes": 10_080, "for_minutes": 10,
    "resolve_minutes": 5, "delay_minutes": 1, "quiet_zone": "UTC",
}  # fmt: skip
NO_KEYS = ["x", "9" * 20, "9" * 5_000]
no_keys = pytest.mark.parametrize("key", NO_KEYS, ids=["a text", "beyond 64 bits", "beyond Python's digits"])


@pytest.fixture
def alerts(db):
    for name in ("first", "second"):
        Alert.objects.create(name=name, namespace="Shop", series_name="order", threshold=1, severity=name)


@pytest.fixture
def choices(db):
    """Two of each that a filter offers, which it doesn't where there is one."""
    for name in ("first", "second"):
        AlertTarget.objects.create(name=name)
        Group.objects.create(name=name)
        Application.objects.create(name=name)


def shown(response):
    assert response.status_code == 200
    return sorted(str(row) for row in response.context["cl"].result_list)


@pytest.mark.parametrize(
    "query", ["pk__range=", "pk__in=99999999999999999999", "pk__exact=1", "id__regex=(", "pk__gte=99999999999999999999"]
)
@pytest.mark.parametrize("path", LISTS)
def test_a_lookup_that_no_filter_offers_is_refused(client, path, query):
    response = client.get(f"{path}?{query}")

    assert (response.status_code, "Bad request" in response.text) == (400, True)


@pytest.mark.parametrize(
    "query",
    [
        "created_at__year=9999&created_at__month=12&created_at__day=31",
        f"created_at__year={'9' * 25}",
        "created_at__gte=0001-01-01T00:00%2B14:00",
    ],
)
def test_so_is_a_day_that_is_none(client, query):
    response = client.get(f"{DELIVERIES}?{query}")

    assert (response.status_code, "Bad request" in response.text) == (400, True)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (ALERTS, "is_enabled__exact=x"),
        (USERS, f"groups__id__exact={'9' * 25}"),
        (DELIVERIES, f"target__id__exact={'9' * 25}"),
        (DELIVERIES, "target__id__exact=x"),
        (DELIVERIES, f"target__id__exact=-{'9' * 25}"),
        (TOKENS, f"application__id__exact={'9' * 25}"),
    ],
)
def test_a_value_that_no_filter_offers_finds_nothing_or_is_left_out(client, choices, alerts, path, query):
    response = client.get(f"{path}?{query}")

    if response.status_code == 302:
        assert response["Location"] == f"{path}?e=1"
        response = client.get(response["Location"])
    else:
        assert shown(response) == []
    assert response.status_code == 200


@pytest.mark.parametrize("word", ["a ", "a"])
@pytest.mark.parametrize("path", OTHERS)
def test_a_search_has_a_length(client, path, word):
    longest = client.get(path, {"q": (word * MOST_SEARCH_CHARACTERS)[:MOST_SEARCH_CHARACTERS]})
    longer = client.get(path, {"q": word * 60_000})

    assert longest.status_code == 200
    assert (longer.status_code, longer.get("Location")) == (302, f"{path}?e=1")


@pytest.mark.parametrize(("term", "found"), [("a " * 60_000, []), ("econ", ["second"])])
def test_a_field_that_completes_what_is_typed_finds_nothing_for_what_is_too_long(client, choices, term, found):
    asked = {"app_label": "auth", "model_name": "user", "field_name": "groups", "term": term}

    answer = client.get("/admin/autocomplete/", asked)

    assert (answer.status_code, [each["text"] for each in answer.json()["results"]]) == (200, found)


def test_the_list_of_events_takes_any_search(client, db):
    assert client.get("/admin/events/event/", {"q": "a " * 60_000}).status_code == 200


def test_an_action_takes_nothing_where_the_search_is_too_long(client, alerts):
    ticked = list(Alert.objects.values_list("pk", flat=True))
    action = {"action": "delete_selected", "_selected_action": ticked, "select_across": "1", "post": "yes"}

    response = client.post(f"{ALERTS}?q={'a+' * 200}", action)

    assert (response.status_code, response["Location"]) == (302, f"{ALERTS}?e=1")
    assert Alert.objects.count() == 2


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["first", "second"]),
        ("q=sec", ["second"]),
        ("q=shop+first", ["first"]),
        ("is_enabled__exact=1", ["first", "second"]),
        ("is_enabled__exact=0", []),
    ],
)
def test_its_filters_and_a_search_narrow_a_list(client, alerts, query, expected):
    assert shown(client.get(f"{ALERTS}?{query}")) == expected


def test_users_are_found_and_filtered(client):
    User.objects.create(username="ann", is_staff=True)
    User.objects.create(username="bob")

    assert shown(client.get(f"{USERS}?is_staff__exact=1")) == ["admin", "ann"]
    assert shown(client.get(f"{USERS}?q=bo")) == ["bob"]
    assert client.get(f"{USERS}?password__startswith=a").status_code == 400


@pytest.mark.parametrize(
    ("path", "field"), [(ALERTS, "muted_until"), ("/admin/oauth2_provider/refreshtoken/", "revoked"), (ALERTS, "name")]
)
def test_a_form_takes_nothing_from_the_url(client, path, field):
    response = client.get(f"{path}add/?{field}=yesterday")

    assert (response.status_code, "yesterday" in response.text) == (200, False)


@no_keys
@pytest.mark.parametrize("path", LISTS)
def test_an_action_takes_no_row_for_what_is_no_key(client, path, key):
    response = client.post(path, {"action": "delete_selected", "index": 0, "_selected_action": [key], "post": "yes"})

    has_none = path == DELIVERIES
    assert (response.status_code, response.headers.get("Location")) == ((200, None) if has_none else (302, path))


def test_an_action_takes_the_other_rows(client, alerts):
    ticked = [Alert.objects.get(name="first").pk, *NO_KEYS]

    client.post(ALERTS, {"action": "delete_selected", "_selected_action": ticked, "post": "yes"})

    assert Alert.objects.get().name == "second"


@no_keys
@pytest.mark.parametrize("model", [Alert, Delivery, LongLivedToken])
def test_there_is_no_row_of_what_is_no_key(client, model, key):
    kind = ContentType.objects.get_for_model(model)

    response = client.get(f"/admin/r/{kind.pk}/{key}/")

    assert (response.status_code, "Not found" in response.text) == (404, True)


def test_a_row_that_has_a_page_leads_there(client, choices):
    row = Application.objects.get(name="first")

    response = client.get(f"/admin/r/{ContentType.objects.get_for_model(row).pk}/{row.pk}/")

    assert (response.status_code, response["Location"]) == (302, f"http://testserver/o/applications/{row.pk}/")


@no_keys
def test_a_form_says_of_what_is_no_key_that_it_is_none(client, choices, key):
    error = [f"“{key}” is not a valid value."]
    user = User.objects.get()
    for path, fields in (
        (f"{ALERTS}add/", ["targets"]), (f"{GROUPS}add/", ["permissions"]),
        (f"{USERS}{user.pk}/change/", ["groups", "user_permissions"]),
    ):  # fmt: skip
        form = client.post(path, dict.fromkeys(fields, key)).context["adminform"].form
        assert {name: form.errors[name] for name in fields} == dict.fromkeys(fields, error)


def test_a_form_stores_the_rows_of_keys(client, choices):
    chosen = [str(pk) for pk in Permission.objects.values_list("pk", flat=True)[:2]]

    assert client.post(f"{GROUPS}add/", {"name": "third", "permissions": chosen}).status_code == 302

    stored = Group.objects.get(name="third").permissions.all()
    assert {str(each.pk) for each in stored} == set(chosen)


@pytest.mark.parametrize(
    ("path", "fields", "error"),
    [
        (GROUPS, {}, "Group with this Name already exists."),
        (ALERTS, ALERT, "Alert with this Name already exists."),
    ],
)
def test_of_two_forms_that_are_sent_at_once_the_second_is_told_that_the_name_is_taken(
    client, choices, alerts, monkeypatch, path, fields, error
):
    validate, before_the_first_is_stored = Model.validate_unique, [True]

    def looked(row, exclude=None):
        if not before_the_first_is_stored:
            validate(row, exclude)
        before_the_first_is_stored.clear()

    monkeypatch.setattr(Model, "validate_unique", looked)

    response = client.post(f"{path}add/", {**fields, "name": "first"})

    assert (response.status_code, response.context["errors"]) == (200, [[error]])
