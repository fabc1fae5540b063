"""The admin's pages of access tokens: found by client or digest, their scopes edited."""

import hashlib
import re
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application
from rest_framework.test import APIClient

from events.access import long_lived_tokens
from events.models import Grant, LongLivedToken
from events.tests.support import service
from events.tests.support.service import PROJECT_DIR

LIST = "/admin/oauth2_provider/accesstoken/"


@pytest.fixture
def client(admin_client):
    return admin_client


@pytest.fixture
def token(make_token):
    make_token("read write")
    return AccessToken.objects.get()


def page_of(token):
    return f"{LIST}{token.pk}/change/"


def save(client, token, **changes):
    form = {"scopes": token.scope.split(), "expires_0": "2030-01-02", "expires_1": "03:04:05"}
    return client.post(page_of(token), {**form, **changes})


def shown(client, **query):
    return [row.pk for row in client.get(LIST, query).context["cl"].result_list]


def test_the_list_shows_client_scopes_and_times_and_no_empty_text(client, token):
    AccessToken.objects.update(created=datetime(2020, 11, 12, 11, 10, 0, 5, tzinfo=UTC),
                               expires=datetime(2020, 11, 12, 21, 10, tzinfo=UTC))  # fmt: skip

    page = client.get(LIST).text

    for cell in (
        f"{hashlib.sha256(b'token-of-the-shop').hexdigest()[:12]}…",
        '<td class="field-client">Shop</td>',
        '<td class="field-stored_scopes">read write</td>',
        '<td class="field-created_at">2020-11-12T11:10:00Z</td>',
        '<td class="field-expires_at">2020-11-12T21:10:00Z (expired)</td>',
    ):
        assert cell in page
    assert "masked_token" not in page


def test_a_token_is_found_by_its_digest_and_by_its_client(client, make_token):
    other = Application.objects.create(name="Stall", client_id="stall", client_type="confidential",
                                       authorization_grant_type="client-credentials")  # fmt: skip
    make_token("read")
    make_token("read", text="another", application=other)
    ours, theirs = AccessToken.objects.order_by("pk")

    assert shown(client, q=hashlib.sha256(b"token-of-the-shop").hexdigest()) == [ours.pk]
    assert shown(client, q="stall") == [theirs.pk]
    assert shown(client, q="token-of-the-shop") == []
    assert shown(client, application__id__exact=other.pk) == [theirs.pk]


def test_the_page_of_a_token_shows_what_is_known_of_it(client, token):
    page = client.get(page_of(token))

    assert token.token_checksum in page.text
    assert [f'<div class="readonly">{text}</div>' in page.text for text in ("Shop", "shop")] == [True, True]
    assert [(box.data["value"], box.data["selected"]) for box in page.context["adminform"].form["scopes"]] == [
        ("read", True), ("write", True), ("aggregation", False),
    ]  # fmt: skip
    assert set(page.context["adminform"].form.fields) == {"scopes", "expires"}


def test_editing_takes_effect_at_once_in_this_process(client, token):
    api = APIClient(headers={"Authorization": "Bearer token-of-the-shop"})
    assert [api.get("/api/events/").status_code, api.get("/api/events/a/b").status_code] == [200, 403]

    assert save(client, token, scopes=["aggregation"]).status_code == 302

    assert [api.get("/api/events/").status_code, api.get("/api/events/a/b").status_code] == [403, 200]
    changed = AccessToken.objects.get()
    assert (changed.scope, changed.expires, changed.token, changed.token_checksum) == (
        "aggregation", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), "", token.token_checksum,
    )  # fmt: skip
    assert (changed.application_id, changed.user_id) == (token.application_id, None)


def test_scopes_are_stored_in_one_order(client, token):
    save(client, token, scopes=["aggregation", "write", "read"])

    assert AccessToken.objects.get().scope == "read write aggregation"


@pytest.mark.parametrize(
    ("scopes", "said"),
    [
        (["writhe"], "Select a valid choice. writhe is not one of the available choices."),
        (["read", "read write"], "Select a valid choice. read write is not one of the available choices."),
        ([], "This field is required."),
        (["write"], "The client is not granted the scope write."),
    ],
)
def test_a_scope_must_be_one_that_there_is_and_that_is_granted(client, token, scopes, said):
    Grant.objects.create(application=token.application, write_namespaces="")

    response = save(client, token, scopes=scopes)

    assert (response.status_code, response.context["adminform"].form.errors) == (200, {"scopes": [said]})
    assert AccessToken.objects.get().scope == "read write"


