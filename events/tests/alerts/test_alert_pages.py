"""The pages of alerts, and the admin's: who may do what there, and what comes of it."""

import re
import statistics
from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from events.aggregation import windows
from events.alerts import preview as previews
from events.alerts import sliding
from events.alerts.forms import AlertForm, TargetForm
from events.alerts.models import Alert, AlertState, AlertTarget, Delivery, Firing
from events.alerts.preview import preview
from events.database.snapshot import snapshot
from events.log.series import SeriesKey
from events.models import Event
from events.tests.alerts.conftest import NOON
from events.tests.support.forms import inputs_of, stored_meanwhile
from events.tests.support.rolling_up import roll_up_all

SEE = ("view_event", "view_alert")
FORM = {
    "name": "CPU", "severity": "critical", "is_enabled": "on", "namespace": "Server-*", "series_name": "cpu",
    "kind": "threshold", "aggregation_type": "avg", "window_minutes": 5, "comparison": "above", "threshold": 90,
    "clear_threshold": 80, "compare_minutes": 10_080, "for_minutes": 10, "resolve_minutes": 5, "delay_minutes": 1,
    "quiet_start": "22:00", "quiet_end": "06:00", "quiet_zone": "Europe/Berlin",
}  # fmt: skip


@pytest.fixture
def log_in(db):
    def log_in(*permissions, is_superuser=False):
        user = User.objects.create_user(
            f"user-{User.objects.count()}", is_superuser=is_superuser, is_staff=is_superuser
        )
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client()
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def admin(log_in):
    return log_in(is_superuser=True)


def text_of(response):
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


PATHS = {
    "/alerts": ("get", SEE), "/alerts/": ("get", SEE), "/alerts/deliveries": ("get", SEE), "/alerts/{alert}": ("get", SEE),
    "/alerts/new": ("get", (*SEE, "add_alert")), "/alerts/{alert}/change": ("get", (*SEE, "change_alert")),
    "/alerts/{alert}/mute": ("post", (*SEE, "change_alert")), "/alerts/{alert}/delete": ("get", (*SEE, "delete_alert")),
    "/alerts/targets": ("get", (*SEE, "view_alerttarget")),
    "/alerts/targets/new": ("get", (*SEE, "view_alerttarget", "add_alerttarget")),
    "/alerts/targets/{target}": ("get", (*SEE, "view_alerttarget", "change_alerttarget")),
    "/alerts/targets/{target}/secret": ("post", (*SEE, "view_alerttarget", "change_alerttarget")),
    "/alerts/targets/{target}/test": ("post", (*SEE, "view_alerttarget", "change_alerttarget")),
    "/alerts/targets/{target}/delete": ("get", (*SEE, "view_alerttarget", "delete_alerttarget")),
    "/alerts/deliveries/{delivery}/again": ("post", (*SEE, "view_alerttarget", "change_alerttarget")),
}  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_who_may_see_and_do_what(path, log_in, make_alert, make_target):
    method, permissions = PATHS[path]
    target = make_target()
    delivery = Delivery.objects.create(target=target, event="test", created_at=NOON, status="failed")
    of_none = path.format(alert=0, target=0, delivery=uuid4())
    path = path.format(alert=make_alert().pk, target=target.pk, delivery=delivery.pk)

    anonymous = getattr(Client(), method)(path)
    assert (anonymous.status_code, anonymous["Location"]) == (302, f"/accounts/login/?next={path}")
    lacking = getattr(log_in(*permissions[:-1]), method)(path)
    assert lacking.status_code == 403
    assert f"It needs events.{permissions[-1]} ." in text_of(lacking)
    assert getattr(log_in(*permissions), method)(path).status_code in {200, 302}
    if of_none != path:
        assert getattr(log_in(*permissions), method)(of_none).status_code == 404
    forged = Client(enforce_csrf_checks=True)
    forged.force_login(User.objects.latest("pk"))
    if method == "post":
        assert forged.post(path).status_code == 403


