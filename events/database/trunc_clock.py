"""Owns the SQL that truncates instants to buckets in any time zone, which neither Django nor SQLite can do.

The rules of time zones are sent to the database as values, as the database may have other rules of its own.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models.functions import TruncDay, TruncMonth, TruncWeek, TruncYear
from django.dispatch import receiver
from typing_extensions import override

from events.calendar import timestamps, zones
from events.calendar.granularity import CLOCK_UNITS, Granularity

_TRUNC: dict[str, type[models.Func]] = {"day": TruncDay, "week": TruncWeek, "month": TruncMonth, "year": TruncYear}
_FIRST_INSTANT = "TIMESTAMPTZ '0001-01-01 00:00:00+00'"  # no event is earlier
_SECOND = 1_000_000
_AFTER_ALL = "~"  # sorts after the text of every instant

Sql = tuple[str, tuple[str | int, ...]]


class Rules:
    """The offsets and changes of a zone's clocks from a day before one instant to a day after another, in SQL.

    The values are written once and serve all parts of a statement, as centuries have many of them. ``sql`` in its
    methods is an expression for an instant.
    """

    def __init__(self, granularity: str, zone: tzinfo, first: datetime, last: datetime) -> None:
        self.granularity, self.zone = granularity, zone
        ends = timestamps.microseconds_of(first) - zones.DAY, timestamps.microseconds_of(last) + zones.DAY
        self._runs = zones.runs(zone, *ends)

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rules) and self._meaning == other._meaning

    @override
    def __hash__(self) -> int:
        return hash(self._meaning)

    @cached_property
    def _meaning(self) -> tuple[Any, ...]:
        """All that the SQL is made of; when the first run starts means nothing."""
        return self.granularity, self.zone, self._runs[0].offset, tuple(self._runs[1:])

    def offset_of(self, sql: str) -> str:
        """Write an expression for how far the clocks are ahead of UTC at an instant."""
        return self._value_of(sql, "interval", self._offsets)

    def origin_of(self, sql: str) -> str:
        """Write an expression for the origin of minutes or hours at an instant's offset.

        The origin lies before all events. A minute or hour would start there if the offset had always been the same.
        """
        return self._value_of(sql, "timestamptz", self._origins)

    def start_of(self, sql: str) -> str | None:
        """Write an expression for the last change of the clocks up to an instant.

        None where each change happens just as a minute or hour starts, so that truncation need not look for one.
        """
        length = CLOCK_UNITS[self.granularity]
        if not any((start + offset) % length for start, offset in self._runs[1:]):
            return None
        return self._value_of(sql, "timestamptz", f"-infinity,{self._changes}")

    def _value_of(self, sql: str, kind: str, values: str) -> str:
        """Write an expression for the value that holds at an instant, found by bisection, so that many cost no more."""
        if len(self._runs) == 1:
            return f"'{values}'::{kind}"
        return f"('{{{values}}}'::{kind}[])[WIDTH_BUCKET({sql}, '{{{self._changes}}}'::timestamptz[]) + 1]"

    @cached_property
    def _changes(self) -> str:
        return ",".join(timestamps.from_microseconds(run.start).isoformat() for run in self._runs[1:])

    @cached_property
    def _offsets(self) -> str:
        return ",".join(f"{run.offset // _SECOND} seconds" for run in self._runs)

    @cached_property
    def _origins(self) -> str:
        length = CLOCK_UNITS[self.granularity]
        return ",".join(_origin(-run.offset % length) for run in self._runs)


def _origin(microseconds: int) -> str:
    """Write the instant so many microseconds after the year 1 BC began, which is the start of an hour."""
    minutes, seconds = divmod(microseconds // _SECOND, 60)
    return f"0001-01-01 00:{minutes:02}:{seconds:02}+00 BC"


def bucket_start(time: str, rules: Rules) -> models.Func:
    """Build the expression by which a column's instants are grouped into buckets, and which sorts as the buckets do.

    It is the bucket's first instant; for days and longer units on PostgreSQL it is what the clocks show at it. The
    ``rules`` must cover the instants.
    """
    if rules.granularity in CLOCK_UNITS:
        return TruncClock(models.F(time), rules.granularity, rules.zone, rules)
    return _TRUNC[rules.granularity](time, tzinfo=UTC) if rules.zone is UTC else TruncCalendar(time, rules)


class TruncClock(models.Func):
    """An instant truncated to the minute or hour of a zone's clocks, as an instant; without ``rules`` in UTC.

    In UTC it may be truncated to the day too.

    Where the clocks go back, the repeated hour is a bucket of its own. Django's truncation returns what the clocks
    show, which is equal for both hours. In UTC this is also much faster than Django's truncation, which on SQLite is a
    function in Python.
    """

    output_field = models.DateTimeField()

    def __init__(self, instant: Any, granularity: str, zone: tzinfo, rules: Rules | None = None) -> None:
        self.granularity, self.rules = granularity, None if zone is UTC else rules
        super().__init__(instant)

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Sql:
        """Divide the time since an origin, as all minutes and hours at one offset have the same length."""
        sql, parameters = compiler.compile(self.source_expressions[0])
        origin = self.rules.origin_of(sql) if self.rules else _FIRST_INSTANT
        start = f"DATE_BIN(INTERVAL '1 {self.granularity}', {sql}, {origin})"
        if self.rules and (change := self.rules.start_of(sql)):
            start = f"GREATEST({start}, {change})"
        return start, parameters

    @override
    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Sql:
        """Cut the text that SQLite stores, or call ``_bucket_start`` where a zone has rules."""
        sql, parameters = compiler.compile(self.source_expressions[0])
        if self.rules:
            return _in_python(sql, self.rules), parameters
        end, rest = {"minute": (16, ":00"), "hour": (13, ":00:00"), "day": (10, " 00:00:00")}[self.granularity]
        return f"SUBSTR({sql}, 1, {end}) || '{rest}'", parameters


class TruncCalendar(models.Func):
    """An instant truncated to the day, or a longer unit, that the clocks of a zone show.

    On PostgreSQL it is Django's own truncation, in UTC, of what the clocks show.
    """

    output_field = models.DateTimeField()

    def __init__(self, time: str, rules: Rules) -> None:
        self.rules = rules
        local = _LocalTime(models.F(time), rules)
        super().__init__(models.F(time), _TRUNC[rules.granularity](local, tzinfo=UTC))

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Sql:
        """Use Django's truncation, given what the clocks show as if it were UTC."""
        compiled: Sql = compiler.compile(self.source_expressions[1])
        return compiled

    @override
    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Sql:
        """Call ``_bucket_start``, many times as fast as Django's truncation, which doesn't know the year 0 either."""
        sql, parameters = compiler.compile(self.source_expressions[0])
        return _in_python(sql, self.rules), parameters