def test_words_that_are_no_scopes_are_named_and_dropped(client, token):
    AccessToken.objects.update(scope="read writhe")
    token.refresh_from_db()
    assert "Stored too, without effect until saved: writhe." in client.get(page_of(token)).text

    save(client, token, scopes=["read"])

    assert AccessToken.objects.get().scope == "read"


def test_its_client_and_its_text_can_not_be_changed(client, token):
    other = Application.objects.create(name="Stall", client_id="stall")

    save(client, token, application=other.pk, user=1, token_checksum="0" * 64, resource='["x"]')

    changed = AccessToken.objects.get()
    assert (changed.application_id, changed.token, changed.token_checksum, changed.resource) == (
        token.application_id, "", token.token_checksum, [],
    )  # fmt: skip


def test_revoking_takes_effect_at_once_in_this_process(client, token):
    api = APIClient(headers={"Authorization": "Bearer token-of-the-shop"})
    assert api.get("/api/events/").status_code == 200

    client.post(LIST, {"action": "revoke_tokens", "_selected_action": [token.pk]})

    assert api.get("/api/events/").status_code == 401


@pytest.mark.parametrize(("codename", "may"), [("view_accesstoken", False), ("change_accesstoken", True)])
def test_who_may_only_look_changes_nothing(token, codename, may):
    user = User.objects.create_user("eve", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename=codename))
    client = Client()
    client.force_login(user)

    assert client.get(page_of(token)).status_code == 200
    assert save(client, token, scopes=["read"]).status_code == (302 if may else 403)
    client.post(LIST, {"action": "revoke_tokens", "_selected_action": [token.pk]})
    assert AccessToken.objects.exists() != may


def test_the_list_needs_as_many_queries_for_many_tokens(client, make_token, django_assert_max_num_queries):
    for number in range(30):
        make_token("read", text=str(number), expires_in=timedelta(days=number))

    with django_assert_max_num_queries(9):
        assert len(shown(client)) == 30


DOCUMENT = (PROJECT_DIR / "docs/access.md").read_text().partition("### Finding and editing them\n")[2]
SQL = re.findall(r"^```sql\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
PATHS = {"read": "/api/events/", "aggregation": "/api/events/a/b"}


def test_what_the_document_does_in_sql_takes_effect_in_every_process(prepared, tmp_path):
    with prepared(tmp_path, TOKEN_CACHE_SECONDS=2, SERVER_WORKERS=2) as env, service.served(env):
        [[client_id]] = service.query(env, "SELECT client_id FROM oauth2_provider_application")
        token = service.fetch_token(env)
        digest = subprocess.run(["sh", "-c", re.search(r"^printf .*", DOCUMENT, re.MULTILINE)[0]],
                                env={"TOKEN": token}, capture_output=True, text=True, check=True).stdout.split()[0]  # fmt: skip
        statements = "".join(SQL).replace("DIGEST", digest).replace("CLIENT_ID", client_id)
        find, edit, of_client, delete = statements.strip().removesuffix(";").split(";\n")

        def answers():
            headers = {"Authorization": f"Bearer {token}"}
            return {
                name: {service.call(env, "GET", path, **headers)[0] for _ in range(20)} for name, path in PATHS.items()
            }

        assert answers() == {"read": {200}, "aggregation": {200}}
        [found] = service.query(env, find)
        assert found[1] == "read write aggregation"
        assert [(row[0], row[1]) for row in service.query(env, of_client)] == [found[:2]]
        service.query(env, edit)
        time.sleep(2.1)
        assert answers() == {"read": {200}, "aggregation": {403}}
        service.query(env, delete)
        time.sleep(2.1)
        assert answers() == {"read": {401}, "aggregation": {401}}


def test_it_is_sorted_by_every_column_but_the_digest(client, application):
    other = Application.objects.create(name="Till", client_id="till", client_type="confidential")
    for number, (owner, name, scope) in enumerate([(application, "agent", "read"), (other, "till", "write")], 1):
        long_lived_tokens.make(owner, name, [scope], timedelta(days=number))
        LongLivedToken.objects.filter(name=name).update(last_used=timezone.now() + timedelta(days=number))
    lower, higher = AccessToken.objects.order_by("pk").values_list("pk", flat=True)

    assert [shown(client, o=str(column)) for column in range(1, 8)] == [[higher, lower], *[[lower, higher]] * 6]
    assert [shown(client, o=f"-{column}") for column in range(1, 8)] == [[higher, lower]] * 7
