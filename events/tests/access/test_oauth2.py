"""From the log-in page to a token: the pages under ``/o/`` and ``/accounts/``."""

import base64

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from oauth2_provider.models import AccessToken, Application
from rest_framework.test import APIClient

from events.access.models import Grant
from events.access.oauth2.client_pages import ClientForm
from events.tests.support.clients import fetch_token
from events.tests.support.forms import stored_meanwhile

REGISTER = "/o/applications/register/"
FORM = {"name": "Shop", "scopes": ["write", "read", "aggregation"], "namespaces": "*"}
SHOP = {"client_id": "shop", "client_secret": "shop-secret"}


@pytest.fixture
def user(db):
    """Someone who may register clients."""
    user = User.objects.create_user("ada", password="lovelace")
    user.user_permissions.add(Permission.objects.get(codename="add_application"))
    return user


def test_registering_leads_to_the_log_in_page_and_back(client, user):
    response = client.get(REGISTER, follow=True)
    assert response.redirect_chain == [(f"/accounts/login/?next={REGISTER}", 302)]
    assert "Log in to the Tracking API" in response.text

    response = client.post(
        response.redirect_chain[-1][0], {"username": "ada", "password": "lovelace", "next": REGISTER}, follow=True
    )

    assert response.redirect_chain == [(REGISTER, 302)]
    assert "Register a client" in response.text


def test_a_wrong_password_stays_on_the_log_in_page(client, user):
    response = client.post("/accounts/login/", {"username": "ada", "password": "byron"})

    assert response.status_code == 200
    assert "Please enter a correct username and password." in response.text


def test_logging_in_never_leads_to_another_host(client, user):
    response = client.post(
        "/accounts/login/", {"username": "ada", "password": "lovelace", "next": "https://evil.example/"}
    )

    assert (response.status_code, response["Location"]) == (302, "/")


def test_logging_out_leads_to_the_log_in_page(client, user):
    client.force_login(user)

    response = client.post("/accounts/logout/")

    assert (response.status_code, response["Location"]) == (302, "/accounts/login/")
    assert client.get(REGISTER).status_code == 302


def register(client, **form):
    """Register a client by the page; give the client, and its secret as the answer shows it."""
    response = client.post(REGISTER, {**FORM, **form})
    assert response.status_code == 200, response.context["form"].errors
    application = Application.objects.get(client_id=response.context["client"].client_id)
    secret = response.context["secret"]
    assert application.client_id in response.text
    assert secret in response.text
    assert "no-store" in response["Cache-Control"]
    return application, secret


def test_a_registered_client_gets_a_token_that_opens_both_endpoints(client, user):
    client.force_login(user)
    application, secret = register(client)
    assert (application.user, application.client_type) == (user, "confidential")
    assert client.get(f"/o/applications/{application.pk}/").text.count(secret) == 0

    response = fetch_token(client_id=application.client_id, client_secret=secret, scope="read write aggregation")
    answer = response.json()
    token = answer.pop("access_token")
    assert answer == {"expires_in": 36000, "token_type": "Bearer", "scope": "read write aggregation"}

    api = APIClient(headers={"Authorization": f"Bearer {token}"})
    event = {"namespace": "Frontend", "name": "pageView", "timestamp": "2020-11-12T11:10:00Z", "value": 142}
    assert api.post("/api/track/", event).status_code == 201
    answer = api.get("/api/events/Frontend/pageView").json()
    assert answer == [{"aggregatedTimestamp": "2020-11-12T11:10:00Z", "value": 142.0}]


def test_a_token_asked_for_without_scope_may_read_and_write_but_not_aggregate(application):
    answer = fetch_token(client_id="shop", client_secret="shop-secret").json()

    assert answer["scope"] == "read write"
    api = APIClient(headers={"Authorization": f"Bearer {answer['access_token']}"})
    assert api.get("/api/events/").status_code == 200
    assert api.get("/api/events/a/b").status_code == 403


