"""What the endpoints of OAuth2 refuse, and how they say why; where they are."""

import base64
import json

import pytest
from django.conf import settings as project
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import override_settings
from oauth2_provider.models import AccessToken, Application

from events.access.oauth2 import errors
from events.models import Grant
from events.observability.observation import Observation

FORM = "application/x-www-form-urlencoded"
SHOP = {"client_id": "shop", "client_secret": "shop-secret"}
TOKEN = {"grant_type": "client_credentials", **SHOP}
ENDPOINTS = ["/o/token/", "/o/revoke_token/", "/o/introspect/"]
NO_CLIENT = "The client's id and secret are missing: send them in an Authorization header (Basic), or in the form."
WRONG_CLIENT = "The client is unknown, or its secret is wrong."
BASIC = 'Basic realm="Tracking API", charset="UTF-8"'


def basic(text="shop:shop-secret", scheme="Basic"):
    return {"Authorization": f"{scheme} {base64.b64encode(text.encode()).decode()}"}


def error(code, description):
    return {"error": code, "error_description": description}


@pytest.fixture
def seen(monkeypatch):
    """What the line of log says of the request."""
    seen = Observation()
    monkeypatch.setattr(errors, "current", lambda: seen)
    return seen


@pytest.mark.parametrize(
    ("path", "fields", "status", "expected"),
    [
        ("token", {**TOKEN, "client_secret": "wrong"}, 401, error("invalid_client", WRONG_CLIENT)),
        ("token", {**TOKEN, "client_id": "nobody"}, 401, error("invalid_client", WRONG_CLIENT)),
        ("token", {"grant_type": "client_credentials"}, 401, error("invalid_client", NO_CLIENT)),
        ("token", SHOP, 400, error("invalid_request", "Request is missing grant type.")),
        ("token", {**TOKEN, "grant_type": "password"}, 400,
         error("unsupported_grant_type", "The only grant_type here is client_credentials.")),
        ("token", {**TOKEN, "scope": "read writhe aggregation"}, 400,
         error("invalid_scope", "The scope writhe is not known; there are read, write, aggregation.")),
        ("token", {**TOKEN, "scope": "writhe Read"}, 400,
         error("invalid_scope", "The scopes writhe, Read are not known; there are read, write, aggregation.")),
        ("token", {**TOKEN, "scope": 'a"b\\c\n\xe9'}, 400,
         error("invalid_scope", "The scope a?b?c?? is not known; there are read, write, aggregation.")),
        ("token", {**TOKEN, "scope": "x" * 1000}, 400,
         error("invalid_scope", f"The scope {'x' * 60}... is not known; there are read, write, aggregation.")),
        ("token", {**TOKEN, "resource": "x"}, 400,
         error("invalid_target", "The resource 'x' is not a valid resource indicator: it must be an absolute URI with "
               "a scheme and host.")),
        *(("token", {**TOKEN, "resource": ["https://a.example", f"http://{host}"]}, 400,
           error("invalid_target", f"The resource 'http://{shown}' has no host that can be read."))
          for host, shown in (("[", "["), ("[a]/", "[a]/"), ("a\u2100b/", "a?b/"), ("[" * 99, f"{'[' * 53}..."))),
        ("revoke_token", {"token": "x"}, 401, error("invalid_client", NO_CLIENT)),
        ("revoke_token", {"token": "x", **SHOP, "client_secret": "wrong"}, 401, error("invalid_client", WRONG_CLIENT)),
        ("revoke_token", SHOP, 400, error("invalid_request", "Missing token parameter.")),
        ("revoke_token", {**SHOP, "token": "x", "token_type_hint": "refresh_token"}, 400,
         error("unsupported_token_type", "There are access tokens only.")),
        ("introspect", {"token": "x"}, 403, error("invalid_client", NO_CLIENT)),
        ("introspect", {"token": "x", **SHOP, "client_secret": "wrong"}, 403, error("invalid_client", WRONG_CLIENT)),
        ("introspect", SHOP, 400, error("invalid_request", "Token parameter is missing.")),
        ("introspect", {**SHOP, "token": ""}, 400, error("invalid_request", "Token parameter is missing.")),
    ],
)  # fmt: skip
def test_each_refusal_says_why(application, seen, path, fields, status, expected):
    response = Client().post(f"/o/{path}/", fields)

    assert (response.status_code, response.json()) == (status, expected)
    assert response["Content-Type"] == "application/json"
    assert response.get("WWW-Authenticate") == (BASIC if status == 401 else None)
    assert seen.refusal == expected["error"]
    assert not AccessToken.objects.exists()


