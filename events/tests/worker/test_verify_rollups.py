"""``manage.py verify_rollups``."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from events.models import Event, Rollup
from events.worker import retention, roll_up, verification
from events.worker.retention import Series

pytestmark = pytest.mark.usefixtures("partition_count")

RIGHT = "All rollups of 2 series are right.\n"


@pytest.fixture(autouse=True)
def rolled_up(make_event):
    """Two series, one of whose events lie far apart; and a tail, which is of no concern."""
    for timestamp in (
        "0001-01-01T00:00:00",
        "2024-02-29T11:10:00",
        "2024-02-29T11:10:30",
        "9999-12-31T23:59:59.999999",
    ):
        make_event(timestamp=timestamp, value=0.1)
    make_event(name="click", timestamp="2024-02-29T11:10:00", value=-3)
    while roll_up.take_step():
        pass
    make_event(timestamp="2024-02-29T11:10:00", value=7)


def verify(**options):
    output = StringIO()
    call_command("verify_rollups", stdout=output, **options)
    return output.getvalue()


def verify_and_fail(**options):
    output = StringIO()
    with pytest.raises(CommandError) as error:
        call_command("verify_rollups", stdout=output, **options)
    return output.getvalue().splitlines(), str(error.value)


def test_it_says_that_all_is_right(django_assert_max_num_queries):
    with django_assert_max_num_queries(100):  # and not one a month of 9,999 years
        assert verify() == RIGHT


def in_february():
    return Rollup.objects.filter(name="pageView", bucket__year=2024)


PATH = "Frontend/pageView"
DAMAGES = {
    "count": (
        lambda: in_february().filter(resolution=60).update(count=5),
        [f"{PATH}, Minute 2024-02-29T11:10:00Z: count 5 is 2 by the events"],
    ),
    "sum, min and max of an hour": (
        lambda: in_february().filter(resolution=3600).update(sum=1, min=0.5, max=0.5),
        [f"{PATH}, Hour 2024-02-29T11:00:00Z: sum 1 is 0.2 by the events, min 0.5 is 0.1 by the events, max 0.5 is 0.1 by the events"],
    ),
    "first and last timestamp": (
        lambda: in_february().filter(resolution=60).update(
            first_timestamp=datetime(2024, 2, 29, 11, 10, 1, tzinfo=UTC), last_timestamp=datetime(2024, 2, 29, 11, 10, 1, tzinfo=UTC)
        ),
        [f"{PATH}, Minute 2024-02-29T11:10:00Z: first_timestamp 2024-02-29T11:10:01Z is 2024-02-29T11:10:00Z by the events,"
         " last_timestamp 2024-02-29T11:10:01Z is 2024-02-29T11:10:30Z by the events"],
    ),
    "missing": (
        lambda: in_february().delete(),
        [f"{PATH}, Minute 2024-02-29T11:10:00Z: missing", f"{PATH}, Hour 2024-02-29T11:00:00Z: missing"],
    ),
    "without events": (
        lambda: in_february().filter(resolution=60).update(bucket=datetime(2023, 1, 1, tzinfo=UTC)),
        [f"{PATH}, Minute 2023-01-01T00:00:00Z: stored without events", f"{PATH}, Minute 2024-02-29T11:10:00Z: missing"],
    ),
    "series": (
        lambda: Rollup.objects.filter(name="click", resolution=0).update(count=2),
        ["Frontend/click, whole series 1970-01-01T00:00:00Z: count 2 is 1 by the events"],
    ),
    "a whole series missing": (
        lambda: Rollup.objects.filter(name="click").delete(),
        ["Frontend/click, Minute 2024-02-29T11:10:00Z: missing", "Frontend/click, Hour 2024-02-29T11:00:00Z: missing"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "lines"), DAMAGES.values(), ids=DAMAGES.keys())
def test_it_finds_what_differs_and_repairs_it(damage, lines):
    before = list(Rollup.objects.order_by("pk").values_list())
    damage()

    assert verify_and_fail() == (
        lines, f"{len(lines)} rollups differ from their events. Rebuild them with --repair."
    )  # fmt: skip
    assert verify(repair=True, accept_loss=True).splitlines() == [*lines, f"Repaired {len(lines)} rollups."]
    assert verify() == RIGHT
    assert list(Rollup.objects.order_by("pk").values_list()) == before


def test_it_finds_events_that_were_changed_behind_the_back():
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM events_event WHERE name = 'click'")

    lines, _ = verify_and_fail()

    assert lines == [
        "Frontend/click, Minute 2024-02-29T11:10:00Z: stored without events",
        "Frontend/click, Hour 2024-02-29T11:00:00Z: stored without events",
    ]
    verify(repair=True, accept_loss=True)
    assert not Rollup.objects.filter(name="click").exists()


def test_a_repair_of_what_is_pruned_since_it_was_compared_says_what_to_do(monkeypatch):
    in_february().filter(resolution=3600).update(sum=1)
    before, noon = list(Rollup.objects.order_by("pk").values_list()), datetime(2024, 2, 29, 12, tzinfo=UTC)
    where, repair = f"{PATH}, Hour 2024-02-29T11:00:00Z: sum 1 is 0.2 by the", verification.repair

    def repair_what_is_pruned(of_series):
        assert sum(retention.prune(Series("Frontend", "pageView", noon))) == 3
        repair(of_series)

    with monkeypatch.context() as patch:
        patch.setattr(verification, "repair", repair_what_is_pruned)
        assert verify_and_fail(repair=True) == (
            [f"{where} events"],
            "Events of Frontend/pageView before 2024-02-29T12:00:00Z are pruned: what is known of those hours can't be "
            "changed any more. They were pruned just now; run this again.",
        )

    assert list(Rollup.objects.order_by("pk").values_list()) == before
    assert verify_and_fail(repair=True) == (
        [f"{where} finer rollups"], "1 rollups differ in hours that are pruned, and can't be rebuilt."
    )  # fmt: skip


@pytest.mark.parametrize(
    "mend", [lambda: verify(repair=True, accept_loss=True), roll_up.start_over], ids=["repair", "rebuild"]
)
def test_what_was_answered_wrongly_is_asked_for_anew_once_it_is_right(client_with_scopes, mend):
    client = client_with_scopes("aggregation")
    window = "tsMin=2024-02-29T00:00:00&tsMax=2024-03-01T00:00:00"
    path = f"/api/events/Frontend/click?granularity=hour&aggregationType=sum&{window}"
    right = client.get(path).json()
    Rollup.objects.filter(name="click").update(sum=99)
    wrong = client.get(path)
    assert wrong.json() != right

    mend()

    answer = client.get(path, headers={"If-None-Match": wrong["ETag"]})
    assert (answer.status_code, answer.json()) == (200, right)


def test_the_last_digits_of_a_sum_count():
    Event.objects.bulk_create(
        Event(namespace="Frontend", name="click", timestamp=datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=number), value=0.1 * number)
        for number in range(100)
    )  # fmt: skip
    while roll_up.take_step():
        pass
    hour = Rollup.objects.get(name="click", resolution=3600, bucket=datetime(2024, 1, 1, tzinfo=UTC))
    assert hour.rest != 0
    where = "Frontend/click, Hour 2024-01-01T00:00:00Z"
    for damage, said in (
        ({"sum": hour.sum * (1 + 1e-8)}, "sum 495.00000495 is 495 by the events"),
        ({"sum": hour.sum * (1 + 1e-15)}, "sum 495 is 495 by the events"),
        ({"rest": 0}, "sum 495.0 lacks its last digits"),  # as one from before there was a rest
    ):
        Rollup.objects.filter(pk=hour.pk).update(**damage)
        assert verify_and_fail()[0] == [f"{where}: {said}"]
        call_command("verify_rollups", repair=True, stdout=StringIO(), stderr=StringIO())
        assert Rollup.objects.get(pk=hour.pk) == hour
        assert Rollup.objects.values_list("sum", "rest").get(pk=hour.pk) == (hour.sum, hour.rest)
    assert verify() == RIGHT


def test_what_two_doubles_do_not_hold_is_right_to_some_digits():
    Event.objects.bulk_create(
        Event(namespace="Frontend", name="click", timestamp=datetime(2024, 1, 1, tzinfo=UTC), value=value)
        for value in (2.0**53, 1.0, 1e-300)
    )
    while roll_up.take_step():
        pass
    hour = Rollup.objects.filter(name="click", resolution=3600, bucket=datetime(2024, 1, 1, tzinfo=UTC))
    assert hour.values_list("sum", "rest", "is_exact").get() == (2.0**53 + 2, -1.0, False)
    assert verify() == RIGHT

    hour.update(sum=2.0**53, rest=1)
    assert verify() == RIGHT
    hour.update(sum=2.0**53 + 2.0**20)
    assert len(verify_and_fail()[0]) == 1