def test_an_alert_is_made_changed_muted_and_deleted(admin, make_target, time):
    target = make_target()

    made = admin.post("/alerts/new", {**FORM, "targets": [target.pk]})

    alert = Alert.objects.get()
    assert (made.status_code, made["Location"]) == (302, f"/alerts/{alert.pk}")
    assert alert.sentence() == "Server-*/cpu: avg over 5 min above 90 for 10 min"
    assert list(alert.targets.all()) == [target]
    assert alert.created_by == User.objects.get()
    page = admin.get(made["Location"])
    assert "Sent to Ops, not from 22:00 to 06:00 Europe/Berlin." in text_of(page)
    assert "No series matches, so there is nothing to preview." in text_of(page)
    AlertState.objects.create(alert=alert, namespace="Server-1", name="cpu", since=NOON, evaluated_at=NOON)
    admin.post(f"/alerts/{alert.pk}/change", {**FORM, "for_minutes": 3})
    assert Alert.objects.get().for_minutes == 3
    assert AlertState.objects.count() == 1
    admin.post(f"/alerts/{alert.pk}/change", {**FORM, "threshold": 95})
    assert (Alert.objects.get().threshold, AlertState.objects.count(), alert.targets.count()) == (95, 0, 0)
    admin.post(f"/alerts/{alert.pk}/mute", {"minutes": "60"})
    assert Alert.objects.get().muted_until == NOON + timedelta(hours=1)
    assert "It is muted until 2026-11-28 13:00 UTC" in text_of(admin.get(f"/alerts/{alert.pk}"))
    admin.post(f"/alerts/{alert.pk}/mute", {"minutes": "x"})
    assert Alert.objects.get().muted_until is None
    gone = admin.post(f"/alerts/{alert.pk}/delete")
    assert (gone.status_code, gone["Location"], Alert.objects.count()) == (302, "/alerts", 0)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("name", "", "This field is required."),
        (
            "aggregation_type",
            "p101",
            "Choose one of: avg, min, max, sum, count, rate, first, last, stddev, median, p50, p75, p90, p95, p99. Another percentile is a “p” and a number from 0 to 100.",
        ),
        ("namespace", "a*b", "“a*b”: “*” may only end a pattern."),
        ("series_name", "a/b", "“a/b”: no namespace contains “/” nor is “.” or “..”."),
        ("window_minutes", "0", "Ensure this value is greater than or equal to 1."),
        ("window_minutes", "10081", "Ensure this value is less than or equal to 10080."),
        ("threshold", "nan", "Enter a number."),
        ("clear_threshold", "91", "It must not be above the threshold."),
        ("comparison", "either", "Only a change can go either way."),
        ("quiet_end", "", "Quiet hours have a start and an end."),
        ("quiet_zone", "Mars", "Choose an IANA name such as Europe/Berlin."),
        ("severity", "x", "Select a valid choice. x is not one of the available choices."),
        ("targets", "7", "Select a valid choice. 7 is not one of the available choices."),
    ],
)
def test_each_field_that_can_be_wrong(db, field, value, error):
    clear = {"clear_threshold": ""} if field == "threshold" else {}
    form = AlertForm({**FORM, **clear, field: [value] if field == "targets" else value})

    assert form.errors == {field: [error]}


def test_a_form_that_is_wrong_is_shown_again(admin):
    response = admin.post("/alerts/new", {**FORM, "threshold": "x"})

    assert response.status_code == 400
    assert "Enter a number." in text_of(response)


def test_a_preview_draws_the_last_week_and_says_when_it_would_have_fired(admin, make_alert, time):
    Event.objects.bulk_create(
        Event(
            namespace="Server-1",
            name="cpu",
            timestamp=NOON - timedelta(minutes=minute),
            value=99 if 60 <= minute < 90 else 10,
        )
        for minute in range(0, 300, 2)
    )
    Event.objects.create(namespace="Server-2", name="cpu", timestamp=NOON - timedelta(days=1), value=1)
    roll_up_all()

    shown = admin.post("/alerts/new", {**FORM, "for_minutes": 10, "preview": "1"})

    assert Alert.objects.count() == 0
    assert "The last week of Server-1/cpu: it would have fired 1 time." in text_of(shown)
    assert "2026-11-28 10:46 to 2026-11-28 11:08" in text_of(shown)
    assert shown.content.count(b'<rect class="band"') == 1
    assert shown.content.count(b'<path class="threshold"') == 2
    assert b"style=" not in shown.content.replace(b"stylesheet", b"")
    alert = make_alert(namespace="Server-*")
    other = admin.get(f"/alerts/{alert.pk}?series=Server-2/cpu")
    assert "The last week of Server-2/cpu: it would not have fired." in text_of(other)
    assert "The last week of Server-1/cpu" in text_of(admin.get(f"/alerts/{alert.pk}?series=Shop/order"))


