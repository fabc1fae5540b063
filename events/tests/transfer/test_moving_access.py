"""``manage.py export_access`` and ``import_access``: who may do what is the same afterwards, and never more."""

import json
import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.db import models
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application

from events.alerts.evaluator import Evaluator
from events.log.series import SeriesKey
from events.models import Alert, AlertTarget, Annotation, FormerName, Grant, LongLivedToken, SeriesSettings
from events.tests.support import originals, service
from events.tests.support.commands import fails, run
from events.tests.support.service import call, fetch_token
from events.transfer import access_files


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


MAKE = """
from django.contrib.auth.models import Group, Permission, User
from oauth2_provider.models import Application
from events.models import Grant, LongLivedToken
group = Group.objects.create(name="Readers")
group.permissions.add(Permission.objects.get(codename="view_event"))
User.objects.create_user("eve", password="of eve").groups.add(group)
Grant.objects.create(application=Application.objects.get(), write_namespaces="Web-*", events_a_minute=7)
"""


@pytest.mark.only_on("postgresql")
def test_a_narrowed_client_is_as_narrow_in_another_kind_of_database_and_back(prepared, migrated, tmp_path):
    directories = [tmp_path / name for name in ("first", "second", "third")]
    for directory in directories:
        directory.mkdir()
    with prepared(directories[0]) as first, migrated(directories[2]) as third:
        second = service.environment(directories[1], DATABASE_URL=f"sqlite:///{directories[1]}/service.sqlite3", PORT=service.free_port())  # fmt: skip
        service.create_database(second["DATABASE_URL"], originals.original("migrated_sqlite")["DATABASE_URL"])
        assert service.manage("shell", "-c", MAKE, env=first).returncode == 0
        with service.served(first):
            token = fetch_token(first)
            expected = answers(first, token)
        for source, target in ((first, second), (second, third)):
            path = Path(source["HOME"], "access")
            exported = service.manage("export_access", str(path), env=source)
            count = len(lines(path)) - 1
            assert (exported.returncode, exported.stderr) == (0, f"Exported {count} rows.\n")
            imported = service.manage("import_access", str(path), env=target)
            said = f"Added {count} rows, replaced 0, found 0 there already.\n"
            assert (imported.returncode, imported.stdout, imported.stderr) == (0, said, "")
            with service.served(target):
                assert answers(target, token) == expected
                secret = {**target, "LOCAL_DIR": first["LOCAL_DIR"]}
                assert answers(secret, fetch_token(secret)) == expected
                assert [log_in(target, "eve", password) for password in ("of eve", "wrong")] == [302, 200]

    assert expected == [
        (201, {"namespace": "Web-a", "name": "view", "timestamp": "1970-01-01T00:00:01Z", "value": 1.0}),
        (403, {"namespace": ["The client is not granted the scope write in “Shop”."]}),
    ]


def answers(env, token):
    """What a token may write."""
    headers = {"Authorization": f"Bearer {token}", "Content_Type": "application/json"}
    events = [{"namespace": each, "name": "view", "timestamp": 1, "value": 1} for each in ("Web-a", "Shop")]
    found = [call(env, "POST", "/api/track/", json.dumps(event), **headers) for event in events]
    return [(status, json.loads(body)) for status, _, body in found]


def log_in(env, username, password):
    _, headers, page = call(env, "GET", "/accounts/login/")
    form = page.decode().partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
    return call(
        env, "POST", "/accounts/login/", f"csrfmiddlewaretoken={form}&username={username}&password={password.replace(' ', '+')}",
        Content_Type="application/x-www-form-urlencoded", Cookie=headers["Set-Cookie"].partition(";")[0],
    )[0]  # fmt: skip


@pytest.fixture
def access(application, make_token):
    """A user with rights of all kinds, a narrowed client and two tokens, of which one has expired."""
    group = Group.objects.create(name="Readers")
    group.permissions.add(*Permission.objects.filter(codename__in=["view_event", "view_rollup"]))
    user = User.objects.create_user("eve", password="of eve", email="eve@tracking.example")
    user.groups.add(group)
    user.user_permissions.add(Permission.objects.get(codename="add_user"))
    application.user = user
    application.save()
    Grant.objects.create(application=application, write_namespaces="Web-*", read_namespaces="", requests_a_minute=0)
    make_token("write", text="valid", resource=["https://a.example"])
    make_token("write", text="expired", expires_in=timedelta(seconds=-1))
    for token in AccessToken.objects.all():
        LongLivedToken.objects.create(token=token, name="router", last_used=timezone.now())
    LongLivedToken.objects.create(token_id=0, name="of a token that was deleted in SQL")


def forget():
    for model in (LongLivedToken, User, Group, Application, AccessToken):
        model.objects.all().delete()


