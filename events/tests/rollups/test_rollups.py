"""The roller, and what changes stored events: the rollups are always just what the events up to the watermark make."""

from datetime import timedelta
from math import ceil

import pytest
from django.core import serializers
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client

from events.aggregation.answer import aggregate
from events.aggregation.question import Question
from events.models import Event, Resolution, Rollup, Watermark
from events.tests.support.rolling_up import START, events, expected, roll_up_all, stored
from events.worker import pacing, roll_up

pytestmark = pytest.mark.usefixtures("partition_count", "short_steps")


@pytest.mark.one_partition
def test_it_adds_each_event_once_step_by_step(db):
    Event.objects.bulk_create([*events(20), *events(5, "memory"), *events(10, start=START - timedelta(hours=3))])

    assert roll_up.take_step()[:3] == (7, Event.objects.order_by("pk")[6].pk, True)
    assert stored() == expected()
    steps = [roll_up.take_step() for _ in range(4)]

    assert [step[0] for step in steps] == [7, 7, 7, 7]
    assert roll_up.take_step() is None
    assert Watermark.objects.highest() == Event.objects.latest("pk").pk
    assert stored() == expected()
    assert {key[0] for key in stored()} == {60, 3600, 0}
    assert Rollup.objects.event_count() == 35


@pytest.mark.one_partition
def test_ids_that_are_missing_make_no_empty_step(make_event):
    ids = [make_event().pk for _ in range(12)]
    Event.objects.among([*ids[:3], *ids[5:9]])._raw_delete(connection.alias)

    steps = []
    while step := roll_up.take_step(most_events=3):
        steps.append(step[:3])

    by_ids, by_events = [(2, ids[5], True), (3, ids[11], False)], [(3, ids[9], True), (2, ids[11], False)]
    assert steps == {"postgresql": by_ids, "sqlite": by_events}[connection.vendor]
    assert Watermark.objects.highest() == ids[11]


def test_without_events_there_is_nothing_to_do(db):
    assert roll_up.take_step() is None
    assert (stored(), Watermark.objects.highest()) == ({}, 0)


def test_late_events_are_added_to_their_old_buckets(db):
    Event.objects.bulk_create(events(6))
    roll_up_all()
    Event.objects.bulk_create(events(6, step=timedelta(seconds=24), start=START + timedelta(microseconds=1)))
    roll_up_all()

    assert stored() == expected()


@pytest.mark.parametrize("resolutions", [["minute"], ["hour"], ["minute", "hour"]])
def test_the_resolutions_are_a_setting_that_a_rebuild_takes_over(db, settings, resolutions):
    Event.objects.bulk_create(events(12))
    roll_up_all()
    settings.ROLLUP_RESOLUTIONS = resolutions
    Event.objects.bulk_create(events(3, "memory"))
    roll_up_all()
    assert stored() == expected()  # as before, until the rebuild

    call_command("roll_up", "--rebuild", verbosity=0)

    assert stored() == expected([*(Resolution[each.upper()].value for each in resolutions), 0])
    Event.objects.all()[4].delete()
    assert stored() == expected([*(Resolution[each.upper()].value for each in resolutions), 0])


def change_by_saving(event):
    event.value, event.timestamp = 99.0, event.timestamp - timedelta(days=40)
    event.save()


def change_by_loading(event):
    event.name = "loaded"
    [fixture] = serializers.deserialize("json", serializers.serialize("json", [event]))
    fixture.save()


def change_by_conflict(event):
    event.value, event.namespace = 5.5, "Server-2"
    Event.objects.bulk_create(
        [event], update_conflicts=True, unique_fields=["id"], update_fields=["value", "namespace"]
    )