KINDS = ["avg", "min", "max", "sum", "count", "rate", "first", "last", "stddev", "median", "p0", "p99.9", "p100"]


@pytest.mark.parametrize("kind", [*KINDS, "silence", "change"])
def test_a_preview_has_the_values_that_the_evaluation_would_have(db, make_alert, kind):
    Event.objects.bulk_create(
        Event(
            namespace="Server-1",
            name="cpu",
            timestamp=NOON - timedelta(seconds=101 * number),
            value=number * 7 % 13 / 10,
        )
        for number in range(60)
    )
    given = {"kind": kind, "compare_minutes": 30} if kind in {"silence", "change"} else {"aggregation_type": kind}
    alert = make_alert(window_minutes=7, delay_minutes=2, **given)
    series = SeriesKey("Server-1", "cpu")

    found = preview(alert, series, NOON, timedelta(hours=2))

    condition = alert.condition
    numbers = range(0, 121, 12)
    asked = [condition.windows(series, found.first + timedelta(minutes=number)) for number in numbers]
    with snapshot():
        values = windows.read([each for of_minute in asked for each in of_minute])
    assert (found.last, len(found.values)) == (NOON - timedelta(minutes=2), 121)
    expected = [condition.value_of([values[each] for each in of_minute]) for of_minute in asked]
    almost = [each if each is None else pytest.approx(each, rel=1e-14) for each in expected]
    assert [found.values[number] for number in numbers] == (almost if kind == "stddev" else expected)


@pytest.mark.parametrize("kind", ["sum", "rate", "avg"])
def test_a_preview_has_no_sum_that_is_beyond_a_double(db, make_alert, kind):
    Event.objects.bulk_create(
        Event(namespace="Server-1", name="cpu", timestamp=NOON - timedelta(minutes=number), value=1e308)
        for number in (2, 3)
    )
    alert = make_alert(window_minutes=2, delay_minutes=0, aggregation_type=kind)

    found = preview(alert, SeriesKey("Server-1", "cpu"), NOON, timedelta(minutes=3))

    of_one = 1e308 / 120 if kind == "rate" else 1e308
    assert found.values == [None if kind == "avg" else 0.0, of_one, 1e308 if kind == "avg" else None, of_one]


def test_a_preview_of_many_events_is_as_long_as_these_may_be_read(admin, make_alert, monkeypatch, time):
    monkeypatch.setattr(previews, "_MOST_EVENTS", 100)
    Event.objects.bulk_create(
        Event(namespace="Server-1", name="cpu", timestamp=NOON - timedelta(seconds=30 * number), value=number)
        for number in range(1, 1_000)
    )
    given = {**FORM, "aggregation_type": "p95", "window_minutes": 10, "threshold": 1e4, "preview": "1"}

    shown = text_of(admin.post("/alerts/new", given))

    # two events a minute, of which the last window has twenty
    assert "Server-1/cpu since 2026-11-28 11:19 UTC, as the week has too many events: it would not have fired." in shown
    assert "Sat 11:19 Sat 11:24" in shown
    shown = text_of(admin.post("/alerts/new", {**given, "window_minutes": 60}))
    assert "The last week of Server-1/cpu: The last window has more than 100 events, too many for a preview." in shown


def test_many_values_stay_in_order_as_they_come_and_go():
    numbers = range(9_000)
    minutes = [[number * 7_919 % 9_001 / 8 for number in numbers[start : start + 3_000]] for start in (0, 3_000, 6_000)]

    found = sliding.percentiles([*minutes, []], 2, 0.25)

    windows_of_two = zip(minutes, [*minutes[1:], []], strict=True)
    expected = [statistics.quantiles([*one, *other], n=4, method="inclusive")[0] for one, other in windows_of_two]
    assert found == expected
    assert sliding.deviations([[1.7e308, -1.7e308], [5e-324, 0.0], [1.5], []], 1) == [None, 5e-324, None, None]