def test_what_people_wrote_is_moved_too(tmp_path, db):
    Annotation.objects.create(
        namespace="Shop", timestamp="2020-11-12T11:10:00.000001Z", end="2020-11-13T00:00:00Z", title="Café", text="a\nb",
        tag_lines="\ndeploy\n",
    )  # fmt: skip
    SeriesSettings.objects.create(namespace="Shop", name="order", unit="EUR", is_hidden=True)
    FormerName.objects.create(namespace="Shop", name="sale", to_namespace="Shop", to_name="order")
    path = tmp_path / "access"
    run("export_access", path)
    [annotation] = Annotation.objects.all()
    before = annotation.answered()
    for model in (Annotation, SeriesSettings, FormerName):
        model.objects.all().delete()
        model.objects.create(**OTHER[model])

    assert run("import_access", path)[0] == "Added 3 rows, replaced 0, found 0 there already.\n"
    assert run("import_access", path)[0] == "Added 0 rows, replaced 0, found 3 there already.\n"

    assert Annotation.objects.get(key=annotation.key).answered() == before
    assert SeriesSettings.objects.filter(name="order", unit="EUR", is_hidden=True).count() == 1
    assert FormerName.objects.renamed([SeriesKey("Shop", "sale")]) == {SeriesKey("Shop", "sale"): "Shop/order"}
    assert Annotation.objects.count() == SeriesSettings.objects.count() == FormerName.objects.count() == 2


OTHER = {
    Annotation: {"namespace": "Shop", "timestamp": "2020-11-12T00:00:00Z", "title": "Another"},
    SeriesSettings: {"namespace": "Shop", "name": "visit"},
    FormerName: {"namespace": "Shop", "name": "visit", "to_namespace": "Shop", "to_name": "view"},
}


def test_alerts_are_moved_with_whom_they_tell(tmp_path, db):
    target = AlertTarget(name="Chat")
    target.set_url("https://chat.example.com/hooks/1")
    target.set_secret("of the chat")
    target.save()
    Alert.objects.create(name="Hot", namespace="Server-*", series_name="cpu.percent", threshold=90).targets.add(target)
    path = tmp_path / "access"
    run("export_access", path)
    assert "hooks/1" not in path.read_text()
    for model in (Alert, AlertTarget):
        model.objects.all().delete()

    assert run("import_access", path)[0] == "Added 2 rows, replaced 0, found 0 there already.\n"
    Evaluator().evaluate_if_due()
    [alert] = Alert.objects.all()
    assert alert.problem == "No series matches."
    alert.save()
    assert run("import_access", path)[0] == "Added 0 rows, replaced 0, found 2 there already.\n"

    assert (alert.name, alert.namespace, alert.series_name, alert.threshold) == ("Hot", "Server-*", "cpu.percent", 90)
    assert [(each.name, each.url, each.secret) for each in alert.targets.all()] == [
        ("Chat", "https://chat.example.com/hooks/1", "of the chat")
    ]


def test_rows_are_stored_as_they_were_whatever_their_ids(access, tmp_path):
    path = tmp_path / "access"
    assert run("export_access", path) == ("", "Exported 6 rows.\n")
    before = path.read_text()
    secret, checksum = Application.objects.get().client_secret, AccessToken.objects.get(scope="write", expires__gt=timezone.now()).token_checksum  # fmt: skip
    expires = AccessToken.objects.get(token_checksum=checksum).expires
    forget()
    User.objects.create_user("another")

    assert run("import_access", path)[0] == "Added 6 rows, replaced 0, found 0 there already.\n"

    assert User.objects.get(username="eve").check_password("of eve")
    assert (Application.objects.get().client_secret, AccessToken.objects.get().token_checksum) == (secret, checksum)
    assert AccessToken.objects.get().expires == expires
    User.objects.get(username="another").delete()
    (tmp_path / "access").rename(tmp_path / "before")
    run("export_access", path)
    assert path.read_text() == before


def test_it_holds_no_secret_and_only_its_owner_reads_it(access, tmp_path):
    path = tmp_path / "access"
    before = os.umask(0)
    try:
        run("export_access", path)
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert not [secret for secret in ("of eve", "shop-secret", '"valid"', '"expired"') if secret in text]
    assert [line.get("model") for line in lines(path)] == [
        None, "auth.group", "auth.user", "oauth2_provider.application", "oauth2_provider.accesstoken", "events.grant",
        "events.longlivedtoken",
    ]  # fmt: skip


def test_a_file_that_is_there_is_left(access, tmp_path):
    path = tmp_path / "access"
    path.write_text("old")

    assert fails("export_access", path) == f"{path} is there already. Choose another name, or remove it."
    assert path.read_text() == "old"