def test_the_client_may_name_itself_in_the_authorization_header(application):
    credentials = base64.b64encode(b"shop:shop-secret").decode()

    response = Client().post(
        "/o/token/", {"grant_type": "client_credentials"}, headers={"Authorization": f"Basic {credentials}"}
    )

    assert response.status_code == 200
    assert AccessToken.objects.get().user is None


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({"client_id": "shop", "client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "nobody", "client_secret": "shop-secret"}, 401, "invalid_client"),
        ({}, 401, "invalid_client"),
        ({"client_id": "shop"}, 401, "invalid_client"),
        ({"client_id": "shop", "client_secret": ""}, 401, "invalid_client"),
        ({"client_id": "shop", "client_secret": "shop-secret", "scope": "read everything"}, 400, "invalid_scope"),
        (
            {"client_id": "shop", "client_secret": "shop-secret", "grant_type": "password"},
            400,
            "unsupported_grant_type",
        ),
        ({"client_id": "shop", "client_secret": "shop-secret", "grant_type": "x"}, 400, "unsupported_grant_type"),
        ({**SHOP, "grant_type": "urn:ietf:params:oauth:grant-type:device_code"}, 400, "unsupported_grant_type"),
        ({**SHOP, "grant_type": "authorization_code", "code": "x"}, 400, "unsupported_grant_type"),
        ({**SHOP, "grant_type": ""}, 400, "invalid_request"),
        ({"client_id": "x" * 10_000, "client_secret": "x" * 10_000}, 401, "invalid_client"),
    ],
)
def test_it_refuses_a_token(application, fields, status, error):
    response = fetch_token(**fields)

    assert (response.status_code, response.json()["error"]) == (status, error)
    assert not AccessToken.objects.exists()


@pytest.mark.parametrize("field", ["client_id", "client_secret", "scope", "resource", "grant_type", "other"])
def test_a_null_character_is_refused(application, field):
    response = fetch_token(**{**SHOP, field: "a\0b"})

    assert (response.status_code, response.json()) == (
        400,
        {"error": "invalid_request", "error_description": "Null characters are not allowed."},
    )


@pytest.mark.parametrize("path", ["authorize/", "device-authorization/", "device/", "register/", "userinfo/"])
def test_other_flows_are_not_there(client, path):
    assert client.get(f"/o/{path}").status_code == client.post(f"/o/{path}").status_code == 404


@pytest.mark.parametrize("path", ["abc", "0", "99999999999999999999", "-"])
def test_an_application_that_is_not_there_is_not_found(client, user, path):
    client.force_login(user)

    assert client.get(f"/o/applications/{path}/").status_code == 404


CLIENT_PAGES = ["", "register/", "{}/", "{}/update/", "{}/delete/", "{}/secret/"]


@pytest.fixture
def own_client(application):
    """A client of somebody who lacks every permission."""
    application.user = User.objects.create_user("eve")
    application.save()
    return application


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("path", CLIENT_PAGES)
def test_registering_and_editing_clients_needs_a_permission(client, own_client, method, path):
    path = f"/o/applications/{path.format(own_client.pk)}"
    client.force_login(own_client.user)
    User.objects.create_superuser("admin")
    User.objects.create_superuser("gone", is_active=False)

    response = getattr(client, method)(path, FORM)

    assert response.status_code == 403
    assert "You may not register clients" in response.text
    assert "Ask an administrator (admin) to give it to eve" in " ".join(response.text.split())
    assert [*Application.objects.values_list("client_id", "name")] == [("shop", "Shop")]


@pytest.mark.parametrize("path", CLIENT_PAGES)
def test_the_pages_of_clients_lead_the_stranger_to_the_log_in(client, own_client, path):
    path = f"/o/applications/{path.format(own_client.pk)}"

    response = client.post(path)

    assert (response.status_code, response["Location"]) == (302, f"/accounts/login/?next={path}")


def test_who_has_the_permission_edits_and_deletes_a_client_of_their_own(client, user, application):
    application.user = user
    application.save()
    client.force_login(user)
    page = f"/o/applications/{application.pk}/"
    assert [client.get(path).status_code for path in ("/o/applications/", page, f"{page}update/")] == [200] * 3

    fields = {"name": "Till", "write_namespaces": "Shop\nTill-*", "read_namespaces": "*", "aggregation_namespaces": ""}
    response = client.post(f"{page}update/", fields)
    assert (response.status_code, response["Location"]) == (302, page)
    application.refresh_from_db()
    assert application.name == "Till"
    assert fetch_token(**SHOP).json()["scope"] == "read write"
    assert fetch_token(**SHOP, scope="aggregation").status_code == 400
    assert "<strong>write</strong>: Shop, Till-*" in client.get(page).text

    assert client.post(f"{page}delete/").status_code == 302
    assert not Application.objects.exists()


