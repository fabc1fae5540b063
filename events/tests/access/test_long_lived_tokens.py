"""Tokens that are made by hand, for senders that can't ask for one."""

import hashlib
import re
import time
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application, clear_expired
from rest_framework.test import APIClient

from events.access import usage
from events.access.usage import usage_meter
from events.models import Grant, LongLivedToken
from events.tests.support import service
from events.tests.support.bodies import SMALL as EVENT
from events.tests.support.waiting import wait_until

BODY = '{"namespace":"a","name":"b","timestamp":0,"value":1}'


def create(*arguments, client="shop", expires="365d", scope=("write",)):
    out = StringIO()
    call_command("create_token", client, *arguments, "--expires", expires, "--scope", *scope, stdout=out)
    return out.getvalue()


def track(token):
    return APIClient(headers={"Authorization": f"Bearer {token}"}).post("/api/track/", EVENT).status_code


@pytest.fixture
def page(application):
    return f"/admin/oauth2_provider/application/{application.pk}/change/"


@pytest.fixture
def make_page(application):
    return f"/admin/oauth2_provider/application/{application.pk}/token/"


@pytest.fixture
def client(admin_client):
    return admin_client


def make(client, make_page, **fields):
    return client.post(make_page, {"name": "collectd", "scopes": ["write"], "expires": "365d", **fields})


def test_the_command_prints_a_token_and_nothing_else(application):
    before = timezone.now()

    printed = create("--name", "router")

    assert re.fullmatch(r"[A-Za-z0-9_-]{43}\n", printed)
    token = AccessToken.objects.get()
    assert (token.application, token.user, token.scope, token.token, token.token_checksum) == (
        application, None, "write", "", hashlib.sha256(printed.strip().encode()).hexdigest(),
    )  # fmt: skip
    assert before + timedelta(days=365) <= token.expires <= timezone.now() + timedelta(days=365)
    assert token.long_lived.name == "router"
    assert track(printed.strip()) == 201


@pytest.mark.parametrize("scope", [("write", "read"), ("read write",), ("read", "write", "read")])
def test_it_may_have_several_scopes(application, scope):
    token = create(scope=scope).strip()

    assert AccessToken.objects.get().scope == "read write"
    assert track(token) == 201


def test_a_client_is_named_by_its_id_or_by_a_name_that_no_other_has(application):
    for client in ("shop", "Shop"):
        create(client=client)
    assert AccessToken.objects.filter(application=application).count() == 2

    other = Application.objects.create(name="Shop", client_id="stall")
    with pytest.raises(CommandError, match=r"^2 clients have the name “Shop”; give a client id: shop, stall\.$"):
        create(client="Shop")
    Application.objects.create(name="stall", client_id="x")
    create(client="stall")  # an id comes before a name
    assert AccessToken.objects.filter(application=other).count() == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"client": "nobody"}, "No client has the id or the name “nobody”."),
        ({"client": ""}, "No client has the id or the name “”."),
        ({"expires": "365"}, "--expires: Must be a number of days or hours, such as 90d or 36h."),
        ({"expires": "1y"}, "--expires: Must be a number of days or hours, such as 90d or 36h."),
        ({"expires": "0h"}, "--expires: Must be from 1h to 3650d."),
        ({"expires": "3651d"}, "--expires: Must be from 1h to 3650d."),
        ({"expires": "999999d"}, "--expires: Must be from 1h to 3650d."),
        ({"scope": ("writhe", "read")}, "--scope: There is no scope writhe; there are read, write, aggregation."),
        ({"scope": ("",)}, "--scope: Choose one or more of the scopes read, write, aggregation."),
        (
            {"scope": ("aggregation", "read", "write")},
            "--scope: The client is not granted the scope aggregation, read.",
        ),
    ],
)
def test_the_command_refuses(application, options, said):
    Grant.objects.create(application=application, read_namespaces="", aggregation_namespaces="")

    with pytest.raises(CommandError) as refused:
        create(**options)

    assert str(refused.value) == said
    assert not AccessToken.objects.exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [("x" * 101, "Ensure this value has at most 100 characters (it has 101)."), ("", "This field cannot be blank.")],
)
def test_the_command_refuses_a_name_that_does_not_fit(application, name, said):
    with pytest.raises(CommandError, match=re.escape(f"--name: {said}")):
        create("--name", name)


