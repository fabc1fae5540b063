"""Database functions that neither Django nor SQLite has a word for."""

from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver

from events.buckets import start_of

_FIRST_INSTANT = "TIMESTAMPTZ '0001-01-01 00:00:00+00'"  # no event is before it


class TruncClock(models.Func):
    """An instant truncated to the minute or hour of a zone's clocks, as an instant.

    Where the clocks go back, the repeated hour is another one. Django's truncation gives what the clocks show, which
    is the same for both. In UTC it is also much faster than Django's, which on SQLite is a function in Python.
    """

    function = "DATE_TRUNC"
    output_field = models.DateTimeField()

    def __init__(self, instant: Any, granularity: str, zone: tzinfo) -> None:
        self.granularity, self.is_utc = granularity, zone is UTC
        super().__init__(models.Value(granularity), instant, models.Value(str(zone)))

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """In UTC, whose minutes and hours are all as long, by a division: that takes a third of the time."""
        if not self.is_utc:
            return self.as_sql(compiler, connection, **context)
        sql, parameters = compiler.compile(self.source_expressions[1])
        return f"DATE_BIN(INTERVAL '1 {self.granularity}', {sql}, {_FIRST_INSTANT})", parameters

    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """By cutting the text that SQLite stores, or by the function below, which PostgreSQL has of its own."""
        if not self.is_utc:
            return self.as_sql(compiler, connection, function="EVENTS_TRUNC_CLOCK", **context)
        sql, parameters = compiler.compile(self.source_expressions[1])
        end, rest = {"minute": (16, ":00"), "hour": (13, ":00:00")}[self.granularity]
        return f"SUBSTR({sql}, 1, {end}) || '{rest}'", parameters


@receiver(connection_created)
def add_functions(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Teach SQLite, which has no time zones, to truncate in one."""
    if connection.vendor == "sqlite":
        connection.connection.create_function("EVENTS_TRUNC_CLOCK", 3, _trunc_clock, deterministic=True)


def _trunc_clock(granularity: str, text: str, zone: str) -> str:
    instant = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return str(start_of(instant, granularity, ZoneInfo(zone)).replace(tzinfo=None))
