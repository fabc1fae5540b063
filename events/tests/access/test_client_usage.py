"""What each client has sent, as counted, written down and shown."""

from datetime import UTC, datetime
from threading import Thread

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from oauth2_provider.models import Application
from rest_framework.test import APIClient

from events.access import usage
from events.access.usage import UsageMeter, usage_meter
from events.models import ClientUsage
from events.tests.support import service
from events.tests.support.bodies import SMALL as EVENT
from events.tests.support.service import call, fetch_token
from events.tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def counting(settings):
    """Turned on, and written down by the test alone."""
    settings.CLIENT_USAGE_SECONDS = 3_600
    usage_meter.forget()
    yield
    usage_meter.forget()


def written():
    usage_meter.flush()
    return {row.client: (row.requests, row.events) for row in ClientUsage.objects.all()}


def test_it_counts_requests_and_events(client_with_scopes):
    client = client_with_scopes("write read")

    client.post("/api/track/", EVENT)
    client.post("/api/track/", [EVENT, EVENT])
    client.get("/api/events/")
    assert written() == {"shop": (3, 3)}

    client.post("/api/track/", EVENT)
    assert written() == {"shop": (4, 4)}


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (lambda client: client.post("/api/track/", {}), 400),
        (lambda client: client.get("/api/events/"), 403),
        (lambda client: client.get("/api/track/"), 405),
    ],
)
def test_a_refused_request_counts_as_one_without_events(client_with_scopes, call, status):
    assert call(client_with_scopes("write")).status_code == status
    assert written() == {"shop": (1, 0)}


def test_a_repeated_request_stores_nothing_and_so_counts_no_events(client_with_scopes):
    client = client_with_scopes("write")

    for _ in range(3):
        client.post("/api/track/", [EVENT, EVENT], headers={"Idempotency-Key": "1"})

    assert written() == {"shop": (3, 2)}


def test_who_has_no_token_is_not_counted(db):
    APIClient().get("/api/events/")
    APIClient(headers={"Authorization": "Bearer x"}).get("/api/events/")

    assert written() == {}


def test_a_token_of_a_user_counts_for_the_user(make_token):
    user = User.objects.create_user("ada")
    token = make_token("read", application=None, user=user)

    APIClient(headers={"Authorization": f"Bearer {token}"}).get("/api/events/")

    assert written() == {f"user {user.pk}": (1, 0)}


def test_it_can_be_turned_off(client_with_scopes, settings):
    settings.CLIENT_USAGE_SECONDS = 0

    client_with_scopes("write").post("/api/track/", EVENT)

    assert written() == {}
    assert usage_meter._timer is None


def test_counting_makes_no_query(client_with_scopes, statements):
    client = client_with_scopes("write")
    client.post("/api/track/", EVENT)

    with statements() as sent:
        client.post("/api/track/", EVENT)

    assert len(sent) == 1


def test_the_latest_use_stays(db, monkeypatch):
    """Also where another process, which has seen an earlier one, writes later."""
    moments = iter([1_600_000_000.5, 1_500_000_000])
    monkeypatch.setattr(usage.time, "time", lambda: next(moments))
    for _ in range(2):
        usage_meter.count_request("shop")
        usage_meter.flush()

    assert ClientUsage.objects.get().last_used == datetime(2020, 9, 13, 12, 26, 40, 500_000, tzinfo=UTC)
    assert written() == {"shop": (2, 0)}


def test_what_could_not_be_written_is_written_the_next_time(db, monkeypatch, caplog):
    def fail(counts):
        raise OperationalError("away")

    usage_meter.count_events("shop", 5)
    with monkeypatch.context() as patch:
        patch.setattr(usage, "_add", fail)
        usage_meter.flush()
    usage_meter.count_request("shop")
    usage_meter.count_events("stall", 1)

    assert "The use by clients is not written down yet: away" in caplog.text
    assert written() == {"shop": (1, 5), "stall": (0, 1)}


