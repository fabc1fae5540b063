"""Renaming, merging and deleting series: what is answered between any two steps of it."""

import time
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import models
from rest_framework.exceptions import ValidationError as BadRequest

from events import renaming
from events.aggregation import windows
from events.aggregation.answer import Answer, aggregate
from events.aggregation.catalogue import Catalogue
from events.aggregation.question import Question, Window
from events.alerts.watched import Watched
from events.database import partitions
from events.database.snapshot import snapshot
from events.log.namespace_patterns import Namespaces
from events.log.series import SeriesKey
from events.models import (
    Alert,
    AlertState,
    Board,
    Event,
    Firing,
    FormerName,
    Histogram,
    Pruned,
    Rollup,
    SeriesSettings,
    Watermark,
)  # fmt: skip
from events.rollups.rebuild import MovingError
from events.series import overview
from events.series.statistics import statistics
from events.tests.support import partitioned
from events.tests.support.answers import catalogue, stream
from events.tests.support.commands import fails, run
from events.tests.support.examples import IS_THOROUGH
from events.tests.support.rolling_up import roll_up_all
from events.worker import moving, retention, roll_up
from events.worker.moving import Mover

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("partition_count", "short_steps"),
    pytest.mark.partitions_on("postgresql"),
]

NOW = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
START = datetime(2024, 2, 28, 22, 58, 30, tzinfo=UTC)
OLD = SeriesKey("Shop", "odrer")
WATCHED = ("avg", "min", "sum", "count", "rate", "first", "last", "p90")


@pytest.fixture(autouse=True)
def short_steps(monkeypatch):
    pace = moving._Pace(least_rows=30, most_rows=30, seconds=1)
    monkeypatch.setattr(moving, "_PACES", {"postgresql": pace, "sqlite": pace})
    monkeypatch.setattr(moving, "_CLAIM_SECONDS", 0)  # whoever took the last step was killed a while ago
    monkeypatch.setattr(overview.timezone, "now", lambda: NOW)


@pytest.fixture
def new():
    """A name in the same partition."""
    return partitioned.name_beside(OLD)


def add(key, count, start=START, step=timedelta(minutes=31, seconds=11), value=0.0):
    Event.objects.bulk_create(
        Event(namespace=key[0], name=key[1], timestamp=start + number * step, value=value + number * 3 % 17 / 8)
        for number in range(count)
    )


WINDOW = {"ts_min": START + timedelta(minutes=40), "ts_max": START + timedelta(hours=8, seconds=17)}
QUESTIONS = [
    {"granularity": "hour", "aggregation_type": "avg"},
    {"granularity": "day", "aggregation_type": "sum", **WINDOW},
    {"granularity": "minute", "aggregation_type": "count", **WINDOW},
    {"granularity": "none", "aggregation_type": "sum", **WINDOW},
    {"granularity": "day", "aggregation_type": "p95"},
    {"granularity": "hour", "aggregation_type": "p50", **WINDOW},
    {"granularity": "day", "aggregation_type": "stddev", **WINDOW},
    {"granularity": "hour", "aggregation_type": "first", **WINDOW},
    {"granularity": "year", "aggregation_type": "last"},
    {"granularity": "day", "aggregation_type": "rate", **WINDOW},
    {"granularity": "hour", "aggregation_type": "avg", "fill": "previous", **WINDOW},
]
if IS_THOROUGH:
    QUESTIONS += [
        *(
            {"granularity": granularity, "aggregation_type": kind, **window}
            for granularity, kind, window in product(
                ("hour", "day", "none"),
                ("avg", "min", "max", "sum", "count", "p5", "p99", "stddev", "first", "last", "rate"),
                ({}, WINDOW),
            )
        ),
        {"granularity": "hour", "fill": "zero", "label": "bucket"},
        {"granularity": "month", "aggregation_type": "sum", "fill": "null", **WINDOW},
    ]


def asked(question, key, answer=aggregate):
    try:
        found = list(answer(Question(namespace=key[0], name=key[1], **question)))
    except BadRequest as error:
        return error.get_full_details()
    if question.get("aggregation_type") == "stddev":  # its last digits depend on the order in which rows are read
        return [{**item, "value": item["value"] and float(f"{item['value']:.12g}")} for item in found]
    return found


def streamed(key):
    return list(stream(hourly(key)))


def hourly(key):
    return Question(namespace=key[0], name=key[1], granularity="hour", **WINDOW)