def test_of_two_first_grants_that_are_stored_at_once_the_last_counts(client, user, application, monkeypatch):
    application.user = user
    application.save()
    client.force_login(user)
    stored_meanwhile(monkeypatch, ClientForm, Grant(application=application, write_namespaces="Other"))

    response = client.post(f"/o/applications/{application.pk}/update/", {"name": "Till", "write_namespaces": "Shop"})

    assert (response.status_code, response["Location"]) == (302, f"/o/applications/{application.pk}/")
    assert Grant.objects.values_list("application__name", "write_namespaces").get() == ("Till", "Shop")


@pytest.mark.parametrize(
    ("form", "errors"),
    [
        ({"name": ""}, {"name": ["This field is required."]}),
        ({"name": "x" * 256}, {"name": ["Ensure this value has at most 255 characters (it has 256)."]}),
        ({"scopes": []}, {"scopes": ["Choose at least one thing that it may do."]}),
        ({"scopes": ["x"]}, {"scopes": ["Select a valid choice. x is not one of the available choices."]}),
        ({"namespaces": ""}, {"namespaces": ["This field is required."]}),
        ({"namespaces": " \r\n"}, {"namespaces": ["This field is required."]}),
        ({"namespaces": "a*b"}, {"namespaces": ["“a*b”: “*” may only end a pattern."]}),
        ({"namespaces": "a/b"}, {"namespaces": ["“a/b”: no namespace contains “/” nor is “.” or “..”."]}),
    ],
)
def test_what_is_wrong_with_a_new_client_is_said_and_nothing_is_stored(client, user, form, errors):
    client.force_login(user)

    response = client.post(REGISTER, {**FORM, **form})

    assert (response.status_code, response.context["form"].errors) == (400, errors)
    assert not Application.objects.exists()


def test_a_new_client_may_do_what_was_ticked_where_it_was_said(client, user):
    client.force_login(user)

    application, secret = register(client, scopes=["write"], namespaces="Shop\nTill-*")

    of_client = {"client_id": application.client_id, "client_secret": secret}
    token = fetch_token(**of_client).json()
    assert token["scope"] == "write"
    assert fetch_token(**of_client, scope="read").status_code == 400
    api = APIClient(headers={"Authorization": f"Bearer {token['access_token']}"})
    event = {"name": "order", "timestamp": "2020-11-12T11:10:00Z", "value": 142}
    found = [api.post("/api/track/", {**event, "namespace": each}).status_code for each in ("Shop", "Till-1", "Other")]
    assert found == [201, 201, 403]


def test_another_secret_is_shown_once_and_the_old_one_is_good_no_more(client, user, application):
    application.user = user
    application.save()
    client.force_login(user)

    response = client.post(f"/o/applications/{application.pk}/secret/")

    secret = response.context["secret"]
    assert (response.status_code, secret in response.text) == (200, True)
    assert "no-store" in response["Cache-Control"]
    assert fetch_token(**SHOP).status_code == 401
    assert fetch_token(client_id="shop", client_secret=secret).status_code == 200
    assert client.get(f"/o/applications/{application.pk}/secret/").status_code == 405


@pytest.mark.parametrize("page", ["register/", "{}/update/", "{}/delete/", "{}/secret/"])
def test_without_the_token_of_its_form_nothing_is_changed(user, application, page):
    application.user = user
    application.save()
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)

    assert client.post(f"/o/applications/{page.format(application.pk)}", FORM).status_code == 403
    assert fetch_token(**SHOP).status_code == 200
    assert Application.objects.count() == 1


def test_nobody_edits_the_client_of_somebody_else(client, user, own_client):
    client.force_login(user)

    for page in ("", "update/", "delete/"):
        assert client.get(f"/o/applications/{own_client.pk}/{page}").status_code == 404
    for page in ("update/", "delete/", "secret/"):
        assert client.post(f"/o/applications/{own_client.pk}/{page}", FORM).status_code == 404
    assert fetch_token(**SHOP).status_code == 200


def test_a_page_that_is_not_there_is_a_page_and_an_endpoint_that_is_not_there_is_json(client):
    assert client.get("/nowhere/")["Content-Type"] == "text/html; charset=utf-8"
    response = client.get("/api/nowhere/")
    assert (response.status_code, response.json()) == (404, {"detail": "Not found."})
