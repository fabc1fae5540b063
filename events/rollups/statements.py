"""Keeps the rollups true: the roller adds events to them, and what changes stored events rebuilds them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache, reduce
from math import inf
from operator import or_
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connection, models, transaction
from django.db.models import Count, F, Max, Min, Q, Subquery, Sum, Value
from django.utils import timezone

from events.calendar import timestamps
from events.calendar.timestamps import EPOCH
from events.database.trunc_clock import TruncClock
from events.models import Event, EventQuerySet, Pruned, Resolution, Rollup, Watermark
from events.rollups import sums

_HOUR = timedelta(hours=1)
_KEY = ("resolution", "namespace", "name", "bucket")
_COLUMNS = (*_KEY, "first_timestamp", "last_timestamp", "count", "sum", "rest", "is_exact", "min", "max")
_STEP_COLUMNS = (*_KEY, "first_timestamp", "last_timestamp", "count", "units", "min", "max")
_TABLE = Rollup._meta.db_table
# Another name wherever its columns are others: a pooler's sessions may keep it over an upgrade.
_STEP = "events_rollup_exact_step"
# What a step has where nobody knows how long it will take.
_STEP_EVENTS = {"postgresql": 100_000, "sqlite": 150}
_RANGES_A_STATEMENT = 50
_SETTLE_POLL_SECONDS = 0.005
# How often a roller that has nothing to do says so; each time is a write.
_IDLE = timedelta(seconds=10)


class PrunedError(ValueError):
    """What was asked for needs events that are pruned. Nothing was changed."""


class Step(NamedTuple):
    """What a step of the roller did; ``is_full`` where it has as many events as it may take."""

    events: int
    event_id: int
    is_full: bool
    seconds: float  # for which it held its lock


def watermark() -> Watermark:
    """The watermark; before the first event is rolled up, one that holds none."""
    return Watermark.objects.first() or no_watermark()


def no_watermark() -> Watermark:
    """The watermark that holds no event yet, as long as none is stored."""
    return Watermark(event_id=0, resolutions=",".join(settings.ROLLUP_RESOLUTIONS))


def watermark_of(namespace: str, name: str) -> Watermark:
    """The watermark, which also tells how far that series is pruned. One query."""
    pruned = Pruned.objects.filter(namespace=namespace, name=name)
    mark = Watermark.objects.annotate(before=Subquery(pruned.values("before"))).first()
    if mark is None:
        return no_watermark()
    mark.pruned_before = mark.before
    return mark


def pruned_before(namespace: str, name: str) -> datetime | None:
    """The start of the first hour of a series that is not pruned; None where none is."""
    return Pruned.objects.filter(namespace=namespace, name=name).values_list("before", flat=True).first()


def resolutions_of(mark: Watermark) -> list[Resolution]:
    """The resolutions that the rollups hold, finest first."""
    return [Resolution[name.upper()] for name in mark.resolutions.split(",")]


def event_count() -> int:
    """How many events the rollups hold."""
    return Rollup.objects.whole_series().aggregate(count=Sum("count"))["count"] or 0


# The roller.


def roll_up(patience: Callable[[], bool] = lambda: False, most_events: int | None = None) -> Step | None:
    """Add the next events to the rollups and move the watermark past them, in one transaction.

    None where there is nothing to do: every event is rolled up, another roller is at work, or transactions with ids
    on both sides of the new watermark are still open. Those are waited for as long as ``patience`` says so.
    """
    looked = timezone.now()
    settled = _settled_id(patience)
    if settled is None:
        return None
    _make_watermark()  # before the transaction: whoever else made it would wait for that to end
    with transaction.atomic():
        mark = Watermark.objects.select_for_update(skip_locked=True).first()
        if mark is None:
            return None
        locked = time.monotonic()
        new = Event.objects.after(mark.event_id)
        ids = new.up_to(settled).order_by("pk").values_list("pk", flat=True)
        limit = most_events or step_events()
        full = ids[limit - 1 : limit].first()
        last = full or ids.last()
        if last is None:
            # ahead of now where the clock was set back, and then the lag would count from there
            if mark.complete_at is None or abs(looked - mark.complete_at) > _IDLE:
                Watermark.objects.update(complete_at=looked)
            return None
        _give_room()
        resolutions = resolutions_of(mark)
        count = _fill_step(new.up_to(last), resolutions[0])
        _add_step([*resolutions, Resolution.SERIES], finest=resolutions[0])
        Watermark.objects.update(event_id=last, complete_at=mark.complete_at if full else looked)
    return Step(count, last, full is not None, time.monotonic() - locked)


def step_events() -> int:
    """How many events a step has where its caller doesn't say."""
    return _STEP_EVENTS[connection.vendor]