def test_a_failed_export_leaves_no_file(access, tmp_path, monkeypatch):
    monkeypatch.setattr(access_files, "_fields_of", None)

    with pytest.raises(TypeError):
        run("export_access", tmp_path / "access")

    assert list(tmp_path.iterdir()) == []


def test_others_who_can_read_it_are_told_of(access, tmp_path):
    path = tmp_path / "access"
    run("export_access", path)
    path.chmod(0o640)

    assert run("import_access", path)[1] == f"Others can read {path}, which holds hashes of secrets: chmod 600, or remove it.\n"  # fmt: skip


def test_nothing_is_replaced_unasked(access, tmp_path):
    path = tmp_path / "access"
    run("export_access", path)
    User.objects.update(password="!")
    Grant.objects.update(write_namespaces="*")
    AccessToken.objects.all().delete()

    assert fails("import_access", path) == (
        "There already, and not as in the file: user eve, grant shop. Nothing was imported. --overwrite replaces it."
    )
    assert (AccessToken.objects.count(), Grant.objects.get().write_namespaces) == (0, "*")

    assert run("import_access", "--overwrite", path)[0] == "Added 2 rows, replaced 2, found 2 there already.\n"
    assert Grant.objects.get().write_namespaces == "Web-*"
    assert User.objects.get().check_password("of eve")
    User.objects.update(last_login=timezone.now())
    LongLivedToken.objects.update(last_used=None)
    assert run("import_access", path)[0] == "Added 0 rows, replaced 0, found 6 there already.\n"


def test_a_client_that_is_there_without_its_grant_gets_it(access, tmp_path):
    """As after ``dumpdata auth oauth2_provider``, which left the grants behind."""
    run("export_access", tmp_path / "access")
    Grant.objects.all().delete()

    assert run("import_access", tmp_path / "access")[0] == "Added 1 rows, replaced 0, found 5 there already.\n"
    assert Grant.objects.get().write_namespaces == "Web-*"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda all_lines: all_lines[1:], "This is no file of export_access, or one of another version."),
        (lambda all_lines: [], "This is no file of export_access, or one of another version."),
        (lambda all_lines: [all_lines[0], "{"], "A line is no JSON: Expecting property name enclosed in double quotes: line 2 column 1 (char 2)."),
        (lambda all_lines: [all_lines[0], "[" * 200_000], "A line is no JSON: maximum recursion depth exceeded while decoding a JSON array from a unicode string."),
        (lambda all_lines: [all_lines[0], {"model": "events.event", "fields": {}}], "Line 2 can't be understood: KeyError: 'events.event'."),
        (lambda all_lines: [all_lines[0], *all_lines[3:]], "Line 2 can't be understood: ValueError: there is no user eve."),
        (lambda all_lines: [all_lines[0], {"model": "auth.group", "fields": {"name": "x", "permissions": [["fly", "events", "event"]]}}],
         "Line 2 can't be understood: ValueError: there is no permission fly/events/event."),
        (lambda all_lines: [all_lines[0], {"model": "auth.group", "fields": {"name": "x", "permissions": [], "rank": 1}}],
         "Line 2 can't be understood: ValueError: unknown are rank."),
        (lambda all_lines: [*all_lines[:5], {**all_lines[5], "fields": {"application": ["shop"]}}], "Line 6 can't be understood: KeyError: 'write_namespaces'."),
    ],
)  # fmt: skip
def test_a_bad_file_changes_nothing(access, tmp_path, change, said):
    path = tmp_path / "access"
    run("export_access", path)
    forget()
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in change(lines(path))))

    assert fails("import_access", path) == f"{said} Nothing was imported."
    assert User.objects.count() == Group.objects.count() == Application.objects.count() == 0


@pytest.mark.only_on("postgresql")  # SQLite stores the character
def test_a_character_that_the_database_refuses_is_told(access, tmp_path):
    path = tmp_path / "access"
    run("export_access", path)
    forget()
    path.write_text(path.read_text().replace('"eve@tracking.example"', '"\\u0000"'))

    assert fails("import_access", path) == (
        "Line 3 can't be understood: ValueError: A string literal cannot contain NUL (0x00) characters.."
        " Nothing was imported."
    )


def test_a_file_that_can_not_be_read(db, tmp_path):
    assert fails("import_access", tmp_path / "none") == f"[Errno 2] No such file or directory: '{tmp_path}/none' Nothing was imported."  # fmt: skip


def test_whatever_belongs_to_a_user_client_or_token_moves_or_is_left_out_on_purpose():
    moved = access_files.moved_models()
    belongs = {
        model
        for model in apps.get_models()
        for field in model._meta.fields
        if isinstance(field, models.ForeignKey) and field.related_model in moved
    }

    left = {model._meta.label_lower for model in belongs - set(moved)}
    assert left == access_files._LEFT_OUT
    assert all(access_files._name_fields(model) for model in moved)