CHANGES = {
    "save": change_by_saving,
    "save of some fields": lambda event: Event(pk=event.pk, value=7.5).save(update_fields=["value"]),
    "delete": lambda event: event.delete(),
    "update of values": lambda event: Event.objects.filter(name="cpu").update(value=2.5),
    "update of timestamps": lambda event: Event.objects.filter(pk__gte=event.pk).update(timestamp=START),
    "update of names": lambda event: Event.objects.filter(name="cpu", pk__lte=event.pk).update(name="memory"),
    "bulk update": lambda event: Event.objects.bulk_update([Event(pk=event.pk, value=0.125, name="x")], ["value", "name"]),
    "queryset delete": lambda event: Event.objects.filter(pk__lte=event.pk).delete(),
    "delete all": lambda event: Event.objects.all().delete(),
    "delete none": lambda event: Event.objects.none().delete(),
    "loaddata": change_by_loading,
    "bulk create over": change_by_conflict,
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_of_a_stored_event_rebuilds_its_buckets(db, change):
    Event.objects.bulk_create([*events(25), *events(4, "memory")])
    for _ in range(3):
        roll_up.take_step()
    before = stored()

    change(Event.objects.order_by("pk")[3])

    assert stored() == expected()
    assert (stored() == before) == (change is CHANGES["delete none"])
    roll_up_all()
    assert stored() == expected()


@pytest.mark.one_partition
def test_an_event_with_a_chosen_id_below_the_watermark_is_added(db):
    Event.objects.bulk_create(events(9))
    roll_up_all()
    [gone, other] = Event.objects.order_by("pk")[2:4]
    Event.objects.filter(pk__in=[gone.pk, other.pk]).delete()

    Event.objects.create(pk=gone.pk, namespace="Server-1", name="memory", timestamp=START, value=1)
    Event.objects.bulk_create([Event(pk=other.pk, namespace="Server-1", name="memory", timestamp=START, value=2)])

    assert stored() == expected()
    assert Rollup.objects.get(resolution=0, name="memory").count == 2


@pytest.mark.parametrize("pk", [0, -1])
def test_an_id_below_any_watermark_is_refused(db, pk):
    event = Event(pk=pk, namespace="a", name="b", timestamp=START, value=1)

    for create in (event.save, lambda: Event.objects.bulk_create([event])):
        with pytest.raises(ValueError, match="1 or more"):
            create()


@pytest.mark.parametrize("field", ["id", "pk"])
def test_a_stored_event_keeps_its_id(db, field):
    with pytest.raises(TypeError, match="keeps its id"):
        Event.objects.filter(pk=2).update(**{field: 1})


def test_a_failed_change_leaves_all_as_it_was(db):
    Event.objects.bulk_create(events(9))
    roll_up_all()
    before = stored()

    with transaction.atomic():
        Event.objects.filter(value__gt=0).delete()
        transaction.set_rollback(True)

    assert (stored(), Event.objects.count()) == (before, 9)


def test_a_limited_queryset_can_not_be_deleted(db):
    with pytest.raises(TypeError, match="limit"):
        Event.objects.all()[:3].delete()


def test_deleting_loads_no_event(db, django_assert_max_num_queries):
    Event.objects.bulk_create(events(200))
    roll_up_all()

    with django_assert_max_num_queries(20):
        Event.objects.filter(name="cpu").delete()


def test_the_admin_rebuilds_too(admin_user):
    Event.objects.bulk_create(events(9))
    roll_up_all()
    admin, [first, second, third] = Client(), Event.objects.order_by("pk")[:3]
    admin.force_login(admin_user)

    changed = {
        "namespace": "Server-3",
        "name": "cpu",
        "timestamp_0": "2024-02-28",
        "timestamp_1": "23:00:00",
        "value": "4",
    }
    assert admin.post(f"/admin/events/event/{first.pk}/change/", changed).status_code == 302
    assert admin.post(f"/admin/events/event/{second.pk}/delete/", {"post": "yes"}).status_code == 302
    action = {"action": "delete_selected", "_selected_action": [third.pk], "post": "yes"}
    assert admin.post("/admin/events/event/", action).status_code == 302

    assert Event.objects.count() == 7
    assert stored() == expected()


def test_a_dump_is_loaded_as_events_and_rolled_up_anew(db, tmp_path):
    Event.objects.bulk_create(events(9))
    roll_up_all()
    call_command("dumpdata", "events", output=str(tmp_path / "dump.json"), verbosity=0)
    natural = ["--natural-primary", "--natural-foreign"]
    call_command("dumpdata", "events", *natural, output=str(tmp_path / "natural.json"), verbosity=0)
    before = stored()

    for dump in ("dump.json", "natural.json"):
        Event.objects.all().delete()
        call_command("loaddata", str(tmp_path / dump), verbosity=0)
        roll_up_all()
        assert stored() == before == expected()


@pytest.mark.parametrize("chosen", [False, True])
def test_after_a_fixture_new_events_are_past_the_watermark(db, tmp_path, chosen):
    Event.objects.bulk_create(events(9))
    roll_up_all()
    first, newest = Event.objects.earliest("pk"), Event.objects.latest("pk").pk
    fixture = serializers.serialize("json", [first], use_natural_primary_keys=not chosen)
    (tmp_path / "event.json").write_text(fixture.replace(f'"pk": {first.pk}', f'"pk": {newest + 5}'))
    Event.objects.exclude(pk=first.pk).delete()

    call_command("loaddata", str(tmp_path / "event.json"), verbosity=0)
    Event.objects.bulk_create(events(1))

    assert Event.objects.latest("pk").pk == newest + (6 if chosen else 1)
    roll_up_all()
    assert stored() == expected()


@pytest.mark.parametrize("values", [[1.7e308, 1.7e308], [1.7e308, -1.7e308, 1.0], [-1e300, 0.5]])
@pytest.mark.parametrize("kind", ["avg", "sum", "min", "max", "count"])
def test_huge_values_stop_nothing_and_stay_right(db, values, kind):
    def ask():
        question = Question(namespace="a", name="b", granularity="year", aggregation_type=kind)
        try:
            return [item["value"] for item in aggregate(question)]
        except Exception as error:
            return str(error)

    for value in values:
        Event.objects.create(namespace="a", name="b", timestamp=START, value=value)
    before = ask()
    roll_up_all()
    assert ask() == before
    assert Watermark.objects.highest() == Event.objects.latest("pk").pk

    Event.objects.order_by("pk").first().delete()
    assert Rollup.objects.get(resolution=60).count == len(values) - 1


@pytest.mark.not_on_a_cluster
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_read_that_meets_a_long_tail_has_it_rolled_up_in_the_background(
    settings, client_with_scopes, form, partition_count
):
    client = client_with_scopes("aggregation")

    def ask():
        response = client.get("/api/events/Server-1/cpu", {"format": form})
        assert response.status_code == 200
        return b"".join(response) if form == "csv" else response.content

    Event.objects.bulk_create(events(20))
    # ids go on from one test to the next
    settings.ROLLUP_TAIL_EVENTS = ceil(Event.objects.latest("pk").pk / partition_count)
    ask()
    assert Watermark.objects.highest() == 0
    Event.objects.bulk_create(events(partition_count))

    before = ask()

    assert pacing._background_lock.acquire(timeout=120)  # once the thread has let go of it
    pacing._background_lock.release()
    assert stored() == expected()
    assert Rollup.objects.event_count() == 20 + partition_count
    assert ask() == before