def _give_room() -> None:
    """Let PostgreSQL group a step's events in memory, by their hashes, for the rest of the transaction.

    By default it has 4 MB, and of a table that grows fast it knows so little that it sorts instead, on the disk.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL work_mem = '64MB'; SET LOCAL enable_sort = off")


def start_over(*, accept_loss: bool = False) -> None:
    """Empty the rollups, to hold from now on what ROLLUP_RESOLUTIONS says; until they are full, events are read.

    Raises PrunedError where the events that they were made from are not all there any more; with ``accept_loss`` only
    where that is known, as they are pruned.
    """
    with transaction.atomic():
        mark = locking_watermark().get()
        if count := Pruned.objects.count():
            raise PrunedError(f"Events of {count} series are pruned; their rollups can't be made anew.")
        held, there = event_count(), Event.objects.up_to(mark.event_id).count()
        if there < held and not accept_loss:
            raise PrunedError(
                f"The rollups hold {held} events, of which {there} are in the log: the others would be lost for good. "
                "--accept-loss does it all the same."
            )
        Rollup.objects.all()._raw_delete(connection.alias)
        Watermark.objects.update(event_id=0, resolutions=",".join(settings.ROLLUP_RESOLUTIONS))
        count_change()


def _settled_id(patience: Callable[[], bool]) -> int | None:
    """An id up to which every transaction has ended, whether it committed or not; None where patience ran out.

    Ids are handed out before they are committed, so the highest visible one says nothing about lower ones. As
    CREATE INDEX CONCURRENTLY does, this waits for the transactions that hold a writer's lock on the log at this moment:
    a writer takes the lock before its ids, so an id handed out by now belongs to one of those or to one that has
    ended. Unlike LOCK TABLE it holds no writer up. On SQLite writers come one at a time, and leave no gaps.
    """
    if connection.vendor == "sqlite":
        return Event.objects.order_by("pk").values_list("pk", flat=True).last()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_serial_sequence(%s, 'id')", [Event._meta.db_table])
        sequence = cursor.fetchone()[0]
        cursor.execute(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}")  # noqa: S608
        last = int(cursor.fetchone()[0])
        waited_for = _writers()
        while waited_for:
            if not patience():
                return None
            time.sleep(_SETTLE_POLL_SECONDS)
            waited_for &= _writers()
    return last


def _writers() -> set[str]:
    """The other transactions that hold a lock on the log of the kind that writers take, or a stronger one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND relation = %s::regclass"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')"
            " AND granted AND pid IS DISTINCT FROM pg_backend_pid()",
            [Event._meta.db_table],
        )
        return {transaction for (transaction,) in cursor.fetchall()}


def locking_watermark() -> models.QuerySet[Watermark]:
    """Gives the watermark, which nobody else moves or relies on until this transaction ends."""
    _make_watermark()
    return Watermark.objects.select_for_update()


def _make_watermark() -> None:
    """Make the one that holds no event yet, where there is none."""
    if not Watermark.objects.exists():
        first = Watermark(pk=1, resolutions=",".join(settings.ROLLUP_RESOLUTIONS))
        Watermark.objects.bulk_create([first], ignore_conflicts=True)


# Changes of what is stored.


@contextmanager
def rebuilding(events: EventQuerySet, ids: Sequence[int] | None = None) -> Iterator[None]:
    """Rebuild the buckets that the events lie in before and after what the block does to them, in one transaction.

    ``ids`` names the events afterwards; None means the same ones. Only events up to the watermark count: the others
    are in no bucket yet. Until the transaction ends no roller works, and no other change. Raises PrunedError where
    they lie, before or after, in an hour that is pruned.
    """
    with transaction.atomic():
        mark = locking_watermark().get()
        old = events.up_to(mark.event_id)
        touched = _hours(old)
        if ids is None:
            ids = list(old.order_by().values_list("pk", flat=True))
        yield
        for start in range(0, len(ids), 1_000):
            new = Event.objects.filter(pk__in=ids[start : start + 1_000]).up_to(mark.event_id)
            for series, hours in _hours(new).items():
                touched[series] |= hours
        for (namespace, name), hours in touched.items():
            rebuild(mark, namespace, name, ranges_of(hours))
        count_change()