def test_the_list_shows_how_alerts_stand(admin, make_alert, time):
    make_alert(name="calm")
    alert = make_alert(name="loud", muted_until=NOON + timedelta(hours=1))
    for number in range(2):
        AlertState.objects.create(
            alert=alert,
            namespace=f"Server-{number}",
            name="<b>",
            state="firing",
            since=NOON,
            evaluated_at=NOON,
            value=95.5,
        )
    Alert.objects.filter(name="calm").update(problem="No series matches.")

    text = text_of(admin.get("/alerts"))

    assert "No worker has evaluated the alerts yet. A worker does it" in text
    assert text.index("firing 2 loud warning muted") < text.index("ok calm warning")
    assert "No series matches." in text
    page = admin.get(f"/alerts/{alert.pk}")
    assert b"Server-0/&lt;b&gt;" in page.content
    assert b"<b>" not in page.content


def test_what_fired_and_what_was_sent(admin, make_alert, make_target, time):
    alert, target = make_alert(), make_target()
    Firing.objects.create(
        alert=alert, namespace="Server-1", name="cpu", pending_since=NOON, fired_at=NOON, value=99,
        revised_at=NOON, revised_value=50, would_have_fired=False,
    )  # fmt: skip
    made = [
        Delivery.objects.create(target=target, alert=alert, event="firing", subject="CPU fires", body="secret body",
                                created_at=NOON + timedelta(seconds=number), status="failed", attempts=11, outcome="Answered 500.")
        for number in range(51)
    ]  # fmt: skip

    page, log = text_of(admin.get(f"/alerts/{alert.pk}")), text_of(admin.get("/alerts/deliveries"))

    assert "99 is now 50, on which it would not have fired." in page
    assert f"failed CPU fires to Ops, made 2026-11-28 12:00:50 UTC, 11 attempts. Answered 500. {made[50].pk}" in log
    assert "secret body" not in page + log
    assert "Page 1 of 2 Older" in log
    assert "Newer Page 2 of 2" in text_of(admin.get("/alerts/deliveries?page=99"))
    admin.post(f"/alerts/deliveries/{made[0].pk}/again")
    made[0].refresh_from_db()
    assert (made[0].status, made[0].attempts) == ("waiting", 0)


WEBHOOK = {
    "name": "Chat",
    "kind": "webhook",
    "body_format": "slack",
    "url": "https://hooks.example/T0/token",
    "secret": "",
}


def test_a_target_shows_its_secret_once_and_its_url_never(admin):
    made = admin.post("/alerts/targets/new", WEBHOOK)

    target = AlertTarget.objects.get()
    assert made["Cache-Control"] == "max-age=0, no-cache, no-store, must-revalidate, private"
    assert target.secret.startswith("whsec_")
    assert target.secret in made.content.decode()
    pages = [admin.get(path) for path in ("/alerts/targets", f"/alerts/targets/{target.pk}",
                                          f"/admin/events/alerttarget/{target.pk}/change/", "/admin/events/alerttarget/")]  # fmt: skip
    for page in pages:
        assert page.status_code == 200
        assert b"https://hooks.example/\xe2\x80\xa6" in page.content
        assert b"token<" not in page.content
        assert b"T0/token" not in page.content
        assert target.secret.encode() not in page.content
    before = target.secret
    assert (
        admin.post(f"/alerts/targets/{target.pk}", {**WEBHOOK, "url": "", "name": "Chats"})["Location"]
        == "/alerts/targets"
    )
    target.refresh_from_db()
    assert (target.name, target.url, target.secret) == ("Chats", WEBHOOK["url"], before)
    anew = admin.post(f"/alerts/targets/{target.pk}/secret")
    target.refresh_from_db()
    assert target.secret != before
    assert target.secret in anew.content.decode()
    assert admin.post(f"/alerts/targets/{target.pk}/test")["Location"] == "/alerts/deliveries"
    assert Delivery.objects.get().subject == "[info] Test of Chats is tested"
    admin.post(f"/alerts/targets/{target.pk}/delete")
    assert AlertTarget.objects.count() == Delivery.objects.count() == 0


@pytest.mark.parametrize(
    ("given", "errors"),
    [
        ({"url": ""}, {"url": ["A webhook has a URL."]}),
        ({"url": "ftp://a"}, {"url": ["Enter an http or https URL, in ASCII and without user or password."]}),
        ({"kind": "email", "url": ""}, {"addresses": ["Enter one address or more."]}),
        ({"kind": "email", "url": "", "addresses": "x"}, {"addresses": ["Enter a valid email address."]}),
    ],
)
def test_a_target_that_is_wrong(admin, given, errors):
    response = admin.post("/alerts/targets/new", {**WEBHOOK, **given})

    assert (response.status_code, response.context["form"].errors) == (400, errors)