def asked_for_statistics(key):
    try:
        return statistics(hourly(key)).answered()
    except BadRequest as error:
        return error.get_full_details()


def listed(key):
    return Catalogue(names=Namespaces(frozenset([key[1]]), ())).page(5).series


def overlooked(key):
    orders = ("changePercent", "name", "lastValue") if IS_THOROUGH else ("changePercent",)
    return [list(overview.Overview(search=key[1]).page(1, order).lines) for order in orders]


def watched(key):
    """What alerts read of a series."""
    with snapshot():
        asked = [Window(SeriesKey(*key), kind, *WINDOW.values()) for kind in WATCHED]
        found = [each if isinstance(each, float | None) else str(each) for each in windows.read(asked).values()]
        return found, len(windows.stored_series([SeriesKey(*key)]))


LOOKS = [
    *(partial(asked, question) for question in QUESTIONS),
    streamed,
    asked_for_statistics,
    listed,
    overlooked,
    watched,
]
FEW = 5


def answers(key, number=None):
    """What is answered of a series, by the number of the look; by every few of these where one of the few is given."""
    numbers = range(len(LOOKS)) if number is None or IS_THOROUGH else range(number % FEW, len(LOOKS), FEW)
    return {each: nameless(LOOKS[each](key)) for each in numbers}


def nameless(found):
    if isinstance(found, dict):
        return {name: nameless(each) for name, each in found.items() if name not in {"namespace", "name", "renamedTo"}}
    return [nameless(each) for each in found] if isinstance(found, list | tuple) else found


def part(found, like):
    return {number: found[number] for number in like}


def etag(key):
    with snapshot():
        return Answer(Question(namespace=key[0], name=key[1])).version()


NOBODY = SeriesKey("Nobody", "knows")


CASES = {
    "nothing is rolled up": (0, 24, None, ""),
    "the watermark is in its middle": (15, 9, None, ""),
    "hours are pruned": (18, 6, timedelta(hours=5), ""),
    "both have histograms": (15, 9, None, "Shop Till"),
}
if IS_THOROUGH:
    CASES |= {
        "all is rolled up": (24, 0, None, ""),
        "the old name has histograms": (15, 9, None, "Shop"),
        "the new name has histograms": (15, 9, None, "Till"),
        "histograms are pruned": (18, 6, timedelta(hours=5), "Shop Till"),
    }


@pytest.mark.parametrize("merge", [False, True] if IS_THOROUGH else [True])
@pytest.mark.parametrize(
    ("rolled_up", "tail", "prune", "histograms"),
    [
        pytest.param(*case, id=name, marks=[] if IS_THOROUGH or case[-1] else [pytest.mark.one_partition])
        for name, case in CASES.items()
    ],
)
def test_between_two_steps_every_answer_is_that_of_the_new_name(
    new, settings, rolled_up, tail, prune, histograms, merge
):
    settings.ROLLUP_HISTOGRAMS = Namespaces.of(histograms.replace(" ", "\n"))

    def store(old, into):
        """The same events, under both names or under the new one alone."""
        add(old, rolled_up)
        if merge:
            add(into, 12, START + timedelta(minutes=7), value=0.5)
        roll_up_all()
        for key in {old, into} if prune else ():
            list(
                retention.prune(retention.Series(key.namespace, key.name, (START + prune).replace(minute=0, second=0)))
            )
        add(old, tail, START + timedelta(hours=3, seconds=1))

    if histograms == "Till":  # then those of the series that is moved are not there, and exact values are answered
        settings.ROLLUP_HISTOGRAMS = Namespaces.of("")
    store(new, new)
    expected, unknown = answers(new), answers(NOBODY)
    settings.ROLLUP_HISTOGRAMS = Namespaces.of(histograms.replace(" ", "\n"))
    for model in (Event, Rollup, Pruned, Histogram):
        models.QuerySet(model)._raw_delete("default")
    store(OLD, new)
    before = etag(new), etag(OLD)
    checked = []

    def check():
        found = answers(new, len(checked))
        assert found == part(expected, found)
        found = answers(OLD, len(checked) + 1)
        assert found == part(unknown, found)
        checked.append(etag(new))

    begun = renaming.move(OLD, new, merge=merge)

    check()
    while Watermark.objects.moves():
        for _ in Mover(begun).steps(lambda: False):  # whoever took the last step was killed
            check()
            break
        roll_up.take_step(most_events=5)
    check()
    assert len(checked) >= 4
    assert not {*before} & {*checked}
    roll_up_all()
    assert answers(new) == expected
    assert not Rollup.objects.of_series(*OLD).exists()
    assert not Event.objects.of_series(*OLD).exists()
    assert not Histogram.objects.of_series(*OLD).exists()
    if histograms != "Till":
        call_command("verify_rollups")


