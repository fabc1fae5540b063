"""Bearer tokens, whatever the endpoint."""

import time
import tracemalloc
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.module_loading import import_string
from oauth2_provider.models import AccessToken
from rest_framework.test import APIClient

from events.access.tokens import TokenMemory, token_memory
from events.http.fast_path.middleware import _is_our_host, _resolved, is_our_host, match_of
from events.tests.support import service

PATH = "/api/events/"
UNKNOWN = "The access token is unknown or has expired."
CHALLENGE = f'Bearer realm="api",error="invalid_token",error_description="{UNKNOWN}"'


def get(authorization, path=PATH):
    return APIClient().get(path, headers={"Authorization": authorization})


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


@pytest.fixture
def no_known_hosts():
    _is_our_host.cache_clear()
    yield
    _is_our_host.cache_clear()


@pytest.mark.usefixtures("no_known_hosts")
@pytest.mark.parametrize("ours", [["api.example"], ["*"]])
def test_it_answers_under_the_names_that_are_ours(client_with_scopes, settings, ours):
    settings.ALLOWED_HOSTS = ours
    client = client_with_scopes("read")

    def ask():
        return {
            host: client.get(PATH, headers={"Host": host}).status_code
            for host in ["api.example", "API.example:8000", "api.example.", "evil.example", "a b", "api.example:x", ""]
        }

    known = {"api.example": 200, "API.example:8000": 200, "api.example.": 200}
    other = {"evil.example": 200 if ours == ["*"] else 400}
    expected = known | other | {"a b": 400, "api.example:x": 400, "": 400}
    assert [ask(), ask()] == [expected, expected]

    remembered = _is_our_host.cache_info().currsize
    assert client.get(PATH, headers={"Host": "x" * 301}).status_code == (200 if ours == ["*"] else 400)
    assert _is_our_host.cache_info().currsize == remembered  # or anyone could fill the memory


def test_a_long_path_is_not_remembered(make_token):
    make_token("read")
    known = _resolved.cache_info().currsize

    assert get("Bearer unknown", path=f"/api/events/{'é' * 289}").status_code == 401

    assert _resolved.cache_info().currsize == known  # or anyone could fill the memory


@pytest.mark.usefixtures("no_known_hosts")
@pytest.mark.parametrize(("characters", "times"), [(140, 2_000), (250, 2_000), (10_000, 200)])
def test_what_is_remembered_of_paths_and_hosts_is_bounded_in_bytes(settings, characters, times):
    settings.ALLOWED_HOSTS = ["*"]
    name = "\U0001f600" * characters
    match_of(PATH)
    _resolved.cache_clear()
    tracemalloc.start()
    for number in range(times):
        match_of(f"{PATH}{number}{name}/{name}")
        is_our_host(f"{number}.{name}.example")
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    _resolved.cache_clear()

    assert kept_bytes < 6_000_000


OF_PAGES = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]


def test_what_is_for_pages_is_on_no_way_of_a_token(client_with_scopes, monkeypatch, settings):
    client = client_with_scopes("read write aggregation")
    met = []

    def watched(name):
        original = import_string(name)
        return lambda get_response: lambda request: met.append(name) or original(get_response)(request)

    for number, name in enumerate(OF_PAGES):
        monkeypatch.setitem(globals(), f"watched_{number}", watched(name))
    watching = {name: f"{__name__}.watched_{number}" for number, name in enumerate(OF_PAGES)}
    settings.MIDDLEWARE = [watching.get(name, name) for name in settings.MIDDLEWARE]

    event = {"namespace": "a", "name": "b", "timestamp": 1, "value": 1}
    assert client.post("/api/track/", event).status_code == 201
    assert [client.get(path).status_code for path in (PATH, f"{PATH}a", f"{PATH}a/b")] == [200] * 3
    assert met == []
    assert (APIClient().get("/admin/login/").status_code, met) == (200, OF_PAGES)


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

    user.is_active = False
    user.save()

    assert get(f"Bearer {token}").status_code == 401


@pytest.mark.parametrize(
    ("resource", "status"), [("http://testserver/api/", 200), ("http://testserver/other/", 401), ("https://else/", 401)]
)
def test_it_keeps_a_token_to_its_resource(make_token, resource, status):
    assert get(f"Bearer {make_token('read', resource=[resource])}").status_code == status


def test_the_stored_token_is_a_digest_only(make_token):
    make_token("read")

    assert AccessToken.objects.get().token == ""


def count_queries(call, django_assert_max_num_queries):
    with django_assert_max_num_queries(9) as captured:
        call()
    return sum("oauth2_provider_accesstoken" in query["sql"] for query in captured)


def test_a_token_is_looked_up_once(client_with_scopes, settings, django_assert_max_num_queries):
    client = client_with_scopes("read")
    settings.TOKEN_CACHE_SECONDS = 10

    found = [count_queries(lambda: client.get(PATH), django_assert_max_num_queries) for _ in range(3)]

    assert found == [1, 0, 0]


def test_a_token_is_remembered_for_some_seconds(
    client_with_scopes, settings, django_assert_max_num_queries, monkeypatch
):
    now = time.monotonic()
    monkeypatch.setattr(token_memory._tokens.timer, "_Timer__timer", lambda: now, raising=False)
    client = client_with_scopes("read")

    def lookups():
        return count_queries(lambda: client.get(PATH), django_assert_max_num_queries)

    assert lookups() == 1
    now += 9.9
    assert lookups() == 0
    now += 0.2
    assert lookups() == 1