class _LocalTime(models.Func):
    """What the clocks of a zone show at an instant, as the instant at which the clocks of UTC show it."""

    output_field = models.DateTimeField()

    def __init__(self, instant: models.F, rules: Rules) -> None:
        self.rules = rules
        super().__init__(instant)

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Sql:
        """Add the offset in seconds, for which PostgreSQL needs no rules of time zones."""
        sql, parameters = compiler.compile(self.source_expressions[0])
        return f"({sql} + {self.rules.offset_of(sql)})", parameters


def _in_python(sql: str, rules: Rules) -> str:
    return f"EVENTS_BUCKET_START({sql}, '{rules.granularity}', '{rules.zone}')"


@receiver(connection_created)
def add_functions(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Add a function to SQLite, which knows no time zones, that truncates an instant in a zone."""
    if connection.vendor == "sqlite":
        connection.connection.create_function("EVENTS_BUCKET_START", 3, _bucket_start, deterministic=True)


# For each granularity and zone, the piece of time that was looked up last: most rows lie in the same one as the row
# before.
_latest_pieces: dict[tuple[str, tzinfo], tuple[str, ...]] = {}


def _bucket_start(text: str, granularity: str, name: str) -> str:
    key = granularity, zones.zone_of(name)
    known = _latest_pieces.get(key)
    if known is None or not known[0] <= text < known[1]:
        instant = timestamps.microseconds_of(datetime.fromisoformat(text))
        piece = Granularity(granularity).piece_of(instant, key[1])
        known = _latest_pieces[key] = tuple(_texts(piece))
    return known[2]


def _texts(instants: Iterable[int]) -> Iterable[str]:
    for instant in instants:
        known = instant <= zones.LAST
        yield str(timestamps.from_microseconds(instant).replace(tzinfo=None)) if known else _AFTER_ALL
