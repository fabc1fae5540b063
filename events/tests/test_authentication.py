"""Bearer tokens, whatever the endpoint."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from oauth2_provider.models import AccessToken
from rest_framework.test import APIClient

PATH = "/api/events/"
UNKNOWN = "The access token is unknown or has expired."
CHALLENGE = f'Bearer realm="api",error="invalid_token",error_description="{UNKNOWN}"'


def get(authorization):
    return APIClient().get(PATH, headers={"Authorization": authorization})


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER  "])
def test_it_lets_a_valid_token_in(make_token, scheme):
    assert get(f"{scheme} {make_token('read')}").status_code == 200


def test_a_client_credentials_token_has_no_user(client_with_scopes):
    response = client_with_scopes("read").get(PATH)

    assert response.status_code == 200
    assert response.wsgi_request.user.is_anonymous


@pytest.mark.parametrize("token", ["unknown", "x" * 10_000, "é", "\x00", "a.b-c_d~e+f/g="])
def test_it_refuses_an_unknown_token(make_token, token):
    make_token("read")

    response = get(f"Bearer {token}")

    assert (response.status_code, response.json()) == (401, {"detail": UNKNOWN})
    assert response["WWW-Authenticate"] == CHALLENGE


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer a b", "Basic c2hvcDpzaG9wLXNlY3JldA==", "Token x"])
def test_it_asks_for_a_token_where_there_is_none(make_token, header):
    response = get(header)

    assert (response.status_code, response.json()) == (401, {"detail": "Authentication credentials were not provided."})
    assert response["WWW-Authenticate"] == 'Bearer realm="api"'


def test_a_token_in_the_query_or_the_form_counts_for_nothing(make_token):
    token = make_token("read write")

    assert APIClient().get(f"{PATH}?access_token={token}").status_code == 401
    assert APIClient().post("/api/track/", {"access_token": token}, format="multipart").status_code == 401


def test_it_refuses_an_expired_token(make_token):
    response = get(f"Bearer {make_token('read', expires_in=timedelta(seconds=-1))}")

    assert (response.status_code, response.json()) == (401, {"detail": UNKNOWN})
    assert response["WWW-Authenticate"] == CHALLENGE


def test_it_refuses_a_revoked_token(make_token):
    token = make_token("read")
    assert get(f"Bearer {token}").status_code == 200

    AccessToken.objects.get().revoke()

    assert get(f"Bearer {token}").status_code == 401


def test_it_refuses_the_token_of_a_disabled_user(make_token):
    user = User.objects.create_user("ada")
    token = make_token("read", user=user)
    assert get(f"Bearer {token}").status_code == 200

    User.objects.update(is_active=False)

    assert get(f"Bearer {token}").status_code == 401


@pytest.mark.parametrize(
    ("resource", "status"), [("http://testserver/api/", 200), ("http://testserver/other/", 401), ("https://else/", 401)]
)
def test_it_keeps_a_token_to_its_resource(make_token, resource, status):
    assert get(f"Bearer {make_token('read', resource=[resource])}").status_code == status


def test_the_stored_token_is_a_digest_only(make_token):
    make_token("read")

    assert AccessToken.objects.get().token == ""