def test_the_page_makes_a_token_and_shows_it_once(client, page, make_page):
    assert f'href="{make_page}"' in client.get(page).text
    assert client.get(make_page).status_code == 200

    response = make(client, make_page)

    [token] = re.findall(r'value="([A-Za-z0-9_-]{43})" readonly', response.text)
    assert (response.status_code, AccessToken.objects.get().token_checksum) == (
        200, hashlib.sha256(token.encode()).hexdigest(),
    )  # fmt: skip
    assert "no-store" in response["Cache-Control"]
    assert track(token) == 201
    history = client.get(page.replace("/change/", "/history/")).text
    for shown in (client.get(page).text, client.get(make_page).text, history):
        assert token not in shown
    assert "Made the token “collectd” for write." in history


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({"name": ""}, {"name": ["This field is required."]}),
        ({"name": "\0"}, {}),
        ({"name": "x" * 101}, {"name": ["Ensure this value has at most 100 characters (it has 101)."]}),
        ({"expires": "1y"}, {"expires": ["Must be a number of days or hours, such as 90d or 36h."]}),
        ({"expires": "3651d"}, {"expires": ["Must be from 1h to 3650d."]}),
        ({"scopes": []}, {"scopes": ["This field is required."]}),
        ({"scopes": ["x"]}, {"scopes": ["Select a valid choice. x is not one of the available choices."]}),
        ({"scopes": ["read"]}, {"scopes": ["The client is not granted the scope read."]}),
    ],
)
def test_the_page_refuses(client, application, make_page, fields, errors):
    Grant.objects.create(application=application, read_namespaces="")

    response = make(client, make_page, **fields)

    if errors:
        assert (response.status_code, response.context["form"].errors) == (200, errors)
    else:
        assert response.status_code == 400
    assert not AccessToken.objects.exists()


def test_only_who_may_add_tokens_makes_one(application, make_page):
    user = User.objects.create_user("eve", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="change_application"))
    client = Client()
    client.force_login(user)

    assert make(client, make_page).status_code == 403
    assert Client().get(make_page).status_code == 302
    user.user_permissions.add(Permission.objects.get(codename="add_accesstoken"))
    assert make(client, make_page).status_code == 200
    assert client.get("/admin/oauth2_provider/application/999999/token/").status_code == 404


def test_the_page_of_the_client_lists_them(client, page, application, make_token):
    make_token("read")  # which lasts an hour, and is not listed
    create("--name", "router")
    AccessToken.objects.filter(long_lived__isnull=False).update(
        created=datetime(2020, 11, 12, 11, 10, tzinfo=UTC), expires=datetime(2020, 11, 13, 11, 10, tzinfo=UTC)
    )

    def cells():
        return re.findall(r'<td class="field-(\w+)">\s*<p>(.*?)</p>', client.get(page).text, re.DOTALL)

    listed = [
        ("long_lived_name", "router"), ("stored_scopes", "write"), ("created_at", "2020-11-12T11:10:00Z"),
        ("expires_at", "2020-11-13T11:10:00Z (expired)"), ("last_used", "never"),
    ]  # fmt: skip
    assert cells() == listed
    LongLivedToken.objects.update(last_used=datetime(2020, 11, 13, 1, 2, 3, 4, tzinfo=UTC))
    assert cells() == [*listed[:-1], ("last_used", "2020-11-13T01:02:03Z")]


def form_of(client, page):
    """What a browser sends when nothing is touched."""
    response = client.get(page)
    formsets = [inline.formset for inline in response.context["inline_admin_formsets"]]
    forms = [form for formset in formsets for form in (formset.management_form, *formset.forms)]
    fields = {bound.html_name: bound.value() for form in (response.context["adminform"].form, *forms) for bound in form}
    return {name: value for name, value in fields.items() if value is not None and value is not False}


def test_it_is_revoked_there_and_nothing_else_is(client, page, make_token):
    short = make_token("write")
    first, second = create("--name", "first").strip(), create("--name", "second").strip()
    assert [track(token) for token in (short, first, second)] == [201] * 3

    assert client.post(page, form_of(client, page)).status_code == 302
    assert [track(token) for token in (short, first, second)] == [201] * 3
    assert client.post(page, {**form_of(client, page), "accesstoken_set-0-DELETE": "on"}).status_code == 302

    assert [track(token) for token in (short, first, second)] == [201, 401, 201]
    assert [kept.name for kept in LongLivedToken.objects.all()] == ["second"]


def test_a_page_cannot_be_made_to_add_a_token(client, page):
    form = form_of(client, page) | {"accesstoken_set-TOTAL_FORMS": "1", "accesstoken_set-0-scope": "write"}

    client.post(page, form)

    assert not AccessToken.objects.exists()