def test_a_clock_that_is_set_back_keeps_no_revoked_token(make_token, settings, monkeypatch):
    settings.TOKEN_CACHE_SECONDS = 10
    clock = SimpleNamespace(wall=1_800_000_000.0, steady=5_000.0)
    monkeypatch.setattr(time, "time", lambda: clock.wall)
    monkeypatch.setattr(time, "monotonic", lambda: clock.steady)
    memory = TokenMemory()
    make_token("read")
    digest = AccessToken.objects.get().token_checksum
    assert memory.get(digest).token.scope == "read"
    AccessToken.objects.all()._raw_delete("default")  # as another process would, of whose change none is told here

    clock.wall -= 3_600
    clock.steady += 9.9
    assert memory.get(digest).token.scope == "read"
    clock.steady += 0.2
    assert memory.get(digest) is None


def test_the_memory_can_be_turned_off(client_with_scopes, settings, django_assert_max_num_queries):
    settings.TOKEN_CACHE_SECONDS = 0
    client = client_with_scopes("read")

    assert [count_queries(lambda: client.get(PATH), django_assert_max_num_queries) for _ in range(3)] == [1, 1, 1]


@pytest.mark.only_on("sqlite")
def test_a_remembered_token_expires_on_time(make_token, settings, monkeypatch):
    settings.TOKEN_CACHE_SECONDS = 3600
    token = make_token("read", expires_in=timedelta(minutes=1))
    expires = AccessToken.objects.get().expires
    statuses = []

    for now in (timezone.now(), expires - timedelta(microseconds=1), expires):
        monkeypatch.setattr(timezone, "now", lambda now=now: now)
        statuses.append(get(f"Bearer {token}").status_code)

    assert statuses == [200, 200, 401]


@pytest.mark.only_on("sqlite")
def test_a_change_takes_effect_in_other_processes_once_they_look_again(prepared, tmp_path):
    with prepared(tmp_path, TOKEN_CACHE_SECONDS=3, SERVER_WORKERS=2) as env, service.served(env):
        headers = {"Authorization": f"Bearer {service.fetch_token(env)}"}
        of_both_workers = [service.call(env, "GET", PATH, **headers)[0] for _ in range(20)]

        service.query(env, "DELETE FROM oauth2_provider_accesstoken")
        time.sleep(3)

        assert (of_both_workers, [service.call(env, "GET", PATH, **headers)[0] for _ in range(20)]) == (
            [200] * 20,
            [401] * 20,
        )


@pytest.mark.parametrize("change", ["revoke", "delete", "queryset", "scope", "application", "expire"])
def test_a_change_through_the_orm_takes_effect_at_once(make_token, change):
    token = make_token("read")
    assert get(f"Bearer {token}").status_code == 200
    stored = AccessToken.objects.get()

    if change == "revoke":
        stored.revoke()
    elif change == "delete":
        stored.delete()
    elif change == "queryset":
        AccessToken.objects.all().delete()
    elif change == "application":
        stored.application.delete()
    elif change == "expire":
        stored.expires = timezone.now()
        stored.save()
    else:
        stored.scope = "write"
        stored.save()

    assert get(f"Bearer {token}").status_code == (403 if change == "scope" else 401)


def test_a_change_takes_effect_though_another_request_still_sees_what_was(
    make_token, django_capture_on_commit_callbacks
):
    token = make_token("read")
    stored = AccessToken.objects.get()

    with django_capture_on_commit_callbacks(execute=True):
        token_memory.get(stored.token_checksum)
        [seen_by_others] = token_memory._tokens.values()
        stored.revoke()
        token_memory._tokens[stored.token_checksum] = seen_by_others  # before the change is committed

    assert get(f"Bearer {token}").status_code == 401


def test_a_change_takes_effect_on_a_token_that_is_being_looked_up(make_token, monkeypatch):
    token = make_token("read")
    first = QuerySet.first

    def first_and_then_gone(tokens):
        found = first(tokens)
        AccessToken.objects.all().delete()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(QuerySet, "first", first_and_then_gone)
        assert get(f"Bearer {token}").status_code == 200

    assert get(f"Bearer {token}").status_code == 401


def test_a_wrong_token_is_not_remembered(make_token):
    assert get("Bearer later").status_code == 401

    make_token("read", text="later")

    assert get("Bearer later").status_code == 200


def test_the_memory_is_bounded(make_token, monkeypatch):
    memory = TokenMemory()
    monkeypatch.setattr(TokenMemory, "most_tokens", 2)
    small = TokenMemory()
    for text in ("a", "b", "c"):
        make_token("read", text=text)
    digests = list(AccessToken.objects.values_list("token_checksum", flat=True))

    for digest in digests:
        memory.get(digest)
        small.get(digest)

    assert (len(memory._tokens), len(small._tokens)) == (3, 2)


def test_the_scope_is_checked_on_every_request(client_with_scopes):
    client = client_with_scopes("read")

    assert client.get(PATH).status_code == 200
    assert client.get("/api/events/a/b").status_code == 403
    assert client.get(PATH).status_code == 200