@pytest.mark.parametrize("kind", ["avg", "sum", "count", "p50", "p90", "stddev", "first", "last"])
def test_what_both_series_have_at_one_instant_is_one_item_streamed_or_not(new, kind):
    question = {"aggregation_type": kind}  # not grouped
    for key in (OLD, NOBODY):
        add(key, 12)
    for key in (new, NOBODY):
        add(key, 12, value=2.5)
    expected = asked(question, NOBODY)
    assert len(expected) == 12
    roll_up_all()
    begun = renaming.move(OLD, new, merge=True)

    def check():
        assert asked(question, new) == asked(question, new, stream) == expected

    check()
    for _ in Mover(begun).steps(lambda: False):
        check()
    check()


def test_what_comes_under_the_old_name_since_is_a_series_of_its_own(new):
    add(OLD, 20)
    roll_up_all()
    add(OLD, 5, START + timedelta(hours=2))
    begun = renaming.move(OLD, new)
    of_new = answers(new)
    add(OLD, 12, START + timedelta(hours=1, minutes=3), value=3.0)
    add(NOBODY, 12, START + timedelta(hours=1, minutes=3), value=3.0)
    own, versions = answers(NOBODY), []

    def check():
        versions.append(etag(OLD))
        found = answers(OLD, len(versions))
        assert found == part(own, found)
        found = answers(new, len(versions))
        assert found == part(of_new, found)

    check()
    roll_up_all()  # past what the rollups of the old name can hold before they are moved
    check()
    for _ in Mover(begun).steps(lambda: False):
        check()
    assert Watermark.objects.moves() == []
    roll_up_all()
    assert (answers(OLD), answers(new)) == (own, of_new)
    call_command("verify_rollups")
    assert Rollup.objects.of_series(*OLD).whole_series().get().count == 12


def test_a_deleted_series_is_unknown_at_once_and_what_comes_since_is_a_new_one(new):
    add(OLD, 20)
    roll_up_all()
    list(retention.prune(retention.Series(*OLD, (START + timedelta(hours=3)).replace(minute=0, second=0))))
    add(OLD, 5, START + timedelta(hours=2))
    add(new, 3)
    others, unknown, version = answers(new), answers(NOBODY), etag(OLD)
    SeriesSettings.objects.create(namespace=OLD.namespace, name=OLD.name, unit="EUR")

    begun = renaming.move(OLD, None)

    assert (answers(OLD), answers(new)) == (unknown, others)
    assert etag(OLD) != version
    roll_up.take_step(most_events=3)
    add(OLD, 4, value=9.0)
    for _ in Mover(begun).steps(lambda: False):
        assert asked({"aggregation_type": "count", "granularity": "year"}, OLD)[0]["value"] == 4
        assert [line["count"] for line in listed(OLD)] == [4]
        roll_up_all()
    assert answers(new) == others
    assert (Watermark.objects.moves(), SeriesSettings.objects.count(), Pruned.objects.count()) == ([], 0, 0)
    assert Event.objects.of_series(*OLD).count() == Rollup.objects.of_series(*OLD).whole_series().get().count == 4
    call_command("verify_rollups")


def test_what_is_stored_of_it_can_not_be_changed_meanwhile(new):
    add(OLD, 4)
    roll_up_all()
    add(OLD, 2)
    begun = renaming.move(OLD, new)
    events = Event.objects.of_series(*OLD)

    for change in (
        events.delete,
        lambda: events.filter(value=0).update(value=1),
        events.first().delete,
        lambda: Event.objects.filter(pk=events.last().pk).update(name="other"),
        roll_up.start_over,
    ):
        with pytest.raises(MovingError, match=f"^{begun}: what is stored of it can't be changed until that is done.$"):
            change()
    assert events.first().is_moving()
    assert list(retention.prune(retention.Series(*OLD, NOW.replace(minute=0)))) == []
    assert list(retention.older_than(timedelta())) == []
    call_command("verify_rollups")
    assert events.count() + Event.objects.of_series(*new).count() == 6