def count_change() -> None:
    """Let it be known that answers may be others than before, though no event was added."""
    Watermark.objects.update(changes=F("changes") + 1)


def rebuild(mark: Watermark, namespace: str, name: str, ranges: Sequence[tuple[datetime, datetime]]) -> None:
    """Compute a series' rollups anew from its events, in ranges of whole hours, both ends included.

    Within a transaction that has locked the watermark. Raises PrunedError where one of the hours is pruned.
    """
    before = pruned_before(namespace, name)
    if before is not None and any(start < before for start, _ in ranges):
        raise PrunedError(
            f"Events of {namespace}/{name} before {timestamps.to_text(before)} are pruned: what is known of those "
            "hours can't be changed any more."
        )
    resolutions = resolutions_of(mark)
    rollups = Rollup.objects.of_series(namespace, name)
    events = Event.objects.of_series(namespace, name).up_to(mark.event_id)
    for start in range(0, len(ranges), _RANGES_A_STATEMENT):
        part = ranges[start : start + _RANGES_A_STATEMENT]
        within = reduce(or_, (Q(bucket__range=each) for each in part))
        rollups.filter(within, resolution__in=resolutions)._raw_delete(connection.alias)
        _fill_step(events.filter(reduce(or_, (Q(timestamp__range=each) for each in part))), resolutions[0])
        _add_step(resolutions, finest=resolutions[0])
    rebuild_whole_series(mark, namespace, name)


def rebuild_whole_series(mark: Watermark, namespace: str, name: str) -> None:
    """Compute the rollup of a whole series anew from its others; within such a transaction too."""
    rollups = Rollup.objects.of_series(namespace, name)
    rollups.whole_series()._raw_delete(connection.alias)
    whole = merged(rollups.filter(resolution=resolutions_of(mark)[-1]), Resolution.SERIES)
    _insert_rollups(whole.query.sql_with_params())


def _hours(events: EventQuerySet) -> defaultdict[tuple[str, str], set[datetime]]:
    found: defaultdict[tuple[str, str], set[datetime]] = defaultdict(set)
    hours = events.order_by().annotate(hour=_start("timestamp", Resolution.HOUR))
    for namespace, name, hour in hours.values_list("namespace", "name", "hour").distinct().iterator():
        found[namespace, name].add(hour)
    return found


def ranges_of(hours: set[datetime]) -> list[tuple[datetime, datetime]]:
    """Hours that follow each other as one range; its end is its last microsecond."""
    ranges: list[tuple[datetime, datetime]] = []
    for hour in sorted(hours):
        end = hour + timedelta(minutes=59, seconds=59, microseconds=999_999)
        if ranges and hour - ranges[-1][1] < _HOUR:
            ranges[-1] = ranges[-1][0], end
        else:
            ranges.append((hour, end))
    return ranges


# The statements. Both databases know INSERT … SELECT … ON CONFLICT, for which the ORM has no word.


def _fill_step(events: EventQuerySet, resolution: Resolution) -> int:
    """Put the events' aggregates into the temporary table that one step's buckets are computed from; their number."""
    is_postgresql = connection.vendor == "postgresql"
    columns = ", ".join(_STEP_COLUMNS).replace("units", f"{'NULL::numeric' if is_postgresql else 'NULL'} AS units")
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {_STEP} {'ON COMMIT DELETE ROWS' if is_postgresql else ''}"  # noqa: S608
            f" AS SELECT {columns} FROM {_TABLE} WHERE false"
        )
        cursor.execute(f"DELETE FROM {_STEP}")  # noqa: S608
        _insert(_STEP, _STEP_COLUMNS, of_events(events, resolution).query.sql_with_params())
        cursor.execute(f"SELECT coalesce(sum(count), 0) FROM {_STEP}")  # noqa: S608
        return int(cursor.fetchone()[0])