MADE = {
    "url": "For a webhook: where messages are posted. It isn’t shown again.",
    "secret": "For a webhook: left empty, one is made and shown once.",
}
STAYS = dict.fromkeys(MADE, "Left empty, it stays as it is.")


def helps(form):
    return {name: form.fields[name].help_text for name in MADE}


def test_only_what_is_there_is_said_to_stay(admin, make_target):
    mail = AlertTarget.objects.create(name="Mail", kind="email", addresses="ops@example.com").pk
    chat = make_target(name="Chat", secret="s").pk

    pages = [helps(admin.get(f"/alerts/targets/{path}/").context["form"]) for path in ("new", mail, chat)]
    refused = admin.post("/alerts/targets/new/", {**WEBHOOK, "url": ""})
    in_the_admin = [
        helps(admin.get(f"/admin/events/alerttarget/{path}/").context["adminform"].form)
        for path in ("add", f"{mail}/change", f"{chat}/change")
    ]

    assert pages == in_the_admin == [MADE, MADE, STAYS]
    assert (refused.status_code, helps(refused.context["form"])) == (400, MADE)


def test_the_admin_has_them_too(admin, make_alert, make_target, time):
    alert = make_alert()
    AlertState.objects.create(alert=alert, namespace="Server-1", name="cpu", since=NOON, evaluated_at=NOON)
    delivery = Delivery.objects.create(target=make_target(), event="test", created_at=NOON)

    changed = admin.post(f"/admin/events/alert/{alert.pk}/change/", FORM)
    made = admin.post("/admin/events/alerttarget/add/", WEBHOOK, follow=True)

    assert (changed.status_code, Alert.objects.get().name, AlertState.objects.count()) == (302, "CPU", 0)
    assert f"The secret that signs is {AlertTarget.objects.get(name='Chat').secret}." in text_of(made)
    for path in ("alert/", "alert/add/", "delivery/", f"delivery/{delivery.pk}/change/"):
        assert admin.get(f"/admin/events/{path}").status_code == 200
    assert admin.post(f"/admin/events/delivery/{delivery.pk}/change/", {"status": "failed"}).status_code == 403


def test_a_series_with_line_breaks_is_watched_as_it_is(admin):
    page = admin.get("/alerts/new?series=Server%0A1/c%0D%0Apu").text
    series = {name: text for name, text in inputs_of(page).items() if name in {"namespace", "series_name"}}

    assert admin.post("/alerts/new?series=Server%0A1/c%0D%0Apu", {**FORM, **series}).status_code == 302

    alert = Alert.objects.get()
    assert (alert.namespace, alert.series_name) == ("Server\n1", "c\r\npu")
    assert admin.post(f"/alerts/{alert.pk}/change", {**FORM, **series, "name": "Other"}).status_code == 302
    alert = Alert.objects.get()
    assert (alert.name, alert.namespace, alert.series_name) == ("Other", "Server\n1", "c\r\npu")


def test_of_two_alerts_made_at_once_the_second_is_told_that_the_name_is_taken(transactional_db, admin, monkeypatch):
    stored_meanwhile(monkeypatch, AlertForm, Alert(name="CPU", namespace="a", series_name="b", threshold=1))

    page = admin.post("/alerts/new", FORM)

    assert (page.status_code, "Alert with this Name already exists." in text_of(page)) == (400, True)
    assert Alert.objects.values_list("name", "namespace").get() == ("CPU", "a")


def test_of_two_targets_made_at_once_the_second_is_told_that_the_name_is_taken(transactional_db, admin, monkeypatch):
    stored_meanwhile(monkeypatch, TargetForm, AlertTarget(name=WEBHOOK["name"], kind="email"))

    page = admin.post("/alerts/targets/new", WEBHOOK)

    assert (page.status_code, "Alert target with this Name already exists." in text_of(page)) == (400, True)
    assert AlertTarget.objects.values_list("name", "kind").get() == (WEBHOOK["name"], "email")


def test_a_preview_of_the_least_double_is_drawn(admin, make_event, time):
    make_event("Server-1", "cpu", NOON - timedelta(minutes=3), value=5e-324)

    page = admin.post("/alerts/new", {**FORM, "threshold": 0, "clear_threshold": "", "preview": "1"})

    assert (page.status_code, "The last week of Server-1/cpu" in text_of(page)) == (200, True)