def test_threads_lose_no_count(db):
    def count():
        for _ in range(2_000):
            usage_meter.count_request("shop")
            usage_meter.count_events("shop", 2)

    threads = [Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert written() == {"shop": (8_000, 16_000)}


def test_one_timer_serves_many_counts():
    meter = UsageMeter()
    meter.count_request("shop")
    timer = meter._timer
    meter.count_request("stall")

    assert timer.daemon
    assert (timer.interval, meter._timer) == (3_600, timer)
    meter.forget()
    assert meter._timer is None


def test_the_admin_shows_it(admin_client, application):
    page = "/admin/oauth2_provider/application/"
    assert '<td class="field-last_used">never</td>' in admin_client.get(page).text

    ClientUsage.objects.create(
        client="shop", last_used=datetime(2020, 11, 12, 11, 10, 0, 5, tzinfo=UTC), requests=3, events=70
    )

    listed = admin_client.get(page).text
    assert '<td class="field-last_used">2020-11-12T11:10:00Z</td>' in listed
    assert '<td class="field-requests">3</td><td class="field-events">70</td>' in listed
    form = admin_client.get(f"{page}{application.pk}/change/").text
    assert '<div class="readonly">2020-11-12T11:10:00Z</div>' in form
    assert '<div class="readonly">70</div>' in form


def test_the_admin_sorts_applications_by_every_column(admin_client, application):
    other = Application.objects.create(
        name="Till", client_id="till", client_type="public", authorization_grant_type="implicit"
    )
    for number, client in enumerate((application, other), 1):
        last_used = datetime(2020, 11, number, tzinfo=UTC)
        ClientUsage.objects.create(client=client.client_id, last_used=last_used, requests=number, events=number)

    def shown(order):
        page = admin_client.get("/admin/oauth2_provider/application/", {"o": order})
        return [row.pk for row in page.context["cl"].result_list]

    in_order = [application.pk, other.pk]
    assert [shown(str(column)) for column in range(1, 8)] == [in_order] * 7
    assert [shown(f"-{column}") for column in range(1, 8)] == [in_order[::-1]] * 7


def test_the_admin_takes_no_figures(admin_client, application):
    page = f"/admin/oauth2_provider/application/{application.pk}/change/"
    fields = {field.html_name: field.value() for field in admin_client.get(page).context["adminform"].form}
    form = {name: value for name, value in fields.items() if value is not None} | {"requests": "9", "name": "Stall"}
    for inline in ("client_grant", "accesstoken_set"):
        form |= {f"{inline}-TOTAL_FORMS": "0", f"{inline}-INITIAL_FORMS": "0"}

    assert admin_client.post(page, form).status_code == 302
    application.refresh_from_db()
    assert application.name == "Stall"
    assert not ClientUsage.objects.exists()


def test_the_form_of_a_new_application_shows_that_it_was_never_used(admin_client):
    form = admin_client.get("/admin/oauth2_provider/application/add/").text

    assert '<div class="readonly">never</div>' in form


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize(("seconds", "stop"), [(1, False), (3_600, True)])
def test_a_served_process_writes_it_down_in_time_and_when_it_stops(prepared, tmp_path, seconds, stop):
    sql = "SELECT requests, events FROM events_clientusage WHERE client <> ''"
    with prepared(tmp_path, CLIENT_USAGE_SECONDS=seconds, SERVER_WORKERS=2) as env:
        with service.served(env):
            headers = {"Authorization": f"Bearer {fetch_token(env)}", "Content_Type": "application/json"}
            for _ in range(8):
                body = '[{"namespace":"a","name":"b","timestamp":0,"value":1}]'
                assert call(env, "POST", "/api/track/", body, **headers)[0] == 201
            if not stop:
                wait_until(lambda: service.query(env, sql) == [(8, 8)])
        assert service.query(env, sql) == [(8, 8)]