REFUSED = {
    ("Nobody/knows", "Shop/b"): "There is no series Nobody/knows.",
    ("Shop/a", "Shop/a"): "Shop/a has this name already.",
    ("Shop/a", "Shop/.."): "No series can be called Shop/..: This field may not contain “/” nor be “.” or “..”.",
    ("Shop/a", f"Shop/{'x' * 256}"): f"No series can be called Shop/{'x' * 256}: Ensure this value has at most 255 "
    "characters (it has 256).",
    ("Shop/a", "Shop/b\0"): "No series can be called Shop/b\0: Null characters are not allowed.",
    ("Shop/a", "Shop/taken"): "There is a series Shop/taken already, of 2 events: merge into it.",
    ("Shop/a", "Shop/free", "--merge"): "There is no series Shop/free to merge into.",
}


@pytest.mark.one_partition
@pytest.mark.parametrize("arguments", REFUSED)
def test_the_command_says_why_it_refuses(arguments):
    add(("Shop", "a"), 1)
    add(("Shop", "taken"), 2)

    assert fails("rename_series", *arguments) == REFUSED[arguments]
    assert (Watermark.objects.moves(), FormerName.objects.count(), Event.objects.count()) == ([], 0, 3)


def test_series_of_different_partitions_are_refused(partition_count):
    other = next(
        (
            SeriesKey("Till", str(number))
            for number in range(50)
            if partitions.partition_of("Till", str(number)) != partitions.partition_of(*OLD)
        ),
        None,
    )
    add(OLD, 1)
    if partition_count == 1:
        assert other is None
        return
    assert fails("rename_series", "/".join(OLD), "/".join(other)).startswith(
        f"Shop/odrer and {'/'.join(other)} lie in different partitions, which no answer reads as of one moment."
    )


def test_the_commands_do_it_and_go_on_where_they_were_killed(new):
    add(OLD, 60)
    roll_up_all()
    add(new, 2)
    SeriesSettings.objects.create(
        namespace=OLD.namespace, name=OLD.name, unit="EUR", description="Orders", is_hidden=True
    )
    SeriesSettings.objects.create(namespace=new.namespace, name=new.name, unit="bytes")
    old, into = "/".join(OLD), "/".join(new)
    assert run("rename_series", old, into, "--merge", "--dry-run")[0] == f"Would merge {old} into {into}: 60 events.\n"
    assert Watermark.objects.moves() == []

    begun = renaming.move(OLD, new, merge=True)
    next(Mover(begun).steps(lambda: False))  # and no more
    assert fails("delete_series", into) == f"{begun}. One series is moved at a time: wait until that is done."
    assert run("rename_series", old, into, "--merge")[0].startswith(f"Merged {old} into {into}: ")

    assert asked({"aggregation_type": "count", "granularity": "year"}, new)[0]["value"] == 62
    settings = SeriesSettings.objects.get()
    assert (settings.namespace, settings.name) == new
    assert (settings.unit, settings.description, settings.is_hidden) == ("bytes", "Orders", False)
    add(OLD, 1)
    [line] = overlooked(OLD)[0]
    assert line["renamedTo"] == into
    assert fails("rename_series", "Shop/gone", into) == "There is no series Shop/gone."
    assert run("delete_series", into, "--dry-run")[0] == f"Would delete {into}: 62 events.\n"
    assert run("delete_series", into)[0].startswith(f"Deleted {into}: ")
    assert Event.objects.count() == 1
    since = FormerName.objects.get(name=new.name).since
    assert fails("delete_series", into) == (
        f"There is no series {into}. The one that had this name is deleted since {since:%Y-%m-%d %H:%M} UTC."
    )
    assert run("rename_series", old, into)[0].startswith(f"Renamed {old} to {into}: ")
    assert not FormerName.objects.filter(name=new.name).exists()


@pytest.fixture
def watching():
    """An alert of the series, which fires, and one of a pattern that the new name does not fit."""
    made = {}
    for name, pattern in (("exact", OLD.name), ("pattern", "od*")):
        alert = Alert.objects.create(name=name, namespace=OLD.namespace, series_name=pattern)
        of_series = {"alert": alert, "namespace": OLD.namespace, "name": OLD.name}
        firing = Firing.objects.create(pending_since=START, fired_at=START, value=9, event_count=3, **of_series)
        AlertState.objects.create(state="firing", since=START, evaluated_at=START, firing=firing, **of_series)
        made[name] = alert
    return made


def watched_by(alert):
    alert.refresh_from_db()
    states = AlertState.objects.filter(alert=alert).values_list("namespace", "name", "state")
    firings = Firing.objects.filter(alert=alert).values_list("namespace", "name", "event_count")
    return (alert.namespace, alert.series_name), [*states], [*firings]