def test_it_expires(application):
    token = create(expires="1h").strip()
    assert track(token) == 201

    stored = AccessToken.objects.get()
    stored.expires = timezone.now()
    stored.save()

    assert track(token) == 401


def test_what_is_known_of_it_goes_with_it(application):
    for expires in ("1h", "2h", "3h", "4h"):
        create("--name", expires, expires=expires)
    first, second, third, _fourth = AccessToken.objects.order_by("expires")

    first.revoke()
    AccessToken.objects.filter(pk=second.pk).delete()
    AccessToken.objects.filter(pk=third.pk).update(expires=timezone.now() - timedelta(seconds=1))
    clear_expired()
    assert [kept.name for kept in LongLivedToken.objects.all()] == ["4h"]
    application.delete()
    assert not LongLivedToken.objects.exists()


def test_who_deletes_it_in_sql_is_not_stopped_and_harms_nothing(client, page, application):
    create()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM oauth2_provider_accesstoken")
    connection.check_constraints()

    assert 'class="field-long_lived_name"' not in client.get(page).text
    create()
    assert client.get(page).text.count('class="field-long_lived_name"') == 1


@pytest.fixture
def counting(settings):
    """Turned on, and written down by the test alone."""
    settings.CLIENT_USAGE_SECONDS = 3_600
    usage_meter.forget()
    yield
    usage_meter.forget()


def last_used():
    usage_meter.flush()
    return [token.last_used for token in LongLivedToken.objects.order_by("pk")]


@pytest.mark.usefixtures("counting")
def test_its_last_use_is_written_down(application, make_token, monkeypatch):
    used, _unused, short = create().strip(), create(), make_token("write")
    moments = iter([1_600_000_000.5, 1_600_000_001, 1_500_000_000, 1_500_000_000, 1_700_000_000, 1_700_000_000])
    monkeypatch.setattr(usage.time, "time", lambda: next(moments))

    track(used)
    assert last_used() == [datetime(2020, 9, 13, 12, 26, 40, 500_000, tzinfo=UTC), None]
    track(used)  # as another process, which has seen an earlier use, would write later
    assert last_used() == [datetime(2020, 9, 13, 12, 26, 40, 500_000, tzinfo=UTC), None]
    track(short)
    assert last_used() == [datetime(2020, 9, 13, 12, 26, 40, 500_000, tzinfo=UTC), None]


@pytest.mark.usefixtures("counting")
def test_keeping_it_costs_no_query(application, statements):
    token = create().strip()
    assert track(token) == 201

    with statements() as sent:
        assert track(token) == 201

    assert len(sent) == 1


@pytest.mark.usefixtures("counting")
def test_a_use_of_a_token_that_is_gone_is_dropped(application):
    token = create().strip()
    track(token)
    AccessToken.objects.all().delete()

    assert last_used() == []


@pytest.mark.usefixtures("counting")
def test_a_use_that_could_not_be_written_is_written_the_next_time(application, monkeypatch):
    def fail(counts):
        raise usage.Error("away")

    token = create().strip()
    track(token)
    with monkeypatch.context() as patch:
        patch.setattr(usage, "_add", fail)
        usage_meter.flush()

    assert last_used()[0] is not None


def statuses(env, token, count=20):
    """Of connections of their own, which both processes take."""
    headers = {"Authorization": f"Bearer {token}", "Content_Type": "application/json"}
    return [service.call(env, "POST", "/api/track/", BODY, **headers)[0] for _ in range(count)]


@pytest.mark.only_on("sqlite")
def test_all_processes_take_it_and_drop_it_once_it_is_revoked(prepared, tmp_path):
    with prepared(tmp_path, TOKEN_CACHE_SECONDS=2, CLIENT_USAGE_SECONDS=1, SERVER_WORKERS=2) as env:
        [[client_id]] = service.query(env, "SELECT client_id FROM oauth2_provider_application")
        with service.served(env):
            made = service.manage("create_token", client_id, "--expires", "36h", "--scope", "write", env=env)
            assert (made.returncode, made.stderr) == (0, "")
            token = made.stdout.removesuffix("\n")
            assert statuses(env, token) == [201] * 20
            wait_until(lambda: service.query(env, "SELECT last_used FROM events_longlivedtoken")[0][0] is not None)

            revoked = service.manage("shell", "-v", "0", "-c",
                                     "from oauth2_provider.models import AccessToken as A; A.objects.get().delete()", env=env)  # fmt: skip
            assert (revoked.returncode, revoked.stderr) == (0, "")
            time.sleep(2.1)  # so long each process remembers it
            assert statuses(env, token) == [401] * 20