@pytest.mark.parametrize(
    ("scopes", "asked", "description"),
    [
        ({"read"}, "write", "The scope write is not granted to this client; it may ask for read."),
        ({"read"}, "read write aggregation",
         "The scopes write, aggregation are not granted to this client; it may ask for read."),
        ({"read"}, "writhe", "The scope writhe is not known; this client may ask for read."),
        ({"read", "write"}, "x", "The scope x is not known; this client may ask for read, write."),
        ({"aggregation"}, "", "The scopes read, write are not granted to this client; it may ask for aggregation."),
        (set(), "read", "The scope read is not granted to this client; it may ask for none."),
    ],
)  # fmt: skip
def test_a_scope_that_is_not_granted_is_named_with_those_that_are(application, scopes, asked, description):
    namespaces = {f"{scope}_namespaces": "*" if scope in scopes else "" for scope in ("read", "write", "aggregation")}
    Grant.objects.create(application=application, **namespaces)

    response = Client().post("/o/token/", {**TOKEN, "scope": asked})

    assert (response.status_code, response.json()) == (400, error("invalid_scope", description))


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize(
    ("content_type", "sent"),
    [
        ("application/json", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        ("text/plain", "text/plain"),
        ("", "a body without Content-Type"),
        ('a/"b\\', "a/?b?"),
    ],
)
def test_a_body_that_is_no_form_is_told_that_a_form_is_wanted(application, seen, path, content_type, sent):
    body = json.dumps({**TOKEN, "token": "x"}).encode()

    response = Client().post(path, body, content_type=content_type, headers=basic())

    description = f"Send a form (application/x-www-form-urlencoded), not {sent}."
    assert (response.status_code, response.json()) == (400, error("invalid_request", description))
    assert seen.refusal == "invalid_request"


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("name", ["grant_type", "scope", "client_id", "client_secret", "token", "other"])
def test_a_parameter_given_twice_is_refused(application, path, name):
    fields = {"grant_type": "client_credentials", "token": "x", **SHOP, "scope": "read", "other": "x"}

    response = Client().post(path, {**fields, name: [fields[name]] * 2})

    description = f"The parameter {name} is given more than once."
    assert (response.status_code, response.json()) == (400, error("invalid_request", description))
    assert not AccessToken.objects.exists()


def test_a_resource_may_be_named_twice(application):
    resources = ["https://a.example/", "https://b.example/"]

    assert Client().post("/o/token/", {**TOKEN, "resource": resources}).status_code == 200
    assert AccessToken.objects.get().resource == resources


@pytest.mark.parametrize("scope", ["", " ", "   "])
def test_an_empty_scope_is_none_at_all(application, scope):
    answer = Client().post("/o/token/", {**TOKEN, "scope": scope}).json()

    assert answer["scope"] == "read write"


def test_empty_parameters_are_none_at_all(application):
    """RFC 6749, 3.2."""
    empty = {"client_id": "", "client_secret": "", "resource": "", "other": ""}

    response = Client().post("/o/token/", {"grant_type": "client_credentials", **empty}, headers=basic())

    assert response.status_code == 200


def test_blanks_between_scopes_may_be_many(application):
    assert Client().post("/o/token/", {**TOKEN, "scope": " read  aggregation "}).json()["scope"] == "read aggregation"


@pytest.mark.parametrize(
    "name", ["client", "user", "scopes", "claims", "expires_in", "access_token", "headers", "extra_credentials", "code"]
)
def test_an_unknown_parameter_steers_nothing(application, name):
    response = Client().post("/o/token/", {**TOKEN, name: "x"})

    answer = response.json()
    assert len(answer.pop("access_token")) == 30
    assert answer == {"expires_in": 36000, "token_type": "Bearer", "scope": "read write"}


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
@pytest.mark.parametrize("path", ENDPOINTS)
def test_the_scheme_may_be_written_in_any_case(application, path, scheme):
    fields = {"grant_type": "client_credentials", "token": "x"}

    assert Client().post(path, fields, headers=basic(scheme=scheme)).status_code == 200


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("query", ["a=%zz", "a=1", "client_id=shop&client_secret=shop-secret", "%ff=%00"])
def test_a_query_is_refused_where_a_form_is_sent(application, path, query):
    response = Client().post(f"{path}?{query}", {**TOKEN, "token": "x"})

    description = "URL query parameters are not allowed; send them as a form in the body."
    assert (response.status_code, response.json()) == (400, error("invalid_request", description))


@pytest.mark.parametrize(("query", "status"), [("token=%zz", 200), ("token=a%00b", 400), ("token=a&token=b", 400)])
def test_introspection_by_a_query_is_read_alike(application, query, status):
    response = Client().get(f"/o/introspect/?{query}", headers=basic())

    assert response.status_code == status
    assert response.json().get("active", False) is False


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/o/token/", "POST, OPTIONS"),
        ("/o/revoke_token/", "POST, OPTIONS"),
        ("/o/introspect/", "GET, POST, OPTIONS, HEAD"),
    ],
)
def test_another_method_is_told_which_there_are(db, seen, path, allowed):
    response = Client().put(path)

    description = f"The method PUT is not taken here; there are {allowed}."
    assert (response.status_code, response.json()) == (405, error("invalid_request", description))
    assert (response["Allow"], seen.refusal) == (allowed, "invalid_request")