def _add_step(resolutions: Sequence[Resolution], *, finest: Resolution) -> None:
    """Add what is in the temporary table to the rollups of those resolutions, in the order of their key."""
    least, most = ("LEAST", "GREATEST") if connection.vendor == "postgresql" else ("MIN", "MAX")
    added = ", ".join(
        f"{column} = {sql}" for column, sql in sums.added_sql(connection.vendor, _TABLE, "excluded").items()
    )
    conflict = (
        f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET"
        f" first_timestamp = {least}({_TABLE}.first_timestamp, excluded.first_timestamp),"
        f" last_timestamp = {most}({_TABLE}.last_timestamp, excluded.last_timestamp),"
        f" count = {_TABLE}.count + excluded.count, {added},"
        f" min = {least}({_TABLE}.min, excluded.min), max = {most}({_TABLE}.max, excluded.max)"
    )
    is_new_ground = _is_new_ground()
    for resolution in resolutions:
        clause = "" if is_new_ground and resolution != Resolution.SERIES else conflict
        _insert_rollups(_merged_step(resolution, resolution != finest), clause)


@cache
def _merged_step(resolution: Resolution, grouped: bool) -> tuple[str, tuple[Any, ...]]:
    """The temporary table's rows made that resolution's: written once, as others wait meanwhile."""
    if not grouped:
        return f"SELECT {', '.join(_STEP_COLUMNS)} FROM {_STEP}", ()  # noqa: S608
    rows = merged(Rollup.objects.all(), resolution, sums.UnitsTotal("sum"))
    sql, parameters = rows.query.sql_with_params()
    sql = sql.replace(f'"{_TABLE}"."sum"', f'"{_STEP}"."units"')
    return sql.replace(f'"{_TABLE}"', f'"{_STEP}"'), parameters


def _is_new_ground() -> bool:
    """Whether every bucket of the step is later than all that is stored of its series, so that none can conflict.

    As when a history is loaded in order. PostgreSQL takes twice as long for a row that might conflict.
    """
    if connection.vendor != "postgresql":
        return False
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT NOT EXISTS (SELECT 1 FROM {_STEP} AS step JOIN {_TABLE} AS stored USING (namespace, name)"  # noqa: S608
            f" WHERE stored.resolution = {Resolution.SERIES.value}"
            " AND date_trunc('hour', step.bucket) <= stored.last_timestamp)"
        )
        return bool(cursor.fetchone()[0])


def of_events(events: EventQuerySet, resolution: Resolution) -> models.QuerySet[Any]:
    """The rollups that the events make, as rows of ``_STEP_COLUMNS``."""
    return (
        events.order_by()
        .annotate(key=Value(resolution.value), start=_start("timestamp", resolution))
        .values("key", "namespace", "name", "start")
        .annotate(
            first=Min("timestamp"), last=Max("timestamp"), number=Count("pk"),
            least=Min("value"), most=Max("value"), units=sums.Units("value", peak=sums.HUGE),
        )
        .values_list("key", "namespace", "name", "start", "first", "last", "number", "units", "least", "most")
    )  # fmt: skip


def _start(time: str, resolution: Resolution) -> TruncClock:
    return TruncClock(F(time), resolution.name.lower(), UTC)


def merged(
    rollups: models.QuerySet[Rollup], resolution: Resolution, units: models.Aggregate | None = None
) -> models.QuerySet[Any]:
    """The rollups of that resolution that finer ones make, as rows of ``_STEP_COLUMNS``."""
    start: models.expressions.Combinable = Value(EPOCH, models.DateTimeField())
    if resolution != Resolution.SERIES:
        start = _start("bucket", resolution)
    return (
        rollups.annotate(key=Value(resolution.value), start=start)
        .values("key", "namespace", "name", "start")
        .annotate(
            first=Min("first_timestamp"), last=Max("last_timestamp"), number=Sum("count"),
            least=Min("min"), most=Max("max"), units=units or sums.Units("sum", "rest", peak=inf),
        )
        .order_by()
        .values_list("key", "namespace", "name", "start", "first", "last", "number", "units", "least", "most")
    )  # fmt: skip


def _insert_rollups(rows: tuple[str, tuple[Any, ...]], conflict: str = "") -> None:
    """Add rows of ``_STEP_COLUMNS`` to the rollups."""
    sql, parameters = rows
    _insert(_TABLE, _COLUMNS, (sums.rollups_sql(connection.vendor, sql, _STEP_COLUMNS), parameters), conflict)


def _insert(table: str, columns: Sequence[str], rows: tuple[str, tuple[Any, ...]], conflict: str = "") -> None:
    sql, parameters = rows
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} ({', '.join(columns)}) {sql} {conflict}", parameters)