@pytest.mark.one_partition
@pytest.mark.parametrize("merge", [False, True])
def test_alerts_of_the_series_go_with_it_and_patterns_stay(watching, merge):
    add(OLD, 3)
    into = SeriesKey("Shop", "order")
    if merge:
        add(into, 2)
    Alert.objects.update(changed_at=START)
    counted = None if merge else 3

    renaming.move(OLD, into, merge=merge)

    assert watched_by(watching["exact"]) == (into, [(*into, "firing")], [(*into, counted)])
    # the evaluator ends what a pattern fits no more, and what it judged before is not stored
    assert watched_by(watching["pattern"]) == (("Shop", "od*"), [(*OLD, "firing")], [(*into, counted)])
    assert watching["pattern"].changed_at > START


@pytest.mark.one_partition
def test_alerts_of_a_deleted_series_stay(watching):
    add(OLD, 3)

    renaming.move(OLD, None)

    assert watched_by(watching["exact"]) == (OLD, [(*OLD, "firing")], [(*OLD, 3)])
    assert Watched.all()[0].problem == "There is no series “Shop/odrer”."


CHARTS = {
    "series=Shop%2Fodrer&granularity=day": "series=Shop%2Forder&granularity=day",
    "series=Shop%2Fodrers&hide=Shop%2Fodrers": "series=Shop%2Fodrers&hide=Shop%2Fodrers",
    "series=a%2Fb&series=Shop%2Fodrer&formula=odrer+%3D+B+%2F+A&hide=Shop%2Fodrer": (
        "series=a%2Fb&series=Shop%2Forder&formula=odrer+%3D+B+%2F+A&hide=Shop%2Forder"
    ),
    "series=Shop%2Forder&series=Shop%2Fodrer&series=a%2Fb&series=c%2Fd&formula=rate%3Dc+%2F+a": (
        "series=Shop%2Forder&series=a%2Fb&series=c%2Fd&formula=rate%3DB+%2F+A"
    ),
    # both are one now, so the letters of those after it move up
    "series=Shop%2Forder&series=Shop%2Fodrer&series=a%2Fb&formula=C+%2F+B&hide=C+%2F+B&hide=Plan+B": (
        "series=Shop%2Forder&series=a%2Fb&formula=B+%2F+A&hide=B+%2F+A&hide=Plan+B"
    ),
}


@pytest.mark.one_partition
def test_the_charts_of_boards_show_the_series_under_its_new_name():
    add(OLD, 3)
    charts = [{"id": str(number), "title": "Shop/odrer", "state": state} for number, state in enumerate(CHARTS)]
    boards = [Board.objects.create(name=name, charts=charts) for name in ("one", "two")]

    renaming.move(OLD, SeriesKey("Shop", "order"))

    for board in boards:
        board.refresh_from_db()
        assert [chart["state"] for chart in board.charts] == [*CHARTS.values()]
        assert {chart["title"] for chart in board.charts} == {"Shop/odrer"}


@pytest.mark.one_partition
@pytest.mark.only_on("sqlite")
def test_a_step_reads_its_own_events_and_not_the_whole_series():
    add(OLD, 3)
    begun = renaming.move(OLD, SeriesKey("Shop", "order"))

    assert "USING INTEGER PRIMARY KEY (rowid=?)" in Mover(begun)._choose_events(begun).rows.order_by().explain()


@pytest.mark.one_partition
def test_of_every_table_with_series_it_is_known_how_it_follows():
    """A table that is new gets its place in ``events.renaming`` or in the steps of a move, and here."""
    moved_in_steps = {"Event", "Rollup", "Histogram", "Pruned", "Thinned"}
    following = {"SeriesSettings", "FormerName", "Alert", "AlertState", "Firing", "ArchivedFile"}
    of_a_namespace = {"Annotation"}
    named = {
        model.__name__
        for model in apps.get_app_config("events").get_models()
        if any(field.name.endswith("namespace") for field in model._meta.fields)
    }
    assert named == moved_in_steps | following | of_a_namespace


@pytest.mark.one_partition
def test_the_worker_goes_on_with_what_was_begun(new):
    add(OLD, 60)
    renaming.move(OLD, new)

    moving.go_on(time.monotonic() + 60, lambda: True, lambda seconds: None)

    assert Watermark.objects.moves() == []
    assert Event.objects.of_series(*new).count() == 60
    assert catalogue()[0]["count"] == 60