@pytest.mark.parametrize("path", ["/accounts/logout/", "/healthz", "/readyz", "/o/applications/"])
def test_a_405_elsewhere_has_a_body_too(admin_client, path):
    response = admin_client.put(path)

    assert (response.status_code, response["Content-Type"]) == (405, "text/plain; charset=utf-8")
    assert response.text == f"This method is not allowed here; there are {response['Allow']}.\n"
    assert int(response["Content-Length"]) == len(response.content)


def test_a_form_of_too_many_fields_is_refused_with_a_reason(application):
    response = Client().post("/o/token/", {f"field-{number}": "x" for number in range(1001)})

    assert (response.status_code, response.json()) == (400, error("invalid_request", "The form can't be read."))


@pytest.mark.parametrize("body", [b"--x\r\nrubbish", b"", b"--x--"])
def test_a_multipart_form_in_pieces_is_refused_with_a_reason(application, body):
    response = Client().post("/o/token/", body, content_type="multipart/form-data; boundary=x")

    assert (response.status_code, set(response.json())) == (400, {"error", "error_description"})


@pytest.mark.parametrize("path", ENDPOINTS)
def test_another_services_host_is_told_in_json(db, path):
    response = Client().post(path, TOKEN, headers={"Host": "evil.example"})

    description = "The request can't be read, or its Host is none of this service's."
    assert (response.status_code, response.json()) == (400, error("invalid_request", description))


@pytest.mark.parametrize("accept", ["*/*", "text/html"])
@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_database_that_is_away_is_told_as_other_errors_are(application, path, accept):
    def is_away(execute, sql, *arguments):
        raise OperationalError("the database is away")

    client = Client(raise_request_exception=False, headers={"Accept": accept})
    with connection.execute_wrapper(is_away):
        response = client.post(path, {**TOKEN, "token": "x"})

    description = "The database can't be reached or is busy; try again."
    assert (response.status_code, response.json()) == (503, error("temporarily_unavailable", description))
    assert (response["Retry-After"], response["Cache-Control"]) == ("1", "no-store")


def test_a_token_that_may_not_introspect_is_told_so(application, make_token, seen):
    headers = {"Authorization": f"Bearer {make_token('read')}"}
    expected = error("insufficient_scope", "The access token is valid but does not have enough scope.")

    response = Client().post("/o/introspect/", {"token": "x"}, headers=headers)

    assert (response.status_code, response.json(), seen.refusal) == (403, expected, "insufficient_scope")


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/o/token", TOKEN, 200),
        ("/o/revoke_token", {**SHOP, "token": "x"}, 200),
        ("/o/introspect", {**SHOP, "token": "x"}, 200),
        ("/accounts/login", {"username": "admin", "password": "password"}, 302),
        ("/accounts/logout", {}, 302),
        ("/admin/login", {"username": "admin", "password": "password"}, 302),
        ("/o/applications/register", {}, 302),
    ],
)
def test_what_is_posted_works_without_the_slash(application, admin_user, path, fields, status):
    with_slash, without = (Client().post(each, fields) for each in (f"{path}/", path))

    assert without.status_code == with_slash.status_code == status
    locations = {response.get("Location", "").replace("register/", "register") for response in (with_slash, without)}
    assert len(locations) == 1
    assert path + "/" not in locations


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_metadata_say_where_everything_is(db, slash):
    response = Client().get(f"/.well-known/oauth-authorization-server{slash}")

    methods = ["client_secret_basic", "client_secret_post"]
    assert (response.status_code, response.json()) == (
        200,
        {
            "issuer": "http://testserver",
            "scopes_supported": ["read", "write", "aggregation"],
            "response_types_supported": [],
            "grant_types_supported": ["client_credentials"],
            "service_documentation": "http://testserver/api/docs",
            "token_endpoint": "http://testserver/o/token/",
            "token_endpoint_auth_methods_supported": methods,
            "revocation_endpoint": "http://testserver/o/revoke_token/",
            "revocation_endpoint_auth_methods_supported": methods,
            "introspection_endpoint": "http://testserver/o/introspect/",
            "introspection_endpoint_auth_methods_supported": methods,
        },
    )
    assert response["Cache-Control"] == "public, max-age=3600"
    assert response["Content-Type"] == "application/json"


@override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"), SECURE_SSL_REDIRECT=True)
def test_behind_https_the_metadata_lead_there(db):
    headers = {"X-Forwarded-Proto": "https", "Host": "localhost"}

    answer = Client().get("/.well-known/oauth-authorization-server", headers=headers).json()

    assert answer["issuer"] == "https://localhost"
    assert answer["token_endpoint"] == "https://localhost/o/token/"


@pytest.mark.parametrize("basic_header", [False, True])
def test_a_client_gets_so_many_tokens_a_minute(application, settings, clock, seen, basic_header):
    settings.RATE_LIMIT_TOKENS = 3

    def fetch(client_id="shop"):
        fields = {"grant_type": "client_credentials"}
        if basic_header:
            return Client().post("/o/token/", fields, headers=basic(f"{client_id}:shop-secret"))
        return Client().post("/o/token/", {**fields, **SHOP, "client_id": client_id})

    assert [fetch().status_code for _ in range(3)] == [200] * 3
    response = fetch()
    assert (response.status_code, response.json()) == (
        429,
        error("slow_down", "A client may have 3 tokens a minute, each for many requests."),
    )
    assert (response["Retry-After"], seen.refusal) == ("61", "slow_down")
    assert AccessToken.objects.count() == 3
    assert fetch("nobody").status_code == 401  # whose attempts are no tokens

    clock.now += 61
    assert fetch().status_code == 200


def test_what_gets_no_token_is_not_counted_as_one(application, settings):
    settings.RATE_LIMIT_TOKENS = 1
    wrong = {"scope": "x"}, {"grant_type": "x"}, {"client_secret": "wrong"}

    refused = [Client().post("/o/token/", {**TOKEN, **fields}) for fields in wrong]

    assert [(each.status_code, each.json()["error"]) for each in refused] == [
        (400, "invalid_scope"),
        (400, "unsupported_grant_type"),
        (401, "invalid_client"),
    ]
    assert Client().post("/o/token/", TOKEN).status_code == 200


def test_each_client_has_its_own_tokens_a_minute(application, settings):
    settings.RATE_LIMIT_TOKENS = 1
    Application.objects.create(
        client_id="till", client_secret="till-secret", client_type="confidential",
        authorization_grant_type="client-credentials",
    )  # fmt: skip
    till = {**TOKEN, "client_id": "till", "client_secret": "till-secret"}

    assert [Client().post("/o/token/", fields).status_code for fields in (TOKEN, till, TOKEN)] == [200, 200, 429]


def test_by_default_a_client_gets_a_token_a_second(application):
    assert project.RATE_LIMIT_TOKENS == 60


def test_it_can_be_turned_off(application, settings):
    settings.RATE_LIMIT_TOKENS = 0

    assert {Client().post("/o/token/", TOKEN).status_code for _ in range(70)} == {200}
